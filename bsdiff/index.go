package bsdiff

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/senbonzakura/senbonzakura/internal/suffix"
)

// index answers which suffixes of the old file are near a part of the new one. It is safe for concurrent use.
//
// mbsdiff numbers the suffixes of old in lexical order, the empty one first. Here a rank is such a number, and
// the empty suffix, which has rank 0, is not in the array.
type index struct {
	old, new []byte
	sa       []int32

	// For each sequence of width bytes bucket says where in sa the suffixes start that start with it or are
	// larger. short are the buckets in front of which the suffixes stand that have fewer bytes.
	width  int
	bucket []int32
	short  [2]int

	// Comparing suffixes one by one is the quickest way in most files, but has no bound where the same
	// stretches come again and again. So the bytes compared are counted, and when they are too many the
	// searches go on with tables that bound them.
	compared  atomic.Int64
	allowance int64
	mu        sync.Mutex // held while deep is made
	deep      atomic.Pointer[deep]
}

// comparedFree is how many bytes a comparison may take without being counted.
const comparedFree = 64

// wideIndex is the size of an old file that is worth 64 MB of buckets.
const wideIndex = 16 << 20

func newIndex(ctx context.Context, old, new []byte) (*index, error) {
	switch {
	case len(old) < 1<<12:
		return newIndexWidth(ctx, old, new, 1)
	case len(old) < wideIndex:
		return newIndexWidth(ctx, old, new, 2)
	}
	return newIndexWidth(ctx, old, new, 3)
}

func newIndexWidth(ctx context.Context, old, new []byte, width int) (*index, error) {
	ix := &index{
		old: old, new: new, sa: make([]int32, len(old)),
		allowance: 128 * (int64(len(old)) + int64(len(new))),
		width:     width, bucket: make([]int32, 1<<(8*width)+1),
	}
	if err := suffix.SortContext(ctx, ix.sa, old); err != nil {
		return nil, err
	}
	mask := len(ix.bucket) - 2
	key := 0
	for i, c := range old {
		if key = (key<<8 | int(c)) & mask; i >= ix.width-1 {
			ix.bucket[key]++
		}
	}
	// The last suffixes are too short; each comes before those that start with it.
	for l := 1; l < min(ix.width, len(old)+1); l++ {
		ix.short[l-1] = ix.key(old[len(old)-l:])
	}
	sum := int32(0)
	for k, c := range ix.bucket {
		for l := 1; l < min(ix.width, len(old)+1); l++ {
			if ix.short[l-1] == k {
				sum++
			}
		}
		ix.bucket[k] = sum
		sum += c
	}
	return ix, nil
}

// key returns the number of the bucket of suffixes that start like part.
func (ix *index) key(part []byte) int {
	k := 0
	for i := range ix.width {
		k <<= 8
		if i < len(part) {
			k |= int(part[i])
		}
	}
	return k
}

// near returns the range of sa whose suffixes start with the first width bytes of part, and width. Where part is
// shorter it returns the whole of sa, and zero.
func (ix *index) near(part []byte) (lo, hi, width int) {
	if len(part) < ix.width {
		return 0, len(ix.sa), 0
	}
	k := ix.key(part)
	lo, hi = int(ix.bucket[k]), int(ix.bucket[k+1])
	for l := 1; l < min(ix.width, len(ix.old)+1); l++ {
		if ix.short[l-1] == k+1 {
			hi--
		}
	}
	return lo, hi, ix.width
}

// finder searches in an index. It is not safe for concurrent use. Searches are cheapest in rising order.
type finder struct {
	ix   *index
	deep *deep // nil as long as it is not needed

	// With deep: the ranks of the new file from start on, and what the last search found.
	start                 int
	ranks                 []int32
	last                  int
	lastBefore, lastAfter int
}

func newFinder(ix *index) *finder { return &finder{ix: ix} }

// common is commonPrefix and counts the cost.
func (f *finder) common(a, b []byte) int {
	n := commonPrefix(a, b)
	f.charge(n)
	return n
}

func (f *finder) charge(n int) {
	if n > comparedFree {
		f.ix.compared.Add(int64(n))
	}
}

// locate returns the rank of new from j on, that is the number of suffixes of old, the empty one included, that
// are smaller, and how many bytes it has in common with the last of those and with the first of the others.
func (f *finder) locate(j int) (rank, before, after int) {
	if f.deep != nil {
		return f.locateDeep(j)
	}
	sa, old, part := f.ix.sa, f.ix.old, f.ix.new[j:]
	lo, hi, width := f.ix.near(part)
	first, last := lo, hi
	before, after = width, width
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		s := old[sa[mid]:]
		l := min(before, after)
		l += f.common(s[l:], part[l:])
		if l < len(part) && (l == len(s) || s[l] < part[l]) {
			lo, before = mid+1, l
		} else {
			hi, after = mid, l
		}
	}
	if lo == first {
		before = 0
		if lo > 0 {
			before = f.common(old[sa[lo-1]:], part)
		}
	}
	if lo == last {
		after = 0
		if lo < len(sa) {
			after = f.common(old[sa[lo]:], part)
		}
	}
	return lo + 1, before, after
}

// search returns what mbsdiff's search returns for new from j on: the length of the match and its place.
//
// mbsdiff halves the range of ranks from 0 to n until two neighbours are left and takes the one with the
// longer match, the second if they are equal. A suffix is taken for smaller only if it differs: one that is
// whole a prefix of the new part, and therefore smaller, sends the search to the left. So the result is the
// two neighbours of the new part in lexical order unless the search meets such a suffix: then it ends
// with the last one it met.
func (f *finder) search(ctx context.Context, j int) (length, pos int32, err error) {
	if f.deep == nil && f.ix.compared.Load() > f.ix.allowance {
		if f.deep, err = f.ix.deepen(ctx); err != nil {
			return 0, 0, err
		}
	}
	rank, before, after := f.locate(j)
	sa := f.ix.sa
	n := len(sa)
	if before > 0 && (f.deep != nil || f.meetsEnd(j, before)) {
		found := 0
		for lo, hi := 0, n; hi-lo >= 2; {
			mid := lo + (hi-lo)/2
			switch {
			case mid >= rank:
				hi = mid
			case f.isEnd(j, int(sa[mid-1]), before, rank):
				hi, found = mid, mid
			default:
				lo = mid
			}
		}
		if found > 0 {
			p := sa[found-1]
			return int32(n) - p, p, nil
		}
	}
	switch {
	case rank > n && n > 0: // rank n is never compared
		return int32(before), sa[n-1], nil
	case rank > n:
		return 0, 0, nil
	case before > after:
		return int32(before), sa[rank-2], nil
	}
	return int32(after), sa[rank-1], nil
}

// isEnd tells whether the suffix of old from p on, smaller than new from j on, is a prefix of it. No smaller
// suffix shares more than limit bytes with the new part.
func (f *finder) isEnd(j, p, limit, rank int) bool {
	l := len(f.ix.old) - p
	if l > limit {
		return false
	}
	if f.deep != nil {
		// The nearest smaller suffix has these bytes as well.
		return int(f.deep.ends[int(f.ix.sa[rank-2])+l]) >= l
	}
	f.charge(l)
	return bytes.Equal(f.ix.old[p:], f.ix.new[j:j+l])
}

// meetsEnd tells whether isEnd may hold for any suffix: it never says no where it should say yes.
func (f *finder) meetsEnd(j, limit int) bool {
	old := f.ix.old
	part := f.ix.new[j : j+limit]
	for l := 1; l <= min(len(old), limit, 4); l++ {
		if bytes.Equal(old[len(old)-l:], part[:l]) {
			return true
		}
	}
	if limit <= 4 || len(old) <= 4 {
		return false
	}
	f.charge(limit)
	return bytes.Contains(part[1:], old[len(old)-4:])
}

// deep holds tables that bound the cost of a search whatever the files are.
//
// The rank of c followed by a text of rank r is the number of suffixes that start with a byte below c, plus
// that of the suffixes below r that have a c before them. So ranks follow from one another, from the end
// of the new file to its start, without looking at a suffix (this is the backward step of an FM index).
type deep struct {
	below   [256]int32 // number of suffixes, the empty one included, that start with a smaller byte
	before  []byte     // the byte before each suffix, by rank; 0 for the whole file
	whole   int        // rank of the whole file
	counts  []int32    // for each block of ranks, how often each byte is in before up to there
	ends    []int32    // how many bytes before each place of old are as at its end
	corners []int32    // rank of new from each multiple of scanChunk on
}

const rankBlock = 1024

// deepen makes the tables if there are none yet.
func (ix *index) deepen(ctx context.Context) (*deep, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if d := ix.deep.Load(); d != nil {
		return d, nil
	}
	d := new(deep)
	n := len(ix.old)
	d.before = make([]byte, n+1)
	d.counts = make([]int32, (n/rankBlock+1)*256)
	d.before[0] = ix.old[n-1]
	var counts [256]int32
	for r := 0; r <= n; r++ {
		if r%rankBlock == 0 {
			copy(d.counts[r/rankBlock*256:], counts[:])
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		if r > 0 {
			if p := ix.sa[r-1]; p > 0 {
				d.before[r] = ix.old[p-1]
			} else {
				d.whole = r
				continue
			}
		}
		counts[d.before[r]]++
	}
	sum := int32(1)
	for c, k := range counts {
		d.below[c] = sum
		sum += k
	}
	var err error
	if d.ends, err = commonEnds(ctx, ix.old); err != nil {
		return nil, err
	}
	m := len(ix.new)
	d.corners = make([]int32, m/scanChunk+1)
	rank := 0
	for j := m; j >= 0; j-- {
		if j < m {
			rank = d.step(ix.new[j], rank)
		}
		if j%scanChunk == 0 {
			d.corners[j/scanChunk] = int32(rank)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	ix.deep.Store(d)
	return d, nil
}

// step returns the rank of c followed by a text of the given rank.
func (d *deep) step(c byte, rank int) int {
	block := rank / rankBlock
	k := int(d.counts[block*256+int(c)]) + bytes.Count(d.before[block*rankBlock:rank], []byte{c})
	if c == 0 && block*rankBlock <= d.whole && d.whole < rank {
		k-- // stands for nothing
	}
	return int(d.below[c]) + k
}

// commonEnds returns for each place in text how many bytes before it are as before the end (Gusfield's Z, from
// right to left).
func commonEnds(ctx context.Context, text []byte) ([]int32, error) {
	n := len(text)
	ends := make([]int32, n+1)
	ends[n] = int32(n)
	// [low, high) is the lowest reaching stretch so far that is as before the end.
	low, high := n, n
	for e := n - 1; e > 0; e-- {
		if e%(1<<20) == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		k := 0
		if e > low {
			k = min(e-low, int(ends[n-(high-e)]))
		}
		if e-k <= low {
			for k < e && text[e-1-k] == text[n-1-k] {
				k++
			}
			low, high = e-k, e
		}
		ends[e] = int32(k)
	}
	return ends, nil
}

// locateDeep is locate with deep.
func (f *finder) locateDeep(j int) (rank, before, after int) {
	ix := f.ix
	if j < f.start || j >= f.start+len(f.ranks) {
		f.start = j / scanChunk * scanChunk
		end := min(f.start+scanChunk, len(ix.new))
		if f.ranks == nil {
			f.ranks = make([]int32, scanChunk)
		}
		f.ranks = f.ranks[:end-f.start]
		r := 0 // of the empty text
		if end < len(ix.new) {
			r = int(f.deep.corners[end/scanChunk])
		}
		for i := end - 1; i >= f.start; i-- {
			r = f.deep.step(ix.new[i], r)
			f.ranks[i-f.start] = int32(r)
		}
	}
	rank = int(f.ranks[j-f.start])
	// Without the first byte the new part and its neighbours are still in the same order, so the
	// neighbours at the next place have at most one byte less in common with it: bytes known to be equal
	// are not compared again.
	if j >= f.last {
		before = max(f.lastBefore-(j-f.last), 0)
		after = max(f.lastAfter-(j-f.last), 0)
	}
	part := ix.new[j:]
	if rank > 1 {
		before += f.common(ix.old[int(ix.sa[rank-2])+before:], part[before:])
	}
	if rank <= len(ix.sa) {
		after += f.common(ix.old[int(ix.sa[rank-1])+after:], part[after:])
	}
	f.last, f.lastBefore, f.lastAfter = j, before, after
	return rank, before, after
}

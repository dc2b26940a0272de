package zucchini

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// mapper says where old offsets are in the new file. Reader and writer of a patch have to agree on it, so how it is made
// is part of the format.
type mapper struct {
	pieces     []equivalence // sorted by src, not overlapping there
	oldN, newN uint32
}

// newMapper keeps, of equivalences that have old bytes in common, the longest.
func newMapper(pairs []equivalence, oldN, newN uint32) *mapper {
	list := slices.Clone(pairs)
	slices.SortFunc(list, func(a, b equivalence) int {
		// An empty one comes first: lengths are compared as unsigned numbers of which the negative was taken.
		return cmp.Or(cmp.Compare(a.src, b.src), cmp.Compare(-a.size, -b.size), cmp.Compare(a.dst, b.dst))
	})
	for c := 0; c < len(list); {
		if list[c].size == 0 {
			c++
			continue
		}
		end := list[c].src + list[c].size
		n := c + 1
		for n < len(list) && list[n].src < end && list[c].size >= list[n].size {
			n++
		}
		if n < len(list) && list[n].src < end { // a longer one begins inside
			list[c].size = list[n].src - list[c].src
			for k := c + 1; k < n; k++ {
				list[k].size = 0
			}
			c = n
			continue
		}
		for k := c + 1; k < n; k++ {
			cut := min(list[k].size, end-list[k].src)
			list[k].size -= cut
			list[k].src = end
			list[k].dst += cut
		}
		c++
	}
	list = slices.DeleteFunc(list, func(p equivalence) bool { return p.size == 0 })
	return &mapper{list, oldN, newN}
}

// extend returns about where an old offset is in the new file, for offsets in rising order the fastest: i is the index
// returned for one before, 0 at first.
func (m *mapper) extend(o uint32, i int) (uint32, int) {
	if o >= m.oldN {
		if d := o - m.oldN; d < exe.Bound-m.newN {
			return m.newN + d, i
		}
		return exe.Bound - 1, i
	}
	if len(m.pieces) == 0 {
		return 0, i
	}
	if i > 0 && m.pieces[i-1].src > o {
		i = 0
	}
	if i < len(m.pieces) && m.pieces[i].src <= o {
		step := 1
		for i+step < len(m.pieces) && m.pieces[i+step].src <= o {
			step *= 2
		}
		i += sort.Search(min(step, len(m.pieces)-i), func(k int) bool { return m.pieces[i+k].src > o })
	}
	// The first that starts behind o is i.
	k := i
	if k > 0 {
		end := m.pieces[k-1].src + m.pieces[k-1].size
		if k == len(m.pieces) || o < end || o-end < m.pieces[k].src-o {
			k--
		}
	}
	p := m.pieces[k]
	return uint32(min(max(int64(o)+int64(p.dst)-int64(p.src), 0), int64(m.newN)-1)), i
}

// targetSet is a set of offsets that knows the rank of each.
type targetSet struct {
	n     uint32   // offsets below this are bits
	bits  []uint64 // a bit for each
	ranks []uint32 // how many bits come before each group of words
	high  []uint32 // the others, sorted
	low   int      // number of bits set
}

const groupWords = 8

// newTargetSet returns the set of all targets of some references.
func newTargetSet(n uint32, refs ...[]exe.Ref) *targetSet {
	s := &targetSet{n: n}
	some := false
	for _, list := range refs {
		some = some || len(list) > 0
	}
	if !some {
		return s
	}
	s.bits = make([]uint64, (uint64(n)+63)/64)
	for _, list := range refs {
		for _, r := range list {
			if r.Target < n {
				s.bits[r.Target/64] |= 1 << (r.Target % 64)
			} else {
				s.high = append(s.high, r.Target)
			}
		}
	}
	slices.Sort(s.high)
	s.high = slices.Compact(s.high)
	s.ranks = make([]uint32, len(s.bits)/groupWords+1)
	for i, w := range s.bits {
		if i%groupWords == 0 {
			s.ranks[i/groupWords] = uint32(s.low)
		}
		s.low += bits.OnesCount64(w)
	}
	return s
}

// size returns the number of offsets in the set.
func (s *targetSet) size() int { return s.low + len(s.high) }

// rank returns how many offsets in the set are below o, which is in the set.
func (s *targetSet) rank(o uint32) int {
	if o >= s.n {
		i, _ := slices.BinarySearch(s.high, o)
		return s.low + i
	}
	word := o / 64
	group := word / groupWords
	n := int(s.ranks[group])
	for _, w := range s.bits[group*groupWords : word] {
		n += bits.OnesCount64(w)
	}
	return n + bits.OnesCount64(s.bits[word]&(1<<(o%64)-1))
}

// each visits the offsets from begin to end that are bits, in order.
func (s *targetSet) each(begin, end uint32, visit func(o uint32)) {
	end = min(end, s.n)
	if begin >= end || s.bits == nil {
		return
	}
	for i := begin / 64; i <= (end-1)/64; i++ {
		w := s.bits[i]
		if i == begin/64 {
			w &= ^uint64(0) << (begin % 64)
		}
		if i == (end-1)/64 {
			w &= ^uint64(0) >> (63 - (end-1)%64)
		}
		for ; w != 0; w &= w - 1 {
			visit(i*64 + uint32(bits.TrailingZeros64(w)))
		}
	}
}

// project returns where the offsets of a set that are in an equivalence are in the new file, in order.
func (m *mapper) project(s *targetSet) []uint32 {
	pieces := slices.Clone(m.pieces)
	slices.SortFunc(pieces, func(a, b equivalence) int { return cmp.Compare(a.dst, b.dst) })
	var out []uint32
	for _, p := range pieces {
		s.each(p.src, p.src+p.size, func(o uint32) { out = append(out, o-p.src+p.dst) })
	}
	return out
}

// union returns the offsets of two sorted lists, in order, each once.
func union(a, b []uint32) []uint32 {
	if len(b) == 0 {
		return a
	}
	out := make([]uint32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			out, a = append(out, a[0]), a[1:]
		case a[0] > b[0]:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// nearest returns the index of the offset in a sorted list that is closest to o, the lower one of two. It is fastest
// where the answer is not far behind that for an offset before, which is given.
func nearest(list []uint32, o uint32, before int) int {
	i := before
	if i >= len(list) || list[i] >= o {
		i = 0
		if before > 0 && before < len(list) && list[max(0, before-64)] < o {
			i = before - 64
			i = max(0, i)
		}
	}
	// list[i] < o, or i is 0: the answer is not before i.
	step := 1
	for i+step < len(list) && list[i+step] < o {
		step *= 2
	}
	i += sort.Search(min(step+1, len(list)-i), func(k int) bool { return list[i+k] >= o })
	if i > 0 && (i == len(list) || list[i]-o >= o-list[i-1]) {
		i--
	}
	return i
}

// keys returns, for each offset of a set by its rank, the index of the one in a sorted list that the updater
// expects in its place.
func (m *mapper) keys(s *targetSet, list []uint32) []uint32 {
	out := make([]uint32, 0, s.size())
	i, k := 0, 0
	add := func(o uint32) {
		var at uint32
		at, i = m.extend(o, i)
		k = nearest(list, at, k)
		out = append(out, uint32(k))
	}
	s.each(0, s.n, add)
	for _, o := range s.high {
		add(o)
	}
	return out
}

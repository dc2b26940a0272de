package lzma

import "math/bits"

// Runs of one byte are passed over by finder and parser but for their first byte. In a patch
// nine tenths of all bytes are inside runs of zeros, and what is worth knowing about a
// position in a run is only how far the run goes on and what comes then.
//
// The positions inside a run are closed, all others are open. An open position is entered
// into the finder, and what the finder knows is where a parse goes on from. From a closed one
// it goes on with what runEnds knows, and only if nothing nearer to the run's end is reached
// for less; see outdone.

// minRun is the length from which on equal bytes are a run, unless EncoderOptions ask for longer ones. Shorter
// ones would do no harm but make the tables larger.
const minRun = 4

// runMap knows which positions of the window are open, one bit each.
type runMap struct {
	open []uint64
	min  uint32 // the shortest run
	from uint32 // where the last run that was seen begins
}

func (r *runMap) isOpen(i uint32) bool { return r.open[i>>6]>>(i&63)&1 != 0 }

// next returns the first open position at or behind i, limit if there is none before it.
func (r *runMap) next(i, limit uint32) uint32 {
	if i >= limit {
		return limit
	}
	w := i >> 6
	v := r.open[w] >> (i & 63) << (i & 63)
	for v == 0 {
		w++
		if w<<6 >= limit {
			return limit
		}
		v = r.open[w]
	}
	return min(limit, w<<6+uint32(bits.TrailingZeros64(v)))
}

// start returns the last open position at or before i. The window may begin inside a run; then
// it is the window's beginning.
func (r *runMap) start(i uint32) uint32 {
	w := i >> 6
	v := r.open[w] << (63 - i&63) >> (63 - i&63)
	for v == 0 {
		if w == 0 {
			return 0
		}
		w--
		v = r.open[w]
	}
	return w<<6 + 63 - uint32(bits.LeadingZeros64(v))
}

// scan looks at what is new in buf, and again at its last run, which may have become longer.
func (r *runMap) scan(buf []byte) {
	n := uint32(len(buf))
	i := r.from
	if w := i >> 6; w < uint32(len(r.open)) {
		r.open[w] &= 1<<(i&63) - 1
		clear(r.open[w+1:])
	}
	for uint32(len(r.open))<<6 <= n {
		r.open = append(r.open, 0)
	}
	for i < n {
		r.from = i
		end := i + 1
		if end < n && buf[i] == buf[end] {
			end += equalLen(buf, i, i+1, 0, n-end)
		}
		stop := end
		if end-i >= r.min {
			stop = i + 1
		}
		for ; i < stop; i++ {
			r.open[i>>6] |= 1 << (i & 63)
		}
		i = end
	}
}

// drop forgets the first n positions, a multiple of 64.
func (r *runMap) drop(n uint32) {
	k := copy(r.open, r.open[n>>6:])
	clear(r.open[k:])
	r.from = lower(r.from, n)
}

// runEnds finds earlier runs of the same byte that were followed by the same bytes. From
// one search at the end of a run follow the matches of all positions inside: one that is n
// bytes before the end has those candidates whose run had at least n bytes. A finder would
// be asked at every position, and hold every position, most of them alike.
//
// There is a tree of all runs and there are trees of only the longer ones, because
// candidates with a run long enough would be rare among all.
type runEnds struct {
	trees [len(runClasses)]runTree
	last  uint32 // newest position that was entered
	at    uint32 // position that found is for
	found []match
}

type runTree struct {
	tree
	heads []uint32 // number of the root, by hash of the run's byte and two that follow
	shift uint
}

// runClasses are the shortest runs of the trees. More classes than three gained nothing.
var runClasses = [3]uint32{2, 16, 64}

const runHashBits = 16 // at most

func newRunEnds(dict uint32, depth int) *runEnds {
	r := &runEnds{}
	for k := range r.trees {
		r.trees[k].tree = newTree(0, depth, true)
	}
	r.resize(dict)
	return r
}

// resize makes the trees fit another dictionary, out of whose reach everything must be that they know.
func (r *runEnds) resize(dict uint32) {
	n := min(runHashBits, bits.Len32(dict-1))
	for k := range r.trees {
		t := &r.trees[k]
		t.reach = dict - maxMatch
		t.heads, t.shift = resized(t.heads, 1<<n), 32-uint(n)
	}
}

// find enters the end of a run of n bytes before buf[i], known as pos, and sets found: what
// is cheaper to refer to first, the others only if they are better in another way.
func (r *runEnds) find(buf []byte, i, pos, n uint32, prices *distPrices) {
	r.at, r.last = pos, pos
	r.found = r.found[:0]
	if uint32(len(buf))-i < 2 {
		return
	}
	for k := range r.trees {
		if n >= runClasses[k] {
			r.enter1(k, buf, i, pos, n, true)
			r.found = append(r.found, r.trees[k].found...)
		}
	}
	f := r.found
	for j := range f {
		f[j].price = prices.of(f[j].dist, maxMatch)
	}
	for j := 1; j < len(f); j++ {
		x, k := f[j], j
		for ; k > 0 && f[k-1].price > x.price; k-- {
			f[k] = f[k-1]
		}
		f[k] = x
	}
}

// enter enters the end of a run that is shorter than minRun.
func (r *runEnds) enter(buf []byte, i, pos, n uint32) {
	r.last = pos
	if uint32(len(buf))-i >= 2 {
		r.enter1(0, buf, i, pos, n, false)
	}
}

func (r *runEnds) enter1(k int, buf []byte, i, pos, n uint32, report bool) {
	t := &r.trees[k]
	if t.found = t.found[:0]; report {
		if k == 0 {
			clear(t.best[:min(n, maxMatch)+1])
		} else {
			copy(t.best[:min(n, maxMatch)+1], r.trees[k-1].best[:])
		}
	}
	h := (uint32(buf[i-1])<<16 | uint32(buf[i])<<8 | uint32(buf[i+1])) * 0x9E3779B1 >> (t.shift & 31)
	t.insert(buf, &t.heads[h], i, pos, min(uint32(len(buf))-i, maxMatch), n, report)
}

func (r *runEnds) rebase(sub uint32) {
	for k := range r.trees {
		r.trees[k].rebase(sub)
	}
	r.last, r.at = lower(r.last, sub), lower(r.at, sub)
}

package lzma

import "math/bits"

// Runs of one byte are passed over by finder and parser but for their first byte. In a patch
// nine tenths of all bytes are inside runs of zeros, and what is worth knowing about a
// position in a run is only how far the run goes on and what comes then.
//
// The positions inside a run are closed, all others are open. An open position is entered
// into the finder, and a parse may go through it. A parse goes through a closed one only
// when a match ends there for a good reason: bytes begin to differ there, or the length is
// one that is cheaper than what is longer. From there it goes on with what runEnds knows.

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

// A bridge is a candidate for matches that start inside a run and go on behind its end.
type bridge struct {
	dist   uint32 // 0 is one byte
	before uint32 // length of the run there
	after  uint32 // how many bytes agree from the end of the run on
}

// runEnds finds earlier runs of the same byte that were followed by the same bytes. From
// one search at the end of a run follow the matches of all positions inside: one that is n
// bytes before the end has those candidates whose run had at least n bytes. A search tree
// would be asked at every position, and hold every position, most of them alike.
//
// Candidates are tried from the nearest on. One is kept if no nearer one has as long a run
// and as many equal bytes behind it.
type runEnds struct {
	heads []uint32 // newest entry, by hash of the run's byte and two that follow
	ring  []runEntry
	mask  uint32
	n     uint32 // number of the next entry; they start at the ring's size, so that 0 is none
	depth int

	last  uint32 // newest position that was entered
	at    uint32 // position that found is for
	found []bridge
	// best[n] is the largest after of what was found with before >= n.
	best [maxMatch + 1]uint32
}

type runEntry struct {
	pos, run, prev uint32
}

const runHashBits = 16

func newRunEnds(dict uint32, depth int) *runEnds {
	// Entries are more than two bytes apart, and in real files much more than that.
	size := uint32(1) << max(10, min(20, bits.Len32(dict)-2))
	return &runEnds{
		heads: make([]uint32, 1<<runHashBits),
		mask:  size - 1,
		n:     size,
		depth: depth,
	}
}

func (r *runEnds) hash(buf []byte, i uint32) uint32 {
	return (uint32(buf[i-1])<<16 | uint32(buf[i])<<8 | uint32(buf[i+1])) * 0x9E3779B1 >> (32 - runHashBits)
}

// find searches for the run of n bytes that ends before buf[i], position pos, sets found and
// enters the run. avail is what is left of buf from i on, reach the largest distance.
func (r *runEnds) find(buf []byte, i, pos, n, avail, reach uint32) {
	r.at = pos
	r.found = r.found[:0]
	if avail < 2 {
		return
	}
	limit := min(avail, maxMatch)
	top := min(n, maxMatch)
	clear(r.best[:top+1])
	cur := r.heads[r.hash(buf, i)]
	for depth := r.depth; depth > 0 && r.n-cur <= r.mask; depth-- {
		c := &r.ring[cur&r.mask]
		d := pos - c.pos
		if d > reach {
			break
		}
		before := min(c.run, top)
		// Whether it is worth a longer look shows in the one byte by which it has to be
		// better. The hash takes in the bytes that were equal, or nearly always so.
		best := r.best[before]
		if best >= limit {
			if before == top {
				break // nothing can be better
			}
		} else if buf[i-d+best] == buf[i+best] && buf[i-d-1] == buf[i-1] {
			if after := equalLen(buf, i, i-d, 0, limit); after > best {
				r.found = append(r.found, bridge{d - 1, before, after})
				for k := int(before); k >= 0 && r.best[k] < after; k-- {
					r.best[k] = after
				}
			}
		}
		cur = c.prev
	}
	r.enter(buf, i, pos, n)
}

// enter makes the run of n bytes that ends before buf[i], position pos, a candidate.
func (r *runEnds) enter(buf []byte, i, pos, n uint32) {
	r.last = pos
	if int(i)+1 >= len(buf) {
		return
	}
	h := &r.heads[r.hash(buf, i)]
	c := runEntry{pos, n, *h}
	if uint32(len(r.ring)) <= r.mask {
		r.ring = append(r.ring, c)
	} else {
		r.ring[r.n&r.mask] = c
	}
	*h = r.n
	if r.n++; r.n == 0 {
		// Four thousand million entries: start afresh.
		clear(r.heads)
		r.n = r.mask + 1
	}
}

func (r *runEnds) rebase(sub uint32) {
	for i := range r.ring {
		r.ring[i].pos = lower(r.ring[i].pos, sub)
	}
	r.last, r.at = lower(r.last, sub), lower(r.at, sub)
}

func lower(pos, sub uint32) uint32 { return max(pos, sub) - sub }

package lzma

import (
	"encoding/binary"
	"math/bits"
)

// A match says that bytes agree with those at a distance.
type match struct {
	dist   uint32 // 0 is the byte before
	length uint32 // of a run's end: counted from there
	before uint32 // of a run's end: how many bytes of the run agree as well
	price  uint32 // of a run's end: of the distance
}

// equalLen returns how many bytes of buf agree from a and from b on, up to limit; the first
// n are known to.
func equalLen(buf []byte, a, b, n, limit uint32) uint32 {
	for n+8 <= limit {
		x := binary.LittleEndian.Uint64(buf[a+n:]) ^ binary.LittleEndian.Uint64(buf[b+n:])
		if x != 0 {
			return n + uint32(bits.TrailingZeros64(x))>>3
		}
		n += 8
	}
	for n < limit && buf[a+n] == buf[b+n] {
		n++
	}
	return n
}

// A tree is a set of binary search trees over positions, each sorted by the bytes that
// follow and with the newest position at the root. The way down from the root to where a
// position belongs passes its neighbours in sorted order, the nearest position first: what
// is passed are its matches, each longer one at the smallest distance it is found at.
//
// Nodes are numbered in the order they are entered and kept in a ring that grows until it
// holds all that are within reach: few, in a patch, where most bytes are in runs.
type tree struct {
	ring  []treeNode
	runs  []uint32 // in trees of runs' ends, the length of each node's run; else nil
	mask  uint32
	n     uint32 // number of the next node; they start at maxNodes, so that 0 is none
	reach uint32 // largest distance
	depth int

	found []match
	// best[k] is the largest length of what was found with before >= k.
	best [maxMatch + 1]uint32
}

type treeNode struct {
	pos, less, more uint32
}

// maxNodes is how many nodes a tree remembers at most. It bounds the memory, at 12 bytes
// each, where a dictionary is larger and no byte is in a run.
const maxNodes = 1 << 24

func newTree(reach uint32, depth int, ofRuns bool) tree {
	const size = 1 << 10
	t := tree{ring: make([]treeNode, size), mask: size - 1, n: maxNodes, reach: reach, depth: depth}
	if ofRuns {
		t.runs = make([]uint32, size)
	}
	return t
}

// grow doubles the ring, which is full of nodes that are still within reach.
func (t *tree) grow() {
	size := t.mask + 1
	ring := make([]treeNode, 2*size)
	var runs []uint32
	if t.runs != nil {
		runs = make([]uint32, 2*size)
	}
	mask := 2*size - 1
	for k := t.n - size; k != t.n; k++ {
		ring[k&mask] = t.ring[k&t.mask]
		if runs != nil {
			runs[k&mask] = t.runs[k&t.mask]
		}
	}
	t.ring, t.runs, t.mask = ring, runs, mask
}

// insert enters buf[i], known as pos, into the tree whose root's number is at root, and adds
// to found if report is set. Bytes are compared up to limit. run is the length of the run
// that ends there, in a tree of such.
//
// This is where most of the time goes on anything but patches. Each step waits for a node
// and for the bytes it stands for; what both neighbours so far have in common need not be
// compared again.
func (t *tree) insert(buf []byte, root *uint32, i, pos, limit, run uint32, report bool) {
	ofRuns := t.runs != nil
	if pos-t.ring[t.n&t.mask].pos <= t.reach && t.mask+1 < maxNodes {
		t.grow()
	}
	cur := *root
	*root = t.n
	ring := t.ring
	at := t.n & t.mask
	ring[at].pos = pos
	less, more := &ring[at].less, &ring[at].more // where the next smaller and greater nodes hang
	if ofRuns {
		t.runs[at] = run
	}
	top := min(run, maxMatch)
	lenLess, lenMore := uint32(0), uint32(0)
	for depth := t.depth; depth > 0 && t.n-cur <= t.mask; depth-- {
		k := cur & t.mask
		c := &ring[k]
		d := pos - c.pos
		if d > t.reach {
			break
		}
		n := equalLen(buf, i-d, i, min(lenLess, lenMore), limit)
		if report {
			before := uint32(0)
			if ofRuns {
				before = min(t.runs[k], top)
			}
			// The byte in front differs in a tree of runs' ends only if hashes collide.
			if n > t.best[before] && (!ofRuns || buf[i-d-1] == buf[i-1]) {
				t.found = append(t.found, match{dist: d - 1, length: n, before: before})
				for k := int(before); k >= 0 && t.best[k] < n; k-- {
					t.best[k] = n
				}
			}
		}
		if n == limit {
			// No way to tell the two apart: the new one takes the old one's place. This
			// is also what makes long repetitions cheap.
			*less, *more = c.less, c.more
			t.step()
			return
		}
		if buf[i-d+n] < buf[i+n] {
			*less = cur
			less = &c.more
			cur = c.more
			lenLess = n
		} else {
			*more = cur
			more = &c.less
			cur = c.less
			lenMore = n
		}
	}
	*less, *more = 0, 0
	t.step()
}

func (t *tree) step() {
	if t.n++; t.n == 0 {
		// All numbers are used up: start again where the ring starts, with every node
		// and root out of date.
		t.n = maxNodes
		clear(t.ring)
	}
}

func (t *tree) rebase(sub uint32) {
	for i := range t.ring {
		t.ring[i].pos = lower(t.ring[i].pos, sub)
	}
}

func lower(pos, sub uint32) uint32 { return max(pos, sub) - sub }

// A finder finds, for a position, the nearest match of every length.
type finder struct {
	tree
	hash2, hash3 []uint32 // position of the newest
	hash4        []uint32 // number of the root
	shift3       uint
	shift4       uint
	nice         uint32
}

const (
	hash2Bits = 16
	hash3Bits = 18 // at most
	hash4Bits = 23 // at most
)

func newFinder(dict, nice uint32, depth int) *finder {
	f := &finder{tree: newTree(dict, depth, false), hash2: make([]uint32, 1<<hash2Bits), nice: nice}
	f.resize(dict)
	return f
}

// resize makes the tables fit another dictionary, out of whose reach everything must be that they know.
func (f *finder) resize(dict uint32) {
	size := bits.Len32(dict - 1)
	n3, n4 := min(hash3Bits, size), min(hash4Bits, size-1)
	f.hash3, f.hash4 = resized(f.hash3, 1<<n3), resized(f.hash4, 1<<n4)
	f.shift3, f.shift4 = 32-uint(n3), 32-uint(n4)
	f.reach = dict
}

// resized returns a table of n entries: old ones, or zeros.
func resized(t []uint32, n int) []uint32 {
	if cap(t) >= n {
		return t[:n]
	}
	return make([]uint32, n)
}

// find enters buf[i], known as pos, and returns its matches, longer ones behind shorter ones.
func (f *finder) find(buf []byte, i, pos uint32) []match {
	f.enter(buf, i, pos, true)
	return f.found
}

func (f *finder) enter(buf []byte, i, pos uint32, report bool) {
	f.found = f.found[:0]
	avail := uint32(len(buf)) - i
	if avail < 4 {
		return
	}
	limit := min(avail, f.nice)
	v := binary.LittleEndian.Uint32(buf[i:])
	h2 := &f.hash2[v&(1<<hash2Bits-1)]
	h3 := &f.hash3[(v<<8)*0x9E3779B1>>(f.shift3&31)]
	p2, p3 := *h2, *h3
	*h2, *h3 = pos, pos
	if report {
		best := uint32(1)
		if d := pos - p2; d <= f.reach {
			best = equalLen(buf, i, i-d, 0, limit)
			f.found = append(f.found, match{dist: d - 1, length: best})
		}
		if d := pos - p3; p3 != p2 && d <= f.reach && best < limit && buf[i-d+best] == buf[i+best] {
			if n := equalLen(buf, i, i-d, 0, limit); n > best {
				best = n
				f.found = append(f.found, match{dist: d - 1, length: best})
			}
		}
		f.best[0] = best
	}
	f.insert(buf, &f.hash4[v*0x9E3779B1>>(f.shift4&31)], i, pos, limit, 0, report)
}

// rebase lowers every position in the tables by sub; what falls out of reach becomes 0.
func (f *finder) rebase(sub uint32) {
	for _, t := range [][]uint32{f.hash2, f.hash3[:cap(f.hash3)]} { // also what a larger dictionary uses
		for i := range t {
			t[i] = lower(t[i], sub)
		}
	}
	f.tree.rebase(sub)
}

package lzma

import (
	"encoding/binary"
	"math/bits"
)

type match struct {
	length, dist uint32 // dist: 0 is the byte before
}

// treeFinder finds, for a position, the nearest match of every length: binary search trees
// of all positions that start with the same four bytes, sorted by what follows, the newest
// at the root.
type treeFinder struct {
	hash2, hash3, hash4 []uint32
	son                 []uint32 // two per position of the cyclic window
	shift4              uint
	cyclic              uint32 // positions in the window
	slot                uint32 // of the next position: position modulo cyclic
	nice, depth         uint32
	matches             []match
}

const (
	hash2Bits = 16
	hash3Bits = 18
)

func newTreeFinder(dict, nice, depth int) *treeFinder {
	bitsN := max(10, bits.Len32(uint32(dict-1))-1)
	bitsN = min(bitsN, 23)
	f := &treeFinder{
		hash2:   make([]uint32, 1<<hash2Bits),
		hash3:   make([]uint32, 1<<hash3Bits),
		hash4:   make([]uint32, 1<<bitsN),
		shift4:  32 - uint(bitsN),
		cyclic:  uint32(dict) + 1,
		nice:    uint32(nice),
		depth:   uint32(depth),
		matches: make([]match, 0, maxMatch+2),
	}
	f.son = make([]uint32, 2*f.cyclic)
	return f
}

func (f *treeFinder) hashes(b []byte) (h2, h3, h4 uint32) {
	v := binary.LittleEndian.Uint32(b)
	h2 = v & 0xFFFF
	h3 = (v << 8) * 0x9E3779B1 >> (32 - hash3Bits)
	h4 = v * 0x9E3779B1 >> (f.shift4 & 31)
	return
}

// equalLen returns how many bytes of buf agree from a and from b on, up to limit; the
// first n are known to.
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

// find enters the position buf[i], known as pos in the tables, and returns its matches,
// longer ones behind shorter ones, each at the smallest distance that has the length.
func (f *treeFinder) find(buf []byte, i, pos, avail uint32) []match {
	f.matches = f.matches[:0]
	f.slot = pos % f.cyclic
	if avail < 4 {
		f.slot = f.next()
		return f.matches
	}
	limit := min(avail, f.nice)
	h2, h3, h4 := f.hashes(buf[i:])
	p2, p3, p4 := f.hash2[h2], f.hash3[h3], f.hash4[h4]
	f.hash2[h2], f.hash3[h3], f.hash4[h4] = pos, pos, pos
	best := uint32(1)
	if d := pos - p2; d < f.cyclic && binary.LittleEndian.Uint16(buf[i-d:]) == binary.LittleEndian.Uint16(buf[i:]) {
		best = equalLen(buf, i, i-d, 2, limit)
		f.matches = append(f.matches, match{best, d - 1})
	}
	if d := pos - p3; p3 != p2 && d < f.cyclic && best < limit && buf[i-d+best] == buf[i+best] {
		if n := equalLen(buf, i, i-d, 0, limit); n > best {
			best = n
			f.matches = append(f.matches, match{best, d - 1})
		}
	}
	f.tree(buf, i, pos, p4, limit, best, true)
	return f.matches
}

func (f *treeFinder) skip(buf []byte, i, pos, avail uint32) {
	f.slot = pos % f.cyclic
	if avail < 4 {
		f.slot = f.next()
		return
	}
	h2, h3, h4 := f.hashes(buf[i:])
	p4 := f.hash4[h4]
	f.hash2[h2], f.hash3[h3], f.hash4[h4] = pos, pos, pos
	f.tree(buf, i, pos, p4, min(avail, f.nice), maxMatch, false)
}

func (f *treeFinder) tree(buf []byte, i, pos, cur, limit, best uint32, report bool) {
	slot := f.slot
	f.slot = f.next()
	less, more := slot<<1, slot<<1|1 // where the next smaller and greater subtrees hang
	lenLess, lenMore := uint32(0), uint32(0)
	for depth := f.depth; ; depth-- {
		d := pos - cur
		if d >= f.cyclic || depth == 0 {
			f.son[less], f.son[more] = 0, 0
			return
		}
		var at uint32
		if slot >= d {
			at = slot - d
		} else {
			at = slot - d + f.cyclic
		}
		at <<= 1
		n := equalLen(buf, i-d, i, min(lenLess, lenMore), limit)
		if n > best && report {
			best = n
			f.matches = append(f.matches, match{n, d - 1})
		}
		if n == limit {
			f.son[less], f.son[more] = f.son[at], f.son[at|1]
			return
		}
		if buf[i-d+n] < buf[i+n] {
			f.son[less] = cur
			less = at | 1
			cur = f.son[less]
			lenLess = n
		} else {
			f.son[more] = cur
			more = at
			cur = f.son[more]
			lenMore = n
		}
	}
}

func (f *treeFinder) next() uint32 {
	if f.slot+1 == f.cyclic {
		return 0
	}
	return f.slot + 1
}

// rebase lowers every position in the tables by sub; what falls out of the window becomes
// "nothing".
func (f *treeFinder) rebase(sub uint32) {
	for _, t := range [][]uint32{f.hash2, f.hash3, f.hash4, f.son} {
		for i := range t {
			t[i] = lower(t[i], sub)
		}
	}
}

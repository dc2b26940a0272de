package lzma

import (
	"encoding/binary"
)

// decLen holds the probabilities of match lengths.
type decLen struct {
	choice  uint16
	choice2 uint16
	low     [16 << 3]uint16
	mid     [16 << 3]uint16
	high    [256]uint16
}

// decModel is the adaptive state of an LZMA decoder: what a state reset sets back.
type decModel struct {
	lc             uint
	lpMask, pbMask uint
	litUsed        int // literal contexts in use: 1 << (lc+lp)

	state                  uint32
	rep0, rep1, rep2, rep3 uint32

	isMatch    [16 << 4]uint16 // by state and position
	isRep0Long [16 << 4]uint16
	isRep      [16]uint16 // by state
	isRepG0    [16]uint16
	isRepG1    [16]uint16
	isRepG2    [16]uint16
	slot       [4 << 6]uint16 // by length
	special    [128]uint16
	alignSpace [128]uint16 // the first 16: the lowest four bits of far distances
	matchLen   decLen
	repLen     decLen
	lit        [0x300 << 4]uint16
}

func decFill(p []uint16) {
	for i := range p {
		p[i] = 1 << 10
	}
}

func (l *decLen) reset() {
	l.choice, l.choice2 = 1<<10, 1<<10
	decFill(l.low[:])
	decFill(l.mid[:])
	decFill(l.high[:])
}

func (m *decModel) reset() {
	m.state = 0
	m.rep0, m.rep1, m.rep2, m.rep3 = 0, 0, 0, 0
	decFill(m.isMatch[:])
	decFill(m.isRep0Long[:])
	decFill(m.isRep[:])
	decFill(m.isRepG0[:])
	decFill(m.isRepG1[:])
	decFill(m.isRepG2[:])
	decFill(m.slot[:])
	decFill(m.special[:])
	decFill(m.alignSpace[:16])
	m.matchLen.reset()
	m.repLen.reset()
	decFill(m.lit[:0x300*m.litUsed])
}

// decRange is the state of the range decoder between two calls of symbols.
type decRange struct {
	rng, code uint32
	sp        int
}

const (
	decTop = 1 << 24
	// decReach is more than one symbol can read: 22 modelled bits of at most 6.05 bits each, 26 direct bits.
	decReach = 24
)

// run decodes one chunk to dst[pos:limit]. base is where the dictionary begins.
func (m *decModel) run(dst []byte, pos, limit, base, dictSize int, src []byte) error {
	if len(src) < 5 || src[0] != 0 {
		return corrupt("the range coder's start")
	}
	rc := decRange{rng: 0xFFFFFFFF, code: binary.BigEndian.Uint32(src[1:]), sp: 5}
	pos, ok := m.symbols(&rc, dst, pos, limit, base, dictSize, src, len(src)-decReach)
	if !ok {
		return corrupt("a match reaches behind the dictionary or the chunk's end")
	}
	// The rest again, from a copy with zeros behind it, so that the loop never looks whether input is left.
	var tail [4 * decReach]byte
	n := copy(tail[:2*decReach], src[min(rc.sp, len(src)):])
	if rc.sp+n < len(src) {
		return corrupt("bytes are left over in a chunk")
	}
	rc.sp = 0
	pos, ok = m.symbols(&rc, dst, pos, limit, base, dictSize, tail[:], n)
	if !ok {
		return corrupt("a match reaches behind the dictionary or the chunk's end")
	}
	if rc.rng < decTop {
		rc.rng <<= 8
		rc.code = rc.code<<8 | uint32(tail[rc.sp])
		rc.sp++
	}
	if pos != limit || rc.sp != n || rc.code != 0 {
		return corrupt("a chunk does not end where it says")
	}
	return nil
}

// symbols decodes symbols until dst[:limit] is full or src is read beyond safe. It reports false where a symbol
// makes no sense.
func (m *decModel) symbols(rc *decRange, dst []byte, pos, limit, base, dictSize int, src []byte, safe int) (int, bool) {
	var (
		rng, code, sp          = rc.rng, rc.code, rc.sp
		state                  = m.state
		rep0, rep1, rep2, rep3 = m.rep0, m.rep1, m.rep2, m.rep3
		prev                   uint32
	)
	if pos > base {
		prev = uint32(dst[pos-1])
	}
	for pos < limit && sp <= safe {
		at := uint(pos - base)
		posState := uint32(at & m.pbMask)

		if rng < decTop {
			rng = rng << 8
			code = code<<8 | uint32(src[sp])
			sp++
		}
		pp := &m.isMatch[(state<<4|posState)&0xFF]
		p := uint32(*pp)
		bound := (rng >> 11) * p
		if code < bound {
			rng = bound
			*pp = uint16(p + (2048-p)>>5)
			ctx := (at&m.lpMask)<<m.lc | uint(prev)>>(8-m.lc)
			lit := (*[0x300]uint16)(m.lit[0x300*ctx:])
			sym := uint32(1)
			if state < 7 {
				for sym < 0x100 {
					if rng < decTop {
						rng = rng << 8
						code = code<<8 | uint32(src[sp])
						sp++
					}
					pp := &lit[sym]
					p := uint32(*pp)
					bound := (rng >> 11) * p
					mask := uint32(int64(uint64(code)-uint64(bound)) >> 63)
					rng -= bound
					rng ^= (rng ^ bound) & mask
					code -= bound &^ mask
					*pp = uint16(p - uint32(int32(p-mask&(2048-31))>>5))
					sym = sym<<1 + 1 + mask
				}
			} else {
				match := uint32(dst[pos-int(rep0)-1])
				offs := uint32(0x100)
				for sym < 0x100 {
					if rng < decTop {
						rng = rng << 8
						code = code<<8 | uint32(src[sp])
						sp++
					}
					match <<= 1
					bit := match & offs
					pp := &lit[offs+bit+sym]
					p := uint32(*pp)
					bound := (rng >> 11) * p
					mask := uint32(int64(uint64(code)-uint64(bound)) >> 63)
					rng -= bound
					rng ^= (rng ^ bound) & mask
					code -= bound &^ mask
					*pp = uint16(p - uint32(int32(p-mask&(2048-31))>>5))
					sym = sym<<1 + 1 + mask
					offs &= bit ^ mask
				}
			}
			prev = sym & 0xFF
			dst[pos] = byte(sym)
			pos++
			state = decAfterLiteral[state&15]
			continue
		}
		rng -= bound
		code -= bound
		*pp = uint16(p - p>>5)

		if rng < decTop {
			rng = rng << 8
			code = code<<8 | uint32(src[sp])
			sp++
		}
		pp = &m.isRep[state&15]
		p = uint32(*pp)
		bound = (rng >> 11) * p
		var lens *decLen
		rep := code >= bound
		if !rep {
			rng = bound
			*pp = uint16(p + (2048-p)>>5)
			rep3, rep2, rep1 = rep2, rep1, rep0
			lens = &m.matchLen
		} else {
			rng -= bound
			code -= bound
			*pp = uint16(p - p>>5)
			lens = &m.repLen
			if rng < decTop {
				rng = rng << 8
				code = code<<8 | uint32(src[sp])
				sp++
			}
			pp = &m.isRepG0[state&15]
			p = uint32(*pp)
			bound = (rng >> 11) * p
			if code < bound {
				rng = bound
				*pp = uint16(p + (2048-p)>>5)
				if rng < decTop {
					rng = rng << 8
					code = code<<8 | uint32(src[sp])
					sp++
				}
				pp = &m.isRep0Long[(state<<4|posState)&0xFF]
				p = uint32(*pp)
				bound = (rng >> 11) * p
				if code < bound {
					rng = bound
					*pp = uint16(p + (2048-p)>>5)
					if uint(rep0) >= at || int(rep0) >= dictSize {
						return pos, false
					}
					b := dst[pos-int(rep0)-1]
					prev = uint32(b)
					dst[pos] = b
					pos++
					state = decAfterShort[state&15]
					continue
				}
				rng -= bound
				code -= bound
				*pp = uint16(p - p>>5)
			} else {
				rng -= bound
				code -= bound
				*pp = uint16(p - p>>5)
				if rng < decTop {
					rng = rng << 8
					code = code<<8 | uint32(src[sp])
					sp++
				}
				pp = &m.isRepG1[state&15]
				p = uint32(*pp)
				bound = (rng >> 11) * p
				if code < bound {
					rng = bound
					*pp = uint16(p + (2048-p)>>5)
					rep0, rep1 = rep1, rep0
				} else {
					rng -= bound
					code -= bound
					*pp = uint16(p - p>>5)
					if rng < decTop {
						rng = rng << 8
						code = code<<8 | uint32(src[sp])
						sp++
					}
					pp = &m.isRepG2[state&15]
					p = uint32(*pp)
					bound = (rng >> 11) * p
					if code < bound {
						rng = bound
						*pp = uint16(p + (2048-p)>>5)
						rep0, rep1, rep2 = rep2, rep0, rep1
					} else {
						rng -= bound
						code -= bound
						*pp = uint16(p - p>>5)
						rep0, rep1, rep2, rep3 = rep3, rep0, rep1, rep2
					}
				}
			}
		}

		// The length.
		var length uint32
		var tree []uint16
		if rng < decTop {
			rng = rng << 8
			code = code<<8 | uint32(src[sp])
			sp++
		}
		p = uint32(lens.choice)
		bound = (rng >> 11) * p
		end := uint32(8)
		if code < bound {
			rng = bound
			lens.choice = uint16(p + (2048-p)>>5)
			tree = lens.low[posState<<3:][:8]
			length = ^uint32(5) // 2 - 8
		} else {
			rng -= bound
			code -= bound
			lens.choice = uint16(p - p>>5)
			if rng < decTop {
				rng = rng << 8
				code = code<<8 | uint32(src[sp])
				sp++
			}
			p = uint32(lens.choice2)
			bound = (rng >> 11) * p
			if code < bound {
				rng = bound
				lens.choice2 = uint16(p + (2048-p)>>5)
				tree = lens.mid[posState<<3:][:8]
				length = 10 - 8
			} else {
				rng -= bound
				code -= bound
				lens.choice2 = uint16(p - p>>5)
				tree = lens.high[:]
				end = 256
				length = ^uint32(237) // 18 - 256
			}
		}
		sym := uint32(1)
		for sym < end {
			if rng < decTop {
				rng = rng << 8
				code = code<<8 | uint32(src[sp])
				sp++
			}
			pp := &tree[sym]
			p := uint32(*pp)
			bound := (rng >> 11) * p
			mask := uint32(int64(uint64(code)-uint64(bound)) >> 63)
			rng -= bound
			rng ^= (rng ^ bound) & mask
			code -= bound &^ mask
			*pp = uint16(p - uint32(int32(p-mask&(2048-31))>>5))
			sym = sym<<1 + 1 + mask
		}
		length += sym

		if rep {
			state = decAfterRep[state&15]
		} else {
			state = decAfterMatch[state&15]
			slots := (*[64]uint16)(m.slot[min(length-2, 3)<<6:])
			sym := uint32(1)
			for sym < 64 {
				if rng < decTop {
					rng = rng << 8
					code = code<<8 | uint32(src[sp])
					sp++
				}
				pp := &slots[sym]
				p := uint32(*pp)
				bound := (rng >> 11) * p
				mask := uint32(int64(uint64(code)-uint64(bound)) >> 63)
				rng -= bound
				rng ^= (rng ^ bound) & mask
				code -= bound &^ mask
				*pp = uint16(p - uint32(int32(p-mask&(2048-31))>>5))
				sym = sym<<1 + 1 + mask
			}
			slot := sym - 64
			rep0 = slot
			if slot >= 4 {
				n := slot>>1 - 1
				rep0 = (2 | slot&1) << n
				var bits *[128]uint16
				var from uint32
				if slot < 14 {
					bits = &m.special
					from = rep0 - slot
				} else {
					// Direct bits, all but the last four.
					var v uint32
					for range n - 4 {
						if rng < decTop {
							rng = rng << 8
							code = code<<8 | uint32(src[sp])
							sp++
						}
						rng >>= 1
						code -= rng
						mask := uint32(int32(code) >> 31)
						code += rng & mask
						v = v<<1 + 1 + mask
					}
					rep0 += v << 4
					bits = &m.alignSpace
					n = 4
				}
				sym := uint32(1)
				for i := range n {
					if rng < decTop {
						rng = rng << 8
						code = code<<8 | uint32(src[sp])
						sp++
					}
					pp := &bits[(from+sym)&127]
					p := uint32(*pp)
					bound := (rng >> 11) * p
					mask := uint32(int64(uint64(code)-uint64(bound)) >> 63)
					rng -= bound
					rng ^= (rng ^ bound) & mask
					code -= bound &^ mask
					*pp = uint16(p - uint32(int32(p-mask&(2048-31))>>5))
					sym = sym<<1 + 1 + mask
					rep0 += (1 + mask) << i
				}
			}
		}

		if uint(rep0) >= at || uint(rep0) >= uint(dictSize) || int(length) > limit-pos {
			return pos, false
		}
		dist := int(rep0) + 1
		copyMatch(dst, pos, dist, int(length))
		pos += int(length)
		prev = uint32(dst[pos-1])
	}
	rc.rng, rc.code, rc.sp = rng, code, sp
	m.state = state
	m.rep0, m.rep1, m.rep2, m.rep3 = rep0, rep1, rep2, rep3
	return pos, true
}

// copyMatch copies n bytes to dst[pos:] from dist bytes before; what it writes may be what it reads.
func copyMatch(dst []byte, pos, dist, n int) {
	if dist >= n {
		copy(dst[pos:pos+n], dst[pos-dist:])
		return
	}
	for from, end := pos-dist, pos+n; pos < end; {
		pos += copy(dst[pos:end], dst[from:pos])
	}
}

// States after a symbol; the seven lowest stand behind a literal.
var (
	decAfterLiteral = [16]uint32{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}
	decAfterMatch   = [16]uint32{7, 7, 7, 7, 7, 7, 7, 10, 10, 10, 10, 10}
	decAfterRep     = [16]uint32{8, 8, 8, 8, 8, 8, 8, 11, 11, 11, 11, 11}
	decAfterShort   = [16]uint32{9, 9, 9, 9, 9, 9, 9, 11, 11, 11, 11, 11}
)

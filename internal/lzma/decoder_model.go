package lzma

import (
	"encoding/binary"
)

// decLen holds the probabilities of match lengths.
type decLen struct {
	choice  uint16
	choice2 uint16
	low     [16][8]uint16
	mid     [16][8]uint16
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
	slot       [4][64]uint16 // by length
	special    [128]uint16
	align      [128]uint16 // the first 16: the lowest four bits of far distances
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
	for i := range l.low {
		decFill(l.low[i][:])
		decFill(l.mid[i][:])
	}
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
	for i := range m.slot {
		decFill(m.slot[i][:])
	}
	decFill(m.special[:])
	decFill(m.align[:16])
	m.matchLen.reset()
	m.repLen.reset()
	decFill(m.lit[:0x300*m.litUsed])
}

const decTop = 1 << 24

// packedChunk is a chunk's compressed bytes and what happens to stand behind them. Its size is what a 16-bit
// index reaches: reading it needs no check.
type packedChunk [maxChunkPacked]byte

// run decodes one chunk of n compressed bytes to dst[pos:limit]. base is where the dictionary begins.
func (m *decModel) run(dst []byte, pos, limit, base, dictSize int, src *packedChunk, n int) error {
	code := uint64(binary.BigEndian.Uint32(src[1:]))
	if n < 5 || src[0] != 0 || code == 0xFFFFFFFF {
		return corrupt("the range coder's start")
	}
	var (
		rng                    = uint64(0xFFFFFFFF)
		sp                     = uint(5)
		state                  = m.state
		rep0, rep1, rep2, rep3 = m.rep0, m.rep1, m.rep2, m.rep3
		prev                   byte
		p, bound               uint64
	)
	if pos > base {
		prev = dst[pos-1]
	}
	for pos < limit {
		at := uint(pos - base)
		posState := uint32(at&m.pbMask) & 15
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		kind := &m.isMatch[(state<<4|posState)&255]
		p = uint64(*kind)
		bound = (rng >> 11) * p
		if code < bound {
			rng = bound
			*kind = uint16(p + (2048-p)>>5)

			lit := (*[0x300]uint16)(m.lit[0x300*((at&m.lpMask)<<(m.lc&7)|uint(prev)>>((8-m.lc)&15)):])
			var sym uint64
			if state < 7 {
				sym, rng, code, sp = decLiteral(lit, src, rng, code, sp)
			} else {
				sym, rng, code, sp = decMatchedLiteral(lit, src, rng, code, sp, uint64(dst[pos-int(rep0)-1]))
			}
			prev = byte(sym)
			dst[pos] = prev
			pos++
			state = decAfterLiteral[state&15]
			continue
		}
		rng, code = rng-bound, code-bound
		*kind = uint16(p - p>>5)

		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}
		p = uint64(m.isRep[state&15])
		bound = (rng >> 11) * p

		lens := &m.matchLen
		rep := code >= bound
		if !rep {
			rng = bound
			m.isRep[state&15] = uint16(p + (2048-p)>>5)

			rep3, rep2, rep1 = rep2, rep1, rep0
		} else {
			rng, code = rng-bound, code-bound
			m.isRep[state&15] = uint16(p - p>>5)

			lens = &m.repLen
			if rng < decTop {
				rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
			}
			p = uint64(m.isRepG0[state&15])
			bound = (rng >> 11) * p

			if code < bound {
				rng = bound
				m.isRepG0[state&15] = uint16(p + (2048-p)>>5)

				long := &m.isRep0Long[(state<<4|posState)&255]
				if rng < decTop {
					rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
				}
				p = uint64(*long)
				bound = (rng >> 11) * p

				if code < bound {
					rng = bound
					*long = uint16(p + (2048-p)>>5)

					if uint(rep0) >= at || uint(rep0) >= uint(dictSize) {
						return errDistance
					}
					prev = dst[pos-int(rep0)-1]
					dst[pos] = prev
					pos++
					state = decAfterShort[state&15]
					continue
				}
				rng, code = rng-bound, code-bound
				*long = uint16(p - p>>5)

			} else {
				rng, code = rng-bound, code-bound
				m.isRepG0[state&15] = uint16(p - p>>5)

				if rng < decTop {
					rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
				}
				p = uint64(m.isRepG1[state&15])
				bound = (rng >> 11) * p

				if code < bound {
					rng = bound
					m.isRepG1[state&15] = uint16(p + (2048-p)>>5)

					rep0, rep1 = rep1, rep0
				} else {
					rng, code = rng-bound, code-bound
					m.isRepG1[state&15] = uint16(p - p>>5)

					if rng < decTop {
						rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
					}
					p = uint64(m.isRepG2[state&15])
					bound = (rng >> 11) * p

					if code < bound {
						rng = bound
						m.isRepG2[state&15] = uint16(p + (2048-p)>>5)

						rep0, rep1, rep2 = rep2, rep0, rep1
					} else {
						rng, code = rng-bound, code-bound
						m.isRepG2[state&15] = uint16(p - p>>5)

						rep0, rep1, rep2, rep3 = rep3, rep0, rep1, rep2
					}
				}
			}
		}

		// The length: three bits, three bits more, or eight.
		var sym uint64
		var length int
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}
		p = uint64(lens.choice)
		bound = (rng >> 11) * p

		if code < bound {
			rng = bound
			lens.choice = uint16(p + (2048-p)>>5)

			sym, rng, code, sp = decTree3(&lens.low[posState], src, rng, code, sp)
			length = int(sym) + 2 - 8
		} else {
			rng, code = rng-bound, code-bound
			lens.choice = uint16(p - p>>5)

			if rng < decTop {
				rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
			}
			p = uint64(lens.choice2)
			bound = (rng >> 11) * p

			if code < bound {
				rng = bound
				lens.choice2 = uint16(p + (2048-p)>>5)

				sym, rng, code, sp = decTree3(&lens.mid[posState], src, rng, code, sp)
				length = int(sym) + 10 - 8
			} else {
				rng, code = rng-bound, code-bound
				lens.choice2 = uint16(p - p>>5)

				sym, rng, code, sp = decTree8(&lens.high, src, rng, code, sp)
				length = int(sym) + 18 - 256
			}
		}

		if rep {
			state = decAfterRep[state&15]
		} else {
			state = decAfterMatch[state&15]
			sym, rng, code, sp = decTree6(&m.slot[min(length-2, 3)], src, rng, code, sp)
			rep0 = uint32(sym) - 64
			if rep0 >= 4 {
				sym, rng, code, sp = m.distance(sym-64, src, rng, code, sp)
				rep0 = uint32(sym)
			}
		}

		if uint(rep0) >= at || uint(rep0) >= uint(dictSize) || length > limit-pos {
			return errDistance
		}
		from, end := pos-int(rep0)-1, pos+length
		if length <= 16 && int(rep0) >= length-1 && pos+16 <= len(dst) {
			*(*[16]byte)(dst[pos:]) = *(*[16]byte)(dst[from:])
			pos = end
		} else {
			for pos < end {
				pos += copy(dst[pos:end], dst[from:pos])
			}
		}
		prev = dst[pos-1]
		if sp > uint(n) {
			break
		}
	}
	if rng < decTop {
		code, sp = code<<8|uint64(src[uint16(sp)]), sp+1
	}
	if pos != limit || sp != uint(n) || code != 0 {
		return corrupt("a chunk does not end where it says")
	}
	m.state = state
	m.rep0, m.rep1, m.rep2, m.rep3 = rep0, rep1, rep2, rep3
	return nil
}

// The functions that follow decode values of several bits. They take the range decoder's state and hand it
// back, all in registers, and are small enough for the compiler to keep it there. They decode without
// branches, because these bits cannot be predicted, and load the probabilities of both outcomes before the
// outcome is known. The value has a 1 above its highest bit.

// decBit decodes one bit with the probability p that it is 0. The mask it returns is all ones for a 0 and 0
// for a 1.
func decBit(rng, code, p uint64) (rng1, code1, mask uint64) {
	bound := (rng >> 11) * p
	code -= bound
	mask = uint64(int64(code) >> 63)
	rng -= bound
	return rng ^ (rng^bound)&mask, code + bound&mask, mask
}

// decAdapt moves a probability towards the bit that came.
func decAdapt(p, mask uint64) uint16 { return uint16(p - uint64(int64(p-mask&(2048-31))>>5)) }

func decLiteral(t *[0x300]uint16, src *packedChunk, rng, code uint64, sp uint) (v, rng1, code1 uint64, sp1 uint) {
	var mask uint64

	p, sym := uint64(t[1]), uint64(1)
	for sym < 128 {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		p0, p1 := uint64(t[2*sym]), uint64(t[2*sym+1])
		rng, code, mask = decBit(rng, code, p)

		t[sym] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		p = p1 ^ (p0^p1)&mask
	}
	if rng < decTop {
		rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
	}

	rng, code, mask = decBit(rng, code, p)

	t[sym&255] = decAdapt(p, mask)
	return sym<<1 + 1 + mask, rng, code, sp
}

func decTree8(t *[256]uint16, src *packedChunk, rng, code uint64, sp uint) (v, rng1, code1 uint64, sp1 uint) {
	var mask uint64

	p, sym := uint64(t[1]), uint64(1)
	for sym < 128 {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		p0, p1 := uint64(t[2*sym]), uint64(t[2*sym+1])
		rng, code, mask = decBit(rng, code, p)

		t[sym] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		p = p1 ^ (p0^p1)&mask
	}
	if rng < decTop {
		rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
	}

	rng, code, mask = decBit(rng, code, p)

	t[sym&255] = decAdapt(p, mask)
	return sym<<1 + 1 + mask, rng, code, sp
}

func decTree6(t *[64]uint16, src *packedChunk, rng, code uint64, sp uint) (v, rng1, code1 uint64, sp1 uint) {
	var mask uint64

	p, sym := uint64(t[1]), uint64(1)
	for sym < 32 {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		p0, p1 := uint64(t[2*sym]), uint64(t[2*sym+1])
		rng, code, mask = decBit(rng, code, p)

		t[sym] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		p = p1 ^ (p0^p1)&mask
	}
	if rng < decTop {
		rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
	}

	rng, code, mask = decBit(rng, code, p)

	t[sym&63] = decAdapt(p, mask)
	return sym<<1 + 1 + mask, rng, code, sp
}

func decTree3(t *[8]uint16, src *packedChunk, rng, code uint64, sp uint) (v, rng1, code1 uint64, sp1 uint) {
	var mask uint64

	p, sym := uint64(t[1]), uint64(1)
	for sym < 4 {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		p0, p1 := uint64(t[2*sym]), uint64(t[2*sym+1])
		rng, code, mask = decBit(rng, code, p)

		t[sym] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		p = p1 ^ (p0^p1)&mask
	}
	if rng < decTop {
		rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
	}

	rng, code, mask = decBit(rng, code, p)

	t[sym&7] = decAdapt(p, mask)
	return sym<<1 + 1 + mask, rng, code, sp
}

// decMatchedLiteral decodes a literal behind a match: as long as its bits are those of the byte that would
// have continued the match, that byte's next bit chooses the probability.
func decMatchedLiteral(t *[0x300]uint16, src *packedChunk, rng, code uint64, sp uint, match uint64) (v, rng1, code1 uint64, sp1 uint) {
	offs, sym := uint64(0x100), uint64(1)
	for sym < 0x100 {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		match <<= 1
		bit := match & offs
		at := offs + bit + sym
		p := uint64(t[at])
		var mask uint64
		rng, code, mask = decBit(rng, code, p)

		t[at] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		offs &= bit ^ mask
	}
	return sym, rng, code, sp
}

// distance decodes the rest of a distance whose slot is 4 or more.
func (m *decModel) distance(slot uint64, src *packedChunk, rng, code uint64, sp uint) (v, rng1, code1 uint64, sp1 uint) {
	n := slot>>1 - 1
	dist := (2 | slot&1) << (n & 31)
	t := &m.special
	from := dist - slot
	if slot >= 14 {
		// Direct bits, all but the last four.
		v := uint64(0)
		for range n - 4 {
			if rng < decTop {
				rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
			}

			rng >>= 1
			code -= rng
			mask := uint64(int64(code) >> 63)
			code += rng & mask
			v = v<<1 + 1 + mask
		}
		dist += v << 4
		t, from, n = &m.align, 0, 4
	}
	sym := uint64(1)
	for i := range n {
		if rng < decTop {
			rng, code, sp = rng<<8, code<<8|uint64(src[uint16(sp)]), sp+1
		}

		at := (from + sym) & 127
		p := uint64(t[at])
		var mask uint64
		rng, code, mask = decBit(rng, code, p)

		t[at] = decAdapt(p, mask)
		sym = sym<<1 + 1 + mask
		dist += (1 + mask) << (i & 31)
	}
	return dist, rng, code, sp
}

var errDistance = corrupt("a match reaches behind the dictionary or the chunk's end")

// States after a symbol; the seven lowest stand behind a literal.
var (
	decAfterLiteral = [16]uint32{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}
	decAfterMatch   = [16]uint32{7, 7, 7, 7, 7, 7, 7, 10, 10, 10, 10, 10}
	decAfterRep     = [16]uint32{8, 8, 8, 8, 8, 8, 8, 11, 11, 11, 11, 11}
	decAfterShort   = [16]uint32{9, 9, 9, 9, 9, 9, 9, 11, 11, 11, 11, 11}
)

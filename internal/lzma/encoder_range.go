package lzma

import "math/bits"

// rangeEncoder turns bits and their probabilities into bytes. The output of one LZMA2
// chunk collects in out, which the owner empties between chunks.
type rangeEncoder struct {
	low     uint64 // 33 bits: a carry may still run into bytes held back
	rng     uint32
	cache   byte   // last byte not yet written, because a carry may raise it
	pending uint32 // 1 + number of 0xFF bytes behind cache
	out     []byte
}

func (r *rangeEncoder) reset() {
	r.low, r.rng, r.cache, r.pending = 0, 0xFFFFFFFF, 0, 1
	r.out = r.out[:0]
}

// size is how many bytes the chunk would have if it ended here.
func (r *rangeEncoder) size() int { return len(r.out) + int(r.pending) + 4 }

func (r *rangeEncoder) shiftLow() {
	if r.low < 0xFF000000 || r.low > 0xFFFFFFFF {
		carry := byte(r.low >> 32)
		c := r.cache
		for ; r.pending > 0; r.pending-- {
			r.out = append(r.out, c+carry)
			c = 0xFF
		}
		r.cache = byte(r.low >> 24)
	}
	r.pending++
	r.low = (r.low & 0x00FFFFFF) << 8
}

func (r *rangeEncoder) flush() {
	for range 5 {
		r.shiftLow()
	}
}

func (r *rangeEncoder) bit(p *uint16, b uint32) {
	v := uint32(*p)
	bound := (r.rng >> probBits) * v
	if b == 0 {
		r.rng = bound
		*p = uint16(v + (1<<probBits-v)>>probMove)
	} else {
		r.low += uint64(bound)
		r.rng -= bound
		*p = uint16(v - v>>probMove)
	}
	for r.rng < rangeTop {
		r.rng <<= 8
		r.shiftLow()
	}
}

// tree codes the lowest n bits of sym, highest first.
func (r *rangeEncoder) tree(p []uint16, n uint, sym uint32) {
	m := uint32(1)
	for n > 0 {
		n--
		b := sym >> n & 1
		r.bit(&p[m], b)
		m = m<<1 | b
	}
}

// reverse codes the lowest n bits of sym, lowest first.
func (r *rangeEncoder) reverse(p []uint16, n uint, sym uint32) {
	m := uint32(1)
	for ; n > 0; n-- {
		b := sym & 1
		sym >>= 1
		r.bit(&p[m], b)
		m = m<<1 | b
	}
}

// direct codes the lowest n bits of v at even odds.
func (r *rangeEncoder) direct(v uint32, n uint) {
	for n > 0 {
		n--
		r.rng >>= 1
		if v>>n&1 != 0 {
			r.low += uint64(r.rng)
		}
		if r.rng < rangeTop {
			r.rng <<= 8
			r.shiftLow()
		}
	}
}

func (r *rangeEncoder) length(m *lenModel, n uint32, posState uint32) {
	n -= minMatch
	switch {
	case n < 8:
		r.bit(&m.choice, 0)
		r.tree(m.low[posState][:], 3, n)
	case n < 16:
		r.bit(&m.choice, 1)
		r.bit(&m.choice2, 0)
		r.tree(m.mid[posState][:], 3, n-8)
	default:
		r.bit(&m.choice, 1)
		r.bit(&m.choice2, 1)
		r.tree(m.high[:], 8, n-16)
	}
}

// distSlot names the power-of-two-and-a-half range that a distance (0 is the byte before)
// lies in.
func distSlot(dist uint32) uint32 {
	if dist < 4 {
		return dist
	}
	n := uint32(bits.Len32(dist)) - 1
	return n<<1 | dist>>(n-1)&1
}

func (r *rangeEncoder) distance(m *encModels, dist, length uint32) {
	slot := distSlot(dist)
	r.tree(m.slot[lenState(length)][:], 6, slot)
	if slot < 4 {
		return
	}
	foot := uint(slot>>1 - 1)
	base := (2 | slot&1) << foot
	rest := dist - base
	if slot < slotModels {
		r.reverse(m.special[base-slot:], foot, rest)
		return
	}
	r.direct(rest>>alignBits, foot-alignBits)
	r.reverse(m.align[:], alignBits, rest)
}

func lenState(length uint32) uint32 { return min(length-minMatch, lenStates-1) }

func (r *rangeEncoder) literal(p []uint16, b byte) {
	r.tree(p, 8, uint32(b))
}

// matchedLiteral codes a literal that follows a match. The byte that the match would have
// continued with is part of the context for as long as the bits agree with it.
func (r *rangeEncoder) matchedLiteral(p []uint16, b, match byte) {
	offset, m := uint32(0x100), uint32(1)
	mb, sym := uint32(match), uint32(b)
	for i := 7; i >= 0; i-- {
		mb <<= 1
		mbit := mb & offset
		b := sym >> uint(i) & 1
		r.bit(&p[offset+mbit+m], b)
		m = m<<1 | b
		if b != 0 {
			offset &= mbit
		} else {
			offset &^= mbit
		}
	}
}

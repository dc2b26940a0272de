package lzma

// Prices are what a decision costs in the output, in 1/64 of a bit. A patch is mostly
// decisions that are nearly certain, hence the fine unit: rounded to the 1/16 bit that is
// customary, "another rep match" would cost nothing at all.
const (
	priceShift  = 6
	priceReduce = 2 // low bits of a probability that a price ignores
	priceInf    = 1 << 30
)

// bitPrices[p>>priceReduce] is the price of a 0 bit where a 0 bit has probability p/2048.
var bitPrices = makeBitPrices()

// makeBitPrices takes logarithms by repeated squaring of integers: what math.Log2 returns
// may differ in the last bit from one machine to another, and prices decide output bytes.
func makeBitPrices() (t [1 << (probBits - priceReduce)]uint32) {
	for i := range t {
		// w is kept below 32 bits; n counts the bits taken away, each halved in worth by
		// every squaring that has not been done yet.
		w := uint64(i)<<priceReduce + 1<<priceReduce/2
		n := uint32(0)
		for range priceShift {
			w *= w
			n <<= 1
			for w >= 1<<32 {
				w >>= 1
				n++
			}
		}
		t[i] = probBits<<priceShift - 31 - n
	}
	return t
}

func price0(p uint16) uint32 { return bitPrices[p>>priceReduce&(1<<(probBits-priceReduce)-1)] }

func price1(p uint16) uint32 {
	return bitPrices[(p^(1<<probBits-1))>>priceReduce&(1<<(probBits-priceReduce)-1)]
}

func priceBit(p uint16, b uint32) uint32 {
	return bitPrices[(uint32(p)^(-b&(1<<probBits-1)))>>priceReduce&(1<<(probBits-priceReduce)-1)]
}

func priceTree(p []uint16, n uint, sym uint32) uint32 {
	price := uint32(0)
	sym |= 1 << n
	for sym != 1 {
		b := sym & 1
		sym >>= 1
		price += priceBit(p[sym], b)
	}
	return price
}

func priceReverse(p []uint16, n uint, sym uint32) uint32 {
	price, m := uint32(0), uint32(1)
	for ; n > 0; n-- {
		b := sym & 1
		sym >>= 1
		price += priceBit(p[m], b)
		m = m<<1 | b
	}
	return price
}

// priceLiteral and priceMatched price what rangeEncoder's literal and matchedLiteral code.
func priceLiteral(p []uint16, b byte) uint32 {
	p = p[:0x100]
	sym := uint32(b) | 0x100
	price := uint32(0)
	for sym != 1 {
		b := sym & 1
		sym >>= 1
		price += priceBit(p[sym&0xFF], b)
	}
	return price
}

func priceMatched(p []uint16, b, match byte) uint32 {
	p = p[:literalSize]
	price := uint32(0)
	offset := uint32(0x100)
	sym, mb := uint32(b)|0x100, uint32(match)
	for sym < 0x10000 {
		mb <<= 1
		mbit := mb & offset
		bit := sym >> 7 & 1
		price += priceBit(p[offset+mbit+sym>>8], bit)
		sym <<= 1
		offset &= ^(mb ^ sym)
	}
	return price
}

// lenPrices holds the price of every length for each position state, brought up to date
// after as many uses of a position state as there are lengths worth a table.
type lenPrices struct {
	price [maxPosSts][maxMatch + 1]uint32
	left  [maxPosSts]int
}

func (t *lenPrices) update(m *lenModel, ps int, top uint32) {
	a0, a1 := price0(m.choice), price1(m.choice)
	b0, b1 := a1+price0(m.choice2), a1+price1(m.choice2)
	p := &t.price[ps]
	for i := range uint32(8) {
		p[minMatch+i] = a0 + priceTree(m.low[ps][:], 3, i)
		p[minMatch+8+i] = b0 + priceTree(m.mid[ps][:], 3, i)
	}
	for i := uint32(16); i <= top-minMatch; i++ {
		p[minMatch+i] = b1 + priceTree(m.high[:], 8, i-16)
	}
	t.left[ps] = lenUses
}

// After how many uses a price table is computed anew.
const (
	lenUses   = 32
	distUses  = 64
	alignUses = 16
)

// distPrices holds prices of distances: every one below fullDists, and the slots of the
// others, whose lowest bits are priced by align.
type distPrices struct {
	full  [lenStates][fullDists]uint32
	slot  [lenStates][slotCount]uint32
	align [alignSize]uint32
}

func (t *distPrices) updateAlign(m *encModels) {
	for i := range t.align {
		t.align[i] = priceReverse(m.align[:], alignBits, uint32(i))
	}
}

func (t *distPrices) update(m *encModels, slots uint32) {
	var rest [fullDists]uint32
	for d := uint32(4); d < fullDists; d++ {
		slot := distSlot(d)
		foot := uint(slot>>1 - 1)
		base := (2 | slot&1) << foot
		rest[d] = priceReverse(m.special[base-slot:], foot, d-base)
	}
	for s := range t.slot {
		sp := &t.slot[s]
		for i := range slots {
			sp[i] = priceTree(m.slot[s][:], 6, i)
		}
		for d := range uint32(fullDists) {
			t.full[s][d] = sp[distSlot(d)] + rest[d]
		}
		for i := uint32(slotModels); i < slots; i++ {
			sp[i] += (i>>1 - 1 - alignBits) << priceShift
		}
	}
}

func (t *distPrices) of(dist, length uint32) uint32 {
	ls := lenState(length)
	if dist < fullDists {
		return t.full[ls][dist]
	}
	return t.slot[ls][distSlot(dist)&(slotCount-1)] + t.align[dist&(alignSize-1)]
}

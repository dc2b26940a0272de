package lzma

import (
	"fmt"
	"io"
)

// A coder turns symbols into chunks.
type coder struct {
	w   io.Writer
	err error

	buf   []byte // window: what a match may refer to, then what is not encoded yet
	pos   uint32 // index in buf of the next byte to encode
	start uint32 // index in buf of the first byte of the chunk that is open

	lc, lp, pb uint
	state      uint32
	reps       [4]uint32
	models     encModels
	rc         rangeEncoder

	needDict  bool // next chunk is the first
	needProps bool // next compressed chunk must name lc, lp and pb
	needState bool // next compressed chunk must start with fresh models

	last byte // what is at the last distance from the end of the part before
}

// setProps must be called between chunks.
func (c *coder) setProps(p Props) {
	lc, lp, pb := uint(p.LC), uint(p.LP), uint(p.PB)
	if lc != c.lc || lp != c.lp || pb != c.pb {
		c.lc, c.lp, c.pb = lc, lp, pb
		c.needProps, c.needState = true, true
	}
}

// plannedRep marks a symbol of a plan that repeats a distance. A match may have the distance of one, where it is cheaper.
const plannedRep = 1 << 31

// planned returns a symbol as follow takes it: of a repeated distance not the place among the last ones, but the distance.
func (c *coder) planned(s step) step {
	if s.back < 4 {
		s.back = c.reps[s.back] | plannedRep
	}
	return s
}

// follow encodes a part of the content, whose symbols were planned by somebody who did not know what came before: the
// models and the last distances are those of the part before, if that has the same properties. Where ChooseProps was called
// they begin anew also if the properties stay: what comes is of another kind, of which the models know nothing.
func (c *coder) follow(p *part) error {
	c.w = &p.packed
	c.buf, c.pos, c.start = p.buf, uint32(p.known), uint32(p.known)
	for _, b := range p.blocks {
		if len(b.plan) == 0 {
			continue
		}
		if b.fresh || b.props != (Props{int(c.lc), int(c.lp), int(c.pb)}) {
			if c.pos > c.start {
				c.endChunk(c.pos)
			}
			c.setProps(b.props)
			c.needState = true
		}
		for _, s := range b.plan {
			if c.pos == c.start {
				c.beginChunk()
			}
			c.symbol(c.again(s))
			if c.pos += s.length; c.pos-c.start > chunkPlain-maxMatch || c.rc.size() > chunkPacked-symbolMax {
				c.endChunk(c.pos)
			}
		}
	}
	if c.pos > c.start {
		c.endChunk(c.pos)
	}
	if c.state >= firstMatchState {
		c.last = c.atDistance()
	}
	c.buf = nil
	return c.err
}

// again returns a planned symbol as it is encoded now, when the last distances may be others.
func (c *coder) again(s step) step {
	if s.back == backLiteral || s.back&plannedRep == 0 {
		return s
	}
	distance := s.back &^ plannedRep
	for k, d := range c.reps {
		if d == distance && (k == 0 || s.length > 1) {
			return step{uint32(k), s.length}
		}
	}
	if s.length == 1 {
		return step{backLiteral, 1}
	}
	return step{distance + 4, s.length}
}

// atDistance returns the byte at the last distance.
func (c *coder) atDistance() byte {
	if c.reps[0] >= c.pos {
		return c.last // only where the part before ended with a match and this one begins
	}
	return c.buf[c.pos-c.reps[0]-1]
}

func (c *coder) beginChunk() {
	c.rc.reset()
	if c.needState {
		c.models.reset(int(c.lc + c.lp))
		c.state = 0
		c.reps = [4]uint32{}
	}
}

// endChunk writes the open chunk, compressed if that makes it smaller. Otherwise it goes on to head.
func (c *coder) endChunk(head uint32) {
	c.rc.flush()
	plain, packed := c.pos-c.start, uint32(len(c.rc.out))
	if packed >= plain {
		c.stored(head)
		return
	}
	header := [6]byte{
		byte(0x80 | (plain-1)>>16), byte((plain - 1) >> 8), byte(plain - 1),
		byte((packed - 1) >> 8), byte(packed - 1),
		byte((c.pb*5+c.lp)*9 + c.lc),
	}
	h := header[:5]
	switch {
	case c.needDict:
		h = header[:6]
		h[0] |= 3 << 5
	case c.needProps:
		h = header[:6]
		h[0] |= 2 << 5
	case c.needState:
		h[0] |= 1 << 5
	}
	c.needDict, c.needProps, c.needState = false, false, false
	c.write(h)
	c.write(c.rc.out)
	c.start = c.pos
}

// stored writes the open chunk as it is, up to where the parser has already looked.
// What the parser had planned refers to a state that will not be, and the finder cannot go
// back.
func (c *coder) stored(head uint32) {
	c.pos = head
	for c.start < c.pos {
		n := min(c.pos-c.start, chunkPacked)
		control := byte(2)
		if c.needDict {
			control = 1
		}
		c.needDict = false
		c.write([]byte{control, byte((n - 1) >> 8), byte(n - 1)})
		c.write(c.buf[c.start : c.start+n])
		c.start += n
	}
	c.needState = true
}

func (c *coder) write(p []byte) {
	if c.err == nil {
		if _, err := c.w.Write(p); err != nil {
			c.err = fmt.Errorf("lzma: write chunk: %w", err)
		}
	}
}

// literalProbs returns the models for a literal at position p behind byte prev.
func (c *coder) literalProbs(p uint32, prev byte) []uint16 {
	ctx := (p&(1<<c.lp-1))<<c.lc | uint32(prev)>>(8-c.lc)
	i := ctx * literalSize
	return c.models.literal[i : i+literalSize : i+literalSize]
}

func (c *coder) prev(i uint32) byte {
	if i == 0 {
		return 0
	}
	return c.buf[i-1]
}

// symbol codes one step of the parse at c.pos. LZMA counts positions, of which some bits are
// context, from the start of the stream; slide moves by multiples of 64, so an index in buf
// has the same bits.
func (c *coder) symbol(s step) {
	m, rc := &c.models, &c.rc
	pos := c.pos
	ps := pos & (1<<c.pb - 1)
	st := c.state
	if s.back == backLiteral {
		rc.bit(&m.isMatch[st][ps], 0)
		p := c.literalProbs(pos, c.prev(c.pos))
		if st < firstMatchState {
			rc.literal(p, c.buf[c.pos])
		} else {
			rc.matchedLiteral(p, c.buf[c.pos], c.atDistance())
		}
		c.state = uint32(stateLiteral[st])
		return
	}
	rc.bit(&m.isMatch[st][ps], 1)
	if s.back >= 4 {
		dist := s.back - 4
		rc.bit(&m.isRep[st], 0)
		rc.length(&m.matchLen, s.length, ps)
		rc.distance(m, dist, s.length)
		c.reps = [4]uint32{dist, c.reps[0], c.reps[1], c.reps[2]}
		c.state = uint32(stateMatch[st])
		return
	}
	rc.bit(&m.isRep[st], 1)
	if s.back == 0 {
		rc.bit(&m.isRepG0[st], 0)
		if s.length == 1 {
			rc.bit(&m.isRep0Long[st][ps], 0)
			c.state = uint32(stateShortRep[st])
			return
		}
		rc.bit(&m.isRep0Long[st][ps], 1)
	} else {
		dist := c.reps[s.back]
		rc.bit(&m.isRepG0[st], 1)
		if s.back == 1 {
			rc.bit(&m.isRepG1[st], 0)
		} else {
			rc.bit(&m.isRepG1[st], 1)
			rc.bit(&m.isRepG2[st], s.back-2)
			if s.back == 3 {
				c.reps[3] = c.reps[2]
			}
			c.reps[2] = c.reps[1]
		}
		c.reps[1] = c.reps[0]
		c.reps[0] = dist
	}
	rc.length(&m.repLen, s.length, ps)
	c.state = uint32(stateRep[st])
}

package xz

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// Filter is a code filter (BCJ): it turns the relative targets of calls and jumps of one architecture into
// absolute ones, which repeat and so compress better.
type Filter uint8

// The code filters. All start at offset 0.
const (
	None Filter = iota
	X86
	PowerPC
	IA64
	ARM
	ARMThumb
	SPARC
	ARM64
)

var filterNames = [...]string{None: "none", X86: "x86", PowerPC: "powerpc", IA64: "ia64", ARM: "arm", ARMThumb: "armthumb", SPARC: "sparc", ARM64: "arm64"}

// String returns the name that the xz program has for the filter, "none" for None.
func (f Filter) String() string {
	if int(f) < len(filterNames) {
		return filterNames[f]
	}
	return "invalid"
}

// id is the filter's number in block headers: they are given in the order of the constants.
func (f Filter) id() uint64 { return uint64(f) + 3 }

// filterByID returns None for everything that is no code filter.
func filterByID(id uint64) Filter {
	if id < X86.id() || id > ARM64.id() {
		return None
	}
	return Filter(id - 3)
}

// converter changes bytes in place, as a stream.
type converter interface {
	// convert changes what it can and returns how many bytes are final. The caller hands in the others again,
	// with more behind them; at the end of the data they stay as they are.
	convert(b []byte) int
}

// newConverter returns what reverses a filter of a block.
func newConverter(f filterSpec) converter {
	if f.id == idDelta {
		return &delta{distance: int(f.props[0]) + 1}
	}
	return newCode(filterByID(f.id), false)
}

// newCode returns the converter of a code filter that is not None.
func newCode(f Filter, encode bool) converter {
	if f == X86 {
		return &x86{encode: encode, last: -8}
	}
	c := &code{encode: encode}
	switch f {
	case PowerPC:
		c.step = powerPC
	case IA64:
		c.step = ia64
	case ARM:
		c.step = arm
	case ARMThumb:
		c.step = armThumb
	case SPARC:
		c.step = sparc
	case ARM64:
		c.step = arm64
	}
	return c
}

// delta adds to each byte the one distance before.
type delta struct {
	distance int
	history  [256]byte
	at       int
}

func (d *delta) convert(b []byte) int {
	head := min(d.distance, len(b))
	for i := range head {
		b[i] += d.history[d.at]
		d.at++
		if d.at == d.distance {
			d.at = 0
		}
	}
	for i := head; i < len(b); i++ {
		b[i] += b[i-d.distance]
	}
	// Remember the last distance bytes, the oldest of them at index at.
	if len(b) >= d.distance {
		copy(d.history[:], b[len(b)-d.distance:])
		d.at = 0
		return len(b)
	}
	for i := range b {
		d.history[(d.at-len(b)+i+d.distance)%d.distance] = b[i]
	}
	return len(b)
}

// code is a filter that looks at instructions at fixed steps.
type code struct {
	encode bool
	pos    uint32
	step   func(b []byte, pos uint32, encode bool) int
}

func (c *code) convert(b []byte) int {
	n := c.step(b, c.pos, c.encode)
	c.pos += uint32(n)
	return n
}

// target adds an instruction's address to a target, or takes it away again.
func target(v, pc uint32, encode bool) uint32 {
	if encode {
		return v + pc
	}
	return v - pc
}

// arm: BL with condition "always", 24 bits of words, relative to the instruction + 8.
func arm(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+4 <= len(b); i += 4 {
		v := binary.LittleEndian.Uint32(b[i:])
		if v>>24 == 0xEB {
			v = target(v<<2, pos+uint32(i)+8, encode) >> 2
			binary.LittleEndian.PutUint32(b[i:], 0xEB<<24|v&0xFFFFFF)
		}
	}
	return i
}

// armThumb: the pair of half words of BL, 11 bits each.
func armThumb(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+4 <= len(b); i += 2 {
		v := binary.LittleEndian.Uint32(b[i:])
		if v&0xF800F800 == 0xF800F000 {
			t := target((v&0x7FF<<11|v>>16&0x7FF)<<1, pos+uint32(i)+4, encode) >> 1
			binary.LittleEndian.PutUint32(b[i:], 0xF800F000|t>>11&0x7FF|t&0x7FF<<16)
			i += 2
		}
	}
	return i
}

// arm64: BL with 26 bits of words; ADRP with 21 bits of pages, of which those within 512 MiB are changed.
func arm64(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+4 <= len(b); i += 4 {
		v := binary.LittleEndian.Uint32(b[i:])
		pc := pos + uint32(i)
		switch {
		case v>>26 == 0x25:
			t := target(v, pc>>2, encode)
			binary.LittleEndian.PutUint32(b[i:], 0x94000000|t&0x03FFFFFF)
		case v&0x9F000000 == 0x90000000:
			page := v>>29&3 | v>>3&0x1FFFFC
			if (page+0x20000)&0x1C0000 != 0 {
				continue
			}
			t := target(page, pc>>12, encode)
			v = v&0x9000001F | t&3<<29 | t&0x3FFFC<<3
			if t&0x20000 != 0 {
				v |= 0xE00000
			}
			binary.LittleEndian.PutUint32(b[i:], v)
		}
	}
	return i
}

// powerPC: bl, 24 bits of words, big endian.
func powerPC(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+4 <= len(b); i += 4 {
		v := binary.BigEndian.Uint32(b[i:])
		if v&0xFC000003 == 0x48000001 {
			t := target(v&0x03FFFFFC, pos+uint32(i), encode)
			binary.BigEndian.PutUint32(b[i:], 0x48000001|t&0x03FFFFFC)
		}
	}
	return i
}

// sparc: call whose upper 8 of 30 bits are all equal to bit 22.
func sparc(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+4 <= len(b); i += 4 {
		v := binary.BigEndian.Uint32(b[i:])
		if top := v >> 22; top == 0x100 || top == 0x1FF {
			t := target(v<<2, pos+uint32(i), encode) >> 2
			sign := -(t >> 22 & 1) << 22 & 0x3FFFFFFF
			binary.BigEndian.PutUint32(b[i:], 0x40000000|sign|t&0x3FFFFF)
		}
	}
	return i
}

// ia64Slots tells by a bundle's template which of its three instructions may be branches.
var ia64Slots = [32]uint8{16: 4, 4, 6, 6, 0, 0, 7, 7, 4, 4, 0, 0, 4, 4, 0, 0}

// ia64: bundles of 16 bytes: 5 bits of template, three instructions of 41 bits.
func ia64(b []byte, pos uint32, encode bool) int {
	i := 0
	for ; i+16 <= len(b); i += 16 {
		slots := ia64Slots[b[i]&0x1F]
		for slot := range 3 {
			if slots>>slot&1 == 0 {
				continue
			}
			bit := 5 + 41*slot
			six := b[i+bit>>3:][:6]
			v := uint64(binary.LittleEndian.Uint32(six)) | uint64(binary.LittleEndian.Uint16(six[4:]))<<32
			in := v >> (bit & 7)
			if in>>37&0xF != 5 || in>>9&7 != 0 {
				continue
			}
			t := uint32(in>>13&0xFFFFF) | uint32(in>>36&1)<<20
			t = target(t<<4, pos+uint32(i), encode) >> 4
			in &^= 0x8FFFFF << 13
			in |= uint64(t&0xFFFFF)<<13 | uint64(t&0x100000)<<16
			v = v&(1<<(bit&7)-1) | in<<(bit&7)
			binary.LittleEndian.PutUint32(six, uint32(v))
			binary.LittleEndian.PutUint16(six[4:], uint16(v>>32))
		}
	}
	return i
}

// x86 changes the four bytes behind E8 (call) and E9 (jmp) where they look like a target: the highest is 00 or
// FF. It remembers which of the last bytes were opcodes, because targets that overlap are left alone.
type x86 struct {
	encode bool
	pos    uint32
	last   int    // where the last opcode was, relative to the next byte; below -4: too far to matter
	mask   uint32 // low nibble: opcodes at the last positions; high nibble: those with 00 or FF in the fifth byte
}

// x86Check says which byte of a result has to be looked at, by the opcodes before.
var x86Check = [5]uint{0, 1, 2, 2, 3}

const (
	eachByte = 0x0101010101010101
	topBits  = 0x8080808080808080
)

func (x *x86) convert(b []byte) int {
	end := len(b) - 5
	if end < 0 {
		return 0
	}
	i, last, mask, pos := 0, x.last, x.mask, x.pos
	for i <= end {
		// Skip what is neither E8 nor E9, eight bytes at a time.
		for i+8 <= len(b) {
			v := binary.LittleEndian.Uint64(b[i:])&(0xFE*eachByte) ^ 0xE8*eachByte
			if hit := (v - eachByte) &^ v & topBits; hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			i += 8
		}
		if i > end {
			break
		}
		if b[i]&0xFE != 0xE8 {
			i++
			continue
		}
		if i-last > 3 {
			mask = 0
		} else {
			for range i - last {
				mask = mask & 0x77 << 1
			}
		}
		last = i
		top := b[i+4]
		far := top != 0 && top != 0xFF
		if far || mask>>1 > 4 || mask>>1 == 3 {
			mask |= 1
			if !far {
				mask |= 0x10
			}
			i++
			continue
		}
		at := b[i+1 : i+5]
		v := binary.LittleEndian.Uint32(at)
		t := target(v, pos+uint32(i)+5, x.encode)
		for mask != 0 {
			k := x86Check[mask>>1] * 8
			if h := byte(t >> (24 - k)); h != 0 && h != 0xFF {
				break
			}
			t = target(t^(1<<(32-k)-1), pos+uint32(i)+5, x.encode)
		}
		binary.LittleEndian.PutUint32(at, t&0x1FFFFFF|-(t>>24&1)<<24)
		i += 5
		mask = 0
	}
	x.last, x.mask, x.pos = max(last-i, -8), mask, pos+uint32(i)
	return i
}

// convertReader reads through a converter.
type convertReader struct {
	r                io.Reader
	c                converter
	buf              []byte
	out, final, have int // buf[out:final] can be handed out, buf[final:have] is not converted yet
	err              error
}

func newConvertReader(r io.Reader, c converter) *convertReader {
	return &convertReader{r: r, c: c, buf: make([]byte, 64<<10)}
}

func (c *convertReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.out == c.final {
		if c.err != nil {
			return 0, c.err
		}
		c.have = copy(c.buf, c.buf[c.final:c.have])
		c.out, c.final = 0, 0
		var n int
		n, c.err = c.r.Read(c.buf[c.have:])
		c.have += n
		c.final = c.c.convert(c.buf[:c.have])
		if errors.Is(c.err, io.EOF) {
			c.final = c.have
		}
	}
	n := copy(p, c.buf[c.out:c.final])
	c.out += n
	return n, nil
}

// convertWriter writes through a converter.
type convertWriter struct {
	w    io.Writer
	c    converter
	buf  []byte
	have int // bytes of buf that are not converted yet
}

func newConvertWriter(w io.Writer, c converter) *convertWriter {
	return &convertWriter{w: w, c: c, buf: make([]byte, 64<<10)}
}

func (c *convertWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := copy(c.buf[c.have:], p[done:])
		done += n
		c.have += n
		final := c.c.convert(c.buf[:c.have])
		if _, err := c.w.Write(c.buf[:final]); err != nil {
			return done, err
		}
		c.have = copy(c.buf, c.buf[final:c.have])
	}
	return done, nil
}

// flush writes the bytes at the end that no instruction fills.
func (c *convertWriter) flush() error {
	_, err := c.w.Write(c.buf[:c.have])
	c.have = 0
	return err
}

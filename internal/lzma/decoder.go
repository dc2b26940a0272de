package lzma

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt is the error of every LZMA2 stream that cannot be decoded: a chunk that may not stand where it
// does, a distance behind the dictionary, a chunk that does not end where it says. Errors of the decoder
// wrap it and say which.
var ErrCorrupt = errors.New("lzma: corrupt LZMA2 data")

// ErrShort is the error of a stream that holds more than the destination of DecodeInto.
var ErrShort = errors.New("lzma: the stream holds more than the destination takes")

// Sizes of LZMA2: a chunk says its compressed size in 16 bits and its uncompressed size in 21 bits.
const (
	maxChunkPacked = 1 << 16
	maxChunkPlain  = 1 << 21
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// chunk is the header of one LZMA2 chunk.
type chunk struct {
	control byte
	props   byte
	plain   int // bytes it gives
	packed  int // bytes that follow the header; equal to plain in a chunk that is not compressed
}

// headerSize returns how many bytes the header has that begins with this control byte.
func headerSize(control byte) int {
	switch {
	case control == 0:
		return 1
	case control < 0x80:
		return 3
	case control < 0xC0:
		return 5
	}
	return 6
}

// parseChunk reads a header whose length headerSize told.
func parseChunk(h []byte) chunk {
	c := chunk{control: h[0]}
	if c.control == 0 {
		return c
	}
	c.plain = int(binary.BigEndian.Uint16(h[1:])) + 1
	if c.control < 0x80 {
		c.packed = c.plain
		return c
	}
	c.plain += int(c.control&0x1F) << 16
	c.packed = int(binary.BigEndian.Uint16(h[3:])) + 1
	if c.control >= 0xC0 {
		c.props = h[5]
	}
	return c
}

// sequence holds the rules of which chunk may follow which.
type sequence struct {
	started  bool // a chunk has reset the dictionary
	hasProps bool // a chunk has set lc, lp and pb since
}

// next checks that c may follow what came before.
func (s *sequence) next(c chunk) error {
	switch {
	case c.control >= 0xE0 || c.control == 1:
		s.started, s.hasProps = true, false
	case !s.started:
		return corrupt("the first chunk (control byte 0x%02x) does not reset the dictionary", c.control)
	}
	switch {
	case c.control >= 0xC0:
		if _, _, _, ok := splitProps(c.props); !ok {
			return corrupt("properties 0x%02x", c.props)
		}
		s.hasProps = true
	case c.control >= 0x80:
		if !s.hasProps {
			return corrupt("a chunk (control byte 0x%02x) without properties", c.control)
		}
	case c.control > 2:
		return corrupt("control byte 0x%02x", c.control)
	}
	return nil
}

// splitProps takes the properties byte apart: (pb*5 + lp)*9 + lc. LZMA2 takes lc+lp up to 4.
func splitProps(b byte) (lc, lp, pb uint, ok bool) {
	if b >= 9*5*5 {
		return 0, 0, 0, false
	}
	lc, b = uint(b%9), b/9
	lp, pb = uint(b%5), uint(b/5)
	return lc, lp, pb, lc+lp <= 4
}

// decoder decodes the chunks of one LZMA2 stream into a slice that holds the dictionary as well.
type decoder struct {
	sequence
	m        decModel
	dictSize int
	base     int // where the last dictionary reset was, an index into the slice; below 0 once the slice slid on
	last     *packedChunk
}

// chunk decodes one chunk, whose compressed bytes src begins with, to dst[pos:pos+c.plain]; what stands before pos is
// the dictionary. Bytes of dst behind the chunk may be overwritten with anything.
func (d *decoder) chunk(dst []byte, pos int, c chunk, src []byte) error {
	if err := d.next(c); err != nil {
		return err
	}
	if c.control >= 0xE0 || c.control == 1 {
		d.base = pos
	}
	if c.control < 0x80 {
		copy(dst[pos:pos+c.plain], src)
		return nil
	}
	if c.control >= 0xC0 {
		lc, lp, pb, _ := splitProps(c.props)
		d.m.lc, d.m.lpMask, d.m.pbMask = lc, 1<<lp-1, 1<<pb-1
		d.m.litUsed = 1 << (lc + lp)
	}
	if c.control >= 0xA0 {
		d.m.reset()
	}
	var packed *packedChunk
	if len(src) >= maxChunkPacked {
		packed = (*packedChunk)(src)
	} else {
		if d.last == nil {
			d.last = new(packedChunk)
		}
		packed = d.last
		copy(packed[:], src[:c.packed])
	}
	return d.m.run(dst, pos, pos+c.plain, d.base, d.dictSize, packed, c.packed)
}

// DecodeInto decodes a whole LZMA2 stream, to its end marker, from the start of src straight into dst: what has
// been written is the dictionary, so that nothing is copied twice. Distances beyond dictSize bytes are refused,
// as a decoder with a dictionary of that size would. It returns how many bytes of dst were filled and how many
// of src were read. Bytes of dst behind n have any value afterwards.
//
// Errors wrap ErrCorrupt, ErrShort, or io.ErrUnexpectedEOF where src ends before the end marker; n and consumed
// then tell the last chunk that was whole. DecodeInto is safe for concurrent use on different destinations.
func DecodeInto(dst, src []byte, dictSize int) (n, consumed int, err error) {
	d := decoder{dictSize: dictSize}
	for {
		if consumed >= len(src) {
			return n, consumed, io.ErrUnexpectedEOF
		}
		h := headerSize(src[consumed])
		if len(src)-consumed < h {
			return n, consumed, io.ErrUnexpectedEOF
		}
		c := parseChunk(src[consumed:])
		if c.control == 0 {
			return n, consumed + 1, nil
		}
		if c.packed > len(src)-consumed-h {
			return n, consumed, io.ErrUnexpectedEOF
		}
		if c.plain > len(dst)-n {
			return n, consumed, ErrShort
		}
		if err := d.chunk(dst, n, c, src[consumed+h:]); err != nil {
			return n, consumed, err
		}
		n += c.plain
		consumed += h + c.packed
	}
}

// Walk reads a whole LZMA2 stream, to its end marker, without decoding it: it checks the headers of the chunks
// and their order, and returns how many bytes the stream has and how many it will give. It needs no dictionary.
func Walk(r *bufio.Reader) (packed, plain int64, err error) {
	var s sequence
	var buf [6]byte
	for {
		c, h, err := readHeader(r, &buf)
		if err != nil {
			return packed, plain, err
		}
		packed += int64(h)
		if c.control == 0 {
			return packed, plain, nil
		}
		if err := s.next(c); err != nil {
			return packed, plain, err
		}
		n, err := r.Discard(c.packed)
		packed += int64(n)
		if err != nil {
			return packed, plain, noEOF(err)
		}
		plain += int64(c.plain)
	}
}

func readHeader(r io.Reader, buf *[6]byte) (chunk, int, error) {
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return chunk{}, 0, noEOF(err)
	}
	h := headerSize(buf[0])
	if _, err := io.ReadFull(r, buf[1:h]); err != nil {
		return chunk{}, 0, noEOF(err)
	}
	return parseChunk(buf[:h]), h, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Decoder reads what an LZMA2 stream holds. It is not safe for concurrent use.
type Decoder struct {
	r      io.Reader
	d      decoder
	window []byte // grows with what is decoded, never with what a header claims
	pos    int    // end of what is decoded
	out    int    // end of what was handed out
	in     int64
	packed *packedChunk
	err    error
}

// NewDecoder returns a Decoder of the LZMA2 stream that r begins with. It reads from r exactly the bytes of the
// stream, in small pieces: r should be buffered. Read returns io.EOF behind the stream's end marker.
//
// dictSize is what the stream's container declares. Memory grows with what is decoded, up to 1.25 times
// dictSize + 4 MiB; nothing is allocated before.
func NewDecoder(r io.Reader, dictSize int) *Decoder {
	return &Decoder{r: r, d: decoder{dictSize: dictSize}}
}

// Consumed returns how many bytes of the stream were read so far.
func (d *Decoder) Consumed() int64 { return d.in }

// Read implements io.Reader. Errors other than those of the underlying reader wrap ErrCorrupt; a stream that
// ends early is io.ErrUnexpectedEOF.
func (d *Decoder) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.out == d.pos {
		if d.err != nil {
			return 0, d.err
		}
		d.err = d.more()
	}
	n := copy(p, d.window[d.out:d.pos])
	d.out += n
	return n, nil
}

// more decodes the next chunk.
func (d *Decoder) more() error {
	var buf [6]byte
	c, h, err := readHeader(d.r, &buf)
	if err != nil {
		return err
	}
	d.in += int64(h)
	if c.control == 0 {
		return io.EOF
	}
	if d.packed == nil {
		d.packed = new(packedChunk)
	}
	n, err := io.ReadFull(d.r, d.packed[:c.packed])
	d.in += int64(n)
	if err != nil {
		return noEOF(err)
	}
	d.room(c.plain)
	if err := d.d.chunk(d.window, d.pos, c, d.packed[:]); err != nil {
		return err
	}
	d.pos += c.plain
	return nil
}

// room makes place for n more bytes behind pos. Everything decoded so far has been handed out.
func (d *Decoder) room(n int) {
	if d.pos+n <= len(d.window) {
		return
	}
	limit := d.d.dictSize + max(d.d.dictSize/4, maxChunkPlain) + maxChunkPlain
	if d.pos+n > limit {
		// Keep what matches can reach.
		by := d.pos - d.d.dictSize
		copy(d.window, d.window[by:d.pos])
		d.pos -= by
		d.out -= by
		if d.d.base -= by; d.d.base < 0 {
			// How far back it is does not matter any more, only what the position bits are.
			d.d.base = d.d.base&15 - 16
		}
	}
	if d.pos+n > len(d.window) {
		grown := make([]byte, min(max(2*len(d.window), d.pos+n), max(limit, d.pos+n)))
		copy(grown, d.window[:d.pos])
		d.window = grown
	}
}

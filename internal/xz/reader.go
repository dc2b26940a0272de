package xz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

var errClosed = errors.New("xz: read after Close")

// Reader reads what an xz file holds, over all its blocks and streams. Its memory is bounded by the
// dictionary's size, not by the file's. A Reader is not safe for concurrent use; several Readers are.
type Reader struct {
	in    input
	lim   bounds
	check Check
	block *blockReader
	seen  ledger // blocks of this stream
	out   int64
	err   error
}

// input counts what is read, so that errors can tell the place.
type input struct {
	*bufio.Reader
	off int64
}

func (c *input) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.off += int64(n)
	return n, err
}

// ledger sums up blocks, to be compared with the index, without keeping them.
type ledger struct {
	count uint64
	hash  hash.Hash
}

func (l *ledger) add(r record) {
	if l.hash == nil {
		l.hash = sha256.New()
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r.unpadded))
	binary.LittleEndian.PutUint64(b[8:], uint64(r.plain))
	l.hash.Write(b[:])
	l.count++
}

func (l *ledger) equal(o *ledger) bool {
	if l.count != o.count {
		return false
	}
	return l.count == 0 || bytes.Equal(l.hash.Sum(nil), o.hash.Sum(nil))
}

// NewReader returns a Reader of the xz file in r, which it reads to the end. It reads the stream header at
// once and reports what is wrong with it. Limits may be nil for the defaults.
//
// Errors of the Reader are *Error with the place, or those of r. Data that came before an error is from blocks
// whose check has not been verified yet: only io.EOF says that everything is as it was compressed.
func NewReader(r io.Reader, lim *Limits) (*Reader, error) {
	z := &Reader{in: input{Reader: bufio.NewReaderSize(r, 64<<10)}, lim: lim.bounds()}
	if err := z.header(); err != nil {
		return nil, err
	}
	return z, nil
}

// Close makes every further Read fail. It does not close the underlying reader.
func (z *Reader) Close() error {
	z.err, z.block = errClosed, nil
	return nil
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for z.err == nil {
		if z.block == nil {
			z.err = z.structure()
			continue
		}
		if left := z.lim.Output - z.out; left < int64(len(p)) {
			p = p[:left+1] // one more, to see the excess
		}
		n, err := z.block.plain.Read(p)
		z.out += int64(n)
		z.block.out += int64(n)
		switch {
		case err != nil && err != io.EOF:
			z.err = broken(z.block.start, "block", err)
		default:
			if what := z.lim.TooMuch(z.in.off, z.out); what != "" {
				z.err = failure(z.block.start, ErrLimit, "%s", what)
				return 0, z.err
			}
			if z.block.digest != nil {
				z.block.digest.Write(p[:n])
			}
			if err == io.EOF {
				z.err = z.endBlock()
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, z.err
}

// header reads a stream header.
func (z *Reader) header() error {
	var b [edgeSize]byte
	start := z.in.off
	if err := z.full(b[:], "stream header"); err != nil {
		return err
	}
	check, err := parseHeader(b[:], start)
	z.check, z.seen = check, ledger{}
	return err
}

func (z *Reader) full(b []byte, what string) error {
	start := z.in.off
	if _, err := io.ReadFull(&z.in, b); err != nil {
		return broken(start, what, err)
	}
	return nil
}

// structure reads what stands between the data of two blocks: a block header, or the end of the stream and the
// header of the next one. It returns io.EOF at the end of the file.
func (z *Reader) structure() error {
	h, n, err := readBlockHeader(&z.in)
	if err != nil {
		return err
	}
	if h != nil {
		start := z.in.off - int64(n)
		if h.dict > z.lim.dict {
			return failure(start, ErrLimit, "a dictionary of %d bytes, %d are allowed", h.dict, z.lim.dict)
		}
		if h.plain > 0 {
			if h.plain > z.lim.Output-z.out {
				return failure(start, ErrLimit, "the block header promises %d bytes, more output than allowed", h.plain)
			}
		}
		z.block = newBlockReader(&z.in, h, n, start, z.check)
		return nil
	}
	if err := readTail(&z.in, &z.seen, z.check); err != nil {
		return err
	}
	if err := z.in.skipPadding(); err != nil {
		return err
	}
	return z.header()
}

// readBlockHeader reads a block header. It returns nil where the index begins instead, its first byte read.
func readBlockHeader(in *input) (*blockHeader, int, error) {
	var b [maxBlockHeader]byte
	start := in.off
	if _, err := io.ReadFull(in, b[:1]); err != nil {
		return nil, 0, broken(start, "block header", err)
	}
	if b[0] == 0 {
		return nil, 0, nil
	}
	n := (int(b[0]) + 1) * 4
	if _, err := io.ReadFull(in, b[1:n]); err != nil {
		return nil, 0, broken(start, "block header", err)
	}
	h, err := parseBlockHeader(b[:n], start)
	return h, n, err
}

// readTail reads the index, whose first byte has been read, and the footer, and compares them with the blocks.
func readTail(in *input, seen *ledger, check Check) error {
	start := in.off - 1
	crc := crc32.NewIEEE()
	crc.Write([]byte{0})
	number := func() (uint64, error) {
		var b [9]byte
		for i := range b {
			if _, err := io.ReadFull(in, b[i:i+1]); err != nil {
				return 0, broken(start, "index", err)
			}
			if b[i] < 0x80 {
				crc.Write(b[:i+1])
				if v, n := vli(b[:i+1]); n > 0 {
					return v, nil
				}
				break
			}
		}
		return 0, failure(start, ErrFormat, "the index has a malformed number")
	}
	var told ledger
	count, err := number()
	if err != nil {
		return err
	}
	if count != seen.count {
		return failure(start, ErrFormat, "the index tells of %d blocks, there are %d", count, seen.count)
	}
	for range count {
		var r [2]uint64
		for i := range r {
			if r[i], err = number(); err != nil {
				return err
			}
		}
		told.add(record{int64(r[0]), int64(r[1])})
	}
	if !told.equal(seen) {
		return failure(start, ErrFormat, "the index tells of other blocks than there are")
	}
	var b [4 + edgeSize]byte
	pad := b[:padding(in.off-start)]
	if _, err := io.ReadFull(in, pad); err != nil {
		return broken(start, "index", err)
	}
	for _, z := range pad {
		if z != 0 {
			return failure(start, ErrFormat, "the padding of the index is not zero")
		}
	}
	crc.Write(pad)
	if _, err := io.ReadFull(in, b[:4]); err != nil {
		return broken(start, "index", err)
	}
	if crc.Sum32() != binary.LittleEndian.Uint32(b[:]) {
		return failure(start, ErrFormat, "the CRC of the index is wrong")
	}
	foot := in.off
	if _, err := io.ReadFull(in, b[:edgeSize]); err != nil {
		return broken(foot, "stream footer", err)
	}
	size, flags, err := parseFooter(b[:edgeSize], foot)
	switch {
	case err != nil:
		return err
	case size != foot-start:
		return failure(foot, ErrFormat, "the footer says %d bytes of index, there are %d", size, foot-start)
	case flags != [2]byte{0, check.id()}:
		return failure(foot, ErrFormat, "footer and header have different flags")
	}
	return nil
}

// skipPadding reads the zeros between two streams, in fours. It returns io.EOF where nothing follows.
func (c *input) skipPadding() error {
	for {
		b, err := c.Peek(4)
		switch {
		case len(b) == 0 && errors.Is(err, io.EOF):
			return io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return broken(c.off, "padding", err)
		case string(b) != "\x00\x00\x00\x00":
			return nil
		}
		n, _ := c.Discard(4) // they have just been seen
		c.off += int64(n)
	}
}

// blockReader reads the data of one block.
type blockReader struct {
	h      *blockHeader
	hSize  int
	start  int64
	lzma   *lzma.Decoder
	plain  io.Reader
	digest hash.Hash
	out    int64
}

func newBlockReader(in *input, h *blockHeader, hSize int, start int64, check Check) *blockReader {
	b := &blockReader{h: h, hSize: hSize, start: start, digest: check.digest()}
	b.lzma = lzma.NewDecoder(in, int(min(h.dict, maxDict)))
	b.plain = b.lzma
	for i := len(h.filters) - 2; i >= 0; i-- {
		b.plain = newConvertReader(b.plain, newConverter(h.filters[i]))
	}
	return b
}

// endBlock checks a block's sizes, padding and check.
func (z *Reader) endBlock() error {
	b := z.block
	z.block = nil
	packed := b.lzma.Consumed()
	if err := b.h.sizes(b.start, packed, b.out); err != nil {
		return err
	}
	var buf [3 + 32]byte
	pad := int(padding(packed)) // headers are multiples of four
	end := buf[:pad+z.check.size()]
	if err := z.full(end, "check of the block"); err != nil {
		return err
	}
	z.seen.add(record{int64(b.hSize) + packed + int64(z.check.size()), b.out})
	return verifyCheck(b.start, end[:pad], end[pad:], z.check, b.digest)
}

// sizes compares a block's sizes with those in its header.
func (h *blockHeader) sizes(start, packed, plain int64) error {
	if h.packed >= 0 && h.packed != packed {
		return failure(start, ErrCorrupt, "the block has %d compressed bytes, its header says %d", packed, h.packed)
	}
	if h.plain >= 0 && h.plain != plain {
		return failure(start, ErrCorrupt, "the block gives %d bytes, its header says %d", plain, h.plain)
	}
	return nil
}

func zeroPadding(start int64, pad []byte) error {
	for _, c := range pad {
		if c != 0 {
			return failure(start, ErrFormat, "the padding of the block is not zero")
		}
	}
	return nil
}

// verifyCheck compares a block's padding and check with what they must be.
func verifyCheck(start int64, pad, want []byte, check Check, digest hash.Hash) error {
	if err := zeroPadding(start, pad); err != nil {
		return err
	}
	if got := check.sum(digest); !bytes.Equal(got, want) {
		return failure(start, ErrCorrupt, "the block's %v is %x, it says %x", check, got, want)
	}
	return nil
}

// Decompress appends what the xz file src holds to dst and returns the result. It decodes straight into the
// result, whose size it takes from the file's indexes after comparing it with the limits and with what so many
// bytes can give at all. It is the fast way for a member that is in memory. It is safe for concurrent use.
//
// On an error it returns dst as it was; what lies behind its length may have been overwritten.
func Decompress(dst, src []byte, lim *Limits) ([]byte, error) {
	b := lim.bounds()
	var streams []stream
	var total int64
	if len(src) == 0 {
		return dst, broken(0, "stream header", io.ErrUnexpectedEOF)
	}
	for end := int64(len(src)); end > 0; {
		s, err := lastStream(memory(src), end)
		if err != nil {
			return dst, explain(src, err)
		}
		if s.plain > maxVLI-total {
			return dst, failure(s.at, ErrFormat, "the sizes in the indexes overflow")
		}
		total += s.plain
		streams = append(streams, s)
		end = s.start
	}
	if what := b.TooMuch(int64(len(src)), total); what != "" {
		return dst, failure(0, ErrLimit, "the index promises %d bytes, %s", total, what)
	}
	if total > maxInt-int64(len(dst)) {
		return dst, failure(0, ErrLimit, "%d bytes do not fit into memory", total)
	}
	// Look at every block's header before anything is allocated.
	for i := range streams {
		if err := streams[len(streams)-1-i].blocks(src, b, nil); err != nil {
			return dst, err
		}
	}
	out := dst
	if need := len(dst) + int(total); need > cap(dst) {
		out = make([]byte, need)
		copy(out, dst)
	} else {
		out = out[:need]
	}
	rest := out[len(dst):]
	for i := range streams {
		s := &streams[len(streams)-1-i]
		err := s.blocks(src, b, func(off int64, h *blockHeader, hSize int, rec record) error {
			err := decodeBlock(rest[:rec.plain:rec.plain], src[off:off+rec.unpadded+padding(rec.unpadded)], off, h, hSize, rec, s.check)
			rest = rest[rec.plain:]
			return err
		})
		if err != nil {
			return dst, err
		}
	}
	return out, nil
}

// explain looks for a better reason for what was found wrong at the end of a file: where it stops making sense when it
// is read from the beginning.
func explain(src []byte, err error) error {
	in := &input{Reader: bufio.NewReader(bytes.NewReader(src))}
	for {
		if first := walkStream(in, func(Check, *blockHeader) string { return "" }); first != nil {
			return first
		}
		if in.skipPadding() != nil {
			return err
		}
	}
}

// blocks calls f, if any, for each block of a stream, whose header has been parsed and compared with limits.
func (s *stream) blocks(src []byte, b bounds, f func(off int64, h *blockHeader, hSize int, rec record) error) error {
	off := s.start + edgeSize
	for x := s.index; ; {
		rec, ok := x.next()
		if !ok {
			return nil
		}
		hSize := (int64(src[off]) + 1) * 4
		if src[off] == 0 || hSize > rec.unpadded {
			return failure(off, ErrFormat, "no block header where the index tells of a block")
		}
		h, err := parseBlockHeader(src[off:off+hSize], off)
		if err != nil {
			return err
		}
		if h.dict > b.dict {
			return failure(off, ErrLimit, "a dictionary of %d bytes, %d are allowed", h.dict, b.dict)
		}
		if f != nil {
			if err := f(off, h, int(hSize), rec); err != nil {
				return err
			}
		}
		off += rec.unpadded + padding(rec.unpadded)
	}
}

// decodeBlock decodes one whole block, header to check, into dst.
func decodeBlock(dst, src []byte, off int64, h *blockHeader, hSize int, rec record, check Check) error {
	size := rec.unpadded - int64(hSize) - int64(check.size())
	if size < 1 {
		return failure(off, ErrFormat, "the index tells of a block that is too small")
	}
	n, consumed, err := lzma.DecodeInto(dst, src[hSize:int64(hSize)+size], int(min(h.dict, maxDict)))
	switch {
	case errors.Is(err, lzma.ErrShort), err == nil && n != len(dst):
		return failure(off, ErrCorrupt, "the block gives other than the %d bytes that the index says", len(dst))
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && int64(consumed) != size:
		return failure(off, ErrCorrupt, "the block has other than the %d compressed bytes that the index says", size)
	case err != nil:
		return broken(off, "block", err)
	}
	if err := h.sizes(off, size, rec.plain); err != nil {
		return err
	}
	for i := len(h.filters) - 2; i >= 0; i-- {
		newConverter(h.filters[i]).convert(dst)
	}
	digest := check.digest()
	if digest != nil {
		digest.Write(dst)
	}
	tail := src[int64(hSize)+size:]
	pad := padding(size)
	return verifyCheck(off, tail[:pad], tail[pad:], check, digest)
}

const (
	maxInt  = int64(^uint(0) >> 1)
	maxDict = min(maxInt, 1<<32-1)
)

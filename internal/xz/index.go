package xz

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// record is an index's entry for one block.
type record struct{ unpadded, plain int64 }

// index walks over the records of an index that parseIndex has checked.
type index struct {
	rest  []byte
	count uint64
}

func (x *index) next() (record, bool) {
	if x.count == 0 {
		return record{}, false
	}
	x.count--
	a, n := vli(x.rest)
	b, m := vli(x.rest[n:])
	x.rest = x.rest[n+m:]
	return record{int64(a), int64(b)}, true
}

// parseIndex checks a whole index, from its 0 byte to its CRC, and returns its records and what they sum up to:
// the padded sizes of the blocks and their plain sizes.
func parseIndex(b []byte, offset int64) (x index, blocks, plain int64, err error) {
	if len(b) < 8 || len(b)%4 != 0 || b[0] != 0 {
		return x, 0, 0, failure(offset, ErrFormat, "no index")
	}
	n := len(b) - 4
	if crc32.ChecksumIEEE(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return x, 0, 0, failure(offset, ErrFormat, "the CRC of the index is wrong")
	}
	count, k := vli(b[1:n])
	if k <= 0 {
		return x, 0, 0, failure(offset, ErrFormat, "the index's count of blocks")
	}
	x = index{b[1+k : n], count}
	rest := x.rest
	for i := range count {
		u, a := vli(rest)
		if a <= 0 {
			return x, 0, 0, failure(offset, ErrFormat, "index record %d", i)
		}
		v, c := vli(rest[a:])
		if c <= 0 || u < 5 || u > maxVLI-3 {
			return x, 0, 0, failure(offset, ErrFormat, "index record %d", i)
		}
		rest = rest[a+c:]
		size := int64(u) + padding(int64(u))
		if size > maxVLI-blocks || int64(v) > maxVLI-plain {
			return x, 0, 0, failure(offset, ErrFormat, "the sizes in the index overflow")
		}
		blocks += size
		plain += int64(v)
	}
	if len(rest) > 3 {
		return x, 0, 0, failure(offset, ErrFormat, "the index has bytes behind its records")
	}
	for _, z := range rest {
		if z != 0 {
			return x, 0, 0, failure(offset, ErrFormat, "the padding of the index is not zero")
		}
	}
	x.rest = x.rest[:len(x.rest)-len(rest)]
	return x, blocks, plain, nil
}

// stream is one stream of a file as its footer and its index tell.
type stream struct {
	start int64 // of the header
	check Check
	index index
	at    int64 // of the index
	end   int64 // behind the footer
	plain int64
}

// source gives ranges of a file.
type source interface {
	// slice returns n bytes from off on, which are within the file. They are only read, and may be overwritten
	// by the next call.
	slice(off, n int64) ([]byte, error)
}

// memory is a file in memory.
type memory []byte

func (m memory) slice(off, n int64) ([]byte, error) { return m[off : off+n], nil }

// maxIndex is the largest index that is read from a file: more than a hundred thousand blocks. One in memory may be larger.
const maxIndex = 2 << 20

// onDisk is a file that is read.
type onDisk struct {
	r   io.ReaderAt
	buf []byte
}

func (d *onDisk) slice(off, n int64) ([]byte, error) {
	if n > maxIndex {
		return nil, failure(off, ErrLimit, "an index of %d bytes", n)
	}
	if int64(cap(d.buf)) < n {
		d.buf = make([]byte, n)
	}
	b := d.buf[:n]
	switch k, err := d.r.ReadAt(b, off); {
	case int64(k) == n:
		return b, nil
	case err == nil || err == io.EOF:
		return nil, broken(off, "file", io.ErrUnexpectedEOF)
	default:
		return nil, fmt.Errorf("read xz index at offset %d: %w", off, err)
	}
}

// lastStream finds the last stream that ends at or before end, skipping padding. The index in it is valid until the
// next call.
func lastStream(src source, end int64) (s stream, err error) {
	for skipped := true; skipped; {
		n := min(end, 1024)
		b, err := src.slice(end-n, n)
		if err != nil {
			return s, err
		}
		trimmed := bytes.TrimRight(b, "\x00")
		zeros := (n - int64(len(trimmed))) &^ 3
		end -= zeros
		if end == 0 {
			return s, failure(0, ErrFormat, "no stream before the padding")
		}
		skipped = zeros == n
	}
	if end < 2*edgeSize+8 {
		return s, failure(0, ErrFormat, "too short for a stream")
	}
	s.end = end
	foot := end - edgeSize
	b, err := src.slice(foot, edgeSize)
	if err != nil {
		return s, err
	}
	size, flags, err := parseFooter(b, foot)
	if err != nil {
		return s, err
	}
	if s.check, err = parseFlags(flags[:], foot); err != nil {
		return s, err
	}
	s.at = foot - size
	if s.at < edgeSize {
		return s, failure(foot, ErrFormat, "the footer says %d bytes of index, which begin before the file", size)
	}
	if b, err = src.slice(s.at, size); err != nil {
		return s, err
	}
	var blocks int64
	if s.index, blocks, s.plain, err = parseIndex(b, s.at); err != nil {
		return s, err
	}
	if blocks > s.at-edgeSize {
		return s, failure(s.at, ErrFormat, "the index tells of %d bytes of blocks, which begin before the file", blocks)
	}
	s.start = s.at - blocks - edgeSize
	if b, err = src.slice(s.start, edgeSize); err != nil {
		return s, err
	}
	check, err := parseHeader(b, s.start)
	if err != nil {
		return s, err
	}
	if check != s.check {
		return s, failure(foot, ErrFormat, "footer and header name different checks")
	}
	if s.plain/hardRatio > s.end-s.start {
		return s, failure(s.at, ErrFormat, "the index promises %d bytes, which %d cannot give", s.plain, s.end-s.start)
	}
	return s, nil
}

// UncompressedSize returns how many bytes a file of size bytes says it holds, from the index of each of its
// streams. It reads no compressed data, and no index of more than 2 MiB. The answer is the file's claim: bound it
// before allocating.
func UncompressedSize(r io.ReaderAt, size int64) (int64, error) {
	if size <= 0 {
		return 0, broken(0, "stream header", io.ErrUnexpectedEOF)
	}
	src := &onDisk{r: r}
	var total int64
	for end := size; end > 0; {
		s, err := lastStream(src, end)
		if err != nil {
			return 0, err
		}
		if s.plain > maxVLI-total {
			return 0, failure(s.at, ErrFormat, "the sizes in the indexes overflow")
		}
		total += s.plain
		end = s.start
	}
	return total, nil
}

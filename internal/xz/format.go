package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"math"
)

const (
	headerMagic = "\xFD7zXZ\x00"
	footerMagic = "YZ"
	// A stream header and a footer have 12 bytes each; a block header has 8 to 1024.
	edgeSize       = 12
	maxBlockHeader = 1024
	// maxVLI is the largest number the format can hold: 63 bits.
	maxVLI = math.MaxInt64
)

// Check names what protects the plain bytes of every block.
type Check uint8

// The checks. CRC64 is what update archives use and the zero value.
const (
	CRC64 Check = iota
	CRC32
	SHA256
	CheckNone
)

// id is the check's number in stream flags.
func (c Check) id() byte { return [...]byte{CRC64: 4, CRC32: 1, SHA256: 10, CheckNone: 0}[c&3] }

func (c Check) size() int { return [...]int{CRC64: 8, CRC32: 4, SHA256: 32, CheckNone: 0}[c&3] }

// String returns the name the xz program uses.
func (c Check) String() string {
	return [...]string{CRC64: "crc64", CRC32: "crc32", SHA256: "sha256", CheckNone: "none"}[c&3]
}

func checkOf(id byte) (Check, bool) {
	switch id {
	case 0:
		return CheckNone, true
	case 1:
		return CRC32, true
	case 4:
		return CRC64, true
	case 10:
		return SHA256, true
	}
	return 0, false
}

// digest returns a fresh hash, nil for no check.
func (c Check) digest() hash.Hash {
	switch c {
	case CRC32:
		return crc32.NewIEEE()
	case CRC64:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case SHA256:
		return sha256.New()
	}
	return nil
}

// sum returns the hash's value in the order of bytes the format has.
func (c Check) sum(h hash.Hash) []byte {
	switch h := h.(type) {
	case nil:
		return nil
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(nil, h.Sum32())
	case hash.Hash64:
		return binary.LittleEndian.AppendUint64(nil, h.Sum64())
	}
	return h.Sum(nil)
}

// Sniff reports whether a file that begins with head is in this format; six bytes are enough.
func Sniff(head []byte) bool { return bytes.HasPrefix(head, []byte(headerMagic)) }

// parseHeader reads a stream header.
func parseHeader(b []byte, offset int64) (Check, error) {
	if len(b) < edgeSize || string(b[:6]) != headerMagic {
		return 0, failure(offset, ErrFormat, "no stream header")
	}
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, failure(offset, ErrFormat, "the CRC of the stream header is wrong")
	}
	return parseFlags(b[6:8], offset)
}

func parseFlags(b []byte, offset int64) (Check, error) {
	if b[0] != 0 || b[1]&0xF0 != 0 {
		return 0, failure(offset, ErrUnsupported, "stream flags %02x %02x", b[0], b[1])
	}
	c, ok := checkOf(b[1])
	if !ok {
		return 0, failure(offset, ErrUnsupported, "check type %d", b[1])
	}
	return c, nil
}

// parseFooter reads a stream footer and returns the index's size.
func parseFooter(b []byte, offset int64) (index int64, flags [2]byte, err error) {
	if len(b) < edgeSize || string(b[10:12]) != footerMagic {
		return 0, flags, failure(offset, ErrFormat, "no stream footer")
	}
	if crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b) {
		return 0, flags, failure(offset, ErrFormat, "the CRC of the stream footer is wrong")
	}
	return (int64(binary.LittleEndian.Uint32(b[4:])) + 1) * 4, [2]byte(b[8:10]), nil
}

// vli reads a number of the format: 7 bits a byte, low bits first, at most 9 bytes, none of them superfluous.
// It returns how many bytes it has, 0 where b ends before it does, -1 where it is wrong.
func vli(b []byte) (uint64, int) {
	var v uint64
	for i, c := range b {
		v |= uint64(c&0x7F) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, -1
			}
			return v, i + 1
		}
		if i == 8 {
			return 0, -1
		}
	}
	return 0, 0
}

func appendVLI(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// filterSpec is one filter of a block.
type filterSpec struct {
	id    uint64
	props []byte
}

// blockHeader is a parsed block header. Sizes are -1 where it has none.
type blockHeader struct {
	packed, plain int64
	filters       []filterSpec // the last one is LZMA2
	dict          int64
}

const (
	idDelta = 0x03
	idLZMA2 = 0x21
)

// parseBlockHeader reads a block header, CRC included.
func parseBlockHeader(b []byte, offset int64) (*blockHeader, error) {
	n := len(b) - 4
	if crc32.ChecksumIEEE(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, failure(offset, ErrFormat, "the CRC of the block header is wrong")
	}
	h := &blockHeader{packed: -1, plain: -1}
	flags := b[1]
	if flags&0x3C != 0 {
		return nil, failure(offset, ErrUnsupported, "block flags %02x", flags)
	}
	rest := b[2:n]
	bad := false
	number := func() uint64 {
		v, k := vli(rest)
		if k <= 0 {
			bad, rest = true, nil
			return 0
		}
		rest = rest[k:]
		return v
	}
	if flags&0x40 != 0 {
		h.packed = int64(number())
		bad = bad || h.packed == 0
	}
	if flags&0x80 != 0 {
		h.plain = int64(number())
	}
	for range int(flags&3) + 1 {
		id, size := number(), number()
		if bad || size > uint64(len(rest)) {
			return nil, failure(offset, ErrFormat, "the block header's fields are cut off")
		}
		h.filters = append(h.filters, filterSpec{id, rest[:size]})
		rest = rest[size:]
	}
	for _, z := range rest {
		if z != 0 {
			return nil, failure(offset, ErrUnsupported, "the block header has bytes behind its fields")
		}
	}
	return h, h.checkFilters(offset)
}

func (h *blockHeader) checkFilters(offset int64) error {
	for i, f := range h.filters {
		last := i == len(h.filters)-1
		switch {
		case f.id == idLZMA2:
			if !last {
				return failure(offset, ErrUnsupported, "LZMA2 is not the last filter")
			}
			if len(f.props) != 1 || f.props[0] > 40 {
				return failure(offset, ErrUnsupported, "LZMA2 properties % x", f.props)
			}
			h.dict = dictSize(f.props[0])
		case last:
			return failure(offset, ErrUnsupported, "the last filter is 0x%x, not LZMA2", f.id)
		case f.id == idDelta:
			if len(f.props) != 1 {
				return failure(offset, ErrUnsupported, "delta properties % x", f.props)
			}
		case filterByID(f.id) == None:
			return failure(offset, ErrUnsupported, "filter 0x%x", f.id)
		case len(f.props) != 0 && string(f.props) != "\x00\x00\x00\x00":
			return failure(offset, ErrUnsupported, "start offset % x of the %v filter", f.props, filterByID(f.id))
		}
	}
	return nil
}

// dictSize is what LZMA2's property byte says: 2 or 3 times a power of two, 4 GiB-1 at last.
func dictSize(b byte) int64 {
	if b == 40 {
		return math.MaxUint32
	}
	return int64(2|b&1) << (b/2 + 11)
}

// dictByte returns the smallest property byte whose dictionary is not smaller than n.
func dictByte(n int64) byte {
	b := byte(0)
	for b < 40 && dictSize(b) < n {
		b++
	}
	return b
}

func padding(n int64) int64 { return -n & 3 }

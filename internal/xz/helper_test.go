package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
)

// sample is text-like and code-like data in which all filters find something to change.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	u := func() byte { return byte(r.Uint32()) }
	b := make([]byte, 0, n+64)
	for len(b) < n {
		switch r.IntN(9) {
		case 0: // x86, also with opcodes close together
			b = append(b, 0xE8|byte(r.IntN(2)), u(), u(), byte(r.IntN(3)), byte(-r.IntN(2)))
		case 1:
			b = append(b, 0xE8, 0xE9, u(), 0xE8, 0, byte(-r.IntN(2)), 0xFF, 0, byte(-r.IntN(2)))
		case 2: // ARM
			b = append(b, u(), u(), u(), 0xEB)
		case 3: // PowerPC
			b = append(b, 0x48|byte(r.IntN(4)), u(), u(), u()|1)
		case 4: // ARM-Thumb
			b = append(b, u(), 0xF0|byte(r.IntN(8)), u(), 0xF8|byte(r.IntN(8)))
		case 5: // ARM64
			b = append(b, u(), u(), u(), 0x94|byte(r.IntN(4)), u(), u(), u(), 0x90|byte(r.IntN(4))<<5)
		case 6: // SPARC
			b = append(b, 0x40, byte(r.IntN(64)), u(), u(), 0x7F, 0xC0|byte(r.IntN(64)), u(), u())
		case 7: // IA-64
			for len(b)%16 != 0 {
				b = append(b, 0)
			}
			bundle := make([]byte, 16)
			for i := range bundle {
				bundle[i] = u()
			}
			bundle[0] = bundle[0]&0xE0 | []byte{0x10, 0x12, 0x16, 0x18, 0x1C}[r.IntN(5)]
			slot2 := binary.LittleEndian.Uint64(bundle[8:]) // opcode 5 in the third instruction
			slot2 = slot2&^(0xF<<60|7<<32) | 5<<60
			binary.LittleEndian.PutUint64(bundle[8:], slot2)
			b = append(b, bundle...)
		default:
			at := r.IntN(len(b) + 1)
			b = append(b, b[at:min(len(b), at+r.IntN(40))]...)
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		}
	}
	return b[:n]
}

// pack compresses with our own writer.
func pack(tb testing.TB, p []byte, o WriterOptions) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, &o)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// small are options for which little is allocated.
func small(f Filter, c Check) WriterOptions {
	return WriterOptions{Level: Level6, DictSize: 1 << 16, Filter: f, Check: c}
}

// readAll reads with a Reader.
func readAll(src []byte, lim *Limits) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(src), lim)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

// mustRead reads in both ways and compares.
func mustRead(tb testing.TB, packed, want []byte) {
	tb.Helper()
	got, err := Decompress(nil, packed, nil)
	if err != nil || !bytes.Equal(got, want) {
		tb.Fatalf("Decompress gives %d bytes and %v, want %d", len(got), err, len(want))
	}
	got, err = readAll(packed, nil)
	if err != nil || !bytes.Equal(got, want) {
		tb.Fatalf("Reader gives %d bytes and %v, want %d", len(got), err, len(want))
	}
	n, err := UncompressedSize(bytes.NewReader(packed), int64(len(packed)))
	if err != nil || n != int64(len(want)) {
		tb.Fatalf("UncompressedSize gives %d and %v, want %d", n, err, len(want))
	}
}

// mustFail reads in both ways and wants an *Error of the given kind.
func mustFail(tb testing.TB, packed []byte, lim *Limits, kind error) {
	tb.Helper()
	check := func(who string, err error) {
		tb.Helper()
		var e *Error
		if !errors.Is(err, kind) || !errors.As(err, &e) {
			tb.Errorf("%s says %v, want %v", who, err, kind)
		} else if e.Offset < 0 || e.Offset > int64(len(packed)) {
			tb.Errorf("%s gives offset %d of %d", who, e.Offset, len(packed))
		}
	}
	dst := []byte("kept")
	got, err := Decompress(dst, packed, lim)
	check("Decompress", err)
	if string(got) != "kept" {
		tb.Errorf("Decompress returns %q with its error", got)
	}
	_, err = readAll(packed, lim)
	check("Reader", err)
}

// program runs the xz program, and skips the test where there is none.
func program(tb testing.TB, in []byte, args ...string) []byte {
	tb.Helper()
	out, err := run(tb, in, args...)
	if err != nil {
		tb.Fatalf("xz %q: %v", args, err)
	}
	return out
}

func run(tb testing.TB, in []byte, args ...string) ([]byte, error) {
	tb.Helper()
	path, err := exec.LookPath("xz")
	if err != nil {
		tb.Skip("the xz program is not installed (Debian: xz-utils)")
	}
	c := exec.CommandContext(tb.Context(), path, args...)
	c.Env = []string{"LC_ALL=C"}
	c.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return out, err
}

// A container is an xz stream in parts, to be made with faults.
type container struct {
	flags  [2]byte
	header []byte // magic, flags, CRC
	blocks []part
	index  []byte // of the right blocks where nil
	footer []byte // the right one where nil
}

type part struct {
	flags   byte   // sizes present: 0x40 packed, 0x80 plain; the number of filters is added
	packed  uint64 // in the header
	plain   uint64 // in the header and in the index
	filters []filterSpec
	header  []byte // made from the fields above where nil
	data    []byte // raw LZMA2
	check   []byte
}

// stored is a block of LZMA2 that is not compressed, with check none.
func stored(p []byte, filters ...filterSpec) part {
	data := []byte{1, byte((len(p) - 1) >> 8), byte(len(p) - 1)}
	return part{plain: uint64(len(p)), filters: append(filters, lzma2(0)), data: append(append(data, p...), 0)}
}

func lzma2(dict byte) filterSpec { return filterSpec{idLZMA2, []byte{dict}} }

func withCRC(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

func pad4(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

func (p part) head() []byte {
	if p.header != nil {
		return p.header
	}
	b := []byte{0, p.flags | byte(len(p.filters)-1)}
	if p.flags&0x40 != 0 {
		b = appendVLI(b, p.packed)
	}
	if p.flags&0x80 != 0 {
		b = appendVLI(b, p.plain)
	}
	for _, f := range p.filters {
		b = append(appendVLI(appendVLI(b, f.id), uint64(len(f.props))), f.props...)
	}
	b = pad4(b)
	b[0] = byte(len(b) / 4)
	return withCRC(b)
}

func (c container) bytes() []byte {
	b := bytes.Clone(c.header)
	if b == nil {
		b = append([]byte(headerMagic), c.flags[:]...)
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(c.flags[:]))
	}
	index := appendVLI([]byte{0}, uint64(len(c.blocks)))
	for _, p := range c.blocks {
		head := p.head()
		b = append(b, head...)
		b = append(b, p.data...)
		b = append(pad4(b), p.check...)
		index = appendVLI(index, uint64(len(head)+len(p.data)+len(p.check)))
		index = appendVLI(index, p.plain)
	}
	index = withCRC(pad4(index))
	if c.index != nil {
		index = c.index
	}
	b = append(b, index...)
	if c.footer != nil {
		return append(b, c.footer...)
	}
	foot := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	foot = append(foot, c.flags[:]...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(foot))
	return append(append(b, foot...), footerMagic...)
}

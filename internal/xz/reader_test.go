package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
)

func TestReaderContract(t *testing.T) {
	t.Parallel()
	want := sample(30_000)
	packed := append(pack(t, want[:20_000], small(X86, SHA256)), pack(t, want[20_000:], small(ARM, CRC32))...)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with error": iotest.DataErrReader,
	} {
		r, err := NewReader(wrap(bytes.NewReader(packed)), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(r))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes and %v, want %d", name, len(got), err, len(want))
		}
	}
	r, err := NewReader(bytes.NewReader(packed), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, want); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close gives %v", err)
	}
}

// An error of the underlying reader comes out as it is, wherever it strikes.
func TestReaderErrors(t *testing.T) {
	t.Parallel()
	packed := pack(t, sample(300), small(X86, CRC32))
	failed := errors.New("failed")
	for n := range packed {
		src := io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(failed))
		r, err := NewReader(src, nil)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, failed) {
			t.Errorf("error behind %d bytes: got %v", n, err)
		}
		src = io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(failed))
		if err := UpdaterAccepts(src); !errors.Is(err, failed) {
			t.Errorf("error behind %d bytes: UpdaterAccepts gives %v", n, err)
		}
	}
}

func TestDecompressAppends(t *testing.T) {
	t.Parallel()
	want := sample(5000)
	packed := pack(t, want, small(None, CRC64))
	for _, room := range []int{0, 10, 4999, 5000, 5001, 9000} {
		dst := make([]byte, 4, 4+room)
		copy(dst, "head")
		got, err := Decompress(dst, packed, nil)
		if err != nil || string(got[:4]) != "head" || !bytes.Equal(got[4:], want) {
			t.Fatalf("room for %d: got %d bytes and %v", room, len(got), err)
		}
		if reused := &got[0] == &dst[0]; reused != (room >= 5000) {
			t.Errorf("room for %d: reused is %v", room, reused)
		}
	}
}

func TestDecompressConcurrently(t *testing.T) {
	t.Parallel()
	want := sample(20_000)
	packed := pack(t, want, small(X86, CRC64))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				if got, err := Decompress(nil, packed, nil); err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes and %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// A file that ends early, anywhere, is not read as if it were whole.
func TestTruncated(t *testing.T) {
	t.Parallel()
	a := pack(t, sample(400), small(X86, CRC64))
	packed := append(bytes.Clone(a), pack(t, sample(300), small(None, SHA256))...)
	for n := range packed {
		if n == len(a) {
			continue // a whole file
		}
		mustFail(t, packed[:n], nil, io.ErrUnexpectedEOF)
		mustFail(t, packed[:n], nil, ErrFormat)
		if n < len(a) {
			if err := UpdaterAccepts(bytes.NewReader(packed[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: UpdaterAccepts gives %v", n, err)
			}
		}
		if _, err := UncompressedSize(bytes.NewReader(packed), int64(n)); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: UncompressedSize gives %v", n, err)
		}
	}
	if _, err := UncompressedSize(bytes.NewReader(packed[:len(packed)-8]), int64(len(packed))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a size that is too large: UncompressedSize gives %v", err)
	}
}

// Every single wrong bit is seen: everything is under a CRC, or must have one value.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for c, step := range map[Check]int{CRC64: 1, CRC32: 5, SHA256: 5} {
		packed := pack(t, sample(250), small(X86, c))
		for bit := 0; bit < 8*len(packed); bit += step {
			bad := bytes.Clone(packed)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := Decompress(nil, bad, nil); err == nil {
				t.Fatalf("%v, bit %d: Decompress sees nothing", c, bit)
			}
			var e *Error
			if _, err := readAll(bad, nil); !errors.As(err, &e) {
				t.Fatalf("%v, bit %d: Reader gives %v", c, bit, err)
			}
		}
	}
}

// Containers that claim what is not so.
func TestHostile(t *testing.T) {
	t.Parallel()
	block := stored([]byte("hello"))
	good := container{blocks: []part{block, block}}
	mustRead(t, good.bytes(), []byte("hellohello"))
	change := func(f func(p *part)) container {
		p := block
		f(&p)
		return container{blocks: []part{p}}
	}
	index := func(v ...uint64) []byte {
		b := []byte{0}
		for _, n := range v {
			b = appendVLI(b, n)
		}
		return withCRC(pad4(b))
	}
	unpadded := uint64(len(block.head()) + len(block.data))
	foot := func(backward uint32, flags ...byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, backward)
		b = append(b, flags...)
		crc := withCRC(b)[len(b):]
		return append(append(bytes.Clone(crc), b...), footerMagic...)
	}
	one := []part{block}
	for _, c := range []struct {
		name string
		c    container
		kind error
	}{
		{"stream flags", container{flags: [2]byte{1, 0}}, ErrUnsupported},
		{"reserved flag bits", container{flags: [2]byte{0, 0x10}}, ErrUnsupported},
		{"unknown check", container{flags: [2]byte{0, 2}}, ErrUnsupported},
		{"reserved block flags", change(func(p *part) { p.flags = 0x04 }), ErrUnsupported},
		{"no LZMA2", change(func(p *part) { p.filters = []filterSpec{{4, nil}} }), ErrUnsupported},
		{"LZMA2 first", change(func(p *part) { p.filters = []filterSpec{lzma2(0), {4, nil}} }), ErrUnsupported},
		{"LZMA2 twice", change(func(p *part) { p.filters = []filterSpec{lzma2(0), lzma2(0)} }), ErrUnsupported},
		{"LZMA1", change(func(p *part) { p.filters = []filterSpec{{0x4000000000000001, []byte{0}}} }), ErrUnsupported},
		{"unknown filter", change(func(p *part) { p.filters = []filterSpec{{0x0B, nil}, lzma2(0)} }), ErrUnsupported},
		{"filter id 0", change(func(p *part) { p.filters = []filterSpec{{0, nil}, lzma2(0)} }), ErrUnsupported},
		{"start offset", change(func(p *part) { p.filters = []filterSpec{{4, []byte{0, 0, 1, 0}}, lzma2(0)} }), ErrUnsupported},
		{"short start offset", change(func(p *part) { p.filters = []filterSpec{{4, []byte{0}}, lzma2(0)} }), ErrUnsupported},
		{"delta without distance", change(func(p *part) { p.filters = []filterSpec{{3, nil}, lzma2(0)} }), ErrUnsupported},
		{"LZMA2 properties missing", change(func(p *part) { p.filters = []filterSpec{{idLZMA2, nil}} }), ErrUnsupported},
		{"LZMA2 properties too long", change(func(p *part) { p.filters = []filterSpec{{idLZMA2, []byte{0, 0}}} }), ErrUnsupported},
		{"dictionary code 41", change(func(p *part) { p.filters = []filterSpec{lzma2(41)} }), ErrUnsupported},
		{"properties longer than the header", change(func(p *part) { p.header = withCRC([]byte{2, 0, 0x21, 9, 0, 0, 0, 0}) }), ErrFormat},
		{"number too long", change(func(p *part) { p.header = withCRC([]byte{3, 0x40, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}) }), ErrFormat},
		{"number with superfluous byte", change(func(p *part) { p.header = withCRC([]byte{2, 0x40, 0x80, 0, 0x21, 1, 0, 0}) }), ErrFormat},
		{"more in the header than fields", change(func(p *part) { p.header = withCRC([]byte{2, 0, 0x21, 1, 0, 1, 0, 0}) }), ErrUnsupported},
		{"CRC of the block header", change(func(p *part) { p.header = []byte{2, 0, 0x21, 1, 0, 0, 0, 0, 1, 2, 3, 4} }), ErrFormat},
		{"packed size 0", change(func(p *part) { p.flags = 0x40 }), ErrFormat},
		{"packed size too small", change(func(p *part) { p.flags, p.packed = 0x40, 8 }), ErrCorrupt},
		{"packed size too large", change(func(p *part) { p.flags, p.packed = 0x40, 10 }), ErrCorrupt},
		{"plain size too small", change(func(p *part) { p.header = withCRC([]byte{2, 0x80, 4, 0x21, 1, 0, 0, 0}) }), ErrCorrupt},
		{"plain size too large", change(func(p *part) { p.header = withCRC([]byte{2, 0x80, 6, 0x21, 1, 0, 0, 0}) }), ErrCorrupt},
		{"plain size beyond limits", change(func(p *part) {
			p.header = withCRC(append(appendVLI([]byte{4, 0x80}, math.MaxInt64), 0x21, 1, 0, 0, 0))
		}), nil},
		{"LZMA2 cannot begin so", change(func(p *part) { p.data = []byte{2, 0, 4, 'h', 'e', 'l', 'l', 'o', 0} }), ErrCorrupt},
		{"something behind the end of LZMA2", change(func(p *part) { p.data = append(p.data[:len(p.data):len(p.data)], 1) }), nil},
		{"check", container{flags: [2]byte{0, 1}, blocks: []part{{plain: 5, filters: block.filters, data: block.data, check: []byte{1, 2, 3, 4}}}}, ErrCorrupt},
		{"index has too few", container{blocks: one, index: index(0)}, ErrFormat},
		{"index has too many", container{blocks: one, index: index(2, unpadded, 5, unpadded, 5)}, ErrFormat},
		{"index has another packed size", container{blocks: one, index: index(1, unpadded-1, 5)}, nil},
		{"index has a larger packed size", container{blocks: one, index: index(1, unpadded+4, 5)}, ErrFormat},
		{"index has a smaller plain size", container{blocks: one, index: index(1, unpadded, 4)}, nil},
		{"index has a larger plain size", container{blocks: one, index: index(1, unpadded, 6)}, nil},
		{"index has a huge plain size", container{blocks: one, index: index(1, unpadded, math.MaxInt64)}, ErrFormat},
		{"index has a huge packed size", container{blocks: one, index: index(1, math.MaxInt64-3, 5)}, ErrFormat},
		{"index sizes overflow", container{blocks: one, index: index(3, math.MaxInt64/2, math.MaxInt64, math.MaxInt64/2, math.MaxInt64, math.MaxInt64/2, 5)}, ErrFormat},
		{"index of 2^62 records", container{blocks: one, index: index(1<<62, unpadded, 5)}, ErrFormat},
		{"index record of size 4", container{blocks: one, index: index(1, 4, 5)}, ErrFormat},
		{"index with more behind", container{blocks: one, index: index(1, unpadded, 5, 0, 0, 0, 0)}, ErrFormat},
		{"index padding", container{blocks: one, index: withCRC([]byte{0, 1, byte(unpadded), 5, 0, 0, 0, 1})}, ErrFormat},
		{"index CRC", container{blocks: one, index: []byte{0, 1, byte(unpadded), 5, 1, 2, 3, 4}}, ErrFormat},
		{"footer size 0", container{blocks: one, footer: foot(0, 0, 0)}, ErrFormat},
		{"footer size too large", container{blocks: one, footer: foot(2, 0, 0)}, ErrFormat},
		{"footer size 2^34", container{blocks: one, footer: foot(math.MaxUint32, 0, 0)}, ErrFormat},
		{"footer flags", container{blocks: one, footer: foot(1, 0, 1)}, ErrFormat},
		{"footer reserved flags", container{blocks: one, footer: foot(1, 1, 0)}, nil},
		{"footer magic", container{blocks: one, footer: append(foot(1, 0, 0)[:10], 'Y', 'X')}, ErrFormat},
		{"footer CRC", container{blocks: one, footer: append([]byte{1, 2, 3, 4}, foot(1, 0, 0)[4:]...)}, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			packed := c.c.bytes()
			if c.kind != nil {
				mustFail(t, packed, nil, c.kind)
				return
			}
			// What is found first depends on the direction of reading; both must find something.
			var e *Error
			if _, err := Decompress(nil, packed, nil); !errors.As(err, &e) {
				t.Errorf("Decompress gives %v", err)
			}
			if _, err := readAll(packed, nil); !errors.As(err, &e) {
				t.Errorf("Reader gives %v", err)
			}
		})
	}
	padded := container{blocks: one}.bytes()
	padded[edgeSize+unpadded] = 1
	for _, packed := range [][]byte{padded, nil, []byte("not compressed at all, but long enough to be"), []byte(headerMagic)} {
		mustFail(t, packed, nil, ErrFormat)
	}
}

// allocated returns how much f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A header's claims are refused before anything is allocated for them.
func TestClaimsAllocateNothing(t *testing.T) {
	claim := func(dict byte) []byte {
		p := stored([]byte("x"))
		p.filters = []filterSpec{lzma2(dict)}
		return container{blocks: []part{p}}.bytes()
	}
	huge := container{blocks: []part{stored([]byte("x"))}}
	huge.blocks[0].flags, huge.blocks[0].plain = 0x80, 1<<40
	for _, c := range []struct {
		name   string
		packed []byte
		kind   error
	}{
		{"dictionary of 1.5 GiB", claim(37), ErrLimit},
		{"dictionary of 4 GiB", claim(40), ErrLimit},
		{"dictionary of 96 MiB", claim(29), ErrLimit},
		{"1 TiB in block header and index", huge.bytes(), nil}, // Decompress sees that it cannot be
	} {
		if len(c.packed) > 64 {
			t.Fatalf("%s: the file has %d bytes", c.name, len(c.packed))
		}
		for who, read := range map[string]func() error{
			"Reader":     func() error { _, err := readAll(c.packed, nil); return err },
			"Decompress": func() error { _, err := Decompress(nil, c.packed, nil); return err },
		} {
			var err error
			n := allocated(func() { err = read() })
			if !errors.Is(err, ErrLimit) && (c.kind != nil || !errors.Is(err, ErrCorrupt)) {
				t.Errorf("%s: %s gives %v", c.name, who, err)
			}
			if n > 128<<10 { // a Reader has a buffer of 64 KiB
				t.Errorf("%s: %s allocates %d bytes", c.name, who, n)
			}
		}
	}
	// One that is allowed costs what is used of it.
	n := allocated(func() { mustRead(t, claim(28), []byte("x")) })
	if n > 1<<20 {
		t.Errorf("a dictionary of 64 MiB that is not used allocates %d bytes", n)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	want := sample(100_000)
	packed := pack(t, want, WriterOptions{Level: Fast, DictSize: 1 << 20})
	two := append(bytes.Clone(packed), packed...)
	for _, c := range []struct {
		name   string
		packed []byte
		lim    Limits
		fail   bool
	}{
		{"defaults", two, Limits{}, false},
		{"none", two, Limits{-1, -1, -1}, false},
		{"dictionary fits", packed, Limits{Dict: 1 << 20}, false},
		{"dictionary does not fit", packed, Limits{Dict: 1<<20 - 1}, true},
		{"output fits", packed, Limits{Output: 100_000}, false},
		{"output does not fit", packed, Limits{Output: 99_999}, true},
		{"two streams fit", two, Limits{Output: 200_000}, false},
		{"two streams do not fit", two, Limits{Output: 199_999}, true},
		{"a small ratio in a small file", packed, Limits{Ratio: 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.fail {
				mustFail(t, c.packed, &c.lim, ErrLimit)
				return
			}
			if _, err := Decompress(nil, c.packed, &c.lim); err != nil {
				t.Errorf("Decompress: %v", err)
			}
			if _, err := readAll(c.packed, &c.lim); err != nil {
				t.Errorf("Reader: %v", err)
			}
		})
	}
}

// bomb is at least size bytes of zeros, compressed nearly as much as the format can: 1 to 5,600.
func makeBomb(tb testing.TB, size int64) (packed []byte, plain int64) {
	tb.Helper()
	one := pack(tb, make([]byte, 4<<20), WriterOptions{Level: Best, DictSize: 1 << 16, Check: CheckNone})
	first := one[24:] // behind the headers: a chunk of nearly 2 MiB
	if first[0] != 0xFF {
		tb.Fatalf("the first chunk begins with % x", first[:6])
	}
	chunk := 0x1F<<16 + int64(binary.BigEndian.Uint16(first[1:])) + 1
	first = first[:6+int(binary.BigEndian.Uint16(first[3:]))+1]
	// The same once more, and again: zeros with fresh models, behind zeros.
	again := append(append([]byte{0xBF}, first[1:5]...), first[6:]...)
	data := bytes.Clone(first)
	for plain = chunk; plain < size; plain += chunk {
		data = append(data, again...)
	}
	return container{blocks: []part{{plain: uint64(plain), filters: []filterSpec{lzma2(8)}, data: append(data, 0)}}}.bytes(), plain
}

// Bombs stop before they cost anything: with Decompress at once, with a Reader in the middle and with little memory.
func TestBombs(t *testing.T) {
	one, size := makeBomb(t, 60<<20)
	if size/int64(len(one)) < 5000 {
		t.Fatalf("the bomb has %d bytes for %d", len(one), size)
	}
	many, _ := makeBomb(t, 4<<30)
	headless := many[:len(many)-28] // no index tells in advance
	for _, c := range []struct {
		name   string
		packed []byte
		lim    *Limits
		kind   error
	}{
		{"by ratio", many, nil, ErrLimit},
		{"by output", many, &Limits{Output: 10 << 20, Ratio: -1}, ErrLimit},
		{"without an index", headless, nil, nil},
		{"in many streams", bytes.Repeat(one, 4), nil, ErrLimit},
	} {
		var err error
		n := allocated(func() { _, err = Decompress(nil, c.packed, c.lim) })
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: Decompress gives %v", c.name, err)
		}
		if n > 1<<20 {
			t.Errorf("%s: Decompress allocates %d bytes", c.name, n)
		}
		n = allocated(func() {
			var r *Reader
			if r, err = NewReader(bytes.NewReader(c.packed), c.lim); err == nil {
				r.lim.Grace = 4 << 20 // so that less has to come out
				_, err = io.Copy(io.Discard, r)
			}
		})
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: Reader gives %v", c.name, err)
		}
		if n > 16<<20 {
			t.Errorf("%s: Reader allocates %d bytes", c.name, n)
		}
	}
	// What is allowed by the caller is read.
	if got, err := Decompress(nil, one, &Limits{Ratio: -1, Output: size}); err != nil || int64(len(got)) != size {
		t.Errorf("allowed: %d bytes and %v", len(got), err)
	}
}

func TestUncompressedSizeReads(t *testing.T) {
	t.Parallel()
	packed := pack(t, sample(50_000), small(None, CRC64))
	failed := errors.New("failed")
	_, err := UncompressedSize(readerAt(func(p []byte, off int64) (int, error) { return 0, failed }), 100)
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the reader's error", err)
	}
	read := 0
	n, err := UncompressedSize(readerAt(func(p []byte, off int64) (int, error) {
		read += len(p)
		return copy(p, packed[off:]), nil
	}), int64(len(packed)))
	if err != nil || n != 50_000 || read > 1100 {
		t.Errorf("got %d and %v after reading %d bytes", n, err, read)
	}
	// An index that is too large to look at.
	big := container{index: append(make([]byte, maxIndex), 0, 0, 0, 0)}.bytes()
	if _, err := UncompressedSize(bytes.NewReader(big), int64(len(big))); !errors.Is(err, ErrLimit) {
		t.Errorf("a large index: %v", err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestErrorText(t *testing.T) {
	t.Parallel()
	packed := pack(t, sample(1000), small(None, CRC64))
	packed[len(packed)-40] ^= 1
	_, err := Decompress(nil, packed, nil)
	var e *Error
	if !errors.As(err, &e) || e.Offset != edgeSize {
		t.Fatalf("got %#v, want the block's offset", err)
	}
	if got := fmt.Sprint(err); !bytes.HasPrefix([]byte(got), []byte("xz: offset 12: corrupt data: ")) {
		t.Errorf("got %q", got)
	}
}

package lzma

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"

	ulzma "github.com/ulikunitz/xz/lzma"
)

// reference compresses with an encoder that is not ours.
func reference(tb testing.TB, p []byte, dict int, lc, lp, pb int) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := ulzma.Writer2Config{DictCap: dict, Properties: &ulzma.Properties{LC: lc, LP: lp, PB: pb}}.NewWriter2(&buf)
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

// own compresses with our own encoder.
func own(tb testing.TB, p []byte, o EncoderOptions) []byte {
	tb.Helper()
	var buf bytes.Buffer
	e, err := NewEncoder(&buf, o)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := e.Write(p); err != nil {
		tb.Fatal(err)
	}
	if err := e.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// mixed is data with literals, matches near and far, repeated distances, runs, and stretches that do not
// compress.
func mixed(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 0, n+300_000)
	for len(b) < n {
		switch k := r.IntN(40); {
		case k == 0 && r.IntN(20) == 0:
			for range r.IntN(200_000) {
				b = append(b, byte(r.Uint32()))
			}
		case k < 2:
			b = append(b, make([]byte, r.IntN(3000))...)
		case k < 20 && len(b) > 0:
			from := r.IntN(len(b))
			if k < 12 {
				from = max(0, len(b)-1-r.IntN(500))
			}
			for i, length := 0, 2+r.IntN(40); i < length; i++ {
				b = append(b, b[from+i])
			}
			if k%3 == 0 {
				b = append(b, byte(r.Uint32()))
				for i, length := 0, 2+r.IntN(9); i < length; i++ {
					b = append(b, b[from+i])
				}
			}
		default:
			for range r.IntN(8) {
				b = append(b, "etaoin shrdlu"[r.IntN(13)])
			}
		}
	}
	return b[:n]
}

func decodeBoth(tb testing.TB, packed, want []byte, dict int) {
	tb.Helper()
	got := make([]byte, len(want))
	n, consumed, err := DecodeInto(got, packed, dict)
	if err != nil || n != len(want) || consumed != len(packed) {
		tb.Fatalf("DecodeInto gives %d bytes from %d and %v, want %d from %d", n, consumed, err, len(want), len(packed))
	}
	if !bytes.Equal(got, want) {
		tb.Fatal("DecodeInto gives other bytes")
	}
	d := NewDecoder(bytes.NewReader(append(packed[:len(packed):len(packed)], "rest"...)), dict)
	got, err = io.ReadAll(d)
	if err != nil || !bytes.Equal(got, want) {
		tb.Fatalf("Decoder gives %d bytes and %v, want %d", len(got), err, len(want))
	}
	if d.Consumed() != int64(len(packed)) {
		tb.Fatalf("Decoder has read %d bytes, want %d", d.Consumed(), len(packed))
	}
	p, q, err := Walk(bufio.NewReader(bytes.NewReader(packed)))
	if err != nil || p != int64(len(packed)) || q != int64(len(want)) {
		tb.Fatalf("Walk gives %d, %d and %v, want %d, %d", p, q, err, len(packed), len(want))
	}
}

func TestDecodeProperties(t *testing.T) {
	t.Parallel()
	want := mixed(60_000, 1)
	for lc := 0; lc <= 4; lc++ {
		for lp := 0; lc+lp <= 4; lp++ {
			for pb := 0; pb <= 4; pb++ {
				t.Run(fmt.Sprintf("lc=%d,lp=%d,pb=%d", lc, lp, pb), func(t *testing.T) {
					t.Parallel()
					decodeBoth(t, reference(t, want, 1<<16, lc, lp, pb), want, 1<<16)
				})
			}
		}
	}
}

func TestDecodeSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 15, 16, 17, 65535, 65536, 65537, 200_000, 1 << 21, 5 << 19} {
		want := mixed(min(n, 200_000), 2)
		for len(want) < n { // chunks are longest where little changes
			want = append(want, want[:min(len(want), n-len(want))]...)
		}
		decodeBoth(t, reference(t, want, 1<<20, 3, 0, 2), want, 1<<20)
	}
}

// A small dictionary makes the window slide many times over.
func TestDecodeSlides(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat(mixed(1<<17, 3), 36)
	packed := own(t, want, EncoderOptions{DictSize: 4096, LP: 3, PB: 4, NiceLen: 16, Depth: 2})
	d := NewDecoder(bytes.NewReader(packed), 4096)
	got, err := io.ReadAll(d)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes and %v, want %d", len(got), err, len(want))
	}
	if len(d.window) > 4096*5/4+4<<20 {
		t.Errorf("the window has %d bytes", len(d.window))
	}
}

// What our own encoder writes, with changes of properties on the way.
func TestDecodeChangingProperties(t *testing.T) {
	t.Parallel()
	want := mixed(1<<20, 4)
	var buf bytes.Buffer
	e, err := NewEncoder(&buf, EncoderOptions{DictSize: 1 << 18, LC: 2, LP: 2, PB: 2, NiceLen: 32})
	if err != nil {
		t.Fatal(err)
	}
	for i, props := range [][3]int{{2, 2, 2}, {3, 0, 0}, {4, 0, 0}, {0, 4, 4}} {
		if err := e.SetProps(props[0], props[1], props[2]); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(want[i<<18 : (i+1)<<18]); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	decodeBoth(t, buf.Bytes(), want, 1<<18)
}

func TestDecoderReaders(t *testing.T) {
	t.Parallel()
	want := mixed(200_000, 5)
	packed := reference(t, want, 1<<16, 3, 0, 2)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with error": iotest.DataErrReader,
	} {
		got, err := io.ReadAll(NewDecoder(wrap(bytes.NewReader(packed)), 1<<16))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes and %v, want %d", name, len(got), err, len(want))
		}
	}
	if err := iotest.TestReader(NewDecoder(bytes.NewReader(packed), 1<<16), want); err != nil {
		t.Error(err)
	}
	failed := errors.New("failed")
	_, err := io.ReadAll(NewDecoder(io.MultiReader(bytes.NewReader(packed[:5000]), iotest.ErrReader(failed)), 1<<16))
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the reader's own error", err)
	}
}

func TestDecodeTruncated(t *testing.T) {
	t.Parallel()
	want := mixed(3000, 6)
	packed := reference(t, want, 1<<16, 3, 0, 2)
	for n := range packed {
		got := make([]byte, len(want))
		if _, _, err := DecodeInto(got, packed[:n], 1<<16); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: DecodeInto gives %v", n, err)
		}
		if _, err := io.ReadAll(NewDecoder(bytes.NewReader(packed[:n]), 1<<16)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: Decoder gives %v", n, err)
		}
		if _, _, err := Walk(bufio.NewReader(bytes.NewReader(packed[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: Walk gives %v", n, err)
		}
	}
}

// Every single damaged bit of the compressed data either leads to an error or to other bytes, the same from both
// decoders, and never to anything else.
func TestDecodeDamaged(t *testing.T) {
	t.Parallel()
	want := mixed(2500, 8)
	packed := reference(t, want, 1<<16, 3, 0, 2)
	failed := 0
	for bit := range 8 * len(packed) {
		bad := bytes.Clone(packed)
		bad[bit/8] ^= 1 << (bit % 8)
		got := make([]byte, 2*len(want))
		n, _, err := DecodeInto(got, bad, 1<<16)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrShort) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if err != nil {
			failed++
		}
		streamed, err2 := io.ReadAll(NewDecoder(bytes.NewReader(bad), 1<<16))
		if err == nil && (err2 != nil || !bytes.Equal(streamed, got[:n])) {
			t.Fatalf("bit %d: the decoders differ: %d bytes, and %d with %v", bit, n, len(streamed), err2)
		}
	}
	// The range decoder ends at 0 by chance only.
	if failed < 8*len(packed)*99/100 {
		t.Errorf("only %d of %d damages were seen", failed, 8*len(packed))
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	lzma := reference(t, bytes.Repeat([]byte("abcd"), 100), 1<<16, 3, 0, 2)
	body := lzma[6 : len(lzma)-1]
	with := func(control, props byte) []byte {
		b := bytes.Clone(lzma)
		b[0], b[5] = control, props
		return b
	}
	far := mixed(20_000, 9)
	far = append(far, far...)
	for _, c := range []struct {
		name   string
		packed []byte
		dict   int
		want   error
	}{
		{"valid", lzma, 1 << 16, nil},
		{"empty", nil, 1 << 16, io.ErrUnexpectedEOF},
		{"only the end", []byte{0}, 1 << 16, nil},
		{"first chunk keeps the dictionary", append([]byte{2, 0, 0, 'x'}, 0), 1 << 16, ErrCorrupt},
		{"first chunk sets properties only", with(0xC0, 0x5D), 1 << 16, ErrCorrupt},
		{"first chunk keeps properties", append([]byte{0x80, 1, 143, 0, byte(len(body) - 1)}, append(body[:len(body):len(body)], 0)...), 1 << 16, ErrCorrupt},
		{"no properties behind a stored chunk", append([]byte{1, 0, 0, 'x', 0xA0, 1, 143, 0, byte(len(body) - 1)}, append(body[:len(body):len(body)], 0)...), 1 << 16, ErrCorrupt},
		{"unknown control byte", []byte{1, 0, 0, 'x', 3, 0, 0, 'x', 0}, 1 << 16, ErrCorrupt},
		{"unknown control byte 7F", []byte{1, 0, 0, 'x', 0x7F, 0, 0, 'x', 0}, 1 << 16, ErrCorrupt},
		{"lc + lp above 4", with(0xE0, (2*5+1)*9+4), 1 << 16, ErrCorrupt},
		{"properties above 224", with(0xE0, 225), 1 << 16, ErrCorrupt},
		{"range coder begins with 1", append(append(append([]byte(nil), lzma[:6]...), 1), lzma[7:]...), 1 << 16, ErrCorrupt},
		{"range coder begins full", append(append(append([]byte(nil), lzma[:6]...), 0, 255, 255, 255, 255), lzma[11:]...), 1 << 16, ErrCorrupt},
		{"chunk of less than 5 bytes", []byte{0xE0, 0, 0, 0, 3, 0x5D, 0, 0, 0, 0, 0}, 1 << 16, ErrCorrupt},
		{"a distance behind the beginning", []byte{0xE0, 0, 9, 0, 7, 0x5D, 0, 255, 255, 0, 0, 0, 0, 0, 0}, 1 << 16, ErrCorrupt},
		{"a distance behind the dictionary", reference(t, far, 1<<16, 3, 0, 2), 4096, ErrCorrupt},
		{"more than fits", reference(t, mixed(100_000, 9), 1<<16, 3, 0, 2), 1 << 16, ErrShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := DecodeInto(make([]byte, len(far)), c.packed, c.dict)
			if !errors.Is(err, c.want) {
				t.Errorf("DecodeInto gives %v, want %v", err, c.want)
			}
			if errors.Is(c.want, ErrShort) {
				return
			}
			if _, err = io.ReadAll(NewDecoder(bytes.NewReader(c.packed), c.dict)); !errors.Is(err, c.want) {
				t.Errorf("Decoder gives %v, want %v", err, c.want)
			}
		})
	}
}

// A chunk that promises more or less than its data gives is refused.
func TestDecodeWrongSizes(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("abcdefgh"), 40)
	packed := reference(t, want, 1<<16, 3, 0, 2)
	for _, by := range []int{-2, -1, 1, 2} {
		bad := bytes.Clone(packed)
		bad[2] = byte(int(bad[2]) + by)
		if _, _, err := DecodeInto(make([]byte, 1000), bad, 1<<16); !errors.Is(err, ErrCorrupt) {
			t.Errorf("plain size off by %d: %v", by, err)
		}
	}
	long := bytes.Clone(packed[:len(packed)-1])
	long[4]++
	long = append(long, 0, 0)
	if _, _, err := DecodeInto(make([]byte, 1000), long, 1<<16); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte is left over: %v", err)
	}
}

// A dictionary that a header claims costs nothing.
func TestDecoderAllocates(t *testing.T) {
	packed := reference(t, []byte("a few bytes"), 4096, 3, 0, 2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := io.ReadAll(NewDecoder(bytes.NewReader(packed), 1<<30))
	runtime.ReadMemStats(&after)
	if err != nil || string(got) != "a few bytes" {
		t.Fatal(string(got), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("%d bytes were allocated for a dictionary of 1 GiB that is not used", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(reference(f, mixed(3000, 1), 1<<16, 3, 0, 2))
	f.Add(reference(f, mixed(300, 2), 1<<16, 0, 4, 0))
	f.Add(reference(f, bytes.Repeat([]byte{0}, 5000), 1<<16, 4, 0, 4))
	f.Add([]byte{1, 0, 2, 'a', 'b', 'c', 0})
	f.Fuzz(func(t *testing.T, packed []byte) {
		const dict, most = 1 << 16, 1 << 18
		d := NewDecoder(bytes.NewReader(packed), dict)
		streamed, err := io.ReadAll(io.LimitReader(d, most))
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		direct := make([]byte, most)
		n, consumed, err2 := DecodeInto(direct, packed, dict)
		if err == nil && err2 == nil && (!bytes.Equal(direct[:n], streamed) || int64(consumed) != d.Consumed()) {
			t.Fatal("DecodeInto and Decoder differ")
		}
		if (err == nil) != (err2 == nil) && !errors.Is(err2, ErrShort) && len(streamed) < most {
			t.Fatalf("Decoder says %v, DecodeInto says %v", err, err2)
		}
		if err2 != nil {
			return
		}
		// What we take, another decoder must take and read the same.
		r, err := ulzma.Reader2Config{DictCap: dict}.NewReader2(bytes.NewReader(packed))
		if err != nil {
			t.Fatalf("we decode what the reference does not begin: %v", err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, direct[:n]) {
			t.Fatalf("the reference gives %d bytes and %v, we give %d", len(got), err, n)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	want := mixed(16<<20, 10)
	packed := reference(b, want, 8<<20, 3, 0, 2)
	b.Run("decoder=into", func(b *testing.B) {
		b.SetBytes(int64(len(want)))
		dst := make([]byte, len(want))
		for b.Loop() {
			if _, _, err := DecodeInto(dst, packed, 8<<20); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decoder=stream", func(b *testing.B) {
		b.SetBytes(int64(len(want)))
		for b.Loop() {
			if _, err := io.Copy(io.Discard, NewDecoder(bytes.NewReader(packed), 8<<20)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decoder=ulikunitz", func(b *testing.B) {
		b.SetBytes(int64(len(want)))
		for b.Loop() {
			r, err := ulzma.Reader2Config{DictCap: 8 << 20}.NewReader2(bytes.NewReader(packed))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

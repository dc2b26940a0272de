package lzma_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz/lzma"

	sut "github.com/senbonzakura/senbonzakura/internal/lzma"
)

type generator struct {
	name string
	make func(n int) []byte
}

// generators make content of different kinds, the same every time.
var generators = []generator{
	{"zeros", func(n int) []byte { return make([]byte, n) }},
	{"random", random},
	{"period 1 to 300", func(n int) []byte {
		var out []byte
		for p := 1; len(out) < n; p = p%300 + 7 {
			out = append(out, bytes.Repeat(random(p), 1+4000/p)...)
		}
		return out[:n]
	}},
	{"period 5000", func(n int) []byte { return bytes.Repeat(random(5000), n/5000+1)[:n] }},
	{"sparse", sparse},
	{"sparse and random", func(n int) []byte {
		out := sparse(n)
		for i := 0; i+70000 < n; i += 200000 {
			copy(out[i:], random(70000))
		}
		return out
	}},
	{"text", func(n int) []byte {
		r := rand.New(rand.NewPCG(1, 2))
		var out []byte
		for len(out) < n {
			out = fmt.Appendf(out, "%d words of %x and %d\n", r.IntN(50), r.IntN(1000), r.IntN(100000))
		}
		return out[:n]
	}},
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// sparse looks like the difference block of a patch.
func sparse(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 9))
	out := make([]byte, n)
	for i := 0; i < n; i += 1 + r.IntN(1<<r.IntN(11)) {
		out[i] = byte(r.IntN(1 << r.IntN(9)))
		if r.IntN(3) == 0 && i+4 < n {
			copy(out[i:], []byte{0xF8, 0xFF, 0xFF})
		}
	}
	return out
}

func compress(tb testing.TB, data []byte, o sut.EncoderOptions) []byte {
	tb.Helper()
	var out bytes.Buffer
	e, err := sut.NewEncoder(&out, o)
	if err != nil {
		tb.Fatal(err)
	}
	if n, err := e.Write(data); n != len(data) || err != nil {
		tb.Fatalf("Write: got %d, %v; want %d, nil", n, err, len(data))
	}
	if err := e.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// check decodes packed with a decoder of other people.
func check(tb testing.TB, packed, want []byte, dict int) {
	tb.Helper()
	if dict == 0 {
		dict = 8 << 20
	}
	r, err := lzma.Reader2Config{DictCap: max(dict, 4096)}.NewReader2(bytes.NewReader(packed))
	if err != nil {
		tb.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		n := 0
		for n < len(got) && n < len(want) && got[n] == want[n] {
			n++
		}
		tb.Fatalf("decoded %d bytes, error %v; want %d; %d agree", len(got), err, len(want), n)
	}
}

// checkXZ decodes packed with the xz program.
func checkXZ(tb testing.TB, packed, want []byte, dict int) {
	tb.Helper()
	xz, err := exec.LookPath("xz")
	if err != nil {
		tb.Skip("the xz program is not installed")
	}
	if dict == 0 {
		dict = 8 << 20
	}
	cmd := exec.CommandContext(tb.Context(), xz, "--format=raw", fmt.Sprintf("--lzma2=dict=%d", max(dict, 4096)), "-dc")
	cmd.Stdin = bytes.NewReader(packed)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, want) {
		tb.Fatalf("xz decoded %d bytes, error %v; want %d", len(got), err, len(want))
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	options := []sut.EncoderOptions{
		{LC: 3, PB: 2},
		{DictSize: 4096, LC: 0, LP: 4, PB: 4},
		{DictSize: 1 << 16, LC: 4, NiceLen: 32, Depth: 4, MinRun: 16},
		{LC: 3, Extreme: true},
	}
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 2, 3, 4, 5, 273, 5000, 65536, 200_000} {
				for k, o := range options {
					if n > 65536 && k != 2 {
						continue // more than the dictionary holds
					}
					data := g.make(n)
					packed := compress(t, data, o)
					check(t, packed, data, o.DictSize)
					if n >= 65536 {
						checkXZ(t, packed, data, o.DictSize)
					}
				}
			}
		})
	}
}

// A write of any size, one byte or all, must give the same chunks.
func TestWriteSizes(t *testing.T) {
	t.Parallel()
	data := sparse(3 << 20) // more than the window holds
	o := sut.EncoderOptions{DictSize: 1 << 20, LC: 3, NiceLen: 40, Depth: 4}
	want := compress(t, data, o)
	check(t, want, data, o.DictSize)
	var out bytes.Buffer
	e, err := sut.NewEncoder(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 1+r.IntN(1<<r.IntN(20)))
		if _, err := e.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes in pieces, %d bytes at once", out.Len(), len(want))
	}
}

// Content larger than the window, so that it slides again and again, inside long runs too.
// That is for every day; SENBON_LONG makes it 200 MB at full strength, where time in proportion
// to size shows as well.
func TestLarge(t *testing.T) {
	t.Parallel()
	long := false
	size, o := 5<<19, sut.EncoderOptions{DictSize: 1 << 16, LC: 3, NiceLen: 32, Depth: 4}
	if v := os.Getenv("SENBON_LONG"); v != "" && v != "0" {
		long, size, o = true, 200<<20, sut.EncoderOptions{DictSize: 1 << 16, LC: 3}
	}
	for _, g := range append(generators, generator{"zeros and islands", func(n int) []byte {
		out := make([]byte, n)
		for i := 500_000; i+3000 < n; i += 1_234_567 {
			copy(out[i:], sparse(3000))
		}
		return out
	}}) {
		if !long && (g.name == "text" || g.name == "random" || g.name == "period 5000") {
			continue // slow, and the others have some of each
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			data := g.make(size)
			check(t, compress(t, data, o), data, o.DictSize)
		})
	}
}

func TestSetProps(t *testing.T) {
	t.Parallel()
	data := append(append(sparse(100_000), random(80_000)...), sparse(200_001)...)
	var out bytes.Buffer
	e, err := sut.NewEncoder(&out, sut.EncoderOptions{LC: 3, PB: 2})
	if err != nil {
		t.Fatal(err)
	}
	props := [][3]int{{0, 0, 0}, {4, 0, 0}, {0, 4, 4}, {0, 4, 4}, {2, 2, 1}, {3, 0, 2}}
	at := 0
	for i, to := range []int{0, 10, 70_000, 170_000, 270_000, len(data)} {
		if _, err := e.Write(data[at:to]); err != nil {
			t.Fatal(err)
		}
		at = to
		if err := e.SetProps(props[i][0], props[i][1], props[i][2]); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][3]int{{5, 0, 0}, {3, 2, 0}, {-1, 0, 0}, {0, 0, 5}} {
		if err := e.SetProps(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("SetProps(%v): got no error", bad)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, out.Bytes(), data, 0)
	checkXZ(t, out.Bytes(), data, 0)
}

// What is chosen depends on what comes, wherever it is cut.
func TestChooseProps(t *testing.T) {
	t.Parallel()
	words := make([]byte, 0, 100_000)
	r := rand.New(rand.NewPCG(5, 6))
	for len(words) < cap(words) {
		words = append(words, byte(r.IntN(3)), byte(r.IntN(40)), 0x40, byte(0xF0+r.IntN(3)))
	}
	choices := []sut.Props{{LC: 4}, {LC: 2, LP: 2, PB: 2}, {LC: 3, PB: 2}}
	for _, c := range []struct {
		name string
		data []byte
		want byte
	}{
		{"words", words, (2*5+2)*9 + 2},
		{"few words", words[:1000], (2*5+2)*9 + 2},
		{"random", random(70_000), 0}, // stored: no properties at all
		{"sparse", sparse(600_000), 4},
		{"one byte", []byte{1}, 0},
		{"nothing", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var want []byte
			for _, cut := range []int{1 << 30, 700} {
				var out bytes.Buffer
				e, err := sut.NewEncoder(&out, sut.EncoderOptions{DictSize: 1 << 17, PB: 1, LC: 1})
				if err != nil {
					t.Fatal(err)
				}
				before := sparse(30_003)
				if _, err := e.Write(before); err != nil {
					t.Fatal(err)
				}
				if err := e.ChooseProps(choices...); err != nil {
					t.Fatal(err)
				}
				at := out.Len()
				for rest := c.data; len(rest) > 0; {
					n := min(cut, len(rest))
					if _, err := e.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				check(t, out.Bytes(), append(before, c.data...), 1<<17)
				if head := out.Bytes()[at:]; head[0] >= 0xC0 && head[5] != c.want {
					t.Errorf("properties: got %d, want %d", head[5], c.want)
				} else if head[0] < 0xC0 && c.want != 0 {
					t.Errorf("control byte: got %#x, want new properties", head[0])
				}
				if want != nil && !bytes.Equal(out.Bytes(), want) {
					t.Errorf("in writes of %d bytes it is another stream", cut)
				}
				want = out.Bytes()
			}
		})
	}
	e, err := sut.NewEncoder(io.Discard, sut.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]sut.Props{nil, {{LC: 5}}, {{}, {PB: -1}}} {
		if err := e.ChooseProps(bad...); err == nil {
			t.Errorf("ChooseProps(%v): got no error", bad)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e, err := sut.NewEncoder(&out, sut.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	if !bytes.Equal(out.Bytes(), []byte{0}) {
		t.Errorf("nothing, compressed: got %x, want 00", out.Bytes())
	}
	if _, err := e.Write([]byte{1}); err == nil {
		t.Error("Write after Close: got no error")
	}
	if err := e.SetProps(0, 0, 0); err == nil {
		t.Error("SetProps after Close: got no error")
	}
}

type failAfter struct{ n int }

var errFull = errors.New("full")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// Whichever write fails, the error comes out, and again from every later call.
func TestWriteError(t *testing.T) {
	t.Parallel()
	for n := range 100 {
		e, err := sut.NewEncoder(&failAfter{n}, sut.EncoderOptions{DictSize: 1 << 16, NiceLen: 16, Depth: 2})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = e.Write(random(100_000))
		_ = e.SetProps(1, 1, 1)
		_, _ = e.Write(sparse(10_000))
		err = e.Close()
		if err == nil {
			if n < 5 {
				t.Fatalf("only %d writes", n)
			}
			return
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("failing write %d: got %v, want %v", n, err, errFull)
		}
		if err := e.Close(); !errors.Is(err, errFull) {
			t.Fatalf("second Close: got %v, want %v", err, errFull)
		}
	}
	t.Fatal("never succeeds")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []sut.EncoderOptions{
		{DictSize: -1},
		{DictSize: sut.MaxDictSize + 1},
		{LC: 5},
		{LC: 3, LP: 2},
		{PB: 5},
		{LP: -1},
		{NiceLen: 4},
		{NiceLen: 274},
		{Depth: -1},
		{MinRun: 3},
		{MinRun: 274},
	} {
		if _, err := sut.NewEncoder(io.Discard, o); err == nil {
			t.Errorf("NewEncoder(%+v): got no error", o)
		}
	}
}

// BenchmarkEncode reports the compressed size beside the speed. SENBON_LZMA_FILES names more
// inputs, separated as in PATH: real patches, for example.
func BenchmarkEncode(b *testing.B) {
	inputs := slices.Clone(generators)
	for _, name := range filepath.SplitList(os.Getenv("SENBON_LZMA_FILES")) {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		inputs = append(inputs, generator{filepath.Base(name), func(int) []byte { return data }})
	}
	for _, level := range []struct {
		name string
		o    sut.EncoderOptions
	}{
		{"full", sut.EncoderOptions{LC: 3, PB: 2, NiceLen: 64, MinRun: 16}},
		{"patch", sut.EncoderOptions{LC: 3}},
		{"extreme", sut.EncoderOptions{LC: 3, Extreme: true}},
	} {
		for _, g := range inputs {
			data := g.make(1 << 20)
			b.Run("level="+level.name+"/input="+strings.ReplaceAll(g.name, " ", "-"), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				n := 0
				for b.Loop() {
					n = len(compress(b, data, level.o))
				}
				b.ReportMetric(float64(n), "packed-bytes")
			})
		}
	}
}

func FuzzEncoder(f *testing.F) {
	f.Add([]byte("abcabcabc"), uint16(3), uint8(3), uint8(0), uint8(2))
	f.Add(sparse(500), uint16(100), uint8(0), uint8(4), uint8(4))
	f.Add(make([]byte, 2000), uint16(1000), uint8(4), uint8(0), uint8(0))
	f.Add(random(300), uint16(299), uint8(1), uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, lc, lp, pb uint8) {
		var out bytes.Buffer
		e, err := sut.NewEncoder(&out, sut.EncoderOptions{DictSize: 4096, LC: 3, PB: 2})
		if err != nil {
			t.Fatal(err)
		}
		n := min(int(cut), len(data))
		if _, err := e.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		err = e.SetProps(int(lc), int(lp), int(pb))
		if valid := lc+lp <= 4 && lc <= 4 && lp <= 4 && pb <= 4; valid != (err == nil) {
			t.Fatalf("SetProps(%d, %d, %d): got %v", lc, lp, pb, err)
		}
		if _, err := e.Write(data[n:]); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, out.Bytes(), data, 4096)
	})
}

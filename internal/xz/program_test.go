package xz

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// What the xz program writes, we read.
func TestReadProgram(t *testing.T) {
	t.Parallel()
	want := sample(100_000)
	var cases [][]string
	for f := X86; f <= ARM64; f++ {
		for _, check := range []string{"none", "crc32", "crc64", "sha256"} {
			cases = append(cases, []string{"--check=" + check, "--" + f.String(), "--lzma2=preset=1"})
		}
	}
	for preset := range 10 {
		cases = append(cases, []string{fmt.Sprintf("-%d", preset)})
		if preset%3 == 0 || testkit.Count(0, 1, 1) == 1 {
			cases = append(cases, []string{fmt.Sprintf("-%de", preset)}, []string{"--x86", fmt.Sprintf("--lzma2=preset=%d", preset)})
		}
	}
	for _, dist := range []int{1, 2, 3, 4, 7, 16, 255, 256} {
		cases = append(cases, []string{fmt.Sprintf("--delta=dist=%d", dist), "--lzma2=preset=0"})
	}
	for _, props := range []string{"lc=0,lp=0,pb=0", "lc=4,lp=0,pb=4", "lc=0,lp=4,pb=0", "lc=2,lp=2,pb=2"} {
		cases = append(cases, []string{"--lzma2=preset=4," + props})
	}
	cases = append(cases,
		[]string{"--delta=dist=4", "--x86", "--lzma2=preset=2"},
		[]string{"--x86", "--delta=dist=3", "--arm", "--lzma2=preset=2"},
		[]string{"--block-size=10000", "-1"},
		[]string{"--block-list=1,2,3,40000,5,0", "--sparc", "--lzma2=preset=1"},
		[]string{"-T2", "--block-size=30000", "-1"}, // sizes in the block headers
		[]string{"--lzma2=dict=4KiB"}, []string{"--lzma2=dict=64MiB"}, []string{"--lzma2=dict=6MiB"},
	)
	for _, args := range cases {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			packed, err := run(t, want, append(args, "-c")...)
			if err != nil && strings.Contains(err.Error(), "--arm64") {
				t.Skip("this xz has no arm64 filter, which came with 5.4")
			}
			if err != nil {
				t.Fatal(err)
			}
			mustRead(t, packed, want)
		})
	}
}

// What we write, the xz program reads.
func TestWriteProgram(t *testing.T) {
	t.Parallel()
	var cases []WriterOptions
	for f := None; f <= ARM64; f++ {
		for c := CRC64; c <= CheckNone; c++ {
			cases = append(cases, small(f, c))
		}
	}
	for _, l := range []Level{Fast, Level6, Best, Extreme} {
		for _, dict := range []int{4 << 10, 100_000, 3 << 20, 8 << 20} {
			cases = append(cases, WriterOptions{Level: l, DictSize: dict, Filter: X86})
		}
	}
	cases = append(cases,
		WriterOptions{Level: Best, DictSize: 1 << 16, Blocks: []Block{{1000, 0, 0, 0}, {0, 3, 1, 4}, {12_000, 0, 4, 2}, {7, 4, 0, 1}}},
		WriterOptions{Level: Extreme, DictSize: 1 << 16, Patch: true},
	)
	for _, o := range cases {
		t.Run(o.ID(), func(t *testing.T) {
			t.Parallel()
			sizes := []int{0, 1, 3, 4, 5, 17, 20_000}
			if o.Level != Level6 || o.Check != CRC64 { // the small ones are about filters
				sizes = sizes[testkit.Count(5, 0, 0):]
			}
			for _, n := range sizes {
				want := sample(n)
				packed := pack(t, want, o)
				mustRead(t, packed, want)
				got, err := run(t, packed, "-dc", "--no-warn")
				if err != nil && o.Filter == ARM64 && strings.Contains(err.Error(), "nsupported") {
					t.Skip("this xz has no arm64 filter, which came with 5.4")
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes: xz gives %d and %v", n, len(got), err)
				}
			}
		})
	}
}

// Everything but the compressed data is what the xz program writes with one thread.
func TestWriteAsProgram(t *testing.T) {
	t.Parallel()
	for _, check := range []Check{CRC64, CRC32, SHA256, CheckNone} {
		for _, filter := range []Filter{None, X86, ARM} {
			o := WriterOptions{Level: Level6, Check: check, Filter: filter}
			args := []string{"-c", "-T1", "--check=" + check.String()}
			if filter != None {
				args = append(args, "--"+filter.String())
			}
			args = append(args, "--lzma2=preset=6")
			name := o.ID()
			if got, want := pack(t, nil, o), program(t, nil, args...); !bytes.Equal(got, want) {
				t.Errorf("%s: no bytes become % x, want % x", name, got, want)
			}
			in := sample(1000)
			got, want := pack(t, in, o), program(t, in, args...)
			if !bytes.Equal(got[:24], want[:24]) {
				t.Errorf("%s: headers are % x, want % x", name, got[:24], want[:24])
			}
			// Behind the data: check, index with two sizes, footer. The data's size may differ.
			size := check.size()
			tail := func(b []byte) []byte { return b[len(b)-12-12-size:] }
			g, w := tail(got), tail(want)
			if !bytes.Equal(g[:size], w[:size]) {
				t.Errorf("%s: the check is % x, want % x", name, g[:size], w[:size])
			}
			if !bytes.Equal(g[size:size+2], w[size:size+2]) || len(got)%4 != 0 || !bytes.Equal(g[len(g)-8:], w[len(w)-8:]) {
				t.Errorf("%s: index and footer are % x, want as % x", name, g[size:], w[size:])
			}
		}
	}
}

// Concatenated files are one file.
func TestReadStreams(t *testing.T) {
	t.Parallel()
	a, b := sample(5000), sample(70_000)
	pa, pb := pack(t, a, small(X86, CRC32)), pack(t, b, small(None, SHA256))
	empty := pack(t, nil, WriterOptions{})
	zeros := func(n int) []byte { return make([]byte, n) }
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for _, c := range []struct {
		name   string
		packed []byte
		want   []byte
	}{
		{"two", join(pa, pb), join(a, b)},
		{"two with padding", join(pa, zeros(4), pb, zeros(8)), join(a, b)},
		{"three with much padding", join(pb, zeros(4096), pa, zeros(5000), pb), join(b, a, b)},
		{"empty ones between", join(empty, pa, empty, zeros(1024), empty, pb, empty), join(a, b)},
		{"only empty ones", join(empty, empty), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustRead(t, c.packed, c.want)
			if got := program(t, c.packed, "-dc"); !bytes.Equal(got, c.want) {
				t.Errorf("xz gives %d bytes, want %d", len(got), len(c.want))
			}
		})
	}
	for _, c := range []struct {
		name   string
		packed []byte
	}{
		{"padding of 3", join(pa, zeros(3))},
		{"padding of 5 between", join(pa, zeros(5), pb)},
		{"padding first", join(zeros(4), pa)},
		{"only padding", zeros(64)},
		{"rubbish behind", join(pa, []byte("rubbish!"))},
		{"rubbish behind padding", join(pa, zeros(4), []byte("rubbish!rubbish!"))},
		{"second stream cut off", join(pa, pb[:len(pb)-5])},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustFail(t, c.packed, nil, ErrFormat)
		})
	}
}

// Members at level 6 are at most 1 % larger than the xz program makes them, at its level 6 with the filter for x86.
func TestLevel6Size(t *testing.T) {
	t.Parallel()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, p...)
	}
	for name, in := range map[string][]byte{
		"program": code[:100_000], "data": code[len(code)*2/3:][:60_000], "head": code[:5000], "text": text[:60_000],
	} {
		got := len(pack(t, in, WriterOptions{Level: Level6, Filter: X86}))
		want := len(program(t, in, "-c", "-T1", "--x86", "--lzma2=preset=6"))
		if got*100 > want*101 {
			t.Errorf("%s: %d bytes become %d, xz makes %d", name, len(in), got, want)
		}
	}
}

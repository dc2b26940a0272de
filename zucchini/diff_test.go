package zucchini

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/exe/exetest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func diff(tb testing.TB, o Options, old, new []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := New(o).Diff(tb.Context(), &b, old, new); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// pairOf is two files to make a patch for.
type pairOf struct {
	name     string
	old, new []byte
	kinds    string // of the elements that are expected, "" for any
}

// generated returns pairs of each kind of executable, with what surrounds them, without, and cut.
func generated(seed uint64) []pairOf {
	var out []pairOf
	add := func(name string, old, new []byte, kinds string) {
		out = append(out, pairOf{fmt.Sprintf("seed %d: %s", seed, name), old, new, kinds})
	}
	var olds, news [][]byte
	r := rand.New(rand.NewPCG(seed, 77))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(256)) & 0x7f // no magic of ELF by chance
		}
		return b
	}
	for _, k := range exetest.Kinds {
		p := exetest.Random(r, k, 5+r.IntN(40))
		q := p.Change(r, r.IntN(8))
		old, new := p.Bytes(), q.Bytes()
		olds, news = append(olds, old), append(news, new)
		kind := k.String()
		if bytes.Equal(old, new) {
			kind = noOp
		}
		add(kind, old, new, kind)
		switch seed % 5 {
		case 0:
			tail := noise(300)
			add(kind+" with a tail", append(bytes.Clone(old), tail...), append(bytes.Clone(new), tail[5:]...), kind+" "+noOp)
		case 1:
			head := noise(300)
			add(kind+" behind something", append(bytes.Clone(head), old...), append(bytes.Clone(head[9:]), new...), noOp+" "+kind)
		case 2:
			add(kind+", old cut", old[:r.IntN(len(old))+1], new, "")
		case 3:
			add(kind+", new cut", old, new[:r.IntN(len(new))+1], "")
		case 4:
			add(kind+", unrelated", old, exetest.Random(r, k, 5+r.IntN(40)).Bytes(), k.String())
		}
	}
	r.Shuffle(len(news), func(i, k int) { news[i], news[k] = news[k], news[i] })
	add("all", bytes.Join(olds, noise(20)), bytes.Join(news, noise(30)), "")
	add("something", noise(1+r.IntN(3000)), noise(1+r.IntN(3000)), noOp)
	return out
}

func TestDiff(t *testing.T) {
	t.Parallel()
	pairs := 0
	for seed := range uint64(testkit.Count(2, 40, 400)) {
		for _, p := range generated(seed) {
			pairs++
			patch := diff(t, Options{Workers: 1}, p.old, p.new)
			for _, workers := range []int{2, 8} {
				if !bytes.Equal(patch, diff(t, Options{Workers: workers}, p.old, p.new)) {
					t.Errorf("%s: another patch with %d workers", p.name, workers)
				}
			}
			got, err := Apply(t.Context(), nil, p.old, patch, nil)
			if err != nil || !bytes.Equal(got, p.new) {
				t.Fatalf("%s: %v", p.name, err)
			}
			for _, broken := range validate(t, p.old, patch, p.new) {
				t.Errorf("%s: %s", p.name, broken)
			}
			info, err := Inspect(t.Context(), patch, nil)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, e := range info.Parts {
				kinds = append(kinds, e.Type)
			}
			if got := strings.Join(kinds, " "); p.kinds != "" && got != p.kinds {
				t.Errorf("%s: got elements %q, want %q", p.name, got, p.kinds)
			}
			plain := diff(t, Options{Plain: true}, p.old, p.new)
			if broken := validate(t, p.old, plain, p.new); len(broken) > 0 {
				t.Errorf("%s: plain: %v", p.name, broken)
			}
			if info, err = Inspect(t.Context(), plain, nil); err != nil || len(info.Parts) != 1 || info.Parts[0].Type != noOp {
				t.Errorf("%s: plain: got %+v, %v", p.name, info, err)
			}
		}
	}
	t.Logf("%d pairs", pairs)
}

// References are what the format is for: a function that is new costs little more than itself.
func TestReferencesPay(t *testing.T) {
	t.Parallel()
	for _, k := range exetest.Kinds {
		r := rand.New(rand.NewPCG(5, uint64(k)))
		p := exetest.Random(r, k, 400)
		q := p.Change(r, 3)
		old, new := p.Bytes(), q.Bytes()
		info := func(o Options) *Info {
			info, err := Inspect(t.Context(), diff(t, o, old, new), nil)
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		with, without := info(Options{}).Parts[0], info(Options{Plain: true}).Parts[0]
		if with.References < 300 || with.Differences*5 > without.Differences {
			t.Errorf("%v: %d bytes differ with %d references, %d without", k, with.Differences, with.References, without.Differences)
		}
	}
}

func TestDiffRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"", "x"}, {"x", ""}, {"", ""}} {
		err := New(Options{}).Diff(t.Context(), &bytes.Buffer{}, []byte(c[0]), []byte(c[1]))
		if !errors.Is(err, ErrEmpty) {
			t.Errorf("%q to %q: got %v, want %v", c[0], c[1], err, ErrEmpty)
		}
	}
	broken := errors.New("broken disk")
	if err := New(Options{}).Diff(t.Context(), failingWriter{broken}, []byte("x"), []byte("y")); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	old := exetest.Random(rand.New(rand.NewPCG(1, 1)), exe.PE64, 500).Bytes()
	if err := New(Options{}).Diff(ctx, &bytes.Buffer{}, old, old[:len(old)-1]); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Files whose headers lie change the format of the patch, not its result, and take no longer than others.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	good := exetest.Random(rand.New(rand.NewPCG(1, 1)), exe.ELFX64, 50).Bytes()
	for name, file := range exetest.Hostile() {
		start := time.Now()
		changed := bytes.Clone(file)
		changed[len(changed)/2]++
		pairs := [][2][]byte{{file, changed}, {good, file}, {file, good}}
		for _, p := range pairs[:testkit.Count(1, 3, 3)] {
			patch := diff(t, Options{}, p[0], p[1])
			if got, err := Apply(t.Context(), nil, p[0], patch, nil); err != nil || !bytes.Equal(got, p[1]) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("%s: took %v", name, d)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	p := exetest.Random(r, exe.PE64, 2000)
	old, new := p.Bytes(), p.Change(r, 30).Bytes()
	var last, calls atomic.Int64
	progress := func(done, total int64) {
		if before := last.Swap(done); done < before || total != int64(len(new)) || done > total {
			t.Errorf("%d of %d after %d", done, total, before)
		}
		calls.Add(1)
	}
	var patch bytes.Buffer
	if err := New(Options{Progress: progress}).Diff(t.Context(), &patch, old, new); err != nil {
		t.Fatal(err)
	}
	if last.Load() != int64(len(new)) || calls.Load() < 2 {
		t.Errorf("ended with %d of %d after %d calls", last.Load(), len(new), calls.Load())
	}
	last.Store(0)
	if _, err := Apply(t.Context(), nil, old, patch.Bytes(), &ApplyOptions{Progress: func(done, total int64) { last.Store(done) }}); err != nil || last.Load() != int64(len(new)) {
		t.Errorf("Apply: %d, %v", last.Load(), err)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	if a, b := New(Options{}).ID(), New(Options{Plain: true}).ID(); a == b {
		t.Errorf("%q names two kinds of patches", a)
	}
	if a, b := New(Options{Workers: 1}).ID(), New(Options{Workers: 7}).ID(); a != b {
		t.Errorf("%q and %q are the same kind of patches", a, b)
	}
}

// Our own patches, damaged in every way that can be thought of, end in a typed error with the updater's number or, where the
// damage is none, in the new file.
func TestDamagedPatches(t *testing.T) {
	t.Parallel()
	most := testkit.Count(2500, 25_000, 500_000)
	count, fine := 0, 0
	codes := make(map[int]int)
	try := func(what string, old, new, patch []byte) {
		count++
		got, err := Apply(t.Context(), nil, old, patch, &ApplyOptions{Limits: Limits{New: 1 << 24}})
		if err == nil {
			if fine++; !bytes.Equal(got, new) {
				t.Errorf("%s: accepted, but not the new file", what)
			}
			return
		}
		var p *PatchError
		if !errors.As(err, &p) {
			t.Errorf("%s: %v", what, err)
			return
		}
		codes[p.Code]++
		if p.Code == 0 && !errors.Is(err, ErrCrash) && !errors.Is(err, ErrLoose) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: no number: %v", what, err)
		}
	}
	for seed := uint64(0); count < most; seed++ {
		for _, p := range generated(seed) {
			r := rand.New(rand.NewPCG(seed, 99))
			patch := diff(t, Options{}, p.old, p.new)
			for _, field := range fields(t, patch) {
				for _, v := range []uint32{0, 1, field.value + 1, field.value - 1, field.value ^ 1<<r.IntN(32), 1 << 31, 1<<32 - 1} {
					if v == field.value {
						continue
					}
					b := bytes.Clone(patch)
					for i := range field.size {
						b[field.at+i] = byte(v >> (8 * i))
					}
					try(fmt.Sprintf("%s: byte %d: %d instead of %d", p.name, field.at, v, field.value), p.old, p.new, b)
				}
			}
			for range 60 {
				b := bytes.Clone(patch)
				at := r.IntN(len(b))
				b[at] ^= 1 << r.IntN(8)
				binary.LittleEndian.PutUint32(b[20:], crc32.ChecksumIEEE(p.new))
				try(fmt.Sprintf("%s: bit at %d", p.name, at), p.old, p.new, b)
				try(fmt.Sprintf("%s: cut at %d", p.name, at), p.old, p.new, patch[:at])
			}
		}
	}
	if fine > count/20 {
		t.Errorf("%d of %d damaged patches make the new file", fine, count)
	}
	t.Logf("%d patches, of which %d make the new file all the same; by number: %v", count, fine, codes)
}

type fieldOf struct {
	at, size int
	value    uint32
}

// fields returns the places of all numbers of fixed size in a patch.
func fields(tb testing.TB, patch []byte) (out []fieldOf) {
	tb.Helper()
	at := 0
	take := func(n int) uint32 {
		v := uint32(0)
		for i := range n {
			v |= uint32(patch[at+i]) << (8 * i)
		}
		out = append(out, fieldOf{at, n, v})
		at += n
		return v
	}
	for _, n := range []int{4, 2, 2, 4, 4, 4, 4} {
		take(n)
	}
	for range take(4) {
		for _, n := range []int{4, 4, 4, 4, 4, 2} {
			take(n)
		}
		for range streams {
			at += int(take(4))
		}
		for range take(4) {
			take(1)
			at += int(take(4))
		}
	}
	if at != len(patch) {
		tb.Fatalf("fields end at %d of %d", at, len(patch))
	}
	return out
}

// Of each pair of the vectors our patch is valid, also by the independent oracle.
func TestDiffVectors(t *testing.T) {
	t.Parallel()
	oracle := testkit.Shared(t, "oracle", "zucchini_oracle.py")
	python, _ := exec.LookPath("python3")
	dir := t.TempDir()
	every := testkit.Count(20, 1, 1)
	for i, v := range vectors(t) {
		if (i+1)%every != 0 {
			continue
		}
		old, new := v.old(t), v.new(t)
		patch := diff(t, Options{}, old, new)
		if got, err := Apply(t.Context(), nil, old, patch, nil); err != nil || !bytes.Equal(got, new) {
			t.Errorf("%s: %v", v.name, err)
		}
		if python == "" || strings.HasPrefix(v.name, "arm-") { // it does not know ARM of 32 bits
			continue
		}
		args := []string{oracle, "validate"}
		for i, b := range [][]byte{old, patch, new} {
			path := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "valid" {
			t.Errorf("%s: %v: %s", v.name, err, out)
		}
	}
}

func FuzzDiff(f *testing.F) {
	for _, p := range generated(3) {
		f.Add(p.old, p.new)
	}
	f.Fuzz(func(t *testing.T, old, new []byte) {
		if len(old) == 0 || len(new) == 0 || len(old) > 1<<16 || len(new) > 1<<16 {
			t.Skip("empty or too much for the slow validator")
		}
		patch := diff(t, Options{}, old, new)
		if broken := validate(t, old, patch, new); len(broken) > 0 {
			t.Fatal(broken)
		}
	})
}

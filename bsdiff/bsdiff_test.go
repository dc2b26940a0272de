package bsdiff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// seeds returns how many random cases a test tries: every day, and with SENBON_LONG.
func seeds(daily, long uint64) uint64 {
	if v := os.Getenv("SENBON_LONG"); v != "" && v != "0" {
		return long
	}
	return daily
}

// repetitive makes old and new files of about n bytes that are hard on searches.
func repetitive(name string, n int) (old, new []byte) {
	r := rand.New(rand.NewPCG(1, 1))
	periodic := func(period int) []byte {
		b := make([]byte, n)
		for i := range b {
			if i < period {
				b[i] = byte(r.IntN(256))
			} else {
				b[i] = b[i-period]
			}
		}
		return b
	}
	kind, _, _ := strings.Cut(name, " ")
	switch kind {
	case "zeros":
		return make([]byte, n), make([]byte, n+1)
	case "period":
		b := periodic(map[string]int{"period 7": 7, "period 4096": 4096, "period 20000": 20000}[name])
		return b, append(bytes.Clone(b[300:]), b[100:1000]...)
	case "sparse":
		old, new = make([]byte, n), make([]byte, n)
		for range n / 1000 {
			old[r.IntN(n)], new[r.IntN(n)] = 1, 1
		}
	case "dense":
		old, new = make([]byte, n), make([]byte, n)
		for range n / 20 {
			old[r.IntN(n)], new[r.IntN(n)] = byte(r.IntN(3)), byte(r.IntN(3))
		}
	case "one":
		old, new = make([]byte, n), make([]byte, n)
		old[n/2], new[n/3], new[n/3*2] = 1, 1, 1
	case "noise":
		old = periodic(64)
		new = bytes.Clone(old)
		for range n / 100 {
			old[r.IntN(n)] ^= byte(r.IntN(3))
			new[r.IntN(n)] ^= byte(r.IntN(3))
		}
	case "fibonacci":
		a, b := []byte("a"), []byte("ab")
		for len(b) < n {
			a, b = b, append(bytes.Clone(b), a...)
		}
		return b[:n], append([]byte("b"), b[5:n-7]...)
	case "runs":
		for len(old) < n {
			old = append(old, bytes.Repeat([]byte{byte(r.IntN(2))}, r.IntN(n/8))...)
			new = append(new, bytes.Repeat([]byte{byte(r.IntN(2))}, r.IntN(n/8))...)
		}
	default:
		panic(name)
	}
	return old, new
}

var repetitiveNames = []string{"zeros", "period 7", "period 4096", "period 20000", "sparse", "dense", "one", "noise", "fibonacci", "runs"}

// The tables for costly files give the same steps as comparing without bounds, and what is compared stays in
// proportion to the sizes.
func TestRepetitive(t *testing.T) {
	t.Parallel()
	for _, name := range repetitiveNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := scanChunk + 3000
			if name == "zeros" || name == "period 7" || name == "one" || name == "runs" {
				n = 8000 // slowest without the tables
			}
			old, new := repetitive(name, n)
			run := func(allowance int64) ([]Triple, *scanner) {
				ix, err := newIndex(t.Context(), old, new)
				if err != nil {
					t.Fatal(err)
				}
				ix.allowance = allowance
				s := &scanner{ctx: t.Context(), scoring: scoringMB, ix: ix, new: new, own: newFinder(ix)}
				triples, err := s.scan(func(_, _ int64) {})
				if err != nil {
					t.Fatal(err)
				}
				return triples, s
			}
			want, _ := run(1 << 62)
			got, s := run(-1)
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if total := int64(len(old) + len(new)); s.ix.compared.Load() > 3*total {
				t.Errorf("compared %d bytes for files of %d", s.ix.compared.Load(), total)
			}
		})
	}
}

func TestWorkersSameBytes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"dense", "noise", "period 20000", "mixed"} {
		var old, new []byte
		if name == "mixed" {
			old, new = mixed(200_000)
		} else {
			old, new = repetitive(name, 100_000)
		}
		for _, m := range []Match{Default, Compatible} {
			want := diff(t, Options{Match: m, Workers: 1}, old, new)
			for _, workers := range []int{2, 8} {
				if got := diff(t, Options{Match: m, Workers: workers}, old, new); !bytes.Equal(got, want) {
					t.Errorf("%s, %v: the patch with %d workers differs from that with one", name, m, workers)
				}
			}
		}
	}
}

// mixed makes a file of random, repeated and copied stretches, and a successor.
func mixed(n int) (old, new []byte) {
	r := rand.New(rand.NewPCG(7, 7))
	for len(old) < n {
		k := 1 + r.IntN(5000)
		switch r.IntN(3) {
		case 0:
			old = append(old, make([]byte, k)...)
		case 1:
			for range k {
				old = append(old, byte(r.Uint32()))
			}
		default:
			if len(old) > k {
				from := r.IntN(len(old) - k)
				old = append(old, old[from:from+k]...)
			}
		}
	}
	for at := 0; at < len(old); {
		k := min(1+r.IntN(20_000), len(old)-at)
		part := bytes.Clone(old[at : at+k])
		for range k / 200 {
			part[r.IntN(k)] += byte(r.IntN(3))
		}
		new = append(new, part...)
		for range r.IntN(60) {
			new = append(new, byte(r.Uint32()))
		}
		at += k
	}
	return old, new
}

func TestProgress(t *testing.T) {
	t.Parallel()
	old, new := mixed(500_000)
	for _, m := range []Match{Default, Compatible} {
		last, calls, total := int64(0), 0, int64(0)
		o := Options{Match: m, Progress: func(done, all int64) {
			if done < last || done > all || calls > 0 && all != total {
				t.Errorf("%v: progress %d of %d after %d of %d", m, done, all, last, total)
			}
			last, total = done, all
			calls++
		}}
		patch := diff(t, o, old, new)
		if last != total || calls < 3 {
			t.Errorf("%v: ended at %d of %d after %d calls", m, last, total, calls)
		}
		last, calls = 0, 0
		p := &PatchOptions{Progress: func(done, all int64) {
			if done < last || all != int64(len(new)) {
				t.Errorf("patch: progress %d of %d after %d", done, all, last)
			}
			last = done
			calls++
		}}
		for _, way := range ways {
			if way.name == "one byte" {
				continue
			}
			last, calls = 0, 0
			if _, err := way.apply(t, old, patch, p); err != nil {
				t.Fatal(err)
			}
			if last != int64(len(new)) || calls < 3 {
				t.Errorf("%s: ended at %d of %d after %d calls", way.name, last, len(new), calls)
			}
		}
	}
}

// cancelAfter ends a context when the n-th byte is written.
type cancelAfter struct {
	n      int
	cancel context.CancelFunc
}

func (c *cancelAfter) Write(b []byte) (int, error) {
	if c.n -= len(b); c.n < 0 {
		c.cancel()
	}
	return len(b), nil
}

func TestCancel(t *testing.T) {
	t.Parallel()
	old, new := mixed(300_000)
	patch := diff(t, Options{}, old, new)
	canceled := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", what, err, context.Canceled)
		}
	}
	for _, m := range []Match{Default, Compatible} {
		// In the middle of the search, which alone gives progress below seven eighths.
		ctx, cancel := context.WithCancel(t.Context())
		seen := false
		o := Options{Match: m, Progress: func(done, all int64) {
			if done > 0 && done < all*3/4 {
				seen = true
				cancel()
			}
		}}
		canceled("in the search", New(o).Diff(ctx, io.Discard, bytes.Repeat(old, 5), bytes.Repeat(new, 5)))
		if !seen {
			t.Errorf("%v: no progress in the search", m)
		}
		cancel()
	}
	for _, f := range []Format{MBDIFF10, BSDIFF40} {
		for _, m := range []Match{Default, Compatible} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			canceled("before", New(Options{Match: m, Format: f}).Diff(ctx, io.Discard, old, new))
			ctx, cancel = context.WithCancel(t.Context())
			at := 200_000
			if f == BSDIFF40 {
				at = 0
			}
			err := New(Options{Match: m, Format: f}).Diff(ctx, &cancelAfter{n: at, cancel: cancel}, old, new)
			if f == MBDIFF10 || err != nil { // BSDIFF40's writes may all come at the very end
				canceled("while writing", err)
			}
			cancel()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Patch(ctx, &cancelAfter{n: 250_000, cancel: cancel}, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), nil)
	canceled("patch", err)
	_, err = PatchBytes(ctx, nil, old, bytes.NewReader(patch), nil)
	canceled("patch", err)
	_, err = PatchTo(ctx, &memory{}, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), nil)
	canceled("patch", err)
	_, err = Inspect(ctx, bytes.NewReader(patch), nil)
	canceled("inspect", err)
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Match: 2}, {Format: 2}} {
		if err := New(o).Diff(t.Context(), io.Discard, nil, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%+v: got %v, want %v", o, err, ErrUnsupported)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]Options{}
	for _, o := range []Options{{}, {Match: Compatible}, {Format: BSDIFF40}, {Match: Compatible, Format: BSDIFF40}} {
		id := New(o).ID()
		if other, ok := seen[id]; ok {
			t.Errorf("%+v and %+v have the same ID %s", o, other, id)
		}
		seen[id] = o
		o.Workers = 7
		if got := New(o).ID(); got != id {
			t.Errorf("the number of workers changes the ID from %s to %s", id, got)
		}
	}
}

func TestMatcherThatIsWrong(t *testing.T) {
	t.Parallel()
	old, new := []byte("0123456789"), []byte("0123456789ab")
	if err := (&blocks{old: old, new: new, triples: []Triple{{Add: 10, Copy: 2, Seek: -10}}}).check(); err != nil {
		t.Error(err)
	}
	for _, triples := range [][]Triple{
		nil,
		{{Add: 10, Copy: 1}},
		{{Add: 10, Copy: 3}},
		{{Add: 11, Copy: 1}},
		{{Add: -1, Copy: 13}},
		{{Add: 13, Copy: -1}},
		{{Add: 10, Copy: 2, Seek: 1}},
		{{Add: 10, Copy: 2, Seek: -11}},
		{{Add: 5, Seek: 1}, {Add: 5, Copy: 2}},
	} {
		if err := (&blocks{old: old, new: new, triples: triples}).check(); err == nil {
			t.Errorf("%v: no error", triples)
		}
	}
}

func TestOverTheLimit(t *testing.T) {
	if ^uint(0)>>32 == 0 {
		t.Skip("no such slices on a 32-bit machine")
	}
	huge := make([]byte, 1<<31-1) // never touched
	for _, f := range []Format{MBDIFF10, BSDIFF40} {
		for _, m := range []Match{Default, Compatible} {
			d := New(Options{Format: f, Match: m})
			if err := d.Diff(t.Context(), io.Discard, huge, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("old file: got %v, want %v", err, ErrTooLarge)
			}
			if err := d.Diff(t.Context(), io.Discard, nil, huge); !errors.Is(err, ErrTooLarge) {
				t.Errorf("new file: got %v, want %v", err, ErrTooLarge)
			}
		}
	}
	// The patch alone is too large: a new file that has nothing in common with the old one.
	b := &blocks{new: huge[:1<<31-2], triples: []Triple{{Copy: 1<<31 - 2}}, progress: func(int) {}}
	if err := b.writeMB(t.Context(), io.Discard); !errors.Is(err, ErrTooLarge) {
		t.Errorf("patch: got %v, want %v", err, ErrTooLarge)
	}
}

// BSDIFF40 against the programs of Debian's package bsdiff.
func TestDebian(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bsdiff", "bspatch"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	steps := func(patch []byte) (list []Triple, info *Info) {
		t.Helper()
		info, err := Inspect(t.Context(), bytes.NewReader(patch), &InspectOptions{Step: func(_ int, s Triple) error {
			list = append(list, s)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return list, info
	}
	for seed := range seeds(8, 40) {
		r := rand.New(rand.NewPCG(seed, 5))
		old, new := randomPair(r, 5000)
		if seed == 0 {
			old, new = mixed(100_000)
		}
		if len(old) == 0 || len(new) == 0 {
			continue // bsdiff cannot map them
		}
		os.WriteFile(file("old"), old, 0o600)
		os.WriteFile(file("new"), new, 0o600)
		run("bsdiff", file("old"), file("new"), file("patch"))
		theirs := read(t, file("patch"))
		for _, way := range ways {
			if got, err := way.apply(t, old, theirs, nil); err != nil || !bytes.Equal(got, new) {
				t.Fatalf("seed %d: %s cannot apply bsdiff's patch: %v", seed, way.name, err)
			}
		}
		for _, m := range []Match{Compatible, Default} {
			ours := diff(t, Options{Match: m, Format: BSDIFF40}, old, new)
			os.WriteFile(file("patch"), ours, 0o600)
			run("bspatch", file("old"), file("made"), file("patch"))
			if !bytes.Equal(read(t, file("made")), new) {
				t.Fatalf("seed %d: bspatch makes something else of our patch", seed)
			}
			got, gotInfo := steps(ours)
			want, wantInfo := steps(theirs)
			if m == Compatible && (!slices.Equal(got, want) || gotInfo.Zeros != wantInfo.Zeros) {
				t.Fatalf("seed %d: got steps %v, bsdiff has %v", seed, got, want)
			}
		}
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	raw := rawMB{triples: [][3]uint32{{8, 2, neg(3)}, {0, 0, 1}, {4, 1, 0}}, diff: append(make([]byte, 10), 7, 8, 9), extra: []byte("xyz"), header: map[int]uint32{16: 20}}
	want := Info{
		Header: Header{Format: MBDIFF10, OldSize: 16, OldCRC: Checksum(hostileOld), NewSize: 20, Control: 36, Difference: 13, Extra: 3},
		Steps:  3, Empty: 1, Added: 12, Copied: 3, UnusedDifference: 1,
		ControlBytes: 36, DifferenceBytes: 13, ExtraBytes: 3, Zeros: 10, LongestAdd: 8, LongestCopy: 2,
	}
	for _, r := range []io.Reader{bytes.NewReader(raw.bytes()), io.MultiReader(bytes.NewReader(raw.bytes()))} {
		got, err := Inspect(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
		if got.ZeroShare() != 10./13 {
			t.Errorf("share of zeros: got %v, want %v", got.ZeroShare(), 10./13)
		}
	}
	stop := errors.New("enough")
	if _, err := Inspect(t.Context(), bytes.NewReader(raw.bytes()), &InspectOptions{Step: func(int, Triple) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	whole := raw.bytes()
	for n := range whole {
		if _, err := Inspect(t.Context(), bytes.NewReader(whole[:n]), nil); !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: got %v, want %v", n, err, ErrFormat)
		}
	}
	bs := rawBS{steps: [][3]uint64{{8, 2, minus | 3}, {4, 1, 1}}, diff: make([]byte, 13), extra: []byte("xyz")}.bytes()
	got, err := Inspect(t.Context(), bytes.NewReader(bs), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Format != BSDIFF40 || got.Steps != 2 || got.Added != 12 || got.Copied != 3 || got.Zeros != 13 || got.UnusedDifference != 1 || got.ControlBytes != 48 || got.ExtraBytes != 3 || got.Extra != -1 {
		t.Errorf("got %+v", *got)
	}
}

// The patch may stand anywhere in a file, and a file is as good as memory.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, new := mixed(300_000)
	file := func(name string, b []byte) *os.File {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, f := range []Format{MBDIFF10, BSDIFF40} {
		patch := diff(t, Options{Format: f}, old, new)
		in, before := file("patch", append([]byte("in front"), patch...)), file("old", old)
		for _, way := range []string{"Patch", "PatchTo", "PatchBytes"} {
			if _, err := in.Seek(8, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			after := file("new", nil)
			var err error
			switch way {
			case "Patch":
				_, err = Patch(t.Context(), after, before, int64(len(old)), in, nil)
			case "PatchTo":
				_, err = PatchTo(t.Context(), after, before, int64(len(old)), in, nil)
			default:
				var b []byte
				b, err = PatchBytes(t.Context(), nil, old, in, nil)
				after.Write(b)
			}
			if err != nil {
				t.Fatalf("%v, %s: %v", f, way, err)
			}
			if !bytes.Equal(read(t, after.Name()), new) {
				t.Errorf("%v, %s: result differs", f, way)
			}
		}
	}
}

// All that is ever allocated, also what is free again at the peak, is within what PeakMemory says.
func TestPeakMemory(t *testing.T) {
	for _, name := range append([]string{"mixed"}, repetitiveNames...) {
		var old, new []byte
		if name == "mixed" {
			old, new = mixed(500_000)
		} else {
			old, new = repetitive(name, 100_000)
		}
		for _, workers := range []int{1, 2} {
			d := New(Options{Match: Compatible, Workers: workers})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := d.Diff(t.Context(), io.Discard, old, new); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used, declared := int64(after.TotalAlloc-before.TotalAlloc), d.PeakMemory(int64(len(old)), int64(len(new))); used > declared {
				t.Errorf("%s, %d workers: allocated %d bytes, declared %d", name, workers, used, declared)
			}
		}
	}
}

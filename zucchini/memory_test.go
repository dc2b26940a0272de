package zucchini

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/exe/exetest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// used returns how much memory was in use at most while a patch was made, as far as progress tells and at the end, when it is
// written.
func used(tb testing.TB, o Options, old, new []byte) (peak int64) {
	tb.Helper()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	look := func() { peak = max(peak, heap()-before) }
	o.Progress = func(_, _ int64) { look() }
	err := New(o).Diff(tb.Context(), writerFunc(func(b []byte) (int, error) {
		look()
		return len(b), nil
	}), old, new)
	if err != nil {
		tb.Fatal(err)
	}
	return peak
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestPeakMemory holds the declared memory to what is in use. Not parallel: it looks at the whole heap.
func TestPeakMemory(t *testing.T) {
	if testkit.Race {
		t.Skip("takes long with the race detector, and is a single goroutine's work")
	}
	r := rand.New(rand.NewPCG(1, 1))
	p := exetest.Random(r, exe.ELFX64, testkit.Count(1500, 60_000, 60_000))
	program, next := p.Bytes(), p.Change(r, 40).Bytes()
	noise, zeros := make([]byte, 1<<20+1), make([]byte, 1<<20+1)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	calls := append([]byte(nil), program...) // as many references as there can be
	for i := 4096; i+5000 < len(calls); i += 5 {
		copy(calls[i:], []byte{0xe8, byte(i), 0, 0, 0})
	}
	for _, c := range []struct {
		name     string
		old, new []byte
	}{
		{"program", program, next},
		{"calls", calls, next},
		{"to calls", program, calls},
		{"noise", zeros, noise},
		{"small", noise[:1000], noise[:5000]},
		{"much from little", noise[:1000], noise},
		{"little from much", noise, noise[:1000]},
	} {
		got := used(t, Options{Workers: 1}, c.old, c.new)
		declared := New(Options{Workers: 1}).PeakMemory(int64(len(c.old)), int64(len(c.new)))
		t.Logf("%s: %d and %d bytes: declared %d, measured %d", c.name, len(c.old), len(c.new), declared, got)
		if got > declared {
			t.Errorf("%s: declared peak %d, measured %d", c.name, declared, got)
		}
	}
}

// Of a large library most of what is declared is used: SENBON_FIREFOX names the directory with the trees from and to.
func TestPeakMemoryFirefox(t *testing.T) {
	old, new := libxul(t, "from"), libxul(t, "to")
	got, declared := used(t, Options{}, old, new), New(Options{}).PeakMemory(int64(len(old)), int64(len(new)))
	t.Logf("declared %d, measured %d", declared, got)
	if got > declared || got < declared*3/4 {
		t.Errorf("declared peak %d, measured %d", declared, got)
	}
}

// libxul returns the large library of a release, changed so that it is looked at as an executable: without the section
// that newer linkers give it.
func libxul(tb testing.TB, side string) []byte {
	tb.Helper()
	dir := os.Getenv("SENBON_FIREFOX")
	if dir == "" {
		tb.Skip("SENBON_FIREFOX does not name a directory with the trees from and to")
	}
	b, err := os.ReadFile(filepath.Join(dir, side, "libxul.so"))
	if err != nil {
		tb.Fatal(err)
	}
	return exetest.WithoutRelroPadding(b)
}

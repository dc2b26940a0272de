package match

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// apply makes the new file from old and the steps as a reader of MBDIFF10 would, with all its checks.
func apply(old, new []byte, steps []Triple) ([]byte, error) {
	out := make([]byte, 0, len(new))
	pos := 0
	for i, s := range steps {
		if s.Add < 0 || s.Copy < 0 || int(s.Add) > len(old)-pos || int(s.Add)+int(s.Copy) > len(new)-len(out) {
			return nil, fmt.Errorf("step %d, %+v at %d: outside of a file", i, s, pos)
		}
		for k := range int(s.Add) {
			diff := new[len(out)] - old[pos+k]
			out = append(out, old[pos+k]+diff)
		}
		pos += int(s.Add)
		out = append(out, new[len(out):len(out)+int(s.Copy)]...)
		pos += int(s.Seek)
		if pos < 0 || pos > len(old) {
			return nil, fmt.Errorf("step %d, %+v: moves to %d of %d", i, s, pos, len(old))
		}
	}
	if n := len(steps); n > 0 && steps[n-1].Seek != 0 {
		return nil, fmt.Errorf("the last step %+v moves", steps[n-1])
	}
	if len(out) != len(new) {
		return nil, fmt.Errorf("made %d bytes of %d", len(out), len(new))
	}
	return out, nil
}

// mustMatch runs Default and checks that its steps are valid.
func mustMatch(tb testing.TB, old, new []byte, o Options) []Triple {
	tb.Helper()
	steps, err := Default(tb.Context(), old, new, o)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := apply(old, new, steps); err != nil {
		tb.Fatal(err)
	}
	return steps
}

// size is a stand-in for the compressed size of a patch: what is not zero in the differences, all
// of what is copied, and the steps.
func size(old, new []byte, steps []Triple) int {
	pos, at, n := 0, 0, 0
	for _, s := range steps {
		n += 4 + int(s.Copy)
		for k := range int(s.Add) {
			if new[at+k] != old[pos+k] {
				n++
			}
		}
		at += int(s.Add + s.Copy)
		pos += int(s.Add + s.Seek)
	}
	return n
}

func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// program is like machine code of about n bytes: functions of random instructions, some of which
// refer to a place in another function by distance. Functions for which leave is true are left out,
// so that distances change.
func program(seed uint64, n int, leave func(function int) bool) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	type ref struct{ at, to int }
	var out []byte
	var refs []ref
	var starts []int
	for f := 0; len(out) < n; f++ {
		length := 20 + r.IntN(400)
		skip := leave != nil && leave(f)
		starts = append(starts, len(out))
		for range length / 8 {
			word, to := r.Uint32(), r.IntN(f+1)
			if skip {
				continue
			}
			out = append(out, 0x48, byte(word%7), byte(word>>8), 0xe8)
			refs = append(refs, ref{len(out), to})
			out = append(out, 0, 0, 0, 0)
		}
	}
	for _, x := range refs {
		binary.LittleEndian.PutUint32(out[x.at:], uint32(starts[x.to]-x.at))
	}
	return out
}

type pair struct {
	name     string
	old, new []byte
	most     int // bytes that size may say
}

func pairs(n int) []pair {
	base := random(7, n)
	moved := append(bytes.Clone(base[n/2:]), base[:n/2]...)
	edited := bytes.Clone(base)
	for i := 500; i < n; i += 1000 {
		edited[i] ^= 0x55
	}
	inserted := append(append(bytes.Clone(base[:n/3]), random(8, 1000)...), base[n/3:]...)
	old := program(3, n, nil)
	shifted := program(3, n, func(f int) bool { return f%97 == 5 })
	return []pair{
		{"same", base, base, 20},
		{"moved", base, moved, 60},
		{"edited", base, edited, n/1000 + 60},
		{"inserted", base, inserted, 1100},
		{"nothing in common", base, random(9, n), n + 60},
		{"program", old, shifted, len(shifted) / 3},
		{"zeros", make([]byte, n), make([]byte, n+n/3), n/3 + 60},
		{"periodic", bytes.Repeat([]byte("abcdefghi"), n/9), bytes.Repeat([]byte("abcdefghi"), n/9-50)[4:], 60},
		{"shrunk", base, base[n/4 : n/2], 20},
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	for _, p := range pairs(300_000) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			steps := mustMatch(t, p.old, p.new, Options{})
			if got := size(p.old, p.new, steps); got > p.most {
				t.Errorf("size of %d steps: got %d, want at most %d", len(steps), got, p.most)
			}
		})
	}
}

func TestDefaultSmall(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", "a", "b", "ab", "abcdefgh", "abcdefghi", "xabcdefgh", "aaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaab",
		"the quick brown fox jumps over the lazy dog", "jumps over the lazy dog the quick brown fox",
	}
	for _, old := range texts {
		for _, new := range texts {
			mustMatch(t, []byte(old), []byte(new), Options{})
		}
	}
}

func TestDefaultEmpty(t *testing.T) {
	t.Parallel()
	if steps := mustMatch(t, []byte("old"), nil, Options{}); len(steps) != 0 {
		t.Errorf("steps for an empty file: got %v, want none", steps)
	}
	want := []Triple{{Copy: 3}}
	if diff := cmp.Diff(want, mustMatch(t, nil, []byte("new"), Options{})); diff != "" {
		t.Errorf("steps from an empty file (-want +got):\n%s", diff)
	}
}

// TestDefaultWorkers holds that neither the number of workers nor the machine changes the steps.
func TestDefaultWorkers(t *testing.T) {
	t.Parallel()
	chunks, numbers := testkit.Count(1, 3, 3), []int{2, 0, 3, 8}[:testkit.Count(1, 4, 4)]
	old := program(5, chunkLen*chunks/2, nil)
	new := program(5, chunkLen*chunks+chunkLen/16, func(f int) bool { return f%301 == 7 })
	want := mustMatch(t, old, new, Options{Workers: 1})
	if len(want) < 10 {
		t.Errorf("only %d steps: this test shows nothing", len(want))
	}
	for _, workers := range numbers {
		if diff := cmp.Diff(want, mustMatch(t, old, new, Options{Workers: workers})); diff != "" {
			t.Errorf("%d workers (-want +got):\n%.2000s", workers, diff)
		}
	}
}

func TestDefaultProgress(t *testing.T) {
	t.Parallel()
	old, new := random(1, 2*chunkLen), random(1, 2*chunkLen+5)
	last := int64(0)
	mustMatch(t, old, new, Options{Workers: 2, Progress: func(done, total int64) {
		if total != int64(len(new)) || done <= last || done > total {
			t.Errorf("progress after %d: got %d of %d, want a rise within %d", last, done, total, len(new))
		}
		last = done
	}})
	if last != int64(len(new)) {
		t.Errorf("last progress: got %d, want %d", last, len(new))
	}
}

func TestDefaultCancel(t *testing.T) {
	t.Parallel()
	old, new := random(1, 2*chunkLen), random(2, 2*chunkLen)
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Default(ctx, old, new, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	})
	t.Run("during", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var canceled time.Time
		_, err := Default(ctx, old, new, Options{Workers: 2, Progress: func(done, _ int64) {
			if done == chunkLen {
				canceled = time.Now()
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got error %v, want %v", err, context.Canceled)
		}
		if took := time.Since(canceled); took > time.Second {
			t.Errorf("returned %v after the context ended", took)
		}
	})
}

// TestPeakMemory holds the declared memory to what is in use. Not parallel: it looks at the whole heap.
func TestPeakMemory(t *testing.T) {
	if testkit.Race {
		t.Skip("takes 10 s with the race detector, and is a single goroutine's work")
	}
	size := testkit.Count(3<<19, 6<<20, 6<<20)
	old, new := program(5, size, nil), program(5, size, func(f int) bool { return f%301 == 7 })
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	peak := int64(0)
	mustMatch(t, old, new, Options{Workers: 1, Progress: func(_, _ int64) { peak = max(peak, heap()-before) }})
	declared := PeakMemory(int64(len(old)), int64(len(new)))
	t.Logf("declared %d, measured %d", declared, peak)
	if peak > declared || peak < declared*9/10 {
		t.Errorf("declared peak %d is more than a tenth off the measured one, %d", declared, peak)
	}
}

// TestDefaultLinear compares the time per byte of contents that are hard for a matcher, at two sizes.
func TestDefaultLinear(t *testing.T) {
	if testkit.Race {
		linear(t, 1<<15, 1<<18) // it is a single goroutine's work
		return
	}
	linear(t, 1<<17, testkit.Count(1<<19, 1<<21, 1<<21))
}

func TestDefaultLinearLong(t *testing.T) {
	testkit.Long(t, "matches 200 MB of each kind of content")
	linear(t, 10<<20, 200<<20)
}

func linear(t *testing.T, small, large int) {
	t.Helper()
	kinds := map[string]func(n int) (old, new []byte){
		"zeros":          func(n int) ([]byte, []byte) { return make([]byte, n), make([]byte, n+n/7) },
		"zeros and ones": func(n int) ([]byte, []byte) { return make([]byte, n), bytes.Repeat([]byte{1}, n) },
		"periodic": func(n int) ([]byte, []byte) {
			return bytes.Repeat([]byte("abcdefgabcdefh"), n/14), bytes.Repeat([]byte("abcdefhabcdefg"), n/14)
		},
		"other period": func(n int) ([]byte, []byte) {
			return bytes.Repeat(random(1, 1009), n/1009), bytes.Repeat(random(1, 1013), n/1013)
		},
		"nearly zeros": func(n int) ([]byte, []byte) {
			old, new := make([]byte, n), make([]byte, n)
			for i := 0; i < n; i += 37 {
				old[i] = byte(i)
			}
			for i := 0; i < n; i += 41 {
				new[i] = byte(i)
			}
			return old, new
		},
		"random": func(n int) ([]byte, []byte) { return random(1, n), random(2, n) },
		"program": func(n int) ([]byte, []byte) {
			return program(1, n, nil), program(1, n, func(f int) bool { return f%50 == 3 })
		},
	}
	for name, kind := range kinds {
		took := func(n int) time.Duration {
			old, new := kind(n)
			start := time.Now()
			mustMatch(t, old, new, Options{Workers: 1})
			return time.Since(start)
		}
		a, b := took(small), took(large)
		t.Logf("%s: %d bytes %v, %d bytes %v", name, small, a, large, b)
		// Caches make large inputs slower per byte, and the machine may be busy with other things; a
		// quadratic algorithm would miss this by far.
		if b > 8*time.Duration(large/small)*a+3*time.Second {
			t.Errorf("%s: %d bytes took %v, %d bytes %v", name, small, a, large, b)
		}
	}
}

func FuzzDefault(f *testing.F) {
	for _, p := range pairs(600) {
		f.Add(p.old, p.new)
	}
	leave := func(f int) bool { return f%5 == 2 }
	f.Add(elfProgram(1, 600, nil), elfProgram(1, 600, leave))
	f.Add(peProgram(1, 30, 0x8664, nil), peProgram(1, 30, 0x8664, leave))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		mustMatch(t, old, new, Options{Workers: 1})
	})
}

func BenchmarkDefault(b *testing.B) {
	for _, p := range pairs(4 << 20) {
		b.Run("input="+p.name, func(b *testing.B) {
			b.SetBytes(int64(len(p.new)))
			var steps []Triple
			for b.Loop() {
				steps, _ = Default(b.Context(), p.old, p.new, Options{})
			}
			b.ReportMetric(float64(size(p.old, p.new, steps)), "cost-bytes")
		})
	}
}

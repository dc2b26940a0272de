package senbonzakura

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// A gatedDiffer says that it needs some memory and waits at a gate before it makes its patch.
type gatedDiffer struct {
	*bsdiff.Differ
	name  string
	needs int64
	gates *gates
}

func (d *gatedDiffer) ID() string                  { return "gated " + d.name + " " + d.Differ.ID() }
func (d *gatedDiffer) PeakMemory(_, _ int64) int64 { return d.needs }

func (d *gatedDiffer) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	if err := d.gates.wait(ctx, d.name, d.needs); err != nil {
		return err
	}
	return d.Differ.Diff(ctx, patch, old, new)
}

// gates hold differs until they are let through by name.
type gates struct {
	mu        sync.Mutex
	waiting   map[string]chan struct{}
	held      int64
	most      int64
	started   []string
	cancelled []string
}

func (g *gates) wait(ctx context.Context, name string, needs int64) error {
	through := make(chan struct{})
	g.mu.Lock()
	if g.waiting == nil {
		g.waiting = map[string]chan struct{}{}
	}
	g.waiting[name] = through
	g.started = append(g.started, name)
	g.held += needs
	g.most = max(g.most, g.held)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.held -= needs
		delete(g.waiting, name)
		g.mu.Unlock()
	}()
	select {
	case <-through:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		g.cancelled = append(g.cancelled, name)
		g.mu.Unlock()
		return ctx.Err()
	}
}

// atGate returns the names of those who wait, sorted.
func (g *gates) atGate() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := []string{}
	for name := range g.waiting {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// open lets one through.
func (g *gates) open(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.waiting[name])
}

// patchable makes the completes of a product with one file that changes, and returns the request for its update, with a
// differ that waits at the gates. Different names give different requests.
func patchable(t *testing.T, dir, name string, needs int64, gates *gates) Request {
	t.Helper()
	fast := partial.XZ{Level: partial.LevelFast}
	recipe := partial.DefaultRecipe()
	recipe.Differ = &gatedDiffer{bsdiff.New(bsdiff.Options{}), name, needs, gates}
	recipe.Compression.Patches, recipe.Compression.Files = fast, fast
	r := Request{Recipe: &recipe}
	noise := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", name))))
	content := make([]byte, 20000)
	_, _ = noise.Read(content)
	for i, s := range []*Source{&r.From, &r.To} {
		content[i]++
		archive, _, err := partial.Pack(t.Context(), fstest.MapFS{"file": {Data: content}}, partial.PackOptions{
			Product: &mar.Product{Channel: "test", Version: "1"}, Compression: partial.Compression{Files: fast},
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		_, err = archive.WriteTo(&out)
		s.File = filepath.Join(dir, fmt.Sprint(name, i, ".mar"))
		if err == nil {
			err = os.WriteFile(s.File, out.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

const mb = 1 << 20

// The memory that is declared is bounded over all requests, and is used.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gates gates
		g := newGenerator(t, "", func(o *Options) { o.MaxMemory = 256 * mb })
		dir := t.TempDir()
		const n = 6
		var wg sync.WaitGroup
		for i := range n {
			r := patchable(t, dir, fmt.Sprint("pair", i), 100*mb, &gates)
			wg.Go(func() {
				res, err := g.Generate(t.Context(), r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res.Close()
			})
		}
		for left := n; left > 0; left-- {
			synctest.Wait()
			names := gates.atGate()
			if want := min(left, 2); len(names) != want {
				t.Fatalf("%v make their patches at the same time, want %d of 100 MB in 256 MB", names, want)
			}
			gates.open(names[0])
		}
		wg.Wait()
		if gates.most != 200*mb {
			t.Errorf("%d MB were used at most, want 200", gates.most/mb)
		}
	})
}

// One that needs more than there is runs alone.
func TestMoreThanAllMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gates gates
		g := newGenerator(t, "", func(o *Options) { o.MaxMemory = 64 * mb })
		dir := t.TempDir()
		var wg sync.WaitGroup
		for _, name := range []string{"huge", "small"} {
			r := patchable(t, dir, name, map[string]int64{"huge": 1000 * mb, "small": 10 * mb}[name], &gates)
			wg.Go(func() {
				res, err := g.Generate(t.Context(), r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res.Close()
			})
			synctest.Wait()
		}
		for _, want := range []string{"huge", "small"} {
			synctest.Wait()
			if got := gates.atGate(); !slices.Equal(got, []string{want}) {
				t.Fatalf("%v make their patches, want %s alone", got, want)
			}
			gates.open(want)
		}
		wg.Wait()
	})
}

// Large requests get memory in the order of asking. A small one does not wait for those that wait.
func TestSmallRequestIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gates gates
		g := newGenerator(t, "", func(o *Options) { o.MaxMemory = 256 * mb })
		dir := t.TempDir()
		var wg sync.WaitGroup
		for _, name := range []string{"large1", "large2", "small", "large3", "large4"} {
			needs := int64(200 * mb)
			if name == "small" {
				needs = 20 * mb
			}
			r := patchable(t, dir, name, needs, &gates)
			wg.Go(func() {
				res, err := g.Generate(t.Context(), r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res.Close()
			})
			synctest.Wait() // so that it has asked
		}
		for _, want := range [][]string{{"large1", "small"}, {"large1"}, {"large2"}, {"large3"}, {"large4"}} {
			synctest.Wait()
			got := gates.atGate()
			if !slices.Equal(got, want) {
				t.Fatalf("%v make their patches, want %v", got, want)
			}
			gates.open(got[len(got)-1])
		}
		wg.Wait()
	})
}

// caller is one call of Generate.
type caller struct {
	cancel   context.CancelFunc
	done     chan struct{}
	res      *Result
	err      error
	returned bool // not guarded: progress must not run when Generate has returned
	events   int
}

func call(t *testing.T, g *Generator, r Request) *caller {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &caller{cancel: cancel, done: make(chan struct{})}
	go func() {
		c.res, c.err = g.Generate(ctx, r, func(Event) {
			if c.returned {
				t.Error("progress after the return of Generate")
			}
			c.events++
		})
		c.returned = true
		close(c.done)
	}()
	synctest.Wait()
	return c
}

func (c *caller) left(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
	default:
		t.Fatal("a caller whose context ended still waits")
	}
	if !errors.Is(c.err, context.Canceled) || c.res != nil {
		t.Fatalf("a caller whose context ended got %v, %v", c.res, c.err)
	}
}

// A caller that leaves takes nothing from the others, be it the one that began; when all have left, the job ends, and
// the next caller begins anew.
func TestCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gates gates
		g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
		dir := t.TempDir()

		r := patchable(t, dir, "shared", mb, &gates)
		first, second, third := call(t, g, r), call(t, g, r), call(t, g, r)
		first.cancel()
		synctest.Wait()
		first.left(t)
		second.cancel()
		synctest.Wait()
		second.left(t)
		if got := gates.atGate(); !slices.Equal(got, []string{"shared"}) {
			t.Fatalf("%v make their patches after two of three callers left", got)
		}
		fourth := call(t, g, r)
		gates.open("shared")
		for _, c := range []*caller{third, fourth} {
			<-c.done
			if c.err != nil {
				t.Fatal(c.err)
			}
			if c.res.Cached || c.events == 0 || c.res.SHA512 != third.res.SHA512 {
				t.Errorf("cached %v, %d events, SHA-512 %x: want the update that was made for all", c.res.Cached, c.events, c.res.SHA512)
			}
			c.res.Close()
		}
		if !slices.Equal(gates.started, []string{"shared"}) || len(gates.cancelled) != 0 {
			t.Errorf("made %v, cancelled %v, want once and never", gates.started, gates.cancelled)
		}

		r = patchable(t, dir, "left", mb, &gates)
		first, second = call(t, g, r), call(t, g, r)
		first.cancel()
		second.cancel()
		synctest.Wait()
		first.left(t)
		second.left(t)
		if !slices.Equal(gates.cancelled, []string{"left"}) {
			t.Fatalf("cancelled %v when nobody waits any more", gates.cancelled)
		}
		third = call(t, g, r)
		gates.open("left")
		<-third.done
		if third.err != nil || third.res.Cached {
			t.Fatalf("made again: %+v, %v", third.res, third.err)
		}
		third.res.Close()
		if !slices.Equal(gates.started, []string{"shared", "left", "left"}) {
			t.Errorf("made %v", gates.started)
		}
	})
}

// A differ that embeds another one and has a Diff of its own is asked, also where somebody wants to know the progress,
// and the progress of the embedded one arrives.
func TestEmbeddedDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gates gates
		g := newGenerator(t, "")
		r := patchable(t, t.TempDir(), "embedded", mb, &gates)
		var diffing atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() {
			res, err := g.Generate(t.Context(), r, func(e Event) {
				if e.Step == StepDiffing {
					diffing.Add(1)
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			res.Close()
		})
		synctest.Wait()
		if names := gates.atGate(); len(names) != 1 {
			t.Fatalf("got %v at the gates, want the embedding differ", names)
		}
		before := diffing.Load()
		gates.open("embedded")
		wg.Wait()
		if diffing.Load() <= before {
			t.Errorf("got %d events of diffing, want more than the %d before the patch was made", diffing.Load(), before)
		}
	})
}

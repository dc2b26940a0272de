package cache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/faultfs"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

func write(data string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, data)
		return err
	}
}

func readEntry(t *testing.T, e *cache.Entry) string {
	t.Helper()
	data, err := io.ReadAll(e.Reader())
	if err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestFillOnce(t *testing.T) {
	for name, tiers := range map[string][]cache.Store{"no tier": nil, "disk": {openDisk(t, t.TempDir(), nil)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var joins atomic.Int64
				l := cache.NewLayered(tiers, &cache.LayeredOptions{Observe: func(e cache.Event) {
					if e.Op == cache.OpJoin {
						joins.Add(1)
					}
				}})
				k := cache.NewKey(cache.Partials, "once")
				var fills int
				release := make(chan struct{})
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						e, err := l.GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
							fills++ // without a lock: the race detector agrees that it is called once
							<-release
							return write("value")(nil, w)
						})
						if err != nil {
							t.Error(err)
							return
						}
						if got := readEntry(t, e); got != "value" {
							t.Errorf("got %q", got)
						}
					})
				}
				synctest.Wait()
				close(release)
				wg.Wait()
				if fills != 1 || joins.Load() != 999 {
					t.Errorf("%d fills, %d joins, want 1 and 999", fills, joins.Load())
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cache.NewLayered(nil, nil)
		k := cache.NewKey(cache.Partials, "leave")
		type ctxKey struct{}
		first, leave := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "first's"), time.Hour)
		release := make(chan struct{})
		fill := func(ctx context.Context, w io.Writer) error {
			if _, ok := ctx.Deadline(); ok || ctx.Value(ctxKey{}) != "first's" {
				t.Error("the fill's context has the first caller's deadline, or lacks its values")
			}
			select {
			case <-release:
				return write("value")(ctx, w)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		errs := make(chan error)
		go func() { _, err := l.GetOrFill(first, k, fill); errs <- err }()
		synctest.Wait()
		var second string
		done := make(chan struct{})
		go func() {
			defer close(done)
			e, err := l.GetOrFill(t.Context(), k, fill)
			if err != nil {
				t.Error(err)
				return
			}
			second = readEntry(t, e)
		}()
		synctest.Wait()
		leave()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller left with %v", err)
		}
		close(release)
		<-done
		if second != "value" {
			t.Errorf("the second caller got %q", second)
		}
	})
}

func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cache.NewLayered(nil, nil)
		k := cache.NewKey(cache.Partials, "nobody")
		ctx, leave := context.WithCancel(t.Context())
		cancelled, ended := make(chan struct{}), make(chan struct{})
		running := 0
		slow := func(ctx context.Context, _ io.Writer) error {
			running++
			<-ctx.Done()
			close(cancelled)
			<-ended // takes its time to notice
			running--
			return context.Cause(ctx)
		}
		for range 3 {
			go l.GetOrFill(ctx, k, slow)
		}
		synctest.Wait()
		leave()
		<-cancelled
		// One who comes now waits for its end, and starts another.
		got := make(chan string)
		go func() {
			e, err := l.GetOrFill(t.Context(), k, func(ctx context.Context, w io.Writer) error {
				if running != 0 {
					t.Error("two fills at a time")
				}
				return write("again")(ctx, w)
			})
			if err != nil {
				t.Error(err)
				got <- ""
				return
			}
			got <- readEntry(t, e)
		}()
		impatient, give := context.WithTimeout(t.Context(), time.Second)
		defer give()
		if _, err := l.GetOrFill(impatient, k, slow); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one who cannot wait for that: %v", err)
		}
		close(ended)
		if s := <-got; s != "again" {
			t.Errorf("got %q", s)
		}
	})
}

func TestFillFails(t *testing.T) {
	broken := errors.New("no such locale")
	k := cache.NewKey(cache.Partials, "fails")
	t.Run("not remembered", func(t *testing.T) {
		l := cache.NewLayered([]cache.Store{openDisk(t, t.TempDir(), nil)}, nil)
		for range 2 {
			fills := 0
			_, err := l.GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
				fills++
				io.WriteString(w, "half of it")
				return broken
			})
			if !errors.Is(err, broken) || fills != 1 {
				t.Errorf("got %v after %d fills", err, fills)
			}
		}
		if _, err := l.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("half a value is there: %v", err)
		}
	})
	t.Run("remembered", func(t *testing.T) {
		c := &clock{time.Now()}
		dir := t.TempDir()
		remember := &cache.LayeredOptions{Negative: func(err error) time.Duration {
			if errors.Is(err, broken) {
				return time.Minute
			}
			return 0
		}}
		l := cache.NewLayered([]cache.Store{openWith(t, dir, cache.DiskOptions{}, c)}, remember)
		fills := 0
		fail := func(context.Context, io.Writer) error { fills++; return fmt.Errorf("make: %w", broken) }
		l.GetOrFill(t.Context(), k, fail)
		for _, l := range []*cache.Layered{l, cache.NewLayered([]cache.Store{openWith(t, dir, cache.DiskOptions{}, c)}, remember)} {
			_, err := l.GetOrFill(t.Context(), k, fail)
			var negative *cache.NegativeError
			if !errors.As(err, &negative) || negative.Reason != "make: no such locale" || fills != 1 {
				t.Errorf("got %v after %d fills, want the failure remembered", err, fills)
			}
		}
		c.now = c.now.Add(2 * time.Minute)
		e, err := l.GetOrFill(t.Context(), k, write("now"))
		if err != nil {
			t.Fatal(err)
		}
		if got := readEntry(t, e); got != "now" {
			t.Errorf("got %q", got)
		}
		other := cache.NewKey(cache.Partials, "other")
		for range 2 { // an error that is not remembered
			if _, err := l.GetOrFill(t.Context(), other, func(context.Context, io.Writer) error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("panics", func(t *testing.T) {
		l := cache.NewLayered(nil, nil)
		_, err := l.GetOrFill(t.Context(), k, func(context.Context, io.Writer) error { panic("boom") })
		var p *cache.PanicError
		if !errors.As(err, &p) || p.Value != "boom" || !strings.Contains(string(p.Stack), "layered_test.go") {
			t.Errorf("got %v", err)
		}
		e, err := l.GetOrFill(t.Context(), k, write("fine"))
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	})
	t.Run("ends its goroutine", func(t *testing.T) {
		l := cache.NewLayered(nil, nil)
		if e, err := l.GetOrFill(t.Context(), k, func(context.Context, io.Writer) error { runtime.Goexit(); return nil }); err == nil {
			t.Errorf("no error, %d bytes", e.Size())
		}
	})
	t.Run("writes on", func(t *testing.T) {
		l := cache.NewLayered([]cache.Store{openDisk(t, t.TempDir(), nil)}, nil)
		var kept io.Writer
		e, err := l.GetOrFill(t.Context(), k, func(ctx context.Context, w io.Writer) error { kept = w; return write("value")(ctx, w) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(kept, "more"); err == nil {
			t.Error("Write after fill has returned: no error")
		}
		if err := kept.(cache.Adopter).Adopt("x"); err == nil {
			t.Error("Adopt after fill has returned: no error")
		}
		if got := readEntry(t, e); got != "value" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("takes too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := cache.NewLayered(nil, &cache.LayeredOptions{FillTimeout: time.Minute})
			start := time.Now()
			_, err := l.GetOrFill(t.Context(), k, func(ctx context.Context, _ io.Writer) error { <-ctx.Done(); return ctx.Err() })
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("got %v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := cache.NewLayered(nil, nil)
			got := make(chan error, 1)
			go func() {
				_, err := l.GetOrFill(t.Context(), k, func(ctx context.Context, _ io.Writer) error { <-ctx.Done(); return context.Cause(ctx) })
				got <- err
			}()
			synctest.Wait()
			l.Close()
			if err := <-got; !errors.Is(err, cache.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if _, err := l.GetOrFill(t.Context(), k, write("x")); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	})
}

// brokenTier fails at everything.
type brokenTier struct{ calls atomic.Int64 }

func (b *brokenTier) String() string { return "broken tier" }

func (b *brokenTier) Get(context.Context, cache.Key) (*cache.Entry, error) {
	b.calls.Add(1)
	return nil, errors.New("tier is down")
}

func (b *brokenTier) Put(context.Context, cache.Key, io.Reader) (cache.Info, error) {
	b.calls.Add(1)
	return cache.Info{}, errors.New("tier is down")
}

func TestBrokenTier(t *testing.T) {
	var log bytes.Buffer
	o := &cache.LayeredOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}
	broken := new(brokenTier)
	disk := openDisk(t, t.TempDir(), nil)
	k := cache.NewKey(cache.Partials, "x")
	for name, tiers := range map[string][]cache.Store{
		"above": {broken, disk}, "below": {disk, broken}, "alone": {broken},
	} {
		log.Reset()
		l := cache.NewLayered(tiers, o)
		e, err := l.GetOrFill(t.Context(), k, write("value"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := readEntry(t, e); got != "value" {
			t.Errorf("%s: got %q", name, got)
		}
		if _, err := disk.Purge(t.Context(), cache.Filter{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "broken tier") || !strings.Contains(log.String(), "tier is down") {
			t.Errorf("%s: the log says nothing: %s", name, log.String())
		}
	}
	if _, err := cache.NewLayered([]cache.Store{broken}, o).Put(t.Context(), k, strings.NewReader("value")); err == nil {
		t.Error("Put that no tier took: no error")
	}
	if _, err := cache.NewLayered([]cache.Store{broken, disk}, o).Put(t.Context(), k, strings.NewReader("value")); err != nil {
		t.Errorf("Put that one tier took: %v", err)
	}
}

func TestFillsUpward(t *testing.T) {
	upper, lower := openDisk(t, t.TempDir(), nil), openDisk(t, t.TempDir(), nil)
	k := cache.NewKey(cache.Patches, "up")
	put(t, lower, k, []byte("value"))
	var mu sync.Mutex
	var events []string
	l := cache.NewLayered([]cache.Store{upper, lower}, &cache.LayeredOptions{Observe: func(e cache.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf("%s %v %d", e.Op, e.Tier == upper.String(), e.Size))
	}})
	if got := get(t, l, k); string(got) != "value" {
		t.Fatalf("got %q", got)
	}
	if got := get(t, upper, k); string(got) != "value" {
		t.Errorf("the upper tier has %q", got)
	}
	if want := "miss true 0,hit false 5,put true 5"; strings.Join(events, ",") != want {
		t.Errorf("events %s, want %s", strings.Join(events, ","), want)
	}
}

// shortTier stores less than it was given and says so.
type shortTier struct{ brokenTier }

func (*shortTier) Put(_ context.Context, k cache.Key, r io.Reader) (cache.Info, error) {
	data, err := io.ReadAll(io.LimitReader(r, 3))
	_, _ = io.Copy(io.Discard, r)
	return cache.Info{Key: k, Size: 5, SHA256: sha256.Sum256(data)}, err
}

// A value that is known by its SHA-512 goes to other tiers like all others, which know it by their own hash.
func TestHashedFillsUpward(t *testing.T) {
	memory, err := cache.NewMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	upper, lower := openDisk(t, t.TempDir(), nil), openDisk(t, t.TempDir(), nil)
	k := cache.NewKey(cache.Completes, "up")
	adoptHashed(t, lower, k, []byte("value")).Close()
	var log bytes.Buffer
	o := &cache.LayeredOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}
	if got := get(t, cache.NewLayered([]cache.Store{memory, upper, lower}, o), k); string(got) != "value" {
		t.Fatalf("got %q", got)
	}
	memory.Wait()
	for _, tier := range []cache.Store{memory, upper} {
		e, err := tier.Get(t.Context(), k)
		if err != nil {
			t.Fatalf("%v: %v", tier, err)
		}
		if want := (cache.Info{Key: k, Size: 5, SHA256: sha256.Sum256([]byte("value"))}); e.Info() != want || readEntry(t, e) != "value" {
			t.Errorf("%v has %+v, want %+v", tier, e.Info(), want)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
	if got := get(t, cache.NewLayered([]cache.Store{&shortTier{}, lower}, o), k); string(got) != "value" {
		t.Fatalf("got %q", got)
	}
	if !strings.Contains(log.String(), "holds another value") {
		t.Errorf("the log does not say that a tier has something else: %s", log.String())
	}
}

// TestFillSurvivesDisk fails the disk at every file operation of a fill, in both ways to give a value: the value is
// handed out all the same.
func TestFillSurvivesDisk(t *testing.T) {
	data := content("fill", 100_000)
	for _, how := range []string{"write", "adopt", "adopt hashed"} {
		for _, forever := range []bool{false, true} {
			runs, stored := 0, 0
			for i := 0; ; i++ {
				dir := t.TempDir()
				armed := false
				var n int
				fsys := faultfs.New(faultfs.WithoutSync(osfs.OS{}), func(faultfs.Op) *faultfs.Fault {
					if !armed {
						return nil
					}
					n++
					if n-1 == i || forever && n-1 > i {
						return &faultfs.Fault{Err: syscall.ENOSPC, Short: i%2 == 0}
					}
					return nil
				})
				d, err := cache.OpenDiskOn(t.Context(), dir, cache.DiskOptions{}, fsys, time.Now)
				if err != nil {
					t.Fatal(err)
				}
				spool := t.TempDir()
				l := cache.NewLayered([]cache.Store{d}, &cache.LayeredOptions{SpoolDir: spool, SpoolMemory: 10_000})
				k := cache.NewKey(cache.Partials, "x")
				file := filepath.Join(d.TempDir(), "fetched")
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				armed = true
				e, err := l.GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
					switch how {
					case "adopt":
						return w.(cache.Adopter).Adopt(file)
					case "adopt hashed":
						return w.(cache.HashedAdopter).AdoptHashed(file, sha512.Sum512(data))
					}
					for p := data; len(p) > 0; p = p[min(len(p), 30_000):] {
						if _, err := w.Write(p[:min(len(p), 30_000)]); err != nil {
							return err
						}
					}
					return nil
				})
				armed = false
				// Reading back what was written may fail as well: then there is nothing to hand out, and that is said.
				if err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("%s, fault %d: %v", how, i, err)
				}
				if err == nil && readEntry(t, e) != string(data) {
					t.Errorf("%s, fault %d: wrong bytes", how, i)
				}
				if err != nil && !forever {
					t.Errorf("%s, fault %d: %v", how, i, err)
				}
				if got := get(t, d, k); got != nil {
					stored++
					if !bytes.Equal(got, data) {
						t.Errorf("%s, fault %d: wrong bytes on disk", how, i)
					}
				}
				d.Close()
				if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
					t.Errorf("%s, fault %d: %d files are left in the spool", how, i, len(left))
				}
				if fsys.Faults() == 0 {
					break
				}
				runs++
			}
			t.Logf("%s, all later operations fail too: %v: %d faults, value handed out, stored in spite of it %d times", how, forever, runs, stored)
			if runs < 10 {
				t.Errorf("only %d operations", runs)
			}
		}
	}
}

// lyingFS gives one other bit, without an error, when a value is read before it is stored.
type lyingFS struct{ osfs.FS }

func (l lyingFS) OpenFile(name string, flag int, perm fs.FileMode) (osfs.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasPrefix(filepath.Base(name), string(cache.Partials)) {
		return f, err
	}
	return lyingFile{f}, nil
}

type lyingFile struct{ osfs.File }

func (l lyingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.File.ReadAt(p, off)
	if at := 5000 - off; at >= 0 && at < int64(n) {
		p[at] ^= 4
	}
	return n, err
}

// What the disk took before it failed is read back from it. If that is not what was written, nobody gets it, also where
// fill does not look at the error of Write.
func TestFillReadsBackOtherBytes(t *testing.T) {
	data := content("fill", 100_000)
	for _, op := range []string{"write", "syncdir", "rename"} {
		for _, minds := range []bool{true, false} {
			n := 0
			armed := false
			fsys := faultfs.New(lyingFS{faultfs.WithoutSync(osfs.OS{})}, func(o faultfs.Op) *faultfs.Fault {
				if !armed || o.Name != op {
					return nil
				}
				if n++; op == "write" && n < 4 {
					return nil
				}
				return &faultfs.Fault{Err: syscall.ENOSPC}
			})
			dir := t.TempDir()
			d, err := cache.OpenDiskOn(t.Context(), dir, cache.DiskOptions{}, fsys, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			spool := t.TempDir()
			l := cache.NewLayered([]cache.Store{d}, &cache.LayeredOptions{SpoolDir: spool, SpoolMemory: 10_000})
			armed = true
			e, err := l.GetOrFill(t.Context(), cache.NewKey(cache.Partials, "x"), func(_ context.Context, w io.Writer) error {
				for p := data; len(p) > 0; p = p[min(len(p), 30_000):] {
					if _, err := w.Write(p[:min(len(p), 30_000)]); err != nil && minds {
						return err
					}
				}
				return nil
			})
			armed = false
			if err == nil {
				t.Errorf("%s fails, fill minds: %v: got a value, right: %v", op, minds, readEntry(t, e) == string(data))
			} else if !errors.Is(err, cache.ErrCorrupt) {
				t.Errorf("%s fails, fill minds: %v: got %v, want ErrCorrupt", op, minds, err)
			}
			d.Close()
			for _, where := range []string{filepath.Join(dir, "tmp"), spool} {
				if left, err := os.ReadDir(where); err != nil || len(left) > 0 {
					t.Errorf("%s fails, fill minds: %v: left in %s: %v, %v", op, minds, where, left, err)
				}
			}
		}
	}
}

func TestSpool(t *testing.T) {
	dir := t.TempDir()
	l := cache.NewLayered(nil, &cache.LayeredOptions{SpoolDir: dir, SpoolMemory: 1000})
	for _, n := range []int{0, 1000, 1001, 50_000} {
		data := content("spool", n)
		e, err := l.GetOrFill(t.Context(), cache.NewKey(cache.Partials, "x"), func(_ context.Context, w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		files, _ := os.ReadDir(dir)
		if want := n > 1000; (len(files) == 1) != want {
			t.Errorf("%d bytes: %d temporary files", n, len(files))
		}
		if got := readEntry(t, e); got != string(data) {
			t.Errorf("%d bytes: wrong", n)
		}
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%d bytes: %d temporary files are left", n, len(files))
		}
	}
}

func TestMemoryLimits(t *testing.T) {
	for name, o := range map[string]cache.MemoryOptions{
		"negative": {Bytes: -1}, "item over an eighth": {Bytes: 1 << 20, Item: 200_000}, "too small": {Bytes: 1000},
	} {
		if m, err := cache.NewMemory(&o); err == nil {
			m.Close()
			t.Errorf("%s: no error", name)
		}
	}
	m, err := cache.NewMemory(&cache.MemoryOptions{Bytes: 13 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	key := func(i int) cache.Key { return cache.NewKey(cache.Patches, fmt.Sprint(i)) }
	if _, err := m.Put(t.Context(), key(0), bytes.NewReader(make([]byte, 2<<20))); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("value over the limit: %v", err)
	}
	if _, err := m.Put(t.Context(), key(0), io.MultiReader(bytes.NewReader(make([]byte, 2<<20)))); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("value over the limit, size unknown: %v", err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const values, size = 400, 256 << 10
	for i := range values {
		if _, err := m.Put(t.Context(), key(i), bytes.NewReader(content(fmt.Sprint(i), size))); err != nil {
			t.Fatal(err)
		}
	}
	m.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	s := m.Stats()
	held := s.Kinds[cache.Patches]
	if held.Bytes > 10<<20 || held.Entries == 0 {
		t.Errorf("holds %+v", held)
	}
	if s.Puts != values || s.Puts-s.Dropped-s.Evictions != held.Entries {
		t.Errorf("%d puts, %d dropped, %d evicted, but %d held", s.Puts, s.Dropped, s.Evictions, held.Entries)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 13<<20 {
		t.Errorf("the heap grew by %d bytes, the limit is %d", grown, 13<<20)
	}
	for i := range values {
		if got := get(t, m, key(i)); got != nil && !bytes.Equal(got, content(fmt.Sprint(i), size)) {
			t.Errorf("value %d is wrong", i)
		}
	}
}

// TestMemoryClose closes tiers beside Puts: the cache inside panics when its Set and Close meet.
func TestMemoryClose(t *testing.T) {
	for range 200 {
		m, err := cache.NewMemory(&cache.MemoryOptions{Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 4 {
			wg.Go(func() {
				<-start
				for j := range 50 {
					k := cache.NewKey(cache.Patches, fmt.Sprint(i, j))
					if _, err := m.Put(t.Context(), k, strings.NewReader("x")); err != nil && !errors.Is(err, cache.ErrClosed) {
						t.Error(err)
					}
				}
			})
		}
		close(start)
		runtime.Gosched()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

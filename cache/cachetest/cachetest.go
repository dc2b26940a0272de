// Package cachetest checks that a [cache.Store] keeps its contract. The whole test of a store is one call:
//
//	func TestStore(t *testing.T) {
//		cachetest.Run(t, cachetest.Config{New: func(t testing.TB) cache.Store { return newMyStore(t) }})
//	}
//
// [Benchmark] measures one, in the form that benchstat compares.
package cachetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
)

// Config describes the store under test.
type Config struct {
	// New returns an empty store that can take values of 2 MiB, 32 MiB in all. What needs closing is closed by
	// t.Cleanup.
	New func(t testing.TB) cache.Store
	// Lossy says that the store may forget a value at any time. It must still never give wrong bytes, and must
	// remember something now and then.
	Lossy bool
	// Copies is how often Purge may count one value, for stores made of others; zero means once.
	Copies int64
	// Settle, if not nil, is called after a Put and before a Get that expects the value: it may wait until the
	// store has taken the value in.
	Settle func(s cache.Store)
	// Restart, if not nil, closes the store and returns another one over the same data, to check what survives.
	Restart func(t testing.TB, s cache.Store) cache.Store
}

// Run checks every sentence of the contract of [cache.Store], and those of [cache.NegativePutter] and
// [cache.Purger] where the store implements them.
func Run(t *testing.T, c Config) {
	t.Helper()
	tests := []struct {
		name string
		run  func(k *kit)
	}{
		{"Miss", testMiss},
		{"RoundTrip", testRoundTrip},
		{"Readers", testReaders},
		{"KindsApart", testKindsApart},
		{"InvalidKey", testInvalidKey},
		{"FailedPut", testFailedPut},
		{"Cancelled", testCancelled},
		{"Replace", testReplace},
		{"EntryOutlives", testEntryOutlives},
		{"Concurrent", testConcurrent},
		{"Restart", testRestart},
		{"Negative", testNegative},
		{"Purge", testPurge},
		{"Close", testClose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(&kit{T: t, c: c, s: c.New(t)}) })
	}
}

type kit struct {
	*testing.T
	c Config
	s cache.Store
}

// value returns n bytes that follow from the seed and do not repeat.
func value(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(n)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func key(parts ...string) cache.Key { return cache.NewKey(cache.Patches, parts...) }

func (k *kit) put(key cache.Key, data []byte) {
	k.Helper()
	info, err := k.s.Put(k.Context(), key, bytes.NewReader(data))
	if err != nil {
		k.Fatalf("Put %s of %d bytes: %v", key, len(data), err)
	}
	if want := (cache.Info{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data)}); info != want {
		k.Fatalf("Put %s: got info %+v, want %+v", key, info, want)
	}
	if k.c.Settle != nil {
		k.c.Settle(k.s)
	}
}

// get returns nil for a miss.
func (k *kit) get(key cache.Key) []byte {
	k.Helper()
	e, err := k.s.Get(k.Context(), key)
	if errors.Is(err, cache.ErrMiss) {
		if e != nil {
			k.Fatalf("Get %s: an entry beside ErrMiss", key)
		}
		return nil
	}
	if err != nil {
		k.Fatalf("Get %s: %v", key, err)
	}
	defer e.Close()
	return k.read(e, key)
}

func (k *kit) read(e *cache.Entry, key cache.Key) []byte {
	k.Helper()
	data, err := io.ReadAll(e.Reader())
	if err != nil {
		k.Fatalf("read %s: %v", key, err)
	}
	if want := (cache.Info{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data)}); e.Info() != want {
		k.Fatalf("entry %s: got info %+v, want %+v", key, e.Info(), want)
	}
	if data == nil {
		data = []byte{}
	}
	return data
}

// want reports whether the store had the value; only a lossy one may not.
func (k *kit) want(key cache.Key, want []byte) bool {
	k.Helper()
	got := k.get(key)
	if got == nil {
		if !k.c.Lossy {
			k.Fatalf("Get %s: miss, want %d bytes", key, len(want))
		}
		return false
	}
	if !bytes.Equal(got, want) {
		k.Fatalf("Get %s: got %d other bytes, want %d", key, len(got), len(want))
	}
	return true
}

func (k *kit) wantMiss(key cache.Key) {
	k.Helper()
	if got := k.get(key); got != nil {
		k.Fatalf("Get %s: got %d bytes, want ErrMiss", key, len(got))
	}
}

func testMiss(k *kit) {
	k.Helper()
	k.wantMiss(key("absent"))
	k.put(key("present"), []byte("x"))
	k.wantMiss(key("absent"))
}

func testRoundTrip(k *kit) {
	k.Helper()
	t := k.T
	sizes := []int{0, 1, 127, 128, 4095, 4096, 4097, 65536, 1<<20 + 3}
	hits := 0
	for i, n := range sizes {
		data := value(uint64(i), n)
		kk := key("size", fmt.Sprint(n))
		k.put(kk, data)
		e, err := k.s.Get(t.Context(), kk)
		if err != nil {
			if k.c.Lossy && errors.Is(err, cache.ErrMiss) {
				continue
			}
			t.Fatalf("Get of %d bytes: %v", n, err)
		}
		hits++
		if n > 1<<16 { // TestReader reads three times, in the smallest of pieces
			if got, err := io.ReadAll(e.Reader()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: read %d, %v, want what was put", n, len(got), err)
			}
		} else if err := iotest.TestReader(e.Reader(), data); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		for _, off := range []int64{0, 1, int64(n) / 2, int64(n) - 1, int64(n), int64(n) + 1} {
			buf := make([]byte, 7)
			got, err := e.ReadAt(buf, off)
			switch {
			case off < 0:
				if err == nil || got != 0 {
					t.Errorf("ReadAt(%d) of %d bytes: got %d, %v, want an error", off, n, got, err)
				}
				continue
			case off+7 > int64(n) && !errors.Is(err, io.EOF), off+7 <= int64(n) && err != nil:
				t.Errorf("ReadAt(%d) of %d bytes: error %v", off, n, err)
			}
			want := data[min(off, int64(n)):min(off+7, int64(n))]
			if !bytes.Equal(buf[:got], want) {
				t.Errorf("ReadAt(%d) of %d bytes: got %x, want %x", off, n, buf[:got], want)
			}
		}
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if hits == 0 {
		t.Errorf("none of %d values was there after Put", len(sizes))
	}
}

func testReaders(k *kit) {
	k.Helper()
	t := k.T
	data := value(1, 10000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"onebyte": iotest.OneByteReader, "half": iotest.HalfReader, "dataerr": iotest.DataErrReader,
		"plain": func(r io.Reader) io.Reader { return io.MultiReader(r) }, // tells no size
	} {
		kk := key("reader", name)
		if _, err := k.s.Put(t.Context(), kk, wrap(bytes.NewReader(data))); err != nil {
			t.Fatalf("Put from reader %s: %v", name, err)
		}
		if k.c.Settle != nil {
			k.c.Settle(k.s)
		}
		k.want(kk, data)
	}
	// A reader that was begun gives the rest.
	r := bytes.NewReader(data)
	if _, err := r.Seek(1000, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := k.s.Put(t.Context(), key("rest"), r); err != nil {
		t.Fatal(err)
	}
	if k.c.Settle != nil {
		k.c.Settle(k.s)
	}
	k.want(key("rest"), data[1000:])
}

func testKindsApart(k *kit) {
	k.Helper()
	a := cache.NewKey(cache.Patches, "same")
	b := a
	b.Kind = cache.Partials
	k.put(a, []byte("a"))
	k.wantMiss(b)
	k.put(b, []byte("b"))
	k.want(a, []byte("a"))
	k.want(b, []byte("b"))
}

func testInvalidKey(k *kit) {
	k.Helper()
	t := k.T
	for _, kind := range []cache.Kind{"", "..", "a/b", "UPPER", "seventeen-letters", "nul\x00"} {
		bad := key("x")
		bad.Kind = kind
		if _, err := k.s.Put(t.Context(), bad, strings.NewReader("x")); err == nil {
			t.Errorf("Put with kind %q: no error", kind)
		}
		if _, err := k.s.Get(t.Context(), bad); err == nil || errors.Is(err, cache.ErrMiss) {
			t.Errorf("Get with kind %q: got %v, want an error that is no miss", kind, err)
		}
	}
}

func testFailedPut(k *kit) {
	k.Helper()
	t := k.T
	broken := errors.New("source broke")
	for _, n := range []int{0, 1, 5000, 1 << 20} {
		fresh, old := key("fresh", fmt.Sprint(n)), key("old", fmt.Sprint(n))
		k.put(old, []byte("old"))
		for _, kk := range []cache.Key{fresh, old} {
			r := io.MultiReader(bytes.NewReader(value(3, n)), iotest.ErrReader(broken))
			if _, err := k.s.Put(t.Context(), kk, r); !errors.Is(err, broken) {
				t.Fatalf("Put from a reader that breaks after %d bytes: got %v, want its error", n, err)
			}
		}
		k.wantMiss(fresh)
		k.want(old, []byte("old"))
	}
}

func testCancelled(k *kit) {
	k.Helper()
	t := k.T
	ctx, cancel := context.WithCancel(t.Context())
	k.put(key("there"), []byte("x"))
	left := 1 << 20
	r := io.MultiReader(bytes.NewReader(value(4, 1000)), readerFunc(func(p []byte) (int, error) {
		cancel()
		if left--; left < 0 { // it would go on for ever
			return 0, errors.New("it was read on for long after the context had ended")
		}
		p[0] = 1
		return 1, nil
	}))
	if _, err := k.s.Put(ctx, key("endless"), r); !errors.Is(err, context.Canceled) {
		t.Fatalf("Put cancelled in the middle: got %v, want context.Canceled", err)
	}
	k.wantMiss(key("endless"))
	if _, err := k.s.Put(ctx, key("late"), strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a cancelled context: got %v, want context.Canceled", err)
	}
	k.wantMiss(key("late"))
	if _, err := k.s.Get(ctx, key("there")); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a cancelled context: got %v, want context.Canceled", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func testReplace(k *kit) {
	k.Helper()
	t := k.T
	a, b := value(5, 9000), value(6, 7000)
	k.put(key("twice"), a)
	if _, err := k.s.Put(t.Context(), key("twice"), bytes.NewReader(b)); err != nil {
		t.Fatalf("second Put: %v", err)
	}
	if k.c.Settle != nil {
		k.c.Settle(k.s)
	}
	got := k.get(key("twice"))
	switch {
	case bytes.Equal(got, a), bytes.Equal(got, b), got == nil && k.c.Lossy:
	default:
		t.Errorf("after two Puts: got %d bytes that are neither", len(got))
	}
}

func testEntryOutlives(k *kit) {
	k.Helper()
	t := k.T
	data := value(7, 100_000)
	kk := key("outlives")
	k.put(kk, data)
	e, err := k.s.Get(t.Context(), kk)
	if k.c.Lossy && errors.Is(err, cache.ErrMiss) {
		t.Skip("the store forgot the value")
	}
	if err != nil {
		t.Fatal(err)
	}
	clone := e.Clone()
	if _, err := k.s.Put(t.Context(), kk, strings.NewReader("another")); err != nil {
		t.Fatal(err)
	}
	if p, ok := k.s.(cache.Purger); ok {
		if _, err := p.Purge(t.Context(), cache.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := k.read(e, kk); !bytes.Equal(got, data) {
		t.Errorf("entry changed after Put and Purge")
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := e.ReadAt(make([]byte, 1), 0); err == nil {
		t.Errorf("ReadAt after Close: no error")
	}
	if c, ok := k.s.(io.Closer); ok {
		c.Close()
	}
	if got := k.read(clone, kk); !bytes.Equal(got, data) {
		t.Errorf("clone changed after the store was closed")
	}
	if err := clone.Close(); err != nil {
		t.Errorf("Close of the clone: %v", err)
	}
}

func testConcurrent(k *kit) {
	k.Helper()
	t := k.T
	const workers, rounds, keys = 8, 60, 12
	var hits, misses int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				n := rng.IntN(keys)
				kk, data := key("concurrent", fmt.Sprint(n)), value(uint64(n), 1000+n*3000)
				if rng.IntN(3) == 0 {
					if _, err := k.s.Put(t.Context(), kk, bytes.NewReader(data)); err != nil {
						t.Errorf("Put: %v", err)
						return
					}
					continue
				}
				e, err := k.s.Get(t.Context(), kk)
				if errors.Is(err, cache.ErrMiss) {
					mu.Lock()
					misses++
					mu.Unlock()
					continue
				}
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				got, err := io.ReadAll(e.Reader())
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("Get: got %d bytes, %v, want %d", len(got), err, len(data))
				}
				e.Close()
				mu.Lock()
				hits++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d hits, %d misses, 0 wrong", hits, misses)
	if hits == 0 && !k.c.Lossy {
		t.Error("no hits")
	}
}

func testRestart(k *kit) {
	k.Helper()
	t := k.T
	if k.c.Restart == nil {
		t.Skip("the store keeps nothing: Config.Restart is nil")
	}
	for i := range 20 {
		k.put(key("restart", fmt.Sprint(i)), value(uint64(i), 100*i))
	}
	k.s = k.c.Restart(t, k.s)
	for i := range 20 {
		k.want(key("restart", fmt.Sprint(i)), value(uint64(i), 100*i))
	}
}

func testNegative(k *kit) {
	k.Helper()
	t := k.T
	n, ok := k.s.(cache.NegativePutter)
	if !ok {
		t.Skip("the store remembers no failures")
	}
	settle := func() {
		if k.c.Settle != nil {
			k.c.Settle(k.s)
		}
	}
	failed := func(kk cache.Key, reason string) {
		t.Helper()
		_, err := k.s.Get(t.Context(), kk)
		var negative *cache.NegativeError
		if !errors.As(err, &negative) {
			if k.c.Lossy && errors.Is(err, cache.ErrMiss) {
				return
			}
			t.Fatalf("Get after PutNegative: got %v, want a *NegativeError", err)
		}
		if negative.Reason != reason || negative.Key != kk || !negative.Until.After(time.Now()) {
			t.Fatalf("Get after PutNegative: got %+v, want reason %q", negative, reason)
		}
		if errors.Is(err, cache.ErrMiss) {
			t.Fatal("a remembered failure must not match ErrMiss")
		}
	}
	kk := key("negative")
	if err := n.PutNegative(t.Context(), kk, "no such locale", time.Hour); err != nil {
		t.Fatal(err)
	}
	settle()
	failed(kk, "no such locale")
	if err := n.PutNegative(t.Context(), kk, "still not", time.Hour); err != nil {
		t.Fatal(err)
	}
	settle()
	failed(kk, "still not")
	k.put(kk, []byte("made it")) // a value replaces a failure
	k.want(kk, []byte("made it"))
	if err := n.PutNegative(t.Context(), kk, "too late", time.Hour); err != nil { // and not the other way
		t.Fatal(err)
	}
	settle()
	k.want(kk, []byte("made it"))
	if err := n.PutNegative(t.Context(), key("over"), "over", -time.Second); err != nil {
		t.Fatal(err)
	}
	settle()
	k.wantMiss(key("over"))
	k.put(key("over"), []byte("again"))
	k.want(key("over"), []byte("again"))
}

func testPurge(k *kit) {
	k.Helper()
	t := k.T
	p, ok := k.s.(cache.Purger)
	if !ok {
		t.Skip("the store removes nothing on request")
	}
	fill := func() {
		for i := range 4 {
			k.put(cache.NewKey(cache.Patches, fmt.Sprint(i)), value(uint64(i), 1000))
			k.put(cache.NewKey(cache.Partials, fmt.Sprint(i)), value(uint64(i), 1000))
		}
	}
	purge := func(f cache.Filter, want int64) {
		t.Helper()
		got, err := p.Purge(t.Context(), f)
		if err != nil {
			t.Fatalf("Purge %+v: %v", f, err)
		}
		if k.c.Lossy && got.Entries < want {
			return
		}
		if got.Entries < want || got.Entries > want*max(1, k.c.Copies) || got.Bytes != got.Entries*1000 {
			t.Fatalf("Purge %+v: got %+v, want %d entries of 1000 bytes", f, got, want)
		}
	}
	fill()
	purge(cache.Filter{Age: 1000 * time.Hour}, 0)
	one := cache.NewKey(cache.Patches, "1")
	purge(cache.Filter{Key: &one}, 1)
	k.wantMiss(one)
	k.want(cache.NewKey(cache.Patches, "2"), value(2, 1000))
	purge(cache.Filter{Key: &one}, 0)
	purge(cache.Filter{Key: &one, Kind: cache.Partials}, 0)
	purge(cache.Filter{Kind: cache.Patches}, 3)
	k.wantMiss(cache.NewKey(cache.Patches, "2"))
	k.want(cache.NewKey(cache.Partials, "1"), value(1, 1000))
	purge(cache.Filter{}, 4)
	for i := range 4 {
		k.wantMiss(cache.NewKey(cache.Partials, fmt.Sprint(i)))
	}
	fill() // it works on
	k.want(one, value(1, 1000))
}

func testClose(k *kit) {
	k.Helper()
	t := k.T
	c, ok := k.s.(io.Closer)
	if !ok {
		t.Skip("the store has nothing to close")
	}
	k.put(key("x"), []byte("x"))
	var wg sync.WaitGroup
	for i := range 4 { // whatever happens beside Close, it must not panic
		wg.Go(func() {
			for j := range 200 {
				_, _ = k.s.Put(t.Context(), key(fmt.Sprint(i, j)), strings.NewReader("x")) // may be too late
				if e, err := k.s.Get(t.Context(), key("x")); err == nil {
					e.Close()
				}
			}
		})
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := k.s.Put(t.Context(), key("x"), strings.NewReader("x")); err == nil {
		t.Error("Put after Close: no error")
	}
	if e, err := k.s.Get(t.Context(), key("x")); err == nil {
		e.Close()
		t.Error("Get after Close: no error")
	}
}

// Benchmark measures Put and Get of values of some sizes, under the names op=…/size=….
func Benchmark(b *testing.B, c Config) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		data := value(9, size)
		b.Run(fmt.Sprintf("op=put/size=%d", size), func(b *testing.B) {
			s := c.New(b)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if _, err := s.Put(b.Context(), key("put", fmt.Sprint(i%16)), bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("op=get/size=%d", size), func(b *testing.B) {
			s := c.New(b)
			if _, err := s.Put(b.Context(), key("get"), bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
			if c.Settle != nil {
				c.Settle(s)
			}
			b.SetBytes(int64(size))
			buf := make([]byte, size)
			hits := 0
			for b.Loop() {
				e, err := s.Get(b.Context(), key("get"))
				if err != nil {
					continue
				}
				if _, err := e.ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
				e.Close()
				hits++
			}
			b.ReportMetric(float64(hits)/float64(b.N), "hit-rate")
		})
		b.Run(fmt.Sprintf("op=miss/size=%d", size), func(b *testing.B) {
			s := c.New(b)
			for b.Loop() {
				if _, err := s.Get(b.Context(), key("absent")); !errors.Is(err, cache.ErrMiss) {
					b.Fatal(err)
				}
			}
		})
	}
}

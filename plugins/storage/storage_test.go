package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/cache/cachetest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
	"github.com/senbonzakura/senbonzakura/plugins/storage/storagetest"
)

// dirEnv makes the test binary a storage plugin; its value is the directory.
const dirEnv = "SENBON_TEST_DIR"

// faultEnv says what is wrong with that plugin.
const faultEnv = "SENBON_TEST_FAULT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirEnv); dir != "" {
		storage.Serve(func(context.Context) (storage.Backend, error) {
			if os.Getenv(faultEnv) == "forgets" {
				dir = os.TempDir() // which goes with the process
			}
			d, err := openDir(dir)
			if err == nil && os.Getenv(faultEnv) == "early" {
				return &wrong{Backend: d, put: early(d)}, nil
			}
			if err == nil && os.Getenv(faultEnv) == "hangs" {
				return &wrong{Backend: d, stat: func(context.Context, string) (storage.Object, error) { select {} }}, nil
			}
			if err != nil || os.Getenv("SENBON_TEST_SICK") == "" {
				return d, err
			}
			return storagetest.Sick(d), nil
		})
	}
	goleak.VerifyTestMain(m)
}

func openDir(dir string) (*storage.Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return storage.NewDir(root)
}

func binary(tb testing.TB, dir string, env ...string) plugins.Config {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		tb.Fatal(err)
	}
	return plugins.Config{
		Path: path, SHA256: sum, Env: append(env, testkit.FastExit, dirEnv+"="+dir), StartTimeout: 20 * time.Second,
		Restart: plugins.RestartPolicy{Max: 10000, MinPause: time.Millisecond, MaxPause: time.Millisecond},
	}
}

func start(tb testing.TB, cfg plugins.Config) *storage.Client {
	tb.Helper()
	c, err := storage.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func local(tb testing.TB, b storage.Backend) *storage.Client {
	tb.Helper()
	c, err := storage.Local(b)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func newDir(tb testing.TB) *storage.Dir {
	tb.Helper()
	d, err := openDir(testkit.MemoryDir(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

func TestConformanceInProcess(t *testing.T) {
	storagetest.Run(t, newDir(t), nil)
}

func TestConformanceOfBinary(t *testing.T) {
	t.Parallel()
	dir := testkit.MemoryDir(t)
	r := storagetest.CheckBinary(t.Context(), binary(t, dir), nil)
	r.Apply(t)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	if want := 30; len(r.Results) < want {
		t.Errorf("got %d rules, want at least %d", len(r.Results), want)
	}
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) != 1 { // of the upload that was killed
		t.Errorf("%d temporary files are left, want 1, %v", len(left), err)
	}
}

// wrong changes single methods of a backend.
type wrong struct {
	storage.Backend
	info   func() (storage.Info, error)
	stat   func(ctx context.Context, name string) (storage.Object, error)
	get    func(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error)
	put    func(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error)
	remove func(ctx context.Context, name string) error
	list   func(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error)
}

func (w *wrong) Info(ctx context.Context) (storage.Info, error) {
	if w.info != nil {
		return w.info()
	}
	return w.Backend.Info(ctx)
}

func (w *wrong) Stat(ctx context.Context, name string) (storage.Object, error) {
	if w.stat != nil {
		return w.stat(ctx, name)
	}
	return w.Backend.Stat(ctx, name)
}

func (w *wrong) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	if w.get != nil {
		return w.get(ctx, name, offset, length)
	}
	return w.Backend.Get(ctx, name, offset, length)
}

func (w *wrong) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if w.put != nil {
		return w.put(ctx, o, r)
	}
	return w.Backend.PutIfAbsent(ctx, o, r)
}

func (w *wrong) Delete(ctx context.Context, name string) error {
	if w.remove != nil {
		return w.remove(ctx, name)
	}
	return w.Backend.Delete(ctx, name)
}

func (w *wrong) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	if w.list != nil {
		return w.list(ctx, prefix, cursor, limit)
	}
	return w.Backend.List(ctx, prefix, cursor, limit)
}

// early puts an empty object, and then the right one in its place.
func early(d *storage.Dir) func(context.Context, storage.Object, io.Reader) (storage.Object, bool, error) {
	return func(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
		first := storage.Object{Name: o.Name, SHA256: sha256.Sum256(nil)}
		if _, _, err := d.PutIfAbsent(ctx, first, strings.NewReader("")); err != nil {
			return storage.Object{}, false, err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, d.Delete(ctx, o.Name)); err != nil {
			return storage.Object{}, false, err
		}
		return d.PutIfAbsent(ctx, o, bytes.NewReader(b))
	}
}

// TestKitKills finds what only shows in a plugin that dies.
func TestKitKills(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"forgets": "T20 (PROTOCOL.md 6.4): what was put is there after kill -9",
		"early":   "T21 (PROTOCOL.md 6.4): killed with kill -9 during an upload",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			r := storagetest.Check(t.Context(), start(t, binary(t, testkit.MemoryDir(t), faultEnv+"="+fault)), &storagetest.Options{Size: 1 << 20})
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

// TestKitHang has a plugin hang in its first call about an object: the check ends there, and says what was not tried.
func TestKitHang(t *testing.T) {
	t.Parallel()
	cfg := binary(t, testkit.MemoryDir(t), faultEnv+"=hangs")
	cfg.CallTimeout = time.Second
	r := storagetest.CheckBinary(t.Context(), cfg, nil)
	failed := false
	for _, res := range r.Results {
		switch {
		case res.Rule == "T3":
			failed = true
			if res.Status != conformance.Failed {
				t.Errorf("%s: %s", res.Rule, res.Status)
			}
		case res.Rule == "T0", !failed:
			if res.Status != conformance.Passed {
				t.Errorf("%s: %s: %s", res.Rule, res.Status, res.Detail)
			}
		case res.Status != conformance.NotTried || !strings.Contains(res.Detail, "in time in T3"):
			t.Errorf("%s: %s: %s", res.Rule, res.Status, res.Detail)
		}
	}
	if !failed {
		t.Error("T3 was not tried")
	}
}

// TestKitFindsFaults makes sure that the kit sees what is wrong: each rule is broken by some backend.
func TestKitFindsFaults(t *testing.T) {
	d := newDir(t)
	replace := func(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
		if err := d.Delete(ctx, o.Name); err != nil {
			return storage.Object{}, false, err
		}
		return d.PutIfAbsent(ctx, o, r)
	}
	tests := []struct {
		name, rule string
		backend    *wrong
	}{
		{"no name", "T2", &wrong{info: func() (storage.Info, error) { return storage.Info{}, nil }}},
		{"absent is internal", "T3", &wrong{stat: func(ctx context.Context, name string) (storage.Object, error) {
			o, err := d.Stat(ctx, name)
			if err != nil {
				err = errors.New("404")
			}
			return o, err
		}}},
		{"whole instead of part", "T5", &wrong{get: func(ctx context.Context, name string, _, _ int64) (storage.Object, io.ReadCloser, error) {
			return d.Get(ctx, name, 0, 0)
		}}},
		{"replaces", "T6", &wrong{put: replace}},
		{"everybody wins", "T7", &wrong{put: replace}},
		{"stores at once", "T8", &wrong{put: func(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
			b, rerr := io.ReadAll(r)
			o.Size, o.SHA256 = int64(len(b)), sha256.Sum256(b)
			there, created, err := d.PutIfAbsent(ctx, o, bytes.NewReader(b))
			return there, created, errors.Join(rerr, err)
		}}},
		{"visible early", "T10", &wrong{put: early(d)}},
		{"keeps all", "T11", &wrong{remove: func(context.Context, string) error { return nil }}},
		{"delete fails", "T11", &wrong{remove: func(ctx context.Context, name string) error {
			if _, err := d.Stat(ctx, name); err != nil {
				return err
			}
			return d.Delete(ctx, name)
		}}},
		{"one page", "T12", &wrong{list: func(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
			o, _, err := d.List(ctx, prefix, cursor, limit)
			return o, "", err
		}}},
		{"any prefix", "T12", &wrong{list: func(ctx context.Context, _, cursor string, limit int) ([]storage.Object, string, error) {
			return d.List(ctx, "", cursor, limit)
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.backend.Backend = d
			r := storagetest.Check(t.Context(), local(t, tt.backend), &storagetest.Options{Size: 1 << 20})
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), tt.rule+" (PROTOCOL.md ") {
				t.Errorf("got %v, want a broken %s", err, tt.rule)
			}
		})
	}
}

func object(name string, size int) (storage.Object, []byte) {
	b := bytes.Repeat([]byte(name+"."), size/(len(name)+1)+1)[:size]
	return storage.Object{Name: name, Size: int64(size), SHA256: sha256.Sum256(b)}, b
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// TestSickPlugin is the promise about plugins that store: whatever one does, no wrong byte is taken for right,
// errors come in time, the host lives, and the next object comes and goes.
func TestSickPlugin(t *testing.T) {
	const deadline = 500 * time.Millisecond
	rounds, slack := testkit.Rounds()
	if rounds == 1 {
		t.Parallel()
	}
	c := start(t, binary(t, testkit.MemoryDir(t), "SENBON_TEST_SICK=1"))
	good, bytesOf := object("good", 3*plugins.ChunkSize)
	for _, o := range []storage.Object{good, {Name: "good-other", Size: good.Size}} {
		b := bytesOf
		if o.SHA256 == [32]byte{} {
			b = bytes.Repeat([]byte{1}, len(b))
			o.SHA256 = sha256.Sum256(b)
		}
		if _, created, err := c.PutIfAbsent(t.Context(), o, opener(b)); err != nil || !created {
			t.Fatal(created, err)
		}
	}
	get := func(ctx context.Context, name string) ([]byte, error) {
		r, err := c.Get(ctx, name, nil)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		return b, errors.Join(err, r.Close())
	}
	for _, mode := range storagetest.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			for round := range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				begin := time.Now()
				b, err := get(ctx, "good.sick-"+string(mode))
				took := time.Since(begin)
				cancel()
				if took > deadline+slack {
					t.Errorf("get took %v, deadline is %v", took, deadline)
				}
				if err == nil && (!bytes.Equal(b, bytesOf) || !mode.Harmless()) {
					t.Errorf("get: no error, right bytes: %v", bytes.Equal(b, bytesOf))
				}

				o, b := object(fmt.Sprintf("put-%s-%d", mode, round), 3*plugins.ChunkSize)
				o.Name += ".sick-" + string(mode)
				ctx, cancel = context.WithTimeout(t.Context(), deadline)
				begin = time.Now()
				_, _, err = c.PutIfAbsent(ctx, o, opener(b))
				took = time.Since(begin)
				cancel()
				if took > deadline+slack {
					t.Errorf("put took %v, deadline is %v", took, deadline)
				}
				if err == nil && !mode.Harmless() && mode != storagetest.Flipped && mode != storagetest.Swapped {
					t.Error("put: no error")
				}
				if b, err := get(t.Context(), good.Name); err != nil || !bytes.Equal(b, bytesOf) {
					t.Fatalf("next get: %v", err)
				}
			}
		})
	}
}

func TestTier(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string][]byte{"plain": nil, "sealed": []byte("secret")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cachetest.Run(t, cachetest.Config{New: func(tb testing.TB) cache.Store {
				tb.Helper()
				tier, err := storage.NewTier(local(tb, newDir(tb)), &storage.TierOptions{Prefix: "cache/", TempDir: testkit.MemoryDir(tb), Secret: secret})
				if err != nil {
					tb.Fatal(err)
				}
				return tier
			}})
		})
	}
}

func TestTierInProcess(t *testing.T) {
	dir := t.TempDir()
	tier, err := storage.NewTier(start(t, binary(t, dir)), nil)
	if err != nil {
		t.Fatal(err)
	}
	layered := cache.NewLayered([]cache.Store{tier}, nil)
	defer layered.Close()
	k := cache.NewKey(cache.Partials, "a", "b")
	filled := 0
	for range 2 {
		e, err := layered.GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
			filled++
			_, err := w.Write(bytes.Repeat([]byte("partial "), 1<<18))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if e.Size() != 8<<18 {
			t.Errorf("got %d bytes", e.Size())
		}
		e.Close()
	}
	if filled != 1 {
		t.Errorf("filled %d times, want once", filled)
	}
}

// TestTierDown counts how often a store that is down is asked: as often as plugins.Retry says, whatever is asked of it, and
// also where it is the seal that cannot be read.
func TestTierDown(t *testing.T) {
	t.Parallel()
	const want = 3
	k := cache.NewKey(cache.Partials, "a", "b")
	for name, secret := range map[string][]byte{"plain": nil, "sealed": []byte("secret")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			down := func(name string) bool { return secret == nil || strings.HasSuffix(name, ".seal") }
			var gets, puts atomic.Int32
			w := &wrong{
				Backend: dir,
				get: func(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
					if down(name) {
						gets.Add(1)
						return storage.Object{}, nil, plugins.ErrUnavailable
					}
					return dir.Get(ctx, name, offset, length)
				},
				put: func(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
					if down(o.Name) {
						puts.Add(1)
						return storage.Object{}, false, plugins.ErrUnavailable
					}
					return dir.PutIfAbsent(ctx, o, r)
				},
			}
			tier, err := storage.NewTier(local(t, w), &storage.TierOptions{Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tier.Put(t.Context(), k, strings.NewReader("value")); !errors.Is(err, plugins.ErrUnavailable) || puts.Load() != want {
				t.Errorf("put: asked %d times, %v, want %d times and ErrUnavailable", puts.Load(), err, want)
			}
			if _, err := tier.Get(t.Context(), k); !errors.Is(err, plugins.ErrUnavailable) || gets.Load() != want {
				t.Errorf("get: asked %d times, %v, want %d times and ErrUnavailable", gets.Load(), err, want)
			}
			if secret == nil {
				return
			}
			gets.Store(0) // the value is there, of other bytes, and nobody says whether somebody else has put it
			if _, err := tier.Put(t.Context(), k, strings.NewReader("another")); !errors.Is(err, plugins.ErrUnavailable) || gets.Load() != want {
				t.Errorf("put of what is there: asked %d times for the seal, %v, want %d times and ErrUnavailable", gets.Load(), err, want)
			}
		})
	}
}

// TestTierDamage damages what is stored, in ways with and without a matching hash.
func TestTierDamage(t *testing.T) {
	dir := t.TempDir()
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := local(t, d)
	k := cache.NewKey(cache.Partials, "a", "b")
	put := func(t *testing.T, tier *storage.Tier) string {
		t.Helper()
		if err := errors.Join(d.Delete(t.Context(), tier.ObjectName(k)), d.Delete(t.Context(), tier.ObjectName(k)+".seal")); err != nil {
			t.Fatal(err)
		}
		if _, err := tier.Put(t.Context(), k, strings.NewReader("the value")); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "objects", tier.ObjectName(k)+"~")
	}
	missing := func(t *testing.T, tier *storage.Tier) {
		t.Helper()
		if _, err := tier.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("got %v, want a miss", err)
		}
		// It can be put again, and is right then.
		if _, err := tier.Put(t.Context(), k, strings.NewReader("the value")); err != nil {
			t.Fatal(err)
		}
		e, err := tier.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if b, err := io.ReadAll(e.Reader()); err != nil || string(b) != "the value" {
			t.Errorf("got %q, %v", b, err)
		}
	}
	plain, err := storage.NewTier(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := storage.NewTier(c, &storage.TierOptions{Secret: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	replace := func(t *testing.T, tier *storage.Tier) {
		t.Helper()
		forged := []byte("forged")
		o := storage.Object{Name: tier.ObjectName(k), Size: 6, SHA256: sha256.Sum256(forged)}
		if err := d.Delete(t.Context(), o.Name); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.PutIfAbsent(t.Context(), o, bytes.NewReader(forged)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("flipped", func(t *testing.T) {
		file := put(t, plain)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Get(t.Context(), k); !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
		missing(t, plain)
	})
	t.Run("cut", func(t *testing.T) {
		if err := os.Truncate(put(t, plain), 20); err != nil {
			t.Fatal(err)
		}
		missing(t, plain)
	})
	t.Run("forged", func(t *testing.T) {
		put(t, sealed)
		replace(t, sealed)
		missing(t, sealed)
	})
	t.Run("forged before put", func(t *testing.T) {
		put(t, sealed)
		replace(t, sealed)
		if _, err := sealed.Put(t.Context(), k, strings.NewReader("the value")); err != nil {
			t.Fatal(err)
		}
		e, err := sealed.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if e.Size() != 9 {
			t.Errorf("got %d bytes: the forged object stayed", e.Size())
		}
	})
	t.Run("seal lost", func(t *testing.T) {
		put(t, sealed)
		if err := d.Delete(t.Context(), sealed.ObjectName(k)+".seal"); err != nil {
			t.Fatal(err)
		}
		missing(t, sealed)
	})
	t.Run("other secret", func(t *testing.T) {
		put(t, sealed)
		other, err := storage.NewTier(c, &storage.TierOptions{Secret: []byte("other")})
		if err != nil {
			t.Fatal(err)
		}
		missing(t, other)
	})
}

func TestTierTooLarge(t *testing.T) {
	tier, err := storage.NewTier(local(t, newDir(t)), &storage.TierOptions{MaxSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	k := cache.NewKey(cache.Partials, "a")
	if _, err := tier.Put(t.Context(), k, strings.NewReader("12345678901")); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := tier.Put(t.Context(), k, strings.NewReader("1234567890")); err != nil {
		t.Error(err)
	}
	if _, err := storage.NewTier(local(t, newDir(t)), &storage.TierOptions{Prefix: "../"}); err == nil {
		t.Error("prefix ../: accepted")
	}
}

// BenchmarkObject measures the way of a large object through a plugin process: SENBON_OBJECT_MB sets its size.
func BenchmarkObject(b *testing.B) {
	mb, err := strconv.Atoi(os.Getenv("SENBON_OBJECT_MB"))
	if err != nil {
		mb = 32
	}
	c := start(b, binary(b, b.TempDir()))
	o, content := object("large", mb<<20)
	b.Run("op=put", func(b *testing.B) {
		b.SetBytes(o.Size)
		for b.Loop() {
			if _, _, err := c.PutIfAbsent(b.Context(), o, opener(content)); err != nil {
				b.Fatal(err)
			}
			if err := c.Delete(b.Context(), o.Name); err != nil {
				b.Fatal(err)
			}
		}
	})
	if _, _, err := c.PutIfAbsent(b.Context(), o, opener(content)); err != nil {
		b.Fatal(err)
	}
	b.Run("op=get", func(b *testing.B) {
		b.SetBytes(o.Size)
		for b.Loop() {
			r, err := c.Get(b.Context(), o.Name, &storage.GetOptions{Want: &o})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
}

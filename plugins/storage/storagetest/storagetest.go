// Package storagetest is the conformance kit of storage plugins. It does not import testing: the same checks
// run in an author's test, against a backend in process, and in a tool, against any binary in any language.
//
//	func TestConformance(t *testing.T) { storagetest.Run(t, myBackend, nil) }
//
//	report := storagetest.CheckBinary(ctx, plugins.Config{Path: path, SHA256: sum}, nil)
//
// The checks write objects whose names begin with a prefix of their own and delete them at the end.
//
// Sick wraps a backend so that it misbehaves in every way that a host must survive.
package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// Options changes a check. The zero value is ready for use.
type Options struct {
	// Prefix begins the names of all objects that are written; empty means "conformance-" and random text.
	Prefix string
	// Size is the size of the largest object in bytes; 0 means 20 MiB.
	Size int64
	// Racers is the number of writers that race for one name; 0 means 20.
	Racers int
}

// Run checks a backend in this process and tells the test what is broken.
func Run(t conformance.TB, b storage.Backend, opts *Options) {
	t.Helper()
	c, err := storage.Local(b)
	if err != nil {
		t.Fatalf("serve backend: %v", err)
	}
	Check(t.Context(), c, opts).Apply(t)
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// CheckBinary checks a plugin's binary: first the process, then what Check checks. It takes some seconds, and of a plugin
// that hangs about half a minute. cfg.CallTimeout is 10 s where it is zero; raise it for stores that are slow.
func CheckBinary(ctx context.Context, cfg plugins.Config, opts *Options) *conformance.Report {
	r := &conformance.Report{Kind: "storage"}
	cfg = r.Patience(cfg)
	r.Process(ctx, cfg, storage.Kind())
	var c *storage.Client
	asked := r.Limit
	r.Limit = cmp.Or(asked, firstLimit)
	r.Try(ctx, "T1", "6.1", "it starts and says what it is", func(ctx context.Context) (err error) {
		if c, err = storage.Start(ctx, cfg); err != nil {
			r.Stop("the plugin did not start in T1")
		}
		return err
	})
	r.Limit = asked
	check(ctx, r, c, opts)
	if c != nil {
		begin := time.Now()
		err := c.Close()
		r.Record("T0", "2.5", "it ends when it is closed", err, time.Since(begin))
	}
	return r
}

// Check checks a plugin that runs.
func Check(ctx context.Context, c *storage.Client, opts *Options) *conformance.Report {
	r := &conformance.Report{Kind: "storage"}
	check(ctx, r, c, opts)
	return r
}

// firstLimit is the longest time of the first rules, which ask for little.
const firstLimit = 15 * time.Second

// kit is one run of the checks.
type kit struct {
	c      *storage.Client
	prefix string
	size   int64
	racers int
}

// object returns an object of some size, and its bytes; they follow from the name.
func (k *kit) object(name string, size int64) (storage.Object, []byte) {
	seed := sha256.Sum256([]byte(name))
	b := make([]byte, size)
	_, _ = mathrand.NewChaCha8(seed).Read(b) // never fails
	return storage.Object{Name: k.prefix + name, Size: size, SHA256: sha256.Sum256(b)}, b
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// put stores an object that must be new.
func (k *kit) put(ctx context.Context, name string, size int64) (storage.Object, []byte, error) {
	o, b := k.object(name, size)
	_, created, err := k.c.PutIfAbsent(ctx, o, opener(b))
	if err == nil && !created {
		err = fmt.Errorf("%s: it says that the object was there already", o.Name)
	}
	return o, b, err
}

// get reads a part of an object.
func (k *kit) get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	r, err := k.c.Get(ctx, name, &storage.GetOptions{Offset: offset, Length: length})
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func check(ctx context.Context, r *conformance.Report, c *storage.Client, opts *Options) {
	if opts == nil {
		opts = &Options{}
	}
	k := &kit{c: c, prefix: opts.Prefix, size: opts.Size, racers: opts.Racers}
	if k.prefix == "" {
		k.prefix = "conformance-" + rand.Text() + "/"
	}
	if k.size == 0 {
		k.size = 20 << 20
	}
	if k.racers == 0 {
		k.racers = 20
	}
	asked := r.Limit
	r.Limit = cmp.Or(asked, firstLimit)
	r.Try(ctx, "T2", "6.1", "it has a name and a version", func(ctx context.Context) error {
		info, err := c.Info(ctx)
		if err == nil && (info.Name == "" || info.Version == "") {
			err = fmt.Errorf("name %q, version %q", info.Name, info.Version)
		}
		return err
	})
	r.Try(ctx, "T3", "6.2", "an object that is not there: NOT_FOUND", k.absent)
	r.Limit = asked
	r.Try(ctx, "T4", "6.4", "what was put can be got, at every size", k.roundTrip)
	r.Try(ctx, "T18", "6.2", "objects \"a\" and \"a/b\" beside each other", k.below)
	r.Try(ctx, "T19", "6.2", "a name of 512 bytes", k.longName)
	r.Try(ctx, "T5", "6.3", "parts of an object", k.ranges)
	r.Try(ctx, "T6", "6.4", "an object that is there is never replaced", k.writeOnce)
	r.Try(ctx, "T7", "6.4", fmt.Sprintf("of %d writers of one name, one wins", k.racers), k.race)
	r.Try(ctx, "T8", "6.4", "bytes that are not what was announced are not stored", k.lies)
	r.Try(ctx, "T9", "6.4", "an upload that is given up leaves nothing", k.interrupted)
	r.Try(ctx, "T10", "6.4", "nobody sees an object before its last byte is there", k.invisible)
	r.Try(ctx, "T11", "6.5", "what was deleted is gone, and deleting it again is fine", k.deletes)
	r.Try(ctx, "T12", "6.6", "lists are whole, in order, and page by page", k.lists)
	r.Try(ctx, "T13", "6.2", "names that cannot name an object: INVALID", k.names)
	r.Try(ctx, "T14", "6.4", fmt.Sprintf("an object of %d bytes", k.size), k.large)
	r.Try(ctx, "T15", "4", "a download that is given up does not disturb the next", k.abandoned)
	r.Try(ctx, "T20", "6.4", "what was put is there after kill -9 and a new start", k.survives)
	r.Try(ctx, "T21", "6.4", "killed with kill -9 during an upload, it shows nothing of it and takes it anew", k.killed)
	r.Try(ctx, "T16", "6.7", "an address for others works, or UNSUPPORTED", k.presign)
	r.Try(ctx, "T17", "6.5", "everything that was written can be deleted", k.cleanUp)
}

func (k *kit) absent(ctx context.Context) error {
	name := k.prefix + "absent"
	_, err := k.c.Stat(ctx, name)
	if !errors.Is(err, plugins.ErrNotFound) {
		return fmt.Errorf("asking for it: got %w", or(err))
	}
	if _, err := k.get(ctx, name, 0, 0); !errors.Is(err, plugins.ErrNotFound) {
		return fmt.Errorf("Get: got %w", or(err))
	}
	return nil
}

func (k *kit) roundTrip(ctx context.Context) error {
	for _, size := range []int64{0, 1, 1000, plugins.ChunkSize - 1, plugins.ChunkSize, plugins.ChunkSize + 1, 3*plugins.ChunkSize + 7} {
		o, b, err := k.put(ctx, fmt.Sprintf("size-%d", size), size)
		if err != nil {
			return fmt.Errorf("%d bytes: put: %w", size, err)
		}
		got, err := k.get(ctx, o.Name, 0, 0)
		if err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("%d bytes: got %d: %w", size, len(got), or(err))
		}
		there, err := k.c.Stat(ctx, o.Name)
		if err != nil || there != o {
			return fmt.Errorf("%d bytes: Stat says %d bytes, SHA-256 %x: %w", size, there.Size, there.SHA256, or(err))
		}
	}
	for _, name := range []string{"a", "b/c", "a-b", "a.b", "A_Z.0-9/deep/er/still"} {
		o, b, err := k.put(ctx, name, 10)
		if err != nil {
			return fmt.Errorf("name %q: put: %w", name, err)
		}
		if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("name %q: get: %w", name, or(err))
		}
	}
	return nil
}

// below puts objects below the name of another one, which not all stores can hold.
func (k *kit) below(ctx context.Context) error {
	if _, _, err := k.put(ctx, "below", 10); err != nil {
		return err
	}
	o, b, err := k.put(ctx, "below/it", 10)
	if errors.Is(err, plugins.ErrInvalid) {
		return conformance.Skip("the store cannot hold both, and says so")
	}
	if err != nil {
		return err
	}
	if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("the one below: got %d bytes: %w", len(got), or(err))
	}
	if _, err := k.c.Stat(ctx, k.prefix+"below"); err != nil {
		return fmt.Errorf("the one above: %w", err)
	}
	return nil
}

// longName puts an object with the longest name that there is.
func (k *kit) longName(ctx context.Context) error {
	part := strings.Repeat("n", 100) + "/"
	name := strings.Repeat(part, 6)[:storage.MaxName-len(k.prefix)-1] + "x"
	o, b, err := k.put(ctx, name, 10)
	if err != nil {
		return err
	}
	if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("got %d bytes: %w", len(got), or(err))
	}
	return nil
}

func (k *kit) ranges(ctx context.Context) error {
	const size = 2*plugins.ChunkSize + 100
	o, b, err := k.put(ctx, "ranges", size)
	if err != nil {
		return err
	}
	for _, q := range []struct{ offset, length, want int64 }{
		{0, 1, 1},
		{0, 100, 100},
		{0, size, size},
		{0, size + 1, size},
		{1, 0, size - 1},
		{100, 100, 100},
		{plugins.ChunkSize - 1, 2, 2},
		{size - 1, 1, 1},
		{size - 1, 0, 1},
		{size - 1, 1 << 40, 1},
		{5, plugins.ChunkSize + 5, plugins.ChunkSize + 5},
	} {
		got, err := k.get(ctx, o.Name, q.offset, q.length)
		if err != nil || !bytes.Equal(got, b[q.offset:q.offset+q.want]) {
			return fmt.Errorf("%d bytes from %d: got %d: %w", q.length, q.offset, len(got), or(err))
		}
	}
	for _, offset := range []int64{size, size + 1, 1 << 50} {
		if _, err := k.get(ctx, o.Name, offset, 1); !errors.Is(err, plugins.ErrInvalid) {
			return fmt.Errorf("from %d, which is behind the end, want INVALID: %w", offset, or(err))
		}
	}
	return nil
}

func (k *kit) writeOnce(ctx context.Context) error {
	o, b, err := k.put(ctx, "once", 1000)
	if err != nil {
		return err
	}
	if there, created, err := k.c.PutIfAbsent(ctx, o, opener(b)); err != nil || created || there != o {
		return fmt.Errorf("the same again: created is %v: %w", created, or(err))
	}
	other, otherBytes := k.object("once, but other bytes", 1<<20)
	other.Name = o.Name
	if there, _, err := k.c.PutIfAbsent(ctx, other, opener(otherBytes)); !errors.Is(err, plugins.ErrExists) || there != o {
		return fmt.Errorf("other bytes: the answer should be the object that is there: %w", or(err))
	}
	if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("the object was replaced: %w", or(err))
	}
	return nil
}

func (k *kit) race(ctx context.Context) error {
	name := k.prefix + "race"
	won := make([]bool, k.racers)
	errs := make([]error, k.racers)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range k.racers {
		o, b := k.object(fmt.Sprintf("racer %d", i), 100_000+int64(i))
		o.Name = name
		wg.Go(func() {
			<-start
			_, won[i], errs[i] = k.c.PutIfAbsent(ctx, o, opener(b))
			if errors.Is(errs[i], plugins.ErrExists) {
				errs[i] = nil
			}
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	winner := slices.Index(won, true)
	if n := len(slices.DeleteFunc(slices.Clone(won), func(w bool) bool { return !w })); n != 1 {
		return fmt.Errorf("%d winners", n)
	}
	_, want := k.object(fmt.Sprintf("racer %d", winner), 100_000+int64(winner))
	got, err := k.get(ctx, name, 0, 0)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("the object is not the winner's: %w", or(err))
	}
	return nil
}

func (k *kit) lies(ctx context.Context) error {
	o, b := k.object("lie", 2*plugins.ChunkSize)
	flipped := bytes.Clone(b)
	flipped[len(b)/2] ^= 1
	for what, sent := range map[string][]byte{
		"a flipped bit": flipped, "one byte less": b[:len(b)-1], "half": b[:len(b)/2], "one byte more": append(bytes.Clone(b), 0), "nothing": nil,
	} {
		if _, created, err := k.c.PutIfAbsent(ctx, o, opener(sent)); err == nil || created {
			return fmt.Errorf("%s: it was taken", what)
		} else if !errors.Is(err, plugins.ErrCorrupt) && !errors.Is(err, plugins.ErrInvalid) {
			return fmt.Errorf("%s: want CORRUPT: %w", what, err)
		}
		if _, err := k.c.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
			return fmt.Errorf("%s: afterwards the object is there: %w", what, or(err))
		}
	}
	return nil
}

// errGivenUp is what a source fails with.
var errGivenUp = errors.New("given up on purpose")

func (k *kit) interrupted(ctx context.Context) error {
	o, b := k.object("interrupted", 4*plugins.ChunkSize)
	broken := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:3*plugins.ChunkSize]), failing{})), nil
	}
	if _, _, err := k.c.PutIfAbsent(ctx, o, broken); !errors.Is(err, errGivenUp) {
		return fmt.Errorf("got %w", or(err))
	}
	if _, err := k.c.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return fmt.Errorf("afterwards the object is there: %w", or(err))
	}
	_, created, err := k.c.PutIfAbsent(ctx, o, opener(b))
	if err == nil && !created {
		err = errors.New("the second attempt finds it there already")
	}
	return err
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errGivenUp }

func (k *kit) invisible(ctx context.Context) error {
	// More than the windows and buffers in between hold: the plugin has begun to read when we look.
	o, b := k.object("invisible", 20*plugins.ChunkSize)
	var seen error
	look := readerFunc(func([]byte) (int, error) {
		if _, err := k.c.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
			seen = fmt.Errorf("asked before the last byte: %w", or(err))
		}
		page, _, err := k.c.List(ctx, o.Name, "", 10)
		if err != nil || len(page) != 0 {
			seen = fmt.Errorf("a list before the last byte shows %d objects: %w", len(page), or(err))
		}
		return 0, io.EOF
	})
	last := len(b) - 1
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:last]), look, bytes.NewReader(b[last:]))), nil
	}
	_, _, err := k.c.PutIfAbsent(ctx, o, open)
	return errors.Join(err, seen)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (k *kit) deletes(ctx context.Context) error {
	o, b, err := k.put(ctx, "deleted", 100)
	if err != nil {
		return err
	}
	for range 2 {
		if err := k.c.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	if _, err := k.c.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return fmt.Errorf("it is still there: %w", or(err))
	}
	if page, _, err := k.c.List(ctx, o.Name, "", 10); err != nil || len(page) > 0 {
		return fmt.Errorf("lists still show %d objects: %w", len(page), or(err))
	}
	_, created, err := k.c.PutIfAbsent(ctx, o, opener(b))
	if err == nil && !created {
		err = errors.New("it cannot be put again")
	}
	return err
}

func (k *kit) lists(ctx context.Context) error {
	var want []string
	for _, name := range []string{"l/a-b", "l/a.b", "l/a/b", "l/a/c", "l/a0", "l/aa", "l/b/1/2/3", "l/b/1/4", "l/B", "l/_"} {
		o, _, err := k.put(ctx, name, 5)
		if err != nil {
			return err
		}
		want = append(want, o.Name)
	}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 3, 1000} {
		for _, prefix := range []string{"l/", "l/a", "l/a/", "l/b", "l/b/1/4", "l/nothing"} {
			var names []string
			cursor := ""
			for {
				page, next, err := k.c.List(ctx, k.prefix+prefix, cursor, limit)
				if err != nil {
					return fmt.Errorf("prefix %q, limit %d: %w", prefix, limit, err)
				}
				for _, o := range page {
					names = append(names, o.Name)
					if o.Size != 5 {
						return fmt.Errorf("prefix %q: %s has %d bytes", prefix, o.Name, o.Size)
					}
				}
				if cursor = next; cursor == "" || len(names) > len(want) {
					break
				}
			}
			wanted := slices.DeleteFunc(slices.Clone(want), func(n string) bool { return !strings.HasPrefix(n, k.prefix+prefix) })
			if !slices.Equal(names, wanted) {
				return fmt.Errorf("prefix %q, limit %d: got %q, want %q", prefix, limit, names, wanted)
			}
		}
	}
	return nil
}

func (k *kit) names(ctx context.Context) error {
	// The client refuses such names, so they are tried past it: see PROTOCOL.md 6.2.
	for _, name := range []string{"", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", "a/./b", "a b", "a\x00", "a\\b", "ä", "a~", strings.Repeat("n", 513)} {
		if err := k.c.Raw().Stat(ctx, name); !errors.Is(err, plugins.ErrInvalid) {
			return fmt.Errorf("asking for %.30q: %w", name, or(err))
		}
		if err := k.c.Raw().Delete(ctx, name); !errors.Is(err, plugins.ErrInvalid) {
			return fmt.Errorf("deleting %.30q: %w", name, or(err))
		}
	}
	return nil
}

func (k *kit) large(ctx context.Context) error {
	o, b, err := k.put(ctx, "large", k.size)
	if err != nil {
		return err
	}
	got, err := k.get(ctx, o.Name, 0, 0)
	if err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("got %d bytes: %w", len(got), or(err))
	}
	return nil
}

func (k *kit) abandoned(ctx context.Context) error {
	o, b, err := k.put(ctx, "abandoned", 8*plugins.ChunkSize)
	if err != nil {
		return err
	}
	for range 5 {
		r, err := k.c.Get(ctx, o.Name, nil)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("the next download: %w", or(err))
	}
	return nil
}

// survives kills the plugin behind a put.
func (k *kit) survives(ctx context.Context) error {
	o, b, err := k.put(ctx, "survives", 3*plugins.ChunkSize+7)
	if err != nil {
		return err
	}
	if err := conformance.Kill(k.c.Process()); err != nil {
		return err
	}
	if got, err := k.get(ctx, o.Name, 0, 0); err != nil || !bytes.Equal(got, b) {
		return fmt.Errorf("got %d of %d bytes: %w", len(got), len(b), or(err))
	}
	if there, err := k.c.Stat(ctx, o.Name); err != nil || there != o {
		return fmt.Errorf("the Stat call says %d bytes, SHA-256 %x: %w", there.Size, there.SHA256, or(err))
	}
	return nil
}

// killed kills the plugin in the middle of a put.
func (k *kit) killed(ctx context.Context) error {
	// More than the windows and buffers in between hold: the plugin has begun to read when it dies.
	o, b := k.object("killed", 20*plugins.ChunkSize)
	var failed error
	tries := 0
	dying := func() (io.ReadCloser, error) {
		if tries++; tries > 1 {
			return nil, errGivenUp
		}
		kill := readerFunc(func([]byte) (int, error) {
			failed = conformance.Kill(k.c.Process())
			return 0, io.EOF
		})
		last := len(b) - 1
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:last]), kill, bytes.NewReader(b[last:]))), nil
	}
	_, created, err := k.c.PutIfAbsent(ctx, o, dying)
	if failed != nil {
		return failed
	}
	if err == nil || created {
		return errors.New("the upload worked all the same")
	}
	if _, err := k.c.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return fmt.Errorf("afterwards the object is there: %w", or(err))
	}
	if page, _, err := k.c.List(ctx, o.Name, "", 10); err != nil || len(page) > 0 {
		return fmt.Errorf("lists show %d objects: %w", len(page), or(err))
	}
	_, created, err = k.c.PutIfAbsent(ctx, o, opener(b))
	if err == nil && !created {
		err = errors.New("the next attempt finds it there already")
	}
	return err
}

func (k *kit) presign(ctx context.Context) error {
	o, b, err := k.put(ctx, "presigned", 1000)
	if err != nil {
		return err
	}
	info, err := k.c.Info(ctx)
	if err != nil {
		return err
	}
	address, until, err := k.c.Presign(ctx, o.Name, time.Minute)
	if !slices.Contains(info.Capabilities, storage.CapabilityPresign) {
		if !errors.Is(err, plugins.ErrUnsupported) {
			return fmt.Errorf("it does not announce %q, want UNSUPPORTED: %w", storage.CapabilityPresign, or(err))
		}
		return conformance.Skip("the plugin has no addresses for others")
	}
	if err != nil {
		return err
	}
	if left := time.Until(until); left < 0 || left > time.Hour {
		return fmt.Errorf("asked for an address for a minute, it works for %v", left)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, b) {
		return fmt.Errorf("the address gives status %s and %d bytes: %w", resp.Status, len(got), or(err))
	}
	return nil
}

func (k *kit) cleanUp(ctx context.Context) error {
	for o, err := range k.c.All(ctx, k.prefix) {
		if err != nil {
			return err
		}
		if err := k.c.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	if page, _, err := k.c.List(ctx, k.prefix, "", 10); err != nil || len(page) > 0 {
		return fmt.Errorf("%d objects are left: %w", len(page), or(err))
	}
	return nil
}

// or stands for "no error", or "no other", where an error is wrapped that may be none.
func or(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

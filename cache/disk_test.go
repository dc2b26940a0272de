package cache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// clock is one that is set by hand.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func openWith(t *testing.T, dir string, o cache.DiskOptions, c *clock) *cache.Disk {
	t.Helper()
	d, err := cache.OpenDiskOn(t.Context(), dir, o, osfs.OS{}, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(t *testing.T, s cache.Store, k cache.Key, data []byte) {
	t.Helper()
	if _, err := s.Put(t.Context(), k, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// get returns nil for a miss.
func get(t *testing.T, s cache.Store, k cache.Key) []byte {
	t.Helper()
	e, err := s.Get(t.Context(), k)
	if errors.Is(err, cache.ErrMiss) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	data, err := io.ReadAll(e.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKey(t *testing.T) {
	// The sum is part of what machines share: it must not change.
	const want = "patches/13512f0b1b20a557bfc35925981f6cf095bbd87080d03a0c624801c696ef39e1"
	k := cache.NewKey(cache.Patches, "from", "to", "recipe")
	if got := k.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if back, err := cache.ParseKey(k.String()); err != nil || back != k {
		t.Errorf("ParseKey(%s): %v, %v", k, back, err)
	}
	seen := make(map[[32]byte]string)
	for name, k := range map[string]cache.Key{
		"a,b": cache.NewKey(cache.Patches, "a", "b"), "ab": cache.NewKey(cache.Patches, "ab"), "b,a": cache.NewKey(cache.Patches, "b", "a"),
		"ab,": cache.NewKey(cache.Patches, "ab", ""), "none": cache.NewKey(cache.Patches), "empty": cache.NewKey(cache.Patches, ""),
		"kind": cache.NewKey(cache.Partials, "ab"),
	} {
		if other, ok := seen[k.Sum]; ok {
			t.Errorf("%s and %s have one sum", name, other)
		}
		seen[k.Sum] = name
	}
	for _, bad := range []string{"", "patches", "patches/00", "/" + strings.Repeat("0", 64), "x/" + strings.Repeat("A", 64), "../" + strings.Repeat("0", 64)} {
		if k, err := cache.ParseKey(bad); err == nil {
			t.Errorf("ParseKey(%q) = %v", bad, k)
		}
	}
}

// TestRecord pins the layout of an entry's file.
func TestRecord(t *testing.T) {
	d := openWith(t, t.TempDir(), cache.DiskOptions{}, &clock{time.Unix(1_800_000_000, 0)})
	k := cache.NewKey(cache.Partials, "golden")
	put(t, d, k, []byte("value"))
	got, err := os.ReadFile(d.Path(k))
	if err != nil {
		t.Fatal(err)
	}
	want := "76616c7565" + "536e627a456e740a" + "0001" + "0000" + "00000000" +
		"7061727469616c730000000000000000" + hex.EncodeToString(k.Sum[:]) + "0000000000000005" +
		"cd42404d52ad55ccfa9aca4adc828aa5800ad9d385a0671fbcbf724118320619" + "000000006b49d200" + "0000000000000000" + "00000000"
	if hex.EncodeToString(got[:len(got)-4]) != want {
		t.Errorf("got  %x\nwant %s and a checksum", got, want)
	}
	adoptHashed(t, d, k, []byte("value")).Close()
	if got, err = os.ReadFile(d.Path(k)); err != nil {
		t.Fatal(err)
	}
	sum256, sum512 := sha256.Sum256([]byte("value")), sha512.Sum512([]byte("value"))
	want = strings.Replace(strings.Replace(want, "00010000", "00010002", 1), hex.EncodeToString(sum256[:]), hex.EncodeToString(sum512[:32]), 1)
	if hex.EncodeToString(got[:len(got)-4]) != want {
		t.Errorf("adopted with its hash:\ngot  %x\nwant %s and a checksum", got, want)
	}
}

// adoptHashed gives a value to a Disk as a file with its SHA-512.
func adoptHashed(t *testing.T, d *cache.Disk, k cache.Key, data []byte) *cache.Entry {
	t.Helper()
	name := filepath.Join(d.TempDir(), "hashed")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := d.AdoptHashed(t.Context(), k, name, sha512.Sum512(data))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDamage(t *testing.T) {
	damages := testkit.Count(300, 1000, 20_000)
	root := os.Geteuid() == 0
	rng := rand.New(rand.NewPCG(5, uint64(damages)))
	d := openDisk(t, t.TempDir(), nil)
	l := cache.NewLayered([]cache.Store{d}, nil)
	other := cache.NewKey(cache.Patches, "other")
	kinds := []struct {
		name string
		do   func(name string, raw []byte) error
	}{
		{"bit flip", func(name string, raw []byte) error {
			bit := rng.IntN(len(raw) * 8)
			raw[bit/8] ^= 1 << (bit % 8)
			return os.WriteFile(name, raw, 0o600)
		}},
		{"cut", func(name string, raw []byte) error { return os.Truncate(name, int64(rng.IntN(len(raw)))) }},
		{"empty", func(name string, _ []byte) error { return os.Truncate(name, 0) }},
		{"longer", func(name string, raw []byte) error {
			return os.WriteFile(name, append(raw, content("junk", 1+rng.IntN(300))...), 0o600)
		}},
		{"zeros", func(name string, raw []byte) error { // as some file systems do after a power cut
			from := rng.IntN(len(raw))
			clear(raw[from:])
			raw[len(raw)-1] ^= 0xff // its checksum might be zeros
			return os.WriteFile(name, raw, 0o600)
		}},
		{"swapped", func(name string, _ []byte) error {
			raw, err := os.ReadFile(d.Path(other))
			if err == nil {
				err = os.WriteFile(name, raw, 0o600)
			}
			return err
		}},
		{"moved", func(name string, _ []byte) error { return os.Rename(d.Path(other), name) }},
		{"link", func(name string, _ []byte) error {
			return errors.Join(os.Rename(name, name+".x"), os.Symlink(name+".x", name))
		}},
		{"directory", func(name string, _ []byte) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) }},
		{"wrong owner", func(name string, raw []byte) error {
			if !root {
				return os.WriteFile(name, raw[1:], 0o600)
			}
			return os.Chown(name, 12345, 12345)
		}},
	}
	count := make(map[string]int)
	for i := range damages {
		kind := kinds[rng.IntN(len(kinds))]
		count[kind.name]++
		k := cache.NewKey(cache.Patches, "damaged", fmt.Sprint(i))
		want := content(fmt.Sprint("damaged", i), rng.IntN(3000))
		if i%2 == 0 {
			put(t, d, k, want)
		} else {
			adoptHashed(t, d, k, want).Close()
		}
		put(t, d, other, []byte("other"))
		raw, err := os.ReadFile(d.Path(k))
		if err != nil {
			t.Fatal(err)
		}
		if err := kind.do(d.Path(k), raw); err != nil {
			t.Fatalf("%s: %v", kind.name, err)
		}
		if e, err := d.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) || !errors.Is(err, cache.ErrCorrupt) {
			t.Fatalf("%s of %d bytes: got %v, %v, want a miss because of damage", kind.name, len(raw), e, err)
		}
		made := false
		e, err := l.GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
			made = true
			_, err := w.Write(want)
			return err
		})
		if err != nil || !made {
			t.Fatalf("%s: made again: %v, %v", kind.name, made, err)
		}
		e.Close()
		if got := get(t, d, k); !bytes.Equal(got, want) {
			t.Fatalf("%s: after it was made again: %d bytes, want %d", kind.name, len(got), len(want))
		}
		if _, err := d.Purge(t.Context(), cache.Filter{Key: &k}); err != nil {
			t.Fatal(err)
		}
		os.Remove(d.Path(k) + ".x")
	}
	s, err := d.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Corrupt != int64(damages) {
		t.Errorf("%d damages counted, want %d", s.Corrupt, damages)
	}
	bad, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(d.TempDir())), "bad"))
	if err != nil || len(bad) == 0 || len(bad) > 8 {
		t.Errorf("%d damaged files are kept, want 1 to 8: %v", len(bad), err)
	}
	t.Logf("%d damages, all found and made again: %v", damages, count)
}

func TestDamageAgain(t *testing.T) {
	d := openDisk(t, t.TempDir(), nil)
	k := cache.NewKey(cache.Patches, "x")
	for i := range 3 {
		put(t, d, k, []byte("value"))
		if err := os.Truncate(d.Path(k), 3); err != nil {
			t.Fatal(err)
		}
		if got := get(t, d, k); got != nil {
			t.Fatalf("damage %d was not found", i)
		}
	}
	if _, err := d.Put(t.Context(), k, strings.NewReader("value")); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("Put after three damages: got %v, want a refusal", err)
	}
	// A result is made all the same.
	e, err := cache.NewLayered([]cache.Store{d}, nil).GetOrFill(t.Context(), k, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "value")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
}

func TestEviction(t *testing.T) {
	c := &clock{time.Now()}
	o := cache.DiskOptions{Limits: map[cache.Kind]cache.Limit{
		cache.Patches: {Bytes: 20 * 4096, Item: 40_000}, cache.Partials: {Bytes: 8 * 4096, Age: 48 * time.Hour},
	}}
	d := openWith(t, t.TempDir(), o, c)
	key := func(i int) cache.Key { return cache.NewKey(cache.Patches, fmt.Sprint(i)) }
	small := make([]byte, 3000) // one block
	set := func(k cache.Key) {
		t.Helper()
		put(t, d, k, small)
		if err := os.Chtimes(d.Path(k), c.now, c.now); err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(2 * time.Hour)
	}
	for i := range 20 {
		set(key(i))
	}
	if got := get(t, d, key(0)); got == nil { // now it is the one that was used last
		t.Fatal("evicted below the limit")
	}
	set(key(20))
	for i := range 21 {
		// Room for the new one, and a tenth of the limit: the three that were not used for longest.
		if got, want := get(t, d, key(i)) != nil, i == 0 || i > 3; got != want {
			t.Errorf("entry %d is there: %v, want %v", i, got, want)
		}
	}
	if n, err := d.Reserved(t.Context(), cache.Patches); err != nil || n != 18*4096 {
		t.Errorf("%d bytes are reserved, %v, want %d", n, err, 18*4096)
	}
	if s, err := d.Stats(t.Context()); err != nil || s.Evictions != 3 || s.Kinds[cache.Patches] != (cache.Usage{Entries: 18, Bytes: 18 * 3000}) {
		t.Errorf("statistics: %+v, %v", s, err)
	}
	if _, err := d.Put(t.Context(), key(99), bytes.NewReader(make([]byte, 40_001))); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("value over the limit, size known: %v", err)
	}
	if _, err := d.Put(t.Context(), key(99), io.MultiReader(bytes.NewReader(make([]byte, 40_001)))); !errors.Is(err, cache.ErrTooLarge) {
		t.Errorf("value over the limit, size unknown: %v", err)
	}
	put(t, d, key(99), make([]byte, 40_000))
	if n, err := d.Reserved(t.Context(), cache.Patches); err != nil || n > 20*4096 {
		t.Errorf("%d bytes are reserved, %v", n, err)
	}
	// Another kind has its own limit, and an age.
	old := cache.NewKey(cache.Partials, "old")
	set(old)
	c.now = c.now.Add(47 * time.Hour)
	for i := range 7 {
		set(cache.NewKey(cache.Partials, fmt.Sprint(i)))
	}
	if get(t, d, key(99)) == nil {
		t.Error("one kind evicts another")
	}
	set(cache.NewKey(cache.Partials, "one more"))
	if get(t, d, old) != nil {
		t.Error("an entry over age survives")
	}
	// Values being written hold their space.
	hold := make(chan struct{})
	gone := make(chan error)
	go func() {
		_, err := d.Put(t.Context(), cache.NewKey(cache.Partials, "held"), io.MultiReader(bytes.NewReader(make([]byte, 30_000)), blocker{hold}))
		gone <- err
	}()
	hold <- struct{}{}
	if _, err := d.Put(t.Context(), cache.NewKey(cache.Partials, "second"), bytes.NewReader(make([]byte, 10_000))); !errors.Is(err, cache.ErrNoSpace) {
		t.Errorf("Put while others hold the space: %v", err)
	}
	close(hold)
	if err := <-gone; err != nil {
		t.Error(err)
	}
	put(t, d, cache.NewKey(cache.Partials, "second"), make([]byte, 10_000))
	// So do values of known size of which not a byte has come yet, also when another process counts.
	if _, err := d.Purge(t.Context(), cache.Filter{}); err != nil {
		t.Fatal(err)
	}
	hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := d.Put(ctx, cache.NewKey(cache.Partials, "promised"), promise{blocker{hold}})
		gone <- err
	}()
	hold <- struct{}{}
	other := openWith(t, filepath.Dir(filepath.Dir(d.TempDir())), o, c)
	if _, err := other.Put(t.Context(), cache.NewKey(cache.Partials, "second"), bytes.NewReader(make([]byte, 10_000))); !errors.Is(err, cache.ErrNoSpace) {
		t.Errorf("Put while another process holds the space: %v", err)
	}
	cancel()
	close(hold)
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	put(t, other, cache.NewKey(cache.Partials, "second"), make([]byte, 10_000))
}

// promise is a reader that says how much it will give.
type promise struct{ blocker }

func (promise) Len() int { return 24_000 }

// blocker reads nothing until its channel is closed; it receives once when it is read first.
type blocker struct{ c chan struct{} }

func (b blocker) Read([]byte) (int, error) {
	<-b.c
	<-b.c
	return 0, io.EOF
}

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, nil)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 200 {
		k := cache.NewKey(cache.Patches, fmt.Sprint(i))
		data := make([]byte, rng.IntN(20_000))
		var r io.Reader = bytes.NewReader(data)
		if i%2 == 0 {
			r = io.MultiReader(r)
		}
		if i%5 == 0 {
			r = io.MultiReader(r, failing{})
		}
		d.Put(t.Context(), k, r)
		if i%7 == 0 {
			d.Purge(t.Context(), cache.Filter{Key: &k})
		}
	}
	got, err := d.Reserved(t.Context(), cache.Patches)
	if want := sizeOf(t, dir, cache.Patches); err != nil || got != want {
		t.Errorf("accounts say %d bytes, %v, there are %d", got, err, want)
	}
	// Broken accounts are made again.
	if err := os.WriteFile(filepath.Join(dir, "usage"), []byte("patches 1\n0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := d.Reserved(t.Context(), cache.Patches); err != nil || again != got {
		t.Errorf("after the accounts were damaged: %d bytes, %v, want %d", again, err, got)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("source broke") }

func TestAdopt(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		testAdopt(t, func(ctx context.Context, d *cache.Disk, k cache.Key, name string, _ []byte) (*cache.Entry, error) {
			return d.Adopt(ctx, k, name)
		})
	})
	t.Run("hashed", func(t *testing.T) {
		testAdopt(t, func(ctx context.Context, d *cache.Disk, k cache.Key, name string, data []byte) (*cache.Entry, error) {
			return d.AdoptHashed(ctx, k, name, sha512.Sum512(data))
		})
	})
}

func testAdopt(t *testing.T, adopt func(ctx context.Context, d *cache.Disk, k cache.Key, name string, data []byte) (*cache.Entry, error)) {
	t.Helper()
	d := openDisk(t, t.TempDir(), &cache.DiskOptions{Limits: map[cache.Kind]cache.Limit{cache.Completes: {Bytes: 1 << 20, Item: 200_000}}})
	data := content("adopt", 150_000)
	k := cache.NewKey(cache.Completes, "adopt")
	far, err := os.MkdirTemp(".", "adopt-*") //nolint:usetesting // most likely on another file system
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(far)
	places := map[string]string{
		"own directory": filepath.Join(d.TempDir(), "x"), "same file system": filepath.Join(t.TempDir(), "x"), "elsewhere": filepath.Join(far, "x"),
	}
	for where, name := range places {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		e, err := adopt(t.Context(), d, k, name, data)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if got, err := io.ReadAll(e.Reader()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", where, len(got), err)
		}
		e.Close()
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file is still there: %v", where, err)
		}
		after, err := os.Stat(d.Path(k))
		if err != nil {
			t.Fatal(err)
		}
		if where != "elsewhere" && !os.SameFile(before, after) {
			t.Errorf("%s: the file was copied", where)
		}
		if !bytes.Equal(get(t, d, k), data) {
			t.Errorf("%s: wrong bytes", where)
		}
		if _, err := d.Purge(t.Context(), cache.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	// A file with a second name is copied: the other name must not get a record at its end.
	name, second := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "y")
	if err := errors.Join(os.WriteFile(name, data, 0o600), os.Link(name, second)); err != nil {
		t.Fatal(err)
	}
	e, err := adopt(t.Context(), d, k, name, data)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	if got, err := os.ReadFile(second); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the other name: %d bytes, %v", len(got), err)
	}
	// After a failure it is as it was.
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 200_001), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"too large": func() error { _, err := adopt(t.Context(), d, k, large, nil); return err },
		"cancelled": func() error { _, err := adopt(cancelled, d, k, second, data); return err },
		"absent":    func() error { _, err := adopt(t.Context(), d, k, second+"x", data); return err },
		"directory": func() error { _, err := adopt(t.Context(), d, k, filepath.Dir(second), nil); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if got, err := os.ReadFile(second); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a failure: %d bytes, %v", len(got), err)
	}
	if st, err := os.Stat(large); err != nil || st.Size() != 200_001 {
		t.Errorf("after a failure: %v, %v", st, err)
	}
}

// A file that was adopted with its hash is known by that, now and later, and is compared with it.
func TestAdoptHashed(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, nil)
	k, data := named(cache.Completes, "hashed")
	want := cache.Info{Key: k, Size: int64(len(data)), SHA512: sha512.Sum512(data)}
	e := adoptHashed(t, d, k, data)
	defer e.Close()
	again, err := d.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, e := range []*cache.Entry{e, again, again.Clone()} {
		if e.Info() != want || e.SHA256() != [32]byte{} {
			t.Errorf("got %+v, want %+v", e.Info(), want)
		}
	}
	report, err := d.Verify(t.Context(), nil)
	if err != nil || report.Checked.Entries != 1 || len(report.Damaged) > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}

	// A hash that is not the file's is found by the next look, and before that where the file has to be copied.
	name := filepath.Join(d.TempDir(), "wrong")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := want.SHA512
	wrong[63] ^= 1 // in the half that no record has
	other := cache.NewKey(cache.Completes, "other")
	second := filepath.Join(t.TempDir(), "second")
	if err := os.Link(name, second); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AdoptHashed(t.Context(), other, name, wrong); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("adopt a file with another hash, by copying: %v", err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after it was refused: %d bytes, %v", len(got), err)
	}
	wrong[0] ^= 1
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if e, err := d.AdoptHashed(t.Context(), other, name, wrong); err != nil {
		t.Fatal(err)
	} else if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err := d.Get(t.Context(), other); !errors.Is(err, cache.ErrMiss) || !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("get a value with another hash: %v, %v", e, err)
	}
}

func TestOpenDisk(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "thesis.tex"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	future := t.TempDir()
	openDisk(t, future, nil)
	if err := os.WriteFile(filepath.Join(future, "version"), []byte("senbonzakura cache 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, dir := range map[string]string{"somebody's home": home, "writable by all": shared, "a later version": future, "a file": file} {
		if d, err := cache.OpenDisk(t.Context(), dir, nil); err == nil {
			d.Close()
			t.Errorf("%s: no error", what)
		}
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 1 {
		t.Errorf("the refused directory was changed: %v, %v", left, err)
	}
	for what, l := range map[string]cache.Limit{"zero": {}, "negative": {Bytes: -1}, "item over all": {Bytes: 1, Item: 2}, "age": {Bytes: 1, Age: -1}} {
		_, err := cache.OpenDisk(t.Context(), t.TempDir(), &cache.DiskOptions{Limits: map[cache.Kind]cache.Limit{cache.Patches: l}})
		if err == nil {
			t.Errorf("limit %s: no error", what)
		}
	}
	deep := filepath.Join(t.TempDir(), "a", "b", "c")
	d := openDisk(t, deep, nil)
	put(t, d, cache.NewKey("reports", "x"), []byte("x")) // a kind of the application's own
	st, err := os.Stat(deep)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of a new cache: %v, %v", st.Mode(), err)
	}
	tag, err := os.ReadFile(filepath.Join(deep, "CACHEDIR.TAG"))
	if err != nil || !strings.HasPrefix(string(tag), "Signature: 8a477f597d28d172789f06886806bc55\n") {
		t.Errorf("CACHEDIR.TAG: %q, %v", tag, err)
	}
}

func TestVerify(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	d := openDisk(t, dir, &cache.DiskOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for i := range 30 {
		put(t, d, cache.NewKey([]cache.Kind{cache.Patches, cache.Tools}[i%2], fmt.Sprint(i)), content(fmt.Sprint(i), 1000))
	}
	broken := cache.NewKey(cache.Tools, "7")
	if err := os.Truncate(d.Path(broken), 500); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(filepath.Dir(d.Path(broken)), "README")
	if err := os.WriteFile(strange, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	var calls, last int64
	report, err := d.Verify(t.Context(), func(done, total cache.Usage) {
		calls++
		last = done.Entries
		if total.Entries != 31 || done.Entries != calls {
			t.Errorf("progress %+v of %+v in call %d", done, total, calls)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Checked.Entries != 30 || len(report.Damaged) != 1 || report.Damaged[0].Key != broken || !errors.Is(report.Damaged[0].Err, cache.ErrCorrupt) ||
		len(report.Strangers) != 1 || report.Strangers[0] != strange || last != 31 {
		t.Errorf("got %+v", report)
	}
	if _, err := os.Stat(strange); err != nil {
		t.Errorf("a strange file was touched: %v", err)
	}
	if !strings.Contains(log.String(), broken.String()) {
		t.Errorf("the log does not name the damaged entry: %s", log.String())
	}
	if report, err = d.Verify(t.Context(), nil); err != nil || report.Checked.Entries != 29 || len(report.Damaged) != 0 {
		t.Errorf("second time: %+v, %v", report, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNegativeLife(t *testing.T) {
	c := &clock{time.Now()}
	d := openWith(t, t.TempDir(), cache.DiskOptions{}, c)
	k := cache.NewKey(cache.Partials, "negative")
	long := strings.Repeat("ä", 5000)
	if err := d.PutNegative(t.Context(), k, long, time.Minute); err != nil {
		t.Fatal(err)
	}
	var negative *cache.NegativeError
	if _, err := d.Get(t.Context(), k); !errors.As(err, &negative) || len(negative.Reason) != 4096 || !strings.HasPrefix(long, negative.Reason) {
		t.Errorf("got %v", err)
	}
	c.now = c.now.Add(61 * time.Second)
	if _, err := d.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("a minute later: %v", err)
	}
}

// TestPipe puts a pipe in the place of an entry: to open it for reading would wait for a writer.
func TestPipe(t *testing.T) {
	d := openDisk(t, t.TempDir(), nil)
	k := cache.NewKey(cache.Patches, "pipe")
	put(t, d, k, []byte("x"))
	if err := os.Remove(d.Path(k)); err != nil {
		t.Fatal(err)
	}
	if err := mkfifo(d.Path(k)); err != nil {
		t.Skip(err)
	}
	if _, err := d.Get(t.Context(), k); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	put(t, d, k, []byte("x"))
	if string(get(t, d, k)) != "x" {
		t.Error("not made again")
	}
}

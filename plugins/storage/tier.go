package storage

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// spoolMemory is how much of a value is held in memory, in bytes, before it goes to a temporary file.
const spoolMemory = 1 << 20

// TierOptions changes a Tier. The zero value is ready for use.
type TierOptions struct {
	// Prefix begins the names of all objects, for example "senbonzakura/". It must be able to begin a name.
	Prefix string
	// TempDir is where values larger than 1 MiB are while they come and go; empty means os.TempDir().
	TempDir string
	// MaxSize is the largest value in bytes that is put or got; 0 means 4 GiB.
	MaxSize int64
	// Secret, if there is one, seals the values: beside each object its HMAC is stored, and what has no valid
	// one is not believed. Without it a plugin, or whoever can write to its store, can replace a value by
	// another and change its hash accordingly. All hosts that share a store need the same secret.
	Secret []byte
}

// Tier is a cache.Store over a storage plugin: the objects are named PREFIX kind/ab/ab12…, by the key, and are
// the bare bytes of the values. Get fetches the whole value into memory or a temporary file, and hands it out
// when its hash is right. What is damaged is deleted and counts as a miss. Safe for concurrent use.
type Tier struct {
	c    *Client
	opts TierOptions
}

var _ cache.Store = (*Tier)(nil)

// NewTier returns a store over a plugin, which stays the caller's to close.
func NewTier(c *Client, opts *TierOptions) (*Tier, error) {
	t := &Tier{c: c}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.MaxSize == 0 {
		t.opts.MaxSize = 4 << 30
	}
	if err := CheckName(t.opts.Prefix + "x"); err != nil {
		return nil, fmt.Errorf("storage tier: prefix: %w", err)
	}
	return t, nil
}

// String returns "storage" and the plugin's name.
func (t *Tier) String() string { return "storage " + t.c.process.Name() }

// ObjectName returns the name of the object that holds a key's value.
func (t *Tier) ObjectName(k cache.Key) string {
	sum := hex.EncodeToString(k.Sum[:])
	return fmt.Sprintf("%s%s/%s/%s", t.opts.Prefix, k.Kind, sum[:2], sum)
}

// Presign returns an address from which anybody can read a key's value for about ttl, to be handed to web
// clients: see Client.Presign.
func (t *Tier) Presign(ctx context.Context, k cache.Key, ttl time.Duration) (string, time.Time, error) {
	return t.c.Presign(ctx, t.ObjectName(k), ttl)
}

// Get implements cache.Store.
func (t *Tier) Get(ctx context.Context, k cache.Key) (*cache.Entry, error) {
	if !k.Kind.Valid() {
		return nil, fmt.Errorf("%s: bad kind %q in key", t, k.Kind)
	}
	name := t.ObjectName(k)
	var e *cache.Entry
	err := plugins.Retry(ctx, func() (err error) {
		e, err = t.get(ctx, k, name)
		return err
	})
	switch {
	case errors.Is(err, plugins.ErrNotFound):
		return nil, fmt.Errorf("%s: %w", t, cache.ErrMiss)
	case errors.Is(err, plugins.ErrCorrupt):
		return nil, errors.Join(fmt.Errorf("%s: %w: %w: %w", t, cache.ErrMiss, cache.ErrCorrupt, err), t.remove(ctx, name))
	}
	return e, err
}

// get looks for a value once: whoever calls it repeats the whole, since the transfer may break at any byte.
func (t *Tier) get(ctx context.Context, k cache.Key, name string) (*cache.Entry, error) {
	r, err := t.c.getOnce(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	o := r.Object()
	if o.Size > t.opts.MaxSize {
		return nil, fmt.Errorf("%s: object %s has %d bytes: %w", t, name, o.Size, cache.ErrTooLarge)
	}
	if err := t.checkSeal(ctx, o); err != nil {
		return nil, err
	}
	s, err := t.spool(r)
	if err != nil {
		return nil, err
	}
	return cache.NewEntry(cache.Info{Key: k, Size: o.Size, SHA256: o.SHA256}, s.at, s.close), nil
}

// Put implements cache.Store. Where the key is present already, its value stays.
func (t *Tier) Put(ctx context.Context, k cache.Key, r io.Reader) (cache.Info, error) {
	if !k.Kind.Valid() {
		return cache.Info{}, fmt.Errorf("%s: bad kind %q in key", t, k.Kind)
	}
	s, err := t.spool(io.LimitReader(stream.NewReader(ctx, r), t.opts.MaxSize+1))
	if err != nil {
		return cache.Info{}, err
	}
	defer func() { _ = s.close() }()
	if s.size > t.opts.MaxSize {
		return cache.Info{}, fmt.Errorf("%s: more than %d bytes: %w", t, t.opts.MaxSize, cache.ErrTooLarge)
	}
	o := Object{Name: t.ObjectName(k), Size: s.size, SHA256: s.sum}
	for again := false; ; again = true {
		there, _, err := t.c.PutIfAbsent(ctx, o, func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(s.at, 0, s.size)), nil
		})
		if errors.Is(err, plugins.ErrExists) {
			// Somebody else's value. Without a valid seal it is not one.
			err = plugins.Retry(ctx, func() error { return t.checkSeal(ctx, there) })
			if errors.Is(err, plugins.ErrCorrupt) && !again {
				if err := t.remove(ctx, o.Name); err != nil {
					return cache.Info{}, err
				}
				continue
			}
			return cache.Info{Key: k, Size: there.Size, SHA256: there.SHA256}, err
		}
		if err != nil {
			return cache.Info{}, err
		}
		return cache.Info{Key: k, Size: o.Size, SHA256: o.SHA256}, t.seal(ctx, o)
	}
}

// remove deletes an object and its seal.
func (t *Tier) remove(ctx context.Context, name string) error {
	err := t.c.Delete(ctx, name)
	if t.opts.Secret != nil {
		err = errors.Join(err, t.c.Delete(ctx, sealName(name)))
	}
	return err
}

func sealName(name string) string { return name + ".seal" }

// mac returns the seal of an object.
func (t *Tier) mac(o Object) []byte {
	h := hmac.New(sha256.New, t.opts.Secret)
	_, _ = io.WriteString(h, "senbonzakura seal 1\n"+o.Name+"\n")
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(o.Size)))
	_, _ = h.Write(o.SHA256[:])
	return h.Sum(nil)
}

// seal stores the seal of an object. A wrong one that is there already is replaced.
func (t *Tier) seal(ctx context.Context, o Object) error {
	if t.opts.Secret == nil {
		return nil
	}
	mac := t.mac(o)
	s := Object{Name: sealName(o.Name), Size: int64(len(mac)), SHA256: sha256.Sum256(mac)}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(mac)), nil }
	_, _, err := t.c.PutIfAbsent(ctx, s, open)
	if errors.Is(err, plugins.ErrExists) {
		if err = t.c.Delete(ctx, s.Name); err == nil {
			_, _, err = t.c.PutIfAbsent(ctx, s, open)
		}
	}
	return err
}

// checkSeal returns plugins.ErrCorrupt when an object has no valid seal, and plugins.ErrNotFound when it has none. It asks
// once.
func (t *Tier) checkSeal(ctx context.Context, o Object) error {
	if t.opts.Secret == nil {
		return nil
	}
	r, err := t.c.getOnce(ctx, sealName(o.Name))
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	mac, err := io.ReadAll(io.LimitReader(r, sha256.Size+1))
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, t.mac(o)) {
		return fmt.Errorf("object %s: the seal is not valid: %w", o.Name, plugins.ErrCorrupt)
	}
	return nil
}

// spooled is a value on its way.
type spooled struct {
	at    io.ReaderAt
	size  int64
	sum   [32]byte
	close func() error
}

// spool reads all of r into memory or a temporary file without a name.
func (t *Tier) spool(r io.Reader) (*spooled, error) {
	h := sha256.New()
	r = io.TeeReader(r, h)
	var mem bytes.Buffer
	n, err := io.Copy(&mem, io.LimitReader(r, spoolMemory))
	if err != nil {
		return nil, err
	}
	s := &spooled{at: bytes.NewReader(mem.Bytes()), size: n, close: func() error { return nil }}
	if n == spoolMemory {
		f, err := os.CreateTemp(t.opts.TempDir, "senbonzakura-*")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		s.close = func() error { return errors.Join(f.Close(), remove(f.Name())) }
		_ = os.Remove(f.Name()) // where an open file can be removed; else close does it
		more, err := io.Copy(f, io.MultiReader(&mem, r))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.at, s.size = f, more
	}
	s.sum = [32]byte(h.Sum(nil))
	return s, nil
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/senbonzakura/senbonzakura/cache"
)

// objects is a cache.Store over an object bucket. Each object carries its SHA-256, which is compared when it is read:
// of a damaged one JetStream sends what it has and then nothing any more, so reads have a deadline, too.
type objects struct {
	store   jetstream.ObjectStore
	name    string
	timeout time.Duration
	dir     string
}

// Store returns the bucket for artifacts as a tier for the cache, or nil when there is none (see Options.Objects). It
// stores what servers have to share and not what each can get or make itself: no completes, patches and tools.
func (q *Queue) Store() cache.Store {
	if q.objects == nil {
		return nil
	}
	return q.objects
}

// Has says whether the bucket for artifacts has a value. It does not read it.
func (q *Queue) Has(ctx context.Context, k cache.Key) (bool, error) {
	if q.objects == nil {
		return false, nil
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	_, err := q.objects.store.GetInfo(ctx, objectName(k))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return false, nil
	}
	if err != nil {
		return false, unavailable("look for "+k.String(), err)
	}
	return true, nil
}

// Forget removes a value from the bucket for artifacts, if there is one.
func (q *Queue) Forget(ctx context.Context, k cache.Key) error {
	if q.objects == nil {
		return nil
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	if err := q.objects.store.Delete(ctx, objectName(k)); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return unavailable("remove "+k.String(), err)
	}
	return nil
}

// shared says whether values of a kind are stored.
func shared(k cache.Kind) bool {
	return k != cache.Completes && k != cache.Patches && k != cache.Tools
}

const sumHeader = "Sha256"

func objectName(k cache.Key) string { return strings.ReplaceAll(k.String(), "/", "-") }

// String implements fmt.Stringer.
func (o *objects) String() string { return "bucket " + o.name }

// patience is how long the transfer of an object may take: the timeout, and what a megabyte per second takes.
func (o *objects) patience(size int64) time.Duration {
	return o.timeout + time.Duration(size>>20)*time.Second
}

// Get implements cache.Store.
func (o *objects) Get(ctx context.Context, k cache.Key) (*cache.Entry, error) {
	if !shared(k.Kind) {
		return nil, cache.ErrMiss
	}
	name := objectName(k)
	short, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	info, err := o.store.GetInfo(short, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("%s: %w", o, cache.ErrMiss)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	long, cancel := context.WithTimeout(ctx, o.patience(int64(info.Size)))
	defer cancel()
	e, err := o.read(long, k, name, info)
	if err != nil && ctx.Err() == nil {
		// Damaged, or an engine that does not answer. The latter will be asked again another time.
		return nil, fmt.Errorf("%s: %w: %w", o, cache.ErrMiss, err)
	}
	return e, err
}

func (o *objects) read(ctx context.Context, k cache.Key, name string, info *jetstream.ObjectInfo) (*cache.Entry, error) {
	r, err := o.store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	file, err := os.CreateTemp(o.dir, "partiald-*")
	if err != nil {
		return nil, err
	}
	closer := func() error { return errors.Join(file.Close(), ignoreGone(os.Remove(file.Name()))) }
	_ = os.Remove(file.Name()) // where an open file can be removed; else closer does
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), r)
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && (got != info.Headers.Get(sumHeader) || size != int64(info.Size)) {
		err = fmt.Errorf("%w: %d of %d bytes with SHA-256 %s", cache.ErrCorrupt, size, info.Size, got)
	}
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	return cache.NewEntry(cache.Info{Key: k, Size: size, SHA256: [sha256.Size]byte(sum.Sum(nil))}, file, closer), nil
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Put implements cache.Store.
func (o *objects) Put(ctx context.Context, k cache.Key, r io.Reader) (cache.Info, error) {
	if !shared(k.Kind) {
		// To the cache it looks as if it were stored and lost at once.
		n, err := io.Copy(io.Discard, r)
		return cache.Info{Key: k, Size: n}, err
	}
	// The hash goes in front of the bytes, so these are read twice.
	file, err := os.CreateTemp(o.dir, "partiald-*")
	if err != nil {
		return cache.Info{}, err
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(file.Name())) }()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), r)
	if err != nil {
		return cache.Info{}, err
	}
	info := cache.Info{Key: k, Size: size, SHA256: [sha256.Size]byte(sum.Sum(nil))}
	if err := ctx.Err(); err != nil {
		return cache.Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.patience(size))
	defer cancel()
	body := io.Reader(io.NewSectionReader(file, 0, size))
	if size == 0 {
		body = bytes.NewReader(nil)
	}
	_, err = o.store.Put(ctx, jetstream.ObjectMeta{
		Name: objectName(k), Headers: map[string][]string{sumHeader: {hex.EncodeToString(info.SHA256[:])}},
	}, body)
	if err != nil {
		return cache.Info{}, fmt.Errorf("%s: %w", o, err)
	}
	return info, nil
}

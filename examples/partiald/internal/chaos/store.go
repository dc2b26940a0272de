package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// Store returns a client of the same store that fails and hesitates as the profile says. Both have to be closed.
func (m *Monkey) Store(inner *storage.Client) (*storage.Client, error) {
	return storage.Local(&badStore{m, inner})
}

// badStore passes calls on, or fails them.
type badStore struct {
	m  *Monkey
	to *storage.Client
}

// before is what happens to a call before it is passed on.
func (s *badStore) before(ctx context.Context, call string) error {
	if s.m.chance(s.m.p.StoreDelayShare) {
		s.m.count("store slow")
		select {
		case <-time.After(upTo(s.m.p.StoreDelay.Duration)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.m.chance(s.m.p.StoreFail) {
		s.m.count("store failed")
		return fmt.Errorf("%w: chaos: %s fails", plugins.ErrUnavailable, call)
	}
	return nil
}

// Info implements storage.Backend.
func (s *badStore) Info(ctx context.Context) (storage.Info, error) { return s.to.Info(ctx) }

// Stat implements storage.Backend.
func (s *badStore) Stat(ctx context.Context, name string) (storage.Object, error) {
	if err := s.before(ctx, "stat"); err != nil {
		return storage.Object{}, err
	}
	return s.to.Stat(ctx, name)
}

// Get implements storage.Backend.
func (s *badStore) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	if err := s.before(ctx, "get"); err != nil {
		return storage.Object{}, nil, err
	}
	r, err := s.to.Get(ctx, name, &storage.GetOptions{Offset: offset, Length: length})
	if err != nil {
		return storage.Object{}, nil, err
	}
	return r.Object(), r, nil
}

// PutIfAbsent implements storage.Backend. What comes is spooled by the client of the real store.
func (s *badStore) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if err := s.before(ctx, "put"); err != nil {
		return storage.Object{}, false, err
	}
	data, err := io.ReadAll(r) // a trial run: what is stored fits into memory
	if err != nil {
		return storage.Object{}, false, err
	}
	return s.to.PutIfAbsent(ctx, o, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

// Delete implements storage.Backend.
func (s *badStore) Delete(ctx context.Context, name string) error {
	if err := s.before(ctx, "delete"); err != nil {
		return err
	}
	return s.to.Delete(ctx, name)
}

// List implements storage.Backend.
func (s *badStore) List(ctx context.Context, prefix, cursor string, limit int) ([]storage.Object, string, error) {
	if err := s.before(ctx, "list"); err != nil {
		return nil, "", err
	}
	return s.to.List(ctx, prefix, cursor, limit)
}

// Presign implements storage.Presigner.
func (s *badStore) Presign(ctx context.Context, name string, ttl time.Duration) (string, time.Time, error) {
	if err := s.before(ctx, "presign"); err != nil {
		return "", time.Time{}, err
	}
	return s.to.Presign(ctx, name, ttl)
}

package partial

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
)

// A stopping compressor writes nothing, and notes what is done to its writers.
type stopping struct {
	mu              sync.Mutex // Stop may come at any time
	stopped, closed bool
}

func (s *stopping) ID() string { return "stopping" }

func (s *stopping) NewWriter(io.Writer, Content) (io.WriteCloser, error) { return s, nil }

func (s *stopping) Write(p []byte) (int, error) { return len(p), nil }

func (s *stopping) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

func (s *stopping) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

type differFunc func(ctx context.Context, patch io.Writer, old, new []byte) error

func (differFunc) ID() string { return "func" }

func (f differFunc) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	return f(ctx, patch, old, new)
}

// Who compresses is stopped where the differ fails, and when the context ends in the middle of its work.
func TestCompressorIsStopped(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		diff differFunc
		err  error
		stop bool
	}{
		{"success", func(context.Context, io.Writer, []byte, []byte) error { return nil }, nil, false},
		{"differ fails", func(context.Context, io.Writer, []byte, []byte) error { return failed }, failed, true},
		{"context ends", func(ctx context.Context, _ io.Writer, _, _ []byte) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}, context.Canceled, true},
	} {
		s := &stopping{}
		b := &builder{recipe: Recipe{Differ: c.diff, Compression: Compression{Patches: s}}}
		if err := b.writePatch(ctx, io.Discard, nil, nil, func() {}, nil); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.err)
		}
		s.mu.Lock()
		if s.stopped != c.stop || !s.closed {
			t.Errorf("%s: stopped %v, closed %v; want %v, true", c.name, s.stopped, s.closed, c.stop)
		}
		s.mu.Unlock()
	}
}

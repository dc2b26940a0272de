package partial

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A noting compressor writes nothing, and notes what is done to its writers.
type noting struct {
	ctx           context.Context //nolint:containedctx // of the writer
	ended, closed bool            // as of Close
}

func (s *noting) ID() string { return "noting" }

func (s *noting) NewWriter(ctx context.Context, _ io.Writer, _ Content) (io.WriteCloser, error) {
	s.ctx = ctx
	return s, nil
}

func (s *noting) Write(p []byte) (int, error) { return len(p), nil }

func (s *noting) Close() error {
	s.ended, s.closed = s.ctx.Err() != nil, true
	return nil
}

type differFunc func(ctx context.Context, patch io.Writer, old, new []byte) error

func (differFunc) ID() string     { return "func" }
func (differFunc) Format() string { return updater.PatchMBDIFF10 }

func (f differFunc) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	return f(ctx, patch, old, new)
}

// The context of who compresses has ended when a member is given up, because the differ failed or the context of all did.
func TestCompressorIsTold(t *testing.T) {
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
		s := &noting{}
		p := &patcher{pair: &pair{recipe: Recipe{Compression: Compression{Patches: s}}}}
		if err := p.writePatch(ctx, c.diff, io.Discard, nil, nil, func() {}, nil); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.err)
		}
		if s.ended != c.stop || !s.closed {
			t.Errorf("%s: context ended %v, closed %v; want %v, true", c.name, s.ended, s.closed, c.stop)
		}
	}
}

package member

import (
	"context"
	"errors"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/bzip2"
)

// Bzip2 is what updaters before Firefox 56 read.
type Bzip2 struct{}

// Name returns "bzip2".
func (Bzip2) Name() string { return "bzip2" }

// Sniff looks for the magic.
func (Bzip2) Sniff(head []byte) bool { return bzip2.Sniff(head) }

// Size guesses: nothing in the file says it.
func (Bzip2) Size(_ io.ReaderAt, size int64) (n int64, claimed bool, err error) {
	return size * 8, false, nil
}

// NewReader reads one file of any number of streams.
func (Bzip2) NewReader(r io.Reader, lim Limits) (io.ReadCloser, error) {
	return bzip2.NewReader(r, lim), nil
}

// Check has nothing to refuse.
func (Bzip2) Check(io.Reader) error { return nil }

// Fault knows the reader's errors.
func (Bzip2) Fault(err error) (data, limit bool) {
	var e *bzip2.Error
	return errors.As(err, &e), errors.Is(err, bzip2.ErrLimit)
}

// Writer has one level.
func (Bzip2) Writer(string) Writer { return bzip2Writer{} }

type bzip2Writer struct{}

func (bzip2Writer) ID() string { return "bzip2/dsnet-9" }

func (bzip2Writer) NewWriter(ctx context.Context, w io.Writer, _ Content) (io.WriteCloser, error) {
	z, err := bzip2.NewWriter(w)
	if err != nil {
		return nil, err
	}
	return &ending{ctx: ctx, w: z}, nil
}

func (bzip2Writer) Memory(Content) int64 { return 16 << 20 }

// An ending writer fails once its context has ended.
type ending struct {
	ctx context.Context //nolint:containedctx // lives as long as one member is compressed
	w   io.WriteCloser
}

// Write hands on pieces that take a moment each.
func (e *ending) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := e.ctx.Err(); err != nil {
			return n, err
		}
		k, err := e.w.Write(p[:min(len(p), 1<<20)])
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func (e *ending) Close() error {
	err := e.w.Close()
	if ended := e.ctx.Err(); ended != nil {
		return ended
	}
	return err
}

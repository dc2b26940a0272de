// Package stream reads and copies until a context ends.
package stream

import (
	"context"
	"io"
)

// NewReader returns a reader of what r has, which gives ctx's error instead once ctx has ended. A Read that has begun
// is not interrupted.
func NewReader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context //nolint:containedctx // lives as long as one piece of work that the context is for
	r   io.Reader
}

func (c reader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// NewWriter returns a writer to w, which gives ctx's error instead once ctx has ended.
func NewWriter(ctx context.Context, w io.Writer) io.Writer { return writer{ctx, w} }

type writer struct {
	ctx context.Context //nolint:containedctx // lives as long as one piece of work that the context is for
	w   io.Writer
}

func (c writer) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// Copy copies until src ends or ctx does, and returns how many bytes were copied.
func Copy(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	// hidden, so that dst does not read with a buffer of its own size for as long as it likes
	return io.CopyBuffer(struct{ io.Writer }{dst}, NewReader(ctx, src), make([]byte, 256<<10))
}

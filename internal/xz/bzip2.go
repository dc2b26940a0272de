package xz

import (
	stdbzip2 "compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"
)

// NewBzip2Reader returns a reader of the bzip2 file in r, which may have several streams. Limits on output and
// ratio hold as for xz; bzip2 has no dictionary, it needs less than 4 MB of memory. Errors are *Error, or those
// of r.
func NewBzip2Reader(r io.Reader, lim *Limits) io.ReadCloser {
	in := &counted{r: r}
	return &bzip2Reader{in: in, r: stdbzip2.NewReader(in), lim: lim.bounds()}
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type bzip2Reader struct {
	in  *counted
	r   io.Reader
	lim bounds
	out int64
	err error
}

func (b *bzip2Reader) Close() error {
	b.err = errClosed
	return nil
}

func (b *bzip2Reader) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.out += int64(n)
	if what := b.lim.tooMuch(b.in.n, b.out); what != "" {
		b.err = failure(b.in.n, ErrLimit, "%s", what)
		return 0, b.err
	}
	var structural stdbzip2.StructuralError
	switch {
	case errors.As(err, &structural):
		err = &Error{Offset: b.in.n, Kind: ErrCorrupt, What: "bzip2 data", Err: err}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = &Error{Offset: b.in.n, Kind: ErrFormat, What: "the bzip2 file ends too early", Err: err}
	}
	b.err = err
	return n, err
}

// NewBzip2Writer returns a writer that compresses to w with blocks of 900 kB, as updaters before 56 need it.
// Close ends the file, without closing w. The same bytes always give the same file.
func NewBzip2Writer(w io.Writer) (io.WriteCloser, error) {
	z, err := bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	if err != nil {
		return nil, fmt.Errorf("make a bzip2 writer: %w", err)
	}
	return z, nil
}

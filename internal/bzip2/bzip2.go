// Package bzip2 reads and writes bzip2, which the oldest update archives use, and patches in BSDIFF40.
package bzip2

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"

	"github.com/senbonzakura/senbonzakura/internal/bomb"
)

// NewReader returns a reader of the bzip2 file in r, which may have several streams. It needs less than 4 MB
// of memory. Errors are *Error, or those
// of r.
func NewReader(r io.Reader, lim bomb.Limits) io.ReadCloser {
	in := &counted{r: r}
	return &reader{in: in, r: stdbzip2.NewReader(in), lim: lim.Bounds()}
}

// Errors that reading gives. They are wrapped in *Error, which has the place; use errors.Is.
var (
	// ErrFormat: the data is not in the format, or ends too early.
	ErrFormat = errors.New("not a valid bzip2 file")
	// ErrCorrupt: the compressed data cannot be decoded, or gives something else than its check says.
	ErrCorrupt = errors.New("corrupt data")
	// ErrLimit: the file gives more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
)

var errClosed = errors.New("bzip2: read after Close")

// Error says what is wrong with a compressed file, and where. A file that ends too early matches
// io.ErrUnexpectedEOF and ErrFormat.
type Error struct {
	Offset int64 // of the compressed bytes that were read
	Kind   error // ErrFormat, ErrCorrupt or ErrLimit
	What   string
	Err    error // the cause, or nil
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("bzip2: offset %d: %v: %s", e.Offset, e.Kind, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Sniff reports whether a file that begins with head is in this format; three bytes are enough.
func Sniff(head []byte) bool { return bytes.HasPrefix(head, []byte("BZh")) }

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type reader struct {
	in  *counted
	r   io.Reader
	lim bomb.Bounds
	out int64
	err error
}

func (b *reader) Close() error {
	b.err = errClosed
	return nil
}

func (b *reader) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.out += int64(n)
	if what := b.lim.TooMuch(b.in.n, b.out); what != "" {
		b.err = &Error{Offset: b.in.n, Kind: ErrLimit, What: what}
		return 0, b.err
	}
	var structural stdbzip2.StructuralError
	switch {
	case errors.As(err, &structural):
		err = &Error{Offset: b.in.n, Kind: ErrCorrupt, What: "data", Err: err}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = &Error{Offset: b.in.n, Kind: ErrFormat, What: "the file ends too early", Err: err}
	}
	b.err = err
	return n, err
}

// NewWriter returns a writer that compresses to w with blocks of 900 kB, as updaters before 56 need it.
// Close ends the file, without closing w. The same bytes always give the same file.
func NewWriter(w io.Writer) (io.WriteCloser, error) {
	z, err := bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	if err != nil {
		return nil, fmt.Errorf("make a bzip2 writer: %w", err)
	}
	return z, nil
}

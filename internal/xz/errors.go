package xz

import (
	"errors"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

// Errors that reading gives. They are wrapped in *Error, which has the place; use errors.Is.
var (
	// ErrFormat: the data is not in the format at all, or a header, an index or a footer breaks its rules.
	ErrFormat = errors.New("not a valid xz file")
	// ErrCorrupt: the compressed data cannot be decoded, or gives something else than its check or its sizes say.
	ErrCorrupt = errors.New("corrupt data")
	// ErrUnsupported: a legal file that uses what this package does not have.
	ErrUnsupported = errors.New("unsupported")
	// ErrLimit: the file asks for more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrRefused: the file is valid but Mozilla's updater would not unpack it, or not all of it.
	ErrRefused = errors.New("the updater refuses it")
)

// Error says what is wrong with a compressed file, and where. A file that ends too early matches
// io.ErrUnexpectedEOF and ErrFormat.
type Error struct {
	Offset int64 // in the compressed data: the beginning of the structure that is wrong
	Kind   error // ErrFormat, ErrCorrupt, ErrUnsupported, ErrLimit or ErrRefused
	What   string
	Err    error // the cause, or nil
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("xz: offset %d: %v: %s", e.Offset, e.Kind, e.What)
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

func failure(offset int64, kind error, format string, args ...any) *Error {
	return &Error{Offset: offset, Kind: kind, What: fmt.Sprintf(format, args...)}
}

// broken turns the error of reading a structure at offset into one that has the place. Errors of the
// underlying reader other than the end of its data are left alone.
func broken(offset int64, what string, err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Offset: offset, Kind: ErrFormat, What: "the file ends inside the " + what, Err: io.ErrUnexpectedEOF}
	case errors.Is(err, lzma.ErrCorrupt):
		return &Error{Offset: offset, Kind: ErrCorrupt, What: what, Err: err}
	}
	return fmt.Errorf("read xz data at offset %d: %w", offset, err)
}

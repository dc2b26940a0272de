// Package member has the formats in which the files of an update are compressed: how each is recognised, read within
// limits, checked for what installed updaters refuse, and written.
//
// A format is a value of [Format] in the list that [Formats] returns. Nothing else asks for a format by its first
// bytes: whoever has a member calls [Sniff] or [Open].
package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/bomb"
)

// Limits bound what may come out of a member.
type Limits = bomb.Limits

// A Format is a way to compress members. Formats are safe for concurrent use.
type Format interface {
	// Name is how recipes, rules and reports call the format.
	Name() string
	// Sniff reports whether a member that begins with head is in this format. HeadSize bytes are enough.
	Sniff(head []byte) bool
	// Size says how many bytes a member of size bytes has after decompression: what the file claims, or where it claims
	// nothing a guess. Good for planning, not for trust.
	Size(r io.ReaderAt, size int64) (n int64, claimed bool, err error)
	// NewReader returns a reader of what r has compressed.
	NewReader(r io.Reader, lim Limits) (io.ReadCloser, error)
	// Check reads a member without decompressing it and says why an updater that knows the format would refuse it, or
	// would not unpack all of it. The error is also that of reading.
	Check(r io.Reader) error
	// Fault reports whether an error that a reader or Check returned is about the compressed data, and whether it says
	// that a limit was reached. All others come from what is read.
	Fault(err error) (data, limit bool)
	// Writer returns a Writer of this format. Level is one that the format knows, "" for the one that suits what is kept.
	Writer(level string) Writer
}

// A Writer compresses members.
type Writer interface {
	// ID names the encoder, its version and every setting that changes the bytes it writes.
	ID() string
	// NewWriter returns a writer of one member to w. Once ctx has ended Write and Close fail soon with its error. Close must
	// be called, also after an error.
	NewWriter(ctx context.Context, w io.Writer, o Content) (io.WriteCloser, error)
	// Memory returns how many bytes a writer holds at most.
	Memory(o Content) int64
}

// Content says what is compressed.
type Content struct {
	Patch bool
	Size  int64  // in bytes, or -1 where it is not known; of a patch, that of the new file
	Arch  string // architecture of the product, for filters; "" for none
}

// decoder is a Format that decompresses what is in memory faster than through its reader.
type decoder interface {
	Decode(src []byte, lim Limits) ([]byte, error)
}

// HeadSize is how many bytes Sniff needs.
const HeadSize = 16

// Formats returns all formats.
func Formats() []Format { return []Format{XZ{}, Bzip2{}} }

// Named returns the format of a name.
func Named(name string) (Format, bool) {
	for _, f := range Formats() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}

// Sniff returns the format of a member that begins with head.
func Sniff(head []byte) (Format, bool) {
	for _, f := range Formats() {
		if f.Sniff(head) {
			return f, true
		}
	}
	return nil, false
}

// Errors of members. They are wrapped in [*Error].
var (
	// ErrData: the member is damaged, cut off, or in no format that is known.
	ErrData = errors.New("member cannot be decompressed")
	// ErrUnknown: it is in no format that is known. Such an error matches ErrData as well.
	ErrUnknown = errors.New("in no format that an updater reads")
	// ErrLimit: more comes out than is allowed.
	ErrLimit = errors.New("over the limit")
)

// Error is what is wrong with a member: it matches ErrData or ErrLimit.
type Error struct {
	Limit bool // ErrLimit, not ErrData
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Limit {
		return ErrLimit.Error() + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is find ErrData or ErrLimit.
func (e *Error) Is(target error) bool {
	return target == ErrLimit && e.Limit || target == ErrData && !e.Limit
}

// wrap turns the errors that are about the data into *Error.
func wrap(f Format, err error) error {
	if data, limit := f.Fault(err); data {
		return &Error{Limit: limit, Err: err}
	}
	return err
}

// Of returns the format of size bytes in r, or an *Error that matches ErrUnknown.
func Of(r io.ReaderAt, size int64) (Format, error) {
	head := make([]byte, min(size, HeadSize))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	f, ok := Sniff(head)
	if !ok {
		return nil, &Error{Err: fmt.Errorf("%w: %s", ErrUnknown, looksLike(head))}
	}
	return f, nil
}

// looksLike says what data is that is in no format of ours.
func looksLike(head []byte) string {
	for _, known := range []struct{ magic, name string }{
		{"\x1F\x8B", "gzip"},
		{"\x28\xB5\x2F\xFD", "zstandard"},
		{"\x5D\x00\x00", "lzma (.lzma)"},
		{"LZIP", "lzip"},
		{"PK\x03\x04", "zip"},
		{"MBDIFF10", "an uncompressed patch"},
		{"Zucc", "an uncompressed patch"},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return known.name
		}
	}
	if len(head) == 0 {
		return "no bytes"
	}
	return "not compressed"
}

// Open decompresses the member of size bytes in r as a stream. Errors that are about the member are *Error.
func Open(r io.ReaderAt, size int64, lim Limits) (io.ReadCloser, error) {
	f, err := Of(r, size)
	if err != nil {
		return nil, err
	}
	z, err := f.NewReader(io.NewSectionReader(r, 0, size), lim)
	if err != nil {
		return nil, wrap(f, err)
	}
	return reader{z, f}, nil
}

type reader struct {
	io.ReadCloser
	f Format
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = wrap(r.f, err)
	}
	return n, err
}

// Decode decompresses a whole member in memory. ok is false where the format has no fast way to do that: then Open does.
func Decode(f Format, src []byte, lim Limits) (out []byte, ok bool, err error) {
	d, ok := f.(decoder)
	if !ok {
		return nil, false, nil
	}
	if out, err = d.Decode(src, lim); err != nil {
		return nil, true, wrap(f, err)
	}
	return out, true, nil
}

// Decodes reports whether Decode can.
func Decodes(f Format) bool {
	_, ok := f.(decoder)
	return ok
}

// Size is the format's, with errors that are about the member as *Error.
func Size(f Format, r io.ReaderAt, size int64) (n int64, claimed bool, err error) {
	if n, claimed, err = f.Size(r, size); err != nil {
		return 0, false, wrap(f, err)
	}
	return n, claimed, nil
}

// Check is the format's, with errors that are about the member as *Error.
func Check(f Format, r io.Reader) error {
	if err := f.Check(r); err != nil {
		return wrap(f, err)
	}
	return nil
}

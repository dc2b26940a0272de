package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/stream"
)

// A PatchFormat is a kind of patch that updaters apply. It is safe for concurrent use.
//
// A format may also have a method
//
//	ApplyBytes(ctx context.Context, old []byte, patch io.Reader, opts PatchOptions) ([]byte, error)
//
// that does what Apply does with files in memory, faster.
type PatchFormat interface {
	// Name is how clients, recipes, differs and reports call the format, such as [PatchMBDIFF10].
	Name() string
	// Sniff reports whether a patch that begins with head is of this format. PatchHeadSize bytes are enough.
	Sniff(head []byte) bool
	// Apply applies a patch to the old file, of which oldSize bytes can be read, writes the new one from offset 0 on and
	// returns its size. It reads the patch, which is not compressed, to its end. Unless opts say otherwise it must refuse
	// what the updater would take although it contradicts itself. What dst holds after an error is worth nothing.
	Apply(ctx context.Context, dst io.WriterAt, old io.ReaderAt, oldSize int64, patch io.Reader, opts PatchOptions) (int64, error)
	// Code returns what the updater reports where Apply or Inspect gave err: CodeCrash where it crashes, and 0 where it
	// would not have failed, or has no such limit.
	Code(err error) Code
	// Inspect reads a whole patch and tells what it consists of.
	Inspect(ctx context.Context, patch io.Reader) (*PatchInfo, error)
}

type bytesApplier interface {
	ApplyBytes(ctx context.Context, old []byte, patch io.Reader, opts PatchOptions) ([]byte, error)
}

// PatchOptions change how a patch is applied. The zero value is strict and has the format's own limits.
type PatchOptions struct {
	// Lenient does what the updater does with patches that contradict themselves, instead of refusing them.
	Lenient bool
	// Limit is the size in bytes of the largest new file; 0 means the largest that the format can express.
	Limit int64
}

// PatchInfo says what a patch consists of.
type PatchInfo struct {
	Format  string      // the format's name
	OldSize int64       // in bytes, as the patch says, as all numbers here
	NewSize int64       // of the file that it makes
	Parts   []PatchPart // in the order in which they stand
	// Detail is the format's own description, such as a *bsdiff.Info.
	Detail any
}

// PatchPart is a part of a patch, for people.
type PatchPart struct {
	Name  string // what the format calls it
	Bytes int64  // that it takes in the patch
	Text  string // what is in it, for people
}

// PatchHeadSize is how many bytes of a patch decide about its format.
const PatchHeadSize = 32

// PatchFormats returns the formats that this package applies.
func PatchFormats() []PatchFormat { return []PatchFormat{mbdiff{}, zucc{}} }

// PatchFormatNamed returns the format of a name, and whether there is one.
func PatchFormatNamed(name string) (PatchFormat, bool) {
	for _, f := range PatchFormats() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}

// SniffPatch returns the format of a patch that begins with head: PatchHeadSize bytes, or all there are. Where it is in
// none the error is an *UpdateError that matches [ErrPatchFormat].
func SniffPatch(head []byte) (PatchFormat, error) {
	for _, f := range PatchFormats() {
		if f.Sniff(head) {
			return f, nil
		}
	}
	if len(head) < PatchHeadSize { // the updater asks for so many first
		return nil, &UpdateError{Code: CodeRead, Err: fmt.Errorf("%w: it has only %d bytes", ErrPatchFormat, len(head))}
	}
	return nil, &UpdateError{Code: CodePatchFormat, Err: fmt.Errorf("%w: it begins with %q", ErrPatchFormat, head[:8])}
}

// PatchFormat says in which format the patch in a member is. Errors are those of SniffPatch, and of reading.
func (m *Member) PatchFormat(ctx context.Context) (PatchFormat, error) {
	f, r, err := m.openPatch(ctx, Limits{}.WithDefaults())
	if err != nil {
		return nil, err
	}
	r.Close()
	return f, nil
}

// A patchReader is a patch from its start on.
type patchReader struct {
	io.Reader
	io.Closer
}

func (m *Member) openPatch(ctx context.Context, lim Limits) (PatchFormat, io.ReadCloser, error) {
	// A patch is about as long as what it gives, and at times nothing but zeros: it is bounded by sizes, not by a
	// ratio. 12 bytes of control for each new byte is more than any differ makes.
	r, err := m.stream(member.Limits{Output: 32 + 13*lim.Member, Ratio: -1})
	if err != nil {
		return nil, nil, err
	}
	in := stream.NewReader(ctx, r)
	head, err := io.ReadAll(io.LimitReader(in, PatchHeadSize))
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	f, err := SniffPatch(head)
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return f, patchReader{io.MultiReader(bytes.NewReader(head), in), r}, nil
}

// ApplyPatch applies the patch in a member to old and returns the new file. It is strict: what the updater would accept
// although it gives something else than the patch says is refused. Errors are *UpdateError that blame ins, but for that of
// ctx.
func ApplyPatch(ctx context.Context, old []byte, m *Member, ins Instruction, lim Limits) ([]byte, error) {
	got, _, err := m.ApplyPatch(ctx, old, ins, lim)
	return got, err
}

// ApplyPatch is the function ApplyPatch, and says in which format the patch is.
func (m *Member) ApplyPatch(ctx context.Context, old []byte, ins Instruction, lim Limits) (got []byte, format PatchFormat, err error) {
	lim = lim.WithDefaults()
	err = m.withPatch(ctx, ins, lim, func(f PatchFormat, patch io.Reader, opts PatchOptions) error {
		format = f
		got, err = PatchBytes(ctx, f, old, patch, opts)
		return err
	})
	return got, format, err
}

// PatchBytes applies a patch that is not compressed to a file in memory and returns the new one. Errors are those of the
// format.
func PatchBytes(ctx context.Context, f PatchFormat, old []byte, patch io.Reader, opts PatchOptions) ([]byte, error) {
	if fast, ok := f.(bytesApplier); ok {
		return fast.ApplyBytes(ctx, old, patch, opts)
	}
	var out memoryFile
	n, err := f.Apply(ctx, &out, bytes.NewReader(old), int64(len(old)), patch, opts)
	if err != nil {
		return nil, err
	}
	return out.bytes(n)
}

// withPatch opens the patch in a member for do, and says what the updater reports where that fails.
func (m *Member) withPatch(ctx context.Context, ins Instruction, lim Limits, do func(PatchFormat, io.Reader, PatchOptions) error) error {
	f, patch, err := m.openPatch(ctx, lim)
	if err == nil {
		defer patch.Close()
		err = do(f, patch, PatchOptions{Limit: lim.Member})
	}
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &UpdateError{Code: CodePatchFormat, Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: fmt.Errorf("patch %q: %w", m.Name, err)}
	var of *UpdateError
	switch {
	case errors.Is(err, ErrLimit):
		e.Code = 0
	case errors.Is(err, ErrMember):
		e.Code = CodeXZ
	case errors.As(err, &of):
		e.Code, e.Err = of.Code, fmt.Errorf("patch %q: %w", m.Name, of.Err)
	case f != nil:
		e.Code = f.Code(err)
	}
	return e
}

// A memoryFile is a file that is written in memory.
type memoryFile struct{ data []byte }

// WriteAt grows the file as far as it is written.
func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if end > int64(cap(f.data)) {
		grown := make([]byte, len(f.data), max(end, 2*int64(cap(f.data))))
		copy(grown, f.data)
		f.data = grown
	}
	if end > int64(len(f.data)) {
		f.data = f.data[:end]
	}
	return copy(f.data[off:], p), nil
}

// bytes returns the first n bytes, all of which were written.
func (f *memoryFile) bytes(n int64) ([]byte, error) {
	if n != int64(len(f.data)) {
		return nil, fmt.Errorf("the new file has %d bytes, of which %d were written", n, len(f.data))
	}
	return f.data, nil
}

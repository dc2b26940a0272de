package updater

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// An UnusableError says why the updater cannot unpack a member.
type UnusableError struct{ why error }

// Error says why.
func (e *UnusableError) Error() string { return e.why.Error() }

// Unwrap returns the cause, if a reader found it.
func (e *UnusableError) Unwrap() error { return e.why }

// readers are buffers of the size that xz.UpdaterAccepts would make for itself each time.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// Accepted returns nil if an updater for the given format unpacks a member, an *UnusableError if it does not.
func Accepted(m *Member, format MemberFormat) error {
	if m.Size == 0 {
		return &UnusableError{errors.New("the member has no bytes")}
	}
	f, err := m.Format()
	if err != nil {
		return err
	}
	switch {
	case format == FormatXZ && f == xz.FormatXZ:
		in := readers.Get().(*bufio.Reader)
		in.Reset(m.Section())
		err := xz.UpdaterAccepts(in)
		readers.Put(in)
		var xe *xz.Error
		if errors.As(err, &xe) {
			return &UnusableError{err}
		}
		return err
	case format == FormatBzip2 && f == xz.FormatBzip2:
		return nil
	}
	return &UnusableError{fmt.Errorf("the member is %s, the updater reads %s", f, format)}
}

// Patch formats by their first bytes.
const (
	magicMBDIFF = "MBDIFF10"
	magicZucc   = "Zucc"
)

// checkPatch looks at the first bytes of a patch: only MBDIFF10 is supported.
func checkPatch(head []byte) error {
	switch {
	case bytes.HasPrefix(head, []byte(magicMBDIFF)):
		return nil
	case bytes.HasPrefix(head, []byte(magicZucc)):
		return fmt.Errorf("%w: Zucchini (%s)", ErrPatchFormat, magicZucc)
	case len(head) < 32:
		return &bsdiff.PatchError{Err: bsdiff.ErrFormat, Detail: fmt.Sprintf("%d bytes are no patch", len(head)), Offset: 0, Code: int(CodeRead)}
	}
	return &bsdiff.PatchError{Err: bsdiff.ErrFormat, Detail: "it starts with neither MBDIFF10 nor Zucc", Offset: 0, Code: int(CodePatchFormat)}
}

// Usable checks that the updater can unpack an entry, as far as its headers tell.
func Usable(m *Member, format MemberFormat, ins Instruction) error {
	err := Accepted(m, format)
	var unusable *UnusableError
	if errors.As(err, &unusable) {
		code := CodeXZ
		if m.Size == 0 {
			code = CodeEntry
		}
		return &UpdateError{Code: code, Line: ins.Line, Op: ins.Op, Path: m.Name, Err: err}
	}
	return err
}

// UnpackError says what the updater reports where an entry cannot be unpacked. It has no limits of its own.
func UnpackError(m *Member, ins Instruction, err error) error {
	e := &UpdateError{Code: CodeXZ, Line: ins.Line, Op: ins.Op, Path: m.Name, Err: err}
	if errors.Is(err, ErrLimit) {
		e.Code = 0
	}
	return e
}

// PatchBytes applies the patch in a member to old.
func PatchBytes(ctx context.Context, old []byte, m *Member, lim Limits) (got []byte, err error) {
	err = withPatch(ctx, m, lim, func(patch io.Reader, opts *bsdiff.PatchOptions) error {
		got, err = bsdiff.PatchBytes(ctx, nil, old, patch, opts)
		return err
	})
	return got, err
}

// withPatch opens the patch in a member. What is done with it is strict: what the updater would accept although it gives
// something else than the patch says is refused.
func withPatch(ctx context.Context, m *Member, lim Limits, do func(patch io.Reader, opts *bsdiff.PatchOptions) error) error {
	// A patch is about as long as what it gives, and at times nothing but zeros: it is bounded by sizes, not by a
	// ratio. 12 bytes of control for each new byte is more than any differ makes.
	r, err := m.stream(&xz.Limits{Output: 32 + 13*lim.Member, Ratio: -1})
	if err != nil {
		return err
	}
	defer r.Close()
	in := stream.NewReader(ctx, r)
	head, err := io.ReadAll(io.LimitReader(in, 32))
	if err != nil {
		return err
	}
	if err := checkPatch(head); err != nil {
		return err
	}
	return do(io.MultiReader(bytes.NewReader(head), in), &bsdiff.PatchOptions{Limits: bsdiff.Limits{New: lim.Member}})
}

// PatchError says what the updater reports where a patch cannot be applied.
func PatchError(ins Instruction, name string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &UpdateError{Code: Code(bsdiff.UpdaterCode(err)), Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: fmt.Errorf("patch %q: %w", name, err)}
	var pe *bsdiff.PatchError
	var xe *xz.Error
	switch {
	case errors.Is(err, xz.ErrLimit):
		e.Code, e.Err = 0, fmt.Errorf("%w: %w", ErrLimit, e.Err)
	case errors.As(err, &xe):
		e.Code = CodeXZ
	case errors.As(err, &pe):
	case errors.Is(err, ErrPatchFormat), errors.Is(err, ErrLimit):
		e.Code = 0
	default:
		e.Code = CodePatchFormat
	}
	return e
}

package bsdiff

import (
	"bytes"
	"context"
	"io"
)

// Limits bound what a patch may ask for. A zero field has the default.
type Limits struct {
	// New is the largest new file, by default 2 GiB - 1.
	New int64
	// Control is the largest control block in bytes, by default 256 MiB: 22 million steps. It is kept in
	// memory while a patch is applied.
	Control int64
}

func (l Limits) newSize() int64 {
	if l.New > 0 {
		return min(l.New, maxSize)
	}
	return maxSize
}

func (l Limits) control() int64 {
	if l.Control > 0 {
		return l.Control
	}
	return 256 << 20
}

// PatchOptions for [Patch], [PatchTo] and [PatchBytes]. The zero value is strict.
type PatchOptions struct {
	// Lenient accepts what the updater accepts: a result that is shorter than the patch declares is filled up
	// with zeros, a longer one is kept, and bytes of the difference and the extra block that no step uses are
	// ignored. With BSDIFF40 it does what bspatch does: bytes that a step takes from outside of the old file
	// are zeros.
	Lenient bool
	// Limits bound what the patch may ask for.
	Limits Limits
	// Progress, if not nil, is told from time to time how many bytes of the new file of how many are done.
	// It must return quickly.
	Progress func(done, total int64)
}

// Patch applies a patch of either format to the old file, of which oldSize bytes can be read, and writes the new
// file to dst. It returns the number of bytes written. The patch is read from where the reader stands to its
// end; it must not be compressed (other than BSDIFF40 is by itself).
//
// The old file's size and checksum, the control block and, where the size of the patch is known, the sizes of the
// blocks are checked before the first byte is written. A fault found later leaves dst with the start of the new
// file: what it holds is worth something only if Patch returns nil.
//
// In MBDIFF10 the extra block, which is needed from the start, stands behind the difference block. Where patch
// is an [io.Seeker] and [io.ReaderAt] that knows its end, like *os.File, *bytes.Reader and *io.SectionReader,
// both are read in step, and memory beyond the control block is about half a megabyte. Any other reader makes Patch keep
// the difference block, in which stretches of zeros cost nothing: use [PatchTo] or [PatchBytes] to avoid that.
// Of BSDIFF40 the compressed control and difference blocks are kept in the same case.
//
// Errors are *[PatchError] but for those of ctx. Patch returns soon after ctx ends.
func Patch(ctx context.Context, dst io.Writer, old io.ReaderAt, oldSize int64, patch io.Reader, opts *PatchOptions) (int64, error) {
	p, err := open(patch, opts)
	if err != nil {
		return 0, err
	}
	return p.inStep(ctx, dst, old, oldSize)
}

// PatchTo is like [Patch] for a destination that can be written in any order, like *os.File: the bytes of an
// MBDIFF10 patch are used as they come, from any reader, and memory beyond the control block is about half a
// megabyte. The new file starts at offset 0; dst should be empty. PatchTo returns the new file's size.
func PatchTo(ctx context.Context, dst io.WriterAt, old io.ReaderAt, oldSize int64, patch io.Reader, opts *PatchOptions) (int64, error) {
	p, err := open(patch, opts)
	if err != nil {
		return 0, err
	}
	if p.header.Format != MBDIFF10 {
		return p.inStep(ctx, io.NewOffsetWriter(dst, 0), old, oldSize)
	}
	if err := p.setOld(ctx, old, oldSize); err != nil {
		return 0, err
	}
	triples, err := p.control(ctx)
	if err != nil {
		return 0, err
	}
	return p.twoPasses(ctx, dst, triples)
}

// PatchBytes is like [Patch] for files in memory, and the fastest way. The new file is stored in the array of
// dst, whatever that holds, where it has the capacity, otherwise in a new one; it must not overlap old. The
// patch is used as it is read, so it need not exist as a whole.
//
// The memory for the new file is got when the control block has been read and found consistent, but
// before the other blocks were seen: bound it with [Limits] where the patch is not trusted.
func PatchBytes(ctx context.Context, dst, old []byte, patch io.Reader, opts *PatchOptions) ([]byte, error) {
	p, err := open(patch, opts)
	if err != nil {
		return nil, err
	}
	if p.header.Format != MBDIFF10 {
		out := bytes.NewBuffer(dst[:0])
		if _, err := p.inStep(ctx, out, bytes.NewReader(old), int64(len(old))); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	}
	if err := p.setOld(ctx, bytes.NewReader(old), int64(len(old))); err != nil {
		return nil, err
	}
	triples, err := p.control(ctx)
	if err != nil {
		return nil, err
	}
	if int64(cap(dst)) < p.result {
		dst = make([]byte, p.result)
	}
	dst = dst[:p.result]
	if err := p.inMemory(ctx, dst, old, triples); err != nil {
		return nil, err
	}
	return dst, nil
}

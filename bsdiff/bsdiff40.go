package bsdiff

import (
	"bufio"
	"bytes"
	stdbzip2 "compress/bzip2"
	"context"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/bzip2"
)

// bzip2Version names the compressor. It changes whenever that writes other bytes than before.
const bzip2Version = "bzip2-1"

// writeBS writes a whole BSDIFF40 patch. The sizes of the compressed control and difference blocks stand in
// front of them, so these two are kept; the extra block goes straight out.
func (s *blocks) writeBS(ctx context.Context, w io.Writer) error {
	control, err := compress(new(bytes.Buffer), func(w io.Writer) error {
		return s.writeControl(ctx, w, func(b []byte, t Triple) []byte {
			b = appendSignMagnitude(b, int64(t.Add))
			b = appendSignMagnitude(b, int64(t.Copy))
			return appendSignMagnitude(b, int64(t.Seek))
		})
	})
	if err != nil {
		return err
	}
	difference, err := compress(new(bytes.Buffer), func(w io.Writer) error { return s.writeDifference(ctx, w) })
	if err != nil {
		return err
	}
	head := []byte(magicBS)
	head = appendSignMagnitude(head, int64(control.Len()))
	head = appendSignMagnitude(head, int64(difference.Len()))
	head = appendSignMagnitude(head, int64(len(s.new)))
	for _, b := range [][]byte{head, control.Bytes(), difference.Bytes()} {
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write patch: %w", err)
		}
	}
	_, err = compress(w, func(w io.Writer) error { return s.writeExtra(ctx, w) })
	return err
}

// compress lets fill write one block and puts it into w compressed.
func compress[W io.Writer](w W, fill func(io.Writer) error) (W, error) {
	z, err := bzip2.NewWriter(w)
	if err != nil {
		return w, err
	}
	if err := fill(z); err != nil {
		z.Close()
		return w, err
	}
	if err := z.Close(); err != nil {
		return w, fmt.Errorf("compress block: %w", err)
	}
	return w, nil
}

// packed is a BSDIFF40 patch on its way: its three blocks, decompressed as they are read.
type packed struct {
	control, difference, extra io.Reader

	lenient bool
	limit   int64 // of the control block
	oldSize int64
	newSize int64
	steps   int64
	oldPos  int64
	newPos  int64
	buf     [tripleSizeBS]byte
}

// unpack gives access to the blocks. Where the patch is a stream the compressed control and difference blocks
// are kept.
func (p *applying) unpack(ctx context.Context) (*packed, error) {
	h := p.header
	var stored [3]io.Reader
	if p.whole != nil {
		start := int64(headerSize)
		for i, size := range []int64{h.Control, h.Difference, p.size - headerSize - h.Control - h.Difference} {
			stored[i] = bufio.NewReaderSize(io.NewSectionReader(p.whole, start, size), 16<<10)
			start += size
		}
	} else {
		start := int64(headerSize)
		for i, size := range []int64{h.Control, h.Difference} {
			kept := new(bytes.Buffer)
			for left := size; left > 0; {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				n, err := io.CopyN(kept, p.stream, min(left, 1<<20))
				if err != nil {
					return nil, readError(err, start+size-left)
				}
				left -= n
			}
			start += size
			stored[i] = kept
		}
		stored[2] = p.stream
	}
	return &packed{
		control:    bufio.NewReaderSize(stdbzip2.NewReader(stored[0]), 16<<10),
		difference: stdbzip2.NewReader(stored[1]),
		extra:      stdbzip2.NewReader(stored[2]),
		lenient:    p.opts.Lenient, limit: p.opts.Limits.control(), oldSize: p.old.size, newSize: h.NewSize,
	}, nil
}

// next returns the next step, until the new file is complete.
func (b *packed) next(ctx context.Context) (step, bool, error) {
	if b.newPos == b.newSize {
		return step{}, false, nil
	}
	if b.steps++; b.steps*tripleSizeBS > b.limit {
		return step{}, false, tooLarge(headerSize, codePatch, "control block of more than %d bytes, the limit", b.limit)
	}
	if b.steps%1024 == 0 {
		if err := ctx.Err(); err != nil {
			return step{}, false, err
		}
	}
	if _, err := io.ReadFull(b.control, b.buf[:]); err != nil {
		return step{}, false, readError(err, headerSize)
	}
	s := step{signMagnitude(b.buf[:]), signMagnitude(b.buf[8:]), signMagnitude(b.buf[16:])}
	left := b.newSize - b.newPos
	if s.add < 0 || s.copied < 0 || s.add > left || s.copied > left-s.add {
		return step{}, false, malformed(headerSize, "step %d of %d and %d bytes, %d are left of the new file", b.steps-1, s.add, s.copied, left)
	}
	// Far outside of the old file nothing can overflow, and nothing is added.
	const far = 1 << 40
	lowest, highest := int64(0), b.oldSize
	if b.lenient {
		lowest, highest = -far, far
	}
	if s.add > highest-b.oldPos {
		return step{}, false, malformed(headerSize, "step %d adds to %d bytes of the old file, %d are left", b.steps-1, s.add, b.oldSize-b.oldPos)
	}
	b.oldPos += s.add
	if s.seek < lowest-b.oldPos || s.seek > highest-b.oldPos {
		return step{}, false, malformed(headerSize, "step %d moves by %d from byte %d of the old file of %d", b.steps-1, s.seek, b.oldPos, b.oldSize)
	}
	b.oldPos += s.seek
	b.newPos += s.add + s.copied
	return s, true, nil
}

// end makes sure that nothing is left in the blocks.
func (b *packed) end() error {
	for i, r := range []io.Reader{b.control, b.difference, b.extra} {
		switch _, err := io.ReadFull(r, b.buf[:1]); {
		case err == nil:
			return &PatchError{
				Err: ErrCorrupt, Detail: "bytes of the " + [...]string{"control", "difference", "extra"}[i] + " block are not used",
				Offset: -1, Code: codePatch,
			}
		case err != io.EOF:
			return readError(err, -1)
		}
	}
	return nil
}

// inStepBS applies a BSDIFF40 patch.
func (p *applying) inStepBS(ctx context.Context, out *bufio.Writer) error {
	b, err := p.unpack(ctx)
	if err != nil {
		return err
	}
	p.result, p.made = b.newSize, b.newSize
	err = p.run(ctx, out, b.difference, b.extra, func() (step, bool, error) { return b.next(ctx) })
	if err != nil || p.opts.Lenient {
		return err
	}
	return b.end()
}

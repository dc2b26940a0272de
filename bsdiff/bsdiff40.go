package bsdiff

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/xz"
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
	z, err := xz.NewBzip2Writer(w)
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

// inStepBS applies a BSDIFF40 patch, whose three blocks are compressed one by one.
func (p *applying) inStepBS(ctx context.Context, out *bufio.Writer) error {
	h := p.header
	var blocks [3]io.Reader
	if p.whole != nil {
		start := int64(headerSize)
		for i, size := range []int64{h.Control, h.Difference, p.size - headerSize - h.Control - h.Difference} {
			blocks[i] = bufio.NewReaderSize(io.NewSectionReader(p.whole, start, size), 16<<10)
			start += size
		}
	} else {
		start := int64(headerSize)
		for i, size := range []int64{h.Control, h.Difference} {
			kept := new(bytes.Buffer)
			for left := size; left > 0; {
				if err := ctx.Err(); err != nil {
					return err
				}
				n, err := io.CopyN(kept, p.stream, min(left, 1<<20))
				if err != nil {
					return readError(err, start+size-left)
				}
				left -= n
			}
			start += size
			blocks[i] = kept
		}
		blocks[2] = p.stream
	}
	for i := range blocks {
		blocks[i] = bzip2.NewReader(blocks[i])
	}
	control := bufio.NewReaderSize(blocks[0], 16<<10)
	p.result, p.made = h.NewSize, h.NewSize
	newPos, oldPos, used := int64(0), int64(0), int64(0)
	buf := make([]byte, tripleSizeBS)
	err := p.run(ctx, out, blocks[1], blocks[2], func() (step, bool, error) {
		if newPos == h.NewSize {
			return step{}, false, nil
		}
		if used++; used*tripleSizeBS > p.opts.Limits.control() {
			return step{}, false, tooLarge(headerSize, codePatch, "control block of more than %d bytes", p.opts.Limits.control())
		}
		if used%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return step{}, false, err
			}
		}
		if _, err := io.ReadFull(control, buf); err != nil {
			return step{}, false, readError(err, headerSize)
		}
		s := step{signMagnitude(buf), signMagnitude(buf[8:]), signMagnitude(buf[16:])}
		left := h.NewSize - newPos
		if s.add < 0 || s.copied < 0 || s.add > left || s.copied > left-s.add {
			return step{}, false, malformed(headerSize, "step of %d and %d bytes, %d are left of the new file", s.add, s.copied, left)
		}
		// Far outside of the old file nothing can overflow, and nothing is added.
		const far = 1 << 40
		lowest, highest := int64(0), p.old.size
		if p.opts.Lenient {
			lowest, highest = -far, far
		}
		if oldPos+s.add > highest {
			return step{}, false, malformed(headerSize, "step adds to %d bytes of the old file, %d are left", s.add, p.old.size-oldPos)
		}
		oldPos += s.add
		if s.seek < lowest-oldPos || s.seek > highest-oldPos {
			return step{}, false, malformed(headerSize, "step moves by %d from byte %d of the old file of %d", s.seek, oldPos, p.old.size)
		}
		oldPos += s.seek
		newPos += s.add + s.copied
		return s, true, nil
	})
	if err != nil || p.opts.Lenient {
		return err
	}
	for i, r := range []io.Reader{control, blocks[1], blocks[2]} {
		switch _, err := io.ReadFull(r, buf[:1]); {
		case err == nil:
			e := contradiction(-1, "bytes of the %s block are not used", [...]string{"control", "difference", "extra"}[i]).(*PatchError) //nolint:errorlint // just made
			e.Code = codePatch
			return e
		case err != io.EOF: //nolint:errorlint // a wrapped one is the reader's own trouble
			return readError(err, -1)
		}
	}
	return nil
}

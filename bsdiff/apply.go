package bsdiff

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
)

// applying is a patch on its way to be applied.
type applying struct {
	header Header
	opts   PatchOptions
	stream *bufio.Reader // what comes behind the header
	whole  io.ReaderAt   // the patch again, nil where it cannot be read in any order
	size   int64         // of whole

	old    window
	result int64 // size of the new file as it will be
	made   int64 // of those how many the steps make
}

// open reads the header.
func open(patch io.Reader, opts *PatchOptions) (*applying, error) {
	p := new(applying)
	if opts != nil {
		p.opts = *opts
	}
	if s, ok := patch.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		if start, end, err := extent(s); err == nil {
			section := io.NewSectionReader(s, start, end-start)
			p.whole, p.size = section, section.Size()
			patch = section
		}
	}
	p.stream = bufio.NewReaderSize(patch, bufferSize)
	head := make([]byte, headerSize)
	n, err := io.ReadFull(p.stream, head)
	if err != nil && !isEOF(err) {
		return nil, readError(err, 0)
	}
	if p.header, err = ParseHeader(head[:n]); err != nil {
		return nil, err
	}
	h := p.header
	switch {
	case p.whole == nil:
	case h.Format == MBDIFF10 && p.size != h.PatchSize():
		return nil, malformed(20, "blocks add up to a patch of %d bytes, but it has %d", h.PatchSize(), p.size)
	case h.Format == BSDIFF40 && headerSize+h.Control+h.Difference > p.size:
		return nil, malformed(8, "blocks need %d bytes, but the patch has %d", headerSize+h.Control+h.Difference, p.size)
	}
	if limit := p.opts.Limits.newSize(); h.NewSize > limit {
		return nil, tooLarge(headerNewSize(h.Format), p.code(0), "new file of %d bytes, the limit is %d", h.NewSize, limit)
	}
	if limit := p.opts.Limits.control(); h.Control > limit {
		return nil, tooLarge(20, p.code(0), "control block of %d bytes, the limit is %d", h.Control, limit)
	}
	return p, nil
}

// code returns the updater's error number for a patch of this format where that of an MBDIFF10 patch were n.
func (p *applying) code(n int) int {
	if p.header.Format == BSDIFF40 {
		return codePatch // a magic it does not know
	}
	return n
}

func headerNewSize(f Format) int64 {
	if f == BSDIFF40 {
		return 24
	}
	return 16
}

// extent returns where a file stands and where it ends.
func extent(s io.Seeker) (start, end int64, err error) {
	if start, err = s.Seek(0, io.SeekCurrent); err != nil {
		return 0, 0, err
	}
	if end, err = s.Seek(0, io.SeekEnd); err != nil {
		return 0, 0, err
	}
	if _, err = s.Seek(start, io.SeekStart); err == nil && start > end {
		err = io.ErrUnexpectedEOF
	}
	return start, end, err
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// readError says that the patch ended or could not be read.
func readError(err error, offset int64) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // a wrapped one is the reader's own trouble
		return malformed(offset, "patch ends too early")
	}
	var broken bzip2.StructuralError
	if errors.As(err, &broken) {
		return malformed(offset, "%v", err)
	}
	return &PatchError{Err: fmt.Errorf("read patch: %w", err), Offset: offset, Code: codeRead}
}

func writeError(err error) error {
	return &PatchError{Err: fmt.Errorf("write new file: %w", err), Offset: -1, Code: codeWrite}
}

// setOld checks the old file against the header.
func (p *applying) setOld(ctx context.Context, old io.ReaderAt, size int64) error {
	h := p.header
	p.old = window{r: old, size: size}
	if h.Format == BSDIFF40 {
		if size < 0 || size > maxSize {
			return tooLarge(-1, codePatch, "old file of %d bytes", size)
		}
		return nil
	}
	if size != h.OldSize {
		return &PatchError{Err: ErrOldSize, Detail: fmt.Sprintf("%d bytes, the patch is for %d", size, h.OldSize), Offset: 8, Code: codeOldSize}
	}
	crc := uint32(0)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := p.old.read(at, int(min(size-at, bufferSize)))
		if err != nil {
			return err
		}
		crc = UpdateChecksum(crc, b)
		at += int64(len(b))
	}
	if crc != h.OldCRC {
		return &PatchError{Err: ErrOldCRC, Detail: fmt.Sprintf("%08x, the patch is for %08x", crc, h.OldCRC), Offset: 12, Code: codeCRC}
	}
	return nil
}

// control reads the control block of an MBDIFF10 patch from the stream, and checks all of it by the updater's
// rules and, unless lenient, by ours.
func (p *applying) control(ctx context.Context) ([]Triple, error) {
	h := p.header
	var triples []Triple
	if p.whole != nil {
		triples = make([]Triple, 0, h.Control/tripleSize) // there are so many bytes
	}
	oldPos, newPos, difference, extra := int64(0), int64(0), h.Difference, h.Extra
	buf := make([]byte, min(h.Control, tripleSize<<12))
	for at := int64(0); at < h.Control; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), h.Control-at)]
		if _, err := io.ReadFull(p.stream, b); err != nil {
			return nil, readError(err, headerSize+at)
		}
		for i := 0; i < len(b); i += tripleSize {
			x, y, z := getTriple(b[i:])
			add, copied, seek := int64(x), int64(y), int64(z)
			offset := headerSize + at + int64(i)
			switch {
			case add > h.OldSize-oldPos:
				return nil, malformed(offset, "step adds to %d bytes of the old file, %d are left", add, h.OldSize-oldPos)
			case add > difference:
				return nil, malformed(offset, "step takes %d bytes of the difference block, %d are left", add, difference)
			case copied > extra:
				return nil, malformed(offset+4, "step takes %d bytes of the extra block, %d are left", copied, extra)
			}
			difference -= add
			extra -= copied
			newPos += add + copied
			oldPos += add
			if seek < -oldPos || seek > h.OldSize-oldPos {
				return nil, malformed(offset+8, "step moves by %d from byte %d of the old file of %d", seek, oldPos, h.OldSize)
			}
			oldPos += seek
			triples = append(triples, Triple{Add: int32(x), Copy: int32(y), Seek: z})
		}
		at += int64(len(b))
	}
	p.made, p.result = newPos, newPos
	if limit := p.opts.Limits.newSize(); newPos > limit {
		return nil, tooLarge(headerSize, 0, "new file of %d bytes, the limit is %d", newPos, limit)
	}
	if p.opts.Lenient {
		p.result = max(newPos, h.NewSize)
		return triples, nil
	}
	switch {
	case newPos != h.NewSize:
		return nil, contradiction(16, "steps make a new file of %d bytes, the header says %d", newPos, h.NewSize)
	case difference != 0:
		return nil, contradiction(24, "%d of %d bytes of the difference block are not used", difference, h.Difference)
	case extra != 0:
		return nil, contradiction(28, "%d of %d bytes of the extra block are not used", extra, h.Extra)
	}
	return triples, nil
}

// skip passes over bytes of the stream that no step uses.
func (p *applying) skip(ctx context.Context, n, offset int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := io.CopyN(io.Discard, p.stream, min(n, 1<<20))
		if err != nil {
			return readError(err, offset)
		}
		n -= k
	}
	return nil
}

// end makes sure that the patch ends here.
func (p *applying) end() error {
	_, err := p.stream.ReadByte()
	switch err {
	case nil:
		return malformed(p.header.PatchSize(), "there are bytes behind the last block")
	case io.EOF:
		return nil
	}
	return readError(err, p.header.PatchSize())
}

// meter counts the bytes of the new file, tells about them and looks at the context.
type meter struct {
	ctx      context.Context //nolint:containedctx // lives as long as one call
	progress func(done, total int64)
	total    int64
	done     int64
	checked  int64
}

func (p *applying) meter(ctx context.Context) *meter {
	return &meter{ctx: ctx, progress: p.opts.Progress, total: p.result}
}

func (m *meter) add(n int) error {
	m.done += int64(n)
	if m.done-m.checked < bufferSize && m.done < m.total {
		return nil
	}
	m.checked = m.done
	if m.progress != nil {
		m.progress(min(m.done, m.total), m.total)
	}
	return m.ctx.Err()
}

// inMemory makes the new file in dst: first all that the difference block gives, then the rest.
func (p *applying) inMemory(ctx context.Context, dst, old []byte, triples []Triple) error {
	m := p.meter(ctx)
	offset := headerSize + p.header.Control
	oldPos, newPos := 0, 0
	for _, t := range triples {
		for left := int(t.Add); left > 0; {
			n := min(left, bufferSize)
			b := dst[newPos : newPos+n]
			if _, err := io.ReadFull(p.stream, b); err != nil {
				return readError(err, offset)
			}
			addBytes(b, old[oldPos:])
			offset += int64(n)
			oldPos, newPos, left = oldPos+n, newPos+n, left-n
			if err := m.add(n); err != nil {
				return err
			}
		}
		newPos += int(t.Copy)
		oldPos += int(t.Seek)
	}
	if err := p.skip(ctx, headerSize+p.header.Control+p.header.Difference-offset, offset); err != nil {
		return err
	}
	offset = headerSize + p.header.Control + p.header.Difference
	newPos = 0
	for _, t := range triples {
		newPos += int(t.Add)
		for left := int(t.Copy); left > 0; {
			n := min(left, bufferSize)
			if _, err := io.ReadFull(p.stream, dst[newPos:newPos+n]); err != nil {
				return readError(err, offset)
			}
			offset += int64(n)
			newPos, left = newPos+n, left-n
			if err := m.add(n); err != nil {
				return err
			}
		}
	}
	if err := p.skip(ctx, p.header.PatchSize()-offset, offset); err != nil {
		return err
	}
	clear(dst[p.made:])
	return p.end()
}

// twoPasses is inMemory for files: in the first pass what the extra block will give is left out.
func (p *applying) twoPasses(ctx context.Context, dst io.WriterAt, triples []Triple) (int64, error) {
	m := p.meter(ctx)
	w := &gapWriter{w: dst, buf: make([]byte, 0, bufferSize)}
	offset := headerSize + p.header.Control
	oldPos := int64(0)
	for _, t := range triples {
		for left := int(t.Add); left > 0; {
			b, err := w.room(min(left, bufferSize))
			if err != nil {
				return 0, err
			}
			if _, err := io.ReadFull(p.stream, b); err != nil {
				return 0, readError(err, offset)
			}
			if err := p.old.addTo(b, oldPos); err != nil {
				return 0, err
			}
			n := len(b)
			offset += int64(n)
			oldPos, left = oldPos+int64(n), left-n
			if err := m.add(n); err != nil {
				return 0, err
			}
		}
		if err := w.leave(int64(t.Copy)); err != nil {
			return 0, err
		}
		oldPos += int64(t.Seek)
	}
	for left := p.result - p.made; left > 0; { // as the updater does, but only if lenient
		b, err := w.room(int(min(left, bufferSize)))
		if err != nil {
			return 0, err
		}
		clear(b)
		left -= int64(len(b))
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := p.skip(ctx, headerSize+p.header.Control+p.header.Difference-offset, offset); err != nil {
		return 0, err
	}
	offset = headerSize + p.header.Control + p.header.Difference
	newPos := int64(0)
	buf := w.buf[:cap(w.buf)]
	for _, t := range triples {
		newPos += int64(t.Add)
		for left := int(t.Copy); left > 0; {
			b := buf[:min(left, len(buf))]
			if _, err := io.ReadFull(p.stream, b); err != nil {
				return 0, readError(err, offset)
			}
			if _, err := dst.WriteAt(b, newPos); err != nil {
				return 0, writeError(err)
			}
			n := len(b)
			offset += int64(n)
			newPos, left = newPos+int64(n), left-n
			if err := m.add(n); err != nil {
				return 0, err
			}
		}
	}
	if err := p.skip(ctx, p.header.PatchSize()-offset, offset); err != nil {
		return 0, err
	}
	if err := p.end(); err != nil {
		return 0, err
	}
	return p.result, nil
}

// gapWriter writes pieces in order, with gaps that are filled later.
type gapWriter struct {
	w   io.WriterAt
	buf []byte
	at  int64 // where buf belongs
}

// room returns the next bytes to be filled in, at most n and at least one.
func (g *gapWriter) room(n int) ([]byte, error) {
	if len(g.buf) == cap(g.buf) {
		if err := g.flush(); err != nil {
			return nil, err
		}
	}
	start := len(g.buf)
	g.buf = g.buf[:min(start+n, cap(g.buf))]
	return g.buf[start:], nil
}

func (g *gapWriter) leave(n int64) error {
	if n <= int64(cap(g.buf)-len(g.buf)) && n <= 4096 {
		start := len(g.buf)
		g.buf = g.buf[:start+int(n)]
		clear(g.buf[start:])
		return nil
	}
	if err := g.flush(); err != nil {
		return err
	}
	g.at += n
	return nil
}

func (g *gapWriter) flush() error {
	if len(g.buf) > 0 {
		if _, err := g.w.WriteAt(g.buf, g.at); err != nil {
			return writeError(err)
		}
	}
	g.at += int64(len(g.buf))
	g.buf = g.buf[:0]
	return nil
}

// step is a triple of either format, checked: as far as it goes nothing is left on either side.
type step struct{ add, copied, seek int64 }

// inStep makes the new file from its start to its end.
func (p *applying) inStep(ctx context.Context, dst io.Writer, old io.ReaderAt, oldSize int64) (int64, error) {
	if err := p.setOld(ctx, old, oldSize); err != nil {
		return 0, err
	}
	counted := &countingWriter{w: dst}
	out := bufio.NewWriterSize(counted, bufferSize)
	var err error
	if p.header.Format == BSDIFF40 {
		err = p.inStepBS(ctx, out)
	} else {
		err = p.inStepMB(ctx, out)
	}
	if ferr := out.Flush(); err == nil && ferr != nil {
		err = writeError(ferr)
	}
	return counted.n, err
}

func (p *applying) inStepMB(ctx context.Context, out *bufio.Writer) error {
	triples, err := p.control(ctx)
	if err != nil {
		return err
	}
	h := p.header
	var difference, extra io.Reader
	if p.whole != nil {
		difference = bufio.NewReaderSize(io.NewSectionReader(p.whole, headerSize+h.Control, h.Difference), bufferSize)
		extra = bufio.NewReaderSize(io.NewSectionReader(p.whole, headerSize+h.Control+h.Difference, h.Extra), bufferSize)
	} else {
		kept := new(sparse)
		if err := kept.fill(ctx, p.stream, h.Difference, headerSize+h.Control); err != nil {
			return err
		}
		difference, extra = kept, p.stream
	}
	next := 0
	err = p.run(ctx, out, difference, extra, func() (step, bool, error) {
		if next == len(triples) {
			return step{}, false, nil
		}
		t := triples[next]
		next++
		return step{int64(t.Add), int64(t.Copy), int64(t.Seek)}, true, nil
	})
	if err != nil || p.whole != nil {
		return err
	}
	used := int64(0)
	for _, t := range triples {
		used += int64(t.Copy)
	}
	if err := p.skip(ctx, h.Extra-used, headerSize+h.Control+h.Difference+used); err != nil {
		return err
	}
	return p.end()
}

// run takes the steps one after the other.
func (p *applying) run(ctx context.Context, out *bufio.Writer, difference, extra io.Reader, next func() (step, bool, error)) error {
	m := p.meter(ctx)
	buf := make([]byte, bufferSize)
	oldPos := int64(0)
	for {
		s, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		for left := s.add; left > 0; {
			b := buf[:min(left, bufferSize)]
			if _, err := io.ReadFull(difference, b); err != nil {
				return readError(err, -1)
			}
			if err := p.old.addTo(b, oldPos); err != nil {
				return err
			}
			if _, err := out.Write(b); err != nil {
				return writeError(err)
			}
			left, oldPos = left-int64(len(b)), oldPos+int64(len(b))
			if err := m.add(len(b)); err != nil {
				return err
			}
		}
		for left := s.copied; left > 0; {
			b := buf[:min(left, bufferSize)]
			if _, err := io.ReadFull(extra, b); err != nil {
				return readError(err, -1)
			}
			if _, err := out.Write(b); err != nil {
				return writeError(err)
			}
			left -= int64(len(b))
			if err := m.add(len(b)); err != nil {
				return err
			}
		}
		oldPos += s.seek
	}
	clear(buf)
	for left := p.result - m.done; left > 0; {
		b := buf[:min(left, bufferSize)]
		if _, err := out.Write(b); err != nil {
			return writeError(err)
		}
		left -= int64(len(b))
		if err := m.add(len(b)); err != nil {
			return err
		}
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// window reads the old file, mostly in order, ahead of what is asked for.
type window struct {
	r     io.ReaderAt
	size  int64
	buf   []byte
	at    int64 // where buf stands in the file
	ahead int
}

// read returns the bytes of the old file from at on, which must be there: n of them, or fewer but at least one.
// They are valid until the next call.
func (w *window) read(at int64, n int) ([]byte, error) {
	if at < w.at || at >= w.at+int64(len(w.buf)) {
		if at == w.at+int64(len(w.buf)) {
			w.ahead = min(2*w.ahead, bufferSize)
		} else {
			w.ahead = 4 << 10
		}
		size := int(min(int64(max(w.ahead, n)), w.size-at))
		if cap(w.buf) < size {
			w.buf = make([]byte, size)
		}
		w.buf = w.buf[:size]
		w.at = at
		if k, err := w.r.ReadAt(w.buf, at); k < size {
			w.buf = w.buf[:0]
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, &PatchError{Err: fmt.Errorf("read old file: %w", err), Detail: fmt.Sprintf("%d of %d bytes at %d", k, size, at), Offset: -1, Code: codeRead}
		}
	}
	b := w.buf[at-w.at:]
	return b[:min(n, len(b))], nil
}

// addTo adds the bytes of the old file from at on to b. Those that are outside of the file count as zeros.
func (w *window) addTo(b []byte, at int64) error {
	if at < 0 {
		k := min(-at, int64(len(b)))
		b, at = b[k:], at+k
	}
	if left := w.size - at; left < int64(len(b)) {
		b = b[:max(left, 0)]
	}
	for len(b) > 0 {
		old, err := w.read(at, len(b))
		if err != nil {
			return err
		}
		addBytes(b[:len(old)], old)
		b, at = b[len(old):], at+int64(len(old))
	}
	return nil
}

const (
	cellSize = 256
	slabSize = 1 << 20
)

// sparse keeps a block of which many stretches are zero. It is filled once and then read once.
type sparse struct {
	used  []uint64 // a bit for each cell that is not all zero
	slabs [][]byte // their bytes
	size  int64
	at    int64 // read so far
	cell  []byte
	taken int // cells taken from slabs so far
}

func (s *sparse) fill(ctx context.Context, r io.Reader, n, offset int64) error {
	s.size = n
	buf := make([]byte, bufferSize)
	cell := 0
	for done := int64(0); done < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(n-done, bufferSize)]
		if _, err := io.ReadFull(r, b); err != nil {
			return readError(err, offset+done)
		}
		done += int64(len(b))
		for len(b) > 0 {
			k := min(len(b), cellSize)
			if cell%64 == 0 {
				s.used = append(s.used, 0)
			}
			if !allZero(b[:k]) {
				s.used[cell/64] |= 1 << (cell % 64)
				s.keep(b[:k])
			}
			cell++
			b = b[k:]
		}
	}
	return nil
}

// keep stores a cell; a short one, the last, is filled up.
func (s *sparse) keep(b []byte) {
	last := len(s.slabs) - 1
	if last < 0 || len(s.slabs[last]) == slabSize {
		s.slabs = append(s.slabs, make([]byte, 0, slabSize))
		last++
	}
	slab := s.slabs[last]
	start := len(slab)
	slab = slab[:start+cellSize]
	copy(slab[start:], b)
	s.slabs[last] = slab
}

// Read implements io.Reader.
func (s *sparse) Read(b []byte) (int, error) {
	if s.at == s.size {
		return 0, io.EOF
	}
	total := 0
	for len(b) > 0 && s.at < s.size {
		inside := int(s.at % cellSize)
		cell := int(s.at / cellSize)
		if inside == 0 {
			s.cell = nil
			if s.used[cell/64]>>(cell%64)&1 != 0 {
				s.cell = s.slabs[s.taken/(slabSize/cellSize)][s.taken%(slabSize/cellSize)*cellSize:][:cellSize]
				s.taken++
			}
		}
		n := int(min(int64(len(b)), int64(cellSize-inside), s.size-s.at))
		if s.cell == nil {
			clear(b[:n])
		} else {
			copy(b[:n], s.cell[inside:])
		}
		b, s.at, total = b[n:], s.at+int64(n), total+n
	}
	return total, nil
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

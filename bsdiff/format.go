package bsdiff

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/senbonzakura/senbonzakura/internal/match"
)

const (
	magicMB = "MBDIFF10"
	magicBS = "BSDIFF40"

	headerSize   = 32
	tripleSize   = 12 // MBDIFF10: three 32-bit numbers
	tripleSizeBS = 24 // BSDIFF40: three 64-bit numbers

	// maxSize is the largest file or patch: the updater and mbsdiff keep sizes in a C int.
	maxSize = math.MaxInt32

	// bufferSize is how much of a file is handled at once.
	bufferSize = 128 << 10
)

// Format is the layout of a patch.
type Format uint8

const (
	// MBDIFF10 is what Mozilla's updater applies: the only format for partial updates.
	MBDIFF10 Format = iota
	// BSDIFF40 is what the programs bsdiff and bspatch use. Its blocks are compressed with bzip2.
	BSDIFF40
)

// String returns the format's magic.
func (f Format) String() string {
	switch f {
	case MBDIFF10:
		return magicMB
	case BSDIFF40:
		return magicBS
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Triple is one step of a patch: Add bytes are the old file's next bytes plus bytes of the difference
// block, modulo 256; the Copy bytes after them come from the extra block; then the place in the old file
// moves by Seek.
type Triple = match.Triple

// Header is what stands at the start of a patch. The numbers are as the patch declares them: nothing says
// that they are true.
type Header struct {
	Format Format `json:"-"` // of the patch
	// OldSize and OldCRC ([Checksum]) are those of the old file. BSDIFF40 does not have them: both are 0.
	OldSize int64  `json:"old_size"`
	OldCRC  uint32 `json:"old_crc"`
	// NewSize is the size of the new file.
	NewSize int64 `json:"new_size"`
	// Control, Difference and Extra are the sizes of the three blocks as they stand in the patch. For
	// BSDIFF40 these are compressed sizes, and that of the last block, which is not declared, is -1.
	Control    int64 `json:"control"`
	Difference int64 `json:"difference"`
	Extra      int64 `json:"extra"`
}

// PatchSize returns the size of the whole patch, -1 where it is not declared.
func (h Header) PatchSize() int64 {
	if h.Extra < 0 {
		return -1
	}
	return headerSize + h.Control + h.Difference + h.Extra
}

// ParseHeader reads the first 32 bytes of a patch and checks the rules that concern them alone. It returns a
// [*PatchError].
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headerSize {
		return Header{}, &PatchError{
			Err: ErrFormat, Detail: fmt.Sprintf("%d bytes are shorter than the header of %d", len(b), headerSize),
			Offset: int64(len(b)), Code: codeRead,
		}
	}
	switch string(b[:8]) {
	case magicMB:
		be := binary.BigEndian
		h := Header{
			OldSize: int64(be.Uint32(b[8:])), OldCRC: be.Uint32(b[12:]), NewSize: int64(be.Uint32(b[16:])),
			Control: int64(be.Uint32(b[20:])), Difference: int64(be.Uint32(b[24:])), Extra: int64(be.Uint32(b[28:])),
		}
		if h.Control%tripleSize != 0 {
			return Header{}, malformed(20, "control block of %d bytes is not a number of whole triples", h.Control)
		}
		if n := h.PatchSize(); n > maxSize {
			return Header{}, tooLarge(20, codePatch, "blocks add up to a patch of %d bytes, the limit is %d", n, maxSize)
		}
		return h, nil
	case magicBS:
		h := Header{
			Format: BSDIFF40, Control: signMagnitude(b[8:]), Difference: signMagnitude(b[16:]),
			NewSize: signMagnitude(b[24:]), Extra: -1,
		}
		if h.Control < 0 || h.Difference < 0 || h.NewSize < 0 {
			return Header{}, malformed(8, "negative size in header (%d, %d, %d)", h.Control, h.Difference, h.NewSize)
		}
		// Each below 2^62 so that they can be added.
		if h.Control > maxSize || h.Difference > maxSize || h.NewSize > maxSize {
			return Header{}, tooLarge(8, codePatch, "sizes %d, %d, %d in header, the limit is %d", h.Control, h.Difference, h.NewSize, maxSize)
		}
		return h, nil
	}
	return Header{}, malformed(0, "magic is %q, neither %s nor %s", b[:8], magicMB, magicBS)
}

// append writes the header of an MBDIFF10 patch behind b.
func (h Header) append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, magicMB...)
	b = be.AppendUint32(b, uint32(h.OldSize))
	b = be.AppendUint32(b, h.OldCRC)
	b = be.AppendUint32(b, uint32(h.NewSize))
	b = be.AppendUint32(b, uint32(h.Control))
	b = be.AppendUint32(b, uint32(h.Difference))
	return be.AppendUint32(b, uint32(h.Extra))
}

// signMagnitude reads BSDIFF40's numbers: 63 bits, least significant byte first, and a sign.
func signMagnitude(b []byte) int64 {
	u := binary.LittleEndian.Uint64(b)
	v := int64(u &^ (1 << 63))
	if u>>63 != 0 {
		v = -v
	}
	return v
}

func appendSignMagnitude(b []byte, v int64) []byte {
	u := uint64(v)
	if v < 0 {
		u = uint64(-v) | 1<<63
	}
	return binary.LittleEndian.AppendUint64(b, u)
}

func getTriple(b []byte) (add, copied uint32, seek int32) {
	be := binary.BigEndian
	return be.Uint32(b), be.Uint32(b[4:]), int32(be.Uint32(b[8:]))
}

func appendTriple(b []byte, t Triple) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(t.Add))
	b = be.AppendUint32(b, uint32(t.Copy))
	return be.AppendUint32(b, uint32(t.Seek))
}

// blocks writes the three blocks of a patch that makes new from old in the given steps. None of them
// exists whole at any time.
type blocks struct {
	old, new []byte
	triples  []Triple
	progress func(n int) // told how many bytes of the new file were dealt with
}

// sizes returns the sizes of the difference and the extra block.
func (s *blocks) sizes() (difference, extra int64) {
	for _, t := range s.triples {
		difference += int64(t.Add)
		extra += int64(t.Copy)
	}
	return difference, extra
}

// check returns an error where the steps do not make new from old: a matcher that is wrong must not produce
// a patch.
func (s *blocks) check() error {
	oldPos, newPos := 0, 0
	for i, t := range s.triples {
		add, copied := int(t.Add), int(t.Copy)
		if add < 0 || copied < 0 || add > len(s.new)-newPos || copied > len(s.new)-newPos-add || add > len(s.old)-oldPos {
			return fmt.Errorf("bsdiff: matcher: step %d (%d, %d, %d) leaves the files", i, t.Add, t.Copy, t.Seek)
		}
		newPos += add + copied
		oldPos += add
		seek := int(t.Seek)
		if seek < -oldPos || seek > len(s.old)-oldPos {
			return fmt.Errorf("bsdiff: matcher: step %d (%d, %d, %d) moves out of the old file", i, t.Add, t.Copy, t.Seek)
		}
		oldPos += seek
	}
	if newPos != len(s.new) {
		return fmt.Errorf("bsdiff: matcher: steps make %d bytes of %d", newPos, len(s.new))
	}
	return nil
}

func (s *blocks) writeControl(ctx context.Context, w io.Writer, appendTo func([]byte, Triple) []byte) error {
	buf := make([]byte, 0, bufferSize)
	for i, t := range s.triples {
		buf = appendTo(buf, t)
		if len(buf) > cap(buf)-tripleSizeBS || i == len(s.triples)-1 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := w.Write(buf); err != nil {
				return fmt.Errorf("write control block: %w", err)
			}
			buf = buf[:0]
		}
	}
	return nil
}

func (s *blocks) writeDifference(ctx context.Context, w io.Writer) error {
	buf := make([]byte, bufferSize)
	fill := 0
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(buf[:fill]); err != nil {
			return fmt.Errorf("write difference block: %w", err)
		}
		s.progress(fill)
		fill = 0
		return nil
	}
	oldPos, newPos := 0, 0
	for _, t := range s.triples {
		for left := int(t.Add); left > 0; {
			n := min(left, len(buf)-fill)
			subtractBytes(buf[fill:fill+n], s.new[newPos:], s.old[oldPos:])
			fill, left, oldPos, newPos = fill+n, left-n, oldPos+n, newPos+n
			if fill == len(buf) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		newPos += int(t.Copy)
		oldPos += int(t.Seek)
	}
	if fill > 0 {
		return flush()
	}
	return nil
}

func (s *blocks) writeExtra(ctx context.Context, w io.Writer) error {
	bw := bufio.NewWriterSize(w, bufferSize)
	newPos := 0
	for _, t := range s.triples {
		newPos += int(t.Add)
		for left := int(t.Copy); left > 0; {
			n := min(left, bufferSize)
			if bw.Available() < n {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			if _, err := bw.Write(s.new[newPos : newPos+n]); err != nil {
				return fmt.Errorf("write extra block: %w", err)
			}
			s.progress(n)
			left, newPos = left-n, newPos+n
		}
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write extra block: %w", err)
	}
	return nil
}

// writeMB writes a whole MBDIFF10 patch.
func (s *blocks) writeMB(ctx context.Context, w io.Writer) error {
	difference, extra := s.sizes()
	h := Header{
		OldSize: int64(len(s.old)), OldCRC: Checksum(s.old), NewSize: int64(len(s.new)),
		Control: int64(len(s.triples)) * tripleSize, Difference: difference, Extra: extra,
	}
	if n := h.PatchSize(); n > maxSize {
		return fmt.Errorf("bsdiff: patch of %d bytes: %w (the updater reads at most %d)", n, ErrTooLarge, maxSize)
	}
	if _, err := w.Write(h.append(nil)); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	if err := s.writeControl(ctx, w, appendTriple); err != nil {
		return err
	}
	if err := s.writeDifference(ctx, w); err != nil {
		return err
	}
	return s.writeExtra(ctx, w)
}

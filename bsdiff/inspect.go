package bsdiff

import (
	"context"
	"fmt"
	"io"
)

// InspectOptions for [Inspect].
type InspectOptions struct {
	// Limits bound what is read.
	Limits Limits
	// Step, if not nil, is told every step in order. An error from it ends Inspect, which returns it.
	Step func(i int, t Triple) error
}

// Info is what a patch consists of.
type Info struct {
	Header
	// Steps is the number of triples; of those, Empty neither add nor copy anything.
	Steps int64 `json:"steps"`
	Empty int64 `json:"empty"`
	// Added and Copied are how many bytes of the new file the steps make by adding differences to the old
	// one, and by copying from the extra block. Together they are the size that the new file will have, which
	// may differ from NewSize in an MBDIFF10 patch that contradicts itself.
	Added  int64 `json:"added"`
	Copied int64 `json:"copied"`
	// UnusedDifference and UnusedExtra are bytes of the (decompressed) blocks that no step uses.
	UnusedDifference int64 `json:"unused_difference"`
	UnusedExtra      int64 `json:"unused_extra"`
	// ControlBytes, DifferenceBytes and ExtraBytes are the sizes of the decompressed blocks. For MBDIFF10 these
	// are the sizes in the header.
	ControlBytes    int64 `json:"control_bytes"`
	DifferenceBytes int64 `json:"difference_bytes"`
	ExtraBytes      int64 `json:"extra_bytes"`
	// Zeros is how many bytes of the difference block are zero: the bytes that stay as they were.
	Zeros int64 `json:"zeros"`
	// LongestAdd and LongestCopy are the largest numbers in the steps.
	LongestAdd  int64 `json:"longest_add"`
	LongestCopy int64 `json:"longest_copy"`
}

// ZeroShare returns the share of zeros in the difference block, between 0 and 1; 1 where there is none.
func (i *Info) ZeroShare() float64 {
	if i.DifferenceBytes == 0 {
		return 1
	}
	return float64(i.Zeros) / float64(i.DifferenceBytes)
}

// Part is a block of a patch, described for people.
type Part struct {
	Name  string // "control", "difference" or "extra"
	Bytes int64  // that it takes in the patch
	Text  string // what is in it, for people
}

// Parts describes the three blocks, in their order.
func (i *Info) Parts() []Part {
	return []Part{
		{"control", i.ControlBytes, fmt.Sprintf("%d triples, %d of them empty", i.Steps, i.Empty)},
		{"difference", i.DifferenceBytes, fmt.Sprintf("%.2f %% zeros, longest %d, unused %d", 100*i.ZeroShare(), i.LongestAdd, i.UnusedDifference)},
		{"extra", i.ExtraBytes, fmt.Sprintf("longest %d, unused %d", i.LongestCopy, i.UnusedExtra)},
	}
}

// Inspect reads a whole patch of either format and tells what it consists of. It needs no old file, and keeps
// no more of the patch than [PatchTo]. A patch that contradicts itself is described; one that is malformed is
// an error, of type *[PatchError]. opts may be nil.
func Inspect(ctx context.Context, patch io.Reader, opts *InspectOptions) (*Info, error) {
	var o InspectOptions
	if opts != nil {
		o = *opts
	}
	p, err := open(patch, &PatchOptions{Lenient: true, Limits: o.Limits})
	if err != nil {
		return nil, err
	}
	info := &Info{Header: p.header}
	note := func(t Triple) error {
		if t.Add == 0 && t.Copy == 0 {
			info.Empty++
		}
		info.Added += int64(t.Add)
		info.Copied += int64(t.Copy)
		info.LongestAdd = max(info.LongestAdd, int64(t.Add))
		info.LongestCopy = max(info.LongestCopy, int64(t.Copy))
		info.Steps++
		if o.Step != nil {
			return o.Step(int(info.Steps-1), t)
		}
		return nil
	}
	if p.header.Format == BSDIFF40 {
		err = p.inspectBS(ctx, info, note)
	} else {
		err = p.inspectMB(ctx, info, note)
	}
	if err != nil {
		return nil, err
	}
	info.UnusedDifference = info.DifferenceBytes - info.Added
	info.UnusedExtra = info.ExtraBytes - info.Copied
	return info, nil
}

func (p *applying) inspectMB(ctx context.Context, info *Info, note func(Triple) error) error {
	triples, err := p.control(ctx)
	if err != nil {
		return err
	}
	for _, t := range triples {
		if err := note(t); err != nil {
			return err
		}
	}
	h := p.header
	info.ControlBytes, info.DifferenceBytes, info.ExtraBytes = h.Control, h.Difference, h.Extra
	n, zeros, err := drain(ctx, io.LimitReader(p.stream, h.Difference), h.Difference)
	if err != nil {
		return err
	}
	if n < h.Difference {
		return readError(io.EOF, headerSize+h.Control+n)
	}
	info.Zeros = zeros
	if err := p.skip(ctx, h.Extra, headerSize+h.Control+h.Difference); err != nil {
		return err
	}
	return p.end()
}

func (p *applying) inspectBS(ctx context.Context, info *Info, note func(Triple) error) error {
	p.old.size = maxSize // not known
	b, err := p.unpack(ctx)
	if err != nil {
		return err
	}
	for {
		s, ok, err := b.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if s.seek != int64(int32(s.seek)) {
			return malformed(headerSize, "step %d moves by %d", b.steps-1, s.seek)
		}
		if err := note(Triple{Add: int32(s.add), Copy: int32(s.copied), Seek: int32(s.seek)}); err != nil {
			return err
		}
	}
	info.ControlBytes = info.Steps * tripleSizeBS
	if info.DifferenceBytes, info.Zeros, err = drain(ctx, b.difference, b.newSize); err != nil {
		return err
	}
	info.ExtraBytes, _, err = drain(ctx, b.extra, b.newSize)
	return err
}

// drain reads up to limit bytes, an error if there are more, and counts the zeros among them.
func drain(ctx context.Context, r io.Reader, limit int64) (n, zeros int64, err error) {
	buf := make([]byte, bufferSize)
	for {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		k, err := r.Read(buf)
		n += int64(k)
		zeros += zeroBytes(buf[:k])
		switch {
		case n > limit:
			return 0, 0, malformed(-1, "block of more than %d bytes", limit)
		case err == io.EOF:
			return n, zeros, nil
		case err != nil:
			return 0, 0, readError(err, -1)
		}
	}
}

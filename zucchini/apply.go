package zucchini

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// Limits bound what a patch may ask for. A zero field has the default.
type Limits struct {
	// New is the largest new file in bytes, by default 2 GiB - 1, which nothing larger can be. A patch of some hundred bytes
	// can ask for as much.
	New int64
	// Patch is the size in bytes of the largest patch that [ReadPatch] reads, by default twice that of the new file and a
	// megabyte: what is larger is worth nothing.
	Patch int64
}

func (l Limits) patchSize(h Header) int64 {
	if l.Patch > 0 {
		return l.Patch
	}
	return 2*int64(h.NewSize) + 1<<20
}

func (l Limits) newSize() int64 {
	if l.New > 0 {
		return min(l.New, maxSize)
	}
	return maxSize
}

// ApplyOptions for [Apply]. The zero value is strict.
type ApplyOptions struct {
	// Lenient accepts what the updater accepts though it is not well formed: a list whose last number the updater takes
	// for its end, such as a difference of zero.
	Lenient bool
	// Limits bound what the patch may ask for.
	Limits Limits
	// Progress, if not nil, is told how many bytes of the new file of how many are done. It must return quickly.
	Progress func(done, total int64)
}

// ReadPatch reads a patch from where the reader stands to its end, within the limits. That it is one it says after its
// first bytes; all else is left to those who use it. Errors are *[PatchError] but for those of ctx.
func ReadPatch(ctx context.Context, patch io.Reader, limits Limits) ([]byte, error) {
	head := make([]byte, headerSize)
	n, err := io.ReadFull(patch, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, readError(err)
	}
	h, err := ParseHeader(head[:n])
	if err != nil {
		return nil, err
	}
	if most := limits.newSize(); int64(h.NewSize) > most {
		return nil, &PatchError{Err: ErrTooLarge, Detail: fmt.Sprintf("new file of %d bytes, the limit is %d", h.NewSize, most), Element: -1, Offset: 16}
	}
	most := limits.patchSize(h)
	out := bytes.NewBuffer(head)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.CopyN(out, patch, poll)
		switch {
		case int64(out.Len()) > most:
			return nil, &PatchError{Err: ErrTooLarge, Detail: fmt.Sprintf("patch of more than %d bytes", most), Element: -1, Offset: most}
		case errors.Is(err, io.EOF) && n < poll:
			return out.Bytes(), nil
		case err != nil:
			return nil, readError(err)
		}
	}
}

func readError(err error) error {
	return &PatchError{Err: fmt.Errorf("read patch: %w", err), Element: -1, Offset: -1, Code: codeRead}
}

// Apply applies a patch to the old file and returns the new one, which it stores in the array of dst, whatever that
// holds, where it has the capacity, otherwise in a new one; it must not overlap old. It does what the applier in
// Mozilla's updater does, to the checksum of the result, and refuses what that would crash on.
//
// Beyond the three files Apply needs memory for the references of the old file's executables, at most 8 bytes each, and
// for their targets, about a third of the file's size in an executable that has as many as there can be, and a seventh
// in ordinary ones.
//
// Errors are *[PatchError] but for those of ctx. Apply returns soon after ctx ends. What dst holds after an error
// is worth nothing.
func Apply(ctx context.Context, dst, old, patch []byte, opts *ApplyOptions) ([]byte, error) {
	var o ApplyOptions
	if opts != nil {
		o = *opts
	}
	h, elements, err := parse(patch, o.Limits)
	if err != nil {
		return nil, err
	}
	if len(old) > maxSize {
		return nil, &PatchError{Err: ErrTooLarge, Detail: fmt.Sprintf("old file of %d bytes", len(old)), Element: -1, Offset: -1, Code: codeOldSize}
	}
	if uint32(len(old)) != h.OldSize || len(old) == 0 {
		return nil, &PatchError{Err: ErrOldSize, Detail: fmt.Sprintf("%d bytes, the patch is for %d", len(old), h.OldSize), Element: -1, Offset: 8, Code: codeOldSize}
	}
	if crc := crc32.ChecksumIEEE(old); crc != h.OldCRC {
		return nil, &PatchError{Err: ErrOldCRC, Detail: fmt.Sprintf("%08x, the patch is for %08x", crc, h.OldCRC), Element: -1, Offset: 12, Code: codeCRC}
	}
	if h.NewSize == 0 {
		return nil, &PatchError{Err: ErrEmpty, Detail: "a new file of no bytes cannot be made", Element: -1, Offset: 16, Code: codeWrite}
	}
	if int64(cap(dst)) < int64(h.NewSize) {
		dst = make([]byte, h.NewSize)
	}
	dst = dst[:h.NewSize]
	for _, e := range elements {
		new := dst[e.newAt:][:e.newN:e.newN]
		if err := e.apply(ctx, old[e.oldAt:][:e.oldN:e.oldN], new, o.Lenient); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			o.Progress(int64(e.newAt)+int64(e.newN), int64(h.NewSize))
		}
	}
	if crc := crc32.ChecksumIEEE(dst); crc != h.NewCRC {
		return nil, &PatchError{Err: ErrNewCRC, Detail: fmt.Sprintf("%08x, the patch promises %08x", crc, h.NewCRC), Element: -1, Offset: 20, Code: codeCRC}
	}
	return dst, nil
}

// apply makes the element's part of the new file.
func (e *element) apply(ctx context.Context, old, new []byte, lenient bool) error {
	if err := e.copy(ctx, old, new, lenient); err != nil {
		return err
	}
	if e.plain {
		if n := len(e.stream[referenceDelta]); n > 0 {
			return e.misfit("%d bytes of reference deltas without references", n)
		}
		return nil
	}
	a, err := e.image("old", old)
	if err != nil {
		return err
	}
	b, err := e.image("new", new)
	if err != nil {
		return err
	}
	refs, err := a.References(ctx, math.MaxInt)
	if errors.Is(err, exe.ErrTooMuch) {
		return &PatchError{Err: ErrTooLarge, Detail: err.Error(), Element: e.index, Offset: -1}
	}
	if err != nil {
		return err
	}
	f := &fixer{e: e, mapper: newMapper(e.pairs, e.oldN, e.newN), refs: refs, new: new, image: b, at: b.Reader(), deltas: e.stream[referenceDelta], lenient: lenient}
	for pool := range uint8(exe.Pools) {
		if err := f.pool(ctx, pool, b.Groups()); err != nil {
			return err
		}
	}
	if n := len(f.deltas); n > 0 {
		return e.misfit("%d bytes of reference deltas behind the last reference", n)
	}
	return nil
}

// image parses a region, which must be an executable as a whole.
func (e *element) image(what string, data []byte) (*exe.Image, error) {
	if e.alien {
		return nil, e.misfit("of a type that no updater applies")
	}
	m, err := exe.Parse(e.kind, data)
	if err != nil {
		return nil, e.misfit("%s bytes: %v (%s)", what, err, e.name())
	}
	if m.Size() != len(data) {
		return nil, e.misfit("%d %s bytes, the executable has %d", len(data), what, m.Size())
	}
	return m, nil
}

// poll is how many bytes or numbers are worked on between two looks at the context.
const poll = 1 << 22

// copy makes the new bytes as they are before references are put right.
func (e *element) copy(ctx context.Context, old, new []byte, lenient bool) error {
	switch {
	case e.left:
		return e.misfit("numbers that belong to no equivalence")
	case e.loose && !lenient:
		return e.looseEnd("the last equivalence begins behind 4 GiB")
	}
	extra := e.stream[extraData]
	done, polled := uint32(0), uint32(0)
	for _, p := range e.pairs {
		extra = extra[copy(new[done:p.dst], extra):]
		copy(new[p.dst:], old[p.src:][:p.size])
		done = p.dst + p.size
		if done-polled > poll {
			polled = done
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	copy(new[done:], extra)
	return e.rawDeltas(ctx, new, lenient)
}

// rawDeltas adds the differences to the bytes copied. Their places count copied bytes only.
func (e *element) rawDeltas(ctx context.Context, new []byte, lenient bool) error {
	skips, diffs := e.stream[rawDeltaSkip], e.stream[rawDeltaDiff]
	next := int64(0)
	i, base, end := -1, int64(0), int64(0) // the equivalence, and the places of its first and behind its last byte
	var to []byte
	for n := 1; len(skips) > 0 && len(diffs) > 0; n++ {
		skip, ok := uvarint(&skips)
		if !ok {
			break
		}
		at := next + int64(skip)
		if at > math.MaxUint32 {
			break
		}
		diff := diffs[0]
		diffs = diffs[1:]
		if diff == 0 || at == math.MaxUint32 {
			if len(skips)+len(diffs) == 0 && !lenient {
				return e.looseEnd("the last difference is none")
			}
			break
		}
		for at >= end {
			if i++; i == len(e.pairs) {
				return e.misfit("difference at copied byte %d of %d", at, end)
			}
			p := e.pairs[i]
			base, end = end, end+int64(p.size)
			to = new[p.dst:][:p.size]
		}
		to[at-base] += diff
		next = at + 1
		if n%poll == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if n := len(skips) + len(diffs); n > 0 {
		return e.misfit("%d bytes of differences that are none", n)
	}
	return nil
}

// fixer puts the references of an element right.
type fixer struct {
	e       *element
	mapper  *mapper
	refs    [][]exe.Ref // of the old file
	new     []byte
	image   *exe.Image
	at      *exe.Reader // of the new file
	deltas  []byte      // of references to come
	lenient bool
}

// extra reads the targets of a pool that no old target leads to.
func (e *element) extra(pool uint8, lenient bool) ([]uint32, error) {
	b := e.pools[pool]
	var out []uint32
	next := int64(0)
	for len(b) > 0 {
		skip, ok := uvarint(&b)
		if !ok {
			break
		}
		target := next + int64(skip)
		if target >= math.MaxUint32 {
			if len(b) == 0 && !lenient {
				return nil, e.looseEnd("the last extra target of pool %d is behind 4 GiB", pool)
			}
			break
		}
		out = append(out, uint32(target))
		next = target + 1
	}
	if len(b) > 0 {
		return nil, e.misfit("%d bytes of extra targets of pool %d that are none", len(b), pool)
	}
	return out, nil
}

// pool puts the references of one pool right.
func (f *fixer) pool(ctx context.Context, pool uint8, groups []exe.Group) error {
	extra, err := f.e.extra(pool, f.lenient)
	if err != nil {
		return err
	}
	var lists [][]exe.Ref
	for _, g := range groups {
		if g.Pool == pool {
			lists = append(lists, f.refs[g.Type])
		}
	}
	olds := newTargetSet(f.e.oldN, lists...)
	targets := union(f.mapper.project(olds), extra)
	near := f.mapper.keys(olds, targets)
	addresses := make([]uint32, len(targets))
	for i, t := range targets {
		addresses[i] = f.at.Address(t)
	}
	for _, g := range groups {
		if g.Pool == pool {
			if err := f.fix(ctx, g, olds, near, addresses); err != nil {
				return err
			}
		}
	}
	return nil
}

// fix puts the references of one type right, in the order of the equivalences that they are in.
func (f *fixer) fix(ctx context.Context, g exe.Group, olds *targetSet, near, addresses []uint32) error {
	refs := f.refs[g.Type]
	width := uint32(g.Width)
	whole := uint32(0) // a body that does not end in the equivalence does not count
	if g.Width == 2 && f.image.Kind() <= exe.PE64 {
		whole = 1
	}
	done := 0
	for q, p := range f.e.pairs {
		if g.Type == 1 {
			for _, edge := range [...]uint32{p.src, p.src + p.size} {
				if i := firstAt(refs, edge) - 1; i >= 0 && refs[i].At+width > edge {
					return f.e.crash("an edge of equivalence %d is inside the pointer at old byte %d", q, refs[i].At)
				}
			}
		}
		for i := firstAt(refs, p.src); i < len(refs) && refs[i].At+whole < p.src+p.size; i++ {
			delta, ok := varint(&f.deltas)
			if !ok {
				return f.e.misfit("reference deltas end before the reference at old byte %d", refs[i].At)
			}
			key := near[olds.rank(refs[i].Target)] + uint32(delta)
			if key >= uint32(len(addresses)) {
				return f.e.misfit("key %d of %d targets for the reference at old byte %d", int32(key), len(addresses), refs[i].At)
			}
			at := refs[i].At - p.src + p.dst
			if uint64(at)+uint64(width) > uint64(len(f.new)) {
				return f.e.crash("the reference at old byte %d would be written over the end of the element", refs[i].At)
			}
			f.at.PutAddress(f.new, g.Type, at, addresses[key])
			if done++; done%(poll/16) == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

// firstAt returns the index of the first reference at a place or behind it.
func firstAt(refs []exe.Ref, at uint32) int {
	i, _ := slices.BinarySearchFunc(refs, at, func(r exe.Ref, at uint32) int { return int(int64(r.At) - int64(at)) })
	return i
}

package zucchini

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/match"
	"github.com/senbonzakura/senbonzakura/internal/progress"
)

// Options for [New]. The zero value makes the smallest patch that Mozilla's updater applies.
type Options struct {
	// Plain takes every file as bytes, also executables: patches of those are made faster, and larger.
	Plain bool
	// Workers is how many goroutines look for matches, zero means one for each CPU. The patch is the same
	// for any number.
	Workers int
	// Progress, if not nil, is told from time to time how many units of work of how many are done, in
	// rising order, from one goroutine at a time. It must return quickly.
	Progress func(done, total int64)
}

// Differ makes patches. It is safe for concurrent use.
type Differ struct {
	o Options
}

// New returns a Differ with the given options.
func New(o Options) *Differ {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return &Differ{o: o}
}

// Format names the format of the patches: "zucchini".
func (d *Differ) Format() string { return "zucchini" }

// generatorVersion names how patches are made of what package match finds. It changes whenever that makes other patches.
const generatorVersion = "2"

// ID names everything that decides which bytes [Differ.Diff] writes: two Differs of the same ID, also of
// different versions of this package, make the same patch of the same files.
func (d *Differ) ID() string {
	id := "zucchini/2.0/" + generatorVersion + "-" + match.Version
	if d.o.Plain {
		id += "/plain"
	}
	return id
}

// Diff writes a patch that turns old into new. The patch is not compressed. It is applied, as [Apply] does, and
// the result compared with new before the first byte of it is written: what Diff writes is no patch that the
// updater refuses or crashes on. After an error what was written is worthless.
//
// Empty files are refused with [ErrEmpty], and files of 2 GiB and more with [ErrTooLarge]: the format cannot express
// them. Diff returns soon after ctx ends.
func (d *Differ) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	switch {
	case len(old) == 0 || len(new) == 0:
		return fmt.Errorf("zucchini: old file of %d bytes and new file of %d bytes: %w", len(old), len(new), ErrEmpty)
	case len(old) >= maxSize || len(new) >= maxSize:
		return fmt.Errorf("zucchini: old file of %d bytes and new file of %d bytes: %w (the limit is %d)", len(old), len(new), ErrTooLarge, maxSize-1)
	}
	elements := d.plan(old, new)
	buf := make([]byte, max(len(old), len(new)))
	report := progress.To(patch, d.o.Progress)
	size := int64(headerSize)
	for i, e := range elements {
		e.index = i
		if err := d.make(ctx, e, old, new, buf, report); err != nil {
			return err
		}
		size += e.length()
	}
	if size >= maxSize {
		return fmt.Errorf("zucchini: patch of %d bytes: %w", size, ErrTooLarge)
	}
	h := Header{
		Major: major, Minor: minor, OldSize: uint32(len(old)), OldCRC: crc32.ChecksumIEEE(old),
		NewSize: uint32(len(new)), NewCRC: crc32.ChecksumIEEE(new), Elements: uint32(len(elements)),
	}
	write := func(b []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := patch.Write(b); err != nil {
			return fmt.Errorf("zucchini: write patch: %w", err)
		}
		return nil
	}
	if err := write(h.append(nil)); err != nil {
		return err
	}
	for _, e := range elements {
		if err := e.pieces(write); err != nil {
			return err
		}
	}
	return nil
}

// PeakMemory returns how many bytes of memory [Differ.Diff] needs at most for files of the given sizes, beyond the files
// themselves.
func (d *Differ) PeakMemory(oldSize, newSize int64) int64 {
	const buffers, perWorker = 2 << 20, 3 << 20
	// One of the files with names in place of references, then the patched one; parts of the other.
	n := max(oldSize, newSize) + buffers + perWorker*int64(d.o.Workers)
	searching, writing := match.PeakMemory(oldSize, newSize)+newSize/16, 2*newSize
	if !d.o.Plain {
		// References of both files and their names; references of one, what is wanted of them, and tables of targets.
		olds, news := references(oldSize), references(newSize)
		searching += refBytes*(olds+news) + nameBytes*news
		writing += refBytes*2*olds + 5*nameBytes*olds + (oldSize+newSize)/4
	}
	if newSize <= smallNew { // several patches are compressed to find the smallest
		writing += 2*newSize + 14*min(4*newSize, tryDict) + 4<<20
	}
	return n + max(searching, writing)
}

// What references are kept in.
const (
	refBytes  = 8 // exe.Ref
	nameBytes = 4
)

// references returns how many references an executable in a file of n bytes has at most.
func references(n int64) int64 { return min(n/4, int64(mostReferences(int(n)))) }

// planned is an element that is to be made.
type planned struct {
	*element
	a, b    *exe.Image // of an executable
	literal bool       // not worth looking for anything in the old file
}

// make makes the element and applies it. buf is of the size of the larger file.
func (d *Differ) make(ctx context.Context, e *planned, old, new, buf []byte, report func(done, total int64)) error {
	oldPart, newPart := old[e.oldAt:][:e.oldN:e.oldN], new[e.newAt:][:e.newN:e.newN]
	var progress func(done, total int64)
	if report != nil {
		// Matching counts for nearly all of the work.
		progress = func(done, total int64) {
			part := int64(float64(done) / float64(max(total, 1)) * float64(e.newN))
			report(int64(e.newAt)+part, int64(len(new)))
		}
	}
	g := &generation{e: e.element, old: oldPart, new: newPart, workers: d.o.Workers, progress: progress, a: e.a, b: e.b, buf: buf}
	var err error
	switch {
	case e.literal:
		err = g.emit(ctx, nil)
	case g.a != nil:
		if err = g.executable(ctx); !errors.Is(err, errUnsuitable) {
			break
		}
		e.plain, g.a, g.b = true, nil, nil
		err = g.plain(ctx)
	default:
		err = g.plain(ctx)
	}
	if err != nil {
		return err
	}
	e.element = g.e
	defer func() { e.pairs = nil }() // they stand in the lists
	made := buf[:len(newPart)]
	if err := e.apply(ctx, oldPart, made, false); err != nil {
		return fmt.Errorf("zucchini: check of the patch: %w", err)
	}
	if !bytes.Equal(made, newPart) {
		return fmt.Errorf("zucchini: check of the patch: element %d makes something else", e.index)
	}
	if progress != nil {
		progress(1, 1)
	}
	return nil
}

// smallOld is the size of old files that are searched as a whole for whatever is not in an executable.
const smallOld = 8 << 20

// plan divides the new file into elements.
func (d *Differ) plan(old, new []byte) []*planned {
	var out []*planned
	at, oldAt := uint32(0), uint32(0)
	newN, oldN := uint32(len(new)), uint32(len(old))
	add := func(e planned, oldAt, oldN, newAt, newN uint32) {
		e.element = &element{oldAt: oldAt, oldN: oldN, newAt: newAt, newN: newN, plain: e.a == nil}
		if e.a != nil {
			e.kind = e.a.Kind()
		}
		out = append(out, &e)
	}
	// gap adds what is before the executable that begins at to; in the old file that begins at oldTo.
	gap := func(to, oldTo uint32) {
		n := to - at
		switch {
		case n == 0:
		case oldN <= smallOld || n >= oldN/8:
			add(planned{}, 0, oldN, at, n)
		case oldTo > oldAt:
			add(planned{}, oldAt, oldTo-oldAt, at, n)
		default:
			add(planned{literal: true}, 0, oldN, at, n)
		}
	}
	if !d.o.Plain {
		for _, p := range couples(old, new) {
			gap(p.new.at, p.old.at)
			e := planned{a: p.old.image, b: p.new.image}
			oldSize, newSize := uint32(e.a.Size()), uint32(e.b.Size())
			if bytes.Equal(old[p.old.at:p.old.end()], new[p.new.at:p.new.end()]) {
				e = planned{}
			}
			add(e, p.old.at, oldSize, p.new.at, newSize)
			at, oldAt = p.new.end(), p.old.end()
		}
	}
	gap(newN, oldN)
	return out
}

// couple is an executable of each file.
type couple struct{ old, new found }

// couples returns the executables of the new file, in order, for each of which there is one of the same kind in the old
// one, with the most similar of those.
func couples(old, new []byte) []couple {
	b := findAll(new)
	if len(b) == 0 {
		return nil
	}
	a := findAll(old)
	count := func(list []found, k exe.Kind) (n int) {
		for _, f := range list {
			if f.image.Kind() == k {
				n++
			}
		}
		return n
	}
	var out []couple
	sketches := make([][]uint64, len(a))
	for _, n := range b {
		k := n.image.Kind()
		sole := count(a, k) == 1 && count(b, k) == 1
		var sketched []uint64
		if !sole {
			sketched = sketch(new[n.at:n.end()])
		}
		best, most := -1, 0
		for i, o := range a {
			if o.image.Kind() != k {
				continue
			}
			if sole {
				best = i
				break
			}
			if sketches[i] == nil {
				sketches[i] = sketch(old[o.at:o.end()])
			}
			if s := similarity(sketches[i], sketched); s > most {
				best, most = i, s
			}
		}
		if best >= 0 {
			out = append(out, couple{a[best], n})
		}
	}
	return out
}

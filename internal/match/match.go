// Package match finds, for every part of a new file, the part of the old file it is best made from.
//
// The result is the control block of a patch in MBDIFF10 or BSDIFF40 form: a list of steps, each of
// which adds differences to old bytes, copies new ones, and moves in the old file. What the steps
// cost is what is left of the differences, the copied bytes and the steps themselves after
// compression with xz, and that is what Default keeps low: not the number of bytes that differ.
package match

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Version names the way Default chooses. It changes whenever Default returns other steps than
// before for any input.
const Version = "10"

// ErrTooLarge is returned for files that steps of 32 bits cannot describe.
var ErrTooLarge = errors.New("file of 2 GiB or more")

// Triple is one step of making the new file: Add bytes are the old ones at the current position
// plus a difference each, then Copy bytes are new, then the position in the old file, which has
// advanced by Add, moves by Seek.
type Triple struct {
	Add, Copy, Seek int32
}

// Options for [Default] and [Guided].
type Options struct {
	// Workers is the number of goroutines that search at the same time; zero means GOMAXPROCS.
	Workers int
	// SwitchBits is what it costs to go on elsewhere in the old file, in bits after compression; zero means what it costs in
	// MBDIFF10. It changes the steps, which the others do not.
	SwitchBits int
	// LiteralScale is what part of its entropy, in 64ths, a byte costs that is not from the old file; zero means what it
	// costs in most files. It changes the steps, too.
	LiteralScale int
	// Progress, if not nil, is told how many of the new file's bytes are done. It is called from
	// several goroutines, one at a time, with rising numbers.
	Progress func(done, total int64)
}

// chunkLen is the size of the parts of the new file that are searched independently of each other.
// It is a constant so that the result does not depend on the number of workers.
const chunkLen = 1 << 21

// Default returns steps that make new from old. They are valid for every reader of MBDIFF10: at no
// point, nor at the end, is the position outside of the old file. The same files give the same
// steps, whatever the options and the machine. The time it takes is proportional to the sizes, whatever
// the content. When ctx ends Default returns its error within some milliseconds.
//
// Default keeps neither old nor new, and does not change them. It is safe for concurrent use.
func Default(ctx context.Context, old, new []byte, o Options) ([]Triple, error) {
	if int64(len(old)) > math.MaxInt32 || int64(len(new)) > math.MaxInt32 {
		return nil, fmt.Errorf("match %d with %d bytes: %w", len(new), len(old), ErrTooLarge)
	}
	segments, err := search(ctx, old, Whole(new), &scratch{}, o, func(ctx context.Context, workers int) (*Structure, error) {
		return NewStructure(ctx, old, new, workers)
	})
	if err != nil {
		return nil, err
	}
	return makeSteps(segments, len(new)), nil
}

// View is a file that does not exist as a whole.
type View struct {
	// Size is how many bytes the file has.
	Size int
	// Read fills b with the bytes from at on. It is called from several goroutines, with any part of the file, several
	// times, and must give the same bytes each time. The first and last few of a part may be right only as far as they do
	// not stand for something that reaches out of it: nobody looks at [ViewEdge] bytes.
	Read func(b []byte, at int)

	file []byte // in place of Read
}

// ViewEdge is how many bytes at each end of what is read of a [View] are not looked at, unless the file ends there.
const ViewEdge = 8

// How many bytes before and behind a chunk decide what becomes of it.
const (
	before = 16
	behind = maxLook
)

// Whole is the view of a file that is there.
func Whole(file []byte) View { return View{Size: len(file), file: file} }

// window returns what decides about the bytes in [from, to), and the position of its first byte. It uses the array of buf
// where it has to.
func (v *View) window(buf *[]byte, from, to int) (data []byte, base int) {
	if v.Read == nil {
		return v.file, 0
	}
	base, end := max(0, from-before), min(v.Size, to+behind)
	first, last := max(0, base-ViewEdge), min(v.Size, end+ViewEdge)
	if cap(*buf) < last-first {
		*buf = make([]byte, min(v.Size, chunkLen+before+behind+2*ViewEdge))
	}
	b := (*buf)[:last-first]
	v.Read(b, first)
	return b[base-first : end-first], base
}

// A Guide looks for what one file has in common with another, several times. It keeps the memory that this takes for
// the next time. The zero value is ready. Not safe for concurrent use.
type Guide struct{ scratch scratch }

// Steps is [Default] for files that are not what they were made from: views of two files, of the same sizes, in which
// some bytes stand for something else. s is the [Structure] of the files themselves; nil is none.
func (g *Guide) Steps(ctx context.Context, old []byte, new View, s *Structure, o Options) ([]Triple, error) {
	if int64(len(old)) > math.MaxInt32 || int64(new.Size) > math.MaxInt32 {
		return nil, fmt.Errorf("match %d with %d bytes: %w", new.Size, len(old), ErrTooLarge)
	}
	segments, err := search(ctx, old, new, &g.scratch, o, func(context.Context, int) (*Structure, error) { return s, nil })
	if err != nil {
		return nil, err
	}
	return makeSteps(segments, new.Size), nil
}

// PeakMemory returns how many bytes Default uses at most beside the two files, given their sizes.
// It is what is in use at the same time; what the garbage collector has not yet taken comes on top.
func PeakMemory(oldSize, newSize int64) int64 {
	stride, hashBits := indexShape(oldSize)
	index := oldSize/int64(stride)*4 + 4<<hashBits
	words := 2 * (oldSize/numericShare*4 + 4<<numericBits(oldSize))
	const perWorker = 1 << 20
	return index + words + newSize/64 + 2*perWorker
}

// search returns the segments of new; structure says what is known of the files, when there is memory for that again.
func search(ctx context.Context, old []byte, new View, memory *scratch, o Options, structure func(ctx context.Context, workers int) (*Structure, error)) ([]segment, error) {
	n := new.Size
	p := &pool{workers: o.Workers, chunks: (n + chunkLen - 1) / chunkLen}
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
	}
	x, words, err := indexes(ctx, old, p.workers, memory)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		total := int64(n)
		p.done = func(part, whole int) { o.Progress(total*int64(part)/int64(whole), total) }
	}
	p.whole = (1 + passes) * p.chunks

	anchors := make([][]anchor, p.chunks)
	var mu sync.Mutex
	var seen *stats
	err = p.run(ctx, func(ctx context.Context, chunks func() (int, bool)) error {
		s := &scanner{index: x, words: words, dense: n <= denseNew, stats: newStats(n, true)}
		var buf []byte
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			seen = seen.add(s.stats)
		}()
		for c, ok := chunks(); ok; c, ok = chunks() {
			from, to := c*chunkLen, min(n, (c+1)*chunkLen)
			s.new, s.base = new.window(&buf, from, to)
			a, err := s.scan(ctx, from-s.base, to-s.base)
			if err != nil {
				return err
			}
			anchors[c] = shifted(a, s.base)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x, words = nil, [2]*numeric{}
	var known Structure
	if s, err := structure(ctx, p.workers); err != nil {
		return nil, err
	} else if s != nil {
		known = *s
	}

	// The second parse knows what differences the first one left.
	results := make([][]segment, p.chunks)
	var m *model
	for pass := range passes {
		if seen == nil { // there is nothing to see
			seen = newStats(n, pass == 0)
		}
		m, seen = newModel(seen, m, o.LiteralScale), nil
		err = p.run(ctx, func(ctx context.Context, chunks func() (int, bool)) error {
			s := &parser{old: old, model: m, costSwitch: costSwitch, costResume: costResume}
			var buf []byte
			if o.SwitchBits > 0 {
				s.costSwitch = int32(o.SwitchBits) * costUnit
				s.costResume = s.costSwitch - (costSwitch - costResume)
			}
			var learned *stats
			if pass+1 < passes {
				learned = newStats(n, false)
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					seen = seen.add(learned)
				}()
			}
			for c, ok := chunks(); ok; c, ok = chunks() {
				from, to := c*chunkLen, min(n, (c+1)*chunkLen)
				s.new, s.base = new.window(&buf, from, to)
				list := shifted(merge(anchors[c], within(known.anchors, from, to)), -s.base)
				r, err := s.parse(ctx, list, known.fixed, from-s.base, to-s.base)
				if err != nil {
					return err
				}
				if learned != nil {
					s.learn(r, to-s.base, learned)
				}
				for i := range r {
					r[i].start += int32(s.base)
					if r[i].offset != literal {
						r[i].offset -= int32(s.base)
					}
				}
				results[c] = r
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var all []segment
	for _, r := range results {
		for _, s := range r {
			if n := len(all); n > 0 && all[n-1].offset == s.offset {
				continue
			}
			all = append(all, s)
		}
	}
	return joined(all, old, n), nil
}

// joined makes one of segments that follow each other where the old bytes of both are the same with either's alignment, as in
// runs and tables. n is the size of the new file.
func joined(all []segment, old []byte, n int) []segment {
	// same reports whether the old bytes for a stretch are the same with two alignments.
	same := func(from, to, a, b int32) bool {
		if a == literal || b == literal || from+min(a, b) < 0 || int64(to)+int64(max(a, b)) > int64(len(old)) {
			return false
		}
		return bytes.Equal(old[from+a:to+a], old[from+b:to+b])
	}
	out := all[:0]
	for i, s := range all {
		end := int32(n)
		if i+1 < len(all) {
			end = all[i+1].start
		}
		k := len(out) - 1
		if k >= 0 && same(s.start, end, s.offset, out[k].offset) {
			continue
		}
		for ; k >= 0 && s.start-out[k].start <= joinedBack && same(out[k].start, s.start, s.offset, out[k].offset); k-- {
			s.start = out[k].start
		}
		out = out[:k+1]
		if k < 0 || out[k].offset != s.offset {
			out = append(out, s)
		}
	}
	return out
}

// indexes makes the indexes of the old file, several at a time.
func indexes(ctx context.Context, old []byte, workers int, memory *scratch) (x *index, words [2]*numeric, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	g.Go(func() (err error) {
		x, err = newIndex(ctx, old, memory)
		return err
	})
	for i := range words {
		g.Go(func() (err error) {
			words[i], err = newNumeric(ctx, old, 4+4*i)
			return err
		})
	}
	err = g.Wait()
	return x, words, err
}

// shifted moves anchors, which it changes, by so many bytes of the new file.
func shifted(list []anchor, by int) []anchor {
	if by != 0 {
		for i := range list {
			list[i].at += int32(by)
			list[i].offset -= int32(by)
		}
	}
	return list
}

// within returns the anchors in [from, to) of a sorted list.
func within(list []anchor, from, to int) []anchor {
	at := func(p int) int {
		i, _ := slices.BinarySearchFunc(list, p, func(a anchor, p int) int { return cmp.Compare(int(a.at), p) })
		return i
	}
	return list[at(from):at(to)]
}

// merge returns the anchors of both lists in order of their positions.
func merge(a, b []anchor) []anchor {
	out := slices.Concat(a, b)
	slices.SortStableFunc(out, func(x, y anchor) int { return cmp.Compare(x.at, y.at) })
	return out
}

// pool runs work on chunks in several goroutines.
type pool struct {
	workers, chunks int
	done            func(part, whole int) // may be nil
	mu              sync.Mutex
	part, whole     int // guarded by mu
}

// run calls work in each worker; what it passes tells the next chunk, until there is none.
func (p *pool) run(ctx context.Context, work func(ctx context.Context, chunks func() (int, bool)) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(p.workers, p.chunks) {
		g.Go(func() error {
			busy := false
			return work(ctx, func() (int, bool) {
				if busy {
					p.finished()
				}
				busy = true
				c := int(next.Add(1)) - 1
				return c, c < p.chunks
			})
		})
	}
	return g.Wait()
}

func (p *pool) finished() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part++
	if p.done != nil {
		p.done(p.part, p.whole)
	}
}

// literal is the offset of a segment whose bytes are not made from old ones.
const literal = math.MinInt32

// segment is a part of the new file, up to the next segment's start, made from the old bytes at its
// own position plus offset.
type segment struct {
	start  int32
	offset int32
}

// makeSteps turns segments, which cover a new file of n bytes without a gap, into triples.
func makeSteps(segments []segment, n int) []Triple {
	var out []Triple
	var cur Triple
	pos := int32(0) // in the old file, after cur.Add
	for i, s := range segments {
		end := int32(n)
		if i+1 < len(segments) {
			end = segments[i+1].start
		}
		length := end - s.start
		if s.offset == literal {
			cur.Copy += length
			continue
		}
		at := s.start + s.offset
		if cur != (Triple{}) || at != pos {
			cur.Seek = at - pos
			out = append(out, cur)
		}
		cur = Triple{Add: length}
		pos = at + length
	}
	if cur != (Triple{}) {
		out = append(out, cur)
	}
	return out
}

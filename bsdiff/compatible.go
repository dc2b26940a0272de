package bsdiff

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/internal/match"
)

// scoring is what differs between the programs that scan in bsdiff's way.
type scoring struct {
	margin     int   // a new place must be better than the current one by more than this many bytes
	gain, loss int64 // of an equal byte, and of every byte, when a match is extended
}

var (
	scoringMB = scoring{margin: 10, gain: 3, loss: 2} // mbsdiff
	scoringBS = scoring{margin: 8, gain: 2, loss: 1}  // bsdiff 4.3
)

// scanChunk is how much of the new file one worker looks at on its own.
const scanChunk = 32 << 10

// hit is the answer to one search: at which place of the old file, and for how many bytes, it is like the
// new file at j.
type hit struct{ j, length, pos int32 }

// chunk is what a worker found in one part of the new file.
type chunk struct {
	start, end int
	hits       []hit
	done       chan struct{} // told when hits are there
}

// scanner walks over the new file as mbsdiff does.
type scanner struct {
	ctx     context.Context //nolint:containedctx // a scanner lives as long as one call
	scoring scoring
	ix      *index
	new     []byte
	own     *finder
	chunks  chan *chunk
	spare   chan *chunk  // used ones
	passed  atomic.Int64 // nothing before this place of the new file will be asked for
	current *chunk
	ready   bool // current.hits are there
	next    int  // first hit of current that was not yet passed
	steps   int
}

// compatible returns the steps that mbsdiff, or bsdiff 4.3, would take to make new from old.
func compatible(ctx context.Context, old, new []byte, sc scoring, o match.Options) ([]Triple, error) {
	ix, err := newIndex(ctx, old, new)
	if err != nil {
		return nil, err
	}
	progress := o.Progress
	if progress == nil {
		progress = func(_, _ int64) {}
	}
	s := &scanner{ctx: ctx, scoring: sc, ix: ix, new: new, own: newFinder(ix)}
	if o.Workers < 2 || len(new) <= scanChunk {
		return s.scan(progress)
	}
	// Workers run ahead of the scan, each on its own part, and do the searches that it will probably ask
	// for. What they find does not depend on when or where it is looked for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	s.ctx = ctx
	s.chunks = make(chan *chunk, 2*o.Workers)
	s.spare = make(chan *chunk, 2*o.Workers)
	jobs := make(chan *chunk)
	g.Go(func() error {
		defer close(jobs)
		defer close(s.chunks)
		for start := 0; start < len(new); start += scanChunk {
			var c *chunk
			select {
			case c = <-s.spare:
				c.hits = c.hits[:0]
			default:
				c = &chunk{done: make(chan struct{}, 1), hits: make([]hit, 0, scanChunk)}
			}
			c.start, c.end = start, min(start+scanChunk, len(new))
			select {
			case s.chunks <- c:
			case <-ctx.Done():
				return nil
			}
			select {
			case jobs <- c:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	for range o.Workers {
		g.Go(func() error {
			f := newFinder(ix)
			for c := range jobs {
				if err := f.explore(ctx, sc, c, &s.passed); err != nil {
					return err
				}
				c.done <- struct{}{}
			}
			return nil
		})
	}
	triples, err := s.scan(progress)
	cancel()
	if werr := g.Wait(); err == nil && werr != nil && !isCancel(werr) {
		err = werr
	}
	return triples, err
}

// explore does the searches that a scan over the chunk would do if it started there, or at a later place that
// is known already.
func (f *finder) explore(ctx context.Context, sc scoring, c *chunk, passed *atomic.Int64) error {
	old, new := f.ix.old, f.ix.new
	n := len(old)
	oldscore := 0
	offset, known := 0, false
	counted := max(c.start, int(passed.Load()))
	for scan := counted; scan < c.end; {
		if len(c.hits)&0xFF == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if passed.Load() >= int64(c.end) {
				return nil
			}
		}
		l, p, err := f.search(ctx, scan)
		if err != nil {
			return err
		}
		length := int(l)
		c.hits = append(c.hits, hit{int32(scan), l, p})
		if known {
			if end := min(scan+length, n-offset); counted < end {
				oldscore += equalBytes(old[counted+offset:end+offset], new[counted:end])
			}
		}
		counted = max(counted, scan+length)
		if length == oldscore && length != 0 || length > oldscore+sc.margin {
			if length != oldscore {
				offset, known = int(p)-scan, true
			}
			scan += length
			counted, oldscore = scan, 0
			continue
		}
		if known && scan+offset < n && old[scan+offset] == new[scan] {
			oldscore--
		}
		scan++
	}
	return nil
}

// search returns the place in the old file that mbsdiff's search gives for the new file at j. The scan asks
// for rising j only.
func (s *scanner) search(j int) (length, pos int, err error) {
	s.steps++
	if s.steps&0xFF == 0 {
		if err := s.ctx.Err(); err != nil {
			return 0, 0, err
		}
	}
	for s.chunks != nil && (s.current == nil || s.current.end <= j) {
		if s.ready {
			select {
			case s.spare <- s.current:
			default:
			}
		}
		s.next, s.ready = 0, false
		select {
		case s.current = <-s.chunks:
			if s.current == nil {
				s.chunks = nil
			}
		case <-s.ctx.Done():
			return 0, 0, s.ctx.Err()
		}
	}
	if c := s.current; c != nil && c.start <= j && j < c.end {
		if !s.ready {
			select {
			case <-c.done:
				s.ready = true
			case <-s.ctx.Done():
				return 0, 0, s.ctx.Err()
			}
		}
		for s.next < len(c.hits) && int(c.hits[s.next].j) < j {
			s.next++
		}
		if s.next < len(c.hits) && int(c.hits[s.next].j) == j {
			h := c.hits[s.next]
			return int(h.length), int(h.pos), nil
		}
	}
	l, p, err := s.own.search(s.ctx, j)
	return int(l), int(p), err
}

// scan is the main loop of mbsdiff.
func (s *scanner) scan(progress func(done, total int64)) ([]Triple, error) {
	old, new := s.ix.old, s.new
	n, m := len(old), len(new)
	var triples []Triple
	var scan, length, pos, lastScan, lastPos, lastOffset int
	reported := 0
	for scan < m {
		oldscore := 0
		scan += length
		s.passed.Store(int64(scan))
		counted := scan
		for ; scan < m; scan++ {
			var err error
			if length, pos, err = s.search(scan); err != nil {
				return nil, err
			}
			// Bytes of this match that are right without it, at the current place.
			if end := min(scan+length, n-lastOffset); counted < end {
				oldscore += equalBytes(old[counted+lastOffset:end+lastOffset], new[counted:end])
			}
			counted = max(counted, scan+length)
			if length == oldscore && length != 0 || length > oldscore+s.scoring.margin {
				break
			}
			if scan+lastOffset < n && old[scan+lastOffset] == new[scan] {
				oldscore--
			}
		}
		if scan-reported >= 1<<18 {
			reported = scan
			progress(int64(scan), int64(m))
		}
		if length == oldscore && scan != m {
			continue
		}
		forward := s.scoring.forward(old[lastPos:], new[lastScan:scan])
		backward := 0
		if scan < m {
			backward = s.scoring.backward(old[:pos], new[lastScan:scan])
		}
		if overlap := lastScan + forward - (scan - backward); overlap > 0 {
			at := scan - backward
			keep := split(old[lastPos+at-lastScan:][:overlap], old[pos-backward:][:overlap], new[at:at+overlap])
			forward += keep - overlap
			backward -= keep
		}
		triples = append(triples, Triple{
			Add:  int32(forward),
			Copy: int32(scan - backward - (lastScan + forward)),
			Seek: int32(pos - backward - (lastPos + forward)),
		})
		lastScan, lastPos, lastOffset = scan-backward, pos-backward, pos-scan
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
	}
	progress(int64(m), int64(m))
	return triples, nil
}

// forward returns how far the current place in old is worth following: the shortest prefix of the highest
// score.
func (sc scoring) forward(old, new []byte) int {
	n := min(len(old), len(new))
	var score, best int64
	length := 0
	for i := 0; i < n; {
		if i+8 <= n {
			d := differing(binary.LittleEndian.Uint64(old[i:]), binary.LittleEndian.Uint64(new[i:]))
			if d == 0 {
				i += 8
				if score += 8 * (sc.gain - sc.loss); score > best {
					best, length = score, i
				}
				continue
			}
		}
		score -= sc.loss
		if old[i] == new[i] {
			score += sc.gain
		}
		i++
		if score > best {
			best, length = score, i
		}
	}
	return length
}

// backward returns how far the bytes before a match are worth taking from before it.
func (sc scoring) backward(old, new []byte) int {
	n := min(len(old), len(new))
	old, new = old[len(old)-n:], new[len(new)-n:]
	var score, best int64
	length := 0
	for i := 0; i < n; {
		if i+8 <= n {
			d := differing(binary.LittleEndian.Uint64(old[n-i-8:]), binary.LittleEndian.Uint64(new[n-i-8:]))
			if d == 0 {
				i += 8
				if score += 8 * (sc.gain - sc.loss); score > best {
					best, length = score, i
				}
				continue
			}
		}
		i++
		score -= sc.loss
		if old[n-i] == new[n-i] {
			score += sc.gain
		}
		if score > best {
			best, length = score, i
		}
	}
	return length
}

// split returns how many bytes of new the first place serves better than the second.
func split(first, second, new []byte) int {
	score, best, length := 0, 0, 0
	for i := 0; i < len(new); {
		if i+8 <= len(new) && binary.LittleEndian.Uint64(first[i:]) == binary.LittleEndian.Uint64(second[i:]) {
			i += 8
			continue
		}
		if first[i] == new[i] {
			score++
		}
		if second[i] == new[i] {
			score--
		}
		i++
		if score > best {
			best, length = score, i
		}
	}
	return length
}

func isCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

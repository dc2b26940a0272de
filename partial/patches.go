package partial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/internal/progress"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

// A patcher makes the patches: the second phase of a build.
type patcher struct {
	*pair
	caches     *caches
	noVerify   bool
	strategies []strategy
	total      *progress.Counter
}

// make works on all groups.
func (p *patcher) make(ctx context.Context, groups []*group) error {
	var total int64
	jobs := make([]job, 0, len(groups))
	for _, g := range groups {
		s := g.steps[0]
		oldSize, err := s.from.ContentSize(p.lim)
		if err != nil {
			return &InputError{"FROM", err}
		}
		newSize, err := s.to.ContentSize(p.lim)
		if err != nil {
			return &InputError{"TO", err}
		}
		// behind the search: the encoder, then the patched file and a decoder
		packing := max(peakMemory(p.recipe.Compression.Patches, Content{Kind: ContentPatch, Size: newSize}), newSize+16<<20)
		work := max(s.from.Size, s.to.Size, packing)
		for _, s := range p.strategies {
			work = max(work, s.memory(oldSize, newSize))
		}
		total += newSize
		jobs = append(jobs, job{memory: oldSize + newSize + work, order: oldSize + newSize, run: func(ctx context.Context, r *reservation) error {
			told := int64(0)
			err := p.makePatch(ctx, g, watch{
				chosen: func(most int64) { r.keep(oldSize + newSize + max(most, s.from.Size, s.to.Size, packing)) },
				matched: func(last strategy) {
					p.memory.collect(min(last.memory(oldSize, newSize), 16*oldSize))
					r.keep(oldSize + newSize + packing + last.buffer(newSize))
				},
				tell: func(done, all int64) {
					// proving takes a share as well
					if now := int64(0.9 * float64(newSize) * float64(done) / float64(max(all, 1))); now > told {
						p.total.Add(s.name, now-told)
						told = now
					}
				},
			})
			p.memory.collect(oldSize + 2*newSize)
			p.total.Add(s.name, newSize-told)
			return err
		}})
	}
	p.total = newCounter(StepDiffing, p.progress).Start(total)
	return runJobs(ctx, p.workers, p.memory, jobs)
}

// makePatch decides about one group.
func (p *patcher) makePatch(ctx context.Context, g *group, w watch) error {
	start := time.Now()
	res, err := p.decide(ctx, g, w)
	if err != nil {
		return fmt.Errorf("%q: %w", g.steps[0].name, err)
	}
	seconds := time.Since(start).Seconds()
	for i, s := range g.steps {
		s.report.Cached, s.report.Candidates = res.cached, res.candidates
		s.report.OldSize, s.report.NewSize = res.oldSize, res.newSize
		if i == 0 {
			s.report.Seconds = seconds
		}
		switch {
		case res.equal:
			s.equal, s.action, s.why = true, ActionSame, "same content, compressed in another way"
		case res.patch != nil:
			s.action, s.patch, s.verified, s.report.Format = ActionPatch, res.patch, res.verified, res.format
			s.why = fmt.Sprintf("the patch is smaller: %d bytes instead of %d", len(res.patch), s.whole.Size)
			if len(res.candidates) > 0 {
				s.why = fmt.Sprintf("the %s patch is the smallest: %d bytes instead of %d", res.strategy, len(res.patch), s.whole.Size)
			}
		default:
			s.why = fmt.Sprintf("no patch is smaller than the whole file's %d bytes", s.whole.Size)
		}
	}
	return nil
}

type decision struct {
	equal            bool
	patch            []byte // nil: the whole file
	format, strategy string // of the patch
	candidates       []Candidate
	verified         bool
	cached           bool
	oldSize, newSize int64
}

// decide finds the patch of a group, in the cache or by making it.
func (p *patcher) decide(ctx context.Context, g *group, w watch) (decision, error) {
	s := g.steps[0]
	c := &contest{patcher: p, step: s, limit: s.whole.Size, patches: make([]entry, len(p.strategies))}
	if p.caches.patches != nil {
		was, ok1 := p.caches.digest(ctx, s.names[0])
		is, ok2 := p.caches.digest(ctx, s.names[1])
		if ok1 && ok2 {
			res := decision{oldSize: was.Size, newSize: is.Size, verified: true, cached: true}
			if was == is {
				res.equal = true
				return res, nil
			}
			c.key = PatchKey{Old: was.SHA256, New: is.SHA256}
			if c.cached = is.Size >= p.caches.minimum; c.ask(ctx) {
				c.decide(&res)
				return res, nil
			}
		}
	}
	old, new, err := p.contents(ctx, s)
	if err != nil {
		return decision{}, err
	}
	p.memory.collect(s.from.Size + s.to.Size) // the compressed bytes
	res := decision{oldSize: int64(len(old)), newSize: int64(len(new))}
	asked := c.cached
	if c.cached = p.caches.patches != nil && res.newSize >= p.caches.minimum; c.cached && !asked {
		c.key = PatchKey{Old: sha256.Sum256(old), New: sha256.Sum256(new)}
		p.caches.putDigest(ctx, s.names[0], Digest{c.key.Old, res.oldSize})
		p.caches.putDigest(ctx, s.names[1], Digest{c.key.New, res.newSize})
	}
	if bytes.Equal(old, new) {
		res.equal = true
		return res, nil
	}
	if !c.ask(ctx) {
		if err := c.make(ctx, old, new, w); err != nil {
			return res, err
		}
	}
	c.decide(&res)
	return res, nil
}

// contents unpacks the old and the new file, side by side.
func (p *patcher) contents(ctx context.Context, s *step) (old, new []byte, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if old, err = s.from.Content(ctx, p.lim); err != nil {
			return &InputError{"FROM", err}
		}
		return nil
	})
	g.Go(func() (err error) {
		if new, err = s.to.Content(ctx, p.lim); err != nil {
			return &InputError{"TO", err}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	return old, new, nil
}

// diff makes a compressed patch. It returns nil for one that would have limit bytes or more.
func (p *patcher) diff(ctx context.Context, d Differ, old, new []byte, limit int64, matched func(), tell func(done, all int64)) ([]byte, error) {
	if int64(len(old)) >= maxPatchFile || int64(len(new)) >= maxPatchFile {
		return nil, nil // the format, and the updater, end here
	}
	out := &limitedBuffer{limit: limit}
	err := p.writePatch(ctx, d, out, old, new, matched, tell)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.over, errors.Is(err, zucchini.ErrEmpty):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("make a patch with %s: %w", d.ID(), err)
	}
	return out.data, nil
}

// writePatch writes a compressed patch.
func (p *patcher) writePatch(ctx context.Context, d Differ, out io.Writer, old, new []byte, matched func(), tell func(done, all int64)) error {
	content := Content{Kind: ContentPatch, Size: int64(len(new)), Arch: p.recipe.Arch}
	return compressTo(ctx, p.recipe.Compression.Patches, out, content, func(ctx context.Context, w io.Writer) error {
		w = &firstWrite{w: w, call: matched}
		if p.progress != nil {
			w = &progressWriter{w, tell}
		}
		return d.Diff(ctx, w, old, new)
	})
}

// maxPatchFile is the size in bytes from which on files cannot be patched.
const maxPatchFile = 1<<31 - 1

// verifyPatch applies a compressed patch and compares what it gives.
func (p *patcher) verifyPatch(ctx context.Context, d Differ, name string, old, new, patch []byte) error {
	m := updater.NewMember(name+".patch", 0o644, patch)
	ins := patchInstruction(name, m.Name)
	if err := m.Usable(ins, p.recipe.Compression.Format); err != nil {
		return fmt.Errorf("the patch made by %s: %w", p.recipe.patchID(d), err)
	}
	got, err := updater.ApplyPatch(ctx, old, m, ins, p.lim)
	if err != nil {
		return fmt.Errorf("the patch made by %s does not apply: %w", d.ID(), err)
	}
	if at := difference(got, new); at < len(new) || len(got) != len(new) {
		return &VerifyError{Differences: []Difference{{
			Path: name, Kind: DiffersContent, Offset: int64(at), GotSize: int64(len(got)), WantSize: int64(len(new)),
			Instruction: ins.String(),
		}}}
	}
	return nil
}

// A limitedBuffer takes fewer bytes than its limit.
type limitedBuffer struct {
	data  []byte
	limit int64
	over  bool
}

var errNotSmaller = errors.New("the patch is not smaller than the whole file")

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.over || int64(len(l.data)+len(p)) >= l.limit {
		l.over, l.data = true, nil
		return 0, errNotSmaller
	}
	l.data = append(l.data, p...)
	return len(p), nil
}

// A firstWrite tells when something is written for the first time.
type firstWrite struct {
	w    io.Writer
	call func()
}

func (f *firstWrite) Write(p []byte) (int, error) {
	if f.call != nil {
		f.call()
		f.call = nil
	}
	return f.w.Write(p)
}

// A progressWriter is told how far the differ is that writes to it.
type progressWriter struct {
	io.Writer
	tell func(done, all int64)
}

// Progress is told by the differ.
func (p *progressWriter) Progress(done, total int64) { p.tell(done, total) }

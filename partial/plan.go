package partial

import (
	"context"
	"errors"
	"fmt"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A step is a file of TO on its way into the update.
type step struct {
	name     string
	from, to *updater.Member // from is nil for a new file
	why      string
	compare  bool // whether the content decides
	action   Action
	patch    []byte          // compressed
	whole    *updater.Member // the file, as it goes in whole
	verified bool            // the patch was applied, and gave TO's file
	equal    bool            // the file in FROM has the same content, and it was asked
	stored   bool            // it is stored as the same bytes
	unusable string          // why TO's own member cannot be taken
	named    bool
	names    [2]memberName // of the compressed old and new member, where named
	report   FileReport
}

// nameMembers names the compressed members of a step, once.
func (s *step) nameMembers(c *caches) error {
	if s.named {
		return nil
	}
	for i, m := range []*updater.Member{s.from, s.to} {
		var err error
		if s.names[i], err = c.name(m); err != nil {
			return err
		}
	}
	s.named = true
	return nil
}

// A group is steps with the same old and the same new member: one patch serves all.
type group struct{ steps []*step }

// adding returns the instruction that puts a whole file in. The scripts go by names alone.
func (p *pair) adding(name string) updater.Instruction {
	if p.scripts() {
		return addInstruction(name)
	}
	return p.to.adding(name)
}

// patching returns the instruction that patches a file.
func (p *pair) patching(name, item string) updater.Instruction {
	if p.scripts() {
		return patchInstruction(name, item)
	}
	return p.to.patching(name, item)
}

// uncertain reports whether a file that TO always installs may be another one, or missing, where FROM is installed.
func (p *pair) uncertain(name string) bool {
	return !p.scripts() && p.from.manifest.adds[name].Test != "" && p.adding(name).Test == ""
}

// A plan says what is to happen to each file of TO: the first phase of a build.
type plan struct {
	*pair
	checks *checks
	caches *caches
	steps  []*step  // in the scripts' order
	groups []*group // of the steps that need a patch
}

// make plans.
func (p *plan) make(ctx context.Context) error {
	p.list()
	return p.findChanges(ctx)
}

// list lists the files of TO in the scripts' order, with what the rules say about each.
func (p *plan) list() {
	add := func(s *step) {
		s.to = p.to.files[s.name]
		s.report = FileReport{Path: s.name, OldSize: -1, FullSize: s.to.Size}
		if s.from != nil {
			s.report.OldSize = 0
		}
		p.steps = append(p.steps, s)
	}
	for _, n := range p.from.names {
		if p.to.files[n] == nil {
			continue
		}
		s := &step{name: n, from: p.from.files[n], action: ActionAdd}
		why, force := forced(n, p.recipe.Force)
		switch {
		case p.adding(n).Op == updater.OpAddIfNot:
			s.why = "channel settings are only installed where there are none"
			if !addIfNot(n) {
				s.why = "TO only installs it where it is missing"
			}
		case p.uncertain(n):
			s.why = "FROM installed it on a condition, and TO does always: what is there is not known"
		case force:
			s.why = why
		default:
			s.compare = true
		}
		add(s)
	}
	for _, n := range p.to.names {
		if p.from.files[n] == nil {
			add(&step{name: n, action: ActionAdd, why: "new in TO"})
		}
	}
}

// findChanges compares stored bytes, groups what changed by content, and prepares the members that may go in whole.
func (p *plan) findChanges(ctx context.Context) error {
	if err := p.compareStored(ctx); err != nil {
		return err
	}
	var changed []*step
	for _, s := range p.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.unchanged(s) {
			continue
		}
		if err := p.prepareWhole(ctx, s); err != nil {
			return err
		}
		if s.compare {
			changed = append(changed, s)
		}
	}
	return p.group(changed)
}

// compareStored finds the files that are stored as the same bytes in both releases.
func (p *plan) compareStored(ctx context.Context) error {
	var total int64
	for _, s := range p.steps {
		total += s.to.Size
	}
	steps := newCounter(StepUnpacking, p.progress).Start(total)
	jobs := make([]job, 0, len(p.steps))
	for _, s := range p.steps {
		jobs = append(jobs, job{memory: 256 << 10, order: s.to.Size, run: func(ctx context.Context, r *reservation) error {
			if s.from != nil {
				same, err := sameBytes(ctx, s.from, s.to)
				if err != nil {
					return err
				}
				s.stored, s.equal = same, same && s.compare
				if p.caches.patches != nil && !same && s.compare {
					if err := s.nameMembers(p.caches); err != nil {
						return err
					}
				}
			}
			steps.Add(s.name, s.to.Size)
			return nil
		}})
	}
	return runJobs(ctx, p.workers, p.memory, jobs)
}

// unchanged decides about a step by what is stored and by modes, and reports whether the file needs nothing.
func (p *plan) unchanged(s *step) bool {
	moded := s.from != nil && s.from.Executable() != s.to.Executable()
	switch {
	case s.compare && moded && !p.scripts():
		s.compare = false
		s.why = "the executable bit changed, which only a whole file carries"
		p.checks.repaired(Finding{Kind: KindMode, Path: s.name, Message: "the executable bit changed"}, "the file goes in whole")
	case s.equal:
		s.action, s.why = ActionSame, "same bytes in both releases"
		return true
	}
	return false
}

// group puts steps together that have the same old and the same new content, so that each patch is made once.
func (p *plan) group(steps []*step) error {
	type sizes struct{ old, new int64 }
	count := make(map[sizes]int)
	for _, s := range steps {
		count[sizes{s.from.Size, s.to.Size}]++
	}
	byContent := make(map[[2]memberName]*group)
	for _, s := range steps {
		g := &group{}
		if count[sizes{s.from.Size, s.to.Size}] > 1 {
			if err := s.nameMembers(p.caches); err != nil {
				return err
			}
			if first := byContent[s.names]; first != nil {
				first.steps = append(first.steps, s)
				s.report.SharedWith = first.steps[0].name
				continue
			}
			byContent[s.names] = g
		}
		g.steps = append(g.steps, s)
		p.groups = append(p.groups, g)
	}
	return nil
}

// prepareWhole finds the bytes with which a file would go in whole: TO's own, if the updater can take them.
func (p *plan) prepareWhole(ctx context.Context, s *step) error {
	mode := normalMode(s.to.Executable())
	whole := *s.to
	whole.Mode = mode
	s.whole = &whole
	err := s.to.Usable(updater.Instruction{}, p.recipe.Compression.Format)
	var unusable *updater.UpdateError
	switch {
	case err == nil:
	case errors.As(err, &unusable):
		data, cerr := s.to.Content(ctx, p.lim)
		if cerr != nil {
			return &InputError{"TO", cerr}
		}
		packed, cerr := compress(ctx, p.recipe.Compression.Files, Content{Kind: ContentFile, Arch: p.recipe.Arch}, data)
		if cerr != nil {
			return fmt.Errorf("compress %q: %w", s.name, cerr)
		}
		s.whole = updater.NewMember(s.name, mode, packed)
		s.report.Recompressed = true
		s.unusable = unusable.Err.Error()
		s.report.FullSize = s.whole.Size
	default:
		return err
	}
	return nil
}

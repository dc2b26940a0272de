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
	item     string          // name of the patch's entry
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
func (b *builder) nameMembers(s *step) error {
	if s.named {
		return nil
	}
	for i, m := range []*updater.Member{s.from, s.to} {
		var err error
		if s.names[i], err = b.caches.name(m); err != nil {
			return err
		}
	}
	s.named = true
	return nil
}

// A group is steps with the same old and the same new member: one patch serves all.
type group struct{ steps []*step }

// adding returns the instruction that puts a whole file in. The scripts go by names alone.
func (b *builder) adding(name string) updater.Instruction {
	if b.scripts() {
		return addInstruction(name)
	}
	return b.to.adding(name)
}

// patching returns the instruction that patches a file.
func (b *builder) patching(name, item string) updater.Instruction {
	if b.scripts() {
		return patchInstruction(name, item)
	}
	return b.to.patching(name, item)
}

// uncertain reports whether a file that TO always installs may be another one, or missing, where FROM is installed.
func (b *builder) uncertain(name string) bool {
	return !b.scripts() && b.from.manifest.adds[name].Test != "" && b.adding(name).Test == ""
}

// plan lists the files of TO in the scripts' order, with what the rules say about each.
func (b *builder) plan() {
	add := func(s *step) {
		s.to = b.to.files[s.name]
		s.report = FileReport{Path: s.name, OldSize: -1, FullSize: s.to.Size}
		if s.from != nil {
			s.report.OldSize = 0
		}
		b.steps = append(b.steps, s)
	}
	for _, n := range b.from.names {
		if b.to.files[n] == nil {
			continue
		}
		s := &step{name: n, from: b.from.files[n], action: ActionAdd}
		why, force := forced(n, b.recipe.Force)
		switch {
		case b.adding(n).Op == updater.OpAddIfNot:
			s.why = "channel settings are only installed where there are none"
			if !addIfNot(n) {
				s.why = "TO only installs it where it is missing"
			}
		case b.uncertain(n):
			s.why = "FROM installed it on a condition, and TO does always: what is there is not known"
		case force:
			s.why = why
		default:
			s.compare = true
		}
		add(s)
	}
	for _, n := range b.to.names {
		if b.from.files[n] == nil {
			add(&step{name: n, action: ActionAdd, why: "new in TO"})
		}
	}
}

// findChanges compares stored bytes, groups what changed by content, and prepares the members that may go in whole.
func (b *builder) findChanges(ctx context.Context) error {
	b.facts, b.sound = make(map[string]bool), make(map[string]bool)
	if err := b.compareStored(ctx); err != nil {
		return err
	}
	var changed []*step
	for _, s := range b.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.unchanged(s) {
			continue
		}
		if err := b.prepareWhole(ctx, s); err != nil {
			return err
		}
		if s.compare {
			changed = append(changed, s)
		}
	}
	return b.group(changed)
}

// compareStored finds the files that are stored as the same bytes in both releases.
func (b *builder) compareStored(ctx context.Context) error {
	var total int64
	for _, s := range b.steps {
		total += s.to.Size
	}
	steps := newCounter(StepUnpacking, b.opts.Progress).Start(total)
	jobs := make([]job, 0, len(b.steps))
	for _, s := range b.steps {
		jobs = append(jobs, job{memory: 256 << 10, order: s.to.Size, run: func(ctx context.Context, r *reservation) error {
			if s.from != nil {
				same, err := sameBytes(ctx, s.from, s.to)
				if err != nil {
					return err
				}
				s.stored, s.equal = same, same && s.compare
				if b.caches.patches != nil && !same && s.compare {
					if err := b.nameMembers(s); err != nil {
						return err
					}
				}
			}
			steps.Add(s.name, s.to.Size)
			return nil
		}})
	}
	return runJobs(ctx, b.workers, b.opts.Memory, jobs)
}

// unchanged decides about a step by what is stored and by modes, and reports whether the file needs nothing.
func (b *builder) unchanged(s *step) bool {
	moded := s.from != nil && s.from.Executable() != s.to.Executable()
	switch {
	case s.compare && moded && !b.scripts():
		s.compare = false
		s.why = "the executable bit changed, which only a whole file carries"
		b.checks.repaired(Finding{Kind: KindMode, Path: s.name, Message: "the executable bit changed"}, "the file goes in whole")
	case s.equal:
		s.action, s.why = ActionSame, "same bytes in both releases"
		return true
	}
	return false
}

// group puts steps together that have the same old and the same new content, so that each patch is made once.
func (b *builder) group(steps []*step) error {
	type sizes struct{ old, new int64 }
	count := make(map[sizes]int)
	for _, s := range steps {
		count[sizes{s.from.Size, s.to.Size}]++
	}
	byContent := make(map[[2]memberName]*group)
	for _, s := range steps {
		g := &group{}
		if count[sizes{s.from.Size, s.to.Size}] > 1 {
			if err := b.nameMembers(s); err != nil {
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
		b.groups = append(b.groups, g)
	}
	return nil
}

func (b *builder) lostMode(s *step) {
	b.checks.repaired(Finding{
		Kind: KindMode, Path: s.name,
		Message: "the executable bit changed, which the update does not deliver",
	}, "")
}

// prepareWhole finds the bytes with which a file would go in whole: TO's own, if the updater can take them.
func (b *builder) prepareWhole(ctx context.Context, s *step) error {
	mode := normalMode(s.to.Executable())
	whole := *s.to
	whole.Mode = mode
	s.whole = &whole
	err := s.to.Usable(updater.Instruction{}, b.recipe.Compression.Format)
	var unusable *updater.UpdateError
	switch {
	case err == nil:
	case errors.As(err, &unusable):
		data, cerr := s.to.Content(ctx, b.lim)
		if cerr != nil {
			return &InputError{"TO", cerr}
		}
		packed, cerr := compress(ctx, b.recipe.Compression.Files, Content{Kind: ContentFile, Arch: b.recipe.Arch}, data)
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

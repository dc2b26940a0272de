package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// An assembly puts the update together: the last phase of a build.
type assembly struct {
	*pair
	checks  *checks
	rep     *Report
	steps   []*step
	members []*updater.Member
	taken   map[string]bool // names that no patch may have
	// what making the update has shown already: see prover
	facts, sound map[string]bool
}

func newAssembly(p *pair, found *checks, rep *Report) *assembly {
	a := &assembly{pair: p, checks: found, rep: rep, taken: make(map[string]bool), facts: make(map[string]bool), sound: make(map[string]bool)}
	for _, n := range p.to.names {
		a.taken[n] = true
	}
	return a
}

// make lists members, the manifests first, instructions and the report's files, all in the scripts' order.
func (a *assembly) make(ctx context.Context, steps []*step, removed []updater.Instruction) error {
	a.steps = steps
	list := a.install()
	list = append(list, a.remove()...)
	list = append(list, removed...)
	list = append(list, a.removeDirectories()...)
	a.unmentioned()
	if err := a.sameReleases(ctx, len(list)); err != nil {
		return err
	}
	if err := a.checks.refuse(); err != nil {
		return err
	}
	return a.manifests(ctx, list)
}

// removeDirectories lists the directories that TO does not have. The scripts know empty ones of trees as well.
func (a *assembly) removeDirectories() []updater.Instruction {
	old := a.from.names
	empty := make(map[string]bool)
	if a.scripts() && len(a.from.empty) > 0 {
		old = slices.Clone(old)
		for _, d := range a.from.empty {
			empty[d] = true
			old = append(old, d+"/.")
		}
	}
	var list []updater.Instruction
	for _, d := range directories(old) {
		kept := a.checks.new.dir(d)
		if kept != "" && (!a.scripts() || kept == d) || a.scripts() && slices.Contains(a.to.empty, d) {
			continue
		}
		ins := updater.Instruction{Op: updater.OpRmdir, Path: d + "/"}
		if empty[d] { // nothing else has looked at its name
			a.checks.removedLine(ins, "FROM's tree")
		}
		list = append(list, ins)
	}
	return list
}

// install lists what patches files and puts them in.
func (a *assembly) install() []updater.Instruction {
	var list []updater.Instruction
	for _, s := range a.steps {
		if s.action != ActionAdd {
			a.lostMode(s)
		}
		if s.action == ActionSame {
			continue
		}
		r := s.report
		r.Action, r.Why = s.action, s.why
		m, ins := s.whole, a.adding(s.name)
		if s.action == ActionPatch {
			m = updater.NewMember(a.itemName(s.name), 0o644, s.patch)
			ins = a.patching(s.name, m.Name)
			if s.verified {
				a.facts[fact(&updater.Blob{Item: m.Name, Base: &updater.Blob{File: s.name}}, s.name)] = true
				a.sound[m.Name] = true
			}
		} else {
			a.noteWhole(s)
		}
		a.members = append(a.members, m)
		list = append(list, ins)
		r.Size, r.Instruction = m.Size, ins.String()
		a.rep.Files = append(a.rep.Files, r)
	}
	return list
}

// remove lists what removes the files that TO does not have.
func (a *assembly) remove() []updater.Instruction {
	var list []updater.Instruction
	for _, n := range a.from.names {
		if a.to.files[n] == nil {
			ins := updater.Instruction{Op: updater.OpRemove, Path: n}
			list = append(list, ins)
			a.rep.Files = append(a.rep.Files, FileReport{Path: n, Action: ActionRemove, Why: "not in TO", Instruction: ins.String(), NewSize: -1})
		}
	}
	return list
}

// unmentioned reports the files that take no instruction.
func (a *assembly) unmentioned() {
	for _, s := range a.steps {
		if s.action != ActionSame {
			continue
		}
		a.facts[fact(&updater.Blob{File: s.name}, s.name)] = true
		r := s.report
		r.Action, r.Why = s.action, s.why
		a.rep.Files = append(a.rep.Files, r)
	}
	for _, n := range a.to.excluded {
		a.rep.Files = append(a.rep.Files, FileReport{Path: n, Action: ActionLeftOut, Why: "named like a manifest", OldSize: -1})
	}
}

// lostMode notes an executable bit that a file keeps although it changed.
func (a *assembly) lostMode(s *step) {
	if s.from.Executable() != s.to.Executable() {
		a.checks.repaired(Finding{
			Kind: KindMode, Path: s.name,
			Message: "the executable bit changed, which the update does not deliver",
		}, "")
	}
}

// sameReleases finds out whether there is anything to update.
func (a *assembly) sameReleases(ctx context.Context, instructions int) error {
	f := Finding{Kind: KindSame, Severity: Note, Message: "FROM and TO hold the same files: there is nothing to update", WayOut: "give another FROM or TO"}
	if instructions == 0 {
		f.Severity, f.Code = Broken, updater.CodeNoActions
		f.Message += ", and the updater fails where the manifest does nothing"
		a.checks.add(f)
		return nil
	}
	if len(a.from.names) != len(a.to.names) {
		return nil
	}
	for _, s := range a.steps {
		if s.from == nil || s.action == ActionPatch || s.from.Executable() != s.to.Executable() {
			return nil
		}
	}
	for _, s := range a.steps { // what goes in whole whether it changed or not, nobody has compared
		if s.stored || s.equal {
			continue
		}
		was, err := s.from.Content(ctx, a.lim)
		if err != nil {
			return &InputError{"FROM", err}
		}
		is, err := s.to.Content(ctx, a.lim)
		if err != nil {
			return &InputError{"TO", err}
		}
		if !bytes.Equal(was, is) {
			return nil
		}
	}
	a.checks.add(f)
	return nil
}

// noteWhole says what is not as it was about a file that goes in whole.
func (a *assembly) noteWhole(s *step) {
	if s.unusable != "" {
		f := Finding{
			Kind: KindMember, Severity: Repaired, Path: s.name,
			Message: fmt.Sprintf("TO's own member cannot be taken: %s; it is compressed again", s.unusable),
		}
		if s.to.Size == 0 {
			f.Kind = KindEmptyMember
		}
		a.checks.add(f)
	}
	if was, is := s.to.Mode.Perm(), s.whole.Mode; was != is {
		a.checks.add(Finding{
			Kind: KindModeBits, Severity: Note, Path: s.name,
			Message: fmt.Sprintf("has mode %04o in TO and is delivered with %04o, as packaging does", was, is),
		})
	}
}

// itemName returns the name of a patch's entry: the scripts' one, or under strict rules another where a file has it.
func (a *assembly) itemName(name string) string {
	item := name + ".patch"
	if a.scripts() {
		return item
	}
	for i := 1; a.taken[item]; i++ {
		if i == 1 {
			a.checks.repaired(Finding{Kind: KindItem, Path: name, Other: item, Message: "its patch would have the name of a file"}, "it has another")
		}
		item = fmt.Sprintf("%s.%d.patch", name, i)
	}
	a.taken[item] = true
	return item
}

// manifests compresses the manifests that the recipe asks for, and puts them in front.
func (a *assembly) manifests(ctx context.Context, list []updater.Instruction) error {
	out := make([]*updater.Member, 0, len(a.recipe.Manifests))
	reports := make([]FileReport, 0, len(a.recipe.Manifests))
	texts := make([]string, 0, len(a.recipe.Manifests))
	var total int64
	for _, v := range a.recipe.Manifests {
		m := &updater.Manifest{Type: "partial", Instructions: list}
		if v == updater.ManifestV2 {
			m.Instructions = versionTwo(list, false)
		}
		texts = append(texts, m.String())
		total += int64(len(texts[len(texts)-1]))
	}
	steps := newCounter(StepPacking, a.progress).Start(total)
	for i, v := range a.recipe.Manifests {
		text := texts[i]
		data, err := compress(ctx, a.recipe.Compression.Files, Content{Kind: ContentManifest, Arch: a.recipe.Arch}, []byte(text))
		if err != nil {
			return fmt.Errorf("compress %s: %w", v.Name(), err)
		}
		out = append(out, updater.NewMember(v.Name(), 0o644, data))
		steps.Add(v.Name(), int64(len(text)))
		reports = append(reports, FileReport{
			Path: v.Name(), Action: ActionManifest, Why: "what the updater does", OldSize: -1, NewSize: int64(len(text)),
			FullSize: int64(len(data)), Size: int64(len(data)),
		})
	}
	a.rep.Files = append(reports, a.rep.Files...)
	a.members = append(out, a.members...)
	return nil
}

// archive describes the update, and fills in its size.
func (a *assembly) archive(product *mar.Product) (*mar.Archive, error) {
	out := &mar.Archive{Product: product}
	names := make(map[string]bool, len(a.members))
	for _, m := range a.members {
		if names[m.Name] {
			return nil, &RefusedError{Findings: []Finding{{
				Kind: KindItem, Severity: Broken, Path: m.Name, Code: updater.CodePatchFormat,
				Message: "is the name of a file and of another file's patch: the archive would hold two entries of one name",
				WayOut:  "use the strict rules, which give the patch another name",
			}}}
		}
		names[m.Name] = true
		out.Entries = append(out.Entries, m.Entry())
	}
	rep := a.rep
	rep.Size = out.Size()
	if rep.Size < 0 {
		// describe why, in the writer's words
		if _, err := out.WriteTo(io.Discard); errors.Is(err, mar.ErrLimit) {
			return nil, &RefusedError{Findings: []Finding{{
				Kind: KindSize, Severity: Broken, Code: updater.CodeRead, Message: err.Error(), WayOut: "ship a complete update, or several",
			}}}
		} else if err != nil {
			return nil, fmt.Errorf("lay out the archive: %w", err)
		}
	}
	if rep.Complete > 0 {
		rep.Saved = max(0, 1-float64(rep.Size)/float64(rep.Complete))
	}
	if rep.Size >= rep.Complete {
		a.checks.add(Finding{Kind: KindSize, Severity: Note, Message: fmt.Sprintf("the update has %d bytes, the complete one %d", rep.Size, rep.Complete)})
	}
	return out, nil
}

// prove follows the finished update on FROM.
func (a *assembly) prove(ctx context.Context) error {
	p := &prover{
		from: a.from, to: a.to, lim: a.lim, client: a.client, skip: a.skip, entries: make(map[string]*updater.Member, len(a.members)),
		workers: a.workers, memory: a.memory, progress: a.progress, facts: a.facts, sound: a.sound,
	}
	for _, m := range a.members {
		p.entries[m.Name] = m
	}
	for _, s := range a.steps {
		if s.action == ActionPatch {
			p.used(s.report.Format)
		}
	}
	proof, err := p.prove(ctx)
	if err != nil {
		var ue *updater.UpdateError
		if a.scripts() && errors.As(err, &ue) && a.checks.explainsFailure(ue) {
			a.rep.Failure = err.Error()
			return nil
		}
		return fmt.Errorf("prove the update: %w", err)
	}
	a.rep.Proof = proof
	a.rep.Checks = merged(a.rep.Checks, proof.Checks)
	proof.Client, proof.Checks = nil, nil // they stand in the report
	var unexplained []Difference
	for _, d := range proof.Differences {
		if !a.scripts() || !a.checks.explains(d.Path) {
			unexplained = append(unexplained, d)
		}
	}
	if len(unexplained) > 0 {
		return &VerifyError{Differences: unexplained}
	}
	a.rep.Verified = len(proof.Differences) == 0
	return nil
}

// unproved says of the checks that the proof makes that nobody made them.
func (a *assembly) unproved() {
	var list updater.Verdicts
	for _, c := range []updater.Check{updater.CheckSettings, updater.CheckMembers, updater.CheckManifests, updater.CheckPatches} {
		if !slices.ContainsFunc(a.rep.Checks, func(v updater.Verdict) bool { return v.Check == c }) {
			list = append(list, updater.Verdict{Check: c, Answer: updater.NotChecked, Reason: "the proof is left out"})
		}
	}
	a.rep.Checks = merged(a.rep.Checks, list.Skip(a.skip...))
}

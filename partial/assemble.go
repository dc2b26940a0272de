package partial

import (
	"context"
	"errors"
	"fmt"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// assemble lists entries and instructions in the scripts' order, and fills the report's list of files.
func (b *builder) assemble(removedLines []updater.Instruction) ([]*updater.Member, []updater.Instruction) {
	var members []*updater.Member
	var list []updater.Instruction
	rep := &b.report
	var same []FileReport
	taken := make(map[string]bool)
	for _, n := range b.to.names {
		taken[n] = true
	}
	for _, s := range b.steps {
		r := s.report
		r.Action, r.Why = s.action, s.why
		switch s.action {
		case ActionSame:
			if s.from.Executable() != s.to.Executable() {
				b.lostMode(s)
			}
			b.facts[fact(&updater.Blob{File: s.name}, s.name)] = true
			same = append(same, r)
			continue
		case ActionPatch:
			s.item = b.itemName(s.name, taken)
			m := updater.NewMember(s.item, 0o644, s.patch)
			members = append(members, m)
			ins := b.patching(s.name, s.item)
			list = append(list, ins)
			r.Size, r.Instruction = m.Size, ins.String()
			if s.verified {
				b.facts[fact(&updater.Blob{Item: s.item, Base: &updater.Blob{File: s.name}}, s.name)] = true
				b.sound[s.item] = true
			}
			if s.from.Executable() != s.to.Executable() {
				b.lostMode(s)
			}
		default:
			b.noteWhole(s)
			members = append(members, s.whole)
			ins := b.adding(s.name)
			list = append(list, ins)
			r.Size, r.Instruction = s.whole.Size, ins.String()
		}
		rep.Files = append(rep.Files, r)
	}
	for _, n := range b.from.names {
		if b.to.files[n] == nil {
			ins := updater.Instruction{Op: updater.OpRemove, Path: n}
			list = append(list, ins)
			rep.Files = append(rep.Files, FileReport{Path: n, Action: ActionRemove, Why: "not in TO", Instruction: ins.String(), NewSize: -1})
		}
	}
	list = append(list, removedLines...)
	for _, d := range directories(b.from.names) {
		if kept := b.checks.new.dir(d); kept == "" || b.scripts() && kept != d {
			list = append(list, updater.Instruction{Op: updater.OpRmdir, Path: d + "/"})
		}
	}
	rep.Files = append(rep.Files, same...)
	for _, n := range b.to.excluded {
		rep.Files = append(rep.Files, FileReport{Path: n, Action: ActionLeftOut, Why: "named like a manifest", OldSize: -1})
	}
	return members, list
}

// sameReleases finds out whether there is anything to update.
func (b *builder) sameReleases(instructions int) {
	f := Finding{Kind: KindSame, Severity: Note, Message: "FROM and TO hold the same files: there is nothing to update", WayOut: "give another FROM or TO"}
	if instructions == 0 {
		f.Severity, f.Code = Broken, updater.CodeNoActions
		f.Message += ", and the updater fails where the manifest does nothing"
		b.checks.add(f)
		return
	}
	if len(b.from.names) != len(b.to.names) {
		return
	}
	for _, s := range b.steps {
		if s.from == nil || !s.stored && !s.equal || s.from.Executable() != s.to.Executable() {
			return
		}
	}
	b.checks.add(f)
}

// noteWhole says what is not as it was about a file that goes in whole.
func (b *builder) noteWhole(s *step) {
	if s.unusable != "" {
		f := Finding{
			Kind: KindMember, Severity: Repaired, Path: s.name,
			Message: fmt.Sprintf("TO's own member cannot be taken: %s; it is compressed again", s.unusable),
		}
		if s.to.Size == 0 {
			f.Kind = KindEmptyMember
		}
		b.checks.add(f)
	}
	if was, is := s.to.Mode.Perm(), s.whole.Mode; was != is {
		b.checks.add(Finding{
			Kind: KindModeBits, Severity: Note, Path: s.name,
			Message: fmt.Sprintf("has mode %04o in TO and is delivered with %04o, as packaging does", was, is),
		})
	}
}

// itemName returns the name of a patch's entry: the scripts' one, or under strict rules another where a file has it.
func (b *builder) itemName(name string, taken map[string]bool) string {
	item := name + ".patch"
	if b.scripts() {
		return item
	}
	for i := 1; taken[item]; i++ {
		if i == 1 {
			b.checks.repaired(Finding{Kind: KindItem, Path: name, Other: item, Message: "its patch would have the name of a file"}, "it has another")
		}
		item = fmt.Sprintf("%s.%d.patch", name, i)
	}
	taken[item] = true
	return item
}

// manifests compresses the manifests that the recipe asks for.
func (b *builder) manifests(ctx context.Context, list []updater.Instruction) ([]*updater.Member, error) {
	out := make([]*updater.Member, 0, len(b.recipe.Manifests))
	reports := make([]FileReport, 0, len(b.recipe.Manifests))
	texts := make([]string, 0, len(b.recipe.Manifests))
	var total int64
	for _, v := range b.recipe.Manifests {
		m := &updater.Manifest{Type: "partial", Instructions: list}
		if v == updater.ManifestV2 {
			m.Instructions = versionTwo(list, false)
		}
		texts = append(texts, m.String())
		total += int64(len(texts[len(texts)-1]))
	}
	steps := newCounter(StepPacking, b.opts.Progress).Start(total)
	for i, v := range b.recipe.Manifests {
		text := texts[i]
		data, err := compress(ctx, b.recipe.Compression.Files, Content{Kind: ContentManifest, Arch: b.recipe.Arch}, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("compress %s: %w", v.Name(), err)
		}
		out = append(out, updater.NewMember(v.Name(), 0o644, data))
		steps.Add(v.Name(), int64(len(text)))
		reports = append(reports, FileReport{
			Path: v.Name(), Action: ActionManifest, Why: "what the updater does", OldSize: -1, NewSize: int64(len(text)),
			FullSize: int64(len(data)), Size: int64(len(data)),
		})
	}
	b.report.Files = append(reports, b.report.Files...)
	return out, nil
}

// prove follows the finished update on FROM.
func (b *builder) prove(ctx context.Context, members []*updater.Member) error {
	p := &prover{
		from: b.from, to: b.to, lim: b.lim, client: b.client, skip: b.opts.Skip, entries: make(map[string]*updater.Member, len(members)),
		workers: b.workers, memory: b.opts.Memory, progress: b.opts.Progress, facts: b.facts, sound: b.sound,
	}
	for _, m := range members {
		p.entries[m.Name] = m
	}
	for _, s := range b.steps {
		if s.action == ActionPatch {
			p.used(b.recipe.Differ.Format())
		}
	}
	proof, err := p.prove(ctx)
	if err != nil {
		var ue *updater.UpdateError
		if b.scripts() && errors.As(err, &ue) && b.checks.explainsFailure(ue) {
			b.report.Failure = err.Error()
			return nil
		}
		return fmt.Errorf("prove the update: %w", err)
	}
	b.report.Proof = proof
	b.report.Checks = merged(b.report.Checks, proof.Checks)
	proof.Client, proof.Checks = nil, nil // they stand in the report
	var unexplained []Difference
	for _, d := range proof.Differences {
		if !b.scripts() || !b.checks.explains(d.Path) {
			unexplained = append(unexplained, d)
		}
	}
	if len(unexplained) > 0 {
		return &VerifyError{Differences: unexplained}
	}
	b.report.Verified = len(proof.Differences) == 0
	return nil
}

package partial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/internal/progress"
	"github.com/senbonzakura/senbonzakura/mar"
)

// BuildOptions change how Build works, not what it gives. The zero value is fine.
type BuildOptions struct {
	// Workers is how many files are worked on at a time; 0 means one for each CPU.
	Workers int
	// Memory bounds what they hold together; nil means DefaultMemory for this call alone. A file that needs more
	// is worked on alone.
	Memory *Memory
	// Limits bound what compressed members may cost.
	Limits updater.Limits
	// NoVerify leaves out the proof. Patches made without it are not put into the cache.
	NoVerify bool
	// Client is FROM's updater; nil means what FROM's complete update shows of it. Package toolchain knows rules by
	// version as well.
	Client *updater.Client
	// Skip names checks of the client and of the pair to leave out, as updater.Checks has them.
	Skip []updater.Check
	// Patches and Digests keep results between builds; either may be nil.
	Patches PatchCache
	Digests DigestCache
	// Memo is a cheaper replacement for Digests; only one of them can be given.
	Memo *Memo
	// CacheMinimum is the size in bytes below which a new file is not looked up in Patches. 0 means 4 KiB.
	//
	// By BenchmarkThreshold, with a cache on disk: finding a patch costs 0.02 ms at any size. Making and proving it
	// costs 0.8 ms of CPU time up to 4 KiB, 1.2 ms at 16 KiB, 3 ms at 64 KiB. Storing it costs 0.8 ms of CPU time
	// and, as it waits for the disk, 4 ms in all. So a stored patch has paid with its first use in CPU time, and in
	// time at 64 KiB with the second, at 4 KiB with the fifth.
	CacheMinimum int64
	// Progress is told how far the work is, never from two goroutines at once; it must return quickly.
	Progress func(Event)
}

// defaultCacheMinimum is also what an entry takes on most disks, however small it is.
const defaultCacheMinimum = 4 << 10

// Build makes the partial update that turns FROM into TO, both complete updates, by the given recipe. The archive that it
// returns reads TO's members when it is written: both readers must stay open, and unchanged, until then.
//
// Unless told otherwise it proves the result, on the bytes that will be written, as Verify does. A patch is applied
// right after it was made, while both files are in memory, so the proof costs little.
//
// What is wrong with the inputs gives a *RefusedError with all reasons under strict rules; under those of the scripts
// it is only listed in the report, whose Broken method then returns something. Where the proof fails for another reason
// than those listed, the error is a *VerifyError or an *UpdateError and there is no archive.
//
// The report is returned with a *RefusedError and a *VerifyError as well. Build may be called from several goroutines.
func Build(ctx context.Context, from, to *mar.Reader, r Recipe, opts *BuildOptions) (*mar.Archive, *Report, error) {
	start := time.Now()
	if opts == nil {
		opts = &BuildOptions{}
	}
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	b := &builder{opts: *opts, lim: opts.Limits.WithDefaults(), workers: workerCount(opts.Workers)}
	if opts.Digests != nil && opts.Memo != nil {
		return nil, nil, errors.New("both a cache of digests and a memo are given, which hold the same")
	}
	b.caches.patches, b.caches.digests, b.caches.memo = opts.Patches, opts.Digests, opts.Memo
	if b.opts.Memory == nil {
		b.opts.Memory = NewMemory(DefaultMemory)
	}
	if b.opts.CacheMinimum <= 0 {
		b.opts.CacheMinimum = defaultCacheMinimum
	}
	var err error
	scripts := r.Rules == RulesScripts
	if b.from, err = openRelease("FROM", from, b.lim, scripts); err != nil {
		return nil, nil, err
	}
	if b.to, err = openRelease("TO", to, b.lim, scripts); err != nil {
		return nil, nil, err
	}
	if b.client, err = clientOf(opts.Client, b.from); err != nil {
		return nil, nil, err
	}
	b.recipe = r.For(b.client)
	if b.recipe.Platform == "" { // FROM does not tell, perhaps TO does
		_, shown, err := updater.ReadComplete(to)
		if err != nil {
			return nil, nil, &InputError{"TO", err}
		}
		b.recipe.Platform = string(shown.Platform)
	}
	if err := b.recipe.check(); err != nil {
		return nil, nil, err
	}
	a, err := b.build(ctx)
	b.report.Elapsed = time.Since(start)
	b.report.Findings = b.checks.findings
	b.report.Cache = b.caches.stats
	if err != nil {
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrDifferent) {
			return nil, &b.report, err
		}
		return nil, nil, err
	}
	return a, &b.report, nil
}

type builder struct {
	recipe   Recipe
	opts     BuildOptions
	lim      updater.Limits
	workers  int
	from, to *release
	client   *updater.Client
	checks   *checks
	caches   caches
	report   Report
	steps    []*step
	groups   []*group
	total    *progress.Counter
	// what making the update has shown already: see prover
	facts map[string]bool
	sound map[string]bool
}

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

func (b *builder) scripts() bool { return b.recipe.Rules == RulesScripts }

func (b *builder) build(ctx context.Context) (*mar.Archive, error) {
	rep := &b.report
	rep.Recipe, rep.RecipeID, rep.Rules = b.recipe.Name, b.recipe.ID(), b.recipe.Rules
	var err error
	if rep.From, err = b.from.identity(); err != nil {
		return nil, err
	}
	if rep.To, err = b.to.identity(); err != nil {
		return nil, err
	}
	rep.Complete = rep.To.Size
	rep.Client = b.client
	removedText, err := b.to.first(removedFilesNames[:]...)
	if err != nil {
		return nil, err
	}

	b.checks = newChecks(b.from, b.to, b.recipe)
	c := b.checks
	c.skip = b.opts.Skip
	c.names()
	c.force(b.recipe.Force)
	c.fileOrDirectory()
	if err := c.precomplete(); err != nil {
		return nil, err
	}
	product := b.checkClient()
	c.versions(rep.From, rep.To, slices.Contains(b.opts.Skip, updater.CheckDowngrade))
	c.manifests()
	removedLines := append(c.removedFiles(removedText), c.manifestRemoves(removedText)...)
	b.plan()
	if err := b.refuse(); err != nil {
		return nil, err
	}
	if err := b.findChanges(ctx); err != nil {
		return nil, err
	}
	if err := b.makePatches(ctx); err != nil {
		return nil, err
	}
	if err := b.refuse(); err != nil {
		return nil, err
	}
	members, instructions := b.assemble(removedLines)
	b.sameReleases(len(instructions))
	if err := b.refuse(); err != nil {
		return nil, err
	}
	manifests, err := b.manifests(ctx, instructions)
	if err != nil {
		return nil, err
	}
	members = append(manifests, members...)
	a := &mar.Archive{Product: product}
	names := make(map[string]bool, len(members))
	for _, m := range members {
		if names[m.Name] {
			return nil, &RefusedError{Findings: []Finding{{
				Kind: KindItem, Severity: Broken, Path: m.Name, Code: updater.CodePatchFormat,
				Message: "is the name of a file and of another file's patch: the archive would hold two entries of one name",
				WayOut:  "use the strict rules, which give the patch another name",
			}}}
		}
		names[m.Name] = true
		a.Entries = append(a.Entries, m.Entry())
	}
	rep.Size = a.Size()
	if rep.Size < 0 {
		// describe why, in the writer's words
		if _, err := a.WriteTo(io.Discard); errors.Is(err, mar.ErrLimit) {
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
		c.add(Finding{Kind: KindSize, Severity: Note, Message: fmt.Sprintf("the update has %d bytes, the complete one %d", rep.Size, rep.Complete)})
	}
	if !b.opts.NoVerify {
		if err := b.prove(ctx, members); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// checkClient asks FROM's updater about everything that is known before the work. It returns the update's product block.
func (b *builder) checkClient() *mar.Product {
	p, verdicts := b.recipe.ProductFor(b.to.mar, b.client)
	verdicts = append(b.client.Check(updater.Offer{Product: p}), verdicts...)
	if name := b.client.Settings.Value; name != "" && b.to.files[name] == nil {
		verdicts = append(verdicts, b.client.RefuseSettings(fmt.Sprintf("%q is in FROM and not in TO: the update would remove it, and every later one fails", name),
			"put the file into TO"))
	}
	if want := b.client.Manifest(); !slices.Contains(b.recipe.Manifests, want) {
		verdicts = append(verdicts, noManifest(want))
	}
	if f := b.recipe.Compression.Format; !b.client.Reads(f) {
		verdicts = append(verdicts, updater.Verdict{
			Check: updater.CheckMembers, Answer: updater.Fails, Code: updater.CodeXZ,
			Reason: fmt.Sprintf("the recipe compresses with %s, the client reads %v", f, b.client.Members.Value), WayOut: "leave the format to the client",
		})
	}
	if v := b.client.CheckPatchFormats(b.recipe.Differ.Format()); v.Answer == updater.Fails {
		verdicts = append(verdicts, v)
	}
	verdicts = verdicts.Skip(b.opts.Skip...)
	b.report.Checks = verdicts
	b.checks.findings = append(b.checks.findings, verdictFindings(verdicts)...)
	return p
}

// refuse returns what was found, where it must not go on.
func (b *builder) refuse() error {
	if broken := b.checks.broken(); len(broken) > 0 && !b.scripts() {
		return &RefusedError{Findings: broken}
	}
	return nil
}

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
	if err := runJobs(ctx, b.workers, b.opts.Memory, jobs); err != nil {
		return err
	}
	type sizes struct{ old, new int64 }
	count := make(map[sizes]int)
	for _, s := range b.steps {
		if s.compare && !s.equal {
			count[sizes{s.from.Size, s.to.Size}]++
		}
	}
	byContent := make(map[[2]memberName]*group)
	for _, s := range b.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		moded := s.from != nil && s.from.Executable() != s.to.Executable()
		switch {
		case s.equal && !moded:
			s.action, s.why = ActionSame, "same bytes in both releases"
			continue
		case s.compare && moded && !b.scripts():
			s.compare = false
			s.why = "the executable bit changed, which only a whole file carries"
			b.checks.repaired(Finding{Kind: KindMode, Path: s.name, Message: "the executable bit changed"}, "the file goes in whole")
		case s.equal:
			s.action, s.why = ActionSame, "same bytes in both releases"
			continue
		}
		if err := b.prepareWhole(ctx, s); err != nil {
			return err
		}
		if !s.compare {
			continue
		}
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

// makePatches works on all groups.
func (b *builder) makePatches(ctx context.Context) error {
	var total int64
	jobs := make([]job, 0, len(b.groups))
	for _, g := range b.groups {
		s := g.steps[0]
		oldSize, err := s.from.ContentSize(b.lim)
		if err != nil {
			return &InputError{"FROM", err}
		}
		newSize, err := s.to.ContentSize(b.lim)
		if err != nil {
			return &InputError{"TO", err}
		}
		// behind the search: the encoder, then the patched file and a decoder
		packing := max(peakMemory(b.recipe.Compression.Patches, Content{Kind: ContentPatch, Size: newSize}), newSize+16<<20)
		work := max(s.from.Size, s.to.Size, packing)
		if d, ok := b.recipe.Differ.(memoryDiffer); ok {
			work = max(work, d.PeakMemory(oldSize, newSize))
		} else {
			work = max(work, 9*oldSize)
		}
		total += newSize
		jobs = append(jobs, job{memory: oldSize + newSize + work, order: oldSize + newSize, run: func(ctx context.Context, r *reservation) error {
			told := int64(0)
			err := b.makePatch(ctx, g, func() {
				b.opts.Memory.collect(min(work, 16*oldSize))
				r.keep(oldSize + newSize + packing)
			}, func(done, all int64) {
				// proving takes a share as well
				if now := int64(0.9 * float64(newSize) * float64(done) / float64(max(all, 1))); now > told {
					b.total.Add(s.name, now-told)
					told = now
				}
			})
			b.opts.Memory.collect(oldSize + 2*newSize)
			b.total.Add(s.name, newSize-told)
			return err
		}})
	}
	b.total = newCounter(StepDiffing, b.opts.Progress).Start(total)
	return runJobs(ctx, b.workers, b.opts.Memory, jobs)
}

// makePatch decides about one group. matched is called when the differ's search is over, progress as the differ goes on.
func (b *builder) makePatch(ctx context.Context, g *group, matched func(), progress func(done, all int64)) error {
	start := time.Now()
	res, err := b.decide(ctx, g, matched, progress)
	if err != nil {
		return fmt.Errorf("%q: %w", g.steps[0].name, err)
	}
	seconds := time.Since(start).Seconds()
	for i, s := range g.steps {
		s.report.Cached = res.cached
		s.report.OldSize, s.report.NewSize = res.oldSize, res.newSize
		if i == 0 {
			s.report.Seconds = seconds
		}
		switch {
		case res.equal:
			s.equal, s.action, s.why = true, ActionSame, "same content, compressed in another way"
		case res.patch != nil:
			s.action, s.patch, s.verified = ActionPatch, res.patch, res.verified
			s.why = fmt.Sprintf("the patch is smaller: %d bytes instead of %d", len(res.patch), s.whole.Size)
		default:
			s.why = fmt.Sprintf("no patch is smaller than the whole file's %d bytes", s.whole.Size)
		}
	}
	return nil
}

type decision struct {
	equal            bool
	patch            []byte // nil: the whole file
	verified         bool
	cached           bool
	oldSize, newSize int64
}

// decide finds the patch of a group, in the cache or by making it.
func (b *builder) decide(ctx context.Context, g *group, matched func(), progress func(done, all int64)) (decision, error) {
	s := g.steps[0]
	limit := s.whole.Size
	key := PatchKey{Recipe: b.recipe.PatchID()}
	asked := false
	if b.caches.patches != nil {
		was, ok1 := b.caches.digest(ctx, s.names[0])
		is, ok2 := b.caches.digest(ctx, s.names[1])
		if ok1 && ok2 {
			res := decision{oldSize: was.Size, newSize: is.Size, verified: true, cached: true}
			if was == is {
				res.equal = true
				return res, nil
			}
			key.Old, key.New = was.SHA256, is.SHA256
			if is.Size >= b.opts.CacheMinimum {
				asked = true
				if patch, known := b.caches.get(ctx, key, limit); known {
					res.patch = patch
					return res, nil
				}
			}
		}
	}
	old, new, err := b.contents(ctx, s)
	if err != nil {
		return decision{}, err
	}
	b.opts.Memory.collect(s.from.Size + s.to.Size) // the compressed bytes
	res := decision{oldSize: int64(len(old)), newSize: int64(len(new))}
	cached := b.caches.patches != nil && res.newSize >= b.opts.CacheMinimum
	if cached {
		key.Old, key.New = sha256.Sum256(old), sha256.Sum256(new)
		b.caches.putDigest(ctx, s.names[0], Digest{key.Old, res.oldSize})
		b.caches.putDigest(ctx, s.names[1], Digest{key.New, res.newSize})
	}
	if bytes.Equal(old, new) {
		res.equal = true
		return res, nil
	}
	if cached && !asked {
		if patch, known := b.caches.get(ctx, key, limit); known {
			res.patch, res.verified, res.cached = patch, true, true
			return res, nil
		}
	}
	patch, err := b.diff(ctx, old, new, limit, matched, progress)
	if err != nil {
		return res, err
	}
	if patch == nil {
		if cached && !b.opts.NoVerify {
			b.caches.put(ctx, key, valueTooLong, limit, nil)
		}
		return res, nil
	}
	res.patch = patch
	if b.opts.NoVerify {
		return res, nil
	}
	b.opts.Memory.collect(min(peakMemory(b.recipe.Compression.Patches, Content{Kind: ContentPatch, Size: res.newSize}), 16*res.newSize))
	if err := b.verifyPatch(ctx, s, old, new, patch); err != nil {
		return res, err
	}
	res.verified = true
	if cached {
		b.caches.put(ctx, key, valuePatch, int64(len(patch)), patch)
	}
	return res, nil
}

// contents unpacks the old and the new file, side by side.
func (b *builder) contents(ctx context.Context, s *step) (old, new []byte, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if old, err = s.from.Content(ctx, b.lim); err != nil {
			return &InputError{"FROM", err}
		}
		return nil
	})
	g.Go(func() (err error) {
		if new, err = s.to.Content(ctx, b.lim); err != nil {
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
func (b *builder) diff(ctx context.Context, old, new []byte, limit int64, matched func(), progress func(done, all int64)) ([]byte, error) {
	if int64(len(old)) >= maxPatchFile || int64(len(new)) >= maxPatchFile {
		return nil, nil // the format, and the updater, end here
	}
	out := &limitedBuffer{limit: limit}
	err := b.writePatch(ctx, out, old, new, matched, progress)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.over:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("make a patch with %s: %w", b.recipe.Differ.ID(), err)
	}
	return out.data, nil
}

// writePatch writes a compressed patch.
func (b *builder) writePatch(ctx context.Context, out io.Writer, old, new []byte, matched func(), progress func(done, all int64)) error {
	content := Content{Kind: ContentPatch, Size: int64(len(new)), Arch: b.recipe.Arch}
	return compressTo(ctx, b.recipe.Compression.Patches, out, content, func(ctx context.Context, w io.Writer) error {
		w = &firstWrite{w: w, call: matched}
		if b.opts.Progress != nil {
			w = &progressWriter{w, progress}
		}
		return b.recipe.Differ.Diff(ctx, w, old, new)
	})
}

// maxPatchFile is the size in bytes from which on files cannot be patched.
const maxPatchFile = 1<<31 - 1

// verifyPatch applies a compressed patch and compares what it gives.
func (b *builder) verifyPatch(ctx context.Context, s *step, old, new, patch []byte) error {
	m := updater.NewMember(s.name+".patch", 0o644, patch)
	ins := patchInstruction(s.name, m.Name)
	if err := m.Usable(ins, b.recipe.Compression.Format); err != nil {
		return fmt.Errorf("the patch made by %s: %w", b.recipe.PatchID(), err)
	}
	got, err := updater.ApplyPatch(ctx, old, m, ins, b.lim)
	if err != nil {
		return fmt.Errorf("the patch made by %s does not apply: %w", b.recipe.Differ.ID(), err)
	}
	if at := difference(got, new); at < len(new) || len(got) != len(new) {
		return &VerifyError{Differences: []Difference{{
			Path: s.name, Kind: DiffersContent, Offset: int64(at), GotSize: int64(len(got)), WantSize: int64(len(new)),
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

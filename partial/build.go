package partial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

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

package partial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
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
	// FromEmpty and ToEmpty are the directories without files of the trees that FROM and TO were packed of, which their
	// complete updates do not hold: Report.EmptyDirectories of Pack. RulesScripts removes those of FROM that TO does not have.
	FromEmpty, ToEmpty []string
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
	p, err := openPair(from, to, r, opts)
	if err != nil {
		return nil, nil, err
	}
	c, err := openCaches(opts)
	if err != nil {
		return nil, nil, err
	}
	found, rep := newChecks(p.from, p.to, p.recipe), &Report{}
	a, err := p.build(ctx, found, c, opts.NoVerify, rep)
	rep.Elapsed = time.Since(start)
	rep.Findings = found.findings
	rep.Cache = c.stats
	if err != nil {
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrDifferent) {
			return nil, rep, err
		}
		return nil, nil, err
	}
	return a, rep, nil
}

// A pair is what every phase of a build looks at and none changes: two releases, and how one is to become the other.
type pair struct {
	from, to *release
	client   *updater.Client
	recipe   Recipe // with all that it leaves to the client
	lim      updater.Limits
	workers  int
	memory   *Memory
	progress func(Event)
	skip     []updater.Check
}

// openPair opens both releases and fills in the recipe.
func openPair(from, to *mar.Reader, r Recipe, opts *BuildOptions) (*pair, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	p := &pair{
		lim: opts.Limits.WithDefaults(), workers: workerCount(opts.Workers), memory: opts.Memory, progress: opts.Progress, skip: opts.Skip,
	}
	if p.memory == nil {
		p.memory = NewMemory(DefaultMemory)
	}
	var err error
	scripts := r.Rules == RulesScripts
	if p.from, err = openRelease("FROM", from, p.lim, scripts); err != nil {
		return nil, err
	}
	if p.to, err = openRelease("TO", to, p.lim, scripts); err != nil {
		return nil, err
	}
	p.from.empty, p.to.empty = opts.FromEmpty, opts.ToEmpty
	if p.client, err = clientOf(opts.Client, p.from); err != nil {
		return nil, err
	}
	p.recipe = r.For(p.client)
	if len(r.Manifests) == 0 && slices.Equal(p.recipe.Manifests, []updater.ManifestVersion{updater.ManifestV1}) {
		return nil, &RefusedError{[]Finding{{
			Kind: KindManifest, Severity: Broken, Path: updater.ManifestV1.Name(), Check: updater.CheckManifests,
			Message: "the installed updater looks for this manifest alone, and none of its version is made",
			WayOut:  "send such clients a complete update of a release that has " + updater.ManifestV2.Name() + " first",
		}}}
	}
	if p.recipe.Platform == "" { // FROM does not tell, perhaps TO does
		_, shown, err := updater.ReadComplete(to)
		if err != nil {
			return nil, &InputError{"TO", err}
		}
		p.recipe.Platform = string(shown.Platform)
	}
	return p, p.recipe.check()
}

func (p *pair) scripts() bool { return p.recipe.Rules == RulesScripts }

// build goes through the phases: it checks what is known beforehand, plans what happens to each file, makes the patches,
// puts the update together and proves it. It fills in the report, and adds to found.
func (p *pair) build(ctx context.Context, found *checks, c *caches, noVerify bool, rep *Report) (*mar.Archive, error) {
	product, removed, err := p.check(found, rep)
	if err != nil {
		return nil, err
	}
	plan := &plan{pair: p, checks: found, caches: c}
	if err := plan.make(ctx); err != nil {
		return nil, err
	}
	patches := &patcher{pair: p, caches: c, noVerify: noVerify, strategies: p.recipe.strategies()}
	if err := patches.make(ctx, plan.groups); err != nil {
		return nil, err
	}
	if err := found.refuse(); err != nil {
		return nil, err
	}
	a := newAssembly(p, found, rep)
	if err := a.make(ctx, plan.steps, removed); err != nil {
		return nil, err
	}
	archive, err := a.archive(product)
	if err != nil {
		return nil, err
	}
	if noVerify {
		a.unproved()
		return archive, nil
	}
	if err := a.prove(ctx); err != nil {
		return nil, err
	}
	return archive, nil
}

// check looks for everything that is wrong before any file is unpacked. It returns the update's product block and the
// instructions that the list of removed files comes to.
func (p *pair) check(found *checks, rep *Report) (*mar.Product, []updater.Instruction, error) {
	rep.Recipe, rep.RecipeID, rep.Rules, rep.Client = p.recipe.Name, p.recipe.ID(), p.recipe.Rules, p.client
	var err error
	if rep.From, err = p.from.identity(); err != nil {
		return nil, nil, err
	}
	if rep.To, err = p.to.identity(); err != nil {
		return nil, nil, err
	}
	rep.Complete = rep.To.Size
	removedText, err := p.to.first(removedFilesNames[:]...)
	if err != nil {
		return nil, nil, err
	}
	found.skip = p.skip
	found.names()
	found.force(p.recipe.Force)
	found.fileOrDirectory()
	if err := found.precomplete(); err != nil {
		return nil, nil, err
	}
	product, verdicts := p.askClient()
	rep.Checks = verdicts
	found.findings = append(found.findings, verdictFindings(verdicts)...)
	found.versions(rep.From, rep.To, slices.Contains(p.skip, updater.CheckDowngrade))
	found.manifests()
	removed := append(found.removedFiles(removedText), found.manifestRemoves(removedText)...)
	return product, removed, found.refuse()
}

// askClient asks FROM's updater about everything that is known before the work. It returns the update's product block.
func (p *pair) askClient() (*mar.Product, updater.Verdicts) {
	product, verdicts := p.recipe.ProductFor(p.to.mar, p.client)
	verdicts = append(p.client.Check(updater.Offer{Product: product}), verdicts...)
	if name := p.client.Settings.Value; name != "" && p.to.files[name] == nil {
		verdicts = append(verdicts, p.client.RefuseSettings(fmt.Sprintf("%q is in FROM and not in TO: the update would remove it, and every later one fails", name),
			"put the file into TO"))
	}
	if want := p.client.Manifest(); !slices.Contains(p.recipe.Manifests, want) {
		verdicts = append(verdicts, noManifest(want))
	}
	if f := p.recipe.Compression.Format; !p.client.Reads(f) {
		verdicts = append(verdicts, updater.Verdict{
			Check: updater.CheckMembers, Answer: updater.Fails, Code: updater.CodeXZ,
			Reason: fmt.Sprintf("the recipe compresses with %s, the client reads %v", f, p.client.Members.Value), WayOut: "leave the format to the client",
		})
	}
	if v := p.client.CheckPatchFormats(p.recipe.formats()...); v.Answer == updater.Fails {
		verdicts = append(verdicts, v)
	}
	return product, verdicts.Skip(p.skip...)
}

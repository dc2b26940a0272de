package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// PackOptions say how Pack makes a complete update. Only Product has no useful zero value.
type PackOptions struct {
	// Product is the channel and version of the update. Without it clients refuse the update; nil is for archives
	// that only serve as input of Build.
	Product *mar.Product
	// Arch is the architecture of the product, as in Recipe; "" means that no filter is used.
	Arch string
	// Platform decides which names are refused, as in Recipe.
	Platform string
	// Compression of members.
	Compression Compression
	// Manifests to write, in the order of their entries; nil means ManifestV3 alone.
	Manifests []updater.ManifestVersion
	// Layout is the form of the container. Those older than the zero value have no place for Product, which must be nil.
	Layout mar.Layout
	// Precomplete says where the list of installed files comes from.
	Precomplete PrecompleteSource
	// SkipLinks leaves out symbolic links and other files that are not regular, instead of refusing them.
	SkipLinks bool
	// Workers is how many files are compressed at a time; 0 means one for each CPU.
	Workers int
	// Memory bounds what they hold together; nil means DefaultMemory for this call alone.
	Memory *Memory
	// Progress is told how far the work is, never from two goroutines at once; it must return quickly.
	Progress func(Event)
}

// PrecompleteSource says where precomplete comes from, the list of files that a complete update removes first.
type PrecompleteSource string

// Sources of precomplete.
const (
	PrecompleteAuto     PrecompleteSource = ""         // the tree's own if it has one, else a new one
	PrecompleteTake     PrecompleteSource = "take"     // the tree's own, which must be there
	PrecompleteGenerate PrecompleteSource = "generate" // a new one, also in place of the tree's own
)

// Pack makes a complete update of a tree: what make_full_update.sh does, with createprecomplete.py before it where the tree has
// no precomplete. Files are compressed in parallel and held in memory, compressed, until the archive is dropped; the
// tree is not needed any more then. Use os.Root's FS for a tree that must not be left through links.
//
// What an update cannot deliver gives a *RefusedError with all reasons, and the report.
func Pack(ctx context.Context, tree fs.FS, opts PackOptions) (*mar.Archive, *Report, error) {
	start := time.Now()
	if opts.Compression.Level == "" {
		opts.Compression.Level = Level6
	}
	client, err := updater.ClientOfTree(tree, updater.Claims{})
	if err != nil {
		return nil, nil, fmt.Errorf("pack: %w", err)
	}
	r := Recipe{Compression: opts.Compression, Manifests: opts.Manifests, Arch: opts.Arch, Platform: opts.Platform}.For(client)
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	if opts.Layout != mar.LayoutSections && opts.Product != nil {
		return nil, nil, fmt.Errorf("pack: layout %v has no place for a channel and a version", opts.Layout)
	}
	switch opts.Precomplete {
	case PrecompleteAuto, PrecompleteTake, PrecompleteGenerate:
	default:
		return nil, nil, fmt.Errorf("pack: unknown source of precomplete %q", opts.Precomplete)
	}
	if opts.Memory == nil {
		opts.Memory = NewMemory(DefaultMemory)
	}
	p := &packer{opts: opts, recipe: r, tree: tree, found: make(map[string]*packed)}
	a, err := p.pack(ctx)
	p.report.Elapsed = time.Since(start)
	if p.checks != nil {
		p.report.Findings = p.checks.findings
	}
	if err != nil {
		if errors.Is(err, ErrRefused) {
			return nil, &p.report, err
		}
		return nil, nil, err
	}
	return a, &p.report, nil
}

type packer struct {
	opts   PackOptions
	recipe Recipe
	tree   fs.FS
	found  map[string]*packed
	names  []string
	checks *checks
	report Report
}

// A packed file is one on its way into the archive.
type packed struct {
	name    string
	size    int64
	mode    fs.FileMode
	data    []byte // the content, where it does not come from the tree
	member  *updater.Member
	seconds float64
}

func (p *packer) pack(ctx context.Context) (*mar.Archive, error) {
	p.report.Recipe = "pack"
	p.report.RecipeID = fmt.Sprintf("pack/2 files=%s manifests=%s arch=%q layout=%v precomplete=%q",
		p.recipe.Compression.Files.ID(), manifestNames(p.recipe.Manifests), p.recipe.Arch, p.opts.Layout, p.opts.Precomplete)
	to := &release{what: "tree", files: make(map[string]*updater.Member), lim: updater.Limits{}.WithDefaults()}
	from := &release{what: "nothing", files: make(map[string]*updater.Member)}
	p.checks = &checks{from: from, to: to, platform: p.recipe.Platform}
	if err := p.walk(ctx); err != nil {
		return nil, err
	}
	if err := p.precomplete(); err != nil {
		return nil, err
	}
	for n, f := range p.found {
		to.files[n] = &updater.Member{Name: n, Mode: f.mode}
		to.names = append(to.names, n)
	}
	reverse(to.names)
	p.names = to.names
	p.checks.index()
	p.checks.names()
	list, err := p.instructions()
	if err != nil {
		return nil, err
	}
	if len(p.found) == 0 {
		return nil, errors.New("pack: the tree has no files")
	}
	if broken := p.checks.broken(); len(broken) > 0 {
		return nil, &RefusedError{Findings: broken}
	}
	if err := p.compress(ctx); err != nil {
		return nil, err
	}
	return p.archive(ctx, list)
}

// walk lists the tree's files and finds what an update cannot hold.
func (p *packer) walk(ctx context.Context) error {
	filled := map[string]bool{".": true}
	var dirs []string
	err := fs.WalkDir(p.tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." {
				dirs = append(dirs, name)
			}
			return nil
		}
		if !d.Type().IsRegular() {
			f := Finding{
				Kind: KindSymlink, Severity: Broken, Path: name,
				Message: fmt.Sprintf("is no regular file (%s), which an update cannot deliver", d.Type()),
				WayOut:  "put the file itself there, or leave such files out",
			}
			if p.opts.SkipLinks {
				f.Severity, f.Message, f.WayOut = Note, "is no regular file and is left out", ""
			}
			p.checks.add(f)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		for dir := parent(name); !filled[dir]; dir = parent(dir) {
			filled[dir] = true
		}
		if updater.IsManifestName(name) {
			p.checks.add(Finding{Kind: KindManifest, Severity: Note, Path: name, Message: "is named like an update's manifest and is left out, as packaging does"})
			return nil
		}
		p.found[name] = &packed{name: name, size: info.Size(), mode: normalMode(mar.Executable(info.Mode()))}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pack: list the tree: %w", err)
	}
	for _, d := range dirs {
		if !filled[d] {
			p.report.EmptyDirectories = append(p.report.EmptyDirectories, d)
		}
		if !filled[d] && filled[parent(d)] {
			p.checks.add(Finding{Kind: KindEmptyDirectory, Severity: Note, Path: d, Message: "is a directory without files, which an update does not make"})
		}
	}
	return nil
}

func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return "."
}

// read returns the content of a small file of the tree.
func (p *packer) read(name string) ([]byte, error) {
	f := p.found[name]
	if f.data != nil {
		return f.data, nil
	}
	r, err := p.tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(r, updater.ManifestLimit+1))
	if err == nil && len(data) > updater.ManifestLimit {
		err = fmt.Errorf("%q: %w: more than %d bytes", name, updater.ErrLimit, updater.ManifestLimit)
	}
	return data, err
}

// precomplete finds or makes the list of installed files.
func (p *packer) precomplete() error {
	name := ""
	for _, n := range updater.PrecompleteNames {
		if p.found[n] != nil {
			name = n
			break
		}
	}
	if name != "" && p.opts.Precomplete != PrecompleteGenerate {
		text, err := p.read(name)
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		p.stale(name, text)
		return nil
	}
	if p.opts.Precomplete == PrecompleteTake {
		p.checks.add(Finding{Kind: KindPrecomplete, Severity: Broken, Message: "the tree has no precomplete", WayOut: "let Pack make one"})
		return nil
	}
	if name == "" {
		name = updater.PrecompleteNames[0]
		for n := range p.found {
			if strings.HasPrefix(n, "Contents/MacOS/") {
				name = updater.PrecompleteNames[1]
				break
			}
		}
	}
	p.found[name] = &packed{name: name, mode: 0o644}
	var names []string
	for n := range p.found {
		names = append(names, n)
	}
	data := precomplete(names)
	p.found[name].data, p.found[name].size = data, int64(len(data))
	return nil
}

// stale finds out whether a list of installed files is one of this tree.
func (p *packer) stale(name string, text []byte) {
	list, err := p.checks.installed(text)
	if err != nil {
		p.checks.badPrecomplete(name, err)
		return
	}
	p.checks.lostSettings(name, list)
	listed := make(map[string]bool, len(list))
	for _, i := range list {
		listed[i.Path] = true
	}
	var missing []string
	for n := range p.found {
		if !listed[n] && bytes.Contains(precomplete([]string{n}), []byte("remove ")) {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		p.checks.add(Finding{
			Kind: KindPrecomplete, Severity: Note, Path: name, Other: missing[0],
			Message: fmt.Sprintf("does not list %d files of the tree, %q first: a later complete update will not remove them", len(missing), missing[0]),
			WayOut:  "let Pack make a new one",
		})
	}
}

func (p *packer) instructions() ([]updater.Instruction, error) {
	var list []updater.Instruction
	for _, n := range p.names {
		list = append(list, addInstruction(n))
	}
	for _, n := range removedFilesNames {
		if p.found[n] == nil {
			continue
		}
		text, err := p.read(n)
		if err != nil {
			return nil, fmt.Errorf("pack: %w", err)
		}
		return append(list, p.checks.removedFiles(text)...), nil
	}
	return list, nil
}

// compress compresses all files.
func (p *packer) compress(ctx context.Context) error {
	var total int64
	jobs := make([]job, 0, len(p.names))
	steps := newCounter(StepPacking, p.opts.Progress)
	for _, n := range p.names {
		f := p.found[n]
		total += f.size
		content := Content{Kind: ContentFile, Size: f.size, Arch: p.recipe.Arch}
		need := peakMemory(p.recipe.Compression.Files, content) + f.size
		jobs = append(jobs, job{memory: need, order: f.size, run: func(ctx context.Context, _ *reservation) error {
			start := time.Now()
			if err := p.compressFile(ctx, f, content); err != nil {
				return fmt.Errorf("pack %q: %w", f.name, err)
			}
			f.seconds = time.Since(start).Seconds()
			steps.Add(f.name, f.size)
			return nil
		}})
	}
	steps.Start(total)
	return runJobs(ctx, workerCount(p.opts.Workers), p.opts.Memory, jobs)
}

func (p *packer) compressFile(ctx context.Context, f *packed, content Content) error {
	src := io.NopCloser(bytes.NewReader(f.data))
	if f.data == nil {
		file, err := p.tree.Open(f.name)
		if err != nil {
			return err
		}
		src = file
	}
	defer src.Close()
	var buf bytes.Buffer
	var n int64
	err := compressTo(ctx, p.recipe.Compression.Files, &buf, content, func(ctx context.Context, w io.Writer) (err error) {
		n, err = io.Copy(w, stream.NewReader(ctx, src))
		return err
	})
	if err != nil {
		return err
	}
	if n != f.size {
		return fmt.Errorf("the file had %d bytes and now has %d: it changed while it was read", f.size, n)
	}
	f.member = updater.NewMember(f.name, f.mode, buf.Bytes())
	return f.member.Usable(updater.Instruction{}, p.recipe.Compression.Format)
}

// archive puts everything together.
func (p *packer) archive(ctx context.Context, list []updater.Instruction) (*mar.Archive, error) {
	a := &mar.Archive{Product: p.opts.Product, Layout: p.opts.Layout}
	for _, v := range p.recipe.Manifests {
		m := &updater.Manifest{Type: "complete", Instructions: list}
		if v == updater.ManifestV2 {
			m.Instructions = versionTwo(list, true)
		}
		text := m.String()
		data, err := compress(ctx, p.recipe.Compression.Files, Content{Kind: ContentManifest, Arch: p.recipe.Arch}, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("pack: compress %s: %w", v.Name(), err)
		}
		a.Entries = append(a.Entries, mar.BytesEntry(v.Name(), 0o644, data))
		p.report.Files = append(p.report.Files, FileReport{
			Path: v.Name(), Action: ActionManifest, Why: "what the updater does", OldSize: -1, NewSize: int64(len(text)),
			FullSize: int64(len(data)), Size: int64(len(data)),
		})
	}
	for i, n := range p.names {
		f := p.found[n]
		a.Entries = append(a.Entries, f.member.Entry())
		why := "file of the tree"
		if f.data != nil {
			why = "made from the tree's list of files"
		}
		p.report.Files = append(p.report.Files, FileReport{
			Path: n, Action: ActionAdd, Why: why, Instruction: list[i].String(), OldSize: -1, NewSize: f.size,
			FullSize: f.member.Size, Size: f.member.Size, Seconds: f.seconds,
		})
	}
	size := a.Size()
	if size < 0 {
		_, err := a.WriteTo(io.Discard)
		if errors.Is(err, mar.ErrLimit) {
			return nil, &RefusedError{Findings: []Finding{{Kind: KindSize, Severity: Broken, Code: updater.CodeRead, Message: err.Error()}}}
		}
		return nil, fmt.Errorf("pack: lay out the archive: %w", err)
	}
	p.report.Size, p.report.Complete = size, size
	p.report.To = ReleaseInfo{Size: size, Files: len(p.names)}
	if p.opts.Product != nil {
		p.report.To.Channel, p.report.To.Version = p.opts.Product.Channel, p.opts.Product.Version
	}
	if p.found["application.ini"] != nil {
		text, err := p.read("application.ini")
		if err != nil {
			return nil, fmt.Errorf("pack: %w", err)
		}
		app := version.ParseIni(text)["App"]
		p.report.To.Name, p.report.To.BuildID = app["Name"], app["BuildID"]
		if app["Version"] != "" {
			p.report.To.Version = app["Version"]
		}
	}
	return a, nil
}

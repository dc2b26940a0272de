package partial

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A DifferenceKind says how a file of an updated tree differs from TO's.
type DifferenceKind string

// The ways to differ.
const (
	DiffersMissing    DifferenceKind = "missing"    // TO has the file, the updated tree has not
	DiffersExtra      DifferenceKind = "extra"      // the updated tree has a file that TO has not
	DiffersContent    DifferenceKind = "content"    // the bytes differ
	DiffersExecutable DifferenceKind = "executable" // the executable bit differs
)

// A Difference is one file in which an updated tree differs from TO.
type Difference struct {
	Manifest string         `json:"manifest"` // by which the tree was updated
	Path     string         `json:"path"`     // of the file or directory
	Kind     DifferenceKind `json:"kind"`     // in what it differs
	// Offset is that of the first differing byte, GotSize and WantSize are the bytes of the file and of TO's, where the content
	// differs. A file that is a prefix of the other differs at its own end.
	Offset   int64 `json:"offset,omitempty"`
	GotSize  int64 `json:"got_size,omitempty"`
	WantSize int64 `json:"want_size,omitempty"`
	// Instruction is the one that last touched the file, "" where none did.
	Instruction string `json:"instruction,omitempty"`
	// Why says which rule makes the difference one that is meant to be; "" where none does.
	Why string `json:"why,omitempty"`
}

// String describes the difference in one line.
func (d Difference) String() string {
	s := fmt.Sprintf("%q ", d.Path)
	switch d.Kind {
	case DiffersMissing:
		s += "is missing"
	case DiffersExtra:
		s += "is not in TO"
	case DiffersExecutable:
		s += "has another executable bit"
	default:
		s += fmt.Sprintf("differs from byte %d on (%d bytes instead of %d)", d.Offset, d.GotSize, d.WantSize)
	}
	if d.Instruction != "" {
		s += " after " + d.Instruction
	}
	if d.Why != "" {
		s += ": " + d.Why
	}
	return s
}

// A Proof says what applying a partial update to FROM, in memory, gave. The counts are those of the newest manifest.
type Proof struct {
	Manifests []string `json:"manifests"` // that were followed, the newest first
	Files     int      `json:"files"`     // of TO
	Same      int      `json:"same"`      // files left as they were
	Patched   int      `json:"patched"`   // files that got a patch
	Added     int      `json:"added"`     // files that were written whole
	Removed   int      `json:"removed"`   // files that are gone
	// Skipped counts instructions whose condition does not hold in FROM.
	Skipped int `json:"skipped"`
	// Expected are differences that the packaging rules make on purpose: the user's own channel settings stay, and
	// extensions that are not installed are not added.
	Expected []Difference `json:"expected,omitempty"`
	// Differences are all others. A partial update with any of them must not be shipped.
	Differences []Difference `json:"differences,omitempty"`
	// Client is FROM's updater, each fact with its source.
	Client *updater.Client `json:"client,omitempty"`
	// Checks are what the client's checks, and the proof itself, come to. An update of which one fails must not be
	// shipped either.
	Checks updater.Verdicts `json:"checks,omitempty"`
}

// A VerifyError says that a partial update does not turn FROM into TO.
type VerifyError struct {
	Differences []Difference // all that are not meant to be
}

// Error describes every difference, up to ten.
func (e *VerifyError) Error() string {
	s := fmt.Sprintf("%v in %d files", ErrDifferent, len(e.Differences))
	if len(e.Differences) == 1 {
		s = ErrDifferent.Error()
	}
	for i, d := range e.Differences {
		if i == 10 {
			s += fmt.Sprintf("; and %d more", len(e.Differences)-i)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		s += sep + d.String()
	}
	return s
}

// Is makes errors.Is(err, ErrDifferent) true.
func (e *VerifyError) Is(target error) bool { return target == ErrDifferent }

// VerifyOptions change how Verify and Prove work. The zero value is fine.
type VerifyOptions struct {
	// Workers is how many files are worked on at a time; 0 means one for each CPU.
	Workers int
	// Memory bounds what they hold together; nil means DefaultMemory for this call alone.
	Memory *Memory
	// Limits bound what compressed members may cost.
	Limits updater.Limits
	// Client is FROM's updater; nil means what FROM's complete update shows of it.
	Client *updater.Client
	// Keys are those built into the client, of which one must have signed the update; none means that they are not
	// known.
	Keys []crypto.PublicKey
	// Skip names checks of the client to leave out, as updater.Checks has them.
	Skip []updater.Check
	// Progress is told how far the work is, never from two goroutines at once; it must return quickly.
	Progress func(Event)
}

// Verify proves that FROM's updater takes partial and that it turns FROM into TO, in memory: it asks the client, follows
// each manifest that it looks for, applies every patch to the file in FROM, and compares names, bytes and executable bits
// with TO. Differences that the packaging rules make on purpose are accepted; Prove lists them, and what could not be
// checked.
//
// It returns nil, an *updater.ClientError where the client refuses the update, a *VerifyError with all differences, an *UpdateError where the updater would fail, crash or, against
// its own interest, not notice that something is wrong, or the error of reading. All three readers may be shared and
// must not change.
func Verify(ctx context.Context, from, partial, to *mar.Reader, opts *VerifyOptions) error {
	p, err := Prove(ctx, from, partial, to, opts)
	if err != nil {
		return err
	}
	if len(p.Differences) > 0 {
		return &VerifyError{Differences: p.Differences}
	}
	return p.Checks.Err()
}

// Prove does what Verify does and says what it found. Differences, and what the client refuses before it reads the
// manifest, are no error here.
func Prove(ctx context.Context, from, partial, to *mar.Reader, opts *VerifyOptions) (*Proof, error) {
	if opts == nil {
		opts = &VerifyOptions{}
	}
	lim := opts.Limits.WithDefaults()
	old, err := openRelease("FROM", from, lim, false)
	if err != nil {
		return nil, err
	}
	target, err := openRelease("TO", to, lim, false)
	if err != nil {
		return nil, err
	}
	client, err := clientOf(opts.Client, old)
	if err != nil {
		return nil, err
	}
	p := &prover{
		from: old, to: target, lim: lim, client: client, skip: opts.Skip, entries: make(map[string]*updater.Member),
		workers: workerCount(opts.Workers), memory: opts.Memory, progress: opts.Progress,
	}
	for _, f := range partial.Files() {
		if p.entries[f.Name] == nil {
			p.entries[f.Name] = updater.MemberOf(f)
		}
	}
	header, err := client.CheckMAR(ctx, partial, opts.Keys...)
	if err != nil {
		return nil, err
	}
	proof, err := p.prove(ctx)
	if err != nil {
		return nil, err
	}
	proof.Checks = merged(header.Skip(opts.Skip...), proof.Checks)
	return proof, nil
}

// A prover follows the manifests of an update.
type prover struct {
	from, to *release
	entries  map[string]*updater.Member // of the update
	lim      updater.Limits
	client   *updater.Client
	skip     []updater.Check
	workers  int
	memory   *Memory
	progress func(Event)
	// facts are comparisons (see fact) that need not be made again.
	facts map[string]bool
	// sound are entries that are known to unpack.
	sound map[string]bool
	// removed says which manifest removes a file that the client must not lose.
	removed map[string]string

	mu      sync.Mutex
	diffs   []Difference
	formats map[string]bool // of patches
}

// fact names the finding that a blob equals a file of TO.
func fact(b *updater.Blob, to string) string { return b.String() + "\x00" + to }

// A comparison is a blob that has to be held against a file of TO.
type comparison struct {
	blob     *updater.Blob
	to       *updater.Member
	manifest string
	by       string // instruction
	why      string // the rule that allows a difference
}

func (p *prover) prove(ctx context.Context) (*Proof, error) {
	if p.memory == nil {
		p.memory = NewMemory(DefaultMemory)
	}
	p.removed = make(map[string]string)
	proof := &Proof{Files: len(p.to.files), Client: p.client}
	var todo []comparison
	needed := make(map[string]updater.Instruction)
	versions, err := p.manifests()
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		m := p.entries[v.Name()]
		if err := m.Usable(updater.Instruction{}, p.client.Members.Value...); err != nil {
			return nil, err
		}
		text, err := m.Content(ctx, updater.Limits{Member: updater.ManifestLimit, Ratio: p.lim.Ratio})
		if err != nil {
			return nil, updater.ItemError(m, updater.Instruction{}, err)
		}
		man, err := updater.ParseManifest(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		list, err := p.follow(v, man, proof, len(proof.Manifests) == 0, needed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		proof.Manifests = append(proof.Manifests, m.Name)
		todo = append(todo, list...)
	}
	if err := p.run(ctx, todo, needed); err != nil {
		return nil, err
	}
	slices.SortFunc(p.diffs, compareDifferences)
	for _, d := range p.diffs {
		if d.Why != "" {
			proof.Expected = append(proof.Expected, d)
		} else {
			proof.Differences = append(proof.Differences, d)
		}
	}
	proof.Checks = append(proof.Checks, p.settings(),
		updater.Verdict{Check: updater.CheckMembers, Answer: updater.Holds},
		updater.Verdict{Check: updater.CheckManifests, Answer: updater.Holds},
		p.client.CheckPatchFormats(slices.Sorted(maps.Keys(p.formats))...),
		p.verdict(proof.Differences),
	).Skip(p.skip...)
	return proof, nil
}

// manifests returns the versions of manifests to follow, the newest first: those of the update that the client may
// look for. The one that it reads must be among them.
func (p *prover) manifests() ([]updater.ManifestVersion, error) {
	want := p.client.Manifest()
	if want < updater.ManifestV2 {
		return nil, fmt.Errorf("the client looks for %s, whose instructions are not supported", want.Name())
	}
	if p.entries[want.Name()] == nil && !slices.Contains(p.skip, updater.CheckManifests) {
		v := noManifest(want)
		return nil, &updater.UpdateError{Code: v.Code, Path: want.Name(), Err: errors.New(v.Reason)}
	}
	var list []updater.ManifestVersion
	for v := updater.ManifestV3; v >= updater.ManifestV2; v-- {
		known := !p.client.Manifests.Known || slices.Contains(p.client.Manifests.Value, v) || slices.Contains(p.skip, updater.CheckManifests)
		if known && p.entries[v.Name()] != nil {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return nil, &updater.UpdateError{Code: updater.CodeCrash, Path: want.Name(), Err: errors.New("the archive has no manifest")}
	}
	return list, nil
}

// noManifest is the verdict for an update without the manifest that the client reads.
func noManifest(want updater.ManifestVersion) updater.Verdict {
	return updater.Verdict{
		Check: updater.CheckManifests, Answer: updater.Fails, Code: updater.CodeCrash,
		Reason: fmt.Sprintf("the update has no %s, which the client looks for", want.Name()), WayOut: "leave the manifests to the client",
	}
}

// settings says whether the client's own settings outlive the update.
func (p *prover) settings() updater.Verdict {
	name := p.client.Settings.Value
	switch {
	case name == "":
		return updater.Verdict{Check: updater.CheckSettings, Answer: updater.NotChecked, Reason: "FROM has no " + updater.SettingsFile}
	case p.removed[name] != "":
		return p.client.RefuseSettings(fmt.Sprintf("%s removes %q", p.removed[name], name), "leave the file where it is")
	}
	return updater.Verdict{Check: updater.CheckSettings, Answer: updater.Holds}
}

// verdict says what the proof comes to.
func (p *prover) verdict(differences []Difference) updater.Verdict {
	v := updater.Verdict{Check: updater.CheckVerify, Answer: updater.Holds}
	if n := len(differences); n > 0 {
		v.Answer, v.Reason = updater.Fails, (&VerifyError{Differences: differences}).Error()
	}
	return v
}

func compareDifferences(a, b Difference) int {
	// the newest manifest first, then by path
	for _, c := range [...]int{-bytes.Compare([]byte(a.Manifest), []byte(b.Manifest)), bytes.Compare([]byte(a.Path), []byte(b.Path)), bytes.Compare([]byte(a.Kind), []byte(b.Kind))} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// follow works out what a manifest does to FROM, reports differences in names and modes, and returns what has to be
// compared. needed gets the items that are used.
func (p *prover) follow(v updater.ManifestVersion, man *updater.Manifest, proof *Proof, count bool, needed map[string]updater.Instruction) ([]comparison, error) {
	before := newMemoryTree(p.from.files, p.from.text)
	plan, err := updater.Simulate(man, before, func(name string) (updater.Item, bool) {
		m := p.entries[name]
		if m == nil {
			return updater.Item{}, false
		}
		return updater.Item{Size: m.Size, Mode: m.Mode}, true
	}, p.client)
	if err != nil {
		return nil, err
	}
	for name, ins := range plan.Used {
		needed[name] = ins
	}
	if count {
		proof.Skipped = len(plan.Skipped)
	}
	if name := p.client.Settings.Value; name != "" {
		if c := plan.Changes[name]; c != nil && c.Blob == nil {
			p.removed[name] = v.Name()
		}
	}
	report := func(d Difference) {
		d.Manifest = v.Name()
		d.Why = p.expected(v, d, before, plan)
		p.diffs = append(p.diffs, d)
	}
	var todo []comparison
	for _, n := range p.to.names {
		want, got := p.to.files[n], p.outcome(plan, n)
		if got.blob == nil {
			report(Difference{Path: n, Kind: DiffersMissing, Instruction: got.by})
			continue
		}
		if count {
			proof.tally(got.blob)
		}
		if got.executable != want.Executable() {
			report(Difference{Path: n, Kind: DiffersExecutable, Instruction: got.by})
		}
		if p.facts[fact(got.blob, n)] {
			continue
		}
		todo = append(todo, comparison{
			blob: got.blob, to: want, manifest: v.Name(), by: got.by,
			why: p.expected(v, Difference{Path: n, Kind: DiffersContent}, before, plan),
		})
	}
	extra, removed := p.extra(plan)
	for _, d := range extra {
		report(d)
	}
	if count {
		proof.Removed += removed
	}
	return todo, nil
}

// An outcome is what a plan makes of a file. blob is nil where it is not there afterwards, by is the instruction that decides,
// "" where none does.
type outcome struct {
	blob       *updater.Blob
	executable bool
	by         string
}

func (p *prover) outcome(plan *updater.Plan, name string) outcome {
	old := p.from.files[name]
	c, touched := plan.Changes[name]
	switch {
	case !touched && old == nil:
		return outcome{}
	case !touched:
		return outcome{&updater.Blob{File: name}, old.Executable(), ""}
	case c.Blob == nil:
		return outcome{by: c.By.String()}
	case c.Moded:
		return outcome{c.Blob, mar.Executable(c.Mode), c.By.String()}
	}
	return outcome{c.Blob, old.Executable(), c.By.String()}
}

// extra returns the files that are there afterwards and not in TO, and how many of FROM's are removed.
func (p *prover) extra(plan *updater.Plan) (list []Difference, removed int) {
	for _, n := range p.from.names {
		if p.to.files[n] != nil {
			continue
		}
		if c, touched := plan.Changes[n]; touched && c.Blob == nil {
			removed++
			continue
		}
		list = append(list, Difference{Path: n, Kind: DiffersExtra})
	}
	for _, n := range plan.Order {
		if c := plan.Changes[n]; c.Blob != nil && p.to.files[n] == nil && p.from.files[n] == nil {
			list = append(list, Difference{Path: n, Kind: DiffersExtra, Instruction: c.By.String()})
		}
	}
	return list, removed
}

// tally counts a file by where its content comes from.
func (proof *Proof) tally(b *updater.Blob) {
	switch {
	case b.Base != nil:
		proof.Patched++
	case b.Item != "":
		proof.Added++
	default:
		proof.Same++
	}
}

// expected says which condition makes a difference one that is meant to be: that of the instruction with which TO
// itself puts the file in.
func (p *prover) expected(v updater.ManifestVersion, d Difference, before *memoryTree, plan *updater.Plan) string {
	c, touched := plan.Changes[d.Path]
	ins := p.to.adding(d.Path)
	tested := false
	if ins.Test != "" {
		k, err := before.Stat(path.Clean(ins.Test))
		tested = err == nil && k != updater.NodeNone
	}
	switch {
	case ins.Op == updater.OpAddIfNot && !touched && v < updater.ManifestV3:
		if addIfNot(d.Path) {
			return v.Name() + " does not touch channel settings"
		}
		return v.Name() + " does not touch what is only added where it is missing"
	case ins.Op == updater.OpAddIfNot && !touched && tested && d.Kind != DiffersExtra:
		if addIfNot(d.Path) {
			return "the installed channel settings are kept (add-if-not)"
		}
		return fmt.Sprintf("%q is installed, so nothing is put in its place (add-if-not)", path.Clean(ins.Test))
	case ins.Op == updater.OpAddIf && d.Kind == DiffersMissing && !tested && (!touched || c.Blob != nil):
		return fmt.Sprintf("%q is not installed, so nothing is added to it (add-if)", path.Clean(ins.Test))
	}
	return ""
}

// run makes the comparisons and unpacks every entry that is used.
func (p *prover) run(ctx context.Context, todo []comparison, needed map[string]updater.Instruction) error {
	var jobs []job
	var total int64
	steps := newCounter(StepVerifying, p.progress)
	addJob := func(memory, size int64, name string, run func(ctx context.Context) error) {
		total += size
		jobs = append(jobs, job{memory: memory, order: memory, run: func(ctx context.Context, _ *reservation) error {
			if err := run(ctx); err != nil {
				return err
			}
			steps.Add(name, size)
			return nil
		}})
	}
	// Comparisons of one blob with one member, asked for by several manifests, are made once.
	type key struct{ blob, to string }
	same := make(map[key][]comparison)
	var keys []key
	read := make(map[string]bool)   // items that a comparison unpacks
	theirs := make(map[string]bool) // items that are TO's own bytes
	for _, c := range todo {
		k := key{c.blob.String(), c.to.Name}
		if same[k] == nil {
			keys = append(keys, k)
		}
		same[k] = append(same[k], c)
	}
	for _, k := range keys {
		c := same[k][0]
		equal, err := p.sameStored(ctx, c)
		if err != nil {
			return err
		}
		if equal {
			theirs[c.blob.Item] = true
			continue // an item still has to be unpacked, once, below
		}
		size, err := c.to.ContentSize(p.lim)
		if err != nil {
			return &InputError{"TO", err}
		}
		memory := min(16*size, 64<<20) + 1<<20 // two decoders
		for b := c.blob; b != nil; b = b.Base {
			m := p.member(b)
			n := m.Size + size // a patched file is about as large as it is to be
			if b.Base == nil {
				if n, err = m.ContentSize(p.lim); err != nil {
					return p.blame(m, needed, err)
				}
				n += m.Size
			}
			memory += n
			if b.Item != "" {
				read[b.Item] = true
			}
		}
		addJob(memory, size, c.to.Name, func(ctx context.Context) error {
			err := p.compare(ctx, same[k], needed)
			p.memory.collect(size)
			return err
		})
	}
	for name, ins := range needed {
		m := p.entries[name]
		if p.sound[name] {
			continue
		}
		if err := m.Usable(ins, p.client.Members.Value...); err != nil {
			return err
		}
		if read[name] {
			continue
		}
		addJob(8<<20, m.Size, name, func(ctx context.Context) error {
			err := p.unpack(ctx, m, ins)
			if theirs[name] && errors.Is(err, updater.ErrMember) {
				return &InputError{"TO", errors.Unwrap(err)}
			}
			return err
		})
	}
	steps.Start(total)
	return runJobs(ctx, p.workers, p.memory, jobs)
}

func (p *prover) member(b *updater.Blob) *updater.Member {
	if b.Item != "" {
		return p.entries[b.Item]
	}
	return p.from.files[b.File]
}

// sameStored reports whether a whole file is stored as the same bytes in TO.
func (p *prover) sameStored(ctx context.Context, c comparison) (bool, error) {
	if c.blob.Base != nil {
		return false, nil
	}
	return sameBytes(ctx, p.member(c.blob), c.to)
}

// unpack reads an entry to its end.
func (p *prover) unpack(ctx context.Context, m *updater.Member, ins updater.Instruction) error {
	r, err := m.Open(p.lim)
	if err == nil {
		defer r.Close()
		_, err = io.Copy(io.Discard, stream.NewReader(ctx, r))
	}
	if err != nil && ctx.Err() == nil {
		return updater.ItemError(m, ins, err)
	}
	return err
}

// blame says whose fault it is that a member cannot be unpacked: the update's, or FROM's.
func (p *prover) blame(m *updater.Member, needed map[string]updater.Instruction, err error) error {
	switch ins, ok := needed[m.Name]; {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case ok && p.entries[m.Name] == m:
		return updater.ItemError(m, ins, err)
	}
	return &InputError{"FROM", err}
}

// compare works out a blob and holds it against a file of TO.
func (p *prover) compare(ctx context.Context, same []comparison, needed map[string]updater.Instruction) error {
	c := same[0]
	got, err := p.materialize(ctx, c.blob, needed)
	if err != nil {
		return err
	}
	want, err := c.to.Open(p.lim)
	if err != nil {
		return &InputError{"TO", err}
	}
	defer want.Close()
	first, wantSize, err := compareStream(ctx, got, want)
	if err != nil {
		if ctx.Err() == nil {
			err = &InputError{"TO", err}
		}
		return err
	}
	if first < 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range same {
		p.diffs = append(p.diffs, Difference{
			Manifest: c.manifest, Path: c.to.Name, Kind: DiffersContent, Instruction: c.by, Why: c.why,
			Offset: first, GotSize: int64(len(got)), WantSize: wantSize,
		})
	}
	return nil
}

// compareStream returns the offset of the first byte in which got differs from what is read, or -1, and the size of what
// is read.
func compareStream(ctx context.Context, got []byte, want io.Reader) (first, size int64, err error) {
	first = -1
	buf := make([]byte, min(len(got)+1, 64<<10))
	for {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		n, err := want.Read(buf)
		if first < 0 {
			if at := difference(got[min(size, int64(len(got))):], buf[:n]); at < n {
				first = size + int64(at)
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if first < 0 && int64(len(got)) > size {
		first = size
	}
	return first, size, nil
}

// difference returns the index of the first byte of b that is not the same in a, or len(b).
func difference(a, b []byte) int {
	if len(a) >= len(b) && bytes.Equal(a[:len(b)], b) {
		return len(b)
	}
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return i
		}
	}
	return len(b)
}

// materialize works out a blob in memory.
func (p *prover) materialize(ctx context.Context, b *updater.Blob, needed map[string]updater.Instruction) ([]byte, error) {
	m := p.member(b)
	if b.Base == nil {
		data, err := m.Content(ctx, p.lim)
		if err != nil {
			return nil, p.blame(m, needed, err)
		}
		return data, nil
	}
	old, err := p.materialize(ctx, b.Base, needed)
	if err != nil {
		return nil, err
	}
	got, format, err := m.ApplyPatch(ctx, old, needed[m.Name], p.lim)
	if err != nil {
		return nil, err
	}
	p.used(format.Name())
	return got, nil
}

// used notes the format of a patch.
func (p *prover) used(format string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.formats == nil {
		p.formats = make(map[string]bool)
	}
	p.formats[format] = true
}

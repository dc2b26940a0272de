package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/internal/names"
	"github.com/senbonzakura/senbonzakura/internal/spelling"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// LintOptions change what Lint looks at. The zero value looks at everything.
type LintOptions struct {
	// Fast leaves out decompressing the members: damage in their data is not seen then.
	Fast bool
	// ManifestsOnly leaves out the members altogether.
	ManifestsOnly bool
	// Client is the updater that the update is meant for; nil means, for a complete update, the one that it installs, as
	// far as it shows that, else one of which nothing is known but that it verifies.
	Client *Client
	// Members are the formats that the updater reads; empty means those of Client, else that of the manifest, else xz.
	Members []MemberFormat
	// Limits bound what members may cost.
	Limits Limits
	// Workers is how many members are read at a time; 0 means one for each CPU.
	Workers int
}

// Lint lists what an updater would trip over in the members and manifests of an update, whatever it is applied to: members
// that are damaged, in a format or with filters, checks or dictionaries that it does not have, or of which it would leave
// out a part; patches that contradict themselves or are in a format that the client is known not to apply; manifests that are missing, that it refuses or crashes on, or that updaters make different things of; a
// channel that the client refuses, or every client with a list of channels; a precomplete that takes the client's settings away; names that mean
// something else on Windows, or that macOS takes for one, where the update may be for these.
// Members come first, in the archive's order. The error is that of reading the archive, or of ctx.
//
// What is wrong with the archive as such, its signatures and the names of its entries, [mar.Lint] says.
func Lint(ctx context.Context, r *mar.Reader, opts *LintOptions) ([]*UpdateError, error) {
	if opts == nil {
		opts = &LintOptions{}
	}
	l := linter{files: r.Files(), opts: *opts}
	l.opts.Limits = l.opts.Limits.WithDefaults()
	if l.opts.Workers <= 0 {
		l.opts.Workers = runtime.GOMAXPROCS(0)
	}
	manifests := l.manifests(r)
	if opts.Client != nil && len(l.opts.Members) == 0 {
		l.opts.Members = opts.Client.Members.Value
	}
	if len(l.opts.Members) == 0 {
		l.opts.Members = []MemberFormat{FormatXZ}
		if len(manifests) > 0 {
			f, err := manifests[0].Format()
			if err != nil {
				return nil, err
			}
			if f != "" {
				l.opts.Members = []MemberFormat{f}
			}
		}
	}
	var list []*UpdateError // of the manifests
	if len(manifests) == 0 {
		list = append(list, &UpdateError{Code: CodeCrash, Path: ManifestV3.Name(), Err: errors.New("the archive has no manifest")})
	}
	release := lintedRelease{files: make(map[string]*mar.File, len(l.files))}
	for _, f := range l.files {
		if release.files[f.Name] == nil {
			release.files[f.Name] = f
		}
	}
	for _, m := range manifests {
		text, err := m.Content(ctx, Limits{Member: min(l.opts.Limits.Member, ManifestLimit), Ratio: l.opts.Limits.Ratio})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, ErrMember):
			continue // said already
		case errors.Is(err, ErrLimit):
			list = append(list, &UpdateError{Path: m.Name, Err: err})
			continue
		case err != nil:
			return nil, err
		}
		man, found := lintManifest(r, m.Name, text)
		list = append(list, found...)
		if man != nil {
			release.manifests = append(release.manifests, namedManifest{m.Name, man})
		}
	}
	if !l.opts.ManifestsOnly {
		l.patches = release.patches()
		found, err := l.members(ctx)
		if err != nil {
			return nil, err
		}
		list = append(found, list...)
	}
	more, err := l.release(ctx, r, &release)
	return append(list, more...), err
}

type linter struct {
	files   []*mar.File
	opts    LintOptions
	patches map[string]bool // which members are patches
}

// manifests returns those that there are, the newest first.
func (l *linter) manifests(r *mar.Reader) []*Member {
	var list []*Member
	for v := ManifestV3; v >= ManifestV1; v-- {
		if f := r.Lookup(v.Name()); f != nil {
			list = append(list, MemberOf(f))
		}
	}
	return list
}

// members looks at all of them, several at a time.
func (l *linter) members(ctx context.Context) ([]*UpdateError, error) {
	found := make([]*UpdateError, len(l.files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.opts.Workers)
	for i, f := range l.files {
		g.Go(func() error {
			err := l.member(ctx, MemberOf(f))
			if errors.As(err, &found[i]) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var list []*UpdateError
	for _, e := range found {
		if e != nil {
			list = append(list, e)
		}
	}
	return list, nil
}

// member returns an *UpdateError, or the error of reading.
func (l *linter) member(ctx context.Context, m *Member) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.Usable(Instruction{}, l.opts.Members...); err != nil || l.opts.Fast {
		return err
	}
	if l.patches[m.Name] {
		return l.patch(ctx, m)
	}
	r, err := m.Open(l.opts.Limits)
	if err == nil {
		_, err = stream.Copy(ctx, io.Discard, r)
		r.Close()
	}
	if errors.Is(err, ErrMember) || errors.Is(err, ErrLimit) {
		return ItemError(m, Instruction{}, err)
	}
	return err
}

// patch reads a patch as far as that says something without the file that it is for.
func (l *linter) patch(ctx context.Context, m *Member) error {
	return m.withPatch(ctx, Instruction{Path: m.Name}, l.opts.Limits, func(f PatchFormat, patch io.Reader, _ PatchOptions) error {
		if c := l.opts.Client; c != nil {
			if v := c.CheckPatchFormats(f.Name()); v.Answer == Fails {
				return &UpdateError{Code: v.Code, Err: errors.New(v.Reason)}
			}
		}
		if _, err := f.Inspect(ctx, patch); err != nil {
			return err
		}
		_, err := stream.Copy(ctx, io.Discard, patch) // to the end of the member, where its check is
		return err
	})
}

// lintManifest returns a manifest, nil where it cannot be parsed, and what is wrong with it.
func lintManifest(r *mar.Reader, name string, text []byte) (*Manifest, []*UpdateError) {
	man, err := ParseManifest(text)
	var ue *UpdateError
	switch {
	case errors.As(err, &ue):
		ue.Err = fmt.Errorf("%s: %w", name, ue.Err)
		return nil, []*UpdateError{ue}
	case err != nil: // there is no other
		return nil, []*UpdateError{{Code: CodeParse, Path: name, Err: err}}
	}
	list := man.Check(func(item string) (Item, bool) {
		f := r.Lookup(item)
		if f == nil {
			return Item{}, false
		}
		return Item{Size: f.Size, Mode: f.Mode}, true
	})
	for _, e := range list {
		e.Err = fmt.Errorf("%s: %w", name, e.Err)
	}
	return man, list
}

// A lintedRelease is an update whose manifests could be parsed, the newest first.
type lintedRelease struct {
	files     map[string]*mar.File
	manifests []namedManifest
}

type namedManifest struct {
	name string
	*Manifest
}

// patches returns which members are patches.
func (l *lintedRelease) patches() map[string]bool {
	list := make(map[string]bool)
	for _, m := range l.manifests {
		for _, ins := range m.Instructions {
			if ins.Op == OpPatch || ins.Op == OpPatchIf {
				list[ins.item()] = true
			}
		}
	}
	return list
}

// complete says whether the update is a complete one.
func (l *lintedRelease) complete() bool {
	return len(l.manifests) > 0 && l.manifests[0].Type == "complete"
}

// release looks at what an update means for its client as a whole.
func (l *linter) release(ctx context.Context, r *mar.Reader, u *lintedRelease) ([]*UpdateError, error) {
	client := l.opts.Client
	if client == nil {
		var err error
		if client, err = lintedClient(r, u.complete()); err != nil {
			return nil, err
		}
	}
	var list []*UpdateError
	for _, v := range client.Check(OfferOf(r)) {
		// of the others, mar.Lint says that signature or product block are missing
		if (v.Check == CheckClientChannel || v.Check == CheckDowngrade) && (v.Answer == Fails || v.Warning) {
			list = append(list, &UpdateError{Code: v.Code, Err: errors.New(v.Reason)})
		}
	}
	platform := string(client.Platform.Value)
	pre, found, err := l.precomplete(ctx, u)
	if err != nil {
		return nil, err
	}
	list = append(list, found...)
	for _, m := range append(slices.Clone(u.manifests), pre) {
		list = append(list, lintNames(m, platform)...)
	}
	return append(list, lintSpelling(r, platform)...), nil
}

// lintedClient is what is known of the client of an update that is looked at alone.
func lintedClient(r *mar.Reader, complete bool) (*Client, error) {
	yes := true
	shown := Claims{}
	if complete {
		_, claims, err := ReadComplete(r)
		switch {
		case errors.Is(err, ErrMember), errors.Is(err, ErrLimit): // said already
		case err != nil:
			return nil, err
		default:
			shown = claims
		}
	}
	return NewClient(Claims{Verifies: &yes}, shown, Claims{}, TrustComplete)
}

// precomplete reads the list of installed files that a complete update brings, and finds what is wrong with it.
func (l *linter) precomplete(ctx context.Context, u *lintedRelease) (pre namedManifest, found []*UpdateError, err error) {
	pre = namedManifest{"", &Manifest{}}
	if !u.complete() {
		return pre, nil, nil
	}
	for _, name := range PrecompleteNames {
		f := u.files[name]
		if f == nil {
			continue
		}
		text, err := MemberOf(f).Content(ctx, Limits{Member: min(l.opts.Limits.Member, ManifestLimit), Ratio: l.opts.Limits.Ratio})
		switch {
		case ctx.Err() != nil:
			return pre, nil, ctx.Err()
		case errors.Is(err, ErrMember), errors.Is(err, ErrLimit):
			return pre, nil, nil // said already
		case err != nil:
			return pre, nil, err
		}
		list, err := ParsePrecomplete(text)
		if err != nil {
			return pre, []*UpdateError{{Code: CodeParse, Path: name, Err: fmt.Errorf("every later complete update fails: %w", err)}}, nil
		}
		pre.name, pre.Instructions = name, list
		onlyIfMissing := make(map[string]bool)
		for _, ins := range u.manifests[0].Instructions {
			if ins.Op == OpAddIfNot {
				onlyIfMissing[path.Clean(ins.Path)] = true
			}
		}
		if lost, settings := LostSettings(list, func(n string) bool { return onlyIfMissing[path.Clean(n)] }); len(lost) > 0 {
			e := &UpdateError{Path: name, Err: errors.New(LostSettingsMessage(lost, settings))}
			if settings {
				e.Code = CodeSettings
			}
			found = append(found, e)
		}
		break
	}
	return pre, found, nil
}

// lintNames finds lines that remove something else, or fail, on Windows. Names of what is put in are those of entries.
func lintNames(m namedManifest, platform string) []*UpdateError {
	if !names.OnWindows(platform) {
		return nil
	}
	var list []*UpdateError
	for _, ins := range m.Instructions {
		reason := names.WindowsReason(ins.Path)
		if ins.item() != "" || reason == names.Fine {
			continue
		}
		e := &UpdateError{Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: fmt.Errorf("%s: %v", m.name, reason)}
		if reason.Refused() {
			e.Code = CodeParse
		}
		list = append(list, e)
	}
	return list
}

// lintSpelling finds names that are one on macOS, but for those that differ in case alone.
func lintSpelling(r *mar.Reader, platform string) []*UpdateError {
	if platform != "" && platform != names.MacOS {
		return nil
	}
	var all []string
	seen := make(map[string]bool)
	for _, f := range r.Files() {
		for n := f.Name; n != "." && n != "/" && n != "" && !seen[n]; n = path.Dir(n) {
			seen[n] = true
			all = append(all, n)
		}
	}
	var list []*UpdateError
	spelling.Collisions(all, names.MacOS, func(name, other string, d spelling.Difference) {
		if d != spelling.Case {
			list = append(list, &UpdateError{Path: name, Err: fmt.Errorf("differs from %q %v: that is one name on %s", other, d, d.Places())})
		}
	})
	return list
}

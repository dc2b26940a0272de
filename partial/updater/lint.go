package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// LintOptions change what Lint looks at. The zero value looks at everything.
type LintOptions struct {
	// Fast leaves out decompressing the members: damage in their data is not seen then.
	Fast bool
	// Members are the formats that the updater reads; empty means that of the manifest, else xz.
	Members []MemberFormat
	// Limits bound what members may cost.
	Limits Limits
	// Workers is how many members are read at a time; 0 means one for each CPU.
	Workers int
}

// Lint lists what an updater would trip over in the members and manifests of an update, whatever it is applied to: members
// that are damaged, in a format or with filters, checks or dictionaries that it does not have, or of which it would leave
// out a part; and manifests that are missing, that it refuses or crashes on, or that updaters make different things of.
// Members come first, in the archive's order. The error is that of reading the archive, or of ctx.
//
// What is wrong with the archive as such, [mar.Lint] says.
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
	list, err := l.members(ctx)
	if err != nil {
		return nil, err
	}
	if len(manifests) == 0 {
		list = append(list, &UpdateError{Code: CodeCrash, Path: ManifestV3.Name(), Err: errors.New("the archive has no manifest")})
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
		list = append(list, lintManifest(r, m.Name, text)...)
	}
	return list, nil
}

type linter struct {
	files []*mar.File
	opts  LintOptions
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
	lim := l.opts.Limits
	r, err := m.Open(lim)
	if err == nil {
		_, err = stream.Copy(ctx, io.Discard, r)
		r.Close()
	}
	if errors.Is(err, ErrLimit) {
		// a patch is long and little but zeros: it has other limits than what goes in whole
		if _, rest, perr := m.openPatch(ctx, lim); perr == nil {
			_, err = stream.Copy(ctx, io.Discard, rest)
			rest.Close()
		}
	}
	if errors.Is(err, ErrMember) || errors.Is(err, ErrLimit) {
		return ItemError(m, Instruction{}, err)
	}
	return err
}

func lintManifest(r *mar.Reader, name string, text []byte) []*UpdateError {
	man, err := ParseManifest(text)
	var ue *UpdateError
	switch {
	case errors.As(err, &ue):
		ue.Err = fmt.Errorf("%s: %w", name, ue.Err)
		return []*UpdateError{ue}
	case err != nil: // there is no other
		return []*UpdateError{{Code: CodeParse, Path: name, Err: err}}
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
	return list
}

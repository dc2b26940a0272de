package senbonzakura

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// make makes the update of an order and writes it to w. With a refusal, and with a proof that fails, what it returns has the
// report alone.
func (g *Generator) make(ctx context.Context, o *Order, j *job, w io.Writer) (*Provenance, error) {
	j.start()
	defer j.steps.end()
	p, err := g.build(ctx, o, j, w)
	if err != nil && p != nil {
		j.fail(p, err)
	}
	return p, err
}

func (g *Generator) build(ctx context.Context, o *Order, j *job, w io.Writer) (made *Provenance, failed error) {
	r := &o.request
	from, to, err := g.openBoth(ctx, o, j)
	if err != nil {
		return nil, err
	}
	defer from.close()
	defer to.close()
	defer func() {
		if failed == nil || ctx.Err() != nil {
			return
		}
		for i, s := range []*side{from, to} {
			if err := s.intact(ctx); err != nil {
				made, failed = nil, &InputError{Input: []string{"FROM", "TO"}[i], Err: err}
				return
			}
		}
	}()

	p, recipe, client, err := g.decide(ctx, r, from, to, j)
	if err != nil {
		return nil, err
	}
	archive, report, err := g.archive(ctx, r, from, to, recipe, client, j)
	if err != nil {
		if report == nil {
			return nil, err
		}
		return &Provenance{From: p.From, To: p.To, Report: report}, err
	}
	p.Report, p.Recipe = report, report.RecipeID
	p.note(report.Checks...)
	signers, err := g.signers(ctx, archive.Product)
	if err != nil {
		return nil, err
	}
	if err := g.noteSigners(p, client, signers); err != nil {
		return nil, err
	}
	if err := g.signable(r, to, p, archive.Product); err != nil {
		return nil, err
	}
	if err := g.write(ctx, archive, signers, p, j, w); err != nil {
		return nil, err
	}
	for i, s := range []*side{from, to} {
		if s.local != nil {
			if err := s.local.unchanged(); err != nil {
				return nil, &InputError{Input: []string{"FROM", "TO"}[i], Err: err}
			}
		}
	}
	return p, nil
}

// decide makes the checks that come before the work, and says how it is done: by which recipe, for which client.
func (g *Generator) decide(ctx context.Context, r *Request, from, to *side, j *job) (*Provenance, partial.Recipe, *updater.Client, error) {
	fails := func(err error) (*Provenance, partial.Recipe, *updater.Client, error) {
		return nil, partial.Recipe{}, nil, err
	}
	j.send(Event{Step: StepUnpacking, Total: -1, From: identity(&from.input.Build), To: identity(&to.input.Build)})
	if err := r.platform(&from.input.Build, &to.input.Build); err != nil {
		return fails(err)
	}
	p := &Provenance{Skipped: r.Skip, Labels: r.Labels, Locale: cmp.Or(r.Locale, to.input.Build.Locale)}
	if err := g.checkInputs(ctx, r, from, to, p); err != nil {
		return fails(err)
	}
	recipe, client, err := g.recipe(r, from, to, p)
	if err != nil {
		return fails(err)
	}
	p.From, p.To = from.input, to.input
	product, _ := recipe.ProductFor(to.reader, client)
	if err := g.signable(r, to, p, product); err != nil {
		return fails(err)
	}
	return p, recipe, client, nil
}

// archive builds the update, unsigned. With a refusal, and with a proof that fails, the report comes with the error.
func (g *Generator) archive(ctx context.Context, r *Request, from, to *side, recipe partial.Recipe, client *updater.Client, j *job) (*mar.Archive, *partial.Report, error) {
	var cached partial.PatchCache
	var memo *partial.Memo
	if g.opts.Cache != nil {
		cached, memo = patches{g}, g.memo
	}
	archive, report, err := partial.Build(ctx, from.reader, to.reader, recipe, &partial.BuildOptions{
		FromEmpty: from.local.empty(), ToEmpty: to.local.empty(), Workers: g.opts.Workers, Memory: g.memory, Limits: g.opts.Limits,
		NoVerify: r.skips(CheckVerify), Client: client, Skip: r.Skip,
		Patches: cached, Memo: memo, Progress: j.send,
	})
	for _, s := range []*side{to, from} { // what packing a directory found stands in front
		if s.local != nil && s.local.report != nil && report != nil {
			known := report.Findings // of which both may have the same
			found := slices.DeleteFunc(slices.Clone(s.local.report.Findings), func(f partial.Finding) bool { return slices.Contains(known, f) })
			report.Findings = append(found, known...)
		}
	}
	if err == nil && !r.AllowFindings {
		if broken := report.Broken(); len(broken) > 0 {
			// Only rules of Mozilla's scripts let this pass; nothing that clients fail on is stored.
			err = &CheckError{CheckVerify, &partial.RefusedError{Findings: broken}}
		}
	}
	return archive, report, err
}

// identity is what events say of a build.
func identity(b *toolchain.Build) *updater.Identity {
	return &updater.Identity{
		Product: b.Product, Version: b.Version, BuildID: b.BuildID, SourceRepository: b.SourceRepository, SourceStamp: b.SourceStamp,
		Milestone: b.Gecko, MAR: mar.Product{Channel: strings.Join(b.Channels, ",")}, Platform: b.Platform, Locale: b.Locale,
	}
}

// signable says why an update may not be signed, where it is to be. Without a report that is about what is known before
// the work begins.
func (g *Generator) signable(r *Request, to *side, p *Provenance, product *mar.Product) error {
	if len(g.opts.Signers) == 0 {
		return nil
	}
	c := candidate{r, to, p, product}
	if err := c.meets(g.opts.Require); err != nil {
		return err
	}
	if p.Report != nil {
		p.Required = g.opts.Require
	}
	return nil
}

// openBoth gets both completes at the same time and reads what they say of themselves.
func (g *Generator) openBoth(ctx context.Context, o *Order, j *job) (from, to *side, err error) {
	r := &o.request
	sides := [2]*side{{close: func() {}}, {close: func() {}}}
	group, ctx := errgroup.WithContext(ctx)
	for i, source := range []*Source{&r.From, &r.To} {
		s, name := sides[i], []string{"from", "to"}[i]
		group.Go(func() error {
			fails := func(err error) error { return &InputError{Input: strings.ToUpper(name), Err: err} }
			if l := o.local[i]; l != nil {
				var err error
				s.local, s.input = l, l.input(source)
				if s.reader, err = mar.NewReader(l.file, l.info.Size(), nil); err != nil {
					return fails(err)
				}
			} else {
				entry, input, err := g.complete(ctx, source, name, j)
				if err != nil {
					return fails(err)
				}
				s.entry, s.close, s.input = entry, func() { entry.Close() }, input
				if s.reader, err = mar.NewReader(entry, entry.Size(), nil); err != nil {
					return fails(err)
				}
			}
			build, err := toolchain.ReadBuild(s.reader)
			if err != nil {
				return fails(err)
			}
			if l := s.local; l != nil && l.build != nil { // the members and the manifest are ours
				build = *l.build
			}
			build.Product = cmp.Or(build.Product, r.Product)
			build.Platform, build.Arch, build.Locale = cmp.Or(build.Platform, r.Platform), cmp.Or(build.Arch, r.Arch), cmp.Or(build.Locale, r.Locale)
			s.input.Build = build
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		for _, s := range sides {
			s.close()
		}
		return nil, nil, err
	}
	return sides[0], sides[1], nil
}

// intact says whether the bytes of a complete from the cache are still those that were compared with its hash when it was
// opened. Where they are not, whatever was found wrong with it is nothing to its sender: the error matches cache.ErrCorrupt,
// and the next try finds the damage and fetches it again.
func (s *side) intact(ctx context.Context) error {
	if s.entry == nil {
		return nil
	}
	sum := sha512.New()
	if _, err := stream.Copy(ctx, sum, s.entry.Reader()); err != nil {
		return err
	}
	if got := hexOf(sum.Sum(nil)); got != s.input.SHA512 {
		return fmt.Errorf("%w: SHA-512 is %s now, was %s when it was opened", cache.ErrCorrupt, got, s.input.SHA512)
	}
	return nil
}

// checkInputs makes the checks that need no recipe.
func (g *Generator) checkInputs(ctx context.Context, r *Request, from, to *side, p *Provenance) error {
	verdict := updater.Verdict{Check: CheckSignatures, Answer: updater.Holds}
	switch {
	case r.skips(CheckSignatures):
		verdict.Answer = updater.Skipped
	case len(r.Keys) == 0:
		verdict.Answer, verdict.Reason = updater.NotChecked, "no key is given"
	default:
		for _, s := range []struct {
			*side
			name string
		}{{from, "FROM"}, {to, "TO"}} {
			match, err := s.reader.VerifyAny(ctx, r.Keys...)
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return &CheckError{CheckSignatures, &InputError{Input: s.name, Err: err}}
			}
			s.input.SignedBy = fingerprint(r.Keys[match.Key])
		}
	}
	p.note(verdict)
	verdict = updater.Verdict{Check: CheckChannels, Answer: updater.Holds}
	switch {
	case r.skips(CheckChannels):
		verdict.Answer = updater.Skipped
	case len(r.Channels) == 0:
		verdict.Answer, verdict.Reason = updater.NotChecked, "no channels are given that TO may be for"
	case len(to.input.Build.Channels) == 0:
		return &CheckError{CheckChannels, fmt.Errorf("TO names no MAR channel, allowed are %q", r.Channels)}
	default:
		for _, channel := range to.input.Build.Channels {
			if !slices.Contains(r.Channels, channel) {
				return &CheckError{CheckChannels, fmt.Errorf("TO is for MAR channel %q, allowed are %q", channel, r.Channels)}
			}
		}
	}
	p.note(verdict)
	return nil
}

// recipe selects how the update is made and who it is made for, and refuses pairs that must not be made, and signers
// that the client would refuse.
func (g *Generator) recipe(r *Request, from, to *side, p *Provenance) (partial.Recipe, *updater.Client, error) {
	claims := r.Client
	if len(claims.Patches) == 0 { // who says which formats patches may be in says that the client applies them
		claims.Patches = r.Formats
	}
	selection, err := g.opts.Toolchain.Select(from.input.Build, to.input.Build, &toolchain.SelectOptions{Client: claims, Trust: r.Trust, Skip: r.Skip})
	if err != nil && (r.Recipe == nil || !errors.Is(err, toolchain.ErrNoRules)) {
		return partial.Recipe{}, nil, checkError(err) // that there are no rules does not matter where a recipe is given
	}
	p.note(selection.Checks...)
	if len(g.opts.Signers) > 0 && !r.skips(CheckClientSignature) {
		if v := signature(selection.Client, g.opts.Signers, g.clientVerifies(keysOf(g.opts.Signers[0]), "")); v.Answer == updater.Fails {
			return partial.Recipe{}, nil, &CheckError{CheckClientSignature, updater.Verdicts{v}.Err()}
		}
	}
	recipe := selection.Recipe
	p.Reasons = selection.Reasons
	if r.Recipe != nil {
		recipe = *r.Recipe
		p.Reasons = append([]string{"recipe given by the request"}, selection.Reasons...)
	}
	recipe = r.with(recipe)
	if _, ok := to.reader.Product(); !ok && r.Channel != "" && recipe.Product.Version == "" {
		recipe.Product.Version = to.input.Build.Version // a directory says its version in application.ini alone
	}
	return recipe, selection.Client, nil
}

// signature asks the client about the signatures that the signers will make.
func signature(c *updater.Client, signers []mar.Signer, verify func() error) updater.Verdict {
	o := updater.Offer{Verify: verify}
	for _, s := range signers {
		o.Signatures = append(o.Signatures, s.Info().Algorithm)
	}
	list := c.Check(o)
	return list[slices.IndexFunc(list, func(v updater.Verdict) bool { return v.Check == CheckClientSignature })]
}

// clientVerifies says how the client verifies a signature by one of these keys; nil where nobody knows. fromSigner is the
// fingerprint of the key that FROM was verified with, which shows that the client has it.
func (g *Generator) clientVerifies(keys []mar.SignerInfo, fromSigner string) func() error {
	has := func(print string) bool {
		if len(g.opts.ClientKeys) == 0 {
			return print == fromSigner
		}
		return slices.ContainsFunc(g.opts.ClientKeys, func(k crypto.PublicKey) bool { return fingerprint(k) == print })
	}
	switch {
	case slices.ContainsFunc(keys, func(k mar.SignerInfo) bool { return has(fingerprint(k.PublicKey)) }):
		return func() error { return nil }
	case len(g.opts.ClientKeys) > 0:
		return func() error { return errors.New("none of the client's keys is the signer's") }
	}
	return nil
}

// noteSigners notes what the client makes of the signatures, and refuses what it refuses.
func (g *Generator) noteSigners(p *Provenance, c *updater.Client, signers []mar.Signer) error {
	if len(signers) == 0 || slices.Contains(p.Skipped, CheckClientSignature) {
		return nil
	}
	v := signature(c, signers, g.clientVerifies([]mar.SignerInfo{signers[0].Info()}, p.From.SignedBy))
	if v.Answer == updater.Fails {
		return &CheckError{CheckClientSignature, updater.Verdicts{v}.Err()}
	}
	p.note(v)
	return nil
}

// checkError says which check a refusal of the toolchain is.
func checkError(err error) error {
	switch {
	case errors.Is(err, toolchain.ErrNoRules): // matches ErrProduct, too, but nothing was compared
	case errors.Is(err, toolchain.ErrProduct):
		return &CheckError{CheckProduct, err}
	case errors.Is(err, toolchain.ErrDowngrade):
		return &CheckError{CheckDowngrade, err}
	case errors.Is(err, toolchain.ErrWatershed):
		return &CheckError{CheckWatershed, err}
	}
	return err
}

// signers returns those of the options, after those that want to know were told what will be signed.
func (g *Generator) signers(ctx context.Context, product *mar.Product) ([]mar.Signer, error) {
	signers := slices.Clone(g.opts.Signers)
	for i, s := range signers {
		chooser, ok := s.(ProductSigner)
		if !ok {
			continue
		}
		chosen, err := chooser.ForProduct(ctx, product)
		if err != nil {
			return nil, &mar.SignError{Signer: i, Err: err}
		}
		is := chosen.Info()
		if !slices.ContainsFunc(keysOf(s), func(was mar.SignerInfo) bool {
			return was.Algorithm == is.Algorithm && was.SignatureSize == is.SignatureSize && fingerprint(was.PublicKey) == fingerprint(is.PublicKey)
		}) {
			return nil, fmt.Errorf("signer %d signs with another key than it said", i+1)
		}
		signers[i] = chosen
	}
	return signers, nil
}

// write signs the archive, writes it, and notes what came out.
func (g *Generator) write(ctx context.Context, archive *mar.Archive, signers []mar.Signer, p *Provenance, j *job, w io.Writer) error {
	sum512, sum256 := sha512.New(), sha256.New()
	total := archive.Size(signers...)
	var err error
	out := &progressWriter{w: io.MultiWriter(w, sum512, sum256), total: total, send: j.send}
	if len(signers) > 0 {
		j.send(Event{Step: StepSigning, Total: total})
		_, err = archive.WriteSigned(ctx, out, signers...)
	} else {
		_, err = archive.WriteTo(out)
	}
	if err != nil {
		return err
	}
	p.Output = Output{Size: out.n, SHA512: hexOf(sum512.Sum(nil)), SHA256: hexOf(sum256.Sum(nil))}
	if archive.Product != nil {
		p.Output.Channel, p.Output.Version = archive.Product.Channel, archive.Product.Version
	}
	for _, s := range signers {
		p.Output.SignedBy = append(p.Output.SignedBy, fingerprint(s.Info().PublicKey))
	}
	return ctx.Err()
}

// progressWriter counts what is written.
type progressWriter struct {
	w        io.Writer
	n, total int64
	send     func(Event)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.send(Event{Step: StepStoring, Done: p.n, Total: p.total})
	return n, err
}

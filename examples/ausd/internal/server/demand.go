package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
)

// lacking is a client that was offered a complete update alone.
type lacking struct{ product, buildID, target, locale, release string }

// lackingCounts counts clients that were offered a complete update alone, until they are looked at.
type lackingCounts struct {
	mu sync.Mutex
	m  map[lacking]int64
}

// add counts clients; those that would make it grow beyond its bounds are not counted: the next ones will be.
func (c *lackingCounts) add(l lacking, n int64) {
	if len(l.product)+len(l.buildID)+len(l.target)+len(l.locale)+len(l.release) > maxLacking {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[lacking]int64{}
	}
	if was, ok := c.m[l]; ok || len(c.m) < maxPairs {
		c.m[l] = was + n
	}
}

func (c *lackingCounts) take() map[lacking]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.m
	c.m = nil
	return m
}

// countDemand notes once a second which partials clients could have used, and orders them: here, or as a replica from its server.
func (s *Server) countDemand(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		snapshot := s.current.Load().snapshot
		var report []wantedBody
		for l, n := range s.lacking.take() {
			from, to, ok := couldUse(snapshot, aus.Query{Product: l.product, BuildID: l.buildID, BuildTarget: l.target, Locale: l.locale}, l.release)
			switch {
			case !ok:
			case s.opts.Replica != nil:
				report = append(report, wantedBody{l.release, l.product, l.buildID, l.target, l.locale, n})
			default:
				if err := s.book.Want(ctx, from, to, n, time.Now()); err != nil {
					if ctx.Err() == nil {
						s.log.Error("note a wanted partial", "error", err)
					}
					s.lacking.add(l, n) // with the next ones
					continue
				}
				s.log.Debug("noted a wanted partial", "from", from.Release, "to", to.Release, "target", to.Target, "locale", to.Locale, "clients", n)
				s.wake()
			}
		}
		if len(report) > 0 && s.report(ctx, report) != nil { // what is wrong with the server is said where it is followed
			for _, w := range report {
				s.lacking.add(lacking{w.Product, w.BuildID, w.Target, w.Locale, w.Release}, w.N)
			}
		}
	}
}

// maxLacking bounds what is said of one client, in bytes.
const maxLacking = 500

// maxPairs is how many different partials are counted before they are written down.
const maxPairs = 10_000

// orderPartials orders the partials from the last builds of a channel to what its rules lead to, when releases or rules have changed.
func (s *Server) orderPartials(ctx context.Context) {
	for {
		var products []string
		select {
		case <-ctx.Done():
			return
		case products = <-s.ordering:
		}
		for _, product := range products {
			if err := s.orderFor(ctx, product); err != nil && ctx.Err() == nil {
				s.log.Error("order partials", "product", product, "error", err)
			}
		}
		s.wake()
	}
}

// MakeAll orders every product's partials, waits until all that is wanted is made or cannot be, and returns what is in the book of
// demand, at most limit.
func (s *Server) MakeAll(ctx context.Context, limit int) ([]book.Demand, error) {
	if s.opts.Replica != nil {
		return nil, ErrReplica
	}
	products := map[string]bool{}
	for _, r := range s.current.Load().snapshot.Config().Releases {
		products[r.Product()] = true
	}
	for _, product := range slices.Sorted(maps.Keys(products)) {
		if err := s.orderFor(ctx, product); err != nil {
			return nil, err
		}
	}
	s.wake()
	for {
		n, err := s.book.Open(ctx)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return s.book.Demands(ctx, limit)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// orderFor orders a product's partials.
func (s *Server) orderFor(ctx context.Context, product string) error {
	snapshot := s.current.Load().snapshot
	led, err := s.book.Led(ctx)
	if err != nil {
		return err
	}
	type offer struct{ release, channel string }
	seen := map[offer]bool{}
	for _, rule := range snapshot.Rules() {
		if rule.Product != nil && *rule.Product != product {
			continue
		}
		var among func(string) bool // nil where the rule is for every channel
		channel := ""
		if rule.Channel != nil {
			channel = *rule.Channel
			among = func(release string) bool { return led.By(product, channel, release) }
		}
		for _, name := range []*string{rule.Mapping, rule.FallbackMapping} {
			if name == nil || seen[offer{*name, channel}] {
				continue
			}
			seen[offer{*name, channel}] = true
			r := snapshot.Release(*name)
			if r == nil || r.Product() != product {
				continue
			}
			for _, to := range r.Builds() {
				for _, from := range snapshot.Before(to, max(0, s.opts.Builds), among) {
					if !strings.EqualFold(from.HashFunction, to.HashFunction) {
						continue
					}
					if err := s.book.Want(ctx, from, to, 0, time.Now()); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// makeWanted makes what is wanted, one after the other, the most wanted first, and publishes what is made together, not
// more often than once in a while.
func (s *Server) makeWanted(ctx context.Context) {
	var ready []made
	var last time.Time
	for {
		d, ok, err := s.book.NextWanted(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("look for wanted partials", "error", err)
		}
		if wait := time.Until(last.Add(s.opts.PublishMade)); len(ready) > 0 && (wait <= 0 || !ok) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			s.publishMade(ctx, ready)
			ready, last = nil, time.Now()
			continue
		}
		if !ok || err != nil {
			select {
			case <-ctx.Done():
				return
			case <-s.work:
			case <-time.After(10 * time.Second):
			}
			continue
		}
		if err := s.book.Settle(ctx, d, book.Working, ""); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.Error("begin a partial", "error", err)
			continue
		}
		one := s.makeOne
		if s.opts.Partiald != nil {
			one = s.orderOne
		}
		m, state, reason := one(ctx, d)
		if ctx.Err() != nil {
			return
		}
		if state == book.Made {
			ready = append(ready, m)
			continue // it is settled when it is published
		}
		s.settle(ctx, d, state, reason)
		s.log.Warn("a partial is not published", "from", d.From.Release, "to", d.To.Release, "target", d.To.Target, "locale", d.To.Locale, "state", state, "reason", reason)
	}
}

// settle notes what became of a wanted partial.
func (s *Server) settle(ctx context.Context, d book.Demand, state, reason string) {
	if err := s.book.Settle(ctx, d, state, reason); err != nil {
		if ctx.Err() == nil {
			s.log.Error("note what became of a partial", "error", err)
		}
		return
	}
	s.log.Debug("noted what became of a partial", "from", d.From.Release, "to", d.To.Release, "target", d.To.Target, "locale", d.To.Locale, "state", state)
}

// made is a partial that is to be published.
type made struct {
	demand  book.Demand
	partial aus.MadePartial
}

// source says where a build's complete is: here, or at its address.
func (s *Server) source(b aus.Build) (senbonzakura.Source, error) {
	sum, err := hex.DecodeString(b.Hash)
	if err != nil {
		return senbonzakura.Source{}, fmt.Errorf("its hash is not hexadecimal: %w", err)
	}
	src := senbonzakura.Source{Hashes: []fetch.Hash{{Algorithm: fetch.Algorithm(strings.ToLower(b.HashFunction)), Sum: sum}}, Size: b.Size}
	if src.File = s.here(b); src.File != "" {
		return src, nil
	}
	src.URLs = []string{b.URL}
	return src, nil
}

// generate makes a partial, signed where that is asked for and there is a key.
func (s *Server) generate(ctx context.Context, r senbonzakura.Request, signed bool) (*senbonzakura.Result, error) {
	if signed && s.signedBy != nil {
		return s.signedBy.Generate(ctx, r, nil)
	}
	return s.generator.Generate(ctx, r, nil)
}

// signedFile says whether a MAR file has a signature; one that cannot be read has none.
func signedFile(name string) bool {
	r, err := mar.OpenFile(name, nil)
	if err != nil {
		return false
	}
	defer r.Close()
	return len(r.Signatures()) > 0
}

// makeOne makes a partial, proved, and keeps it among the files.
func (s *Server) makeOne(ctx context.Context, d book.Demand) (m made, state, reason string) {
	fail := func(err error) (made, string, string) { return made{}, book.Failed, err.Error() }
	from, err := s.source(d.From)
	if err != nil {
		return fail(err)
	}
	to, err := s.source(d.To)
	if err != nil {
		return fail(err)
	}
	start := time.Now()
	request := senbonzakura.Request{From: from, To: to, Product: d.To.Product, Locale: d.To.Locale}
	// Where the complete is signed the partial is, too. One that is not at hand is known once something was made of it.
	signed := to.File != "" && signedFile(to.File)
	result, err := s.generate(ctx, request, signed)
	if err != nil {
		return fail(err)
	}
	if c := result.Provenance.To.Build.Client; !signed && c != nil && c.Signature != 0 && s.signedBy != nil {
		if err := result.Close(); err != nil {
			return fail(err)
		}
		if result, err = s.generate(ctx, request, true); err != nil {
			return fail(err)
		}
	}
	defer result.Close()
	if result.Report == nil || !result.Report.Verified {
		return made{}, book.Withheld, "it is not proved"
	}
	if result.Size >= d.To.Size {
		return made{}, book.Withheld, fmt.Sprintf("it has %d bytes, the complete update %d", result.Size, d.To.Size)
	}
	if c := result.Provenance.To.Build.Client; c != nil && c.Signature != 0 && s.signedBy == nil {
		return made{}, book.Withheld, "the complete update is signed, and there is no key to sign the partial with"
	}
	entry := result.Open()
	defer entry.Close()
	f, err := s.keep(ctx, partialName(d), "", entry.Reader(), nil)
	if err != nil {
		return fail(err)
	}
	s.log.Info("made a partial", "from", d.From.Release, "to", d.To.Release, "target", d.To.Target, "locale", d.To.Locale,
		"bytes", result.Size, "complete", d.To.Size, "took", time.Since(start).Round(time.Millisecond))
	return s.offer(d, f)
}

// partialName is what a made partial is called.
func partialName(d book.Demand) string {
	return fmt.Sprintf("%s-%s-%s-%s.partial.mar", d.To.Product, d.From.Version, d.To.Version, d.To.Locale)
}

// offer says how a partial that was made is offered.
func (s *Server) offer(d book.Demand, f book.File) (m made, settled, reason string) {
	if !strings.EqualFold(d.To.HashFunction, "sha512") {
		return made{}, book.Withheld, "the release has hashes of " + d.To.HashFunction + ", and one update names one function"
	}
	return made{d, aus.MadePartial{
		From: strings.ToLower(d.From.Hash), To: strings.ToLower(d.To.Hash), URL: s.fileURL(f), Size: f.Size, Hash: f.SHA512, HashFunction: d.To.HashFunction,
	}}, book.Made, ""
}

// publishMade publishes made partials together.
func (s *Server) publishMade(ctx context.Context, ready []made) {
	now := s.current.Load().state
	var operations []state.Operation
	for _, m := range ready {
		ref := state.Ref{Kind: state.Made, Key: state.MadeKey(m.partial.From, m.partial.To)}
		body, err := json.Marshal(m.partial)
		if err != nil {
			s.log.Error("write a made partial down", "error", err)
			continue
		}
		op := state.Operation{Ref: ref, Body: body}
		if o := now.Get(ref); o != nil {
			op.Before = o.Hash
		}
		operations = append(operations, op)
	}
	comment := fmt.Sprintf("%d partial updates made", len(operations))
	if len(operations) == 1 {
		comment = fmt.Sprintf("partial update made: %s to %s", ready[0].demand.From.Release, ready[0].demand.To.Release)
	}
	var err error
	if s.opts.Review {
		_, err = s.Draft(ctx, ownAuthor, comment, operations, time.Time{})
	} else {
		_, err = s.publishOwn(ctx, comment, operations)
	}
	to, reason := book.Made, ""
	if err != nil && !errors.Is(err, ErrNothing) {
		if ctx.Err() != nil {
			return
		}
		s.log.Error("publish made partials", "error", err)
		to, reason = book.Failed, err.Error()
	}
	for _, m := range ready {
		s.settle(ctx, m.demand, to, reason)
	}
}

// inspectFile reads what a file of the server says about its build.
func (s *Server) inspectFile(name string) (inspect.Build, error) {
	f, err := s.files.Open(name)
	if err != nil {
		return inspect.Build{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return inspect.Build{}, err
	}
	r, err := mar.NewReader(f, info.Size(), nil)
	if err != nil {
		return inspect.Build{}, err
	}
	return inspect.Read(r)
}

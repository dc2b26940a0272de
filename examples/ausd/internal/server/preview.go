package server

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// Preview says what a change does to clients: of the builds that are known before or after it, each asked for on every
// channel that a rule of its product names, forced onto neither side of a throttled rule.
type Preview struct {
	Clients     int            `json:"clients"`
	Changed     int            `json:"changed"`
	LosePartial int            `json:"lose_partial" doc:"get the same release, but no partial any more"`
	GainPartial int            `json:"gain_partial"`
	LoseUpdate  int            `json:"lose_update"`
	GainUpdate  int            `json:"gain_update"`
	Groups      []PreviewGroup `json:"groups" doc:"what changes into what, the most clients first"`
	Cut         bool           `json:"cut,omitempty" doc:"there are more builds than were asked for"`
	Snapshot    int64          `json:"snapshot" doc:"number of the snapshot that it is compared with"`
	Operations  int            `json:"operations" doc:"how many objects change"`
	Problems    []aus.Problem  `json:"problems"`
	Refused     string         `json:"refused,omitempty" doc:"why it could not be published"`
}

// PreviewGroup is one change that many clients see.
type PreviewGroup struct {
	Before   string   `json:"before"`
	After    string   `json:"after"`
	Clients  int      `json:"clients"`
	Examples []string `json:"examples"` // addresses
}

// Bounds of a preview.
const (
	maxPreviewClients = 200_000
	maxPreviewGroups  = 200
	maxExamples       = 3
)

// Preview tries operations on the present state, without publishing them.
func (s *Server) Preview(ctx context.Context, operations []state.Operation) (Preview, error) {
	now := s.current.Load()
	next, changes, err := s.apply(ctx, now, operations, false)
	if err != nil {
		return Preview{}, err
	}
	snapshot, problems := aus.Compile(next.Config(s.own))
	p := Preview{Groups: []PreviewGroup{}, Problems: append([]aus.Problem{}, problems...), Operations: len(changes), Snapshot: now.head.Seq}
	if refused := errorsOf(problems); len(refused) > 0 {
		p.Refused = (&RefusedError{refused}).Error()
	}
	queries, cut := Clients(now.snapshot, snapshot)
	asked := make([]Asked, len(queries))
	for i := range queries {
		asked[i] = Asked{Query: queries[i], N: 1}
	}
	p.Cut = cut
	return p, p.compare(ctx, now.snapshot, snapshot, asked)
}

// Asked is a query, and how many clients ask it.
type Asked struct {
	aus.Query
	N   int
	URL string // "" is one that is made of the query
}

// Compare says what clients get after a change who got something else before.
func Compare(ctx context.Context, before, after *aus.Snapshot, queries []Asked) (Preview, error) {
	p := Preview{Groups: []PreviewGroup{}, Problems: append([]aus.Problem{}, after.Problems()...)}
	if refused := errorsOf(p.Problems); len(refused) > 0 {
		p.Refused = (&RefusedError{refused}).Error()
	}
	return p, p.compare(ctx, before, after, queries)
}

// compare counts and groups what changes.
func (p *Preview) compare(ctx context.Context, before, after *aus.Snapshot, queries []Asked) error {
	groups := map[[2]string]*PreviewGroup{}
	env := aus.Env{Now: time.Now(), Dice: func() int { return 0 }}
	for i := range queries {
		if i%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		q := &queries[i]
		p.Clients += q.N
		a, b := before.Answer(q.Query, env), after.Answer(q.Query, env)
		if string(a.Body) == string(b.Body) {
			continue
		}
		p.Changed += q.N
		was, is := a.Outcome == aus.OutcomeUpdate, b.Outcome == aus.OutcomeUpdate
		switch {
		case was && !is:
			p.LoseUpdate += q.N
		case !was && is:
			p.GainUpdate += q.N
		case a.Release == b.Release && a.Partial && !b.Partial:
			p.LosePartial += q.N
		case a.Release == b.Release && !a.Partial && b.Partial:
			p.GainPartial += q.N
		}
		key := [2]string{summary(&a), summary(&b)}
		g := groups[key]
		if g == nil {
			g = &PreviewGroup{Before: key[0], After: key[1]}
			groups[key] = g
		}
		g.Clients += q.N
		if len(g.Examples) < maxExamples {
			g.Examples = append(g.Examples, cmp.Or(q.URL, clientURL(&q.Query)))
		}
	}
	for _, g := range groups {
		p.Groups = append(p.Groups, *g)
	}
	slices.SortFunc(p.Groups, func(a, b PreviewGroup) int {
		return cmp.Or(cmp.Compare(b.Clients, a.Clients), strings.Compare(a.Before, b.Before), strings.Compare(a.After, b.After))
	})
	p.Groups = p.Groups[:min(len(p.Groups), maxPreviewGroups)]
	return nil
}

// summary says in words what a client gets.
func summary(a *aus.Answer) string {
	switch {
	case a.Outcome != aus.OutcomeUpdate:
		return "no update: " + string(a.Outcome)
	case a.Partial:
		return a.Release + " with a partial"
	}
	return a.Release
}

// Clients are queries of every build that one of some snapshots knows, on every channel of its product's rules; cut says that
// there are more.
func Clients(snapshots ...*aus.Snapshot) (queries []aus.Query, cut bool) {
	channels := map[string][]string{}
	everywhere := []string{}
	for _, s := range snapshots {
		for _, r := range s.Rules() {
			if r.Channel == nil {
				continue
			}
			c := strings.TrimSuffix(*r.Channel, "*")
			if c == "" || strings.Contains(c, "/") {
				continue
			}
			if r.Product == nil {
				if !slices.Contains(everywhere, c) {
					everywhere = append(everywhere, c)
				}
				continue
			}
			if !slices.Contains(channels[*r.Product], c) {
				channels[*r.Product] = append(channels[*r.Product], c)
			}
		}
	}
	seen := map[aus.Query]bool{}
	for _, s := range snapshots {
		for _, release := range s.Config().Releases {
			list := append(slices.Clone(everywhere), channels[release.Product()]...)
			if len(list) == 0 {
				list = []string{"release"}
			}
			for _, b := range release.Builds() {
				for _, c := range list {
					q := aus.Query{
						Form: aus.Form6, Product: b.Product, Version: b.Version, BuildID: b.BuildID, BuildTarget: b.Target, Locale: b.Locale, Channel: c,
						OSVersion: "default", InstructionSet: "NA", Distribution: "default", DistVersion: "default", HeaderArchitecture: "Intel",
					}
					if seen[q] {
						continue
					}
					if len(queries) == maxPreviewClients {
						return queries, true
					}
					seen[q] = true
					queries = append(queries, q)
				}
			}
		}
	}
	return queries, false
}

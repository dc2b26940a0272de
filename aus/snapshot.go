package aus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is everything that decides which update a client gets.
type Config struct {
	Rules    []Rule     // in any order
	Releases []*Release // those that rules, pins and shutoffs name
	Pins     []Pin      // versions that clients may stay at
	Shutoffs []Shutoff  // that are on
	// AllowList says from which hosts updates may come; nothing is served from others.
	AllowList AllowList
	// SpecialForceHosts are beginnings of addresses to which "?force=1" or "?force=-1" is appended for clients that
	// ask with it.
	SpecialForceHosts []string
	// Made are partial updates that no release's document names.
	Made []MadePartial
}

// Pin says which release clients of one product and channel get that pinned themselves to a version.
type Pin struct {
	Product     string `json:"product"`      // name
	Channel     string `json:"channel"`      // update channel
	Version     string `json:"version"`      // "102." or "102.3."
	Mapping     string `json:"mapping"`      // name of the release that clients with this pin get
	DataVersion int64  `json:"data_version"` // counts the changes of the pin, from 1
}

// Shutoff stops updates at once, before any rule is looked at. Balrog's have product, channel and comment; both must
// equal the client's, the channel also without what customised builds append.
type Shutoff struct {
	ID          int64  `json:"id,omitempty"` // tells shutoffs of one product and channel apart; 0 is the only one
	Product     string `json:"product"`      // "" is every product
	Channel     string `json:"channel"`      // "" is every channel
	Comment     string `json:"comment"`      // why, for people
	DataVersion int64  `json:"data_version"` // counts the changes of the shutoff, from 1

	// Only narrows the shutoff to the clients that these columns match, of which product and channel need not be set.
	Only *Rule `json:"only,omitempty"`
	// Expires is when the shutoff ends by itself; the zero time is never.
	Expires time.Time `json:"expires,omitzero"`
	// Instead names the release that clients get meanwhile; "" is no update.
	Instead string `json:"instead,omitempty"`
}

// MadePartial is a partial update between two completes, which are known by their hashes. It is offered, behind
// those of the release's document, to clients of every build whose complete has the first hash, where the
// release that they get has the second.
type MadePartial struct {
	From         string `json:"from"`          // hash of the complete update that the client has, as releases write it
	To           string `json:"to"`            // hash of the complete update that the client gets to
	URL          string `json:"url"`           // of the partial update
	Size         int64  `json:"size"`          // bytes
	Hash         string `json:"hash"`          // of the partial update
	HashFunction string `json:"hash_function"` // that of all three hashes
}

// Snapshot answers queries from one state of rules and releases. It is immutable and safe for concurrent use.
type Snapshot struct {
	config    Config
	rules     []*compiledRule        // by ID
	byProduct map[string]*candidates // of each product that a rule names
	anyone    *candidates            // of all other products
	releases  map[string]*Release
	pins      map[pinKey]string
	shutoffs  []compiledShutoff
	hosts     hosts
	made      map[*locale][]madePatch
	byBuildID map[string][]*Release
	problems  []Problem
}

// candidates are the rules that a client of one product may match.
type candidates struct {
	rules  []*compiledRule // by ID
	groups []ruleGroup
}

// ruleGroup are rules that have one channel, so that it is looked at once for all of them. Channels that Balrog does not take
// for what they say are in no group: those rules have one of their own, without a pattern.
type ruleGroup struct {
	pattern *channelPattern // nil where each rule is looked at
	rules   []*compiledRule
}

func newCandidates(rules []*compiledRule) *candidates {
	c := &candidates{rules: rules}
	at := map[string]int{}
	for _, r := range rules {
		var pattern *channelPattern
		key := "\x00"
		if p := r.channel; p != nil && (!p.glob || !p.short && !p.active) {
			pattern, key = p, p.text
		}
		i, ok := at[key]
		if !ok {
			i = len(c.groups)
			at[key] = i
			c.groups = append(c.groups, ruleGroup{pattern: pattern})
		}
		c.groups[i].rules = append(c.groups[i].rules, r)
	}
	return c
}

type pinKey struct{ product, channel, version string }

type compiledRule struct {
	*Rule
	matcher
	priority int64
	rate     int64
	stages   []Stage // in the order of time
}

type compiledShutoff struct {
	*Shutoff
	only *matcher
}

// madePatch is a made partial as one locale of a release offers it.
type madePatch struct {
	buildID string
	partial *MadePartial
}

// Compile makes a snapshot. It always makes one, which answers every query: a rule with a column that does not parse
// matches nothing, a mapping to nothing is no update. problems says what is wrong, errors first; who serves a snapshot
// that has errors serves something else than was meant. The config must not be changed afterwards. Two releases of
// one name are an error, and the first counts.
func Compile(config Config) (s *Snapshot, problems []Problem) {
	s = &Snapshot{
		config: config, byProduct: map[string]*candidates{}, releases: make(map[string]*Release, len(config.Releases)),
		pins: make(map[pinKey]string, len(config.Pins)), made: map[*locale][]madePatch{},
	}
	report := func(p Problem) { s.problems = append(s.problems, p) }
	s.hosts = compileHosts(config.AllowList, report)
	for _, r := range config.Releases {
		if s.releases[r.name] != nil {
			report(Problem{Severity: SeverityError, Release: r.name, Message: "there is another release of this name"})
			continue
		}
		s.releases[r.name] = r
	}
	s.compileRules(report)
	for _, p := range config.Pins {
		s.pins[pinKey{p.Product, p.Channel, p.Version}] = p.Mapping
	}
	for i := range config.Shutoffs {
		c := compiledShutoff{Shutoff: &config.Shutoffs[i]}
		if c.Only != nil {
			only := compileMatcher(c.Only, func(column Column, severity Severity, quirk Quirk, message string) {
				report(Problem{Severity: severity, Path: "shutoff." + string(column), Quirk: quirk, Message: message})
			})
			c.only = &only
		}
		s.shutoffs = append(s.shutoffs, c)
	}
	s.indexBuilds()
	s.joinMade()
	s.check(report)
	slices.SortStableFunc(s.problems, func(a, b Problem) int { return cmp.Compare(b.Severity, a.Severity) })
	return s, slices.Clone(s.problems)
}

// Problems returns what Compile found, errors first.
func (s *Snapshot) Problems() []Problem { return slices.Clone(s.problems) }

// Errors returns how many problems are errors.
func Errors(problems []Problem) int {
	n := 0
	for _, p := range problems {
		if p.Severity == SeverityError {
			n++
		}
	}
	return n
}

// Rules returns the rules by their IDs. The caller must not change what they point to.
func (s *Snapshot) Rules() []Rule {
	list := make([]Rule, 0, len(s.rules))
	for _, r := range s.rules {
		list = append(list, *r.Rule)
	}
	return list
}

// Release returns a release by its name, or nil.
func (s *Snapshot) Release(name string) *Release { return s.releases[name] }

// Shutoffs returns the shutoffs, those that have ended included. They must not be changed.
func (s *Snapshot) Shutoffs() []Shutoff { return s.config.Shutoffs }

// Config returns what the snapshot was made of. It must not be changed.
func (s *Snapshot) Config() Config { return s.config }

func (s *Snapshot) compileRules(report func(Problem)) {
	ids := map[int64]bool{}
	products := map[string]bool{}
	for i := range s.config.Rules {
		r := &s.config.Rules[i]
		about := func(column Column, severity Severity, quirk Quirk, message string) {
			report(Problem{Severity: severity, Rule: r.ID, Path: string(column), Quirk: quirk, Message: message})
		}
		c := &compiledRule{Rule: r, rate: 100}
		c.matcher = compileMatcher(r, about)
		if ids[r.ID] {
			about("rule_id", SeverityError, 0, "there is another rule of this number")
		}
		ids[r.ID] = true
		if r.Priority != nil {
			c.priority = *r.Priority
		} else {
			about("priority", SeverityError, QuirkNullPriority, "there is none, and every rule needs one")
		}
		if r.BackgroundRate != nil {
			c.rate = *r.BackgroundRate
		} else {
			about("backgroundRate", SeverityError, QuirkNullRate, "there is none, and every rule needs one")
		}
		if c.rate < 0 || c.rate > 100 {
			about("backgroundRate", SeverityWarning, 0, fmt.Sprintf("%d is no percentage", c.rate))
		}
		if r.UpdateType == nil {
			about("update_type", SeverityWarning, 0, "there is none; clients are told minor")
		}
		if c.rate < 100 && !filled(r.FallbackMapping) {
			about("fallbackMapping", SeverityWarning, 0, "there is none, so that whom the rate leaves out get no update")
		}
		c.stages = slices.Clone(r.Rollout)
		slices.SortStableFunc(c.stages, func(a, b Stage) int { return a.At.Compare(b.At) })
		if r.Product != nil {
			products[*r.Product] = true
		}
		s.rules = append(s.rules, c)
	}
	slices.SortStableFunc(s.rules, func(a, b *compiledRule) int { return cmp.Compare(a.ID, b.ID) })
	var anyone []*compiledRule
	byProduct := make(map[string][]*compiledRule, len(products))
	for _, c := range s.rules {
		if c.product == nil {
			anyone = append(anyone, c)
			for p := range products {
				byProduct[p] = append(byProduct[p], c)
			}
			continue
		}
		byProduct[*c.product] = append(byProduct[*c.product], c)
	}
	s.anyone = newCandidates(anyone)
	for p, list := range byProduct {
		s.byProduct[p] = newCandidates(list)
	}
}

// candidates returns the rules whose product may match.
func (s *Snapshot) candidates(product string) *candidates {
	if c, ok := s.byProduct[product]; ok {
		return c
	}
	return s.anyone
}

func filled(s *string) bool { return s != nil && *s != "" }

// rateAt is the rate that holds at a time, and when it changes next.
func (r *compiledRule) rateAt(now time.Time) (rate int64, until time.Time) {
	rate = r.rate
	for _, stage := range r.stages {
		if stage.At.After(now) {
			return rate, stage.At
		}
		rate = stage.Rate
	}
	return rate, time.Time{}
}

// hashKey is how a complete update is known.
func hashKey(function, hash string) string {
	return strings.ToLower(function) + ":" + strings.ToLower(hash)
}

// joinMade finds for each made partial who can use it.
func (s *Snapshot) joinMade() {
	if len(s.config.Made) == 0 {
		return
	}
	byTo := map[string][]*MadePartial{}
	wanted := map[string]bool{}
	for i := range s.config.Made {
		m := &s.config.Made[i]
		byTo[hashKey(m.HashFunction, m.To)] = append(byTo[hashKey(m.HashFunction, m.To)], m)
		wanted[hashKey(m.HashFunction, m.From)] = true
	}
	type build struct {
		platform, locale, buildID string
	}
	known := map[string][]build{} // by hash
	s.eachComplete(func(_ *Release, p *platform, l *locale, key string) {
		if id := buildIDOf(p, l); wanted[key] && id.filled() {
			known[key] = append(known[key], build{p.name, l.name, id.text})
		}
	})
	s.eachComplete(func(r *Release, p *platform, l *locale, key string) {
		for _, m := range byTo[key] {
			for _, b := range known[hashKey(m.HashFunction, m.From)] {
				if b.locale == l.name && (b.platform == p.name || r.app.aliasOf(b.platform, p.name) || r.app.aliasOf(p.name, b.platform)) {
					made := madePatch{b.buildID, m}
					if !slices.Contains(s.made[l], made) {
						s.made[l] = append(s.made[l], made)
					}
				}
			}
		}
	})
}

// aliasOf says whether name is an alias of platform.
func (r *appRelease) aliasOf(name, platform string) bool {
	p := r.platform(name)
	return p != nil && p.alias.kind == text && p.alias.text == platform
}

// eachComplete calls f with the complete update of every build; key is what hashKey makes of its hash.
func (s *Snapshot) eachComplete(f func(r *Release, p *platform, l *locale, key string)) {
	for _, r := range s.config.Releases {
		if r.app == nil || s.releases[r.name] != r {
			continue
		}
		for i := range r.app.platforms {
			p := &r.app.platforms[i]
			for j := range p.locales {
				for k := range p.locales[j].completes {
					c := r.app.patch(&p.locales[j].completes[k])
					if c.from.text == "*" && c.hash.kind == text {
						f(r, p, &p.locales[j], hashKey(r.app.hashFunction.text, c.hash.text))
					}
				}
			}
		}
	}
}

// buildIDOf is the build ID of a locale, or of its platform.
func buildIDOf(p *platform, l *locale) scalar { return l.buildID.or(p.buildID) }

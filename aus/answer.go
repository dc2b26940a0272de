package aus

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// Env is what an answer depends on beside the query.
type Env struct {
	// Now is the time by which rollouts and the expiry of shutoffs are judged; the zero time is the present.
	Now time.Time
	// Dice returns a number from 0 to 99, all equally often; nil is a die of its own.
	Dice func() int
	// Client returns what is the same for each request of one client, and as good as random between clients; nil and ""
	// are not known. If it is there, it decides in place of the die. It is called where that is needed.
	Client func() string
}

// Outcome says in a word what became of a query. Outcomes are stable: programs may count by them.
type Outcome string

// The outcomes.
const (
	OutcomeUpdate          Outcome = "update"
	OutcomeShutoff         Outcome = "shutoff"          // an emergency shutoff is on
	OutcomeNoRule          Outcome = "no-rule"          // no rule matches
	OutcomeNoMapping       Outcome = "no-mapping"       // the rule gives no update
	OutcomeThrottled       Outcome = "throttled"        // the rate leaves the client out, and there is no fallback
	OutcomeUnknownRelease  Outcome = "unknown-release"  // the rule's release is not there
	OutcomeNotNewer        Outcome = "not-newer"        // the client is as new as the release
	OutcomeUnknownPlatform Outcome = "unknown-platform" // the release lacks the client's platform
	OutcomeUnknownLocale   Outcome = "unknown-locale"   // the release lacks the client's locale
	OutcomeNoVersion       Outcome = "no-version"       // the client or the release has no usable version
	OutcomeNoPatch         Outcome = "no-patch"         // the release has no file for the client
	OutcomeForbidden       Outcome = "forbidden"        // all files are on hosts that are not allowed
	OutcomeNoAddress       Outcome = "no-address"       // the release has no address for the client's channel
	OutcomeWrongKind       Outcome = "wrong-kind"       // the release cannot be given in the form that was asked for
	OutcomeIncomplete      Outcome = "incomplete"       // the release lacks something without which there is no answer
	OutcomePinned          Outcome = "pinned"           // the pinned release is not newer
	OutcomeBadRequest      Outcome = "bad-request"      // the query cannot be answered: 400
	OutcomeFault           Outcome = "fault"            // Balrog answers 500; of a Strict snapshot only
)

// Answer is what a client gets, and why.
type Answer struct {
	Status      int    // of HTTP: 200, 400, or 500 of a Strict snapshot
	ContentType string // header Content-Type
	Body        []byte // XML or JSON, in UTF-8

	// Rule is the rule that decided, or nil.
	Rule *Rule
	// Release names the release that was served, or the one that decided that there is no update; "" is none.
	Release string
	Outcome Outcome // why the answer is what it is
	// Quirks are those of Balrog's that the query met: if there are none, it answers the same.
	Quirks Quirks
	// Complete and Partial say what the answer offers.
	Complete, Partial bool
	// Shutoff is the shutoff that decided, or nil.
	Shutoff *Shutoff
	// Random says that a die or the client's name decided, so that another client may get another answer.
	Random bool
	// Until is when the answer may change by the clock alone; the zero time is never.
	Until time.Time
	// Fault says what makes Balrog answer 500, of a Strict snapshot only.
	Fault string
}

// Types of bodies.
const (
	typeXML     = "text/xml; charset=utf-8"
	typeText    = "text/plain; charset=utf-8"
	typeHTML    = "text/html; charset=utf-8"
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
)

const (
	xmlHead  = "<?xml version=\"1.0\"?>\n<updates>\n"
	xmlEmpty = xmlHead + "</updates>"
)

// Answer answers a query. It never fails: what is wrong with rules or releases is no update, and what is wrong with
// the query is no update or, where a pin or release makes no sense, status 400 with a message for people.
func (s *Snapshot) Answer(q Query, env Env) Answer {
	e := newEvaluation(s, &q, &env, false)
	return e.answer()
}

// Strict imitates Mozilla's Balrog on a snapshot, its faults included: what is a 500 there is one here. It is for tests
// and comparisons, not for clients.
type Strict struct{ s *Snapshot }

// Strict returns the imitation of Balrog on this snapshot.
func (s *Snapshot) Strict() Strict { return Strict{s} }

// Answer answers a query as Balrog does. Where its answer is not defined, by the order in which it walks a set, it is one
// of the possible ones.
func (s Strict) Answer(q Query, env Env) Answer {
	e := newEvaluation(s.s, &q, &env, true)
	return e.answer()
}

// evaluation is the work on one query.
type evaluation struct {
	s        *Snapshot
	q        *Query
	env      *Env
	strict   bool
	fallback string // fallback channel
	version  version
	loose    []looseItem
	now      time.Time

	quirks   Quirks
	outcome  Outcome // why there is no update, once that is known
	random   bool
	until    time.Time
	shutoff  *Shutoff
	failure  *failure
	complete bool
	partial  bool
	// forbidden says that a file was left out because of its host.
	forbidden bool
	explain   *Explanation // nil but for Explain
}

// failure ends an evaluation with a status of its own.
type failure struct {
	status  int
	message string
	quirk   Quirk
}

func newEvaluation(s *Snapshot, q *Query, env *Env, strict bool) *evaluation {
	e := &evaluation{s: s, q: q, env: env, strict: strict, fallback: fallbackChannel(q.Channel), version: parseVersion(q.Version), now: env.Now}
	if e.now.IsZero() {
		e.now = time.Now()
	}
	return e
}

// fault notes that Balrog answers 500. It returns true where the evaluation goes on, without what the fault is about.
func (e *evaluation) fault(quirk Quirk, what string) bool {
	e.quirks.add(quirk)
	if e.strict && e.failure == nil {
		e.failure = &failure{http.StatusInternalServerError, what, quirk}
	}
	return !e.strict
}

// bad notes that Balrog answers 400 with a message, and so does this package.
func (e *evaluation) bad(message string) {
	if e.failure == nil {
		e.failure = &failure{http.StatusBadRequest, message, 0}
	}
}

// badOr notes that Balrog answers 400, where this package has no update.
func (e *evaluation) badOr(quirk Quirk, outcome Outcome, message string) {
	e.quirks.add(quirk)
	if e.strict {
		e.bad(message)
		return
	}
	e.none(outcome)
}

// none notes why there is no update; the first reason counts.
func (e *evaluation) none(outcome Outcome) {
	if e.outcome == "" {
		e.outcome = outcome
	}
}

// stopped says whether there is no point in going on.
func (e *evaluation) stopped() bool { return e.failure != nil || e.outcome != "" }

func (e *evaluation) noteUntil(t time.Time) {
	if !t.IsZero() && (e.until.IsZero() || t.Before(e.until)) {
		e.until = t
	}
}

func (e *evaluation) answer() Answer {
	p := e.pick(e.q.Product)
	a := Answer{Status: http.StatusOK, ContentType: typeXML}
	if e.q.Form.JSON() {
		a.ContentType = typeJSON
	}
	if p.rule != nil {
		a.Rule = p.rule.Rule
	}
	if p.release != nil {
		a.Release = p.release.name
	}
	if !e.stopped() {
		if e.q.Form.JSON() {
			a.Body = e.json(p.release)
		} else {
			a.Body = e.xml(&p)
		}
	}
	a.Outcome, a.Quirks, a.Random, a.Until, a.Shutoff = OutcomeUpdate, e.quirks, e.random, e.until, e.shutoff
	a.Complete, a.Partial = e.complete, e.partial
	switch {
	case e.failure != nil:
		a.fail(e.failure)
	case e.outcome != "":
		a.Outcome = e.outcome
		a.Complete, a.Partial = false, false
		if e.q.Form.JSON() {
			a.Status, a.ContentType, a.Body = http.StatusNotFound, typeHTML, nil
		} else {
			a.Body = []byte(xmlEmpty)
		}
	}
	return a
}

var messageEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (a *Answer) fail(f *failure) {
	a.Status, a.Complete, a.Partial = f.status, false, false
	if f.status == http.StatusBadRequest {
		a.Outcome, a.ContentType, a.Body = OutcomeBadRequest, typeText, []byte(messageEscaper.Replace(f.message))
		return
	}
	a.Outcome, a.ContentType, a.Fault = OutcomeFault, typeProblem, f.message
	a.Body = problem(f.status, "Internal Server Error", serverFault, "")
}

// picked is what the rules say.
type picked struct {
	rule       *compiledRule
	release    *Release
	product    string // for the allow list
	updateType string
}

// pick evaluates shutoffs and rules for a product, and lets the release decide whether it serves the client.
func (e *evaluation) pick(product string) (p picked) {
	p.product = product
	p.updateType = "minor"
	mapping, decided := e.stop(product)
	if !decided {
		rule := e.decide(product)
		if rule == nil {
			e.none(OutcomeNoRule)
			return p
		}
		p.rule = rule
		mapping = e.throttle(rule)
		switch {
		case rule.UpdateType != nil:
			p.updateType = *rule.UpdateType
		case e.strict:
			p.updateType = "None"
		default:
			e.quirks.add(QuirkIncomplete)
		}
	}
	if e.stopped() {
		return p
	}
	p.release = e.s.releases[mapping]
	if p.release == nil {
		if e.fault(QuirkMapping, "there is no release "+mapping) {
			e.none(OutcomeUnknownRelease)
		}
		return p
	}
	switch e.serves(p.release) {
	case no:
		e.none(OutcomeNotNewer)
	case maybe:
		pinned, ok := e.s.pins[pinKey{product, e.fallback, e.canonicalPin()}]
		if !ok {
			break
		}
		release := e.s.releases[pinned]
		if release == nil {
			e.fault(QuirkMapping, "there is no release "+pinned)
			break
		}
		p.release = release
		if e.serves(release) == no {
			e.none(OutcomePinned)
		}
	}
	return p
}

// stop looks for a shutoff. decided says that there is one, mapping what is served instead.
func (e *evaluation) stop(product string) (mapping string, decided bool) {
	for i := range e.s.shutoffs {
		f := &e.s.shutoffs[i]
		if f.Product != "" && f.Product != product || f.Channel != "" && f.Channel != e.q.Channel && f.Channel != e.fallback {
			continue
		}
		if !f.Expires.IsZero() && !f.Expires.After(e.now) {
			continue
		}
		if f.only != nil {
			if _, ok := e.matches(f.only, product); !ok {
				continue
			}
		}
		e.noteUntil(f.Expires)
		e.shutoff = f.Shutoff
		if f.Instead == "" {
			e.none(OutcomeShutoff)
		}
		return f.Instead, true
	}
	return "", false
}

// decide returns the rule that decides for the client, or nil.
func (e *evaluation) decide(product string) *compiledRule {
	var best *compiledRule
	nulls, n := 0, 0
	look := func(r *compiledRule) bool {
		column, ok := e.matches(&r.matcher, product)
		if e.explain != nil {
			e.explain.add(r, column, ok)
		}
		if e.failure != nil {
			return false
		}
		if !ok {
			return true
		}
		n++
		if r.Priority == nil {
			nulls++
		}
		if best == nil || r.priority > best.priority || r.priority == best.priority && r.ID < best.ID {
			best = r
		}
		return true
	}
	c := e.s.candidates(product)
	if e.strict || e.explain != nil {
		// The order decides which fault comes first, and what is explained.
		for _, r := range c.rules {
			if !look(r) {
				return nil
			}
		}
	} else {
		for i := range c.groups {
			g := &c.groups[i]
			if g.pattern != nil && !g.pattern.literal(e.q.Channel) && !g.pattern.literal(e.fallback) {
				continue
			}
			for _, r := range g.rules {
				look(r)
			}
		}
	}
	e.explain = nil // the products of a superblob are a matter of their own
	if nulls > 0 && n > 1 && !e.fault(QuirkNullPriority, "a rule without priority beside another") {
		return nil
	}
	return best
}

// throttle returns the name of the release that a rule gives the client.
func (e *evaluation) throttle(r *compiledRule) string {
	if !filled(r.Mapping) {
		e.none(OutcomeNoMapping)
		return ""
	}
	rate := r.rate
	if !e.strict {
		var until time.Time
		rate, until = r.rateAt(e.now)
		e.noteUntil(until)
	}
	if e.q.Force == ForceMain {
		return *r.Mapping
	}
	if r.BackgroundRate == nil && !e.fault(QuirkNullRate, "a rule without background rate") {
		return ""
	}
	if rate >= 100 || e.q.Force != ForceFallback && e.roll(r) < rate {
		return *r.Mapping
	}
	if !filled(r.FallbackMapping) {
		e.none(OutcomeThrottled)
		return ""
	}
	return *r.FallbackMapping
}

// roll returns 0 to 99: by the client if it is known, else by the die.
func (e *evaluation) roll(r *compiledRule) int64 {
	e.random = true
	if !e.strict && e.env.Client != nil {
		if client := e.env.Client(); client != "" {
			e.quirks.add(QuirkStickyThrottle)
			return share(r.ID, client)
		}
	}
	if e.env.Dice != nil {
		return int64(e.env.Dice())
	}
	return rand.Int64N(100)
}

// share returns a number from 0 to 99 that is always the same for a rule and a client: FNV-1a over both, and the
// finalizer of MurmurHash3, which spreads it over all bits.
func share(rule int64, client string) int64 {
	h := uint64(14695981039346656037)
	for range 8 {
		h = (h ^ uint64(rule)&0xff) * 1099511628211
		rule >>= 8
	}
	for i := range len(client) {
		h = (h ^ uint64(client[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return int64(h % 100)
}

// matches says whether a client matches; column is the first that does not.
func (e *evaluation) matches(m *matcher, product string) (column Column, ok bool) {
	q := e.q
	switch {
	case m.product != nil && *m.product != product:
		return ColumnProduct, false
	case m.buildTarget != nil && *m.buildTarget != q.BuildTarget:
		return ColumnBuildTarget, false
	case m.headerArchitecture != nil && (q.Form.JSON() || *m.headerArchitecture != q.HeaderArchitecture):
		return ColumnHeaderArchitecture, false
	case m.distVersion != nil && (!q.Form.distributions() || *m.distVersion != q.DistVersion):
		return ColumnDistVersion, false
	case m.channel != nil && !e.matchChannel(m.channel):
		return ColumnChannel, false
	case m.version != nil && !e.matchVersion(m.version, product):
		return ColumnVersion, false
	case m.buildID != nil && !e.matchBuildID(m.buildID):
		return ColumnBuildID, false
	case m.memory != nil && !e.matchMemory(m.memory):
		return ColumnMemory, false
	case m.osAny && !e.matchOSVersion(m.osVersion):
		return ColumnOSVersion, false
	case m.instructionSet != nil && (q.Form == Form6 && q.InstructionSetUnknown || !listHas(m.instructionSet, q.instructionSet())):
		return ColumnInstructionSet, false
	case m.distribution != nil && !listHas(m.distribution, q.distribution()):
		return ColumnDistribution, false
	case m.locale != nil && !listHas(m.locale, q.locale()):
		return ColumnLocale, false
	case m.mig64 != nil && (q.Form.JSON() || q.Mig64 != flagOf(*m.mig64)):
		return ColumnMig64, false
	case m.jaws != nil && (q.Form != Form6 || q.JAWS != flagOf(*m.jaws)):
		return ColumnJAWS, false
	}
	return "", true
}

// The fields as the query has them; those that its form lacks are "".
func (q *Query) instructionSet() string {
	if q.Form == Form6 {
		return q.InstructionSet
	}
	return ""
}

func (q *Query) distribution() string {
	if q.Form.distributions() {
		return q.Distribution
	}
	return ""
}

func (q *Query) locale() string {
	if q.complete() {
		return q.Locale
	}
	return ""
}

func (q *Query) buildID() string {
	if q.complete() {
		return q.BuildID
	}
	return ""
}

func (q *Query) osVersion() string {
	if q.Form == Form1 || q.Form == FormJSON1 {
		return ""
	}
	return q.OSVersion
}

func (e *evaluation) matchChannel(p *channelPattern) bool {
	literal := p.literal(e.q.Channel) || p.literal(e.fallback)
	if !p.glob || !p.short && !p.active {
		return literal
	}
	match, ok := p.balrog(e.q.Channel)
	if ok && !match {
		match, ok = p.balrog(e.fallback)
	}
	if !ok {
		return e.fault(QuirkChannelRegexp, "a channel that is no regular expression") && literal
	}
	if match != literal {
		quirk := QuirkChannelRegexp
		if p.short {
			quirk = QuirkShortGlob
		}
		e.quirks.add(quirk)
	}
	if e.strict {
		return match
	}
	return literal
}

func (e *evaluation) matchVersion(parts []versionPart, product string) bool {
	loose := looseProduct(product)
	for i := range parts {
		p := &parts[i]
		if p.op == noOperator {
			e.fault(QuirkRuleColumn, "a version without operator")
			return false
		}
		var match bool
		switch {
		case loose:
			match = e.matchLoose(p)
		case e.strict:
			match = e.matchVersionStrictly(p)
		default:
			match = e.matchVersionPart(p)
		}
		if e.failure != nil {
			return false
		}
		if match {
			return true
		}
	}
	return false
}

func (e *evaluation) matchLoose(p *versionPart) bool {
	if e.loose == nil {
		e.loose = parseLoose(e.q.Version)
	}
	if p.op == equal || p.op == glob {
		return equalLoose(e.loose, p.loose)
	}
	c, ok := compareLoose(e.loose, p.loose)
	if !ok {
		e.fault(QuirkClientFault, "a number and a text cannot be compared")
		return false
	}
	return p.op.holds(c)
}

func badVersion(text string) string { return "Version number " + text + " is invalid." }

// noteVersion notes what Balrog makes of the client's version or a rule's.
func (e *evaluation) noteVersion(p *versionPart) {
	if !e.version.valid || !p.version.valid || p.version.text != p.full.text {
		e.quirks.add(QuirkVersionGrammar)
	}
	if e.version.star {
		e.quirks.add(QuirkVersionGlob)
	}
	if p.op == glob && !p.version.valid && !wordByte(p.pattern[0]) {
		e.quirks.add(QuirkRuleColumn)
	}
}

func (e *evaluation) matchVersionStrictly(p *versionPart) bool {
	e.noteVersion(p)
	switch {
	case !e.version.valid:
		e.bad(badVersion(e.q.Version))
		return false
	case !p.version.valid:
		e.bad(badVersion(p.version.text))
		return false
	case p.op == glob || p.version.glob:
		return e.version.matches(&p.version)
	}
	return p.op.holds(e.version.compare(&p.version))
}

func (e *evaluation) matchVersionPart(p *versionPart) bool {
	e.noteVersion(p)
	if e.version.star {
		return false
	}
	if p.op == glob {
		switch {
		case p.version.valid && e.version.valid:
			return e.version.matches(&p.version)
		case !p.version.valid && !wordByte(p.pattern[0]):
			return false
		}
		prefix := strings.TrimSuffix(p.pattern, "*")
		return strings.HasPrefix(e.q.Version, prefix) || e.q.Version+"." == prefix
	}
	return p.op.holds(e.version.order(&p.full))
}

func (e *evaluation) matchBuildID(p *buildIDPattern) bool {
	if p.op == noOperator {
		e.fault(QuirkRuleColumn, "a build ID without operator")
		return false
	}
	id := e.q.buildID()
	balrog, numeric := p.balrog(id), p.numeric(id)
	if balrog != numeric {
		e.quirks.add(QuirkBuildIDOrder)
	}
	if e.strict {
		return balrog
	}
	return numeric
}

func (e *evaluation) matchMemory(p *memoryPattern) bool {
	if e.q.Form != Form6 || !e.q.MemoryKnown {
		return true
	}
	if !p.valid {
		e.fault(QuirkRuleColumn, "a memory that is no number")
		return false
	}
	return p.holds(e.q.Memory)
}

func (e *evaluation) matchOSVersion(alternatives [][]string) bool {
	os := e.q.osVersion()
	empty := false
	for _, terms := range alternatives {
		if len(terms) == 0 {
			empty = true
			continue
		}
		all := true
		for _, term := range terms {
			if !strings.Contains(os, term) {
				all = false
				break
			}
		}
		if all {
			return true
		}
	}
	if empty {
		e.quirks.add(QuirkEmptyTerm)
	}
	return empty && e.strict
}

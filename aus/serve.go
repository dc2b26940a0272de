package aus

import (
	"strconv"
	"strings"
)

// decision is what a release says to a client.
type decision uint8

const (
	no decision = iota
	maybe
	yes
)

// serves asks a release whether it is for the client.
func (e *evaluation) serves(r *Release) decision {
	switch {
	case r.app != nil:
		return e.servesApp(r.app)
	case r.guardian != nil:
		return e.servesGuardian(r.guardian)
	case r.schema == SchemaUnknown:
		if e.fault(QuirkMapping, "a release of an unknown schema") {
			e.none(OutcomeUnknownRelease)
		}
		return no
	}
	return yes
}

func (e *evaluation) servesGuardian(g *guardian) decision {
	if g.file(e.q.BuildTarget) == nil {
		e.none(OutcomeUnknownPlatform)
		return no
	}
	if e.loose == nil {
		e.loose = parseLoose(e.q.Version)
	}
	if equalLoose(e.loose, g.loose) {
		return no
	}
	c, ok := compareLoose(e.loose, g.loose)
	if !ok {
		if e.fault(QuirkClientFault, "a number and a text cannot be compared") {
			e.none(OutcomeNoVersion)
		}
		return no
	}
	if c >= 0 {
		return no
	}
	return yes
}

func (e *evaluation) servesApp(r *appRelease) decision {
	q := e.q
	if !q.complete() {
		return no
	}
	text, parsed := r.versionFor(q)
	if !text.filled() {
		e.none(OutcomeNoVersion)
		return no
	}
	order, ok := e.order(parsed)
	if !ok || order > 0 {
		return no
	}
	if order == 0 {
		id, ok := e.buildID(r, q.BuildTarget)
		if !ok {
			return no
		}
		if e.notNewer(id) {
			return no
		}
	}
	if !r.hasPlatforms {
		if e.fault(QuirkEmptyPlatforms, "a release without platforms") {
			e.none(OutcomeUnknownPlatform)
		}
		return no
	}
	if r.platform(q.BuildTarget) == nil {
		e.none(OutcomeUnknownPlatform)
		return no
	}
	if !q.HasPin {
		return yes
	}
	numbers, ok := parsePin(q.Pin)
	if !ok {
		e.bad("Version Pin String '" + q.Pin + "' is invalid.")
		return no
	}
	for i, n := range parsed.pinNumbers(len(numbers)) {
		switch {
		case n > numbers[i]:
			return maybe
		case n < numbers[i]:
			return yes
		}
	}
	return yes
}

// versionFor returns the version of a release for a client's platform and locale.
func (r *appRelease) versionFor(q *Query) (scalar, *version) {
	if p, _, _ := r.resolve(q.BuildTarget); p != nil {
		if l := p.locale(q.Locale); l != nil && l.versions.release.kind != absent {
			return l.versions.release, l.parsed
		}
	}
	return r.versions.release, &r.parsed
}

// order compares the client's version with a release's.
func (e *evaluation) order(release *version) (c int, ok bool) {
	client := &e.version
	if client.star || release.star {
		e.quirks.add(QuirkVersionGlob)
	}
	if !client.valid || !release.valid {
		e.quirks.add(QuirkVersionGrammar)
	}
	if e.strict {
		switch {
		case !client.valid:
			e.bad(badVersion(client.text))
			return 0, false
		case !release.valid:
			e.bad(badVersion(release.text))
			return 0, false
		}
		return client.compare(release), true
	}
	if client.star || release.star {
		e.none(OutcomeNoVersion)
		return 0, false
	}
	return client.order(release), true
}

// buildID returns the build ID of a release for a platform and the client's locale.
func (e *evaluation) buildID(r *appRelease, target string) (scalar, bool) {
	if !r.hasPlatforms {
		if e.fault(QuirkEmptyPlatforms, "a release without platforms") {
			e.none(OutcomeUnknownPlatform)
		}
		return scalar{}, false
	}
	p, resolved, known := r.resolve(target)
	if !known {
		e.badOr(QuirkUnknownPlatform, OutcomeUnknownPlatform, "Can't find platform '%s' "+target)
		return scalar{}, false
	}
	var l *locale
	if p != nil {
		l = p.locale(e.q.Locale)
	}
	if l == nil {
		outcome := OutcomeUnknownLocale
		if p == nil {
			outcome = OutcomeUnknownPlatform
		}
		e.badOr(QuirkUnknownLocale, outcome, "No such locale '"+e.q.Locale+"' in platform '"+resolved+"'")
		return scalar{}, false
	}
	id := buildIDOf(p, l)
	if id.kind == absent {
		e.bad("No buildID for platform '" + resolved + "'")
		return scalar{}, false
	}
	return id, true
}

// notNewer says whether the client's build is the release's or a later one.
func (e *evaluation) notNewer(id scalar) bool {
	if id.kind != text {
		if !e.fault(QuirkBuildIDNumber, "a build ID that is no text") {
			return true
		}
	}
	balrog, numeric := e.q.BuildID >= id.text, compareBuildIDs(e.q.BuildID, id.text) >= 0
	if balrog != numeric {
		e.quirks.add(QuirkBuildIDOrder)
	}
	if e.strict {
		return balrog
	}
	return numeric
}

// parsePin reads "102." or "102.3.".
func parsePin(pin string) ([]uint64, bool) {
	rest, ok := strings.CutSuffix(strings.TrimSuffix(pin, "\n"), ".")
	if !ok {
		return nil, false
	}
	major, minor, two := strings.Cut(rest, ".")
	n, ok := digits(major)
	if !ok {
		return nil, false
	}
	if !two {
		return []uint64{n}, true
	}
	m, ok := digits(minor)
	return []uint64{n, m}, ok
}

// canonicalPin is the client's pin without leading zeros.
func (e *evaluation) canonicalPin() string {
	numbers, _ := parsePin(e.q.Pin)
	var b strings.Builder
	for _, n := range numbers {
		b.WriteString(strconv.FormatUint(n, 10))
		b.WriteByte('.')
	}
	return b.String()
}

// pinNumbers returns the first n numbers of a version.
func (v *version) pinNumbers(n int) []uint64 {
	if v.valid {
		return v.numbers[:min(n, v.parts)]
	}
	numbers := make([]uint64, 0, n)
	rest := v.text
	for range n {
		var field string
		field, rest, _ = strings.Cut(rest, ".")
		end := 0
		for end < len(field) && field[end] >= '0' && field[end] <= '9' {
			end++
		}
		number, _ := digits(field[:end])
		numbers = append(numbers, number)
	}
	return numbers
}

package aus

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Rule says which release the clients get that it matches. A nil column matches every client. The JSON form is
// that of Balrog's API, column by column.
type Rule struct {
	ID              int64   `json:"rule_id"`         // 1 or more
	Alias           *string `json:"alias"`           // another name for people and tools; nil is none
	Priority        *int64  `json:"priority"`        // the highest of the matching rules decides
	Mapping         *string `json:"mapping"`         // name of the release; nil is no update
	FallbackMapping *string `json:"fallbackMapping"` // for whom the background rate leaves out; nil is no update
	BackgroundRate  *int64  `json:"backgroundRate"`  // percent of the clients that get the mapping
	UpdateType      *string `json:"update_type"`     // minor or major

	Product            *string `json:"product"`            // name; nil is every product, as nil is anything in each column below
	Version            *string `json:"version"`            // "<90.0", "100.*", "90.0,91.0": any of the list
	Channel            *string `json:"channel"`            // "release", "nightly*"
	BuildTarget        *string `json:"buildTarget"`        // the whole of it
	BuildID            *string `json:"buildID"`            // one, with an operator or without
	Locale             *string `json:"locale"`             // a list
	OSVersion          *string `json:"osVersion"`          // a list of parts of the client's
	Memory             *string `json:"memory"`             // megabytes, with an operator or without
	InstructionSet     *string `json:"instructionSet"`     // a list
	JAWS               *bool   `json:"jaws"`               // whether the client runs this screen reader in a version that is incompatible
	Mig64              *bool   `json:"mig64"`              // whether the client may go over to 64 bits
	Distribution       *string `json:"distribution"`       // a list
	DistVersion        *string `json:"distVersion"`        // the whole of it
	HeaderArchitecture *string `json:"headerArchitecture"` // "PPC" or "Intel"

	Comment     *string `json:"comment"`      // for people
	DataVersion int64   `json:"data_version"` // counts the changes of the rule, from 1

	// Rollout changes the background rate with time: from each stage's time on its rate holds in place of
	// BackgroundRate. Balrog has nothing like it.
	Rollout []Stage `json:"rollout,omitempty"`
}

// Stage is one step of a rollout.
type Stage struct {
	At   time.Time `json:"at"`   // from when on the rate holds
	Rate int64     `json:"rate"` // percent
}

// Column names a column of a rule that clients are matched by.
type Column string

// The columns in the order in which they are looked at.
const (
	ColumnProduct            Column = "product"
	ColumnBuildTarget        Column = "buildTarget"
	ColumnHeaderArchitecture Column = "headerArchitecture"
	ColumnDistVersion        Column = "distVersion"
	ColumnChannel            Column = "channel"
	ColumnVersion            Column = "version"
	ColumnBuildID            Column = "buildID"
	ColumnMemory             Column = "memory"
	ColumnOSVersion          Column = "osVersion"
	ColumnInstructionSet     Column = "instructionSet"
	ColumnDistribution       Column = "distribution"
	ColumnLocale             Column = "locale"
	ColumnMig64              Column = "mig64"
	ColumnJAWS               Column = "jaws"
)

// matcher is the compiled form of the columns that clients are matched by, of a rule or a shutoff.
type matcher struct {
	product, buildTarget, headerArchitecture, distVersion *string

	channel        *channelPattern
	version        []versionPart
	buildID        *buildIDPattern
	memory         *memoryPattern
	osVersion      [][]string // alternatives of terms; one without terms matches every client in Balrog
	osAny          bool       // the column is set
	instructionSet []string
	distribution   []string
	locale         []string
	mig64, jaws    *bool
}

// compileMatcher compiles the columns of a rule. report gets a message for each column that is refused.
func compileMatcher(r *Rule, report func(column Column, severity Severity, quirk Quirk, message string)) matcher {
	m := matcher{
		product: r.Product, buildTarget: r.BuildTarget, headerArchitecture: r.HeaderArchitecture,
		distVersion: r.DistVersion, mig64: r.Mig64, jaws: r.JAWS,
	}
	if r.Channel != nil {
		m.channel = newChannelPattern(*r.Channel)
		switch p := m.channel; {
		case p.short:
			report(ColumnChannel, SeverityWarning, QuirkShortGlob, fmt.Sprintf("%q: Balrog matches nothing with so short a pattern", p.text))
		case p.active && p.re == nil:
			report(ColumnChannel, SeverityError, QuirkChannelRegexp, fmt.Sprintf("%q: Balrog takes it for a regular expression, which it is not", p.text))
		case p.active:
			report(ColumnChannel, SeverityWarning, QuirkChannelRegexp, fmt.Sprintf("%q: Balrog takes it for a regular expression; here it is a literal prefix", p.text))
		}
	}
	if r.Version != nil {
		m.version = compileVersions(*r.Version, func(severity Severity, quirk Quirk, message string) {
			report(ColumnVersion, severity, quirk, message)
		}, r.Product)
	}
	if r.BuildID != nil {
		p := newBuildIDPattern(*r.BuildID)
		m.buildID = &p
		switch {
		case p.op == noOperator:
			report(ColumnBuildID, SeverityError, QuirkRuleColumn, fmt.Sprintf("%q does not begin with an operator or a number", *r.BuildID))
		case p.op == glob:
			report(ColumnBuildID, SeverityWarning, 0, fmt.Sprintf("%q: build IDs know no wildcards, so it never matches", *r.BuildID))
		case strings.Contains(*r.BuildID, ","):
			report(ColumnBuildID, SeverityWarning, 0, fmt.Sprintf("%q: build IDs know no lists", *r.BuildID))
		}
	}
	if r.Memory != nil {
		op, operand, _ := splitOperator(*r.Memory)
		p := &memoryPattern{op: op}
		if n, ok := parseInt(operand); ok && op != glob && op != noOperator {
			p.operand, p.valid = n, true
		} else {
			report(ColumnMemory, SeverityError, QuirkRuleColumn, fmt.Sprintf("%q is not a number of megabytes", *r.Memory))
		}
		m.memory = p
	}
	if filled(r.OSVersion) { // an empty text matches every client, as nothing does
		var empty bool
		m.osAny = true
		m.osVersion, empty = compileOSVersion(*r.OSVersion)
		if empty {
			report(ColumnOSVersion, SeverityError, QuirkEmptyTerm, fmt.Sprintf("%q has an empty term, which matches every client in Balrog", *r.OSVersion))
		}
	}
	for _, l := range []struct {
		from   *string
		to     *[]string
		column Column
	}{
		{r.InstructionSet, &m.instructionSet, ColumnInstructionSet},
		{r.Distribution, &m.distribution, ColumnDistribution},
		{r.Locale, &m.locale, ColumnLocale},
	} {
		if l.from == nil {
			continue
		}
		*l.to = strings.Split(*l.from, ",")
		for _, item := range *l.to {
			if item != strings.TrimSpace(item) {
				report(l.column, SeverityWarning, 0, fmt.Sprintf("%q: %q has blanks, which count", *l.from, item))
			}
		}
	}
	return m
}

// channelPattern is a channel with or without "*" at its end.
type channelPattern struct {
	text   string
	prefix string // what is before the "*" at the end
	glob   bool
	short  bool           // fewer than three characters: Balrog matches nothing
	active bool           // Balrog takes some characters for those of a regular expression
	re     *regexp.Regexp // of an active pattern; nil where it is none
}

// maxPattern bounds the regular expressions of Balrog's channel patterns; its column has 75 characters.
const maxPattern = 1000

func newChannelPattern(s string) *channelPattern {
	p := &channelPattern{text: s}
	p.prefix, p.glob = strings.CutSuffix(s, "*")
	if !p.glob {
		return p
	}
	p.short = len(s) < 3
	if p.active = strings.ContainsAny(s, `+?^$()[]{}|\`); p.active && len(s) <= maxPattern {
		expression := strings.NewReplacer(".", `\.`, "*", `\*`).Replace(p.prefix)
		p.re, _ = regexp.Compile("^" + expression + ".*") // nil where it does not parse, which strict answers with a 500
	}
	return p
}

// literal is the match without regular expressions.
func (p *channelPattern) literal(channel string) bool {
	if !p.glob {
		return channel == p.text
	}
	rest, ok := strings.CutPrefix(channel, p.prefix)
	return ok && !strings.Contains(rest, "\n")
}

// balrog is the match as Balrog does it; ok is false where it answers 500.
func (p *channelPattern) balrog(channel string) (match, ok bool) {
	switch {
	case p.short:
		return false, true
	case !p.active || !p.glob:
		return p.literal(channel), true
	case p.re == nil:
		return false, false
	}
	loc := p.re.FindStringIndex(channel)
	return loc != nil && !strings.Contains(channel[loc[1]:], "\n"), true
}

// versionPart is one of the versions of a list.
type versionPart struct {
	op      operator
	version version // what Balrog compares with
	full    version // the whole operand, where Balrog ignores a part of it; else the same
	loose   []looseItem
	pattern string
}

// compileVersions compiles a list of versions, for products of either kind unless the product is known.
func compileVersions(s string, report func(Severity, Quirk, string), product *string) []versionPart {
	var parts []versionPart
	for field := range strings.SplitSeq(s, ",") {
		op, operand, full := splitOperator(field)
		p := versionPart{op: op, pattern: field, version: parseVersion(operand), full: parseVersion(full)}
		loose := product != nil && looseProduct(*product)
		if product == nil || loose {
			p.loose = parseLoose(operand)
		}
		switch {
		case op == noOperator:
			report(SeverityError, QuirkRuleColumn, fmt.Sprintf("%q in %q does not begin with an operator or a version", field, s))
		case loose:
		case op == glob && !p.version.valid && !wordByte(field[0]):
			report(SeverityError, QuirkRuleColumn, fmt.Sprintf("%q in %q: an operator and a wildcard exclude each other", field, s))
		case !p.full.valid:
			report(SeverityWarning, QuirkVersionGrammar, fmt.Sprintf("%q in %q is not a version to Balrog, which answers 400 to clients that reach it", field, s))
		case operand != full:
			report(SeverityWarning, QuirkVersionGrammar, fmt.Sprintf("%q in %q: Balrog ignores what follows %q", field, s, operand))
		}
		parts = append(parts, p)
	}
	return parts
}

// buildIDPattern is a build ID with or without an operator.
type buildIDPattern struct {
	op      operator
	operand string
}

func newBuildIDPattern(s string) buildIDPattern {
	op, operand, _ := splitOperator(s)
	return buildIDPattern{op, operand}
}

// balrog compares as Balrog does, by characters.
func (p *buildIDPattern) balrog(id string) bool {
	if p.op == glob {
		return id == p.operand
	}
	return p.op.holds(strings.Compare(id, p.operand))
}

// numeric compares by value where both are digits.
func (p *buildIDPattern) numeric(id string) bool {
	if p.op == glob {
		return id == p.operand
	}
	return p.op.holds(compareBuildIDs(id, p.operand))
}

// compareBuildIDs orders two build IDs: by value where both are digits, else by characters.
func compareBuildIDs(a, b string) int {
	if !allDigits(a) || !allDigits(b) {
		return strings.Compare(a, b)
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// memoryPattern is a number of megabytes with or without an operator.
type memoryPattern struct {
	op      operator
	operand int64
	valid   bool
}

func (p *memoryPattern) holds(memory int64) bool {
	c := 0
	if memory < p.operand {
		c = -1
	} else if memory > p.operand {
		c = 1
	}
	return p.op.holds(c)
}

// compileOSVersion splits "a && b, c" into alternatives of terms, without the empty terms; empty says that there were some.
func compileOSVersion(s string) (alternatives [][]string, empty bool) {
	for alternative := range strings.SplitSeq(s, ",") {
		var terms []string
		for term := range strings.SplitSeq(alternative, "&&") {
			if term = strings.TrimSpace(term); term == "" {
				empty = true
				continue
			}
			terms = append(terms, term)
		}
		alternatives = append(alternatives, terms)
	}
	return alternatives, empty
}

func listHas(items []string, s string) bool {
	for _, item := range items {
		if item == s {
			return true
		}
	}
	return false
}

// fallbackChannel is the channel without what a customised build appends to it.
func fallbackChannel(channel string) string {
	before, _, _ := strings.Cut(channel, "-cck-")
	return before
}

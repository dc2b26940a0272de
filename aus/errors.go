package aus

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// Errors that callers branch on. What this package returns wraps one of them.
var (
	// ErrFormat says that a document is not JSON, or not of the form that is read.
	ErrFormat = errors.New("aus: invalid document")
	// ErrLimit says that a document is larger than the limits allow.
	ErrLimit = errors.New("aus: limit exceeded")
)

// Quirk numbers something that Balrog does and this package does otherwise.
type Quirk uint8

// The quirks that an answer can meet. Where one is named in an answer, Balrog may have answered differently.
const (
	QuirkExtraParameters Quirk = 1  // answers 400 to query parameters that it does not know
	QuirkMessage         Quirk = 2  // leaves placeholders in messages unfilled
	QuirkNullPriority    Quirk = 3  // answers 500 where two rules match and one has no priority
	QuirkNullRate        Quirk = 4  // answers 500 where the rule has no background rate
	QuirkMapping         Quirk = 5  // answers 500 where a mapping names no release, or one of no known schema
	QuirkRuleColumn      Quirk = 6  // answers 500 or 400 to every client that reaches a column that does not parse
	QuirkShortGlob       Quirk = 7  // matches nothing with the channels "*" and "r*"
	QuirkChannelRegexp   Quirk = 8  // takes channels with a wildcard for regular expressions
	QuirkBuildIDOrder    Quirk = 9  // orders build IDs by characters
	QuirkEmptyTerm       Quirk = 10 // matches every client with an empty term in osVersion
	QuirkBuildIDNumber   Quirk = 11 // answers 500 where a build ID is a JSON number
	QuirkUnknownPlatform Quirk = 12 // answers 400 to some clients of a platform that the release lacks
	QuirkUnknownLocale   Quirk = 13 // answers 400 to clients of a locale that the release lacks
	QuirkEscaping        Quirk = 14 // escapes nothing but "&" in XML
	QuirkSquash          Quirk = 15 // removes newlines for two builds of 2019
	QuirkNoPatch         Quirk = 17 // sends an update without any file
	QuirkFromLocale      Quirk = 18 // answers 500 where the release that a partial is from lacks the platform's locale
	QuirkReplacement     Quirk = 19 // answers 500 where OS_FTP or OS_BOUNCER is missing, wanted or not
	QuirkIncomplete      Quirk = 20 // answers 500 where a release lacks what its schema does not ask for
	QuirkConflicts       Quirk = 21 // takes some groups of updateLine that cannot both apply for conflicting, and fails on others
	QuirkBuildNull       Quirk = 22 // answers null where a build is unknown to the read-only API
	QuirkEmptyPlatforms  Quirk = 26 // answers 500 where a release has no platforms
	QuirkClientFault     Quirk = 29 // answers 500 to what only the client got wrong
	QuirkVersionGrammar  Quirk = 30 // answers 400 where a version is none by its own grammar
	QuirkVersionGlob     Quirk = 31 // takes a wildcard as the version of a client or release
	QuirkStickyThrottle  Quirk = 63 // rolls a die at each request where the client is known
)

// String returns "Q" and the number; the rolled die has none.
func (q Quirk) String() string {
	if q == QuirkStickyThrottle {
		return "die"
	}
	return fmt.Sprintf("Q%d", uint8(q))
}

// Quirks is a set of quirks.
type Quirks uint64

func (s *Quirks) add(q Quirk) { *s |= 1 << q }

// Has says whether a quirk is in the set.
func (s Quirks) Has(q Quirk) bool { return s&(1<<q) != 0 }

// List returns the quirks in their order.
func (s Quirks) List() []Quirk {
	var list []Quirk
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		list = append(list, Quirk(bits.TrailingZeros64(rest)))
	}
	return list
}

func (s Quirks) String() string {
	var texts []string
	for _, q := range s.List() {
		texts = append(texts, q.String())
	}
	return strings.Join(texts, " ")
}

// Severity says what becomes of a problem.
type Severity uint8

// The severities.
const (
	// SeverityWarning is for what is probably wrong.
	SeverityWarning Severity = iota
	// SeverityError is for what makes Balrog fail whatever the client sends: a snapshot with one should not be served.
	SeverityError
)

func (s Severity) String() string {
	if s == SeverityError {
		return "error"
	}
	return "warning"
}

// MarshalText gives the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (s *Severity) UnmarshalText(text []byte) error {
	switch string(text) {
	case SeverityWarning.String():
		*s = SeverityWarning
	case SeverityError.String():
		*s = SeverityError
	default:
		return fmt.Errorf("%w: there is no severity %q", ErrFormat, text)
	}
	return nil
}

// Problem is one thing that is wrong with rules or releases.
type Problem struct {
	Severity Severity `json:"severity"`          // how bad it is
	Rule     int64    `json:"rule,omitempty"`    // the rule that it is about, or 0
	Release  string   `json:"release,omitempty"` // the release that it is about
	Path     string   `json:"path,omitempty"`    // where in it: a column, or the keys of the document
	Quirk    Quirk    `json:"quirk,omitempty"`   // what Balrog makes of it, if that is one of its quirks
	Message  string   `json:"message"`           // what is wrong, for people
}

func (p Problem) String() string {
	var place []string
	if p.Rule != 0 {
		place = append(place, fmt.Sprintf("rule %d", p.Rule))
	}
	if p.Release != "" {
		place = append(place, fmt.Sprintf("release %q", p.Release))
	}
	if p.Path != "" {
		place = append(place, p.Path)
	}
	s := p.Severity.String() + ": " + strings.Join(append(place, p.Message), ": ")
	if p.Quirk != 0 {
		s += " (" + p.Quirk.String() + ")"
	}
	return s
}

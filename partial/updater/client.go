package updater

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// ModelVersion names the model of clients of this package. Whatever decides differently about the same facts gets
// another one, so that nothing that was proved by an older model passes for proved by this one.
const ModelVersion = "client/1"

// A Source says where a fact of a [Client] comes from.
type Source string

// The sources. What stands first outranks what follows.
const (
	SourceCaller   Source = "caller"   // who asks says so
	SourceComplete Source = "complete" // read off the installed version's complete update, or its directory
	SourceRule     Source = "rule"     // a rule for its Gecko version
	SourceDefault  Source = "default"  // nobody says; what a current updater does
)

// A Fact is one thing that matters about a client.
type Fact[T any] struct {
	Value  T      `json:"value"`  // what is so
	Source Source `json:"source"` // who says it
	// Known is false where the value is only what is assumed of a current updater, or nothing at all.
	Known bool `json:"known"`
	// Note says more exactly where the value stands, or why there is none.
	Note string `json:"note,omitempty"`
}

// A Client is an installed updater as far as updates are concerned: what it reads, does and refuses. It is a plain
// value, made by [NewClient], [ClientOf] or package toolchain, which knows rules by version; nobody changes it
// afterwards, so it is safe for concurrent use.
type Client struct {
	// Product is the application's name, as application.ini has it.
	Product Fact[string] `json:"product"`
	// Version is the client's own version, below which it takes no update (error 23). Some products number it apart
	// from application.ini, so FROM's product block says it before application.ini does.
	Version Fact[string] `json:"version"`
	// Gecko is the version of the Gecko that it was built from, by which rules go.
	Gecko    Fact[string]   `json:"gecko"`
	Platform Fact[Platform] `json:"platform"` // the operating system; "" where it is not known
	// Bundle says that files stand as in a macOS application, with Contents/ at the root.
	Bundle Fact[bool] `json:"bundle"`
	// Members are the formats of compressed members that it unpacks, the usual one first.
	Members Fact[[]MemberFormat] `json:"members"`
	// Manifests are the versions of manifests that it looks for, oldest first; it reads the newest of them and
	// crashes where that is absent.
	Manifests Fact[[]ManifestVersion] `json:"manifests"`
	// Patches are the names of the patch formats that it applies.
	Patches Fact[[]string] `json:"patches"`
	// Signature is the algorithm of the one signature that it accepts.
	Signature Fact[mar.Algorithm] `json:"signature"`
	// Verifies says whether it was built to verify signature, product block, channel and version at all.
	Verifies Fact[bool] `json:"verifies"`
	// Channels are those that it accepts; known and empty means that it takes any.
	Channels Fact[[]string] `json:"channels"`
	// Settings is where its own update-settings.ini stands, without which it fails with error 38; "" where it has none.
	Settings Fact[string] `json:"settings"`
	// Drafts says whether it writes every file beside its place before it replaces any (FORMATS: Draft). Known is
	// false for a Gecko newer than the last one that is known not to: both ways have to come to the same then.
	Drafts Fact[bool] `json:"drafts"`
}

// Names of patch formats, in facts, rules and selections.
const (
	PatchMBDIFF10 = "mbdiff10" // what mbsdiff makes; every updater applies it
	PatchZucchini = "zucchini"
)

// lastUndrafted is the end of the versions of Gecko whose updater is known to work in three phases, without Draft:
// 140.12 was run.
const lastUndrafted = "141.0a1"

// Claims are what one source says about a client. A zero field says nothing.
type Claims struct {
	Product  string   `json:"product,omitempty"`  // as [Client] has it, as all that follow
	Version  string   `json:"version,omitempty"`  // its own version
	Gecko    string   `json:"gecko,omitempty"`    // version of its Gecko
	Platform Platform `json:"platform,omitempty"` // the operating system
	Bundle   *bool    `json:"bundle,omitempty"`   // whether it is a macOS application
	// Members are formats of members. A complete update that has several claims several.
	Members   []MemberFormat    `json:"members,omitempty"`
	Manifests []ManifestVersion `json:"manifests,omitempty"` // versions that it looks for
	Patches   []string          `json:"patches,omitempty"`   // names of formats that it applies
	Signature mar.Algorithm     `json:"signature,omitempty"` // algorithm that it accepts
	Verifies  *bool             `json:"verifies,omitempty"`  // whether it verifies updates at all
	// Channels that it accepts: nil says nothing, empty says any.
	Channels []string `json:"channels"`
	Settings string   `json:"settings,omitempty"` // path of its update-settings.ini
	Drafts   *bool    `json:"drafts,omitempty"`   // whether it writes all files before it replaces any
	// Notes say, by the JSON name of a fact, where exactly a claim stands, or why there is none.
	Notes map[string]string `json:"notes,omitempty"`
}

// Trust says which of two contradicting claims about a client counts.
type Trust int

const (
	// TrustNeither makes a contradiction an error.
	TrustNeither Trust = iota
	// TrustComplete follows what its complete update shows.
	TrustComplete
	// TrustVersion follows the rules for its version.
	TrustVersion
)

// String returns "neither", "complete" or "version".
func (t Trust) String() string {
	switch t {
	case TrustComplete:
		return "complete"
	case TrustVersion:
		return "version"
	}
	return "neither"
}

// MarshalText writes the name.
func (t Trust) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads "complete", "version", "neither" or "".
func (t *Trust) UnmarshalText(text []byte) error {
	switch string(text) {
	case "", "neither":
		*t = TrustNeither
	case "complete":
		*t = TrustComplete
	case "version":
		*t = TrustVersion
	default:
		return fmt.Errorf("trust %q: want complete or version", text)
	}
	return nil
}

// ErrContradiction matches a [*ContradictionError] with errors.Is.
var ErrContradiction = errors.New("the complete update and the rules contradict each other")

// A ContradictionError says that FROM's complete update shows one thing about its updater and the rules for its version
// say another, or that the complete contradicts itself.
type ContradictionError struct {
	Fact     string // the fact's JSON name
	Complete string // what the complete update shows
	Rule     string // what the rules say, or "" where the complete contradicts itself
	Gecko    string // the version that the rules went by
}

// Error says both, and how to settle it.
func (e *ContradictionError) Error() string {
	if e.Rule == "" {
		return fmt.Sprintf("FROM's complete contradicts itself: its %s are %s (--trust complete takes all of them, --trust version what the rules say)",
			e.Fact, e.Complete)
	}
	return fmt.Sprintf("FROM's complete shows %s %s, but the rules for Gecko %s say %s (--trust complete or --trust version settles it)",
		e.Fact, e.Complete, e.Gecko, e.Rule)
}

// Is makes errors.Is(err, ErrContradiction) true.
func (e *ContradictionError) Is(target error) bool { return target == ErrContradiction }

// NewClient puts together what the caller, the client's complete update and the rules for its version say. In this
// order one outranks the other, fact by fact; where nobody says anything the fact is what a current updater does, and
// not known. Where complete and rules exclude each other in members, manifests or signature, and the caller says
// nothing about it, the error is a [*ContradictionError], unless trust settles it.
//
// The claims are not kept.
func NewClient(caller, complete, rule Claims, trust Trust) (*Client, error) {
	p := putter{claims: [...]Claims{caller, complete, rule}, trust: trust}
	c := &Client{
		Product:  pick(&p, "product", func(c Claims) (string, bool) { return c.Product, c.Product != "" }, ""),
		Version:  pick(&p, "version", func(c Claims) (string, bool) { return c.Version, c.Version != "" }, ""),
		Gecko:    pick(&p, "gecko", func(c Claims) (string, bool) { return c.Gecko, c.Gecko != "" }, ""),
		Platform: pick(&p, "platform", func(c Claims) (Platform, bool) { return c.Platform, c.Platform != "" }, ""),
		Bundle:   pick(&p, "bundle", func(c Claims) (bool, bool) { return c.Bundle != nil && *c.Bundle, c.Bundle != nil }, false),
		Patches:  pick(&p, "patches", func(c Claims) ([]string, bool) { return slices.Clone(c.Patches), len(c.Patches) > 0 }, []string{PatchMBDIFF10}),
		Verifies: pick(&p, "verifies", func(c Claims) (bool, bool) { return c.Verifies != nil && *c.Verifies, c.Verifies != nil }, false),
		Channels: pick(&p, "channels", func(c Claims) ([]string, bool) { return slices.Clone(c.Channels), c.Channels != nil }, nil),
		Settings: pick(&p, "settings", func(c Claims) (string, bool) { return c.Settings, c.Settings != "" }, ""),
		Drafts:   pick(&p, "drafts", func(c Claims) (bool, bool) { return c.Drafts != nil && *c.Drafts, c.Drafts != nil }, false),
	}
	if !c.Drafts.Known && c.Gecko.Known && version.Compare(c.Gecko.Value, lastUndrafted) < 0 {
		c.Drafts = Fact[bool]{Value: false, Source: SourceRule, Known: true, Note: "updaters before Gecko " + lastUndrafted + " do not"}
	}
	p.gecko = c.Gecko.Value
	if p.claims[1].Gecko == "" && p.gecko == "" {
		p.gecko = "of unknown version"
	}
	c.Members = settle(&p, "members", func(c Claims) []MemberFormat { return c.Members }, formatList, FormatXZ)
	c.Manifests = settle(&p, "manifests", func(c Claims) []ManifestVersion { return c.Manifests }, manifestList, ManifestV3)
	signature := settle(&p, "signature", func(c Claims) []mar.Algorithm {
		if c.Signature == 0 {
			return nil
		}
		return []mar.Algorithm{c.Signature}
	}, signatureList, mar.RSAPKCS1SHA384)
	c.Signature = Fact[mar.Algorithm]{signature.Value[0], signature.Source, signature.Known, signature.Note}
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

// putter puts a client together.
type putter struct {
	claims [3]Claims // caller, complete, rule
	trust  Trust
	gecko  string
	err    error // the first contradiction
}

var sources = [...]Source{SourceCaller, SourceComplete, SourceRule}

// note returns what a source says about a fact.
func (p *putter) note(i int, fact string) string { return p.claims[i].Notes[fact] }

// pick takes the first source that says something.
func pick[T any](p *putter, fact string, get func(Claims) (T, bool), otherwise T) Fact[T] {
	note := ""
	for i, c := range p.claims {
		if v, ok := get(c); ok {
			return Fact[T]{v, sources[i], true, p.note(i, fact)}
		}
		if note == "" {
			note = p.note(i, fact)
		}
	}
	return Fact[T]{otherwise, SourceDefault, false, note}
}

// settle takes what the caller says, else what complete and rule say together: equal or overlapping claims are those
// of the complete, and others a contradiction.
func settle[T comparable](p *putter, fact string, get func(Claims) []T, say func([]T) string, otherwise T) Fact[[]T] {
	caller, complete, rule := get(p.claims[0]), get(p.claims[1]), get(p.claims[2])
	from := func(i int, v []T, note string) Fact[[]T] {
		if note == "" {
			note = p.note(i, fact)
		}
		return Fact[[]T]{slices.Clone(v), sources[i], true, note}
	}
	contradicts := len(complete) > 0 && len(rule) > 0 && !slices.ContainsFunc(complete, func(v T) bool { return slices.Contains(rule, v) })
	mixed := fact == "members" && len(complete) > 1
	switch {
	case len(caller) > 0:
		return from(0, caller, "")
	case !contradicts && !mixed:
		if len(complete) > 0 {
			return from(1, complete, "")
		}
		if len(rule) > 0 {
			return from(2, rule, "")
		}
		return Fact[[]T]{[]T{otherwise}, SourceDefault, false, p.note(1, fact)}
	case p.trust == TrustComplete:
		return from(1, complete, fmt.Sprintf("as in FROM's complete, though the rules say %s", say(rule)))
	case p.trust == TrustVersion && len(rule) > 0:
		return from(2, rule, fmt.Sprintf("by version, though FROM's complete has %s", say(complete)))
	}
	if p.err == nil {
		e := &ContradictionError{Fact: fact, Complete: say(complete), Gecko: p.gecko}
		if contradicts {
			e.Rule = say(rule)
		}
		p.err = e
	}
	return Fact[[]T]{[]T{otherwise}, SourceDefault, false, ""}
}

func formatList(list []MemberFormat) string {
	return sayList(list, func(f MemberFormat) string { return string(f) })
}

func manifestList(list []ManifestVersion) string {
	return sayList(list, func(v ManifestVersion) string { return v.Name() })
}

func signatureList(list []mar.Algorithm) string {
	return sayList(list, func(a mar.Algorithm) string { return a.String() })
}

func sayList[T any](list []T, say func(T) string) string {
	if len(list) == 0 {
		return "nothing"
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = say(v)
	}
	return strings.Join(texts, " and ")
}

// Manifest returns the version of the manifest that the client reads: the newest that it looks for.
func (c *Client) Manifest() ManifestVersion { return slices.Max(c.Manifests.Value) }

// Reads reports whether the client unpacks members of a format.
func (c *Client) Reads(f MemberFormat) bool { return slices.Contains(c.Members.Value, f) }

// Applies reports whether the client applies patches of a format, by its name.
func (c *Client) Applies(patch string) bool { return slices.Contains(c.Patches.Value, patch) }

// CheckPatchFormats says whether the client applies patches of these formats.
func (c *Client) CheckPatchFormats(formats ...string) Verdict {
	for _, f := range formats {
		v := Verdict{Check: CheckPatches, Code: CodePatchFormat, WayOut: "make the update for the client's own version"}
		switch {
		case c.Applies(f):
			continue
		case c.Patches.Known:
			v.Answer, v.Reason = Fails, fmt.Sprintf("there are patches in the format %s, the client applies %v", f, c.Patches.Value)
			return v
		}
		return Verdict{
			Check: CheckPatches, Answer: NotChecked, Warning: true,
			Reason: fmt.Sprintf("there are patches in the format %s, and nobody says whether the client applies them", f),
			WayOut: "name the client's version of Gecko, or its patch formats",
		}
	}
	return Verdict{Check: CheckPatches, Answer: Holds}
}

// Accepts reports whether the client takes updates for a MAR channel, as far as that is known.
func (c *Client) Accepts(channel string) (takes, known bool) {
	if !c.Channels.Known {
		return false, false
	}
	return len(c.Channels.Value) == 0 || slices.Contains(c.Channels.Value, channel), true
}

// ChannelFor says which channel an update into a release with the given product block should be for: the only one that
// the release names, else the only one of those that the client accepts. Where that leaves a choice the error
// names it.
func (c *Client) ChannelFor(channels string) (string, error) {
	var names []string
	for name := range strings.SplitSeq(channels, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) < 2 {
		return strings.Join(names, ""), nil
	}
	var accepted []string
	for _, name := range names {
		if takes, known := c.Accepts(name); known && takes {
			accepted = append(accepted, name)
		}
	}
	if len(accepted) == 1 {
		return accepted[0], nil
	}
	why := "which of them FROM accepts is not known"
	if c.Channels.Known {
		why = fmt.Sprintf("FROM accepts %d of them", len(accepted))
	}
	return "", fmt.Errorf("TO is for the channels %q and %s: say which one with --channel", names, why)
}

package toolchain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Errors of a selection. Test with errors.Is; [WatershedError] and [DowngradeError] carry the details.
var (
	// ErrProduct says that two builds are not of one product, or that there are no rules for it.
	ErrProduct = errors.New("toolchain: product")
	// ErrNoRules says that there are no rules for a product. It matches ErrProduct too.
	ErrNoRules = fmt.Errorf("%w: no rules", ErrProduct)
	// ErrContradiction says that a complete update and its version claim different things: it is that of package
	// updater, and the error an *updater.ContradictionError.
	ErrContradiction = updater.ErrContradiction
	// ErrWatershed says that a pair jumps over a release that it must pass through.
	ErrWatershed = errors.New("toolchain: watershed")
	// ErrDowngrade says that TO is older than FROM.
	ErrDowngrade = errors.New("toolchain: downgrade")
)

// WatershedError is the refusal of a pair that jumps over releases it must pass through. It matches [ErrWatershed].
type WatershedError struct {
	From, To string
	// Hops are the watersheds in between, oldest first: the updates to make instead are from From to the first,
	// from each to the next, and from the last to To.
	Hops []Watershed
	// PlatformUnknown says that some of them are of one platform alone, and that nobody says which one it is.
	PlatformUnknown bool
}

func (e *WatershedError) Error() string {
	path := []string{e.From}
	var reasons []string
	for _, w := range e.Hops {
		path = append(path, w.Version)
		if w.Reason != "" {
			reasons = append(reasons, w.Version+": "+w.Reason)
		}
	}
	message := fmt.Sprintf("no direct update from %s to %s: go %s", e.From, e.To, strings.Join(append(path, e.To), " → "))
	if len(reasons) > 0 {
		message += " (" + strings.Join(reasons, "; ") + ")"
	}
	if e.PlatformUnknown {
		message += "; the platform is not known, so those of every platform count: say which one it is with --platform, or --skip watershed"
	}
	return message
}

// Is makes errors.Is find [ErrWatershed].
func (e *WatershedError) Is(target error) bool { return target == ErrWatershed }

// DowngradeError is the refusal of a pair whose TO is older than FROM. It matches [ErrDowngrade].
type DowngradeError struct {
	From, To string // versions
}

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("version %s is older than %s: updaters refuse a downgrade (swap FROM and TO, or leave out the check downgrade)", e.To, e.From)
}

// Is makes errors.Is find [ErrDowngrade].
func (e *DowngradeError) Is(target error) bool { return target == ErrDowngrade }

// SetOptions are the choices of a [Set].
type SetOptions struct {
	// Trust settles contradictions between a complete update and its version. The zero value refuses them.
	Trust updater.Trust
	// Base is the recipe that selections start from; nil means partial.DefaultRecipe.
	Base *partial.Recipe
	// AnyProduct takes pairs of products without rules, judging by the complete update alone.
	AnyProduct bool
}

// Set selects recipes for pairs of builds by rules. Build one with [NewSet]. Safe for concurrent use.
type Set struct {
	rules []Rules
	opts  SetOptions
	id    func() string
}

// NewSet returns a set with the given rules; later rules replace earlier ones of the same product, so a fork passes
// its own behind [BuiltinRules]. opts may be nil. The error matches [ErrRules].
func NewSet(rules []Rules, opts *SetOptions) (*Set, error) {
	s := &Set{}
	s.id = sync.OnceValue(s.identify)
	if opts != nil {
		s.opts = *opts
	}
	for _, r := range rules {
		if err := r.complete(); err != nil {
			return nil, err
		}
		s.rules = slices.DeleteFunc(s.rules, func(have Rules) bool { return have.covers(r.Product) })
		s.rules = append(s.rules, r)
	}
	return s, nil
}

// DefaultSet returns a set with the built-in rules that judges products without rules by their complete updates alone.
func DefaultSet() *Set {
	s, err := NewSet(BuiltinRules(), &SetOptions{AnyProduct: true})
	if err != nil {
		panic(err) // the built-in rules are checked by a test
	}
	return s
}

// ID names everything in the set that decides which recipe a pair gets: rules, options, base recipe and the model of
// clients.
func (s *Set) ID() string { return s.id() }

func (s *Set) identify() string {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	base := partial.DefaultRecipe()
	if s.opts.Base != nil {
		base = *s.opts.Base
	}
	// Encoding maps sorts their keys, so equal sets have equal IDs.
	for _, v := range []any{updater.ModelVersion, s.rules, s.opts.Trust, s.opts.AnyProduct, base.ID()} {
		if err := enc.Encode(v); err != nil {
			panic(err) // plain data
		}
	}
	return "toolchain/2:" + hex.EncodeToString(sum.Sum(nil)[:16])
}

// Products returns the names of the products that the set has rules for.
func (s *Set) Products() []string {
	names := make([]string, len(s.rules))
	for i, r := range s.rules {
		names[i] = r.Product
	}
	return names
}

func (s *Set) find(product string) *Rules {
	for i := range s.rules {
		if s.rules[i].covers(product) {
			return &s.rules[i]
		}
	}
	return nil
}

// Selection is how the partial update of a pair is to be made, and why.
type Selection struct {
	// Recipe makes the partial. Formats that it does not set are those of the client.
	Recipe partial.Recipe
	// Client is FROM's updater.
	Client *updater.Client
	// Checks are what the checks of the pair say: product, downgrade and watershed.
	Checks updater.Verdicts
	// Reasons say, for people, where each choice comes from.
	Reasons []string
}

// SelectOptions are what a caller says about one pair. The zero value says nothing.
type SelectOptions struct {
	// Client is what the caller knows of FROM's updater; it outranks everything else.
	Client updater.Claims
	// Trust settles contradictions; the zero value means what the set says.
	Trust updater.Trust
	// Skip names checks to leave out, of product, downgrade and watershed. Others are not made here.
	Skip []updater.Check
}

// Select returns how to make the partial update from one build to another. FROM's updater decides: what the caller says
// of it outranks what its complete update shows, and that what the rules say of its version; where the last two exclude
// each other the error matches [ErrContradiction] and says both, unless one of them is trusted. A pair of
// different or unknown products matches [ErrProduct], one that jumps over a watershed [ErrWatershed], one that goes
// backwards [ErrDowngrade]. What cannot be compared, because a version or a product is unknown, is not checked, and the
// verdict says why. On an unknown platform the watersheds of all platforms count.
func (s *Set) Select(from, to Build, opts *SelectOptions) (Selection, error) {
	if opts == nil {
		opts = &SelectOptions{}
	}
	sel := Selection{}
	verdict := func(c updater.Check, answer updater.Answer, reason string) bool {
		if slices.Contains(opts.Skip, c) {
			answer, reason = updater.Skipped, ""
		}
		sel.Checks = append(sel.Checks, updater.Verdict{Check: c, Answer: answer, Reason: reason})
		return answer == updater.Fails
	}
	product := cmp.Or(opts.Client.Product, from.Product, to.Product)
	rules := s.find(product)
	switch {
	case from.Product == "" || to.Product == "":
		verdict(updater.CheckProduct, updater.NotChecked, "FROM or TO does not name its product")
	case s.sameProduct(from.Product, to.Product):
		verdict(updater.CheckProduct, updater.Holds, "")
	case verdict(updater.CheckProduct, updater.Fails, ""):
		return sel, fmt.Errorf("%w: FROM is %s, TO is %s", ErrProduct, from.Product, to.Product)
	}
	if rules == nil && !s.opts.AnyProduct {
		var err error
		if sel.Client, _, err = s.client(from, to, nil, opts); err != nil {
			return sel, err
		}
		return sel, fmt.Errorf("%w for %q (there are some for %s)", ErrNoRules, product, strings.Join(s.Products(), ", "))
	}
	known := from.Version != "" && to.Version != ""
	switch {
	case !known:
		verdict(updater.CheckDowngrade, updater.NotChecked, "the version of FROM or TO is not known")
	case Compare(to.Version, from.Version) >= 0:
		verdict(updater.CheckDowngrade, updater.Holds, "")
	case verdict(updater.CheckDowngrade, updater.Fails, ""):
		return sel, &DowngradeError{From: from.Version, To: to.Version}
	}
	client, platform, err := s.client(from, to, rules, opts)
	if err != nil {
		return sel, err
	}
	sel.Client = client
	switch {
	case rules == nil:
		verdict(updater.CheckWatershed, updater.NotChecked, fmt.Sprintf("there are no rules for %q", product))
	case !known:
		verdict(updater.CheckWatershed, updater.NotChecked, "the version of FROM or TO is not known")
	default:
		hops := rules.between(from.Version, to.Version, platform)
		switch {
		case len(hops) == 0:
			verdict(updater.CheckWatershed, updater.Holds, "")
		case verdict(updater.CheckWatershed, updater.Fails, ""):
			return sel, &WatershedError{From: from.Version, To: to.Version, Hops: hops, PlatformUnknown: platform == "" && slices.ContainsFunc(hops, func(w Watershed) bool { return len(w.Platforms) > 0 })}
		}
	}
	s.compose(&sel, from, to, rules)
	return sel, nil
}

// Client returns FROM's updater: what the caller says of it, else what its complete update shows, else what the rules
// say of its version. opts may be nil; its Skip does not matter. The error matches [ErrContradiction].
func (s *Set) Client(from, to Build, opts *SelectOptions) (*updater.Client, error) {
	if opts == nil {
		opts = &SelectOptions{}
	}
	c, _, err := s.client(from, to, s.find(cmp.Or(opts.Client.Product, from.Product, to.Product)), opts)
	return c, err
}

// client is Client with the rules at hand. It tells the platform as well, which TO may tell where FROM does not.
func (s *Set) client(from, to Build, rules *Rules, opts *SelectOptions) (*updater.Client, updater.Platform, error) {
	caller := opts.Client
	shown := updater.Claims{}
	if from.Client != nil {
		shown = *from.Client
	} else { // a build that somebody describes
		caller.Product = cmp.Or(caller.Product, from.Product)
		caller.Version, caller.Gecko = cmp.Or(caller.Version, from.Version), cmp.Or(caller.Gecko, from.Gecko)
	}
	for _, b := range []Build{from, to} {
		if p, ok := updater.ParsePlatform(b.Platform); ok && caller.Platform == "" && p != shown.Platform {
			caller.Platform = p
		}
	}
	platform := cmp.Or(string(caller.Platform), string(shown.Platform))
	if platform == "" && to.Client != nil && to.Client.Platform != "" {
		platform = string(to.Client.Platform)
		shown.Platform = to.Client.Platform
		shown.Notes = maps.Clone(shown.Notes)
		if shown.Notes == nil {
			shown.Notes = map[string]string{}
		}
		shown.Notes["platform"] = "TO's: " + to.Client.Notes["platform"]
	}
	rule := updater.Claims{}
	if rules != nil {
		gecko := cmp.Or(caller.Gecko, shown.Gecko, from.Version)
		if gecko != "" {
			era := rules.era(gecko)
			rule = era.claims(updater.Platform(platform))
			rule.Gecko = gecko
			rule.Notes["gecko"] = "the version of the application, which is Gecko's for this product"
		}
	}
	trust := opts.Trust
	if trust == updater.TrustNeither {
		trust = s.opts.Trust
	}
	c, err := updater.NewClient(caller, shown, rule, trust)
	return c, updater.Platform(platform), err
}

func (s *Set) sameProduct(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	rules := s.find(a)
	return rules != nil && rules.covers(b)
}

// compose makes the recipe and says why it is as it is.
func (s *Set) compose(sel *Selection, from, to Build, rules *Rules) {
	why := func(format string, args ...any) { sel.Reasons = append(sel.Reasons, fmt.Sprintf(format, args...)) }
	c := sel.Client
	switch {
	case rules != nil && c.Gecko.Known:
		era := rules.era(c.Gecko.Value)
		why("FROM is %s with Gecko %s: era since %s", rules.Product, c.Gecko.Value, era.Since)
	case rules != nil:
		why("FROM's version is unknown: taken for a current %s", rules.Product)
	default:
		why("no rules for %q: taken for a current updater where its complete does not tell", cmp.Or(from.Product, to.Product))
	}
	fact := func(name string, value any, source updater.Source, note string) {
		if note != "" {
			note = " (" + note + ")"
		}
		why("%s: %v, by %s%s", name, value, source, note)
	}
	fact("members", c.Members.Value, c.Members.Source, c.Members.Note)
	fact("manifests", c.Manifests.Value, c.Manifests.Source, c.Manifests.Note)
	fact("patches", c.Patches.Value, c.Patches.Source, c.Patches.Note)
	fact("signature", c.Signature.Value, c.Signature.Source, c.Signature.Note)

	recipe := partial.DefaultRecipe()
	if s.opts.Base != nil {
		recipe = *s.opts.Base
	}
	recipe.Arch = cmp.Or(to.Arch, from.Arch, recipe.Arch)
	recipe.Force = slices.Clone(recipe.Force)
	if rules != nil {
		recipe.Force = append(recipe.Force, rules.Force...)
		if arch, ok := rules.Arch[recipe.Arch]; ok {
			recipe.Arch = arch
		}
	}
	sel.Recipe = recipe
}

// Pair is one possible update of a plan.
type Pair struct {
	From Build `json:"from"` // the old build
	To   Build `json:"to"`   // the new one
	// Recipe is the ID of the recipe that makes it; empty where it is refused.
	Recipe string `json:"recipe,omitempty"`
	// Client is FROM's updater, with the source of each fact; Checks and Reasons are those of the selection.
	Client  *updater.Client  `json:"client,omitempty"`
	Checks  updater.Verdicts `json:"checks,omitempty"`
	Reasons []string         `json:"reasons,omitempty"`
	// Refused says why there can be no such update.
	Refused string `json:"refused,omitempty"`
	// Hops are the versions to go through instead.
	Hops []string `json:"hops,omitempty"`
}

// Plan judges every ordered pair of a history of builds that are of one product, platform, architecture and locale,
// from the older to the newer one by version and then build ID. It is in the order of the history.
func (s *Set) Plan(history []Build) []Pair {
	var pairs []Pair
	for _, from := range history {
		for _, to := range history {
			if !s.comparable(from, to) {
				continue
			}
			pairs = append(pairs, s.judge(from, to))
		}
	}
	return pairs
}

func (s *Set) comparable(from, to Build) bool {
	if !s.sameProduct(from.Product, to.Product) || from.Platform != to.Platform || from.Arch != to.Arch || from.Locale != to.Locale {
		return false
	}
	if c := Compare(from.Version, to.Version); c != 0 {
		return c < 0
	}
	return from.BuildID < to.BuildID
}

func (s *Set) judge(from, to Build) Pair {
	pair := Pair{From: from, To: to}
	sel, err := s.Select(from, to, nil)
	pair.Client, pair.Checks = sel.Client, sel.Checks
	if err != nil {
		pair.Refused = err.Error()
		var crossed *WatershedError
		if errors.As(err, &crossed) {
			for _, w := range crossed.Hops {
				pair.Hops = append(pair.Hops, w.Version)
			}
		}
		return pair
	}
	pair.Recipe, pair.Reasons = sel.Recipe.For(sel.Client).ID(), sel.Reasons
	return pair
}

package toolchain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Errors of a selection. Test with errors.Is; [WatershedError] and [DowngradeError] carry the details.
var (
	// ErrProduct says that two builds are not of one product, or that there are no rules for it.
	ErrProduct = errors.New("toolchain: product")
	// ErrNoRules says that there are no rules for a product. It matches ErrProduct too.
	ErrNoRules = fmt.Errorf("%w: no rules", ErrProduct)
	// ErrContradiction says that a complete update and its version claim different things.
	ErrContradiction = errors.New("toolchain: contradiction")
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
	return message
}

// Is makes errors.Is find [ErrWatershed].
func (e *WatershedError) Is(target error) bool { return target == ErrWatershed }

// DowngradeError is the refusal of a pair whose TO is older than FROM. It matches [ErrDowngrade].
type DowngradeError struct{ From, To string }

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("version %s is older than %s: updaters refuse a downgrade", e.To, e.From)
}

// Is makes errors.Is find [ErrDowngrade].
func (e *DowngradeError) Is(target error) bool { return target == ErrDowngrade }

// Check names something that [Set.Select] refuses, so that a caller can switch it off.
type Check string

// The checks of a selection.
const (
	CheckProduct   Check = "product"   // both builds are of one product
	CheckDowngrade Check = "downgrade" // TO is not older than FROM
	CheckWatershed Check = "watershed" // no release in between must be passed through
)

// Trust says which of two contradicting claims about FROM's updater counts.
type Trust int

const (
	// TrustNeither makes a contradiction an error.
	TrustNeither Trust = iota
	// TrustComplete follows what FROM's complete update shows.
	TrustComplete
	// TrustVersion follows the rules for FROM's version.
	TrustVersion
)

// SetOptions are the choices of a [Set].
type SetOptions struct {
	// Trust settles contradictions between a complete update and its version. The zero value refuses them.
	Trust Trust
	// ZucchiniSince overrides, per product, from which version on the updater applies Zucchini patches; "*" means
	// never.
	ZucchiniSince map[string]string
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
	for product := range s.opts.ZucchiniSince {
		if s.find(product) == nil {
			return nil, fmt.Errorf("%w: ZucchiniSince names product %q, which has no rules", ErrRules, product)
		}
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

// ID names everything in the set that decides which recipe a pair gets: rules, options and base recipe.
func (s *Set) ID() string { return s.id() }

func (s *Set) identify() string {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	base := partial.DefaultRecipe()
	if s.opts.Base != nil {
		base = *s.opts.Base
	}
	// Encoding maps sorts their keys, so equal sets have equal IDs.
	for _, v := range []any{s.rules, s.opts.Trust, s.opts.ZucchiniSince, s.opts.AnyProduct, base.ID()} {
		if err := enc.Encode(v); err != nil {
			panic(err) // plain data
		}
	}
	return "toolchain/1:" + hex.EncodeToString(sum.Sum(nil)[:16])
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
	// Recipe makes the partial.
	Recipe partial.Recipe
	// Signature is the algorithm that FROM's updater verifies.
	Signature mar.Algorithm
	// PatchFormats are the patch formats that FROM's updater applies.
	PatchFormats []string
	// Reasons say, for people, where each choice comes from.
	Reasons []string
}

// Select returns how to make the partial update from one build to another. FROM's updater decides: what its complete
// update shows (Capabilities) outranks what the rules say of its version, and where the two exclude each other the
// error matches [ErrContradiction] and says both, unless the set trusts one of them. A pair of different or
// unknown products matches [ErrProduct], one that jumps over a watershed [ErrWatershed], one that goes backwards
// [ErrDowngrade]. An unknown version of either build (empty) skips what needs it, and the reasons say so.
// Checks named in skip are left out.
func (s *Set) Select(from, to Build, skip ...Check) (Selection, error) {
	checked := func(c Check) bool { return !slices.Contains(skip, c) }
	if from.Product != "" && to.Product != "" && checked(CheckProduct) && !s.sameProduct(from.Product, to.Product) {
		return Selection{}, fmt.Errorf("%w: FROM is %s, TO is %s", ErrProduct, from.Product, to.Product)
	}
	product := first(from.Product, to.Product)
	rules := s.find(product)
	if rules == nil && !s.opts.AnyProduct {
		return Selection{}, fmt.Errorf("%w for %q (there are some for %s)", ErrNoRules, product, strings.Join(s.Products(), ", "))
	}
	known := from.Version != "" && to.Version != ""
	if known && checked(CheckDowngrade) && Compare(to.Version, from.Version) < 0 {
		return Selection{}, &DowngradeError{From: from.Version, To: to.Version}
	}
	if known && rules != nil && checked(CheckWatershed) {
		if hops := rules.between(from.Version, to.Version, first(from.Platform, to.Platform)); len(hops) > 0 {
			return Selection{}, &WatershedError{From: from.Version, To: to.Version, Hops: hops}
		}
	}
	return s.compose(from, to, rules)
}

func (s *Set) sameProduct(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	rules := s.find(a)
	return rules != nil && rules.covers(b)
}

// compose merges what the rules say of FROM's version with what its complete update shows.
func (s *Set) compose(from, to Build, rules *Rules) (Selection, error) {
	sel := Selection{}
	why := func(format string, args ...any) { sel.Reasons = append(sel.Reasons, fmt.Sprintf(format, args...)) }

	era := Era{Compression: CompressionXZ, Manifests: []int{3}, Signature: "sha384", Patches: []string{FormatMBDIFF10}}
	byVersion := rules != nil && from.Version != ""
	switch {
	case byVersion:
		era = rules.era(from.Version)
		why("FROM is %s %s: era since %s", rules.Product, from.Version, era.Since)
	case rules != nil:
		era = rules.Eras[len(rules.Eras)-1]
		era.Patches = []string{FormatMBDIFF10}
		why("FROM's version is unknown: taken for a current %s", rules.Product)
	default:
		why("no rules for %q: taken for a current updater", first(from.Product, to.Product))
	}
	if caps := from.Capabilities; caps != nil {
		if err := s.reconcile(&era, caps, from, byVersion, why); err != nil {
			return Selection{}, err
		}
	}
	s.zucchini(&era, from, rules, why)

	algorithm, err := era.algorithm()
	if err != nil {
		return Selection{}, fmt.Errorf("%w: %w", ErrRules, err)
	}
	sel.Signature, sel.PatchFormats = algorithm, era.Patches

	recipe := partial.DefaultRecipe()
	if s.opts.Base != nil {
		recipe = *s.opts.Base
	}
	recipe.Arch = first(to.Arch, from.Arch, recipe.Arch)
	recipe.Force = slices.Clone(recipe.Force)
	if rules != nil {
		recipe.Force = append(recipe.Force, rules.Force...)
	}
	if err := applyEra(&recipe, era, rules); err != nil {
		return Selection{}, err
	}
	sel.Recipe = recipe
	return sel, nil
}

// reconcile lets what FROM's complete shows outrank the guess by version.
func (s *Set) reconcile(era *Era, caps *Capabilities, from Build, byVersion bool, why func(string, ...any)) error {
	if len(caps.Manifests) > 0 && !slices.Equal(caps.Manifests, era.Manifests) {
		why("FROM's complete carries manifests %v, not %v", caps.Manifests, era.Manifests)
		era.Manifests = caps.Manifests
	}
	settle := func(what, shown string, field *string) error {
		switch {
		case shown == "" || shown == *field:
			return nil
		case byVersion && s.opts.Trust == TrustNeither:
			return fmt.Errorf("%w: FROM's complete has %s %s, but by its version %s its updater takes %s; say which one is to be trusted",
				ErrContradiction, what, shown, from.Version, *field)
		case byVersion && s.opts.Trust == TrustVersion:
			why("%s: %s by version, though FROM's complete has %s", what, *field, shown)
			return nil
		}
		why("%s: %s as in FROM's complete", what, shown)
		*field = shown
		return nil
	}
	if err := settle("compression", caps.Compression, &era.Compression); err != nil {
		return err
	}
	shown := ""
	if len(caps.Signatures) == 1 {
		switch caps.Signatures[0] {
		case mar.RSAPKCS1SHA1:
			shown = "sha1"
		case mar.RSAPKCS1SHA384:
			shown = "sha384"
		}
	}
	return settle("signature", shown, &era.Signature)
}

// zucchini applies the configured first version that understands Zucchini patches.
func (s *Set) zucchini(era *Era, from Build, rules *Rules, why func(string, ...any)) {
	if rules == nil {
		return
	}
	for product, since := range s.opts.ZucchiniSince {
		if !rules.covers(product) {
			continue
		}
		era.Patches = slices.DeleteFunc(slices.Clone(era.Patches), func(p string) bool { return p == FormatZucchini })
		if since != "*" && from.Version != "" && Compare(since, from.Version) <= 0 {
			era.Patches = append(era.Patches, FormatZucchini)
		}
		why("Zucchini patches since %s by configuration", since)
	}
}

// Pair is one possible update of a plan.
type Pair struct {
	From Build `json:"from"`
	To   Build `json:"to"`
	// Recipe is the ID of the recipe that makes it; empty where it is refused.
	Recipe string `json:"recipe,omitempty"`
	// Format is how members are compressed; PatchFormats, Signature and Reasons are those of the selection.
	Format       updater.MemberFormat `json:"format,omitempty"`
	PatchFormats []string             `json:"patch_formats,omitempty"`
	Signature    mar.Algorithm        `json:"signature,omitempty"`
	Reasons      []string             `json:"reasons,omitempty"`
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
	sel, err := s.Select(from, to)
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
	pair.Recipe, pair.Signature, pair.Format = sel.Recipe.ID(), sel.Signature, sel.Recipe.Compression.Format
	pair.PatchFormats, pair.Reasons = sel.PatchFormats, sel.Reasons
	return pair
}

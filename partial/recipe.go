package partial

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A Differ makes patches in a format that the updater applies. Implementations must be safe for concurrent use.
//
// A Differ may also have a method PeakMemory(oldSize, newSize int64) int64, which says how many bytes one Diff holds
// at most beyond the two files, until it writes its first byte; Build then bounds what runs at one time by it. And the
// writer that Build gives to Diff may have a method Progress(done, total int64), which a Differ may tell, from one
// goroutine at a time and in rising order, how far it is.
type Differ interface {
	// ID names the program, its version and every setting that changes the bytes it writes.
	ID() string
	// Format names the format of its patches, one of [updater.PatchFormats].
	Format() string
	// Diff writes a patch that turns old into new. It must write the same bytes for the same files, must not
	// keep or change either, must return ctx's error soon after it ends, and must return the error of patch's Write.
	// An error that is [zucchini.ErrEmpty] says that the format has no patch for empty files: the new one goes in whole.
	Diff(ctx context.Context, patch io.Writer, old, new []byte) error
}

// A differ that knows how much memory it needs.
type memoryDiffer interface {
	PeakMemory(oldSize, newSize int64) int64
}

// Rules say what to do about inputs that Mozilla's packaging scripts get wrong.
type Rules string

const (
	// RulesStrict repairs what can be repaired, for example adds a file whole whose executable bit changed, and
	// refuses the rest.
	RulesStrict Rules = "strict"
	// RulesScripts does what the scripts do, and lists what comes of it as findings of severity Broken.
	RulesScripts Rules = "scripts"
)

// A Recipe says how a partial update is made: everything that changes its bytes, and nothing else. It is a plain
// value; start from DefaultRecipe or MozillaRecipe and change fields. What it leaves open about formats is as the
// client, FROM's updater, needs it: see For. What it sets overrules the client, and Build refuses it where the client
// would.
type Recipe struct {
	// Name is what reports call the recipe.
	Name string
	// Rules; "" means RulesStrict.
	Rules Rules
	// Differ makes all patches; nil means that this module's own do, of which the smallest patch is taken for each file.
	Differ Differ
	// Formats are those that patches may be in where there is no Differ, as [PatchFormats] names them; nil means those that
	// the client is known to apply.
	Formats []string
	// Compression of members.
	Compression Compression
	// Manifests to write, in the order of their entries; nil means those that the client looks for.
	Manifests []updater.ManifestVersion
	// Arch is the architecture of the product, as Mozilla's scripts spell it: x86, x86_64, aarch64,
	// macos-x86_64-aarch64. It decides about the filter for whole files and manifests.
	Arch string
	// Platform is one of the Platform constants and decides which names are refused. "" means the client's; where
	// that is not known, names must be good for all.
	Platform string
	// Force lists paths that go in whole even if they did not change. Those that TO does not have are listed in the report.
	Force []string
	// Product is the channel and version of the update; what is empty is TO's: see ProductFor.
	Product *mar.Product
}

// DefaultRecipe returns the recipe for the smallest updates that FROM's updater applies, for x86_64.
func DefaultRecipe() Recipe { return Recipe{Name: "default", Rules: RulesStrict, Arch: "x86_64"} }

// MozillaRecipe returns the recipe that does what make_incremental_update.sh does, for x86_64: the same manifest,
// entries, order and decisions, and mbsdiff's bytes in the patches.
//
// The scripts take a patch where `xz -6` makes fewer bytes of it than of the whole file, which has the branch filter of
// the architecture; of two equal sizes the whole file. (Their `xz -7e` means level 6 with an 8 MiB dictionary, because
// --lzma2 without options discards the preset.) The same holds here, with another encoder: it makes patches a little
// smaller, so that of a thousand files about fifteen whose two sizes are within a few hundredths of each other get a patch
// where the scripts take the whole file. Whole files are TO's own members, which are what the scripts would
// make again where they made TO. The compressed bytes of patches and manifests differ.
//
// What clients would fail on is listed as findings of severity Broken and let pass, as the scripts do: see RulesScripts.
func MozillaRecipe() Recipe {
	return Recipe{
		Name: "mozilla", Rules: RulesScripts, Arch: "x86_64",
		Differ:      bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}),
		Compression: Compression{Level: Level6},
	}
}

// For returns the recipe with everything that it leaves to the client filled in: the format of members and the
// compressors for it, the manifests, the platform. nil stands for a client of which nothing is known, taken for a
// current one.
func (r Recipe) For(c *updater.Client) Recipe {
	if c == nil {
		c, _ = updater.NewClient(updater.Claims{}, updater.Claims{}, updater.Claims{}, updater.TrustNeither) // nothing contradicts
	}
	if r.Rules == "" {
		r.Rules = RulesStrict
	}
	if r.Differ == nil && len(r.Formats) == 0 {
		for _, f := range PatchFormats() {
			if c.Patches.Known && c.Applies(f) {
				r.Formats = append(r.Formats, f)
			}
		}
		if len(r.Formats) == 0 {
			r.Formats = []string{updater.PatchMBDIFF10} // which every updater applies
		}
	}
	if r.Compression.Format == "" {
		r.Compression.Format = c.Members.Value[0]
	}
	r.Compression = r.Compression.filled()
	if len(r.Manifests) == 0 {
		r.Manifests = slices.Sorted(slices.Values(c.Manifests.Value))
		if len(r.Manifests) > 1 && r.Manifests[0] == updater.ManifestV1 {
			r.Manifests = r.Manifests[1:] // nobody who reads a newer one looks for it
		}
	}
	if r.Platform == "" && c.Platform.Known {
		r.Platform = string(c.Platform.Value)
	}
	return r
}

// check says what cannot be used of a recipe. What is left open is fine.
func (r Recipe) check() error {
	switch {
	case r.Rules != "" && r.Rules != RulesStrict && r.Rules != RulesScripts:
		return fmt.Errorf("recipe: unknown rules %q", r.Rules)
	case r.Compression.Format != "" && !slices.Contains(updater.MemberFormats(), r.Compression.Format):
		return fmt.Errorf("recipe: unknown member format %q", r.Compression.Format)
	}
	for _, f := range r.Formats {
		switch {
		case r.Differ != nil:
			return fmt.Errorf("recipe: %s makes all patches: there is no choice of formats", r.Differ.ID())
		case !slices.Contains(PatchFormats(), f):
			return fmt.Errorf("recipe: unknown patch format %q (known are %s)", f, strings.Join(PatchFormats(), ", "))
		}
	}
	if r.Differ != nil {
		if v := reflect.ValueOf(r.Differ); v.Kind() == reflect.Pointer && v.IsNil() {
			return fmt.Errorf("recipe: the differ is a nil %T; leave Differ out for the default", r.Differ)
		}
		if _, ok := updater.PatchFormatNamed(r.Differ.Format()); !ok {
			return fmt.Errorf("recipe: %s makes patches of format %q, which no updater applies", r.Differ.ID(), r.Differ.Format())
		}
	}
	switch r.Platform {
	case "", PlatformLinux, PlatformWindows, PlatformMacOS:
	default:
		return fmt.Errorf("recipe: unknown platform %q", r.Platform)
	}
	seen := map[updater.ManifestVersion]bool{}
	for _, v := range r.Manifests {
		if v != updater.ManifestV2 && v != updater.ManifestV3 || seen[v] {
			return fmt.Errorf("recipe: cannot write manifest version %d", v)
		}
		seen[v] = true
	}
	return nil
}

// ID names everything that decides which bytes Build gives for two completes and a client: two Recipes of one ID give the
// same. What is left to the client stands in it as such; with For it is what the client gives.
func (r Recipe) ID() string {
	rules := r.Rules
	if rules == "" {
		rules = RulesStrict
	}
	force := slices.Clone(r.Force)
	slices.Sort(force)
	product := ""
	if r.Product != nil {
		product = fmt.Sprintf("%q %q", r.Product.Channel, r.Product.Version)
	}
	manifests := manifestNames(r.Manifests)
	if manifests == "" {
		manifests = ofClient
	}
	format := string(r.Compression.Format)
	if format == "" {
		format = ofClient
	}
	return fmt.Sprintf("partial/1 rules=%s differ=%s patches=%s format=%s files=%s manifests=%s arch=%q platform=%q force=%q product=%s",
		rules, r.differsID(), r.Compression.id(r.Compression.Patches), format, r.Compression.id(r.Compression.Files), manifests, r.Arch, r.Platform, slices.Compact(force), product)
}

func manifestNames(list []updater.ManifestVersion) string {
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, v.Name())
	}
	return strings.Join(names, ",")
}

// ofClient stands in IDs for what is left to the client.
const ofClient = "client"

package partial

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A Differ makes patches in a format that the updater applies. Implementations must be safe for concurrent use.
//
// A Differ may also have a method PeakMemory(oldSize, newSize int64) int64, which says how many bytes one Diff holds
// at most beyond the two files, until it writes its first byte; Build then bounds what runs at one time by it.
type Differ interface {
	// ID names the program, its version and every setting that changes the bytes it writes.
	ID() string
	// Diff writes a patch that turns old into new. It must write the same bytes for the same files, must not
	// keep or change either, must return ctx's error soon after it ends, and must return the error of patch's Write.
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
// value; start from DefaultRecipe or MozillaRecipe and change fields.
type Recipe struct {
	// Name is what reports call the recipe.
	Name string
	// Rules; "" means RulesStrict.
	Rules Rules
	// Differ makes the patches; nil means bsdiff's default.
	Differ Differ
	// Compression of members.
	Compression Compression
	// Manifests to write, in the order of their entries; nil means ManifestV3 alone.
	Manifests []updater.ManifestVersion
	// Arch is the architecture of the product, as Mozilla's scripts spell it: x86, x86_64, aarch64,
	// macos-x86_64-aarch64. It decides about the filter for whole files and manifests.
	Arch string
	// Platform is one of the Platform constants and decides which names are refused. "" means to look at TO's
	// files; where they do not tell, names must be good for all.
	Platform string
	// Force lists paths that go in whole even if they did not change. Those that TO does not have are listed in the report.
	Force []string
	// Product is the channel and version of the update; nil means those of TO.
	Product *mar.Product
}

// DefaultRecipe returns the recipe for the smallest updates that every updater since Firefox 56 applies, for x86_64.
func DefaultRecipe() Recipe {
	return Recipe{
		Name: "default", Rules: RulesStrict, Arch: "x86_64",
		Differ:      bsdiff.New(bsdiff.Options{}),
		Compression: Compression{Patches: XZ{Level: LevelBest}, Files: XZ{Level: LevelBest}},
	}
}

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
		Compression: Compression{Patches: XZ{Level: Level6}, Files: XZ{Level: Level6}},
	}
}

func (r Recipe) withDefaults() (Recipe, error) {
	if r.Rules == "" {
		r.Rules = RulesStrict
	}
	if r.Differ == nil {
		r.Differ = bsdiff.New(bsdiff.Options{})
	}
	r.Compression = r.Compression.withDefaults()
	if len(r.Manifests) == 0 {
		r.Manifests = []updater.ManifestVersion{updater.ManifestV3}
	}
	switch {
	case r.Rules != RulesStrict && r.Rules != RulesScripts:
		return r, fmt.Errorf("recipe: unknown rules %q", r.Rules)
	case r.Compression.Format != updater.FormatXZ && r.Compression.Format != updater.FormatBzip2:
		return r, fmt.Errorf("recipe: unknown member format %q", r.Compression.Format)
	}
	switch r.Platform {
	case "", PlatformLinux, PlatformWindows, PlatformMacOS:
	default:
		return r, fmt.Errorf("recipe: unknown platform %q", r.Platform)
	}
	seen := map[updater.ManifestVersion]bool{}
	for _, v := range r.Manifests {
		if v != updater.ManifestV2 && v != updater.ManifestV3 || seen[v] {
			return r, fmt.Errorf("recipe: cannot write manifest version %d", v)
		}
		seen[v] = true
	}
	return r, nil
}

// ID names everything that decides which bytes Build gives for two completes: two Recipes of one ID give the same.
func (r Recipe) ID() string {
	r, err := r.withDefaults()
	if err != nil {
		return "invalid: " + err.Error()
	}
	force := slices.Clone(r.Force)
	slices.Sort(force)
	product := ""
	if r.Product != nil {
		product = fmt.Sprintf("%q %q", r.Product.Channel, r.Product.Version)
	}
	return fmt.Sprintf("partial/1 rules=%s %s format=%s files=%s manifests=%s arch=%q platform=%q force=%q product=%s",
		r.Rules, r.PatchID(), r.Compression.Format, r.Compression.Files.ID(), manifestNames(r.Manifests), r.Arch, r.Platform, slices.Compact(force), product)
}

func manifestNames(list []updater.ManifestVersion) string {
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, v.Name())
	}
	return strings.Join(names, ",")
}

// PatchID names the part of the recipe that decides about the bytes of a patch. It is part of every PatchKey.
func (r Recipe) PatchID() string {
	r, err := r.withDefaults()
	if err != nil {
		return "invalid: " + err.Error()
	}
	return fmt.Sprintf("differ=%s patches=%s", r.Differ.ID(), r.Compression.Patches.ID())
}

package toolchain

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Rules say, for one product, what the updater of each of its versions understands and which releases nobody may
// jump over. They are data: write them as TOML, read them with [ParseRules]. The rules of Firefox and Thunderbird
// are built in ([BuiltinRules]).
//
// Eras go by the version of Gecko, which is what an updater is a part of, watersheds by the product's own versions.
type Rules struct {
	// Product is the name as application.ini has it ([App] Name), compared without regard to case.
	Product string `toml:"product"`
	// Aliases are other names of the same product, for example of its ESR packages.
	Aliases []string `toml:"aliases"`
	// Eras are what updaters understand, oldest first. The era of a build is the last one whose Since is not
	// newer than the version of its Gecko. An era inherits every field it leaves out from the one before.
	Eras []Era `toml:"era"`
	// Watersheds are releases that every older build must pass through.
	Watersheds []Watershed `toml:"watershed"`
	// Arch maps the product's own names of architectures to those that recipes know and that decide about the
	// branch filter of whole members: x86 and x86_64 get the x86 filter, aarch64 and macos-x86_64-aarch64 none.
	// Patches never get one. Names that are not listed stand for themselves.
	Arch map[string]string `toml:"arch"`
	// Force lists paths that always go in whole, besides those that Mozilla's packaging always forces.
	Force []string `toml:"force"`
}

// Era is what the updaters of a range of versions understand.
type Era struct {
	// Since is the first version of Gecko of the era; the first era has "0".
	Since string `toml:"since"`
	// Compression of members: "bzip2" or "xz".
	Compression string `toml:"compression"`
	// Manifests are the manifest versions that a partial must carry: 2, 3 or both.
	Manifests []int `toml:"manifests"`
	// Signature is the signature algorithm: "sha1" or "sha384".
	Signature string `toml:"signature"`
	// Patches are the formats of patches that the updater applies: "mbdiff10", "zucchini".
	Patches []string `toml:"patches"`
	// PatchesMacOS are those that it applies on macOS; absent means those of Patches without "zucchini", since some
	// updaters leave programs behind that macOS refuses to start.
	PatchesMacOS []string `toml:"patches_macos"`
	// Verifies says whether the updater is built to verify signature, channel and version; absent means that it is
	// not known, unless the complete update is signed.
	Verifies *bool `toml:"verifies"`
}

// Watershed is a release that a build older than it may not jump over.
type Watershed struct {
	Version string `toml:"version"` // of the release
	// Platforms limits it to these ("win", "linux", "mac", in any spelling that updater.ParsePlatform reads); empty
	// means all.
	Platforms []string `toml:"platforms"`
	// Reason is shown to the person whose pair is refused.
	Reason string `toml:"reason"`
}

// ErrRules marks rules that cannot be used; the message says which key and why.
var ErrRules = errors.New("toolchain: bad rules")

//go:embed rules/*.toml
var builtin embed.FS

// BuiltinRules returns the rules of the products whose history is public: Firefox and Thunderbird.
func BuiltinRules() []Rules {
	var all []Rules
	for _, name := range []string{"firefox", "thunderbird"} {
		data, err := builtin.ReadFile("rules/" + name + ".toml")
		if err != nil {
			panic(err) // the file is embedded
		}
		rules, err := ParseRules(data)
		if err != nil {
			panic(fmt.Errorf("built-in rules %s: %w", name, err)) // a test reads them all
		}
		all = append(all, rules)
	}
	return all
}

// ParseRules reads rules as TOML and checks them. Unknown keys are an error that shows the line; every error
// matches [ErrRules].
func ParseRules(data []byte) (Rules, error) {
	var rules Rules
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(&rules); err != nil {
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			first := &strict.Errors[0]
			line, _ := first.Position()
			return Rules{}, fmt.Errorf("%w: line %d: unknown key %q", ErrRules, line, strings.Join(first.Key(), "."))
		case errors.As(err, &decode):
			line, _ := decode.Position()
			said, _, _ := strings.Cut(strings.TrimPrefix(decode.Error(), "toml: "), " into ") // names of Go follow
			return Rules{}, fmt.Errorf("%w: line %d: key %q: %s", ErrRules, line, strings.Join(decode.Key(), "."), said)
		}
		return Rules{}, fmt.Errorf("%w: %w", ErrRules, err)
	}
	return rules, rules.complete()
}

// complete checks rules and fills in what eras inherit.
func (r *Rules) complete() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: product %q: %s", ErrRules, r.Product, fmt.Sprintf(format, args...))
	}
	if r.Product == "" {
		return fmt.Errorf("%w: key product is missing", ErrRules)
	}
	if len(r.Eras) == 0 {
		return bad("no era: at least one, with since = \"0\", says what the updater understands")
	}
	r.Eras = slices.Clone(r.Eras)
	for i := range r.Eras {
		era := &r.Eras[i]
		if i == 0 {
			if Compare(era.Since, "0") != 0 {
				return bad("the first era must have since = \"0\", not %q", era.Since)
			}
		} else {
			before := r.Eras[i-1]
			if Compare(before.Since, era.Since) >= 0 {
				return bad("era %q stands behind era %q: oldest first", era.Since, before.Since)
			}
			era.inherit(before)
		}
		if err := era.check(); err != nil {
			return bad("era %q: %v", era.Since, err)
		}
	}
	for i, w := range r.Watersheds {
		if w.Version == "" {
			return bad("watershed %d has no version", i+1)
		}
		for _, name := range w.Platforms {
			if _, ok := updater.ParsePlatform(name); !ok {
				return bad("watershed %s: platforms holds %q: want win, linux or mac", w.Version, name)
			}
		}
	}
	for name, arch := range r.Arch {
		if !slices.Contains(partial.Architectures(), arch) {
			return bad("arch.%s = %q: want one of %q", name, arch, partial.Architectures())
		}
	}
	return nil
}

func (e *Era) inherit(before Era) {
	if e.Compression == "" {
		e.Compression = before.Compression
	}
	if e.Manifests == nil {
		e.Manifests = before.Manifests
	}
	if e.Signature == "" {
		e.Signature = before.Signature
	}
	if e.Patches == nil {
		e.Patches = before.Patches
		if e.PatchesMacOS == nil {
			e.PatchesMacOS = before.PatchesMacOS
		}
	}
	if e.Verifies == nil {
		e.Verifies = before.Verifies
	}
}

func (e *Era) check() error {
	if formats := updater.MemberFormats(); !slices.Contains(formats, updater.MemberFormat(e.Compression)) {
		return fmt.Errorf("compression = %q: want one of %q", e.Compression, formats)
	}
	if len(e.Manifests) == 0 {
		return errors.New("manifests is empty")
	}
	for _, m := range e.Manifests {
		if m != 2 && m != 3 {
			return fmt.Errorf("manifests holds %d: want 2 or 3", m)
		}
	}
	if _, err := e.algorithm(); err != nil {
		return err
	}
	if e.PatchesMacOS == nil {
		e.PatchesMacOS = slices.DeleteFunc(slices.Clone(e.Patches), func(p string) bool { return p == updater.PatchZucchini })
	}
	for key, list := range map[string][]string{"patches": e.Patches, "patches_macos": e.PatchesMacOS} {
		if !slices.Contains(list, updater.PatchMBDIFF10) {
			return fmt.Errorf("%s = %q: want %q among them", key, list, updater.PatchMBDIFF10)
		}
		for _, p := range list {
			if _, ok := updater.PatchFormatNamed(p); !ok {
				return fmt.Errorf("%s holds %q: it is no patch format", key, p)
			}
		}
	}
	return nil
}

func (e *Era) algorithm() (mar.Algorithm, error) {
	switch e.Signature {
	case "sha1":
		return mar.RSAPKCS1SHA1, nil
	case "sha384":
		return mar.RSAPKCS1SHA384, nil
	}
	return 0, fmt.Errorf("signature = %q: want \"sha1\" or \"sha384\"", e.Signature)
}

// claims are what the era says of a client on a platform.
func (e *Era) claims(platform updater.Platform) updater.Claims {
	algorithm, _ := e.algorithm() // checked when the rules were read
	c := updater.Claims{
		Members: []updater.MemberFormat{updater.MemberFormat(e.Compression)}, Signature: algorithm, Verifies: e.Verifies, Patches: e.Patches,
	}
	patches := ""
	if platform == updater.MacOS || platform == "" {
		c.Patches = e.PatchesMacOS // on an unknown platform what all of them apply
		if len(e.PatchesMacOS) < len(e.Patches) {
			patches = ": the formats for macOS (patches_macos)"
			if platform == "" {
				patches = ": the platform is not known, so the formats for all of them (patches_macos)"
			}
		}
	}
	for _, v := range e.Manifests {
		c.Manifests = append(c.Manifests, updater.ManifestVersion(v))
	}
	slices.Sort(c.Manifests)
	since := "era since Gecko " + e.Since
	c.Notes = map[string]string{"members": since, "manifests": since, "signature": since, "patches": since + patches, "verifies": since}
	return c
}

// era returns what the updater of a version of Gecko understands.
func (r *Rules) era(version string) Era {
	era := r.Eras[0]
	for _, e := range r.Eras[1:] {
		if Compare(e.Since, version) <= 0 {
			era = e
		}
	}
	return era
}

// covers reports whether the rules are those of a product.
func (r *Rules) covers(product string) bool {
	if strings.EqualFold(r.Product, product) {
		return true
	}
	return slices.ContainsFunc(r.Aliases, func(alias string) bool { return strings.EqualFold(alias, product) })
}

// between returns the watersheds that a pair would jump over on a platform, oldest first: those newer than from
// and older than to. On an unknown platform those of every platform count.
func (r *Rules) between(from, to string, platform updater.Platform) []Watershed {
	var crossed []Watershed
	for _, w := range r.Watersheds {
		if Compare(from, w.Version) < 0 && Compare(w.Version, to) < 0 && w.appliesTo(platform) {
			crossed = append(crossed, w)
		}
	}
	slices.SortStableFunc(crossed, func(a, b Watershed) int { return Compare(a.Version, b.Version) })
	return crossed
}

func (w Watershed) appliesTo(platform updater.Platform) bool {
	if len(w.Platforms) == 0 || platform == "" {
		return true
	}
	return slices.ContainsFunc(w.Platforms, func(name string) bool {
		p, _ := updater.ParsePlatform(name)
		return p == platform
	})
}

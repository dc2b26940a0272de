package senbonzakura

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Source says which complete update is meant and where it can be had.
type Source struct {
	// URLs are where it can be fetched, tried in this order.
	URLs []string
	// File is a local file instead of URLs, or a directory that holds an installation, which is packed. With a cache a
	// file is copied into it while it is verified, so that it may change later; without one it is read in place and must
	// not change until the update is made.
	File string
	// Hashes are what its bytes must hash to, all of them. A source with URLs needs one; SHA-512 is best, SHA-1 alone
	// is taken and noted as weak. A File without hashes is taken as it is. An update that was made before is found by
	// the strongest hash of each source; of the others those are compared that its provenance has.
	Hashes []fetch.Hash
	// Size is the number of bytes it must have; 0 means that it is not known.
	Size int64
}

// Check names something that [Generator.Generate] makes sure of. A request can switch each off by name; what was
// switched off stands in the provenance. The names are those of package updater, where each is explained.
type Check = updater.Check

// The checks.
const (
	CheckSignatures      = updater.CheckSignatures
	CheckChannels        = updater.CheckChannels
	CheckProduct         = updater.CheckProduct
	CheckDowngrade       = updater.CheckDowngrade
	CheckWatershed       = updater.CheckWatershed
	CheckClientSignature = updater.CheckClientSignature
	CheckProductBlock    = updater.CheckProductBlock
	CheckClientChannel   = updater.CheckClientChannel
	CheckSettings        = updater.CheckSettings
	CheckMembers         = updater.CheckMembers
	CheckManifests       = updater.CheckManifests
	CheckPatches         = updater.CheckPatches
	CheckVerify          = updater.CheckVerify
)

// Checks returns all checks, in the order in which they are made.
func Checks() []Check { return updater.Checks() }

// Request says which partial update is wanted. Only From and To are required.
type Request struct {
	From, To Source
	// Product, Platform, Arch and Locale describe the builds where the completes do not. Platform is in any spelling that
	// [updater.ParsePlatform] reads. Arch decides about the branch filter of what is compressed anew; "" means x86_64.
	Product, Platform, Arch, Locale string
	// Channel and ProductVersion go into the update's product block; "" means those of TO. Where TO names several
	// channels, "" means the only one of them that FROM accepts.
	Channel, ProductVersion string
	// Client is what is known of FROM's updater; it outranks what FROM's complete update shows and what rules say. Facts
	// that are left out are found out.
	Client updater.Claims
	// Trust says which counts where FROM's complete update and the rules for its version contradict each other. The zero
	// value means what the toolchain is set to.
	Trust updater.Trust
	// Force lists paths that go in whole even if they did not change.
	Force []string
	// Formats are those that patches may be in, as [partial.PatchFormats] names them; of each file the smallest patch is
	// taken. They overrule what FROM's updater is known to apply, unless Client says that, too. They do not go with a Recipe that has a Differ.
	Formats []string
	// Recipe replaces the one that the toolchain would select. Arch, Channel and ProductVersion of the request, where
	// they are given, replace those of the recipe; Force is added to its list.
	Recipe *partial.Recipe
	// Keys are public keys of which one must have signed FROM and TO. None means that signatures do not matter.
	Keys []crypto.PublicKey
	// Channels are the MAR channels that TO may be for. None means any.
	Channels []string
	// Skip names checks to leave out.
	Skip []Check
	// AllowFindings has an update made that clients may fail on, as the rules of Mozilla's scripts let them pass: the
	// report lists them. Such an update is neither signed nor stored: see [Generator.GenerateTo].
	AllowFindings bool
	// Labels go into the provenance and the fields for Mozilla's submitters as they are: "update_number",
	// "previousVersion", "previousBuildNumber", "toVersion", "toBuildNumber", "mar", "branch", "platform", "locale".
	Labels map[string]string
}

// RequestError says which field of a request cannot be used. It matches [ErrRequest].
type RequestError struct {
	Field  string // as in "From.Hashes"
	Reason string // for people
}

func (e *RequestError) Error() string { return fmt.Sprintf("request: %s: %s", e.Field, e.Reason) }

// Is makes errors.Is find [ErrRequest].
func (e *RequestError) Is(target error) bool { return target == ErrRequest }

// Errors of Generate, beside those of the packages that do the work (fetch, mar, partial, toolchain), which are
// wrapped. Test with errors.Is.
var (
	// ErrRequest says that a request cannot be used; the error is a [*RequestError].
	ErrRequest = errors.New("senbonzakura: bad request")
	// ErrCheck says that one of the [Checks] failed; the error is a [*CheckError].
	ErrCheck = errors.New("senbonzakura: check failed")
	// ErrClosed says that the generator was closed.
	ErrClosed = errors.New("senbonzakura: generator is closed")
)

// CheckError says which check failed and why. It matches [ErrCheck] and unwraps to the reason.
type CheckError struct {
	Check Check // which one failed
	Err   error // why
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("check %q failed: %v", string(e.Check), e.Err)
}

// Unwrap returns the reason.
func (e *CheckError) Unwrap() error { return e.Err }

// Is makes errors.Is find [ErrCheck].
func (e *CheckError) Is(target error) bool { return target == ErrCheck }

// InputError says which of the two complete updates an error is about: it could not be fetched or read, is no complete
// update, is not of the size or hash that the request gives, or is not signed as it should be. It matches [ErrInput] and
// unwraps to the reason.
type InputError = partial.InputError

// ErrInput matches every [*InputError] with errors.Is.
var ErrInput = partial.ErrInput

func (s *Source) check(field string) error {
	switch {
	case len(s.URLs) == 0 && s.File == "":
		return &RequestError{field, "no URL and no file"}
	case len(s.URLs) > 0 && s.File != "":
		return &RequestError{field, "both URLs and a file"}
	case len(s.URLs) > 0 && len(s.Hashes) == 0:
		return &RequestError{field + ".Hashes", "what comes from a URL needs a hash, best SHA-512"}
	case s.Size < 0:
		return &RequestError{field + ".Size", "is negative"}
	}
	return nil
}

// agrees compares what a source says with what is known of a complete whose strongest hash is the same.
func (s *Source) agrees(in *Input) error {
	if s.Size > 0 && s.Size != in.Size {
		return &fetch.SizeError{Want: s.Size, Got: in.Size}
	}
	for _, h := range s.Hashes {
		known := map[fetch.Algorithm]string{fetch.SHA512: in.SHA512, fetch.SHA256: in.SHA256}[h.Algorithm]
		if got, err := hex.DecodeString(known); err == nil && known != "" && !bytes.Equal(got, h.Sum) {
			return &fetch.DigestError{Algorithm: h.Algorithm, Want: bytes.Clone(h.Sum), Got: got}
		}
	}
	return nil
}

// identity is what the bytes of a source are known by: the strongest of its hashes.
func (s *Source) identity() string {
	for _, alg := range []fetch.Algorithm{fetch.SHA512, fetch.SHA384, fetch.SHA256, fetch.SHA1} {
		for _, h := range s.Hashes {
			if h.Algorithm == alg {
				return h.String()
			}
		}
	}
	return ""
}

func (r *Request) check() error {
	if err := r.From.check("From"); err != nil {
		return err
	}
	if err := r.To.check("To"); err != nil {
		return err
	}
	for _, c := range r.Skip {
		if !slices.Contains(Checks(), c) {
			return &RequestError{"Skip", fmt.Sprintf("no check is called %q (checks: %v)", string(c), Checks())}
		}
	}
	if _, ok := updater.ParsePlatform(r.Platform); !ok && r.Platform != "" {
		return &RequestError{"Platform", fmt.Sprintf("%q is no platform: want linux, windows or macos, or a name that begins like one", r.Platform)}
	}
	for _, f := range r.Formats {
		switch {
		case !slices.Contains(partial.PatchFormats(), f):
			return &RequestError{"Formats", fmt.Sprintf("%.60q is no patch format: want some of %s", f, strings.Join(partial.PatchFormats(), ", "))}
		case r.Recipe != nil && r.Recipe.Differ != nil:
			return &RequestError{"Formats", fmt.Sprintf("recipe %s makes all patches as %s: it leaves no choice", r.Recipe.Name, r.Recipe.Differ.Format())}
		}
	}
	if len(r.Channel) > mar.MaxChannel {
		return &RequestError{"Channel", fmt.Sprintf("longer than %d bytes", mar.MaxChannel)}
	}
	for field, text := range map[string]string{"Channel": r.Channel, "ProductVersion": r.ProductVersion} {
		if strings.ContainsFunc(text, unicode.IsControl) {
			return &RequestError{field, "has control characters"}
		}
	}
	if len(r.ProductVersion) > mar.MaxVersion {
		return &RequestError{"ProductVersion", fmt.Sprintf("longer than %d bytes", mar.MaxVersion)}
	}
	return nil
}

// with returns a recipe with what the request says about it. Parts of the product block that neither says are TO's.
func (r *Request) with(recipe partial.Recipe) partial.Recipe {
	recipe.Arch = cmp.Or(r.Arch, recipe.Arch)
	recipe.Force = slices.Concat(recipe.Force, r.Force)
	if len(r.Formats) > 0 {
		recipe.Formats = sorted(r.Formats)
	}
	if r.Channel != "" || r.ProductVersion != "" {
		var p mar.Product
		if recipe.Product != nil {
			p = *recipe.Product
		}
		recipe.Product = &mar.Product{Channel: cmp.Or(r.Channel, p.Channel), Version: cmp.Or(r.ProductVersion, p.Version)}
	}
	return recipe
}

func (r *Request) skips(c Check) bool { return slices.Contains(r.Skip, c) }

// key names the update that a request asks for: by everything that decides about its bytes or about whether it is
// made at all. from and to are the identities of the sources.
func (r *Request) key(from, to, selection string, opts *Options) cache.Key {
	client, err := json.Marshal(r.Client)
	if err != nil {
		panic(err) // plain data
	}
	parts := []string{
		"request/3", from, to, selection, r.Product, r.Platform, r.Arch, r.Locale, r.Channel, r.ProductVersion, string(client), r.Trust.String(), fmt.Sprint(r.AllowFindings),
	}
	if r.Channel != "" && r.ProductVersion == "" {
		parts = append(parts, "version of the application") // which a TO without product block did not pass on
	}
	list := func(items []string) { parts = append(parts, fmt.Sprint(len(items)), strings.Join(items, "\x00")) }
	list(sorted(r.Force))
	list(sorted(r.Formats))
	var keys, signed []string
	for _, k := range r.Keys {
		keys = append(keys, fingerprint(k))
	}
	for _, s := range opts.Signers {
		var keys []string
		for _, k := range keysOf(s) {
			keys = append(keys, fmt.Sprint(k.Algorithm, " ", fingerprint(k.PublicKey)))
		}
		signed = append(signed, strings.Join(keys, ", "))
	}
	list(sorted(keys))
	list(sorted(r.Channels))
	list(signed)
	if len(opts.Signers) > 0 { // what is required decides about whether it is made at all
		var required []string
		for _, r := range opts.Require {
			required = append(required, string(r))
		}
		list(sorted(required))
	}
	if len(opts.Signers) > 0 && len(opts.ClientKeys) > 0 {
		var have []string
		for _, k := range opts.ClientKeys {
			have = append(have, fingerprint(k))
		}
		list(append([]string{"clients have"}, sorted(have)...))
	}
	var skip []string
	for _, c := range r.Skip {
		skip = append(skip, string(c))
	}
	list(sorted(skip))
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		parts = append(parts, name, r.Labels[name])
	}
	return cache.NewKey(cache.Partials, parts...)
}

func sorted(items []string) []string { return slices.Compact(slices.Sorted(slices.Values(items))) }

// fingerprint is mar.Fingerprint, also for what is no key that anybody signs with.
func fingerprint(k crypto.PublicKey) string {
	sum, err := mar.Fingerprint(k)
	if err != nil {
		return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%T %v", k, k)))
	}
	return sum
}

// platform says whether the request names another platform than the executables of a complete are for. With another one
// other rules would hold: watersheds of one platform alone, and what its updater does.
func (r *Request) platform(builds ...*toolchain.Build) error {
	named, ok := updater.ParsePlatform(r.Platform)
	for _, b := range builds {
		if ok && b.Client != nil && b.Client.Platform != "" && b.Client.Platform != named {
			return &RequestError{"Platform", fmt.Sprintf("%q is %s, but the executables are for %s", r.Platform, named, b.Client.Platform)}
		}
	}
	return nil
}

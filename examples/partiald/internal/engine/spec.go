package engine

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Bounds of a spec that the generator does not check.
const (
	maxURLs      = 16
	maxURLLength = 4096
	maxForce     = 1000
	maxChannels  = 64
	maxLabels    = 32
	maxText      = 1024
	maxName      = 255
	maxSpec      = 256 << 10 // bytes of the whole, as JSON
)

func refuse(field, format string, args ...any) error {
	return &job.Error{Code: job.CodeRequest, Field: field, Message: fmt.Sprintf(format, args...)}
}

// normal brings a spec into the one form that equal ones have.
func normal(s job.Spec) job.Spec {
	for _, source := range []*job.Source{&s.From, &s.To} {
		source.SHA512, source.SHA256 = strings.ToLower(source.SHA512), strings.ToLower(source.SHA256)
	}
	if s.Recipe == "" {
		s.Recipe = "auto"
	}
	s.Keys = job.Keys
	return s
}

// request turns a spec into what the generator is asked, and the job's ID. Errors are those of callers.
func (e *Engine) request(s *job.Spec) (order *senbonzakura.Order, id string, err error) {
	r, err := e.translate(s)
	if err != nil {
		return nil, "", err
	}
	if order, err = e.gen.Order(r); err != nil {
		return nil, "", requestError(err)
	}
	e.named.Add(1)
	key := order.Key()
	return order, hex.EncodeToString(key.Sum[:]), nil
}

func (e *Engine) translate(s *job.Spec) (r senbonzakura.Request, err error) {
	if r.From, err = e.source("from", &s.From); err != nil {
		return r, err
	}
	if r.To, err = e.source("to", &s.To); err != nil {
		return r, err
	}
	if s.From.SHA512 != "" && s.From.SHA512 == s.To.SHA512 || s.From.SHA256 != "" && s.From.SHA256 == s.To.SHA256 {
		return r, refuse("to", "FROM and TO are the same file")
	}
	if s.Priority < 0 || s.Priority > 9 {
		return r, refuse("priority", "%d is not between 0 and 9", s.Priority)
	}
	for _, list := range []struct {
		field string
		items []string
		most  int
	}{{"force", s.Force, maxForce}, {"channels", s.Channels, maxChannels}, {"skip", s.Skip, maxChannels}} {
		if len(list.items) > list.most {
			return r, refuse(list.field, "%d are given, at most %d are allowed", len(list.items), list.most)
		}
		for i, item := range list.items {
			if item == "" || len(item) > maxText {
				return r, refuse(fmt.Sprintf("%s[%d]", list.field, i), "is empty or longer than %d bytes", maxText)
			}
		}
	}
	if len(s.Labels) > maxLabels {
		return r, refuse("labels", "%d are given, at most %d are allowed", len(s.Labels), maxLabels)
	}
	for name, value := range s.Labels {
		if name == "" || len(name) > maxText || len(value) > maxText {
			return r, refuse("labels", "a name or value is empty or longer than %d bytes", maxText)
		}
	}
	for field, text := range map[string]string{"product": s.Product, "platform": s.Platform, "arch": s.Arch, "locale": s.Locale} {
		if len(text) > 128 {
			return r, refuse(field, "is longer than 128 bytes")
		}
	}
	r.Product, r.Platform, r.Arch, r.Locale = s.Product, s.Platform, s.Arch, s.Locale
	if _, ok := updater.ParsePlatform(s.Platform); !ok && s.Keys == 0 {
		r.Platform = "" // the version that took the job did not look at it
	}
	r.Channel, r.ProductVersion = s.Channel, s.ProductVersion
	r.Force, r.Channels, r.Labels, r.Keys = s.Force, s.Channels, s.Labels, e.o.Keys
	for i, name := range s.Skip {
		check := senbonzakura.Check(name)
		if !slices.Contains(senbonzakura.Checks(), check) {
			return r, refuse(fmt.Sprintf("skip[%d]", i), "no check is called %.60q", name)
		}
		if !slices.Contains(e.o.Skip, check) {
			return r, forbidden(fmt.Sprintf("the check %s cannot be left out here", name))
		}
		r.Skip = append(r.Skip, check)
	}
	if err := r.Trust.UnmarshalText([]byte(s.Trust)); err != nil {
		return r, refuse("trust", "%q is neither complete nor version", s.Trust)
	}
	if r.Client, err = claims(s.Client); err != nil {
		return r, err
	}
	if r.Recipe, err = recipe(s); err != nil {
		return r, err
	}
	if r.Formats = s.Formats; len(s.Formats) == 0 && s.Recipe != "mozilla" {
		r.Formats = e.o.Formats
	}
	if text, err := json.Marshal(s); err != nil || len(text) > maxSpec {
		return r, job.Errorf(job.CodeTooLarge, "the request has %d bytes, at most %d are allowed", len(text), maxSpec)
	}
	return r, nil
}

// claims turns what a caller says of FROM's updater into what the generator is told.
func claims(c *job.ClientFacts) (out updater.Claims, err error) {
	if c == nil {
		return out, nil
	}
	for field, text := range map[string]string{"version": c.Version, "gecko": c.Gecko} {
		if len(text) > 64 || strings.ContainsFunc(text, unicode.IsControl) {
			return out, refuse("client."+field, "is longer than 64 bytes, or has control characters")
		}
	}
	if len(c.Channels) > maxChannels {
		return out, refuse("client.channels", "%d are given, at most %d are allowed", len(c.Channels), maxChannels)
	}
	for i, name := range c.Channels {
		if name == "" || len(name) > mar.MaxChannel || strings.ContainsFunc(name, unicode.IsControl) {
			return out, refuse(fmt.Sprintf("client.channels[%d]", i), "is empty, longer than %d bytes, or has control characters", mar.MaxChannel)
		}
	}
	for i, name := range c.Members {
		f := updater.MemberFormat(name)
		if !slices.Contains(updater.MemberFormats(), f) || slices.Contains(out.Members, f) {
			return out, refuse(fmt.Sprintf("client.members[%d]", i), "%.60q is none of %q, or given twice", name, updater.MemberFormats())
		}
		out.Members = append(out.Members, f)
	}
	for i, n := range c.Manifests {
		v := updater.ManifestVersion(n)
		if v != updater.ManifestV2 && v != updater.ManifestV3 || slices.Contains(out.Manifests, v) {
			return out, refuse(fmt.Sprintf("client.manifests[%d]", i), "%d is neither 2 nor 3, or given twice", n)
		}
		out.Manifests = append(out.Manifests, v)
	}
	for i, name := range c.Patches {
		if _, ok := updater.PatchFormatNamed(name); !ok || slices.Contains(out.Patches, name) {
			return out, refuse(fmt.Sprintf("client.patches[%d]", i), "no patch format is called %.60q, or it is given twice", name)
		}
		out.Patches = append(out.Patches, name)
	}
	out.Version, out.Gecko, out.Channels, out.Verifies, out.Drafts = c.Version, c.Gecko, c.Channels, c.Verifies, c.Drafts
	return out, nil
}

// forbidden is the error for who leaves out checks that have to be made.
func forbidden(why string) error {
	return &job.Error{
		Code: job.CodeForbidden, Field: "skip",
		Message: why + ": that takes the role operate, and auth.skip in the service's configuration lists which checks these are",
	}
}

// permit says whether who asks may ask for this, as far as the configuration lets anybody; see request.
func permit(s *job.Spec, who job.Asker) error {
	if len(s.Skip) > 0 && !who.Operator {
		return forbidden(fmt.Sprintf("%s may not leave out checks", who.Name))
	}
	if c := s.Client; c != nil && c.Verifies != nil && !*c.Verifies && !who.Operator {
		return &job.Error{
			Code: job.CodeForbidden, Field: "client.verifies",
			Message: who.Name + " may not say that clients do not verify, which leaves out checks: that takes the role operate",
		}
	}
	return nil
}

// fields maps the generator's names of fields to those of a spec.
var fields = map[string]string{
	"From": "from", "To": "to", "From.Hashes": "from.sha512", "To.Hashes": "to.sha512", "From.Size": "from.size", "To.Size": "to.size",
	"Skip": "skip", "Platform": "platform", "Channel": "channel", "Formats": "formats", "ProductVersion": "product_version",
}

func requestError(err error) error {
	var bad *senbonzakura.RequestError
	if errors.As(err, &bad) {
		field, ok := fields[bad.Field]
		if !ok {
			field = strings.ToLower(bad.Field)
		}
		return refuse(field, "%s", bad.Reason)
	}
	return job.Errorf(job.CodeInternal, "%v", err)
}

func recipe(s *job.Spec) (*partial.Recipe, error) {
	var r partial.Recipe
	switch s.Recipe {
	case "", "auto":
		return nil, nil
	case "default":
		r = partial.DefaultRecipe()
	case "mozilla":
		r = partial.MozillaRecipe()
	default:
		return nil, refuse("recipe", "%q is none of auto, default, mozilla", s.Recipe)
	}
	if s.Arch != "" {
		r.Arch = s.Arch
	}
	r.Force = slices.Clone(s.Force)
	switch {
	case s.Channel != "" && s.ProductVersion != "":
		r.Product = &mar.Product{Channel: s.Channel, Version: s.ProductVersion}
	case s.Channel != "" || s.ProductVersion != "":
		return nil, refuse("channel", "with recipe %s give both channel and product_version, or neither, which takes TO's", s.Recipe)
	}
	return &r, nil
}

// source turns a source into one for the generator. One without URLs is taken as uploaded.
func (e *Engine) source(field string, s *job.Source) (senbonzakura.Source, error) {
	out := senbonzakura.Source{URLs: s.URLs, Size: s.Size}
	for _, h := range []struct {
		field string
		alg   fetch.Algorithm
		text  string
		size  int
	}{{"sha512", fetch.SHA512, s.SHA512, 64}, {"sha256", fetch.SHA256, s.SHA256, 32}} {
		if h.text == "" {
			continue
		}
		sum, err := hex.DecodeString(h.text)
		if err != nil || len(sum) != h.size {
			return out, refuse(field+"."+h.field, "want %d hexadecimal digits", 2*h.size)
		}
		out.Hashes = append(out.Hashes, fetch.Hash{Algorithm: h.alg, Sum: sum})
	}
	if len(out.Hashes) == 0 {
		return out, refuse(field+".sha512", "is required: nothing is fetched or taken whose hash is not known")
	}
	if s.Size < 0 {
		return out, refuse(field+".size", "is negative")
	}
	if len(s.Name) > maxName || !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl) {
		return out, refuse(field+".name", "is longer than %d bytes, or has control characters", maxName)
	}
	if len(s.URLs) > maxURLs {
		return out, refuse(field+".urls", "%d are given, at most %d are allowed", len(s.URLs), maxURLs)
	}
	for i, raw := range s.URLs {
		if err := e.address(raw); err != nil {
			return out, refuse(fmt.Sprintf("%s.urls[%d]", field, i), "%v", err)
		}
	}
	if len(s.URLs) == 0 {
		out.URLs = []string{uploadURL(out.Hashes[0])}
	}
	return out, nil
}

// address refuses URLs that the fetch client would refuse whatever happens.
func (e *Engine) address(raw string) error {
	if len(raw) > maxURLLength {
		return fmt.Errorf("longer than %d bytes", maxURLLength)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("not a URL") // what Parse says repeats it, credentials and all
	}
	_, injected := e.o.Fetch.Openers[u.Scheme]
	switch {
	case u.Scheme == "http" && !e.o.Fetch.Insecure:
		return errors.New("plain http is not allowed here: use https, upload the file, or set fetch.insecure")
	case u.Scheme == "https", u.Scheme == "http", injected:
	case u.Scheme == "file" && e.o.Fetch.Files:
		return nil
	default:
		return fmt.Errorf("scheme %q is not allowed, use https", u.Scheme)
	}
	if u.Host == "" || u.Opaque != "" {
		return errors.New("want scheme://host/path")
	}
	return nil
}

// Check says what is wrong with a spec without asking for it, and its job ID.
func (e *Engine) Check(spec job.Spec, who job.Asker) (string, error) {
	a, err := e.resolve(spec, who)
	return a.id, err
}

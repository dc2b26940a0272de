package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
)

// ErrPolicy means that the policy does not let a key sign an archive.
var ErrPolicy = errors.New("refused by signing policy")

// Policy says which key may sign which MAR channel. What no rule allows is refused, so the zero Policy refuses
// everything. As JSON:
//
//	{"rules": [
//	  {"key": "release",  "channels": ["firefox-mozilla-release", "firefox-mozilla-beta"]},
//	  {"key": "nightly",  "channels": ["firefox-mozilla-central*"]},
//	  {"key": "esr",      "channels": ["firefox-mozilla-esr"], "min_version": "140.0", "max_version": "140.999"},
//	  {"key": "dep",      "channels": ["*"], "no_product": true}
//	]}
type Policy struct {
	Rules []Rule `json:"rules"` // of which one has to allow what is asked for
}

// Rule allows one key some channels.
type Rule struct {
	// Key is the KeyRef's name.
	Key string `json:"key"`
	// Channels are patterns of which one has to match the archive's channel: "*" stands for any text without
	// a slash, "?" for one character, as in path.Match. Where the archive names several channels, separated by commas,
	// each has to match one.
	Channels []string `json:"channels"`
	// MinVersion and MaxVersion bound the archive's version, both included, in Gecko's order; "" bounds nothing.
	MinVersion string `json:"min_version,omitempty"`
	MaxVersion string `json:"max_version,omitempty"`
	// NoProduct allows archives without product information as well, which no updater accepts.
	NoProduct bool `json:"no_product,omitempty"`
}

// ParsePolicy reads a policy from JSON. Unknown names, rules without a key or channels, and broken patterns
// are errors.
func ParsePolicy(data []byte) (Policy, error) {
	var p Policy
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Policy{}, fmt.Errorf("read signing policy: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Policy{}, errors.New("read signing policy: text after the end")
	}
	if err := p.check(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

func (p Policy) check() error {
	for i, r := range p.Rules {
		if r.Key == "" || len(r.Channels) == 0 {
			return fmt.Errorf("signing policy: rule %d needs a key and channels", i+1)
		}
		for _, c := range r.Channels {
			if _, err := path.Match(c, ""); err != nil || c == "" {
				return fmt.Errorf("signing policy: rule %d: bad pattern %q", i+1, c)
			}
		}
		if r.MinVersion != "" && r.MaxVersion != "" && version.Compare(r.MinVersion, r.MaxVersion) > 0 {
			return fmt.Errorf("signing policy: rule %d: min_version %q is beyond max_version %q", i+1, r.MinVersion, r.MaxVersion)
		}
	}
	return nil
}

// Allow returns nil when the key of this name may sign an archive with this product information (nil if it
// has none), and an error that matches ErrPolicy otherwise.
func (p Policy) Allow(key string, product *mar.Product) error {
	bounded := false
	for _, r := range p.Rules {
		if r.Key != key {
			continue
		}
		if product == nil {
			if r.NoProduct {
				return nil
			}
			continue
		}
		if !matchAny(r.Channels, product.Channel) {
			continue
		}
		if r.bounds(product.Version) {
			return nil
		}
		bounded = true
	}
	if product == nil {
		return fmt.Errorf("%w: key %q may not sign archives without product information", ErrPolicy, key)
	}
	if bounded {
		return fmt.Errorf("%w: key %q may not sign version %q of channel %q", ErrPolicy, key, product.Version, product.Channel)
	}
	return fmt.Errorf("%w: key %q may not sign channel %q", ErrPolicy, key, product.Channel)
}

// bounds says whether a version is within those of the rule. One that is not there is within none.
func (r *Rule) bounds(v string) bool {
	return (r.MinVersion == "" || v != "" && version.Compare(v, r.MinVersion) >= 0) &&
		(r.MaxVersion == "" || v != "" && version.Compare(v, r.MaxVersion) <= 0)
}

func matchAny(patterns []string, channel string) bool {
	for one := range strings.SplitSeq(channel, ",") {
		if one = strings.TrimSpace(one); one == "" || !slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, one)
			return ok && err == nil
		}) {
			return false
		}
	}
	return true
}

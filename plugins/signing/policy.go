package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

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
//	  {"key": "dep",      "channels": ["*"], "no_product": true}
//	]}
type Policy struct {
	Rules []Rule `json:"rules"`
}

// Rule allows one key some channels.
type Rule struct {
	// Key is the KeyRef's name.
	Key string `json:"key"`
	// Channels are patterns that one of the archive's channel has to match: "*" stands for any text without
	// a slash, "?" for one character, as in path.Match.
	Channels []string `json:"channels"`
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
	}
	return nil
}

// Allow returns nil when the key of this name may sign an archive with this product information (nil if it
// has none), and an error that matches ErrPolicy otherwise.
func (p Policy) Allow(key string, product *mar.Product) error {
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
		if matchAny(r.Channels, product.Channel) {
			return nil
		}
	}
	if product == nil {
		return fmt.Errorf("%w: key %q may not sign archives without product information", ErrPolicy, key)
	}
	return fmt.Errorf("%w: key %q may not sign channel %q", ErrPolicy, key, product.Channel)
}

func matchAny(patterns []string, channel string) bool {
	if channel == "" {
		return false
	}
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, channel); ok && err == nil {
			return true
		}
	}
	return false
}

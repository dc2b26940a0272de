// Package signers has what a service is configured with to sign: plugins that hold keys, which of their keys sign what, and
// the policy and journal around them.
package signers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/settings"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// Plugin is a program to start as a plugin.
type Plugin struct {
	Command string            `toml:"command"`
	SHA256  string            `toml:"sha256"`
	Args    []string          `toml:"args"`
	Env     []string          `toml:"env"`
	Secrets []string          `toml:"secrets"`
	Timeout settings.Duration `toml:"timeout"`
}

// SignPlugin is a signing plugin.
type SignPlugin struct {
	Name string `toml:"name"`
	Plugin
}

// Key is a key of a signing plugin.
type Key struct {
	Name      string `toml:"name"`
	Plugin    string `toml:"plugin"`
	ID        string `toml:"id"`
	PublicKey string `toml:"public_key"`
	Place     string `toml:"place"`
	NotBefore string `toml:"not_before"`
	NotAfter  string `toml:"not_after"`
}

// Config is who signs updates: a section of its own, called signing.
type Config struct {
	Policy  string       `toml:"policy"`
	Journal string       `toml:"journal"`
	Plugins []SignPlugin `toml:"plugins"`
	Keys    []Key        `toml:"keys"`
}

// Start returns how to start the plugin.
func (p *Plugin) Start(log *slog.Logger) plugins.Config {
	cfg := plugins.Config{Path: p.Command, SHA256: p.SHA256, Args: p.Args, CallTimeout: p.Timeout.Duration, Logger: log}
	for _, e := range p.Env {
		if _, _, given := strings.Cut(e, "="); !given {
			e += "=" + os.Getenv(e)
		}
		cfg.Env = append(cfg.Env, e)
	}
	for _, s := range p.Secrets {
		name, file, _ := strings.Cut(s, "=")
		cfg.Secrets = append(cfg.Secrets, plugins.Secret{Env: name, Value: func() ([]byte, error) { return settings.ReadSmall(file, 16<<10) }})
	}
	return cfg
}

// Check says what is wrong with a plugin. The prefix is that of its keys: "storage.".
func (p *Plugin) Check(k *settings.Checker, prefix string) {
	if p.Command == "" {
		k.Add(prefix+"command", "is missing")
		return
	}
	sum, err := plugins.Sum(p.Command)
	switch {
	case err != nil:
		k.Add(prefix+"command", "%s", err)
	case p.SHA256 == "":
		k.Add(prefix+"sha256", "is missing: if you trust %s as it is now, it is %s", p.Command, sum)
	case !strings.EqualFold(sum, p.SHA256):
		k.Add(prefix+"sha256", "%s has another checksum: %s", p.Command, sum)
	}
	for _, e := range p.Env {
		name, _, given := strings.Cut(e, "=")
		if _, ok := os.LookupEnv(name); !given && !ok {
			k.Add(prefix+"env", "%s is not set here", name)
		}
	}
	for _, s := range p.Secrets {
		name, file, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			k.Add(prefix+"secrets", "%q is not NAME=FILE", s)
			continue
		}
		_, err := settings.ReadSmall(file, 16<<10)
		k.Try(prefix+"secrets", err)
	}
}

// Check says what is wrong, each problem with its key in the section signing.
func (s *Config) Check(k *settings.Checker) {
	names, named := map[string]bool{}, true
	for i := range s.Plugins {
		p := &s.Plugins[i]
		at := settings.Number("signing.plugins", i, "")
		named = named && k.Known(at+"name")
		switch {
		case p.Name == "":
			k.Add(at+"name", "is missing")
		case names[p.Name]:
			k.Add(at+"name", "%q stands there twice", p.Name)
		}
		names[p.Name] = true
		p.Check(k, at)
	}
	for i := range s.Keys {
		key := &s.Keys[i]
		at := settings.Number("signing.keys", i, "")
		if key.ID == "" {
			k.Add(at+"id", "is missing")
		}
		if !names[key.Plugin] && k.Known("signing.plugins") && named {
			k.Add(at+"plugin", "%q is not the name of one of signing.plugins", key.Plugin)
		}
		if key.PublicKey == "" {
			k.Add(at+"public_key", "is missing: what signatures must verify with is not taken from the plugin")
		} else {
			_, err := PublicKey(key.PublicKey)
			k.Try(at+"public_key", err)
		}
		from, err := signing.ParseTime(key.NotBefore)
		k.Try(at+"not_before", err)
		until, err2 := signing.ParseTime(key.NotAfter)
		k.Try(at+"not_after", err2)
		if err == nil && err2 == nil && !until.IsZero() && !from.Before(until) {
			k.Add(at+"not_after", "%s is not after not_before", key.NotAfter)
		}
	}
	if n := len(s.Places()); n > mar.MaxSignatures {
		k.Add("signing.keys", "%d places: an update has at most %d signatures", n, mar.MaxSignatures)
	}
	if len(s.Keys) > 0 && s.Policy == "" {
		k.Add("signing.policy", "is missing: it says which key may sign which channel")
	}
	called := k.Known("signing.keys")
	for i := range s.Keys {
		at := settings.Number("signing.keys", i, "")
		called = called && k.Known(at+"name", at+"id")
	}
	if called {
		_, err := s.ReadPolicy()
		k.Try("signing.policy", err)
	}
}

// ReadPolicy reads the policy; nil where there is none.
func (s *Config) ReadPolicy() (*signing.Policy, error) {
	if s.Policy == "" {
		return nil, nil
	}
	data, err := settings.ReadSmall(s.Policy, 1<<20)
	if err != nil {
		return nil, err
	}
	policy, err := signing.ParsePolicy(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Policy, err)
	}
	for i := range s.Keys {
		key := s.Keys[i].Called()
		if !slices.ContainsFunc(policy.Rules, func(r signing.Rule) bool { return r.Key == key }) {
			return nil, fmt.Errorf("%s: no rule lets key %q sign anything", s.Policy, key)
		}
	}
	return &policy, nil
}

// Places groups the keys by the signature that they make: those with the same place that is not "" make one, by the key that
// is valid then; every other makes its own. The places stand in the order of their first keys.
func (s *Config) Places() [][]*Key {
	var places [][]*Key
	at := map[string]int{}
	for i := range s.Keys {
		key := &s.Keys[i]
		if n, ok := at[key.Place]; ok && key.Place != "" {
			places[n] = append(places[n], key)
			continue
		}
		at[key.Place] = len(places)
		places = append(places, []*Key{key})
	}
	return places
}

// Window returns from when on the key is used, and until when; zero times for no limit.
func (k *Key) Window() (from, until time.Time, err error) {
	from, err = signing.ParseTime(k.NotBefore)
	if err != nil {
		return from, until, err
	}
	until, err = signing.ParseTime(k.NotAfter)
	return from, until, err
}

// Called is what policy and journal call the key.
func (k *Key) Called() string {
	if k.Name != "" {
		return k.Name
	}
	return k.ID
}

// PublicKey reads a file with a certificate or public key, or finds one of the built-in keys by name.
func PublicKey(name string) (crypto.PublicKey, error) {
	if slices.Contains(mar.BuiltinKeys(), name) {
		return mar.BuiltinKey(name)
	}
	data, err := settings.ReadSmall(name, 1<<20)
	if err != nil {
		return nil, err
	}
	key, err := mar.ParsePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// AnswerKey reads a file with the public key by which answers are signed: in PEM, the key itself, or certificates of which the
// first is its own.
func AnswerKey(name string) (crypto.PublicKey, error) {
	data, err := settings.ReadSmall(name, 1<<20)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM", name)
	}
	var key any
	if block.Type == "CERTIFICATE" {
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	} else {
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if p, ok := key.(*ecdsa.PublicKey); !ok || p.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%s: want a key on P-384", name)
	}
	return key, nil
}

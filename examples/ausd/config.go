package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/internal/servicelog"
	"github.com/senbonzakura/senbonzakura/examples/internal/settings"
	"github.com/senbonzakura/senbonzakura/examples/internal/signers"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// config is the whole configuration: a TOML file, the environment over it (AUSD_SECTION_KEY), and flags over that. Nothing has to be
// configured for a server of this machine alone.
type config struct {
	read *settings.Reader

	// Listen is the address and port to listen on.
	Listen string `toml:"listen"`
	// URL is the scheme and host under which clients reach the server; files are offered under it.
	URL string `toml:"url"`
	// Data is the directory of everything that must not be lost.
	Data string `toml:"data"`
	// Postgres is the address of a PostgreSQL database in which the book is kept instead of the data directory; PostgresFile is a file
	// with that address.
	Postgres     settings.Secret `toml:"postgres"`
	PostgresFile string          `toml:"postgres_file"`
	// TrustedProxies are addresses or networks whose X-Forwarded-For is believed.
	TrustedProxies []string `toml:"trusted_proxies"`
	// ClientParameter names the query parameter that tells clients apart in a throttled rule.
	ClientParameter string `toml:"client_parameter"`
	// Purge is a command that is run behind each publication; PurgeURL is an address that is told of it.
	Purge    []string `toml:"purge"`
	PurgeURL string   `toml:"purge_url"`

	Log struct {
		// Format is text, json, mozlog, or auto: text on a terminal, else json.
		Format string `toml:"format"`
		// Level is debug, info, warn or error.
		Level string `toml:"level"`
	} `toml:"log"`

	Demand struct {
		// Builds is how many older builds of a new release get a partial by themselves; -1 is none.
		Builds int `toml:"builds"`
		// Review makes drafts of made partials instead of publishing them.
		Review bool `toml:"review"`
	} `toml:"demand"`

	// Partiald is a service that makes the partials in place of this server.
	Partiald struct {
		URL       string          `toml:"url"`
		Token     settings.Secret `toml:"token"`
		TokenFile string          `toml:"token_file"` // has the token instead
	} `toml:"partiald"`

	// Replica says of which server this one is a replica.
	Replica struct {
		URL       string          `toml:"url"`
		PublicKey string          `toml:"public_key"` // ausd key prints it
		Token     settings.Secret `toml:"token"`
		TokenFile string          `toml:"token_file"` // has the token instead
	} `toml:"replica"`

	// Signing says by which keys made partials are signed whose complete is signed: those of plugins, or of files.
	Signing struct {
		signers.Config
		// Files are PEM files with RSA keys, without a policy around them.
		Files []string `toml:"files"`
		// Passphrase is a file with the passphrase of keys that are encrypted.
		Passphrase string `toml:"passphrase"`
	} `toml:"signing"`

	// ContentSignature says by which key of a signing plugin answers are signed, in the header Content-Signature.
	ContentSignature struct {
		Plugin    string `toml:"plugin"` // by its name in signing.plugins
		ID        string `toml:"id"`
		PublicKey string `toml:"public_key"` // on P-384: a file with it or its certificate
		// X5U is where clients find the chain of its certificates.
		X5U string `toml:"x5u"`
		// Products are those whose answers in XML are signed; those in JSON always are.
		Products []string `toml:"products"`
	} `toml:"content_signature"`

	Auth struct {
		// Failures is how many wrong tokens of one address within ten minutes ban it, for Ban; 0 bans nobody.
		Failures int               `toml:"failures"`
		Ban      settings.Duration `toml:"ban"`
	} `toml:"auth"`

	Tokens []tokenConfig `toml:"tokens"`
	// SignOffs are how many people of which role must agree before what clients of a channel get is changed.
	SignOffs []signOffConfig `toml:"sign_offs"`

	Balrog struct {
		// Open lets everybody read Balrog's administration API without a token, as Balrog does.
		Open bool `toml:"open"`
	} `toml:"balrog"`
}

// signOffConfig is what one channel of a product needs.
type signOffConfig struct {
	Product string         `toml:"product"`
	Channel string         `toml:"channel"`
	Roles   map[string]int `toml:"roles"` // people by role
}

// tokenConfig is who may do what from elsewhere.
type tokenConfig struct {
	Name   string   `toml:"name"`
	SHA256 string   `toml:"sha256"` // of the token, in hexadecimal: ausd token makes both
	Roles  []string `toml:"roles"`
	// Products limits roles to products: a list for each role that is limited.
	Products map[string][]string `toml:"products"`
	// SignOffRoles are the roles of sign_offs in which its owner may agree to changes.
	SignOffRoles []string `toml:"sign_off_roles"`
	// System is a program, which agrees to nothing.
	System bool `toml:"system"`
	// Balrog are permissions for Balrog's API instead of what roles come to there, by their names in Balrog.
	Balrog map[string]balrogapi.Permission `toml:"balrog"`
}

func defaultConfig() *config {
	c := &config{Listen: "127.0.0.1:8090"}
	c.Demand.Builds = 3
	c.Log.Format, c.Log.Level = "auto", "info"
	c.Auth.Failures, c.Auth.Ban = 20, settings.Duration{Duration: 15 * time.Minute}
	// URL is where commands find a server, SNAPSHOT and HASH are what a command behind a publication is told.
	c.read = settings.New(c, func() any { return defaultConfig() }, settings.Options{Prefix: "AUSD_", Ignore: []string{"URL", "SNAPSHOT", "HASH"}})
	return c
}

// loadConfig reads a configuration file, "" for none, and variables. What cannot be read is said with what cannot be used.
func loadConfig(file string, environ []string) *config {
	c := defaultConfig()
	c.read.Load(file, environ)
	return c
}

// options turns a configuration into what the server is told, but for what signs; log goes to w. Every problem is named with its
// key and its place.
func (c *config) options(w io.Writer) (server.Options, error) {
	check := &settings.Checker{Reader: c.read}
	bad := check.Add
	var o server.Options
	o.Replica = c.replica(bad)
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen", "%q is no address and port", c.Listen)
	}
	if c.URL == "" {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() || host == "" {
			host = "127.0.0.1"
		}
		c.URL = "http://" + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		bad("url", "%q: want http or https, and a host", c.URL)
	} else {
		o.URL = &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	if c.Data == "" {
		dir, err := settings.UserDir("ausd", "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state")
		if err != nil {
			bad("data", "%v", err)
		}
		c.Data = dir
	}
	o.Dir = c.Data
	o.Postgres = c.postgres(bad)
	for _, text := range c.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if addr, errAddr := netip.ParseAddr(text); errAddr == nil {
			p, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			bad("trusted_proxies", "%q is no address or network", text)
			continue
		}
		o.TrustedProxies = append(o.TrustedProxies, p)
	}
	o.ClientParameter = c.ClientParameter
	o.Failures, o.Ban = c.Auth.Failures, c.Auth.Ban.Duration
	check.Between("auth.failures", o.Failures, 0, 1_000_000)
	if o.Failures > 0 {
		check.AtLeast("auth.ban", c.Auth.Ban, "1s")
	}
	if o.Builds = c.Demand.Builds; o.Builds == 0 {
		o.Builds = -1
	}
	o.Review = c.Demand.Review
	o.Partiald = c.partiald(bad)
	if c.PurgeURL != "" && serviceURL(c.PurgeURL) == nil {
		bad("purge_url", "%q: want http or https, and a host", c.PurgeURL)
	}
	if o.Generator.Signers, err = c.fileSigners(); err != nil {
		bad("signing.files", "%v", err)
	}
	if c.Signing.Journal == "" && len(c.Signing.Keys) > 0 {
		c.Signing.Journal = filepath.Join(c.Data, "signing.journal")
	}
	c.checkSigning(check)
	for i, t := range c.Tokens {
		key := settings.Number("tokens", i, "")
		token := server.Token{Name: t.Name, SHA256: t.SHA256}
		if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != 32 {
			bad(key+"sha256", "want 64 hexadecimal digits")
		}
		if t.Name == "" || t.Name == "local" || t.Name == "ausd" {
			bad(key+"name", "%q: want a name of its own", t.Name)
		}
		for _, r := range t.Roles {
			if !slices.Contains(server.Roles(), server.Role(r)) {
				bad(key+"roles", "%q: want some of %v", r, server.Roles())
			}
			token.Roles = append(token.Roles, server.Role(r))
		}
		if len(t.Roles) == 0 {
			bad(key+"roles", "want some of %v", server.Roles())
		}
		for r, products := range t.Products {
			if !slices.Contains(t.Roles, r) {
				bad(key+"products", "%q is none of the token's roles", r)
			}
			if r == string(server.RoleReplicate) {
				bad(key+"products.replicate", "a replica has everything, or nothing")
			}
			if len(products) == 0 {
				bad(key+"products."+r, "want some products; without a limit leave it out")
			}
			if token.Products == nil {
				token.Products = map[server.Role][]string{}
			}
			token.Products[server.Role(r)] = products
		}
		for name, p := range t.Balrog {
			actions, ok := balrogapi.Permissions()[name]
			if !ok {
				bad(key+"balrog", "%q: want some of %v", name, slices.Sorted(maps.Keys(balrogapi.Permissions())))
			}
			for _, a := range p.Actions {
				if ok && !slices.Contains(actions, a) {
					bad(key+"balrog."+name+".actions", "%q: want some of %v", a, actions)
				}
			}
		}
		for _, other := range c.Tokens[:i] {
			if other.Name == t.Name {
				bad(key+"name", "%q: another token has this name, and sign-offs count people by their names", t.Name)
			}
		}
		token.SignOffRoles, token.System, token.Balrog = t.SignOffRoles, t.System, t.Balrog
		if t.System && len(t.SignOffRoles) > 0 {
			bad(key+"sign_off_roles", "a program agrees to nothing")
		}
		o.Tokens = append(o.Tokens, token)
	}
	holders := map[string]int{}
	for _, t := range o.Tokens {
		for i, role := range t.SignOffRoles {
			if slices.Contains(t.SignOffRoles[:i], role) {
				continue
			}
			holders[role]++
		}
	}
	for i, r := range c.SignOffs {
		key := settings.Number("sign_offs", i, "")
		if r.Product == "" || r.Channel == "" || strings.ContainsAny(r.Channel, "*") {
			bad(key+"product", "want a product and a channel, without wildcards")
		}
		if len(r.Roles) == 0 {
			bad(key+"roles", "want at least one role with a number")
		}
		for role, n := range r.Roles {
			switch {
			case n < 1:
				bad(key+"roles."+role, "%d: want 1 or more", n)
			case holders[role] < n:
				bad(key+"roles."+role, "%d: only %d tokens have this role among their sign_off_roles", n, holders[role])
			}
		}
		o.Policy = append(o.Policy, state.Requirement{Product: r.Product, Channel: r.Channel, Roles: r.Roles})
	}
	o.OpenBalrog = c.Balrog.Open
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		bad("log.level", "%q: want debug, info, warn or error", c.Log.Level)
	}
	host, _ = os.Hostname() // "" leaves it out
	if o.Log, err = servicelog.New(w, servicelog.Options{Program: "ausd", Host: host, Format: c.Log.Format, Level: level}); err != nil {
		bad("log.format", "%q: want one of %v", c.Log.Format, servicelog.Formats())
	}
	if err := c.read.All(check.Problems); err != nil {
		return o, cli.UsageError{Err: err}
	}
	return o, nil
}

// secret returns a text that is in the configuration, or in a file that it names, and the key that says it.
func secret(key string, text settings.Secret, file string, bad func(key, format string, args ...any)) (from, value string) {
	from = key
	if file != "" {
		from = key + "_file"
		if text != "" {
			bad(key, "%s is there, too: want one of them", from)
		}
	}
	value, err := settings.SecretOf(text, file)
	if err != nil {
		bad(from, "%v", err)
	}
	return from, value
}

// postgres returns the address of the database, "" for none.
func (c *config) postgres(bad func(key, format string, args ...any)) string {
	key, address := secret("postgres", c.Postgres, c.PostgresFile, bad)
	switch {
	case address == "":
	case !book.IsPostgres(address):
		bad(key, "want postgres://…")
	default:
		if err := database.CheckDSN(address); err != nil {
			bad(key, "%v", err)
		}
	}
	return address
}

// serviceURL reads the address of another service; nil is none.
func serviceURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil
	}
	return u
}

// partiald returns which service makes the partials; nil is this server.
func (c *config) partiald(bad func(key, format string, args ...any)) *server.Partiald {
	p := &c.Partiald
	_, token := secret("partiald.token", p.Token, p.TokenFile, bad)
	if p.URL == "" {
		if token != "" {
			bad("partiald.url", "it is missing")
		}
		return nil
	}
	u := serviceURL(p.URL)
	switch {
	case u == nil || u.RawQuery != "" || u.User != nil:
		bad("partiald.url", "%q: want http or https, and a host", p.URL)
		return nil
	case u.Scheme == "http" && token != "" && !loopback(u.Hostname()):
		bad("partiald.url", "%q: a token goes by https alone", p.URL)
	case len(c.Signing.Keys)+len(c.Signing.Files) > 0:
		bad("signing", "with [partiald] that service signs: its configuration has the keys")
	}
	return &server.Partiald{URL: u, Token: token}
}

// replica returns of which server this one is a replica; nil is none.
func (c *config) replica(bad func(key, format string, args ...any)) *server.Replica {
	r := &c.Replica
	if r.URL == "" {
		if r.PublicKey != "" || r.Token != "" || r.TokenFile != "" {
			bad("replica.url", "of which server?")
		}
		return nil
	}
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		bad("replica.url", "%q: want http or https, and a host", r.URL)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad("replica.url", "%q: want https, as the token would be read on the way", r.URL)
	}
	key, err := replicate.ParseKey(r.PublicKey)
	if err != nil {
		bad("replica.public_key", "%v (the server's \"ausd key\" prints it)", err)
	}
	from, token := secret("replica.token", r.Token, r.TokenFile, bad)
	if token == "" {
		bad(from, "want a token with the role replicate")
	}
	if c.URL == "" {
		bad("url", "a replica has that of its server: clients see one address")
	}
	return &server.Replica{URL: u, Key: key, Token: token}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxKeyFile bounds files with keys, in bytes.
const maxKeyFile = 64 << 10

// checkSigning says what is wrong with the keys.
func (c *config) checkSigning(k *settings.Checker) {
	s, answers := &c.Signing, &c.ContentSignature
	s.Check(k)
	if len(s.Keys) > 0 && len(s.Files) > 0 {
		k.Add("signing.files", "and signing.keys exclude each other")
	}
	if len(s.Plugins) > 0 && len(s.Keys) == 0 && answers.Plugin == "" {
		k.Add("signing.plugins", "they sign nothing: want signing.keys or [content_signature]")
	}
	if answers.Plugin == "" {
		if answers.ID+answers.PublicKey+answers.X5U != "" || len(answers.Products) > 0 {
			k.Add("content_signature.plugin", "is missing")
		}
		return
	}
	if !slices.ContainsFunc(s.Plugins, func(p signers.SignPlugin) bool { return p.Name == answers.Plugin }) {
		k.Add("content_signature.plugin", "%q is not the name of one of signing.plugins", answers.Plugin)
	}
	if answers.ID == "" {
		k.Add("content_signature.id", "is missing")
	}
	if answers.PublicKey == "" {
		k.Add("content_signature.public_key", "is missing: what signatures must verify with is not taken from the plugin")
	} else {
		_, err := signers.AnswerKey(answers.PublicKey)
		k.Try("content_signature.public_key", err)
	}
	if u := serviceURL(answers.X5U); u == nil || strings.ContainsAny(answers.X5U, "; \t") {
		k.Add("content_signature.x5u", "%q: want where clients find the chain of certificates, http or https", answers.X5U)
	}
}

// openSigning starts the signing plugins, and completes what the server is told. The plugins run until they are closed.
func (c *config) openSigning(ctx context.Context, o *server.Options) (closed func() error, err error) {
	var closers []func() error
	closed = func() error {
		var errs []error
		for _, one := range slices.Backward(closers) {
			errs = append(errs, one())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closed())
		}
	}()
	opened, err := c.Signing.Open(ctx, signers.Options{
		Log: o.Log, Opened: func(closer func() error) { closers = append(closers, closer) },
		Plugin: func(string, *plugins.Process) error { return nil },
	})
	var at *signers.KeyError
	if errors.As(err, &at) {
		return closed, c.read.At(at.Key, at.Err)
	} else if err != nil {
		return closed, err
	}
	for _, s := range opened.Signers {
		o.Generator.Signers = append(o.Generator.Signers, s.Signer)
	}
	a := &c.ContentSignature
	if a.Plugin == "" {
		return closed, nil
	}
	public, err := signers.AnswerKey(a.PublicKey)
	if err != nil {
		return closed, c.read.At("content_signature.public_key", err)
	}
	signer, err := opened.Clients[a.Plugin].ContentSigner(ctx, a.ID, public)
	if err != nil {
		return closed, c.read.At("content_signature.id", err)
	}
	o.ContentSignature = &server.ContentSignature{Signer: signer, X5U: a.X5U, Products: a.Products}
	return closed, nil
}

// fileSigners reads the keys that are in files.
func (c *config) fileSigners() ([]mar.Signer, error) {
	var passphrase []byte
	if c.Signing.Passphrase != "" {
		text, err := settings.ReadSmall(c.Signing.Passphrase, maxKeyFile)
		if err != nil {
			return nil, err
		}
		passphrase = bytes.TrimRight(text, "\r\n")
	}
	if n := len(c.Signing.Files); n > mar.MaxSignatures {
		return nil, fmt.Errorf("%d keys: an update has at most %d signatures", n, mar.MaxSignatures)
	}
	var signers []mar.Signer
	for _, name := range c.Signing.Files {
		text, err := settings.ReadSmall(name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		key, err := signing.ParsePrivateKey(text, passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		signers = append(signers, s)
	}
	return signers, nil
}

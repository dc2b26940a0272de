package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/servicelog"
)

// config is the whole configuration: a TOML file, and flags over it. Nothing has to be configured for a server of this machine alone.
type config struct {
	// Listen is the address and port to listen on.
	Listen string `toml:"listen"`
	// URL is the scheme and host under which clients reach the server; files are offered under it.
	URL string `toml:"url"`
	// Data is the directory of everything that must not be lost.
	Data string `toml:"data"`
	// TrustedProxies are addresses or networks whose X-Forwarded-For is believed.
	TrustedProxies []string `toml:"trusted_proxies"`
	// ClientParameter names the query parameter that tells clients apart in a throttled rule.
	ClientParameter string `toml:"client_parameter"`
	// Purge is a command that is run behind each publication.
	Purge []string `toml:"purge"`

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

	Tokens []tokenConfig `toml:"tokens"`
}

// tokenConfig is who may do what from elsewhere.
type tokenConfig struct {
	Name   string   `toml:"name"`
	SHA256 string   `toml:"sha256"` // of the token, in hexadecimal: ausd token makes both
	Roles  []string `toml:"roles"`
}

func defaultConfig() config {
	var c config
	c.Listen = "127.0.0.1:8090"
	c.Demand.Builds = 3
	c.Log.Format, c.Log.Level = "auto", "info"
	return c
}

// loadConfig reads a configuration file; "" is none.
func loadConfig(file string) (config, error) {
	c := defaultConfig()
	if file == "" {
		return c, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return c, err
	}
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		var unknown *toml.StrictMissingError
		var broken *toml.DecodeError
		switch {
		case errors.As(err, &unknown):
			return c, usagef("%s: there is no such key:\n%s", file, unknown.String())
		case errors.As(err, &broken):
			return c, usagef("%s: %s", file, broken.String())
		}
		return c, usagef("%s: %w", file, err)
	}
	return c, nil
}

// options turns a configuration into what the server is told; log goes to w. Every problem is named with its key.
func (c *config) options(w io.Writer) (server.Options, error) {
	var problems []string
	bad := func(key, format string, args ...any) {
		problems = append(problems, key+": "+fmt.Sprintf(format, args...))
	}
	var o server.Options
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
		dir, err := dataDir()
		if err != nil {
			bad("data", "%v", err)
		}
		c.Data = dir
	}
	o.Dir = c.Data
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
	if o.Builds = c.Demand.Builds; o.Builds == 0 {
		o.Builds = -1
	}
	o.Review = c.Demand.Review
	for i, t := range c.Tokens {
		key := fmt.Sprintf("tokens[%d]", i)
		token := server.Token{Name: t.Name, SHA256: t.SHA256}
		if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != 32 {
			bad(key+".sha256", "want 64 hexadecimal digits")
		}
		if t.Name == "" || t.Name == "local" || t.Name == "ausd" {
			bad(key+".name", "%q: want a name of its own", t.Name)
		}
		for _, r := range t.Roles {
			if !slices.Contains(server.Roles(), server.Role(r)) {
				bad(key+".roles", "%q: want some of %v", r, server.Roles())
			}
			token.Roles = append(token.Roles, server.Role(r))
		}
		if len(t.Roles) == 0 {
			bad(key+".roles", "want some of %v", server.Roles())
		}
		o.Tokens = append(o.Tokens, token)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		bad("log.level", "%q: want debug, info, warn or error", c.Log.Level)
	}
	host, _ = os.Hostname() // "" leaves it out
	if o.Log, err = servicelog.New(w, servicelog.Options{Program: "ausd", Host: host, Format: c.Log.Format, Level: level}); err != nil {
		bad("log.format", "%q: want one of %v", c.Log.Format, servicelog.Formats())
	}
	if len(problems) > 0 {
		return o, usagef("%s", strings.Join(problems, "; "))
	}
	return o, nil
}

// dataDir is where data is if nobody says: where systemd says, else in the user's directories.
func dataDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ausd"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "ausd"), nil
}

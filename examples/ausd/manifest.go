package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// manifest is a list of partial updates that are published somewhere, as partiald and Mozilla's partial-update task write it.
type manifest []senbonzakura.Submission

// readManifest reads a manifest.json; ok is false where a file is something else.
func readManifest(file string) (m manifest, ok bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBalrog))
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) || json.Unmarshal(text, &m) != nil {
		return nil, false, err
	}
	return m, len(m) > 0 && m[0].FromHash != "" && m[0].ToHash != "", nil
}

// manifestObjects are what becomes of a manifest.
type manifestObjects struct {
	releases map[string]map[string]any // documents by name
	products map[string]string         // of the releases
	made     []aus.MadePartial
	hosts    map[string]map[string]bool // products
	notes    []string
}

// objects makes releases of the builds that a manifest names, and partials between them. base is where its updates are, for those that it names
// without an address; target what clients ask with, "" for what the platform comes to. known are releases that the server has.
func (m manifest) objects(base, target string, known func(name string) (map[string]any, error)) (*manifestObjects, error) {
	o := &manifestObjects{releases: map[string]map[string]any{}, products: map[string]string{}, hosts: map[string]map[string]bool{}}
	for i, s := range m {
		wrong := func(field, format string, args ...any) error {
			return cli.Usagef("entry %d: %s: %s", i+1, field, fmt.Sprintf(format, args...))
		}
		on := target
		if on == "" {
			if on = inspect.TargetOf(s.Platform); on == "" {
				return nil, wrong("platform", "%q: it is not known what its clients ask with (--target)", s.Platform)
			}
		}
		switch {
		case s.AppName == "" || s.Version == "" || s.Locale == "":
			return nil, wrong("appName, version, locale", "each is needed")
		case !sha512Text.MatchString(s.FromHash) || !sha512Text.MatchString(s.ToHash) || !sha512Text.MatchString(s.Hash):
			return nil, wrong("from_hash, to_hash, hash", "each is a SHA-512 in hexadecimal")
		case s.FromBuildID == "" || s.ToBuildID == "":
			return nil, wrong("from_buildid, to_buildid", "each is needed")
		case s.Size <= 0 || s.ToSize <= 0:
			return nil, wrong("size, to_size", "each is needed")
		}
		update, err := addressOf(s.MAR, base)
		if err != nil {
			return nil, wrong("mar", "%v", err)
		}
		to, err := addressOf(s.ToMAR, "")
		if err != nil {
			return nil, wrong("to_mar", "%v", err)
		}
		if err := o.build(known, s.AppName, s.Version, s.ToBuildID, on, s.Locale, strings.ToLower(s.ToHash), to, s.ToSize); err != nil {
			return nil, err
		}
		from, err := addressOf(s.FromMAR, "")
		switch {
		case s.PreviousVersion != "" && err == nil && s.FromSize > 0:
			if err := o.build(known, s.AppName, s.PreviousVersion, s.FromBuildID, on, s.Locale, strings.ToLower(s.FromHash), from, s.FromSize); err != nil {
				return nil, err
			}
		default:
			o.note("which version build %s of %s is, is not said: clients of it get the partial if one of the server's releases has it", s.FromBuildID, s.AppName)
		}
		o.made = append(o.made, aus.MadePartial{From: strings.ToLower(s.FromHash), To: strings.ToLower(s.ToHash), URL: update, Size: s.Size, Hash: strings.ToLower(s.Hash), HashFunction: "sha512"})
		for _, address := range []string{update, to} {
			if u, err := url.Parse(address); err == nil {
				if o.hosts[u.Host] == nil {
					o.hosts[u.Host] = map[string]bool{}
				}
				o.hosts[u.Host][s.AppName] = true
			}
		}
	}
	return o, nil
}

func (o *manifestObjects) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(o.notes, text) {
		o.notes = append(o.notes, text)
	}
}

// addressOf is a name of a manifest as an address: one that is none is a file below base.
func addressOf(name, base string) (string, error) {
	if u, err := url.Parse(name); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		return name, nil
	}
	switch {
	case name == "":
		return "", errors.New("it is missing")
	case base == "":
		return "", fmt.Errorf("%q is no address", name)
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("--base %q is no address", base)
	}
	return u.JoinPath(name).String(), nil
}

// build puts a build into its release.
func (o *manifestObjects) build(known func(string) (map[string]any, error), product, version, buildID, target, locale, hash, address string, size int64) error {
	name := product + "-" + version + "-" + buildID
	document := o.releases[name]
	if document == nil {
		var err error
		if document, err = known(name); err != nil {
			return err
		}
		if document == nil {
			document = map[string]any{"name": name, "product": product, "schema_version": 9, "hashFunction": "sha512", "appVersion": version, "displayVersion": version}
		}
		o.releases[name], o.products[name] = document, product
	}
	child := func(m map[string]any, key string) map[string]any {
		c, ok := m[key].(map[string]any)
		if !ok {
			c = map[string]any{}
			m[key] = c
		}
		return c
	}
	at := child(child(child(child(document, "platforms"), target), "locales"), locale)
	if at["completes"] == nil {
		at["buildID"] = buildID
		at["completes"] = []any{map[string]any{"from": "*", "filesize": size, "hashValue": hash, "fileUrl": address}}
	}
	return nil
}

// importManifest publishes what a manifest names, and says what there is.
func (c *client) importManifest(ctx context.Context, m manifest, base, target, from string, dry bool) (x imported, err error) {
	known := func(name string) (map[string]any, error) {
		var object struct {
			Body struct {
				Blob map[string]any `json:"blob"`
			} `json:"body"`
		}
		err := c.call(ctx, http.MethodGet, "/admin/v1/objects/release/"+url.PathEscape(name), nil, 0, &object)
		if errors.Is(err, errNotThere) {
			return nil, nil
		}
		return object.Body.Blob, err
	}
	o, err := m.objects(base, target, known)
	if err != nil {
		return x, err
	}
	var operations []importOperation
	add := func(k state.Kind, key string, body any) {
		text, errJSON := json.Marshal(body)
		err = cmp.Or(err, errJSON)
		operations = append(operations, importOperation{k, key, text})
	}
	x = imported{Releases: len(o.releases), Partials: len(o.made), Hosts: []string{}, Errors: []string{}, Notes: o.notes}
	for host, products := range o.hosts {
		x.Hosts = append(x.Hosts, host)
		if c.ownHost(host) {
			continue
		}
		var list []string
		for p := range products {
			list = append(list, p)
		}
		if now, err := c.hostProducts(ctx, host); err != nil {
			return x, err
		} else if now != nil {
			list = append(list, now...)
		}
		slices.Sort(list)
		add(state.Host, host, state.HostBody{Products: slices.Compact(list)})
	}
	slices.Sort(x.Hosts)
	for name, document := range o.releases {
		blob, errJSON := json.Marshal(document)
		err = cmp.Or(err, errJSON)
		add(state.Release, name, state.ReleaseBody{Blob: blob, DataVersion: 1, Product: o.products[name]})
	}
	for _, p := range o.made {
		add(state.Made, state.MadeKey(p.From, p.To), p)
	}
	if err != nil || dry {
		return x, err
	}
	var done struct {
		Snapshot struct {
			Seq int64 `json:"seq"`
		} `json:"snapshot"`
	}
	if err := c.post(ctx, "/admin/v1/changes", map[string]any{"comment": "import of " + from, "operations": operations}, &done); err != nil && !strings.Contains(err.Error(), "nothing changes") {
		return x, err
	}
	x.Snapshot = done.Snapshot.Seq
	return x, nil
}

// ownHost says whether a host is the server's own, which is allowed by itself.
func (c *client) ownHost(host string) bool {
	u, err := url.Parse(c.url)
	return err == nil && u.Host == host
}

// hostProducts are the products for which the server allows a host; nil is a host that it does not know.
func (c *client) hostProducts(ctx context.Context, host string) ([]string, error) {
	var object struct {
		Body state.HostBody `json:"body"`
	}
	err := c.call(ctx, http.MethodGet, "/admin/v1/objects/host/"+url.PathEscape(host), nil, 0, &object)
	switch {
	case errors.Is(err, errNotThere):
		return nil, nil
	case err == nil && object.Body.Paths != nil:
		return nil, fmt.Errorf("the server allows some paths of %s alone: whether these updates are among them is for people to say", host)
	}
	return object.Body.Products, err
}

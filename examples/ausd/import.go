package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// imported is what import found.
type imported struct {
	Rules    int      `json:"rules"`
	Releases int      `json:"releases"`
	Pins     int      `json:"pins"`
	Shutoffs int      `json:"shutoffs"`
	Partials int      `json:"partials,omitempty"`
	Hosts    []string `json:"hosts"` // from which updates may come
	Notes    []string `json:"notes,omitempty"`
	Errors   []string `json:"errors"`
	Warnings int      `json:"warnings"`
	Snapshot int64    `json:"snapshot,omitempty"`
}

// importOperation is one object that is sent.
type importOperation struct {
	Kind state.Kind      `json:"kind"`
	Key  string          `json:"key"`
	Body json.RawMessage `json:"body"`
}

func (a *app) importCommand() *cobra.Command {
	var c client
	var all, dry bool
	var number int
	var base, target string
	cmd := &cobra.Command{
		Use:   "import URL | FILE",
		Short: "Take over the rules and releases of a Balrog, or partials of a manifest.json",
		Long: `import reads rules, releases and shutoffs of a live Balrog by its read-only API (URL is scheme and host), or of a file in the form that
replay reads, and publishes them on a running ausd: releases first, the rules last and at once, so that clients see nothing before all is
there. Of a live server it takes the releases that rules lead to, and those that their partials come from; --all takes every one.

Errors, which are what Balrog would answer with 500 whatever the client sends, are printed, and nothing is sent. A live Balrog does not tell
from which hosts updates may come: those in the addresses of the releases are allowed, and printed. It does not list pins either.

Before moving clients, "ausd compare" says whether they get the same.

A manifest.json, as partiald (/api/v1/batches/ID/manifest) and Mozilla's partial-update task write it, adds the builds that it names and the
partials between them, which stay where they are: below --base where the manifest has names of files alone. Rules are left as they are.`,
		Example: `  ausd import --dry-run https://aus5.mozilla.org
  ausd import https://aus.example.org
  ausd import rules.json
  ausd import --base https://dl.example.org/partials/ manifest.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if m, ok, err := readManifest(args[0]); err == nil && ok {
				x, err := c.importManifest(cmd.Context(), m, base, target, args[0], dry)
				if err != nil {
					return err
				}
				return a.Print(x, func(w *cli.Printer) {
					for _, text := range x.Notes {
						w.Printf("note: %s\n", text)
					}
					w.Printf("%d releases, %d partials\nupdates may come from: %s\n", x.Releases, x.Partials, strings.Join(x.Hosts, ", "))
					if x.Snapshot != 0 {
						w.Printf("published as snapshot %d\n", x.Snapshot)
					}
				})
			}
			var config aus.Config
			var err error
			if u, errURL := url.Parse(args[0]); errURL == nil && u.Host != "" {
				config, err = readBalrog(cmd.Context(), strings.TrimSuffix(args[0], "/"), all)
			} else {
				var s *aus.Snapshot
				if s, _, err = openRules(args[0], number); err == nil {
					config = s.Config()
				}
			}
			if err != nil {
				return err
			}
			_, problems := aus.Compile(config)
			x := imported{Rules: len(config.Rules), Releases: len(config.Releases), Pins: len(config.Pins), Shutoffs: len(config.Shutoffs), Hosts: []string{}, Errors: []string{}}
			for _, h := range config.AllowList {
				x.Hosts = append(x.Hosts, h.Host)
			}
			for _, p := range problems {
				if p.Severity == aus.SeverityError {
					x.Errors = append(x.Errors, p.String())
				} else {
					x.Warnings++
				}
			}
			if !dry && len(x.Errors) == 0 {
				if x.Snapshot, err = c.send(cmd.Context(), config, args[0]); err != nil {
					return err
				}
			}
			err = a.Print(x, func(w *cli.Printer) {
				for _, text := range x.Errors {
					w.Printf("error: %s\n", text)
				}
				w.Printf("%d rules, %d releases, %d pins, %d shutoffs; %d warnings\n", x.Rules, x.Releases, x.Pins, x.Shutoffs, x.Warnings)
				w.Printf("updates may come from: %s\n", strings.Join(x.Hosts, ", "))
				if x.Snapshot != 0 {
					w.Printf("published as snapshot %d\n", x.Snapshot)
				}
			})
			if err == nil && len(x.Errors) > 0 {
				return cli.ErrNo
			}
			return err
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "take releases that nothing leads to, too")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what there is, and what is wrong with it")
	cmd.Flags().StringVar(&base, "base", "", "where the updates of a manifest.json are that it names without an address")
	cmd.Flags().StringVar(&target, "target", "", "of a manifest.json: build target that clients ask with (default: the usual one of its platforms)")
	cmd.Flags().IntVar(&number, "document", 1, "which document of the file, counted from 1")
	return cmd
}

// maxBalrog bounds one answer of a Balrog, in bytes.
const maxBalrog = 256 << 20

// readBalrog reads a live Balrog by its read-only API.
func readBalrog(ctx context.Context, base string, all bool) (aus.Config, error) {
	c := newClient()
	get := func(path string, to any) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return cli.Usagef("%w", err)
		}
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", req.URL, res.Status)
		}
		if err := json.NewDecoder(io.LimitReader(res.Body, maxBalrog)).Decode(to); err != nil {
			return fmt.Errorf("%s: %w", req.URL, err)
		}
		return nil
	}
	var config aus.Config
	var rules struct {
		Rules []aus.Rule `json:"rules"`
	}
	var list struct {
		Releases []struct {
			Name     string `json:"name"`
			Product  string `json:"product"`
			ReadOnly bool   `json:"read_only"`
		} `json:"releases"`
	}
	var shutoffs struct {
		Shutoffs []aus.Shutoff `json:"shutoffs"`
	}
	for path, to := range map[string]any{"/api/v1/rules": &rules, "/api/v1/releases": &list, "/api/v1/emergency_shutoff": &shutoffs} {
		if err := get(path, to); err != nil {
			return config, err
		}
	}
	config.Rules, config.Shutoffs = rules.Rules, shutoffs.Shutoffs
	known := map[string]int{}
	for i, r := range list.Releases {
		known[r.Name] = i
	}
	var wanted []string
	for _, r := range config.Rules {
		for _, name := range []*string{r.Mapping, r.FallbackMapping} {
			if name != nil {
				wanted = append(wanted, *name)
			}
		}
	}
	if all {
		wanted = slices.Collect(maps.Keys(known))
	}
	hosts, seen := map[string]map[string]bool{}, map[string]bool{}
	for len(wanted) > 0 {
		name := wanted[0]
		wanted = wanted[1:]
		i, ok := known[name]
		if !ok || seen[name] {
			continue // a mapping to nothing is an error of the rule
		}
		seen[name] = true
		var blob json.RawMessage
		if err := get("/api/v1/releases/"+url.PathEscape(name), &blob); err != nil {
			return config, err
		}
		r, err := aus.NewRelease(name, list.Releases[i].Product, blob, &aus.ReleaseOptions{DataVersion: 1, ReadOnly: list.Releases[i].ReadOnly})
		if err != nil {
			return config, fmt.Errorf("release %s: %w", name, err)
		}
		config.Releases = append(config.Releases, r)
		var v any
		if err := json.Unmarshal(blob, &v); err != nil {
			return config, err
		}
		walk(v, "", func(key, text string) {
			if _, ok := known[text]; ok && (key == "from" || key == "products" || key == "blobs") {
				wanted = append(wanted, text)
			}
			if u, err := url.Parse(text); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && !strings.HasSuffix(strings.ToLower(key), "detailsurl") {
				if hosts[u.Host] == nil {
					hosts[u.Host] = map[string]bool{}
				}
				hosts[u.Host][r.Product()] = true
			}
		})
	}
	for _, h := range slices.Sorted(maps.Keys(hosts)) {
		config.AllowList = append(config.AllowList, aus.AllowedHost{Host: h, Products: slices.Sorted(maps.Keys(hosts[h]))})
	}
	return config, nil
}

// walk calls f with every text of a document, and the key under which it, or its list, stands.
func walk(v any, key string, f func(key, text string)) {
	switch v := v.(type) {
	case string:
		f(key, v)
	case []any:
		for _, e := range v {
			walk(e, key, f)
		}
	case map[string]any:
		for k, e := range v {
			walk(e, k, f)
		}
	}
}

// Bounds of what is sent at once.
const (
	maxSent       = 32 << 20 // bytes
	maxOperations = 500
)

// send publishes a configuration: hosts, then releases, then at once all that clients are led by. It returns the number of the last
// snapshot.
func (c *client) send(ctx context.Context, config aus.Config, from string) (last int64, err error) {
	var first, led []importOperation
	add := func(list *[]importOperation, k state.Kind, key string, body any) {
		text, errJSON := json.Marshal(body)
		if errJSON != nil && err == nil {
			err = errJSON
		}
		*list = append(*list, importOperation{k, key, text})
	}
	for _, h := range config.AllowList {
		add(&first, state.Host, h.Host, state.HostBody{Products: h.Products, Paths: h.Paths})
	}
	for _, r := range config.Releases {
		add(&first, state.Release, r.Name(), state.ReleaseBody{Blob: json.RawMessage(r.Document()), DataVersion: 1, Product: r.Product(), ReadOnly: r.ReadOnly()})
	}
	for _, r := range config.Rules {
		add(&led, state.Rule, strconv.FormatInt(r.ID, 10), r)
	}
	for _, p := range config.Pins {
		add(&led, state.Pin, state.PinKey(&p), p)
	}
	for i, f := range config.Shutoffs {
		f.ID = int64(i + 1)
		add(&led, state.Shutoff, strconv.Itoa(i+1), f)
	}
	if err != nil {
		return 0, err
	}
	post := func(operations []importOperation) error {
		var done struct {
			Snapshot struct {
				Seq int64 `json:"seq"`
			} `json:"snapshot"`
		}
		err := c.post(ctx, "/admin/v1/changes", map[string]any{"comment": "import of " + from, "operations": operations}, &done)
		if err == nil {
			last = done.Snapshot.Seq
		}
		return err
	}
	for len(first) > 0 {
		n, size := 0, 0
		for n < len(first) && n < maxOperations && (n == 0 || size+len(first[n].Body) < maxSent) {
			size += len(first[n].Body)
			n++
		}
		if err := post(first[:n]); err != nil && !strings.Contains(err.Error(), "nothing changes") {
			return last, err
		}
		first = first[n:]
	}
	if len(led) > 0 {
		if err := post(led); err != nil && !strings.Contains(err.Error(), "nothing changes") {
			return last, err
		}
	}
	return last, nil
}

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
)

func (a *app) describeCommand() *cobra.Command {
	var mermaid, markdown bool
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Say which parts are configured here, and how they hang together",
		Long: `describe reads the configuration and says which parts the service has with it, what each is for, and who speaks to
whom: what to show first to somebody new. It names hosts and files, and no secrets; it starts nothing and asks nobody.

The diagram is in Mermaid, which many sites that show Markdown draw.`,
		Example: `  partiald describe
  partiald describe --config /etc/partiald/partiald.toml --markdown > service.md`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if mermaid && markdown {
				return cli.UsageError{Err: fmt.Errorf("--markdown has the diagram already: ask for one of the two")}
			}
			c, err := a.read()
			if err != nil {
				return err
			}
			if err := c.Fill(); err != nil {
				return err
			}
			v := overview(c)
			switch {
			case mermaid:
				return v.mermaid(a.stdout)
			case markdown:
				return v.markdown(a.stdout)
			}
			return v.text(a.stdout)
		},
	}
	cmd.Flags().BoolVar(&mermaid, "mermaid", false, "only the diagram")
	cmd.Flags().BoolVar(&markdown, "markdown", false, "text and diagram as Markdown")
	return cmd
}

// part is one thing of the service.
type part struct {
	id, name string
	kind     string   // where it stands in the picture: "outside", "server", "kept"
	role     string   // what it is for
	facts    []string // how it is configured
}

// link says that one part speaks to another.
type link struct{ from, to, what string }

// view is what a configuration makes.
type view struct {
	title string
	parts []part
	links []link
}

func (v *view) add(p part)                 { v.parts = append(v.parts, p) }
func (v *view) link(from, to, what string) { v.links = append(v.links, link{from, to, what}) }

// overview says what a configuration makes.
func overview(c *config.Config) *view {
	v := &view{title: "partiald on " + c.Name}
	v.outside(c)
	v.server(c)
	v.kept(c)
	return v
}

// outside are those who call, and what is called.
func (v *view) outside(c *config.Config) {
	who := []string{"without a token: " + may(c.Auth.Anonymous)}
	for _, role := range []string{config.RoleRead, config.RoleSubmit, config.RoleOperate} {
		var names []string
		for i := range c.Auth.Tokens {
			if c.Auth.Tokens[i].Role == role {
				names = append(names, c.Auth.Tokens[i].Name)
			}
		}
		if len(names) > 0 {
			who = append(who, may(role)+": "+strings.Join(names, ", "))
		}
	}
	v.add(part{"callers", "callers", "outside", "people with a browser, build systems, Prometheus", who})
	at := cmp.Or(c.Server.PublicURL, "the page and the API")
	if len(c.Server.TrustedProxies) > 0 {
		v.add(part{"proxy", "proxy", "outside", "stands before the service, and says on whose behalf it asks", []string{"trusted: " + strings.Join(c.Server.TrustedProxies, ", ")}})
		v.link("callers", "proxy", at)
		v.link("proxy", "web", c.Server.Listen)
	} else {
		v.link("callers", "web", at)
	}
	origins := []string{"any host with a public address, by https"}
	if len(c.Fetch.Allow) > 0 {
		origins = []string{"only " + strings.Join(masked(c.Fetch.Allow), ", ")}
	}
	if c.Fetch.Insecure {
		origins = append(origins, "http is allowed")
	}
	if len(c.Fetch.PrivateNetworks) > 0 {
		origins = append(origins, "also in "+strings.Join(c.Fetch.PrivateNetworks, ", "))
	}
	if c.Fetch.Proxy != "" {
		origins = append(origins, "by way of "+host(c.Fetch.Proxy))
	}
	v.add(part{"origins", "origins", "outside", "have the complete updates; what comes is compared with its hash", origins})
}

// server are the parts of this process and the plugins it starts.
func (v *view) server(c *config.Config) {
	scheme := "http"
	if c.Server.TLSCertificate != "" {
		scheme = "https, certificate " + c.Server.TLSCertificate
	}
	v.add(part{"web", "web", "server", "API, pages, metrics; checks tokens, limits and input", []string{
		"listens on " + c.Server.Listen + " (" + scheme + ")", fmt.Sprintf("uploads up to %s, %d requests a minute and address", c.Limits.Upload, c.Auth.Rate),
	}})
	rules := "the rules that come with it"
	if len(c.Toolchain.Rules) > 0 {
		rules = "rules of " + strings.Join(c.Toolchain.Rules, ", ")
	}
	v.add(part{"engine", "engine", "server", "takes jobs, makes partials, proves each before anybody sees it", []string{
		fmt.Sprintf("%d jobs at a time, %s for diffs", c.Workers.Slots, c.Workers.MaxMemory),
		fmt.Sprintf("%d attempts, each at most %s", c.Workers.Attempts, c.Workers.JobTimeout), rules,
	}})
	v.link("web", "engine", "asks")
	v.link("engine", "origins", "fetches")
	for i := range c.Signing.Plugins {
		p := &c.Signing.Plugins[i]
		var keys []string
		for k := range c.Signing.Keys {
			if c.Signing.Keys[k].Plugin == p.Name {
				keys = append(keys, c.Signing.Keys[k].Called())
			}
		}
		id := fmt.Sprintf("signer%d", i)
		v.add(part{id, "signer " + p.Name, "server", "signs what was proved; gets a digest and nothing else", []string{
			filepath.Base(p.Command) + ", checksum pinned: " + yes(p.SHA256 != ""), "keys: " + cmp.Or(strings.Join(keys, ", "), "none"),
		}})
		v.link("engine", id, "digest")
	}
	if len(c.Signing.Trust) > 0 {
		v.add(part{"trust", "trusted keys", "kept", "one of them must have signed each complete update", c.Signing.Trust})
		v.link("engine", "trust", "checks by")
	}
	if c.Storage.Command != "" {
		presign := "passes the bytes on"
		if c.Storage.Presign.Duration > 0 {
			presign = "sends downloads to the store's own addresses, where it can"
		}
		v.add(part{"storage", "storage plugin", "server", "speaks to the store", []string{filepath.Base(c.Storage.Command) + ", checksum pinned: " + yes(c.Storage.SHA256 != ""), presign}})
		v.add(part{"store", "store", "kept", "what was made, for all servers: partials, reports, logs", []string{"names begin with " + c.Storage.Prefix, "sealed: " + yes(c.Storage.SealFile != "")}})
		v.link("engine", "storage", "keeps, gets")
		v.link("storage", "store", "")
	}
}

// kept is where things are.
func (v *view) kept(c *config.Config) {
	q := part{id: "queue", name: "queue", kind: "kept", role: "which jobs wait, and who works on what (NATS JetStream)"}
	switch {
	case !c.Embedded():
		var hosts []string
		for _, u := range c.Queue.URLs {
			hosts = append(hosts, host(u))
		}
		q.facts = []string{"cluster at " + strings.Join(hosts, ", "), fmt.Sprintf("%d copies of each thing", max(1, c.Queue.Replicas))}
	case c.Queue.ClusterListen != "":
		q.facts = []string{"embedded, one of a cluster: " + c.Queue.ClusterListen, fmt.Sprintf("%d copies of each thing, in %s", max(1, c.Queue.Replicas), c.Queue.Dir)}
		v.add(part{"peers", "other partialds", "outside", "share queue, ledger and store; each takes jobs and answers callers", c.Queue.ClusterRoutes})
		v.link("queue", "peers", "cluster")
	default:
		q.facts = []string{"embedded, in " + c.Queue.Dir}
		if c.Queue.Listen != "" {
			q.facts = append(q.facts, "others connect at "+c.Queue.Listen)
		}
	}
	q.facts = append(q.facts, fmt.Sprintf("room for %d jobs", c.Queue.Limit))
	v.add(q)
	v.link("engine", "queue", "takes jobs, tells progress")

	l := part{id: "ledger", name: "ledger", kind: "kept", role: "who asked for what, and what became of it: back it up"}
	switch {
	case c.Ledger.PostgresFile != "":
		l.facts = []string{"PostgreSQL, connection in " + c.Ledger.PostgresFile}
	case c.Ledger.Postgres != "":
		l.facts = []string{"PostgreSQL at " + databaseText(c.Ledger.Postgres.Reveal())}
	default:
		l.facts = []string{"SQLite, " + c.Ledger.SQLite}
	}
	v.add(l)
	v.link("engine", "ledger", "writes down")
	v.add(part{"cache", "cache", "kept", "what was fetched and made, on this server: may be removed while it is stopped", []string{
		c.Cache.Dir, fmt.Sprintf("at most %s of completes, %s of patches, %s of partials; %s in memory", c.Cache.Completes, c.Cache.Patches, c.Cache.Partials, c.Cache.Memory),
	}})
	v.link("engine", "cache", "reads, fills")
	if len(c.Signing.Keys) > 0 {
		v.add(part{"journal", "journal", "kept", "every signature that was asked for, given or refused: back it up", []string{c.Signing.Journal, "policy: " + cmp.Or(c.Signing.Policy, "none")}})
		v.link("engine", "journal", "writes down")
	}
}

func may(role string) string {
	return map[string]string{
		config.RoleNone: "nothing", config.RoleRead: "may look and download", config.RoleSubmit: "may ask for partials", config.RoleOperate: "may do everything",
	}[role]
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// host is the host of an address, without user, password, path and query.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		if h, port, err := net.SplitHostPort(address); err == nil && !strings.Contains(h, "@") {
			return net.JoinHostPort(h, port)
		}
		return "(an address that cannot be read)"
	}
	return u.Scheme + "://" + u.Host
}

// masked are addresses without user and password.
func masked(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			out[i] = "(an address that cannot be read)"
			continue
		}
		u.User, u.RawQuery = nil, ""
		out[i] = u.String()
	}
	return out
}

// databaseText is the host of a connection string, and the name of the database.
func databaseText(dsn string) string {
	if strings.Contains(dsn, "://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return "(a connection that cannot be read)"
		}
		return cmp.Or(u.Host, "this machine") + u.Path
	}
	at, name := "this machine", ""
	for field := range strings.FieldsSeq(dsn) {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "host":
			at = value
		case "dbname":
			name = "/" + value
		}
	}
	return at + name
}

var viewKinds = []struct{ kind, title string }{{"outside", "Outside"}, {"server", "This server"}, {"kept", "What is kept"}}

func (v *view) text(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", v.title)
	for _, k := range viewKinds {
		fmt.Fprintf(&b, "\n%s\n", k.title)
		for _, p := range v.parts {
			if p.kind != k.kind {
				continue
			}
			fmt.Fprintf(&b, "  %-16s %s\n", p.name, p.role)
			for _, f := range p.facts {
				fmt.Fprintf(&b, "  %-16s - %s\n", "", line(f))
			}
		}
	}
	b.WriteString("\nWho speaks to whom\n")
	for _, l := range v.links {
		fmt.Fprintf(&b, "  %s → %s", v.name(l.from), v.name(l.to))
		if l.what != "" {
			fmt.Fprintf(&b, ": %s", line(l.what))
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (v *view) name(id string) string {
	i := slices.IndexFunc(v.parts, func(p part) bool { return p.id == id })
	return v.parts[i].name
}

func (v *view) markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", v.title)
	for _, k := range viewKinds {
		fmt.Fprintf(&b, "\n## %s\n\n| part | what it is for | here |\n|---|---|---|\n", k.title)
		for _, p := range v.parts {
			if p.kind == k.kind {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(p.name), cell(p.role), cell(strings.Join(p.facts, "; ")))
			}
		}
	}
	b.WriteString("\n## How they hang together\n\n```mermaid\n")
	if err := v.mermaid(&b); err != nil {
		return err
	}
	b.WriteString("```\n")
	_, err := w.Write(b.Bytes())
	return err
}

// mermaid writes a flow chart. Labels are quoted; within quotes only the quote itself, and what begins an entity or a
// tag, means anything.
func (v *view) mermaid(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("flowchart LR\n")
	for _, k := range viewKinds {
		fmt.Fprintf(&b, "  subgraph %s [\"%s\"]\n", k.kind, k.title)
		for _, p := range v.parts {
			if p.kind != k.kind {
				continue
			}
			label := "<b>" + quoted(p.name) + "</b>"
			if len(p.facts) > 0 {
				label += "<br>" + quoted(p.facts[0])
			}
			shape := [2]string{"[\"", "\"]"}
			if k.kind == "kept" {
				shape = [2]string{"[(\"", "\")]"}
			}
			fmt.Fprintf(&b, "    %s%s%s%s\n", p.id, shape[0], label, shape[1])
		}
		b.WriteString("  end\n")
	}
	for _, l := range v.links {
		if l.what == "" {
			fmt.Fprintf(&b, "  %s --> %s\n", l.from, l.to)
		} else {
			fmt.Fprintf(&b, "  %s -->|\"%s\"| %s\n", l.from, quoted(l.what), l.to)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// line keeps what a configuration says on one line.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func quoted(s string) string {
	return strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;", ">", "&gt;", "#", "&num;", "\n", " ", "\r", " ").Replace(line(s))
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "`", "'").Replace(line(s))
}

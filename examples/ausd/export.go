package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// webServers are for which export writes rewrite rules, with the name of the file of them. plain needs none.
var webServers = map[string]struct{ file, text string }{
	"nginx": {"nginx.conf", `# Inside "server { … }". nginx removes "..", and no part may have a slash in it, so nothing else is reached.
location ~ "^/update/[0-9]+/(?<ausd>[^/]+/[^/]+/[^/]+/[^/]+/[^/]+/[^/]+)/(.+/)?update\.xml$" {
    root "ROOT";
    types { }
    default_type "text/xml; charset=utf-8";
    add_header Cache-Control "public, max-age=90";
    try_files "/$ausd.xml" /no-update.xml =404;
}
location /update/ {
    root "ROOT";
    types { }
    default_type "text/xml; charset=utf-8";
    try_files /no-update.xml =404;
}
`},
	"caddy": {"Caddyfile", `# Inside the block of the site.
@ausd path_regexp ausd ^/update/[0-9]+/([^/]+/[^/]+/[^/]+/[^/]+/[^/]+/[^/]+)/(?:.+/)?update\.xml$
handle @ausd {
	root * "ROOT"
	header Content-Type "text/xml; charset=utf-8"
	header Cache-Control "public, max-age=90"
	try_files /{re.ausd.1}.xml /no-update.xml
	file_server
}
handle /update/* {
	root * "ROOT"
	header Content-Type "text/xml; charset=utf-8"
	rewrite * /no-update.xml
	file_server
}
`},
	"apache": {"apache.conf", `# In the configuration of the server or virtual host. Needs mod_rewrite, mod_alias and mod_headers.
Alias "/ausd-files" "ROOT"
<Directory "ROOT">
    Require all granted
    ForceType "text/xml; charset=utf-8"
    Header set Cache-Control "public, max-age=90"
</Directory>
RewriteEngine On
RewriteCond "ROOT/$1.xml" -f
RewriteRule "^/update/[0-9]+/([^/]+/[^/]+/[^/]+/[^/]+/[^/]+/[^/]+)/(?:.+/)?update\.xml$" "/ausd-files/$1.xml" [PT,L]
RewriteRule "^/update/" "/ausd-files/no-update.xml" [PT,L]
`},
	"plain": {},
}

func formats() []string { return []string{"apache", "caddy", "nginx", "plain"} }

// noUpdate is the answer to a client for which there is nothing.
const noUpdate = "<?xml version=\"1.0\"?>\n<updates>\n</updates>"

// exportMark is a file that says that a directory was made by export, so that it may be replaced.
const exportMark = ".ausd-export"

// exported is what export did, or could not.
type exported struct {
	Dir     string   `json:"dir"`
	Format  string   `json:"format"`
	Clients int      `json:"clients"` // builds, each on each channel
	Files   int      `json:"files"`   // those of them that get an update
	Config  string   `json:"config,omitempty"`
	URL     string   `json:"url,omitempty"` // of app.update.url, for plain
	Limits  []string `json:"limits"`        // what files cannot say
}

func (a *app) exportCommand() *cobra.Command {
	var s source
	var format string
	var approximate bool
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the answers as files for a web server",
		Long: `export writes what clients of every known build get, on every channel that a rule names, as files, with the rewrite rules of a
web server (nginx, caddy, apache) beside them; all other clients get no update. With plain there are no rewrite rules, for hosts
that only have files: clients then need a shorter app.update.url, which is printed. With --data the MAR files of the data directory that are
offered go with them, below files/.

Files cannot say everything: who is thrown out by a background rate, a rollout or an expiry, what depends on memory, system version,
distribution, JAWS and the like, pins, force. Rules and shutoffs that need it are refused, each with its number, unless --approximate is given, which
lists them: then clients are taken to have none of these properties, and of a throttled rule everybody gets the fallback.

DIR must not be there, or must have been made by export, and is replaced as a whole.`,
		Example: `  ausd export --format nginx /srv/updates          then include /srv/updates/nginx.conf in "server { … }"
  ausd export --format plain --rules rules.json public
  ausd export --format caddy --approximate /srv/updates`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := webServers[format]; !ok {
				return cli.Usagef("--format %q: want one of %v", format, formats())
			}
			snapshot, problems, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			for _, p := range problems {
				if p.Severity == aus.SeverityError {
					return fmt.Errorf("this cannot be served: %s", p)
				}
			}
			limits := inexpressible(snapshot)
			if len(limits) > 0 && !approximate {
				return fmt.Errorf("files cannot say all of this (--approximate leaves it out): %s", strings.Join(limits, "; "))
			}
			x, err := export(cmd.Context(), snapshot, args[0], format, s.local())
			if err != nil {
				return err
			}
			x.Limits = append(append([]string{}, limits...), x.Limits...)
			return a.Print(x, func(w *cli.Printer) {
				for _, l := range x.Limits {
					w.Printf("left out: %s\n", l)
				}
				w.Printf("%d clients of known builds, %d get an update: %s\n", x.Clients, x.Files, x.Dir)
				if x.Config != "" {
					w.Printf("rewrite rules: %s\n", x.Config)
				}
				if x.URL != "" {
					w.Printf("app.update.url: https://HOST/%s\n", x.URL)
				}
			})
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "nginx", "for which web server: nginx, caddy, apache or plain")
	cmd.Flags().BoolVar(&approximate, "approximate", false, "leave out what files cannot say, and list it")
	return cmd
}

// inexpressible lists what files cannot say, with the number of the rule or shutoff.
func inexpressible(s *aus.Snapshot) []string {
	var list []string
	columns := func(r *aus.Rule) (names []string) {
		for _, c := range []struct {
			name string
			set  bool
		}{
			{"osVersion", r.OSVersion != nil},
			{"memory", r.Memory != nil},
			{"instructionSet", r.InstructionSet != nil},
			{"jaws", r.JAWS != nil},
			{"mig64", r.Mig64 != nil},
			{"distribution", r.Distribution != nil},
			{"distVersion", r.DistVersion != nil},
			{"headerArchitecture", r.HeaderArchitecture != nil},
		} {
			if c.set {
				names = append(names, c.name)
			}
		}
		return names
	}
	for _, r := range s.Rules() {
		names := columns(&r)
		if r.BackgroundRate != nil && *r.BackgroundRate < 100 {
			names = append(names, "backgroundRate")
		}
		if len(r.Rollout) > 0 {
			names = append(names, "rollout")
		}
		if len(names) > 0 {
			list = append(list, fmt.Sprintf("rule %d: %s", r.ID, strings.Join(names, ", ")))
		}
	}
	for _, f := range s.Shutoffs() {
		var names []string
		if f.Only != nil {
			names = columns(f.Only)
		}
		if !f.Expires.IsZero() && f.Expires.After(time.Now()) {
			names = append(names, "expires")
		}
		if len(names) > 0 {
			list = append(list, fmt.Sprintf("shutoff %d: %s", f.ID, strings.Join(names, ", ")))
		}
	}
	if n := len(s.Config().Pins); n > 0 {
		list = append(list, fmt.Sprintf("%d pins", n))
	}
	return list
}

// plainField is what a part of a file's name may be.
var plainField = regexp.MustCompile(`^[A-Za-z0-9_+@-][A-Za-z0-9 ._+@()-]{0,199}$`)

// export writes the files of a snapshot.
func export(ctx context.Context, s *aus.Snapshot, dir, format string, files *ownFiles) (x exported, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return x, err
	}
	if strings.ContainsAny(dir, "\"\n{}$\\") && format != "plain" {
		return x, cli.Usagef("%q: the rewrite rules would have to name this directory; take a plainer name", dir)
	}
	x = exported{Dir: dir, Format: format}
	if _, err := os.Stat(dir); err == nil {
		if _, err := os.Stat(filepath.Join(dir, exportMark)); err != nil {
			return x, fmt.Errorf("%s is there already, and was not made by export", dir)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return x, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return x, err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".new-")
	if err != nil {
		return x, err
	}
	defer os.RemoveAll(made) // what is left of it
	if err := os.Chmod(made, 0o755); err != nil {
		return x, err
	}
	write := func(name, text string) error {
		name = filepath.Join(made, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return os.WriteFile(name, []byte(text), 0o644)
	}
	queries, cut := server.Clients(s)
	if cut {
		x.Limits = append(x.Limits, fmt.Sprintf("builds beyond the first %d", len(queries)))
	}
	x.Clients = len(queries)
	strange := map[string]bool{}
	for _, q := range queries {
		if ctx.Err() != nil {
			return x, ctx.Err()
		}
		an := s.Answer(q, aus.Env{Dice: func() int { return 99 }})
		if an.Outcome != aus.OutcomeUpdate {
			continue
		}
		fields := []string{q.Product, q.Version, q.BuildID, q.BuildTarget, q.Locale, q.Channel}
		if i := slices.IndexFunc(fields, func(f string) bool { return !plainField.MatchString(f) }); i >= 0 {
			strange[fields[i]] = true
			continue
		}
		name := strings.Join(fields, "/") + ".xml"
		if format == "plain" {
			name = strings.Join(fields, "/") + "/update.xml"
		}
		if err := write(name, string(an.Body)); err != nil {
			return x, err
		}
		x.Files++
		if err := files.copy(an.Body, made); err != nil {
			return x, err
		}
	}
	for f := range strange {
		x.Limits = append(x.Limits, fmt.Sprintf("clients with %q in their address, which is no name of a file", f))
	}
	slices.Sort(x.Limits)
	if err := cmp.Or(write("no-update.xml", noUpdate), write(exportMark, "made by ausd export: replaced as a whole\n")); err != nil {
		return x, err
	}
	if format == "plain" {
		x.URL = "%PRODUCT%/%VERSION%/%BUILD_ID%/%BUILD_TARGET%/%LOCALE%/%CHANNEL%/update.xml"
	} else {
		c := webServers[format]
		x.Config = filepath.Join(dir, c.file)
		if err := write(c.file, strings.ReplaceAll(c.text, "ROOT", filepath.ToSlash(dir))); err != nil {
			return x, err
		}
	}
	return x, replaceDir(dir, made)
}

// ownFiles are the files of a data directory, which go with the answers that name them; nil is none.
type ownFiles struct {
	dir  string
	base string // what their addresses begin with
	seen map[string]bool
}

// local are the files of the data directory that the source is.
func (s *source) local() *ownFiles {
	if s.data.data == "" || s.rules != "" {
		return nil
	}
	return &ownFiles{filepath.Join(s.data.data, "files"), s.base.JoinPath("files").String() + "/", map[string]bool{}}
}

// copy puts the files that an answer names below a directory, where their addresses lead.
func (o *ownFiles) copy(body []byte, to string) error {
	if o == nil {
		return nil
	}
	an := answer{Status: 200, Body: body}
	offers, err := an.offers()
	if err != nil {
		return err
	}
	for _, of := range offers {
		for _, p := range of.Patches {
			rest, ok := strings.CutPrefix(p.URL, o.base)
			begin, name, two := strings.Cut(rest, "/")
			if !ok || o.seen[rest] {
				continue
			}
			if !two || !strings.HasPrefix(strings.ToLower(p.HashValue), begin) || !filepath.IsLocal(filepath.Join(begin, name)) || strings.ContainsAny(name, "/\\") || !sha512Text.MatchString(p.HashValue) {
				return fmt.Errorf("%s is no address of a file of %s", p.URL, o.dir)
			}
			o.seen[rest] = true
			if err := os.MkdirAll(filepath.Join(to, "files", begin), 0o755); err != nil {
				return err
			}
			if err := copyFile(filepath.Join(o.dir, strings.ToLower(p.HashValue)+".mar"), filepath.Join(to, "files", begin, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

var sha512Text = regexp.MustCompile(`^[0-9A-Fa-f]{128}$`)

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// replaceDir puts a directory in the place of another one.
func replaceDir(dir, made string) error {
	old := made + ".old"
	err := os.Rename(dir, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

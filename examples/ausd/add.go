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
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/inspect"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/mar"
)

// client asks a running server.
type client struct{ url, token string }

func (c *client) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.url, "server", cmp.Or(os.Getenv("AUSD_URL"), "http://127.0.0.1:8090"), "address of the server ($AUSD_URL)")
	cmd.Flags().StringVar(&c.token, "token", "", "token of the server (default: $AUSD_TOKEN; none is needed on its own machine)")
}

// errNotThere says that the server has nothing of a name.
var errNotThere = errors.New("the server has no such thing")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 30

// call sends a request and decodes the answer; a problem is an error with what the server says.
func (c *client) call(ctx context.Context, method, path string, body io.Reader, size int64, to any) error {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.url, "/")+path, body)
	if err != nil {
		return cli.Usagef("--server %q: %w", c.url, err)
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/json")
	if token := cmp.Or(c.token, os.Getenv("AUSD_TOKEN")); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("is the server running? %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%w: %s", errNotThere, path)
	}
	if res.StatusCode >= 300 {
		var problem struct {
			Detail string `json:"detail"`
			Errors []struct {
				Message string `json:"message"`
			} `json:"errors"`
		}
		if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
			return fmt.Errorf("the server answers %s", res.Status)
		}
		for _, e := range problem.Errors {
			problem.Detail += "; " + e.Message
		}
		return fmt.Errorf("the server answers %s: %s", res.Status, problem.Detail)
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(text, to)
}

func (c *client) post(ctx context.Context, path string, body, to any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, bytes.NewReader(text), int64(len(text)), to)
}

func (a *app) addCommand() *cobra.Command {
	var c client
	var o server.Addition
	var dry bool
	cmd := &cobra.Command{
		Use:   "add FILE…",
		Short: "Offer updates to clients",
		Long: `add uploads complete updates (MAR files) to a running server and offers them: it makes a release, or adds to the one
that is there, and lets the rule of the product and channel lead to it, if it is newer than what is offered now. The server
then makes partial updates from the last builds, and from those that clients have.

What a file tells is never asked for: product, version, build ID, channel, system, architecture, locale. What it does not tell has a
default, which is shown (locale en-US, channel release, Linux on x86-64); flags replace either. The channel is the one that
clients ask with, not that of the MAR file.

A partial update is offered, too: the server finds what it leads from by the checksums in its patches, among the completes that
it has, and applies it before it offers it.`,
		Example: `  ausd add --dry-run firefox-153.6.0.complete.mar   what would it be offered as?
  ausd add firefox-153.5.1.complete.mar firefox-153.6.0.complete.mar
  ausd add --locale de --channel beta firefox.de.complete.mar`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			builds := make([]inspect.Build, len(args))
			for i, name := range args { // all are read before the first is sent
				b, err := inspectFile(name)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if b.Partial {
					builds[i] = b
					continue
				}
				for _, f := range []struct {
					name, with string
					to         *string
				}{{"channel", o.Channel, &b.Channel}, {"target", o.Target, &b.Target}, {"locale", o.Locale, &b.Locale}, {"product", o.Product, &b.Product}} {
					if f.with != "" {
						*f.to = f.with
						b.Defaults = slices.DeleteFunc(b.Defaults, func(s string) bool { return s == f.name })
					}
				}
				builds[i] = b
			}
			if !a.JSON {
				a.showBuilds(args, builds)
			}
			if dry {
				if a.JSON {
					return a.Encode(builds)
				}
				return nil
			}
			added := []offered{}
			for i, name := range args {
				one, err := c.add(cmd.Context(), name, o, builds[i].Partial)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				one.Build = builds[i]
				added = append(added, one)
			}
			return a.Print(added, func(w *cli.Printer) {
				for i, one := range added {
					if builds[i].Partial {
						w.Printf("%s is offered to clients of %s for %s (snapshot %d)\n", args[i], one.From, one.Release, one.Snapshot.Seq)
						continue
					}
					w.Printf("%s is release %s", args[i], one.Release)
					if one.Rule != 0 {
						w.Printf(", offered by rule %d", one.Rule)
					} else {
						w.Printf(", which no rule of its product and channel leads to")
					}
					if one.Draft != 0 {
						w.Printf("; that is draft %d, which waits for sign-offs\n", one.Draft)
						continue
					}
					w.Printf(" (snapshot %d)\n", one.Snapshot.Seq)
				}
			})
		},
	}
	c.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Product, "product", "", "product that clients ask with")
	flags.StringVar(&o.Channel, "channel", "", "channel that clients ask with")
	flags.StringVar(&o.Target, "target", "", "build target that clients ask with")
	flags.StringVar(&o.Locale, "locale", "", "locale of the build")
	flags.BoolVar(&o.NoRule, "no-rule", false, "make the release, but let no rule lead to it")
	flags.BoolVar(&dry, "dry-run", false, "only say what the files would be offered as")
	return cmd
}

// inspectFile reads what a file tells about its build.
func inspectFile(name string) (inspect.Build, error) {
	r, err := mar.OpenFile(name, nil)
	if err != nil {
		return inspect.Build{}, err
	}
	defer r.Close()
	return inspect.Read(r.Reader)
}

func (a *app) showBuilds(names []string, builds []inspect.Build) {
	w := cli.NewPrinter(a.Stdout)
	for i, b := range builds {
		if b.Partial {
			w.Printf("%s: a partial update\n", names[i])
			continue
		}
		w.Printf("%s: %s %s, build %s, %s, %s, channel %s\n", names[i], b.Product, b.Version, b.BuildID, b.Target, b.Locale, b.Channel)
		for _, d := range b.Defaults {
			w.Printf("  the file does not tell its %s: taken to be %s (--%s)\n", d, map[string]string{"locale": b.Locale, "channel": b.Channel, "target": b.Target}[d], d)
		}
	}
}

// offered is what became of a file.
type offered struct {
	server.Added
	From string `json:"from,omitempty"` // of a partial update: the release that it leads from
}

// add uploads a file and offers it.
func (c *client) add(ctx context.Context, name string, o server.Addition, partial bool) (offered, error) {
	f, err := os.Open(name)
	if err != nil {
		return offered{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return offered{}, err
	}
	var up struct {
		SHA512 string `json:"sha512"`
	}
	if err := c.call(ctx, http.MethodPut, "/admin/v1/files/"+url.PathEscape(plain(filepath.Base(name))), f, info.Size(), &up); err != nil {
		return offered{}, err
	}
	if partial {
		var p server.AddedPartial
		err := c.post(ctx, "/admin/v1/partials", map[string]string{"sha512": up.SHA512}, &p)
		return offered{server.Added{Release: p.To.Release, URL: p.URL, Snapshot: p.Snapshot}, p.From.Release}, err
	}
	o.SHA512 = up.SHA512
	var added server.Added
	err = c.post(ctx, "/admin/v1/builds", o, &added)
	return offered{Added: added}, err
}

// plain makes a name that the server takes.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+@-", r) {
			return r
		}
		return '_'
	}, name)
	name = strings.TrimLeft(name, "._+@-")
	if name == "" {
		name = "update.mar"
	}
	return name[:min(len(name), 200)]
}

package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/mar"
)

// probed is what a live address gives to a client.
type probed struct {
	URL       string       `json:"url"`
	Status    int          `json:"status"`
	Redirects int          `json:"redirects"`
	Gets      string       `json:"gets"`
	Problems  []string     `json:"problems"`
	Files     []probedFile `json:"files"`
}

type probedFile struct {
	Type      string   `json:"type"`
	URL       string   `json:"url"`
	Status    int      `json:"status"`
	Redirects int      `json:"redirects"`
	Bytes     int64    `json:"bytes"`
	Problems  []string `json:"problems"`
}

// geckoAgent is how clients call themselves.
const geckoAgent = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"

func (a *app) probeCommand() *cobra.Command {
	var agent string
	var noFiles bool
	cmd := &cobra.Command{
		Use:   "probe URL…",
		Short: "Ask live addresses as clients do, and say what is wrong with the answers",
		Long: `probe asks addresses of update requests (that of app.update.url with everything filled in) as clients do, fetches what is
offered, and says what a client would stumble over: another status than 200, a page for people instead of XML (walls against bots,
login pages), files that are not there, have another size or hash than the answer says, or are no MAR files, http where a client wants
https, ranges that are not served. The exit code is 1 if there is anything.`,
		Example: `  ausd probe 'https://aus.example.org/update/6/Fox/153.5.1/20261101000000/Linux_x86_64-gcc3/en-US/release/Linux/NA/default/default/update.xml'
  ausd probe --no-files --json "$URL" | jq .[].problems`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, wrong := []probed{}, false
			for _, address := range args {
				u, err := url.Parse(address)
				if _, ok := aus.ParseURL(address, nil); err != nil || !ok || u.Host == "" {
					return cli.Usagef("%q is no address of a client's request with scheme and host", address)
				}
				p := probe(cmd.Context(), newClient(), u, agent, !noFiles)
				wrong = wrong || p.wrong()
				list = append(list, p)
			}
			err := a.Print(list, func(w *cli.Printer) {
				for i := range list {
					list[i].write(w)
				}
			})
			if err == nil && wrong {
				return cli.ErrNo
			}
			return err
		},
	}
	cmd.Flags().StringVar(&agent, "user-agent", geckoAgent, "User-Agent to ask with")
	cmd.Flags().BoolVar(&noFiles, "no-files", false, "do not fetch what is offered")
	return cmd
}

func (p *probed) wrong() bool {
	for _, f := range p.Files {
		if len(f.Problems) > 0 {
			return true
		}
	}
	return len(p.Problems) > 0
}

func (p *probed) write(w *cli.Printer) {
	w.Printf("%s\n  status %d, %s", p.URL, p.Status, p.Gets)
	if p.Redirects > 0 {
		w.Printf(", after %d redirects", p.Redirects)
	}
	w.Printf("\n")
	for _, text := range p.Problems {
		w.Printf("  wrong: %s\n", text)
	}
	for _, f := range p.Files {
		w.Printf("  %s %s: status %d, %d bytes\n", f.Type, f.URL, f.Status, f.Bytes)
		for _, text := range f.Problems {
			w.Printf("    wrong: %s\n", text)
		}
	}
}

// probe asks one address.
func probe(ctx context.Context, c *http.Client, u *url.URL, agent string, files bool) probed {
	p := probed{URL: u.String(), Problems: []string{}, Files: []probedFile{}}
	wrong := func(format string, args ...any) { p.Problems = append(p.Problems, fmt.Sprintf(format, args...)) }
	an, err := ask(ctx, c, u.String(), agent)
	if err != nil {
		wrong("it cannot be asked: %v", err)
		p.Gets = "nothing"
		return p
	}
	p.Status, p.Redirects, p.Gets = an.Status, an.Redirects, an.summary()
	if u.Scheme != "https" && !loopback(u.Hostname()) {
		wrong("http: whoever is on the way can say what he likes; clients are configured with https")
	}
	if an.Status != http.StatusOK {
		wrong("status %d: a client takes that for an error", an.Status)
	}
	kind, _, _ := mime.ParseMediaType(an.ContentType)
	offers, err := an.offers()
	switch {
	case err != nil && strings.Contains(strings.ToLower(string(an.Body[:min(len(an.Body), 2000)])), "<html"):
		wrong("a page for people (%s): a wall against bots, a login or an error page stands before the server", kind)
	case err != nil:
		wrong("%v", err)
	case kind != "text/xml" && kind != "application/xml":
		wrong("its type is %q, want text/xml", an.ContentType)
	}
	if len(offers) > 1 {
		wrong("%d updates: a client takes one of them", len(offers))
	}
	if an.Status == http.StatusOK && err == nil {
		if other, err := ask(ctx, c, u.String(), "curl/8.0"); err != nil || other.Status != an.Status {
			wrong("another User-Agent is answered otherwise: a wall against bots may meet clients, too")
		}
	}
	for _, o := range offers {
		if len(o.Patches) == 0 && !o.Unsupported {
			wrong("an update without a file")
		}
		for _, f := range o.Patches {
			if files {
				p.Files = append(p.Files, probeFile(ctx, c, f, agent))
			}
		}
	}
	return p
}

// probeFile fetches one file that is offered.
func probeFile(ctx context.Context, c *http.Client, f patch, agent string) probedFile {
	p := probedFile{Type: f.Type, URL: f.URL, Problems: []string{}}
	wrong := func(format string, args ...any) { p.Problems = append(p.Problems, fmt.Sprintf(format, args...)) }
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" {
		wrong("that is no address")
		return p
	}
	if u.Scheme != "https" && !loopback(u.Hostname()) {
		wrong("http: its hash protects it, but everybody sees who fetches what")
	}
	var sum hash.Hash
	switch strings.ToLower(f.HashFunction) {
	case "sha512":
		sum = sha512.New()
	case "sha384":
		sum = sha512.New384()
	case "sha256":
		sum = sha256.New()
	default:
		wrong("clients do not know the hash function %q", f.HashFunction)
		sum = sha512.New()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		wrong("%v", err)
		return p
	}
	req.Header.Set("User-Agent", agent)
	long := *c
	long.Timeout = 30 * time.Minute // a complete update on a slow line
	res, err := long.Do(req)
	if err != nil {
		wrong("it cannot be fetched: %v", err)
		return p
	}
	defer res.Body.Close()
	p.Status = res.StatusCode
	for r := res.Request; r.Response != nil; r = r.Response.Request {
		p.Redirects++
	}
	if res.StatusCode != http.StatusOK {
		wrong("status %d", res.StatusCode)
		return p
	}
	begin := make([]byte, 4)
	n, _ := io.ReadFull(res.Body, begin)
	sum.Write(begin[:n])
	rest, err := io.Copy(sum, io.LimitReader(res.Body, mar.MaxFileSize))
	p.Bytes = int64(n) + rest
	switch {
	case err != nil:
		wrong("after %d bytes: %v", p.Bytes, err)
	case p.Bytes != f.Size:
		wrong("%d bytes, the answer says %d", p.Bytes, f.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && !strings.EqualFold(got, f.HashValue) {
		wrong("its %s is %s, the answer says %s", f.HashFunction, got, f.HashValue)
	}
	if f.Type != "" && string(begin[:n]) != "MAR1" {
		wrong("it is no MAR file")
	}
	if p.Bytes > 1 {
		p.Problems = append(p.Problems, ranges(ctx, &long, f.URL, agent)...)
	}
	return p
}

// ranges says what is wrong with how ranges are served: clients go on where they stopped.
func ranges(ctx context.Context, c *http.Client, address, agent string) []string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return []string{err.Error()}
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Range", "bytes=1-1")
	res, err := c.Do(req)
	if err != nil {
		return []string{"a range cannot be fetched: " + err.Error()}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusPartialContent {
		return []string{fmt.Sprintf("a range is answered with status %d: a download that was cut begins again", res.StatusCode)}
	}
	return nil
}

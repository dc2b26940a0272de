package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// offer is what a client reads in an answer.
type offer struct {
	Type           string  `xml:"type,attr"`
	DisplayVersion string  `xml:"displayVersion,attr"`
	AppVersion     string  `xml:"appVersion,attr"`
	BuildID        string  `xml:"buildID,attr"`
	Unsupported    bool    `xml:"unsupported,attr"`
	Patches        []patch `xml:"patch"`
}

type patch struct {
	Type         string `xml:"type,attr"`
	URL          string `xml:"URL,attr"`
	HashFunction string `xml:"hashFunction,attr"`
	HashValue    string `xml:"hashValue,attr"`
	Size         int64  `xml:"size,attr"`
}

// answer is what a server said to a client.
type answer struct {
	Status      int
	ContentType string
	Body        []byte
	Redirects   int
}

// errNoXML says that an answer is not what a client can read.
var errNoXML = errors.New("no XML of updates")

// offers reads an answer as a client does.
func (a *answer) offers() ([]offer, error) {
	var doc struct {
		XMLName xml.Name
		Updates []offer `xml:"update"`
		Addons  *struct {
			Addons []patch `xml:"addon"`
		} `xml:"addons"`
	}
	if err := xml.Unmarshal(a.Body, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoXML, err)
	}
	if doc.XMLName.Local != "updates" {
		return nil, fmt.Errorf("%w: <%s>", errNoXML, doc.XMLName.Local)
	}
	if doc.Addons != nil {
		return []offer{{Patches: doc.Addons.Addons, Type: "addons"}}, nil
	}
	return doc.Updates, nil
}

// summary says in a few words what a client gets.
func (a *answer) summary() string {
	if a.Status != http.StatusOK {
		return fmt.Sprintf("status %d", a.Status)
	}
	offers, err := a.offers()
	switch {
	case err != nil:
		return "nothing that a client can read"
	case len(offers) == 0:
		return "no update"
	}
	o := &offers[0]
	if o.Unsupported {
		return "this system is unsupported"
	}
	s := cmp.Or(o.AppVersion, o.Type)
	for _, p := range o.Patches {
		if p.Type != "" {
			s += " " + p.Type
		}
	}
	return s
}

// maxXML bounds an answer to a client, in bytes.
const maxXML = 4 << 20

// newClient returns a client that follows as many redirects as Gecko does, and does not stay for ever.
func newClient() *http.Client {
	return &http.Client{Timeout: time.Minute, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= 20 { // network.http.redirection-limit
			return errors.New("too many redirects")
		}
		return nil
	}}
}

// ask asks a server as a client does.
func ask(ctx context.Context, c *http.Client, address, agent string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, cli.Usagef("%w", err)
	}
	if agent != "" {
		req.Header.Set("User-Agent", agent)
	}
	req.Header.Set("Cache-Control", "no-cache")
	a := answer{}
	follow := *c
	check := c.CheckRedirect
	follow.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		a.Redirects = len(via)
		if check == nil {
			return nil
		}
		return check(r, via)
	}
	res, err := follow.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	a.Status, a.ContentType = res.StatusCode, res.Header.Get("Content-Type")
	a.Body, err = io.ReadAll(io.LimitReader(res.Body, maxXML))
	return a, err
}

// loggedQuery is a client's request in the log of a web server.
var loggedQuery = regexp.MustCompile(`"(?:GET|HEAD) (/(?:update|json)/[^" ]+)(?: HTTP/[0-9.]+)?"`)

// counted is a query and how many clients asked it.
type counted struct {
	path string
	n    int
}

// readQueries reads the requests of clients: one a line, with or without scheme and host, or a log of a web server; equal ones are
// counted together. "" is none, "-" standard input.
func readQueries(queries, log string, most int) ([]counted, error) {
	if (queries == "") == (log == "") {
		return nil, cli.Usagef("want --queries or --log")
	}
	name := cmp.Or(queries, log)
	var r io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	n := map[string]int{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		path := ""
		switch {
		case log != "":
			if m := loggedQuery.FindStringSubmatch(line); m != nil {
				path = m[1]
			}
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			u, err := url.Parse(line)
			if _, ok := aus.ParseURL(line, nil); err != nil || !ok {
				return nil, fmt.Errorf("%s:%d: %q is no address of a client's request", name, number, line)
			}
			path = u.RequestURI()
		}
		if path != "" && (n[path] > 0 || len(n) < most) {
			n[path]++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(n) == 0 {
		return nil, fmt.Errorf("%s: there is no client's request in it", name)
	}
	list := make([]counted, 0, len(n))
	for _, path := range slices.Sorted(maps.Keys(n)) {
		list = append(list, counted{path, n[path]})
	}
	return list, nil
}

// difference is a group of clients that two servers answer differently in the same way.
type difference struct {
	Old      string   `json:"old"`
	New      string   `json:"new"`
	Clients  int      `json:"clients"`
	Examples []string `json:"examples"`
}

// comparison is what compare found.
type comparison struct {
	Queries   int          `json:"queries"`
	Clients   int          `json:"clients"`
	Equal     int          `json:"equal"`   // clients
	Differ    int          `json:"differ"`  // clients
	Unasked   int          `json:"unasked"` // clients of queries that one of the servers did not answer
	Groups    []difference `json:"groups"`
	Complaint string       `json:"complaint,omitempty"` // why one of the servers did not answer, the first
}

const exampleAddresses = 3

func (a *app) compareCommand() *cobra.Command {
	var before, after, queries, log, agent string
	var most, jobs int
	cmd := &cobra.Command{
		Use:   "compare --old URL --new URL --queries FILE | --log FILE",
		Short: "Do two servers answer clients the same?",
		Long: `compare asks two servers what clients ask, from a file of addresses or the log of a web server, and compares status and
body byte for byte. What differs is grouped by what clients get from the one and the other. Equal requests are asked once and
counted. The exit code is 1 if anything differs, or could not be asked.`,
		Example: `  ausd compare --old https://aus5.mozilla.org --new http://127.0.0.1:8090 --log access.log
  ausd compare --old https://aus.example.org --new https://new.example.org --queries queries.txt --json | jq .groups`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bases := [2]string{}
			for i, b := range []struct{ flag, text string }{{"--old", before}, {"--new", after}} {
				u, err := url.Parse(b.text)
				if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
					return cli.Usagef("%s %q: want http or https, and a host", b.flag, b.text)
				}
				bases[i] = strings.TrimSuffix(b.text, "/")
			}
			list, err := readQueries(queries, log, most)
			if err != nil {
				return err
			}
			c, err := compare(cmd.Context(), newClient(), bases, list, agent, jobs)
			if err != nil {
				return err
			}
			err = a.Print(c, func(w *cli.Printer) {
				for _, g := range c.Groups {
					w.Printf("%d clients: %s instead of %s\n", g.Clients, g.New, g.Old)
					for _, e := range g.Examples {
						w.Printf("    %s\n", e)
					}
				}
				if c.Complaint != "" {
					w.Printf("%d clients could not be asked for: %s\n", c.Unasked, c.Complaint)
				}
				w.Printf("%d queries of %d clients: %d get the same, %d something else\n", c.Queries, c.Clients, c.Equal, c.Differ)
			})
			if err == nil && c.Differ+c.Unasked > 0 {
				return cli.ErrNo
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&before, "old", "", "address of the server that is right")
	flags.StringVar(&after, "new", "", "address of the server that is compared with it")
	flags.StringVar(&queries, "queries", "", "file with addresses of requests, one a line (- is standard input)")
	flags.StringVar(&log, "log", "", "log of a web server that has clients' requests in it (- is standard input)")
	flags.StringVar(&agent, "user-agent", "", "User-Agent to ask with")
	flags.IntVar(&most, "most", 100_000, "ask at most so many different requests")
	flags.IntVar(&jobs, "jobs", 8, "ask so many at a time")
	return cmd
}

// compare asks both servers everything.
func compare(ctx context.Context, c *http.Client, bases [2]string, list []counted, agent string, jobs int) (comparison, error) {
	result := comparison{Queries: len(list), Groups: []difference{}}
	groups := map[[2]string]*difference{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, jobs))
	for _, q := range list {
		result.Clients += q.n
		g.Go(func() error {
			var answers [2]answer
			for i, base := range bases {
				var err error
				if answers[i], err = ask(ctx, c, base+q.path, agent); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					mu.Lock()
					defer mu.Unlock()
					result.Unasked += q.n
					result.Complaint = cmp.Or(result.Complaint, err.Error())
					return nil
				}
			}
			mu.Lock()
			defer mu.Unlock()
			x, y := &answers[0], &answers[1]
			if x.Status == y.Status && bytes.Equal(x.Body, y.Body) {
				result.Equal += q.n
				return nil
			}
			result.Differ += q.n
			key := [2]string{x.summary(), y.summary()}
			if key[0] == key[1] {
				key[1] += ", but other bytes"
			}
			if groups[key] == nil {
				groups[key] = &difference{Old: key[0], New: key[1]}
			}
			d := groups[key]
			d.Clients += q.n
			if len(d.Examples) < exampleAddresses {
				d.Examples = append(d.Examples, q.path)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return result, err
	}
	for _, d := range groups {
		slices.Sort(d.Examples)
		result.Groups = append(result.Groups, *d)
	}
	slices.SortFunc(result.Groups, func(x, y difference) int {
		return cmp.Or(cmp.Compare(y.Clients, x.Clients), strings.Compare(x.Old, y.Old), strings.Compare(x.New, y.New))
	})
	return result, nil
}

package main

import (
	"bufio"
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
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// source is where commands get rules and releases from: a running server, or a file.
type source struct {
	c      client
	at     string
	rules  string
	number int
	data   serveFlags
	base   *url.URL // under which clients reach the server's own files; nil is not known
}

func (s *source) flags(cmd *cobra.Command) {
	s.c.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&s.at, "at", "", "number of a snapshot of the server, or a time (2026-11-30T12:00:00Z)")
	flags.StringVar(&s.rules, "rules", "", "file with rules and releases, instead of a server")
	flags.StringVar(&s.data.data, "data", "", "data directory of a server that is not running, instead of one that is")
	flags.StringVar(&s.data.url, "url", "", "with --data: scheme and host under which clients reach its files")
	flags.IntVar(&s.number, "document", 1, "which document of the file, counted from 1")
}

// open compiles what the source has.
func (s *source) open(ctx context.Context) (*aus.Snapshot, []aus.Problem, error) {
	if s.rules != "" {
		return openRules(s.rules, s.number)
	}
	if s.data.data != "" {
		return s.openData(ctx)
	}
	var status struct {
		URL string `json:"url"`
	}
	if err := s.c.call(ctx, http.MethodGet, "/admin/v1/status", nil, 0, &status); err != nil {
		return nil, nil, err
	}
	own := ""
	if u, err := url.Parse(status.URL); err == nil {
		own, s.base = u.Host, u
	}
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, nil, err
	}
	snapshot, problems := aus.Compile(objects.Config(own))
	return snapshot, problems, nil
}

// objects asks a running server for everything.
func (s *source) objects(ctx context.Context) (*state.State, error) {
	var objects []*state.Object
	for _, k := range state.Kinds() {
		var list []struct {
			Key  string          `json:"key"`
			Body json.RawMessage `json:"body"`
		}
		if err := s.c.call(ctx, http.MethodGet, "/admin/v1/objects/"+string(k)+"?bodies=true&at="+url.QueryEscape(s.at), nil, 0, &list); err != nil {
			return nil, err
		}
		for _, o := range list {
			object, err := state.NewObject(state.Ref{Kind: k, Key: o.Key}, o.Body)
			if err != nil {
				return nil, err
			}
			objects = append(objects, object)
		}
	}
	return state.New(objects), nil
}

// openData compiles what is published in a data directory, or was.
func (s *source) openData(ctx context.Context) (snapshot *aus.Snapshot, problems []aus.Problem, err error) {
	c, err := s.data.load()
	if err != nil {
		return nil, nil, err
	}
	opts, err := c.options(io.Discard)
	if err != nil {
		return nil, nil, err
	}
	s.base = opts.URL
	file := filepath.Join(opts.Dir, "ausd.db")
	if _, err := os.Stat(file); err != nil {
		return nil, nil, err
	}
	b, err := book.Open(ctx, file, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	head, err := b.Head(ctx)
	if s.at != "" {
		seq, errNumber := strconv.ParseInt(s.at, 10, 64)
		if errNumber != nil {
			return nil, nil, cli.Usagef("--at %q: want the number of a snapshot with --data", s.at)
		}
		head, err = b.Snapshot(ctx, seq)
	}
	if err != nil {
		return nil, nil, err
	}
	st, err := b.State(ctx, head.Seq, nil)
	if err != nil {
		return nil, nil, err
	}
	snapshot, problems = aus.Compile(st.Config(opts.URL.Host))
	return snapshot, problems, nil
}

// expectation is what one client is to get.
type expectation struct {
	line  int
	url   string
	query aus.Query
	words []string
	dice  int
}

// checkResult is what check found.
type checkResult struct {
	Expectations int      `json:"expectations"` // how many there are
	Broken       []broken `json:"broken"`       // those that do not hold
	Errors       []string `json:"errors"`       // of the rules
}

// broken is an expectation that does not hold.
type broken struct {
	Line   int    `json:"line"`
	URL    string `json:"url"`
	Wanted string `json:"wanted"`
	Gets   string `json:"gets"`
}

// readExpectations reads lines of an address and what is to hold of the answer.
func readExpectations(r io.Reader, name string) ([]expectation, error) {
	var list []expectation
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		bad := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: %s", name, n, fmt.Sprintf(format, args...))
		}
		q, ok := aus.ParseURL(fields[0], nil)
		if !ok {
			return nil, bad("%q is no address of a client's request", fields[0])
		}
		e := expectation{line: n, url: fields[0], query: q}
		for _, word := range fields[1:] {
			key, value, has := strings.Cut(word, "=")
			switch key {
			case "none", "update", "partial", "complete":
				if has {
					return nil, bad("%q: %s has no value", word, key)
				}
			case "version", "release", "outcome", "rule":
				if value == "" {
					return nil, bad("%q: want %s=…", word, key)
				}
			case "dice":
				dice, err := strconv.Atoi(value)
				if err != nil || dice < 0 || dice > 99 {
					return nil, bad("%q: want dice=0 to dice=99", word)
				}
				e.dice = dice
				continue
			default:
				return nil, bad("%q: want some of none, update, partial, complete, version=, release=, rule=, outcome=, dice=", word)
			}
			e.words = append(e.words, word)
		}
		if len(e.words) == 0 {
			return nil, bad("what is this client to get?")
		}
		list = append(list, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: there is no expectation in it", name)
	}
	return list, nil
}

// check says whether an expectation holds, and what the client gets.
func (e *expectation) check(s *aus.Snapshot) (gets string, ok bool) {
	a := s.Answer(e.query, aus.Env{Dice: func() int { return e.dice }})
	an := answer{Status: a.Status, Body: a.Body}
	gets, version := an.summary(), ""
	if offers, err := an.offers(); err == nil && len(offers) > 0 {
		version = cmp.Or(offers[0].AppVersion, offers[0].DisplayVersion)
	}
	update, rule := a.Outcome == aus.OutcomeUpdate, ""
	if a.Rule != nil {
		rule = strconv.FormatInt(a.Rule.ID, 10)
		gets += ", rule " + rule
	}
	if a.Release != "" {
		gets += ", release " + a.Release
	}
	ok = true
	for _, word := range e.words {
		key, value, _ := strings.Cut(word, "=")
		ok = ok && map[string]bool{
			"none": !update, "update": update, "partial": update && a.Partial, "complete": update && a.Complete && !a.Partial,
			"version": version == value, "release": update && a.Release == value, "outcome": string(a.Outcome) == value, "rule": rule == value,
		}[key]
	}
	return gets, ok
}

func (a *app) checkCommand() *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Do clients get what a text file expects?",
		Long: `check reads expectations, one a line: the address of a client's request and what is to hold of the answer. It asks the rules and
releases of a running server, of one of its snapshots, or of a file, and says which expectation does not hold; then the exit code
is 1. It is 1, too, where the rules have an error.

Words, of which all must hold:
  none               no update
  update             an update
  partial            with a partial
  complete           with a complete alone
  version=91.0       of this version
  release=Fox-91.0   of this release
  rule=12            by this rule
  outcome=throttled  what became of the query
  dice=50            what the die of a throttled rule shows (0 if it is left out)
What follows # is for people. FILE may be - for standard input.`,
		Example: `  ausd check expectations.txt
  ausd check --rules rules.json expectations.txt

  expectations.txt:
    /update/3/Fox/90.0/20240301000000/Linux/de/release/Linux/default/default/update.xml  version=91.0 partial
    /update/3/Fox/91.0/20250401000000/Linux/de/release/Linux/default/default/update.xml  none   # it is the newest`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := io.Reader(os.Stdin)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			list, err := readExpectations(in, args[0])
			if err != nil {
				return err
			}
			snapshot, problems, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			result := checkResult{len(list), []broken{}, []string{}}
			for _, p := range problems {
				if p.Severity == aus.SeverityError {
					result.Errors = append(result.Errors, p.String())
				}
			}
			for i := range list {
				e := &list[i]
				if gets, ok := e.check(snapshot); !ok {
					result.Broken = append(result.Broken, broken{e.line, e.url, strings.Join(e.words, " "), gets})
				}
			}
			err = a.Print(result, func(w *cli.Printer) {
				for _, text := range result.Errors {
					w.Printf("error: %s\n", text)
				}
				for _, b := range result.Broken {
					w.Printf("%s:%d: wanted %s, gets %s\n  %s\n", args[0], b.Line, b.Wanted, b.Gets, b.URL)
				}
				w.Printf("%d expectations, %d do not hold\n", result.Expectations, len(result.Broken))
			})
			if err == nil && len(result.Broken)+len(result.Errors) > 0 {
				return cli.ErrNo
			}
			return err
		},
	}
	s.flags(cmd)
	return cmd
}

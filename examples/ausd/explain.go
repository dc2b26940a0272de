package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/aus/replay"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// explained is what explain prints as JSON.
type explained struct {
	Outcome  aus.Outcome      `json:"outcome"`
	Status   int              `json:"status"`
	Body     string           `json:"body"`
	Rule     int64            `json:"rule,omitempty"`
	Release  string           `json:"release,omitempty"`
	Quirks   []string         `json:"quirks,omitempty"`
	Rules    []aus.Considered `json:"rules"`
	Problems []aus.Problem    `json:"problems"`
}

func (a *app) explainCommand() *cobra.Command {
	var rules, agent, at string
	var number, dice int
	var c client
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Say what a client gets, and why",
		Long: `explain answers the address of a client's request, and says of each rule of its product which column is the first
that does not match. The address is that of app.update.url with everything filled in, with or without scheme and host.

A running server says what it answers, now or as of --at. With --rules the rules and releases come from a file, in the
form that replay reads; of several documents the one of --document. Errors among them are printed first.`,
		Example: `  ausd explain /update/3/Firefox/90.0/20240301000000/Linux_x86_64-gcc3/en-US/release/Linux/default/default/update.xml
  ausd explain --rules rules.json /update/3/Firefox/90.0/20240301000000/Linux_x86_64-gcc3/en-US/release/Linux/default/default/update.xml
  ausd explain --json --rules rules.json "$URL" | jq .outcome`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dice < 0 || dice > 99 {
				return cli.Usagef("--dice %d: want 0 to 99", dice)
			}
			q, ok := aus.ParseURL(args[0], http.Header{"User-Agent": {agent}})
			if !ok {
				return cli.Usagef("%q is no address of a client's request", args[0])
			}
			if rules == "" {
				return a.explainServer(cmd.Context(), &c, url.Values{"url": {args[0]}, "user_agent": {agent}, "dice": {strconv.Itoa(dice)}, "at": {at}})
			}
			s, problems, err := openRules(rules, number)
			if err != nil {
				return err
			}
			return a.explain(s, problems, q, aus.Env{Dice: func() int { return dice }})
		},
	}
	c.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&at, "at", "", "number of a snapshot of the server, or a time (2026-11-30T12:00:00Z)")
	flags.StringVar(&rules, "rules", "", "file with rules and releases")
	flags.IntVar(&number, "document", 1, "which document of the file, counted from 1")
	flags.StringVar(&agent, "user-agent", "", "User-Agent of the client (tells PowerPC from Intel)")
	flags.IntVar(&dice, "dice", 0, "what the die of a throttled rule shows, 0 to 99")
	return cmd
}

// explainServer asks a running server.
func (a *app) explainServer(ctx context.Context, c *client, q url.Values) error {
	var x struct {
		Snapshot int64    `json:"snapshot"`
		Outcome  string   `json:"outcome"`
		Body     string   `json:"body"`
		Rule     int64    `json:"rule"`
		Release  string   `json:"release"`
		Quirks   []string `json:"quirks"`
		Rules    []struct {
			Rule    int64  `json:"rule"`
			Column  string `json:"column"`
			Decides bool   `json:"decides"`
		} `json:"rules"`
	}
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/admin/v1/explain?"+q.Encode(), nil, 0, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return err
	}
	return a.Print(raw, func(w *cli.Printer) {
		for _, r := range x.Rules {
			w.Printf("rule %d: %s\n", r.Rule, considered(r.Column, r.Decides))
		}
		writeOutcome(w, x.Outcome, x.Rule, x.Release, x.Quirks)
		w.Printf("%s\n", x.Body)
	})
}

// writeOutcome writes the line that sums an answer up.
func writeOutcome(w *cli.Printer, outcome string, rule int64, release string, quirks []string) {
	w.Printf("outcome: %s", outcome)
	if rule != 0 {
		w.Printf(", rule %d", rule)
	}
	if release != "" {
		w.Printf(", release %s", release)
	}
	if len(quirks) > 0 {
		w.Printf(" (Balrog may answer otherwise: %s)", strings.Join(quirks, ", "))
	}
	w.Printf("\n")
}

// openRules compiles one document of a file.
func openRules(name string, number int) (*aus.Snapshot, []aus.Problem, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	documents, _, err := replay.Read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if number < 1 || number > len(documents) {
		return nil, nil, cli.Usagef("--document %d: %s has %d", number, name, len(documents))
	}
	s, problems := aus.Compile(documents[number-1].Config)
	return s, problems, nil
}

func (a *app) explain(s *aus.Snapshot, problems []aus.Problem, q aus.Query, env aus.Env) error {
	x := s.Explain(q, env)
	result := explained{
		Outcome: x.Answer.Outcome, Status: x.Answer.Status, Body: string(x.Answer.Body), Release: x.Answer.Release,
		Rules: append([]aus.Considered{}, x.Rules...), Problems: append([]aus.Problem{}, problems...),
	}
	if x.Answer.Rule != nil {
		result.Rule = x.Answer.Rule.ID
	}
	for _, quirk := range x.Answer.Quirks.List() {
		result.Quirks = append(result.Quirks, quirk.String())
	}
	return a.Print(result, func(w *cli.Printer) {
		for _, p := range problems {
			if p.Severity == aus.SeverityError {
				w.Printf("%s\n", p)
			}
		}
		if f := x.Answer.Shutoff; f != nil {
			w.Printf("shut off: product %q, channel %q: %s\n", f.Product, f.Channel, f.Comment)
		}
		for _, c := range x.Rules {
			w.Printf("rule %d: %s\n", c.Rule.ID, considered(string(c.Column), c.Decides))
		}
		writeOutcome(w, string(result.Outcome), result.Rule, result.Release, result.Quirks)
		w.Printf("%s\n", result.Body)
	})
}

// considered says what became of a rule.
func considered(column string, decides bool) string {
	switch {
	case decides:
		return "decides"
	case column == "":
		return "matches, but another one comes first"
	}
	return "does not match by " + column
}

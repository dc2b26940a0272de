package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

func (a *app) previewCommand() *cobra.Command {
	var s source
	var draft int64
	var to, queries, log string
	var most int
	cmd := &cobra.Command{
		Use:   "preview --draft N | --to FILE | --rules FILE --to FILE",
		Short: "What would a change do to clients?",
		Long: `preview compares what clients get now, from a running server (or one of its snapshots, a data directory, a file), with what they would
get after a draft of the server, or by the rules in another file. It asks for every known build on every channel that a rule names, or what
recorded clients asked: a file of addresses (--queries) or the log of a web server (--log). What changes is counted and grouped, with examples.
Throttled rules are taken to give everybody the mapping.

The exit code is 1 if clients lose an update or a partial, or if the result could not be served.`,
		Example: `  ausd preview --draft 7 --log access.log
  ausd preview --to rules.json                          rules of a file instead of those of the server
  ausd preview --rules main.json --to branch.json       two files, for rules that are kept in git`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (draft == 0) == (to == "") {
				return cli.Usagef("want --draft or --to")
			}
			if draft != 0 && (s.rules != "" || s.data.data != "") {
				return cli.Usagef("--draft is of a running server, without --rules and --data")
			}
			before, _, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			var after *aus.Snapshot
			if to != "" {
				after, _, err = openRules(to, 1)
			} else {
				after, err = s.draft(cmd, draft)
			}
			if err != nil {
				return err
			}
			asked, cut, err := clientsOf(before, after, queries, log, most)
			if err != nil {
				return err
			}
			p, err := server.Compare(cmd.Context(), before, after, asked)
			if err != nil {
				return err
			}
			p.Cut = cut
			err = a.Print(p, func(w *cli.Printer) {
				for _, g := range p.Groups {
					w.Printf("%d clients: %s instead of %s\n", g.Clients, g.After, g.Before)
					for _, e := range g.Examples {
						w.Printf("    %s\n", e)
					}
				}
				w.Printf("of %d clients %d change: %d lose the update, %d gain one, %d lose their partial, %d gain one\n",
					p.Clients, p.Changed, p.LoseUpdate, p.GainUpdate, p.LosePartial, p.GainPartial)
				if p.Cut {
					w.Printf("there are more builds than were asked for\n")
				}
				if p.Refused != "" {
					w.Printf("refused: %s\n", p.Refused)
				}
			})
			if err == nil && (p.LoseUpdate+p.LosePartial > 0 || p.Refused != "") {
				return cli.ErrNo
			}
			return err
		},
	}
	s.flags(cmd)
	flags := cmd.Flags()
	flags.Int64Var(&draft, "draft", 0, "number of a draft of the server")
	flags.StringVar(&to, "to", "", "file with the rules and releases to compare with")
	flags.StringVar(&queries, "queries", "", "file with addresses of requests, one a line (- is standard input)")
	flags.StringVar(&log, "log", "", "log of a web server that has clients' requests in it (- is standard input)")
	flags.IntVar(&most, "most", 100_000, "take at most so many different requests of it")
	return cmd
}

// clientsOf returns what is asked: recorded queries, or those of every known build.
func clientsOf(before, after *aus.Snapshot, queries, log string, most int) (asked []server.Asked, cut bool, err error) {
	if queries == "" && log == "" {
		list, cut := server.Clients(before, after)
		for _, q := range list {
			asked = append(asked, server.Asked{Query: q, N: 1})
		}
		return asked, cut, nil
	}
	list, err := readQueries(queries, log, most)
	if err != nil {
		return nil, false, err
	}
	for _, c := range list {
		if q, ok := aus.ParseURL(c.path, nil); ok {
			asked = append(asked, server.Asked{Query: q, N: c.n, URL: c.path})
		}
	}
	return asked, false, nil
}

// draft compiles what a draft of the server would make of what is there.
func (s *source) draft(cmd *cobra.Command, number int64) (*aus.Snapshot, error) {
	var d struct {
		Operations []state.Operation `json:"operations"`
	}
	if err := s.c.call(cmd.Context(), http.MethodGet, fmt.Sprintf("/admin/v1/drafts/%d", number), nil, 0, &d); err != nil {
		return nil, err
	}
	objects, err := s.objects(cmd.Context())
	if err != nil {
		return nil, err
	}
	next, _, err := objects.Apply(d.Operations)
	if err != nil {
		return nil, fmt.Errorf("draft %d on what is published: %w", number, err)
	}
	own := ""
	if s.base != nil {
		own = s.base.Host
	}
	snapshot, _ := aus.Compile(next.Config(own))
	return snapshot, nil
}

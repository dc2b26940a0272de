package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/aus/replay"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/story"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// replayTotals is what replay counts.
type replayTotals struct {
	Documents int `json:"documents"`
	Queries   int `json:"queries"`
	Blobs     int `json:"blobs"`
	Equal     int `json:"equal"`
	Allowed   int `json:"allowed"`   // different, as the mode allows
	Different int `json:"different"` // different, as the mode does not allow
	LeftOut   int `json:"left_out"`  // documents of other kinds
	Stories   int `json:"stories"`
	Steps     int `json:"steps"` // of stories
	// Stories about what the server does not have: their writes of it are asked, and must be refused.
	LeftOutStories int `json:"left_out_stories"`
	LeftOutSteps   int `json:"left_out_steps"`
	Unstable       int `json:"not_stable"` // answers that the recorded server itself gives now this way, now that
}

// replayDifference is one answer that is not the recorded one.
type replayDifference struct {
	File     string   `json:"file"`
	Document string   `json:"document"`
	Query    string   `json:"query,omitempty"`
	Step     *int     `json:"step,omitempty"`
	Differs  []string `json:"differs"`
	Allowed  string   `json:"allowed,omitempty"`
	text     string
}

// replayResult is what replay found.
type replayResult struct {
	Totals      replayTotals       `json:"totals"`
	Differences []replayDifference `json:"differences"` // those that are not allowed, with --all all of them
}

func (a *app) replayCommand() *cobra.Command {
	var strict, all bool
	cmd := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Ask again what recorded clients asked, and compare the answers",
		Long: `replay reads documents of rules, releases, queries and the answers that a server gave to them, asks the queries
and compares: status, type, body, recorded headers, rule. Documents of one blob with a verdict are compared with what
validation says. Every difference is printed, then the totals; the exit code is 1 if there is one that is not allowed.

With --strict Mozilla's Balrog is imitated, faults included, and no difference is allowed. Without it a difference is
allowed where it comes from a fault of Balrog's that is mended here; --all prints those, too. Answers that the recorded server
itself gives now this way, now that, are not compared.

Stories of Balrog's administration API are played step by step on a server of their own, whose clock goes on by a second a
step; a scheduled change that Balrog enacts early is refused, and then happens at its time. Stories about what ausd does not have (users,
permissions and required sign-offs, which are configuration, and writing releases by version 1) are counted apart. With --strict stories are left out.`,
		Example: `  ausd replay --strict recorded/*.json
  ausd replay --all recorded.json
  ausd replay --json recorded.json | jq .totals`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var totals replayTotals
			differences := []replayDifference{}
			for _, name := range args {
				more, err := replayFile(name, strict, &totals)
				if err != nil {
					return err
				}
				differences = append(differences, more...)
				if strict {
					continue
				}
				if more, err = replayStories(cmd.Context(), name, &totals); err != nil {
					return err
				}
				differences = append(differences, more...)
			}
			shown := differences[:0:0]
			for _, d := range differences {
				if d.Allowed == "" || all {
					shown = append(shown, d)
				}
			}
			err := a.Print(replayResult{totals, append([]replayDifference{}, shown...)}, func(w *cli.Printer) {
				for _, d := range shown {
					w.Printf("%s: %s: %s\n", d.File, d.Document, d.text)
					if d.Allowed != "" {
						w.Printf("    allowed: %s\n", d.Allowed)
					}
				}
				w.Printf("%d documents: %d queries, %d blobs: %d equal, %d different as allowed, %d not stable, %d different\n",
					totals.Documents, totals.Queries, totals.Blobs, totals.Equal, totals.Allowed, totals.Unstable, totals.Different)
				if totals.Stories > 0 {
					w.Printf("of these %d steps of %d stories; %d stories left out with %d steps\n", totals.Steps, totals.Stories, totals.LeftOutStories, totals.LeftOutSteps)
				}
				if totals.LeftOut > 0 {
					w.Printf("%d documents of other kinds left out\n", totals.LeftOut)
				}
			})
			if err == nil && totals.Different > 0 {
				return cli.ErrNo
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "imitate Balrog, faults included")
	cmd.Flags().BoolVar(&all, "all", false, "print differences that are allowed, too")
	return cmd
}

// replayStories plays the stories of a file and returns the answers that differ.
func replayStories(ctx context.Context, name string, totals *replayTotals) (differences []replayDifference, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stories, err := story.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	totals.LeftOut -= len(stories)
	for i := range stories {
		s := &stories[i]
		results, err := playStory(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		left := s.LeftOut()
		if left {
			totals.LeftOutStories++
			totals.LeftOutSteps += len(s.Steps)
		} else {
			totals.Stories++
			totals.Steps += len(results)
		}
		for _, r := range results {
			switch {
			case len(r.Differences) == 0:
				if !left {
					totals.Equal++
				}
				continue
			case r.Allowed != "":
				totals.Allowed++
			default:
				totals.Different++
			}
			differences = append(differences, replayDifference{
				File: name, Document: s.Title, Query: r.Step.Method + " " + r.Step.Path, Step: &r.Number, Differs: r.Differences, Allowed: r.Allowed, text: r.String(),
			})
		}
	}
	return differences, nil
}

// playStory plays one story in a directory of its own.
func playStory(ctx context.Context, s *story.Story) (results []story.Result, err error) {
	dir, err := os.MkdirTemp("", "ausd-story-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return s.Run(ctx, dir)
}

// replayFile replays one file and returns the answers that differ.
func replayFile(name string, strict bool, totals *replayTotals) ([]replayDifference, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	documents, skipped, err := replay.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	totals.LeftOut += skipped
	var differences []replayDifference
	add := func(d replayDifference) {
		d.File = name
		if d.Allowed != "" {
			totals.Allowed++
		} else {
			totals.Different++
		}
		differences = append(differences, d)
	}
	for i := range documents {
		d := &documents[i]
		totals.Documents++
		if d.Blob != nil {
			totals.Blobs++
			difference, allowed := d.Judge(strict)
			if difference == "" {
				totals.Equal++
				continue
			}
			add(replayDifference{Document: d.Title, Differs: []string{difference}, Allowed: allowed, text: difference})
			continue
		}
		for _, r := range d.Run(strict) {
			totals.Queries++
			switch {
			case len(r.Differences) > 0:
				add(replayDifference{Document: d.Title, Query: r.Query.Path, Differs: r.Differences, Allowed: r.Allowed, text: r.String()})
			case r.Recorded.Unstable:
				totals.Unstable++
			default:
				totals.Equal++
			}
		}
	}
	return differences, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/internal/filelock"
)

// madePartial is what make prints of one partial.
type madePartial struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Target string `json:"target"`
	Locale string `json:"locale"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

func (a *app) makeCommand() *cobra.Command {
	var f serveFlags
	var o server.Addition
	cmd := &cobra.Command{
		Use:   "make [FILE…]",
		Short: "Add completes and make the partials that are lacking, once, without serving",
		Long: `make does in one run what the server does all the time: it adds the complete updates that are given, makes the partials from the
last builds and those that clients asked for, proves them, and publishes them in the data directory. No server may be running there. With export
behind it a build system makes a site of files.

The exit code is 1 if a partial could not be made, or may not be published.`,
		Example: `  ausd make --data state --url https://updates.example.org old.complete.mar new.complete.mar
  ausd export --data state --url https://updates.example.org --format plain public`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, opts, err := f.options(a.Stderr)
			if err != nil {
				return err
			}
			opts.PublishMade = time.Millisecond
			var list []book.Demand
			err = cli.Interruptible(cmd.Context(), func(ctx context.Context) error {
				list, err = a.makeAll(ctx, c, opts, args, o)
				return err
			})
			if err != nil {
				return err
			}
			wrong := false
			partials := []madePartial{}
			for _, d := range list {
				wrong = wrong || d.State != book.Made
				partials = append(partials, madePartial{d.From.Release, d.To.Release, d.To.Target, d.To.Locale, d.State, d.Reason})
			}
			err = a.Print(partials, func(w *cli.Printer) {
				for _, p := range partials {
					w.Printf("%s: %s to %s, %s, %s", p.State, p.From, p.To, p.Target, p.Locale)
					if p.Reason != "" {
						w.Printf(": %s", p.Reason)
					}
					w.Printf("\n")
				}
			})
			if err == nil && wrong {
				return cli.ErrNo
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Channel, "channel", "", "channel that clients ask with")
	cmd.Flags().StringVar(&o.Target, "target", "", "build target that clients ask with")
	cmd.Flags().StringVar(&o.Locale, "locale", "", "locale of the builds")
	return cmd
}

// makeAll opens the data directory, adds files and makes what is wanted.
func (a *app) makeAll(ctx context.Context, c *config, opts server.Options, files []string, o server.Addition) (list []book.Demand, err error) {
	s, closed, err := openData(ctx, c, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closed()) }()
	for _, name := range files {
		if err := addHere(ctx, s, name, o); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	const most = 10_000
	return s.MakeAll(ctx, most)
}

// addHere adds a file to a server in this process.
func addHere(ctx context.Context, s *server.Server, name string, o server.Addition) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	kept, _, err := s.Upload(ctx, plain(filepath.Base(name)), f)
	if err != nil {
		return err
	}
	o.SHA512 = kept.SHA512
	_, err = s.Add(ctx, "ausd make", o)
	return err
}

// lockData makes a data directory and keeps others from it.
func lockData(dir string) (*filelock.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := filelock.Try(filepath.Join(dir, oneInstance))
	if errors.Is(err, filelock.ErrBusy) {
		return nil, fmt.Errorf("another ausd serves from %s", dir)
	}
	return lock, err
}

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// gcResult is what gc removed, or would remove.
type gcResult struct {
	Files []gcFile `json:"files"`
	Bytes int64    `json:"bytes"` // of all of them
	Kept  int      `json:"kept"`  // how many files stay
}

type gcFile struct {
	SHA512 string    `json:"sha512"`
	Name   string    `json:"name"`
	Size   int64     `json:"size"` // bytes
	Added  time.Time `json:"added"`
}

func (a *app) gcCommand() *cobra.Command {
	var c client
	var days, newest int
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove files that no client can be led to any more",
		Long: `gc lets a running server remove MAR files. It keeps what releases and made partials of the snapshots of the last days
name (so that going back works), what was added in these days, and the newest files.`,
		Example: `  ausd gc --dry-run
  ausd gc --days 90`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 0 || newest < 0 {
				return cli.Usagef("--days and --newest: want 0 or more")
			}
			var g gcResult
			if err := c.post(cmd.Context(), "/admin/v1/gc", map[string]any{"days": days, "newest": newest, "dry_run": dry}, &g); err != nil {
				return err
			}
			return a.Print(g, func(w *cli.Printer) {
				for _, f := range g.Files {
					w.Printf("%s  %s  %d bytes, added %s\n", f.SHA512[:16], f.Name, f.Size, f.Added.Format(time.DateOnly))
				}
				verb := "removed"
				if dry {
					verb = "would be removed"
				}
				w.Printf("%d files with %d bytes %s, %d kept\n", len(g.Files), g.Bytes, verb, g.Kept)
			})
		},
	}
	c.flags(cmd)
	flags := cmd.Flags()
	flags.IntVar(&days, "days", 30, "keep what snapshots of so many days name")
	flags.IntVar(&newest, "newest", 10, "keep so many of the newest files")
	flags.BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

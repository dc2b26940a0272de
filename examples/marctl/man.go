package main

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "man [DIR]",
		Short: "Write manual pages, one per command, into a directory (or marctl's own to standard output)",
		Example: `  marctl man /usr/local/share/man/man1
  marctl man | man -l -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // no date: the same pages from the same source
			header := &doc.GenManHeader{Title: "MARCTL", Section: "1", Source: "Senbonzakura", Manual: "Senbonzakura"}
			if len(args) == 0 {
				var page bytes.Buffer
				if err := doc.GenMan(root, header, &page); err != nil {
					return err
				}
				_, err := page.WriteTo(a.stdout)
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: header.Source, Manual: header.Manual}, args[0]); err != nil {
				return err
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "marctl*.1"))
			if err != nil {
				return err
			}
			return a.summary(pages, func(w *printer) { w.printf("%d pages in %s\n", len(pages), args[0]) })
		},
	}
	takes(cmd, changes)
	return cmd
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manDate stands in manual pages: the day of their last change, not that of the build, so that the same source makes the
// same pages.
const manDate = "2026-12-01"

// manResult is what man DIR prints as JSON.
type manResult struct {
	Pages []string `json:"pages"`
}

func (a *app) manCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "man [DIR]",
		Short: "Write manual pages, one per command, into a directory (or marctl's own to standard output)",
		Example: `  marctl man /usr/local/share/man/man1
  marctl man | man -l -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "-" {
				_, err := io.WriteString(a.stdout, manPage(cmd.Root()))
				return err
			}
			if err := makeDir(args[0]); err != nil {
				return err
			}
			var result manResult
			for _, c := range manCommands(cmd.Root()) {
				name := filepath.Join(args[0], manName(c)+".1")
				err := a.writeFile(cmd.Context(), name, func(w io.Writer) error {
					_, err := io.WriteString(w, manPage(c))
					return err
				})
				if err != nil {
					return err
				}
				result.Pages = append(result.Pages, name)
			}
			return a.summary(result, func(w *printer) { w.printf("%d pages in %s\n", len(result.Pages), args[0]) })
		},
	}
	takes(cmd, changes)
	return cmd
}

// manCommands returns a command and all below it.
func manCommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			all = append(all, manCommands(sub)...)
		}
	}
	return all
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage writes the manual page of a command in the macros of man(7).
func manPage(cmd *cobra.Command) string {
	var page bytes.Buffer
	section := func(name string) { fmt.Fprintf(&page, ".SH %s\n", name) }
	fmt.Fprintf(&page, ".TH %s 1 %s Senbonzakura Senbonzakura\n", strings.ToUpper(manName(cmd)), manDate)
	section("NAME")
	fmt.Fprintf(&page, "%s \\- %s\n", manText(manName(cmd)), manText(cmd.Short))
	section("SYNOPSIS")
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() && !strings.Contains(cmd.Use, " ") {
		use = cmd.CommandPath() + " [command]"
	}
	fmt.Fprintf(&page, ".B %s\n", manText(use))
	section("DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	for i, paragraph := range strings.Split(strings.TrimSpace(long), "\n\n") {
		if i > 0 {
			page.WriteString(".PP\n")
		}
		if strings.HasPrefix(paragraph, "  ") {
			manVerbatim(&page, paragraph)
			continue
		}
		manFill(&page, paragraph)
	}
	for _, set := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"OPTIONS", cmd.NonInheritedFlags()}, {"OPTIONS OF EVERY COMMAND", cmd.InheritedFlags()}} {
		if set.flags.HasAvailableFlags() {
			section(set.title)
			set.flags.VisitAll(func(f *pflag.Flag) { manFlag(&page, f) })
		}
	}
	section("EXIT STATUS")
	manFill(&page, strings.ToUpper(exitText[:1])+exitText[1:]+".")
	if cmd.Example != "" {
		section("EXAMPLES")
		manVerbatim(&page, cmd.Example)
	}
	var see []string
	if cmd.HasParent() {
		see = append(see, manName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			see = append(see, manName(sub))
		}
	}
	if len(see) > 0 {
		section("SEE ALSO")
		for i, name := range see {
			comma := " ,"
			if i == len(see)-1 {
				comma = ""
			}
			fmt.Fprintf(&page, ".BR %s (1)%s\n", manText(name), comma)
		}
	}
	return page.String()
}

func manFlag(page *bytes.Buffer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	value, usage := pflag.UnquoteUsage(f)
	if value != "" {
		name += " " + value
	}
	if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" {
		usage += " (default " + d + ")"
	}
	fmt.Fprintf(page, ".TP\n.B %s\n", manText(name))
	manFill(page, usage)
}

// manFill writes text in lines of at most 78 letters.
func manFill(page *bytes.Buffer, text string) {
	var line []string
	length := 0
	for _, word := range strings.Fields(text) {
		word = manText(word)
		if length+len(word) > 77 && line != nil {
			page.WriteString(manLine(strings.Join(line, " ")) + "\n")
			line, length = nil, 0
		}
		line = append(line, word)
		length += len(word) + 1
	}
	page.WriteString(manLine(strings.Join(line, " ")) + "\n")
}

// manVerbatim writes lines as they are.
func manVerbatim(page *bytes.Buffer, text string) {
	page.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		line = manLine(manText(strings.TrimRight(line, "\n")))
		if line == "" {
			line = "\\&"
		}
		page.WriteString(line + "\n")
	}
	page.WriteString(".fi\n")
}

// manText quotes what roff would take for its own.
func manText(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "→", `\(->`).Replace(text)
}

// manLine keeps a line from being taken for a macro.
func manLine(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

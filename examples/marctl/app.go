package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone        = 0   // what was asked is done, or the answer is yes
	exitNo          = 1   // the answer is no, or it failed
	exitUsage       = 2   // called wrongly
	exitInterrupted = 130 // told to stop, as shells count an interrupt
)

// exitText says in help and manual pages what the exit codes mean.
const exitText = "0 done (or the answer is yes), 1 it failed (or the answer is no), 2 called wrongly, 130 interrupted"

// app is what all commands share: where output goes and the flags that every command knows.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	quiet          bool
	color          string
	workers        int

	bytesOut bool   // a file goes to standard output, and so nothing else does
	spooled  string // the temporary file with standard input
	// temporary are files that only this command needs.
	temporary []string
}

// usageError marks what the caller can only repair by calling differently.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef returns an error that ends marctl with exit code 2.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// refuseFlags returns a usage error if one of these flags was given, where it would be ignored. why goes on behind the
// flag's name.
func refuseFlags(cmd *cobra.Command, why string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usagef("--%s %s", name, why)
		}
	}
	return nil
}

// interrupted begins the message where marctl was told to stop.
const interrupted = "interrupted"

// errAnswerNo ends marctl with exit code 1 without a message of its own: the command has printed its answer.
var errAnswerNo = errors.New("the answer is no")

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, color: "auto"}
	defer a.end()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAnswerNo):
		return exitNo
	}
	code, message := exitNo, a.shown(plainWords(err, err.Error()))
	failed := failure{Error: message}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
		message += fmt.Sprintf(" (see %q)", cmd.CommandPath()+" --help")
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		code = exitInterrupted
		if !strings.HasPrefix(message, interrupted) {
			message = interrupted + ": nothing was written"
			failed.Error = message
		}
	}
	if failed.Code = code; a.json {
		// The answer goes where the caller looks for one; the message for people goes to standard error as always.
		_ = a.encode(failed) // what cannot be printed cannot be reported either
	}
	p := a.printerTo(stderr)
	p.printf("%s %s\n", p.bad("marctl:"), strings.ReplaceAll(strings.TrimSpace(message), "\n", "; "))
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "marctl",
		Short: "Make, prove, sign and look into Mozilla updates (MAR files)",
		Long: `marctl works with MAR files, the container of Mozilla's updates.

Its main job: two complete updates in, the partial update out that turns the one installation into the other,
applied and compared before anyone sees it.

A file may be "-" everywhere: standard input, or standard output, to which nothing else goes then. No output may be an
input, by whatever name.

Exit codes: ` + exitText + `.`,
		Example: `  marctl partial from.mar to.mar out.mar        make a partial update, proved
  marctl prove from.mar out.mar to.mar          prove somebody's partial update
  marctl verify out.mar --key release-primary   is it signed by this key?
  marctl lint out.mar                           what would updaters and other readers refuse?`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	root.SetVersionTemplate("marctl {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print the result as lines of JSON on standard output, errors too (docs/schemas)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, no summary; what fails is said")
	choice(root, &a.color, "color", "auto", "colours", "auto", "always", "never")
	flags.IntVar(&a.workers, "workers", 0, "how many files to work on at once (0: one per processor)")
	root.AddGroup(
		&cobra.Group{ID: "update", Title: "Updates:"},
		&cobra.Group{ID: "mar", Title: "MAR files:"},
		&cobra.Group{ID: "sign", Title: "Signatures:"},
		&cobra.Group{ID: "patch", Title: "Patches and streams:"},
		&cobra.Group{ID: "service", Title: "Caches, tools and plugins:"},
	)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"update", a.updateCommands()},
		{"mar", a.marCommands()},
		{"sign", a.signCommands()},
		{"patch", a.patchCommands()},
		{"service", a.serviceCommands()},
	} {
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(a.manCommand(), a.versionCommand())
	root.AddCommand(habitTopics()...)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	a.wrap(root)
	refuseUnknownTopics(root)
	return root
}

// wrap makes every complaint about arguments a usage error, and lets [app.prepare] look at the files of every command
// before it runs.
func (a *app) wrap(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				if strings.Contains(err.Error(), "arg(s)") { // which counts and does not say what is missing
					_, want, _ := strings.Cut(cmd.Use, " ")
					err = fmt.Errorf("want %s, got %d arguments", want, len(args))
				}
				return usageError{err}
			}
			return nil
		}
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			args, err := a.prepare(cmd, args)
			if err != nil {
				return err
			}
			return run(cmd, args)
		}
	}
	if cmd.HasSubCommands() && cmd.RunE == nil && cmd.Run == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(args[0], commandNames(cmd)))
			}
			return cmd.Help()
		}
	}
	for _, sub := range cmd.Commands() {
		a.wrap(sub)
	}
}

// refuseUnknownTopics lets help refuse a word that is no command instead of showing what was not asked for.
func refuseUnknownTopics(root *cobra.Command) {
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Args = func(_ *cobra.Command, words []string) error {
			at := root
			for _, word := range words {
				next, _, err := at.Find([]string{word})
				if err != nil || next == at {
					return usagef("unknown command %q for %q%s", word, at.CommandPath(), didYouMean(word, commandNames(at)))
				}
				at = next
			}
			return nil
		}
	}
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(append(names, sub.Name()), sub.Aliases...)
		}
	}
	return names
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  marctl version --json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionResult{version()}
			return a.print(v, func(w *printer) { w.printf("marctl %s\n", v.Version) })
		},
	}
}

// versionResult is what version prints as JSON.
type versionResult struct {
	Version string `json:"version"` // of the module, "(devel)" where it was built outside of one
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

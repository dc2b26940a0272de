package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone  = 0 // what was asked is done, or the answer is yes
	exitNo    = 1 // the answer is no, or it failed
	exitUsage = 2 // called wrongly
)

// app is what all commands share: where output goes and the flags that every command knows.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	quiet          bool
	workers        int
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
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
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
	code, message := exitNo, err.Error()
	var usage usageError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
		message += fmt.Sprintf(" (see %q)", cmd.CommandPath()+" --help")
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		if !strings.HasPrefix(message, interrupted) {
			message = interrupted + ": nothing was written"
		}
	}
	if a.json {
		// The answer goes where the caller looks for one; the message for people goes to standard error as always.
		_ = a.encode(struct { // what cannot be printed cannot be reported either
			Error string `json:"error"`
			Code  int    `json:"code"`
		}{err.Error(), code})
	}
	(&printer{w: stderr}).printf("marctl: %s\n", strings.ReplaceAll(strings.TrimSpace(message), "\n", "; "))
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "marctl",
		Short: "Make, prove, sign and look into Mozilla updates (MAR files)",
		Long: `marctl works with MAR files, the container of Mozilla's updates.

Its main job: two complete updates in, the partial update out that turns the one installation into the other,
applied and compared before anyone sees it.

Exit codes: 0 done (or the answer is yes), 1 it failed (or the answer is no), 2 called wrongly.`,
		Example: `  marctl partial from.mar to.mar out.mar      make a partial update, proved
  marctl prove from.mar out.mar to.mar        prove somebody's partial update
  marctl verify out.mar --key release-primary is it signed by this key?
  marctl lint out.mar                         what would updaters and other readers refuse?`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print the result as JSON on standard output")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, no summary")
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
	root.AddCommand(a.manCommand())
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	wrapArgs(root)
	return root
}

// wrapArgs makes every complaint about the number of arguments a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && cmd.RunE == nil && cmd.Run == nil {
		cmd.Args = nil
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// encode prints v as indented JSON on standard output.
func (a *app) encode(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// print gives the result of a command: as JSON when that was asked for, else as text makes it.
func (a *app) print(v any, text func(w *printer)) error {
	if a.json {
		return a.encode(v)
	}
	p := &printer{w: a.stdout}
	text(p)
	return p.err
}

// summary is print for commands whose real output is a file: --quiet silences the text.
func (a *app) summary(v any, text func(w *printer)) error {
	if a.quiet && !a.json {
		return nil
	}
	return a.print(v, text)
}

// printer writes text and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) println(args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, args...)
	}
}

// table writes rows with aligned columns.
func (p *printer) table(rows func(row func(cells ...any))) {
	tw := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	lines := &printer{w: tw, err: p.err}
	rows(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				lines.printf("\t")
			}
			lines.printf("%v", cell)
		}
		lines.println()
	})
	if p.err = lines.err; p.err == nil {
		p.err = tw.Flush()
	}
}

// progress shows how far a job is while standard error is a terminal; it does nothing anywhere else.
type progress struct {
	mu  sync.Mutex
	bar *progressbar.ProgressBar
}

func (a *app) newProgress(what string) *progress {
	f, ok := a.stderr.(*os.File)
	if !ok || a.quiet || !isTerminal(f) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100_000_000),
		progressbar.OptionClearOnFinish(),
	)}
}

// set moves the bar; what names the step. Safe for concurrent use.
func (p *progress) set(what string, done, total int64) {
	if p.bar == nil || total <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar.Describe(what)
	if p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(min(done, total)) // a bar that cannot be drawn is no reason to stop
}

// end removes the bar.
func (p *progress) end() {
	if p.bar == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Clear()
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

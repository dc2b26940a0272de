// Package cli is what the programs here have in common on the command line: exit codes, complaints about how they were
// called, and results for people or, with --json, for programs.
//
// A command returns nil, or an error: of [Usagef] where only calling differently helps, [ErrNo] where it has printed an answer that is no.
// [Run] turns it into a message and an exit code.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	ExitDone        = 0   // what was asked is done, or the answer is yes; for a server: it stopped because it was told to
	ExitNo          = 1   // the answer is no, or it failed
	ExitUsage       = 2   // called wrongly
	ExitInterrupted = 130 // a signal ended it before it was done, as shells count it
)

// ExitText says it for help texts.
const ExitText = "0 done (or the answer is yes, or a server was told to stop), 1 it failed (or the answer is no), 2 called wrongly, 130 interrupted"

// ErrInterrupted ends the program with [ExitInterrupted].
var ErrInterrupted = errors.New("interrupted")

// Interruptible runs what an interrupt or SIGTERM may end before it is done: the context of command ends then, and an error of
// command is [ErrInterrupted]. A server that stops in good order when it is told to does not need it.
func Interruptible(ctx context.Context, command func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx)
	if err != nil && ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// UsageError marks what the caller can only repair by calling differently.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// Usagef returns an error that ends the program with [ExitUsage].
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Lines is an error of how the program was called that says several things, each in a line of its own.
type Lines interface{ Lines() []string }

// ErrNo ends the program with [ExitNo] without a message of its own: the command has printed its answer.
var ErrNo = errors.New("the answer is no")

// Output is where the results of commands go. The zero value is not ready for use. It is not safe for concurrent use.
type Output struct {
	Stdout, Stderr io.Writer
	JSON           bool // results are for programs
}

// Failure is an error as JSON.
type Failure struct {
	Error string `json:"error"` // what went wrong, for people
	Code  int    `json:"code"`  // exit code
}

// Run executes one command line with a program's root command and returns the exit code.
func (o *Output) Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError{err} })
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	wrapArgs(root)
	root.SetArgs(append([]string{}, args...)) // nil would be taken for "those of the process"
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, ErrNo):
		return ExitNo
	}
	var lines Lines
	if errors.As(err, &lines) {
		for _, line := range lines.Lines() {
			NewPrinter(o.Stderr).Printf("%s: %s\n", root.Name(), line)
		}
		return ExitUsage
	}
	code, message := ExitNo, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	var usage UsageError
	switch {
	case errors.Is(err, ErrInterrupted):
		code = ExitInterrupted
	case errors.As(err, &usage):
		code = ExitUsage
		message += fmt.Sprintf(" (see %q)", cmd.CommandPath()+" --help")
	}
	if o.JSON {
		_ = o.Encode(Failure{err.Error(), code}) // what cannot be printed cannot be reported either
	}
	NewPrinter(o.Stderr).Printf("%s: %s\n", root.Name(), message)
	return code
}

// wrapArgs makes every complaint about the number of arguments a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return UsageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

// Encode prints v as indented JSON on standard output.
func (o *Output) Encode(v any) error {
	enc := json.NewEncoder(o.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Print gives the result of a command: as JSON when that was asked for, else as text makes it.
func (o *Output) Print(v any, text func(w *Printer)) error {
	if o.JSON {
		return o.Encode(v)
	}
	p := NewPrinter(o.Stdout)
	text(p)
	return p.err
}

// Printer writes text and keeps the first error.
type Printer struct {
	w   io.Writer
	err error
}

// NewPrinter returns a printer that writes to w.
func NewPrinter(w io.Writer) *Printer { return &Printer{w: w} }

// Printf writes text. After an error it does nothing.
func (p *Printer) Printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// Build is what is known about a program.
type Build struct{ Version, Commit, Go string }

// ThisBuild says what runs.
func ThisBuild() Build {
	b := Build{Version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}

// Terminal says whether a writer is one.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone  = 0 // what was asked is done, or the answer is yes
	exitNo    = 1 // the answer is no, or it failed
	exitUsage = 2 // called wrongly
)

// app is what all commands share.
type app struct {
	stdout, stderr io.Writer
	json           bool
}

// usageError marks what the caller can only repair by calling differently.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef returns an error that ends ausd with exit code 2.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errAnswerNo ends ausd with exit code 1 without a message of its own: the command has printed its answer.
var errAnswerNo = errors.New("the answer is no")

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // nil would be taken for "those of the process"
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAnswerNo):
		return exitNo
	}
	code, message := exitNo, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	var usage usageError
	if errors.As(err, &usage) {
		code = exitUsage
		message += fmt.Sprintf(" (see %q)", cmd.CommandPath()+" --help")
	}
	if a.json {
		_ = a.encode(struct { // what cannot be printed cannot be reported either
			Error string `json:"error"`
			Code  int    `json:"code"`
		}{err.Error(), code})
	}
	(&printer{w: stderr}).printf("ausd: %s\n", message)
	return code
}

func (a *app) root() *cobra.Command {
	var f serveFlags
	root := &cobra.Command{
		Use:   "ausd",
		Short: "Update server for Gecko products",
		Long: `ausd answers the update requests of Firefox, Thunderbird and everything else built on Gecko, by the rules and
releases of Mozilla's Balrog, serves the files, and makes the partial updates that clients lack.

Without a command it serves: without a configuration for this machine alone, with everything in the user's directories.

Exit codes: 0 done (or the answer is yes), 1 it failed (or the answer is no), 2 called wrongly.`,
		Example: `  ausd                                                                  then open http://127.0.0.1:8090/
  ausd add old.complete.mar new.complete.mar                            offer them to clients
  ausd explain --rules rules.json /update/3/Firefox/90.0/…/update.xml   what does this client get, and why?
  ausd replay --strict recorded.json                                    are these the recorded answers?`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.serve(&f)
		},
	}
	f.add(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as JSON on standard output")
	root.AddCommand(a.addCommand(), a.explainCommand(), a.replayCommand(), a.backupCommand(), a.gcCommand(), a.tokenCommand())
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

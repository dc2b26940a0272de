package cli_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// The exit code says how a command ended; what a signal ends before it is done is 130, and what is done in spite of it is not.
func TestExitCodes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signal can be sent there")
	}
	signal := func() {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(os.Interrupt)
		}
		if err != nil {
			t.Error(err)
		}
	}
	interruptible := func(end func() error) func(context.Context) error {
		return func(ctx context.Context) error {
			return cli.Interruptible(ctx, func(ctx context.Context) error {
				signal()
				<-ctx.Done()
				return end()
			})
		}
	}
	for name, c := range map[string]struct {
		command func(context.Context) error
		code    int
		says    string
	}{
		"done":                   {func(context.Context) error { return nil }, cli.ExitDone, ""},
		"no":                     {func(context.Context) error { return cli.ErrNo }, cli.ExitNo, ""},
		"failed":                 {func(context.Context) error { return errors.New("broken") }, cli.ExitNo, "program: broken"},
		"called wrongly":         {func(context.Context) error { return cli.Usagef("want %d", 1) }, cli.ExitUsage, "want 1 (see \"program --help\")"},
		"interrupted":            {interruptible(func() error { return errors.New("context canceled") }), cli.ExitInterrupted, "program: interrupted\n"},
		"interrupted, no answer": {interruptible(func() error { return cli.ErrNo }), cli.ExitInterrupted, "program: interrupted\n"},
		"done all the same":      {interruptible(func() error { return nil }), cli.ExitDone, ""},
	} {
		var out, said bytes.Buffer
		o := cli.Output{Stdout: &out, Stderr: &said}
		root := &cobra.Command{Use: "program", RunE: func(cmd *cobra.Command, _ []string) error { return c.command(cmd.Context()) }}
		if code := o.Run(t.Context(), root, nil); code != c.code || !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%s: exit code %d, said %q, want %d and %q", name, code, said.String(), c.code, c.says)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/loadtest"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

// loadOptions are the flags of loadtest.
type loadOptions struct {
	target, again, scenario, seed, tokenFile string
	list, origin, quiet                      bool
	json, html                               string
	compare                                  []string
	noise, allowed, rate, stretch            float64
	settle                                   time.Duration
}

func (a *app) loadtestCommand() *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "loadtest --target URL",
		Short: "Put a running partiald under load, and say how it stood",
		Long: `loadtest sends requests at fixed rates, whether the target keeps up or not, as a scenario says: one of those that
come with it (--list) or a file. It makes the complete updates itself. At the end everything that was asked for
must be there and right: partials are compared with their hashes and applied. What it leaves on the target are
some uploads and small partials, labelled "loadtest".

Only a target on this machine is put under load, or one that you name twice (--target and --again). The token of a
caller with the role submit comes from --token-file or $PARTIALD_TOKEN. The target's own limits hold: start it
with PARTIALD_AUTH_RATE=0, or see what it answers above them.

The exit code is 0 when all is well, 1 when something is missing or wrong, too many requests failed, or (--compare)
something became slower beyond noise, and 2 when it was called wrongly.`,
		Example: `  partiald --dev --data /tmp/try &
  partiald loadtest --target http://127.0.0.1:8080 --html load.html
  partiald loadtest --target http://127.0.0.1:8080 --scenario new --json old.json
  partiald loadtest --target http://127.0.0.1:8080 --scenario new --compare old.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.loadtest(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", "", "address of the service, such as http://127.0.0.1:8080")
	f.StringVar(&o.again, "again", "", "the same address once more, where it is not on this machine")
	f.StringVar(&o.scenario, "scenario", "mixed", "name of a scenario that comes with partiald, or a TOML file")
	f.BoolVar(&o.list, "list", false, "show the scenarios that come with partiald, and end")
	f.StringVar(&o.seed, "seed", "", "makes the complete updates; a seed that was used before asks for what is there (default: the time)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the token to send (default: $PARTIALD_TOKEN, else none)")
	f.BoolVar(&o.origin, "origin", false, "have the complete updates fetched from here, on 127.0.0.1, instead of uploading them")
	f.StringVar(&o.json, "json", "", "file for the report as JSON, which --compare reads")
	f.StringVar(&o.html, "html", "", "file for the report as a page with plots")
	f.StringArrayVar(&o.compare, "compare", nil, "an older report (JSON) to compare with; several times for several: how they differ is noise")
	f.Float64Var(&o.noise, "noise", 0.15, "how much slower, as a share, is still noise")
	f.Float64Var(&o.allowed, "errors", 0, "share of requests that may fail, such as 0.05")
	f.Float64Var(&o.rate, "rate", 1, "factor for all rates")
	f.Float64Var(&o.stretch, "time", 1, "factor for all times")
	f.DurationVar(&o.settle, "settle", 5*time.Minute, "how long jobs may take to end after the load")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not say what is done")
	return cmd
}

func (a *app) loadtest(ctx context.Context, o loadOptions) error {
	if o.list {
		return a.listScenarios()
	}
	if o.target == "" {
		return cli.UsageError{Err: errors.New("--target is missing: which service shall be put under load?")}
	}
	if !(o.noise > 0 && o.noise < 100 && o.allowed >= 0 && o.allowed <= 1 && o.settle > 0) {
		return cli.UsageError{Err: errors.New("--noise must be above 0, --errors from 0 to 1, --settle above 0")}
	}
	target, err := loadtest.Target(o.target, o.again)
	if err != nil {
		return cli.UsageError{Err: err}
	}
	s, err := scenario(o.scenario)
	if err == nil {
		s, err = s.Scale(o.rate, o.stretch)
	}
	var wrong *loadtest.ScenarioError
	if errors.As(err, &wrong) {
		return cli.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	var old []*loadtest.Report
	for _, name := range o.compare { // before the load: who named a wrong file learns it now
		r, err := readReport(name)
		if err != nil {
			return cli.UsageError{Err: err}
		}
		if _, err := loadtest.Compare([]*loadtest.Report{r}, r, loadtest.Noise{}); err != nil {
			return cli.UsageError{Err: err}
		}
		old = append(old, r)
	}
	token := a.variable("PARTIALD_TOKEN")
	if o.tokenFile != "" {
		data, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return cli.UsageError{Err: err}
		}
		token = strings.TrimSpace(string(data))
	}
	say := func(what string) {
		if !o.quiet {
			say(a.stderr, "%s …\n", what)
		}
	}
	var report *loadtest.Report
	err = cli.Interruptible(ctx, func(ctx context.Context) (err error) {
		report, err = loadtest.Run(ctx, s, loadtest.Options{Target: target, Token: token, Seed: o.seed, Origin: o.origin, Settle: o.settle, Progress: say})
		return err
	})
	if err != nil {
		return err
	}
	return a.tellLoad(ctx, o, report, old)
}

// tellLoad writes the report wherever it is wanted. The error says what is not as it should be.
func (a *app) tellLoad(ctx context.Context, o loadOptions, report *loadtest.Report, old []*loadtest.Report) error {
	failures := report.Failures(o.allowed)
	var changes []loadtest.Change
	var err error
	if len(old) > 0 {
		if changes, err = loadtest.Compare(old, report, loadtest.Noise{Share: o.noise}); err != nil {
			return err
		}
	}
	if err := report.Text(a.stdout); err != nil {
		return err
	}
	if changes != nil {
		if _, err := fmt.Fprintln(a.stdout); err != nil {
			return err
		}
		if err := loadtest.WriteChanges(a.stdout, changes); err != nil {
			return err
		}
	}
	for name, write := range map[string]func(io.Writer) error{
		o.json: report.Write,
		o.html: func(w io.Writer) error { return report.WritePage(w, failures, changes, strings.Join(o.compare, ", ")) },
	} {
		if name == "" {
			continue
		}
		if err := atomicfile.Write(ctx, name, 0o644, write); err != nil {
			return err
		}
	}
	for _, c := range loadtest.Slower(changes) {
		failures = append(failures, fmt.Sprintf("worse than before: %s was %.2f and is %.2f", c.What, c.Old, c.New))
	}
	if len(failures) > 0 {
		return errors.New("the load test is not passed:\n  " + strings.Join(failures, "\n  "))
	}
	return nil
}

// scenario finds a scenario by its name or in a file.
func scenario(name string) (loadtest.Scenario, error) {
	builtin, err := loadtest.Builtin()
	if err != nil {
		return loadtest.Scenario{}, err
	}
	var names []string
	for _, s := range builtin {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./\\") {
		return loadtest.Scenario{}, cli.UsageError{Err: fmt.Errorf("there is no scenario %q: it is one of %s, or a file", name, strings.Join(names, ", "))}
	}
	if err != nil {
		return loadtest.Scenario{}, cli.UsageError{Err: err}
	}
	return loadtest.Parse(strings.TrimSuffix(filepath.Base(name), ".toml"), data)
}

func (a *app) listScenarios() error {
	builtin, err := loadtest.Builtin()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, s := range builtin {
		fmt.Fprintf(&b, "%-9s %s\n", s.Name, s.About)
		for _, l := range s.Load {
			fmt.Fprintf(&b, "          %-8s %6.4g a second for %s\n", l.Kind, l.Rate, l.Duration)
		}
	}
	_, err = a.stdout.Write(b.Bytes())
	return err
}

func readReport(name string) (*loadtest.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := loadtest.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

func (a *app) auditCommand() *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Say whether this deployment is ready for production, and what is missing",
		Long: `audit looks at the deployment that the configuration describes: the configuration itself, who may come from where,
keys and certificates and their ages, limits, memory, disk and clock of the machine, plugins, the store (something
is written, read and removed), the running service, and the alerts in Prometheus. It makes a backup, restores it in
a scratch directory, and looks whether the history is whole and whether a partial that is made again is the same.

Nothing is signed, and nothing of the service is changed. What cannot be checked is said to be not checked.

The exit code is 0 when nothing is wrong, 1 when something is (with --strict also when something should be better),
2 when it was called wrongly, and 130 when it was interrupted.`,
		Example: `  partiald audit --config /etc/partiald/partiald.toml
  partiald audit --config /etc/partiald/partiald.toml --prometheus http://127.0.0.1:9090 --json audit.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cli.Interruptible(cmd.Context(), func(ctx context.Context) error { return a.audit(ctx, o) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.json, "json", "", "file for the report as JSON, - for standard output")
	f.StringVar(&o.prometheus, "prometheus", "", "address of the Prometheus that watches the service, to see whether its alerts are loaded")
	f.StringVar(&o.scratch, "scratch", "", "directory for the restore drill, which is made and removed in it (default: the one for temporary files)")
	f.BoolVar(&o.strict, "strict", false, "exit code 1 also for what should be better")
	f.BoolVar(&o.quick, "quick", false, "no restore drill")
	return cmd
}

type auditOptions struct {
	json, prometheus, scratch string
	strict, quick             bool
}

// Verdict is what came of a check.
type verdict string

const (
	good      verdict = "good"
	better    verdict = "better"      // should be better
	bad       verdict = "bad"         // must be mended
	unchecked verdict = "not checked" // could not be
)

// auditFinding is what came of one check.
type auditFinding struct {
	Area    string  `json:"area"`
	What    string  `json:"what"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Do      string  `json:"do,omitempty"` // the way out
}

// auditReport is what came of all.
type auditReport struct {
	Server   string         `json:"server"`
	At       time.Time      `json:"at"`
	Program  string         `json:"program"`
	Findings []auditFinding `json:"findings"`
	Count    map[string]int `json:"count"`
}

// auditor does the checks, one area after the other.
type auditor struct {
	a    *app
	o    auditOptions
	c    *config.Config
	now  time.Time
	area string
	r    auditReport
}

func (u *auditor) find(v verdict, what, do, format string, args ...any) {
	u.r.Findings = append(u.r.Findings, auditFinding{u.area, what, v, fmt.Sprintf(format, args...), do})
}

func (u *auditor) good(what, format string, args ...any) { u.find(good, what, "", format, args...) }

func (u *auditor) unchecked(what, format string, args ...any) {
	u.find(unchecked, what, "", format, args...)
}

// errorOf reports an error as something bad, and says whether there was one.
func (u *auditor) errorOf(what, do string, err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		u.find(bad, what, do, "did not end in time: %v", err)
	} else {
		u.find(bad, what, do, "%v", err)
	}
	return true
}

func (a *app) audit(ctx context.Context, o auditOptions) error {
	c, err := a.read()
	if err != nil {
		return err
	}
	u := &auditor{a: a, o: o, c: c, now: time.Now()}
	u.r = auditReport{At: u.now.UTC().Truncate(time.Second), Program: "partiald " + cli.ThisBuild().Version}
	sound := u.configuration()
	u.r.Server = c.Name
	for _, step := range []struct {
		area string
		deep bool // needs a configuration without fault
		do   func(context.Context)
	}{
		{"who may come", false, u.exposure},
		{"keys", false, u.keys},
		{"limits", false, u.limits},
		{"disk", false, u.disk},
		{"clock", false, u.clock},
		{"plugins", true, u.plugins},
		{"service", true, u.running},
		{"restore drill", true, u.drill},
		{"alerts", false, u.alerts},
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		u.area = step.area
		if step.deep && !sound {
			u.unchecked("all of it", "the configuration has to be right first")
			continue
		}
		step.do(ctx)
	}
	return u.tell(ctx)
}

// configuration looks whether the configuration can be used.
func (u *auditor) configuration() bool {
	u.area = "configuration"
	err := u.c.Finish()
	var broken *config.Error
	if errors.As(err, &broken) {
		for _, p := range broken.Problems {
			u.find(bad, cmp.Or(p.Key, "file"), "correct it; --check-config says the same", "%s", strings.TrimSpace(p.Origin+" "+p.Message))
		}
		return false
	}
	if u.errorOf("all of it", "", err) {
		return false
	}
	u.good("all keys", "can be used")
	return true
}

// tell writes the report. The error says that it is not a good one.
func (u *auditor) tell(ctx context.Context) error {
	u.r.Count = map[string]int{}
	for _, f := range u.r.Findings {
		u.r.Count[string(f.Verdict)]++
	}
	write := func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(&u.r)
	}
	switch u.o.json {
	case "":
	case "-":
		if err := write(u.a.stdout); err != nil {
			return err
		}
	default:
		if err := atomicfile.Write(ctx, u.o.json, 0o644, write); err != nil {
			return err
		}
	}
	if u.o.json != "-" {
		if err := u.text(); err != nil {
			return err
		}
	}
	n := u.r.Count
	switch {
	case n[string(bad)] > 0:
		return fmt.Errorf("not ready: %d things must be mended", n[string(bad)])
	case u.o.strict && n[string(better)] > 0:
		return fmt.Errorf("not ready: %d things should be better (--strict)", n[string(better)])
	}
	return nil
}

// text writes the report for people: what must be mended comes first.
func (u *auditor) text() error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s on %s, %s\n", u.r.Program, cmp.Or(u.r.Server, "?"), u.r.At.Format(time.RFC3339))
	for _, v := range []struct {
		verdict verdict
		title   string
	}{{bad, "MUST BE MENDED"}, {better, "should be better"}, {unchecked, "not checked"}, {good, "good"}} {
		list := slices.DeleteFunc(slices.Clone(u.r.Findings), func(f auditFinding) bool { return f.Verdict != v.verdict })
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s (%d)\n", v.title, len(list))
		for _, f := range list {
			fmt.Fprintf(&b, "  %-14s %s: %s\n", f.Area, line(f.What), line(f.Detail))
			if f.Do != "" {
				fmt.Fprintf(&b, "  %-14s → %s\n", "", f.Do)
			}
		}
	}
	_, err := u.a.stdout.Write(b.Bytes())
	return err
}

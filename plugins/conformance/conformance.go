// Package conformance holds what the conformance kits of all plugin kinds share: the Report, and the rules for
// the process itself. The kits are plugins/signing/signingtest and plugins/storage/storagetest; authors and
// tools call those.
package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// Status is how a rule came out.
type Status string

// The statuses. A rule is Skipped when it does not apply to the plugin, and NotTried when nothing can be said about it
// because of what failed before it.
const (
	Passed   Status = "passed"
	Failed   Status = "failed"
	Skipped  Status = "skipped"
	NotTried Status = "not tried"
)

// Result is one rule of PROTOCOL.md, tried on a plugin.
type Result struct {
	// Rule is the rule's number in the kit, Section where PROTOCOL.md says it, What it says in a few words.
	Rule    string `json:"rule"`
	Section string `json:"section"`
	What    string `json:"what"`
	Status  Status `json:"status"` // what came of it
	// Detail says what was seen where the rule is broken, or why it was skipped or not tried.
	Detail string        `json:"detail,omitempty"`
	Took   time.Duration `json:"took_ns"` // time on the clock, as nanoseconds
}

// Report is the outcome of a kit. It is not safe for concurrent use.
type Report struct {
	Kind    string   `json:"kind"`    // of the plugin: "signing" or "storage"
	Results []Result `json:"results"` // in the order of the rules
	// Limit is the longest time of a rule that is tried from now on; zero means a minute.
	Limit time.Duration `json:"-"`

	stopped string // why no more rules are tried
}

// errSkip marks a rule that was not tried.
type skipError struct{ why string }

func (e *skipError) Error() string { return e.why }

// Skip returns the error with which a rule says why it cannot be tried.
func Skip(format string, args ...any) error { return &skipError{fmt.Sprintf(format, args...)} }

// ruleTimeout bounds one rule where Report.Limit does not.
const ruleTimeout = time.Minute

// Stop says why nothing can be said about the rules that follow: they are listed as not tried. The first reason stays.
func (r *Report) Stop(format string, args ...any) {
	if r.stopped == "" {
		r.stopped = fmt.Sprintf(format, args...)
	}
}

// Try tries a rule and adds its result. try gets a context with a time limit and returns nil when the rule
// holds, a Skip when it does not apply, or what is wrong. After a plugin that did not start, or did not answer in time,
// no more rules are tried.
func (r *Report) Try(ctx context.Context, rule, section, what string, try func(ctx context.Context) error) {
	if ctx.Err() != nil {
		r.Stop("the check was interrupted")
	}
	if r.stopped != "" {
		r.Results = append(r.Results, Result{Rule: rule, Section: section, What: what, Status: NotTried, Detail: r.stopped})
		return
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(r.Limit, ruleTimeout))
	defer cancel()
	begin := time.Now()
	err := try(limited)
	r.Record(rule, section, what, err, time.Since(begin))
	switch {
	case err == nil:
	case errors.Is(err, plugins.ErrHandshake), errors.Is(err, plugins.ErrChecksum):
		r.Stop("the plugin did not start in %s", rule)
	case errors.Is(err, plugins.ErrTimeout), limited.Err() != nil:
		r.Stop("the plugin did not answer in time in %s", rule)
	}
}

// Record adds the result of a rule that was tried elsewhere, also after Stop.
func (r *Report) Record(rule, section, what string, err error, took time.Duration) {
	res := Result{Rule: rule, Section: section, What: what, Status: Passed, Took: took}
	var skip *skipError
	switch {
	case errors.As(err, &skip):
		res.Status, res.Detail = Skipped, skip.why
	case err != nil:
		res.Status, res.Detail = Failed, err.Error()
	}
	r.Results = append(r.Results, res)
}

// Err returns nil when no rule is broken, and otherwise an error with one line per broken rule. A report
// without results is an error, too.
func (r *Report) Err() error {
	if len(r.Results) == 0 {
		return errors.New("no rule was tried")
	}
	var errs []error
	for _, res := range r.Results {
		if res.Status == Failed {
			errs = append(errs, fmt.Errorf("%s (PROTOCOL.md %s): %s: %s", res.Rule, res.Section, res.What, res.Detail))
		}
	}
	return errors.Join(errs...)
}

// WriteText writes the report as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	count := map[Status]int{}
	var b strings.Builder
	why := "" // nothing was tried: said once
	for _, res := range r.Results {
		count[res.Status]++
		fmt.Fprintf(&b, "%-9s %-3s PROTOCOL.md %-4s %s", res.Status, res.Rule, res.Section, res.What)
		if res.Detail != "" && (res.Status != NotTried || res.Detail != why) {
			fmt.Fprintf(&b, "\n          → %s", strings.ReplaceAll(res.Detail, "\n", "\n            "))
		}
		if res.Status == NotTried {
			why = res.Detail
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s plugin: %d passed, %d failed, %d skipped", r.Kind, count[Passed], count[Failed], count[Skipped])
	if n := count[NotTried]; n > 0 {
		fmt.Fprintf(&b, ", %d not tried", n)
	}
	b.WriteByte('\n')
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// TB is the part of testing.TB that the kits need, so that they do not import testing.
type TB interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Apply tells a test what a report says: each broken rule is an error, each skipped one a line of the log.
func (r *Report) Apply(t TB) {
	t.Helper()
	for _, res := range r.Results {
		switch res.Status {
		case Failed:
			t.Errorf("%s (PROTOCOL.md %s): %s: %s", res.Rule, res.Section, res.What, res.Detail)
		case Skipped, NotTried:
			t.Logf("%s %s: %s", res.Rule, res.Status, res.Detail)
		}
	}
	if len(r.Results) == 0 {
		t.Errorf("no rule was tried")
	}
}

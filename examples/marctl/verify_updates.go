package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	ausverify "github.com/senbonzakura/senbonzakura/aus/verify"
)

// verifyFlags are the flags of verify-updates.
type verifyFlags struct {
	logs                                       []string
	results                                    string
	jsonl, junit, markdown, errorSummary, html string
	known, baseline, failOn                    string
	filter                                     []string
	all, verbose                               bool
	run                                        verifyRunFlags
}

func (a *app) verifyUpdatesCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify-updates CONFIG | --log FILE…",
		Short: "Run update verify, or say what became of it: read the logs of the scripts, of all generations",
		Long: `Update verify is the last gate of a release: every old build asks the update server, gets its update, applies it and
must end up as the new build.

With CONFIG, marctl does that. CONFIG is a configuration of Mozilla's scripts as it is, or a JSON array (.json) or [[test]]
tables (.toml) with the same keys. FROM and TO are installers (tar, and with 7-Zip installed exe and dmg) or complete
updates. Each MAR is fetched once, checked as the client of FROM would, and applied in memory; what locales share is done
once for all. With --work the same call goes on where it stopped. Trouble of the network is no failure of an update: such
tests are listed apart. --updater runs Gecko's updater beside, and says where it comes to another end.

With --log, marctl reads what Mozilla's scripts printed: verify.sh and chunked-verify of all generations, final
verification, the runner in Rust. A log may be packed with gzip, be one of many chunks, hold several runs, or be cut in
the middle; a directory stands for the *.log and *.txt files in it, "-" for standard input. With --results, marctl shows
the results of an earlier call again (written with --jsonl).

What failed comes first, put together by cause: which tests, what is likely behind it, what to do next, and the line of
the log. Tests that were planned and did not run, or were interrupted, are listed as such: silence is never a pass.

--known names a TOML file with failures that are expected, each with a reason and the day on which it expires:

  [[known]]
  reason = "…"
  code = "tree-differs"
  path = "precomplete"
  release = "153.*"
  expires = 2027-01-31

Exit codes: 0 all passed; 1 something failed, was interrupted, did not run or could not be read; 2 called wrongly; 130 interrupted.`,
		Example: `  marctl verify-updates update-verify.cfg --key release-primary --work work/
  marctl verify-updates update-verify.cfg --work work/ --again failed --html report.html
  marctl verify-updates update-verify.cfg --updater firefox/updater --chunk 3/16
  marctl verify-updates --log live_backing.log
  marctl verify-updates --log logs/ --html report.html --junit junit.xml
  curl -sL "$LOG" | marctl verify-updates --log - --json | jq -c 'select(.result == "fail")'
  marctl verify-updates --log logs/ --filter locale=de,hr --filter type=partial
  marctl verify-updates --log new/ --baseline old.jsonl --fail-on warn`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verifyUpdates(cmd, &f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.logs, "log", nil, "log to read: a file, a directory, a pattern, or - (repeatable; further arguments are logs as well)")
	flags.StringVar(&f.results, "results", "", "show these results of an earlier call (written with --jsonl)")
	flags.StringVar(&f.jsonl, "jsonl", "", "write the results as lines of JSON into this file (schema: docs/verify-updates.schema.json)")
	flags.StringVar(&f.junit, "junit", "", "write JUnit XML into this file")
	flags.StringVar(&f.markdown, "markdown", "", "write Markdown into this file (by itself where GITHUB_STEP_SUMMARY is set)")
	flags.StringVar(&f.errorSummary, "errorsummary", "", "write Treeherder's error summary into this file, and its lines to standard output")
	flags.StringVar(&f.html, "html", "", "write one page of HTML into this file")
	flags.StringVar(&f.known, "known", "", "TOML file with failures that are expected")
	flags.StringVar(&f.baseline, "baseline", "", "results of an earlier call: only what is new counts")
	choice(cmd, &f.failOn, "fail-on", "fail", "what makes exit code 1: failures, or warnings and remarks as well", "fail", "warn")
	flags.StringArrayVar(&f.filter, "filter", nil, "only these tests: release=, build=, platform=, locale=, type=, result= with values between commas (repeatable: all must fit)")
	flags.BoolVar(&f.all, "all", false, "list every test")
	flags.BoolVar(&f.verbose, "verbose", false, "all evidence, and every test of a cause by name")
	f.run.add(cmd)
	must(cmd.RegisterFlagCompletionFunc("filter", cobra.FixedCompletions(
		[]string{"release=", "build=", "platform=", "locale=", "type=partial", "type=complete", "result=pass", "result=fail"},
		cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)))
	takes(cmd, streams)
	flagTakes(cmd, streams, "log")
	flagTakes(cmd, reads, "results", "known", "baseline")
	flagTakes(cmd, writes, "jsonl", "junit", "markdown", "errorsummary", "html")
	return cmd
}

func (a *app) verifyUpdates(cmd *cobra.Command, f *verifyFlags, args []string) error {
	keep, err := testFilter(f.filter)
	if err != nil {
		return err
	}
	var report *ausverify.Report
	if len(f.logs) > 0 || f.results != "" {
		if err := refuseFlags(cmd, "goes with a configuration", runFlagNames...); err != nil {
			return err
		}
	}
	switch {
	case len(f.logs) > 0 && f.results != "":
		return usagef("--log and --results do not go together")
	case len(f.logs) > 0:
		report, err = a.readLogs(cmd.Context(), append(f.logs, args...))
	case f.results != "":
		if len(args) > 0 {
			return usagef("--results takes no arguments: got %q", args[0])
		}
		report, err = readResults(f.results)
	case len(args) == 1:
		report, err = a.runUpdates(cmd.Context(), &f.run, args[0])
	default:
		return usagef("give one configuration, or logs with --log, or results with --results")
	}
	if err != nil {
		return err
	}
	if f.known != "" {
		expected, err := readExpected(f.known)
		if err != nil {
			return err
		}
		if err := report.Expect(expected, time.Now()); err != nil {
			return named(f.known, err)
		}
	}
	if f.baseline != "" {
		earlier, err := readResults(f.baseline)
		if err != nil {
			return err
		}
		report.Since(earlier)
	}
	if keep != nil {
		report = report.Filter(keep)
	}
	if err := a.writeReports(cmd.Context(), f, report); err != nil {
		return err
	}
	if !report.Passed(f.failOn == "warn") {
		return errAnswerNo
	}
	return nil
}

// writeReports writes every form of the report that was asked for.
func (a *app) writeReports(ctx context.Context, f *verifyFlags, report *ausverify.Report) error {
	for _, out := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{f.jsonl, report.WriteJSON},
		{f.junit, report.WriteJUnit},
		{f.markdown, report.WriteMarkdown},
		{f.errorSummary, report.WriteErrorSummary},
		{f.html, report.WriteHTML},
	} {
		if out.name != "" {
			if err := a.writeFile(ctx, out.name, out.write); err != nil {
				return err
			}
		}
	}
	if name := os.Getenv("GITHUB_STEP_SUMMARY"); name != "" && f.markdown == "" {
		if err := appendFile(name, report.WriteMarkdown); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		return report.WriteJSON(a.answers())
	case a.quiet:
		if !report.Passed(f.failOn == "warn") {
			p := a.printerTo(a.stderr)
			n := report.Totals()
			p.printf("%s update verify did not pass: %d of %d tests passed, %d failed\n", p.bad("marctl:"), n.Pass, n.Tests, n.Fail)
			return p.err
		}
		return nil
	}
	out := a.answers()
	if err := report.WriteText(out, &ausverify.TextOptions{Color: a.colored(out), All: f.all, Verbose: f.verbose}); err != nil {
		return err
	}
	if f.errorSummary != "" {
		if err := report.WriteErrorLines(out); err != nil {
			return err
		}
	}
	if os.Getenv("GITHUB_ACTIONS") == "true" {
		return report.WriteAnnotations(out)
	}
	return nil
}

// logNames finds the logs behind what was given: a file, a directory, a pattern, or "-". What is not there stays among the
// names, so that it is missed in the report, and does not hide what the others say.
func logNames(given []string) ([]string, error) {
	var names []string
	for _, name := range given {
		if name == "-" {
			names = append(names, name)
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err == nil && info.IsDir():
			found, err := logsIn(name)
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("%s: no *.log and no *.txt in it", name)
			}
			names = append(names, found...)
		case err == nil:
			names = append(names, name)
		case errors.Is(err, fs.ErrNotExist):
			found, globErr := filepath.Glob(name)
			if globErr != nil || len(found) == 0 {
				found = []string{name}
			}
			names = append(names, found...)
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

// detailLog is a log that the runner in Rust writes for one test beside its own, which has all results.
var detailLog = regexp.MustCompile(`\.mar\.(output|summary)\.log$`)

// logsIn finds the logs in a directory. A link to a file is that file; one to a directory is not followed. What is named
// like a log and is none, such as a link to nothing, is among them: reading it says so.
func logsIn(dir string) ([]string, error) {
	var names []string
	dir += string(filepath.Separator) // follows dir itself where it is a link
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return nil
		}
		base := strings.TrimSuffix(strings.ToLower(d.Name()), ".gz")
		if (strings.HasSuffix(base, ".log") || strings.HasSuffix(base, ".txt")) && !detailLog.MatchString(base) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

func (a *app) readLogs(ctx context.Context, given []string) (*ausverify.Report, error) {
	names, err := logNames(given)
	if err != nil {
		return nil, err
	}
	logs := make([]ausverify.Log, len(names))
	for i, name := range names {
		logs[i] = ausverify.Log{Name: name, Open: func() (io.ReadCloser, error) { return openLog(name, !slices.Contains(given, name)) }}
		if name == "-" {
			logs[i] = ausverify.Log{Name: "standard input", Open: func() (io.ReadCloser, error) { return io.NopCloser(a.stdin), nil }}
		}
	}
	// A report of ten thousands of tests is what this process holds; there is no sense in as much garbage beside it.
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	return ausverify.Read(ctx, logs, nil)
}

// openLog opens a log that is a file. What is found in a directory and is no file at all, such as a pipe that nobody writes
// to, would be waited for without end.
func openLog(name string, found bool) (io.ReadCloser, error) {
	if info, err := os.Stat(name); found && err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	return os.Open(name)
}

func readResults(name string) (*ausverify.Report, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	report, err := ausverify.ReadResults(in)
	if err != nil {
		return nil, named(name, err)
	}
	return report, nil
}

// readExpected reads a list of expected failures.
func readExpected(name string) ([]ausverify.Expected, error) {
	var file struct {
		Known []struct {
			Reason    string         `toml:"reason"`
			Product   string         `toml:"product"`
			Release   string         `toml:"release"`
			BuildID   string         `toml:"build_id"`
			Platform  string         `toml:"platform"`
			Locale    string         `toml:"locale"`
			Channel   string         `toml:"channel"`
			PatchType string         `toml:"patch_type"`
			Code      string         `toml:"code"`
			Path      string         `toml:"path"`
			Expires   toml.LocalDate `toml:"expires"`
		} `toml:"known"`
	}
	if err := readTOML(name, &file); err != nil {
		return nil, err
	}
	var list []ausverify.Expected
	for _, k := range file.Known {
		e := ausverify.Expected{
			Reason: k.Reason, Product: k.Product, Release: k.Release, BuildID: k.BuildID, Platform: k.Platform, Locale: k.Locale,
			Channel: k.Channel, PatchType: k.PatchType, Code: k.Code, Path: k.Path,
		}
		if k.Expires != (toml.LocalDate{}) {
			e.Expires = k.Expires.AsTime(time.UTC)
		}
		list = append(list, e)
	}
	return list, nil
}

// testFilter makes a filter of "release=153.5.1,153.5.0" and the like, or nil of none.
func testFilter(given []string) (func(*ausverify.Test) bool, error) {
	type condition struct {
		of     func(*ausverify.Test) string
		values []string
	}
	fields := map[string]func(*ausverify.Test) string{
		"release":  func(t *ausverify.Test) string { return t.Release },
		"build":    func(t *ausverify.Test) string { return t.BuildID },
		"platform": func(t *ausverify.Test) string { return t.Platform },
		"locale":   func(t *ausverify.Test) string { return t.Locale },
		"type":     func(t *ausverify.Test) string { return t.PatchType },
		"result":   func(t *ausverify.Test) string { return string(t.Result) },
	}
	var conditions []condition
	for _, g := range given {
		key, values, ok := strings.Cut(g, "=")
		if !ok || fields[key] == nil {
			return nil, usagef("--filter %q: want release=, build=, platform=, locale=, type= or result=", g)
		}
		conditions = append(conditions, condition{fields[key], strings.Split(values, ",")})
	}
	if conditions == nil {
		return nil, nil
	}
	return func(t *ausverify.Test) bool {
		for _, c := range conditions {
			if !slices.Contains(c.values, c.of(t)) {
				return false
			}
		}
		return true
	}, nil
}

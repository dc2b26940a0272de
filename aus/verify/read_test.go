package verify

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample is a log with its right findings.
type sample struct {
	name string
	text []byte
	want []string // one line a test: identity, kind, result, codes
	json struct {
		Tests []struct {
			Identity
			Kind    string   `json:"kind"`
			Result  Result   `json:"result"`
			Reasons []Reason `json:"reasons"`
			Line    int      `json:"line"`
		} `json:"tests"`
	}
}

func samples(tb testing.TB) []*sample {
	tb.Helper()
	dir := testkit.Shared(tb, "testdata", "update-verify")
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no findings in %s: %v", dir, err)
	}
	var list []*sample
	for _, name := range names {
		s := &sample{name: strings.TrimSuffix(filepath.Base(name), ".json")}
		findings, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		if err := json.Unmarshal(findings, &s.json); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		if s.text, err = os.ReadFile(strings.TrimSuffix(name, ".json") + ".log"); err != nil {
			tb.Fatal(err)
		}
		for _, t := range s.json.Tests {
			s.want = append(s.want, findingLine(t.Identity, t.Kind, t.Result, t.Reasons))
		}
		slices.Sort(s.want)
		list = append(list, s)
	}
	return list
}

func sampleNamed(tb testing.TB, name string) *sample {
	tb.Helper()
	list := samples(tb)
	i := slices.IndexFunc(list, func(s *sample) bool { return s.name == name })
	if i < 0 {
		tb.Fatalf("there is no log %s", name)
	}
	return list[i]
}

func findingLine(id Identity, kind string, result Result, reasons []Reason) string {
	id.Product = "" // which the findings do not name
	var codes []string
	for _, r := range reasons {
		codes = append(codes, string(r.Code))
	}
	return fmt.Sprintf("%s/%s %s %s %v", id, id.Channel, kind, result, codes)
}

func read(tb testing.TB, texts ...[]byte) *Report {
	tb.Helper()
	var logs []Log
	for i, text := range texts {
		logs = append(logs, memoryLog(fmt.Sprintf("log %d", i+1), text))
	}
	report, err := Read(tb.Context(), logs, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func memoryLog(name string, text []byte) Log {
	return Log{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}
}

func found(report *Report) []string {
	var lines []string
	for _, t := range report.Tests {
		lines = append(lines, findingLine(t.Identity, t.Kind, t.Result, t.Reasons))
	}
	slices.Sort(lines)
	return lines
}

// difference lists what only one of two sorted lists has.
func difference(got, want []string) string {
	var b strings.Builder
	left := map[string]int{}
	for _, line := range want {
		left[line]++
	}
	for _, line := range got {
		if left[line]--; left[line] < 0 {
			fmt.Fprintf(&b, "  not wanted: %s\n", line)
		}
	}
	for _, line := range want {
		if left[line] > 0 {
			left[line]--
			fmt.Fprintf(&b, "  missing:    %s\n", line)
		}
	}
	return b.String()
}

func TestSamples(t *testing.T) {
	t.Parallel()
	for _, s := range samples(t) {
		report := read(t, s.text)
		if d := difference(found(report), s.want); d != "" {
			t.Errorf("%s:\n%s", s.name, d)
		}
	}
}

// prefixed puts a front before every line.
func prefixed(text []byte, front func(n int) string) []byte {
	var b bytes.Buffer
	for n, line := range bytes.SplitAfter(text, []byte("\n")) {
		if len(line) > 0 {
			b.WriteString(front(n))
			b.Write(line)
		}
	}
	return b.Bytes()
}

// bare takes Taskcluster's front off every line that has one.
func bare(text []byte) []byte {
	var b bytes.Buffer
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("[taskcluster")) {
			b.Write(line)
			continue
		}
		rest, _, _ := stripBracket(line)
		if rest == nil {
			rest = line
		}
		b.Write(rest)
	}
	return b.Bytes()
}

// What a CI, a terminal or an editor does to a log changes no finding.
func TestTransformed(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("x"), 1<<20)
	transforms := map[string]func([]byte) []byte{
		"without a front": bare,
		"taskcluster": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("[task 2026-11-30T21:41:%02d.%03dZ] ", n%60, n%1000) })
		},
		"taskcluster, old": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("[task 2026-11-30T21:41:%02d.%06d+00:00] ", n%60, n%1000000) })
		},
		"mozharness": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("21:41:%02d     INFO -  ", n%60) })
		},
		"github": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("2026-11-30T21:41:%02d.1234567Z ", n%60) })
		},
		"jenkins": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("[2026-11-30T21:41:%02d.123Z] ", n%60) })
		},
		"time of day": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("[21:41:%02d] ", n%60) })
		},
		"date and time": func(b []byte) []byte {
			return prefixed(bare(b), func(n int) string { return fmt.Sprintf("2026-11-30 21:41:%02d,123 ", n%60) })
		},
		"CRLF": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) },
		"colours": func(b []byte) []byte {
			return prefixed(bytes.ReplaceAll(b, []byte("\n"), []byte("\x1b[0m\n")), func(int) string { return "\x1b[1;31m" })
		},
		"blank lines": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\n\n")) },
		"long lines": func(b []byte) []byte {
			at := bytes.Index(b, []byte("Using config file"))
			return slices.Concat(b[:max(at, 0)], long, []byte("\n"), b[max(at, 0):], long)
		},
		"invalid UTF-8": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("PREPARE "), []byte("\xff\xfe\n\xc3\x28\nPREPARE "))
		},
		"worker's lines": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("\n"), []byte("\n[cache 2026-11-30T21:41:16.489Z] FAIL: [153.5.1 de partial] check_updates returned failure\n"))
		},
	}
	for _, s := range samples(t) {
		if len(s.text) > 1<<20 && testing.Short() {
			continue
		}
		for name, transform := range transforms {
			if s.name == "20-final-verification" && name == "worker's lines" {
				continue // there a line without a date belongs to the one before
			}
			if d := difference(found(read(t, transform(s.text))), s.want); d != "" {
				t.Errorf("%s, %s:\n%s", s.name, name, d)
			}
		}
	}
}

// Logs one behind the other, and in any order, have the findings of both.
func TestJoined(t *testing.T) {
	t.Parallel()
	list := samples(t)
	for i, a := range list {
		b := list[(i*7+3)%len(list)]
		want := slices.Sorted(slices.Values(slices.Concat(a.want, b.want)))
		for name, report := range map[string]*Report{
			"one file":             read(t, slices.Concat(a.text, b.text)),
			"one file, the others": read(t, slices.Concat(b.text, []byte("\n"), a.text)),
			"two files":            read(t, a.text, b.text),
			"two files, the other": read(t, b.text, a.text),
		} {
			if d := difference(found(report), want); d != "" {
				t.Errorf("%s and %s, %s:\n%s", a.name, b.name, name, d)
			}
		}
	}
}

// A log that is cut never has a pass that the whole log has not, and never passes.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, s := range samples(t) {
		passes := map[Identity]bool{}
		for _, f := range s.json.Tests {
			if f.Result == Pass {
				passes[f.Identity] = true
			}
		}
		var places []int // every 997th byte; of the long log a hundred, by chance and each time the same
		if len(s.text) > 1<<20 {
			chance := rand.New(rand.NewPCG(14, 100))
			for range 100 {
				places = append(places, chance.IntN(len(s.text)))
			}
		} else {
			for at := 997; at < len(s.text); at += 997 {
				places = append(places, at)
			}
		}
		end := bytes.LastIndex(s.text, []byte("Scanning log for"))
		if end < 0 {
			end = len(s.text)
		}
		for _, at := range places {
			report := read(t, s.text[:at])
			for _, test := range report.Tests {
				id := test.Identity
				id.Product = ""
				if test.Result == Pass && !passes[id] {
					t.Errorf("%s cut at %d: %v passes", s.name, at, test.Identity)
				}
			}
			if at < end && report.Passed(false) {
				t.Errorf("%s cut at %d passes", s.name, at)
			}
		}
	}
}

// Failures do not become passes with what follows them taken away: a cut never makes a failed test pass.
func TestNoPassFromNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "\n\n", "hello\n", "command: START\n", "Using config file x\n",
		"Using config file x\nUsing  https://h/update/3/F/1/2/L/de/c/default/default/default/update.xml?force=1\n",
		"Using config file x\nUsing  https://h/update/3/F/1/2/L/de/c/default/default/default/update.xml?force=1\nUsing  https://h/update/3/F/1/2/L/fr/c/default/default/default/update.xml?force=1\n",
	} {
		report := read(t, []byte(text))
		if report.Passed(false) {
			t.Errorf("%q passes", text)
		}
		for _, test := range report.Tests {
			if test.Result == Pass {
				t.Errorf("%q: %v passes", text, test.Identity)
			}
		}
	}
}

// Lines of two tests that are mixed up leave no pass by silence.
func TestMixed(t *testing.T) {
	t.Parallel()
	s := sampleNamed(t, "01-all-pass")
	at := bytes.LastIndex(s.text, []byte("No differences found"))
	text := slices.Concat(s.text[:at], []byte("TEST-UNEXPECTED-FAIL: [153.5.1 de complete] check_updates returned failure for x: 1\n"), s.text[at:])
	report := read(t, text)
	totals := report.Totals()
	if totals.Pass != 0 || totals.Fail != 1 || report.Passed(false) {
		t.Errorf("got %+v, want one failure and no pass", totals)
	}
}

// The runner in Rust names every test when it begins, and all results at the end.
func TestRust(t *testing.T) {
	t.Parallel()
	const log = `[2026-03-01T10:00:00Z INFO  marannon::test] TEST-START: 20261019143936-de-target.complete.mar
[2026-03-01T10:00:00Z INFO  marannon::test] TEST-START: 20261019143936-ja-JP-mac-target.partial-1.mar
[2026-03-01T10:00:01Z INFO  marannon::test] TEST-START: 153.5.1-fr-target.complete.mar
[2026-03-01T10:00:02Z ERROR marannon::test] 20261019143936-ja-JP-mac-target.partial-1.mar: output:
TEST-UNEXPECTED-FAIL: update status was not successful: failed: 4
[2026-03-01T10:00:03Z INFO  marannon::test] TEST-PASS: 20261019143936-de-target.complete.mar
[2026-03-01T10:00:03Z ERROR marannon::test] TEST-UNEXPECTED-FAIL: 20261019143936-ja-JP-mac-target.partial-1.mar
[2026-03-01T10:00:03Z INFO  marannon::test] Summary of results: 1 PASS, 1 FAIL
`
	report := read(t, []byte(log))
	want := []string{
		"/153.5.1///fr/complete/ full interrupted [interrupted]",
		"/20261019143936/20261019143936//de/complete/ full pass []",
		"/20261019143936/20261019143936//ja-JP-mac/partial/ full fail [apply-failed]",
	}
	if d := difference(found(report), want); d != "" {
		t.Error(d)
	}
	cut := read(t, []byte(log[:strings.Index(log, "TEST-PASS")]))
	if cut.Totals().Pass != 0 || cut.Passed(false) {
		t.Errorf("cut before the results: %+v", cut.Totals())
	}
}

// A log of verify.sh alone has no closing line, which the report says; a test that had no chance to end is not a pass.
func TestBareLog(t *testing.T) {
	t.Parallel()
	s := sampleNamed(t, "01-all-pass")
	from := bytes.Index(s.text, []byte("Using config file"))
	to := bytes.LastIndex(s.text, []byte("command: END"))
	report := read(t, s.text[from:to])
	if totals := report.Totals(); totals.Pass != 4 || totals.Tests != 4 || !report.Passed(false) {
		t.Errorf("got %+v", totals)
	}
	if !strings.Contains(strings.Join(report.Notes, "\n"), "no closing line") {
		t.Errorf("the notes do not say it: %q", report.Notes)
	}
	cut := bytes.LastIndex(s.text[:to], []byte("EXECUTE PATCH"))
	if totals := read(t, s.text[from:cut]).Totals(); totals.Pass != 3 || totals.Interrupted != 1 {
		t.Errorf("cut while applying: %+v", totals)
	}
}

// A summary of differences tells what failed, and nothing about what passed.
func TestDiffSummary(t *testing.T) {
	t.Parallel()
	dir := testkit.Shared(t, "testdata", "update-verify")
	name := "03-partial-gives-wrong-tree-text"
	summary, err := os.ReadFile(filepath.Join(dir, name+".diff-summary.log"))
	if err != nil {
		t.Fatal(err)
	}
	report := read(t, summary)
	if totals := report.Totals(); totals.Fail != 1 || totals.Tests != 1 || report.Passed(false) {
		t.Errorf("alone: %+v", totals)
	}
	if files := report.Tests[0].Reasons[0].Files; len(files) != 4 {
		t.Errorf("got %v, want four differences", files)
	}
	log, err := os.ReadFile(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	if totals := read(t, log, summary).Totals(); totals.Fail != 1 || totals.Tests != 6 {
		t.Errorf("beside its log: %+v", totals)
	}
}

// Differences and the updater's status, where the findings name them.
func TestDetails(t *testing.T) {
	t.Parallel()
	for _, s := range samples(t) {
		report := read(t, s.text)
		got := map[string]*Test{}
		for i := range report.Tests {
			id := report.Tests[i].Identity
			id.Product = ""
			got[id.String()] = &report.Tests[i]
		}
		for _, f := range s.json.Tests {
			test := got[f.String()]
			if test == nil {
				continue // TestSamples says so
			}
			if f.Line != 0 && test.Line != f.Line {
				t.Errorf("%s: %v begins at line %d, want %d", s.name, f.Identity, test.Line, f.Line)
			}
			for i, want := range f.Reasons {
				if i >= len(test.Reasons) {
					continue
				}
				reason := test.Reasons[i]
				if want.UpdaterStatus != "" && want.UpdaterStatus != reason.UpdaterStatus {
					t.Errorf("%s: %v: status %q, want %q", s.name, f.Identity, reason.UpdaterStatus, want.UpdaterStatus)
				}
				if len(want.Files) > 0 {
					var a, b []string
					for _, f := range reason.Files {
						a = append(a, f.Path+" "+f.Kind)
					}
					for _, f := range want.Files {
						b = append(b, f.Path+" "+f.Kind)
					}
					slices.Sort(a)
					slices.Sort(b)
					if !slices.Equal(a, b) {
						t.Errorf("%s: %v: files %q, want %q", s.name, f.Identity, a, b)
					}
				}
			}
		}
	}
}

// The size of a partial is compared when its pair ends: before that it has not passed, whatever the order of the types.
func TestPairOrder(t *testing.T) {
	t.Parallel()
	log := bytes.ReplaceAll(made([]string{"1.0"}, []string{"de"}, func(_, _, _ string) []string { return nil }), []byte(`"complete partial"`), []byte(`"partial complete"`))
	if totals := read(t, log).Totals(); totals.Pass != 2 {
		t.Errorf("whole: %+v", totals)
	}
	second := bytes.LastIndex(log, []byte("Using  "))
	cut := read(t, log[:second+bytes.Index(log[second:], []byte("\n"))+1])
	if totals := cut.Totals(); totals.Pass != 0 || totals.Interrupted != 2 {
		t.Errorf("cut in the complete: %+v", totals)
	}
	larger := bytes.Replace(log, []byte("command: END (1.00s"), []byte("TEST-UNEXPECTED-FAIL: [1.0 de complete] partial updates are larger than complete updates\ncommand: END (1.00s"), 1)
	report := read(t, larger)
	for _, test := range report.Tests {
		if (test.Result == Fail) != (test.PatchType == "partial") {
			t.Errorf("larger: %s is %s", test.PatchType, test.Result)
		}
	}
}

package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// made is a log in the form of the scripts: of releases, each with locales, complete and partial. fails says which
// tests fail, and with which lines.
func made(releases, locales []string, fails func(release, locale, patchType string) []string) []byte {
	var b bytes.Buffer
	b.WriteString("command: START\ncommand: cat /tmp/x\ncommand: output:\n")
	for i, release := range releases {
		fmt.Fprintf(&b, `release="%s" product="Firefox" platform="Linux_x86_64-gcc3" build_id="%s" locales="%s" channel="release-localtest" patch_types="complete partial" from="/f/%%locale%%/a.tar.xz" to="/t/%%locale%%/b.tar.xz" to_build_id="20990101000000" to_display_version="200.0"`+"\n",
			release, buildID(i), strings.Join(locales, " "))
	}
	b.WriteString("command: END (0.01s elapsed)\n\ncommand: START\ncommand: bash verify.sh -c /tmp/x\ncommand: output:\nUsing config file /tmp/x\n")
	for i, release := range releases {
		for _, locale := range locales {
			for _, patchType := range []string{"complete", "partial"} {
				fmt.Fprintf(&b, "Using  https://aus.example.org/update/3/Firefox/%s/%s/Linux_x86_64-gcc3/%s/release-localtest/default/default/default/update.xml?force=1\n", release, buildID(i), locale)
				fmt.Fprintf(&b, "<updates>\n  <update displayVersion=\"200.0\" buildID=\"20990101000000\">\n    <patch type=\"%s\" URL=\"https://cdn.example.org/%s/%s.%s.mar\"/>\n", patchType, release, locale, patchType)
				fmt.Fprintf(&b, "Retrieving 'https://cdn.example.org/%s/%s.%s.mar' from cache...\nFound updater at updater\nComparing source/firefox with target/firefox...\n", release, locale, patchType)
				if lines := fails(release, locale, patchType); lines != nil {
					b.WriteString(strings.Join(lines, "\n") + "\n")
					fmt.Fprintf(&b, "TEST-UNEXPECTED-FAIL: [%s %s %s] check_updates returned failure for Linux_x86_64-gcc3: 1\n", release, locale, patchType)
				} else {
					b.WriteString("No differences found\n")
				}
			}
		}
	}
	b.WriteString("command: END (1.00s elapsed)\n\nScanning log for failures and warnings\n")
	return b.Bytes()
}

func buildID(i int) string { return fmt.Sprintf("20260101%06d", i) }

func numbered(format string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return list
}

// The cause of a failure is found in what fails and in what does not.
func TestGroups(t *testing.T) {
	t.Parallel()
	releases, locales := []string{"153.5.1", "153.5.0", "153.4.0"}, numbered("l%02d", 8)
	status := func(s string) []string {
		return []string{"TEST-UNEXPECTED-FAIL: update status was not successful: " + s}
	}
	differs := []string{"Difference found in a/b.js", "a/b.js still differs after transforms, residual diff:", "-x", "+y", "TEST-UNEXPECTED-FAIL: differences found after update"}
	tests := []struct {
		name    string
		fails   func(release, locale, patchType string) []string
		members string
		cause   string
	}{
		{"partials of one release", func(r, _, p string) []string {
			if r == "153.5.0" && p == "partial" {
				return status("failed: 4")
			}
			return nil
		}, "153.5.0  all 8 locales  partial", "the partials from 153.5.0 were made from other bytes than its users have"},
		{"one locale", func(r, l, p string) []string {
			if r == "153.5.1" && l == "l03" && p == "partial" {
				return status("failed: 2")
			}
			return nil
		}, "153.5.1  l03  partial", "only l03"},
		{"all but one", func(_, l, _ string) []string {
			if l != "l05" {
				return status("failed: 19")
			}
			return nil
		}, "all 3 releases  all but l05  complete and partial", "signed with another key"},
		{"everything", func(_, _, _ string) []string { return status("failed: 22") }, "all 3 releases  all 8 locales  complete and partial", "channel"},
		{"a wrong partial", func(r, l, p string) []string {
			if r == "153.4.0" && l == "l01" && p == "partial" {
				return differs
			}
			return nil
		}, "153.4.0  l01  partial", "the partial itself is wrong"},
		{"a wrong complete", func(r, l, p string) []string {
			if l == "l01" && p == "complete" {
				return differs
			}
			return nil
		}, "all 3 releases  l01  complete", "the complete MAR and TO's installer are not the same build"},
		{"scattered", func(r, l, p string) []string {
			if r == "153.5.1" && l == "l01" && p == "partial" || r == "153.4.0" && l == "l02" && p == "partial" {
				return status("failed: 7")
			}
			return nil
		}, "153.5.1, 153.4.0  l01, l02  partial  (2 of these 4 tests)", "written"},
	}
	for _, tt := range tests {
		report := read(t, made(releases, locales, tt.fails))
		if len(report.Groups) != 1 {
			t.Errorf("%s: %d groups, want one: %+v", tt.name, len(report.Groups), report.Groups)
			continue
		}
		if g := report.Groups[0]; g.Members != tt.members || !strings.Contains(g.Cause, tt.cause) {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.name, g.Members, g.Cause, tt.members, tt.cause)
		}
	}
}

// many is a report with n failures, each of its own cause.
func many(tb testing.TB, n int) *Report {
	tb.Helper()
	report := read(tb, made(numbered("%d.0", n/100), numbered("l%02d", 100), func(release, locale, patchType string) []string {
		if patchType == "complete" {
			return nil
		}
		return []string{"Difference found in " + release + "/" + locale + "\x01\xff]]>|`.js", "TEST-UNEXPECTED-FAIL: differences found after update"}
	}))
	if totals := report.Totals(); totals.Fail != n || totals.Pass != n || len(report.Groups) != n {
		tb.Fatalf("%+v, %d groups", totals, len(report.Groups))
	}
	return report
}

var tenThousandOnce struct {
	sync.Once
	report *Report
}

// tenThousand is many failures, made once.
func tenThousand(tb testing.TB) *Report {
	tb.Helper()
	tenThousandOnce.Do(func() { tenThousandOnce.report = many(tb, 10_000) })
	return tenThousandOnce.report
}

// The limits of those who read the reports hold with ten thousand failures.
func TestLimits(t *testing.T) {
	t.Parallel()
	report := tenThousand(t)
	var b bytes.Buffer
	write := func(f func() error) string {
		t.Helper()
		b.Reset()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if s := write(func() error { return report.WriteMarkdown(&b) }); len(s) > 900<<10 || !strings.Contains(s, "and 9,950 more causes") {
		t.Errorf("Markdown of %d bytes", len(s))
	}
	if s := write(func() error { return report.WriteAnnotations(&b) }); strings.Count(s, "\n") != 9 || strings.Count(s, "::error title=") != 9 {
		t.Errorf("annotations: %s", s)
	}
	if s := write(func() error { return report.WriteErrorLines(&b) }); strings.Count(s, "\n") != 10_000 {
		t.Errorf("%d error lines, want one a group", strings.Count(s, "\n"))
	}
	s := write(func() error { return report.WriteJUnit(&b) })
	if len(s) > 30<<20 {
		t.Errorf("JUnit of %d bytes", len(s))
	}
	cases := junitCasesOf(t, []byte(s))
	if cases.all != 20_000 || cases.failed != 10_000 {
		t.Errorf("JUnit: %+v", cases)
	}
	if s := write(func() error { return report.WriteHTML(&b) }); len(s) > 8<<20 || strings.Count(s, "<details class=\"cause") != pageGroups {
		t.Errorf("HTML of %d bytes with %d causes", len(s), strings.Count(s, "<details class=\"cause"))
	}
	if s := write(func() error { return report.WriteText(&b, &TextOptions{Color: true}) }); strings.Contains(s, "\x01") {
		t.Error("control characters of the log reach the terminal")
	}
}

type junitCounts struct{ all, failed, errors, skipped int }

// junitCasesOf reads a JUnit file as its readers do, and wants every name once.
func junitCasesOf(tb testing.TB, text []byte) junitCounts {
	tb.Helper()
	var file struct {
		XMLName xml.Name `xml:"testsuites"`
		Tests   int      `xml:"tests,attr"`
		Suites  []struct {
			Tests int `xml:"tests,attr"`
			Cases []struct {
				Class   string    `xml:"classname,attr"`
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &file); err != nil {
		tb.Fatal(err)
	}
	var counts junitCounts
	seen := map[string]bool{}
	for _, suite := range file.Suites {
		if suite.Tests != len(suite.Cases) {
			tb.Errorf("a suite says %d tests and has %d", suite.Tests, len(suite.Cases))
		}
		for _, c := range suite.Cases {
			counts.all++
			if c.Failure != nil {
				counts.failed++
			}
			if c.Error != nil {
				counts.errors++
			}
			if c.Skipped != nil {
				counts.skipped++
			}
			name := c.Class + "\x00" + c.Name
			if seen[name] {
				tb.Errorf("%q is there twice", name)
			}
			seen[name] = true
		}
	}
	if file.Tests != counts.all {
		tb.Errorf("the file says %d tests and has %d", file.Tests, counts.all)
	}
	return counts
}

// Every form of the report of every sample can be read by its readers, and says the same.
func TestForms(t *testing.T) {
	t.Parallel()
	list := samples(t)
	for i, s := range list {
		report := read(t, s.text, list[(i+1)%len(list)].text) // with tests that are there twice
		totals := report.Totals()
		var b bytes.Buffer
		if err := report.WriteJUnit(&b); err != nil {
			t.Fatal(err)
		}
		want := junitCounts{totals.Tests, totals.Fail, totals.Error + totals.Interrupted, totals.NotRun + totals.Known}
		if got := junitCasesOf(t, b.Bytes()); got != want {
			t.Errorf("%s: JUnit %+v, want %+v", s.name, got, want)
		}
		b.Reset()
		if err := report.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		text := bytes.Clone(b.Bytes())
		again, err := ReadResults(&b)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		var second bytes.Buffer
		if err := again.WriteJSON(&second); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, second.Bytes()) {
			t.Errorf("%s: results read and written again are others", s.name)
		}
		cut := text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1]
		if part, err := ReadResults(bytes.NewReader(cut)); err != nil || part.Passed(false) {
			t.Errorf("%s: results without their totals: pass, or %v", s.name, err)
		}
		b.Reset()
		if err := report.WriteErrorSummary(&b); err != nil {
			t.Fatal(err)
		}
		failures := 0
		for n, line := range bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n")) {
			var entry struct {
				Action string `json:"action"`
				Line   int    `json:"line"`
			}
			if err := json.Unmarshal(line, &entry); err != nil || entry.Line != n {
				t.Errorf("%s: error summary line %d: %v: %s", s.name, n, err, line)
			}
			if entry.Action == "test_result" {
				failures++
			}
		}
		if want := totals.Fail + totals.Error + totals.Interrupted + totals.NotRun; failures != want {
			t.Errorf("%s: error summary of %d failures, want %d", s.name, failures, want)
		}
		b.Reset()
		if err := report.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`href="#(cause-\d+)"`).FindAllSubmatch(b.Bytes(), -1) {
			if !bytes.Contains(b.Bytes(), []byte(`id="`+string(link[1])+`"`)) {
				t.Errorf("%s: HTML links to %s, which is not there", s.name, link[1])
			}
		}
		if bytes.Contains(b.Bytes(), []byte("http-equiv")) || regexp.MustCompile(`(src|href)="https?:`).Match(b.Bytes()) {
			t.Errorf("%s: HTML needs something else", s.name)
		}
	}
}

// What a log says cannot become part of a page, a summary or a file.
func TestInjection(t *testing.T) {
	t.Parallel()
	const evil = `<script>alert(1)</script>"'|` + "`" + `\x1b[31m]]>&`
	report := read(t, made([]string{"1.0"}, []string{"de"}, func(_, _, _ string) []string {
		return []string{"Difference found in " + evil, "TEST-UNEXPECTED-FAIL: differences found after update"}
	}))
	var b bytes.Buffer
	if err := report.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script>alert") {
		t.Error("HTML takes over a script")
	}
	b.Reset()
	if err := report.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "|") && strings.Contains(line, "<script>") {
			t.Error("Markdown takes over a script")
		}
	}
	b.Reset()
	if err := report.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	junitCasesOf(t, b.Bytes())
}

func TestKnown(t *testing.T) {
	t.Parallel()
	log := made([]string{"1.0"}, []string{"de", "fr"}, func(_, locale, patchType string) []string {
		if locale == "de" && patchType == "partial" {
			return []string{"Files only in target/firefox:", "  precomplete", "TEST-UNEXPECTED-FAIL: differences found after update"}
		}
		return nil
	})
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	entry := Expected{Reason: "bug", Code: "tree-*", Path: "precomplete", Locale: "d?", Expires: now.AddDate(0, 0, 1)}
	tests := []struct {
		name  string
		entry func(*Expected)
		known int
		err   bool
		note  string
	}{
		{"fits", func(*Expected) {}, 1, false, ""},
		{"expired", func(e *Expected) { e.Expires = now }, 0, false, "has expired on 2026-12-01: its 1 test count"},
		{"another file", func(e *Expected) { e.Path = "x" }, 0, false, "did not happen"},
		{"another code", func(e *Expected) { e.Code = "wrong-hash" }, 0, false, "did not happen"},
		{"no reason", func(e *Expected) { e.Reason = "" }, 0, true, ""},
		{"no code", func(e *Expected) { e.Code = "" }, 0, true, ""},
		{"for ever", func(e *Expected) { e.Expires = time.Time{} }, 0, true, ""},
		{"bad pattern", func(e *Expected) { e.Locale = "[" }, 0, true, ""},
	}
	for _, tt := range tests {
		report := read(t, log)
		e := entry
		tt.entry(&e)
		err := report.Expect([]Expected{e}, now)
		totals := report.Totals()
		if (err != nil) != tt.err || totals.Known != tt.known || report.Passed(false) != (tt.known == 1) {
			t.Errorf("%s: %v, %+v", tt.name, err, totals)
		}
		if notes := strings.Join(report.Notes, "\n"); !strings.Contains(notes, tt.note) {
			t.Errorf("%s: notes %q, want %q", tt.name, notes, tt.note)
		}
	}
	report := read(t, log)
	report.Since(read(t, log))
	if !report.Passed(false) || report.Totals().Known != 1 {
		t.Errorf("what failed before: %+v", report.Totals())
	}
	report = read(t, log)
	report.Since(read(t, bytes.ReplaceAll(log, []byte("  precomplete"), []byte("  application.ini"))))
	if report.Passed(false) {
		t.Error("a failure for another reason than before passes")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	const two = `# comment

release="59.0" product="Firefox" platform="Linux_x86_64-gcc3" build_id="1" locales="de en-US" channel="beta-localtest" patch_types="complete partial" from="/a/%locale%/x y.tar.bz2" aus_server="https://a" to="/b" to_build_id="2" mar_channel_IDs='m,n'
release="58.0" product=Firefox platform="Linux_x86_64-gcc3" build_id="0" locales="de" channel="beta-localtest" new_key="x"
`
	lines, warnings, err := ReadConfig(strings.NewReader(two))
	if err != nil || len(lines) != 2 || len(warnings) != 1 {
		t.Fatalf("%v, %q, %v", lines, warnings, err)
	}
	if l := lines[1]; l.AUSServer != "https://a" || l.To != "/b" || l.ToBuildID != "2" || l.From != "" || l.MARChannelIDs != "" || len(l.PatchTypes) != 1 {
		t.Errorf("the second line has the wrong things from the first: %+v", l)
	}
	if l := lines[0]; l.From != "/a/%locale%/x y.tar.bz2" || l.MARChannelIDs != "m,n" || l.Number != 3 {
		t.Errorf("first line: %+v", l)
	}
	good := `release="1" product="F" platform="L" build_id="1" locales="de" channel="c" `
	for _, bad := range []string{
		good + `from="$(rm -rf x)"`, good + "from=`x`", good + `from=a;b`, good + `from="a`, good + `release="1"`, good + `x`, good + `from="a"b="c"`,
		good + `patch_types="full"`, `release="1"`, good + `from="a\nb"`, good + `from="a"&`, good + `=x`, good + `a b="c"`,
	} {
		if _, _, err := ReadConfig(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestChunk(t *testing.T) {
	t.Parallel()
	lines := []Line{{Release: "3", From: "x", Locales: []string{"c", "a", "b"}}, {Release: "2", Locales: []string{"z", "y"}}, {Release: "1", From: "x", Locales: []string{"a", "b"}}}
	seen := map[string]int{}
	var sizes []int
	for i := 1; i <= 3; i++ {
		n := 0
		for _, line := range Chunk(lines, 3, i) {
			for _, locale := range line.Locales {
				seen[line.Release+locale]++
				n++
			}
		}
		sizes = append(sizes, n)
	}
	if len(seen) != 7 || fmt.Sprint(sizes) != "[3 3 1]" {
		t.Errorf("%v, sizes %v", seen, sizes)
	}
	for _, bad := range [][2]int{{0, 1}, {3, 0}, {3, 4}} {
		if got := Chunk(lines, bad[0], bad[1]); got != nil {
			t.Errorf("chunk %v: %v", bad, got)
		}
	}
}

// The report as it stands in the documentation, and as a person sees it.
func TestGolden(t *testing.T) {
	t.Parallel()
	report := read(t, made([]string{"153.5.1", "153.5.0"}, []string{"de", "fr", "hr"}, func(release, locale, patchType string) []string {
		switch {
		case release == "153.5.0" && patchType == "partial":
			return []string{"TEST-UNEXPECTED-FAIL: update status was not successful: failed: 4"}
		case release == "153.5.1" && locale == "hr" && patchType == "partial":
			return []string{
				"Difference found in browser/firefox.js", "browser/firefox.js still differs after transforms, residual diff:", "---", "+++", "@@ -1 +1 @@",
				"-PREF(1)", "+pref(1)", "TEST-UNEXPECTED-FAIL: differences found after update",
			}
		}
		return nil
	}))
	var b bytes.Buffer
	if err := report.WriteText(&b, nil); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.Bytes())
	b.Reset()
	if err := report.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.md", b.Bytes())
	b.Reset()
	if err := report.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.xml", b.Bytes())
	b.Reset()
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.jsonl", b.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// A command that is shown to be copied does nothing else than it says.
func TestShellWord(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a-1.0.mar": "a-1.0.mar", "a b.mar": "'a b.mar'", "$(x).mar": "'$(x).mar'", "a'; rm -rf x; '": `'a'\''; rm -rf x; '\'''`, "-o": "./-o",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// FuzzConfig reads any configuration without trouble; what is read has no tests without a name.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`release="59.0" product='Firefox' platform=L build_id="1" locales="de en-US" channel="beta" patch_types="complete partial" from="/a b"`))
	f.Add([]byte("# x\n\nrelease=\"$(x)\"\n"))
	f.Add([]byte(`[{"release": "1", "product": "F", "platform": "L", "build_id": "1", "locales": ["de"], "channel": "c"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, _, err := ReadConfig(bytes.NewReader(text))
		if err != nil && !errors.Is(err, ErrConfig) {
			t.Fatal(err)
		}
		more, err := ReadPlan(bytes.NewReader(text))
		if err != nil && !errors.Is(err, ErrConfig) {
			t.Fatal(err)
		}
		for _, line := range append(lines, more...) {
			for _, test := range line.Tests() {
				if test.Release == "" || test.Locale == "" || test.Result != NotRun {
					t.Fatalf("%+v", test)
				}
			}
		}
	})
}

// FuzzOffer reads any answer of an update server without trouble.
func FuzzOffer(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0"?><updates><update appVersion="1" buildID="2"><patch type="complete" URL="https://h/x" hashFunction="sha512" hashValue="ab" size="1"/></update></updates>`))
	f.Add([]byte("<updates>\n</updates>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, ok, err := parseOffer(text)
		if err != nil && (ok || !errors.Is(err, errNoXML)) {
			t.Fatal(ok, err)
		}
		if !ok && len(o.Patches) > 0 {
			t.Fatal("patches of nothing")
		}
	})
}

// FuzzResults reads any results without trouble.
func FuzzResults(f *testing.F) {
	var b bytes.Buffer
	if err := read(f, made([]string{"1"}, []string{"de"}, func(_, _, _ string) []string { return nil })).WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := ReadResults(bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrResults) {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		if err := errors.Join(report.WriteText(&out, nil), report.WriteHTML(&out), report.WriteJUnit(&out), report.WriteMarkdown(&out), report.WriteErrorSummary(&out)); err != nil {
			t.Fatal(err)
		}
	})
}

// A script that gave up by itself is not run again as it is: what it stumbled over is to be looked at.
func TestScriptEnded(t *testing.T) {
	t.Parallel()
	for _, s := range samples(t) {
		if s.name != "24-script-ends-itself" && s.name != "11-task-killed" {
			continue
		}
		i := slices.IndexFunc(read(t, s.text).Groups, func(g Group) bool { return g.Code == WasInterrupted })
		if i < 0 {
			t.Fatalf("%s: nothing is interrupted", s.name)
		}
		g := read(t, s.text).Groups[i]
		if again := strings.Contains(g.Next, "run these again"); again != (s.name == "11-task-killed") {
			t.Errorf("%s: %q, next: %q", s.name, g.Cause, g.Next)
		}
	}
}

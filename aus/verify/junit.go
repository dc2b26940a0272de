package verify

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Limits of the readers of JUnit files: GitLab takes files under 30 MB and shows about 80 lines of a failure; its
// parser stops at 250,000 objects.
const (
	junitBytes = 25 << 20
	junitCases = 100_000
	junitLines = 40
)

// WriteJUnit writes the report as JUnit XML: a suite for each release and platform. Failures are failures, what could
// not be tested or was interrupted is an error, what did not run or was expected to fail is skipped. Names are unique,
// as readers drop what is there twice. Of more than 100,000 tests those that passed are counted and not listed; beyond
// 25 MB failures lose their text.
func (r *Report) WriteJUnit(w io.Writer) error {
	counting := &counter{w: w}
	out := bufio.NewWriter(counting)
	n := r.Totals()
	put(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"update verify\" tests=\"%d\" failures=\"%d\" errors=\"%d\" skipped=\"%d\">\n",
		n.Tests, n.Fail, n.Error+n.Interrupted, n.NotRun+n.Known)
	type key struct{ release, build, platform string }
	suites := map[key][]int{}
	var order []key
	for i := range r.Tests {
		t := &r.Tests[i]
		k := key{t.Release, t.BuildID, t.Platform}
		if suites[k] == nil {
			order = append(order, k)
		}
		suites[k] = append(suites[k], i)
	}
	list := len(r.Tests) <= junitCases
	for _, k := range order {
		name := xmlText(strings.TrimSpace(r.Product + " " + k.release + " (" + k.build + ") " + k.platform))
		var counts [4]int
		for _, i := range suites[k] {
			switch r.Tests[i].Result {
			case Fail:
				counts[0]++
			case Error, Interrupted:
				counts[1]++
			case NotRun, Known:
				counts[2]++
			default:
				counts[3]++
			}
		}
		put(out, "  <testsuite name=\"%s\" tests=\"%d\" failures=\"%d\" errors=\"%d\" skipped=\"%d\">\n",
			name, len(suites[k]), counts[0], counts[1], counts[2])
		seen := map[string]int{}
		for _, i := range suites[k] {
			t := &r.Tests[i]
			if !list && t.Result == Pass {
				continue
			}
			caseName := t.Locale + " " + t.PatchType
			if seen[caseName]++; seen[caseName] > 1 {
				caseName += fmt.Sprintf(" #%d", seen[caseName])
			}
			put(out, "    <testcase classname=\"%s\" name=\"%s\"", name, xmlText(caseName))
			if ms := t.elapsed(); ms > 0 {
				put(out, " time=\"%.3f\"", float64(ms)/1000)
			}
			t.junit(out, counting.n < junitBytes)
		}
		if !list && counts[3] > 0 {
			put(out, "    <system-out>%s passed and are not listed: there are too many tests for readers of this file</system-out>\n", count(counts[3], "test"))
		}
		put(out, "  </testsuite>\n")
	}
	put(out, "</testsuites>\n")
	return out.Flush()
}

// elapsed is how long the test took, in milliseconds.
func (t *Test) elapsed() int64 {
	var sum int64
	for _, ms := range t.Steps {
		sum += ms
	}
	return sum
}

// junit writes the end of a testcase.
func (t *Test) junit(out *bufio.Writer, room bool) {
	element := map[Result]string{Fail: "failure", Error: "error", Interrupted: "error", NotRun: "skipped", Known: "skipped"}[t.Result]
	message := xmlText(t.message())
	switch {
	case element == "skipped":
		put(out, ">\n      <skipped message=\"%s\"/>\n    </testcase>\n", message)
	case element != "":
		code := Unknown
		if len(t.Reasons) > 0 {
			code = t.Reasons[0].Code
		}
		put(out, ">\n      <%s type=\"%s\" message=\"%s\">", element, code, message)
		if room {
			put(out, "%s", xmlText(t.body(junitLines)))
		}
		put(out, "</%s>\n    </testcase>\n", element)
	case len(t.Reasons) > 0:
		put(out, ">\n      <system-out>%s</system-out>\n    </testcase>\n", message)
	default:
		put(out, "/>\n")
	}
}

// message says in one line why the test is not a plain pass.
func (t *Test) message() string {
	if t.Known != "" {
		return "expected: " + t.Known
	}
	if len(t.Reasons) == 0 {
		return ""
	}
	r := &t.Reasons[0]
	if r.Detail != "" {
		return printable(r.Detail)
	}
	return r.Code.title()
}

// body is the evidence of all reasons, in at most n lines.
func (t *Test) body(n int) string {
	var lines []string
	for i := range t.Reasons {
		r := &t.Reasons[i]
		if i > 0 {
			lines = append(lines, string(r.Code)+": "+r.Detail)
		}
		for _, f := range r.Files {
			lines = append(lines, f.Path+"   "+kindWords(f))
		}
		if r.Evidence != nil {
			lines = append(lines, r.Evidence.Text...)
		}
	}
	if place := t.place(); place != "" {
		lines = append([]string{place}, lines...)
	}
	if len(lines) > n {
		lines = append(lines[:n-1], fmt.Sprintf("… and %s", count(len(lines)-n+1, "more line")))
	}
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// xmlText escapes text for XML 1.0; what XML cannot hold is replaced.
func xmlText(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

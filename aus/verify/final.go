package verify

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// final is the state of a log of final verification.
type final struct {
	tests  []finalTest
	index  map[Identity]int
	mars   map[string]*finalMAR
	asked  map[string]int // update requests that were answered, to the line
	gone   map[string]finalGone
	said   int // failures that the report counts
	counts int // blocks that it has
	done   bool
	title  string
	url    string
}

type finalGone struct {
	line   int
	detail string
}

type finalTest struct {
	id      Identity
	url     string
	mar     string
	size    string
	line    int
	missing int // line that says that update.xml has no such patch
}

type finalMAR struct {
	good   string // size that it has
	line   int
	bad    bool
	should string
	gone   bool
	status int
}

// ends says whether a line without a date is no more part of final verification.
func (f *final) ends(text []byte) bool {
	return f.done && len(text) > 0 || bytes.HasPrefix(text, []byte("command: START")) || bytes.HasPrefix(text, []byte("+ ")) ||
		bytes.HasPrefix(text, []byte("Using config file"))
}

// finalLine takes in a line of final verification without its date.
func (r *reader) finalLine(line []byte, whole bool) error {
	text := clean(line, 4096)
	if strings.HasPrefix(text, "Command called: ") {
		if err := r.endFinal(); err != nil {
			return err
		}
		r.final = &final{index: map[Identity]int{}, mars: map[string]*finalMAR{}, asked: map[string]int{}, gone: map[string]finalGone{}}
		if r.format == "" {
			r.format = "final verification"
		}
		return nil
	}
	f := r.final
	if f == nil || !whole {
		return nil
	}
	switch {
	case strings.HasPrefix(text, "Downloaded update.xml file from "):
		if len(f.asked) < r.maxTests {
			f.asked[strings.TrimPrefix(text, "Downloaded update.xml file from ")] = r.line
		}
	case strings.HasPrefix(text, "Mar url and file size for patch type '"):
		patchType, rest, _ := strings.Cut(strings.TrimPrefix(text, "Mar url and file size for patch type '"), "' extracted from ")
		address, what, _ := strings.Cut(rest, " (")
		mar, size, _ := strings.Cut(strings.TrimSuffix(what, ")"), " ")
		return r.finalTest(address, patchType, func(t *finalTest) { t.mar, t.size = mar, size })
	case strings.HasPrefix(text, "FAILURE: No patch type '"):
		patchType, rest, _ := strings.Cut(strings.TrimPrefix(text, "FAILURE: No patch type '"), "' found in update.xml from ")
		return r.finalTest(firstField(rest), patchType, func(t *finalTest) { t.missing = r.line })
	case strings.HasPrefix(text, "Mar file ") && strings.Contains(text, " available with correct size ("):
		mar, rest, _ := strings.Cut(strings.TrimPrefix(text, "Mar file "), " available with correct size (")
		f.mar(strings.TrimPrefix(mar, "URL "), r.line).good = firstField(rest)
	case strings.HasPrefix(text, "FAILURE: Mar file incorrect size - should be "):
		should, rest, _ := strings.Cut(strings.TrimPrefix(text, "FAILURE: Mar file incorrect size - should be "), " bytes, but is ")
		is, mar, _ := strings.Cut(rest, " bytes - ")
		m := f.mar(firstField(mar), r.line)
		m.bad, m.good, m.should = true, is, should
	case strings.HasPrefix(text, "FAILURE: "):
		return r.finalOther(text)
	case strings.HasPrefix(text, "FAILURE ") && strings.Contains(text, ": "):
		f.counts++
		_, f.title, _ = strings.Cut(text, ": ")
		f.url = ""
	case strings.HasSuffix(text, " FAILURES") || text == "1 FAILURE":
		f.said, _ = strconv.Atoi(firstField(text))
	case strings.HasPrefix(text, "    Update xml file downloaded from: "), strings.HasPrefix(text, "    Mar file url: "):
		_, f.url, _ = strings.Cut(text, ": ")
	case strings.HasPrefix(text, "        HTTP/"):
		_, status, _ := strings.Cut(strings.TrimSpace(text), " ")
		if n, err := strconv.Atoi(firstField(status)); err == nil && f.mars[f.url] != nil {
			f.mars[f.url].status = n
		}
	case strings.HasPrefix(text, "        update-verify.cfg line "), strings.Contains(text, " line ") && strings.Contains(text, `release="`):
		return r.finalConfig(text)
	case strings.HasPrefix(text, "KEY STATS"):
		f.done = true
	}
	return nil
}

// maxFinalMARs is how many MARs of a log are known by their address.
const maxFinalMARs = 2_000_000

func (f *final) mar(address string, line int) *finalMAR {
	m := f.mars[address]
	if m == nil {
		m = &finalMAR{}
		if len(f.mars) < maxFinalMARs {
			f.mars[address] = m
		}
	}
	m.line = line
	return m
}

func (r *reader) finalTest(address, patchType string, set func(*finalTest)) error {
	id, ok := requestIdentity(address)
	if !ok || patchType != "complete" && patchType != "partial" {
		return nil
	}
	id.PatchType = patchType
	f := r.final
	i, ok := f.index[id]
	if !ok {
		if len(f.tests)+len(r.report.Tests) >= r.maxTests {
			return fmt.Errorf("%w: more than %d", ErrTooMany, r.maxTests)
		}
		i = len(f.tests)
		f.index[id] = i
		f.tests = append(f.tests, finalTest{id: r.internAll(id), url: address, line: r.line})
	}
	set(&f.tests[i])
	return nil
}

// finalOther takes in a failure of another kind: about an update.xml or about a MAR.
func (r *reader) finalOther(text string) error {
	f := r.final
	for _, word := range strings.Fields(text) {
		word = strings.Trim(word, "'\",()")
		if strings.Contains(word, "/update/") && strings.Contains(word, "update.xml") {
			if len(f.gone) < r.maxTests {
				f.gone[word] = finalGone{r.line, strings.TrimPrefix(text, "FAILURE: ")}
			}
			return nil
		}
		path, _, _ := strings.Cut(word, "?")
		if strings.Contains(word, "://") && strings.HasSuffix(path, ".mar") {
			f.mar(word, r.line).gone = true
			return nil
		}
	}
	r.troubled(fmt.Sprintf("line %d: a failure that no test is seen for: %s", r.line, short(text, 200)))
	r.complete = false
	return nil
}

// finalConfig takes in a line of the configuration, which is printed with every failure: it says the patch types that
// were asked for where update.xml is not there.
func (r *reader) finalConfig(text string) error {
	at := strings.Index(text, `release="`)
	if at < 0 || !strings.Contains(r.final.title, "pdate xml file") {
		return nil
	}
	id, ok := requestIdentity(r.final.url)
	if !ok {
		return nil
	}
	var lasting Line
	line, _, ok, err := parseConfigLine(text[at:], 0, &lasting)
	if err != nil || !ok || line.Release != id.Release || line.BuildID != id.BuildID {
		return nil //nolint:nilerr // a line of evidence that is no configuration says nothing
	}
	for _, patchType := range line.PatchTypes {
		if err := r.finalTest(r.final.url, patchType, func(*finalTest) {}); err != nil {
			return err
		}
	}
	return nil
}

// endFinal files the tests of final verification.
func (r *reader) endFinal() error {
	f := r.final
	if f == nil {
		return nil
	}
	r.final = nil
	if !f.done {
		r.complete = false
		r.troubled("the log of final verification ends without its figures")
	}
	offered := map[Identity]bool{}
	for _, t := range f.tests {
		if t.mar != "" {
			offered[t.id.pair()] = true
		}
	}
	for address, gone := range f.gone {
		if id, ok := requestIdentity(address); ok {
			known := false
			for _, patchType := range []string{"complete", "partial"} {
				id.PatchType = patchType
				_, there := f.index[id]
				known = known || there
			}
			if !known {
				id.PatchType = "complete"
				f.index[id] = len(f.tests)
				f.tests = append(f.tests, finalTest{id: r.internAll(id), url: address, line: gone.line})
			}
		}
	}
	failures := 0
	for _, t := range f.tests {
		test := Test{Identity: t.id, Kind: KindFinal, Result: Fail, MAR: t.mar, Request: t.url, File: r.file, Line: t.line}
		evidence := func(line int) *Evidence { return &Evidence{File: r.file, Line: line, Lines: 1} }
		m := f.mars[t.mar]
		gone, isGone := f.gone[t.url]
		switch {
		case isGone:
			test.Reasons = []Reason{{Code: UpdateXMLUnavailable, Detail: gone.detail, Evidence: evidence(gone.line)}}
		case t.missing > 0 && !offered[t.id.pair()]:
			test.Reasons = []Reason{{Code: NoUpdateOffered, Detail: "update.xml has no patch at all", Evidence: evidence(t.missing)}}
		case t.missing > 0:
			test.Reasons = []Reason{{Code: PatchTypeMissing, Detail: "update.xml has no patch of this type", Evidence: evidence(t.missing)}}
		case t.mar == "" || m == nil:
			test.Result = Interrupted
			test.Reasons = []Reason{{Code: WasInterrupted, Detail: "the log ends before the MAR was looked at"}}
		case m.gone:
			reason := Reason{Code: MARMissing, HTTPStatus: m.status, Detail: "the MAR cannot be fetched: " + t.mar, Evidence: evidence(m.line)}
			if m.status >= 400 {
				reason.Detail = fmt.Sprintf("HTTP %d for the MAR: %s", m.status, t.mar)
			} else {
				reason.HTTPStatus = 0
			}
			test.Reasons = []Reason{reason}
		case m.bad && (t.size != m.good || m.should == t.size):
			test.Reasons = []Reason{{
				Code: WrongSize, Detail: fmt.Sprintf("the MAR has %s bytes, update.xml says %s", m.good, t.size), Evidence: evidence(m.line),
			}}
		case t.size == m.good:
			test.Result, test.Reasons, test.MAR = Pass, nil, ""
			test.Request = ""
		default:
			test.Result = Error
			test.Reasons = []Reason{{
				Code: Unknown, Detail: fmt.Sprintf("the MAR is said to be good with %s bytes, and update.xml says %s", m.good, t.size), Evidence: evidence(m.line),
			}}
		}
		if test.Result == Fail {
			failures++
		}
		r.report.Tests = append(r.report.Tests, test)
	}
	if f.said > 0 && failures == 0 {
		r.complete = false
		r.troubled(fmt.Sprintf("the log counts %s, and no test is seen that failed", count(f.said, "failure")))
	}
	if len(f.tests) == 0 {
		r.complete = false
		r.troubled("the log of final verification has no tests")
	}
	return nil
}

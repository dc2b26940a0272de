package verify

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// rust is the state of a log of the runner of update verify that is written in Rust: it names every test when it
// begins, prints what a failed one said, and lists all results at the end.
type rust struct {
	begun map[string]int // name to line
	order []string
	done  map[string]bool
	out   []Test
	sum   bool
	in    *block // of the failed test whose output is being printed
	name  string
	tests map[string]*block
}

// rustName takes apart what the runner calls a test: FROM's build ID or version, the locale, the MAR.
var rustName = regexp.MustCompile(`^([0-9][0-9A-Za-z.]*)-([a-z]{2,3}(?:-[A-Z][A-Za-z]{1,3})?(?:-mac|-macos|-valencia|-latin)?)-(.+)$`)

// rustLine takes in a line of that runner's log.
func (r *reader) rustLine(line []byte, whole bool) error {
	if r.rust == nil {
		if err := r.endSegment(false); err != nil {
			return err
		}
		r.rust = &rust{begun: map[string]int{}, done: map[string]bool{}, tests: map[string]*block{}}
		if r.format == "" {
			r.format = "update-verify tests in Rust"
		}
	}
	s := r.rust
	text := clean(line, 4096)
	if name, ok := strings.CutPrefix(text, "TEST-START: "); ok {
		name = strings.TrimSpace(name)
		if _, twice := s.begun[name]; !twice && whole {
			if len(s.order)+len(r.report.Tests) >= r.maxTests {
				return fmt.Errorf("%w: more than %d", ErrTooMany, r.maxTests)
			}
			s.begun[name] = r.line
			s.order = append(s.order, name)
		}
		s.in = nil
		return nil
	}
	for _, word := range []string{"TEST-PASS: ", "TEST-UNEXPECTED-FAIL: "} {
		rest, ok := strings.CutPrefix(text, word)
		if !ok || !whole {
			continue
		}
		name := firstField(rest)
		if !rustName.MatchString(name) || !strings.Contains(name, ".mar") {
			break
		}
		name = strings.TrimRight(name, ":,")
		if word == "TEST-PASS: " {
			s.in = nil
			if !s.done[name] {
				s.done[name] = true
				s.out = append(s.out, r.rustTest(name, Pass, nil))
			}
			return nil
		}
		if !s.done[name] {
			s.done[name] = true
			b := s.tests[name]
			if b == nil {
				b = &block{}
			}
			b.failed = strings.TrimSpace(strings.TrimPrefix(rest, name))
			b.settle()
			b.say(line, r.line)
			reason := b.reason()
			if reason.Code == Unknown {
				reason = rustExit(reason, b.failed)
			}
			r.budget(reason.Evidence)
			s.out = append(s.out, r.rustTest(name, Fail, []Reason{reason}))
		}
		s.in = nil
		return nil
	}
	if strings.HasPrefix(text, "Summary of results: ") {
		s.sum, s.in = true, nil
		return nil
	}
	// What a failed test said comes behind its name, which is part of the first line.
	for _, word := range strings.Fields(text) {
		word = strings.Trim(word, "'\":,`()")
		if _, ok := s.begun[word]; ok {
			if s.tests[word] == nil {
				s.tests[word] = &block{line: r.line}
			}
			s.in, s.name = s.tests[word], word
			break
		}
	}
	if s.in != nil {
		if rest, ok := failToken(line); ok {
			s.in.failLine(rest, r.line)
		} else {
			s.in.read(line, r.line)
		}
	}
	return nil
}

var exitCode = regexp.MustCompile(`(?:exit(?:ed)?(?: with)?(?: code| status)?:?|returned|code:?) (\d{1,3})\b`)

// rustExit explains the exit code of the runner's check of one update.
func rustExit(reason Reason, said string) Reason {
	m := exitCode.FindStringSubmatch(said)
	if m == nil {
		return reason
	}
	n, _ := strconv.Atoi(m[1])
	switch n {
	case 1:
		reason.Code, reason.Detail = UnpackFailed, "FROM or TO cannot be unpacked"
	case 2, 3:
		reason.Code, reason.Detail = UnpackFailed, "a tree to compare is not there"
	case 4:
		reason.Code, reason.Detail = ApplyFailed, "the updater did not succeed"
	case 5, 6:
		reason.Code, reason.Detail = FrameworkMissing, "a framework is gone after the update"
	case 7:
		reason.Code, reason.Detail = TreeDiffers, "the updated tree is not TO"
	case 8:
		reason.Code, reason.Detail = TreeDiffers, "the comparison died"
	}
	return reason
}

func (r *reader) rustTest(name string, result Result, reasons []Reason) Test {
	t := Test{Kind: KindFull, Result: result, Reasons: reasons, File: r.file, Line: r.rust.begun[name]}
	m := rustName.FindStringSubmatch(name)
	if m == nil {
		t.Release = name
		return t
	}
	t.Release, t.Locale, t.PatchType = m[1], m[2], "complete"
	if len(m[1]) == 14 && !strings.Contains(m[1], ".") {
		t.BuildID = m[1]
	}
	if strings.Contains(m[3], "partial") {
		t.PatchType = "partial"
	}
	t.Identity = r.internAll(t.Identity)
	if result != Pass {
		t.MAR = m[3]
	}
	return t
}

// endRust files the tests of that runner.
func (r *reader) endRust() error {
	s := r.rust
	if s == nil {
		return nil
	}
	for _, name := range s.order {
		if !s.done[name] {
			s.out = append(s.out, r.rustTest(name, Interrupted, []Reason{{Code: WasInterrupted, Detail: "the log ends before the result of this test"}}))
		}
	}
	r.rust = nil
	if !s.sum {
		r.complete = false
		r.troubled("the log ends without its summary")
	}
	r.report.Tests = append(r.report.Tests, s.out...)
	return nil
}

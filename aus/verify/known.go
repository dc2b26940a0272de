package verify

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// Expected is a failure that is expected. The fields that are set must all fit; * and ? in them stand for any letters
// and any letter (see path.Match).
type Expected struct {
	Reason    string    // why it is expected; must be there
	Product   string    // and the following: of the test
	Release   string    //
	BuildID   string    //
	Platform  string    //
	Locale    string    //
	Channel   string    //
	PatchType string    //
	Code      string    // of its first reason; must be there
	Path      string    // of every file that differs
	Expires   time.Time // from this moment on the failure counts again; must be there, so that lists get shorter
}

// ErrExpected matches every error about a list of expected failures.
var ErrExpected = errors.New("bad list of expected failures")

// check says what is wrong with an entry.
func (e *Expected) check() error {
	switch {
	case e.Reason == "":
		return fmt.Errorf("%w: an entry gives no reason", ErrExpected)
	case e.Code == "":
		return fmt.Errorf("%w: %q names no code", ErrExpected, e.Reason)
	case e.Expires.IsZero():
		return fmt.Errorf("%w: %q does not say when it expires", ErrExpected, e.Reason)
	}
	for _, pattern := range []string{e.Product, e.Release, e.BuildID, e.Platform, e.Locale, e.Channel, e.PatchType, e.Code, e.Path} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%w: %q: pattern %q: %w", ErrExpected, e.Reason, pattern, err)
		}
	}
	return nil
}

// fits says whether the entry speaks of this test. Only failures are expected, and warnings; what did not run or was
// interrupted is no expected failure.
func (e *Expected) fits(t *Test) bool {
	if t.Result != Fail && t.Result != Warn || len(t.Reasons) == 0 {
		return false
	}
	match := func(pattern, value string) bool {
		ok, err := path.Match(pattern, value)
		return pattern == "" || err == nil && ok
	}
	if !match(e.Product, t.Product) || !match(e.Release, t.Release) || !match(e.BuildID, t.BuildID) || !match(e.Platform, t.Platform) ||
		!match(e.Locale, t.Locale) || !match(e.Channel, t.Channel) || !match(e.PatchType, t.PatchType) {
		return false
	}
	for i := range t.Reasons { // a second reason that nobody expects is a failure
		if !match(e.Code, string(t.Reasons[i].Code)) {
			return false
		}
		if e.Path != "" && len(t.Reasons[i].Files) == 0 {
			return false
		}
		for _, f := range t.Reasons[i].Files {
			if !match(e.Path, f.Path) {
				return false
			}
		}
	}
	return true
}

// Expect turns the failures that the list expects into [Known] ones, which do not keep a report from passing. Entries
// that have expired at the time now, and entries that fit no test, are noted in the report. The error matches
// [ErrExpected].
func (r *Report) Expect(list []Expected, now time.Time) error {
	for i := range list {
		if err := list[i].check(); err != nil {
			return err
		}
	}
	for i := range list {
		e := &list[i]
		expired := !now.Before(e.Expires)
		hits := 0
		for k := range r.Tests {
			t := &r.Tests[k]
			if !e.fits(t) {
				continue
			}
			hits++
			if !expired {
				t.Result, t.Known = Known, e.Reason
			}
		}
		switch {
		case expired && hits > 0:
			r.Notes = append(r.Notes, fmt.Sprintf("the expected failure %q has expired on %s: its %s count again", e.Reason, e.Expires.Format(time.DateOnly), count(hits, "test")))
		case expired:
			r.Notes = append(r.Notes, fmt.Sprintf("the expected failure %q has expired on %s and did not happen: take it off the list", e.Reason, e.Expires.Format(time.DateOnly)))
		case hits == 0:
			r.Notes = append(r.Notes, fmt.Sprintf("the expected failure %q did not happen", e.Reason))
		}
	}
	r.finish()
	return nil
}

// Since turns the failures that an earlier report has as well, in the same tests and for the same reasons, into [Known]
// ones, so that only what is new counts. What is better than it was is noted.
func (r *Report) Since(earlier *Report) {
	type was struct {
		result Result
		cause  string
	}
	before := map[Identity]was{}
	for i := range earlier.Tests {
		t := &earlier.Tests[i]
		if t.Result == Fail || t.Result == Warn || t.Result == Error || t.Result == Known {
			before[t.Identity] = was{t.Result, causeKey(&Test{Reasons: t.Reasons})}
		}
	}
	better := 0
	for i := range r.Tests {
		t := &r.Tests[i]
		old, ok := before[t.Identity]
		if !ok {
			continue
		}
		switch {
		case t.Result == Pass:
			better++
		case (t.Result == Fail || t.Result == Warn || t.Result == Error) && causeKey(&Test{Reasons: t.Reasons}) == old.cause:
			t.Result, t.Known = Known, "as in the earlier results"
		}
	}
	if better > 0 {
		r.Notes = append(r.Notes, count(better, "test")+" that failed in the earlier results passed now")
	}
	r.finish()
}

//go:build unix

package verify

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// cpu is the processor time of this process.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What twenty locales cost beside one, on a real release: what is left is to fetch and to read what they have.
func TestCost(t *testing.T) {
	testkit.Long(t, "two minutes; the figures are of this process alone")
	dir := testkit.Shared(t, "corpus", "firefox-small")
	cost := func(locales int) time.Duration {
		r := newRelease(t, filepath.Join(dir, "from.mar"), filepath.Join(dir, "to.mar"), map[string]string{"": filepath.Join(dir, "reference.partial.mar")},
			"dependentlibs.list", 3, locales, 2)
		r.same = true
		for _, line := range r.config() { // what the server makes is not the run's
			for _, locale := range line.Locales {
				r.about(strings.Replace(line.From, "%locale%", locale, 1))
				r.about(strings.Replace(line.To, "%locale%", locale, 1))
				r.about(fmt.Sprintf("/partial/%s/%s/%s.mar", line.Platform, line.Release, locale))
			}
		}
		before := cpu(t)
		report, err := Run(t.Context(), r.config(), r.options(t))
		if err != nil {
			t.Fatal(err)
		}
		if totals := report.Totals(); totals.Pass != totals.Tests {
			t.Fatalf("%+v: %+v", totals, report.Groups)
		}
		return cpu(t) - before
	}
	one, twenty := cost(1), cost(20)
	t.Logf("one locale %v, twenty locales %v of CPU time: %.2f", one, twenty, float64(twenty)/float64(one))
	if twenty > 8*one {
		t.Errorf("twenty locales cost %.2f times one", float64(twenty)/float64(one))
	}
}

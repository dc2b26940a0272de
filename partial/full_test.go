package partial

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// firefoxVariable names a directory with from.mar and to.mar, two complete updates of one product. Without it, and
// with SENBON_LONG, the small corpus is taken.
const firefoxVariable = "SENBON_FIREFOX"

// TestFirefox makes the partial update of two real releases with both recipes, and has it judged by the independent
// applier. SENBON_RECIPE limits it to one recipe.
func TestFirefox(t *testing.T) {
	dir := os.Getenv(firefoxVariable)
	if dir == "" {
		testkit.Long(t, "half a minute; or set "+firefoxVariable+" to a directory with from.mar and to.mar of real releases")
		dir = testkit.Shared(t, "corpus", "firefox-small")
	}
	open := func(name string) *mar.Reader {
		r, err := mar.OpenFile(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r.Reader
	}
	from, to := open("from.mar"), open("to.mar")
	debug.SetGCPercent(100) // as in a program
	debug.SetMemoryLimit(math.MaxInt64)
	for _, r := range []Recipe{DefaultRecipe(), MozillaRecipe()} {
		if only := os.Getenv("SENBON_RECIPE"); only != "" && only != r.Name {
			continue
		}
		start := time.Now()
		a, rep, err := Build(t.Context(), from, to, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, %v, peak so far %s", r.Name, rep.Size, time.Since(start).Round(time.Millisecond), peakRSS())
		for _, f := range rep.Files {
			if f.Seconds > 0.5 {
				t.Logf("  %-30s %-6s %9d bytes %7.2f s", f.Path, f.Action, f.Size, f.Seconds)
			}
		}
		if !rep.Verified {
			t.Errorf("not verified: %+v", rep.Findings)
		}
		out := filepath.Join(t.TempDir(), r.Name+".mar")
		f, err := os.Create(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.WriteTo(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		t.Log(oracle(t, "check", filepath.Join(dir, "from.mar"), out, filepath.Join(dir, "to.mar")))
	}
}

// peakRSS returns the process's largest resident size.
func peakRSS() string {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// oracle runs the independent applier and returns what it says.
func oracle(tb testing.TB, args ...string) string {
	tb.Helper()
	said, ok := runOracle(tb, testkit.Shared(tb, "oracle", "mar_oracle.py"), args...)
	if !ok {
		tb.Errorf("the independent applier says: %s", said)
	}
	return said
}

// runOracle runs the independent applier, where there is a python3.
func runOracle(tb testing.TB, script string, args ...string) (said string, ok bool) {
	tb.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		return "no python3", true
	}
	out, err := exec.CommandContext(tb.Context(), python, append([]string{script}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}

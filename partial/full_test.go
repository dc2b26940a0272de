package partial

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// firefoxVariable names a directory with from.mar and to.mar, two complete updates of one product.
const firefoxVariable = "SENBON_FIREFOX"

// TestFirefox makes the partial update of two real releases with both recipes, and has it judged by the independent
// applier. SENBON_RECIPE limits it to one recipe.
func TestFirefox(t *testing.T) {
	dir := os.Getenv(firefoxVariable)
	if dir == "" {
		t.Skipf("takes minutes and two releases: set %s to a directory with from.mar and to.mar", firefoxVariable)
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
func oracle(t testing.TB, args ...string) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	script := testkit.Shared(t, "oracle", "mar_oracle.py")
	out, err := exec.CommandContext(t.Context(), python, append([]string{script}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out))
}

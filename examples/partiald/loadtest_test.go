package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/loadtest"
)

// partiald runs a command line of the program and returns what it said and its exit code.
func partiald(tb testing.TB, env []string, args ...string) (stdout, stderr string, code int) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "partiald", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir()}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), exitCode(err)
}

// The load test of a real server, as somebody runs it: everything that was asked for is there, and a second run can be
// compared with the first.
func TestLoadtest(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("small.toml"), []byte(`
about = "A little of everything."
size = "8KB"
[[load]]
kind = "new"
rate = 3
duration = "1s"
[[load]]
kind = "watch"
rate = 6
per_job = 3
duration = "1s"
[[load]]
kind = "status"
rate = 20
duration = "1s"
[[load]]
kind = "ask"
rate = 20
duration = "1s"
[[load]]
kind = "download"
rate = 10
duration = "1s"
[[load]]
kind = "page"
rate = 10
duration = "1s"
[[load]]
kind = "upload"
rate = 4
size = "8KB"
duration = "1s"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"loadtest", "--target", "http://" + n.addr, "--scenario", file("small.toml")}
	out, errs, code := partiald(t, nil, append(base, "--json", file("a.json"), "--html", file("a.html"))...)
	if code != 0 || !strings.Contains(out, " 0 missing, 0 wrong") {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	data, err := os.ReadFile(file("a.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r loadtest.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Settled.Proved != 5 || len(r.Loads) != 7 || r.Vitals[0].RSS < 1<<20 {
		t.Errorf("settled %+v, %d loads, vitals %+v", r.Settled, len(r.Loads), r.Vitals[0])
	}
	if page, err := os.ReadFile(file("a.html")); err != nil || bytes.Count(page, []byte("<svg")) != 11 {
		t.Errorf("the page has %d plots, %v", bytes.Count(page, []byte("<svg")), err)
	}

	// The same, with completes from an origin, compared with a run that was a hundred times faster.
	for i := range r.Loads {
		r.Loads[i].Slices = nil
		for s := range 8 {
			r.Loads[i].Slices = append(r.Loads[i].Slices, loadtest.Slice{At: float64(s), Requests: 5, P50: 0.001, P90: 0.001})
		}
	}
	if data, err = json.Marshal(&r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("fast.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code = partiald(t, nil, append(base, "--origin", "--quiet", "--compare", file("fast.json"))...)
	if code != 0 || !strings.Contains(out, "not compared: 8 and 1 seconds are too few") || errs != "" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	for name, args := range map[string][]string{
		"no target":      {"loadtest"},
		"elsewhere":      {"loadtest", "--target", "http://192.0.2.1:8080"},
		"other twice":    {"loadtest", "--target", "http://192.0.2.1:8080", "--again", "http://192.0.2.2:8080"},
		"no scenario":    {"loadtest", "--target", "http://" + n.addr, "--scenario", "nothing"},
		"no report":      {"loadtest", "--target", "http://" + n.addr, "--compare", file("small.toml")},
		"too much":       {"loadtest", "--target", "http://" + n.addr, "--rate", "1e9"},
		"negative noise": {"loadtest", "--target", "http://" + n.addr, "--noise", "-1"},
	} {
		if out, errs, code := partiald(t, nil, args...); code != 2 || errs == "" {
			t.Errorf("%s: exit code %d, %s%s", name, code, out, errs)
		}
	}
	if out, _, code := partiald(t, nil, "loadtest", "--list"); code != 0 || !strings.Contains(out, "mixed") {
		t.Errorf("--list: exit code %d, %s", code, out)
	}
}

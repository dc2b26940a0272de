package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/loadtest"
)

// Everything fails now and then while a load test runs, and at the end everything that was asked for is there and right.
func TestChaos(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string { return writeFile(t, dir, name, text) }
	n := newNode(t, "PARTIALD_WORKERS_RETRY_DELAY=200ms", "PARTIALD_WORKERS_ATTEMPTS=40", "PARTIALD_CACHE_MEMORY=0B")
	profile := write("chaos.toml", `about = "Everything, and often."
lasts = "5s"
kill_plugins = "1200ms"
damage_cache = "100ms"
drop_connections = 0.3
origin_fail = 0.85
origin_delay = "50ms"
origin_delay_share = 0.9
store_fail = 0.5
store_delay = "50ms"
store_delay_share = 0.6
`)
	n.args = []string{"--dev", "--chaos", profile, "--config", write("partiald.toml", withPlugins(t, dir, "sample", "", ""))}
	n.start()
	scenario := write("few.toml", `size = "8KB"
[[load]]
kind = "new"
rate = 5
duration = "3s"
[[load]]
kind = "status"
rate = 20
duration = "3s"
[[load]]
kind = "download"
rate = 20
duration = "3s"
`)
	report := filepath.Join(dir, "report.json")
	out, errs, code := partiald(t, nil, "loadtest", "--target", "http://"+n.addr, "--origin", "--errors", "0.9", "--scenario", scenario, "--json", report)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r loadtest.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []string{"plugin killed", "connection cut", "answer cut", "origin cut", "origin slow", "store failed", "store slow", "cache damaged"} {
		if r.Faults[fault] == 0 {
			t.Errorf("no fault of the kind %q was injected: %v", fault, r.Faults)
		}
	}
	if r.Settled.Asked < 5 || r.Settled.Proved != r.Settled.Asked {
		t.Errorf("settled %+v", r.Settled)
	}
	t.Logf("%+v under %v", r.Settled, r.Faults)
}

// Faults are for trying out alone, and a profile that cannot be used is said to be.
func TestChaosRefused(t *testing.T) {
	t.Parallel()
	wrong := filepath.Join(t.TempDir(), "wrong.toml")
	if err := os.WriteFile(wrong, []byte("store_fail = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"needs --dev":          {"--chaos", "rough"},
		"light, origin, rough": {"--dev", "--chaos", "nothing"},
		"store_fail":           {"run", "--dev", "--chaos", wrong},
	} {
		_, errs, code := partiald(t, []string{"PARTIALD_DATA=" + t.TempDir()}, append(args, "--listen", "127.0.0.1:0")...)
		if code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: exit code %d, %s", args, code, errs)
		}
	}
}

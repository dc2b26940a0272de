package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

var metricName = regexp.MustCompile(`\b(partiald|go|process)_[a-z_]+`)

// Alerts and dashboard ask for what there is, from the start on.
func TestAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.args = []string{"--config", filepath.Join(testkit.Root(t), "docs", "partiald.toml")} // as it is
	n.start()
	n.get("/")
	metrics := string(n.get("/metrics"))
	for _, name := range []string{"alerts.yml", "grafana.json"} {
		data, err := os.ReadFile(filepath.Join("deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		asked := metricName.FindAllString(string(data), -1)
		if len(asked) < 10 {
			t.Errorf("%s asks for %d metrics", name, len(asked))
		}
		for _, m := range asked {
			m = strings.TrimSuffix(m, "_bucket")
			if !strings.Contains(metrics, "\n"+m) && m != "partiald_plugin_starts_total" { // which is there with plugins
				t.Errorf("%s asks for %s, which is not there", name, m)
			}
		}
	}
	for _, want := range []string{
		`partiald_jobs_finished_total{code="internal",fault="service",state="failed"} 0`, `partiald_jobs_finished_total{code="fetch-failed",fault="origin",state="failed"} 0`,
		`partiald_jobs_finished_total{code="fetch-failed",fault="caller",state="failed"} 0`, `partiald_jobs_finished_total{code="",fault="",state="done"} 0`,
		`partiald_queue_oldest_seconds 0`, `partiald_job_wait_seconds_count 0`, `partiald_step_duration_seconds_count{step="diffing"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("at the start there is no %s", want)
		}
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	data, err := os.ReadFile(filepath.Join("deploy", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range board.Panels {
		if seen[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %d, %q, has no number of its own, no title or nothing to show", p.ID, p.Title)
		}
		seen[p.ID] = true
	}
	t.Run("promtool", func(t *testing.T) {
		tool, err := exec.LookPath("promtool")
		if err != nil {
			t.Skip("no promtool (Debian: prometheus)")
		}
		for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
			cmd := exec.CommandContext(t.Context(), tool, args...)
			cmd.Dir = "deploy"
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
		cmd.Stdin = strings.NewReader(metrics)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
}

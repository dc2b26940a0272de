package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// alertRules is the file with the alerts that come with the service.
//
//go:embed deploy/alerts.yml
var alertRules []byte

// alert is one alert, of the file or as Prometheus has it loaded.
type alert struct {
	name, query, severity string
	waits                 time.Duration
	broken                bool // Prometheus cannot evaluate it
}

// shippedAlerts are those of the file.
func shippedAlerts() ([]alert, error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				For         time.Duration
				Labels      map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(alertRules, &file); err != nil {
		return nil, err
	}
	var out []alert
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			out = append(out, alert{name: r.Alert, query: r.Expr, severity: r.Labels["severity"], waits: r.For})
		}
	}
	return out, nil
}

// loadedAlerts are those of a Prometheus that look at metrics of the service.
func loadedAlerts(ctx context.Context, base string) ([]alert, error) {
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Query, Type, Health string
					Duration                  float64 // seconds
					Labels                    map[string]string
				}
			}
		}
	}
	if err := prometheusGet(ctx, base+"/api/v1/rules", &answer); err != nil {
		return nil, err
	}
	var out []alert
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Type == "alerting" && strings.Contains(r.Query+r.Labels["job"], "partiald") {
				out = append(out, alert{r.Name, r.Query, r.Labels["severity"], time.Duration(r.Duration * float64(time.Second)), r.Health == "err"})
			}
		}
	}
	return out, nil
}

// same says whether two alerts come to the same. Prometheus writes queries with other spaces.
func (a *alert) same(b *alert) bool {
	bare := func(query string) string { return strings.Join(strings.Fields(query), "") }
	return bare(a.query) == bare(b.query) && a.waits == b.waits && a.severity == b.severity
}

// watched are the metrics that some alert should look at.
var watched = []string{"partiald_healthy", "partiald_jobs_finished_total", "partiald_queue_jobs", "partiald_jobs_requeued_total", "partiald_plugin_starts_total"}

// alerts asks Prometheus which rules it has, compares them with those of the file, and whether it sees the service.
func (u *auditor) alerts(ctx context.Context) {
	if u.o.prometheus == "" {
		u.unchecked("alerts", "no --prometheus was given")
		return
	}
	base := strings.TrimSuffix(u.o.prometheus, "/")
	loaded, err := loadedAlerts(ctx, base)
	if u.errorOf("alerts", "is it the address of Prometheus?", err) {
		return
	}
	shipped, err := shippedAlerts()
	if u.errorOf("alerts", "", err) {
		return
	}
	u.compareAlerts(shipped, loaded)
	var seen struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if u.errorOf("scraping", "", prometheusGet(ctx, base+"/api/v1/query?query=partiald_ready", &seen)) {
		return
	}
	if len(seen.Data.Result) == 0 {
		u.find(bad, "scraping", "scrape /metrics of every server, with a token of the role read", "Prometheus has no partiald_ready: it does not see the service")
		return
	}
	u.good("scraping", "Prometheus sees %d servers", len(seen.Data.Result))
}

// compareAlerts says which alerts of the file are not loaded as they are there, and what none looks at. Alerts of one's own are
// as good, where they look at the same metrics.
func (u *auditor) compareAlerts(shipped, loaded []alert) {
	const load = "load deploy/alerts.yml (rule_files in Prometheus' configuration)"
	var blind, missing, other []string
	broken := false
	for _, a := range loaded {
		if a.broken {
			broken = true
			u.find(bad, "alert "+a.name, "see Prometheus' page of rules", "cannot be evaluated")
		}
	}
	for _, metric := range watched {
		if !slices.ContainsFunc(loaded, func(a alert) bool { return strings.Contains(a.query, metric) }) {
			blind = append(blind, metric)
		}
	}
	for i := range shipped {
		at := slices.IndexFunc(loaded, func(a alert) bool { return a.name == shipped[i].name })
		switch {
		case at < 0:
			missing = append(missing, shipped[i].name)
		case !loaded[at].same(&shipped[i]):
			other = append(other, shipped[i].name)
		}
	}
	if len(blind) > 0 {
		u.find(bad, "alerts", load, "%d are loaded, and none looks at %s", len(loaded), strings.Join(blind, ", "))
	} else if !broken {
		u.good("alerts", "%d are loaded, and look at what they should", len(loaded))
	}
	switch {
	case len(missing)+len(other) == 0:
		u.good("rule file", "all %d alerts of deploy/alerts.yml are loaded as they are there", len(shipped))
	case len(missing) > 0:
		u.find(better, "rule file", load, "of the %d alerts of deploy/alerts.yml these are not loaded: %s", len(shipped), strings.Join(missing, ", "))
	}
	if len(other) > 0 {
		u.find(better, "rule file, changed", "compare them with deploy/alerts.yml of this version", "loaded otherwise than in the file: %s", strings.Join(other, ", "))
	}
}

func prometheusGet(ctx context.Context, address string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(v)
}

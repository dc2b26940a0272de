package web

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// heartbeat is the answer of /__heartbeat__.
type heartbeat struct {
	Status string       `json:"status"` // "ok" or "error"
	Checks []job.Health `json:"checks"`
}

// opsRoutes are those of Dockerflow, and metrics.
func (s *server) opsRoutes() {
	free := access{free: true}
	s.handle("GET /__lbheartbeat__", free, func(w http.ResponseWriter, r *http.Request) {
		if err := s.accepting(); err != nil {
			writeProblem(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	s.handle("GET /__heartbeat__", free, func(w http.ResponseWriter, r *http.Request) {
		answer, status := heartbeat{Status: "ok", Checks: s.health(r.Context())}, http.StatusOK
		operator := infoFrom(r.Context()).caller.may(RoleOperate)
		for i := range answer.Checks {
			if !answer.Checks[i].OK {
				answer.Status, status = "error", http.StatusServiceUnavailable
			}
			if !operator {
				answer.Checks[i].Error = "" // may name machines and paths, and have the texts of plugins
			}
		}
		if status != http.StatusOK {
			w.Header().Set("Retry-After", "5")
		}
		writeJSON(w, status, answer)
	})
	s.handle("GET /__version__", free, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.opts.Version)
	})
	prom := promhttp.HandlerFor(s.opts.Registry, promhttp.HandlerOpts{Registry: s.opts.Registry, MaxRequestsInFlight: 4})
	s.handle("GET /metrics", access{role: RoleRead}, prom.ServeHTTP)
}

// pulse is how the service was when it was asked last.
type pulse struct {
	mu     sync.Mutex
	checks []job.Health
	until  time.Time // from when on it is asked again
}

// health asks the service how it is. Everybody may want to know, and to find out costs writes to disks and calls of
// plugins: those who ask at one time share an answer.
func (s *server) health(ctx context.Context) []job.Health {
	p := &s.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.until) {
		ctx, cancel := call(context.WithoutCancel(ctx)) // it is not for this one alone
		defer cancel()
		p.checks = s.svc.Health(ctx)
		p.until = time.Now().Add(s.opts.HealthAge)
	}
	return slices.Clone(p.checks)
}

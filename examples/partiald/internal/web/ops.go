package web

import (
	"net/http"

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
		ctx, cancel := call(r.Context())
		defer cancel()
		answer, status := heartbeat{Status: "ok", Checks: s.svc.Health(ctx)}, http.StatusOK
		reader := infoFrom(r.Context()).caller.may(RoleRead)
		for i := range answer.Checks {
			if !answer.Checks[i].OK {
				answer.Status, status = "error", http.StatusServiceUnavailable
			}
			if !reader {
				answer.Checks[i].Error = "" // may name machines and paths
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

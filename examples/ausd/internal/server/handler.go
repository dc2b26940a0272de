package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
)

const filesRoute = "/files/{hash}/{name}"

// How slowly a body may come.
const (
	bodyStall = time.Minute
	bodyRate  = 4 << 10 // bytes a second, on average over it
)

// Handler answers everything: clients, files, the server's own API, Balrog's. Clients' queries are answered at once; all else goes
// through the chain of every service, is logged and counted, and who tries tokens is kept out.
func (s *Server) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(s))
	around, err := chain.New(chain.Options{Name: "ausd", Log: s.log.With("part", "http"), Registry: registry, Locator: s.locator})
	if err != nil {
		panic(err) // nobody else knows the registry
	}
	mux := http.NewServeMux()
	api := s.adminRoutes(mux)
	s.describeBalrog(api.OpenAPI())
	mux.Handle(balrogapi.Prefix+"/", s.ownBalrog())
	mux.HandleFunc("POST /oauth/token", s.balrog.Token)
	s.pageRoutes(mux)
	mux.HandleFunc(filesRoute, s.serveFile)
	mux.Handle("GET /metrics", s.metrics(registry))
	mux.HandleFunc("GET /__heartbeat__", s.serveHeartbeat)
	protected := http.NewCrossOriginProtection().Handler(mux)
	rest := around.Handler(chain.Hooks{
		Serve: func(w http.ResponseWriter, r *http.Request) {
			in := chain.From(r.Context())
			_, in.Route = mux.Handler(r)
			in.Quiet = in.Route == "GET /__heartbeat__" || in.Route == "GET /metrics"
			if b, ok := r.Body.(*chain.Body); ok { // complete updates may take their time
				b.Stream(bodyStall, bodyRate, nil)
			}
			if !in.Local && in.Route != filesRoute && !s.admit(w, r, in) {
				return
			}
			protected.ServeHTTP(w, r)
		},
		Panicked: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "an unexpected error; the log has it under the request ID", http.StatusInternalServerError)
		},
		Attrs: func(r *http.Request) []slog.Attr {
			if c := s.who(r); c != nil {
				return []slog.Attr{slog.String("who", c.Name)}
			}
			return nil
		},
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/update/") || strings.HasPrefix(r.URL.Path, "/json/") || strings.HasPrefix(r.URL.Path, "/api/v1/") {
			s.servePublic(w, r)
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" {
			s.servePublic(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// admit keeps out addresses from which too many wrong tokens came, unless they come with one that is right.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, in *chain.Request) bool {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if ok && s.owner(bearer) != nil {
		return true
	}
	if until, banned := s.bans.Banned(in.Addr); banned {
		w.Header().Set("Retry-After", strconv.Itoa(int(time.Until(until)/time.Second)+1))
		http.Error(w, fmt.Sprintf("this address is banned until %s: too many wrong tokens", until.UTC().Format(time.RFC3339)), http.StatusForbidden)
		return false
	}
	if ok && s.bans.Offend(in.Addr) {
		s.log.WarnContext(r.Context(), "banned", "address", in.Addr, "reason", "wrong tokens", "for", s.bans.For)
	}
	return true
}

package server

import (
	"net/http"
	"strings"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
)

// Handler answers everything: clients, files, the server's own API, Balrog's.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	api := s.adminRoutes(mux)
	s.describeBalrog(api.OpenAPI())
	mux.Handle(balrogapi.Prefix+"/", s.ownBalrog())
	mux.HandleFunc("POST /oauth/token", s.balrog.Token)
	s.pageRoutes(mux)
	mux.HandleFunc("/files/{hash}/{name}", s.serveFile)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /__heartbeat__", s.serveHeartbeat)
	protected := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/update/") || strings.HasPrefix(r.URL.Path, "/json/") || strings.HasPrefix(r.URL.Path, "/api/v1/") {
			s.servePublic(w, r)
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" {
			s.servePublic(w, r)
			return
		}
		protected.ServeHTTP(w, r)
	})
}

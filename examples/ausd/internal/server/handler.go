package server

import (
	"net/http"
	"strings"
)

// Handler answers everything: clients, files, the server's own API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.adminRoutes(mux)
	s.pageRoutes(mux)
	mux.HandleFunc("/files/{hash}/{name}", s.serveFile)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /__heartbeat__", s.serveHeartbeat)
	protected := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/update/") || strings.HasPrefix(r.URL.Path, "/json/") {
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

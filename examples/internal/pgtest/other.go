//go:build !unix

package pgtest

import "testing"

// Server is a PostgreSQL server, of which there is none here.
type Server struct{}

// Found says whether there is a PostgreSQL that tests can start.
func Found() bool { return false }

// Postgres skips the test.
func Postgres(tb testing.TB) *Server {
	tb.Helper()
	tb.Skip("PostgreSQL is started on Unix here")
	return nil
}

// Kill does nothing.
func (s *Server) Kill() {}

// Restart does nothing.
func (s *Server) Restart(testing.TB) {}

// Database returns nothing.
func (s *Server) Database(testing.TB) string { return "" }

// Address returns nothing.
func (s *Server) Address() string { return "" }

// Database returns nothing.
func Database(testing.TB, string) string { return "" }

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"
)

// errChaos is why something failed that did not have to.
var errChaos = errors.New("chaos: cut off")

// spared are what a test is watched by.
var spared = []string{"/metrics", "/__heartbeat__", "/__lbheartbeat__", "/__version__"}

// Handler cuts connections of callers, and notes the first request, with which the time begins that faults last.
func (m *Monkey) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(spared, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		m.request()
		if !m.chance(m.p.DropConnections) {
			next.ServeHTTP(w, r)
			return
		}
		if rand.N(2) == 0 {
			m.count("connection cut")
			panic(http.ErrAbortHandler) // which is how a handler of net/http cuts the connection
		}
		ctx, gone := context.WithCancel(r.Context())
		defer gone()
		c := &cutWriter{ResponseWriter: w, left: rand.N(int64(4 << 10)), gone: gone}
		next.ServeHTTP(c, r.WithContext(ctx))
		m.count("answer cut")
		panic(http.ErrAbortHandler)
	})
}

// cutWriter takes so many bytes of an answer and no more.
type cutWriter struct {
	http.ResponseWriter
	left int64
	gone context.CancelFunc // of the request: its caller is not there any more
}

func (c *cutWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.left <= 0 {
		c.gone()
		return 0, errChaos
	}
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); err == nil && n < len(p) {
		c.gone()
		err = errChaos
	}
	return n, err
}

// Conn makes connections to origins as bad as the profile says. It is for fetch.Options.
func (m *Monkey) Conn(conn net.Conn) net.Conn { return &badConn{conn, m} }

// badConn is a connection of which each read may hesitate or break off: an answer takes about two of them.
type badConn struct {
	net.Conn
	m *Monkey
}

func (c *badConn) Read(p []byte) (int, error) {
	if c.m.chance(c.m.p.OriginDelayShare / 2) {
		c.m.count("origin slow")
		time.Sleep(upTo(c.m.p.OriginDelay.Duration))
	}
	if c.m.chance(c.m.p.OriginFail / 2) {
		c.m.count("origin cut")
		return 0, errors.Join(errChaos, c.Close())
	}
	return c.Conn.Read(p[:min(len(p), 32<<10)]) // so that it also breaks off in the middle
}

package web_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// everything is what the options are where there is no configuration.
var everything = web.Options{Anonymous: web.Roles(), Sample: true}

func TestMain(m *testing.M) {
	testkit.AtOnce(8)
	os.Exit(m.Run())
}

// site is a running handler with a service that the test moves.
type site struct {
	t    *testing.T
	svc  *jobtest.Service
	srv  *httptest.Server
	logs *bytes.Buffer
}

func open(t *testing.T, opts web.Options) *site {
	t.Helper()
	return openWith(t, jobtest.New(), opts)
}

func openWith(t *testing.T, svc *jobtest.Service, opts web.Options, change ...func(*http.Server)) *site {
	t.Helper()
	s := &site{t: t, svc: svc, logs: &bytes.Buffer{}}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewJSONHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h, err := web.New(svc, opts)
	if err != nil {
		t.Fatal(err)
	}
	s.srv = httptest.NewUnstartedServer(h)
	s.srv.Config = chain.NewServer(h, opts.Logger)
	for _, c := range change {
		c(s.srv.Config)
	}
	s.srv.Start()
	t.Cleanup(s.srv.Close)
	return s
}

// ends is a change of a server. The channel, which has to be read, receives the client's address of every connection that
// the server has closed, after its handler has returned.
func ends() (change func(*http.Server), closed <-chan string) {
	c := make(chan string, 1000)
	return func(s *http.Server) {
		s.ConnState = func(conn net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				c <- conn.RemoteAddr().String()
			}
		}
	}, c
}

// reply is an answer that was read.
type reply struct {
	t *testing.T
	*http.Response
	body string
}

// do sends a request; header are pairs. Redirects are not followed.
func (s *site) do(method, path, body string, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.srv.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := s.srv.Client().Transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{s.t, resp, string(data)}
}

// want fails unless the status is right.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.StatusCode != status {
		r.t.Fatalf("%s %s: got %s, want %d\n%s", r.Request.Method, r.Request.URL.Path, r.Status, status, r.body)
	}
	return r
}

// problem fails unless the answer is a problem with the status and code, and returns it.
func (r reply) problem(status int, code job.Code) web.Problem {
	r.t.Helper()
	r.want(status)
	if ct := r.Header.Get("Content-Type"); ct != "application/problem+json" {
		r.t.Errorf("%s %s: Content-Type %q", r.Request.Method, r.Request.URL.Path, ct)
	}
	var p web.Problem
	r.decode(&p)
	if p.Code != code || p.Status != status || p.Type != "/problems#"+string(code) || p.Title == "" || p.Advice == "" || p.Detail == "" {
		r.t.Errorf("%s %s: got %+v, want code %s", r.Request.Method, r.Request.URL.Path, p, code)
	}
	if p.RequestID == "" || p.RequestID != r.Header.Get("X-Request-Id") {
		r.t.Errorf("%s %s: request ID %q, header %q", r.Request.Method, r.Request.URL.Path, p.RequestID, r.Header.Get("X-Request-Id"))
	}
	if (status == 429 || status == 503) && r.Header.Get("Retry-After") == "" {
		r.t.Errorf("%s %s: %d without Retry-After", r.Request.Method, r.Request.URL.Path, status)
	}
	return p
}

func (r reply) decode(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		r.t.Fatalf("%s %s: %v\n%s", r.Request.Method, r.Request.URL.Path, err, r.body)
	}
}

func (r reply) job() job.Status {
	r.t.Helper()
	var st job.Status
	r.decode(&st)
	return st
}

var (
	hashA = strings.Repeat("a", 128)
	hashB = strings.Repeat("b", 128)
	hashC = strings.Repeat("c", 128)
)

// spec is a request in JSON; more is put into it.
func spec(from, to string, more ...string) string {
	return `{"from":{"urls":["https://example.org/from.mar"],"sha512":"` + from + `"},"to":{"urls":["https://example.org/to.mar"],"sha512":"` +
		to + `"}` + strings.Join(more, "") + `}`
}

// submit asks for a partial and returns its job.
func (s *site) submit(from, to string, more ...string) job.Status {
	s.t.Helper()
	return s.do("POST", "/api/v1/partials", spec(from, to, more...)).want(202).job()
}

// inMemory returns a handler that logs nothing.
func inMemory(tb testing.TB, opts web.Options) http.Handler {
	tb.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	h, err := web.New(jobtest.New(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// serve asks a handler without a connection.
func serve(t *testing.T, h http.Handler, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

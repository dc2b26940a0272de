package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// info is what is known about a request. Only the goroutine that answers it uses it.
type info struct {
	*chain.Request
	access access
	caller *caller
	job    string   // that it was about
	code   job.Code // of the problem that was the answer
	err    error    // why it was an internal one
}

func (in *info) failed(err error) { in.err = err }

type infoKey struct{}

func infoFrom(ctx context.Context) *info {
	in, _ := ctx.Value(infoKey{}).(*info)
	return in
}

// outer is around all routes.
func (s *server) outer() http.Handler {
	return s.chain.Handler(chain.Hooks{
		Begin: func(r *http.Request, in *chain.Request) *http.Request {
			return r.WithContext(context.WithValue(r.Context(), infoKey{}, &info{Request: in, caller: s.anon}))
		},
		Serve: func(w http.ResponseWriter, r *http.Request) { s.route(w, r, infoFrom(r.Context())) },
		Panicked: func(w http.ResponseWriter, r *http.Request) {
			s.refuse(w, r, problem(job.CodeInternal, "an unexpected error; the log has it under the request ID"))
		},
		Attrs: func(r *http.Request) []slog.Attr {
			in := infoFrom(r.Context())
			attrs := []slog.Attr{slog.String("who", in.caller.name)}
			if in.job != "" {
				attrs = append(attrs, slog.String("job", in.job))
			}
			if in.code != "" {
				attrs = append(attrs, slog.String("code", string(in.code)))
			}
			if in.err != nil {
				attrs = append(attrs, slog.Any("error", in.err))
			}
			return attrs
		},
	})
}

// route calls the handler of the route, or answers that there is none.
func (s *server) route(w http.ResponseWriter, r *http.Request, in *info) {
	fields := 0
	for _, v := range r.Header {
		fields += len(v)
	}
	api := strings.HasPrefix(r.URL.Path, "/api/")
	in.access.page = !api && strings.Contains(r.Header.Get("Accept"), "text/html")
	if fields > maxHeaderFields {
		s.refuse(w, r, problem(codeHeaders, "%d header fields; at most %d are taken", fields, maxHeaderFields))
		return
	}
	if s.hosts != nil && !s.hosts[chain.Hostname(r.Host)] && !strings.HasPrefix(r.URL.Path, "/__") {
		s.refuse(w, r, problem(codeMisdirected, "the service is not called %.100q", chain.Hostname(r.Host)))
		return
	}
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	if p := s.admit(r, in); p != nil {
		s.refuse(w, r, p)
		return
	}
	var rec recorder
	s.mux.ServeHTTP(&rec, r)
	if allow := rec.Header().Get("Allow"); rec.status == http.StatusMethodNotAllowed {
		s.refuse(w, r, problem(codeMethod, "%.20q is not allowed here, but %s", r.Method, allow).header("Allow", allow))
		return
	}
	if s.oldFunsize(w, r) {
		return
	}
	s.refuse(w, r, problem(job.CodeNotFound, "there is nothing at %.200q", r.URL.Path))
}

// recorder takes the answer of a handler of which only status and header matter.
type recorder struct {
	header http.Header
	status int
}

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }

// upload takes a body as a stream that may take as long as something comes.
func (s *server) upload(r *http.Request) {
	if b, ok := r.Body.(*chain.Body); ok {
		b.Stream(s.opts.Stall, s.opts.UploadRate, func(n int) { s.metrics.received.Add(float64(n)) })
	}
}

// bodyError says what is wrong with a body that cannot be read: it is always the client's doing.
func bodyError(err error) error {
	var n net.Error
	var known *Problem
	var large *http.MaxBytesError
	var slow *chain.SlowError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &slow):
		return problem(codeTimeout, "the body comes too slowly: at least %d bytes have to come in a second", slow.Rate)
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return problem(job.CodeTooLarge, "the body is larger than %d bytes", large.Limit).in("body")
	case errors.As(err, &n) && n.Timeout():
		return problem(codeTimeout, "the body did not arrive in time")
	}
	return problem(codeSyntax, "the body cannot be read: %v", err).in("body")
}

// jsonBody reads the body of a JSON request and gives it back as a reader, after looking at its size, kind and
// encoding. No body at all is fine here.
func jsonBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return problem(job.CodeTooLarge, "the body has %d bytes; at most %d are taken", r.ContentLength, limit).in("body")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return bodyError(err)
	}
	if len(body) > 0 {
		if !isJSON(r.Header.Get("Content-Type")) {
			return problem(codeMediaType, "the body is %.100q", r.Header.Get("Content-Type"))
		}
		if at := invalidUTF8(body); at >= 0 {
			return problem(codeSyntax, "byte %d of the body is not UTF-8", at).in("body")
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
}

func invalidUTF8(p []byte) int {
	if utf8.Valid(p) {
		return -1
	}
	at := 0
	for {
		c, n := utf8.DecodeRune(p[at:])
		if c == utf8.RuneError && n <= 1 {
			return at
		}
		at += n
	}
}

package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// info is what is known about a request. Only the goroutine that answers it uses it.
type info struct {
	id     string
	addr   string // of the client, as it is counted and banned
	local  bool   // the client is on this machine, or a proxy itself: never banned by itself
	secure bool   // came over TLS, as far as is known
	route  string
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

var requestID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:~-]{7,127}$`)

// policy lets pages load nothing from elsewhere and stand in nobody's frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// outer is around all routes.
func (s *server) outer() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		in := &info{caller: s.anon}
		if in.id = r.Header.Get(headerRequestID); !requestID.MatchString(in.id) {
			in.id = strings.ToLower(rand.Text())
		}
		s.locate(r, in)
		r = r.WithContext(context.WithValue(r.Context(), infoKey{}, in))
		w := &response{ResponseWriter: rw, rc: http.NewResponseController(rw), stall: s.opts.Stall + s.opts.BodyTime}
		if r.ContentLength != 0 {
			_ = w.rc.SetReadDeadline(start.Add(s.opts.BodyTime)) // a test's request has no connection
			r.Body = &timedBody{ReadCloser: r.Body, rc: w.rc}
		}
		h := w.Header()
		h.Set("X-Request-Id", in.id)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if in.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		s.metrics.inFlight.Inc()
		defer func() {
			p := recover()
			err, _ := p.(error)
			abort := errors.Is(err, http.ErrAbortHandler)
			if p != nil && !abort {
				s.metrics.panics.Inc()
				s.log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("request_id", in.id),
					slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				if abort = w.status != 0; !abort {
					s.refuse(w, r, problem(job.CodeInternal, "an unexpected error; the log has it under the request ID"))
				} // else it is torn, so that nobody takes half an answer for a whole one
			}
			s.metrics.inFlight.Dec()
			s.account(r, in, w, time.Since(start))
			if abort {
				panic(http.ErrAbortHandler)
			}
		}()
		s.route(w, r, in)
	})
}

// route calls the handler of the route, or answers that there is none.
func (s *server) route(w http.ResponseWriter, r *http.Request, in *info) {
	in.route = "(none)"
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
	if s.hosts != nil && !s.hosts[hostname(r.Host)] && !strings.HasPrefix(r.URL.Path, "/__") {
		s.refuse(w, r, problem(codeMisdirected, "the service is not called %.100q", hostname(r.Host)))
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

// account writes the request down.
func (s *server) account(r *http.Request, in *info, w *response, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	method := r.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	s.metrics.duration.WithLabelValues(in.route, method, strconv.Itoa(status)).Observe(took.Seconds())
	s.metrics.sent.Add(float64(w.sent))
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelError
	case in.access.free:
		level = slog.LevelDebug
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", in.id), slog.String("method", method), slog.String("path", cut(r.URL.Path, 300)),
		slog.Int("status", status), slog.Int64("bytes", w.sent), slog.Duration("took", took),
		slog.String("remote", in.addr), slog.String("who", in.caller.name),
	}
	if in.job != "" {
		attrs = append(attrs, slog.String("job", in.job))
	}
	if in.code != "" {
		attrs = append(attrs, slog.String("code", string(in.code)))
	}
	if in.err != nil {
		attrs = append(attrs, slog.Any("error", in.err))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, slog.String("agent", cut(agent, 100)))
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// cut shortens a text for the log.
func cut(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "�")
}

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// locate finds out where a request comes from.
func (s *server) locate(r *http.Request, in *info) {
	in.secure = r.TLS != nil
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		in.addr = "unknown" // a Unix socket
		in.local = true
		return
	}
	addr := remote.Addr().Unmap()
	if s.trusted(addr) {
		if proto := r.Header.Get("X-Forwarded-Proto"); strings.EqualFold(proto, "https") {
			in.secure = true
		}
		// From the nearest to the farthest: the first that is not a proxy of ours is the client. What stands before
		// it was written by the client itself.
		hops := forwarded(r.Header.Values(s.opts.ProxyHeader), s.opts.ProxyHeader)
		for i := len(hops) - 1; i >= 0 && s.trusted(addr); i-- {
			next, ok := parseHop(hops[i])
			if !ok {
				break
			}
			addr = next
		}
	}
	in.local = addr.IsLoopback() || s.trusted(addr)
	in.addr = canonical(addr)
}

func (s *server) trusted(addr netip.Addr) bool {
	for _, p := range s.opts.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// canonical is how an address is counted and banned: IPv4 alone, IPv6 with its /64, which is one customer's.
func canonical(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() || addr.IsLoopback() {
		return addr.String()
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return p.String()
}

// forwarded returns the hops of a list header, the farthest first.
func forwarded(values []string, header string) []string {
	var hops []string
	for _, v := range values {
		for hop := range strings.SplitSeq(v, ",") {
			if header == headerForwarded {
				node := ""
				for pair := range strings.SplitSeq(hop, ";") {
					if k, v, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && strings.EqualFold(k, "for") {
						node = strings.Trim(v, `"`)
					}
				}
				hop = node
			}
			hops = append(hops, strings.TrimSpace(hop))
		}
	}
	return hops
}

func parseHop(hop string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// response counts what is sent, and ends a stream to a client that does not read.
type response struct {
	http.ResponseWriter
	rc       *http.ResponseController
	stall    time.Duration
	status   int
	sent     int64
	deadline time.Time
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.extend() // a connection that was kept has the deadline of its last answer
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// extend gives the client another while to read what was written; before that the server may have to wait for the
// rest of a body that nobody read.
func (w *response) extend() {
	if now := time.Now(); w.deadline.Sub(now) < w.stall/2 {
		w.deadline = now.Add(w.stall)
		_ = w.rc.SetWriteDeadline(w.deadline) // where there is no connection there is nothing to end
	}
}

// ReadFrom copies in pieces that are large enough to be fast and small enough to see a stall.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

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

// timedBody is a body that has to arrive in time: all of it, or with stall some of it again and again. A body that
// is not read has the same time, because the server reads on before it answers.
type timedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	stall time.Duration
	rate  int64 // bytes a second that have to come on average over stall
	read  func(int)

	since time.Time // monotonic: when the present part of it began
	got   int64     // in it
}

// slow says whether less came than has to.
func (b *timedBody) slow(n int) bool {
	if b.stall <= 0 || b.rate <= 0 {
		return false
	}
	now := time.Now()
	if b.since.IsZero() {
		b.since = now
	}
	b.got += int64(n)
	took := now.Sub(b.since)
	if took < b.stall {
		return false
	}
	enough := float64(b.got) >= float64(b.rate)*took.Seconds()
	b.since, b.got = now, 0
	return !enough
}

func (b *timedBody) Read(p []byte) (int, error) {
	if b.stall > 0 {
		_ = b.rc.SetReadDeadline(time.Now().Add(b.stall))
	}
	n, err := b.ReadCloser.Read(p)
	if b.read != nil {
		b.read(n)
	}
	if err == nil && b.slow(n) {
		return n, problem(codeTimeout, "the body comes too slowly: at least %d bytes have to come in a second", b.rate)
	}
	if err == io.EOF { // readers return it bare
		// What is done with the body may take longer; a deadline that passes would end the request.
		_ = b.rc.SetReadDeadline(time.Time{})
		return n, err
	}
	return n, bodyError(err)
}

// upload takes a body as a stream that may take as long as something comes.
func (s *server) upload(r *http.Request) {
	if b, ok := r.Body.(*timedBody); ok {
		b.stall, b.rate = s.opts.Stall, s.opts.UploadRate
		b.read = func(n int) { s.metrics.received.Add(float64(n)) }
	}
}

// bodyError says what is wrong with a body that cannot be read: it is always the client's doing.
func bodyError(err error) error {
	var n net.Error
	var known *Problem
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return nil
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

// Package chain is what is around the handlers of a service: each request gets a number and is known by where it comes from,
// also through proxies; answers have the headers of a careful server; a client that neither sends nor reads is given up; a
// panic is an answer, not an end; every request is counted and logged.
package chain

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

	"github.com/prometheus/client_golang/prometheus"
)

// MaxHeaderBytes is how large the header of a request may be.
const MaxHeaderBytes = 32 << 10

const (
	headerRequestID = "X-Request-Id"
	headerForwarded = "Forwarded"
)

// Options say how requests are taken. Log and Registry are required.
type Options struct {
	// Name is that of the service: it begins the names of metrics.
	Name     string
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Locator finds out whom requests come from.
	Locator Locator
	// BodyTime is how long a request's body may take to arrive, Stall how long an answer may stand still before it is given
	// up; 0 means 30 seconds and a minute.
	BodyTime, Stall time.Duration
	// BodyError says in the service's words why a body cannot be read; nil is the error as it is.
	BodyError func(error) error
}

// Request is what is known about a request. Only the goroutine that answers it uses it.
type Request struct {
	ID     string
	Addr   string // of the client, as it is counted and banned
	Local  bool   // the client is on this machine, or a proxy itself: never banned by itself
	Secure bool   // came over TLS, as far as is known
	Route  string // its name in metrics
	Quiet  bool   // is logged with debug only
}

// Hooks are what a service does within the chain. Begin and Attrs may be nil.
type Hooks struct {
	// Begin returns the request with what the service knows about it in its context.
	Begin func(r *http.Request, in *Request) *http.Request
	// Serve answers.
	Serve func(w http.ResponseWriter, r *http.Request)
	// Panicked answers in place of a handler that had a panic before it answered.
	Panicked func(w http.ResponseWriter, r *http.Request)
	// Attrs are what else the log has of a request, when it is over.
	Attrs func(r *http.Request) []slog.Attr
}

// Chain is safe for concurrent use.
type Chain struct {
	opts     Options
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	sent     prometheus.Counter
	panics   prometheus.Counter
}

// New registers the metrics of a service's requests.
func New(opts Options) (*Chain, error) {
	if opts.BodyTime == 0 {
		opts.BodyTime = 30 * time.Second
	}
	if opts.Stall == 0 {
		opts.Stall = time.Minute
	}
	if opts.BodyError == nil {
		opts.BodyError = func(err error) error { return err }
	}
	c := &Chain{
		opts: opts,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    opts.Name + "_http_request_duration_seconds",
			Help:    "Time from the request's header to the end of the answer, by route.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"route", "method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: opts.Name + "_http_requests_in_flight", Help: "Requests that are being answered.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: opts.Name + "_http_sent_bytes_total", Help: "Bytes of answers' bodies.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: opts.Name + "_http_panics_total", Help: "Requests that ended in a panic.",
		}),
	}
	for _, m := range []prometheus.Collector{c.duration, c.inFlight, c.sent, c.panics} {
		if err := opts.Registry.Register(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// NewServer returns a server with the limits that services want: headers of at most 32 KiB within ten seconds. There
// is no limit for the whole of a request or answer, because downloads, uploads and events may take long; streams in
// which nothing moves are ended by the chain.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

type requestKey struct{}

// From returns what is known about the request that a context belongs to; nil outside of the chain.
func From(ctx context.Context) *Request {
	in, _ := ctx.Value(requestKey{}).(*Request)
	return in
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:~-]{7,127}$`)

// policy lets pages load nothing from elsewhere and stand in nobody's frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// Handler is the chain around what a service does.
func (c *Chain) Handler(do Hooks) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		in := &Request{Route: "(none)"}
		if in.ID = r.Header.Get(headerRequestID); !requestID.MatchString(in.ID) {
			in.ID = strings.ToLower(rand.Text())
		}
		c.opts.Locator.locate(r, in)
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, in))
		if do.Begin != nil {
			r = do.Begin(r, in)
		}
		w := &response{ResponseWriter: rw, rc: http.NewResponseController(rw), stall: c.opts.Stall + c.opts.BodyTime}
		if r.ContentLength != 0 {
			_ = w.rc.SetReadDeadline(start.Add(c.opts.BodyTime)) // a test's request has no connection
			r.Body = &Body{ReadCloser: r.Body, rc: w.rc, explain: c.opts.BodyError}
		}
		h := w.Header()
		h.Set(headerRequestID, in.ID)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if in.Secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		c.inFlight.Inc()
		defer func() {
			p := recover()
			err, _ := p.(error)
			abort := errors.Is(err, http.ErrAbortHandler)
			if p != nil && !abort {
				c.panics.Inc()
				c.opts.Log.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("request_id", in.ID),
					slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				if abort = w.status != 0; !abort {
					do.Panicked(w, r)
				} // else it is torn, so that nobody takes half an answer for a whole one
			}
			c.inFlight.Dec()
			c.account(r, in, w, time.Since(start), do.Attrs)
			if abort {
				panic(http.ErrAbortHandler)
			}
		}()
		do.Serve(w, r)
	})
}

// account writes the request down.
func (c *Chain) account(r *http.Request, in *Request, w *response, took time.Duration, more func(*http.Request) []slog.Attr) {
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
	c.duration.WithLabelValues(in.Route, method, strconv.Itoa(status)).Observe(took.Seconds())
	c.sent.Add(float64(w.sent))
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelError
	case in.Quiet:
		level = slog.LevelDebug
	}
	if !c.opts.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", in.ID), slog.String("method", method), slog.String("path", Cut(r.URL.Path, 300)),
		slog.Int("status", status), slog.Int64("bytes", w.sent), slog.Duration("took", took),
		slog.String("remote", in.Addr),
	}
	if more != nil {
		attrs = append(attrs, more(r)...)
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, slog.String("agent", Cut(agent, 100)))
	}
	c.opts.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// Cut shortens a text for the log.
func Cut(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "�")
}

// Hostname is a host as it is compared: without port, brackets and capitals.
func Hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// Locator finds out whom requests come from.
type Locator struct {
	// TrustedProxies may say on whose behalf they ask, in ProxyHeader: X-Forwarded-For (the default) or Forwarded.
	TrustedProxies []netip.Prefix
	ProxyHeader    string
}

// Client returns the address of a request's client: that of the connection, or what a trusted proxy says. ok is false where
// there is none, as on a Unix socket.
func (l *Locator) Client(r *http.Request) (addr netip.Addr, ok bool) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	addr = remote.Addr().Unmap().WithZone("")
	if !l.trusted(addr) {
		return addr, true
	}
	header := l.ProxyHeader
	if header == "" {
		header = "X-Forwarded-For"
	}
	// From the nearest to the farthest: the first that is not a proxy of ours is the client. What stands before
	// it was written by the client itself.
	hops := forwarded(r.Header.Values(header), header)
	for i := len(hops) - 1; i >= 0 && l.trusted(addr); i-- {
		next, ok := parseHop(hops[i])
		if !ok {
			break
		}
		addr = next
	}
	return addr, true
}

// locate notes where a request comes from.
func (l *Locator) locate(r *http.Request, in *Request) {
	in.Secure = r.TLS != nil
	addr, ok := l.Client(r)
	if !ok {
		in.Addr, in.Local = "unknown", true // a Unix socket
		return
	}
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && l.trusted(remote.Addr().Unmap()) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		in.Secure = true
	}
	in.Local = addr.IsLoopback() || l.trusted(addr)
	in.Addr = Canonical(addr)
}

func (l *Locator) trusted(addr netip.Addr) bool {
	for _, p := range l.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Canonical is how an address is counted and banned: IPv4 alone, IPv6 with its /64, which is one customer's.
func Canonical(addr netip.Addr) string {
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

// Body is a body that has to arrive in time: all of it, or with stall some of it again and again. A body that
// is not read has the same time, because the server reads on before it answers.
type Body struct {
	io.ReadCloser
	rc      *http.ResponseController
	explain func(error) error
	stall   time.Duration
	rate    int64 // bytes a second that have to come on average over stall
	read    func(int)

	since time.Time // monotonic: when the present part of it began
	got   int64     // in it
}

// slow says whether less came than has to.
func (b *Body) slow(n int) bool {
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

func (b *Body) Read(p []byte) (int, error) {
	if b.stall > 0 {
		_ = b.rc.SetReadDeadline(time.Now().Add(b.stall))
	}
	n, err := b.ReadCloser.Read(p)
	if b.read != nil {
		b.read(n)
	}
	if err == nil && b.slow(n) {
		return n, b.explain(&SlowError{b.rate})
	}
	if err == io.EOF { // readers return it bare
		// What is done with the body may take longer; a deadline that passes would end the request.
		_ = b.rc.SetReadDeadline(time.Time{})
		return n, err
	}
	return n, b.explain(err)
}

// Stream lets the body take as long as something comes: at least rate bytes a second, on average over stall. read is told of
// every piece.
func (b *Body) Stream(stall time.Duration, rate int64, read func(int)) {
	b.stall, b.rate, b.read = stall, rate, read
}

// SlowError says that less of a body came than has to.
type SlowError struct{ Rate int64 } // bytes a second

func (e *SlowError) Error() string {
	return fmt.Sprintf("the body comes too slowly: at least %d bytes have to come in a second", e.Rate)
}

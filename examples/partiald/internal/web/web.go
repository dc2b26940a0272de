// Package web is what partiald shows to the outside: a JSON API with its OpenAPI document, the API of Mozilla's
// funsize, pages for people, and what monitors ask for. All work is done by a [job.Service].
//
// A request goes through these hands, in this order:
//
//	security headers, request ID, log and metrics, panics      every request
//	client address (trusted proxies), host name, header count
//	bans, rate limit per token or address                       not for /__lbheartbeat__ and /__heartbeat__
//	cross-origin protection                                     what changes something
//	token or cookie, role                                       what the route asks for
//	size, kind and encoding of the body                         JSON
//
// Errors are RFC 9457 problems for programs and pages for people.
//
// Nothing is kept in this package but counters: any number of servers can stand behind one address.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

const (
	headerXFF       = "X-Forwarded-For"
	headerForwarded = "Forwarded"

	anonymous = "anonymous"

	maxHeaderFields = 100
	maxBody         = 64 << 10
	maxBatchBody    = 4 << 20

	callTimeout = 15 * time.Second // of one call of the service
	maxLarge    = 4                // bodies of more than maxBody that are in memory at the same time
	maxWholes   = 2                // manifests of batches that are put together at the same time
)

// server is the handler that New returns.
type server struct {
	svc     job.Service
	opts    Options
	log     *slog.Logger
	callers []*caller
	anon    *caller

	mux       *http.ServeMux
	cross     *http.CrossOriginProtection
	metrics   *metrics
	chain     *chain.Chain
	rate      *counter // requests of a token, or of an address without one
	offence   *counter // wrong tokens
	events    *hub
	held      held
	uploading uploading
	pulse     pulse
	large     chan struct{} // as many as there may be large bodies
	wholes    chan struct{} // as many as there may be manifests of batches under work
	hosts     map[string]bool
	pages     *pages

	fragments fragments // of job pages
	day       daily     // what happened lately
	samples   samples

	operations []apiGroup // of the API, for its page
}

// New returns the handler of everything that partiald answers. It is safe for concurrent use and has nothing to
// close: what it starts ends with the requests. An error is an [*OptionError].
func New(svc job.Service, opts Options) (http.Handler, error) {
	callers, err := opts.check()
	if err != nil {
		return nil, err
	}
	s := &server{
		svc: svc, opts: opts, log: opts.Logger, callers: callers,
		anon:    &caller{name: anonymous, roles: opts.Anonymous, quota: opts.AnonymousQuota},
		mux:     http.NewServeMux(),
		cross:   http.NewCrossOriginProtection(),
		rate:    newCounter(svc, "rate:", opts.Rate),
		offence: newCounter(svc, "offence:", opts.BanAfter),
		events:  newHub(svc),
		large:   make(chan struct{}, maxLarge),
		wholes:  make(chan struct{}, maxWholes),
	}
	if s.metrics, err = newMetrics(opts.Registry); err != nil {
		return nil, err
	}
	if s.chain, err = chain.New(chain.Options{
		Name: "partiald", Log: opts.Logger, Registry: opts.Registry, BodyTime: opts.BodyTime, Stall: opts.Stall, BodyError: bodyError,
		Locator: chain.Locator{TrustedProxies: opts.TrustedProxies, ProxyHeader: opts.ProxyHeader},
	}); err != nil {
		return nil, &OptionError{"Registry", fmt.Sprintf("has such metrics already: %v", err)}
	}
	if len(opts.Hosts) > 0 {
		s.hosts = map[string]bool{}
		for _, h := range opts.Hosts {
			s.hosts[strings.ToLower(strings.Trim(h, "[]"))] = true
		}
	}
	if err := s.routes(); err != nil {
		return nil, err
	}
	return s.outer(), nil
}

// access says who may call a route, and how errors look.
type access struct {
	role  Role
	page  bool // errors are pages; who lacks a token is sent to log in
	free  bool // neither counted nor banned
	plain func(w http.ResponseWriter, r *http.Request, p *Problem)
}

// handle adds a route. The pattern is its name in metrics and logs.
func (s *server) handle(pattern string, a access, h http.HandlerFunc) {
	route := pattern
	if _, path, ok := strings.Cut(pattern, " "); ok {
		route = strings.TrimSuffix(path, "{$}")
	}
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		in := infoFrom(r.Context())
		in.Route, in.access, in.Quiet = route, a, a.free
		if !a.free {
			if p := s.admit(r, in); p != nil {
				s.refuse(w, r, p)
				return
			}
		}
		if err := s.cross.Check(r); err != nil {
			s.refuse(w, r, problem(codeCrossOrigin, "the browser says that another site sent this"))
			return
		}
		if p := s.authorize(w, r, in); p != nil {
			s.refuse(w, r, p)
			return
		}
		h(w, r)
	})
}

// refuse answers with a problem in the way of the route.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	in := infoFrom(r.Context())
	p := problemOf(r.Context(), err)
	switch {
	case in.access.plain != nil:
		in.access.plain(w, r, p)
	case in.access.page:
		s.problemPage(w, r, p)
	default:
		writeProblem(w, r, p)
	}
}

// routes adds all routes.
func (s *server) routes() error {
	s.opsRoutes()
	s.apiRoutes()
	s.funsizeRoutes()
	return s.pageRoutes()
}

// call returns a context for one call of the service.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// asker says who asks, for the ledger.
func asker(ctx context.Context) job.Asker {
	in := infoFrom(ctx)
	return job.Asker{Name: in.caller.name, Address: in.Addr, RequestID: in.ID, Operator: in.caller.may(RoleOperate), Token: in.caller.token}
}

// isID says whether it looks like a job's ID; the service is not asked about anything else.
func isID(id string) bool {
	if len(id) != 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func noJob(id string) *Problem {
	return problem(job.CodeNotFound, "there is no job %.80q", id)
}

type metrics struct {
	watchers prometheus.Gauge
	received prometheus.Counter
	refused  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "partiald_http_event_streams", Help: "Clients that watch a job's events.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "partiald_http_upload_bytes_total", Help: "Bytes of uploads.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partiald_http_refused_total", Help: "Requests refused before the service was asked, by code.",
		}, []string{"code"}),
	}
	for _, c := range []prometheus.Collector{m.watchers, m.received, m.refused} {
		if err := reg.Register(c); err != nil {
			return nil, &OptionError{"Registry", fmt.Sprintf("has such metrics already: %v", err)}
		}
	}
	for _, c := range []job.Code{codeUnauthorized, codeForbidden, codeBanned, codeRate} { // so that rates begin at 0
		m.refused.WithLabelValues(string(c))
	}
	return m, nil
}

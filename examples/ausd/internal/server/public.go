package server

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
)

// How long answers may be kept by caches, in seconds.
const (
	keepAnswers = 90
	keepShutoff = 15 // while a shutoff is on
)

// counters count what became of queries.
type counters struct {
	outcomes sync.Map // aus.Outcome → *atomic.Int64
	quirks   sync.Map // aus.Quirk → *atomic.Int64
	partials atomic.Int64
	versions versionCounts
}

func count(m *sync.Map, key any) {
	c, ok := m.Load(key)
	if !ok {
		c, _ = m.LoadOrStore(key, new(atomic.Int64))
	}
	c.(*atomic.Int64).Add(1)
}

// servePublic answers clients and readers of the read-only API from the snapshot in memory. It never answers 500.
func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) {
	now := s.current.Load()
	env := aus.Env{Now: s.now(), Client: func() string { return s.clientOf(r) }}
	answer := s.answer(now, r, env)
	cacheControl := "" // what the answer says by itself
	if a := answer.Answer; a != nil {
		s.counted(&answer.Response)
		if now.head.Seq == 0 || answer.unsigned { // nothing is known yet, or not for all, and that must not be remembered
			cacheControl = "no-store"
		} else if !a.Random {
			if keep := keepFor(now.snapshot, a, env.Now); keep != keepAnswers {
				cacheControl = "public, max-age=" + strconv.Itoa(keep)
			}
		}
	}
	answer.writeTo(w, cacheControl)
}

// keepFor is how long an answer holds: shorter while a shutoff is on, and never past the time at which it may change.
func keepFor(snapshot *aus.Snapshot, a *aus.Answer, now time.Time) int {
	keep := keepAnswers
	for _, f := range snapshot.Shutoffs() {
		if f.Expires.IsZero() || f.Expires.After(now) {
			keep = keepShutoff
			break
		}
	}
	if !a.Until.IsZero() {
		keep = min(keep, max(0, int(a.Until.Sub(now)/time.Second)))
	}
	return keep
}

// counted counts an answer, and passes on who could use a partial.
func (s *Server) counted(r *aus.Response) {
	a := r.Answer
	count(&s.counts.outcomes, a.Outcome)
	for _, q := range a.Quirks.List() {
		count(&s.counts.quirks, q)
	}
	s.counts.versions.add(r.Query)
	if a.Outcome != aus.OutcomeUpdate {
		return
	}
	if a.Partial {
		s.counts.partials.Add(1)
		return
	}
	if !a.Complete {
		return
	}
	q := r.Query
	s.lacking.add(lacking{q.Product, q.BuildID, q.BuildTarget, q.Locale, a.Release}, 1)
}

// clientOf is what tells the client from others in a throttled rule.
func (s *Server) clientOf(r *http.Request) string {
	if name := s.opts.ClientParameter; name != "" {
		if v := r.URL.Query().Get(name); v != "" && len(v) <= 200 {
			return s.client("parameter " + v)
		}
	}
	addr, ok := s.locator.Client(r)
	if !ok {
		return ""
	}
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return s.client("address " + prefix.String())
}

// serveHeartbeat says whether the server answers clients: 503 before anything was published.
func (s *Server) serveHeartbeat(w http.ResponseWriter, _ *http.Request) {
	now := s.current.Load()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if now.head.Seq == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	s.heartbeat(w)
}

// versionCounts counts clients by product, channel and version, as their queries say.
type versionCounts struct {
	mu sync.Mutex
	m  map[versionKey]int64
}

type versionKey struct{ Product, Channel, Version string }

// maxVersions bounds what is counted: clients may say anything.
const maxVersions = 5000

func (c *versionCounts) add(q *aus.Query) {
	k := versionKey{q.Product, q.Channel, q.Version}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[versionKey]int64{}
	}
	if _, ok := c.m[k]; !ok && len(c.m) >= maxVersions {
		k = versionKey{"other", "other", "other"}
	}
	if len(k.Product)+len(k.Channel)+len(k.Version) > 300 {
		k = versionKey{"other", "other", "other"}
	}
	c.m[k]++
}

func (c *versionCounts) snapshot() map[versionKey]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[versionKey]int64, len(c.m))
	for k, n := range c.m {
		m[k] = n
	}
	return m
}

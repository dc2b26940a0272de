package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// collector gives the server's figures to Prometheus, read when it asks.
type collector struct {
	s                                                             *Server
	answers, quirks, partials, snapshot, objects, problems, wants *prometheus.Desc
	expires, expired, contact, unsigned                           *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ausd_"+name, help, labels, nil)
	}
	return &collector{
		s:        s,
		answers:  desc("answers_total", "Queries of clients by what became of them.", "outcome"),
		quirks:   desc("quirks_total", "Answers that Balrog may have given otherwise, by the quirk.", "quirk"),
		partials: desc("partials_offered_total", "Updates that were offered with a partial."),
		snapshot: desc("snapshot", "Number of the published snapshot."),
		objects:  desc("objects", "Objects of the published snapshot.", "kind"),
		problems: desc("problems", "Problems of the published snapshot.", "severity"),
		wants:    desc("demand", "Partials that clients could use, by what became of them; at most 10,000 are counted.", "state"),
		unsigned: desc("answers_unsigned_total", "Answers that lack a Content-Signature, as the signing plugin gave none."),
		expires:  desc("statement_expires_timestamp_seconds", "Of a replica: when what its server signed last expires."),
		expired:  desc("statement_expired", "Of a replica: 1 where that has expired, or nothing is known of the server."),
		contact:  desc("replica_contact_timestamp_seconds", "Of a replica: when its server said last what is published; 0 is not since the start."),
	}
}

// Describe sends the descriptions.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.answers, c.quirks, c.partials, c.snapshot, c.objects, c.problems, c.wants, c.unsigned, c.expires, c.expired, c.contact} {
		ch <- d
	}
}

// Collect sends the figures.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counts := c.s.readCounts()
	for outcome, n := range counts.Outcomes {
		counter(c.answers, n, outcome)
	}
	for quirk, n := range counts.Quirks {
		counter(c.quirks, n, quirk)
	}
	counter(c.partials, counts.Partials)
	if c.s.signs.opts != nil {
		counter(c.unsigned, c.s.signs.failed.Load())
	}
	now := c.s.current.Load()
	gauge(c.snapshot, now.head.Seq)
	for _, k := range state.Kinds() {
		gauge(c.objects, int64(now.state.Len(k)), string(k))
	}
	errors := aus.Errors(now.problems)
	gauge(c.problems, int64(errors), aus.SeverityError.String())
	gauge(c.problems, int64(len(now.problems)-errors), aus.SeverityWarning.String())
	if c.s.opts.Replica != nil {
		st := c.s.replica.status()
		expired := int64(0)
		if st.alarm(time.Now()) != "" {
			expired = 1
		}
		gauge(c.expired, expired)
		gauge(c.expires, unix(st.statement.Expires))
		gauge(c.contact, unix(st.contact))
		return
	}
	list, err := c.s.book.Demands(c.s.lifetime, 10_000)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.wants, err)
		return
	}
	states := map[string]int64{}
	for _, d := range list {
		states[d.State]++
	}
	for s, n := range states {
		gauge(c.wants, n, s)
	}
}

// unix is a time in seconds; 0 is none.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// metrics serves the figures to who may read.
func (s *Server) metrics(registry *prometheus.Registry) http.Handler {
	figures := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := s.who(r); c == nil || !c.may(RoleRead) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "say who you are: a token, or ask from the server's own machine ("+strconv.Itoa(http.StatusUnauthorized)+")", http.StatusUnauthorized)
			return
		}
		figures.ServeHTTP(w, r)
	})
}

package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// metrics is what is counted beside requests, which package web counts.
type metrics struct {
	registry *prometheus.Registry

	states   *prometheus.CounterVec
	steps    *prometheus.HistogramVec
	finished *prometheus.CounterVec
	waited   prometheus.Histogram
	took     prometheus.Histogram
	made     prometheus.Counter
	complete prometheus.Counter
	requeued prometheus.Counter
	cache    *prometheus.CounterVec
	read     *prometheus.CounterVec
}

func newMetrics(b cli.Build, server string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		states: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partiald_job_states_total", Help: "How often a job reached a state on this server.",
		}, []string{"state"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "partiald_step_duration_seconds", Help: "Duration of a step of making a partial, without waiting for a turn; what was in the cache was not fetched.",
			Buckets: []float64{.01, .05, .2, 1, 5, 20, 60, 300, 1200},
		}, []string{"step"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partiald_jobs_finished_total", Help: "Jobs that ended on this server, by state, error code and whose fault it was (caller, origin, service).",
		}, []string{"state", "code", "fault"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "partiald_job_wait_seconds", Help: "How long jobs waited before they were begun on this server, from when they were asked for.",
			Buckets: []float64{.1, .5, 2, 10, 30, 60, 300, 900, 3600},
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "partiald_job_duration_seconds", Help: "Duration of the attempt that made a partial.",
			Buckets: []float64{.1, .5, 2, 10, 30, 60, 120, 300, 600, 1800},
		}),
		made: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "partiald_partial_bytes_total", Help: "Bytes of the partials that were made on this server.",
		}),
		complete: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "partiald_complete_bytes_total", Help: "Bytes of the completes that these partials replace; the difference is what one client of each saves.",
		}),
		requeued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "partiald_jobs_requeued_total", Help: "Jobs that the queue had lost and the ledger put back.",
		}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partiald_cache_events_total", Help: "What happened in the cache, by tier, kind of entry, event (hit, miss, put, too-large, fill, join) and whether it failed.",
		}, []string{"tier", "kind", "op", "failed"}),
		read: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partiald_cache_bytes_total", Help: "Bytes of the entries that a tier gave (hit) or took (put).",
		}, []string{"tier", "op"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "partiald_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go, "server": server},
	})
	info.Set(1)
	m.registry.MustRegister(m.states, m.steps, m.finished, m.waited, m.took, m.made, m.complete, m.requeued, m.cache, m.read, info,
		// What was in use when garbage was collected last says whether memory grows; all else goes up and down with the garbage.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, s := range job.States() { // so that rates begin at 0
		m.states.WithLabelValues(string(s))
		m.steps.WithLabelValues(string(s))
	}
	// Also those that have not happened yet: what begins at 1 has no rate.
	m.finished.WithLabelValues(string(job.Done), "", "")
	m.finished.WithLabelValues(string(job.Cancelled), string(job.CodeCancelled), string(job.FaultCaller))
	for _, c := range job.Codes() {
		m.finished.WithLabelValues(string(job.Failed), string(c), string(c.Fault()))
	}
	for _, c := range []job.Code{job.CodeFetch, job.CodeDigest} { // which can be either's
		m.finished.WithLabelValues(string(job.Failed), string(c), string(job.FaultCaller))
	}
	for _, kind := range []cache.Kind{cache.Completes, cache.Patches, cache.Partials, senbonzakura.Reports, engine.KindDocs, engine.KindLogs} {
		for _, op := range []cache.Op{cache.OpHit, cache.OpMiss, cache.OpPut} {
			m.cache.WithLabelValues("disk", string(kind), string(op), "false")
		}
	}
	return m
}

// liveHeap is the metric of package runtime/metrics that becomes go_gc_heap_live_bytes.
var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)

// observer is told by the engine.
func (m *metrics) observer() engine.Observer {
	return engine.Observer{
		State: func(_ string, _, to job.State) { m.states.WithLabelValues(string(to)).Inc() },
		Began: func(_ string, waited time.Duration) { m.waited.Observe(waited.Seconds()) },
		Step: func(step senbonzakura.Step, took time.Duration) {
			m.steps.WithLabelValues(string(step)).Observe(took.Seconds())
		},
		Finished: func(s job.Status) {
			code, fault := "", ""
			if s.Error != nil {
				code, fault = string(s.Error.Code), string(s.Error.Whose())
			}
			m.finished.WithLabelValues(string(s.State), code, fault).Inc()
			if s.State == job.Done && s.Result != nil && !s.Result.Cached {
				m.took.Observe(s.Result.Elapsed.Seconds())
				m.made.Add(float64(s.Result.Size))
				m.complete.Add(float64(s.Result.Complete))
			}
		},
		Requeued: func(string) { m.requeued.Inc() },
	}
}

// opTooLarge is the event of a tier that does not take values so large, which is no failure: the next one does.
const opTooLarge = "too-large"

// cached is told by the cache.
func (m *metrics) cached(e cache.Event) {
	// What a tier is comes first in its name; then may come which one, as in "disk /var/cache/partiald".
	tier, _, _ := strings.Cut(e.Tier, " ")
	op, failed := string(e.Op), "false"
	switch {
	case e.Op == cache.OpPut && errors.Is(e.Err, cache.ErrTooLarge):
		op = opTooLarge
	case e.Err != nil:
		failed = "true"
	}
	m.cache.WithLabelValues(tier, string(e.Key.Kind), op, failed).Inc()
	if e.Err == nil && (e.Op == cache.OpHit || e.Op == cache.OpPut) {
		m.read.WithLabelValues(tier, op).Add(float64(e.Size))
	}
}

// plugin counts the starts of a plugin's process.
func (m *metrics) plugin(kind, name string, p *plugins.Process) error {
	return m.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "partiald_plugin_starts_total", Help: "How often a plugin's process was started; more than once means that it ended by itself or hung.",
		ConstLabels: prometheus.Labels{"kind": kind, "plugin": name},
	}, func() float64 { return float64(p.Starts()) }))
}

// gauges are read when somebody asks, but not more often than every few seconds: some of them cost a question to the
// queue or a walk through the cache.
type gauges struct {
	service job.Service
	disk    *cache.Disk

	jobs, limit, oldest, workers, ready, healthy, entries, bytes *prometheus.Desc

	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

const gaugesFor = 5 * time.Second

func newGauges(service job.Service, disk *cache.Disk) *gauges {
	return &gauges{
		service: service, disk: disk,
		jobs:    prometheus.NewDesc("partiald_queue_jobs", "Jobs in the queue that all servers share: waiting, running, or dead (given up and not asked for again).", []string{"state"}, nil),
		limit:   prometheus.NewDesc("partiald_queue_limit", "How many jobs may wait or run.", nil, nil),
		oldest:  prometheus.NewDesc("partiald_queue_oldest_seconds", "How long the job has waited that has waited longest; 0 where none waits.", nil, nil),
		workers: prometheus.NewDesc("partiald_queue_workers", "Servers that work on jobs.", nil, nil),
		ready:   prometheus.NewDesc("partiald_ready", "1 while this server takes new work, 0 from the beginning of a graceful stop.", nil, nil),
		healthy: prometheus.NewDesc("partiald_healthy", "1 for each thing that the service needs and that answers, else 0.", []string{"name"}, nil),
		entries: prometheus.NewDesc("partiald_cache_entries", "Entries in the cache on disk.", []string{"kind"}, nil),
		bytes:   prometheus.NewDesc("partiald_cache_size_bytes", "Size of the entries in the cache on disk.", []string{"kind"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.jobs, g.limit, g.oldest, g.workers, g.ready, g.healthy, g.entries, g.bytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) > gaugesFor {
		g.last, g.at = g.measure(), time.Now()
	}
	for _, m := range g.last {
		ch <- m
	}
	ready := 0.0
	if g.service.Ready() {
		ready = 1
	}
	ch <- prometheus.MustNewConstMetric(g.ready, prometheus.GaugeValue, ready)
}

func (g *gauges) measure() []prometheus.Metric {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesFor)
	defer cancel()
	var out []prometheus.Metric
	add := func(d *prometheus.Desc, v float64, labels ...string) {
		out = append(out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
	}
	if q, err := g.service.Queue(ctx); err == nil { // what does not answer is in partiald_healthy
		add(g.jobs, float64(q.Waiting), "waiting")
		add(g.jobs, float64(q.Running), "running")
		add(g.jobs, float64(q.Dead), "dead")
		add(g.limit, float64(q.Limit))
		age := 0.0
		if !q.Oldest.IsZero() {
			age = max(0, time.Since(q.Oldest).Seconds())
		}
		add(g.oldest, age)
		add(g.workers, float64(len(q.Workers)))
	}
	for _, h := range g.service.Health(ctx) {
		v := 0.0
		if h.OK {
			v = 1
		}
		add(g.healthy, v, h.Name)
	}
	if stats, err := g.disk.Stats(ctx); err == nil {
		for kind, usage := range stats.Kinds {
			add(g.entries, float64(usage.Entries), string(kind))
			add(g.bytes, float64(usage.Bytes), string(kind))
		}
	}
	return out
}

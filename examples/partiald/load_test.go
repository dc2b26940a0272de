package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
)

// wrk runs the load generator of that name and returns requests and bytes per second and the 99th percentile.
func (n *node) wrk(path string, args ...string) (requests, transfer float64, p99 time.Duration) {
	n.t.Helper()
	program, err := exec.LookPath("wrk")
	if err != nil {
		n.t.Skip("wrk not found")
	}
	out, err := exec.CommandContext(n.t.Context(), program, append(append([]string{"--latency"}, args...), "http://"+n.addr+path)...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("wrk: %v: %s", err, out)
	}
	number := func(pattern string) (float64, string) {
		n.t.Helper()
		m := regexp.MustCompile(pattern).FindSubmatch(out)
		if m == nil {
			n.t.Fatalf("no %s in\n%s", pattern, out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			n.t.Fatal(err)
		}
		return v, string(m[2])
	}
	if bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
		n.t.Errorf("errors under load:\n%s", out)
	}
	requests, _ = number(`Requests/sec:\s+([\d.]+)()`)
	transfer, unit := number(`Transfer/sec:\s+([\d.]+)([KMG]?B)`)
	transfer *= map[string]float64{"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[unit]
	latency, unit := number(`99%\s+([\d.]+)(us|ms|s)`)
	p99 = time.Duration(latency * float64(map[string]time.Duration{"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second}[unit]))
	return requests, transfer, p99
}

// What is there already is answered often and fast (L1), and handed out as fast as the network is (L2).
func TestCachedAnswers(t *testing.T) {
	gate(t, "takes a minute and wants the machine for itself")
	o := newOrigin(t)
	from, to := testrelease.Complete(t, "140.1", ""), testrelease.Complete(t, "140.2", "", noise(1<<20)...) // 1 MiB that no patch makes smaller
	n := newNode(t)
	n.start()
	spec := job.Spec{From: o.source("from", from), To: o.source("to", to)}
	id := n.finish(n.accept(spec).ID, time.Minute).ID
	update := n.get("/api/v1/partials/" + id)
	if len(update) < 1<<20 || len(update) > 3<<19 {
		t.Fatalf("the partial has %d bytes, want about a MiB", len(update))
	}

	seconds := "10s"
	if v := os.Getenv("SENBON_WRK"); v != "" {
		seconds = v
	}
	body, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "post.lua")
	if err := os.WriteFile(script, fmt.Appendf(nil, "wrk.method = \"POST\"\nwrk.body = %q\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", body), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		args       []string
		rate       float64
		p99        time.Duration
	}{
		{"status of a job", "/api/v1/jobs/" + id, nil, 5000, 50 * time.Millisecond},
		{"asking for what is there", "/api/v1/partials", []string{"-s", script}, 5000, 50 * time.Millisecond},
		{"page", "/jobs/" + id, nil, 0, 0},
	} {
		rate, _, p99 := n.wrk(tt.path, append([]string{"-t2", "-c50", "-d" + seconds}, tt.args...)...)
		t.Logf("%s: %.0f requests/s, p99 %v", tt.name, rate, p99)
		if rate < tt.rate || tt.p99 > 0 && p99 > tt.p99 {
			t.Errorf("%s: %.0f requests/s and p99 %v, want %.0f and %v", tt.name, rate, p99, tt.rate, tt.p99)
		}
	}
	_, transfer, p99 := n.wrk("/api/v1/partials/"+id, "-t2", "-c16", "-d"+seconds)
	t.Logf("1 MiB artefact: %.0f MB/s, p99 %v", transfer/1e6, p99)
	if transfer < 300e6 {
		t.Errorf("%.0f MB/s, want 300", transfer/1e6)
	}
}

// Parts and what the client has already are answered as HTTP wants it (L2).
func TestRanges(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := newNode(t)
	n.start()
	spec, _, _ := o.pair(t, "x", false)
	id := n.finish(n.accept(spec).ID, time.Minute).ID
	path := "/api/v1/partials/" + id
	res, whole, err := n.request(http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	etag := res.Header.Get("ETag")
	if etag == "" || strings.HasPrefix(etag, "W/") || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("ETag %q, Cache-Control %q", etag, res.Header.Get("Cache-Control"))
	}
	for _, tt := range []struct {
		header []string
		status int
		want   []byte
	}{
		{[]string{"Range", "bytes=10-19"}, http.StatusPartialContent, whole[10:20]},
		{[]string{"Range", "bytes=-5"}, http.StatusPartialContent, whole[len(whole)-5:]},
		{[]string{"Range", "bytes=10-19", "If-Range", etag}, http.StatusPartialContent, whole[10:20]},
		{[]string{"Range", "bytes=10-19", "If-Range", `"other"`}, http.StatusOK, whole},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", len(whole))}, http.StatusRequestedRangeNotSatisfiable, nil},
		{[]string{"If-None-Match", etag}, http.StatusNotModified, []byte{}},
		{[]string{"If-None-Match", `"other"`}, http.StatusOK, whole},
	} {
		res, got, err := n.request(http.MethodGet, path, nil, tt.header...)
		if err != nil || res.StatusCode != tt.status || tt.want != nil && !bytes.Equal(got, tt.want) {
			t.Errorf("%q: %v, %v, %d bytes, want %d and %d bytes", tt.header, res.Status, err, len(got), tt.status, len(tt.want))
		}
	}
}

// A job is taken, on the disk, within a moment (L5).
func TestAcceptIsFast(t *testing.T) {
	gate(t, "wants the machine for itself")
	const count, at = 1000, 4
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_WORKERS_SLOTS=-1")
	n.start()
	spec := job.Spec{From: o.source("from", testrelease.Complete(t, "140.1", "")), To: o.source("to", testrelease.Complete(t, "140.2", ""))}
	took := make([]time.Duration, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < count; i = next.Add(1) - 1 {
				s := spec
				s.Labels = map[string]string{"mar": fmt.Sprint(i)} // makes it a job of its own
				begin := time.Now()
				res, _, err := n.submit(s)
				took[i] = time.Since(begin)
				if err != nil || res.StatusCode != http.StatusAccepted {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	p99 := took[count*99/100]
	t.Logf("%d jobs from %d callers: p50 %v, p99 %v", count, at, took[count/2], p99)
	if p99 > 100*time.Millisecond {
		t.Errorf("p99 %v, want 100 ms", p99)
	}
}

var metricLine = regexp.MustCompile(`(?m)^(\w+)(?:\{[^}]*\})? ([-+.\deE]+)$`)

// metric returns the sum of a metric over its labels.
func (n *node) metric(name string) (float64, error) {
	res, data, err := n.request(http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s", res.Status)
	}
	sum, found := 0.0, false
	for _, m := range metricLine.FindAllSubmatch(data, -1) {
		if string(m[1]) != name {
			continue
		}
		v, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// Many jobs at once: all end, memory is bounded, and what the queue does not take is told to come back (L3).
func TestManyJobs(t *testing.T) {
	gate(t, "200 jobs take two minutes of CPU time")
	const jobs, limit, slots = 200, 50, 2
	memory := int64(64 << 20)
	o := newOrigin(t)
	n := newNode(t, fmt.Sprintf("PARTIALD_QUEUE_LIMIT=%d", limit), fmt.Sprintf("PARTIALD_WORKERS_SLOTS=%d", slots),
		fmt.Sprintf("PARTIALD_WORKERS_MAX_MEMORY=%dB", memory), "PARTIALD_CACHE_MEMORY=16MB")
	n.start()
	base, err := n.metric("process_resident_memory_bytes")
	if err != nil {
		t.Fatal(err)
	}
	var refused, patient atomic.Int64
	ids := make([]string, jobs)
	var wg sync.WaitGroup
	for i := range jobs {
		wg.Go(func() {
			name := fmt.Sprint(i)
			spec := job.Spec{
				From: o.source("from-"+name, testrelease.Complete(t, "140.1", name, append(noise(128<<10), name...)...)),
				To:   o.source("to-"+name, testrelease.Complete(t, "140.2", name, append(noise(128<<10), name...)...)),
			}
			for {
				res, st, err := n.submit(spec)
				switch {
				case err == nil:
					ids[i] = st.ID
					return
				case res != nil && res.StatusCode == http.StatusTooManyRequests:
					refused.Add(1)
					after, err := strconv.Atoi(res.Header.Get("Retry-After"))
					if err != nil || after < 1 {
						t.Errorf("429 with Retry-After %q", res.Header.Get("Retry-After"))
						return
					}
					patient.Add(1)
					<-time.After(time.Duration(after) * time.Second)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	peak := 0.0
	sample := func() {
		if v, err := n.metric("process_resident_memory_bytes"); err == nil {
			peak = max(peak, v)
		}
	}
	for taken := false; !taken; {
		select {
		case <-done:
			taken = true
		case <-time.After(200 * time.Millisecond):
			sample()
		}
	}
	for _, id := range ids {
		if id == "" {
			t.Fatal("a job was not taken")
		}
		n.until(id, 10*time.Minute, func(st job.Status) bool { sample(); return st.State == job.Done })
	}
	bound := base + 1.15*float64(memory) + slots*32<<20 // what diffs may hold, and buffers of each job: inputs and encoders
	t.Logf("%d jobs done, %d answers 429; resident memory %.0f MB at the start, %.0f MB at most, bound %.0f MB", jobs, refused.Load(), base/1e6, peak/1e6, bound/1e6)
	if refused.Load() == 0 {
		t.Errorf("the queue takes %d, and %d jobs at once were all taken", limit, jobs)
	}
	if peak > bound {
		t.Errorf("resident memory %.0f MB, want at most %.0f MB", peak/1e6, bound/1e6)
	}
}

// Many watchers of one job cost little and hear of the end soon (L4).
func TestManyWatchers(t *testing.T) {
	gate(t, "500 connections")
	const watchers = 500
	o := newOrigin(t)
	n := newNode(t)
	n.start()
	o.hold()
	spec, _, _ := o.pair(t, "x", true)
	id := n.accept(spec).ID
	n.until(id, time.Minute, func(st job.Status) bool { return st.State == job.Fetching })
	before, err := n.metric("process_resident_memory_bytes")
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]time.Time, watchers)
	var wg sync.WaitGroup
	for i := range watchers {
		end, err := n.watch(id)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := <-end; err != nil {
				t.Error(err)
			}
			ends[i] = time.Now()
		})
	}
	during, err := n.metric("process_resident_memory_bytes")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := n.metric("partiald_http_event_streams"); err != nil || v != watchers {
		t.Errorf("%v streams, %v, want %d", v, err, watchers)
	}
	o.release()
	st := n.finish(id, time.Minute)
	wg.Wait()
	slices.SortFunc(ends, time.Time.Compare)
	late := ends[watchers*99/100].Sub(st.Updated)
	each := (during - before) / watchers
	t.Logf("%d watchers: %.0f KiB each, p99 %v after the end of the job", watchers, each/1024, late)
	if late > time.Second {
		t.Errorf("p99 %v after the end of the job, want 1 s", late)
	}
	if each > 64<<10 {
		t.Errorf("%.0f KiB for each watcher, want 64", each/1024)
	}
	if !poll(10*time.Second, func() bool {
		v, err := n.metric("partiald_http_event_streams")
		return err == nil && v == 0
	}) {
		t.Error("streams are left")
	}
}

// noise returns bytes that cannot be compressed, the same for the same length.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

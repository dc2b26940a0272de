package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// largeObjects makes a large set from a seed: releases of about 30 kB of 50 products, and rules of which 60 have a client's product.
func largeObjects(tb testing.TB, releases, rules int) []state.Operation {
	tb.Helper()
	const products = 50
	var operations []state.Operation
	hash := func(n int) string { return strings.Repeat(fmt.Sprintf("%016x", uint64(n+1)*0x9e3779b97f4a7c15), 8) }
	for i := range releases {
		product, n := fmt.Sprintf("P%d", i%products), i/products
		name := func(n int) string { return fmt.Sprintf("%s-%d.0-build1", product, 10+n) }
		platforms := map[string]any{}
		for p := range 4 {
			locales := map[string]any{}
			for l := range 5 {
				patch := func(from string, salt int) map[string]any {
					return map[string]any{"from": from, "filesize": 50_000_000 + i, "hashValue": hash(i*1000 + p*100 + l*10 + salt), "fileUrl": fmt.Sprintf("https://archive.example/pub/%s/releases/%d.0/update/t%d/l%d/%s-%s.mar", product, 10+n, p, l, from, name(n))}
				}
				partials := []any{}
				for back := 1; back <= 3 && back <= n; back++ {
					partials = append(partials, patch(name(n-back), back))
				}
				locales[fmt.Sprintf("l%d", l)] = map[string]any{"buildID": fmt.Sprintf("2024%010d", n), "completes": []any{patch("*", 0)}, "partials": partials}
			}
			platforms[fmt.Sprintf("t%d", p)] = map[string]any{"OS_FTP": "x", "OS_BOUNCER": "y", "locales": locales}
		}
		blob, err := json.Marshal(map[string]any{"name": name(n), "schema_version": 9, "hashFunction": "sha512", "appVersion": fmt.Sprintf("%d.0", 10+n), "displayVersion": fmt.Sprintf("%d.0", 10+n), "platforms": platforms})
		if err != nil {
			tb.Fatal(err)
		}
		body, err := json.Marshal(state.ReleaseBody{Blob: blob, DataVersion: 1, Product: product})
		if err != nil {
			tb.Fatal(err)
		}
		operations = append(operations, state.Operation{Ref: state.Ref{Kind: state.Release, Key: name(n)}, Body: body})
	}
	newest := releases/products - 1
	for i := range rules {
		product := fmt.Sprintf("P%d", i%products)
		priority, rate, minor, channel := int64(i/products), int64(100), "minor", fmt.Sprintf("c%d*", i/products%6)
		mapping, version := fmt.Sprintf("%s-%d.0-build1", product, 10+newest-i/products%2), fmt.Sprintf("<%d.0", 12+newest+i%50)
		body, err := json.Marshal(aus.Rule{ID: int64(i + 1), Priority: &priority, BackgroundRate: &rate, UpdateType: &minor, Product: &product, Channel: &channel, Version: &version, Mapping: &mapping, DataVersion: 1})
		if err != nil {
			tb.Fatal(err)
		}
		operations = append(operations, state.Operation{Ref: state.Ref{Kind: state.Rule, Key: strconv.Itoa(i + 1)}, Body: body})
	}
	all := []string{}
	for i := range products {
		all = append(all, fmt.Sprintf("P%d", i))
	}
	body, err := json.Marshal(hostProducts{all})
	if err != nil {
		tb.Fatal(err)
	}
	return append(operations, state.Operation{Ref: state.Ref{Kind: state.Host, Key: "archive.example"}, Body: body})
}

// hostProducts is the body of a host.
type hostProducts struct {
	Products []string `json:"products"`
}

// largeURL is the address of one of many clients of the large set, of which n releases are of each product: mostly of the last five.
func largeURL(i, n int) string {
	n = max(0, n-1-i%5)
	return fmt.Sprintf("/update/6/P%d/%d.0/2024%010d/t%d/l%d/c%d/Windows_NT%%2010.0.0.0/ISET:SSE4_2,MEM:8192/default/default/update.xml", i%50, 10+n, n, i%4, i/50%5, i/50%6)
}

// seedLarge publishes the large set in a data directory, and returns how many bytes of JSON it has.
func seedLarge(t *testing.T, dir string, releases, rules int) (document int) {
	t.Helper()
	operations := largeObjects(t, releases, rules)
	for _, op := range operations {
		document += len(op.Body)
	}
	b, err := book.Open(t.Context(), filepath.Join(dir, "ausd.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	st, changes, err := state.New(nil).Apply(operations)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), book.Publication{Hash: st.Hash(), Author: "seed", Comment: "seed", Changes: changes}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return document
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A large set: how long a start and a publication take, and what the server holds. The figures hold on a machine that is idle.
func TestLarge(t *testing.T) {
	releases := testkit.Count(250, 10_000, 10_000)
	rules := testkit.Count(300, 3000, 3000)
	dir := t.TempDir()
	document := seedLarge(t, dir, releases, rules)
	base := liveHeap()
	begin, cpu := time.Now(), usedCPU(t)
	s, err := Open(t.Context(), Options{Dir: dir, URL: &url.URL{Scheme: "http", Host: "aus.example"}, Builds: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	started, startedCPU := time.Since(begin), usedCPU(t)-cpu
	if p := s.current.Load().problems; aus.Errors(p) > 0 {
		t.Fatal(p[0])
	}
	held := liveHeap() - base
	handler := s.Handler()
	updates, partials := 0, 0
	for i := range 2000 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, largeURL(i, releases/50), nil))
		body := w.Body.String()
		if strings.Contains(body, "<update ") {
			updates++
		}
		if strings.Contains(body, `type="partial"`) {
			partials++
		}
	}
	if updates < 500 {
		t.Errorf("%d of 2000 clients are offered an update, %d a partial", updates, partials)
	}
	rule := s.current.Load().state.Get(state.Ref{Kind: state.Rule, Key: "1"})
	begin, cpu = time.Now(), usedCPU(t)
	const publications = 3
	for i := range publications {
		body := strings.Replace(string(rule.Body()), `"comment":null`, fmt.Sprintf(`"comment":"%d"`, i), 1)
		was := s.current.Load().state.Get(rule.Ref)
		if _, err := s.Publish(t.Context(), "test", "x", []state.Operation{{Ref: rule.Ref, Before: was.Hash, Body: []byte(body)}}); err != nil {
			t.Fatal(err)
		}
	}
	took, tookCPU := time.Since(begin)/publications, (usedCPU(t)-cpu)/publications
	old := s.current.Load()
	if _, err := s.Publish(t.Context(), "test", "back", []state.Operation{{Ref: rule.Ref, Before: old.state.Get(rule.Ref).Hash, Body: rule.Body()}}); err != nil {
		t.Fatal(err)
	}
	both := liveHeap() - base
	runtime.KeepAlive(old)
	t.Logf("%d releases, %d rules, %.1f MB of JSON: start %v (%v of CPU time), publication %v (%v), live heap %.1f MB (%.2f of the JSON), with two snapshots %.2f; %d of 2000 clients are offered an update, %d a partial",
		releases, rules, float64(document)/1e6, started.Round(time.Millisecond), startedCPU.Round(time.Millisecond), took.Round(time.Millisecond), tookCPU.Round(time.Millisecond), float64(held)/1e6, float64(held)/float64(document), float64(both)/float64(document), updates, partials)
	if releases >= 10_000 && float64(both) > 2*float64(document) { // of a small set what every server has weighs more
		t.Errorf("the live heap with two snapshots is %.2f of the JSON, want at most 2", float64(both)/float64(document))
	}
}

// TestLoad asks with wrk for ten seconds each: a handler that does nothing else, the server, and the server while it publishes. What is
// compared is CPU time per answer, which does not depend on who else uses the machine as answers per second do.
func TestLoad(t *testing.T) {
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("half a minute of load: set SENBON_GATE=1")
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Skip("wrk is not installed")
	}
	const releases = 10_000
	n := releases / 50
	dir := t.TempDir()
	seedLarge(t, dir, releases, 3000)
	s, err := Open(t.Context(), Options{Dir: dir, URL: &url.URL{Scheme: "http", Host: "aus.example"}, Builds: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var script strings.Builder
	script.WriteString("local urls = {\n")
	for i := range 2000 {
		fmt.Fprintf(&script, "%q,\n", largeURL(i, n))
	}
	// The requests are made once, so that wrk leaves the time to the server.
	script.WriteString("}\nlocal requests = {}\ninit = function(args)\n  for i, url in ipairs(urls) do requests[i] = wrk.format(\"GET\", url) end\nend\n" +
		"local i = 0\nrequest = function()\n  i = i % #requests + 1\n  return requests[i]\nend\n")
	file := filepath.Join(t.TempDir(), "urls.lua")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(h http.Handler) (perSecond float64, p99 string, cpu time.Duration) {
		t.Helper()
		web := httptest.NewServer(h)
		defer web.Close()
		before := usedCPU(t)
		said, err := exec.CommandContext(t.Context(), wrk, "-t1", "-c32", "-d10s", "--latency", "-s", file, web.URL).CombinedOutput()
		if err != nil {
			t.Fatalf("wrk: %v: %s", err, said)
		}
		used, answers := usedCPU(t)-before, 0
		for line := range strings.Lines(string(said)) {
			fields := strings.Fields(line)
			switch {
			case len(fields) == 2 && fields[0] == "Requests/sec:":
				if perSecond, err = strconv.ParseFloat(fields[1], 64); err != nil {
					t.Fatal(err)
				}
			case len(fields) > 3 && fields[1] == "requests" && fields[2] == "in":
				if answers, err = strconv.Atoi(fields[0]); err != nil {
					t.Fatal(err)
				}
			case len(fields) == 2 && fields[0] == "99%":
				p99 = fields[1]
			case strings.Contains(line, "Non-2xx"):
				t.Errorf("wrk: %s", line)
			}
		}
		return perSecond, p99, used / time.Duration(max(1, answers))
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, largeURL(0, n), nil))
	bare, p99Bare, bareCPU := run(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		for name, values := range w.Header() {
			rw.Header()[name] = values
		}
		_, _ = rw.Write(w.Body.Bytes()) // wrk has gone away
	}))
	alone, p99, aloneCPU := run(s.Handler())
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		ref := state.Ref{Kind: state.Host, Key: "other.example"}
		for i := 0; ctx.Err() == nil; i++ {
			before := ""
			if o := s.current.Load().state.Get(ref); o != nil {
				before = o.Hash
			}
			if _, err := s.Publish(ctx, "test", "x", []state.Operation{{Ref: ref, Before: before, Body: fmt.Appendf(nil, `{"products": ["%d"]}`, i)}}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	})
	publishing, p99Publishing, publishingCPU := run(s.Handler())
	stop()
	wg.Wait()
	t.Logf("wrk -t1 -c32: bare handler %.0f/s (%v of CPU time each, p99 %s), server %.0f/s (%v, p99 %s), with a publication every 5 s %.0f/s (%v, p99 %s)",
		bare, bareCPU, p99Bare, alone, aloneCPU, p99, publishing, publishingCPU, p99Publishing)
	// The bar, half of what a bare handler answers, is for an idle machine with two cores: here it is a figure to read.
	if alone == 0 || publishing == 0 {
		t.Error("nothing was answered")
	}
}

// discard is a response that goes nowhere.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkServe is what one answer costs besides the reading and writing of HTTP: one that was given before, and one that was not.
func BenchmarkServe(b *testing.B) {
	const releases = 500
	s, err := Open(b.Context(), Options{Dir: b.TempDir(), URL: &url.URL{Scheme: "http", Host: "aus.example"}, Builds: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	if _, err := s.Publish(b.Context(), "seed", "seed", largeObjects(b, releases, 3000)); err != nil {
		b.Fatal(err)
	}
	handler := s.Handler()
	for _, bb := range []struct {
		name string
		urls int
	}{{"again", 2000}, {"first", 4 * maxSaid}} { // of so many none is remembered until it comes again
		requests := make([]*http.Request, bb.urls)
		for i := range requests {
			requests[i] = httptest.NewRequest(http.MethodGet, largeURL(i, releases/50)+"?_="+strconv.Itoa(i%bb.urls), nil)
		}
		b.Run("asked="+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				handler.ServeHTTP(&discard{make(http.Header, 8)}, requests[i%len(requests)])
			}
		})
	}
}

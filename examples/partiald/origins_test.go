package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// hostileOrigin answers in ways that never end. What it does stands at the beginning of the path.
func hostileOrigin(tb testing.TB) *httptest.Server {
	tb.Helper()
	over := make(chan struct{})
	body := func(w http.ResponseWriter, r *http.Request, declared string, each int, pause time.Duration) {
		w.Header().Set("ETag", `"x"`)
		if declared != "" {
			w.Header().Set("Content-Length", declared)
		}
		piece := bytes.Repeat([]byte("x"), max(each, 1))
		for each > 0 {
			if _, err := w.Write(piece[:each]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			if pause > 0 {
				select {
				case <-time.After(pause):
				case <-r.Context().Done():
					return
				case <-over:
					return
				}
			}
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch kind, _, _ := strings.Cut(r.URL.Path[1:], "/"); kind {
		case "drop": // a byte now and then
			body(w, r, "100000", 1, 200*time.Millisecond)
		case "nothing": // a header and no more
			body(w, r, "100000", 0, 0)
		case "silence": // not even that
			select {
			case <-r.Context().Done():
			case <-over:
			}
		case "endless": // as fast as it goes
			body(w, r, "", 64<<10, 0)
		case "declared": // 10 GiB are promised, and sent as fast as they go
			body(w, r, fmt.Sprint(int64(10<<30)), 64<<10, 0)
		default:
			http.NotFound(w, r)
		}
	}))
	tb.Cleanup(func() {
		close(over)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Origins that send slowly, nothing, or without end: each job ends soon after the limit, as the origin's fault, and the
// memory of the server stays as it is (F7).
func TestHostileOrigin(t *testing.T) {
	t.Parallel()
	const stall, most = time.Second, 8 << 20
	each := testkit.Count(1, 10, 50)
	h, o := hostileOrigin(t), newOrigin(t)
	n := newNode(t, "PARTIALD_FETCH_STALL="+stall.String(), "PARTIALD_FETCH_ATTEMPTS=1", "PARTIALD_WORKERS_ATTEMPTS=1", "PARTIALD_FETCH_PER_HOST=64",
		fmt.Sprintf("PARTIALD_FETCH_MAX_SIZE=%dB", most))
	n.start()
	good := o.source("to", testrelease.Complete(t, "140.2", ""))
	n.finish(n.accept(job.Spec{From: o.source("from", testrelease.Complete(t, "140.1", "")), To: good}).ID, time.Minute)
	base, err := n.metric("go_gc_heap_live_bytes")
	if err != nil {
		t.Fatal(err)
	}
	var longest atomic.Int64
	var wg sync.WaitGroup
	for _, kind := range []string{"drop", "nothing", "silence", "endless", "declared"} {
		for i := range each {
			wg.Go(func() {
				spec := job.Spec{From: job.Source{URLs: []string{fmt.Sprintf("%s/%s/%d", h.URL, kind, i)}, SHA512: fmt.Sprintf("%s%0120x", hex.EncodeToString([]byte(kind))[:8], i)}, To: good}
				_, st, err := n.submit(spec)
				if err != nil {
					t.Error(err)
					return
				}
				st = n.until(st.ID, patience(time.Minute), func(st job.Status) bool { return st.State.Final() })
				a := st.Attempts[len(st.Attempts)-1]
				took := a.Ended.Sub(a.Begun)
				longest.Store(max(longest.Load(), int64(took)))
				if st.State != job.Failed || st.Error.Code != job.CodeFetch || st.Error.Whose() != job.FaultOrigin || len(st.Attempts) != 1 {
					t.Errorf("%s: %s, %v after %d attempts, want fetch-failed, the origin's", kind, st.State, st.Error, len(st.Attempts))
				}
				if limit := stall + patience(time.Second); took > limit {
					t.Errorf("%s: ended after %v, want %v at most", kind, took, limit)
				}
			})
		}
	}
	wg.Wait()
	if strict() { // so that garbage is collected after them
		for range 3 {
			n.get("/metrics")
			<-time.After(time.Second)
		}
	}
	now, err := n.metric("go_gc_heap_live_bytes")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d jobs, the longest took %v; live heap %.1f MB before, %.1f MB after", 5*each, time.Duration(longest.Load()), base/1e6, now/1e6)
	if bound := base + 32<<20; now > bound {
		t.Errorf("live heap %.1f MB, before %.1f MB", now/1e6, base/1e6)
	}
	if left, err := os.ReadDir(filepath.Join(dataDir(n), "cache", "v1", "tmp")); err == nil && len(left) > 0 {
		t.Errorf("%d files were left behind", len(left))
	}
}

// Bytes that are not what the hash says are never used: the job says both hashes, is tried once more and no oftener, and nothing
// is in the cache (F8).
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	mutations := map[string]func([]byte) []byte{
		"a bit":        func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"a byte less":  func(b []byte) []byte { return b[:len(b)-1] },
		"a byte more":  func(b []byte) []byte { return append(b, 0) },
		"two swapped":  func(b []byte) []byte { b[40], b[len(b)-3] = b[len(b)-3], b[40]; return b },
		"another file": func([]byte) []byte { return testrelease.Complete(t, "140.3", "") },
	}
	sizes := []bool{false, true}
	if testkit.Count(0, 1, 1) == 0 {
		sizes = sizes[:1]
	}
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_WORKERS_RETRY_DELAY=10ms", "PARTIALD_WORKERS_ATTEMPTS=5", "PARTIALD_WORKERS_SLOTS=2", "PARTIALD_CACHE_MEMORY=0B")
	n.start()
	cases := 0
	var all [][]byte
	for _, algorithm := range []string{"sha512", "sha256"} {
		for _, side := range []string{"from", "to"} {
			for what, mutate := range mutations {
				for _, sized := range sizes {
					if !strict() && (algorithm == "sha512") != (side == "from") {
						continue // half of them
					}
					cases++
					salt := fmt.Sprint(cases) // so that nothing is in the cache by these hashes
					right := map[string][]byte{"from": testrelease.Complete(t, "140.1", salt), "to": testrelease.Complete(t, "140.2", salt)}
					all = append(all, right["from"], right["to"])
					spec := job.Spec{From: o.source("from"+salt, right["from"]), To: o.source("to"+salt, right["to"])}
					source := map[string]*job.Source{"from": &spec.From, "to": &spec.To}[side]
					name := fmt.Sprintf("wrong-%d", cases)
					wrong := mutate(bytes.Clone(right[side]))
					served := o.source(name, wrong)
					want, got := source.SHA512, served.SHA512
					source.URLs = served.URLs
					if !sized {
						source.Size = 0
					}
					if algorithm == "sha256" {
						sum, sumWrong := sha256.Sum256(right[side]), sha256.Sum256(wrong)
						want, got = hex.EncodeToString(sum[:]), hex.EncodeToString(sumWrong[:])
						source.SHA512, source.SHA256 = "", want
					}
					before := o.requests.Load()
					st := n.until(n.accept(spec).ID, time.Minute, func(st job.Status) bool { return st.State.Final() })
					label := fmt.Sprintf("%s of %s, %s, size known %v", what, side, algorithm, sized)
					wrongSize := sized && len(wrong) != len(right[side])
					switch {
					case st.State != job.Failed || st.Error.Code != job.CodeDigest || st.Error.Whose() != job.FaultOrigin:
						t.Errorf("%s: %s, %v", label, st.State, st.Error)
					case !wrongSize && (!strings.Contains(st.Error.Message, want) || !strings.Contains(st.Error.Message, got)):
						t.Errorf("%s: %q has not both hashes, %s and %s", label, st.Error.Message, want, got)
					case len(st.Attempts) > 2:
						t.Errorf("%s: %d attempts", label, len(st.Attempts))
					}
					if asked := o.requests.Load() - before; asked > 4 {
						t.Errorf("%s: the origin was asked %d times", label, asked)
					}
				}
			}
		}
	}
	// Whatever is in the cache of completes is one of those that were right.
	files, err := filepath.Glob(filepath.Join(dataDir(n), "cache", "*", "completes", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(right []byte) bool { return bytes.HasPrefix(data, right) }) {
			t.Errorf("%s has the bytes of no complete that was right", f)
		}
	}
	if len(files) == 0 {
		t.Error("the cache has no completes: they are looked for in the wrong place")
	}
	t.Logf("%d cases; %d completes in the cache", cases, len(files))
}

// marctl works on the cache of a service that runs: it looks, verifies, makes a partial with it and empties it, and the
// service goes on, with the same bytes.
func TestMarctlOnRunningCache(t *testing.T) {
	t.Parallel()
	marctl, _ := pluginBinary(t, "marctl")
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_CACHE_MEMORY=0B")
	n.start()
	from, to := testrelease.Complete(t, "140.1", "m"), testrelease.Complete(t, "140.2", "m")
	spec := job.Spec{From: o.source("from", from), To: o.source("to", to)}
	st := n.finish(n.accept(spec).ID, time.Minute)
	want := n.get("/api/v1/partials/" + st.ID)
	dir := t.TempDir()
	cacheDir := filepath.Join(dataDir(n), "cache")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), marctl, args...)
		cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("marctl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// The service is asked all the time.
	done, asked := make(chan struct{}), make(chan error, 1)
	var rounds atomic.Int64
	go func() {
		defer close(asked)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			again := job.Spec{From: spec.From, To: spec.To, Labels: map[string]string{"round": fmt.Sprint(i % 7)}}
			_, got, err := n.submit(again, "Prefer", "wait=60")
			if err == nil && got.State != job.Done {
				err = fmt.Errorf("round %d: %s, %w", i, got.State, got.Error)
			}
			if err != nil {
				asked <- err
				return
			}
			rounds.Add(1)
		}
	}()
	for _, side := range []struct {
		name string
		data []byte
	}{{"from.mar", from}, {"to.mar", to}} {
		writeFile(t, dir, side.name, string(side.data))
	}
	for i := range testkit.Count(1, 20, 100) {
		if out := run("cache", "stats", "--cache", cacheDir); !strings.Contains(out, "completes") {
			t.Errorf("stats: %s", out)
		}
		run("cache", "verify", "--cache", cacheDir)
		out := filepath.Join(dir, fmt.Sprintf("out%d.mar", i))
		run("partial", "--quiet", "--cache", cacheDir, filepath.Join(dir, "from.mar"), filepath.Join(dir, "to.mar"), out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("marctl made %d bytes with the cache of the service, the service %d, %v", len(got), len(want), err)
		}
		run("cache", "purge", "--cache", cacheDir, "--all")
	}
	close(done)
	if err := <-asked; err != nil {
		t.Errorf("the service, meanwhile: %v", err)
	}
	// Its bytes were removed. The service learns that when somebody wants them, says so, and makes them again.
	download := "/api/v1/partials/" + st.ID
	res, got, err := n.request(http.MethodGet, download, nil)
	if err != nil || res.StatusCode != http.StatusNotFound || !bytes.Contains(got, []byte("submit the job again")) {
		t.Errorf("after the purge: %v, %s", err, got)
	}
	n.finish(n.accept(spec).ID, time.Minute)
	if got := n.get(download); !bytes.Equal(got, want) {
		t.Errorf("%d bytes afterwards, want %d", len(got), len(want))
	}
	res, body, err := n.request(http.MethodGet, "/__heartbeat__", nil)
	if err != nil || res.StatusCode != http.StatusOK || !json.Valid(body) {
		t.Errorf("health: %v %s", err, body)
	}
	t.Logf("%d rounds of the service meanwhile", rounds.Load())
}

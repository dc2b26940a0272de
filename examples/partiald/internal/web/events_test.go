package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

// event reads the next event of a stream; it skips what is none.
func event(t *testing.T, r *bufio.Reader) (id string, st job.Status, ok bool) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", st, false
		}
		line = strings.TrimSuffix(line, "\n")
		k, v, _ := strings.Cut(line, ": ")
		switch k {
		case "id":
			id = v
		case "event":
			if v != "status" {
				t.Fatalf("event %q", v)
			}
		case "data":
			if err := json.Unmarshal([]byte(v), &st); err != nil {
				t.Fatal(err)
			}
			return id, st, true
		case "retry", "":
		default:
			t.Fatalf("line %q", line)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	watch := func(header ...string) *bufio.Reader {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.srv.URL+"/api/v1/jobs/"+st.ID+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := s.srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store, no-transform" {
			t.Fatalf("got %s %v", resp.Status, resp.Header)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewReader(resp.Body)
	}
	r := watch("Accept", "text/event-stream")
	if _, got, ok := event(t, r); !ok || got.State != job.Queued || got.ID != st.ID {
		t.Fatalf("got %+v, %v", got, ok)
	}
	s.svc.Move(st.ID, job.Fetching, job.Progress{Done: 1, Total: 100})
	if _, got, ok := event(t, r); !ok || got.State != job.Fetching {
		t.Fatalf("got %+v, %v", got, ok)
	}
	// Progress comes in lumps, but the last of it comes.
	for i := range 99 {
		s.svc.Move(st.ID, job.Fetching, job.Progress{Done: int64(i + 2), Total: 100})
	}
	n := 0
	for {
		_, got, ok := event(t, r)
		n++
		if !ok || n > 10 {
			t.Fatalf("event %d: %+v, %v", n, got, ok)
		}
		if got.Progress.Done == 100 {
			break
		}
	}
	// Who comes later, or again with any ID, gets what is known now.
	late := watch("Last-Event-ID", "no such thing \" 99999999999999999999")
	if _, got, ok := event(t, late); !ok || got.State != job.Fetching {
		t.Fatalf("got %+v, %v", got, ok)
	}
	s.svc.Finish(st.ID, jobtest.Output{Partial: []byte("p")})
	for _, r := range []*bufio.Reader{r, late} {
		if _, got, ok := event(t, r); !ok || got.State != job.Done || got.Result == nil {
			t.Fatalf("got %+v, %v", got, ok)
		}
		if _, _, ok := event(t, r); ok {
			t.Error("an event after the end")
		}
	}
	after := watch()
	if _, got, ok := event(t, after); !ok || got.State != job.Done {
		t.Fatalf("got %+v, %v", got, ok)
	}
	if _, _, ok := event(t, after); ok {
		t.Error("a job that ended is watched for ever")
	}
	// It may be tried again, and watched again.
	s.svc.Fail(st.ID, &job.Error{Code: job.CodeStore, Message: "full"})
	s.do("POST", "/api/v1/jobs/"+st.ID+"/retry", "").want(202)
	again := watch()
	if _, got, ok := event(t, again); !ok || got.State != job.Queued {
		t.Fatalf("got %+v, %v", got, ok)
	}
}

// One address cannot hold as many requests as it likes. Who only waits is answered at once then.
func TestHeldRequests(t *testing.T) {
	t.Parallel()
	o := everything
	o.MaxHeld = 2
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	change, closed := ends()
	s := openWith(t, jobtest.New(), o, change)
	st := s.submit(hashA, hashB)
	events := "/api/v1/jobs/" + st.ID + "/events"
	watch := func(addr string) (leave func()) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.srv.URL+events, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", addr)
		resp, err := s.srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		leave = func() { resp.Body.Close() }
		t.Cleanup(leave)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", addr, resp.Status)
		}
		return leave
	}
	first := watch("192.0.2.1")
	watch("192.0.2.1")
	s.do("GET", events, "", "X-Forwarded-For", "192.0.2.1").problem(429, "rate-limited")
	begin := time.Now()
	s.do("GET", "/api/v1/jobs/"+st.ID, "", "X-Forwarded-For", "192.0.2.1", "Prefer", "wait=60").want(200)
	s.do("POST", "/api/v1/partials", spec(hashA, hashB), "X-Forwarded-For", "192.0.2.1", "Prefer", "wait=60").want(202)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it waited for %v", took)
	}
	watch("192.0.2.2")
	first()
	<-closed
	watch("192.0.2.1")
}

// TestWatchers has 500 clients watch one job (L4): at most 64 KiB each, events within a second, nothing left behind.
func TestWatchers(t *testing.T) {
	const watchers = 500
	if n := openFiles(); n > 0 && n < 2*watchers+100 {
		t.Skipf("only %d files may be open", n)
	}
	svc := jobtest.New()
	watches := make(chan int, 2*watchers) // +1 for each that begins, -1 for each that ends
	svc.Watched = func(d int) { watches <- d }
	watch, closed := ends()
	s := openWith(t, svc, web.Options{Anonymous: web.Roles(), Logger: slog.New(slog.DiscardHandler)}, watch)
	st := s.submit(hashA, hashB)
	s.svc.Move(st.ID, job.Fetching, job.Progress{Total: 1000})
	s.do("GET", "/api/v1/jobs/"+st.ID, "").want(200)
	s.srv.Client().CloseIdleConnections()

	before, goroutines := memory(), runtime.NumGoroutine()
	conns := make([]net.Conn, watchers)
	for i := range conns {
		c, err := net.Dial("tcp", s.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, "GET /api/v1/jobs/"+st.ID+"/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	// The header tells that the stream has begun; it is read byte by byte so that nothing of ours counts as memory.
	b := make([]byte, 1)
	for _, c := range conns {
		seen := 0
		for want := "event: status"; seen < len(want); {
			if _, err := c.Read(b); err != nil {
				t.Fatal(err)
			}
			if b[0] == want[seen] {
				seen++
			} else {
				seen = 0
			}
		}
	}
	each := (memory() - before) / watchers
	t.Logf("%d bytes for each of %d watchers, %d goroutines", each, watchers, runtime.NumGoroutine()-goroutines)
	if each > 64<<10 {
		t.Errorf("each watcher takes %d bytes, more than 64 KiB", each)
	}
	if <-watches != 1 || len(watches) > 0 {
		t.Errorf("the service was watched %d times more, want once", len(watches))
	}

	// Every watcher sees the last of ten states, and says when.
	delays := make([]time.Duration, watchers)
	var sent time.Time
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					t.Errorf("watcher %d: %v", i, err)
					return
				}
				if strings.Contains(line, `"state":"storing"`) {
					delays[i] = time.Since(sent)
					return
				}
			}
		})
	}
	for _, state := range job.States()[2:7] {
		s.svc.Move(st.ID, state, job.Progress{Total: -1})
	}
	sent = time.Now()
	s.svc.Move(st.ID, job.Storing, job.Progress{Total: -1})
	wg.Wait()
	slices.Sort(delays)
	p99 := delays[watchers*99/100]
	t.Logf("events are seen after %s (median), %s (p99)", delays[watchers/2], p99)
	if p99 > time.Second {
		t.Errorf("p99 is %s, more than a second", p99)
	}

	left := map[string]bool{}
	for _, c := range conns {
		left[c.LocalAddr().String()] = true
		c.Close()
	}
	timeout := time.After(20 * time.Second)
	for watching := true; watching || len(left) > 0; {
		select {
		case client := <-closed:
			delete(left, client)
		case <-watches:
			watching = false
		case <-timeout:
			t.Fatalf("%d clients that left are still served, the service is watched: %v", len(left), watching)
		}
	}
	if n := runtime.NumGoroutine() - goroutines; n > watchers/10 { // the last ones are just ending
		t.Errorf("%d goroutines are left", n)
	}
	if got := metric(t, s, "partiald_http_event_streams"); got != 0 {
		t.Errorf("metric says %v", got)
	}
}

// memory is what lives now.
func memory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// openFiles returns how many files may be open, 0 if that is not known.
func openFiles() (n int) {
	data, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			_, _ = fmt.Sscan(rest, &n) // "unlimited" is 0
		}
	}
	return n
}

package engine_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// safeBuffer is one that several goroutines write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Callers do not learn from a failed download what the names of an internal network resolve to, neither from the job nor
// from its log. The service's own log has it.
func TestAddressesAreForOperators(t *testing.T) {
	t.Parallel()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(closed.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, url string
		allowed   bool // the network of the address
		want      []string
	}{
		{"private", "http://localhost/a.mar", false, []string{"fetch http://localhost/a.mar (1 attempt)", "localhost does not lead to a public address", "fetch.private_networks"}},
		{"port", "http://localhost:" + port + "/", false, []string{"connection to localhost is refused: prohibited port number", "fetch.ports"}},
		{"nobody listens", "http://localhost:" + port + "/", true, []string{"(2 attempts): dial tcp: connect: connection refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log safeBuffer
			o := newOrigin(t)
			n := open(t, setting{dir: t.TempDir(), queue: queue.Options{Lazy: true}, options: func(o *engine.Options) {
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				o.Attempts = 1
				if !tt.allowed {
					o.Fetch.AllowNetworks = nil
				}
			}})
			spec := o.spec(t, "a")
			spec.From.URLs, spec.To.URLs = []string{tt.url}, []string{tt.url}
			st := n.wait(n.submit(spec).ID)
			if st.State != job.Failed || st.Error.Code != job.CodeFetch {
				t.Fatalf("%s, %v", st.State, st.Error)
			}
			for _, want := range tt.want {
				if !strings.Contains(st.Error.Message, want) {
					t.Errorf("the job says %q, want it to have %q", st.Error.Message, want)
				}
			}
			own, err := n.Log(t.Context(), st.ID)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := io.ReadAll(own)
			if err != nil {
				t.Fatal(err)
			}
			said := st.Error.Message + string(lines)
			for _, c := range st.Changes {
				said += c.Reason
			}
			if !strings.Contains(string(lines), "attempt failed") {
				t.Errorf("the job's log does not say how it ended:\n%s", lines)
			}
			resolved := 0
			for _, address := range []string{"127.0.0.1:", "[::1]:"} {
				if strings.Contains(said, address) {
					t.Errorf("callers learn of %s:\n%s", address, said)
				}
				resolved += strings.Count(log.String(), address)
			}
			if resolved == 0 {
				t.Errorf("the log does not say what the name resolved to:\n%s", log.String())
			}
		})
	}
}

// A ledger that does not answer is said to be just that; where it is, the log says.
func TestUnavailableNamesNoMachine(t *testing.T) {
	t.Parallel()
	n := open(t, setting{dir: t.TempDir(), queue: queue.Options{Lazy: true}})
	if err := n.o.Ledger.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := n.History(t.Context(), job.Filter{})
	var own *job.Error
	if !errors.As(err, &own) || own.Code != job.CodeUnavailable || own.Message != "something that the service needs does not answer" {
		t.Errorf("got %v", err)
	}
	if own == nil || own.Cause == nil || !strings.Contains(own.Cause.Error(), "closed") {
		t.Errorf("nothing for the log in %+v", own)
	}
}

// While the queue is away, how full it is cannot be said: the answer is 503, for programs and people, and names no machine.
func TestQueueAway(t *testing.T) {
	t.Parallel()
	n := open(t, setting{dir: t.TempDir(), queue: queue.Options{Lazy: true}})
	ask := outside(t, n)
	if status, body := ask("read", "GET", "/api/v1/queue", nil); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	n.o.Queue.Close()
	for _, path := range []string{"/api/v1/queue", "/queue"} {
		status, body := ask("read", "GET", path, nil)
		if status != http.StatusServiceUnavailable || !bytes.Contains(bytes.ToLower(body), []byte("does not answer")) || bytes.Contains(body, []byte("127.0.0.1")) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// A partial that was removed is made again from its page as it was asked for: the page knows no passwords of addresses, the
// service does.
func TestMadeAgainWithPasswords(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if _, password, _ := r.BasicAuth(); password == "secret" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	n := open(t, setting{dir: t.TempDir(), queue: queue.Options{Lazy: true}, options: func(o *engine.Options) { o.Attempts = 1 }})
	spec := o.spec(t, "a")
	for _, src := range []*job.Source{&spec.From, &spec.To} {
		src.URLs[0] = strings.Replace(src.URLs[0], "http://", "http://user:secret@", 1)
	}
	st := n.wait(n.submit(spec).ID)
	if st.State != job.Done || strings.Contains(st.Spec.From.URLs[0], "secret") {
		t.Fatalf("%s, %v, %q", st.State, st.Error, st.Spec.From.URLs)
	}
	ask := outside(t, n)
	if _, err := n.Purge(t.Context(), st.ID, time.Time{}, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := n.disk.Purge(t.Context(), cache.Filter{Kind: cache.Completes}); err != nil {
		t.Fatal(err)
	}
	before := o.requests.Load()
	if status, body := ask("submit", "POST", "/jobs/"+st.ID+"/again", nil); status != http.StatusOK { // of the job's page
		t.Fatalf("%d %s", status, body)
	}
	if st = n.wait(st.ID); st.State != job.Done || o.requests.Load() == before {
		t.Errorf("%s, %v, fetched again: %v", st.State, st.Error, o.requests.Load() > before)
	}
	if status, _ := ask("submit", "POST", "/jobs/"+st.ID+"/again", nil); status != http.StatusOK {
		t.Errorf("one that is there: %d", status)
	}
}

package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

const replicaToken = "replica's token"

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// primary starts a server that replicas may follow.
func primary(t *testing.T, dir string) *testServer {
	t.Helper()
	return start(t, dir, func(o *Options) {
		o.Tokens = []Token{{Name: "replica", SHA256: hashOf(replicaToken), Roles: []Role{RoleReplicate}}, {Name: "reader", SHA256: hashOf("r"), Roles: []Role{RoleRead}}}
	})
}

// road is the road between a replica and its server: it can be cut, and answers replaced.
type road struct {
	*httptest.Server
	cut     atomic.Bool
	polls   atomic.Pointer[poll]
	replace atomic.Pointer[func(path string, body []byte) []byte]
}

// poll ends the requests that are under way.
type poll struct {
	ctx context.Context //nolint:containedctx // of a test
	end context.CancelFunc
}

// interrupt ends the requests that are under way.
func (r *road) interrupt() {
	ctx, cancel := context.WithCancel(context.Background())
	if old := r.polls.Swap(&poll{ctx, cancel}); old != nil {
		old.end()
	}
}

func newRoad(t *testing.T, to *testServer) *road {
	t.Helper()
	u, err := url.Parse(to.url)
	if err != nil {
		t.Fatal(err)
	}
	r := &road{}
	r.interrupt()
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.ModifyResponse = func(res *http.Response) error {
		f := r.replace.Load()
		if f == nil {
			return nil
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		body = (*f)(res.Request.URL.Path, body)
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		res.Header.Del("Content-Length")
		return nil
	}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		now := r.polls.Load() // first: what is changed before an interruption must be seen by all that it does not end
		if r.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.replace.Load() != nil { // who lies does not wait
			q := req.URL.Query()
			q.Del("wait")
			req.URL.RawQuery = q.Encode()
		}
		ctx, cancel := context.WithCancel(req.Context())
		defer cancel()
		defer context.AfterFunc(now.ctx, cancel)()
		proxy.ServeHTTP(w, req.WithContext(ctx))
	}))
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(r.interrupt)
	t.Cleanup(r.Close)
	return r
}

// follower starts a replica.
func follower(t *testing.T, dir string, of *testServer, over string) *testServer {
	t.Helper()
	public, err := url.Parse(of.url)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(over)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, dir, func(o *Options) {
		o.URL, o.Replica = public, &Replica{URL: u, Key: of.PublicKey(), Token: replicaToken, Retry: 20 * time.Millisecond}
	})
}

func (s *testServer) has(seq int64) func() bool {
	return func() bool { return s.current.Load().head.Seq == seq }
}

func TestReplica(t *testing.T) {
	t.Parallel()
	p := primary(t, t.TempDir())
	way, dir := newRoad(t, p), t.TempDir()
	way.cut.Store(true)

	// With nothing at all: no update, which nobody is to remember.
	r := follower(t, dir, p, way.URL)
	res, err := http.Get(r.url + client)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusOK || strings.Contains(string(body), "<update ") || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("with nothing: %d %s %v", res.StatusCode, body, res.Header)
	}
	var said string
	if status := r.call("GET", "/__heartbeat__", nil, &said); status != 503 || !strings.Contains(said, "alarm: nothing is known") {
		t.Errorf("heartbeat with nothing: %d %s", status, said)
	}

	p.seed()
	way.cut.Store(false)
	eventually(t, "there", r.has(1))
	if got := r.offered(client); got != "91.0" {
		t.Errorf("the replica offers %q", got)
	}
	eventually(t, "well", func() bool {
		return r.call("GET", "/__heartbeat__", nil, &said) == 200 && !strings.Contains(said, "alarm")
	})

	// The server says who follows it, and with what.
	var status struct{ Replicas []asked }
	eventually(t, "asking with the first snapshot", func() bool {
		return p.call("GET", "/admin/v1/status", nil, &status) == 200 && len(status.Replicas) == 1 && status.Replicas[0].Name == "replica" && status.Replicas[0].Seq == 1
	})
	if p.call("GET", "/", nil, &said); !strings.Contains(said, "Replicas that have asked") || strings.Contains(said, "behind") {
		t.Errorf("the page: %s", said)
	}
	if r.call("GET", "/", nil, &said); !strings.Contains(said, "This server is a replica. Alarm: none") {
		t.Errorf("the page of the replica: %s", said)
	}

	// What changes is there at once, and so is a shutoff; what is taken away is gone.
	if status := p.call("POST", "/admin/v1/changes", change("to 90", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`))), nil); status != 200 {
		t.Fatal(status)
	}
	eventually(t, "changed", func() bool { return r.offered(client) == "90.0" })
	f, _, err := p.ShutOff(t.Context(), "test", aus.Shutoff{Product: "Fox", Comment: "bad"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "shut off", func() bool { return r.offered(client) == "" })
	if _, err := p.Lift(t.Context(), "test", f.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "lifted", func() bool { return r.offered(client) == "90.0" })
	if a, b := p.current.Load().state.Hash(), r.current.Load().state.Hash(); a != b {
		t.Errorf("hashes %s and %s", a, b)
	}

	// Nothing is changed here.
	for _, tt := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/admin/v1/changes", change("x", operation("rule", "2", ruleBody(2, "")))},
		{"POST", "/admin/v1/shutoffs", shutoffBody{Product: "Fox", Comment: "x"}},
		{"PUT", "/admin/v1/files/x.mar", strings.NewReader("x")},
		{"POST", "/admin/v1/revert", map[string]any{"to": 1}},
	} {
		if status := r.call(tt.method, tt.path, tt.body, &said); status != 409 || !strings.Contains(said, "replica") {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, said)
		}
	}

	// Clients stay on their side of a throttled rule whoever answers.
	if !bytes.Equal(*p.secret.Load(), *r.secret.Load()) {
		t.Error("two secrets")
	}

	// The road is cut: it serves on, also after a restart, and comes back by itself.
	way.cut.Store(true)
	way.interrupt()
	if status := p.call("POST", "/admin/v1/changes", change("to 91", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0"`))), nil); status != 200 {
		t.Fatal(status)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := follower(t, dir, p, way.URL)
	if got := again.offered(client); got != "90.0" {
		t.Errorf("after a restart without its server the replica offers %q", got)
	}
	way.cut.Store(false)
	eventually(t, "back", func() bool { return again.offered(client) == "91.0" })

	// Only the role that is for it is told.
	for token, want := range map[string]int{replicaToken: 200, "r": 403, "x": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/admin/v1/replicate/head", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("token %q: %d, want %d", token, res.StatusCode, want)
		}
	}
}

// Whoever stands between a replica and its server can change nothing.
func TestReplicaHostile(t *testing.T) {
	t.Parallel()
	p := primary(t, t.TempDir())
	p.seed()
	way := newRoad(t, p)
	var old []byte // the first statement
	if status := p.call("GET", "/admin/v1/replicate/head", nil, &old); status != 200 {
		t.Fatal(status)
	}
	r := follower(t, t.TempDir(), p, way.URL)
	eventually(t, "there", r.has(1))
	if status := p.call("POST", "/admin/v1/changes", change("to 90", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`))), nil); status != 200 {
		t.Fatal(status)
	}
	eventually(t, "changed", r.has(2))
	refused := func(want string, f func(path string, body []byte) []byte) {
		t.Helper()
		way.replace.Store(&f)
		way.interrupt()
		r.replica.note(func(s *replicaStatus) { s.failure = "" })
		eventually(t, "refused: "+want, func() bool { return strings.Contains(r.replica.status().failure, want) })
		if got := r.offered(client); got != "90.0" {
			t.Errorf("the replica offers %q", got)
		}
	}
	resigned := func(change func(*replicate.Statement)) []byte {
		t.Helper()
		st, _, err := p.statement(p.current.Load())
		if err != nil {
			t.Fatal(err)
		}
		change(&st)
		signed, err := replicate.Sign(p.signing.key, st)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(headBody{signed, hex.EncodeToString(*p.secret.Load())})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct {
		name, want string
		body       []byte
	}{
		{"an older one", replicate.ErrOlder.Error(), old},
		{"no statement", replicate.ErrSignature.Error(), []byte(`{}`)},
		{"expired", replicate.ErrExpired.Error(), resigned(func(s *replicate.Statement) {
			s.Sequence, s.Time, s.Expires = 9, s.Time.Add(-5*time.Hour), s.Time.Add(-time.Hour)
		})},
		{"of another address", "give both the same url", resigned(func(s *replicate.Statement) { s.Sequence, s.URL = 9, "https://evil.example" })},
		{"of no snapshot", "not found", resigned(func(s *replicate.Statement) { s.Sequence, s.Hash = 9, strings.Repeat("0", 64) })},
	} {
		refused(tt.want, func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "/head") {
				return tt.body
			}
			return body
		})
	}
	// Objects and listings that are not what was signed.
	if status := p.call("POST", "/admin/v1/changes", change("to 91", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0", "comment": "new"`))), nil); status != 200 {
		t.Fatal(status)
	}
	refused("damaged", func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "/objects") {
			return bytes.Replace(body, []byte("Fox-91.0"), []byte("Fox-90.0"), 1)
		}
		return body
	})
	refused("is not what it signed", func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "/difference") {
			return []byte(`{"from": 2, "to": 3, "entries": []}`)
		}
		return body
	})
	way.replace.Store(nil)
	eventually(t, "right again", func() bool { return r.offered(client) == "91.0" })
}

// What has expired is served on, with an alarm.
func TestReplicaExpired(t *testing.T) {
	t.Parallel()
	p := primary(t, t.TempDir())
	p.seed()
	way, dir := newRoad(t, p), t.TempDir()
	r := follower(t, dir, p, way.URL)
	eventually(t, "there", r.has(1))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	way.cut.Store(true)
	st, _, err := p.statement(p.current.Load())
	if err != nil {
		t.Fatal(err)
	}
	st.Time, st.Expires = st.Time.Add(-5*time.Hour), st.Time.Add(-time.Hour)
	signed, err := replicate.Sign(p.signing.key, st)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, statementIn), text, 0o600); err != nil {
		t.Fatal(err)
	}
	r = follower(t, dir, p, way.URL)
	var said string
	if status := r.call("GET", "/__heartbeat__", nil, &said); status != 200 || !strings.Contains(said, "alarm: what the server signed last has expired") || r.offered(client) != "91.0" {
		t.Errorf("heartbeat: %d %s", status, said)
	}
	if status := r.call("GET", "/metrics", nil, &said); status != 200 || !strings.Contains(said, "ausd_statement_expired 1\n") {
		t.Errorf("metrics: %d %s", status, said)
	}
	way.cut.Store(false)
	eventually(t, "no alarm any more", func() bool {
		r.call("GET", "/metrics", nil, &said)
		return strings.Contains(said, "ausd_statement_expired 0\n")
	})
}

// Files and demand: a replica fetches a file when the first client asks for it, and tells its server what clients lack.
func TestReplicaPartials(t *testing.T) {
	t.Parallel()
	p := primary(t, t.TempDir())
	r := follower(t, t.TempDir(), p, p.url)
	oldest := complete(t, "1.0", "20240101000000", nil)
	p.add(oldest, Addition{Channel: "release"})
	added := p.add(complete(t, "2.0", "20250101000000", nil), Addition{Channel: "release"})
	query := fmt.Sprintf("/update/3/Fox/1.0/20240101000000/%s/de/release/Linux/default/default/update.xml", added.Build.Target)
	var body string
	eventually(t, "with a partial", func() bool {
		return r.call("GET", query, nil, &body) == 200 && strings.Contains(body, `type="partial"`)
	})
	_, rest, _ := strings.Cut(body, `type="partial" URL="`)
	address, _, _ := strings.Cut(rest, `"`)
	path := strings.TrimPrefix(address, p.url)
	var here, there []byte
	if a, b := p.call("GET", path, nil, &there), r.call("GET", path, nil, &here); a != 200 || b != 200 || !bytes.Equal(here, there) {
		t.Errorf("%s: %d with %d bytes there, %d with %d here", path, a, len(there), b, len(here))
	}
	if status := r.call("GET", strings.Replace(path, "files/", "files/0", 1)[:len(path)], nil, nil); status != 404 {
		t.Errorf("a file that is none: %d", status)
	}
	// What clients of the replica lack is demand of the server.
	ref := state.Ref{Kind: state.Made}
	for _, o := range p.current.Load().state.List(state.Made) {
		ref = o.Ref
	}
	if _, err := p.Publish(t.Context(), "test", "drop", []state.Operation{{Ref: ref, Before: p.current.Load().state.Get(ref).Hash}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "wanted", func() bool {
		r.call("GET", query, nil, nil)
		list, err := p.book.Demands(t.Context(), 10)
		return err == nil && len(list) == 1 && list[0].N > 0
	})
}

// TestReplicasLarge publishes on the large set, and waits until three servers give the new answer.
func TestReplicasLarge(t *testing.T) {
	releases, rules := testkit.Count(0, 10_000, 10_000), 3000
	if releases == 0 {
		t.Skip("minutes with a large set: set SENBON_GATE=1")
	}
	dir := t.TempDir()
	seedLarge(t, dir, releases, rules)
	p := primary(t, dir)
	servers := []*testServer{p, follower(t, t.TempDir(), p, p.url), follower(t, t.TempDir(), p, p.url)}
	for _, r := range servers[1:] {
		eventually(t, "there", r.has(1))
	}
	var worst time.Duration
	const times = 5
	for range times {
		f := aus.Shutoff{Product: "P0", Comment: "bad"}
		begin := time.Now()
		f, _, err := p.ShutOff(t.Context(), "test", f)
		if err != nil {
			t.Fatal(err)
		}
		query := largeURL(0, releases/50)
		for _, s := range servers {
			eventually(t, "shut off", func() bool { return s.offered(query) == "" })
		}
		worst = max(worst, time.Since(begin))
		head, err := p.Lift(t.Context(), "test", f.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			eventually(t, "lifted", s.has(head.Seq))
		}
	}
	t.Logf("%d releases, %d rules: a shutoff was on three servers in one process after at most %v, of %d times", releases, rules, worst.Round(time.Millisecond), times)
	if worst > time.Second {
		t.Errorf("a shutoff took %v to reach three servers, want 1 s", worst)
	}
	if _, err := p.book.Snapshot(t.Context(), 1); errors.Is(err, book.ErrNotFound) {
		t.Error("the first snapshot is gone")
	}
}

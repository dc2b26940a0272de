package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// onPostgres is where a process that runs the tests once more, on PostgreSQL, finds its server.
const onPostgres = "SENBON_TEST_AUSD_POSTGRES"

// databases has the database of each data directory, on PostgreSQL.
var databases sync.Map

// TestPostgres runs the tests of changing, of partials and of what clients see once more, with the book in PostgreSQL.
func TestPostgres(t *testing.T) {
	t.Parallel()
	if os.Getenv(onPostgres) != "" {
		t.Skip("this is it")
	}
	pg := pgtest.Postgres(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^Test(Changes|ReadOnly|Drafts|Shutoffs|Partials|Review|Collect)$", "-test.v")
	cmd.Env = append(os.Environ(), onPostgres+"="+pg.Address())
	said, err := cmd.CombinedOutput()
	if n := strings.Count(string(said), "--- PASS: Test"); err != nil || n < 7 {
		t.Errorf("%d tests passed, %v:\n%s", n, err, said)
	}
}

// A second server on one database is refused, and may serve when the first has ended.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	if os.Getenv(onPostgres) != "" {
		t.Skip("it has a server of its own")
	}
	pg := pgtest.Postgres(t)
	first, second := t.TempDir(), t.TempDir()
	address := pg.Database(t)
	databases.Store(first, address)
	s := start(t, first, func(o *Options) { o.Postgres = address })
	s.seed()
	opts := Options{Dir: second, URL: s.opts.URL, Postgres: address}
	if other, err := Open(t.Context(), opts); !errors.Is(err, database.ErrInUse) || !strings.Contains(err.Error(), "make this one a replica") {
		t.Fatalf("a second server: %v, %v", other, err)
	}
	if status := s.call("POST", "/admin/v1/changes", change("to 90", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`))), nil); status != http.StatusOK {
		t.Errorf("the first publishes with status %d", status)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("when the first has ended: %v", err)
	}
	if seq := other.current.Load().head.Seq; seq != 2 {
		t.Errorf("it begins with snapshot %d", seq)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// The database goes away: clients are answered, a change fails and leaves nothing behind, and works when it is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	if os.Getenv(onPostgres) != "" {
		t.Skip("it has a server of its own")
	}
	pg := pgtest.Postgres(t)
	dir := t.TempDir()
	databases.Store(dir, pg.Database(t))
	s := start(t, dir, func(o *Options) {
		where, _ := databases.Load(dir)
		o.Postgres = where.(string)
	})
	s.seed()
	to90 := change("to 90", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`)))
	pg.Kill()
	var said string
	for range 3 {
		if got := s.offered(client); got != "91.0" {
			t.Errorf("without its database it offers %q", got)
		}
		if status := s.call("POST", "/admin/v1/changes", to90, &said); status != http.StatusServiceUnavailable {
			t.Errorf("a change without a database: %d %s", status, said)
		}
	}
	pg.Restart(t)
	if got := s.offered(client); got != "91.0" {
		t.Errorf("a change that failed shows: it offers %q", got)
	}
	eventually(t, "changed", func() bool { return s.call("POST", "/admin/v1/changes", to90, &said) == http.StatusOK })
	if got := s.offered(client); got != "90.0" {
		t.Errorf("with its database back it offers %q", got)
	}
	if list, err := s.book.History(t.Context(), 0, 10); err != nil || len(list) != 2 {
		t.Errorf("history: %+v, %v", list, err)
	}
}

// testServer is a server with its HTTP side.
type testServer struct {
	*Server
	tb  testing.TB
	url string
	dir string
}

// start opens a server in a directory, and closes it at the end of the test.
func start(tb testing.TB, dir string, change func(*Options)) *testServer {
	tb.Helper()
	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	tb.Cleanup(web.Close)
	base, err := url.Parse(web.URL)
	if err != nil {
		tb.Fatal(err)
	}
	opts := Options{Dir: dir, URL: base, PublishMade: 50 * time.Millisecond, Log: slog.New(&events)}
	if address := os.Getenv(onPostgres); address != "" {
		if _, ok := databases.Load(dir); !ok {
			databases.Store(dir, pgtest.Database(tb, address))
		}
		where, _ := databases.Load(dir)
		opts.Postgres = where.(string)
	}
	if change != nil {
		change(&opts)
	}
	s, err := Open(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	handler = s.Handler()
	return &testServer{s, tb, web.URL, dir}
}

// call sends JSON, or a file, and decodes what comes back into to, if that is not nil.
func (s *testServer) call(method, path string, body, to any) int {
	s.tb.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.tb.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(s.tb.Context(), method, s.url+path, r)
	if err != nil {
		s.tb.Fatal(err)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.tb.Fatal(err)
	}
	if to != nil {
		if t, ok := to.(*string); ok {
			*t = string(text)
		} else if b, ok := to.(*[]byte); ok {
			*b = text
		} else if err := json.Unmarshal(text, to); err != nil {
			s.tb.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
		}
	}
	return res.StatusCode
}

// The newcomer: two completes are added, the client of the old one gets a partial, which turns the one into the other.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("a real release takes some seconds of CPU time: set SENBON_GATE=1")
	}
	corpus := testkit.Shared(t, "corpus", "firefox-small")
	s := start(t, t.TempDir(), nil)
	for _, name := range []string{"from.mar", "to.mar"} {
		f, err := os.Open(filepath.Join(corpus, name))
		if err != nil {
			t.Fatal(err)
		}
		var up uploadedBody
		if status := s.call("PUT", "/admin/v1/files/"+name, f, &up); status != http.StatusOK {
			t.Fatalf("upload: status %d", status)
		}
		f.Close()
		if b := up.Build; b.Product != "Firefox" || b.Channel != "esr" || b.Locale != "en-US" || b.Target != "Linux_x86_64-gcc3" || fmt.Sprint(b.Defaults) != "[locale]" || b.Signed {
			t.Errorf("%s is %+v", name, b)
		}
		var added Added
		if status := s.call("POST", "/admin/v1/builds", Addition{SHA512: up.SHA512}, &added); status != http.StatusOK || added.Rule != 1 {
			t.Fatalf("add: status %d: %+v", status, added)
		}
	}
	client := "/update/6/Firefox/153.5.1/20261019143936/Linux_x86_64-gcc3/en-US/esr/Linux%206.1/ISET:SSE4_2,MEM:8192/default/default/update.xml"
	begin := time.Now()
	var body string
	eventually(t, "a partial", func() bool {
		s.call("GET", client, nil, &body)
		if !strings.Contains(body, `appVersion="153.6.0"`) {
			t.Fatalf("after %v: %s", time.Since(begin), body)
		}
		return strings.Contains(body, `type="partial"`)
	})
	t.Logf("a partial after %v", time.Since(begin))
	_, rest, _ := strings.Cut(body, `<patch type="partial" URL="`)
	address, _, _ := strings.Cut(rest, `"`)
	file := filepath.Join(t.TempDir(), "partial.mar")
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", address, res.StatusCode, err)
	}
	if !strings.Contains(body, fmt.Sprintf(`size="%d"`, len(data))) || res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("%d bytes, Cache-Control %q: %s", len(data), res.Header.Get("Cache-Control"), body)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	oracle := testkit.Shared(t, "oracle", "mar_oracle.py")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: the partial is not checked by the oracle")
	}
	said, err := exec.CommandContext(t.Context(), python, oracle, "check", filepath.Join(corpus, "from.mar"), file, filepath.Join(corpus, "to.mar")).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "same") {
		t.Errorf("the oracle says: %v\n%s", err, said)
	}
	t.Logf("%s", said)
	// Whoever is new already gets nothing; the partial outlives a restart.
	s.call("GET", strings.Replace(client, "153.5.1/20261019143936", "153.6.0/20991231000000", 1), nil, &body)
	if strings.Contains(body, "<update ") {
		t.Errorf("the new client gets %s", body)
	}
}

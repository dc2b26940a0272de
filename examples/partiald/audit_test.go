package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
)

// audited runs an audit and returns its findings by area and subject.
func audited(t *testing.T, env []string, args ...string) (map[string]auditFinding, int) {
	t.Helper()
	out, errs, code := partiald(t, env, append([]string{"audit", "--json", "-"}, args...)...)
	var r auditReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, out, errs)
	}
	found := map[string]auditFinding{}
	for _, f := range r.Findings {
		found[f.Area+"/"+f.What] = f
	}
	return found, code
}

// A service that runs with keys, a store and a history is audited while it works; then one thing after the other is
// broken, and each is found.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, storeSum := pluginBinary(t, "storage-dir")
	objects, public, token := filepath.Join(dir, "objects"), filepath.Join(dir, "release.pub.pem"), filepath.Join(dir, "bot.token")
	text := withPlugins(t, dir, "test", "", "") + withToken(t, dir, "bot", "submit", "a token of enough letters")
	write := func(name, text string) string { return writeFile(t, dir, name, text) }
	n := newNode(t)
	n.args = []string{"--config", write("partiald.toml", text)}
	n.start()
	o := newOrigin(t)
	spec := job.Spec{From: o.source("from", testrelease.Complete(t, "140.1", "")), To: o.source("to", testrelease.Complete(t, "140.2", ""))}
	res, st, err := n.submit(spec, "Authorization", "Bearer a token of enough letters", "Prefer", "wait=60")
	if err != nil || res.StatusCode != http.StatusOK || len(st.Result.SignedBy) != 1 {
		t.Fatalf("%v, %+v", err, st)
	}
	// Prometheus as it answers, with queries written as it does.
	shipped, err := shippedAlerts()
	if err != nil || len(shipped) < 10 {
		t.Fatalf("%d alerts, %v", len(shipped), err)
	}
	var rules atomic.Value
	rules.Store(promRules(shipped))
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/rules" {
			fmt.Fprint(w, rules.Load())
			return
		}
		fmt.Fprint(w, `{"data":{"result":[{"metric":{"__name__":"partiald_ready"}}]}}`)
	}))
	defer prometheus.Close()

	args := []string{"--config", filepath.Join(dir, "partiald.toml"), "--listen", n.addr, "--prometheus", prometheus.URL}
	found, code := audited(t, n.env, args...)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for name, want := range map[string]verdict{
		"configuration/all keys": good, "keys/signing key pem:release": good, "plugins/signer pem:release": good, "plugins/store, round trip": good,
		"service/version": good, "service/health": good, "restore drill/history": good, "restore drill/a partial again": good,
		"alerts/alerts": good, "alerts/rule file": good, "alerts/scraping": good, "plugins/signing": unchecked, "who may come/fetch.insecure": better,
		"disk/data, writing": "", "limits/memory": good,
	} {
		f, ok := found[name]
		if !ok && strings.HasPrefix(name, "keys/signing key") || !ok && strings.HasPrefix(name, "plugins/signer") {
			for k, v := range found { // whatever the key is called
				if strings.HasPrefix(k, strings.TrimSuffix(name, "pem:release")) {
					f, ok = v, true
				}
			}
		}
		if !ok || want != "" && f.Verdict != want || f.Verdict == bad {
			t.Errorf("%s: %+v, want %s", name, f, want)
		}
	}
	if journal, err := os.ReadFile(filepath.Join(dataDir(n), "signing.journal")); err != nil || strings.Count(string(journal), `"outcome":"signed"`) != 1 {
		t.Errorf("the journal of the service was changed: %v\n%s", err, journal)
	}
	if left, err := filepath.Glob(filepath.Join(objects, "*", "docs", "*", "*")); err != nil || len(left) > 2 {
		t.Errorf("the audit left something in the store: %v, %v", left, err)
	}
	if out, _, code := partiald(t, n.env, append(append([]string{"audit", "--quick", "--strict"}, args...), "--json", filepath.Join(dir, "audit.json"))...); code != 1 || !strings.Contains(out, "should be better") {
		t.Errorf("--strict: exit code %d\n%s", code, out)
	}

	// What is broken is found.
	if err := os.Chmod(token, 0o604); err != nil {
		t.Fatal(err)
	}
	changed := shipped[1]
	changed.waits++
	rules.Store(promRules([]alert{shipped[0], changed}))
	old := time.Now().AddDate(-4, 0, 0)
	if err := os.Chtimes(public, old, old); err != nil {
		t.Fatal(err)
	}
	found, code = audited(t, n.env, append(args, "--quick")...)
	for name, want := range map[string]verdict{"keys/auth.tokens[0].token_file": bad, "alerts/alerts": bad, "alerts/rule file": better, "alerts/rule file, changed": better, "restore drill/all of it": unchecked} {
		if found[name].Verdict != want {
			t.Errorf("%s: %+v, want %s", name, found[name], want)
		}
	}
	aged := false
	for name, f := range found {
		aged = aged || strings.HasPrefix(name, "keys/signing key") && f.Verdict == better && strings.Contains(f.Detail, "days old")
	}
	if !aged || code != 1 {
		t.Errorf("a key of four years is no finding, exit code %d", code)
	}
	write("partiald.toml", strings.Replace(text, storeSum, strings.Repeat("0", 64), 1))
	found, code = audited(t, n.env, append(args, "--quick")...)
	if code != 1 || !strings.Contains(fmt.Sprint(found), "checksum") {
		t.Errorf("a plugin of another checksum: exit code %d, %+v", code, found)
	}
	write("partiald.toml", text+"\n[nonsense]\nx = 1\n")
	found, code = audited(t, n.env, append(args, "--quick")...)
	if code != 1 || found["plugins/all of it"].Verdict != unchecked {
		t.Errorf("a wrong configuration: exit code %d, %+v", code, found)
	}
}

// promRules is what Prometheus says of alerts that it has loaded.
func promRules(list []alert) string {
	var rules []string
	for _, a := range list {
		rules = append(rules, fmt.Sprintf(`{"name":%q,"type":"alerting","health":"ok","query":%q,"duration":%g,"labels":{"severity":%q}}`,
			a.name, strings.ReplaceAll(a.query, " by (", " by("), a.waits.Seconds(), a.severity))
	}
	return `{"data":{"groups":[{"rules":[` + strings.Join(rules, ",") + `]}]}}`
}

// The alerts of the file are found in a real Prometheus that has loaded them.
func TestAuditPrometheus(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("no prometheus (Debian: prometheus)")
	}
	dir := t.TempDir()
	rules, err := filepath.Abs("deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(t.Context(), tool, "--config.file="+writeFile(t, dir, "prometheus.yml", fmt.Sprintf("rule_files: [%q]\n", rules)),
		"--web.listen-address="+address, "--storage.tsdb.path="+filepath.Join(dir, "data"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for begin := time.Now(); ; {
		loaded, err := loadedAlerts(t.Context(), "http://"+address)
		if err == nil {
			u := &auditor{}
			shipped, err := shippedAlerts()
			if err != nil {
				t.Fatal(err)
			}
			u.compareAlerts(shipped, loaded)
			if len(u.r.Findings) != 2 || u.r.Findings[0].Verdict != good || u.r.Findings[1].Verdict != good {
				t.Errorf("%+v\nloaded %+v", u.r.Findings, loaded)
			}
			return
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// A partial that is not made again as it was is found, and a machine that was never started is not bad for it.
func TestAuditDrill(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	found, code := audited(t, n.env)
	if code != 0 || found["restore drill/history"].Verdict != unchecked || found["restore drill/a sample"].Verdict != good || found["service/answer"].Verdict != unchecked {
		t.Errorf("before the first start: exit code %d, %+v", code, found)
	}
	n.start()
	o := newOrigin(t)
	st := n.finish(n.accept(job.Spec{From: o.source("from", testrelease.Complete(t, "140.1", "")), To: o.source("to", testrelease.Complete(t, "140.2", ""))}).ID, time.Minute)
	n.stop()
	// Somebody changed the book.
	change(t, filepath.Join(dataDir(n), "ledger.db"), st.Result.SHA512, strings.Repeat("0", 128))
	found, code = audited(t, n.env)
	if f := found["restore drill/a partial again"]; code != 1 || f.Verdict != bad || !strings.Contains(f.Detail, "other bytes") {
		t.Errorf("another hash in the book: exit code %d, %+v", code, f)
	}
}

// A ledger in PostgreSQL is dumped, restored beside itself, and whole; nothing of that is left. What stands in the way is
// said.
func TestAuditPostgres(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"pg_dump", "psql"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s (Debian: postgresql-client)", program)
		}
	}
	pg := pgtest.Postgres(t)
	dsn := pg.Database(t)
	n := newNode(t, "PARTIALD_LEDGER_POSTGRES="+dsn)
	if found, code := audited(t, n.env); code != 0 || found["restore drill/history"].Verdict != unchecked || !strings.Contains(found["restore drill/history"].Detail, "never started") {
		t.Errorf("before the first start: exit code %d, %+v", code, found["restore drill/history"])
	}
	n.start()
	o := newOrigin(t)
	n.finish(n.accept(job.Spec{From: o.source("from", testrelease.Complete(t, "140.1", "")), To: o.source("to", testrelease.Complete(t, "140.2", ""))}).ID, time.Minute)
	found, code := audited(t, n.env) // while it runs
	if f := found["restore drill/history"]; code != 0 || f.Verdict != good || !strings.Contains(f.Detail, "1 jobs, 1 of them done") {
		t.Errorf("exit code %d, %+v", code, f)
	}
	if f := found["restore drill/a partial again"]; f.Verdict != good {
		t.Errorf("a partial again: %+v", f)
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var left int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'partiald_audit_%'").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d databases are left, %v", left, err)
	}

	// Who may make no database is told so; a server that is away is bad.
	for _, q := range []string{"CREATE ROLE small LOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO small"} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	small := append(slices.Clone(n.env), "PARTIALD_LEDGER_POSTGRES="+strings.Replace(dsn, "user=tester", "user=small", 1))
	if found, code := audited(t, small); code != 0 || found["restore drill/history"].Verdict != unchecked || !strings.Contains(found["restore drill/history"].Detail, "CREATEDB") {
		t.Errorf("a user with few rights: exit code %d, %+v", code, found["restore drill/history"])
	}
	away := append(slices.Clone(n.env), "PARTIALD_LEDGER_POSTGRES=postgres://nobody@127.0.0.1:1/partiald")
	if found, code := audited(t, away); code != 1 || found["restore drill/history"].Verdict != bad {
		t.Errorf("nobody answers: exit code %d, %+v", code, found["restore drill/history"])
	}
}

// Passwords stay out of the arguments of programs, and the rest of how to connect stays as it is.
func TestPostgresAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dsn, plain, other string }{
		{"postgres://u:p%20w@db:5433/book?sslmode=verify-full", "postgres://u@db:5433/book?sslmode=verify-full", "postgres://u:p%20w@db:5433/x?sslmode=verify-full"},
		{"postgresql:///book?host=%2Frun&password=secret", "postgresql:///book?host=%2Frun", "postgresql:///x?host=%2Frun&password=secret"},
		{`host=db user=u password='it\'s secret' dbname=book`, "host=db user=u  dbname=book", `host=db user=u password='it\'s secret' dbname=book dbname=x`},
		{"password = secret host=db", " host=db", "password = secret host=db dbname=x"},
	} {
		if got := withoutPassword(tt.dsn); got != tt.plain {
			t.Errorf("%s: got %q, want %q", tt.dsn, got, tt.plain)
		}
		other := inDatabase(tt.dsn, "x")
		if other != tt.other {
			t.Errorf("%s: got %q, want %q", tt.dsn, other, tt.other)
		}
		if c, err := pgx.ParseConfig(other); err != nil || c.Database != "x" || !strings.Contains(tt.dsn, "secret") != (c.Password == "p w") {
			t.Errorf("%s is read as %+v, %v", other, c, err)
		}
	}
}

// change replaces a text in the results of a ledger that nobody has open.
func change(t *testing.T, file, from, to string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	res, err := db.ExecContext(t.Context(), "UPDATE jobs SET result = replace(result, ?, ?)", from, to)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

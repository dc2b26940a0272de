package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/chaos"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// command runs a command line in this process.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	dir := t.TempDir()
	code = run(args, append([]string{"PARTIALD_DATA=" + dir}, environ...), &out, &err)
	return code, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"version", []string{"version"}, cli.ExitDone, `^partiald \S+.*, go1\.\d+`, `^$`},
		{"good configuration", []string{"--check-config"}, cli.ExitDone, "^the configuration is good\n$", `^$`},
		{"print", []string{"--print-config", "--listen", "127.0.0.1:7"}, cli.ExitDone, `(?s)listen = "127.0.0.1:7" # --listen\n.*\[log\]`, `^$`},
		{"development", []string{"--print-config", "--dev"}, cli.ExitDone, `(?s)insecure = true # --dev\n.*level = "debug" # --dev`, `^$`},
		{"run", []string{"run", "--listen", "nowhere"}, cli.ExitUsage, `^$`, `^partiald: --listen: server.listen: "nowhere" is not HOST:PORT`},
		{"no such flag", []string{"--listne", "x"}, cli.ExitUsage, `^$`, `unknown flag: --listne.*see "partiald --help"`},
		{"two questions", []string{"--check-config", "--print-config"}, cli.ExitUsage, `^$`, `ask one \(see "partiald --help"\)`},
		{"no such command", []string{"begin"}, cli.ExitUsage, `^$`, `unknown command "begin"`},
		{"no such file", []string{"--config", "/nowhere.toml"}, cli.ExitUsage, `^$`, `--config: stat /nowhere.toml: no such file`},
		{"bad address", []string{"healthcheck", "nowhere"}, cli.ExitUsage, `^$`, `is not an address`},
		{"backup of nothing", []string{"backup", "/nowhere/x"}, cli.ExitNo, `^$`, `/nowhere/x`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := command(t, nil, tt.args...)
			if code != tt.code || !regexp.MustCompile(tt.stdout).MatchString(stdout) || !regexp.MustCompile(tt.stderr).MatchString(stderr) {
				t.Errorf("exit code %d, want %d\nstdout: %s\nwant %s\nstderr: %s\nwant %s", code, tt.code, stdout, tt.stdout, stderr, tt.stderr)
			}
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	_, stdout, _ := command(t, nil, "token")
	m := regexp.MustCompile(`^token = "(pd_[a-z2-7]{26})"\nhash  = "(sha256:[0-9a-f]{64})"\n$`).FindStringSubmatch(stdout)
	if m == nil {
		t.Fatalf("got %q", stdout)
	}
	if got := config.HashToken(m[1]); got != m[2] {
		t.Errorf("the hash of %s is %s, not %s", m[1], got, m[2])
	}
	if _, again, _ := command(t, nil, "token"); again == stdout {
		t.Error("two tokens are the same")
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	well := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/__heartbeat__" && !well:
			http.Error(w, "queue does not answer", http.StatusServiceUnavailable)
		case r.URL.Path == "/__heartbeat__", r.URL.Path == "/__lbheartbeat__":
			_, _ = w.Write([]byte("fine\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	own := []string{"PARTIALD_SERVER_LISTEN=" + server.Listener.Addr().String()}
	if code, stdout, stderr := command(t, own, "healthcheck"); code != cli.ExitDone || stdout != "fine\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	// Others can reach this one and nobody may do anything, which is for the server to refuse, not for who asks it.
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := command(t, []string{"PARTIALD_SERVER_LISTEN=0.0.0.0:" + port}, "healthcheck"); code != cli.ExitDone {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, _, stderr := command(t, []string{"PARTIALD_SERVER_LISTEN=here"}, "healthcheck"); code != cli.ExitUsage || !strings.Contains(stderr, "server.listen") {
		t.Errorf("no address: exit code %d, %q", code, stderr)
	}
	well = false
	if code, _, stderr := command(t, nil, "healthcheck", "--deep", server.URL+"/"); code != cli.ExitNo || !strings.Contains(stderr, "503 Service Unavailable: queue does not answer") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	server.Close()
	if code, _, _ := command(t, own, "healthcheck", "--timeout", "1s"); code != cli.ExitNo {
		t.Errorf("exit code %d though nobody answers", code)
	}
}

func TestLocalAddress(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:1": "http://127.0.0.1:1", ":2": "http://127.0.0.1:2", "0.0.0.0:3": "http://127.0.0.1:3", "[::]:4": "http://127.0.0.1:4",
		"[::1]:5": "http://[::1]:5", "10.0.0.1:6": "http://10.0.0.1:6",
	} {
		if got := local(&config.Config{Server: config.Server{Listen: listen}}); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

// A copy of a ledger must have what was written before, while others write.
func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "led ger%.db")
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(strings.ReplaceAll(file, "%", "%25"), " ", "%20")+"?_pragma=journal_mode(WAL)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"CREATE TABLE t (x)", "INSERT INTO t VALUES (1), (2)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.Begin() // somebody is writing
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO t VALUES (3)"); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(dir, "j")
	if err := os.WriteFile(journal, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "backup")
	code, stdout, stderr := command(t, []string{"PARTIALD_LEDGER_SQLITE=" + file, "PARTIALD_SIGNING_JOURNAL=" + journal}, "backup", to)
	if code != cli.ExitDone || stdout != to+"/ledger.db\n"+to+"/signing.journal\n" {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	copied, err := sql.Open("sqlite", filepath.Join(to, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if info, err := os.Stat(filepath.Join(to, "ledger.db")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: addresses may have passwords in them", info.Mode(), err)
	}
	var n int
	if err := copied.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v, want the 2 that were committed", n, err)
	}
	if code, _, stderr := command(t, nil, "backup", to); code != cli.ExitNo || !strings.Contains(stderr, to+" is there already") {
		t.Errorf("into a directory that is there: exit code %d, %q", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(to, "ledger.db")); err != nil {
		t.Errorf("the copy that was there: %v", err)
	}
	if code, _, stderr := command(t, nil, "backup"); code != cli.ExitUsage || !strings.Contains(stderr, "give one directory") {
		t.Errorf("no directory: exit code %d, %q", code, stderr)
	}

	// Who makes copies may lack what the service needs beside: its environment, and files that others cannot read.
	lacking := []string{"PARTIALD_LEDGER_SQLITE=" + file, "PARTIALD_STORAGE_COMMAND=/nowhere/plugin", "PARTIALD_STORAGE_ENV=NOT_SET_HERE", "PARTIALD_STORAGE_SECRETS=KEY=/nowhere/key"}
	if code, _, stderr := command(t, lacking, "backup", filepath.Join(dir, "lacking")); code != cli.ExitDone {
		t.Errorf("without what the service needs: exit code %d, %q", code, stderr)
	}
	for _, broken := range []string{"PARTIALD_LEDGER_SQLITE=" + filepath.Join(dir, "nowhere.db"), "PARTIALD_LEDGER_POSTGRES_FILE=/nowhere", "PARTIALD_LEDGER_SQLTIE=x"} {
		to := filepath.Join(dir, "broken")
		if code, _, stderr := command(t, []string{broken}, "backup", to); code == cli.ExitDone || stderr == "" {
			t.Errorf("%s: exit code %d, %q", broken, code, stderr)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: half a copy is left", broken)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("systemd is not there")
	}
	socket := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() string {
		buf := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if err := notify(t.Context(), "", "READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	if err := notify(t.Context(), socket, "READY=1"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	asked := make(chan struct{}, 1000)
	go func() {
		watchdog(ctx, socket, "30000", func(context.Context) bool { asked <- struct{}{}; return len(asked) > 2 })
		close(ended)
	}()
	if got := read(); got != "WATCHDOG=1" || len(asked) < 3 {
		t.Errorf("got %q after %d questions, want it from the third on", got, len(asked))
	}
	cancel()
	<-ended
	watchdog(t.Context(), socket, "", nil) // not wanted: returns at once
}

func TestLogFormats(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"auto":   `^\{"time":"[^"]+","level":"INFO","msg":"m","host":"up-1","took_ms":1\.5\}\n$`,
		"json":   `^\{"time":"[^"]+","level":"INFO","msg":"m","host":"up-1","took_ms":1\.5\}\n$`,
		"text":   `^time=\S+ level=INFO msg=m host=up-1 took=1\.5ms\n$`,
		"mozlog": `^\{"Timestamp":\d{19},"Type":"partiald\.m","Logger":"partiald","Hostname":"up-1","EnvVersion":"2\.0","Severity":6,"Pid":\d+,"Fields":\{"msg":"m","took_ms":1\.5\}\}\n$`,
	} {
		var out bytes.Buffer
		log, err := logger(&config.Config{Name: "up-1", Log: config.Log{Format: format, Level: "info"}}, &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("not this")
		log.Info("m", "took", 1500*time.Microsecond)
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s: got %s, want %s", format, out.String(), want)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		listen, public string
		tokens         int
		want           []string
	}{
		{"127.0.0.1:80", "", 0, []string{"localhost", "127.0.0.1", "::1", "127.0.0.1"}},
		{"127.0.0.1:80", "", 1, nil},
		{":80", "", 1, nil},
		{":80", "https://up.example:8443", 1, []string{"localhost", "127.0.0.1", "::1", "up.example"}},
	} {
		c := &config.Config{Server: config.Server{Listen: tt.listen, PublicURL: tt.public}, Auth: config.Auth{Tokens: make([]config.Token, tt.tokens)}}
		if got := hosts(c); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

// certificate writes a certificate for a name.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := certificate(t, dir, "old.example")
	s := &certificates{certificate: certFile, key: keyFile, log: slog.New(slog.DiscardHandler)}
	name := func() string {
		t.Helper()
		s.looked = time.Time{} // it looks every ten seconds
		c, err := s.get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	later := func(d time.Duration) {
		t.Helper()
		if err := os.Chtimes(certFile, time.Now().Add(d), time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}
	if got := name(); got != "old.example" {
		t.Errorf("got %s", got)
	}
	certificate(t, dir, "new.example")
	later(time.Minute)
	if got := name(); got != "new.example" {
		t.Errorf("after it was replaced: got %s", got)
	}
	if err := os.WriteFile(certFile, []byte("half of"), 0o600); err != nil {
		t.Fatal(err)
	}
	later(2 * time.Minute)
	if got := name(); got != "new.example" {
		t.Errorf("while it is broken: got %s", got)
	}
}

// A key must only sign what the policy lets it, and every request must stand in the journal.
func TestKeySigner(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "test", Version: "1"}, signing.HeldKey{
		Key: signing.Key{ID: "k1", Algorithm: mar.RSAPKCS1SHA384}, Signer: key,
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := signing.Local(ring)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	file := filepath.Join(t.TempDir(), "journal")
	journal, err := signing.OpenJournal(file)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	policy := signing.Policy{Rules: []signing.Rule{{Key: "release", Channels: []string{"test"}}}}
	authority := func(id string) (*signing.PlaceSigner, error) {
		a, err := signing.NewAuthority(t.Context(), []signing.Place{{{Name: "release", Client: client, ID: id, PublicKey: &key.PublicKey}}}, policy, &signing.AuthorityOptions{Journal: journal})
		if err != nil {
			return nil, err
		}
		return a.Places()[0], nil
	}
	s, err := authority("k1")
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 48)
	if _, err := s.Sign(t.Context(), digest); !errors.Is(err, signing.ErrPolicy) {
		t.Errorf("signing without saying what: got %v, want ErrPolicy", err)
	}
	if _, err := s.ForProduct(t.Context(), &mar.Product{Channel: "nightly", Version: "1"}); !errors.Is(err, signing.ErrPolicy) {
		t.Errorf("another channel: got %v, want ErrPolicy", err)
	}
	chosen, err := s.ForProduct(t.Context(), &mar.Product{Channel: "test", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := chosen.Sign(t.Context(), digest); err != nil || len(sig) != 256 {
		t.Errorf("%d bytes, %v", len(sig), err)
	}
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"outcome":"refused"`, `"channel":"nightly"`, `"outcome":"asked"`, `"outcome":"signed"`, `"key":"release","key_id":"k1"`} {
		if !bytes.Contains(lines, []byte(want)) {
			t.Errorf("the journal has no %s:\n%s", want, lines)
		}
	}
	if _, err := authority("k2"); err == nil {
		t.Error("a key that the plugin does not have is taken")
	}
}

// The files for deployments must be ones that this program takes.
func TestDeployFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("deploy/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("deploy/*/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, more...); len(files) < 2 {
		t.Fatalf("found %q", files)
	}
	for _, file := range files {
		if err := config.Load(file, nil).Unreadable(); err != nil {
			t.Error(err)
		}
	}
	unit, err := os.ReadFile("deploy/partiald.service")
	if err != nil {
		t.Fatal(err)
	}
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil {
		// It complains that the program is not there, but not about a key that it does not know.
		said, _ := exec.CommandContext(t.Context(), analyze, "verify", "deploy/partiald.service").CombinedOutput()
		if bytes.Contains(said, []byte("Unknown")) || bytes.Contains(said, []byte("Failed to parse")) {
			t.Errorf("%s", said)
		}
	}
	for _, want := range []string{"Type=notify", "StateDirectory=partiald", "WatchdogSec=", "--config /etc/partiald/partiald.toml\n"} {
		if !bytes.Contains(unit, []byte(want)) {
			t.Errorf("the unit has no %s", want)
		}
	}
}

// Every metric must be explained, and none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	m := newMetrics(cli.Build{}, "x")
	if err := m.registry.Register(newGauges(nil, nil)); err != nil {
		t.Fatal(err)
	}
	if err := m.plugin("storage", "x", &plugins.Process{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chaos.New(chaos.Profile{}, slog.New(slog.DiscardHandler), m.registry); err != nil {
		t.Fatal(err)
	}
	if _, err := web.New(struct{ job.Service }{}, web.Options{Registry: m.registry, Anonymous: []web.Role{web.RoleRead}}); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	ch := make(chan *prometheus.Desc)
	go func() { m.registry.Describe(ch); close(ch) }()
	for d := range ch {
		if name := regexp.MustCompile(`fqName: "(partiald_\w+)"`).FindStringSubmatch(d.String()); name != nil {
			described[name[1]] = true
		}
	}
	if len(described) < 20 {
		t.Fatalf("only %d metrics: %v", len(described), described)
	}
	doc, err := os.ReadFile(filepath.Join(testkit.Root(t), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`partiald_[a-z_]+`).FindAllString(string(doc), -1) {
		named[name] = true
		if !described[name] {
			t.Errorf("docs/operations.md has %s, which is not there", name)
		}
	}
	for name := range described {
		if !named[name] {
			t.Errorf("docs/operations.md does not have %s", name)
		}
	}
}

// Every log line that the operations guide explains must be one that is written.
func TestLogLinesAreWritten(t *testing.T) {
	t.Parallel()
	root := testkit.Root(t)
	doc, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	for _, dir := range []string{"examples/partiald", "cache", "fetch", "plugins", "."} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && dir == "." && name != root {
				return cmp.Or(err, fs.SkipDir)
			}
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				data, err := os.ReadFile(name)
				source.Write(data)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lines := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (?:info|warn|error) \| ([^|]+) \|`).FindAllSubmatch(doc, -1) {
		for _, line := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(row[1], -1) {
			lines++
			if !bytes.Contains(source.Bytes(), []byte(`"`+string(line[1])+`"`)) {
				t.Errorf("docs/operations.md explains %q, which nobody logs", line[1])
			}
		}
	}
	if lines < 25 {
		t.Errorf("only %d lines found", lines)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// TestMain lets this binary be partiald: tests that start servers run it under that name, as processes of their own.
func TestMain(m *testing.M) {
	if !strict() {
		testkit.InMemory()
	}
	testkit.AtOnce(8)
	testscript.Main(cleaner{m}, map[string]func(){
		"partiald": func() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) },
	})
}

// cleaner runs the tests and removes what several of them shared.
type cleaner struct{ m *testing.M }

var remove string // a directory

func (c cleaner) Run() int {
	code := c.m.Run()
	if remove != "" {
		os.RemoveAll(remove)
	}
	return code
}

// logs collects what a process logs: the end of it, and the first line with each message.
type logs struct {
	mu    sync.Mutex
	first map[string]map[string]any
	tail  []string
	more  chan struct{} // closed and replaced with every line
}

const maxTail = 500

func (l *logs) follow(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line map[string]any
		if json.Unmarshal(s.Bytes(), &line) != nil {
			line = map[string]any{"msg": s.Text()}
		}
		message, _ := line["msg"].(string)
		l.mu.Lock()
		if l.first[message] == nil && len(l.first) < 1000 {
			l.first[message] = line
		}
		if l.tail = append(l.tail, s.Text()); len(l.tail) > 2*maxTail {
			l.tail = slices.Delete(l.tail, 0, maxTail)
		}
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
	}
}

// find returns the first line with a message, waiting for it until ctx ends.
func (l *logs) find(ctx context.Context, message string) (map[string]any, error) {
	for {
		l.mu.Lock()
		line, more := l.first[message], l.more
		l.mu.Unlock()
		if line != nil {
			return line, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.tail, "\n")
}

// node is a running partiald.
type node struct {
	t    testing.TB
	env  []string
	args []string
	cmd  *exec.Cmd
	log  *logs
	done chan struct{} // closed when it has ended
	addr string
	http http.Client
}

// newNode prepares a server with directories of its own; env are further variables.
func newNode(tb testing.TB, env ...string) *node {
	tb.Helper()
	dir := tb.TempDir()
	return &node{
		t: tb,
		env: append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, testkit.FastExit,
			"PARTIALD_DATA=" + filepath.Join(dir, "data"), "PARTIALD_SERVER_LISTEN=127.0.0.1:0", "PARTIALD_LOG_FORMAT=json",
			"PARTIALD_FETCH_INSECURE=true", "PARTIALD_FETCH_PRIVATE_NETWORKS=127.0.0.0/8", "PARTIALD_AUTH_RATE=0",
		}, env...),
	}
}

// launch starts the process and does not wait for anything.
func (n *node) launch() {
	n.t.Helper()
	n.cmd = exec.Command("partiald", n.args...)
	n.cmd.Env = n.env
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.log = &logs{first: map[string]map[string]any{}, more: make(chan struct{})}
	n.done = make(chan struct{})
	cmd, log, done := n.cmd, n.log, n.done
	go func() {
		log.follow(stderr)
		_ = cmd.Wait()
		close(done)
	}()
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if n.t.Failed() && n.cmd == cmd {
			n.t.Logf("log of the last process:\n%s", log)
		}
	})
}

// start starts the process and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.ready(30 * time.Second)
}

func (n *node) ready(within time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), within)
	defer cancel()
	done := n.done
	go func() { // a process that ends does not get ready
		select {
		case <-ctx.Done():
		case <-done:
			cancel()
		}
	}()
	line, err := n.log.find(ctx, "ready")
	if err != nil {
		n.t.Fatalf("the server did not get ready: %v\n%s", err, n.log)
	}
	n.addr, _ = line["address"].(string)
	n.http = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	n.t.Cleanup(n.http.CloseIdleConnections)
}

// kill ends the process at once and waits for its end.
func (n *node) kill() {
	n.t.Helper()
	_ = n.cmd.Process.Kill()
	n.await(10 * time.Second)
	n.http.CloseIdleConnections()
}

// await waits for the end of the process and returns its exit code.
func (n *node) await(within time.Duration) int {
	n.t.Helper()
	select {
	case <-n.done:
	case <-time.After(within):
		n.t.Fatalf("the process did not end within %v\n%s", within, n.log)
	}
	return n.cmd.ProcessState.ExitCode()
}

// stop stops it gracefully.
func (n *node) stop() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	if code := n.await(20 * time.Second); code != 0 {
		n.t.Errorf("exit code %d after SIGTERM", code)
	}
}

// answer is what a server answered, but for the body.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
}

// request sends a request and returns the answer and its body.
func (n *node) request(method, path string, body io.Reader, header ...string) (*answer, []byte, error) {
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.addr+path, body)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := n.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return &answer{res.Status, res.StatusCode, res.Header}, data, err
}

// get returns a body, which must come with status 200.
func (n *node) get(path string, header ...string) []byte {
	n.t.Helper()
	res, data, err := n.request(http.MethodGet, path, nil, header...)
	if err != nil {
		n.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		n.t.Fatalf("GET %s: %s: %s", path, res.Status, data)
	}
	return data
}

// submit asks for a partial and returns what was answered.
func (n *node) submit(spec job.Spec, header ...string) (*answer, job.Status, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return nil, job.Status{}, err
	}
	res, data, err := n.request(http.MethodPost, "/api/v1/partials", bytes.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...)
	if err != nil {
		return nil, job.Status{}, err
	}
	var st job.Status
	if res.StatusCode < 300 {
		err = json.Unmarshal(data, &st)
	} else {
		err = fmt.Errorf("%s: %s", res.Status, data)
	}
	return res, st, err
}

// accept asks for a partial that must be taken.
func (n *node) accept(spec job.Spec) job.Status {
	n.t.Helper()
	_, st, err := n.submit(spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return st
}

// status asks for a job.
func (n *node) status(id string) (job.Status, error) {
	res, data, err := n.request(http.MethodGet, "/api/v1/jobs/"+id, nil)
	if err != nil {
		return job.Status{}, err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusAccepted {
		return job.Status{}, fmt.Errorf("%s: %s", res.Status, data)
	}
	var st job.Status
	return st, json.Unmarshal(data, &st)
}

// until polls a job until it is as wanted.
func (n *node) until(id string, within time.Duration, want func(job.Status) bool) job.Status {
	n.t.Helper()
	var st job.Status
	var err error
	n.t.Helper()
	if !poll(within, func() bool {
		st, err = n.status(id)
		return err == nil && want(st)
	}) {
		n.t.Fatalf("job %s: %v, %+v\n%s", id, err, st, n.log)
	}
	return st
}

// finish waits for the end of a job, which must be done.
func (n *node) finish(id string, within time.Duration) job.Status {
	n.t.Helper()
	st := n.until(id, within, func(st job.Status) bool { return st.State.Final() })
	if st.State != job.Done {
		n.t.Fatalf("job %s: %s: %v", id, st.State, st.Error)
	}
	return st
}

// poll asks every few milliseconds whether something is so.
func poll(within time.Duration, is func() bool) bool {
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if is() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
}

// origin serves complete updates. What is asked for below /held/ waits until it is let go.
type origin struct {
	*httptest.Server
	files    sync.Map
	requests atomic.Int64
	mu       sync.Mutex
	gate     chan struct{}
	down     atomic.Bool // answers 503
	broken   atomic.Int64
}

func newOrigin(tb testing.TB) *origin {
	tb.Helper()
	o := &origin{gate: make(chan struct{})}
	o.Server = httptest.NewServer(o)
	tb.Cleanup(func() {
		o.release()
		o.CloseClientConnections()
		o.Close()
	})
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	if o.down.Load() {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	name := r.URL.Path[1:]
	if rest, held := strings.CutPrefix(name, "held/"); held {
		name = rest
		o.mu.Lock()
		gate := o.gate
		o.mu.Unlock()
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	data, ok := o.files.Load(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, _ := data.([]byte)
	if o.broken.Add(-1) >= 0 { // ends half way
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// release lets go what is held, now and from now on, until hold is called.
func (o *origin) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.gate:
	default:
		close(o.gate)
	}
}

func (o *origin) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gate = make(chan struct{})
}

// source serves bytes under a name.
func (o *origin) source(name string, data []byte) job.Source {
	o.files.Store(strings.TrimPrefix(name, "held/"), data)
	sum := sha512.Sum512(data)
	return job.Source{URLs: []string{o.URL + "/" + name}, SHA512: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// freePort returns a port that nobody listens on right now.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// exitCode is that of a command that ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// strict says that the figures which this project promises are asked for (SENBON_GATE or SENBON_LONG), on a machine that
// has nothing else to do.
func strict() bool { return testkit.Count(0, 1, 1) == 1 }

// gate skips the test unless they are.
func gate(tb testing.TB, why string) {
	tb.Helper()
	if !strict() {
		tb.Skipf("%s: set SENBON_GATE=1 to run it", why)
	}
}

// patience stretches a time limit where the machine may be busy with other tests.
func patience(d time.Duration) time.Duration {
	if strict() {
		return d
	}
	return 4 * d
}

func sha256File(tb testing.TB, name string) string {
	tb.Helper()
	sum, err := plugins.Sum(name)
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

// writeKey makes an RSA key NAME.pem in a directory and returns the file of its public key.
func writeKey(tb testing.TB, dir, name string) string {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	public := filepath.Join(dir, name+".pub.pem")
	for file, block := range map[string]*pem.Block{
		filepath.Join(dir, name+".pem"): {Type: "PRIVATE KEY", Bytes: private}, public: {Type: "PUBLIC KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return public
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
}

// writeFile writes a file that only its owner reads, and returns its name.
func writeFile(tb testing.TB, dir, name, text string) string {
	tb.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// withPlugins is a configuration with a store and a key that signs what is for a channel; both are in dir, as objects and
// release.pub.pem. storage and signing are further lines of these tables.
func withPlugins(tb testing.TB, dir, channel, storage, signing string) string {
	tb.Helper()
	store, storeSum := pluginBinary(tb, "storage-dir")
	signer, signerSum := pluginBinary(tb, "signer-pem")
	objects := filepath.Join(dir, "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf(`
[storage]
command = %q
sha256 = %q
args = [%q]
%s
[signing]
policy = %q
%s
[[signing.plugins]]
name = "pem"
command = %q
sha256 = %q
args = ["release=%s/release.pem"]
[[signing.keys]]
plugin = "pem"
id = "release"
public_key = %q
`, store, storeSum, objects, storage, writeFile(tb, dir, "policy.json", fmt.Sprintf(`{"rules": [{"key": "release", "channels": [%q]}]}`, channel)),
		signing, signer, signerSum, dir, writeKey(tb, dir, "release"))
}

// withToken is a caller of a configuration, whose token is in a file in dir.
func withToken(tb testing.TB, dir, name, role, token string) string {
	tb.Helper()
	return fmt.Sprintf("[[auth.tokens]]\nname = %q\nrole = %q\ntoken_file = %q\n", name, role, writeFile(tb, dir, name+".token", token))
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

const ackWait = time.Second

// pair makes two releases that no other test has, and what asks for the partial between them.
func (o *origin) pair(tb testing.TB, name string, held bool) (spec job.Spec, from, to []byte) {
	tb.Helper()
	from, to = testrelease.Complete(tb, "140.1", name, []byte(name)...), testrelease.Complete(tb, "140.2", name, []byte(name)...)
	prefix := ""
	if held {
		prefix = "held/"
	}
	return job.Spec{From: o.source("from-"+name, from), To: o.source(prefix+"to-"+name, to)}, from, to
}

// A job that was answered with 202 must end, whatever moment the server is killed at, and soon (F14).
func TestKilledServer(t *testing.T) {
	t.Parallel()
	kills := testkit.Count(2, 10, 200)
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_QUEUE_ACK_WAIT="+ackWait.String(), "PARTIALD_QUEUE_REQUEUE=1s", "PARTIALD_WORKERS_SLOTS=2", "PARTIALD_WORKERS_RETRY_DELAY=100ms")
	n.start()
	begin := time.Now()
	spec, from, to := o.pair(t, "first", false)
	st := n.finish(n.accept(spec).ID, time.Minute)
	jobTime := time.Since(begin)
	first := n.get("/api/v1/partials/" + st.ID)
	proves(t, from, first, to)

	var worst time.Duration
	for i := range kills {
		// One job is held in the middle of a download, others wait or are anywhere.
		o.hold()
		var ids []string
		for k := range 3 {
			spec, _, _ := o.pair(t, fmt.Sprintf("%d-%d", i, k), k == 0 && i%2 == 0)
			ids = append(ids, n.accept(spec).ID)
		}
		if i%2 == 0 {
			n.until(ids[0], time.Minute, func(st job.Status) bool { return st.State == job.Fetching })
		} else {
			<-time.After(rand.N(300 * time.Millisecond))
		}
		n.kill()
		o.release()
		n.start()
		begin := time.Now()
		for _, id := range ids {
			n.finish(id, patience(3*jobTime+ackWait+5*time.Second))
		}
		worst = max(worst, time.Since(begin))
		if took := time.Since(begin); took > patience(3*jobTime+ackWait+5*time.Second) {
			t.Errorf("kill %d: the jobs ended %v after the restart; one takes %v", i, took, jobTime)
		}
	}
	if again := n.get("/api/v1/partials/" + st.ID); !bytes.Equal(again, first) {
		t.Errorf("the first partial has other bytes after %d kills", kills)
	}
	t.Logf("%d kills, %d jobs answered with 202, all done; at most %v after the restart, one job takes %v", kills, 3*kills, worst, jobTime)
}

// A graceful stop: requests under way get an answer, jobs are handed back, and it is over in time (F18).
func TestTerminated(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	rounds := testkit.Count(1, 20, 200)
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_WORKERS_SLOTS=1", "PARTIALD_QUEUE_ACK_WAIT=30s")
	n.start()
	for round := range rounds {
		o.hold()
		spec, from, to := o.pair(t, fmt.Sprint(round), true)
		st := n.accept(spec)
		n.until(st.ID, time.Minute, func(st job.Status) bool { return st.State == job.Fetching })

		// Under way: somebody who waits for the job, a watcher, an upload that has not ended.
		var wg sync.WaitGroup
		answers := make(chan string, 2)
		wg.Go(func() {
			res, _, err := n.request(http.MethodGet, "/api/v1/jobs/"+st.ID, nil, "Prefer", "wait=60")
			answers <- outcome(res, err)
		})
		sending, body := io.Pipe()
		wg.Go(func() {
			res, _, err := n.request(http.MethodPost, "/api/v1/uploads", sending, "Content-Type", "application/octet-stream")
			answers <- outcome(res, err)
		})
		if _, err := body.Write([]byte("MAR1")); err != nil {
			t.Fatal(err)
		}
		watcher, err := n.watch(st.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !poll(10*time.Second, func() bool { return strings.Contains(string(n.get("/metrics")), "partiald_http_requests_in_flight 4") }) {
			t.Error("three requests are not under way")
		}

		begin := time.Now()
		if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if _, err := n.log.find(t.Context(), "draining"); err != nil {
			t.Fatal(err)
		}
		if res, _, err := n.request(http.MethodGet, "/__lbheartbeat__", nil); err == nil && res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("while it stops it says that it is ready: %s", res.Status)
		}
		if res, _, err := n.submit(spec); err == nil || res != nil && res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("while it stops a request is answered with %v", err)
		}
		body.CloseWithError(errors.New("enough"))
		code := n.await(30 * time.Second)
		took := time.Since(begin)
		if code != 0 || took > patience(10*time.Second) {
			t.Errorf("exit code %d after %v", code, took)
		}
		wg.Wait()
		for range 2 {
			if got := <-answers; got != "200" && got != "202" && got != "503" && got != "upload ended" {
				t.Errorf("a request under way was answered with %s", got)
			}
		}
		if err := <-watcher; err != nil {
			t.Errorf("the watcher's stream ended with %v", err)
		}

		// Handed back: the job goes on at once after the start, long before AckWait is over, and the attempt does not
		// count.
		o.release()
		n.start()
		done := n.finish(st.ID, 25*time.Second)
		proves(t, from, n.get("/api/v1/partials/"+done.ID), to)
		t.Logf("round %d: stopped in %v", round, took)
	}
}

// outcome says in a word how a request ended.
func outcome(res *answer, err error) string {
	switch {
	case err != nil && strings.Contains(err.Error(), "enough"):
		return "upload ended"
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(res.StatusCode)
}

// watch follows a job's events and returns when the first has come. The channel receives how the stream ended.
func (n *node) watch(id string) (<-chan error, error) {
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.addr+"/api/v1/jobs/"+id+"/events", nil)
	if err != nil {
		return nil, err
	}
	first, end := make(chan error, 1), make(chan error, 1)
	go func() {
		res, err := n.http.Do(req)
		if err != nil {
			first <- err
			return
		}
		defer res.Body.Close()
		if _, err := io.CopyN(io.Discard, res.Body, 64); err != nil || res.StatusCode != http.StatusOK {
			first <- fmt.Errorf("%s: %w", res.Status, err)
			return
		}
		first <- nil
		_, err = io.Copy(io.Discard, res.Body)
		end <- err
	}()
	return end, <-first
}

// A second signal ends it at once.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_SERVER_STOP_TIMEOUT=60s")
	n.start()
	o.hold()
	spec, _, _ := o.pair(t, "x", true)
	st := n.accept(spec)
	sending, body := io.Pipe()
	defer body.Close()
	go n.request(http.MethodPost, "/api/v1/uploads", sending, "Content-Type", "application/octet-stream")
	if _, err := body.Write([]byte("MAR1")); err != nil { // a request that would hold the stop up
		t.Fatal(err)
	}
	n.until(st.ID, time.Minute, func(st job.Status) bool { return st.State == job.Fetching })
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	if _, err := n.log.find(t.Context(), "stopping"); err != nil {
		t.Fatal(err)
	}
	poll(10*time.Second, func() bool { // at once it would be taken for the same signal
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		return strings.Contains(n.log.String(), "second signal")
	})
	if code := n.await(10 * time.Second); code != cli.ExitNo || !strings.Contains(n.log.String(), "second signal") {
		t.Errorf("exit code %d\n%s", code, n.log)
	}
}

// systemd hears when it is ready, that it lives, and when it stops.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("systemd is not there")
	}
	socket := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := newNode(t, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=300000")
	n.launch()
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			k, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if string(buf[:k]) == want {
				return
			}
			if string(buf[:k]) != "WATCHDOG=1" {
				t.Errorf("it said %s before %s", buf[:k], want)
			}
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	n.stop()
	hear("STOPPING=1")
}

// cluster starts servers that share a queue among themselves and a directory as store.
func cluster(tb testing.TB, size int, env ...string) []*node {
	tb.Helper()
	store, sum := pluginBinary(tb, "storage-dir")
	objects := filepath.Join(tb.TempDir(), "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		tb.Fatal(err)
	}
	var routes []string
	for range size {
		routes = append(routes, "127.0.0.1:"+freePort(tb))
	}
	var nodes []*node
	for i := range size {
		n := newNode(tb, append([]string{
			fmt.Sprintf("PARTIALD_NAME=up-%d", i+1), "PARTIALD_QUEUE_CLUSTER_LISTEN=" + routes[i], "PARTIALD_QUEUE_CLUSTER_ROUTES=" + strings.Join(routes, ","),
			"PARTIALD_STORAGE_COMMAND=" + store, "PARTIALD_STORAGE_SHA256=" + sum, "PARTIALD_STORAGE_ARGS=" + objects,
			"PARTIALD_QUEUE_ACK_WAIT=3s", "PARTIALD_QUEUE_REQUEUE=2s", "PARTIALD_WORKERS_SLOTS=1",
		}, env...)...)
		n.launch()
		nodes = append(nodes, n)
	}
	begin := time.Now()
	for _, n := range nodes {
		n.ready(time.Minute)
	}
	tb.Logf("the cluster is there after %v", time.Since(begin))
	return nodes
}

// Three servers share the work: the same request at all of them is made once, a killed one loses nothing, and it comes
// back (F13, F14, F15).
func TestCluster(t *testing.T) {
	t.Parallel()
	requests, kills := testkit.Count(60, 200, 1000), testkit.Count(1, 2, 20)
	o := newOrigin(t)
	var env []string
	if strict() && pgtest.Found() { // else each has a ledger of its own
		env = append(env, "PARTIALD_LEDGER_POSTGRES="+pgtest.Postgres(t).Database(t))
	}
	env = append(env, "PARTIALD_QUEUE_TIMEOUT=2s")
	nodes := cluster(t, 3, env...)

	// The same at once, everywhere: one job, two fetches.
	o.hold()
	spec, from, to := o.pair(t, "same", true)
	ids := make([]string, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			_, st, err := nodes[i%3].submit(spec)
			if err != nil {
				t.Error(err)
			}
			ids[i] = st.ID
		})
	}
	wg.Wait()
	o.release()
	if t.Failed() {
		return
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("one request is two jobs: %s and %s", id, ids[0])
		}
	}
	var update []byte
	for _, n := range nodes {
		n.finish(ids[0], patience(time.Minute))
		got := n.get("/api/v1/partials/" + ids[0])
		if update == nil {
			update = got
			proves(t, from, update, to)
		}
		if !bytes.Equal(got, update) {
			t.Error("two servers hand out different bytes")
		}
	}
	if got := o.requests.Load(); got != 2 {
		t.Errorf("%d fetches for one job, want 2", got)
	}

	for kill := range kills {
		o.hold()
		spec, from, to := o.pair(t, fmt.Sprintf("killed-%d", kill), true)
		id := nodes[0].accept(spec).ID
		st := nodes[0].until(id, patience(30*time.Second), func(st job.Status) bool { return st.State == job.Fetching && st.Server != "" })
		var victim, other *node
		for i, n := range nodes {
			if fmt.Sprintf("up-%d", i+1) == st.Server {
				victim, other = n, nodes[(i+1)%3]
			}
		}
		if victim == nil {
			t.Fatalf("the job runs on %q", st.Server)
		}
		victim.kill()
		o.release()
		begin := time.Now()
		st = other.finish(id, patience(3*time.Second+5*time.Second+5*time.Second))
		t.Logf("kill %d: %s took over and ended the job %v after the kill", kill, st.Server, time.Since(begin))
		proves(t, from, other.get("/api/v1/partials/"+id), to)

		// Two of three still take and make new ones.
		spec, _, _ = o.pair(t, fmt.Sprintf("without-%d", kill), false)
		var again job.Status
		if !poll(patience(15*time.Second), func() bool {
			var err error
			_, again, err = other.submit(spec)
			return err == nil
		}) {
			t.Fatal("two of three servers take no jobs")
		}
		other.finish(again.ID, patience(30*time.Second))

		begin = time.Now()
		victim.launch()
		victim.ready(time.Minute)
		t.Logf("back after %v", time.Since(begin))
		for _, id := range []string{id, again.ID, ids[0]} {
			victim.finish(id, patience(30*time.Second)) // knows what happened while it was away
		}
	}
	for i, n := range nodes {
		stop := func() {
			begin := time.Now()
			n.stop()
			t.Logf("stopped with %d servers left in %v", len(nodes)-1-i, time.Since(begin))
		}
		if strict() { // the last one waits for a majority that there is not, which takes its time
			stop()
		} else {
			wg.Go(stop)
		}
	}
	wg.Wait()
}

// What the queue lost is put back by the server that accepted it (F16).
func TestQueueFilesLost(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_QUEUE_REQUEUE=1s", "PARTIALD_WORKERS_SLOTS=1")
	n.start()
	o.hold()
	var ids []string
	for i := range 3 {
		spec, _, _ := o.pair(t, fmt.Sprint(i), true)
		ids = append(ids, n.accept(spec).ID)
	}
	n.kill()
	if err := os.RemoveAll(filepath.Join(dataDir(n), "queue")); err != nil {
		t.Fatal(err)
	}
	o.release()
	n.start()
	begin := time.Now()
	for _, id := range ids {
		n.finish(id, time.Minute)
	}
	t.Logf("all three ended %v after the start", time.Since(begin))
	if got := string(n.get("/metrics")); strings.Contains(got, "partiald_jobs_requeued_total 0\n") {
		t.Error("the metrics do not say that jobs were put back")
	}
}

// A header that takes for ever, or is endless, costs a connection and nothing else.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	gate(t, "takes 10 s")
	n := newNode(t)
	n.start()
	conn, err := dial(t.Context(), n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := conn.SetReadDeadline(begin.Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if took := time.Since(begin); took > 15*time.Second || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended after %v with %v: %q", took, err, got)
	}
}

// With a certificate it speaks TLS 1.2 and later, HTTP/2 too, and healthcheck finds it.
func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := certificate(t, t.TempDir(), "partials.example")
	n := newNode(t, "PARTIALD_SERVER_TLS_CERTIFICATE="+certFile, "PARTIALD_SERVER_TLS_KEY="+keyFile)
	n.start()
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "partials.example"}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("https://" + n.addr + "/__lbheartbeat__")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s, %s, %v", res.Status, res.Proto, res.Header)
	}
	old := &tls.Config{RootCAs: roots, ServerName: "partials.example", MaxVersion: tls.VersionTLS11}
	if conn, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", n.addr); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is taken")
	}
	cmd := exec.CommandContext(t.Context(), "partiald", "healthcheck", "--deep")
	cmd.Env = append(n.env, "PARTIALD_SERVER_LISTEN="+n.addr)
	if said, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(said, []byte(`"queue"`)) {
		t.Errorf("healthcheck: %v: %s", err, said)
	}
}

// A backup that was made while the service ran brings back the history, and what was not finished (docs/operations.md).
func TestRestored(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := newNode(t, "PARTIALD_QUEUE_REQUEUE=1s", "PARTIALD_WORKERS_SLOTS=1")
	n.start()
	spec, from, to := o.pair(t, "done", false)
	finished := n.finish(n.accept(spec).ID, time.Minute)
	update := n.get("/api/v1/partials/" + finished.ID)
	o.hold()
	spec, heldFrom, heldTo := o.pair(t, "held", true)
	held := n.accept(spec)
	n.until(held.ID, time.Minute, func(st job.Status) bool { return st.State == job.Fetching })
	backup := filepath.Join(t.TempDir(), "backup")
	cmd := exec.CommandContext(t.Context(), "partiald", "backup", backup)
	cmd.Env = n.env
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("backup: %v: %s", err, said)
	}
	n.kill()
	if err := os.RemoveAll(dataDir(n)); err != nil { // cache and all
		t.Fatal(err)
	}
	if err := os.Mkdir(dataDir(n), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(backup, "ledger.db"), filepath.Join(dataDir(n), "ledger.db")); err != nil {
		t.Fatal(err)
	}
	o.release()
	n.start()
	n.finish(held.ID, patience(15*time.Second))
	proves(t, heldFrom, n.get("/api/v1/partials/"+held.ID), heldTo)

	// The partial that was made before is not there any more, but known; asked for again it is the same.
	st, err := n.status(finished.ID)
	if err != nil || st.State != job.Done {
		t.Fatalf("%v, %+v", err, st)
	}
	spec, _, _ = o.pair(t, "done", false)
	n.finish(n.accept(spec).ID, time.Minute)
	again := n.get("/api/v1/partials/" + finished.ID)
	if !bytes.Equal(again, update) {
		t.Errorf("made again it has %d bytes, before %d", len(again), len(update))
	}
	proves(t, from, again, to)
}

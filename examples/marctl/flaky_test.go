package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// faults are what a flaky origin does, in turn. The last is to serve well.
var faults = []string{"busy", "reset", "truncate", "error", "well", "truncate", "reset", "well"}

// flaky serves the files of a directory, badly. It counts what it did.
type flaky struct {
	*httptest.Server
	dir string

	mu    sync.Mutex
	next  int
	count map[string]int
	sent  int64
	// hold, if not nil, is closed by the next request for TO once it has sent half of it; the request then waits
	// for its end.
	hold chan struct{}
}

func newFlaky(t *testing.T, dir string) *flaky {
	t.Helper()
	f := &flaky{dir: dir, count: map[string]int{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *flaky) requests() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.count {
		n += c
	}
	return n
}

// ServeHTTP serves a file, or fails.
func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := filepath.Base(r.URL.Path)
	f.mu.Lock()
	fault := faults[f.next%len(faults)]
	f.next++
	f.count[fault]++
	hold := f.hold
	if name == "to.mar" && hold != nil {
		f.hold = nil
	} else {
		hold = nil
	}
	f.mu.Unlock()

	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, st.Size()))
	count := func(n int64) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sent += n
	}
	switch {
	case hold != nil:
		out := &cutWriter{ResponseWriter: w, left: st.Size() / 2, sent: count, cut: func() {
			w.(http.Flusher).Flush()
			close(hold)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}}
		http.ServeContent(out, r, "", st.ModTime(), file)
	case fault == "busy":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case fault == "error":
		http.Error(w, "broken", http.StatusBadGateway)
	case fault == "truncate": // the connection ends, in good order
		http.ServeContent(&cutWriter{ResponseWriter: w, left: st.Size() / 3, sent: count, cut: func() { panic(http.ErrAbortHandler) }}, r, "", st.ModTime(), file)
	case fault == "reset":
		http.ServeContent(&cutWriter{ResponseWriter: w, left: st.Size() / 5, sent: count, cut: func() {
			conn, _, err := w.(http.Hijacker).Hijack()
			if tcp, ok := conn.(*net.TCPConn); err == nil && ok {
				_ = tcp.SetLinger(0)
				tcp.Close()
			}
			panic(http.ErrAbortHandler)
		}}, r, "", st.ModTime(), file)
	default:
		http.ServeContent(&cutWriter{ResponseWriter: w, left: st.Size() + 1, sent: count}, r, "", st.ModTime(), file)
	}
}

// A cutWriter calls cut, which must not return, when it has taken so many bytes of a body.
type cutWriter struct {
	http.ResponseWriter
	left int64
	sent func(int64)
	cut  func()
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.sent(int64(n))
	if err == nil && c.left == 0 {
		c.cut()
	}
	return n, err
}

// program is this test's own marctl, in processes of their own.
type program struct {
	from, to string // URLs
	sums     [2]string
}

func (p *program) command(ctx context.Context, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"marctl"}, args...) // see TestMain
	cmd.Env = append(os.Environ(), testkit.FastExit)
	return cmd
}

func (p *program) partial(ctx context.Context, store, out string) *exec.Cmd {
	return p.command(ctx, "partial", p.from, p.to, out, "--from-sha512", p.sums[0], "--to-sha512", p.sums[1],
		"--cache", store, "--allow-http", "--allow-private")
}

// makePair writes two completes, from.mar and to.mar, into a new directory: a large file, whose patch takes a while, and
// small ones.
func makePair(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.NewChaCha8([32]byte{1})
	from, to := fstest.MapFS{}, fstest.MapFS{}
	for name, size := range map[string]int{"libxul.so": 3 << 20, "omni.ja": 40_000, "browser/omni.ja": 50_000, "firefox": 60_000, "application.ini": 200} {
		old := make([]byte, size/16) // so that most of it is packed fast
		_, _ = r.Read(old)           // never fails
		old = bytes.Repeat(old, 16)
		edited := bytes.Clone(old)
		for at := 50; at < len(old); at += 10_007 {
			edited[at]++
		}
		from[name] = &fstest.MapFile{Data: old, Mode: 0o644}
		to[name] = &fstest.MapFile{Data: append(edited, "and more"...), Mode: 0o644}
	}
	for name, tree := range map[string]fstest.MapFS{"from.mar": from, "to.mar": to} {
		a, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
			Product: &mar.Product{Channel: "test", Version: "1.0"}, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.WriteTo(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFlakyOrigin makes a partial update whose completes come from a server that fails now and then: once undisturbed,
// once again from the cache, and with the process killed at two points. The completes are made up; with SENBON_GATE or
// SENBON_LONG they are those of the small corpus, and SENBON_FIREFOX names a directory with another pair, from.mar and
// to.mar.
func TestFlakyOrigin(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SENBON_FIREFOX")
	switch {
	case dir != "":
	case testkit.Count(0, 1, 1) == 0:
		dir = makePair(t)
	default:
		dir = testkit.Shared(t, "corpus", "firefox-small")
	}
	origin := newFlaky(t, dir)
	p := &program{from: origin.URL + "/from.mar", to: origin.URL + "/to.mar"}
	for i, name := range []string{"from.mar", "to.mar"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha512.New()
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		p.sums[i] = hex.EncodeToString(sum.Sum(nil))
	}
	work := t.TempDir()
	run := func(t *testing.T, cmd *exec.Cmd) string {
		t.Helper()
		start := time.Now()
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("marctl %s: %v\n%s", cmd.Args[1], err, said)
		}
		u := cmd.ProcessState
		t.Logf("marctl %s: %v, CPU %v, peak %d MB: %s", cmd.Args[1], time.Since(start).Round(time.Millisecond),
			u.UserTime()+u.SystemTime(), peakMemory(u)>>10, bytes.TrimSpace(said))
		return string(said)
	}
	same := func(t *testing.T, out, first string) {
		t.Helper()
		a, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is another update than that of the first run", filepath.Base(out))
		} else if out != first && testkit.Count(0, 0, 1) == 0 {
			return // what is said of the first run's update holds for this one
		}
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Log("no python3: not judged by the independent applier")
			return
		}
		script := filepath.Join(cmp.Or(os.Getenv(testkit.SharedVariable), filepath.Join(filepath.Dir(testkit.Root(t)), "shared")), "oracle", "mar_oracle.py")
		if _, err := os.Stat(script); err != nil {
			t.Log("no independent applier to judge by")
			return
		}
		oracle := exec.CommandContext(t.Context(), python, script, "check",
			filepath.Join(dir, "from.mar"), out, filepath.Join(dir, "to.mar"))
		said, err := oracle.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(said), "same") {
			t.Errorf("the independent applier says: %v: %s", err, said)
		}
	}
	verify := func(t *testing.T, store string) {
		t.Helper()
		said := run(t, p.command(t.Context(), "cache", "verify", "--cache", store))
		if !strings.Contains(said, " 0 damaged") || strings.Contains(said, "not an entry") {
			t.Errorf("the cache is not intact: %s", said)
		}
	}

	first, store := filepath.Join(work, "first.mar"), filepath.Join(work, "cache")
	run(t, p.partial(t.Context(), store, first))
	same(t, first, first)
	served := origin.requests()
	again := filepath.Join(work, "again.mar")
	if said := run(t, p.partial(t.Context(), store, again)); !strings.Contains(said, "from the cache") {
		t.Errorf("the second run says %q, want that it is from the cache", said)
	}
	same(t, again, first)
	if n := origin.requests() - served; n != 0 {
		t.Errorf("%d requests in the second run, want none", n)
	}

	// kill ends a run from outside once something has happened, and says whether the run had not ended before.
	kill := func(t *testing.T, store, out string, happened func(done <-chan struct{}) bool) bool {
		t.Helper()
		cmd := p.partial(t.Context(), store, out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(done)
		}()
		ok := happened(done)
		_ = cmd.Process.Kill()
		<-done
		if _, err := os.Stat(out); err == nil {
			same(t, out, first) // it was faster; half an update there may not be
			return false
		}
		return ok
	}
	// Another cache: killed while TO comes in, again when the first patch has been stored, then left alone.
	out := filepath.Join(work, "killed.mar")
	for try := range 5 {
		store = filepath.Join(work, fmt.Sprint("killed-", try))
		half := make(chan struct{})
		origin.mu.Lock()
		origin.hold = half
		origin.mu.Unlock()
		if !kill(t, store, out, func(done <-chan struct{}) bool {
			select {
			case <-half:
				return true
			case <-done:
				return false
			}
		}) {
			t.Fatal("the run ended before TO was there")
		}
		verify(t, store)
		if kill(t, store, out, func(done <-chan struct{}) bool {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				if found, _ := filepath.Glob(filepath.Join(store, "v1", "patches", "*", "*")); len(found) > 0 {
					return true
				}
				select {
				case <-tick.C:
				case <-done:
					return false
				}
			}
		}) {
			break
		}
		if try == 4 {
			t.Fatal("every run ended before it could be killed")
		}
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, store)
	served = origin.requests()
	run(t, p.partial(t.Context(), store, out))
	if n := origin.requests() - served; n != 0 {
		t.Errorf("%d requests for completes that were in the cache", n)
	}
	same(t, out, first)
	verify(t, store)

	origin.mu.Lock()
	defer origin.mu.Unlock()
	t.Logf("the origin was asked %d times and sent %d MB: %v", origin.next, origin.sent>>20, origin.count)
	for _, fault := range faults {
		if origin.count[fault] == 0 {
			t.Errorf("no request met %q", fault)
		}
	}
}

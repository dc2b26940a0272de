package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// process is ausd as a process of its own.
type process struct {
	cmd *exec.Cmd
	url string
	log *processLog
}

// processLog is what a process has logged.
type processLog struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed when there is more
}

// Write adds to the log, and wakes who waits for more.
func (l *processLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait returns what is closed when more is logged.
func (l *processLog) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.more
}

// startProcess starts ausd on a data directory and returns once it answers.
func startProcess(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, append(args, "--data", dir, "--listen", "127.0.0.1:0")...)
	cmd.Env = append(os.Environ(), "SENBON_TEST_BE_AUSD=1")
	log := &processLog{more: make(chan struct{})}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill() // it does not answer
		_ = cmd.Wait()
		t.Fatalf("it says %q, %v: %s", line, err, log.String())
	}
	_, rest, _ := strings.Cut(line, "answers at ")
	url, _, _ := strings.Cut(rest, " ")
	return &process{cmd, url, log}
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // it was killed
}

// call sends JSON and decodes the answer; an error is one of the connection.
func (p *process) call(t *testing.T, method, path string, body, to any) (int, error) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if to != nil {
		if err := json.Unmarshal(text, to); err != nil {
			t.Fatalf("%s: %d %s", path, res.StatusCode, text)
		}
	}
	return res.StatusCode, nil
}

// Killed at any moment of a publication, the server comes back with what it had acknowledged, whole: every snapshot is there, or
// is not there at all, and history has each.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acknowledged int64
	for round := range testkit.Count(3, 40, 400) {
		p := startProcess(t, dir)
		var status struct {
			Snapshot struct{ Seq int64 }
			Objects  map[string]int
		}
		if code, err := p.call(t, "GET", "/admin/v1/status", nil, &status); err != nil || code != 200 {
			t.Fatalf("round %d: status %d, %v", round, code, err)
		}
		if n := status.Snapshot.Seq; n < acknowledged || n > acknowledged+1 {
			t.Fatalf("round %d: snapshot %d, but %d was acknowledged", round, n, acknowledged)
		}
		acknowledged = status.Snapshot.Seq
		var history []struct {
			Seq     int64
			Comment string
		}
		if code, err := p.call(t, "GET", "/admin/v1/history?limit=1000", nil, &history); err != nil || code != 200 {
			t.Fatalf("round %d: history %d, %v", round, code, err)
		}
		if int64(len(history)) != min(1000, acknowledged) || len(history) > 0 && (history[0].Seq != acknowledged || history[0].Comment != fmt.Sprint("change ", acknowledged)) {
			t.Fatalf("round %d: %d entries in history for %d snapshots", round, len(history), acknowledged)
		}
		if acknowledged > 0 {
			var rule struct{ Body struct{ Comment string } }
			if code, err := p.call(t, "GET", "/admin/v1/objects/rule/1", nil, &rule); err != nil || code != 200 || rule.Body.Comment != fmt.Sprint(acknowledged) || status.Objects["host"] != int(acknowledged) {
				t.Fatalf("round %d: rule %+v and %d hosts at snapshot %d: %d, %v", round, rule, status.Objects["host"], acknowledged, code, err)
			}
		}
		var wg sync.WaitGroup
		begun := make(chan struct{})
		wg.Go(func() {
			for i := 0; ; i++ {
				if i == 2 {
					close(begun)
				}
				n := acknowledged + 1
				code, err := p.call(t, "POST", "/admin/v1/changes", map[string]any{"comment": fmt.Sprint("change ", n), "operations": []any{
					map[string]any{"kind": "rule", "key": "1", "body": map[string]any{"rule_id": 1, "priority": 1, "backgroundRate": 100, "update_type": "minor", "product": "Fox", "comment": fmt.Sprint(n)}},
					map[string]any{"kind": "host", "key": fmt.Sprintf("h%d.example", n), "body": map[string]any{"products": []string{"Fox"}}},
				}}, nil)
				if err != nil {
					if i < 2 {
						close(begun)
					}
					return
				}
				if code != 200 {
					t.Errorf("round %d: publish: status %d", round, code)
					if i < 2 {
						close(begun)
					}
					return
				}
				acknowledged = n
			}
		})
		wg.Go(func() { // readers are answered as long as there is a server
			for {
				res, err := http.Get(p.url + "/update/3/Fox/1.0/1/x/de/release/Linux/default/default/update.xml")
				if err != nil {
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && (res.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "<?xml")) {
					t.Errorf("a client gets %d %s", res.StatusCode, body)
					return
				}
			}
		})
		<-begun
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		p.kill(t)
		wg.Wait()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d snapshots were acknowledged", acknowledged)
}

// Only one server serves from a directory.
func TestOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProcess(t, dir)
	defer p.kill(t)
	var stdout, stderr strings.Builder
	if code := run([]string{"--data", dir, "--listen", "127.0.0.1:0"}, &stdout, &stderr); code != cli.ExitNo || !strings.Contains(stderr.String(), "another ausd serves from") {
		t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
}

// Told to stop, it ends with 0, and starts again.
func TestStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		p := startProcess(t, dir)
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Skipf("this system has no such signal: %v", err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
}

// A backup comes back whole or not at all, and over nothing.
func TestRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	p := startProcess(t, in("state"))
	defer p.kill(t)
	older := in("1.mar")
	pack(t, older, "1.0", "20240101000000")
	if code, said := tool("add", "--server", p.url, "--product", "Wolf", "--target", "Linux_x86_64-gcc3", older); code != 0 {
		t.Fatal(said)
	}
	if code, said := tool("backup", "--data", in("state"), in("copy.db")); code != 0 {
		t.Fatal(said)
	}
	if code, said := tool("restore", "--data", in("new"), in("copy.db")); code != 0 || !strings.Contains(said, "restored up to snapshot 1") || !strings.Contains(said, "1 files are missing") {
		t.Errorf("%d: %s", code, said)
	}
	if code, said := tool("restore", "--data", in("new"), in("copy.db")); code != cli.ExitUsage || !strings.Contains(said, "is there already") {
		t.Errorf("over a book: %d: %s", code, said)
	}
	if code, said := tool("restore", "--data", in("state"), in("copy.db")); code == 0 || !strings.Contains(said, "another ausd serves") {
		t.Errorf("beside a server: %d: %s", code, said)
	}
	again := startProcess(t, in("new"), "--url", p.url) // under the same name as before
	defer again.kill(t)
	a, err := ask(t.Context(), newClient(), again.url+"/update/3/Wolf/0.9/20230101000000/Linux_x86_64-gcc3/en-US/release/x/default/default/update.xml", "")
	if err != nil || !strings.Contains(string(a.Body), `appVersion="1.0"`) {
		t.Errorf("the copy answers %+v, %v", a, err)
	}
	// What is damaged leaves nothing behind.
	text, err := os.ReadFile(in("copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{"cut": text[:len(text)/2], "changed": bytes.ReplaceAll(text, []byte("Wolf-1.0"), []byte("Wolf-9.0")), "something else": []byte("hello")} {
		file := in(name + ".db")
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, said := tool("restore", "--data", in(name), file); code == 0 {
			t.Errorf("%s: %s", name, said)
		}
		left, err := filepath.Glob(filepath.Join(in(name), "*.db"))
		hidden, err2 := filepath.Glob(filepath.Join(in(name), ".restore*"))
		if err != nil || err2 != nil || len(left)+len(hidden) > 0 {
			t.Errorf("%s: %v %v is left", name, left, hidden)
		}
	}
}

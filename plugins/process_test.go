//go:build unix

package plugins

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func freeze() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// leaveGrandchild starts a process that outlives the plugin unless the host ends the whole group, and that
// holds the plugin's output open.
func leaveGrandchild() {
	cmd := exec.Command("/bin/sleep", "600")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	if err := os.WriteFile(os.Getenv("SENBON_TEST_PIDFILE"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		panic(err)
	}
}

func TestCall(t *testing.T) {
	p := start(t, config(t, "good"))
	got, err := call(t.Context(), p, "say:hello")
	if err != nil || got != "hello" {
		t.Fatalf("got %q, %v, want hello", got, err)
	}
	if err := p.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SENBON_TEST_OF_THE_HOST", "must not be seen")
	cfg := config(t, "good")
	cfg.Env = append(cfg.Env, "MINE=1")
	p := start(t, cfg)
	got, err := call(t.Context(), p, "env")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, kv := range strings.Split(got, "\x00") {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	allowed := []string{
		"MINE", modeEnv, "GORACE", CookieVariable, "TMPDIR", "TMP", "TEMP", "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT",
		"PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_CLIENT_CERT",
	}
	for _, name := range names {
		if !slices.Contains(allowed, name) {
			t.Errorf("plugin sees %s", name)
		}
	}
	if !strings.Contains(got, "MINE=1") || strings.Contains(got, "must not be seen") {
		t.Errorf("environment of the plugin is\n%s", got)
	}
}

func TestSecret(t *testing.T) {
	cfg := config(t, "good")
	cfg.Secrets = []Secret{{Env: "SENBON_TEST_FD", Value: func() ([]byte, error) { return []byte("open sesame"), nil }}}
	p := start(t, cfg)
	for i := range 2 { // a restarted process gets it again
		if got, err := call(t.Context(), p, "secret"); err != nil || got != "open sesame" {
			t.Errorf("got %q, %v, want the secret", got, err)
		}
		if got := p.Starts(); got != i+1 {
			t.Errorf("%d starts, want %d", got, i+1)
		}
		_, _ = call(t.Context(), p, "crash")
	}
}

func TestCloseIsClean(t *testing.T) {
	cfg := config(t, "good")
	mark := filepath.Join(t.TempDir(), "mark")
	cfg.Env = append(cfg.Env, "SENBON_TEST_MARK="+mark)
	p := start(t, cfg)
	pid := p.PID()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the plugin did not end by itself: %v", err)
	}
	if alive(pid) {
		t.Errorf("process %d lives", pid)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := call(t.Context(), p, "say:x"); !errors.Is(err, ErrClosed) {
		t.Errorf("call after Close: got %v, want ErrClosed", err)
	}
}

func TestCloseFrozen(t *testing.T) {
	t.Parallel()
	cfg := config(t, "good")
	cfg.CallTimeout = 100 * time.Millisecond
	p := start(t, cfg)
	if _, err := call(t.Context(), p, "freeze"); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	begin := time.Now()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > exitGrace+time.Second {
		t.Errorf("Close took %v", d)
	}
}

func TestGrandchildrenEnd(t *testing.T) {
	cfg := config(t, "grandchild")
	file := filepath.Join(t.TempDir(), "pid")
	cfg.Env = append(cfg.Env, "SENBON_TEST_PIDFILE="+file)
	p := start(t, cfg)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t.Context(), p, "crash"); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if runtime.GOOS == "linux" && !waitFor(func() bool { return !alive(pid) }) {
		t.Errorf("grandchild %d lives", pid)
	}
}

func TestStartRefused(t *testing.T) {
	_, sum := self(t)
	tests := []struct {
		name   string
		change func(*Config)
		want   error
		text   string
	}{
		{"wrong checksum", func(c *Config) { c.SHA256 = "00" + sum[2:] }, ErrChecksum, sum},
		{"no checksum", func(c *Config) { c.SHA256 = "" }, nil, "pinned"},
		{"no such file", func(c *Config) { c.Path += ".absent" }, os.ErrNotExist, ""},
		{"directory", func(c *Config) { c.Path = c.Dir }, nil, "regular"},
		{"bad environment", func(c *Config) { c.Env = append(c.Env, "NOVALUE") }, nil, "NAME=value"},
		{"secret fails", func(c *Config) {
			c.Secrets = []Secret{{Env: "S", Value: func() ([]byte, error) { return nil, io.ErrNoProgress }}}
		}, nil, "secret S"},
		{"long directory", func(c *Config) { c.Dir = "/" + strings.Repeat("d", 100) }, nil, "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, "good")
			tt.change(&cfg)
			p, err := Start(t.Context(), cfg, echoKind)
			if err == nil {
				p.Close()
				t.Fatal("started")
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func TestBadStart(t *testing.T) {
	tests := []struct{ mode, text string }{
		{"crash-at-start", "cannot open key: no such file"},
		{"open-fails", "no token in slot 3"},
		{"garbage", "hello, I am starting"},
		{"garbage-long", "longer than"},
		{"wrong-protocol", `protocol "99"`},
		{"netrpc", "want grpc"},
		{"elsewhere", "want unix"},
		{"outside", "PLUGIN_UNIX_SOCKET_DIR"},
		{"silent", "in time"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, tt.mode)
			want := ErrHandshake
			if tt.mode == "silent" {
				cfg.StartTimeout, want = 300*time.Millisecond, ErrTimeout
			}
			begin := time.Now()
			p, err := Start(t.Context(), cfg, echoKind)
			if err == nil {
				p.Close()
				t.Fatal("started")
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, want, tt.text)
			}
			if d := time.Since(begin); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestNotAPlugin(t *testing.T) {
	t.Parallel()
	cfg := config(t, "good")
	sum, err := Sum("/bin/sleep")
	if err != nil {
		t.Skipf("no /bin/sleep: %v", err)
	}
	cfg.Path, cfg.SHA256, cfg.Args = "/bin/sleep", sum, []string{"600"}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Start(ctx, cfg, echoKind); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestMisbehaviour is the plugin host's promise: whatever one call meets, the host lives, the error comes in
// time, and the next call works.
func TestMisbehaviour(t *testing.T) {
	const deadline = 400 * time.Millisecond
	rounds, slack := testkit.Rounds()
	tests := []struct {
		request string
		want    error // nil: the call itself may succeed
	}{
		{"crash", ErrStopped},
		{"crash-after:x", nil},
		{"panic", ErrStopped},
		{"panic-call", ErrInternal},
		{"hang", ErrTimeout},
		{"freeze", ErrTimeout},
		{"oversize", ErrInternal},
		{"flood", nil},
		{"flood-lines", nil},
		{"garbage-stdout", nil},
		{`raw:{"@message": 1, "@level": {}, "@timestamp": []}`, nil},
		{"slow", ErrTimeout},
		{"fail:DENIED", ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.request, func(t *testing.T) {
			if rounds == 1 {
				t.Parallel()
			}
			cfg := config(t, "good")
			cfg.Logger = nil
			p := start(t, cfg)
			for range rounds {
				limit := deadline
				if strings.HasPrefix(tt.request, "flood") || rounds == 1 && !errors.Is(tt.want, ErrTimeout) {
					limit = 20 * time.Second // on a busy machine a crash takes its time, too
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				if _, err := p.Dispense(t.Context()); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, err := call(ctx, p, tt.request)
				took := time.Since(begin)
				cancel()
				if tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if tt.want != nil && took > deadline+slack {
					t.Errorf("took %v, deadline is %v", took, deadline)
				}
				if got, err := call(t.Context(), p, "say:again"); err != nil && !strings.HasPrefix(tt.request, "crash-after") || err == nil && got != "again" {
					t.Fatalf("next call: got %q, %v", got, err)
				}
			}
		})
	}
}

// TestUnboundedPlugin meets a plugin that was built without this package's limits on its side.
func TestUnboundedPlugin(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "unbounded"))
	for _, request := range []string{"oversize", "header"} {
		if _, err := call(t.Context(), p, request); err == nil {
			t.Errorf("%s: the host took it", request)
		} else if request == "oversize" && !errors.Is(err, ErrLimit) {
			t.Errorf("%s: got %v, want ErrLimit", request, err)
		}
		if got, err := call(t.Context(), p, "say:again"); err != nil || got != "again" {
			t.Errorf("after %s: got %q, %v", request, got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	p := start(t, config(t, "good"))
	for _, r := range reasons {
		_, err := call(t.Context(), p, "fail:"+string(r.reason))
		if !errors.Is(err, r.err) {
			t.Errorf("%s: got %v, want %v", r.reason, err, r.err)
		}
		for _, other := range reasons {
			if other.reason != r.reason && errors.Is(err, other.err) {
				t.Errorf("%s: %v matches %v as well", r.reason, err, other.err)
			}
		}
		var e *Error
		if !errors.As(err, &e) || e.RetryAfter != 3*time.Second || !strings.Contains(e.Message, "as asked") {
			t.Errorf("%s: got %#v", r.reason, e)
		}
	}
	if _, err := call(t.Context(), p, "fail:NONSENSE"); !errors.Is(err, ErrInternal) {
		t.Errorf("unknown reason: got %v, want ErrInternal", err)
	}
	if _, err := call(t.Context(), p, "status"); !errors.Is(err, ErrNotFound) {
		t.Errorf("plain gRPC status: got %v, want ErrNotFound", err)
	}
	if _, err := call(t.Context(), p, "huh"); !errors.Is(err, ErrInvalid) {
		t.Errorf("wrapped sentinel: got %v, want ErrInvalid", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := call(ctx, p, "say:x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want context.Canceled", err)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	cfg := config(t, "good")
	cfg.CallTimeout = 300 * time.Millisecond
	p := start(t, cfg)
	count := func(n int) (int, error) {
		c, err := p.Dispense(t.Context())
		if err != nil {
			return 0, err
		}
		s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.Echo/Count")
		if err != nil {
			return 0, err
		}
		if err := s.SendMsg(wrapperspb.String(strconv.Itoa(n))); err != nil {
			return 0, err
		}
		if err := s.CloseSend(); err != nil {
			return 0, err
		}
		for got := 0; ; got++ {
			if err := s.RecvMsg(&wrapperspb.StringValue{}); errors.Is(err, io.EOF) {
				return got, nil
			} else if err != nil {
				return got, err
			}
		}
	}
	if got, err := count(1000); err != nil || got != 1000 {
		t.Errorf("got %d, %v, want 1000", got, err)
	}
	begin := time.Now()
	if got, err := count(3); !errors.Is(err, ErrTimeout) || got != 3 {
		t.Errorf("silence after 3 messages: got %d, %v, want 3 and ErrTimeout", got, err)
	}
	if _, slack := testkit.Rounds(); time.Since(begin) > cfg.CallTimeout+slack {
		t.Errorf("took %v", time.Since(begin))
	}
	if got, err := count(10); err != nil || got != 10 {
		t.Errorf("after it: got %d, %v, want 10", got, err)
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	cfg := config(t, "good")
	cfg.Restart = RestartPolicy{Max: 3, Window: time.Hour, MinPause: time.Millisecond, MaxPause: time.Millisecond}
	p := start(t, cfg)
	var later atomic.Int64
	p.mu.Lock()
	p.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	p.mu.Unlock()
	var err error
	for range 20 {
		if _, err = call(t.Context(), p, "crash"); errors.Is(err, errBreaker) {
			break
		}
	}
	if !errors.Is(err, errBreaker) || !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v, want the breaker's ErrStopped", err)
	}
	if _, err := call(t.Context(), p, "say:back"); !errors.Is(err, errBreaker) {
		t.Errorf("a moment later: got %v, want the same", err)
	}
	later.Store(int64(2 * time.Hour))
	if got, err := call(t.Context(), p, "say:back"); err != nil || got != "back" {
		t.Errorf("after the window: got %q, %v", got, err)
	}
}

func TestRestartOff(t *testing.T) {
	cfg := config(t, "good")
	cfg.Restart.Max = -1
	p := start(t, cfg)
	if _, err := call(t.Context(), p, "crash"); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	if _, err := call(t.Context(), p, "say:x"); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	cfg := config(t, "good")
	cfg.Logger = nil
	p := start(t, cfg)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				if i == 0 && j%5 == 0 {
					_, _ = call(t.Context(), p, "crash")
					continue
				}
				want := fmt.Sprintf("%d-%d", i, j)
				got, err := call(t.Context(), p, "say:"+want)
				if err == nil && got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, ErrUnavailable) {
					t.Errorf("got %v, want ErrStopped", err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := call(t.Context(), p, "say:end"); err != nil || got != "end" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestHostKilled kills hosts as nobody could catch, and looks for the plugins they had.
func TestHostKilled(t *testing.T) {
	rounds, _ := testkit.Rounds()
	dir, err := os.MkdirTemp("", "sbt") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path, _ := self(t)
	for range rounds {
		host := exec.Command(path)
		host.Env = append(os.Environ(), testkit.FastExit, hostEnv+"="+dir)
		out, err := host.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if !alive(pid) {
			t.Fatalf("plugin %d does not live", pid)
		}
		begin := time.Now()
		if err := host.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = host.Wait()
		if !waitFor(func() bool { return !alive(pid) }) || time.Since(begin) > 2*time.Second {
			t.Errorf("plugin %d outlived its host by %v", pid, time.Since(begin))
		}
	}
	// What the killed hosts left is swept by the next start in the same place, once it is old enough.
	old := time.Now().Add(-2 * staleAfter)
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != rounds {
		t.Fatalf("got %d directories of killed hosts, want %d", len(left), rounds)
	}
	for _, e := range left {
		if err := os.Chtimes(filepath.Join(dir, e.Name()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(t, "good")
	cfg.Dir = dir
	p := start(t, cfg)
	if left, err = os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %d directories, %v, want only that of the plugin that runs", len(left), err)
	}
	if err := os.Chtimes(filepath.Join(dir, left[0].Name()), old, old); err != nil {
		t.Fatal(err)
	}
	sweep(dir)
	if got, err := call(t.Context(), p, "say:here"); err != nil || got != "here" {
		t.Errorf("after a sweep beside a plugin that runs: %q, %v", got, err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var b bytes.Buffer
	cfg := config(t, "good")
	cfg.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &b}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := start(t, cfg)
	for _, request := range []string{"log:from the plugin", `raw:{"@message": 1}`, "raw:[ERROR] plain words", "garbage-stdout"} {
		if _, err := call(t.Context(), p, request); err != nil {
			t.Fatal(err)
		}
	}
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
	waitFor(func() bool { return strings.Contains(text(), "msg=garbage") }) // what is printed travels apart from calls
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`level=WARN msg="from the plugin"`, "said.key=value", "said.n=3", "msg=1", `level=ERROR msg="[ERROR] plain words"`,
		"printed before the handshake", "msg=garbage",
	} {
		if !strings.Contains(text(), want) {
			t.Errorf("log lacks %s:\n%s", want, text())
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func TestPrivateCopy(t *testing.T) {
	t.Parallel()
	cfg := config(t, "good")
	b, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Path = filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(cfg.Path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, cfg)
	if err := os.WriteFile(cfg.Path, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, _ = call(t.Context(), p, "crash")
	if got, err := call(t.Context(), p, "say:still me"); err != nil || got != "still me" {
		t.Errorf("after the original was replaced: got %q, %v", got, err)
	}
}

// TestRestartsLeakNothing crashes one plugin many times.
func TestRestartsLeakNothing(t *testing.T) {
	rounds := testkit.Count(8, 20, 1000)
	before := goleak.IgnoreCurrent()
	cfg := config(t, "good")
	cfg.Logger = nil
	cfg.Restart.Max = 1 << 20
	p := start(t, cfg)
	round := func() {
		if _, err := call(t.Context(), p, "crash"); !errors.Is(err, ErrStopped) {
			t.Fatalf("got %v, want ErrStopped", err)
		}
		if got, err := call(t.Context(), p, "say:on"); err != nil || got != "on" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	for range 5 {
		round()
	}
	fds, goroutines, heap := openFiles(t), runtime.NumGoroutine(), liveHeap()
	for range rounds {
		round()
	}
	if !waitFor(func() bool { return openFiles(t) <= fds && runtime.NumGoroutine() <= goroutines }) {
		t.Errorf("after %d restarts: %d files open, before %d; %d goroutines, before %d", rounds, openFiles(t), fds, runtime.NumGoroutine(), goroutines)
	}
	if now := liveHeap(); now > heap+2<<20 {
		t.Errorf("after %d restarts: %d bytes live, before %d", rounds, now, heap)
	}
	t.Logf("%d restarts: files %d → %d, goroutines %d → %d, live heap %d → %d KiB", rounds, fds, openFiles(t), goroutines, runtime.NumGoroutine(), heap>>10, liveHeap()>>10)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func openFiles(t *testing.T) int {
	t.Helper()
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Skipf("no list of open files: %v", err)
	}
	return len(fds)
}

// alive says whether a process runs; one that ended and waits for its parent does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		if i := bytes.LastIndexByte(b, ')'); i >= 0 && i+2 < len(b) && (b[i+2] == 'Z' || b[i+2] == 'X') {
			return false
		}
	}
	return true
}

// waitFor polls until f is true, for at most ten seconds.
func waitFor(f func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if f() {
			return true
		}
	}
	return f()
}

func BenchmarkStart(b *testing.B) {
	cfg := config(b, "good")
	for b.Loop() {
		p, err := Start(b.Context(), cfg, echoKind)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	p := start(b, config(b, "good"))
	for b.Loop() {
		if _, err := call(b.Context(), p, "say:x"); err != nil {
			b.Fatal(err)
		}
	}
}

//go:build unix

package plugins

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// debugged starts the test plugin as its author does, and waits until it says how to attach.
func debugged(t *testing.T, file string) (process *os.Process, end func()) {
	t.Helper()
	path, _ := self(t)
	cmd := exec.Command(path)
	cmd.Env = []string{testkit.FastExit, modeEnv + "=good", DebugVariable + "=" + file, "TMPDIR=" + os.TempDir()}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), "--plugin-attach "+file) {
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, said)
	}()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("the plugin ended: %v", err)
		}
	}
	t.Cleanup(end)
	return cmd.Process, end
}

// TestAttach uses a plugin that somebody else has started, and the one that takes its place; Close leaves it running.
func TestAttach(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "attach.json")
	_, end := debugged(t, file)
	cfg := Config{Attach: file}
	p, err := Start(t.Context(), cfg, echoKind)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := call(t.Context(), p, "say:hello"); err != nil || got != "hello" || p.PID() != 0 {
		t.Errorf("got %q, %v, process %d, want hello and none of ours", got, err, p.PID())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p, err = Start(t.Context(), cfg, echoKind) // it has outlived the first host
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	end()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}
	if _, err := call(t.Context(), p, "say:nobody"); !errors.Is(err, ErrStopped) && !errors.Is(err, ErrHandshake) {
		t.Errorf("nobody is there: got %v", err)
	}
	debugged(t, file)
	if got, err := call(t.Context(), p, "say:again"); err != nil || got != "again" {
		t.Errorf("got %q, %v, want again", got, err)
	}
}

// TestAttachStopped has the plugin stand still, as at a breakpoint: a caller who gives up does not end it.
func TestAttachStopped(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "attach.json")
	process, _ := debugged(t, file)
	p, err := Start(t.Context(), Config{Attach: file}, echoKind)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.cfg.CallTimeout < time.Hour || p.cfg.StartTimeout < time.Hour {
		t.Errorf("a call may take %v, a start %v", p.cfg.CallTimeout, p.cfg.StartTimeout)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var stopped syscall.WaitStatus // the signal is only sent so far
	if _, err := syscall.Wait4(process.Pid, &stopped, syscall.WUNTRACED, nil); err != nil || !stopped.Stopped() {
		t.Fatalf("the plugin has not stopped: %v, %v", stopped, err)
	}
	for range 2 { // the second meets a plugin that is suspect
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := call(ctx, p, "say:too late"); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
		cancel()
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t.Context(), p, "say:go on"); err != nil || got != "go on" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAttachRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"no such file":                      "",
		"is not the file of a plugin":       "hello",
		`of a "signing" plugin, not a echo`: `{"kind": "signing", "protocol": 1, "socket": "/x"}`,
		"speaks echo protocol 7":            `{"kind": "echo", "protocol": 7, "socket": "/x"}`,
		"names no socket":                   `{"kind": "echo", "protocol": 1, "socket": "x"}`,
		"nobody answers at the socket that": `{"kind": "echo", "protocol": 1, "socket": "` + filepath.Join(dir, "gone") + `"}`,
	} {
		file := filepath.Join(dir, "file")
		if text == "" {
			file = filepath.Join(dir, "absent")
		} else if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Config{Attach: file}, echoKind); !errors.Is(err, ErrHandshake) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
	if _, err := Start(t.Context(), Config{Attach: "x", Path: "y"}, echoKind); err == nil || !strings.Contains(err.Error(), "is not started") {
		t.Errorf("attach and start: got %v", err)
	}
}

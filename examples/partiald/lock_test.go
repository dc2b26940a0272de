package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// Two processes on one directory would damage each other's work: the second one ends and says where the first is. One
// that was killed leaves nothing behind that keeps others out.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	data := dataDir(n)
	for _, env := range [][]string{
		{"PARTIALD_DATA=" + data},
		{"PARTIALD_DATA=" + filepath.Join(t.TempDir(), "other"), "PARTIALD_QUEUE_DIR=" + filepath.Join(data, "queue")}, // another's queue
	} {
		var stderr bytes.Buffer
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience(5*time.Second))
		cmd := exec.CommandContext(ctx, "partiald")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PARTIALD_SERVER_LISTEN=127.0.0.1:0"}, env...)
		cmd.Stderr = &stderr
		code := exitCode(cmd.Run())
		cancel()
		if code != cli.ExitUsage {
			t.Errorf("%q: exit code %d after %v", env, code, time.Since(begin))
		}
		if want := fmt.Sprintf("process %d, at %s", n.cmd.Process.Pid, n.addr); !strings.Contains(stderr.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, stderr.String())
		}
	}
	n.kill()
	n.start()
	n.stop()
	if _, err := os.Stat(filepath.Join(data, "partiald"+ownerEnd)); !os.IsNotExist(err) {
		t.Errorf("after a stop it is still said to run: %v", err)
	}
}

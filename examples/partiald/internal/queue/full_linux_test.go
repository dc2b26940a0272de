package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

const fullVariable = "PARTIALD_FULL_DISK" // the directory, in the process that has a small disk

// TestDiskFull fills the disk of an embedded engine and gives it room again. What was there can be read all the time, and
// what comes then is taken.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(fullVariable)
	if dir == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root can mount")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		cmd.Env = append(os.Environ(), fullVariable+"="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("cannot make a mount namespace: %v", err)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	check(os.WriteFile(ballast, make([]byte, 11<<20), 0o600))
	ctx, big := t.Context(), []byte(strings.Repeat("x", 200_000))
	q := open(t, queue.Options{Dir: filepath.Join(dir, "queue"), Timeout: time.Second})
	key := func(i int) string { return queue.Key("job", fmt.Sprint(i)) }
	values := 0
	for ; ; values++ {
		if _, err := q.Put(ctx, key(values), big, 0, 0); err != nil {
			break
		}
	}
	if err := q.Publish(ctx, "job", 0, big); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("publish on a full disk: %v, want ErrUnavailable", err)
	}
	if err := q.Ping(ctx); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("ping: %v, want ErrUnavailable", err)
	}
	for range 3 {
		if made, err := q.Repair(ctx); made || !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("repair on a full disk: %v, %v, want ErrUnavailable", made, err)
		}
	}
	readable := func() {
		t.Helper()
		for i := range values {
			if v, _, err := q.Get(ctx, key(i)); err != nil || !bytes.Equal(v, big) {
				t.Errorf("value %d of %d: %d bytes, %v", i, values, len(v), err)
			}
		}
	}
	readable()

	check(os.Remove(ballast))
	for deadline := time.Now().Add(20 * time.Second); ; {
		made, err := q.Repair(ctx)
		if made && err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with room again: %v, %v", made, err)
		}
	}
	readable()
	check(q.Ping(ctx))
	check(q.Publish(ctx, "job", 0, big))
	check(next(t, q).Ack(ctx))
	_, err := q.Put(ctx, key(values+1), big, 0, 0)
	check(err)
}

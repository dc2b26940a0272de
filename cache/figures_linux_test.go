//go:build amd64 || arm64

package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func init() {
	children["once"] = onceChild
	children["full"] = fullChild
}

// onceChild stores one value, on one thread, so that its system calls can be counted.
func onceChild(args []string) error {
	runtime.LockOSThread()
	ctx := context.Background()
	check := func(err error) error {
		if want := args[1]; err != nil && want != "" {
			var errno syscall.Errno
			if !errors.As(err, &errno) || errnoNames[errno] != want {
				fmt.Println("untyped", err)
			}
		}
		return err
	}
	d, err := cache.OpenDisk(ctx, args[0], nil)
	if check(err) != nil {
		return err
	}
	k, data := named(cache.Patches, "once")
	_, err = d.Put(ctx, k, bytes.NewReader(data))
	if check(err) == nil {
		fmt.Println("acked")
		var e *cache.Entry
		if e, err = d.Get(ctx, k); check(err) == nil {
			e.Close()
		}
	}
	// Now, as Close will remove what a failed Put forgot.
	if left, _ := filepath.Glob(filepath.Join(args[0], "tmp", "*", "patches.*")); len(left) > 0 {
		fmt.Println("left", len(left))
	}
	return errors.Join(err, d.Close())
}

var errnoNames = map[syscall.Errno]string{syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC"}

// TestSyscallFaults kills the process at, or fails, each of the first system calls of each sort.
func TestSyscallFaults(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	calls := []string{"openat", "pwrite64", "fsync", "renameat", "mkdirat", "close", "unlinkat", "ftruncate", "flock"}
	faults := []string{"signal=KILL", "error=ENOSPC", "error=EIO"}
	if err := exec.CommandContext(t.Context(), strace, "-f", "-o", os.DevNull, "-e", "trace=fsync", "true").Run(); err != nil {
		t.Skipf("strace cannot trace here: %v", err)
	}
	first, of := testkit.Count(12, 12, 40), testkit.Count(5, 1, 1) // one of so many positions for each call and fault
	type run struct {
		call, fault string
		n           int
	}
	runs := make(chan run)
	var mu sync.Mutex
	var total, killed, failed, untouched, acked int
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for r := range runs {
				what := fmt.Sprintf("%s %s at %d", r.call, r.fault, r.n)
				dir := t.TempDir()
				errno, _ := strings.CutPrefix(r.fault, "error=")
				if errno == r.fault {
					errno = ""
				}
				cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace="+r.call,
					"-e", fmt.Sprintf("inject=%s:%s:when=%d", r.call, r.fault, r.n), os.Args[0], dir, errno)
				cmd.Env = append(os.Environ(), testkit.FastExit, childVariable+"=once", "GOMAXPROCS=1")
				out, err := cmd.Output()
				isAcked := bytes.Contains(out, []byte("acked"))
				mu.Lock()
				total++
				state := cmd.ProcessState.Sys().(syscall.WaitStatus)
				switch {
				case err == nil:
					untouched++
				case state.Signaled() || state.ExitStatus() == 128+9:
					killed++
				default:
					failed++
				}
				if isAcked {
					acked++
				}
				mu.Unlock()
				if bytes.Contains(out, []byte("untyped")) {
					t.Errorf("%s: %s", what, out)
				}
				if r.call != "unlinkat" && r.call != "openat" { // by which is cleaned up
					if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "patches.*")); len(left) > 0 && r.fault != "signal=KILL" ||
						bytes.Contains(out, []byte("left")) {
						t.Errorf("%s: temporary files are left: %s, %q", what, out, left)
					}
				}
				afterwards(t, what, dir, isAcked)
			}
		})
	}
	for i, call := range calls {
		for k, fault := range faults {
			for n := 1 + (i+k)%of; n <= first; n += of {
				runs <- run{call, fault, n}
			}
		}
	}
	close(runs)
	wg.Wait()
	t.Logf("%d runs (%d system calls × %d faults × one of %d of %d positions): %d killed, %d failed, %d untouched; %d acknowledged, 0 wrong",
		total, len(calls), len(faults), of, first, killed, failed, untouched, acked)
	if killed < 10 || failed < 10 || acked < 10 {
		t.Error("too few faults hit: this test shows nothing")
	}
}

// afterwards looks at a directory that a process left in whatever state.
func afterwards(t *testing.T, what, dir string, acked bool) {
	t.Helper()
	d, err := cache.OpenDisk(t.Context(), dir, nil)
	if err != nil {
		t.Errorf("%s: cannot be opened any more: %v", what, err)
		return
	}
	defer d.Close()
	k, want := named(cache.Patches, "once")
	e, err := d.Get(t.Context(), k)
	switch {
	case errors.Is(err, cache.ErrCorrupt):
		t.Errorf("%s: a damaged entry is visible: %v", what, err)
	case errors.Is(err, cache.ErrMiss):
		if acked {
			t.Errorf("%s: what was acknowledged is gone", what)
		}
	case err != nil:
		t.Errorf("%s: %v", what, err)
	default:
		if got, err := io.ReadAll(e.Reader()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: wrong bytes, %v", what, err)
		}
		e.Close()
	}
	if others, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(others) != 1 {
		t.Errorf("%s: %d temporary directories after opening: %v", what, len(others), err)
	}
	if report, err := d.Verify(t.Context(), nil); err != nil || len(report.Damaged)+len(report.Strangers) > 0 {
		t.Errorf("%s: Verify: %+v, %v", what, report, err)
	}
}

// privateMounts lets a child mount what nobody else sees and what ends with it.
func privateMounts(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
}

func mountPrivately() error {
	return os.NewSyscallError("mount", syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
}

// TestDiskFull fills a small file system again and again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	cycles := testkit.Count(4, 20, 200)
	cmd := childCommand(t.Context(), "full", t.TempDir(), strconv.Itoa(cycles))
	privateMounts(t, cmd)
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("cannot make a mount namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", bytes.TrimSpace(out))
}

func fullChild(args []string) error {
	ctx := context.Background()
	cycles, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := mountPrivately(); err != nil {
		return err
	}
	spool := filepath.Join(args[0], "spool")
	small := filepath.Join(args[0], "small")
	if err := errors.Join(os.Mkdir(small, 0o700), os.Mkdir(spool, 0o700)); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	d, err := cache.OpenDisk(ctx, small, nil) // whose limits are far beyond the 8 MiB
	if err != nil {
		return err
	}
	defer d.Close()
	l := cache.NewLayered([]cache.Store{d}, &cache.LayeredOptions{SpoolDir: spool, SpoolMemory: 1})
	large := func(name string) (cache.Key, []byte) {
		k, data := named(cache.Patches, name)
		return k, append(data, make([]byte, 400_000)...)
	}
	var puts, refused, made int
	for cycle := range cycles {
		var there []string
		fits := func(name string) (bool, error) {
			k, data := large(name)
			_, err := d.Put(ctx, k, bytes.NewReader(data))
			switch {
			case err == nil:
				puts++
				there = append(there, name)
				return true, nil
			case !errors.Is(err, cache.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC):
				return false, fmt.Errorf("disk full: %w, want ErrNoSpace and ENOSPC", err)
			}
			refused++
			return false, nil
		}
		for i := 0; ; i++ {
			ok, err := fits(fmt.Sprintf("full-%d-%d", cycle, i))
			if err != nil {
				return err
			}
			if !ok {
				break
			}
		}
		// A value is made all the same, and what is there is readable.
		k, data := named(cache.Partials, fmt.Sprint("made", cycle))
		data = append(data, make([]byte, 1<<20)...)
		e, err := l.GetOrFill(ctx, k, func(_ context.Context, w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		})
		if err != nil {
			return fmt.Errorf("GetOrFill on a full disk: %w", err)
		}
		got, err := io.ReadAll(e.Reader())
		e.Close()
		if err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("GetOrFill on a full disk: wrong bytes, %w", err)
		}
		made++
		for _, name := range there {
			k, data := large(name)
			e, err := d.Get(ctx, k)
			if err != nil {
				return fmt.Errorf("get %s on a full disk: %w", name, err)
			}
			got, err := io.ReadAll(e.Reader())
			e.Close()
			if err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("wrong bytes on a full disk: %w", err)
			}
		}
		// Space returns, and all is well.
		if _, err := d.Purge(ctx, cache.Filter{Kind: cache.Patches}); err != nil {
			return fmt.Errorf("purge on a full disk: %w", err)
		}
		if ok, err := fits(fmt.Sprintf("again-%d", cycle)); err != nil || !ok {
			return fmt.Errorf("after space returned: %v, %w", ok, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(small, "tmp", "*", "patches.*")); err != nil || len(left) > 0 {
		return fmt.Errorf("%d temporary files are left, %w", len(left), err)
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
		return fmt.Errorf("%d files are left in the spool, %w", len(left), err)
	}
	fmt.Printf("%d cycles: %d puts, %d refused for lack of space, %d values made on a full disk, 0 wrong\n", cycles, puts, refused, made)
	return nil
}

// TestPowerCut cuts the power of a file system that forgets what was not synced.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	puts := testkit.Count(50, 50, 2000)
	for _, synced := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := childCommand(ctx, "powercut", t.TempDir(), strconv.Itoa(puts), strconv.FormatBool(synced))
		privateMounts(t, cmd)
		out, err := cmd.Output()
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("cannot make a mount namespace: %v", err)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var r powerCutResult
		if _, err := fmt.Sscan(string(out), &r.cuts, &r.acked, &r.lost, &r.wrong, &r.damaged, &r.bad); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Logf("synced %v: %d puts, %d images of cuts, %d entries acknowledged before them: %d lost, %d damaged, %d served with wrong bytes; %d images bad",
			synced, puts, r.cuts, r.acked, r.lost, r.damaged, r.wrong, r.bad)
		switch {
		case r.cuts < 40 || r.acked < 100:
			t.Error("too few cuts: this test shows nothing")
		case synced && (r.lost != 0 || r.damaged != 0 || r.wrong != 0):
			t.Error("a power cut loses or damages entries")
		case !synced && r.bad < r.cuts/2:
			t.Error("without syncing almost nothing is lost: this test would not notice a missing sync")
		case r.wrong != 0:
			t.Error("wrong bytes were served")
		}
	}
}

type powerCutResult struct{ cuts, acked, lost, wrong, damaged, bad int }

func (r *powerCutResult) look(dir string, acked []string) error {
	d, err := cache.OpenDisk(context.Background(), dir, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	r.cuts++
	r.acked += len(acked)
	before := *r
	for _, name := range acked {
		k, want := named(cache.Patches, name)
		e, err := d.Get(context.Background(), k)
		switch {
		case errors.Is(err, cache.ErrCorrupt):
			r.damaged++
		case errors.Is(err, cache.ErrMiss):
			r.lost++
		case err != nil:
			return err
		default:
			if got, err := io.ReadAll(e.Reader()); err != nil || !bytes.Equal(got, want) {
				r.wrong++
			}
			e.Close()
		}
	}
	report, err := d.Verify(context.Background(), nil)
	if err != nil {
		return err
	}
	r.damaged += len(report.Damaged)
	if left, err := filepath.Glob(filepath.Join(dir, "tmp", "*", "patches.*")); err != nil || len(left) > 0 {
		return fmt.Errorf("%d temporary files after opening, %w", len(left), err)
	}
	if r.lost != before.lost || r.damaged != before.damaged || r.wrong != before.wrong {
		r.bad++
	}
	return nil
}

// sortedKeys is for maps whose order must not matter.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

//go:build unix

package updater

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

const (
	killVariable = "SENBON_TEST_KILL_AT"
	killDir      = "SENBON_TEST_KILL_DIR"
)

// A process that is killed at any operation leaves a tree that the next run makes the new one.
func TestApplyKilledAtEveryOperation(t *testing.T) {
	t.Parallel()
	from, to, update := killCase(t)
	if at := os.Getenv(killVariable); at != "" {
		n, err := strconv.Atoi(at)
		if err != nil {
			t.Fatal(err)
		}
		root := updatetest.OpenRoot(t, os.Getenv(killDir))
		fsys := &faultFS{filesystem: rootFS{root}, at: n, kill: func() {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			testkit.Hang()
		}}
		if err := apply(t.Context(), fsys, update, nil); err != nil {
			t.Fatal(err)
		}
		return
	}
	// one of so many operations of a run: a killed process costs some 20 ms
	step := testkit.Count(3, 1, 1)
	killed, before, after := 0, 0, 0
	for at := 1; ; at += step {
		dir := testkit.MemoryDir(t)
		from.Write(t, dir)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestApplyKilledAtEveryOperation$")
		cmd.Env = append(os.Environ(), testkit.FastExit, killVariable+"="+strconv.Itoa(at), killDir+"="+dir)
		out, err := cmd.CombinedOutput()
		if err == nil {
			if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), to); diff != "" {
				t.Fatal(diff)
			}
			break
		}
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("operation %d: %v\n%s", at, err, out)
		}
		killed++
		journal := exists(dir, journalFile)
		committed := exists(dir, committedFile)
		err = Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil)
		switch {
		case err == nil && committed:
			after++
		case err == nil:
			before++
		case journal || committed:
			t.Fatalf("again after operation %d: %v", at, err)
		default:
			// killed with at most an empty work directory left: the update does not fit the new tree any more
			after++
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), to); diff != "" {
			t.Fatalf("again after operation %d (%v):\n%s", at, err, diff)
		}
	}
	t.Logf("killed %d times: %d times before the update was committed, %d after", killed, before, after)
	if before < 20/step || after < 5/step {
		t.Error("the test does not test")
	}
}

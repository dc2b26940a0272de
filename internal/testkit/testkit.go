// Package testkit finds the inputs that tests share but that are not part of this repository: Mozilla's own
// test archives, certificates and patches, and real releases. Tests that need them are skipped, with a reason,
// where they are absent.
package testkit

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// SharedVariable names the environment variable that overrides where shared inputs are looked for.
const SharedVariable = "SENBON_SHARED"

// Shared returns the path of a file or directory of the shared inputs, for example "testdata/libmar". The
// inputs are a directory named "shared" beside the module's root, or what SENBON_SHARED says. The test is
// skipped, saying what is missing, where the path does not exist.
func Shared(tb testing.TB, elem ...string) string {
	tb.Helper()
	base := os.Getenv(SharedVariable)
	if base == "" {
		base = filepath.Join(filepath.Dir(Root(tb)), "shared")
	}
	path := filepath.Join(append([]string{base}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("shared input %s not found: put it beside the repository or set %s", filepath.Join(elem...), SharedVariable)
	}
	return path
}

// FastExit is for the environment of test binaries that tests start: with the race detector a process waits for a
// second before it ends, unless told otherwise. Without it nothing looks at the variable.
const FastExit = "GORACE=atexit_sleep_ms=0"

// Long skips the test unless SENBON_LONG is set to something other than "" or "0"; why says what it takes.
func Long(tb testing.TB, why string) {
	tb.Helper()
	if !set("SENBON_LONG") {
		tb.Skipf("long test (%s): set SENBON_LONG=1 to run it", why)
	}
}

// Count returns how often a test does something: quick times in every run of all tests, gate times, which are what
// this project promises, with SENBON_GATE set, and soak times with SENBON_LONG set.
func Count(quick, gate, soak int) int {
	switch {
	case set("SENBON_LONG"):
		return soak
	case set("SENBON_GATE"):
		return gate
	}
	return quick
}

// Rounds returns how often a test meets each misbehaviour of a plugin, and how late errors may be then. SENBON_GATE,
// SENBON_LONG and, as a number, SENBON_PLUGIN_ROUNDS ask for the figures that are promised; else the test only asks
// that nothing hangs, on however busy a machine.
func Rounds() (n int, slack time.Duration) {
	n, slack = Count(1, 20, 500), 250*time.Millisecond
	if asked, err := strconv.Atoi(os.Getenv("SENBON_PLUGIN_ROUNDS")); err == nil && asked > 0 {
		n = asked
	} else if n == 1 {
		slack = 3 * time.Second
	}
	return n, slack
}

func set(variable string) bool {
	v := os.Getenv(variable)
	return v != "" && v != "0"
}

// MemoryDir is tb.TempDir in memory, where there is such a place: for the many small trees of tests that are not
// about what survives a power cut.
func MemoryDir(tb testing.TB) string {
	tb.Helper()
	memory := memory()
	if memory == "" || os.Getenv("TMPDIR") != "" {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "senbonzakura") //nolint:usetesting // not where tb.TempDir is
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// InMemory has every temporary directory of this program, and of those that it starts, be in memory, where there is such
// a place and TMPDIR says nothing else. It is for the TestMain of a package whose tests would wait for the disk most of
// the time, and is not about what survives a power cut. What survives the death of a process does so in memory, too.
func InMemory() {
	if memory := memory(); memory != "" && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", memory) // else they wait for the disk
	}
}

// AtOnce lets as many parallel tests of this program run at the same time, however few processors there are; -parallel
// says otherwise. It is for the TestMain of a package whose tests wait most of the time.
func AtOnce(tests int) {
	if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
		panic(err) // not the program of a test
	}
}

// Hang never returns. Unlike an empty select it is no deadlock to the runtime of a program without cgo, which would end.
func Hang() {
	for {
		time.Sleep(time.Hour)
	}
}

// Root returns the directory that holds this module's go.mod.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

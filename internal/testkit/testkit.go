// Package testkit finds the inputs that tests share but that are not part of this repository: Mozilla's own
// test archives, certificates and patches, and real releases. Tests that need them are skipped, with a reason,
// where they are absent.
package testkit

import (
	"os"
	"path/filepath"
	"testing"
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

// Long skips the test unless SENBON_LONG is set to something other than "" or "0"; why says what it takes.
func Long(tb testing.TB, why string) {
	tb.Helper()
	if v := os.Getenv("SENBON_LONG"); v == "" || v == "0" {
		tb.Skipf("long test (%s): set SENBON_LONG=1 to run it", why)
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

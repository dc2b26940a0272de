package cache_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests in memory where it can: they make and remove many small files, and what is to survive a
// power cut is tested apart.
func TestMain(m *testing.M) {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	goleak.VerifyTestMain(m)
}

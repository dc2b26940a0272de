//go:build unix

package server

import (
	"syscall"
	"testing"
	"time"
)

// usedCPU returns the CPU time that this process has taken, in and outside of the system.
func usedCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

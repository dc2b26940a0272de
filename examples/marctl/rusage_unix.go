//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"
)

// peakMemory returns the largest resident memory of an ended process in kilobytes, or 0 where it is not known.
func peakMemory(p *os.ProcessState) int64 {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss) >> 10 //nolint:unconvert // bytes there, and an int32 on some systems
	}
	return int64(u.Maxrss) //nolint:unconvert // an int32 on some systems
}

package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine asks the kernel: the least of the machine's memory and that of the control group.
func machine() hardware {
	var h hardware
	if f, err := os.Open("/proc/meminfo"); err == nil {
		s := bufio.NewScanner(f)
		for s.Scan() {
			if fields := strings.Fields(s.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
				if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
					h.memory = n << 10
				}
			}
		}
		f.Close()
	}
	if data, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
			h.memory = min(h.memory, n)
		}
	}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		h.files = int64(min(r.Cur, 1<<40)) //nolint:gosec // bounded
	}
	return h
}

// freeBytes is what an ordinary user may still write.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // int32 on 32-bit machines
}

// clockState says whether the kernel's clock is kept right by something, and how far off it may be.
func clockState() (synced bool, off time.Duration, err error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, 0, err
	}
	const timeError = 5 // TIME_ERROR of adjtimex(2)
	return state != timeError && t.Status&unix.STA_UNSYNC == 0, time.Duration(t.Esterror) * time.Microsecond, nil
}

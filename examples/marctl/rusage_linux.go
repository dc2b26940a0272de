package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// watchMemory looks at the peak memory of a process every few milliseconds, without that of its parent, which the system's
// count has for a floor. The function that it returns ends that, and returns the largest seen in kilobytes, 0 for none.
func watchMemory(pid int) func() int64 {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	var most int64
	name := "/proc/" + strconv.Itoa(pid) + "/status"
	ended.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, memoryOf(name))
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	return func() int64 {
		close(stop)
		ended.Wait()
		return most
	}
}

// ownPeak is the peak memory of this process in kilobytes.
func ownPeak() int64 { return memoryOf("/proc/self/status") }

func memoryOf(name string) int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb
		}
	}
	return 0
}

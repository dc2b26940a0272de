package plugins

import (
	"errors"

	"golang.org/x/sys/unix"
)

// canWaitFirst says that waitable waits: when it returned, the process has ended but its number, which is its
// group's, is not yet free for others.
const canWaitFirst = true

func waitable(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

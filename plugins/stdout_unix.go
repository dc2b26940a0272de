//go:build unix

package plugins

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownStdout takes file descriptor 1 away from whoever prints to it, C libraries included, and points it to
// standard error. The file it returns is the real standard output.
func ownStdout() (*os.File, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take over standard output: %w", err)
	}
	if err := dup2(2, 1); err != nil {
		return nil, fmt.Errorf("take over standard output: %w", err)
	}
	return os.NewFile(uintptr(fd), "stdout"), nil
}

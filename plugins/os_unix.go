//go:build unix

package plugins

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// setGroup makes the child the leader of its own process group, so that it can be ended with its children.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithHost(cmd.SysProcAttr)
}

// killGroup ends the process and everything in its group.
func killGroup(p *os.Process) {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil {
		_ = p.Kill() // it is gone, or was never a leader
	}
}

// busy says whether starting failed because a fork elsewhere still holds the file open for writing: that
// passes within moments.
func busy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }

func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// mine says whether a file belongs to this user.
func mine(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

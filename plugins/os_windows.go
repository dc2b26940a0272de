package plugins

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

func setGroup(*exec.Cmd) {}

func killGroup(p *os.Process) { _ = p.Kill() }

func busy(error) bool { return false }

func lockFile(*os.File) error { return nil }

// mine is false: nothing is swept on Windows, where an open file would not tell that its owner lives.
func mine(fs.FileInfo) bool { return false }

// ownStdout leaves the descriptor as it is; os.Stdout is what Go code prints to.
func ownStdout() (*os.File, error) {
	if os.Stdout == nil {
		return nil, errors.New("no standard output")
	}
	return os.Stdout, nil
}

// dieWithHost does nothing on Windows.
func dieWithHost(*syscall.SysProcAttr) {}

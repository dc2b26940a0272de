//go:build unix

package cache

import (
	"errors"
	"io/fs"
	"syscall"
)

// noSpace says whether the operating system refused for lack of space.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// crossDevice says whether a rename was refused because it leaves the file system.
func crossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }

// isLink says whether a file was not opened because it is a symbolic link.
func isLink(err error) bool { return errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) }

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

func hardLinks(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(sys.Nlink) //nolint:unconvert // it has other types on other systems
	}
	return 1
}

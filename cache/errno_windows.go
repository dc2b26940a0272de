package cache

import (
	"errors"
	"io/fs"
	"syscall"
)

const (
	errorNotSameDevice = syscall.Errno(17)
	errorDiskFull      = syscall.Errno(112)
)

func noSpace(err error) bool { return errors.Is(err, errorDiskFull) }

func crossDevice(err error) bool { return errors.Is(err, errorNotSameDevice) }

func isLink(error) bool { return false }

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

func hardLinks(fs.FileInfo) uint64 { return 1 }

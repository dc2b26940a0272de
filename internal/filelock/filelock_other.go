//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || illumos || windows)

package filelock

import "os"

func tryLock(*os.File) (bool, error) { return true, nil }

func unlock(*os.File) error { return nil }

func tryLockDir(f *os.File) (free func() error, ok bool, err error) {
	ok, err = tryLock(f)
	return func() error { return unlock(f) }, ok, err
}

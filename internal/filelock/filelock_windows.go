package filelock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

func unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, new(windows.Overlapped))
}

// tryLockDir does not lock the directory, which Windows cannot, but a name made of what the system knows it by: as an event,
// which is there until the last process that has it open ends or closes it.
func tryLockDir(f *os.File) (free func() error, ok bool, err error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return nil, false, err
	}
	name, err := windows.UTF16PtrFromString(fmt.Sprintf(`Global\senbonzakura-%x-%x-%x`, info.VolumeSerialNumber, info.FileIndexHigh, info.FileIndexLow))
	if err != nil {
		return nil, false, err
	}
	event, err := windows.CreateEvent(nil, 0, 0, name)
	switch {
	case err == nil:
		return func() error { return windows.CloseHandle(event) }, true, nil
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS):
		return nil, false, windows.CloseHandle(event)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED): // another user has it
		return nil, false, nil
	}
	return nil, false, err
}

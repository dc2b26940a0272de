// Package filelock locks files and directories between processes without ever blocking in the kernel, so that a wait can end
// with its context.
//
// Locks are advisory: they hold among processes that ask. They vanish with the process that holds them, however
// it ends. On network file systems they may not work. Where the platform has no such locks, every attempt
// succeeds.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrBusy is returned by [Try] and [TryDir] when another open file holds the lock.
var ErrBusy = errors.New("lock is held by another process")

// Lock is a held lock.
type Lock struct {
	f    *os.File
	free func() error
}

// Try opens the file, creating it when absent, and locks it exclusively. It returns [ErrBusy] when the lock is
// held through another open file, in this process or another.
func Try(name string) (*Lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	switch {
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	case !ok:
		f.Close()
		return nil, ErrBusy
	}
	return &Lock{f, func() error { return unlock(f) }}, nil
}

// TryDir locks an open directory exclusively, without writing anything into it. It returns [ErrBusy] when the lock is held
// through another open file, in this process or another. It takes the directory over: it is closed by Unlock, or at once
// after an error.
func TryDir(dir *os.File) (*Lock, error) {
	free, ok, err := tryLockDir(dir)
	switch {
	case err != nil:
		err = fmt.Errorf("lock %s: %w", dir.Name(), err)
	case !ok:
		err = ErrBusy
	default:
		return &Lock{dir, free}, nil
	}
	dir.Close()
	return nil, err
}

// Acquire is [Try] again and again until the lock is free or ctx ends; then it returns the context's error.
func Acquire(ctx context.Context, name string) (*Lock, error) {
	const shortest, longest = 200 * time.Microsecond, 20 * time.Millisecond
	for wait := shortest; ; wait = min(2*wait, longest) {
		l, err := Try(name)
		if !errors.Is(err, ErrBusy) {
			return l, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for lock %s: %w", name, context.Cause(ctx))
		}
	}
}

// Unlock frees the lock. A second call does nothing.
func (l *Lock) Unlock() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	// Closing frees the lock as well, unless it fails.
	return errors.Join(l.free(), f.Close())
}

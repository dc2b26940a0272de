// Package faultfs makes file operations fail, one by one, to show that what is built on them survives.
package faultfs

import (
	"io/fs"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// Op is one file operation about to happen.
type Op struct {
	N    int    // how many came before it
	Name string // "open", "write", "read", "sync", "truncate", "close", "fstat", "mkdir", "rename", "remove", "lstat", "readdir", "chtimes", "syncdir"
	Path string
}

// Fault is what happens to an operation instead.
type Fault struct {
	Err error
	// Short lets a write store the first half of its bytes before it fails.
	Short bool
	// After lets the operation happen and fails then, as when an acknowledgement is lost.
	After bool
}

// FS is a file system of which some operations fail. It is safe for concurrent use.
type FS struct {
	under osfs.FS
	plan  func(Op) *Fault

	mu     sync.Mutex
	n      int
	faults int
}

// New returns a file system that asks plan about every operation; nil lets it happen. plan is called with one
// operation at a time.
func New(under osfs.FS, plan func(Op) *Fault) *FS { return &FS{under: under, plan: plan} }

// Ops returns how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Faults returns how many of them failed by plan.
func (f *FS) Faults() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults
}

func (f *FS) ask(name, path string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.plan(Op{f.n, name, path})
	f.n++
	if fault != nil {
		f.faults++
	}
	return fault
}

// do runs an operation, or its fault.
func (f *FS) do(name, path string, op func() error) error {
	fault := f.ask(name, path)
	if fault == nil {
		return op()
	}
	if fault.After {
		if err := op(); err != nil {
			return err
		}
	}
	return &fs.PathError{Op: name, Path: path, Err: fault.Err}
}

// OpenFile implements [osfs.FS].
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (osfs.File, error) {
	var opened osfs.File
	err := f.do("open", name, func() (err error) {
		opened, err = f.under.OpenFile(name, flag, perm)
		return err
	})
	if err != nil {
		if opened != nil {
			opened.Close()
		}
		return nil, err
	}
	return &file{opened, f}, nil
}

// Mkdir implements [osfs.FS].
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.do("mkdir", name, func() error { return f.under.Mkdir(name, perm) })
}

// Rename implements [osfs.FS].
func (f *FS) Rename(oldname, newname string) error {
	return f.do("rename", newname, func() error { return f.under.Rename(oldname, newname) })
}

// Remove implements [osfs.FS].
func (f *FS) Remove(name string) error {
	return f.do("remove", name, func() error { return f.under.Remove(name) })
}

// Lstat implements [osfs.FS].
func (f *FS) Lstat(name string) (st fs.FileInfo, err error) {
	err = f.do("lstat", name, func() (err error) { st, err = f.under.Lstat(name); return err })
	return st, err
}

// ReadDir implements [osfs.FS].
func (f *FS) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = f.do("readdir", name, func() (err error) { list, err = f.under.ReadDir(name); return err })
	return list, err
}

// Chtimes implements [osfs.FS].
func (f *FS) Chtimes(name string, atime, mtime time.Time) error {
	return f.do("chtimes", name, func() error { return f.under.Chtimes(name, atime, mtime) })
}

// SyncDir implements [osfs.FS].
func (f *FS) SyncDir(name string) error {
	return f.do("syncdir", name, func() error { return f.under.SyncDir(name) })
}

type file struct {
	osfs.File
	fs *FS
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	fault := f.fs.ask("write", f.Name())
	switch {
	case fault == nil:
		return f.File.WriteAt(p, off)
	case fault.Short:
		n, _ = f.File.WriteAt(p[:len(p)/2], off)
	case fault.After:
		n, _ = f.File.WriteAt(p, off)
	}
	return n, &fs.PathError{Op: "write", Path: f.Name(), Err: fault.Err}
}

func (f *file) Write(p []byte) (n int, err error) {
	fault := f.fs.ask("write", f.Name())
	switch {
	case fault == nil:
		return f.File.Write(p)
	case fault.Short:
		n, _ = f.File.Write(p[:len(p)/2])
	case fault.After:
		n, _ = f.File.Write(p)
	}
	return n, &fs.PathError{Op: "write", Path: f.Name(), Err: fault.Err}
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	if fault := f.fs.ask("read", f.Name()); fault != nil {
		return 0, &fs.PathError{Op: "read", Path: f.Name(), Err: fault.Err}
	}
	return f.File.ReadAt(p, off)
}

func (f *file) Sync() error { return f.fs.do("sync", f.Name(), f.File.Sync) }

func (f *file) Truncate(size int64) error {
	return f.fs.do("truncate", f.Name(), func() error { return f.File.Truncate(size) })
}

func (f *file) Stat() (st fs.FileInfo, err error) {
	err = f.fs.do("fstat", f.Name(), func() (err error) { st, err = f.File.Stat(); return err })
	return st, err
}

func (f *file) Close() error {
	fault := f.fs.ask("close", f.Name())
	err := f.File.Close() // in any case: descriptors must not leak
	if fault != nil {
		return &fs.PathError{Op: "close", Path: f.Name(), Err: fault.Err}
	}
	return err
}

// WithoutSync returns a file system on which Sync and SyncDir do nothing, for tests that cut no power and want to be
// fast, and for those that show what a missing sync does.
func WithoutSync(under osfs.FS) osfs.FS { return unsynced{under} }

type unsynced struct{ osfs.FS }

func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (osfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (unsynced) SyncDir(string) error { return nil }

type unsyncedFile struct{ osfs.File }

func (unsyncedFile) Sync() error { return nil }

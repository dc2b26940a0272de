// Package osfs holds the file operations that a durable store needs, behind an interface that tests can make fail.
//
// Atomic and durable are two promises. Rename makes a change atomic: other processes see the old state or the new
// one. Sync of the file before the rename, and of the directory after it, makes it durable. Without the first one a
// power cut may leave the new name with missing bytes.
package osfs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// File is an open file. [*os.File] implements it.
type File interface {
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// FS is the set of file operations that a durable store needs. Names are paths as package os takes them. An FS
// must be safe for concurrent use.
type FS interface {
	// OpenFile is [os.OpenFile]; it must not follow a symbolic link in the last element where the platform
	// can refuse to.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Mkdir is [os.Mkdir].
	Mkdir(name string, perm fs.FileMode) error
	// Rename is [os.Rename]: it replaces the target in one step.
	Rename(oldname, newname string) error
	// Remove is [os.Remove].
	Remove(name string) error
	// Lstat is [os.Lstat].
	Lstat(name string) (fs.FileInfo, error)
	// ReadDir is [os.ReadDir].
	ReadDir(name string) ([]fs.DirEntry, error)
	// Chtimes is [os.Chtimes].
	Chtimes(name string, atime, mtime time.Time) error
	// SyncDir makes renames and creations in the directory durable. It does nothing on platforms that cannot
	// open directories for it.
	SyncDir(name string) error
}

// OS is the file system of the operating system.
type OS struct{}

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag|noFollow, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir implements [FS].
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename implements [FS].
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// Lstat implements [FS].
func (OS) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

// ReadDir implements [FS].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Chtimes implements [FS].
func (OS) Chtimes(name string, atime, mtime time.Time) error { return os.Chtimes(name, atime, mtime) }

// SyncDir implements [FS].
func (OS) SyncDir(name string) error {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || runtime.GOOS == "js" {
		return nil // directories cannot be opened for syncing there
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// WriteFile makes data the content of a file, as [Replace] does.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	return Replace(fsys, name, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// maxName is the longest name in bytes that file systems take.
const maxName = 255

// Replace makes what write produces the content of a file, with the permission bits perm (before umask), so that the name
// stands either for what it stood for before or for all of it, and so that the change survives a power cut once Replace
// has returned nil. The temporary file, ".NAME-RANDOM.tmp" with as much of the name as has room, stands in the same
// directory and is removed on every error.
func Replace(fsys FS, name string, perm fs.FileMode, write func(w io.Writer) error) error {
	var suffix [8]byte
	rand.Read(suffix[:]) // never fails
	dir, base := filepath.Split(name)
	dir = filepath.Clean(dir)
	random := "-" + hex.EncodeToString(suffix[:]) + ".tmp"
	if most := maxName - len(".") - len(random); len(base) > most {
		base = strings.ToValidUTF8(base[:most], "")
	}
	temp := filepath.Join(dir, "."+base+random)
	f, err := fsys.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return fsys.SyncDir(dir)
}

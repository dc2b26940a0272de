package updater

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// A filesystem is what Apply needs of an os.Root. Every method is one step after which the process may die.
type filesystem interface {
	Lstat(name string) (fs.FileInfo, error)
	Stat(name string) (fs.FileInfo, error)
	OpenFile(name string, flag int, perm fs.FileMode) (file, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	Chmod(name string, mode fs.FileMode) error
	SyncDir(name string) error
}

// A file is what Apply needs of an *os.File.
type file interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// rootFS is a filesystem in a directory, which is never left, not even through links.
type rootFS struct{ *os.Root }

func (r rootFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	f, err := r.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (r rootFS) Remove(name string) error { return osfs.RemoveIn(r.Root, name) }

func (r rootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

// SyncDir makes renames in a directory last. Where directories cannot be synced, it does what can be done: nothing.
func (r rootFS) SyncDir(name string) error {
	f, err := r.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// absent reports whether an error says that there is nothing at a path.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// A diskTree is a directory to be updated. It does not show the work directory.
type diskTree struct{ fs filesystem }

func (t diskTree) Stat(p string) (NodeKind, error) {
	info, err := t.fs.Lstat(p)
	switch {
	case absent(err):
		return NodeNone, nil
	case err != nil:
		return 0, err
	case info.IsDir():
		return NodeDir, nil
	case info.Mode()&fs.ModeSymlink == 0:
		return NodeFile, nil
	}
	info, err = t.fs.Stat(p)
	switch {
	case absent(err):
		return NodeNone, nil // dangling: access(2) does not see it either
	case err != nil:
		return 0, err
	case info.IsDir():
		return NodeDirLink, nil
	}
	return NodeFile, nil
}

func (t diskTree) Below(p string) ([]string, error) {
	list, err := t.fs.ReadDir(p)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range list {
		name := d.Name()
		if p != "." {
			name = p + "/" + name
		} else if strings.EqualFold(name, WorkDir) {
			continue
		}
		if !d.IsDir() {
			names = append(names, name)
			continue
		}
		inside, err := t.Below(name)
		if err != nil {
			return nil, err
		}
		names = append(append(names, inside...), name+"/")
	}
	return names, nil
}

func (t diskTree) Read(p string) ([]byte, error) {
	f, err := openRegular(t.fs, p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, ManifestLimit+1))
	if err == nil && len(data) > ManifestLimit {
		err = fmt.Errorf("%q: %w: more than %d bytes", p, ErrLimit, ManifestLimit)
	}
	return data, err
}

// openRegular opens a regular file for reading. It does not block on others.
func openRegular(fsys filesystem, name string) (file, error) {
	info, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", name)
	}
	return fsys.OpenFile(name, os.O_RDONLY, 0)
}

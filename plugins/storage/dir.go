package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// Dir is a Backend that keeps each object as a file below a directory, on a local file system with hard links:
//
//	tmp/<random>           objects that are being written
//	objects/ab/cd/name~    the object "ab/cd/name": its bytes, then a record of 48
//
//	record: "SBZOBJ1\n" | size, 8 bytes, big-endian | SHA-256, 32 bytes
//
// An object appears whole, by a hard link that fails where the name is taken; before that, its bytes are on
// the disk, and after it the directory's entry is. So any number of processes on one machine may share the
// directory. The "~", which no object's name has, keeps files and directories apart. File systems that do not
// tell upper from lower case (macOS) do not tell such objects apart either. Safe for concurrent use.
type Dir struct {
	root *os.Root
}

const (
	dirMagic  = "SBZOBJ1\n"
	recordLen = len(dirMagic) + 8 + 32
	fileMark  = "~"
)

// NewDir returns a backend over a directory. It takes over root: Close closes it. What killed processes left in
// tmp is not removed while others may be writing there; that is for whoever starts the first process.
func NewDir(root *os.Root) (*Dir, error) {
	for _, name := range []string{"tmp", "objects"} {
		if err := root.MkdirAll(name, 0o700); err != nil {
			return nil, fmt.Errorf("storage directory: %w", err)
		}
	}
	return &Dir{root: root}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Info implements Backend.
func (d *Dir) Info(context.Context) (Info, error) {
	return Info{Name: "storage-dir", Version: "1.0"}, nil
}

func file(name string) string { return "objects/" + name + fileMark }

// open opens an object's file and reads its record.
func (d *Dir) open(name string) (*os.File, Object, error) {
	f, err := d.root.Open(file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Object{}, fmt.Errorf("object %s: %w", name, plugins.ErrNotFound)
	}
	if err != nil {
		return nil, Object{}, fmt.Errorf("object %s: %w", name, err)
	}
	o, err := readRecord(f, name)
	if err != nil {
		f.Close()
		return nil, Object{}, err
	}
	return f, o, nil
}

func readRecord(f *os.File, name string) (Object, error) {
	info, err := f.Stat()
	if err != nil {
		return Object{}, fmt.Errorf("object %s: %w", name, err)
	}
	o := Object{Name: name, Size: info.Size() - int64(recordLen)}
	record := make([]byte, recordLen)
	if o.Size >= 0 {
		if _, err := f.ReadAt(record, o.Size); err != nil {
			return Object{}, fmt.Errorf("object %s: %w", name, err)
		}
	}
	if o.Size < 0 || !bytes.HasPrefix(record, []byte(dirMagic)) || int64(binary.BigEndian.Uint64(record[len(dirMagic):])) != o.Size {
		return Object{}, fmt.Errorf("object %s: the file is damaged: %w", name, plugins.ErrCorrupt)
	}
	copy(o.SHA256[:], record[len(dirMagic)+8:])
	return o, nil
}

// Stat implements Backend.
func (d *Dir) Stat(_ context.Context, name string) (Object, error) {
	f, o, err := d.open(name)
	if err != nil {
		return Object{}, err
	}
	return o, f.Close()
}

// Get implements Backend.
func (d *Dir) Get(_ context.Context, name string, offset, length int64) (Object, io.ReadCloser, error) {
	f, o, err := d.open(name)
	if err != nil {
		return Object{}, nil, err
	}
	size, err := partSize(o, offset, length)
	if err != nil {
		f.Close()
		return Object{}, nil, err
	}
	return o, struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, size), f}, nil
}

// PutIfAbsent implements Backend.
func (d *Dir) PutIfAbsent(ctx context.Context, o Object, r io.Reader) (_ Object, created bool, err error) {
	if there, err := d.Stat(ctx, o.Name); !errors.Is(err, plugins.ErrNotFound) {
		return there, false, err
	}
	tmp := "tmp/" + rand.Text()
	f, err := d.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Object{}, false, fmt.Errorf("object %s: %w", o.Name, err)
	}
	defer func() {
		f.Close()
		if rerr := d.root.Remove(tmp); err == nil {
			err = rerr
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return Object{}, false, err
	}
	record := append([]byte(dirMagic), binary.BigEndian.AppendUint64(nil, uint64(o.Size))...)
	_, err = f.Write(append(record, o.SHA256[:]...))
	if err = errors.Join(err, f.Sync()); err != nil {
		return Object{}, false, fmt.Errorf("object %s: %w", o.Name, err)
	}
	parent := path.Dir(file(o.Name))
	if err := d.root.MkdirAll(parent, 0o700); err != nil {
		return Object{}, false, fmt.Errorf("object %s: %w", o.Name, err)
	}
	err = d.root.Link(tmp, file(o.Name))
	if errors.Is(err, fs.ErrExist) {
		there, err := d.Stat(ctx, o.Name)
		return there, false, err
	}
	if err != nil {
		return Object{}, false, fmt.Errorf("object %s: %w", o.Name, err)
	}
	for dir := parent; ; dir = path.Dir(dir) { // the entries of new directories have to last as well
		if err := d.syncDir(dir); err != nil {
			return Object{}, false, fmt.Errorf("object %s: %w", o.Name, err)
		}
		if dir == "objects" {
			return o, true, nil
		}
	}
}

func (d *Dir) syncDir(name string) error {
	if runtime.GOOS == "windows" { // cannot do it, need not
		return nil
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Delete implements Backend.
func (d *Dir) Delete(_ context.Context, name string) error {
	if err := d.root.Remove(file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("object %s: %w", name, err)
	}
	return nil
}

// List implements Backend. The cursor is the last name of the page.
func (d *Dir) List(ctx context.Context, prefix, cursor string, limit int) ([]Object, string, error) {
	var names []string
	if err := d.walk(ctx, "", prefix, cursor, limit+1, &names); err != nil {
		return nil, "", err
	}
	next := ""
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	var out []Object
	for _, name := range names {
		o, err := d.Stat(ctx, name)
		if errors.Is(err, plugins.ErrNotFound) {
			continue // it was deleted in between
		}
		if err != nil && !errors.Is(err, plugins.ErrCorrupt) {
			return nil, "", err
		}
		if err == nil {
			out = append(out, o)
		}
	}
	if len(out) == 0 && next != "" { // all of them are gone
		return d.List(ctx, prefix, next, limit)
	}
	return out, next, nil
}

// walk appends the names in a directory that begin with prefix and come after cursor, in order, until there
// are max of them. dir is "" or ends with a slash.
func (d *Dir) walk(ctx context.Context, dir, prefix, cursor string, max int, names *[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := d.root.Open(path.Join("objects", dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return dir + e.Name() + "/"
		}
		return dir + strings.TrimSuffix(e.Name(), fileMark)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(key(a), key(b)) })
	for _, e := range entries {
		k := key(e)
		switch {
		case len(*names) >= max:
			return nil
		case e.IsDir():
			// Something below k may begin with prefix only when one begins with the other, and come after
			// cursor only when k is not wholly before it.
			if (strings.HasPrefix(k, prefix) || strings.HasPrefix(prefix, k)) && (k > cursor || strings.HasPrefix(cursor, k)) {
				if err := d.walk(ctx, k, prefix, cursor, max, names); err != nil {
					return err
				}
			}
		case strings.HasSuffix(e.Name(), fileMark) && strings.HasPrefix(k, prefix) && k > cursor:
			*names = append(*names, k)
		}
	}
	return nil
}

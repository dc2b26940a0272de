package mar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

var (
	_ fs.ReadDirFS  = (*Reader)(nil)
	_ fs.ReadFileFS = (*Reader)(nil)
	_ fs.StatFS     = (*Reader)(nil)
)

// Open opens an entry, or a directory of entries, as part of an [io/fs.FS]. Contents are the stored bytes,
// without any decompression. Modes are permission bits, times are zero. What a file returns is an
// [io.ReaderAt] and an [io.Seeker] too.
func (r *Reader) Open(name string) (fs.File, error) {
	info, err := r.stat("open", name)
	if err != nil {
		return nil, err
	}
	if info.file == nil {
		return &directory{info: info, name: name, r: r}, nil
	}
	return &stored{f: info.file, s: info.file.Section()}, nil
}

// Stat describes an entry or a directory of entries. Sys returns the [*File], or nil for a directory.
func (r *Reader) Stat(name string) (fs.FileInfo, error) {
	info, err := r.stat("stat", name)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// ReadFile returns an entry's stored bytes.
func (r *Reader) ReadFile(name string) ([]byte, error) {
	info, err := r.stat("read", name)
	if err != nil {
		return nil, err
	}
	if info.file == nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsDirectory}
	}
	data := make([]byte, info.file.Size) // the range was checked to be inside the file
	if err := r.scan.read(data, info.file.Offset, "entry"); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

// ReadDir lists a directory of entries, sorted by name.
func (r *Reader) ReadDir(name string) ([]fs.DirEntry, error) {
	info, err := r.stat("readdir", name)
	if err != nil {
		return nil, err
	}
	if info.file != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	var list []fs.DirEntry
	sorted := r.scan.sorted
	prefix := 0
	if name != "." {
		prefix = len(name) + 1
	}
	for i, ok := under(sorted, name); ok && i < len(sorted) && compareUnder(sorted[i].Name, name) == 0; {
		full := sorted[i].Name
		child, _, deeper := strings.Cut(full[prefix:], "/")
		full = full[:prefix+len(child)]
		if !deeper {
			list = append(list, fs.FileInfoToDirEntry(fileInfo{name: child, file: sorted[i]}))
			for i++; i < len(sorted) && sorted[i].Name == full; i++ { // duplicates that were allowed
			}
			continue
		}
		if r.Lookup(full) == nil { // a file of that name comes first
			list = append(list, fs.FileInfoToDirEntry(fileInfo{name: child}))
		}
		// Jump behind everything below the directory.
		n, _ := slices.BinarySearchFunc(sorted[i:], full, func(f *File, dir string) int {
			if compareUnder(f.Name, dir) <= 0 {
				return -1
			}
			return 1
		})
		i += n
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

var errIsDirectory = errors.New("is a directory")

func (r *Reader) stat(op, name string) (fileInfo, error) {
	if !fs.ValidPath(name) {
		return fileInfo{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return fileInfo{name: "."}, nil
	}
	if nameProblem(name) == "" {
		if f := r.Lookup(name); f != nil {
			return fileInfo{name: path.Base(name), file: f}, nil
		}
		if _, ok := under(r.scan.sorted, name); ok {
			for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
				if r.Lookup(dir) != nil { // below a file: the reader was told to allow that
					return fileInfo{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
				}
			}
			return fileInfo{name: path.Base(name)}, nil
		}
	}
	return fileInfo{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// fileInfo describes an entry, or a directory where file is nil.
type fileInfo struct {
	name string
	file *File
}

func (i fileInfo) Name() string { return i.name }
func (i fileInfo) Size() int64 {
	if i.file == nil {
		return 0
	}
	return i.file.Size
}

func (i fileInfo) Mode() fs.FileMode {
	if i.file == nil {
		return fs.ModeDir | 0o555
	}
	return i.file.Mode & fs.ModePerm
}
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.file == nil }
func (i fileInfo) Sys() any {
	if i.file == nil {
		return nil
	}
	return i.file
}

// stored is an open entry.
type stored struct {
	f *File
	s *io.SectionReader
}

func (o *stored) Stat() (fs.FileInfo, error) {
	return fileInfo{name: path.Base(o.f.Name), file: o.f}, nil
}
func (o *stored) Close() error { return nil }

func (o *stored) Read(p []byte) (int, error) {
	pos, err := o.s.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := o.s.Read(p)
	return n, o.check(pos+int64(n), err)
}

func (o *stored) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.s.ReadAt(p, off)
	return n, o.check(off+int64(n), err)
}

func (o *stored) Seek(offset int64, whence int) (int64, error) { return o.s.Seek(offset, whence) }

// check turns an end of the archive in the middle of an entry into an error.
func (o *stored) check(pos int64, err error) error {
	if errors.Is(err, io.EOF) && pos < o.f.Size {
		return fmt.Errorf("mar: entry %q: %w", o.f.Name, io.ErrUnexpectedEOF)
	}
	return err
}

// directory is an open directory of entries.
type directory struct {
	info fileInfo
	name string
	r    *Reader
	list []fs.DirEntry
	read bool
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }
func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errIsDirectory}
}

func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.r.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.list, d.read = list, true
	}
	list := d.list
	if n > 0 {
		if len(list) == 0 {
			return nil, io.EOF
		}
		list = list[:min(n, len(list))]
	}
	d.list = d.list[len(list):]
	return slices.Clone(list), nil
}

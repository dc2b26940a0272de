package mar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// ExtractOptions say how [Reader.Extract] writes files. The zero value writes all entries as they are stored.
type ExtractOptions struct {
	// Select chooses the entries to write; nil chooses all.
	Select func(*File) bool
	// Content opens what is written for an entry, for example decompressed; nil means the stored bytes. How
	// much it yields is for Content to limit.
	Content func(*File) (io.ReadCloser, error)
	// Mode returns the permission bits that a file is made with, less the process' umask; nil means those
	// stored in the archive. [UpdateMode] is another choice. Bits other than the nine are dropped.
	Mode func(*File) fs.FileMode
	// CaseSensitive says that the directory can hold names that differ in case only. Such archives are
	// refused otherwise.
	CaseSensitive bool
}

// Extract writes entries as files below root, and nothing outside of it: names are checked before anything is
// written, directories are made with mode 0755, and a file that exists already is an error that matches
// [io/fs.ErrExist]. If Extract returns an error, it has removed the files and directories that it made; it
// does not sync what it wrote. opts may be nil.
func (r *Reader) Extract(ctx context.Context, root *os.Root, opts *ExtractOptions) error {
	if opts == nil {
		opts = &ExtractOptions{}
	}
	var files []*File
	for _, f := range r.scan.files {
		if opts.Select == nil || opts.Select(f) {
			files = append(files, f)
		}
	}
	if err := checkExtract(files, opts.CaseSensitive); err != nil {
		return err
	}
	x := &extraction{root: root, dirs: map[string]bool{}}
	for _, f := range files {
		if err := x.write(ctx, f, opts); err != nil {
			x.undo()
			return err
		}
	}
	return nil
}

// checkExtract refuses names that a reader can be told to allow but that must not come to a file system.
func checkExtract(files []*File, caseSensitive bool) error {
	problem := func(code Code, f *File, format string, args ...any) error {
		return &FormatError{Code: code, Offset: f.Offset, Name: f.Name, Detail: fmt.Sprintf(format, args...)}
	}
	sorted := slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range sorted {
		if reason := nameProblem(f.Name); reason != "" {
			return problem(CodeName, f, "%s", reason)
		}
		if i > 0 && sorted[i-1].Name == f.Name {
			return problem(CodeDuplicate, f, "another entry has the same name")
		}
		if j, ok := under(sorted, f.Name); ok {
			return problem(CodeConflict, f, "name is a directory in that of entry %q", sorted[j].Name)
		}
	}
	if caseSensitive {
		return nil
	}
	return caseCollisions(sorted, func(a, b *File) error {
		return problem(CodeCase, b, "name differs in case only from %q", a.Name)
	})
}

// extraction remembers what it made.
type extraction struct {
	root *os.Root
	dirs map[string]bool // known to exist
	made []string        // in order of making
}

func (x *extraction) undo() {
	for _, name := range slices.Backward(x.made) {
		// A directory stays if somebody else put something into it.
		_ = x.root.Remove(name)
	}
}

// parents makes the directories above a file.
func (x *extraction) parents(name string) error {
	for i := range len(name) {
		dir := name[:i]
		if name[i] != '/' || x.dirs[dir] {
			continue
		}
		switch err := x.root.Mkdir(dir, 0o755); {
		case err == nil:
			x.made = append(x.made, dir)
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("mar: entry %q: %w", name, err)
		}
		x.dirs[dir] = true
	}
	return nil
}

func (x *extraction) write(ctx context.Context, f *File, opts *ExtractOptions) (err error) {
	if err := x.parents(f.Name); err != nil {
		return err
	}
	mode := f.Mode
	if opts.Mode != nil {
		mode = opts.Mode(f)
	}
	out, err := x.root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&fs.ModePerm)
	if err != nil {
		return fmt.Errorf("mar: entry %q: %w", f.Name, err)
	}
	x.made = append(x.made, f.Name)
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("mar: entry %q: %w", f.Name, cerr)
		}
	}()
	if opts.Content == nil {
		return copyEntry(ctx, out, Entry{Header: f.Header, Open: f.Open}, make([]byte, min(f.Size+1, bufferSize)))
	}
	in, err := opts.Content(f)
	if err != nil {
		return fmt.Errorf("mar: entry %q: %w", f.Name, err)
	}
	defer in.Close()
	if err := copyAll(ctx, out, in, make([]byte, bufferSize)); err != nil {
		return fmt.Errorf("mar: entry %q: %w", f.Name, err)
	}
	return nil
}

// copyAll copies until the end of in.
func copyAll(ctx context.Context, out io.Writer, in io.Reader, buf []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Through the buffer even if out could read on its own: that could not be stopped.
		n, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{io.LimitReader(in, int64(len(buf)))}, buf)
		if err != nil || n < int64(len(buf)) {
			return err
		}
	}
}

// UpdateMode returns the mode that Mozilla's packaging gives to an entry: 0755 for a file that somebody may
// execute, 0644 for any other.
func UpdateMode(mode fs.FileMode) fs.FileMode {
	if Executable(mode) {
		return 0o755
	}
	return 0o644
}

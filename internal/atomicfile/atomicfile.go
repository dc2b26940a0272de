// Package atomicfile writes files that are never seen half-written.
//
// It is [osfs.Replace] for programs: a reader of the target sees the old file or the new one, whole. When [Write]
// returns nil the new file also survives a power cut. After an error the target is as it was and the temporary file
// is gone; only a killed process can leave one behind, named like the target with a leading dot and the suffix ".tmp"
// behind a random part.
package atomicfile

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
	"github.com/senbonzakura/senbonzakura/internal/stream"
)

// Write replaces the file at path by what write produces. A new file has the permission bits perm (before umask), one
// that takes the place of another has those of the other. A symbolic link is followed, as cp does: the file that it leads
// to is replaced. The writer passed to write is buffered; it fails once ctx has ended, so a cancelled job leaves nothing
// behind. Safe for concurrent use, also on the same path: the last rename wins. What [Check] refuses is refused.
func Write(ctx context.Context, path string, perm fs.FileMode, write func(w io.Writer) error) error {
	path, old, err := target(path)
	if err != nil {
		return err
	}
	if old != nil {
		perm = old.Mode().Perm()
	}
	return osfs.Replace(osfs.OS{}, path, perm, func(w io.Writer) error {
		if f, ok := w.(interface{ Chmod(mode fs.FileMode) error }); ok && old != nil {
			if err := f.Chmod(perm); err != nil { // which umask may have narrowed
				return err
			}
		}
		buffered := bufio.NewWriterSize(stream.NewWriter(ctx, w), 1<<18)
		if err := write(buffered); err != nil {
			return err
		}
		if err := buffered.Flush(); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// Check returns why [Write] would not write to path, as far as that shows before anything is made: its directory is not
// there, it is something else than a regular file, or a symbolic link that leads nowhere. Renaming over a device would take
// it away from everybody.
func Check(path string) error {
	_, _, err := target(path)
	return err
}

// target returns the file that path leads to, and what is there: nil where there is nothing yet.
func target(path string) (string, fs.FileInfo, error) {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", nil, err
	}
	link, err := os.Lstat(path)
	if err == nil && link.Mode()&fs.ModeSymlink != 0 {
		info, err := os.Stat(path) // which sees pipes that have no name, as /dev/stdout may be, and counts links
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("a symbolic link that leads nowhere")}
		case err == nil && !info.Mode().IsRegular() && !info.IsDir():
			return "", nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
		case err != nil:
			return "", nil, err
		}
		followed, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", nil, err
		}
		path = followed
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil, nil
	case err != nil:
		return "", nil, err
	case info.IsDir():
		return "", nil, &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return "", nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	default:
		return path, info, nil
	}
}

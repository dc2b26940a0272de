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

// Write replaces the file at path by what write produces, with the permission bits perm (before umask). The
// writer passed to write is buffered; it fails once ctx has ended, so a cancelled job leaves nothing behind.
// Safe for concurrent use, also on the same path: the last rename wins. What [Check] refuses is refused.
func Write(ctx context.Context, path string, perm fs.FileMode, write func(w io.Writer) error) error {
	if err := Check(path); err != nil {
		return err
	}
	return osfs.Replace(osfs.OS{}, path, perm, func(w io.Writer) error {
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
// there, or it is something else than a regular file. Renaming over a device would take it away from everybody.
func Check(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	}
	return nil
}

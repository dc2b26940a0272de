// Package atomicfile writes files that are never seen half-written.
//
// The bytes go into a temporary file beside the target, which is flushed to the disk and renamed over it. A
// reader of the target sees the old file or the new one, whole. When [Write] returns nil the new file also
// survives a power cut: file and directory were flushed. After an error the target is as it was and the
// temporary file is gone; only a killed process can leave one behind, named like the target with a leading dot
// and the suffix ".tmp" behind a random part.
package atomicfile

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Write replaces the file at path by what write produces, with the permission bits perm (before umask). The
// writer passed to write is buffered; it fails once ctx has ended, so a cancelled job leaves nothing behind.
// Safe for concurrent use, also on the same path: the last rename wins.
func Write(ctx context.Context, path string, perm fs.FileMode, write func(w io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := create(dir, base, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	buffered := bufio.NewWriterSize(contextWriter{ctx, f}, 1<<18)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// create makes a new file like os.CreateTemp, but with the wanted permission bits under the umask, which
// os.CreateTemp does not offer.
func create(dir, base string, perm fs.FileMode) (*os.File, error) {
	reserved, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("create a temporary file for %s: %w", base, err)
	}
	name := reserved.Name()
	reserved.Close()
	if err := os.Remove(name); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

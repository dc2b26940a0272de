package cache

import (
	"context"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// OpenDiskOn is OpenDisk on another file system and clock.
func OpenDiskOn(ctx context.Context, dir string, o DiskOptions, fsys osfs.FS, now func() time.Time) (*Disk, error) {
	return openDisk(ctx, dir, o, fsys, now)
}

// Path returns where the entry of a key is.
func (d *Disk) Path(k Key) string { return d.path(k) }

// Reserved returns what the directory's usage says about a kind.
func (d *Disk) Reserved(ctx context.Context, kind Kind) (n int64, err error) {
	err = d.locked(ctx, func(u usage) error { n = u[kind]; return nil })
	return n, err
}

// RecordSize is what an entry's file has beyond the value.
const RecordSize = recordSize

package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/filelock"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// Limit bounds one kind of entries on disk.
type Limit struct {
	// Bytes is what all entries of the kind may take on disk, in blocks of 4 KiB, entries being written
	// included.
	Bytes int64
	// Item is the largest value in bytes; zero means Bytes.
	Item int64
	// Age is how long an entry may stay unused before it goes when room is made; zero means for ever. Entries
	// over age are still handed out.
	Age time.Duration
}

// DefaultLimits returns the limits of the kinds of this module. Kinds that are not in it get 1 GiB.
func DefaultLimits() map[Kind]Limit {
	return map[Kind]Limit{
		Completes: {Bytes: 20 << 30},
		Patches:   {Bytes: 10 << 30},
		Partials:  {Bytes: 20 << 30},
		Tools:     {Bytes: 1 << 30},
	}
}

const otherLimit = 1 << 30

// DiskOptions changes a [Disk]. The zero value is ready for use.
type DiskOptions struct {
	// Limits replace those of DefaultLimits kind by kind.
	Limits map[Kind]Limit
	// Log receives a line for every damaged entry and everything else that went wrong without failing a
	// call; nil discards them.
	Log *slog.Logger
}

// Disk keeps values in a directory. It is safe for concurrent use, and any number of them, in any number of
// processes of one user on one machine, may have one directory open at a time. The package comment says what is
// atomic and durable.
type Disk struct {
	dir    string
	mine   string // directory of this Disk's temporary files
	alive  *filelock.Lock
	owner  owner
	fsys   osfs.FS
	now    func() time.Time
	log    *slog.Logger
	limits map[Kind]Limit

	stats  counters
	serial atomic.Int64
	closed atomic.Bool
	gate   chan struct{} // held by the goroutine that holds or wants the directory's lock

	mu      sync.Mutex
	synced  map[string]bool // directories whose names are durable
	damages map[Key]int     // how often an entry was found damaged by this Disk
}

const (
	blockSize = 4096
	// lockWait is how long a call waits for another process that holds the directory's lock. It is held for
	// microseconds, and for as long as it takes to list a kind when room must be made.
	lockWait = time.Minute
	// touchEvery is the granularity of the time of last use, so that reading does not write.
	touchEvery = time.Hour
	// maxDamages is how often one entry may be found damaged before this Disk stops storing it: by then the
	// medium is broken and making the value again each time helps nobody.
	maxDamages = 3
	// What is kept of damaged entries, for a look at what happened to them.
	maxBadFiles = 8
	maxBadBytes = 256 << 20

	layoutVersion = "senbonzakura cache 1\n"
	cacheDirTag   = "Signature: 8a477f597d28d172789f06886806bc55\n" +
		"# This directory is a cache of senbonzakura and may be left out of backups: https://bford.info/cachedir/\n"
)

// OpenDisk opens the cache in a directory, which is made when it is absent. A directory that is not empty and not
// a cache is refused, as is one that others than its owner can write to. What killed processes left behind is
// removed.
func OpenDisk(ctx context.Context, dir string, opts *DiskOptions) (*Disk, error) {
	var o DiskOptions
	if opts != nil {
		o = *opts
	}
	return openDisk(ctx, dir, o, osfs.OS{}, time.Now)
}

func openDisk(ctx context.Context, dir string, o DiskOptions, fsys osfs.FS, now func() time.Time) (*Disk, error) {
	d := &Disk{
		fsys: fsys, now: now, log: o.Log, limits: DefaultLimits(), gate: make(chan struct{}, 1),
		synced: make(map[string]bool), damages: make(map[Key]int),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	for kind, l := range o.Limits {
		if !kind.Valid() {
			return nil, fmt.Errorf("open cache: invalid kind %q", string(kind))
		}
		if l.Bytes <= 0 || l.Item < 0 || l.Age < 0 || l.Item > l.Bytes {
			return nil, fmt.Errorf("open cache: kind %s: limits contradict each other: %+v", kind, l)
		}
		d.limits[kind] = l
	}
	var err error
	if d.dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	if err := d.open(ctx); err != nil {
		if d.alive != nil {
			_ = d.alive.Unlock()
			d.removeTree(d.mine)
		}
		return nil, fmt.Errorf("open cache %s: %w", dir, err)
	}
	return d, nil
}

func (d *Disk) open(ctx context.Context) error {
	if err := d.mkdirAll(d.dir); err != nil {
		return err
	}
	st, err := d.fsys.Lstat(d.dir)
	switch {
	case err != nil:
		return err
	case !st.IsDir():
		return errors.New("not a directory")
	case unsafeMode(st):
		return fmt.Errorf("mode %v lets others than the owner write", st.Mode())
	}
	d.owner = ownerOf(st)
	names, err := d.fsys.ReadDir(d.dir)
	if err != nil {
		return err
	}
	ours := []string{"CACHEDIR.TAG", "bad", "lock", "tmp", "usage", "v1", "version"}
	for _, n := range names {
		if n.Name() == "version" {
			break
		}
		if !slices.Contains(ours, n.Name()) && !strings.HasPrefix(n.Name(), ".") {
			return fmt.Errorf("not a cache: there is no file named version, but one named %s", n.Name())
		}
	}
	return d.locked(ctx, func(u usage) error {
		for _, n := range names {
			if strings.HasPrefix(n.Name(), ".version-") || strings.HasPrefix(n.Name(), ".CACHEDIR.TAG-") {
				_ = d.fsys.Remove(filepath.Join(d.dir, n.Name())) // a process was killed while it made this cache
			}
		}
		if err := d.initFile("version", layoutVersion, true); err != nil {
			return err
		}
		if err := d.initFile("CACHEDIR.TAG", cacheDirTag, false); err != nil {
			return err
		}
		for _, sub := range []string{"v1", "tmp", "bad"} {
			if err := d.mkdir(filepath.Join(d.dir, sub)); err != nil {
				return err
			}
		}
		others, err := d.sweep()
		if err != nil {
			return err
		}
		var id [8]byte
		rand.Read(id[:]) // never fails
		d.mine = filepath.Join(d.dir, "tmp", hex.EncodeToString(id[:]))
		if err := d.fsys.Mkdir(d.mine, 0o700); err != nil {
			return err
		}
		if d.alive, err = filelock.Try(filepath.Join(d.mine, "lock")); err != nil {
			d.removeTree(d.mine)
			return err
		}
		if others > 0 {
			return nil
		}
		// Nobody else can have entries under way: count what is there, which also mends counts that a power
		// cut set back.
		clear(u)
		kinds, err := d.kinds()
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			if _, u[kind], err = d.scan(ctx, kind); err != nil {
				return err
			}
		}
		return nil
	})
}

// initFile makes a small file, or checks the one that is there.
func (d *Disk) initFile(name, content string, check bool) error {
	full := filepath.Join(d.dir, name)
	have, err := d.readSmall(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return osfs.WriteFile(d.fsys, full, []byte(content), 0o600)
	case err != nil:
		return err
	case check && string(have) != content:
		return fmt.Errorf("file %s says %.60q, want %q", name, have, content)
	}
	return nil
}

func (d *Disk) readSmall(name string) ([]byte, error) {
	f, err := d.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, 64<<10))
}

func (d *Disk) mkdirAll(dir string) error {
	if st, err := d.fsys.Lstat(dir); err == nil && st.IsDir() {
		return nil
	}
	if up := filepath.Dir(dir); up != dir {
		if st, err := os.Stat(up); err != nil || !st.IsDir() { // a link to a directory will do here
			if err := d.mkdirAll(up); err != nil {
				return err
			}
		}
	}
	return d.mkdir(dir)
}

// mkdir makes a directory, which may be there, and its name durable, once per Disk.
func (d *Disk) mkdir(dir string) error {
	d.mu.Lock()
	done := d.synced[dir]
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := d.fsys.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	d.mu.Lock()
	d.synced[dir] = true
	d.mu.Unlock()
	return nil
}

// sweep removes the temporary directories of processes that ended without closing, and counts the others. The
// directory's lock is held.
func (d *Disk) sweep() (others int, err error) {
	dirs, err := d.fsys.ReadDir(filepath.Join(d.dir, "tmp"))
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		name := filepath.Join(d.dir, "tmp", dir.Name())
		if name == d.mine {
			continue
		}
		l, err := filelock.Try(filepath.Join(name, "lock"))
		switch {
		case errors.Is(err, filelock.ErrBusy):
			others++
		case err == nil:
			d.removeTree(name)
			_ = l.Unlock()
		case notDir(err):
			_ = d.fsys.Remove(name)
		case errors.Is(err, fs.ErrNotExist): // another process is closing it
		default:
			d.log.Warn("cannot look after a temporary directory", "dir", name, "err", err)
		}
	}
	return others, nil
}

// removeTree removes a directory of files, as far as that is possible.
func (d *Disk) removeTree(dir string) {
	files, err := d.fsys.ReadDir(dir)
	if err != nil {
		return
	}
	for _, f := range files {
		if f.Name() != "lock" {
			_ = d.fsys.Remove(filepath.Join(dir, f.Name()))
		}
	}
	_ = d.fsys.Remove(filepath.Join(dir, "lock")) // last: it says that the rest is in use
	_ = d.fsys.Remove(dir)
}

// String returns "disk" and the directory.
func (d *Disk) String() string { return "disk " + d.dir }

// TempDir returns a directory for temporary files that are meant for [Disk.Adopt]. It is on the file system of
// the cache, belongs to this Disk and is removed with all it holds when the Disk is closed, or by the next
// process that opens the cache if this one is killed.
func (d *Disk) TempDir() string { return d.mine }

func (d *Disk) path(k Key) string {
	sum := hex.EncodeToString(k.Sum[:])
	return filepath.Join(d.dir, "v1", string(k.Kind), sum[:2], sum)
}

func (d *Disk) limit(kind Kind) Limit {
	l, ok := d.limits[kind]
	if !ok {
		l.Bytes = otherLimit
	}
	if l.Item == 0 {
		l.Item = l.Bytes
	}
	return l
}

// hashBuffers are shared: verifying an entry must not cost more memory than a buffer.
var hashBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// Close removes this Disk's temporary files. Entries that were handed out stay readable; values being put are
// lost. Later calls do nothing; other methods then return [ErrClosed]. A Disk that is not closed leaves its
// temporary files to the next process that opens the directory.
func (d *Disk) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.removeTree(d.mine)
	return d.alive.Unlock()
}

package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"maps"
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

func (d *Disk) check(ctx context.Context, k Key) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d.closed.Load():
		return ErrClosed
	}
	return k.check()
}

// Get implements [Store]. The whole value is read and compared with its hash before it is handed out. A damaged
// entry is moved out of the way, and reported as an error that matches both [ErrMiss] and [ErrCorrupt].
func (d *Disk) Get(ctx context.Context, k Key) (*Entry, error) {
	if err := d.check(ctx, k); err != nil {
		return nil, err
	}
	f, rec, err := d.verified(ctx, k, d.path(k))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.stats.misses.Add(1)
		return nil, ErrMiss
	case errors.Is(err, ErrCorrupt):
		d.stats.misses.Add(1)
		return nil, fmt.Errorf("get %s: %w: %w", k, ErrMiss, err)
	case err != nil:
		d.stats.errors.Add(1)
		return nil, fmt.Errorf("get %s: %w", k, err)
	}
	if rec.negative {
		defer f.Close()
		if !d.now().Before(rec.expires) {
			d.stats.misses.Add(1)
			return nil, ErrMiss // the next Put replaces it, or eviction, as the oldest, takes it
		}
		reason, err := io.ReadAll(io.NewSectionReader(f, 0, rec.info.Size))
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", k, err)
		}
		d.stats.negatives.Add(1)
		return nil, &NegativeError{Key: k, Reason: string(reason), Until: rec.expires}
	}
	d.stats.hits.Add(1)
	if st, err := f.Stat(); err == nil {
		if now := d.now(); now.Sub(st.ModTime()) >= touchEvery {
			_ = d.fsys.Chtimes(d.path(k), now, now) // only the order of eviction suffers when this fails
		}
	}
	return NewEntry(rec.info, f, f.Close), nil
}

// verified opens the file of an entry and reads all of it. When it is damaged, it is moved away and the error
// matches ErrCorrupt.
func (d *Disk) verified(ctx context.Context, k Key, name string) (osfs.File, record, error) {
	var rec record
	f, err := d.fsys.OpenFile(name, os.O_RDONLY, 0)
	if isLink(err) {
		err = fmt.Errorf("%w: a symbolic link stands in its place", ErrCorrupt)
		return nil, rec, d.quarantine(ctx, k, name, nil, err)
	}
	if err != nil {
		return nil, rec, err
	}
	rec, err = d.examine(ctx, k, f)
	if errors.Is(err, ErrCorrupt) {
		err = d.quarantine(ctx, k, name, f, err)
	}
	if err != nil {
		f.Close()
		return nil, rec, err
	}
	return f, rec, nil
}

// examine compares an open file with the record at its end and the key it should have.
func (d *Disk) examine(ctx context.Context, k Key, f osfs.File) (record, error) {
	var rec record
	st, err := f.Stat()
	switch {
	case err != nil:
		return rec, err
	case !st.Mode().IsRegular():
		return rec, fmt.Errorf("%w: not a regular file", ErrCorrupt)
	case !d.owner.trusts(st):
		return rec, fmt.Errorf("%w: file belongs to another user", ErrCorrupt)
	case st.Size() < recordSize:
		return rec, fmt.Errorf("%w: file of %d bytes", ErrCorrupt, st.Size())
	}
	var tail [recordSize]byte
	if err := readFull(f, tail[:], st.Size()-recordSize); err != nil {
		return rec, err
	}
	if rec, err = parseRecord(tail[:], st.Size()); err != nil {
		return rec, err
	}
	if rec.info.Key != k {
		return rec, fmt.Errorf("%w: it is the entry of %s", ErrCorrupt, rec.info.Key)
	}
	h := newDigest(rec.long)
	if err := hashFile(ctx, h, f, rec.info.Size); err != nil {
		return rec, err
	}
	h.fill(&rec.info)
	if sum := rec.info.short(); sum != rec.sum {
		return rec, fmt.Errorf("%w: %s of the value is %x, want %x", ErrCorrupt, h, sum, rec.sum)
	}
	return rec, nil
}

// readFull reads exactly len(p) bytes; a file that ends before was cut under us.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: file was cut while it was read", ErrCorrupt)
	}
	return err
}

// hashBuffers are shared: verifying an entry must not cost more memory than a buffer.
var hashBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func hashFile(ctx context.Context, h hash.Hash, f io.ReaderAt, size int64) error {
	buf := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buf)
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(f, p, off); err != nil {
			return err
		}
		h.Write(p)
		off += int64(len(p))
	}
	return nil
}

// quarantine moves a damaged entry away, if it is still the file that was examined, and returns cause, which says
// what is wrong with it.
func (d *Disk) quarantine(ctx context.Context, k Key, name string, f osfs.File, cause error) error {
	d.stats.corrupt.Add(1)
	d.mu.Lock()
	if len(d.damages) < 1<<16 {
		d.damages[k]++
	}
	d.mu.Unlock()
	d.log.Warn("damaged cache entry", "key", k.String(), "err", cause)
	err := d.locked(context.WithoutCancel(ctx), func(u usage) error {
		now, err := d.fsys.Lstat(name)
		if err != nil {
			return err
		}
		if f != nil {
			if then, err := f.Stat(); err != nil || !os.SameFile(then, now) {
				return err // another process replaced it meanwhile
			}
		}
		u.add(k.Kind, -blocks(now.Size()))
		bad := fmt.Sprintf("%s-%x-%d", k.Kind, k.Sum, d.now().UnixNano())
		if !now.Mode().IsRegular() || d.fsys.Rename(name, filepath.Join(d.dir, "bad", bad)) != nil {
			return d.fsys.Remove(name)
		}
		return d.trimBad()
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("cannot move a damaged cache entry away", "key", k.String(), "err", err)
	}
	return cause
}

// trimBad bounds what is kept of damaged entries. The directory's lock is held.
func (d *Disk) trimBad() error {
	dir := filepath.Join(d.dir, "bad")
	files, err := d.list(dir)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int { return b.used.Compare(a.used) })
	var total int64
	for i, f := range files {
		if total += f.size; i >= maxBadFiles || total > maxBadBytes {
			total -= f.size
			_ = d.fsys.Remove(f.name)
		}
	}
	return nil
}

// Put implements [Store]. When it returns nil, the value survives the death of every process and a power cut.
// Errors match [ErrTooLarge] or [ErrNoSpace] where that is the reason.
func (d *Disk) Put(ctx context.Context, k Key, r io.Reader) (Info, error) {
	if err := d.check(ctx, k); err != nil {
		return Info{}, err
	}
	hint, ok := sizeHint(r)
	if !ok {
		hint = -1
	}
	p, err := d.create(ctx, k, hint)
	if err != nil {
		return Info{}, err
	}
	if _, err := io.Copy(p, withContext(ctx, r)); err != nil {
		p.abort()
		return Info{}, err
	}
	e, err := p.commit(ctx, false)
	if err != nil {
		p.abort()
		return Info{}, err
	}
	defer e.Close()
	return e.Info(), nil
}

// PutNegative implements [NegativePutter]. Other processes see it too. At most 4096 bytes of the reason are kept.
func (d *Disk) PutNegative(ctx context.Context, k Key, reason string, life time.Duration) error {
	if err := d.check(ctx, k); err != nil {
		return err
	}
	f, rec, err := d.verified(ctx, k, d.path(k))
	if err == nil {
		f.Close()
		if !rec.negative {
			return nil
		}
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), 4096)], "")
	p, err := d.create(ctx, k, int64(len(reason)))
	if err != nil {
		return err
	}
	p.negative, p.expires = true, d.now().Add(life)
	if _, err = io.WriteString(p, reason); err == nil {
		var e *Entry
		if e, err = p.commit(ctx, false); err == nil {
			return e.Close()
		}
	}
	p.abort()
	return err
}

// Adopt makes the file of a name the value of a key, without copying where the file is on the file system of the
// cache. The file must be complete and nobody may write to it any more: what it holds now is hashed, and that
// hash is what is compared on every Get. After success the file is gone from its name. After failure it is where
// it was, as it was, unless the disk fails at that too.
func (d *Disk) Adopt(ctx context.Context, k Key, name string) (*Entry, error) {
	return d.adoptAndCommit(ctx, k, name, nil)
}

// AdoptHashed is [Disk.Adopt] for a file whose SHA-512 is known to whoever wrote it. It is taken as it is, without reading
// the file, and is what is compared on every Get; the entry returned gives the bytes of the file, whatever they are by
// now. Where the file has to be copied after all, one with another hash is refused with [ErrCorrupt].
func (d *Disk) AdoptHashed(ctx context.Context, k Key, name string, sha512 [64]byte) (*Entry, error) {
	return d.adoptAndCommit(ctx, k, name, &sha512)
}

func (d *Disk) adoptAndCommit(ctx context.Context, k Key, name string, known *[64]byte) (*Entry, error) {
	if err := d.check(ctx, k); err != nil {
		return nil, err
	}
	p, err := d.adopt(ctx, k, name, known)
	if err != nil {
		return nil, err
	}
	e, err := p.commit(ctx, true)
	if err != nil {
		p.abort()
		return nil, err
	}
	p.disown()
	return e, nil
}

// Purge removes the entries that the filter matches, in every process's view, and returns what that was.
func (d *Disk) Purge(ctx context.Context, f Filter) (Usage, error) {
	var removed Usage
	if d.closed.Load() {
		return removed, ErrClosed
	}
	if f.Key != nil {
		if err := f.Key.check(); err != nil {
			return removed, err
		}
	}
	err := d.locked(ctx, func(u usage) error {
		kinds, err := d.kinds()
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			if f.Kind != "" && f.Kind != kind || f.Key != nil && f.Key.Kind != kind {
				continue
			}
			var files []file
			if f.Key != nil {
				if st, err := d.fsys.Lstat(d.path(*f.Key)); err == nil {
					files = []file{{d.path(*f.Key), st.Size(), st.ModTime()}}
				}
			} else if files, _, err = d.scan(ctx, kind); err != nil {
				return err
			}
			for _, file := range files {
				k, err := ParseKey(string(kind) + "/" + filepath.Base(file.name))
				if err != nil || !f.matches(k, d.now().Sub(file.used)) {
					continue
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := d.fsys.Remove(file.name); err != nil {
					if errors.Is(err, fs.ErrNotExist) {
						continue
					}
					return err
				}
				u.add(kind, -blocks(file.size))
				removed.Entries++
				removed.Bytes += max(0, file.size-recordSize)
			}
		}
		if f.Key != nil || f.Kind != "" {
			return nil
		}
		bad, err := d.list(filepath.Join(d.dir, "bad"))
		for _, file := range bad {
			if d.now().Sub(file.used) >= f.Age {
				_ = d.fsys.Remove(file.name)
			}
		}
		return err
	})
	if err != nil {
		return removed, fmt.Errorf("purge cache: %w", err)
	}
	return removed, nil
}

// Damage is an entry that [Disk.Verify] found damaged.
type Damage struct {
	Key Key
	Err error // matches ErrCorrupt
}

// VerifyReport is what [Disk.Verify] found.
type VerifyReport struct {
	Checked   Usage
	Damaged   []Damage // moved away
	Strangers []string // files that are no entries, left alone
}

// Verify reads every entry and compares it with its hash. Damaged entries are moved away as Get would. Entries
// that other processes add or remove meanwhile may be missed. The error says why the check could not be
// finished, not that something is damaged. If progress is not nil, it is called after each entry.
func (d *Disk) Verify(ctx context.Context, progress func(done, total Usage)) (*VerifyReport, error) {
	if d.closed.Load() {
		return nil, ErrClosed
	}
	kinds, err := d.kinds()
	if err != nil {
		return nil, fmt.Errorf("verify cache: %w", err)
	}
	var files []file
	kindOf := make(map[string]Kind)
	var total Usage
	for _, kind := range kinds {
		some, err := d.entries(ctx, kind)
		if err != nil {
			return nil, fmt.Errorf("verify cache: %w", err)
		}
		for _, f := range some {
			kindOf[f.name] = kind
			total.Entries++
			total.Bytes += max(0, f.size-recordSize)
		}
		files = append(files, some...)
	}
	report := new(VerifyReport)
	var done Usage
	for _, file := range files {
		k, err := ParseKey(string(kindOf[file.name]) + "/" + filepath.Base(file.name))
		if err != nil || d.path(k) != file.name {
			report.Strangers = append(report.Strangers, file.name)
		} else {
			f, _, err := d.verified(ctx, k, file.name)
			switch {
			case err == nil:
				f.Close()
			case errors.Is(err, fs.ErrNotExist): // evicted meanwhile
			case errors.Is(err, ErrCorrupt):
				report.Damaged = append(report.Damaged, Damage{k, err})
			default:
				return report, fmt.Errorf("verify %s: %w", k, err)
			}
			report.Checked.Entries++
			report.Checked.Bytes += max(0, file.size-recordSize)
		}
		done.Entries++
		done.Bytes += max(0, file.size-recordSize)
		if progress != nil {
			progress(done, total)
		}
	}
	return report, nil
}

// Stats returns what this Disk did since it was opened, and what the directory holds.
func (d *Disk) Stats(ctx context.Context) (Stats, error) {
	s := d.stats.snapshot()
	s.Kinds = make(map[Kind]Usage)
	if d.closed.Load() {
		return s, ErrClosed
	}
	kinds, err := d.kinds()
	if err != nil {
		return s, fmt.Errorf("cache statistics: %w", err)
	}
	for _, kind := range kinds {
		files, err := d.entries(ctx, kind)
		if err != nil {
			return s, fmt.Errorf("cache statistics: %w", err)
		}
		var u Usage
		for _, f := range files {
			u.Entries++
			u.Bytes += max(0, f.size-recordSize)
		}
		s.Kinds[kind] = u
	}
	return s, nil
}

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

// usage is what each kind takes on disk, entries being written included. It may be too high after a process
// was killed, never too low: whoever runs into a limit counts again.
type usage map[Kind]int64

func (u usage) add(kind Kind, n int64) { u[kind] = max(0, u[kind]+n) }

func (u usage) encode() []byte {
	var b bytes.Buffer
	for _, kind := range slices.Sorted(maps.Keys(u)) {
		fmt.Fprintf(&b, "%s %d\n", kind, u[kind])
	}
	sum := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, "%x\n", sum[:8])
	return b.Bytes()
}

func parseUsage(b []byte) (usage, bool) {
	const last = 17
	if len(b) < last {
		return nil, false
	}
	head := b[:len(b)-last]
	if sum := sha256.Sum256(head); fmt.Sprintf("%x\n", sum[:8]) != string(b[len(head):]) {
		return nil, false
	}
	u := make(usage)
	for line := range strings.Lines(string(head)) {
		var kind string
		var n int64
		if _, err := fmt.Sscanf(line, "%s %d\n", &kind, &n); err != nil || !Kind(kind).Valid() || n < 0 {
			return nil, false
		}
		u[Kind(kind)] = n
	}
	return u, true
}

// locked runs fn while this goroutine alone, of all processes, holds the directory's lock. fn may change the
// usage, which is then stored.
func (d *Disk) locked(ctx context.Context, fn func(u usage) error) error {
	wait, cancel := context.WithTimeoutCause(ctx, lockWait, errors.New("another process holds the cache's lock for too long"))
	defer cancel()
	select {
	case d.gate <- struct{}{}:
		defer func() { <-d.gate }()
	case <-wait.Done():
		return context.Cause(wait)
	}
	l, err := filelock.Acquire(wait, filepath.Join(d.dir, "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = l.Unlock() }()
	name := filepath.Join(d.dir, "usage")
	f, err := d.fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<10))
	if err != nil {
		return err
	}
	u, ok := parseUsage(raw)
	if !ok {
		if u, err = d.count(ctx); err != nil {
			return err
		}
	}
	err = fn(u)
	out := u.encode()
	if bytes.Equal(out, raw) {
		return err
	}
	_, werr := f.WriteAt(out, 0)
	if werr == nil && len(out) < len(raw) {
		werr = f.Truncate(int64(len(out)))
	}
	if werr != nil {
		// Without the file the next one counts. If not even that works, the count may be too low.
		werr = errors.Join(fmt.Errorf("store usage: %w", werr), d.fsys.Remove(name))
	}
	return errors.Join(err, werr)
}

// count looks what all kinds take.
func (d *Disk) count(ctx context.Context) (usage, error) {
	u := make(usage)
	kinds, err := d.kinds()
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil // being made
	}
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if _, u[kind], err = d.scan(ctx, kind); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// blocks returns what a file takes on disk.
func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

type file struct {
	name string
	size int64
	used time.Time
}

// kinds lists the kinds that have a directory, in order.
func (d *Disk) kinds() ([]Kind, error) {
	dirs, err := d.fsys.ReadDir(filepath.Join(d.dir, "v1"))
	if err != nil {
		return nil, err
	}
	var kinds []Kind
	for _, e := range dirs {
		if k := Kind(e.Name()); e.IsDir() && k.Valid() {
			kinds = append(kinds, k)
		}
	}
	return kinds, nil
}

// list returns the regular files of a directory. What vanishes meanwhile is left out.
func (d *Disk) list(dir string) ([]file, error) {
	names, err := d.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []file
	for _, n := range names {
		st, err := n.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			files = append(files, file{filepath.Join(dir, n.Name()), st.Size(), st.ModTime()})
		}
	}
	return files, nil
}

// entries lists the files of one kind.
func (d *Disk) entries(ctx context.Context, kind Kind) ([]file, error) {
	shards, err := d.fsys.ReadDir(filepath.Join(d.dir, "v1", string(kind)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []file
	for _, shard := range shards {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !shard.IsDir() {
			continue
		}
		some, err := d.list(filepath.Join(d.dir, "v1", string(kind), shard.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, some...)
	}
	return files, nil
}

// scan lists the entries of a kind and adds up what they, and those being written by any process, take.
func (d *Disk) scan(ctx context.Context, kind Kind) (files []file, total int64, err error) {
	if files, err = d.entries(ctx, kind); err != nil {
		return nil, 0, err
	}
	for _, f := range files {
		total += blocks(f.size)
	}
	owners, err := d.fsys.ReadDir(filepath.Join(d.dir, "tmp"))
	if err != nil {
		return nil, 0, err
	}
	for _, o := range owners {
		temps, err := d.list(filepath.Join(d.dir, "tmp", o.Name()))
		if err != nil && !notDir(err) {
			return nil, 0, err
		}
		for _, f := range temps {
			if name, _, ok := strings.Cut(filepath.Base(f.name), "."); ok && name == string(kind) {
				total += blocks(f.size) // a temporary file is as long as the space it has reserved
			}
		}
	}
	return files, total, nil
}

// reserve accounts for n more bytes of a kind, removing the entries that were not used for longest where there is
// no room.
func (d *Disk) reserve(ctx context.Context, kind Kind, n int64) error {
	limit := d.limit(kind)
	return d.locked(ctx, func(u usage) error {
		if u[kind]+n <= limit.Bytes {
			u.add(kind, n)
			return nil
		}
		if _, err := d.sweep(); err != nil {
			return err
		}
		files, total, err := d.scan(ctx, kind)
		if err != nil {
			return err
		}
		slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
		// A tenth more than needed goes, so that the next ones need not look again.
		target := limit.Bytes - n
		if spare := target - limit.Bytes/10; spare > 0 {
			target = spare
		}
		now := d.now()
		for _, f := range files {
			if total <= target && (limit.Age == 0 || now.Sub(f.used) < limit.Age) {
				break
			}
			if err := d.fsys.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				d.log.Warn("cannot evict a cache entry", "file", f.name, "err", err)
				continue
			}
			d.stats.evictions.Add(1)
			total -= blocks(f.size)
		}
		if total+n > limit.Bytes {
			u[kind] = total
			return fmt.Errorf("%w: %d bytes of kind %s are wanted, and %d of %d are being written",
				ErrNoSpace, n, kind, total, limit.Bytes)
		}
		u[kind] = total + n
		return nil
	})
}

// release gives back what was reserved.
func (d *Disk) release(kind Kind, n int64) {
	if n == 0 {
		return
	}
	err := d.locked(context.Background(), func(u usage) error {
		u.add(kind, -n)
		return nil
	})
	if err != nil {
		d.log.Warn("cannot give back reserved space", "kind", string(kind), "bytes", n, "err", err)
	}
}

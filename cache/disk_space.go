package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/filelock"
)

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

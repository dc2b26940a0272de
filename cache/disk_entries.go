package cache

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

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

package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// pendingFile is a value on its way to the disk: a file in this Disk's temporary directory that no reader looks at.
// It is used by one goroutine.
type pendingFile struct {
	d        *Disk
	key      Key
	f        osfs.File
	name     string
	hash     digest    // of what was written or, in an adopted file, read; unused with known
	known    *[64]byte // SHA-512 of an adopted file
	size     int64
	reserved int64 // blocks accounted for; the file is at least as long until it is committed

	negative bool
	expires  time.Time

	from   string // where an adopted file was renamed from, and goes back to
	source string // what an adopted file was copied from
}

// Begin implements [Spooler].
func (d *Disk) Begin(ctx context.Context, k Key) (Pending, error) {
	p, err := d.create(ctx, k, -1)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// BeginFile implements [Spooler].
func (d *Disk) BeginFile(ctx context.Context, k Key, name string, sha512 *[64]byte) (Pending, error) {
	p, err := d.adopt(ctx, k, name, sha512)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// ReadAt implements [Pending].
func (p *pendingFile) ReadAt(b []byte, off int64) (int, error) { return p.f.ReadAt(b, off) }

// Info implements [Pending].
func (p *pendingFile) Info() Info { return p.info() }

// Commit implements [Pending].
func (p *pendingFile) Commit(ctx context.Context) (*Entry, error) {
	e, err := p.commit(ctx, true)
	if err == nil {
		p.disown()
	}
	return e, err
}

// Abort implements [Pending].
func (p *pendingFile) Abort(giveBack bool) {
	if !giveBack {
		p.from = ""
	}
	p.abort()
}

// create starts a value. size is how many bytes it will have, or -1.
func (d *Disk) create(ctx context.Context, k Key, size int64) (*pendingFile, error) {
	d.mu.Lock()
	hopeless := d.damages[k] >= maxDamages
	d.mu.Unlock()
	if hopeless {
		return nil, fmt.Errorf("put %s: not stored again: %w %d times", k, ErrCorrupt, maxDamages)
	}
	p := &pendingFile{d: d, key: k, hash: newDigest(false)}
	if limit := d.limit(k.Kind); size > limit.Item {
		return nil, p.wrap(fmt.Errorf("%w: %d bytes, kind %s allows %d", ErrTooLarge, size, k.Kind, limit.Item))
	}
	if err := p.open(); err != nil {
		return nil, p.wrap(err)
	}
	if size >= 0 {
		if err := p.grow(ctx, size); err != nil {
			p.abort()
			return nil, p.wrap(err)
		}
	}
	return p, nil
}

func (p *pendingFile) wrap(err error) error {
	p.d.stats.errors.Add(1)
	if noSpace(err) && !errors.Is(err, ErrNoSpace) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return fmt.Errorf("put %s: %w", p.key, err)
}

func (d *Disk) tempName(kind Kind) string {
	return filepath.Join(d.mine, fmt.Sprintf("%s.%d", kind, d.serial.Add(1)))
}

func (p *pendingFile) open() error {
	p.name = p.d.tempName(p.key.Kind)
	f, err := p.d.fsys.OpenFile(p.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	p.f = f
	return nil
}

// grow makes sure that a value of size bytes has its space reserved.
func (p *pendingFile) grow(ctx context.Context, size int64) error {
	need := blocks(size+recordSize) - p.reserved
	if need <= 0 {
		return nil
	}
	if err := p.d.reserve(ctx, p.key.Kind, need); err != nil {
		return err
	}
	p.reserved += need
	return p.f.Truncate(p.reserved) // so that others who count see it
}

// Write appends to the value.
func (p *pendingFile) Write(b []byte) (int, error) {
	after := p.size + int64(len(b))
	limit := p.d.limit(p.key.Kind)
	if after > limit.Item {
		return 0, p.wrap(fmt.Errorf("%w: kind %s allows %d bytes", ErrTooLarge, p.key.Kind, limit.Item))
	}
	if blocks(after+recordSize) > p.reserved {
		// Reserve as much again, within reason, so that a long value takes the lock a few times only. The wait
		// is bounded by the lock itself.
		ahead := max(after, min(2*p.size, p.size+64<<20, limit.Item))
		err := p.grow(context.Background(), ahead)
		if errors.Is(err, ErrNoSpace) {
			err = p.grow(context.Background(), after)
		}
		if err != nil {
			return 0, p.wrap(err)
		}
	}
	n, err := p.f.WriteAt(b, p.size)
	p.hash.Write(b[:n])
	p.size += int64(n)
	if err != nil {
		return n, p.wrap(err)
	}
	return n, nil
}

// commit makes the value visible and durable, and returns it open. With reread set, what the file holds is
// compared with what was written before anybody can see it; without, the entry may not be read. The hash of a file
// that was renamed into the cache was made by reading it or is known otherwise, so that it is not read again. After an
// error the value can still be read, and must be aborted.
func (p *pendingFile) commit(ctx context.Context, reread bool) (*Entry, error) {
	if err := p.d.check(ctx, p.key); err != nil {
		return nil, err
	}
	if err := p.store(ctx, reread); err != nil {
		return nil, p.wrap(err)
	}
	p.d.stats.puts.Add(1)
	return NewEntry(p.info(), p.f, p.f.Close), nil
}

func (p *pendingFile) info() Info {
	info := Info{Key: p.key, Size: p.size}
	if p.known != nil {
		info.SHA512 = *p.known
	} else {
		p.hash.fill(&info)
	}
	return info
}

func (p *pendingFile) store(ctx context.Context, reread bool) error {
	d := p.d
	if err := p.grow(ctx, p.size); err != nil {
		return err
	}
	info := p.info()
	rec := record{info: info, sum: info.short(), long: info.byLong(), stored: d.now(), negative: p.negative, expires: p.expires}
	if _, err := p.f.WriteAt(rec.append(nil), p.size); err != nil {
		return err
	}
	total := p.size + recordSize
	if err := p.f.Truncate(total); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	if reread && p.from == "" {
		if err := p.reread(ctx); err != nil {
			return err
		}
	}
	final := d.path(p.key)
	shard := filepath.Dir(final)
	for _, dir := range []string{filepath.Dir(shard), shard} {
		if err := d.mkdir(dir); err != nil {
			return err
		}
	}
	if err := d.fsys.Rename(p.name, final); err != nil {
		return err
	}
	p.name = ""
	spare := p.reserved - blocks(total)
	p.reserved = 0
	d.release(p.key.Kind, spare)
	return d.fsys.SyncDir(shard)
}

// reread compares what the file holds with what was written.
func (p *pendingFile) reread(ctx context.Context) error {
	h := newDigest(p.hash.long)
	if err := hashFile(ctx, h, p.f, p.size); err != nil {
		return err
	}
	got, want := h.Sum(nil), p.hash.Sum(nil)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: %s of what was written is %x, want %x", ErrCorrupt, h, got, want)
	}
	return nil
}

// abort throws the value away, or gives an adopted file back.
func (p *pendingFile) abort() {
	if p.f == nil {
		return
	}
	if p.from != "" && p.name != "" {
		if p.f.Truncate(p.size) == nil && p.d.fsys.Rename(p.name, p.from) == nil {
			p.name = ""
		}
	}
	p.f.Close()
	if p.name != "" {
		if err := p.d.fsys.Remove(p.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.d.log.Warn("cannot remove a temporary file", "file", p.name, "err", err)
		}
	}
	p.d.release(p.key.Kind, p.reserved)
	p.f, p.reserved = nil, 0
}

// adopt starts a value whose bytes are those of a file, with this SHA-512 where it is known.
func (d *Disk) adopt(ctx context.Context, k Key, name string, known *[64]byte) (*pendingFile, error) {
	p := &pendingFile{d: d, key: k, hash: newDigest(false), known: known}
	st, err := d.fsys.Lstat(name)
	switch {
	case err != nil:
		return nil, p.wrap(err)
	case !st.Mode().IsRegular():
		return nil, p.wrap(fmt.Errorf("%s is not a regular file", name))
	case st.Size() > d.limit(k.Kind).Item:
		return nil, p.wrap(fmt.Errorf("%w: %d bytes, kind %s allows %d", ErrTooLarge, st.Size(), k.Kind, d.limit(k.Kind).Item))
	}
	if !d.owner.trusts(st) || hardLinks(st) > 1 {
		return d.adoptCopy(ctx, k, name, st.Size(), known)
	}
	// Everything that can fail comes before the rename: after a failure the file is where it was.
	if p.f, err = d.fsys.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, p.wrap(err)
	}
	p.size = st.Size()
	if known == nil {
		if err := hashFile(ctx, p.hash, p.f, p.size); err != nil {
			p.abort()
			return nil, p.wrap(err)
		}
	}
	if err := d.reserve(ctx, k.Kind, blocks(p.size+recordSize)); err != nil {
		p.abort()
		return nil, p.wrap(err)
	}
	p.reserved = blocks(p.size + recordSize)
	temp := d.tempName(k.Kind)
	if err := d.fsys.Rename(name, temp); err != nil {
		p.abort()
		if crossDevice(err) {
			return d.adoptCopy(ctx, k, name, st.Size(), known)
		}
		return nil, p.wrap(err)
	}
	p.name, p.from = temp, name
	return p, nil
}

// adoptCopy is adopt for a file that cannot be renamed or that has other names.
func (d *Disk) adoptCopy(ctx context.Context, k Key, name string, size int64, known *[64]byte) (*pendingFile, error) {
	src, err := d.fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, (&pendingFile{d: d, key: k}).wrap(err)
	}
	defer src.Close()
	p, err := d.create(ctx, k, size)
	if err != nil {
		return nil, err
	}
	p.hash = newDigest(known != nil)
	if _, err := io.Copy(p, withContext(ctx, io.NewSectionReader(src, 0, size))); err != nil {
		p.abort()
		return nil, err
	}
	if got := p.info(); known != nil && got.SHA512 != *known {
		p.abort()
		return nil, p.wrap(fmt.Errorf("%w: SHA-512 of %s is %x, want %x", ErrCorrupt, name, got.SHA512, *known))
	}
	p.source = name
	return p, nil
}

// disown removes what an adopted file was copied from.
func (p *pendingFile) disown() {
	if p.source != "" {
		_ = p.d.fsys.Remove(p.source)
	}
}

package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
)

// Adopter is implemented by the writer that [Layered.GetOrFill] hands to fill.
type Adopter interface {
	// Adopt makes the bytes of a file the whole value, instead of writing them: without copying where the file is
	// on the file system of a [Disk] among the tiers, best in its TempDir. Nothing must have been written
	// before, and nothing after. The file must be complete and nobody may write to it any more. After success
	// it is gone from its name; after failure it is where it was.
	Adopt(name string) error
}

// HashedAdopter is implemented by the writer that [Layered.GetOrFill] hands to fill.
type HashedAdopter interface {
	// AdoptHashed is like Adopt of [Adopter], for a file whose SHA-512 was made over the bytes while they were written to
	// it, as by a fetcher that verifies what it gets. A [Disk] does not read it again then: sha512 is what every later
	// look at the entry is compared with.
	AdoptHashed(name string, sha512 [64]byte) error
}

// Spooler is a [Store] that takes a value while it is being made and shows it to nobody before it is whole. [Layered]
// asks its tiers for it: the first that has it is where values are collected. [Disk] has it, and so must a store that
// stands in front of one, if values are not to pass through memory and a temporary file.
type Spooler interface {
	Store
	// TempDir returns a directory from which BeginFile takes files without copying them.
	TempDir() string
	// Begin starts a value of unknown size.
	Begin(ctx context.Context, k Key) (Pending, error)
	// BeginFile starts a value whose bytes are those of a file, which is complete, with this SHA-512 unless that is nil. After
	// an error the file must be where it was.
	BeginFile(ctx context.Context, k Key, name string, sha512 *[64]byte) (Pending, error)
}

// Pending is a value on its way into a [Spooler]. It is used by one goroutine.
type Pending interface {
	// Write appends to the value. After an error what was written before can still be read.
	io.Writer
	// ReadAt reads what was written.
	io.ReaderAt
	// Info says what was written, with the hashes that the store keeps.
	Info() Info
	// Commit makes the value visible, after reading it back, and returns it open. What a file of BeginFile was copied from
	// is removed. After an error the value can still be read, and must be aborted.
	Commit(ctx context.Context) (*Entry, error)
	// Abort throws the value away. With giveBack set a file of BeginFile is where it was afterwards.
	Abort(giveBack bool)
}

// fillWriter collects a value: in the first tier on disk while that works, else in memory, then in a temporary
// file.
type fillWriter struct {
	ctx context.Context // the fill's; Adopt and Write have none of their own
	l   *Layered
	key Key

	mu    sync.Mutex
	done  bool
	err   error // of a Write that failed: part of the value is missing
	tier  int   // of pend
	pend  Pending
	spool *spool
}

func (l *Layered) newFillWriter(ctx context.Context, k Key) *fillWriter {
	w := &fillWriter{ctx: ctx, l: l, key: k, tier: -1}
	for i, t := range l.tiers {
		d, ok := t.(Spooler)
		if !ok {
			continue
		}
		p, err := d.Begin(ctx, k)
		if err == nil {
			w.pend, w.tier = p, i
			return w
		}
		w.complain(i, err)
	}
	w.spool = newSpool(l.o)
	return w
}

func (w *fillWriter) complain(tier int, err error) {
	if w.ctx.Err() != nil { // which says nothing about the tier
		return
	}
	w.l.o.Log.Warn("cache tier failed", "tier", w.l.names[tier], "op", "put", "key", w.key.String(), "err", err)
}

var errDone = errors.New("cache: the value is finished, its writer cannot be used any more")

// Write appends to the value. It does not fail because a tier does. After an error there will be no value, also where
// fill does not mind.
func (w *fillWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
		return 0, errDone
	case w.ctx.Err() != nil:
		return 0, context.Cause(w.ctx)
	case w.err != nil:
		return 0, w.err
	}
	n, err := w.write(p)
	w.err = err
	return n, err
}

func (w *fillWriter) write(p []byte) (int, error) {
	written := 0
	if w.pend != nil {
		n, err := w.pend.Write(p)
		if err == nil {
			return n, nil
		}
		if err := w.migrate(err); err != nil {
			return 0, err
		}
		written = n
	}
	n, err := w.spool.Write(p[written:])
	return written + n, err
}

// migrate moves what was written from the tier, which failed for cause, to the spool.
func (w *fillWriter) migrate(cause error) error {
	w.complain(w.tier, cause)
	p := w.pend
	defer func() {
		p.Abort(false)
		w.pend, w.tier = nil, -1
	}()
	w.spool = newSpool(w.l.o)
	want := p.Info()
	h := newDigest(want.SHA512 != [64]byte{})
	if _, err := io.Copy(io.MultiWriter(w.spool, h), io.NewSectionReader(p, 0, want.Size)); err != nil {
		return errors.Join(cause, err)
	}
	got := Info{Key: want.Key, Size: w.spool.size}
	if h.fill(&got); got != want {
		return errors.Join(cause, fmt.Errorf("%w: what was written reads back differently", ErrCorrupt))
	}
	return nil
}

// Adopt implements [Adopter].
func (w *fillWriter) Adopt(name string) error { return w.adopt(name, nil) }

// AdoptHashed implements [HashedAdopter].
func (w *fillWriter) AdoptHashed(name string, sha512 [64]byte) error { return w.adopt(name, &sha512) }

func (w *fillWriter) adopt(name string, known *[64]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
		return errDone
	case w.pend != nil && w.pend.Info().Size > 0, w.spool != nil && w.spool.size > 0:
		return errors.New("cache: a value that was begun cannot adopt a file")
	}
	if w.pend != nil {
		p, err := w.l.tiers[w.tier].(Spooler).BeginFile(w.ctx, w.key, name, known) //nolint:forcetypeassert // it began pend
		if err == nil {
			w.pend.Abort(true)
			w.pend = p
			return nil
		}
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		w.complain(w.tier, err)
		w.pend.Abort(true)
		w.pend, w.tier = nil, -1
		w.spool = newSpool(w.l.o)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w.spool, withContext(w.ctx, f)); err != nil {
		return err
	}
	return os.Remove(name)
}

// finish returns the value, read back and verified, and the tier that has it, or -1.
func (w *fillWriter) finish(ctx context.Context) (*Entry, int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	if w.err != nil {
		return nil, -1, w.err
	}
	if w.pend != nil {
		e, err := w.pend.Commit(ctx)
		if err == nil {
			w.pend = nil
			return e, w.tier, nil
		}
		if ctx.Err() != nil {
			return nil, -1, context.Cause(ctx)
		}
		// An adopted file has not been written by us, but its hash is known as well.
		if err := w.migrate(err); err != nil {
			return nil, -1, err
		}
	}
	e, err := w.spool.finish(ctx, w.key)
	if err != nil {
		return nil, -1, err
	}
	w.spool = nil
	return e, -1, nil
}

// close throws away what was not finished.
func (w *fillWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	if w.pend != nil {
		w.pend.Abort(true)
		w.pend = nil
	}
	if w.spool != nil {
		w.spool.close()
		w.spool = nil
	}
}

// spool holds a value outside of any tier.
type spool struct {
	limit int64
	dir   string
	hash  hash.Hash
	size  int64
	mem   bytes.Buffer
	f     *os.File // once it is longer than limit
}

func newSpool(o LayeredOptions) *spool {
	return &spool{limit: o.SpoolMemory, dir: o.SpoolDir, hash: sha256.New()}
}

func (s *spool) Write(p []byte) (int, error) {
	if s.f == nil && s.size+int64(len(p)) > s.limit {
		f, err := os.CreateTemp(s.dir, "senbonzakura-*")
		if err != nil {
			return 0, fmt.Errorf("spool: %w", err)
		}
		s.f = f
		if _, err := f.Write(s.mem.Bytes()); err != nil {
			return 0, fmt.Errorf("spool: %w", err)
		}
		s.mem = bytes.Buffer{}
	}
	var n int
	var err error
	if s.f != nil {
		n, err = s.f.WriteAt(p, s.size)
	} else {
		n, err = s.mem.Write(p)
	}
	s.hash.Write(p[:n])
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("spool: %w", err)
	}
	return n, nil
}

func (s *spool) finish(ctx context.Context, k Key) (*Entry, error) {
	info := Info{Key: k, Size: s.size}
	s.hash.Sum(info.SHA256[:0])
	if s.f == nil {
		return NewEntry(info, bytes.NewReader(s.mem.Bytes()), nil), nil
	}
	again := sha256.New()
	if err := hashFile(ctx, again, s.f, s.size); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if !bytes.Equal(again.Sum(nil), info.SHA256[:]) {
		return nil, fmt.Errorf("spool: %w: what was written reads back differently", ErrCorrupt)
	}
	f := s.f
	return NewEntry(info, f, func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }), nil
}

func (s *spool) close() {
	if s.f != nil {
		s.f.Close()
		os.Remove(s.f.Name())
	}
}

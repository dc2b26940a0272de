package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// LayeredOptions changes a [Layered]. The zero value is ready for use.
type LayeredOptions struct {
	// Log receives a line whenever a tier fails; nil discards them.
	Log *slog.Logger
	// Negative says for how long a failed fill is remembered, so that GetOrFill answers with a
	// *NegativeError instead of trying again. Zero means not at all, as does a nil func. It is not asked for fills
	// that were cancelled. The reason is the error's text.
	Negative func(error) time.Duration
	// FillTimeout ends a fill that takes longer; zero means no limit.
	FillTimeout time.Duration
	// SpoolMemory is how many bytes of a value being made are kept in memory when no tier on disk takes them;
	// zero means 8 MiB. What is longer goes to a temporary file.
	SpoolMemory int64
	// SpoolDir is the directory of those temporary files; empty means os.TempDir().
	SpoolDir string
	// Observe, if not nil, is called for everything that happens. It may be called from several goroutines at
	// once and must return soon.
	Observe func(Event)
}

// Event is something that happened in a [Layered].
type Event struct {
	Op   Op            // what happened
	Key  Key           // of which value
	Tier string        // its String method's answer, or its number; "" for Fill and Join
	Size int64         // bytes of the value, where there is one
	Took time.Duration // on the clock; of a hit without reading the value
	Err  error         // what the tier or the fill said; nil for success and ErrMiss
}

// Op says what an [Event] is about.
type Op string

// The operations.
const (
	OpHit  Op = "hit"  // a tier had the value
	OpMiss Op = "miss" // a tier did not have it, or is broken
	OpPut  Op = "put"  // a value was stored in a tier, or not
	OpFill Op = "fill" // a value was made, or not
	OpJoin Op = "join" // a call waits for a value that another call has asked for already
)

// Layered is a [Store] made of others, the fastest first. It is safe for concurrent use.
//
// A tier that fails costs time, never a result: its error is logged and counts as a miss. Only the context's
// error and remembered failures stop a Get before the last tier was asked.
type Layered struct {
	tiers []Store
	names []string
	o     LayeredOptions

	mu      sync.Mutex
	flights map[Key]*flight
	closed  bool
	running sync.WaitGroup
}

// NewLayered returns a store over tiers, which stay the caller's to close, after it. There may be none: then
// nothing is remembered, and GetOrFill still makes equal values once.
func NewLayered(tiers []Store, opts *LayeredOptions) *Layered {
	l := &Layered{tiers: append([]Store(nil), tiers...), flights: make(map[Key]*flight)}
	if opts != nil {
		l.o = *opts
	}
	if l.o.Log == nil {
		l.o.Log = slog.New(slog.DiscardHandler)
	}
	if l.o.SpoolMemory == 0 {
		l.o.SpoolMemory = 8 << 20
	}
	for i, t := range tiers {
		name := fmt.Sprint(i)
		if s, ok := t.(fmt.Stringer); ok {
			name = s.String()
		}
		l.names = append(l.names, name)
	}
	return l
}

func (l *Layered) observe(op Op, k Key, tier string, size int64, start time.Time, err error) {
	if l.o.Observe != nil {
		l.o.Observe(Event{Op: op, Key: k, Tier: tier, Size: size, Took: time.Since(start), Err: err})
	}
}

func (l *Layered) check(k Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return k.check()
}

// TempDir returns a directory from which the writer of [Layered.GetOrFill] adopts files without copying them: that of
// the first [Spooler] among the tiers. It is empty, which most take as the system's, where there is none.
func (l *Layered) TempDir() string {
	for _, t := range l.tiers {
		if d, ok := t.(Spooler); ok {
			return d.TempDir()
		}
	}
	return ""
}

// Get implements [Store]: the first tier that has the value answers, and the tiers above it are given the value.
func (l *Layered) Get(ctx context.Context, k Key) (*Entry, error) {
	if err := l.check(k); err != nil {
		return nil, err
	}
	for i, t := range l.tiers {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		start := time.Now()
		e, err := t.Get(ctx, k)
		var negative *NegativeError
		switch {
		case err == nil:
			l.observe(OpHit, k, l.names[i], e.Size(), start, nil)
			for j := i - 1; j >= 0; j-- {
				_ = l.put(ctx, j, k, e)
			}
			return e, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.As(err, &negative):
			l.observe(OpHit, k, l.names[i], 0, start, err)
			return nil, err
		case errors.Is(err, ErrMiss) && !errors.Is(err, ErrCorrupt):
			err = nil
		default:
			l.o.Log.Warn("cache tier failed", "tier", l.names[i], "op", "get", "key", k.String(), "err", err)
		}
		l.observe(OpMiss, k, l.names[i], 0, start, err)
	}
	return nil, ErrMiss
}

// put gives a value to one tier, best effort.
func (l *Layered) put(ctx context.Context, i int, k Key, e *Entry) error {
	start := time.Now()
	var r io.Reader = e.Reader()
	want := e.SHA256()
	if e.info.byLong() { // tiers say the SHA-256 of what they were given
		r = &hashedReader{e.Reader(), sha256.New()}
	}
	info, err := l.tiers[i].Put(ctx, k, r)
	if r, ok := r.(*hashedReader); ok {
		r.h.Sum(want[:0])
	}
	if err == nil && (info.Size != e.Size() || info.SHA256 != want) {
		// Another value was there first, or the tier lies. Both are the tier's affair: Get verifies.
		err = fmt.Errorf("tier holds another value, SHA-256 %x, want %x", info.SHA256, want)
	}
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.Is(err, ErrTooLarge):
		l.o.Log.Debug("cache tier does not take a value", "tier", l.names[i], "key", k.String(), "err", err)
	default:
		l.o.Log.Warn("cache tier failed", "tier", l.names[i], "op", "put", "key", k.String(), "err", err)
	}
	l.observe(OpPut, k, l.names[i], e.Size(), start, err)
	return err
}

// hashedReader makes the SHA-256 of what is read.
type hashedReader struct {
	r *io.SectionReader
	h hash.Hash
}

func (r *hashedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.h.Write(p[:n])
	return n, err
}

// Put implements [Store]: every tier is given the value. It fails when r does, and when no tier took it.
func (l *Layered) Put(ctx context.Context, k Key, r io.Reader) (Info, error) {
	if err := l.check(k); err != nil {
		return Info{}, err
	}
	w := l.newFillWriter(ctx, k)
	defer w.close()
	if _, err := io.Copy(w, withContext(ctx, r)); err != nil {
		return Info{}, err
	}
	e, stored, err := w.finish(ctx)
	if err != nil {
		return Info{}, err
	}
	defer e.Close()
	var errs []error
	for i := range l.tiers {
		if i == stored {
			continue
		}
		if err := l.put(ctx, i, k, e); err != nil {
			errs = append(errs, fmt.Errorf("tier %s: %w", l.names[i], err))
		}
	}
	if ctx.Err() != nil {
		return Info{}, context.Cause(ctx)
	}
	if stored < 0 && len(errs) == len(l.tiers) && len(errs) > 0 {
		return Info{}, fmt.Errorf("put %s: no tier took it: %w", k, errors.Join(errs...))
	}
	return e.Info(), nil
}

// PutNegative implements [NegativePutter]: every tier that can remembers the failure.
func (l *Layered) PutNegative(ctx context.Context, k Key, reason string, life time.Duration) error {
	for i, t := range l.tiers {
		if n, ok := t.(NegativePutter); ok {
			if err := n.PutNegative(ctx, k, reason, life); err != nil {
				l.o.Log.Warn("cache tier failed", "tier", l.names[i], "op", "put negative", "key", k.String(), "err", err)
			}
		}
	}
	return ctx.Err()
}

// Purger is a [Store] that removes entries.
type Purger interface {
	// Purge removes the entries that the filter matches and returns what that was.
	Purge(ctx context.Context, f Filter) (Usage, error)
}

// Purge removes entries from every tier that is a [Purger], and returns the sum of what was
// removed: a value that two tiers hold counts twice.
func (l *Layered) Purge(ctx context.Context, f Filter) (Usage, error) {
	var sum Usage
	var errs []error
	for i, t := range l.tiers {
		if p, ok := t.(Purger); ok {
			u, err := p.Purge(ctx, f)
			sum.Entries += u.Entries
			sum.Bytes += u.Bytes
			if err != nil {
				errs = append(errs, fmt.Errorf("tier %s: %w", l.names[i], err))
			}
		}
	}
	return sum, errors.Join(errs...)
}

// PanicError is what [Layered.GetOrFill] returns when fill panicked.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // where, as runtime/debug.Stack has it
}

func (e *PanicError) Error() string { return fmt.Sprintf("fill panicked: %v\n%s", e.Value, e.Stack) }

// flight is a value being looked for or made, and those who wait for it.
type flight struct {
	done    chan struct{} // closed when entry and err are set
	cancel  context.CancelCauseFunc
	waiters int  // guarded by Layered.mu
	left    bool // guarded by Layered.mu: everybody left, it is being cancelled

	entry *Entry // the flight's own, each waiter gets a clone
	err   error
}

var (
	errNobodyWaits = errors.New("nobody waits for the value any more")
	errGoexit      = errors.New("fill ended its goroutine")
)

// GetOrFill returns the value of a key, calling fill to make it when no tier has it. Calls for one key at one
// time share one look-up and one fill.
//
// fill writes the value and returns nil; nobody sees a byte before that, and the value is read back and verified
// before it is handed out, unless it was adopted with its hash. The writer also implements [Adopter] and
// [HashedAdopter]. fill must not use the writer after it has returned. When no tier can store the value, it is handed out all the same.
//
// The context that fill gets has the values of the first caller's and none of its deadlines: the fill goes on when
// that caller leaves, as long as one other waits. It is cancelled when nobody waits any more, when it takes longer
// than FillTimeout, or when the Layered is closed. A call that comes while a fill is being cancelled waits for its
// end and starts another. Each caller leaves when its own ctx ends, with the context's error.
//
// An error of fill is returned to all who wait, and remembered only as [LayeredOptions] says. A panic in fill is
// returned as *PanicError.
func (l *Layered) GetOrFill(ctx context.Context, k Key, fill func(ctx context.Context, w io.Writer) error) (*Entry, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f, err := l.join(ctx, k, fill)
		if err != nil {
			return nil, err
		}
		if f.left {
			select {
			case <-f.done:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		select {
		case <-f.done:
		case <-ctx.Done():
		}
		return l.leave(ctx, k, f)
	}
}

// join returns the flight of a key, which it starts when there is none. When the flight is being cancelled, left
// is set in the copy returned, and the caller has not joined it.
func (l *Layered) join(ctx context.Context, k Key, fill func(context.Context, io.Writer) error) (*flight, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	f, ok := l.flights[k]
	if ok {
		if f.left {
			return &flight{done: f.done, left: true}, nil
		}
		f.waiters++
		if l.o.Observe != nil {
			defer l.observe(OpJoin, k, "", 0, time.Now(), nil)
		}
		return f, nil
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f = &flight{done: make(chan struct{}), waiters: 1, cancel: cancel}
	l.flights[k] = f
	l.running.Go(func() {
		e, err := (*Entry)(nil), errGoexit
		defer func() { // also when fill ends the goroutine
			cancel(nil)
			l.mu.Lock()
			delete(l.flights, k)
			f.entry, f.err = e, err
			abandoned := f.waiters == 0
			close(f.done)
			l.mu.Unlock()
			if abandoned && e != nil {
				e.Close()
			}
		}()
		e, err = l.getOrFill(inner, k, fill)
	})
	return f, nil
}

// leave ends one caller's part in a flight.
func (l *Layered) leave(ctx context.Context, k Key, f *flight) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.waiters--
	select {
	case <-f.done: // also when ctx ended at the same time
		if f.entry == nil {
			return nil, f.err
		}
		if f.waiters > 0 {
			return f.entry.Clone(), nil
		}
		return f.entry, nil
	default:
	}
	if f.waiters == 0 {
		f.left = true
		f.cancel(errNobodyWaits)
	}
	return nil, context.Cause(ctx)
}

func (l *Layered) getOrFill(ctx context.Context, k Key, fill func(context.Context, io.Writer) error) (*Entry, error) {
	e, err := l.Get(ctx, k)
	if !errors.Is(err, ErrMiss) {
		return e, err
	}
	if l.o.FillTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.o.FillTimeout)
		defer cancel()
	}
	start := time.Now()
	e, err = l.fill(ctx, k, fill)
	if err != nil {
		l.observe(OpFill, k, "", 0, start, err)
		if l.o.Negative != nil && ctx.Err() == nil {
			if life := l.o.Negative(err); life > 0 {
				_ = l.PutNegative(ctx, k, err.Error(), life)
			}
		}
		return nil, err
	}
	l.observe(OpFill, k, "", e.Size(), start, nil)
	return e, nil
}

func (l *Layered) fill(ctx context.Context, k Key, fill func(context.Context, io.Writer) error) (*Entry, error) {
	w := l.newFillWriter(ctx, k)
	defer w.close()
	var err error
	func() {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{v, debug.Stack()}
			}
		}()
		err = fill(ctx, w)
	}()
	if err != nil {
		return nil, err
	}
	e, stored, err := w.finish(ctx)
	if err != nil {
		return nil, err
	}
	for i := range l.tiers {
		if i != stored {
			_ = l.put(ctx, i, k, e)
		}
	}
	return e, nil
}

// Close cancels the fills under way and waits for their end. It does not close the tiers. Later calls do nothing;
// Get, Put and GetOrFill then return [ErrClosed].
func (l *Layered) Close() error {
	l.mu.Lock()
	l.closed = true
	for _, f := range l.flights {
		f.cancel(ErrClosed)
	}
	l.mu.Unlock()
	l.running.Wait()
	return nil
}

package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind says what sort of value a key names. Each kind has its own limits and its own directory on disk. A kind
// is 1 to 16 bytes of a-z, 0-9 and '-'; applications may add their own.
type Kind string

// The kinds that this module stores.
const (
	Completes Kind = "completes" // complete updates, as fetched
	Patches   Kind = "patches"   // the patch of one file
	Partials  Kind = "partials"  // partial updates, as made
	Tools     Kind = "tools"     // external programs
)

// Valid says whether k follows the rules for kinds.
func (k Kind) Valid() bool {
	if len(k) < 1 || len(k) > kindSize {
		return false
	}
	return strings.Trim(string(k), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Key names a value by what made it. Two equal keys must always mean the same bytes. Keys are comparable. The
// zero Key is not valid.
type Key struct {
	Kind Kind     // what the value is
	Sum  [32]byte // SHA-256 over kind and parts, see NewKey
}

// NewKey makes the key of a kind and any number of parts. Parts may hold any bytes (use string(b) for a hash).
// The sum is the SHA-256 of "senbonzakura key 1\n", then the kind and every part, each preceded by its length as
// 8 bytes, big-endian; so ("ab", "c") and ("a", "bc") differ. Whatever changes the bytes of the value must be
// among the parts.
func NewKey(kind Kind, parts ...string) Key {
	h := sha256.New()
	h.Write([]byte("senbonzakura key 1\n"))
	var length [8]byte
	add := func(s string) {
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	add(string(kind))
	for _, p := range parts {
		add(p)
	}
	k := Key{Kind: kind}
	h.Sum(k.Sum[:0])
	return k
}

// String returns the key as kind/sum, the sum in lower-case hexadecimal.
func (k Key) String() string { return string(k.Kind) + "/" + hex.EncodeToString(k.Sum[:]) }

// ParseKey is the inverse of [Key.String].
func ParseKey(s string) (Key, error) {
	kind, sum, ok := strings.Cut(s, "/")
	k := Key{Kind: Kind(kind)}
	raw, err := hex.DecodeString(sum)
	if !ok || err != nil || len(raw) != len(k.Sum) || sum != strings.ToLower(sum) || !k.Kind.Valid() {
		return Key{}, fmt.Errorf("parse key %q: want kind/64 lower-case hexadecimal digits", s)
	}
	copy(k.Sum[:], raw)
	return k, nil
}

func (k Key) check() error {
	if !k.Kind.Valid() {
		return fmt.Errorf("cache: invalid kind %q", string(k.Kind))
	}
	return nil
}

// Errors that callers branch on; test with [errors.Is].
var (
	// ErrMiss: the store does not hold the key.
	ErrMiss = errors.New("not in the cache")
	// ErrCorrupt: what was stored is not what was put. A store that returns it from Get has put the damaged
	// value out of the way already. A miss caused by damage matches both ErrMiss and ErrCorrupt.
	ErrCorrupt = errors.New("cache entry is damaged")
	// ErrTooLarge: the value is larger than the store takes.
	ErrTooLarge = errors.New("larger than the cache allows")
	// ErrNoSpace: there is no room left, neither below the limit nor on the disk.
	ErrNoSpace = errors.New("no space left in the cache")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("cache is closed")
)

// NegativeError is a remembered failure: the value could not be made, and until Until nobody need try again.
type NegativeError struct {
	Key    Key       // whose fill failed
	Reason string    // why, in words
	Until  time.Time // when it is forgotten
}

func (e *NegativeError) Error() string {
	return fmt.Sprintf("%s failed before: %s (remembered until %s)", e.Key, e.Reason, e.Until.UTC().Format(time.RFC3339))
}

// Info describes a stored value. One of the hashes is there; the other is zero.
type Info struct {
	Key    Key      // by which the value is found
	Size   int64    // bytes
	SHA256 [32]byte // of all bytes
	// SHA512 is of all bytes of a value that was adopted by it (see [HashedAdopter]) and that the tier which has it was
	// not given anew.
	SHA512 [64]byte
}

// byLong says whether the value is known by its SHA-512.
func (i *Info) byLong() bool { return i.SHA512 != [64]byte{} }

// Store keeps values. A Store must be safe for concurrent use. A key whose kind is not valid must be refused, by Get with an
// error that is no miss. Package cachetest checks all that is said here.
type Store interface {
	// Get returns the value of a key, to be closed by the caller. What it hands out is verified: every byte
	// that the entry will give has been compared with the hash taken when it was put, or comes from memory
	// that was. It returns an error that matches ErrMiss when there is no value, or none that can be trusted;
	// a *NegativeError when there is a remembered failure; the context's error when ctx ends first; another
	// error when the store is broken.
	Get(ctx context.Context, k Key) (*Entry, error)

	// Put stores all that r yields, until io.EOF. When r fails, or ctx ends, Put must return that error and
	// the store must not change. When Put returns nil, the value is visible whole; a lossy store may have
	// dropped it. A Put of a key that is present must leave one of the two values, whole. Put must not
	// keep r, and reads it at most once.
	Put(ctx context.Context, k Key, r io.Reader) (Info, error)
}

// NegativePutter is a [Store] that remembers failures.
type NegativePutter interface {
	// PutNegative makes Get of the key return a *NegativeError until life is over or a value is put. It
	// must not replace a value.
	PutNegative(ctx context.Context, k Key, reason string, life time.Duration) error
}

// Entry is an open value, read at any offset. It is safe for concurrent use. It stays readable, with the same
// bytes, when the store evicts, purges or replaces the value or is closed. It must be closed.
type Entry struct {
	info   Info
	r      io.ReaderAt
	shared *shared
	closed atomic.Bool
}

// shared closes what several entries read from when the last one is closed.
type shared struct {
	mu    sync.Mutex
	users int
	close func() error
}

// NewEntry returns an entry that reads from r, for implementers of [Store]. The size and the hash of the bytes
// in r must have been verified. The first Close of the last clone calls closer, which may be nil.
func NewEntry(info Info, r io.ReaderAt, closer func() error) *Entry {
	return &Entry{info: info, r: r, shared: &shared{users: 1, close: closer}}
}

// Info describes the value.
func (e *Entry) Info() Info { return e.info }

// Size returns the number of bytes.
func (e *Entry) Size() int64 { return e.info.Size }

// SHA256 returns the SHA-256 of all bytes. It is zero for a value that is known by its SHA-512, see [Info].
func (e *Entry) SHA256() [32]byte { return e.info.SHA256 }

// ReadAt implements [io.ReaderAt]. After Close it fails.
func (e *Entry) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case e.closed.Load():
		return 0, fmt.Errorf("read %s: entry is closed", e.info.Key)
	case off < 0:
		return 0, fmt.Errorf("read %s: negative offset", e.info.Key)
	case off >= e.info.Size:
		return 0, io.EOF
	}
	left := e.info.Size - off
	short := int64(len(p)) > left
	if short {
		p = p[:left]
	}
	n, err := e.r.ReadAt(p, off)
	switch {
	case n == len(p) && short:
		return n, io.EOF
	case n == len(p):
		return n, nil
	case errors.Is(err, io.EOF): // cut after it was verified
		return n, fmt.Errorf("read %s: %w", e.info.Key, ErrCorrupt)
	}
	return n, err
}

// Reader returns a new reader over the whole value. It is valid until Close.
func (e *Entry) Reader() *io.SectionReader { return io.NewSectionReader(e, 0, e.info.Size) }

// Clone returns another entry over the same bytes, closed on its own. It must not be called after Close.
func (e *Entry) Clone() *Entry {
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	e.shared.users++
	return &Entry{info: e.info, r: e.r, shared: e.shared}
}

// Close frees the entry. Later calls do nothing. An entry that is never closed keeps a file open.
func (e *Entry) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	e.shared.users--
	if e.shared.users > 0 || e.shared.close == nil {
		return nil
	}
	return e.shared.close()
}

// sizeHint returns how much is left of a reader that knows, such as *io.SectionReader and *bytes.Reader.
func sizeHint(r io.Reader) (int64, bool) {
	switch r := r.(type) {
	case *hashedReader:
		return sizeHint(r.r)
	case interface{ Len() int }:
		return int64(r.Len()), true
	case *io.SectionReader:
		at, err := r.Seek(0, io.SeekCurrent)
		return r.Size() - at, err == nil
	}
	return 0, false
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// withContext returns a reader over r that ends with ctx.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

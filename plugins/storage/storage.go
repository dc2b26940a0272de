package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/storagepb"
)

// Bounds of the protocol.
const (
	// MaxName is the length of the longest object name in bytes.
	MaxName = 512
	// MaxList is the largest number of objects in one page of a list.
	MaxList   = 1000
	maxCursor = 1024
	maxURL    = 8 << 10
	maxText   = 100
	// CapabilityPresign is announced by plugins that can make addresses for others.
	CapabilityPresign = "presign"
)

// Kind is what plugins.Start and plugins.Serve need to know about storage plugins.
func Kind() plugins.Kind { return plugins.Kind{Name: "storage", Versions: []int{1}} }

// Info is what a plugin says about itself, for people.
type Info struct {
	Name, Version string // for people
	// Capabilities names optional abilities. Serve adds CapabilityPresign for a Presigner.
	Capabilities []string
}

// Object describes a stored object.
type Object struct {
	Name   string   // by which it is found
	Size   int64    // bytes
	SHA256 [32]byte // of all bytes
}

// CheckName says whether a name can name an object: 1 to 512 bytes of a-z, A-Z, 0-9, '.', '_' and '-' in
// elements with '/' in between, no element being "." or "..".
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("object name of %d bytes, possible are 1 to %d: %w", len(name), MaxName, plugins.ErrInvalid)
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("object name %q has an element %q: %w", name, element, plugins.ErrInvalid)
		}
	}
	return checkChars(name)
}

func checkChars(name string) error {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-', c == '/':
		default:
			return fmt.Errorf("object name %.600q has a character other than a-z, A-Z, 0-9, '.', '_', '-', '/': %w", name, plugins.ErrInvalid)
		}
	}
	return nil
}

// Backend is what the author of a plugin implements. Methods may be called from several goroutines, and must
// return soon after ctx ends. Names have been checked with CheckName. Errors should match one of those of
// package plugins (ErrNotFound, ErrDenied, ErrThrottled, ErrUnavailable …); everything else reaches the host as
// ErrInternal. A Backend with a method Close() error is closed at the end.
type Backend interface {
	// Info says what the plugin is. It must not block.
	Info(ctx context.Context) (Info, error)
	// Stat describes an object. It returns plugins.ErrNotFound when there is none.
	Stat(ctx context.Context, name string) (Object, error)
	// Get opens a part of an object: length bytes from offset, or up to the end when length is 0. Where
	// offset is at or behind the end of an object that is not empty it must return plugins.ErrInvalid; a
	// length that goes over the end is cut. The Object is the whole one. The reader is closed by the caller.
	Get(ctx context.Context, name string, offset, length int64) (Object, io.ReadCloser, error)
	// PutIfAbsent stores the object o, whose bytes r yields, unless there is one of that name: then it
	// returns that one and false, and may leave r unread. The object must become visible as a whole, after r
	// has returned io.EOF, or not at all: r returns another error when the host gave up, or when the bytes
	// were not o's. Of several calls for one name at one time, in any number of processes and machines, at
	// most one may return true. When it has returned true, the object should survive the loss of power.
	PutIfAbsent(ctx context.Context, o Object, r io.Reader) (Object, bool, error)
	// Delete removes an object. It returns nil when there is none.
	Delete(ctx context.Context, name string) error
	// List returns objects whose names begin with prefix, in the order of the names' bytes, at most limit of
	// them: those that come after the page that returned cursor, or the first ones when cursor is empty. It
	// returns the cursor of the next page, or "" after the last. SHA256 may be left zero where it is not at
	// hand. An object that is there from the first page to the last must be listed exactly once.
	List(ctx context.Context, prefix, cursor string, limit int) ([]Object, string, error)
}

// Presigner is implemented by a Backend that can make addresses from which anybody can read an object.
type Presigner interface {
	// Presign returns an address that works for about ttl, and until when. It may return plugins.ErrNotFound
	// where there is no such object, and need not look.
	Presign(ctx context.Context, name string, ttl time.Duration) (string, time.Time, error)
}

// Serve is the whole main of a storage plugin: open makes the backend, from arguments and environment; what it
// prints is logged by the host, and its error ends the process with status 1. Serve never returns. See
// plugins.Serve.
func Serve(open func(ctx context.Context) (Backend, error)) {
	plugins.Serve(Kind(), open, register)
}

func register(r grpc.ServiceRegistrar, b Backend) {
	storagepb.RegisterStorageServer(r, &server{backend: b})
}

func objectToWire(o Object) *storagepb.Object {
	out := &storagepb.Object{Name: o.Name, Size: o.Size}
	if o.SHA256 != [32]byte{} {
		out.Sha256 = o.SHA256[:]
	}
	return out
}

// objectFromWire checks what the other side says about an object.
func objectFromWire(in *storagepb.Object, hashed bool) (Object, error) {
	o := Object{Name: in.GetName(), Size: in.GetSize()}
	if err := CheckName(o.Name); err != nil {
		return o, err
	}
	switch n := len(in.GetSha256()); {
	case o.Size < 0:
		return o, fmt.Errorf("object %s: size %d: %w", o.Name, o.Size, plugins.ErrInvalid)
	case n == len(o.SHA256):
		copy(o.SHA256[:], in.GetSha256())
	case n != 0 || hashed:
		return o, fmt.Errorf("object %s: SHA-256 of %d bytes: %w", o.Name, n, plugins.ErrInvalid)
	}
	return o, nil
}

// verifier yields what next returns and says io.EOF only when size and hash agree.
type verifier struct {
	next func() ([]byte, error) // the next bytes, or io.EOF
	want Object
	hash hash.Hash // nil: only count
	size int64     // bytes that have to come
	got  int64
	part []byte
	err  error
}

// newVerifier reads a whole object, or a part of it that has size bytes.
func newVerifier(want Object, size int64, whole bool, next func() ([]byte, error)) *verifier {
	v := &verifier{next: next, want: want, size: size}
	if whole {
		v.hash = sha256.New()
	}
	return v
}

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	for len(v.part) == 0 && v.err == nil {
		v.part, v.err = v.next()
		v.got += int64(len(v.part))
		switch {
		case v.got > v.size:
			v.part = nil
			v.err = fmt.Errorf("object %s: more than %d bytes came: %w", v.want.Name, v.size, plugins.ErrCorrupt)
		case v.hash != nil:
			_, _ = v.hash.Write(v.part)
		}
		if errors.Is(v.err, io.EOF) {
			v.err = v.check()
		}
	}
	n := copy(p, v.part)
	v.part = v.part[n:]
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, v.err
}

// check compares what came with what was to come, and returns io.EOF when it agrees.
func (v *verifier) check() error {
	if v.got != v.size {
		return fmt.Errorf("object %s: %d bytes came, %d were announced: %w", v.want.Name, v.got, v.size, plugins.ErrCorrupt)
	}
	if v.hash != nil {
		if sum := v.hash.Sum(nil); [32]byte(sum) != v.want.SHA256 {
			return fmt.Errorf("object %s: SHA-256 is %s, announced was %s: %w", v.want.Name, hex.EncodeToString(sum), hex.EncodeToString(v.want.SHA256[:]), plugins.ErrCorrupt)
		}
	}
	return io.EOF
}

// partSize returns how many bytes of an object a Get of offset and length returns.
func partSize(o Object, offset, length int64) (int64, error) {
	if offset < 0 || length < 0 || offset > 0 && offset >= o.Size {
		return 0, fmt.Errorf("object %s: %d bytes from %d of %d: %w", o.Name, length, offset, o.Size, plugins.ErrInvalid)
	}
	rest := o.Size - offset
	if length == 0 || length > rest {
		return rest, nil
	}
	return length, nil
}

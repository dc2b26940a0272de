package partial

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A PatchKey names one patch: by the content of both files, not by their paths, so that a patch made for one locale
// serves all, and by everything that decides about its bytes.
type PatchKey struct {
	Old    [sha256.Size]byte // SHA-256 of the old file, decompressed
	New    [sha256.Size]byte // SHA-256 of the new file, decompressed
	Recipe string            // what makes and what compresses the patch, or between which ways of making one a choice was made
}

// Sum returns a SHA-256 that stands for the whole key, for stores whose names have one length.
func (k PatchKey) Sum() [sha256.Size]byte {
	h := sha256.New()
	h.Write(k.Old[:])
	h.Write(k.New[:])
	h.Write([]byte(k.Recipe))
	return [sha256.Size]byte(h.Sum(nil))
}

// A PatchCache keeps patches between builds. What Build puts in was verified before: applied to the old file it
// gave the new one. So a patch from the cache is not applied again; its value carries a hash over key and content,
// and a value that does not match is treated as missing. A cache never changes what Build returns, only how long
// it takes, and its failures never fail a build: they are counted in the report.
//
// Implementations must be safe for concurrent use and may forget anything at any time.
type PatchCache interface {
	// Get returns the value that was put under the key, and whether there is one.
	Get(ctx context.Context, key PatchKey) (value []byte, ok bool, err error)
	// Put keeps a value, which it may not change. A second Put for one key may be ignored: the values are
	// interchangeable.
	Put(ctx context.Context, key PatchKey, value []byte) error
}

// A Digest says what a compressed member holds.
type Digest struct {
	SHA256 [sha256.Size]byte // of the decompressed content
	Size   int64             // of the decompressed content, in bytes
}

// A DigestCache remembers what compressed members hold, so that a member that was seen before need not be
// decompressed to be named. The same promises hold as for a PatchCache, except that nothing protects a value:
// who can change it can make Build take the wrong patch. Keep it where only the builder writes.
type DigestCache interface {
	// Digest returns what was put for a member, and whether there is something. compressed is the SHA-256 of
	// the member as it stands in the MAR.
	Digest(ctx context.Context, compressed [sha256.Size]byte) (d Digest, ok bool, err error)
	// PutDigest remembers what a member holds.
	PutDigest(ctx context.Context, compressed [sha256.Size]byte, d Digest) error
}

// CacheStats says how the caches served a build.
type CacheStats struct {
	Hits   int64  `json:"hits"`            // patches that were taken from the cache
	Misses int64  `json:"misses"`          // patches that it was asked for and did not have
	Errors int64  `json:"errors"`          // answers that were errors or did not match their key
	Error  string `json:"error,omitempty"` // the first of them
}

// A cached value is 32 bytes of SHA-256 over key, kind, size and patch, one byte of kind, eight bytes of size and
// the patch.
const (
	valuePatch   = 1 // the patch follows; size is its length
	valueTooLong = 2 // no patch follows: it would have at least size bytes
	valueChoice  = 3 // no patch, but a choice as JSON follows
	valueHeader  = sha256.Size + 1 + 8
)

func sealValue(key PatchKey, kind byte, size int64, patch []byte) []byte {
	v := make([]byte, valueHeader, valueHeader+len(patch))
	v[sha256.Size] = kind
	binary.BigEndian.PutUint64(v[sha256.Size+1:], uint64(size))
	v = append(v, patch...)
	copy(v, valueSum(key, v))
	return v
}

func valueSum(key PatchKey, v []byte) []byte {
	h := sha256.New()
	k := key.Sum()
	h.Write(k[:])
	h.Write(v[sha256.Size:])
	return h.Sum(nil)
}

func openValue(key PatchKey, v []byte) (kind byte, size int64, patch []byte, err error) {
	if len(v) < valueHeader || subtle.ConstantTimeCompare(valueSum(key, v), v[:sha256.Size]) != 1 {
		return 0, 0, nil, fmt.Errorf("cached value of %d bytes does not match its key", len(v))
	}
	kind, size, patch = v[sha256.Size], int64(binary.BigEndian.Uint64(v[sha256.Size+1:])), v[valueHeader:]
	if kind != valueTooLong && (kind != valuePatch && kind != valueChoice || size != int64(len(patch))) {
		return 0, 0, nil, fmt.Errorf("cached value is of unknown kind %d", kind)
	}
	return kind, size, patch, nil
}

// caches are a build's caches, either of which may be absent, with the count of how they served.
type caches struct {
	patches PatchCache
	digests DigestCache
	memo    *Memo // instead of digests
	minimum int64 // size in bytes below which a new file is not looked up

	mu    sync.Mutex
	stats CacheStats
}

func openCaches(opts *BuildOptions) (*caches, error) {
	if opts.Digests != nil && opts.Memo != nil {
		return nil, errors.New("both a cache of digests and a memo are given, which hold the same")
	}
	c := &caches{patches: opts.Patches, digests: opts.Digests, memo: opts.Memo, minimum: opts.CacheMinimum}
	if c.minimum <= 0 {
		c.minimum = defaultCacheMinimum
	}
	return c, nil
}

func (c *caches) count(hit bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.stats.Errors++
		if c.stats.Error == "" {
			c.stats.Error = err.Error()
		}
	case hit:
		c.stats.Hits++
	default:
		c.stats.Misses++
	}
}

// get looks a patch up. known is false where the cache cannot tell: then it has to be made. A patch of limit bytes or
// more comes back as nil.
func (c *caches) get(ctx context.Context, key PatchKey, limit int64) (patch []byte, known bool) {
	v, ok, err := c.patches.Get(ctx, key)
	var kind byte
	var size int64
	if err == nil && ok {
		if kind, size, patch, err = openValue(key, v); err == nil && kind == valueChoice {
			err = errors.New("cached value is no patch")
		}
	}
	if err != nil || !ok {
		c.count(false, err)
		return nil, false
	}
	switch {
	case size >= limit:
		c.count(true, nil)
		return nil, true
	case kind == valuePatch:
		c.count(true, nil)
		return patch, true
	}
	c.count(false, nil) // at least size bytes, but perhaps below this limit
	return nil, false
}

func (c *caches) put(ctx context.Context, key PatchKey, kind byte, size int64, patch []byte) {
	if err := c.patches.Put(ctx, key, sealValue(key, kind, size, patch)); err != nil {
		c.count(false, err)
	}
}

// name returns what the caches know a compressed member by.
func (c *caches) name(m *updater.Member) (memberName, error) {
	if c.memo != nil {
		return c.memo.name(m)
	}
	return sumOf(m)
}

// digest returns what a compressed member holds, if that is known.
func (c *caches) digest(ctx context.Context, name memberName) (Digest, bool) {
	switch {
	case c.memo != nil:
		return c.memo.digest(name)
	case c.digests == nil:
		return Digest{}, false
	}
	d, ok, err := c.digests.Digest(ctx, name)
	if err != nil {
		c.count(false, err)
	}
	return d, ok && err == nil
}

func (c *caches) putDigest(ctx context.Context, name memberName, d Digest) {
	switch {
	case c.memo != nil:
		c.memo.putDigest(name, d)
	case c.digests != nil:
		if err := c.digests.PutDigest(ctx, name, d); err != nil {
			c.count(false, err)
		}
	}
}

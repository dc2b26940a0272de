package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// MemoryOptions limits a [Memory]. The zero value takes 256 MiB.
type MemoryOptions struct {
	// Bytes is the memory that the tier may take, in bytes; zero means 256 MiB. Values get 10/13 of it: the
	// rest is what the cache around them was measured to take.
	Bytes int64
	// Item is the largest value in bytes; zero means an eighth of what all values may take, which is also
	// the most it can be.
	Item int64
	// Mean is the expected size of a value in bytes, from which the number of counters follows; zero means
	// 64 KiB.
	Mean int64
}

// Memory keeps values in memory. It is lossy: a value that was put may be absent at once, or for ever, when the
// tier is busy or thinks that other values are asked for more often. It is safe for concurrent use.
//
// Values are copied when they are put, and shared, never copied, when they are got.
type Memory struct {
	item  int64
	now   func() time.Time
	stats counters

	mu     sync.RWMutex // held for reading while the cache is used: its Set must not run beside its Close
	closed bool
	cache  *ristretto.Cache[string, *memoryValue]

	liveMu    sync.Mutex
	live      map[*memoryValue]struct{}
	liveBytes int64
}

type memoryValue struct {
	info     Info
	data     []byte
	used     atomic.Int64 // when last put or got, in nanoseconds since 1970
	negative *NegativeError
}

// overhead is what a value costs beyond its bytes: the structure above, the maps' cells and the key.
const overhead = 320

// NewMemory returns an empty memory tier. It runs goroutines until it is closed.
func NewMemory(opts *MemoryOptions) (*Memory, error) {
	var o MemoryOptions
	if opts != nil {
		o = *opts
	}
	if o.Bytes == 0 {
		o.Bytes = 256 << 20
	}
	if o.Mean == 0 {
		o.Mean = 64 << 10
	}
	if o.Bytes < 0 || o.Mean < 0 || o.Item < 0 {
		return nil, errors.New("cache: negative limit of the memory tier")
	}
	maxCost := o.Bytes / 13 * 10
	largest := maxCost/8 - overhead
	if o.Item == 0 {
		o.Item = largest
	}
	if largest <= 0 || o.Item > largest {
		return nil, fmt.Errorf("cache: a memory tier of %d bytes cannot take items of %d bytes, at most %d", o.Bytes, o.Item, largest)
	}
	m := &Memory{item: o.Item, now: time.Now, live: make(map[*memoryValue]struct{})}
	c, err := ristretto.NewCache(&ristretto.Config[string, *memoryValue]{
		NumCounters:        max(100, 10*(maxCost/(o.Mean+overhead))),
		MaxCost:            maxCost,
		BufferItems:        64,
		Metrics:            true, // drops and evictions are told apart only there
		IgnoreInternalCost: true, // the cost given includes overhead
		OnExit:             m.exit,
		// Keys are sums already: their bytes are as good as any hash of them.
		KeyToHash: func(k string) (uint64, uint64) {
			return binary.BigEndian.Uint64([]byte(k[:8])), binary.BigEndian.Uint64([]byte(k[8:16]))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open memory tier: %w", err)
	}
	m.cache = c
	return m, nil
}

// exit is called by the cache for every value that leaves it.
func (m *Memory) exit(v *memoryValue) {
	if v == nil {
		return
	}
	m.liveMu.Lock()
	defer m.liveMu.Unlock()
	if _, ok := m.live[v]; ok {
		delete(m.live, v)
		m.liveBytes -= int64(len(v.data))
	}
}

// String returns "memory".
func (m *Memory) String() string { return "memory" }

// hashKey is what the cache takes as key: the sum, and the kind, which is part of the sum, for good measure.
func hashKey(k Key) string { return string(k.Sum[:]) + string(k.Kind) }

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, k Key) (*Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	v, ok := m.cache.Get(hashKey(k))
	if !ok || v == nil || v.info.Key != k {
		m.stats.misses.Add(1)
		return nil, ErrMiss
	}
	if v.negative != nil {
		if !m.now().Before(v.negative.Until) {
			m.cache.Del(hashKey(k))
			m.stats.misses.Add(1)
			return nil, ErrMiss
		}
		m.stats.negatives.Add(1)
		e := *v.negative
		return nil, &e
	}
	v.used.Store(m.now().UnixNano())
	m.stats.hits.Add(1)
	return NewEntry(v.info, bytes.NewReader(v.data), nil), nil
}

// Put implements [Store]. A value larger than the largest item gives an error that matches [ErrTooLarge]. A
// value for a key that is present is read to its end and dropped: keys name contents.
func (m *Memory) Put(ctx context.Context, k Key, r io.Reader) (Info, error) {
	if err := k.check(); err != nil {
		return Info{}, err
	}
	tooLarge := func() (Info, error) {
		return Info{}, fmt.Errorf("put %s into memory: %w: more than %d bytes", k, ErrTooLarge, m.item)
	}
	var buf bytes.Buffer
	if n, ok := sizeHint(r); ok {
		if n > m.item {
			return tooLarge()
		}
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(withContext(ctx, r), m.item+1)); err != nil {
		return Info{}, err
	}
	if int64(buf.Len()) > m.item {
		return tooLarge()
	}
	data := bytes.Clone(buf.Bytes()) // as large as the value and no larger
	v := &memoryValue{info: Info{Key: k, Size: int64(len(data)), SHA256: sha256.Sum256(data)}, data: data}
	return m.set(v)
}

// PutNegative implements [NegativePutter].
func (m *Memory) PutNegative(ctx context.Context, k Key, reason string, life time.Duration) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := k.check(); err != nil {
		return err
	}
	_, err := m.set(&memoryValue{
		info:     Info{Key: k},
		negative: &NegativeError{Key: k, Reason: reason, Until: m.now().Add(life)},
	})
	return err
}

// set returns what is stored afterwards, as far as the cache keeps it.
func (m *Memory) set(v *memoryValue) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Info{}, ErrClosed
	}
	key := hashKey(v.info.Key)
	if old, ok := m.cache.Get(key); ok && old != nil && old.info.Key == v.info.Key {
		if old.negative == nil {
			return old.info, nil // never update: the cache would not evict for the new cost
		}
		m.cache.Del(key)
	}
	v.used.Store(m.now().UnixNano())
	m.liveMu.Lock()
	m.live[v] = struct{}{}
	m.liveBytes += int64(len(v.data))
	m.liveMu.Unlock()
	m.stats.puts.Add(1)
	if !m.cache.Set(key, v, int64(len(v.data))+overhead) {
		m.exit(v)
	}
	return v.info, nil
}

// Wait returns when every earlier Put is either visible or dropped.
func (m *Memory) Wait() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Wait()
	}
}

// Purge removes what the filter matches and returns what that was.
func (m *Memory) Purge(ctx context.Context, f Filter) (Usage, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Usage{}, ErrClosed
	}
	m.cache.Wait() // what is on its way would survive otherwise
	m.liveMu.Lock()
	var victims []*memoryValue
	for v := range m.live {
		if f.matches(v.info.Key, m.now().Sub(time.Unix(0, v.used.Load()))) {
			victims = append(victims, v)
		}
	}
	m.liveMu.Unlock()
	var removed Usage
	for _, v := range victims {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		m.cache.Del(hashKey(v.info.Key))
		removed.Entries++
		removed.Bytes += v.info.Size
	}
	m.cache.Wait()
	return removed, nil
}

// Stats returns what has happened since the tier was made, and what it holds. Values that were put but not yet
// taken in or refused count as held.
func (m *Memory) Stats() Stats {
	s := m.stats.snapshot()
	s.Kinds = make(map[Kind]Usage)
	m.liveMu.Lock()
	for v := range m.live {
		u := s.Kinds[v.info.Key.Kind]
		u.Entries++
		u.Bytes += v.info.Size
		s.Kinds[v.info.Key.Kind] = u
	}
	m.liveMu.Unlock()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		s.Dropped = int64(m.cache.Metrics.SetsDropped() + m.cache.Metrics.SetsRejected())
		s.Evictions = int64(m.cache.Metrics.KeysEvicted())
	}
	return s
}

// Close drops all values and ends the tier's goroutines. Entries that were handed out stay readable. Later
// calls do nothing; other methods then return [ErrClosed].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.cache.Close()
	return nil
}

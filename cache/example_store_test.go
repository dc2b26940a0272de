package cache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/senbonzakura/senbonzakura/cache"
)

// table is a Store of one's own: a database, say. Its whole test is cachetest.Run.
type table struct {
	mu     sync.Mutex
	values map[cache.Key][]byte
}

func (t *table) Get(ctx context.Context, k cache.Key) (*cache.Entry, error) {
	if err := t.check(ctx, k); err != nil {
		return nil, err
	}
	t.mu.Lock()
	data, ok := t.values[k]
	t.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("%s: %w", k, cache.ErrMiss)
	}
	// Memory is trusted. What comes from elsewhere is compared with the hash that was kept when it was put.
	return cache.NewEntry(t.info(k, data), bytes.NewReader(data), nil), nil
}

func (t *table) Put(ctx context.Context, k cache.Key, r io.Reader) (cache.Info, error) {
	if err := t.check(ctx, k); err != nil {
		return cache.Info{}, err
	}
	var data []byte
	for chunk := make([]byte, 32<<10); ; { // io.ReadAll would not notice that ctx ends
		n, err := r.Read(chunk)
		data = append(data, chunk[:n]...)
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return cache.Info{}, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values[k] = data
	return t.info(k, data), nil
}

func (t *table) check(ctx context.Context, k cache.Key) error {
	if !k.Kind.Valid() {
		return fmt.Errorf("no kind of values is called %q", string(k.Kind))
	}
	return ctx.Err()
}

func (t *table) info(k cache.Key, data []byte) cache.Info {
	return cache.Info{Key: k, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// A store of one's own is a tier like any other.
func ExampleStore() {
	ctx := context.Background()
	own := &table{values: map[cache.Key][]byte{}}
	layered := cache.NewLayered([]cache.Store{own}, nil)
	defer layered.Close()
	key := cache.NewKey(cache.Patches, "old", "new", "recipe")
	for range 2 {
		entry, err := layered.GetOrFill(ctx, key, func(_ context.Context, w io.Writer) error {
			fmt.Println("made")
			_, err := io.WriteString(w, "a patch")
			return err
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		data, err := io.ReadAll(entry.Reader())
		entry.Close()
		fmt.Println(string(data), err)
	}
	// Output:
	// made
	// a patch <nil>
	// a patch <nil>
}

package storage_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// A client stores objects and gets them back, whole or in part. Here the plugin runs in the same process;
// storage.Start runs one of its own.
func ExampleClient() {
	ctx := context.Background()
	client, done := exampleClient()
	defer done()

	text := "the bytes of an object"
	object := storage.Object{Name: "some/object", Size: int64(len(text)), SHA256: sha256.Sum256([]byte(text))}
	for range 2 {
		_, created, err := client.PutIfAbsent(ctx, object, func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		})
		fmt.Println("created:", created, err)
	}
	r, err := client.Get(ctx, object.Name, &storage.GetOptions{Offset: 4, Length: 5})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	part, err := io.ReadAll(r)
	fmt.Printf("%s %v, of %d bytes\n", part, err, r.Object().Size)
	// Output:
	// created: true <nil>
	// created: false <nil>
	// bytes <nil>, of 22 bytes
}

// A tier makes a storage plugin a cache.Store.
func ExampleTier() {
	ctx := context.Background()
	client, done := exampleClient()
	defer done()
	tier, err := storage.NewTier(client, &storage.TierOptions{Prefix: "updates/"})
	if err != nil {
		panic(err)
	}
	key := cache.NewKey(cache.Partials, "from", "to", "recipe")
	if _, err := tier.Put(ctx, key, strings.NewReader("a partial update")); err != nil {
		panic(err)
	}
	entry, err := tier.Get(ctx, key)
	if err != nil {
		panic(err)
	}
	defer entry.Close()
	fmt.Println(entry.Size(), strings.HasPrefix(tier.ObjectName(key), "updates/partials/"))
	// Output:
	// 16 true
}

func exampleClient() (*storage.Client, func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	backend, err := storage.NewDir(root)
	if err != nil {
		panic(err)
	}
	client, err := storage.Local(backend)
	if err != nil {
		panic(err)
	}
	return client, func() {
		client.Close()
		backend.Close()
		os.RemoveAll(dir)
	}
}

package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/senbonzakura/senbonzakura/cache"
)

// Memory over disk: however many ask for a value at a time, it is made once.
func ExampleLayered_GetOrFill() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cache-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	disk, err := cache.OpenDisk(ctx, dir, &cache.DiskOptions{
		Limits: map[cache.Kind]cache.Limit{cache.Patches: {Bytes: 1 << 30}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	memory, err := cache.NewMemory(&cache.MemoryOptions{Bytes: 64 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer memory.Close()
	layered := cache.NewLayered([]cache.Store{memory, disk}, nil)
	defer layered.Close()

	// Everything that has an influence on the bytes is part of the key.
	key := cache.NewKey(cache.Patches, "hash of the old file", "hash of the new file", "recipe")
	var made int
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			entry, err := layered.GetOrFill(ctx, key, func(_ context.Context, w io.Writer) error {
				made++
				_, err := io.WriteString(w, "a patch")
				return err
			})
			if err != nil {
				fmt.Println(err)
				return
			}
			entry.Close()
		})
	}
	wg.Wait()
	entry, err := disk.Get(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer entry.Close()
	part := make([]byte, 5)
	if _, err := entry.ReadAt(part, 2); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("made %d time, %d bytes, from the third on: %s\n", made, entry.Size(), part)
	// Output: made 1 time, 7 bytes, from the third on: patch
}

func ExampleDisk_Verify() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cache-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	disk, err := cache.OpenDisk(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	if err := disk.PutNegative(ctx, cache.NewKey(cache.Partials, "from", "to"), "the versions are a watershed apart", 1e12); err != nil {
		fmt.Println(err)
		return
	}
	report, err := disk.Verify(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = disk.Get(ctx, cache.NewKey(cache.Partials, "from", "to"))
	var negative *cache.NegativeError
	fmt.Println(report.Checked.Entries, "entry checked,", len(report.Damaged), "damaged;", errors.As(err, &negative), negative.Reason)
	// Output: 1 entry checked, 0 damaged; true the versions are a watershed apart
}

package cache_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/cache"
)

// front is a store before a disk, as one that counts or fails on purpose is.
type front struct {
	*cache.Disk
	begun int
}

func (f *front) BeginFile(ctx context.Context, k cache.Key, name string, sha512 *[64]byte) (cache.Pending, error) {
	f.begun++
	return f.Disk.BeginFile(ctx, k, name, sha512)
}

// What stands in front of a disk and is a Spooler keeps what a disk has for a fill: the directory, and files that are taken over.
func TestSpoolerInFrontOfADisk(t *testing.T) {
	t.Parallel()
	disk, err := cache.OpenDisk(t.Context(), filepath.Join(t.TempDir(), "cache"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	tier := &front{Disk: disk}
	l := cache.NewLayered([]cache.Store{tier}, nil)
	defer l.Close()
	if l.TempDir() != disk.TempDir() {
		t.Fatalf("files are made in %q, want %q", l.TempDir(), disk.TempDir())
	}
	name := filepath.Join(l.TempDir(), "made")
	if err := os.WriteFile(name, []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := cache.NewKey(cache.Completes, "x")
	e, err := l.GetOrFill(t.Context(), key, func(_ context.Context, w io.Writer) error {
		return w.(cache.Adopter).Adopt(name)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got, err := io.ReadAll(e.Reader()); err != nil || string(got) != "value" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := os.Stat(name); err == nil || tier.begun != 1 {
		t.Errorf("the file was not taken over (%d times begun)", tier.begun)
	}
	kept, err := disk.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	kept.Close()
}

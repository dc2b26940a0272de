package cache_test

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/cache/cachetest"
)

func memoryConfig() cachetest.Config {
	return cachetest.Config{
		New: func(tb testing.TB) cache.Store {
			tb.Helper()
			m, err := cache.NewMemory(nil)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { m.Close() })
			return m
		},
		Lossy:  true,
		Settle: func(s cache.Store) { s.(*cache.Memory).Wait() },
	}
}

func openDisk(tb testing.TB, dir string, opts *cache.DiskOptions) *cache.Disk {
	tb.Helper()
	d, err := cache.OpenDisk(tb.Context(), dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

func diskConfig() cachetest.Config {
	dirs := make(map[cache.Store]string)
	return cachetest.Config{
		New: func(tb testing.TB) cache.Store {
			tb.Helper()
			dir := tb.TempDir()
			d := openDisk(tb, dir, nil)
			dirs[d] = dir
			return d
		},
		Restart: func(tb testing.TB, s cache.Store) cache.Store {
			tb.Helper()
			s.(*cache.Disk).Close()
			return openDisk(tb, dirs[s], nil)
		},
	}
}

func layeredConfig() cachetest.Config {
	return cachetest.Config{
		New: func(tb testing.TB) cache.Store {
			tb.Helper()
			memory := memoryConfig().New(tb)
			return cache.NewLayered([]cache.Store{memory, openDisk(tb, tb.TempDir(), nil)}, nil)
		},
		Copies: 2,
	}
}

func TestMemory(t *testing.T)  { cachetest.Run(t, memoryConfig()) }
func TestDisk(t *testing.T)    { cachetest.Run(t, diskConfig()) }
func TestLayered(t *testing.T) { cachetest.Run(t, layeredConfig()) }

// The example's store keeps the contract, as what is copied should.
func TestExampleStore(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, cachetest.Config{New: func(testing.TB) cache.Store { return &table{values: map[cache.Key][]byte{}} }})
}

func BenchmarkMemory(b *testing.B) { cachetest.Benchmark(b, memoryConfig()) }
func BenchmarkDisk(b *testing.B)   { cachetest.Benchmark(b, diskConfig()) }

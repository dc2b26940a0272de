package cache_test

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/cache/cachetest"
)

func memoryConfig() cachetest.Config {
	return cachetest.Config{
		New: func(t testing.TB) cache.Store {
			m, err := cache.NewMemory(nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			return m
		},
		Lossy:  true,
		Settle: func(s cache.Store) { s.(*cache.Memory).Wait() },
	}
}

func openDisk(t testing.TB, dir string, opts *cache.DiskOptions) *cache.Disk {
	t.Helper()
	d, err := cache.OpenDisk(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func diskConfig() cachetest.Config {
	dirs := make(map[cache.Store]string)
	return cachetest.Config{
		New: func(t testing.TB) cache.Store {
			dir := t.TempDir()
			d := openDisk(t, dir, nil)
			dirs[d] = dir
			return d
		},
		Restart: func(t testing.TB, s cache.Store) cache.Store {
			s.(*cache.Disk).Close()
			return openDisk(t, dirs[s], nil)
		},
	}
}

func layeredConfig() cachetest.Config {
	return cachetest.Config{
		New: func(t testing.TB) cache.Store {
			memory := memoryConfig().New(t)
			return cache.NewLayered([]cache.Store{memory, openDisk(t, t.TempDir(), nil)}, nil)
		},
		Copies: 2,
	}
}

func TestMemory(t *testing.T)  { cachetest.Run(t, memoryConfig()) }
func TestDisk(t *testing.T)    { cachetest.Run(t, diskConfig()) }
func TestLayered(t *testing.T) { cachetest.Run(t, layeredConfig()) }

func BenchmarkMemory(b *testing.B) { cachetest.Benchmark(b, memoryConfig()) }
func BenchmarkDisk(b *testing.B)   { cachetest.Benchmark(b, diskConfig()) }

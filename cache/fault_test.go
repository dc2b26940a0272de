package cache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/cache/cachetest"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// temporary says whether a file of a cache directory is left over, once every Disk is closed.
func temporary(name string) bool {
	return strings.HasPrefix(name, "tmp/") || strings.HasPrefix(name, ".")
}

func TestDiskFaults(t *testing.T) {
	t.Parallel()
	cachetest.Faults(t, cachetest.FaultConfig{
		Open: func(tb testing.TB, dir string, fsys osfs.FS) (cache.Store, error) {
			tb.Helper()
			d, err := cache.OpenDiskOn(tb.Context(), dir, cache.DiskOptions{}, fsys, time.Now)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
		Temporary: temporary,
	})
}

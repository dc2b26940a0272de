//go:build unix

package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/cache"
)

// diskPatches keeps patches on disk.
type diskPatches struct {
	store cache.Store
	salt  atomic.Int64 // part of every key: another salt is an empty cache
}

func (d *diskPatches) key(k PatchKey) cache.Key {
	sum := k.Sum()
	return cache.NewKey(cache.Patches, string(sum[:]), fmt.Sprint(d.salt.Load()))
}

func (d *diskPatches) Get(ctx context.Context, k PatchKey) ([]byte, bool, error) {
	e, err := d.store.Get(ctx, d.key(k))
	if errors.Is(err, cache.ErrMiss) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer e.Close()
	value, err := io.ReadAll(e.Reader())
	return value, err == nil, err
}

func (d *diskPatches) Put(ctx context.Context, k PatchKey, value []byte) error {
	_, err := d.store.Put(ctx, d.key(k), bytes.NewReader(value))
	return err
}

// source returns about n bytes that look like a program's text.
func source(r *rand.Rand, n int) []byte {
	words := []string{"function", "return", "const", "value", "this", "window", "await", "=>", "{", "}\n", "(", ")", ";\n", "=", "."}
	var b bytes.Buffer
	for b.Len() < n {
		switch r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "name%x ", r.IntN(4096))
		default:
			b.WriteString(words[r.IntN(len(words))])
			b.WriteByte(' ')
		}
	}
	return b.Bytes()[:n]
}

// BenchmarkThreshold compares what a changed file costs by its size: work=make makes and proves its patch and asks no
// cache, work=hit finds it in one on disk, work=store makes it and puts it there. See BuildOptions.CacheMinimum.
// cpu-ns/op is CPU time, which other programs disturb less.
func BenchmarkThreshold(b *testing.B) {
	disk, err := cache.OpenDisk(b.Context(), b.TempDir()+"/cache", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer disk.Close()
	d, memo := &diskPatches{store: disk}, NewMemo()
	for _, size := range []int{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		r := rand.New(rand.NewPCG(1, uint64(size)))
		old := source(r, size)
		var members [2]*updater.Member
		for i, content := range [][]byte{old, updatetest.Edited(r, old)} {
			packed, err := compress(b.Context(), XZ{Level: Level6}, Content{Kind: ContentFile}, content)
			if err != nil {
				b.Fatal(err)
			}
			members[i] = updater.NewMember("file", 0o644, packed)
		}
		decide := func(cached bool) decision {
			w := &patcher{
				pair:   &pair{recipe: DefaultRecipe().For(nil), lim: updater.Limits{}.WithDefaults(), memory: NewMemory(DefaultMemory)},
				caches: &caches{minimum: 1}, strategies: DefaultRecipe().For(nil).strategies(),
			}
			s := &step{name: "file", from: members[0], to: members[1], whole: members[1]}
			g := &group{steps: []*step{s}}
			if cached {
				w.caches.patches, w.caches.memo = d, memo
				if err := s.nameMembers(w.caches); err != nil {
					b.Fatal(err)
				}
			}
			res, err := w.decide(b.Context(), g, watch{func(int64) {}, func(strategy) {}, func(_, _ int64) {}})
			if err != nil {
				b.Fatal(err)
			}
			return res
		}
		for _, work := range []string{"make", "hit", "store"} {
			b.Run(fmt.Sprintf("work=%s/size=%d", work, size), func(b *testing.B) {
				if work == "hit" {
					decide(true)
				}
				b.ReportAllocs()
				before := usedCPU(b)
				for b.Loop() {
					if work == "store" {
						d.salt.Add(1)
					}
					if res := decide(work != "make"); res.cached != (work == "hit") {
						b.Fatalf("cached %v", res.cached)
					}
				}
				b.ReportMetric(float64(usedCPU(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// usedCPU returns the nanoseconds of CPU time that this process has taken.
func usedCPU(tb testing.TB) int64 {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

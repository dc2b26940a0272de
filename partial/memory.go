package partial

import (
	"cmp"
	"context"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// DefaultMemory is the bound, in bytes, on what the files in work may take together where none is given. The
// largest file of a Firefox release needs about this much on its own.
const DefaultMemory = 1 << 30

// Memory bounds, in bytes, what all jobs that share it hold at one time. What a job needs is declared before it
// starts; one that needs more than there is runs alone. Jobs wait in the order in which they asked, except that an
// eighth of the memory is a lane of its own, in which small jobs pass large ones that wait. Safe for concurrent use;
// share one between all Builds of a process.
type Memory struct {
	size int64
	lane int64               // the part of size for jobs of at most this
	main *semaphore.Weighted // size-lane
	side *semaphore.Weighted // lane
	back atomic.Int64        // given back since the garbage collector ran
}

// How many bytes may be given back before the garbage collector is run: a quarter of what was in use when it ran last, within
// these bounds. By itself it waits until as much garbage as data has come together, and the bound would hold for half
// of the memory only. A run costs milliseconds, because nearly everything here is bytes without pointers; but what it has freed
// is cleared again before it is used, which large releases, that give back a lot, would feel.
const (
	collectLeast = 16 << 20
	collectMost  = 48 << 20
)

// collect is told that n bytes were let go. It runs the garbage collector if they, and those before them, are worth it.
func (m *Memory) collect(n int64) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if m.back.Add(n) >= min(max(int64(live[0].Value.Uint64()/4), collectLeast), collectMost) {
		m.back.Store(0)
		runtime.GC()
	}
}

// NewMemory returns a bound of that many bytes. It panics if bytes is not positive.
func NewMemory(bytes int64) *Memory {
	if bytes <= 0 {
		panic("partial: NewMemory needs a positive number of bytes")
	}
	lane := bytes / 8
	return &Memory{size: bytes, lane: lane, main: semaphore.NewWeighted(bytes - lane), side: semaphore.NewWeighted(lane)}
}

// Size returns the bound in bytes.
func (m *Memory) Size() int64 { return m.size }

// split says where a job finds its n bytes. One that does not fit into the lane takes what it needs beside it, and the
// rest from it.
func (m *Memory) split(n int64) (main, side int64) {
	n = min(max(n, 1), m.size)
	if n <= m.lane {
		return 0, n
	}
	main = min(n, m.size-m.lane)
	return main, n - main
}

// try reserves n bytes if they are there and nobody has asked for them before.
func (m *Memory) try(n int64) (*reservation, bool) {
	main, side := m.split(n)
	if main == 0 && m.main.TryAcquire(side) { // the lane is for when the rest is taken
		return &reservation{m: m, main: side}, true
	}
	if main > 0 && !m.main.TryAcquire(main) {
		return nil, false
	}
	if side > 0 && !m.side.TryAcquire(side) {
		m.main.Release(main)
		return nil, false
	}
	return &reservation{m: m, main: main, side: side}, true
}

// wait reserves n bytes, standing in line. Who waits for the lane either holds nothing or all that it needs beside it,
// and nobody waits the other way round, so that all get on.
func (m *Memory) wait(ctx context.Context, n int64) (*reservation, error) {
	main, side := m.split(n)
	if main > 0 { // who needs nothing there does not stand in line there
		if err := m.main.Acquire(ctx, main); err != nil {
			return nil, err
		}
	}
	if side > 0 {
		if err := m.side.Acquire(ctx, side); err != nil {
			m.main.Release(main)
			return nil, err
		}
	}
	return &reservation{m: m, main: main, side: side}, nil
}

// A reservation is a share of a Memory. It is not safe for concurrent use.
type reservation struct {
	m          *Memory
	main, side int64
	freed      chan<- struct{} // told, without waiting, whenever some is given back
}

// keep gives back all but n bytes, those of the lane first.
func (r *reservation) keep(n int64) {
	back := r.main + r.side - max(n, 0)
	if back <= 0 {
		return
	}
	side := min(back, r.side)
	r.side -= side
	r.m.side.Release(side)
	r.main -= back - side
	r.m.main.Release(back - side)
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// A job is a piece of work that holds memory.
type job struct {
	memory int64 // bytes it holds at most
	order  int64 // larger ones start first
	run    func(ctx context.Context, r *reservation) error
}

// runJobs runs jobs, the largest first, on at most workers goroutines and within mem. Where the next one does not
// fit, smaller ones that do go first. It returns the first error, after all that were started have ended.
func runJobs(ctx context.Context, workers int, mem *Memory, jobs []job) error {
	pending := slices.Clone(jobs)
	slices.SortStableFunc(pending, func(a, b job) int { return cmp.Compare(b.order, a.order) })
	outer := ctx
	g, ctx := errgroup.WithContext(outer)
	done := make(chan struct{}, len(jobs))
	freed := make(chan struct{}, 1)
	running := 0
	for len(pending) > 0 && ctx.Err() == nil {
		started := false
		if running < workers {
			for i, j := range pending {
				r, ok := mem.try(j.memory)
				if !ok {
					if i > 0 || running > 0 {
						continue
					}
					// nothing of ours will give any back: stand in line
					var err error
					if r, err = mem.wait(ctx, j.memory); err != nil {
						break
					}
				}
				r.freed = freed
				pending = slices.Delete(pending, i, i+1)
				running++
				started = true
				g.Go(func() error {
					defer func() {
						r.keep(0)
						done <- struct{}{}
					}()
					return j.run(ctx, r)
				})
				break
			}
		}
		if started {
			continue
		}
		select {
		case <-done:
			running--
		case <-freed:
		case <-ctx.Done():
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return outer.Err()
}

// workerCount returns how many goroutines to use where an option says n.
func workerCount(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

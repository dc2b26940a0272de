package partial

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// However many builds share a memory and whatever their jobs need, they hold no more than there is and all end.
func TestMemoryIsShared(t *testing.T) {
	t.Parallel()
	const size = 1000
	m := NewMemory(size)
	var held, jobsRun atomic.Int64
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		jobs := make([]job, 100)
		for i := range jobs {
			// small ones, large ones, and some that need more than there is
			need := [...]int64{r.Int64N(size / 8), r.Int64N(size), size - r.Int64N(size/8), 2 * size}[r.IntN(4)]
			counts := min(need, size)
			jobs[i] = job{memory: need, order: need, run: func(_ context.Context, res *reservation) error {
				if now := held.Add(counts); now > size {
					t.Errorf("%d bytes are held, of %d", now, size)
				}
				runtime.Gosched()
				half := counts / 2
				held.Add(half - counts)
				res.keep(half)
				runtime.Gosched()
				held.Add(-half)
				jobsRun.Add(1)
				return nil
			}}
		}
		wg.Go(func() {
			if err := runJobs(t.Context(), 3, m, jobs); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := jobsRun.Load(); got != 800 {
		t.Errorf("%d jobs ran, want 800", got)
	}
	if r, ok := m.try(2 * size); !ok {
		t.Error("not everything was given back")
	} else {
		r.keep(0)
	}
}

// Who waits in either line leaves when its context ends, and takes nothing along.
func TestMemoryWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(800)
		if !m.side.TryAcquire(100) { // now the lane is full
			t.Fatal("the lane is not empty at first")
		}
		for _, need := range []int64{800, 100} { // all beside the lane, then standing in line for it; the lane alone
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := m.wait(ctx, need)
				failed <- err
			}()
			synctest.Wait()
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("wait for %d bytes: %v", need, err)
			}
		}
		m.side.Release(100)
		r, ok := m.try(800)
		if !ok {
			t.Fatal("those who left hold something")
		}
		r.keep(0)
	})
}

package engine_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
)

// percentiles reports how long calls took.
type percentiles struct {
	mu   sync.Mutex
	took []time.Duration
}

func (p *percentiles) add(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, d)
}

func (p *percentiles) report(b *testing.B) {
	b.Helper()
	slices.Sort(p.took)
	for _, at := range []int{50, 99} {
		b.ReportMetric(float64(p.took[min(len(p.took)*at/100, len(p.took)-1)].Microseconds())/1000, fmt.Sprintf("p%d-ms", at))
	}
}

// BenchmarkAccept measures how long it takes until a new job is accepted: in the ledger and in the queue, synced. (L5)
func BenchmarkAccept(b *testing.B) {
	for _, callers := range []int{1, 20} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			o := newOrigin(b)
			n := open(b, setting{dir: b.TempDir(), options: func(o *engine.Options) { o.Slots = -1 }})
			spec := o.spec(b, "x")
			var p percentiles
			var i atomic.Int64
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					spec := spec
					spec.Labels = map[string]string{"n": fmt.Sprint(i.Add(1))}
					start := time.Now()
					if _, _, err := n.Submit(b.Context(), spec, alice); err != nil {
						b.Error(err)
						return
					}
					p.add(time.Since(start))
				}
			})
			p.report(b)
		})
	}
}

// BenchmarkKnown measures asking for a job that is done, which is what an API answers most of the time.
func BenchmarkKnown(b *testing.B) {
	o := newOrigin(b)
	n := open(b, setting{dir: b.TempDir()})
	spec := o.spec(b, "x")
	id := n.wait(n.submit(spec).ID).ID
	b.Run("submit", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, created, err := n.Submit(b.Context(), spec, alice); err != nil || created {
					b.Error(created, err)
					return
				}
			}
		})
	})
	b.Run("status", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.Status(b.Context(), id); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("artifact", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a, err := n.Artifact(b.Context(), id)
				if err != nil {
					b.Error(err)
					return
				}
				a.Close()
			}
		})
	})
	b.Run("take", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if ok, _, err := n.Take(b.Context(), "x", 1, 1<<30, time.Minute); err != nil || !ok {
					b.Error(ok, err)
					return
				}
			}
		})
	})
}

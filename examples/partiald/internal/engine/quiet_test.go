package engine_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// Jobs that succeed are no errors. Their last step is often being told when the end is there to be told.
func TestSuccessIsQuiet(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	}})
	for i := range 10 {
		if st := n.wait(n.submit(o.spec(t, fmt.Sprint(i))).ID); st.State != job.Done {
			t.Fatalf("%s, %v", st.State, st.Error)
		}
	}
	if got := log.String(); got != "" {
		t.Errorf("the log says\n%s", got)
	}
}

// Several monitors may ask at the same time.
func TestHealthAtOnce(t *testing.T) {
	t.Parallel()
	n := open(t, setting{dir: t.TempDir(), queue: queue.Options{Lazy: true}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				for _, h := range n.Health(t.Context()) {
					if !h.OK {
						t.Errorf("%s: %s", h.Name, h.Error)
					}
				}
			}
		})
	}
	wg.Wait()
}

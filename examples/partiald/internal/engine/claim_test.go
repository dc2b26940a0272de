package engine

import (
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// The answer to a claim may get lost. Who asks again finds that the job is his, and not that somebody died over it.
func TestClaimedAlready(t *testing.T) {
	t.Parallel()
	e := &Engine{o: Options{Clock: time.Now}, drainCtx: t.Context()}
	a := &attempt{e: e, id: "x", token: "ours", m: &queue.Message{ID: "x"}}
	r := record{Token: "ours", Deaths: 1}
	r.Attempt = 3
	r.step(job.Fetching, time.Time{}, "", "")
	claimed, err := e.claimRecord(t.Context(), a, r, 7)
	if err != nil || !claimed || a.number != 3 || a.revision != 7 || a.record.Deaths != 1 {
		t.Errorf("%v, %v: attempt %d at revision %d after %d deaths, want the third at 7 after one", claimed, err, a.number, a.revision, a.record.Deaths)
	}
}

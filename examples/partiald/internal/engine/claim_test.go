package engine

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
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

// An attempt that comes to its end while a step is being told tells it with the end: nothing is wrong then.
func TestToldLater(t *testing.T) {
	t.Parallel()
	q, err := queue.Open(t.Context(), queue.Options{Server: "x", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	q.Close() // it does not answer
	var said bytes.Buffer
	a := &attempt{e: &Engine{q: q, log: slog.New(slog.NewTextHandler(&said, nil))}, id: "x"}
	for _, tt := range []struct {
		end   func(context.Context) (context.Context, context.CancelFunc)
		error bool
	}{
		{context.WithCancel, false},
		{func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		}, true},
	} {
		ctx, end := tt.end(t.Context())
		if !tt.error {
			end()
		}
		if a.change(ctx, func(*record) {}) {
			t.Error("told to nobody")
		}
		if got := strings.Contains(said.String(), "level=ERROR"); got != tt.error {
			t.Errorf("an error is logged: %v, want %v: %s", got, tt.error, said.String())
		}
		end()
	}
}

package engine_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// TestAttempts says of a job whose origin is down for a while what happened to it, and what comes next; also after a
// restart that leaves nothing but the ledger.
func TestAttempts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var down atomic.Bool
	down.Store(true)
	o.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
		}
		return down.Load()
	})
	dir := t.TempDir()
	settings := setting{dir: dir, options: func(o *engine.Options) { o.Attempts, o.RetryDelay = 4, 500*time.Millisecond }}
	n := open(t, settings)
	spec := o.spec(t, "x")
	spec.From.Name = "old.mar"
	id := n.submit(spec).ID
	s := n.until(id, func(s job.Status) bool { return s.Next != nil })
	if s.State != job.Queued || s.Next.Try != 2 || s.Next.Of != 4 || time.Until(s.Next.At) > time.Second || s.Next.At.Before(s.Attempts[0].Ended) {
		t.Errorf("while it waits: %s, next %+v", s.State, s.Next)
	}
	down.Store(false)
	s = n.wait(id)
	if s.State != job.Done || s.Next != nil || s.By != "alice" || s.Spec.From.Name != "old.mar" || len(s.Attempts) < 2 {
		t.Fatalf("at the end: %s, next %+v, by %q, %q, %d attempts", s.State, s.Next, s.By, s.Spec.From.Name, len(s.Attempts))
	}
	first, last := s.Attempts[0], s.Attempts[len(s.Attempts)-1]
	if first.Number != 1 || first.Outcome != job.AttemptFailed || first.Step != job.Fetching || first.Error == nil ||
		first.Error.Code != job.CodeFetch || first.Error.Whose() != job.FaultOrigin || first.Ended.Before(first.Begun) {
		t.Errorf("the first: %+v, %+v", first, first.Error)
	}
	if last.Outcome != job.AttemptDone || last.Error != nil || last.Server == "" || last.Begun.Before(first.Ended) || last.Ended.IsZero() {
		t.Errorf("the last: %+v", last)
	}
	want := &job.About{Product: "Firefox", FromVersion: "140.1", ToVersion: "140.2", FromBuild: "20260101000000", ToBuild: "20260101000000", Locale: "de"}
	if diff := cmp.Diff(want, s.About); diff != "" {
		t.Errorf("what the completes say (-want +got):\n%s", diff)
	}
	n.close()
	n = open(t, setting{dir: dir, queue: settings.queue, options: func(o *engine.Options) { o.Slots = -1 }})
	page, err := n.History(t.Context(), job.Filter{Text: "140.1"})
	if err != nil || len(page.Jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(page.Jobs), err)
	}
	got := page.Jobs[0]
	got.Changes, s.Changes = nil, nil
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
}

// TestAttemptsThatDoNotFail ends attempts in the other ways.
func TestAttemptsThatDoNotFail(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	arrived, release := o.hold(t)
	dir := t.TempDir()
	n := open(t, setting{dir: dir})
	id := n.submit(o.spec(t, "x")).ID
	<-arrived
	n.close()
	n = open(t, setting{dir: dir})
	s := n.until(id, func(s job.Status) bool { return len(s.Attempts) == 2 })
	if a := s.Attempts[0]; a.Outcome != job.AttemptHandedBack || a.Error != nil || a.Step != job.Fetching {
		t.Errorf("at a stop: %+v", a)
	}
	if a := s.Attempts[1]; a.Outcome != "" || !a.Ended.IsZero() {
		t.Errorf("under work: %+v", a)
	}
	if s, err := n.Cancel(t.Context(), id, alice); err != nil || s.Attempts[1].Outcome != job.AttemptCancelled {
		t.Errorf("cancelled: %+v, %v", s.Attempts, err)
	}
	release()
}

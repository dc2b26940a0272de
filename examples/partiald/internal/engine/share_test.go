package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// One caller cannot fill the queue for all: beyond half of it, or what Share says, more of theirs are refused, however they
// are asked for, and those of others are taken.
func TestShareOfQueue(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	dir := t.TempDir()
	n := open(t, setting{dir: dir, queue: queue.Options{Limit: 11}, options: func(o *engine.Options) { o.Slots = -1 }})
	hog, other := job.Asker{Name: "hog", Token: true, Address: "192.0.2.7"}, job.Asker{Name: "other", Token: true, Address: "192.0.2.7"}
	refused := func(err error) bool {
		var e *job.Error
		return errors.As(err, &e) && e.Code == job.CodeQuota && e.Retryable && e.RetryAfter > 0 && strings.Contains(e.Message, "queue.per_caller")
	}
	var taken, over atomic.Int64
	specs := make([]job.Spec, 10)
	for i := range specs {
		specs[i] = o.spec(t, fmt.Sprint(i))
		switch _, _, err := n.Submit(t.Context(), specs[i], hog); {
		case err == nil:
			taken.Add(1)
		case refused(err):
			over.Add(1)
		default:
			t.Error(err)
		}
	}
	if taken.Load() != 6 || over.Load() != 4 {
		t.Fatalf("%d taken and %d refused, want 6, which is half of 11, and 4", taken.Load(), over.Load())
	}
	var rest []job.Spec // that were refused
	var ids []string
	for _, spec := range specs {
		id, err := n.Check(spec, hog)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Status(t.Context(), id); err != nil {
			rest = append(rest, spec)
			continue
		}
		ids = append(ids, id)
		if _, created, err := n.Submit(t.Context(), spec, hog); err != nil || created {
			t.Errorf("what waits already: created %v, %v", created, err)
		}
	}
	if _, err := n.SubmitBatch(t.Context(), rest[:2], nil, hog); !refused(err) {
		t.Errorf("a batch: %v", err)
	}

	// Who asks for what somebody else asked for takes no place, and gives none back.
	if _, created, err := n.Submit(t.Context(), known(t, n, ids[0]), other); err != nil || created {
		t.Errorf("joined: created %v, %v", created, err)
	}
	for _, spec := range rest[:3] {
		if _, created, err := n.Submit(t.Context(), spec, other); err != nil || !created {
			t.Errorf("another caller: created %v, %v", created, err)
		}
	}
	if _, _, err := n.Submit(t.Context(), rest[3], hog); !refused(err) {
		t.Errorf("still over: %v", err)
	}

	// A place that is given back can be used, also by trying again what somebody else asked for.
	if _, err := n.Cancel(t.Context(), ids[0], hog); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Retry(t.Context(), ids[0], other); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.Submit(t.Context(), rest[3], hog); err != nil {
		t.Errorf("after one was cancelled, and tried again by another: %v", err)
	}
	if _, _, err := n.Submit(t.Context(), o.spec(t, "more"), hog); !refused(err) {
		t.Errorf("over again: %v", err)
	}

	// A server that starts knows whose they are.
	n.close()
	n = open(t, setting{dir: dir, queue: queue.Options{Limit: 11}, options: func(o *engine.Options) { o.Slots, o.Share = -1, 7 }})
	if _, _, err := n.Submit(t.Context(), o.spec(t, "more"), hog); err != nil {
		t.Errorf("a larger share: %v", err)
	}
	if _, _, err := n.Submit(t.Context(), o.spec(t, "even more"), hog); codeOf(err) != job.CodeQueueFull {
		t.Errorf("the queue is full, and that is said first: %v", err)
	}
}

// Callers without a token have their share by address.
func TestAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		who  job.Asker
		want string
	}{
		{job.Asker{Name: "bot", Token: true, Address: "192.0.2.1"}, "bot"},
		{job.Asker{Name: "anonymous", Address: "192.0.2.1"}, "anonymous 192.0.2.1"},
		{job.Asker{Name: "audit"}, "audit"},
	} {
		if got := tt.who.Account(); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.who, got, tt.want)
		}
	}
}

// known returns what a job was asked for with.
func known(tb testing.TB, n *node, id string) job.Spec {
	tb.Helper()
	st, err := n.Status(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return st.Spec
}

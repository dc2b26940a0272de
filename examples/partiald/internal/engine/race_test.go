package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// soon is much less than AckWait, and than the time after which the ledger is compared with the queue.
const soon = 15 * time.Second

func (n *node) doneSoon(id string) {
	n.t.Helper()
	start := time.Now()
	if s := n.wait(id); s.State != job.Done || time.Since(start) > soon {
		n.t.Errorf("%s after %v, want done soon: %v, %+v", s.State, time.Since(start), s.Error, s.Changes)
	}
}

// TestRetriedAtOnce asks for a job again in the moment in which it becomes known that it has failed, when its message is
// still in the queue.
func TestRetriedAtOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var n *node
	var once sync.Once
	good := o.spec(t, "x")
	bad := good
	bad.From.URLs = []string{o.URL + "/nothing"}
	retried := make(chan error, 1)
	n = open(t, setting{dir: t.TempDir(), options: func(options *engine.Options) {
		options.RequeueEvery = time.Hour
		options.Observer.Finished = func(s job.Status) {
			once.Do(func() {
				_, created, err := n.Submit(context.Background(), good, alice)
				if err == nil && !created {
					err = errors.New("not made again")
				}
				retried <- err
			})
		}
	}})
	id := n.submit(bad).ID
	if err := <-retried; err != nil {
		t.Fatal(err)
	}
	n.doneSoon(id)
	empty(t, n)
}

// slowLogs is a storage that takes its time for logs.
type slowLogs struct{ storage.Backend }

func (s slowLogs) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if strings.HasPrefix(o.Name, string(engine.KindLogs)) {
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return o, false, ctx.Err()
		}
	}
	return s.Backend.PutIfAbsent(ctx, o, r)
}

// TestCancelledAndRetried asks for a job again while the attempt that was cancelled has not ended yet.
func TestCancelledAndRetried(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir(), storage: slowLogs{directory(t)}, options: func(o *engine.Options) { o.RequeueEvery = time.Hour }})
	arrived, release := o.hold(t)
	id := n.submit(o.spec(t, "x")).ID
	<-arrived
	if _, err := n.Cancel(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := n.Retry(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	n.doneSoon(id)
	empty(t, n)
}

// TestOldRecord has a record in the queue that is older than what the ledger has, as damaged files can bring one to light.
func TestOldRecord(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir()})
	var ids []string
	for _, salt := range []string{"running", "failed"} {
		spec := o.spec(t, salt)
		id := n.submit(spec).ID
		ids = append(ids, id)
		n.wait(id)
		flushed(t, n, id)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for i, state := range []string{"diffing", "failed"} {
		key := queue.Key("job", ids[i])
		value, revision, err := n.o.Queue.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		var r map[string]any
		if err := json.Unmarshal(value, &r); err != nil {
			t.Fatal(err)
		}
		r["state"], r["changes"], r["result"] = state, r["changes"].([]any)[:3], nil
		if value, err = json.Marshal(r); err != nil {
			t.Fatal(err)
		}
		if _, err := n.o.Queue.Put(t.Context(), key, value, revision, 0); err != nil {
			t.Fatal(err)
		}
	}
	e, err := engine.New(t.Context(), n.o)
	if err != nil {
		t.Fatal(err)
	}
	n.Engine = e
	for i, salt := range []string{"running", "failed"} {
		for range 2 {
			if s, err := n.Status(t.Context(), ids[i]); err != nil || s.State != job.Done || s.Result == nil {
				t.Errorf("%s: %s, %v, want done as the ledger knows", salt, s.State, err)
			}
		}
		if s, created, err := n.Submit(t.Context(), o.spec(t, salt), alice); err != nil || created || s.State != job.Done {
			t.Errorf("%s: asked for again: %s, made again %v, %v", salt, s.State, created, err)
		}
		n.bytes(ids[i])
		if removed, err := n.Purge(t.Context(), ids[i], time.Time{}, alice); err != nil || removed != 1 {
			t.Errorf("%s: purged %d, %v", salt, removed, err)
		}
		n.doneSoon(n.submit(o.spec(t, salt)).ID)
		flushed(t, n, ids[i])
	}
}

// testPurgedTwice has two servers purge the same jobs at the same time.
func testPurgedTwice(t *testing.T, external *external) {
	t.Helper()
	o := newOrigin(t)
	setting := external.backend(t)
	a := open(t, setting)
	second, _ := setting.another(t)
	b := open(t, second)
	for i := range 5 {
		id := a.submit(o.spec(t, fmt.Sprint(i))).ID
		a.wait(id)
		b.wait(id)
		var wg sync.WaitGroup
		for _, n := range []*node{a, b} {
			wg.Go(func() {
				if _, err := n.Purge(t.Context(), id, time.Time{}, alice); err != nil {
					t.Errorf("%s: %v", n.o.Server, err)
				}
			})
		}
		wg.Wait()
		if s := purged(t, a, id); s.State != job.Done {
			t.Errorf("%+v", s)
		}
	}
}

// testDeaf has a server whose watches ended by themselves. It hears of bans and jobs again.
func testDeaf(t *testing.T, external *external) {
	t.Helper()
	setting := external.backend(t)
	setting.options = func(o *engine.Options) { o.RequeueEvery = time.Hour }
	a := open(t, setting)
	second, _ := setting.another(t)
	b := open(t, second)
	a.Deafen()
	for i := 0; ; i++ {
		address := fmt.Sprintf("192.0.2.%d", i%250)
		if err := b.Ban(t.Context(), job.Ban{Address: address, Until: time.Now().Add(time.Hour)}, alice); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
		if _, ok := a.Banned(address); ok {
			break
		}
		if i > 500 {
			t.Fatal("it hears of no bans any more")
		}
	}
}

// TestHealthHangs: a check that hangs is not begun again and again.
func TestHealthHangs(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int64
	free := make(chan struct{})
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		s := signer(t)
		s.Check = func(context.Context) error {
			if now := running.Add(1); now > most.Load() {
				most.Store(now)
			}
			defer running.Add(-1)
			<-free // whatever the context says
			return nil
		}
		o.Signers = []engine.Signer{s}
	}})
	signerOK := func(timeout time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		list := n.Health(ctx)
		i := slices.IndexFunc(list, func(h job.Health) bool { return h.Name == "signer test" })
		return i >= 0 && list[i].OK
	}
	for range 5 {
		if signerOK(10 * time.Millisecond) {
			t.Error("a signer that hangs is well")
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d checks at the same time, want 1", most.Load())
	}
	close(free)
	if !signerOK(10 * time.Second) {
		t.Error("a signer that hung is not well")
	}
}

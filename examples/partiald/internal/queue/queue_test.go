package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue/queuetest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func TestMain(m *testing.M) {
	queuetest.Main()
	if testkit.Count(1, 0, 0) == 1 { // with the promised counts on a disk
		testkit.InMemory()
	}
	testkit.AtOnce(12)
	goleak.VerifyTestMain(m, queuetest.NotOurs())
}

// TestQueue runs the same tests on an embedded engine and on an external one.
func TestQueue(t *testing.T) {
	tests := []struct {
		name string
		run  func(*testing.T, func(change ...func(*queue.Options)) *queue.Queue)
	}{
		{"once", testOnce},
		{"priorities", testPriorities},
		{"limit", testLimit},
		{"abandoned", testAbandoned},
		{"handed back", testHandedBack},
		{"remove", testRemove},
		{"values", testValues},
		{"live", testLive},
		{"watch", testWatch},
		{"objects", testObjects},
	}
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				var first *queue.Queue
				tt.run(t, func(change ...func(*queue.Options)) *queue.Queue {
					t.Helper()
					if first != nil {
						return first // one process, one engine
					}
					first = open(t, queue.Options{Dir: dir}, change...)
					return first
				})
			})
		}
	})
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		url := queuetest.Start(t)
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, func(change ...func(*queue.Options)) *queue.Queue {
					t.Helper()
					return open(t, queue.Options{URLs: []string{url}, Prefix: fmt.Sprintf("test-%d", i)}, change...)
				})
			})
		}
	})
}

var servers atomic.Int64

func open(t *testing.T, o queue.Options, change ...func(*queue.Options)) *queue.Queue {
	t.Helper()
	o.Server = fmt.Sprintf("s%d", servers.Add(1))
	for _, c := range change {
		c(&o)
	}
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func next(t *testing.T, q *queue.Queue) *queue.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := q.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func none(t *testing.T, q *queue.Queue) {
	t.Helper()
	if m := look(t, q); m != nil {
		t.Fatalf("got job %s, want none", m.ID)
	}
}

// look returns the next job, nil when there is none.
func look(t *testing.T, q *queue.Queue) *queue.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	m, err := q.Next(ctx)
	if err != nil {
		return nil
	}
	return m
}

// testOnce publishes jobs many times at once, with all priorities and from two servers: each is there once, until it is
// acknowledged.
func testOnce(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	a, b := open(), open()
	for round := range testkit.Count(2, 5, 5) {
		id := fmt.Sprintf("job%d", round)
		var wg sync.WaitGroup
		var accepted, refused atomic.Int64
		for i := range 100 {
			wg.Go(func() {
				q := []*queue.Queue{a, b}[i%2]
				switch err := q.Publish(t.Context(), id, i/2%queue.Priorities, []byte(id)); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, queue.ErrExists):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if accepted.Load() != 1 || refused.Load() != 99 {
			t.Fatalf("accepted %d times, refused %d, want 1 and 99", accepted.Load(), refused.Load())
		}
		m := next(t, b)
		if m.ID != id || string(m.Data) != id || m.Deliveries != 1 {
			t.Fatalf("got %+v", m)
		}
		// Under work it still is there.
		if err := a.Publish(t.Context(), id, (m.Priority+1)%queue.Priorities, nil); !errors.Is(err, queue.ErrExists) {
			t.Fatalf("publish while under work: %v, want ErrExists", err)
		}
		none(t, a)
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Len(t.Context()); n != 0 || err != nil {
			t.Fatalf("%d jobs, %v, want none", n, err)
		}
	}
	if err := a.Publish(t.Context(), "job0", 3, nil); err != nil {
		t.Errorf("publish after the end: %v", err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func testPriorities(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	for i, p := range []int{0, 5, 9, 0, 1, 9} {
		if err := q.Publish(t.Context(), fmt.Sprintf("%d.%d", p, i)[:1]+fmt.Sprint(i), p, nil); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := q.Jobs(t.Context())
	if err != nil || len(ids) != 6 {
		t.Errorf("jobs %v, %v, want 6", ids, err)
	}
	var got []string
	for range 6 {
		m := next(t, q)
		got = append(got, m.ID)
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"92", "95", "51", "14", "00", "03"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func testLimit(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open(func(o *queue.Options) { o.Limit = 3 })
	for i := range 5 {
		err := q.Publish(t.Context(), fmt.Sprint(i), i, nil)
		if i < 3 && err != nil || i >= 3 && !errors.Is(err, queue.ErrFull) {
			t.Errorf("job %d: %v", i, err)
		}
	}
	if err := q.Publish(t.Context(), "1", 7, nil); !errors.Is(err, queue.ErrExists) {
		t.Errorf("one that is there: %v, want ErrExists", err)
	}
	if err := next(t, q).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), "4", 0, nil); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// testAbandoned is about a worker that falls silent, and one that does not.
func testAbandoned(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	const wait = 400 * time.Millisecond
	q := open(func(o *queue.Options) { o.AckWait = wait })
	if err := q.Publish(t.Context(), "x", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	first, deliveries := next(t, q), 2
	silent := time.Now()
	for start := silent; time.Since(start) < 2*wait; {
		told := time.Now() // or later
		if err := first.Working(t.Context()); err != nil {
			t.Fatal(err)
		}
		silent = time.Now()
		if m := look(t, q); m == nil {
			continue
		} else if time.Since(told) < wait {
			t.Fatalf("given to another %v after its worker said that it is under work", time.Since(told))
		} else { // on a machine that is so busy it was silence, indeed
			first = m
			deliveries++
		}
	}
	second := next(t, q)
	if second.Deliveries != deliveries || time.Since(silent) > wait+3*time.Second {
		t.Errorf("delivery %d after %v of silence, want %d", second.Deliveries, time.Since(silent), deliveries)
	}
	if err := second.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testHandedBack(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	if err := q.Publish(t.Context(), "x", 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := next(t, q).HandBack(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	m := next(t, q)
	start := time.Now()
	const delay = 900 * time.Millisecond // a worker looks every second
	if err := m.HandBack(t.Context(), delay); err != nil {
		t.Fatal(err)
	}
	none(t, q)
	if m = next(t, q); time.Since(start) < delay {
		t.Errorf("came back after %v", time.Since(start))
	}
	if err := m.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testRemove(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	for _, id := range []string{"a", "b"} {
		if err := q.Publish(t.Context(), id, 4, nil); err != nil {
			t.Fatal(err)
		}
	}
	a := next(t, q)
	if err := q.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if ids, err := q.Jobs(t.Context()); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v, want b", ids, err)
	}
	if err := a.Ack(t.Context()); err != nil {
		t.Errorf("acknowledge what was removed: %v", err)
	}
	if m := next(t, q); m.ID != "b" {
		t.Errorf("got %s, want b", m.ID)
	}
}

func testValues(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	ctx, key := t.Context(), queue.Key("job", "x/y z")
	if _, _, err := q.Get(ctx, key); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("before: %v, want ErrNotFound", err)
	}
	rev, err := q.Put(ctx, key, []byte("1"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(ctx, key, []byte("2"), 0, 0); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("made twice: %v, want ErrConflict", err)
	}
	now, err := q.Put(ctx, key, []byte("2"), rev, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(ctx, key, []byte("3"), rev, 0); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("on an old one: %v, want ErrConflict", err)
	}
	if v, r, err := q.Get(ctx, key); string(v) != "2" || r != now || err != nil {
		t.Errorf("got %q, %d, %v", v, r, err)
	}
	for range 2 {
		if err := q.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := q.Get(ctx, key); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("after: %v, want ErrNotFound", err)
	}
	if _, err := q.Put(ctx, key, []byte("4"), 0, 0); err != nil {
		t.Errorf("made again: %v", err)
	}
	// One that goes, as the last of its values says.
	gone := make(chan struct{})
	ctxWatch, cancel := context.WithCancel(ctx)
	wait, err := q.Watch(ctxWatch, "job", false, nil, func(u queue.Update) {
		if u.Value == nil {
			close(gone)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = q.Put(ctx, queue.Key("job", "y"), []byte("1"), 0, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err = q.Put(ctx, queue.Key("job", "y"), []byte("2"), rev, time.Second); err != nil {
		t.Fatal(err)
	}
	<-gone
	cancel()
	wait()
	if _, _, err := q.Get(ctx, queue.Key("job", "y")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("after its time: %v, want ErrNotFound", err)
	}
}

func testLive(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	ctx, key := t.Context(), queue.Key("rate", "x")
	gone := make(chan struct{})
	ctxWatch, cancel := context.WithCancel(ctx)
	seen := false
	wait, err := q.WatchLive(ctxWatch, "rate", false, nil, func(u queue.Update) {
		if u.Value != nil {
			seen = true
		} else if seen {
			close(gone)
			seen = false
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := q.SwapLive(ctx, key, []byte("1"), 0, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.SwapLive(ctx, key, []byte("2"), rev+1, time.Minute); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	if _, err := q.SwapLive(ctx, key, []byte("2"), 0, time.Minute); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	if _, err := q.SwapLive(ctx, key, []byte("2"), rev, time.Second); err != nil {
		t.Fatal(err)
	}
	if v, _, err := q.GetLive(ctx, key); string(v) != "2" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	<-gone
	cancel()
	wait()
	if _, _, err := q.GetLive(ctx, key); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("after its time: %v, want ErrNotFound", err)
	}
	if _, err := q.SwapLive(ctx, key, []byte("3"), 0, time.Minute); err != nil {
		t.Errorf("made again: %v", err)
	}
}

func testWatch(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	q := open()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := q.Set(ctx, queue.Key("ban", "::1"), []byte("old"), 0); err != nil {
		t.Fatal(err)
	}
	if err := q.Set(ctx, queue.Key("job", "1"), []byte("other"), 0); err != nil {
		t.Fatal(err)
	}
	all, updates := make(chan string, 10), make(chan string, 10)
	ready := make(chan struct{})
	waitAll, err := q.Watch(ctx, "ban", true, func() { close(ready) }, func(u queue.Update) { all <- u.Name + "=" + string(u.Value) })
	if err != nil {
		t.Fatal(err)
	}
	waitNew, err := q.Watch(ctx, "ban", false, nil, func(u queue.Update) { updates <- u.Name + "=" + string(u.Value) })
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if err := q.Set(ctx, queue.Key("ban", "::2"), []byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	if err := q.Delete(ctx, queue.Key("ban", "::1")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    chan string
		want []string
	}{{all, []string{"::1=old", "::2=new", "::1="}}, {updates, []string{"::2=new", "::1="}}} {
		for _, want := range tt.want {
			if got := <-tt.c; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	cancel()
	waitAll()
	waitNew()
}

func testObjects(t *testing.T, open func(...func(*queue.Options)) *queue.Queue) {
	t.Helper()
	plain := open(func(o *queue.Options) { o.Objects = true; o.TempDir = t.TempDir() })
	store := plain.Store()
	key := cache.NewKey(cache.Partials, "x")
	if _, err := store.Get(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("before: %v, want a miss", err)
	}
	value := bytes.Repeat([]byte("0123456789"), 100_000)
	for range 2 {
		if _, err := store.Put(t.Context(), key, bytes.NewReader(value)); err != nil {
			t.Fatal(err)
		}
	}
	e, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(e.Reader())
	if err != nil || !bytes.Equal(got, value) {
		t.Errorf("%d bytes, %v, want those that were put", len(got), err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := plain.Forget(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("after: %v, want a miss", err)
	}
	if err := plain.Forget(t.Context(), key); err != nil {
		t.Error(err)
	}
}

// TestConsumerGone removes a consumer. Jobs of other priorities are to be had all the same, and Repair makes it again.
func TestConsumerGone(t *testing.T) {
	t.Parallel()
	url := queuetest.Start(t)
	q := open(t, queue.Options{URLs: []string{url}})
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := q.Repair(t.Context()); made || err != nil {
		t.Errorf("repaired what is whole: %v, %v", made, err)
	}
	if err := js.DeleteConsumer(t.Context(), "partiald-jobs", "p5"); err != nil {
		t.Fatal(err)
	}
	for _, priority := range []int{5, 0} {
		if err := q.Publish(t.Context(), fmt.Sprint(priority), priority, nil); err != nil {
			t.Fatal(err)
		}
	}
	if m := next(t, q); m.ID != "0" {
		t.Errorf("got job %s, want 0", m.ID)
	}
	if made, err := q.Repair(t.Context()); !made || err != nil {
		t.Errorf("repair: %v, %v", made, err)
	}
	if m := next(t, q); m.ID != "5" {
		t.Errorf("got job %s, want 5", m.ID)
	}
}

// TestOptions has options that cannot be.
func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]queue.Options{
		"nowhere":         {Server: "s"},
		"nameless":        {Dir: t.TempDir()},
		"prefix":          {Server: "s", Dir: t.TempDir(), Prefix: "a.b"},
		"both":            {Server: "s", URLs: []string{"nats://127.0.0.1:1"}, Listen: "127.0.0.1:0"},
		"listen":          {Server: "s", Dir: t.TempDir(), Listen: "127.0.0.1"},
		"cluster address": {Server: "s", Dir: t.TempDir(), Cluster: &queue.Cluster{Listen: "x"}},
		"nobody there":    {Server: "s", URLs: []string{"nats://127.0.0.1:1"}, StartTimeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if q, err := queue.Open(t.Context(), o); err == nil {
				q.Close()
				t.Error("opened")
			}
		})
	}
	if _, err := os.Stat("jetstream"); err == nil {
		t.Error("an engine wrote into the working directory")
	}
}

// TestMuchToRead looks through a queue in which there is much: the deadline of what is asked at a start does not go on
// meanwhile, else no start would ever end well.
func TestMuchToRead(t *testing.T) {
	t.Parallel()
	q := open(t, queue.Options{Dir: t.TempDir(), Lazy: true})
	big := bytes.Repeat([]byte("0123456789abcdef"), 56_000)
	for i := range 60 {
		if _, err := q.Put(t.Context(), queue.Key("job", fmt.Sprint(i)), big, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	round := func(within time.Duration) (time.Duration, error) {
		start := time.Now()
		err := q.Round(t.Context(), within)
		return time.Since(start), err
	}
	usual, err := round(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // the deadline must be enough for the questions, and less than all of it takes
		within := usual * time.Duration(5+i%5) / 10
		if took, err := round(within); err == nil && took > within {
			return
		}
	}
	t.Errorf("all takes %v, and no deadline below that is enough", usual)
}

package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue/queuetest"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestNodeLost kills the leader of a cluster of three again and again while jobs are published. Whatever was
// acknowledged is there in the end, once. (F15)
func TestNodeLost(t *testing.T) {
	testkit.Long(t, "half a minute of elections")
	nodes := queuetest.Cluster(t, 3)
	o := queue.Options{URLs: queuetest.URLs(nodes), Replicas: 3, Timeout: 2 * time.Second}
	q := open(t, o)

	ctx, stop := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	var mu sync.Mutex
	published, gap, repeated := 0, time.Duration(0), 0
	last := time.Now()
	publisher.Go(func() {
		for ctx.Err() == nil {
			// Several servers would do the same: what was not acknowledged is published again, until it is there.
			err := q.Publish(ctx, fmt.Sprintf("job%d", published), published%queue.Priorities, []byte("x"))
			mu.Lock()
			switch {
			case err == nil, errors.Is(err, queue.ErrExists):
				if err != nil {
					repeated++
				}
				gap = max(gap, time.Since(last))
				last = time.Now()
				published++
			case !errors.Is(err, queue.ErrUnavailable) && ctx.Err() == nil:
				t.Error(err)
			}
			mu.Unlock()
		}
	})
	count := func() int { mu.Lock(); defer mu.Unlock(); return published }
	for range 2 {
		for before, deadline := count(), time.Now().Add(60*time.Second); count() < before+200; {
			if time.Now().After(deadline) {
				t.Fatalf("%d jobs published in a minute", count()-before)
			}
			<-time.After(10 * time.Millisecond)
		}
		leader := leader(t, o.URLs)
		i := slices.IndexFunc(nodes, func(n *queuetest.Node) bool { return n.Name() == leader })
		if i < 0 {
			t.Fatalf("leader is %q", leader)
		}
		nodes[i].Kill()
		for before, deadline := count(), time.Now().Add(60*time.Second); count() < before+200; {
			if time.Now().After(deadline) {
				t.Fatalf("%d jobs published in the minute after the leader died", count()-before)
			}
			<-time.After(10 * time.Millisecond)
		}
		nodes[i].Run(t)
	}
	stop()
	publisher.Wait()

	// All of them are delivered, once.
	got := map[string]int{}
	for len(got) < published {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		m, err := q.Next(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%d of %d acknowledged jobs are lost: %v", published-len(got), published, err)
		}
		if err := m.Ack(t.Context()); err != nil {
			t.Logf("ack: %v", err)
		}
		got[m.ID]++
	}
	if gap > 15*time.Second {
		t.Errorf("nothing could be published for %v, want at most 15 s", gap)
	}
	t.Logf("2 leaders killed: %d jobs acknowledged, 0 lost, longest gap %v, %d were there although nobody had heard so", published, gap, repeated)
}

// leader returns the name of the server that leads the stream of jobs.
func leader(t *testing.T, urls []string) string {
	t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("%s,%s,%s", urls[0], urls[1], urls[2]))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		s, err := js.Stream(t.Context(), "partiald-jobs")
		if err == nil && s.CachedInfo().Cluster != nil && s.CachedInfo().Cluster.Leader != "" {
			return s.CachedInfo().Cluster.Leader
		}
		if time.Now().After(deadline) {
			t.Fatalf("no leader: %v", err)
		}
	}
}

// TestEmbeddedCluster joins three servers with nothing but each other's addresses.
func TestEmbeddedCluster(t *testing.T) {
	testkit.Long(t, "a cluster of three embedded servers, and an election")
	ports := queuetest.Ports(t, 3)
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", port))
	}
	queues := make([]*queue.Queue, 3)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range queues {
		wg.Go(func() {
			var err error
			queues[i], err = queue.Open(t.Context(), queue.Options{
				Server: fmt.Sprintf("embedded%d", i), Dir: t.TempDir(), StartTimeout: 2 * time.Minute,
				Cluster: &queue.Cluster{Listen: routes[i], Routes: routes, Secret: "s3cret"},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("formed after %v", time.Since(start))
	defer func() {
		for _, q := range queues {
			q.Close()
		}
	}()
	for i := range 30 {
		if err := queues[i%3].Publish(t.Context(), fmt.Sprint(i), i%10, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := queues[(i+1)%3].Publish(t.Context(), fmt.Sprint(i), (i+1)%10, nil); !errors.Is(err, queue.ErrExists) {
			t.Fatalf("the same on another server: %v, want ErrExists", err)
		}
	}
	queues[0].Close()
	start = time.Now()
	for i := 0; i < 30; {
		m := next(t, queues[1+i%2])
		if err := m.Ack(t.Context()); err == nil {
			i++
		}
	}
	t.Logf("30 jobs done in %v after one server ended", time.Since(start))
	if q, err := queue.Open(t.Context(), queue.Options{
		Server: "stranger", Dir: t.TempDir(), StartTimeout: 3 * time.Second, Timeout: time.Second,
		Cluster: &queue.Cluster{Listen: fmt.Sprintf("127.0.0.1:%d", queuetest.Ports(t, 1)[0]), Routes: routes, Secret: "wrong"},
	}); err == nil {
		q.Close()
		t.Error("a stranger joined the cluster")
	}
}

// Without a word about it there are three copies where there are three servers, one where there is one, and as many as there
// were of what is there.
func TestCopies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		nodes := queuetest.Cluster(t, n)
		more := make(chan struct{}, 100)
		told, err := nats.Connect(queuetest.URLs(nodes)[0], nats.DiscoveredServersHandler(func(*nats.Conn) { more <- struct{}{} }))
		if err != nil {
			t.Fatal(err)
		}
		for len(told.Servers()) < n { // the servers tell each other of themselves, and clients after that
			select {
			case <-more:
			case <-time.After(time.Minute):
				t.Fatalf("%d servers know of %d", n, len(told.Servers()))
			}
		}
		told.Close()
		q := open(t, queue.Options{URLs: queuetest.URLs(nodes)[:1], Timeout: 2 * time.Second})
		if q.Replicas() != n {
			t.Errorf("%d servers, of which one was named: %d copies", n, q.Replicas())
		}
		one := open(t, queue.Options{URLs: queuetest.URLs(nodes), Timeout: 2 * time.Second, Prefix: "single", Replicas: 1})
		if err := one.Close(); err != nil {
			t.Error(err)
		}
		if q = open(t, queue.Options{URLs: queuetest.URLs(nodes), Timeout: 2 * time.Second, Prefix: "single"}); q.Replicas() != 1 {
			t.Errorf("%d servers: %d copies of what there was one of", n, q.Replicas())
		}
	}
}

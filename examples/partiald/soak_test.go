package main

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// TestSoak has three servers under load for as long as SENBON_SOAK says, with jobs that never end to come, an origin that
// fails, plugins that are killed, and one of the servers killed again and again. No byte may be wrong, every job that was
// taken must end, and the servers that live must not grow: heap, file descriptors and goroutines at the end are within five
// percent of what they were after a fifth of the time. They are compared while the servers rest, as work that is under way
// needs some of all three, now more and now less. The two rests come on top of the time. (L6)
func TestSoak(t *testing.T) {
	asked := os.Getenv("SENBON_SOAK")
	if asked == "" {
		t.Skip("long test: set SENBON_SOAK to how long it shall take, such as 60m, and give -timeout")
	}
	if runtime.GOOS != "linux" {
		t.Skip("processes of plugins are found in /proc")
	}
	span, err := time.ParseDuration(asked)
	if err != nil || span < 2*time.Minute {
		t.Fatalf("SENBON_SOAK=%s: want two minutes at least (%v)", asked, err)
	}
	o := newOrigin(t)
	nodes := cluster(t, 3, "PARTIALD_FETCH_ATTEMPTS=4", "PARTIALD_WORKERS_RETRY_DELAY=500ms", "PARTIALD_WORKERS_ATTEMPTS=20",
		"PARTIALD_CACHE_PARTIALS=8MB", "PARTIALD_CACHE_COMPLETES=32MB", "PARTIALD_CACHE_PATCHES=8MB", "PARTIALD_CACHE_MEMORY=8MB")
	// Callers know the servers by their addresses alone, also the one that comes and goes.
	third := "127.0.0.1:" + freePort(t)
	nodes[2].stop()
	nodes[2].env = append(nodes[2].env, "PARTIALD_SERVER_LISTEN="+third)
	nodes[2].start()
	var servers []*node
	for _, n := range nodes {
		servers = append(servers, &node{t: t, addr: n.addr, http: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}})
	}

	type made struct{ sha512 string }
	var mu sync.Mutex
	known := map[string]made{} // by job
	var jobs, refused, kills, plugins, broken int
	var purged atomic.Int64
	ids := []map[string]string{{}, {}, {}, {}} // of each caller, by name

	var wg sync.WaitGroup
	every := func(ctx context.Context, mean time.Duration, act func()) {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(mean/2 + rand.N(mean)):
					act()
				}
			}
		})
	}
	const distinct = 100
	var next [4]int // of each caller
	// load has the servers under load for a while.
	load := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		// Callers: a new job or one that is known, at any server, to its end. When a caller has as many as it may have the
		// oldest is purged and made again: servers need some memory for each job of the last months, which is not a leak.
		for caller := range 4 {
			wg.Go(func() {
				for ; ctx.Err() == nil; next[caller]++ {
					i := next[caller]
					name := fmt.Sprintf("%d-%d", caller, i%distinct)
					again := i > 5 && rand.N(3) == 0
					if again {
						name = fmt.Sprintf("%d-%d", caller, rand.N(min(i, distinct)))
					}
					n := servers[rand.N(3)]
					spec, from, to := o.pair(t, name, false)
					if i >= distinct && !again && ids[caller][name] != "" {
						purge(t, servers[rand.N(3)], ids[caller][name], &purged)
					}
					_, st, err := n.submit(spec)
					if err == nil {
						ids[caller][name] = st.ID
					}
					if err == nil {
						ok := poll(5*time.Minute, func() bool {
							now, err := n.status(st.ID)
							if err == nil {
								st = now
							}
							return err == nil && now.State.Final()
						})
						if !ok || st.State != job.Done {
							t.Errorf("job %s: %s, %v", st.ID, st.State, st.Error)
						}
					}
					var got []byte
					if err == nil {
						res, data, err := n.request(http.MethodGet, "/api/v1/partials/"+st.ID, nil)
						switch {
						case err == nil && res.StatusCode == http.StatusOK:
							got = data
						case err == nil && res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusServiceUnavailable:
							t.Errorf("download of %s: %s: %s", st.ID, res.Status, data)
						}
					}
					mu.Lock()
					jobs++
					if err != nil {
						refused++
					}
					if got != nil {
						sum := sha512.Sum512(got)
						digest := hex.EncodeToString(sum[:])
						before, again := known[st.ID]
						known[st.ID] = made{digest}
						if again && before.sha512 != digest {
							t.Errorf("job %s has other bytes than before", st.ID)
						}
						if !again {
							proves(t, from, got, to)
						}
					}
					mu.Unlock()
				}
			})
		}
		every(ctx, 7*time.Second, func() { // transfers that end half way
			o.broken.Store(int64(1 + rand.N(4)))
			mu.Lock()
			broken++
			mu.Unlock()
		})
		every(ctx, 20*time.Second, func() { // an origin that is down for a moment
			o.down.Store(true)
			<-time.After(rand.N(time.Second))
			o.down.Store(false)
		})
		every(ctx, 15*time.Second, func() {
			pid := child(nodes[rand.N(2)].cmd.Process.Pid)
			if p, err := os.FindProcess(pid); err == nil && pid > 0 && p.Kill() == nil {
				mu.Lock()
				plugins++
				mu.Unlock()
			}
		})
		every(ctx, 30*time.Second, func() {
			nodes[2].kill()
			nodes[2].launch()
			nodes[2].ready(time.Minute)
			mu.Lock()
			kills++
			mu.Unlock()
		})
		wg.Wait()
	}

	// The heap is what the garbage collection found in use: without garbage, and without what the allocator keeps.
	figures := []string{"go_gc_heap_live_bytes", "process_open_fds", "go_goroutines"}
	// rest waits until what was under work is over and forgotten, and returns the least figures of half a minute. To ask for
	// them makes garbage, and so has it collected.
	rest := func() [][]float64 {
		<-time.After(150 * time.Second) // progress is kept for two minutes
		out := [][]float64{{1e18, 1e18, 1e18}, {1e18, 1e18, 1e18}}
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
			for s := range out {
				for i, name := range figures {
					v, err := servers[s].metric(name)
					if err != nil {
						t.Fatal(err)
					}
					out[s][i] = min(out[s][i], v)
				}
			}
		}
		t.Logf("after %d jobs: heap, descriptors, goroutines %.0f", jobs, out)
		return out
	}
	load(span / 5) // by then the callers have all jobs they may have, and these as many changes, if the time is long
	before := rest()
	load(span - span/5)
	after := rest()
	for i := range before {
		for k, few := range []float64{0, 2, 2} { // one more of forty descriptors is not a twentieth, nor a leak
			if after[i][k] > before[i][k]*1.05+few {
				t.Errorf("server %d: %s was %.0f and is %.0f", i+1, figures[k], before[i][k], after[i][k])
			}
		}
	}
	t.Logf("%v: %d jobs asked for (%d got no answer), %d different, %d purged and made again, %d broken transfers, %d plugins killed, %d servers killed",
		span, jobs, refused, len(known), purged.Load(), broken, plugins, kills)
}

// purge has a server forget the partial of a job.
func purge(t *testing.T, n *node, id string, purged *atomic.Int64) {
	t.Helper()
	res, data, err := n.request(http.MethodDelete, "/api/v1/partials/"+id, nil)
	switch {
	case err != nil: // the server is down just now
	case res.StatusCode == http.StatusOK:
		purged.Add(1)
	case res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusConflict && res.StatusCode != http.StatusServiceUnavailable:
		t.Errorf("purge of %s: %s: %s", id, res.Status, data)
	}
}

// child returns a process that another one started, 0 if there is none.
func child(parent int) int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent)) // of each thread
	if err != nil {
		return 0
	}
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				return pid
			}
		}
	}
	return 0
}

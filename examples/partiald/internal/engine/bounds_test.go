package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// What a server remembers is bounded, whatever comes.
func TestMirrorIsBounded(t *testing.T) {
	t.Parallel()
	large := job.Spec{Force: make([]string, 500)}
	for i := range large.Force {
		large.Force[i] = strings.Repeat("x", 500)
	}
	tests := []struct {
		name     string
		spec     job.Spec
		states   []job.State
		at, most int // records that are there in the end
	}{
		{"done", job.Spec{}, []job.State{job.Done}, maxMirror, maxMirror + maxMirror/8},
		{"large and done", large, []job.State{job.Done}, 80, 128},
		{"large and queued", large, []job.State{job.Queued}, 80, 128},
		{"large, half of them queued", large, []job.State{job.Queued, job.Done}, 80, 128},
		{"under work", large, []job.State{job.Diffing}, 500, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m mirror
			m.init()
			n := 500
			if tt.most > n {
				n = 2 * tt.most
			}
			for i := range n {
				r := record{Status: job.Status{Spec: tt.spec}}
				r.step(tt.states[i%len(tt.states)], time.Time{}, "", "")
				for revision := range uint64(3) { // the same again is not another one
					if !m.set(fmt.Sprint(i), r, 3*uint64(i)+revision+1) {
						t.Fatalf("record %d is no news", i)
					}
				}
				if _, _, ok := m.get(fmt.Sprint(i)); !ok {
					t.Fatalf("record %d was not kept", i)
				}
			}
			if len(m.m) < tt.at || len(m.m) > tt.most {
				t.Errorf("%d records are kept, want %d to %d", len(m.m), tt.at, tt.most)
			}
			finals, size := 0, 0
			for _, k := range m.m {
				size += k.record.size()
				if k.record.State.Final() {
					finals++
				}
			}
			if finals != m.finals || size != m.size {
				t.Errorf("%d records are final, %d bytes, counted were %d and %d", finals, size, m.finals, m.size)
			}
			m.forget()
			if len(m.m) != 0 || m.finals != 0 || m.size != 0 {
				t.Errorf("after forgetting all: %d records, %d final, %d bytes", len(m.m), m.finals, m.size)
			}
		})
	}
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recent
		r.init(time.Minute)
		for i := range 3 * maxRecent {
			r.add(fmt.Sprint(i))
		}
		if n := len(r.young) + len(r.old); n > maxRecent {
			t.Errorf("%d are remembered, want at most %d", n, maxRecent)
		}
		r.add("x")
		time.Sleep(59 * time.Second)
		r.add("y")
		if !r.has("x") || !r.has("y") {
			t.Error("forgotten before its time")
		}
		time.Sleep(2 * time.Second)
		if r.has("x") || !r.has("y") {
			t.Errorf("after its time: %v, before: %v", r.has("x"), r.has("y"))
		}
		r.remove("y")
		if r.has("y") {
			t.Error("there after it was removed")
		}
		for range 2 {
			time.Sleep(time.Minute)
			r.add("z")
		}
		if n := len(r.young) + len(r.old); n > 2 {
			t.Errorf("%d are remembered two minutes later", n)
		}
	})
}

func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	var r rates
	r.init()
	for i := range 5 * maxRates {
		r.get(fmt.Sprint(i))
		if len(r.m) > maxRates {
			t.Fatalf("%d keys, want at most %d", len(r.m), maxRates)
		}
	}
}

func TestPendingIsBounded(t *testing.T) {
	t.Parallel()
	e := &Engine{}
	e.mirror.init()
	e.follow.pending, e.follow.wake = map[string]record{}, make(chan struct{}, 1)
	for i := range maxPending + 1000 {
		r := record{}
		r.step(job.Queued, time.Time{}, "", "")
		e.seen(fmt.Sprint(i), r, 1)
	}
	r := record{}
	r.step(job.Queued, time.Time{}, "", "")
	r.step(job.Fetching, time.Time{}, "", "")
	e.seen("0", r, 2)
	if n := len(e.follow.pending); n != maxPending || e.follow.pending["0"].State != job.Fetching {
		t.Errorf("%d wait, of at most %d; the first is %s", n, maxPending, e.follow.pending["0"].State)
	}
}

// While the queue does not answer it is asked once, and not for every request: each would wait for that, one after the
// other.
func TestRatesRest(t *testing.T) {
	t.Parallel()
	q, err := queue.Open(t.Context(), queue.Options{Server: "x", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	e := &Engine{q: q, o: Options{Clock: time.Now}}
	e.rates.init()
	take := func(limit int) bool {
		t.Helper()
		ok, _, err := e.Take(t.Context(), "x", 1, limit, time.Hour)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	if !take(3) {
		t.Error("refused because the queue does not answer")
	}
	e.q = nil // it must not be asked
	for i := range 3 {
		if got, want := take(3), i < 2; got != want {
			t.Errorf("alone, number %d of three is let through: %v", i+2, got)
		}
	}
}

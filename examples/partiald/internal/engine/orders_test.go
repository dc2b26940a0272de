package engine_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// The key of what a job asks for is computed once from the request to the end, also over several attempts, and for each job
// of a batch; a server that was started since computes it once more.
func TestKeysComputedOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	dir := t.TempDir()
	n := open(t, setting{dir: dir})
	counted := func(what string, want int64, do func()) {
		t.Helper()
		before := n.Named()
		do()
		if got := n.Named() - before; got != want {
			t.Errorf("%s: %d keys computed, want %d", what, got, want)
		}
	}
	spec := o.spec(t, "one")
	counted("a job", 1, func() {
		if st := n.wait(n.submit(spec).ID); st.State != job.Done {
			t.Errorf("%s, %v", st.State, st.Error)
		}
	})
	counted("the same again", 1, func() { n.submit(spec) })
	var failures atomic.Int64
	o.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if failures.Add(1) > 6 { // two downloads of two tries each: the first attempt, and one of the second
			return false
		}
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return true
	})
	counted("a job of several attempts", 1, func() {
		if st := n.wait(n.submit(o.spec(t, "two")).ID); st.State != job.Done || st.Attempt < 2 {
			t.Errorf("%s after %d attempts, %v", st.State, st.Attempt, st.Error)
		}
	})
	counted("a batch", 5, func() {
		var specs []job.Spec
		for i := range 4 {
			specs = append(specs, o.spec(t, fmt.Sprint(i)))
		}
		b, err := n.SubmitBatch(t.Context(), append(specs, specs[0]), nil, alice)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range b.Jobs {
			if st := n.wait(st.ID); st.State != job.Done {
				t.Errorf("%s, %v", st.State, st.Error)
			}
		}
	})

	// Asked for again with other addresses: the order of the round before is not used.
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true })
	moved := o.spec(t, "three")
	if st := n.wait(n.submit(moved).ID); st.State != job.Failed {
		t.Fatalf("%s, %v", st.State, st.Error)
	}
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.RawQuery == "" {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	for _, s := range []*job.Source{&moved.From, &moved.To} {
		s.URLs = []string{s.URLs[0] + "?moved"}
	}
	counted("the same from elsewhere", 1, func() {
		if st := n.wait(n.submit(moved).ID); st.State != job.Done {
			t.Errorf("%s, %v", st.State, st.Error)
		}
	})

	// Taken before a restart.
	n.close()
	n = open(t, setting{dir: dir, options: func(o *engine.Options) { o.Slots = -1 }})
	moved = o.spec(t, "four")
	for _, s := range []*job.Source{&moved.From, &moved.To} {
		s.URLs = []string{s.URLs[0] + "?moved"}
	}
	var id string
	counted("taken", 1, func() { id = n.submit(moved).ID })
	n.close()
	n = open(t, setting{dir: dir})
	if st := n.wait(id); st.State != job.Done {
		t.Errorf("%s, %v", st.State, st.Error)
	}
	if got := n.Named(); got != 1 {
		t.Errorf("after a restart: %d keys computed, want 1", got)
	}
}

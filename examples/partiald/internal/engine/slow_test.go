package engine_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// slowly answers requests below a path with one byte now and then.
func (o *origin) slowly(path string, every time.Duration) {
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, path) {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		tick := time.NewTicker(every)
		defer tick.Stop()
		for range 100000 {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return true
			}
			if _, err := w.Write([]byte("x")); err != nil {
				return true
			}
			_ = http.NewResponseController(w).Flush()
		}
		return true
	})
}

// TestSlowOrigin has fifty jobs on an origin that sends a byte now and then: other jobs, of the same and of other callers,
// start at once, and the slow ones end by themselves, as the origin's fault.
func TestSlowOrigin(t *testing.T) {
	t.Parallel()
	slow, o := newOrigin(t), newOrigin(t)
	slow.slowly("/slow/", time.Second) // a byte a second
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Slots, o.Attempts = 1, 1
		o.Fetch.Stall, o.Fetch.MinRate, o.Fetch.Attempts = 4*time.Second, 1000, 1
		o.Fetch.PerHost = 50
	}})
	var ids []string
	for i := range 50 {
		spec := o.spec(t, "slow")
		spec.From.URLs, spec.From.SHA512 = []string{fmt.Sprintf("%s/slow/%d", slow.URL, i)}, fmt.Sprintf("%0128x", i+1)
		spec.From.Size = 0
		ids = append(ids, n.submit(spec).ID)
	}
	n.until(ids[len(ids)-1], func(s job.Status) bool { return s.State != job.Queued })
	begin := time.Now()
	other := o.spec(t, "x")
	s, _, err := n.Submit(t.Context(), other, job.Asker{Name: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	n.until(s.ID, func(s job.Status) bool { return s.State != job.Queued })
	started := time.Since(begin)
	s = n.wait(s.ID)
	t.Logf("another job started after %v and was done after %v", started, time.Since(begin))
	if limit := 2 * time.Second * time.Duration(testkit.Count(4, 1, 1)); started > limit || s.State != job.Done {
		t.Errorf("another job started after %v: %s, %v", started, s.State, s.Error)
	}
	if s := n.wait(n.submit(o.spec(t, "same caller")).ID); s.State != job.Done {
		t.Errorf("another job of the same caller: %s, %v", s.State, s.Error)
	}
	for _, id := range ids {
		s := n.wait(id)
		if s.State != job.Failed || s.Error.Code != job.CodeFetch || s.Error.Whose() != job.FaultOrigin || s.Error.Field != "from.urls" ||
			!strings.Contains(s.Error.Message, "stalled: only") {
			t.Fatalf("%s, %v", s.State, s.Error)
		}
	}
}

// TestDownloadDeadline has an origin that is fast enough never to be given up, and never done.
func TestDownloadDeadline(t *testing.T) {
	t.Parallel()
	slow, o := newOrigin(t), newOrigin(t)
	slow.slowly("/slow/", 10*time.Millisecond)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Attempts, o.JobTimeout, o.Fetch.MinRate, o.Fetch.Deadline = 1, 500*time.Millisecond, -1, time.Second
	}})
	spec := o.spec(t, "x")
	spec.To.URLs, spec.To.Size = []string{slow.URL + "/slow/a"}, 0
	s := n.wait(n.submit(spec).ID)
	if s.State != job.Failed || s.Error.Code != job.CodeFetch || s.Error.Whose() != job.FaultOrigin || !strings.Contains(s.Error.Message, "not complete after 1s") {
		t.Errorf("%s, %v", s.State, s.Error)
	}
}

// TestCallersShare has a caller with more jobs than one may have under way at a time.
func TestCallersShare(t *testing.T) {
	t.Parallel()
	held, o := newOrigin(t), newOrigin(t)
	arrived, release := held.hold(t)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Slots, o.Downloads, o.PerCaller = 1, 4, 2 }})
	var ids []string
	for i := range 4 {
		ids = append(ids, n.submit(held.spec(t, fmt.Sprint(i))).ID)
	}
	<-arrived
	s, _, err := n.Submit(t.Context(), o.spec(t, "x"), job.Asker{Name: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	if s = n.wait(s.ID); s.State != job.Done {
		t.Errorf("%s, %v", s.State, s.Error)
	}
	running := 0
	for _, id := range ids {
		if s, err := n.Status(t.Context(), id); err != nil {
			t.Fatal(err)
		} else if s.State != job.Queued {
			running++
		}
	}
	if running != 2 {
		t.Errorf("%d jobs of one caller are under way, want 2", running)
	}
	release()
	for _, id := range ids[:2] {
		if s := n.wait(id); s.State != job.Done {
			t.Errorf("%s, %v", s.State, s.Error)
		}
	}
}

// TestSlowMirrorOfOthers has somebody fetch a complete from an address that is slow, and somebody else want the same
// complete from one that is not.
func TestSlowMirrorOfOthers(t *testing.T) {
	t.Parallel()
	slow, o := newOrigin(t), newOrigin(t)
	slow.slowly("/slow/", 10*time.Millisecond)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Fetch.MinRate, o.Fetch.Stall = -1, time.Minute }})
	spec := o.spec(t, "x")
	bad := spec
	bad.From.URLs, bad.From.Size, bad.Locale = []string{slow.URL + "/slow/a", spec.From.URLs[0]}, 0, "fr"
	id := n.submit(bad).ID
	n.until(id, func(s job.Status) bool { return s.Progress.Done > 0 })
	begin := time.Now()
	s := n.wait(n.submit(spec).ID)
	if s.State != job.Done || time.Since(begin) > 15*time.Second {
		t.Errorf("%s after %v, %v", s.State, time.Since(begin), s.Error)
	}
	doc, err := n.Provenance(t.Context(), s.ID)
	if err != nil || !strings.Contains(string(doc), spec.From.URLs[0]) || strings.Contains(string(doc), "/slow/") {
		t.Errorf("provenance does not name the address that gave the bytes, or names that of others: %v", err)
	}
	if _, err := n.Cancel(t.Context(), id, alice); err != nil {
		t.Error(err)
	}
	// Asked again the other one finds the bytes here, and its provenance names the address that gave them.
	s = n.wait(n.submit(bad).ID)
	if doc, err = n.Provenance(t.Context(), s.ID); err != nil || s.State != job.Done {
		t.Fatalf("%s, %v", s.State, err)
	}
	var p senbonzakura.Provenance
	if err := json.Unmarshal(doc, &p); err != nil || p.From.URL != spec.From.URLs[0] {
		t.Errorf("provenance names %s, %v", p.From.URL, err)
	}
}

package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

const (
	eventGap  = 200 * time.Millisecond // between two reports of progress within one state
	eventBeat = 15 * time.Second       // a comment, so that proxies keep the stream and dead clients are noticed
)

// hub lets any number of clients watch a job for the price of one: the service is asked once per job, and every event
// is encoded once.
type hub struct {
	svc job.Service

	mu     sync.Mutex
	topics map[string]*topic
}

// topic is a job that is watched. mu of the hub guards refs, its own mu the rest.
type topic struct {
	refs   int
	cancel context.CancelFunc

	mu      sync.Mutex
	last    job.Status
	event   []byte        // last, as an event; nil before the first
	version int           // counts events
	changed chan struct{} // closed when there is a new event, or the end
	ended   bool          // no event comes any more
	err     error         // why there never was one
}

func newHub(svc job.Service) *hub { return &hub{svc: svc, topics: map[string]*topic{}} }

// join subscribes to a job; leave must be called afterwards.
func (h *hub) join(id string) (t *topic, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.topics[id]
	if t == nil {
		ctx, cancel := context.WithCancel(context.Background())
		t = &topic{cancel: cancel, changed: make(chan struct{})}
		h.topics[id] = t
		go h.follow(ctx, id, t)
	}
	t.refs++
	return t, sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if t.refs--; t.refs == 0 {
			t.cancel()
			if h.topics[id] == t {
				delete(h.topics, id)
			}
		}
	})
}

// follow takes what the service says about a job to those who watch it. It ends with the job, or when nobody watches
// any more.
func (h *hub) follow(ctx context.Context, id string, t *topic) {
	defer func() {
		// Whoever comes from now on starts a new topic: the job may be tried again.
		h.mu.Lock()
		if h.topics[id] == t {
			delete(h.topics, id)
		}
		h.mu.Unlock()
		t.mu.Lock()
		t.ended = true
		close(t.changed)
		t.mu.Unlock()
	}()
	updates, err := h.svc.Watch(ctx, id)
	if err != nil {
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
		return
	}
	var held *job.Status // not published yet, because it came too soon after the one before
	gap := time.NewTimer(eventGap)
	defer gap.Stop()
	var state job.State
	for {
		select {
		case st, ok := <-updates:
			if !ok {
				if held != nil {
					t.publish(*held)
				}
				return
			}
			if st.State == state && !st.State.Final() {
				held = &st
				continue
			}
			state, held = st.State, nil
			t.publish(st)
			gap.Reset(eventGap)
		case <-gap.C:
			if held != nil {
				t.publish(*held)
				held = nil
			}
			gap.Reset(eventGap)
		}
	}
}

// publish makes a status the latest event.
func (t *topic) publish(st job.Status) {
	data, err := json.Marshal(st)
	if err != nil {
		return // there is nothing in a Status that JSON cannot say
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version++
	t.last = st
	t.event = fmt.Appendf(nil, "id: %d\nevent: status\ndata: %s\n\n", t.version, data)
	close(t.changed)
	t.changed = make(chan struct{})
}

// next waits until there is something newer than version. It returns ok false at the end.
func (t *topic) next(ctx context.Context, version int, beat <-chan time.Time) (st job.Status, event []byte, now int, ok bool, err error) {
	for {
		t.mu.Lock()
		st, event, now = t.last, t.event, t.version
		changed, ended, failed := t.changed, t.ended, t.err
		t.mu.Unlock()
		switch {
		case now > version:
			return st, event, now, true, nil
		case ended:
			return st, nil, now, false, failed
		}
		select {
		case <-changed:
		case <-beat:
			return st, []byte(":\n\n"), version, true, nil
		case <-ctx.Done():
			return st, nil, version, false, ctx.Err()
		}
	}
}

// held counts the requests of each address that stay for as long as a job takes.
type held struct {
	mu sync.Mutex
	n  map[string]int
}

// enter counts one more request of an address, up to most; leave must be called afterwards.
func (h *held) enter(addr string, most int) (leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n[addr] >= most {
		return nil, false
	}
	if h.n == nil {
		h.n = map[string]int{}
	}
	h.n[addr]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.n[addr]--; h.n[addr] == 0 {
			delete(h.n, addr)
		}
	}, true
}

// wait returns the status of a job once it is final, or after d. Who waits for too much already does not wait: the status
// has no ID then.
func (s *server) wait(ctx context.Context, id string, d time.Duration) (job.Status, error) {
	left, ok := s.held.enter(infoFrom(ctx).Addr, s.opts.MaxHeld)
	if !ok {
		return job.Status{}, nil
	}
	defer left()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	t, leave := s.events.join(id)
	defer leave()
	version := 0
	for {
		st, _, now, ok, err := t.next(ctx, version, nil)
		switch {
		case errors.Is(err, context.DeadlineExceeded) || err == nil && !ok: // waited enough, or the service stops
			return st, nil
		case err != nil:
			return st, err
		case st.State.Final():
			return st, nil
		}
		version = now
	}
}

// watch answers GET …/events: the status now and whenever it changes, to the end of the job. Every event has all that
// is known, so a client that was away misses nothing that matters, whatever it says in Last-Event-ID.
func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	infoFrom(r.Context()).job = id
	if !isID(id) {
		writeProblem(w, r, noJob(id))
		return
	}
	if !accepts(r.Header.Get("Accept"), "text/event-stream") {
		writeProblem(w, r, problem(codeNotAccept, "events are text/event-stream"))
		return
	}
	left, ok := s.held.enter(infoFrom(r.Context()).Addr, s.opts.MaxHeld)
	if !ok {
		writeProblem(w, r, problem(codeRate, "more than %d streams and waiting requests at a time", s.opts.MaxHeld).after(eventBeat))
		return
	}
	defer left()
	t, leave := s.events.join(id)
	defer leave()
	first, cancel := call(r.Context())
	st, event, version, ok, err := t.next(first, 0, nil)
	cancel()
	if err != nil || !ok {
		if err == nil {
			err = problem(job.CodeUnavailable, "this server is stopping").after(2 * time.Second)
		}
		writeProblem(w, r, err)
		return
	}
	s.metrics.watchers.Inc()
	defer s.metrics.watchers.Dec()
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // a stream has no end that a limit could know
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // what compresses them would keep them back
	h.Set("X-Accel-Buffering", "no")                 // so would nginx
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write([]byte("retry: 2000\n\n")); err != nil {
		return
	}
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	for {
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		if st.State.Final() {
			return
		}
		if st, event, version, ok, err = t.next(r.Context(), version, beat.C); err != nil || !ok {
			return
		}
	}
}

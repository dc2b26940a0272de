package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// watch begins to listen to the other servers, again where it did already.
func (e *Engine) watch(ctx context.Context) error {
	if e.unwatch != nil {
		e.unwatch()
	}
	e.deaf.Store(true) // until all of it works
	var listen context.Context
	listen, e.unwatch = context.WithCancel(e.ctx)
	ready := make(chan struct{}, 2)
	isReady := func() { ready <- struct{}{} }
	for _, w := range []struct {
		kind      string
		live, all bool
		ready     func()
		changed   func(queue.Update)
	}{
		{"job", false, false, nil, e.heardJob},
		{"ban", false, true, isReady, e.bans.heard},
		{"progress", true, false, nil, e.heardProgress},
		{"worker", true, true, isReady, e.workers.heard},
	} {
		watch := e.q.Watch
		if w.live {
			watch = e.q.WatchLive
		}
		wait, err := watch(listen, w.kind, w.all, w.ready, w.changed)
		if err != nil {
			return err
		}
		e.goLoop(func() {
			wait()
			if listen.Err() == nil { // the client gives up where the engine refuses what it did not expect
				e.deaf.Store(true)
				poke(e.sick)
			}
		})
	}
	// Nobody who is banned gets in because we have not heard of it yet, and no job is taken for lost on which another
	// server works.
	for range cap(ready) {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.deaf.Store(false)
	return nil
}

func (e *Engine) heardJob(u queue.Update) {
	if u.Value == nil {
		e.mirror.drop(u.Name)
		return
	}
	r, err := decode(u.Value)
	if err != nil || r.ID != u.Name {
		e.log.Warn("a job's record cannot be read", "job", u.Name, "error", err)
		return
	}
	if !r.Purged.IsZero() && len(r.Changes) > 0 && r.Changes[len(r.Changes)-1].Server != e.o.Server {
		e.present.remove(r.ID)
		if _, err := e.purgeLocal(e.ctx, r.ID, &r); err != nil {
			e.log.Warn("what another server purged could not be purged here", "job", r.ID, "error", err)
		}
	}
	e.seen(r.ID, r, u.Revision)
}

func (e *Engine) heardProgress(u queue.Update) {
	var p progress
	if u.Value != nil && json.Unmarshal(u.Value, &p) == nil {
		e.mirror.setProgress(u.Name, p)
	}
}

// followLoop writes down what happens to the jobs of this server's ledger.
func (e *Engine) followLoop() {
	for {
		select {
		case <-e.follow.wake:
		case <-e.ctx.Done():
			return
		}
		for e.ctx.Err() == nil && e.followPending(e.ctx) {
		}
	}
}

// followPending writes down what is pending and says whether there was something.
func (e *Engine) followPending(ctx context.Context) bool {
	f := &e.follow
	f.Lock()
	batch := f.pending
	f.pending = map[string]record{}
	f.busy = len(batch) > 0
	f.Unlock()
	if len(batch) == 0 {
		return false
	}
	var wg sync.WaitGroup
	limit := make(chan struct{}, 32) // SQLite writes those of one time with one sync
	var mu sync.Mutex
	var failed error
	for id, r := range batch {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if _, err := e.l.Follow(ctx, &r.Status); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
				f.Lock()
				if _, newer := f.pending[id]; !newer {
					f.pending[id] = r
				}
				f.Unlock()
			}
		})
	}
	wg.Wait()
	f.Lock()
	f.busy = false
	f.Unlock()
	if failed != nil && ctx.Err() == nil {
		e.log.ErrorContext(ctx, "the ledger does not take what happened; it is tried again", "error", failed)
		pause(ctx, time.Second)
	}
	return true
}

// flush waits until the ledger knows everything that this server knows.
func (e *Engine) flush(ctx context.Context) {
	for ctx.Err() == nil && e.ctx.Err() == nil {
		e.follow.Lock()
		idle := len(e.follow.pending) == 0 && !e.follow.busy
		e.follow.Unlock()
		if idle {
			return
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// requeueLoop looks after the jobs in the ledger, at the start and then regularly.
func (e *Engine) requeueLoop() {
	tick := time.NewTicker(e.o.RequeueEvery)
	defer tick.Stop()
	for {
		e.repair(e.ctx)
		if err := e.requeue(e.ctx); err != nil && e.ctx.Err() == nil {
			e.log.Warn("the ledger's jobs could not all be looked after; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-e.sick:
		case <-e.q.Sick():
		case <-e.drainCtx.Done():
			return
		}
	}
}

// repair makes again what the queue has not any more, and begins to listen again.
func (e *Engine) repair(ctx context.Context) {
	made, err := e.q.Repair(ctx)
	if err == nil && (made || e.deaf.Load()) {
		short, cancel := context.WithTimeout(ctx, healthTimeout)
		defer cancel()
		if made {
			e.log.WarnContext(ctx, "the queue had lost all or some of its memory; it was made again")
			e.mirror.forget() // revisions begin anew
			e.keepBans(short)
		}
		err = e.watch(short)
	}
	if err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "the queue does not answer", "error", err)
	}
}

// How many messages are read at a time to see whether they are in order, and for how long one that was counts as such.
const (
	maxChecks  = 2000
	checkAfter = 25 * time.Second
)

// requeue compares the ledger with the queue: what has ended meanwhile is written down, what the queue lost is queued
// again.
func (e *Engine) requeue(ctx context.Context) error {
	queued, err := e.q.Jobs(ctx)
	if err != nil {
		return err
	}
	var failed error
	checked := 0
	for entry, err := range e.l.Open(ctx) {
		if err != nil {
			return errors.Join(failed, err)
		}
		id := entry.Status.ID
		if e.fresh.has(id) {
			continue // on its way
		}
		_, counted := queued[id]
		if counted && (checked >= maxChecks || e.checked.has(id)) || e.worksHere(id) {
			continue
		}
		if counted {
			checked++
		}
		// Also one that is not among those that were counted: it may have come since.
		err = e.q.Check(ctx, id)
		if err == nil {
			e.checked.add(id)
			continue
		}
		if counted && errors.Is(err, queue.ErrNotFound) {
			err = errors.Join(e.q.Remove(ctx, id), queue.ErrNotFound)
		}
		if errors.Is(err, queue.ErrUnavailable) {
			failed = errors.Join(failed, err)
			continue
		}
		r, revision, err := e.load(ctx, id)
		lost := errors.Is(err, queue.ErrNotFound)
		switch {
		case err != nil && !lost:
			failed = errors.Join(failed, err)
			continue
		case !lost && r.State.Final():
			if _, err := e.l.Follow(ctx, &r.Status); err != nil {
				failed = errors.Join(failed, err)
			}
			continue
		case lost && e.workers.works("", id), !lost && r.Token != "" && e.workers.works(r.Server, id):
			continue // its message is gone, its worker is not
		}
		full, err := e.l.Get(ctx, id)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		ours := recordOf(&full)
		if ours.State.Final() {
			continue // by now
		}
		if lost || ours.seq() > r.seq() {
			r = ours
		}
		r.setSpec(full.Spec)
		if err := e.again(ctx, &r, revision, lost); err != nil {
			failed = errors.Join(failed, fmt.Errorf("job %s: %w", id, err))
		}
	}
	return failed
}

// worksHere says whether this server works on a job.
func (e *Engine) worksHere(id string) bool {
	e.active.Lock()
	defer e.active.Unlock()
	return e.active.m[id] != nil
}

// again queues a job that the queue has not any more.
func (e *Engine) again(ctx context.Context, r *record, revision uint64, lost bool) error {
	if lost || r.State != job.Queued {
		before := r.State
		if r.Token != "" {
			r.ran(e.now(), job.AttemptLost, job.Errorf(job.CodeAttempts, "the queue lost the job, and the worker on %s is silent", r.Server))
			r.Token = ""
			r.Deaths++
		}
		r.Next = nil
		r.step(job.Queued, e.now(), e.o.Server, "queued again: the queue had lost it")
		r.Epoch = r.seq()
		_, err := e.save(ctx, r, revision)
		if errors.Is(err, queue.ErrConflict) {
			return nil // somebody does something about it just now
		}
		if err != nil {
			return err
		}
		if o := e.o.Observer.State; o != nil {
			o(r.ID, before, r.State)
		}
	}
	err := e.q.Publish(ctx, r.ID, r.Spec.Priority, r.encode())
	if errors.Is(err, queue.ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	e.log.WarnContext(ctx, "queued again", "job", r.ID)
	if o := e.o.Observer.Requeued; o != nil {
		o(r.ID)
	}
	return nil
}

// Heartbeats of workers.
const (
	beatEvery = 5 * time.Second
	beatLife  = 20 * time.Second
)

// heartbeatLoop tells the others that this server is there.
func (e *Engine) heartbeatLoop() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		e.sendBeat(e.ctx)
		select {
		case <-tick.C:
		case <-e.workers.changed():
		case <-e.ctx.Done():
			return
		}
	}
}

// beat has the heart beat at once.
func (e *Engine) beat() { poke(e.workers.changed()) }

func (e *Engine) sendBeat(ctx context.Context) {
	if e.o.Slots < 0 || e.draining.Load() && e.idle() {
		return
	}
	w := job.Worker{Server: e.o.Server, Slots: e.o.Slots, Jobs: []string{}, Seen: e.now(), Version: e.o.Version}
	e.active.Lock()
	for id := range e.active.m {
		w.Jobs = append(w.Jobs, id)
	}
	e.active.Unlock()
	slices.Sort(w.Jobs)
	value, err := json.Marshal(w)
	if err == nil {
		err = e.q.PutLive(ctx, queue.Key("worker", e.o.Server), value, beatLife)
	}
	if err != nil && ctx.Err() == nil {
		e.log.DebugContext(ctx, "heartbeat", "error", err)
		poke(e.sick)
	}
}

func (e *Engine) idle() bool {
	e.active.Lock()
	defer e.active.Unlock()
	return len(e.active.m) == 0
}

// workers are the servers whose hearts beat.
type workers struct {
	mu sync.Mutex
	m  map[string]heard
	c  chan struct{}
}

type heard struct {
	job.Worker
	at time.Time // monotonic, as this server heard it
}

func (w *workers) changed() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c == nil {
		w.c = make(chan struct{}, 1)
	}
	return w.c
}

func (w *workers) heard(u queue.Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[string]heard{}
	}
	var worker job.Worker
	if u.Value == nil || json.Unmarshal(u.Value, &worker) != nil {
		delete(w.m, u.Name)
		return
	}
	w.m[u.Name] = heard{worker, time.Now()}
}

func (w *workers) alive() []job.Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []job.Worker{}
	for name, h := range w.m {
		if time.Since(h.at) > beatLife {
			delete(w.m, name)
			continue
		}
		list = append(list, h.Worker)
	}
	slices.SortFunc(list, func(a, b job.Worker) int { return strings.Compare(a.Server, b.Server) })
	return list
}

// others says whether there are other workers than one.
func (w *workers) others(than string) bool {
	return slices.ContainsFunc(w.alive(), func(w job.Worker) bool { return w.Server != than })
}

// works says whether a server works on a job; "" stands for any.
func (w *workers) works(server, id string) bool {
	return slices.ContainsFunc(w.alive(), func(w job.Worker) bool {
		return (server == "" || w.Server == server) && slices.Contains(w.Jobs, id)
	})
}

// Queue implements [job.Service].
func (e *Engine) Queue(ctx context.Context) (job.Queue, error) {
	q := job.Queue{Limit: e.q.Limit(), Workers: e.workers.alive()}
	all, err := e.q.Len(ctx)
	if err != nil {
		return q, outward(err)
	}
	for _, w := range q.Workers {
		q.Running += len(w.Jobs)
	}
	q.Running = min(q.Running, all)
	q.Waiting = all - q.Running
	if q.Dead, err = e.l.CountFailed(ctx, job.CodeAttempts); err != nil {
		return q, outward(err)
	}
	q.Oldest, err = e.l.Oldest(ctx)
	return q, outward(err)
}

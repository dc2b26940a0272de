package engine

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// Why an attempt ends that did not come to its own end.
var (
	errDrained = errors.New("the server is being stopped")
	errFenced  = errors.New("the job is not this attempt's any more")
)

const (
	progressEvery = 500 * time.Millisecond // how often progress is told, at most
	progressLife  = 2 * time.Minute        // how long it is kept
	finishFor     = 30 * time.Second       // how long an attempt tries to tell how it ended
	handBackFor   = 5 * time.Second        // the same, for one that is handed back: Close waits for it
	endingDelay   = 200 * time.Millisecond // how long a job waits for its attempt before to be gone
	logFor        = 3 * time.Second        // how long it tries to store its log
	maxRetryDelay = 10 * time.Minute

	// A job that this server cannot do is left to others, for about 7 minutes in all.
	maxStrangers     = 20
	strangerDelay    = 100 * time.Millisecond
	maxStrangerDelay = 30 * time.Second
)

// attempt is one run of a job on this server.
type attempt struct {
	order   *senbonzakura.Order // what the spec comes to; nil before it was claimed
	e       *Engine
	id      string
	token   string
	number  int
	spec    job.Spec
	started time.Time // monotonic
	log     *jobLog
	cancel  context.CancelCauseFunc

	mu       sync.Mutex
	m        *queue.Message // a redelivery takes the place of the one before
	over     bool           // m has its answer, or is not ours
	steps    []step         // not yet told
	state    job.State      // of the last step
	progress job.Progress
	about    *job.About              // what the completes say of themselves
	sides    map[string]job.Progress // of the two downloads
	news     bool                    // progress was not told yet
	wake     chan struct{}

	// Of the one who tells: first teller, then, after it has ended, the slot.
	record   record
	revision uint64
}

type step struct {
	state job.State
	at    time.Time
}

// slot takes one job after the other.
func (e *Engine) slot() {
	for {
		m, err := e.gate.take(e.drainCtx, e.q)
		if err != nil {
			return // nothing else ends it
		}
		e.work(m)
	}
}

// lease keeps telling the queue that a job is under work, until the context ends.
func (e *Engine) lease(ctx context.Context, message func() *queue.Message) {
	tick := time.NewTicker(e.q.AckWait() / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m := message()
		if err := m.Working(ctx); err != nil && ctx.Err() == nil {
			// Should another server be given the job now, its claim ends this attempt.
			e.log.WarnContext(ctx, "the queue does not hear that a job is under work", "job", m.ID, "error", err)
		}
	}
}

// work does one job.
func (e *Engine) work(m *queue.Message) {
	if e.adopt(m) {
		return
	}
	leave, ok := e.admit(m)
	if !ok {
		return
	}
	defer leave()
	a := &attempt{
		e: e, id: m.ID, m: m, token: rand.Text(), started: time.Now(), log: &jobLog{}, wake: make(chan struct{}, 1),
		sides: map[string]job.Progress{},
	}
	ctx, cancel := context.WithCancelCause(inJob(e.ctx, a.log))
	defer cancel(nil)
	a.cancel = cancel
	leaseCtx, endLease := context.WithCancel(context.WithoutCancel(ctx)) // until the end is told, also of one that was cancelled
	var lease sync.WaitGroup
	lease.Go(func() { e.lease(leaseCtx, a.message) })
	defer lease.Wait()
	defer endLease()

	if !e.claim(ctx, a) {
		return
	}
	e.active.Lock()
	e.active.m[a.id] = a
	e.active.Unlock()
	e.beat()
	defer func() {
		e.active.Lock()
		delete(e.active.m, a.id)
		e.active.Unlock()
		e.beat()
	}()
	stopDrain := context.AfterFunc(e.drainCtx, func() { cancel(errDrained) })
	defer stopDrain()
	a.run(ctx)
}

// adopt gives a message to the attempt that is under work here for the same job: the queue had not heard of it for too
// long and delivered it again. One that is about to end needs none any more: the message is for the round that comes next.
func (e *Engine) adopt(m *queue.Message) bool {
	e.active.Lock()
	a := e.active.m[m.ID]
	e.active.Unlock()
	if a == nil {
		return false
	}
	a.mu.Lock()
	over := a.over
	if !over {
		a.m = m
	}
	a.mu.Unlock()
	if over {
		_ = m.HandBack(e.ctx, endingDelay) // or it comes after AckWait
	}
	return true
}

// lose says that the attempt has no message any more.
func (a *attempt) lose() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}

// last returns the message for the attempt's last answer.
func (a *attempt) last() *queue.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	return a.m
}

func (a *attempt) message() *queue.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.m
}

// claim takes a job for an attempt. Where it says no, the message has been dealt with.
func (e *Engine) claim(ctx context.Context, a *attempt) bool {
	m := a.m
	ticket, ticketErr := record{}, errors.New("damaged")
	if m.Data != nil {
		ticket, ticketErr = decode(m.Data)
	}
	deadline := time.Now().Add(finishFor)
	for {
		r, revision, err := e.load(ctx, m.ID)
		// A ticket that is newer belongs to a new round, or the queue's files were damaged and an old record came to light.
		if errors.Is(err, queue.ErrNotFound) || err == nil && ticketErr == nil && ticket.seq() > r.seq() {
			if ticketErr != nil {
				// Neither is to be had. Who accepted the job will queue it again.
				e.log.ErrorContext(ctx, "a job was damaged in the queue", "job", m.ID, "error", ticketErr)
				_ = m.Ack(ctx)
				return false
			}
			r, err = ticket, nil
		}
		if err == nil {
			var claimed bool
			if claimed, err = e.claimRecord(ctx, a, r, revision); err == nil {
				return claimed
			}
		}
		if errors.Is(err, queue.ErrConflict) && time.Now().Before(deadline) && pause(ctx, time.Millisecond) {
			continue
		}
		if time.Now().After(deadline) || e.drainCtx.Err() != nil {
			_ = m.HandBack(ctx, 0) // or it comes back after AckWait
			return false
		}
		e.log.WarnContext(ctx, "job cannot be claimed yet", "job", m.ID, "error", err)
		pause(ctx, time.Second)
	}
}

// claimRecord claims a job that stands as r says. The error is the queue's.
func (e *Engine) claimRecord(ctx context.Context, a *attempt, r record, revision uint64) (bool, error) {
	m, now, before := a.m, e.now(), r.State
	if r.State.Final() {
		return false, e.ack(ctx, m, r.seq()) // what is left of an earlier delivery
	}
	if r.Token == a.token { // ours already: the answer to the try before did not come
		a.claimed(&r, revision, job.Queued)
		return true, nil
	}
	if e.drainCtx.Err() != nil {
		return false, m.HandBack(ctx, 0)
	}
	order, err := e.orders.get(&r), error(nil)
	if order == nil {
		order, err = e.reorder(m.ID, r.spec())
	}
	if err != nil {
		r.Strangers++
		if e.workers.others(e.o.Server) && r.Strangers <= maxStrangers {
			if _, err := e.save(ctx, &r, revision); err != nil {
				return false, err
			}
			return false, m.HandBack(ctx, min(strangerDelay<<r.Strangers, maxStrangerDelay))
		}
		r.Error = judge(err, 1).err
		r.Error.Message += "; submit it again"
		return false, e.giveUp(ctx, m, &r, revision, before)
	}
	if r.Token != "" {
		r.ran(now, job.AttemptLost, job.Errorf(job.CodeAttempts, "the worker on %s fell silent", r.Server))
		r.Deaths++
		if r.Deaths >= e.o.Attempts {
			r.Error = job.Errorf(job.CodeAttempts, "%d workers died over it, the last one on %s", r.Deaths, r.Server)
			return false, e.giveUp(ctx, m, &r, revision, before)
		}
	}
	reason := "taken from the queue"
	if r.Token != "" {
		reason = fmt.Sprintf("the worker on %s fell silent", r.Server)
	}
	r.run(now, e.o.Server)
	r.Server, r.Token = e.o.Server, a.token
	r.step(job.Fetching, now, e.o.Server, reason)
	revision, err = e.save(ctx, &r, revision)
	if err != nil {
		return false, err
	}
	a.order = order
	a.claimed(&r, revision, before)
	return true, nil
}

// reorder looks again at a job that another server took, or this one before it was started.
func (e *Engine) reorder(id string, spec job.Spec) (*senbonzakura.Order, error) {
	order, now, err := e.request(&spec)
	if err == nil && now != id && spec.Keys == job.Keys { // those of versions before had other IDs
		err = job.Errorf(job.CodeConflict, "this server would make something else of it: its signers or its rules are others than those of "+
			"the server that took the job")
	}
	return order, err
}

// claimed begins the attempt.
func (a *attempt) claimed(r *record, revision uint64, before job.State) {
	if o := a.e.o.Observer.State; o != nil {
		o(a.id, before, job.Fetching)
	}
	a.record, a.revision, a.number, a.spec, a.state = *r, revision, r.Attempt, r.spec(), job.Fetching
	if o := a.e.o.Observer.Began; o != nil && r.Deaths == 0 && r.Failures == 0 {
		if round, ok := r.round(); ok {
			o(a.id, max(0, a.e.now().Sub(round.At)))
		}
	}
}

// giveUp ends a job that nobody shall try any more, as r.Error says.
func (e *Engine) giveUp(ctx context.Context, m *queue.Message, r *record, revision uint64, before job.State) error {
	r.Next = nil
	r.end(job.Failed, e.now(), e.o.Server, r.Error.Message)
	if _, err := e.save(ctx, r, revision); err != nil {
		return err
	}
	e.log.ErrorContext(ctx, "job given up", "job", r.ID, "error", r.Error)
	e.finished(r, before)
	return e.ack(ctx, m, r.seq())
}

func (e *Engine) finished(r *record, before job.State) {
	if o := e.o.Observer.State; o != nil {
		o(r.ID, before, r.State)
	}
	if o := e.o.Observer.Finished; o != nil {
		o(r.Status)
	}
}

// see is told how the job stands by whoever changed that. Where the attempt has lost it, it ends.
func (a *attempt) see(r *record, _ uint64) {
	switch {
	case r.Token == a.token || r.Attempt < a.number:
	case r.State == job.Cancelled:
		a.lose()
		a.cancel(errCancelled)
	default:
		a.lose()
		a.cancel(errFenced)
	}
}

// run makes the partial and tells how it went.
func (a *attempt) run(ctx context.Context) {
	e := a.e
	e.log.InfoContext(ctx, "attempt begins", "job", a.id, "attempt", a.number, "server", e.o.Server,
		"from", a.record.Spec.From, "to", a.record.Spec.To, "deaths", a.record.Deaths, "failures", a.record.Failures)
	tellCtx, endTelling := context.WithCancel(context.WithoutCancel(ctx))
	var teller sync.WaitGroup
	teller.Go(func() { a.tell(tellCtx) })

	result, err := a.generate(ctx)

	endTelling()
	teller.Wait()
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		err = cause
	}
	switch {
	case errors.Is(err, errFenced), errors.Is(err, errCancelled):
		e.log.WarnContext(ctx, "attempt ends", "job", a.id, "attempt", a.number, "error", err)
		a.keepLog(ctx)
		return // neither the record nor the message is ours
	case errors.Is(err, errDrained), e.ctx.Err() != nil:
		a.handBack(ctx, "handed back: "+errDrained.Error(), nil, 0, handBackFor)
	case err != nil:
		a.fail(ctx, err)
	default:
		e.log.InfoContext(ctx, "done", "job", a.id, "attempt", a.number, "took", time.Since(a.started), "size", result.Size,
			"complete", result.Complete, "sha512", result.SHA512, "cached", result.Cached)
		a.keepLog(ctx)
		reason := "made and stored"
		if result.Cached {
			reason = "it was there already"
		}
		a.finish(ctx, finishFor, func(r *record) {
			r.Result, r.Error = result, nil
			r.ran(e.now(), job.AttemptDone, nil)
			r.end(job.Done, e.now(), e.o.Server, reason)
		})
	}
}

// generate makes the partial and stores what belongs to it.
func (a *attempt) generate(ctx context.Context) (*job.Result, error) {
	e := a.e
	if a.order == nil { // claimed by a try whose answer did not come
		order, _, err := e.request(&a.spec)
		if err != nil {
			return nil, err
		}
		a.order = order
	}
	if err := e.gen.Prefetch(ctx, a.order, a.event); err != nil {
		return nil, err
	}
	leave, err := a.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	limited, cancel := context.WithTimeout(ctx, e.o.JobTimeout)
	defer cancel()
	res, err := e.gen.Make(limited, a.order, a.event)
	if err != nil {
		if res != nil && res.Report != nil {
			a.keepRefusal(ctx, res.Report)
		}
		return nil, err
	}
	defer res.Close()
	doc, err := json.Marshal(res.Provenance)
	if err != nil {
		return nil, err
	}
	a.event(senbonzakura.Event{Step: senbonzakura.StepStoring, Done: res.Size, Total: res.Size})
	entry := res.Open()
	defer entry.Close()
	if err := e.keep(ctx, partialKey(a.id), entry.Reader()); err != nil {
		return nil, err
	}
	if err := e.put(ctx, docKey(a.id), doc); err != nil {
		return nil, &keepError{err}
	}
	if err := e.keep(ctx, docKey(a.id), bytes.NewReader(doc)); err != nil {
		return nil, err
	}
	e.present.add(a.id)
	p := res.Provenance
	r := &job.Result{
		Name: fileName(a.id, &a.spec, p), Size: res.Size, Complete: p.To.Size, SHA512: p.Output.SHA512, SHA256: p.Output.SHA256,
		Cached: res.Cached, SignedBy: p.Output.SignedBy, Elapsed: time.Since(a.started),
		Product: p.To.Build.Product, FromVersion: p.From.Build.Version, ToVersion: p.To.Build.Version,
	}
	if r.Complete > 0 {
		r.Saved = 1 - float64(r.Size)/float64(r.Complete)
	}
	return r, nil
}

// keepRefusal stores the report of an update that was refused, or not proved, for who wants to know why.
func (a *attempt) keepRefusal(ctx context.Context, report *partial.Report) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logFor)
	defer cancel()
	doc, err := json.Marshal(report)
	if err == nil {
		err = a.e.put(ctx, refusalKey(a.id, a.number), doc)
	}
	if err != nil {
		a.e.log.WarnContext(ctx, "the report of an attempt could not be stored", "job", a.id, "attempt", a.number, "error", err)
	}
}

// turn waits for a slot.
func (a *attempt) turn(ctx context.Context) (leave func(), err error) {
	waits := func(on bool) {
		a.mu.Lock()
		a.progress.Waiting, a.news = on, true
		a.mu.Unlock()
		poke(a.wake)
	}
	waits(true)
	defer waits(false)
	return a.e.gate.enter(ctx, a.spec.Priority)
}

// states maps the generator's steps.
var states = map[senbonzakura.Step]job.State{
	senbonzakura.StepFetching: job.Fetching, senbonzakura.StepUnpacking: job.Unpacking, senbonzakura.StepDiffing: job.Diffing,
	senbonzakura.StepPacking: job.Packing, senbonzakura.StepVerifying: job.Verifying, senbonzakura.StepSigning: job.Signing,
	senbonzakura.StepStoring: job.Storing,
}

// reasons say why an attempt came to a step.
var reasons = map[job.State]string{
	job.Unpacking: "both complete updates are here",
	job.Diffing:   "it is known which files changed",
	job.Packing:   "the patches are made",
	job.Verifying: "the update is put together",
	job.Signing:   "the update is complete but for its signatures",
	job.Storing:   "the update is complete",
}

// event takes notice of progress. It is called often and does not wait for anybody.
func (a *attempt) event(ev senbonzakura.Event) {
	state := states[ev.Step]
	a.mu.Lock()
	defer a.mu.Unlock()
	switch order := slices.Index(job.States(), state) - slices.Index(job.States(), a.state); {
	case order < 0:
		return // steps overlap; the latest one counts
	case order > 0:
		a.state = state
		a.steps = append(a.steps, step{state, a.e.now()})
	}
	if ev.From != nil && ev.To != nil {
		a.about = about(ev.From, ev.To)
	}
	a.progress = job.Progress{File: ev.File, Done: ev.Done, Total: ev.Total}
	if state == job.Fetching {
		a.sides[ev.File] = a.progress
		a.progress = job.Progress{File: ev.File}
		for p := range maps.Values(a.sides) {
			a.progress.Done += p.Done
			if p.Total < 0 || a.progress.Total < 0 {
				a.progress.Total = -1
			} else {
				a.progress.Total += p.Total
			}
		}
	}
	a.news = true
	poke(a.wake)
}

// about is what people want to know of two builds, cut to what has a place in a record: the completes are anybody's.
func about(from, to *updater.Identity) *job.About {
	brief := func(texts ...string) string { return cut(cmp.Or(texts...), 128) }
	return &job.About{
		Product: brief(to.Product, from.Product), FromVersion: brief(from.Version), ToVersion: brief(to.Version),
		FromBuild: brief(from.BuildID), ToBuild: brief(to.BuildID),
		Platform: brief(to.Platform, from.Platform), Locale: brief(to.Locale, from.Locale),
	}
}

// progress is what is told of a running job, in memory alone.
type progress struct {
	State    job.State
	Attempt  int
	Progress job.Progress
}

// tell tells the others how far the attempt is, until ctx ends: every step, and now and then how many bytes.
func (a *attempt) tell(ctx context.Context) {
	var last time.Time
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		a.mu.Lock()
		steps := a.steps
		a.steps = nil
		p := progress{a.state, a.number, a.progress}
		wait := progressEvery - time.Since(last)
		due := a.news && wait <= 0
		if due {
			a.news = false
		} else if a.news {
			timer.Reset(wait)
		}
		a.mu.Unlock()
		if len(steps) > 0 && !a.change(ctx, func(r *record) { a.take(r, steps) }) {
			a.mu.Lock()
			a.steps = append(steps, a.steps...) // whoever tells how it ended tells them, too
			a.mu.Unlock()
			return
		}
		if due {
			last = time.Now()
			a.e.mirror.setProgress(a.id, p)
			if value, err := json.Marshal(p); err == nil {
				_ = a.e.q.PutLive(ctx, queue.Key("progress", a.id), value, progressLife) // the next one comes soon
			}
		}
	}
}

// change changes the job's record, again and again while the queue does not answer, until ctx ends. It says whether that
// succeeded; where the job is not this attempt's any more the attempt ends.
func (a *attempt) change(ctx context.Context, mutate func(*record)) bool {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		next := a.record
		mutate(&next)
		before := a.record.State
		revision, err := a.e.save(ctx, &next, a.revision)
		if err == nil {
			a.record, a.revision = next, revision
			if next.State.Final() {
				a.e.finished(&next, before)
			} else if o := a.e.o.Observer.State; o != nil {
				o(a.id, before, next.State)
			}
			return true
		}
		if errors.Is(err, queue.ErrConflict) {
			now, revision, err := a.e.load(ctx, a.id)
			switch {
			case errors.Is(err, queue.ErrNotFound):
				a.revision = revision // it was lost: what we know takes its place
				if pause(ctx, wait) {
					continue
				}
				return false
			case err == nil && now.Token == a.token:
				if now.seq() >= next.seq() && now.State == next.State { // ours, of which we had heard no answer
					a.record, a.revision = now, revision
					return true
				}
				a.record, a.revision = now, revision
				continue
			case err == nil && next.State.Final() && now.seq() == next.seq() && now.State == next.State && now.Server == a.e.o.Server:
				a.record, a.revision = now, revision // the same, at the end
				return true
			case err == nil:
				a.see(&now, revision)
				return false
			}
		}
		if !pause(ctx, wait) {
			if errors.Is(ctx.Err(), context.Canceled) {
				return false // the attempt has come to its end meanwhile, and tells all of it
			}
			a.e.log.ErrorContext(ctx, "the queue could not be told how a job stands", "job", a.id, "state", next.State, "error", err)
			return false
		}
	}
}

// pause waits, and says whether it did so to the end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish tells the end of the attempt and takes the job out of the queue, in this order: a job whose end was not written
// down comes again.
func (a *attempt) finish(ctx context.Context, patience time.Duration, mutate func(*record)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if !a.change(ctx, a.withSteps(mutate)) {
		return
	}
	if err := a.e.ack(ctx, a.last(), a.record.seq()); err != nil {
		a.e.log.WarnContext(ctx, "a finished job is still in the queue; who gets it will see", "job", a.id, "error", err)
	}
}

// ack takes out of the queue the message of a job that has ended, by the change of a number.
func (e *Engine) ack(ctx context.Context, m *queue.Message, seq int64) error {
	if err := m.Ack(ctx); err != nil {
		return err
	}
	if err := e.renew(ctx, m.ID, seq); err != nil {
		e.log.WarnContext(ctx, "whether a job was asked for again meanwhile will be seen when the ledger is compared", "job", m.ID, "error", err)
	}
	return nil
}

// renew is for a job whose message was just taken out of the queue: a round that began meanwhile, by a later change than
// that of a number, found a message there, and has none now. See enqueue, which does the other half.
func (e *Engine) renew(ctx context.Context, id string, seq int64) error {
	r, _, err := e.load(ctx, id)
	if errors.Is(err, queue.ErrNotFound) || err == nil && (r.State != job.Queued || r.seq() <= seq) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.publish(ctx, &r)
}

// withSteps adds the steps that were not told yet.
func (a *attempt) withSteps(mutate func(*record)) func(*record) {
	a.mu.Lock()
	steps := a.steps
	a.steps = nil
	a.mu.Unlock()
	return func(r *record) {
		a.take(r, steps)
		mutate(r)
	}
}

// take writes steps into the record, but for those that it has: they were told, and the answer was not waited for.
func (a *attempt) take(r *record, steps []step) {
	a.mu.Lock()
	if a.about != nil {
		r.About = a.about
	}
	a.mu.Unlock()
	for _, s := range steps {
		if slices.Index(job.States(), s.state) > slices.Index(job.States(), r.State) {
			r.step(s.state, s.at, a.e.o.Server, reasons[s.state])
		}
	}
}

// handBack queues the job again: after a failure, which has a delay, or because the server is stopped.
func (a *attempt) handBack(ctx context.Context, reason string, failure *verdict, delay, patience time.Duration) {
	e := a.e
	e.log.InfoContext(ctx, "attempt ends", "job", a.id, "attempt", a.number, "reason", reason, "again_in", delay)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if !a.change(ctx, a.withSteps(func(r *record) {
		r.Token = ""
		now := e.now()
		if failure != nil {
			r.Failures++
			r.ran(now, job.AttemptFailed, failure.err)
			r.Next = &job.Next{At: now.Add(delay), Try: r.Failures + 1, Of: failure.tries}
		} else {
			r.ran(now, job.AttemptHandedBack, nil)
		}
		r.step(job.Queued, now, e.o.Server, reason)
	})) {
		return
	}
	if err := a.last().HandBack(ctx, delay); err != nil {
		e.log.WarnContext(ctx, "a job could not be handed back; it comes again by itself", "job", a.id, "error", err)
	}
	a.keepLog(ctx)
}

// fail ends an attempt that failed: the job is tried again, or has failed.
func (a *attempt) fail(ctx context.Context, err error) {
	e := a.e
	var signer *mar.SignError
	if errors.As(err, &signer) && signer.Signer < len(e.o.Signers) {
		err = fmt.Errorf("sign with %s: %w", e.o.Signers[signer.Signer].Name, err)
	}
	v := judge(err, e.o.Attempts)
	args := []any{"job", a.id, "attempt", a.number, "took", time.Since(a.started), "code", v.err.Code, "error", err}
	var p *cache.PanicError
	if errors.As(err, &p) {
		args = append(args, "stack", string(p.Stack))
	}
	if a.record.Failures+1 < v.tries {
		delay := min(e.o.RetryDelay<<min(a.record.Failures, 16), maxRetryDelay)
		if v.err.RetryAfter > delay {
			delay = min(v.err.RetryAfter, maxRetryDelay)
		}
		e.log.LogAttrs(ctx, slog.LevelWarn, "attempt failed", slog.Group("", args...))
		a.handBack(ctx, v.err.Message, &v, max(delay, time.Millisecond), finishFor)
		return
	}
	level := slog.LevelError
	if c := v.err.Code; c == job.CodeRefused || c == job.CodeInvalidMAR || c == job.CodeDigest || c == job.CodeRequest {
		level = slog.LevelWarn // the caller's to mend
	}
	e.log.LogAttrs(ctx, level, "attempt failed", slog.Group("", args...))
	a.keepLog(ctx)
	a.finish(ctx, finishFor, func(r *record) {
		r.Error, r.Result = v.err, nil
		r.ran(e.now(), job.AttemptFailed, v.err)
		r.end(job.Failed, e.now(), e.o.Server, v.err.Message)
	})
}

// keepLog stores the attempt's log.
func (a *attempt) keepLog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logFor)
	defer cancel()
	if err := a.e.put(ctx, attemptLogKey(a.id, a.number, a.e.o.Server), a.log.content()); err != nil {
		a.e.log.WarnContext(ctx, "the log of an attempt could not be stored", "job", a.id, "attempt", a.number, "error", err)
	}
}

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// When to come back.
const (
	retryUnavailable = 5 * time.Second
	retryFull        = 15 * time.Second
)

// maxTries bounds how often a record is changed again because somebody else was faster.
const maxTries = 50

var errDraining = &job.Error{Code: job.CodeUnavailable, Message: "the server is being stopped", Retryable: true, RetryAfter: retryUnavailable}

// find returns how a job stands: as the servers told each other, or as it is in the ledger where that is newer, which it
// is when damaged files of the queue had an old record come to light. revision is 0 where there is none.
func (e *Engine) find(ctx context.Context, id string) (r record, revision uint64, err error) {
	if r, revision, ok := e.mirror.get(id); ok {
		return r, revision, nil
	}
	r, revision, err = e.load(ctx, id)
	entry, ledgerErr := e.l.Get(ctx, id)
	if err == nil {
		if ledgerErr == nil && entry.Seq > r.seq() {
			r = recordOf(&entry)
			e.mirror.set(id, r, revision)
		}
		return r, revision, nil
	}
	if ledgerErr != nil {
		if !errors.Is(err, queue.ErrNotFound) && errors.Is(ledgerErr, &job.Error{Code: job.CodeNotFound}) {
			return r, 0, outward(err)
		}
		return r, 0, outward(ledgerErr)
	}
	return recordOf(&entry), revision, nil
}

// recordOf turns what the ledger has into a record.
func recordOf(entry *ledger.Entry) record {
	r := record{Status: entry.Status, Asker: entry.Asker}
	r.setSpec(entry.Spec)
	r.Changes = r.Changes[max(0, len(r.Changes)-maxChanges):]
	for _, c := range slices.Backward(r.Changes) {
		if c.State == job.Queued {
			r.Epoch = c.Seq
			break
		}
	}
	return r
}

// validID says whether it can be that of a job.
func validID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 2*sha256.Size && strings.ToLower(id) == id
}

func notFound(id string) error { return job.Errorf(job.CodeNotFound, "no job %.80q", id) }

// Status implements [job.Service].
func (e *Engine) Status(ctx context.Context, id string) (job.Status, error) {
	if !validID(id) {
		return job.Status{}, notFound(id)
	}
	r, _, err := e.find(ctx, id)
	return r.Status, err
}

// Submit implements [job.Service].
func (e *Engine) Submit(ctx context.Context, spec job.Spec, who job.Asker) (job.Status, bool, error) {
	asks, err := e.submitOne(ctx, spec, who, "submit")
	if err != nil {
		return job.Status{}, false, err
	}
	return asks[0].r.Status, asks[0].created, nil
}

// ask is one job that is asked for.
type ask struct {
	id       string
	spec     job.Spec
	order    *senbonzakura.Order
	r        record
	revision uint64
	created  bool // a new round begins with it
}

// resolve looks at what somebody asks for.
func (e *Engine) resolve(spec job.Spec, who job.Asker) (*ask, error) {
	a := &ask{spec: normal(spec)}
	err := permit(&a.spec, who)
	if err == nil {
		a.order, a.id, err = e.request(&a.spec)
	}
	return a, err
}

func (e *Engine) submitOne(ctx context.Context, spec job.Spec, who job.Asker, what string) ([]*ask, error) {
	a, err := e.resolve(spec, who)
	if err != nil {
		return nil, err
	}
	asks := []*ask{a}
	return asks, e.submit(ctx, asks, who, what, nil)
}

// submit asks for jobs, all or none. what is the action's name in the ledger.
func (e *Engine) submit(ctx context.Context, asks []*ask, who job.Asker, what string, batch *job.Batch) error {
	if !e.Ready() {
		return errDraining
	}
	now := e.now()
	var entries []ledger.Entry
	var actions []job.Action
	fresh := 0
	for i, a := range asks {
		if err := e.prepare(ctx, a, who, now, what == "retry"); err != nil {
			return within(err, i, len(asks))
		}
		if a.created {
			fresh++
			e.fresh.add(a.id)
			defer e.fresh.remove(a.id)
		}
		asked := who.Name + "\x00" + a.id
		if !a.created && what == "submit" && batch == nil && e.asked.has(asked) {
			continue // it was written down a moment ago
		}
		e.asked.add(asked)
		entry := ledger.Entry{Status: a.r.Status, Spec: a.r.spec(), Seq: a.r.seq()}
		if a.created { // who asks for what is under way already takes no place
			entry.Asker = a.r.Asker
		}
		entries = append(entries, entry)
		actions = append(actions, job.Action{At: now, Server: e.o.Server, Who: who, What: what, Job: a.id, Detail: detail(a.created, &a.spec)})
	}
	leave, err := e.room(ctx, fresh, who)
	if err != nil {
		return err
	}
	defer leave()
	if batch != nil {
		for _, a := range asks {
			batch.Jobs = append(batch.Jobs, job.Status{ID: a.id})
		}
	}
	if len(entries) > 0 || batch != nil {
		if err := e.l.Accept(ctx, entries, actions, batch); err != nil {
			for _, a := range asks {
				e.asked.remove(who.Name + "\x00" + a.id)
			}
			return outward(fmt.Errorf("ledger: %w", err))
		}
	}
	// From here on nothing is lost any more, whatever happens: what does not get into the queue now is found by the loop
	// that looks for what the queue lost. So the caller need not wait for a queue that does not answer, either.
	var wg sync.WaitGroup
	limit := make(chan struct{}, 16)
	for _, a := range asks {
		if !a.created {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if err := e.enqueue(context.WithoutCancel(ctx), a); err != nil {
				e.log.WarnContext(ctx, "accepted, but not queued yet", "job", a.id, "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// within says which of several specs an error is about, as in "specs[1].from.sha512".
func within(err error, i, n int) error {
	var own *job.Error
	if n == 1 || !errors.As(err, &own) {
		return err
	}
	c := *own
	c.Field = strings.TrimSuffix(fmt.Sprintf("specs[%d].%s", i, c.Field), ".")
	return &c
}

func detail(created bool, spec *job.Spec) string {
	var parts []string
	if len(spec.Skip) > 0 {
		parts = append(parts, "leaves out the checks "+strings.Join(spec.Skip, ", "))
	}
	if c := spec.Client; c != nil && c.Verifies != nil && !*c.Verifies {
		parts = append(parts, "says that clients do not verify")
	}
	switch {
	case !created:
		parts = append(parts, "known already")
	case spec.Priority > 0:
		parts = append(parts, fmt.Sprintf("priority %d", spec.Priority))
	}
	return strings.Join(parts, "; ")
}

// prepare finds out how a job stands and, where it has to be made, what its record will be.
func (e *Engine) prepare(ctx context.Context, a *ask, who job.Asker, now time.Time, again bool) error {
	r, revision, err := e.find(ctx, a.id)
	var own *job.Error
	switch {
	case err == nil:
		a.r, a.revision = r, revision
		if !r.State.Final() {
			return nil
		}
		if r.State == job.Done && !again && r.Purged.IsZero() && e.there(ctx, &r) {
			return nil
		}
	case errors.As(err, &own) && own.Code == job.CodeNotFound:
		a.r = record{Status: job.Status{ID: a.id, Created: now, By: who.Name}}
	case errors.As(err, &own) && own.Code == job.CodeUnavailable && e.l.Ping(ctx) == nil:
		// The queue does not answer. The ledger does, and does not know the job: it is taken, and queued when that is
		// possible; if another server knows it they will agree then.
		a.r = record{Status: job.Status{ID: a.id, Created: now, By: who.Name}}
	default:
		return err
	}
	for _, s := range []struct {
		field string
		*job.Source
	}{{"from", &a.spec.From}, {"to", &a.spec.To}} {
		if len(s.URLs) == 0 && !e.uploaded(ctx, s.Source) {
			return &job.Error{
				Code: job.CodeConflict, Field: s.field,
				Message: "no URLs are given, and nothing with this hash was uploaded: upload it first, or give its URLs",
			}
		}
	}
	reason := "a new request"
	if a.r.State != "" {
		reason = "asked for again, after " + string(a.r.State)
	}
	a.r.setSpec(a.spec)
	a.r.begin(now, who.Account(), e.o.Server, reason)
	a.created = true
	e.orders.add(&a.r, a.order)
	return nil
}

// room is how full the queue is, as far as this server knows.
type room struct {
	sync.Mutex
	there int       // jobs in the queue, when it was asked
	asked time.Time // monotonic
	since int       // that were let in since
	way   int       // of these, those that may not have been in the queue when it was asked

	ways map[string]int // the same by account
}

// askRoom is how often the queue is asked, at most, as long as there is room.
const askRoom = 100 * time.Millisecond

// room makes sure that there is room for n more jobs in the queue, and in the caller's share of it. leave must be called
// when they are in.
func (e *Engine) room(ctx context.Context, n int, who job.Asker) (leave func(), err error) {
	if n == 0 {
		return func() {}, nil
	}
	r := &e.places
	r.Lock()
	defer r.Unlock()
	for fresh := false; ; fresh = true {
		if fresh || time.Since(r.asked) > askRoom {
			there, err := e.q.Len(ctx)
			if err != nil {
				if there, err = e.l.CountOpen(ctx); err != nil {
					return nil, outward(err)
				}
			}
			r.there, r.since, r.asked, fresh = there, r.way, time.Now(), true
		}
		if r.there+r.since+n <= e.q.Limit() {
			break
		}
		if fresh {
			return nil, &job.Error{
				Code: job.CodeQueueFull, Retryable: true, RetryAfter: retryFull,
				Message: fmt.Sprintf("%d jobs wait already, of at most %d", r.there+r.since, e.q.Limit()),
			}
		}
	}
	account := who.Account()
	if share := e.share(); r.there+r.since+n > share { // else nobody has used up theirs
		open, err := e.l.CountOpenOf(ctx, account)
		if err != nil {
			return nil, outward(fmt.Errorf("ledger: %w", err))
		}
		if open += r.ways[account]; open+n > share {
			return nil, &job.Error{
				Code: job.CodeQuota, Retryable: true, RetryAfter: retryFull,
				Message: fmt.Sprintf("%d jobs of %s wait already, of at most %d of one caller (queue.per_caller in the service's configuration)",
					open, who.Name, share),
			}
		}
	}
	r.since += n
	r.way += n
	r.ways[account] += n
	return func() {
		r.Lock()
		defer r.Unlock()
		r.way -= n
		if r.ways[account] -= n; r.ways[account] == 0 {
			delete(r.ways, account)
		}
	}, nil
}

// share is how many jobs of one caller may be in the queue.
func (e *Engine) share() int {
	if e.o.Share > 0 {
		return min(e.o.Share, e.q.Limit())
	}
	return (e.q.Limit() + 1) / 2
}

// enqueue publishes a new round and makes it known, both at the same time. Where another server was faster a becomes what
// that one made.
func (e *Engine) enqueue(ctx context.Context, a *ask) error {
	ours, before := a.r, job.State("")
	if len(ours.Changes) > 1 {
		before = ours.Changes[len(ours.Changes)-2].State
	}
	published := make(chan error, 1)
	go func() { published <- e.q.Publish(ctx, ours.ID, ours.Spec.Priority, ours.encode()) }() // a worker that is faster than we here makes the record from it
	for try := 0; ; try++ {
		revision, err := e.save(ctx, &a.r, a.revision)
		if err == nil {
			a.revision = revision
			break
		}
		if !errors.Is(err, queue.ErrConflict) || try == maxTries {
			return errors.Join(err, <-published)
		}
		now, revision, err := e.load(ctx, a.id)
		switch {
		case errors.Is(err, queue.ErrNotFound), err == nil && now.State.Final() && now.seq() < ours.seq():
			a.revision = revision
			continue
		case err != nil:
			return errors.Join(err, <-published)
		}
		// Another server made the same of it at the same time, or a worker has it already.
		a.r, a.revision = now, revision
		asked := ours.Changes[len(ours.Changes)-1]
		a.created = slices.ContainsFunc(now.Changes, func(c job.Change) bool {
			return c.Seq == asked.Seq && c.Server == asked.Server && c.At.Equal(asked.At)
		})
		break
	}
	if a.created {
		if o := e.o.Observer.State; o != nil {
			o(a.id, before, job.Queued)
		}
		e.log.InfoContext(ctx, "job accepted", "job", a.id, "priority", ours.Spec.Priority)
	}
	err := <-published
	if a.created && errors.Is(err, queue.ErrExists) {
		// That may be the message of the round before, which is about to go; whoever takes it out looks afterwards
		// whether there is a new round. So either we find it gone now, or they find our record.
		err = e.publish(ctx, &ours)
	}
	if errors.Is(err, queue.ErrExists) {
		return nil
	}
	return err
}

// publish puts a job into the queue; one that is there already is fine.
func (e *Engine) publish(ctx context.Context, r *record) error {
	err := e.q.Publish(ctx, r.ID, r.Spec.Priority, r.encode())
	if errors.Is(err, queue.ErrExists) {
		return nil
	}
	return err
}

// Retry implements [job.Service].
func (e *Engine) Retry(ctx context.Context, id string, who job.Asker) (job.Status, error) {
	if !validID(id) {
		return job.Status{}, notFound(id)
	}
	r, _, err := e.find(ctx, id)
	if err != nil {
		return job.Status{}, err
	}
	if !r.State.Final() {
		return job.Status{}, job.Errorf(job.CodeConflict, "the job is %s: only one that has ended can be tried again", r.State)
	}
	if r.State == job.Done && r.Purged.IsZero() && e.there(ctx, &r) {
		return job.Status{}, job.Errorf(job.CodeConflict, "the job is done, and its partial is there; purge it to have it made again")
	}
	asks, err := e.submitOne(ctx, r.spec(), who, "retry")
	if err != nil {
		return job.Status{}, err
	}
	return asks[0].r.Status, nil
}

// errCancelled ends the attempts of jobs that were cancelled.
var errCancelled = job.Errorf(job.CodeCancelled, "cancelled")

// Cancel implements [job.Service].
func (e *Engine) Cancel(ctx context.Context, id string, who job.Asker) (job.Status, error) {
	if !validID(id) {
		return job.Status{}, notFound(id)
	}
	r, revision, err := e.find(ctx, id)
	if err != nil {
		return job.Status{}, err
	}
	for try := 0; ; try++ {
		if r.State == job.Cancelled {
			return r.Status, nil
		}
		if r.State.Final() {
			return job.Status{}, job.Errorf(job.CodeConflict, "the job is %s: there is nothing to cancel", r.State)
		}
		before, next := r.State, r
		next.Error, next.Next = errCancelled, nil
		next.ran(e.now(), job.AttemptCancelled, nil)
		next.end(job.Cancelled, e.now(), e.o.Server, "cancelled by "+who.Name)
		_, err := e.save(ctx, &next, revision)
		if err == nil {
			r = next
			if o := e.o.Observer.State; o != nil {
				o(id, before, job.Cancelled)
			}
			if o := e.o.Observer.Finished; o != nil {
				o(r.Status)
			}
			break
		}
		if !errors.Is(err, queue.ErrConflict) || try == maxTries {
			return job.Status{}, outward(err)
		}
		if r, revision, err = e.load(ctx, id); err != nil {
			if !errors.Is(err, queue.ErrNotFound) {
				return job.Status{}, outward(err)
			}
			r = next // it was lost meanwhile; what we made of it is put in its place
			r.State = before
		}
	}
	if err := errors.Join(e.q.Remove(ctx, id), e.renew(ctx, id, r.seq())); err != nil {
		e.log.WarnContext(ctx, "a cancelled job is still in the queue; who gets it will see", "job", id, "error", err)
	}
	return r.Status, e.act(ctx, who, "cancel", id, "")
}

// act writes an action down.
func (e *Engine) act(ctx context.Context, who job.Asker, what, id, detail string) error {
	_, err := e.l.Act(context.WithoutCancel(ctx), job.Action{At: e.now(), Server: e.o.Server, Who: who, What: what, Job: id, Detail: detail})
	if err != nil {
		return outward(fmt.Errorf("%s is done, but not in the ledger: %w", what, err))
	}
	return nil
}

// watchEvery is how often a watcher looks by itself, in case that a notice got lost.
const watchEvery = 15 * time.Second

// Watch implements [job.Service].
func (e *Engine) Watch(ctx context.Context, id string) (<-chan job.Status, error) {
	if !validID(id) {
		return nil, notFound(id)
	}
	notice, leave := e.mirror.subscribe(id)
	r, _, err := e.find(ctx, id)
	if err != nil {
		leave()
		return nil, err
	}
	out := make(chan job.Status, 1)
	out <- r.Status
	if r.State.Final() {
		leave()
		close(out)
		return out, nil
	}
	e.goLoop(func() {
		defer leave()
		defer close(out)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		last, shown := r.seq(), r.Progress
		for stopped := false; !stopped; {
			select {
			case <-notice:
			case <-tick.C:
				if _, _, err := e.load(ctx, id); err != nil {
					e.log.DebugContext(ctx, "watched job is not to be had", "job", id, "error", err)
				}
			case <-ctx.Done():
				return
			case <-e.ctx.Done():
				stopped = true // after telling what became of the job last
			}
			r, _, err := e.find(ctx, id)
			if err != nil || r.seq() == last && r.Progress == shown {
				continue
			}
			last, shown = r.seq(), r.Progress
			select {
			case <-out: // nobody read it: the new one takes its place
			default:
			}
			out <- r.Status
			if r.State.Final() {
				return
			}
		}
	})
	return out, nil
}

// SubmitBatch implements [job.Service].
func (e *Engine) SubmitBatch(ctx context.Context, specs []job.Spec, unmatched []job.Unmatched, who job.Asker) (job.Batch, error) {
	if len(specs) == 0 || len(specs) > e.o.BatchLimit {
		return job.Batch{}, refuse("specs", "a batch has 1 to %d jobs here, not %d: send several", e.o.BatchLimit, len(specs))
	}
	var ids []string
	var asks []*ask
	for i, spec := range specs {
		a, err := e.resolve(spec, who)
		if err != nil {
			return job.Batch{}, within(err, i, len(specs)+1)
		}
		if !slices.Contains(ids, a.id) {
			ids, asks = append(ids, a.id), append(asks, a)
		}
	}
	sum := sha256.Sum256([]byte("batch\n" + strings.Join(slices.Sorted(slices.Values(ids)), "\n")))
	b := job.Batch{ID: hex.EncodeToString(sum[:]), Created: e.now(), Unmatched: unmatched[:min(len(unmatched), job.MaxUnmatched)]}
	if known, err := e.batch(ctx, b.ID); err == nil {
		b.Created = known.Created
	}
	if err := e.submit(ctx, asks, who, "submit", &b); err != nil {
		return job.Batch{}, err
	}
	value, err := json.Marshal(batchValue{b.Created, ids, b.Unmatched})
	if err != nil {
		return job.Batch{}, outward(err)
	}
	if err := e.q.Set(ctx, queue.Key("batch", b.ID), value, recordLife); err != nil {
		e.log.WarnContext(ctx, "other servers do not know the batch", "batch", b.ID, "error", err)
	}
	for i, a := range asks {
		b.Jobs[i] = a.r.Status
	}
	return counted(b), nil
}

// batchValue is how a batch stands in the bucket.
type batchValue struct {
	Created   time.Time
	Jobs      []string
	Unmatched []job.Unmatched `json:",omitempty"`
}

func counted(b job.Batch) job.Batch {
	b.Counts, b.Done = map[job.State]int{}, true
	for _, s := range b.Jobs {
		b.Counts[s.State]++
		b.Done = b.Done && s.State.Final()
	}
	return b
}

// batch returns a batch with IDs alone.
func (e *Engine) batch(ctx context.Context, id string) (job.Batch, error) {
	b, err := e.l.Batch(ctx, id)
	if !errors.Is(err, &job.Error{Code: job.CodeNotFound}) {
		return b, outward(err)
	}
	data, _, queueErr := e.q.Get(ctx, queue.Key("batch", id))
	if errors.Is(queueErr, queue.ErrNotFound) {
		return b, err
	}
	if queueErr != nil {
		return b, outward(queueErr)
	}
	var v batchValue
	if err := json.Unmarshal(data, &v); err != nil {
		return b, outward(err)
	}
	b = job.Batch{ID: id, Created: v.Created, Unmatched: v.Unmatched}
	for _, id := range v.Jobs {
		b.Jobs = append(b.Jobs, job.Status{ID: id})
	}
	return b, nil
}

// Batch implements [job.Service].
func (e *Engine) Batch(ctx context.Context, id string) (job.Batch, error) {
	if !validID(id) {
		return job.Batch{}, job.Errorf(job.CodeNotFound, "no batch %.80q", id)
	}
	b, err := e.batch(ctx, id)
	if err != nil {
		return b, err
	}
	for i := range b.Jobs {
		if b.Jobs[i], err = e.Status(ctx, b.Jobs[i].ID); err != nil {
			return b, err
		}
	}
	return counted(b), nil
}

// History implements [job.Service].
func (e *Engine) History(ctx context.Context, f job.Filter) (job.Page, error) {
	p, err := e.l.History(ctx, f)
	for i := range p.Jobs {
		// The ledger is a moment behind.
		if r, _, ok := e.mirror.get(p.Jobs[i].ID); ok && f.State == "" {
			p.Jobs[i] = r.Status
			p.Jobs[i].Changes = nil
		}
	}
	return p, outward(err)
}

// Actions implements [job.Service].
func (e *Engine) Actions(ctx context.Context, f job.Filter) ([]job.Action, error) {
	a, err := e.l.Actions(ctx, f)
	return a, outward(err)
}

package queue

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of JetStream's errors.
const (
	codeWrongLastSequence         = 10071
	codeWrongLastSequenceInFlight = 10164
	codeStoreFailed               = 10077 // the limit of messages
)

// subject is where a job's message is published. The last part is another one each time: a message that was damaged on
// the disk can neither be read nor removed, and keeps its subject occupied.
func (q *Queue) subject(priority int, id string) string {
	return fmt.Sprintf("%s.jobs.%d.%s.%s", q.o.Prefix, priority, id, cryptorand.Text()[:8])
}

// anySubject matches the job's message.
func (q *Queue) anySubject(id string) string { return q.o.Prefix + ".jobs.*." + id + ".*" }

// parse is the inverse of subject.
func (q *Queue) parse(subject string) (priority int, id string) {
	parts := strings.Split(strings.TrimPrefix(subject, q.o.Prefix+".jobs."), ".")
	if len(parts) != 3 {
		return 0, ""
	}
	priority, _ = strconv.Atoi(parts[0])
	return priority, parts[1]
}

// Publish queues a job, whose data is at most 1 MiB. It returns ErrExists when the job has a message already, with
// whatever priority, ErrFull when there are too many, and ErrUnavailable when the engine does not answer; the job may
// or may not be queued then.
func (q *Queue) Publish(ctx context.Context, id string, priority int, data []byte) error {
	if err := q.whole(); err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	_, err := q.js.Publish(ctx, q.subject(priority, id), seal(data),
		jetstream.WithExpectLastSequenceForSubject(0, q.anySubject(id)), jetstream.WithRetryAttempts(8))
	var api *jetstream.APIError
	switch {
	case err == nil:
		q.wake()
		_ = q.nc.Publish(q.o.Prefix+".wake", nil) // others would find it by themselves a second later
		return nil
	case !errors.As(err, &api):
	case api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceInFlight:
		return fmt.Errorf("job %s: %w", id, ErrExists)
	case api.ErrorCode == codeStoreFailed:
		return fmt.Errorf("job %s: %w", id, ErrFull)
	}
	return unavailable("publish job "+id, err)
}

func (q *Queue) wake() {
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// Remove takes a job's message out of the queue, also from a worker that has it.
func (q *Queue) Remove(ctx context.Context, id string) error {
	ctx, cancel := q.request(ctx)
	defer cancel()
	if err := q.jobs.Purge(ctx, jetstream.WithPurgeSubject(q.anySubject(id))); err != nil {
		return unavailable("remove job "+id, err)
	}
	return nil
}

// Jobs returns the IDs of all jobs that have a message.
func (q *Queue) Jobs(ctx context.Context) (map[string]struct{}, error) {
	ctx, cancel := q.request(ctx)
	defer cancel()
	info, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(q.o.Prefix+".jobs.>"))
	if err != nil {
		return nil, unavailable("list jobs", err)
	}
	ids := make(map[string]struct{}, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		_, id := q.parse(subject)
		ids[id] = struct{}{}
	}
	return ids, nil
}

// Check reads a job's message. It returns ErrNotFound when there is none, or one that is damaged: such a one is never
// delivered, although the engine counts it. An engine that is alone has to be repaired then, which is ErrDamaged.
func (q *Queue) Check(ctx context.Context, id string) error {
	ctx, cancel := q.request(ctx)
	defer cancel()
	m, err := q.jobs.GetLastMsgForSubject(ctx, q.anySubject(id))
	var api *jetstream.APIError
	switch {
	case err == nil:
		if _, ok := unseal(m.Data); !ok {
			return fmt.Errorf("job %s: %w: it is damaged", id, ErrNotFound)
		}
		return nil
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.As(err, &api) && api.Code < 500:
		if err := q.readable(ctx, q.jobs, q.anySubject(id)); err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
		return fmt.Errorf("job %s: %w: %w", id, ErrNotFound, err)
	}
	return unavailable("check job "+id, err)
}

// Len returns how many jobs have a message.
func (q *Queue) Len(ctx context.Context) (int, error) {
	ctx, cancel := q.request(ctx)
	defer cancel()
	info, err := q.jobs.Info(ctx)
	if err != nil {
		return 0, unavailable("count jobs", err)
	}
	return int(info.State.Msgs), nil
}

// Ping asks the engine whether it would take a job, by writing. An engine whose disk was full answers everything, and
// stores nothing until it is started again.
func (q *Queue) Ping(ctx context.Context) error {
	ctx, cancel := q.request(ctx)
	defer cancel()
	if err := q.whole(); err != nil {
		return err
	}
	if q.Shared() {
		if _, err := q.jobs.Info(ctx); err != nil {
			return unavailable("stream of jobs", err)
		}
	} else if err := q.Remove(ctx, "ping"); err != nil { // no job has this name
		return err
	}
	if err := q.PutLive(ctx, "ping."+keyName(q.o.Server), nil, time.Minute); err != nil {
		return err
	}
	return q.Set(ctx, "ping."+keyName(q.o.Server), nil, time.Hour)
}

// Message is a job that this server was given. It has to be acknowledged or handed back; until then Working has to be
// called every third of AckWait.
type Message struct {
	ID       string
	Priority int
	// Data is what was published, or nil when it was damaged.
	Data []byte
	// Deliveries says how often the message was delivered, this time included.
	Deliveries int

	q     *Queue
	reply string
}

// Next waits for the next job, those of higher priority first. Only one job is taken from the engine, and it is the
// caller's from then on: nothing is fetched ahead, as its time would run while it waits here. It returns ctx's error
// when that ends, and no other.
func (q *Queue) Next(ctx context.Context) (*Message, error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for failed := 0; ; {
		m, err := q.poll(ctx)
		if m != nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			failed = 0
		} else {
			if failed == 0 {
				q.o.Log.WarnContext(ctx, "queue: no jobs to be had", "error", err)
			}
			failed++
		}
		select {
		case <-q.woken:
		case <-time.After(pollEvery - rand.N(pollEvery/4)):
			// Not in step with the others: of two that look at the same moments one would always come first, also for
			// the jobs that it can only hand back.
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poll asks level by level. One that cannot be asked, for want of a leader for example, does not keep the others back
// where the engine says so at once.
func (q *Queue) poll(ctx context.Context) (*Message, error) {
	var failed error
	for p := Priorities - 1; p >= 0; p-- {
		m, err := q.pulls.next(ctx, q, p)
		if errors.Is(err, nats.ErrTimeout) || err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			failed = err
		}
		if m == nil {
			continue
		}
		msg := q.message(m)
		if ctx.Err() != nil {
			// It is nobody's here any more. Without an answer somebody would get it only after AckWait.
			return nil, msg.HandBack(context.WithoutCancel(ctx), 0)
		}
		return msg, nil
	}
	return nil, failed
}

// pulls asks for messages one by one. The client's own Fetch forgets a request after a second; should the engine answer
// later, nobody would hear that, and the job would wait until AckWait is over. Here whatever comes is taken by who waits
// just then, or handed back at once.
type pulls struct {
	mu     sync.Mutex
	inbox  string
	n      int
	waiter chan *nats.Msg // of request n; nil when nobody waits
}

// open begins to listen for answers.
func (p *pulls) open(nc *nats.Conn) error {
	p.inbox = nc.NewInbox()
	_, err := nc.Subscribe(p.inbox+".*", p.heard)
	return err
}

func (p *pulls) heard(m *nats.Msg) {
	p.mu.Lock()
	waiter := p.waiter
	isJob := m.Header.Get("Status") == "" && m.Reply != ""
	if !isJob && m.Subject != fmt.Sprintf("%s.%d", p.inbox, p.n) {
		waiter = nil // no job, for a request that was given up
	}
	if waiter != nil {
		p.waiter = nil
	}
	p.mu.Unlock()
	switch {
	case waiter != nil:
		waiter <- m
	case isJob:
		_ = m.Respond([]byte(`-NAK {"delay": 1000000}`)) // or it comes after AckWait
	}
}

// next asks for a message of a priority. It returns nil when there is none.
func (p *pulls) next(ctx context.Context, q *Queue, priority int) (*nats.Msg, error) {
	p.mu.Lock()
	p.n++
	answer := make(chan *nats.Msg, 1)
	p.waiter = answer
	reply := fmt.Sprintf("%s.%d", p.inbox, p.n)
	p.mu.Unlock()
	leave := func() *nats.Msg {
		p.mu.Lock()
		p.waiter = nil
		p.mu.Unlock()
		select {
		case m := <-answer: // at the last moment
			return m
		default:
			return nil
		}
	}
	subject := fmt.Sprintf("$JS.API.CONSUMER.MSG.NEXT.%s-jobs.p%d", q.o.Prefix, priority)
	if err := q.nc.PublishRequest(subject, reply, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		return leave(), err
	}
	timer := time.NewTimer(q.o.Timeout)
	defer timer.Stop()
	var m *nats.Msg
	select {
	case m = <-answer:
	case <-ctx.Done():
		if m = leave(); m == nil {
			return nil, ctx.Err()
		}
	case <-timer.C:
		if m = leave(); m == nil {
			return nil, fmt.Errorf("%s: %w", subject, nats.ErrTimeout)
		}
	}
	switch status := m.Header.Get("Status"); {
	case status == "" && m.Reply != "":
		return m, nil
	case status == "404" || status == "408": // none
		return nil, nil
	default:
		return nil, fmt.Errorf("%s: status %s %s", subject, status, m.Header.Get("Description"))
	}
}

func (q *Queue) message(m *nats.Msg) *Message {
	msg := &Message{q: q, reply: m.Reply}
	msg.Priority, msg.ID = q.parse(m.Subject)
	if meta, err := m.Metadata(); err == nil {
		msg.Deliveries = int(meta.NumDelivered)
	}
	if data, ok := unseal(m.Data); ok {
		msg.Data = append([]byte{}, data...)
	}
	return msg
}

// Working tells the engine that the job is under work, and returns nil when it has heard that.
func (m *Message) Working(ctx context.Context) error { return m.answer(ctx, "+WPI") }

// Ack takes the job out of the queue, and returns nil when that is done.
func (m *Message) Ack(ctx context.Context) error { return m.answer(ctx, "+ACK") }

// HandBack gives the job back: another worker, or this one, gets it after a delay.
func (m *Message) HandBack(ctx context.Context, delay time.Duration) error {
	// Without a delay the engine only remembers it in memory: after its restart, or with another leader of a cluster,
	// the job would come when AckWait is over.
	err := m.answer(ctx, fmt.Sprintf(`-NAK {"delay": %d}`, max(delay, time.Millisecond).Nanoseconds()))
	if err == nil && delay == 0 {
		_ = m.q.nc.Publish(m.q.o.Prefix+".wake", nil)
	}
	return err
}

// answer sends an answer and waits until the engine has confirmed it.
func (m *Message) answer(ctx context.Context, text string) error {
	ctx, cancel := m.q.request(ctx)
	defer cancel()
	if _, err := m.q.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: m.reply, Data: []byte(text)}); err != nil {
		return unavailable("answer for job "+m.ID, err)
	}
	return nil
}

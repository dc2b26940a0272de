package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// gate lets as many jobs be computed at a time as there are slots. Jobs that wait for servers elsewhere have none: an origin
// that is slow or says nothing stops nobody else.
type gate struct {
	intake chan struct{} // held by who takes a job from the queue

	mu      sync.Mutex
	free    int
	ahead   int          // so many may wait before no more jobs are taken
	waiting []*gateEntry // in the order in which they get slots
	changed chan struct{}
}

type gateEntry struct {
	priority int
	open     chan struct{}
}

func (g *gate) init(slots int) {
	g.intake = make(chan struct{}, 1)
	g.free, g.ahead, g.changed = slots, slots, make(chan struct{}, 1)
}

// take waits until it makes sense to take another job from the queue, and takes it: those that are here already need no
// more than a few beside them, and what stays in the queue can still be taken by others, or be overtaken by a job of higher
// priority.
func (g *gate) take(ctx context.Context, q *queue.Queue) (*queue.Message, error) {
	select {
	case g.intake <- struct{}{}:
		defer func() { <-g.intake }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		g.mu.Lock()
		full := len(g.waiting) >= g.ahead
		g.mu.Unlock()
		if !full {
			return q.Next(ctx)
		}
		select {
		case <-g.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter waits for a slot; leave gives it back.
func (g *gate) enter(ctx context.Context, priority int) (leave func(), err error) {
	g.mu.Lock()
	if g.free > 0 && len(g.waiting) == 0 {
		g.free--
		g.mu.Unlock()
		return g.leave, nil
	}
	e := &gateEntry{priority, make(chan struct{})}
	at, _ := slices.BinarySearchFunc(g.waiting, priority, func(w *gateEntry, p int) int {
		if w.priority >= p {
			return -1
		}
		return 1
	})
	g.waiting = slices.Insert(g.waiting, at, e)
	g.mu.Unlock()
	select {
	case <-e.open:
		return g.leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.waiting, e)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // it was opened at the last moment
		g.leave()
	}
	poke(g.changed)
	return nil, ctx.Err()
}

func (g *gate) leave() {
	g.mu.Lock()
	if len(g.waiting) > 0 {
		close(g.waiting[0].open)
		g.waiting = slices.Delete(g.waiting, 0, 1)
	} else {
		g.free++
	}
	g.mu.Unlock()
	poke(g.changed)
}

// How long a job is left alone whose caller has enough under way here.
const (
	crowdDelay  = 5 * time.Second
	crowdJitter = 5 * time.Second
)

// admit counts a job among those that its caller has under way here, until leave is called. Where these are as many as one may
// have, the job is handed back and ok is false.
func (e *Engine) admit(m *queue.Message) (leave func(), ok bool) {
	leave = func() {}
	if m.Data == nil {
		return leave, true
	}
	ticket, err := decode(m.Data)
	if err != nil || ticket.account() == "" {
		return leave, true
	}
	caller := ticket.account()
	e.active.Lock()
	ok = e.active.of[caller] < e.o.PerCaller
	if ok {
		e.active.of[caller]++
	}
	e.active.Unlock()
	if !ok {
		_ = m.HandBack(e.ctx, crowdDelay+rand.N(crowdJitter)) // or it comes after AckWait
		return leave, false
	}
	return func() {
		e.active.Lock()
		defer e.active.Unlock()
		if e.active.of[caller]--; e.active.of[caller] == 0 {
			delete(e.active.of, caller)
		}
	}, true
}

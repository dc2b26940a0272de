package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

var errClosed = errors.New("closed")

// embedded is the engine in this process: one server after the other, where one has to be started again. To the client
// that is a connection which was lost for a moment.
type embedded struct {
	password string // of the client, where the engine wants one

	mu     sync.Mutex
	ns     *server.Server // nil while there is none
	closed bool

	ending chan struct{} // of a server that was told to end and has not yet; of who ends it
}

// InProcessConn implements nats.InProcessConnProvider.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ns == nil {
		return nil, errors.New("the embedded engine is being started")
	}
	return e.ns.InProcessConn()
}

// set takes a server, and refuses it after close.
func (e *embedded) set(ns *server.Server) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.ns = ns
	}
	return !e.closed
}

// take takes the server away, so that nobody connects to it any more.
func (e *embedded) take() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	ns := e.ns
	e.ns = nil
	return ns
}

// end ends the server that there is, and says whether it has ended in time. One that hangs is waited for again by the next
// call.
func (e *embedded) end(within time.Duration) bool {
	if e.ending == nil {
		ns := e.take()
		if ns == nil {
			return true
		}
		ended := make(chan struct{})
		e.ending = ended
		go func() {
			defer close(ended)
			ns.Shutdown()
			ns.WaitForShutdown()
		}()
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-e.ending:
		e.ending = nil
		return true
	case <-timer.C:
		return false
	}
}

// close refuses servers from now on.
func (e *embedded) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
}

// Sick tells when Repair has something to do at once.
func (q *Queue) Sick() <-chan struct{} { return q.sick }

// sound returns ErrDamaged where the engine counts a value of the bucket of states and cannot read it.
func (q *Queue) sound(ctx context.Context, kv jetstream.KeyValue, key string) error {
	if kv != q.state {
		return nil // in memory
	}
	if err := q.readable(ctx, q.values, "$KV."+kv.Bucket()+"."+key); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// readable returns ErrDamaged where the engine counts messages under a subject and cannot read the last one. A file that
// was damaged it cuts off where it cannot read on, and goes on with its counts, and with numbers that it takes for
// deleted. What is written after that may vanish; to replace what it cannot find it looks for that for ever, and answers
// nobody any more, not even who wants to stop it. So this is asked before anything is written of which it is not known
// that it can be read. Where other servers use the engine, too, it is not ours to mend, and this says nothing.
func (q *Queue) readable(ctx context.Context, stream jetstream.Stream, subject string) error {
	if q.Shared() {
		return nil
	}
	for range 2 { // it may come or go while it is looked for, but not twice
		if err := q.whole(); err != nil {
			return err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return unavailable("count", err)
		}
		if len(info.State.Subjects) == 0 {
			return nil
		}
		switch _, err := stream.GetLastMsgForSubject(ctx, subject); {
		case err == nil:
			return nil
		case !errors.Is(err, jetstream.ErrMsgNotFound):
			return unavailable("read", err)
		}
	}
	q.damaged.Store(true)
	select {
	case q.sick <- struct{}{}:
	default:
	}
	return q.whole()
}

// whole returns ErrDamaged until what was damaged has been mended.
func (q *Queue) whole() error {
	if q.damaged.Load() {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrDamaged)
	}
	return nil
}

// mend starts the engine again where it is damaged, or was not able to write for a while. What Open does at a start
// brings everything in order; the ledgers know what was lost. It says whether that was done.
func (q *Queue) mend(ctx context.Context) (bool, error) {
	err := q.Ping(ctx)
	if err == nil || ctx.Err() != nil {
		q.failing = time.Time{}
		return false, ctx.Err()
	}
	if q.failing.IsZero() {
		q.failing = time.Now()
	}
	if time.Since(q.failing) < 3*q.o.Timeout && !q.damaged.Load() {
		return false, err // it may be the machine that is slow
	}
	if err := q.room(); err != nil {
		return false, unavailable("the disk of the queue takes nothing", err)
	}
	q.o.Log.WarnContext(ctx, "queue: the embedded engine is started again", "damaged", q.damaged.Swap(true)) // nothing is written meanwhile
	if !q.embedded.end(q.o.StartTimeout) {
		return false, unavailable("the embedded engine does not end: restart the process", context.DeadlineExceeded)
	}
	ctx, cancel := context.WithTimeout(ctx, q.o.StartTimeout)
	defer cancel()
	if err := q.embed(); err != nil {
		return false, unavailable("start the embedded engine", err)
	}
	// The handles hold names, and are good for the new one.
	if _, err := q.ready(ctx); err != nil {
		return false, unavailable("start the embedded engine", err)
	}
	q.failing = time.Time{}
	q.damaged.Store(false)
	return true, nil
}

// room says whether the disk takes anything.
func (q *Queue) room() error {
	f, err := os.CreateTemp(q.o.Dir, "room-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1<<20))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

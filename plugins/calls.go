package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// How long a broken call waits to learn whether the process ended: always, and if the connection is gone, too. Then the
// process is most probably ending, which on a busy machine takes its time to show.
const (
	exitNotice     = 100 * time.Millisecond
	exitNoticeMore = 2 * time.Second
)

// errCallTimeout is the cause of a context whose CallTimeout is over.
var errCallTimeout = fmt.Errorf("call timeout: %w", context.DeadlineExceeded)

// conn bounds the calls of one instance and translates their errors.
type conn struct {
	p    *Process
	inst *instance
}

// Invoke makes one call, within the CallTimeout.
func (c *conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.p.cfg.CallTimeout, errCallTimeout)
	defer cancel()
	var trailer metadata.MD
	err := c.inst.conn.Invoke(ctx, method, args, reply, append(opts, grpc.Trailer(&trailer))...)
	return c.p.outcome(ctx, c.inst, method, err, trailer)
}

// NewStream begins a stream each of whose messages has the CallTimeout.
func (c *conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{c: c, ctx: ctx, method: method, cancel: cancel, timeout: c.p.cfg.CallTimeout}
	stop := s.clock()
	inner, err := c.inst.conn.NewStream(ctx, desc, method, opts...)
	stop()
	if err != nil {
		err = c.p.outcome(ctx, c.inst, method, err, nil)
		cancel(nil)
		return nil, err
	}
	s.ClientStream = inner
	return s, nil
}

// stream is a gRPC stream with a clock on each message.
type stream struct {
	grpc.ClientStream
	c       *conn
	ctx     context.Context // the caller's with a clock; gRPC's own is cancelled at the end of the stream
	method  string
	timeout time.Duration
	cancel  context.CancelCauseFunc

	once sync.Once
	err  error // what the stream ended with
}

// clock starts the time of one message; the function it returns stops it.
func (s *stream) clock() func() {
	timer := time.AfterFunc(s.timeout, func() { s.cancel(errCallTimeout) })
	return func() { timer.Stop() }
}

// SendMsg sends one message. A failure is io.EOF, as gRPC has it: RecvMsg tells the reason.
func (s *stream) SendMsg(m any) error {
	defer s.clock()()
	return s.ClientStream.SendMsg(m)
}

// RecvMsg receives one message. After its first error the stream is over.
func (s *stream) RecvMsg(m any) error {
	stop := s.clock()
	err := s.ClientStream.RecvMsg(m)
	stop()
	if err == nil {
		return nil
	}
	s.once.Do(func() {
		if errors.Is(err, io.EOF) {
			s.err = io.EOF
			s.c.p.row.Store(0)
		} else {
			s.err = s.c.p.outcome(s.ctx, s.c.inst, s.method, err, s.Trailer())
		}
		s.cancel(nil)
	})
	return s.err
}

// outcome translates what a call returned. It learns from it, too: an answer ends a row of failures, and a
// silence makes the process suspect.
func (p *Process) outcome(ctx context.Context, i *instance, method string, err error, trailer metadata.MD) error {
	if err == nil {
		p.row.Store(0)
		return nil
	}
	what := fmt.Sprintf("plugin %s: %s", p.name, short(method))
	if cause := context.Cause(ctx); cause != nil {
		i.suspect.Store(true)
		return fmt.Errorf("%s: %w", what, timedOut(cause))
	}
	code := status.Code(err)
	if len(trailer.Get(reasonTrailer)) == 0 {
		switch code {
		case codes.Unavailable, codes.Canceled, codes.Internal, codes.Unknown:
			for _, wait := range []time.Duration{exitNotice, exitNoticeMore} {
				timer := time.NewTimer(wait)
				select {
				case <-i.exited:
					timer.Stop()
					return stopped(what, errors.New(i.state()))
				case <-timer.C:
				case <-ctx.Done(): // the plugin's clock was a little faster
					timer.Stop()
					code = codes.DeadlineExceeded
				}
				if code == codes.DeadlineExceeded || i.conn.GetState() == connectivity.Ready {
					break
				}
			}
			i.suspect.Store(true)
		}
	}
	if code == codes.DeadlineExceeded && len(trailer.Get(reasonTrailer)) == 0 {
		i.suspect.Store(true)
		return fmt.Errorf("%s: %w", what, timedOut(context.DeadlineExceeded))
	}
	if code != codes.Unavailable {
		p.row.Store(0) // it answered, after all
	}
	return fmt.Errorf("%s: %w", what, fromWire(err, trailer))
}

// How often, and with which pauses, Retry tries.
const (
	attempts   = 3
	firstPause = 100 * time.Millisecond
)

// Retry makes a request up to three times, for as long as it fails in a way that passes: the plugin died, was
// throttled, unavailable or out of time. It pauses in between, at least as long as the plugin asks, and gives
// up when ctx ends. The request must be one that may be made twice.
func Retry(ctx context.Context, request func() error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := request()
		if err == nil || attempt == attempts || !passes(err) || ctx.Err() != nil {
			return err
		}
		wait := pause
		var e *Error
		if errors.As(err, &e) {
			wait = max(wait, e.RetryAfter)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w, after %w", timedOut(ctx.Err()), err)
		}
		pause *= 4
	}
}

// passes says whether a failure is worth another try.
func passes(err error) bool {
	if errors.Is(err, errBreaker) {
		return false
	}
	for _, target := range []error{ErrStopped, ErrThrottled, ErrUnavailable, ErrTimeout} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// timedOut makes the error for a context that ended: ErrTimeout when its time was over, else just its cause.
func timedOut(cause error) error {
	if errors.Is(cause, context.DeadlineExceeded) {
		return &Error{Reason: ReasonTimeout, Message: "the plugin did not answer in time", Cause: cause}
	}
	return cause
}

// short returns the last part of a gRPC method's name.
func short(method string) string {
	for i := len(method) - 1; i >= 0; i-- {
		if method[i] == '/' {
			return method[i+1:]
		}
	}
	return method
}

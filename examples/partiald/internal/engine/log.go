package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Kinds of cache entries.
const (
	KindLogs    cache.Kind = "logs"    // one for each attempt of a job, lines of JSON
	KindDocs    cache.Kind = "docs"    // provenance of a job's partial
	kindUploads cache.Kind = "uploads" // which completes were uploaded
)

// jobLog collects the log of an attempt. It is safe for concurrent use.
type jobLog struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	dropped int
}

// maxLog bounds a job's log in bytes. What is beyond is counted.
const maxLog = 1 << 20

// Write takes a line.
func (l *jobLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len()+len(line) > maxLog {
		l.dropped++
	} else {
		l.buf.Write(line)
	}
	return len(line), nil
}

func (l *jobLog) content() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := bytes.Clone(l.buf.Bytes())
	if l.dropped > 0 {
		b = append(b, note("lines were left out", "count", l.dropped)...)
	}
	return b
}

// quieter makes notes of the generator's errors: the attempt says itself how it ended, and whether that is worth
// somebody's attention.
type quieter struct{ slog.Handler }

func (h quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, slog.LevelInfo)
	return h.Handler.Handle(ctx, r)
}

func (h quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{h.Handler.WithAttrs(attrs)}
}

func (h quieter) WithGroup(name string) slog.Handler { return quieter{h.Handler.WithGroup(name)} }

// note is a line of a log that stands for what is not there.
func note(message string, args ...any) []byte {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})).Warn(message, args...)
	return b.Bytes()
}

// logKey is the context key of the attempt that a context belongs to.
type logKey struct{}

// jobHandler gives what is logged in the context of an attempt to the job's log, too, with all levels.
type jobHandler struct{ slog.Handler }

// inJob returns a context whose log goes to l as well.
func inJob(ctx context.Context, l *jobLog) context.Context {
	return context.WithValue(ctx, logKey{}, slog.Handler(slog.NewJSONHandler(l, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().Round(time.Millisecond).String())
			} else if a.Key == "stack" {
				return slog.Attr{} // which names files
			} else if err, ok := a.Value.Any().(error); ok { // callers can read this log
				a.Value = slog.StringValue(bare(err))
			}
			return a
		},
	})))
}

func (h jobHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return ctx.Value(logKey{}) != nil || h.Handler.Enabled(ctx, level)
}

func (h jobHandler) Handle(ctx context.Context, r slog.Record) error {
	var err error
	if own, ok := ctx.Value(logKey{}).(slog.Handler); ok {
		err = own.Handle(ctx, r)
	}
	if h.Handler.Enabled(ctx, r.Level) {
		err = errors.Join(err, h.Handler.Handle(ctx, r))
	}
	return err
}

// WithAttrs and WithGroup are for the common log alone: the engine logs without either.
func (h jobHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return jobHandler{h.Handler.WithAttrs(attrs)}
}

func (h jobHandler) WithGroup(name string) slog.Handler { return jobHandler{h.Handler.WithGroup(name)} }

func attemptLogKey(id string, attempt int, server string) cache.Key {
	return cache.NewKey(KindLogs, id, strconv.Itoa(attempt), server)
}

// Log returns the log of a job, lines of JSON: of all attempts, one after the other.
func (e *Engine) Log(ctx context.Context, id string) (io.ReadCloser, error) {
	s, err := e.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	type place struct {
		attempt int
		server  string
	}
	var out bytes.Buffer
	done := map[place]bool{}
	for _, c := range s.Changes {
		p := place{c.Attempt, c.Server}
		if c.State != job.Fetching || done[p] { // every attempt begins with that
			continue
		}
		done[p] = true
		entry, err := e.cache.Get(ctx, attemptLogKey(id, c.Attempt, c.Server))
		switch {
		case err == nil:
			_, err = io.Copy(&out, entry.Reader())
			entry.Close()
			if err != nil {
				return nil, outward(err)
			}
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			e.active.Lock()
			a := e.active.m[id]
			e.active.Unlock()
			if a != nil && a.number == c.Attempt && c.Server == e.o.Server {
				out.Write(a.log.content())
			} else {
				out.Write(note(fmt.Sprintf("the log of this attempt is not here: the server works on it still, or died meanwhile; see %s's own", c.Server),
					"attempt", c.Attempt, "server", c.Server))
			}
		}
	}
	return io.NopCloser(&out), nil
}

// Package mozlog writes log lines in the format that Mozilla's services agreed on (mozlog 2.0), as a slog.Handler:
//
//	{"Timestamp":1763659201123456789,"Type":"partiald.request","Logger":"partiald","Hostname":"up-1",
//	 "EnvVersion":"2.0","Severity":6,"Pid":17,"Fields":{"msg":"request","status":200,…}}
//
// Timestamp is in nanoseconds since 1970, Severity is that of syslog. Everything else is in Fields.
package mozlog

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// Severities of syslog.
const (
	severityError   = 3
	severityWarning = 4
	severityInfo    = 6
	severityDebug   = 7
)

// Options change a Handler.
type Options struct {
	// Logger names the program, and begins every Type.
	Logger string
	// Hostname is the machine's.
	Hostname string
	// Level is the least that is written; nil means slog.LevelInfo.
	Level slog.Leveler
	// ReplaceAttr is as in slog.HandlerOptions, for what goes into Fields.
	ReplaceAttr func(groups []string, a slog.Attr) slog.Attr
}

// Handler is a slog.Handler. It is safe for concurrent use.
type Handler struct {
	opts   Options
	fields slog.Handler // writes Fields to out.buf
	out    *output
}

// output is shared by a handler and all that were made of it.
type output struct {
	mu  sync.Mutex
	w   io.Writer
	buf bytes.Buffer
}

// New returns a handler that writes to w, one line at a time.
func New(w io.Writer, opts Options) *Handler {
	out := &output{w: w}
	fields := slog.NewJSONHandler(&out.buf, &slog.HandlerOptions{
		Level: opts.Level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			if opts.ReplaceAttr != nil {
				return opts.ReplaceAttr(groups, a)
			}
			return a
		},
	})
	return &Handler{opts, fields, out}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.fields.Enabled(ctx, level)
}

// line is a log line, in the order in which the format names its parts.
type line struct {
	Timestamp  int64
	Type       string
	Logger     string
	Hostname   string
	EnvVersion string
	Severity   int
	Pid        int
	Fields     json.RawMessage
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.buf.Reset()
	if err := h.fields.Handle(ctx, r); err != nil {
		return err
	}
	l := line{
		Timestamp: r.Time.UnixNano(), Type: h.opts.Logger + "." + kind(r.Message), Logger: h.opts.Logger,
		Hostname: h.opts.Hostname, EnvVersion: "2.0", Severity: severityDebug, Pid: os.Getpid(), Fields: h.out.buf.Bytes(),
	}
	if r.Time.IsZero() {
		l.Timestamp = 0
	}
	switch {
	case r.Level >= slog.LevelError:
		l.Severity = severityError
	case r.Level >= slog.LevelWarn:
		l.Severity = severityWarning
	case r.Level >= slog.LevelInfo:
		l.Severity = severityInfo
	}
	return json.NewEncoder(h.out.w).Encode(l)
}

// kind is the first word of a message, which says enough to filter by.
func kind(message string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(message), " ")
	word = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}, word)
	if word == "" {
		return "log"
	}
	return word
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.opts, h.fields.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.opts, h.fields.WithGroup(name), h.out}
}

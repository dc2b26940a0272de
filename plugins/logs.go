package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept of a plugin's output.
const (
	maxLine     = 16 << 10 // bytes of one line; the rest of it is dropped
	maxAttrs    = 32       // attributes of one line
	maxAttrText = 1 << 10  // bytes of one attribute's value
	lineRate    = 200      // lines per second that are logged in the long run
	lineBurst   = 1000     // lines that are logged at once
	keptLines   = 8        // lines that are kept for error messages, of which
	firstLines  = 4        // are the first ones; the others are the last
	keptText    = 300      // bytes kept of each of them
)

// logWriter takes a plugin's standard error (or output) in pieces of any size and logs it line by line. It
// never fails, blocks for long or panics, whatever is written to it. Safe for concurrent use.
type logWriter struct {
	log    *slog.Logger
	stream string
	now    func() time.Time

	mu      sync.Mutex
	line    []byte // what was written of the current line, at most maxLine bytes
	long    bool   // the line was longer
	kept    []string
	between bool // there were more lines between the first and the last that are kept
	tokens  float64
	last    time.Time
	dropped int
	panics  bool // a Go stack trace has begun: log what follows as errors
}

func newLogWriter(log *slog.Logger, stream string) *logWriter {
	return &logWriter{log: log, stream: stream, now: time.Now, tokens: lineBurst, last: time.Now()}
}

// Write takes the next piece.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxLine - len(w.line); len(part) > room {
			part, w.long = part[:room], true
		}
		w.line = append(w.line, part...)
		if i < 0 {
			break
		}
		w.flush()
		p = p[i+1:]
	}
	return n, nil
}

// close logs what is left of the last line and how much was dropped.
func (w *logWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	w.reportDropped()
}

// said returns the first and the last lines that were written, for error messages.
func (w *logWriter) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.kept
	if w.between {
		lines = slices.Insert(slices.Clone(lines), firstLines, "…")
	}
	return strings.Join(lines, " / ")
}

// flush ends the current line. The caller holds mu.
func (w *logWriter) flush() {
	line, long := bytes.TrimSpace(w.line), w.long
	w.line, w.long = w.line[:0], false
	if len(line) == 0 {
		return
	}
	level, msg, attrs := parseLine(line)
	if strings.HasPrefix(msg, "panic: ") || strings.HasPrefix(msg, "fatal error: ") {
		w.panics, w.kept, w.between = true, nil, false
	}
	if w.panics {
		level = slog.LevelError
	}
	switch {
	case len(w.kept) < keptLines:
		w.kept = append(w.kept, clean(msg, keptText))
	case !w.panics: // of a stack trace the beginning says most
		w.kept = append(slices.Delete(w.kept, firstLines, firstLines+1), clean(msg, keptText))
		w.between = true
	}

	now := w.now()
	w.tokens = min(lineBurst, w.tokens+now.Sub(w.last).Seconds()*lineRate)
	w.last = now
	if w.tokens < 1 {
		w.dropped++
		return
	}
	w.tokens--
	w.reportDropped()
	if !w.log.Enabled(context.Background(), level) {
		return
	}
	if long {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	w.log.LogAttrs(context.Background(), level, msg, slog.String("stream", w.stream), slog.Attr{Key: "said", Value: slog.GroupValue(attrs...)})
}

func (w *logWriter) reportDropped() {
	if w.dropped > 0 {
		w.log.Warn("plugin logs too fast: lines dropped", "stream", w.stream, "lines", w.dropped)
		w.dropped = 0
	}
}

// parseLine reads one line: a JSON object with a message and a level, as slog and hclog write it, or any text.
func parseLine(line []byte) (slog.Level, string, []slog.Attr) {
	var fields map[string]any
	if line[0] != '{' || json.Unmarshal(line, &fields) != nil {
		return guessLevel(string(line)), clean(string(line), maxLine), nil
	}
	level, msg := slog.LevelInfo, ""
	if s, ok := take(fields, "@level", "level").(string); ok {
		level = namedLevel(s)
	}
	switch m := take(fields, "@message", "msg", "message").(type) {
	case nil:
	case string:
		msg = clean(m, maxLine)
	default:
		msg = clean(fmt.Sprint(m), maxLine)
	}
	take(fields, "@timestamp", "time")
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	var attrs []slog.Attr
	for i, name := range names {
		if i == maxAttrs {
			attrs = append(attrs, slog.Int("attributes-dropped", len(names)-i))
			break
		}
		text, ok := fields[name].(string)
		if !ok {
			b, err := json.Marshal(fields[name])
			if err != nil {
				continue
			}
			text = string(b)
		}
		attrs = append(attrs, slog.String(clean(name, 64), clean(text, maxAttrText)))
	}
	return level, msg, attrs
}

// take returns the first of the named fields and removes them all.
func take(fields map[string]any, names ...string) any {
	var found any
	for _, name := range names {
		if v, ok := fields[name]; ok && found == nil {
			found = v
		}
		delete(fields, name)
	}
	return found
}

func namedLevel(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal", "critical":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func guessLevel(line string) slog.Level {
	head := strings.ToUpper(strings.TrimLeft(line[:min(len(line), 16)], "[ "))
	for _, l := range []struct {
		prefix string
		level  slog.Level
	}{
		{"TRACE", slog.LevelDebug},
		{"DEBUG", slog.LevelDebug},
		{"WARN", slog.LevelWarn},
		{"ERROR", slog.LevelError},
		{"FATAL", slog.LevelError},
		{"PANIC", slog.LevelError},
	} {
		if strings.HasPrefix(head, l.prefix) {
			return l.level
		}
	}
	return slog.LevelInfo
}

// copyLines moves everything from r to w until r ends.
func copyLines(w *logWriter, r io.Reader) {
	_, _ = io.Copy(w, r) // logWriter never fails, and a reader's failure is its end
	w.close()
}

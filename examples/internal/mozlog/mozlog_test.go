package mozlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := New(&out, Options{Logger: "partiald", Hostname: "up-1"})
	r := slog.NewRecord(time.Unix(1763659201, 123456789), slog.LevelWarn, "Request refused", 0)
	r.AddAttrs(slog.Int("status", 503), slog.Any("error", errors.New("no \"queue\"")))
	if err := h.WithAttrs([]slog.Attr{slog.String("job", "ab")}).Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	want := map[string]any{
		"Timestamp": 1763659201123456789.0, "Type": "partiald.request", "Logger": "partiald", "Hostname": "up-1",
		"EnvVersion": "2.0", "Severity": 4.0, "Pid": float64(os.Getpid()),
		"Fields": map[string]any{"msg": "Request refused", "status": 503.0, "error": "no \"queue\"", "job": "ab"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(out.Bytes(), []byte(`"Timestamp":1763659201123456789,`)) {
		t.Errorf("timestamp lost digits: %s", out.Bytes())
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(New(&out, Options{Logger: "x", Level: slog.LevelDebug}))
	log.Debug("d")
	log.Info("i")
	log.Warn("w")
	log.Error("é!")
	dec := json.NewDecoder(&out)
	for _, want := range []struct {
		severity int
		kind     string
	}{{7, "x.d"}, {6, "x.i"}, {4, "x.w"}, {3, "x.log"}} {
		var l line
		if err := dec.Decode(&l); err != nil || l.Severity != want.severity || l.Type != want.kind {
			t.Errorf("got %+v, %v, want %+v", l, err, want)
		}
	}
	quiet := slog.New(New(&out, Options{Logger: "x"}))
	quiet.Debug("no")
	if out.Len() != 0 {
		t.Errorf("debug lines are written at level info: %s", out.Bytes())
	}
}

// The standard library says what a handler must do; what it looks for at the top is in Fields here.
func TestHandler(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return New(&out, Options{Logger: "x"})
	}, func(t *testing.T) map[string]any {
		t.Helper()
		var l struct {
			Timestamp int64
			Severity  int
			Fields    map[string]any
		}
		if err := json.Unmarshal(out.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.Timestamp != 0 {
			l.Fields[slog.TimeKey] = time.Unix(0, l.Timestamp)
		}
		l.Fields[slog.LevelKey] = l.Severity
		return l.Fields
	})
}

func TestConcurrentLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(New(&out, Options{Logger: "x"}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			l := log.With("a", 1)
			for range 50 {
				l.Info("line", "b", 2)
			}
		})
	}
	wg.Wait()
	dec, lines := json.NewDecoder(&out), 0
	for dec.More() {
		var l line
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		lines++
	}
	if lines != 400 {
		t.Errorf("%d lines, want 400", lines)
	}
}

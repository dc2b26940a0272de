package servicelog

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    Options
		want []string
		not  string
	}{
		{Options{Format: "text", Host: "up-1"}, []string{"msg=hello", "host=up-1", "took=1.5s"}, "took_ms"},
		{Options{Format: "json"}, []string{`"msg":"hello"`, `"took_ms":1500`}, "host"},
		{Options{}, []string{`"msg":"hello"`}, "msg=hello"},
		{Options{Format: "mozlog", Program: "p", Host: "up-1"}, []string{`"Logger":"p"`, `"Hostname":"up-1"`, `"took_ms":1500`}, "msg=hello"},
	} {
		var b strings.Builder
		log, err := New(&b, tt.o)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "took", 1500*time.Millisecond)
		log.Debug("quiet")
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%+v: no %s in %s", tt.o, want, b.String())
			}
		}
		if strings.Contains(b.String(), tt.not) || strings.Contains(b.String(), "quiet") {
			t.Errorf("%+v: %s", tt.o, b.String())
		}
	}
	var b strings.Builder
	log, err := New(&b, Options{Format: "text", Level: slog.LevelDebug})
	if err != nil {
		t.Fatal(err)
	}
	if log.Debug("quiet"); !strings.Contains(b.String(), "quiet") {
		t.Errorf("of level debug: %s", b.String())
	}
	if _, err := New(&b, Options{Format: "xml"}); !errors.Is(err, ErrFormat) {
		t.Errorf("a format that there is not: %v", err)
	}
}

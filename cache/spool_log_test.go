package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// That a value is not kept is logged, but for those whose filling was cancelled.
func TestFillComplains(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := NewLayered([]Store{nil}, &LayeredOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	w := &fillWriter{ctx: ctx, l: l, key: NewKey(Partials, "x")}
	w.complain(0, errors.New("disk"))
	cancel()
	w.complain(0, context.Canceled)
	if said := log.String(); strings.Count(said, "cache tier failed") != 1 || !strings.Contains(said, "disk") {
		t.Errorf("logged: %s", said)
	}
}

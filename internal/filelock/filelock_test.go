package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestExclusion(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	first, err := Try(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(name); !errors.Is(err, ErrBusy) {
		t.Fatalf("second Try: got %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		_, err := Acquire(ctx, name)
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("Acquire with a cancelled context: got %v", err)
	}
	go func() {
		l, err := Acquire(t.Context(), name)
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}()
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatalf("second Unlock: %v", err)
	}
	if err := <-got; err != nil {
		t.Fatalf("Acquire after Unlock: %v", err)
	}
}

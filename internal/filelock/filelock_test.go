package filelock

import (
	"context"
	"errors"
	"os"
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

// A directory is locked without anything being written into it, and not with what is in it.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	try := func(name string) (*Lock, error) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		return TryDir(f)
	}
	first, err := try(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := try(filepath.Join(dir, ".")); !errors.Is(err, ErrBusy) {
		t.Errorf("second TryDir: got %v, want ErrBusy", err)
	}
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := try(inside)
	if err != nil {
		t.Errorf("a directory in it: %v", err)
	} else if err := other.Unlock(); err != nil {
		t.Error(err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := try(dir)
	if err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("the directory holds %v, %v", list, err)
	}
}

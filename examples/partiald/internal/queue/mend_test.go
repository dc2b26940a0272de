package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestDamagedWhileRunning damages the files of an engine that runs. Every call ends in time with what is right or an
// error, and Repair brings everything in order without a restart of the process. (F16)
func TestDamagedWhileRunning(t *testing.T) {
	t.Parallel()
	write := func(name string, at int64, data []byte) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(data, at)
		return errors.Join(err, f.Close())
	}
	// Records have a header of 22 bytes and the subject before the value.
	tests := []struct {
		name   string
		damage func(name string, size int64) error
	}{
		{"value flipped", func(name string, size int64) error { return write(name, size/2, []byte("\x00")) }},
		{"length flipped", func(name string, _ int64) error { return write(name, 1, []byte("\xff\x7f")) }},
		{"cut", func(name string, size int64) error { return os.Truncate(name, size/2) }},
		{"deleted", func(name string, _ int64) error { return os.Remove(name) }},
		{"zeros", func(name string, size int64) error { return write(name, 0, make([]byte, size)) }},
	}
	const values, jobs = 10, 6 // more than a block of the engine each
	big := bytes.Repeat([]byte("0123456789abcdef"), 56_000)
	key := func(i int) string { return queue.Key("job", fmt.Sprint(i)) }
	made := t.TempDir()
	q := open(t, queue.Options{Dir: made})
	for i := range values {
		rev, err := q.Put(t.Context(), key(i), []byte("old"), 0, 0)
		if err == nil { // there are numbers of what is gone then
			_, err = q.Put(t.Context(), key(i), big, rev, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range jobs {
		if err := q.Publish(t.Context(), fmt.Sprint(i), 0, big); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if testkit.Race { // with which each takes twenty seconds
		tests = tests[:2]
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { // one after the other: each has megabytes read again and again
			ctx, dir := t.Context(), t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
				t.Fatal(err)
			}
			const timeout = 5 * time.Second
			q := open(t, queue.Options{Dir: dir, Timeout: timeout}) // reads all, so that the engine keeps none but the last block
			files, err := filepath.Glob(filepath.Join(dir, "jetstream/*/streams/*/msgs/*.blk"))
			if err != nil || len(files) < 4 {
				t.Fatalf("files %v, %v", files, err)
			}
			for _, name := range files {
				if info, err := os.Stat(name); err != nil || info.Size() < 1<<20 {
					continue
				} else if err := tt.damage(name, info.Size()); err != nil {
					t.Fatal(err)
				}
			}

			damaged := 0
			do := func(what string, call func() error) {
				t.Helper()
				start := time.Now()
				err := call()
				if took := time.Since(start); took > timeout+2*time.Second {
					t.Errorf("%s: answered after %v", what, took)
				}
				if errors.Is(err, queue.ErrDamaged) {
					damaged++
				}
				if err != nil && !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrConflict) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for i := range jobs {
				do("check", func() error { return q.Check(ctx, fmt.Sprint(i)) })
			}
			for i := range values {
				do("create", func() error { _, err := q.Put(ctx, key(i), big, 0, 0); return err })
				do("get", func() error { _, _, err := q.Get(ctx, key(i)); return err })
				do("set", func() error { return q.Set(ctx, key(i), big, 0) })
			}
			if damaged == 0 {
				t.Fatal("nothing was noticed")
			}
			select {
			case <-q.Sick():
			default:
				t.Error("nobody is told to repair it")
			}
			if err := q.Ping(ctx); !errors.Is(err, queue.ErrDamaged) {
				t.Errorf("ping: %v, want ErrDamaged", err)
			}
			if repaired, err := q.Repair(ctx); err != nil || !repaired {
				t.Fatalf("repair: %v, %v", repaired, err)
			}

			lost := 0
			for i := range values {
				v, rev, err := q.Get(ctx, key(i))
				if errors.Is(err, queue.ErrNotFound) {
					lost++
				} else if err != nil || !bytes.Equal(v, big) && string(v) != "old" { // what was before may be found again
					t.Fatalf("value %d: %d bytes, %v", i, len(v), err)
				}
				if rev, err = q.Put(ctx, key(i), []byte("new"), rev, 0); err != nil {
					t.Fatal(err)
				}
				if v, got, err := q.Get(ctx, key(i)); err != nil || string(v) != "new" || got != rev {
					t.Fatalf("value %d is %q at %d, %v, want the new one at %d", i, v, got, err, rev)
				}
			}
			for i := range jobs {
				id := fmt.Sprint(i)
				if err := q.Check(ctx, id); errors.Is(err, queue.ErrNotFound) {
					lost++
					if err := errors.Join(q.Remove(ctx, id), q.Publish(ctx, id, 0, big)); err != nil { // as the ledger's keeper does
						t.Fatal(err)
					}
				} else if err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]bool{}
			for range jobs {
				m := next(t, q)
				if !bytes.Equal(m.Data, big) || got[m.ID] {
					t.Errorf("job %s has %d bytes, was there %v", m.ID, len(m.Data), got[m.ID])
				}
				got[m.ID] = true
				if err := m.Ack(ctx); err != nil {
					t.Error(err)
				}
			}
			none(t, q)
			if err := q.Ping(ctx); err != nil {
				t.Error(err)
			}
			if repaired, err := q.Repair(ctx); err != nil || repaired {
				t.Errorf("repaired again: %v, %v", repaired, err)
			}
			q.Close()
			t.Logf("%d calls said that it is damaged, %d values and jobs lost", damaged, lost)
		})
	}
}

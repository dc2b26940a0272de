package book

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

func open(t *testing.T) *Book {
	t.Helper()
	b, err := Open(t.Context(), filepath.Join(t.TempDir(), "x y?&%.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func publish(t *testing.T, b *Book, s *state.State, operations ...state.Operation) (*state.State, Snapshot) {
	t.Helper()
	head, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next, changes, err := s.Apply(operations)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Publish(t.Context(), Publication{After: head.Seq, Hash: next.Hash(), Author: "a", Comment: "c", Changes: changes}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return next, snapshot
}

func TestBook(t *testing.T) {
	t.Parallel()
	b, ctx := open(t), t.Context()
	if head, err := b.Head(ctx); err != nil || head.Seq != 0 {
		t.Fatalf("head %+v, %v", head, err)
	}
	ref := state.Ref{Kind: state.Rule, Key: "1"}
	bodies := []string{`{"rule_id": 1}`, `{"rule_id": 1, "comment": "x"}`, ""}
	s := state.New(nil)
	hashes := []string{s.Hash()}
	for _, body := range bodies {
		op := state.Operation{Ref: ref}
		if o := s.Get(ref); o != nil {
			op.Before = o.Hash
		}
		if body != "" {
			op.Body = []byte(body)
		}
		s, _ = publish(t, b, s, op)
		hashes = append(hashes, s.Hash())
	}
	for seq, want := range hashes {
		got, err := b.State(ctx, int64(seq), nil)
		if err != nil || got.Hash() != want {
			t.Errorf("snapshot %d: %v, hash %s, want %s", seq, err, got.Hash(), want)
		}
	}
	_, err := b.Publish(ctx, Publication{After: 1}, time.Now())
	if !errors.Is(err, ErrBehind) {
		t.Errorf("published behind another: %v", err)
	}
	first, err := b.Snapshot(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := b.SnapshotAt(ctx, first.At); err != nil || at.Seq < 1 {
		t.Errorf("at %v: %+v, %v", first.At, at, err)
	}
	if _, err := b.SnapshotAt(ctx, first.At.Add(-time.Hour)); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first: %v", err)
	}
	if changes, err := b.Changes(ctx, 3); err != nil || len(changes) != 1 || changes[0].After != "" || changes[0].Before == "" {
		t.Errorf("what snapshot 3 changed: %+v, %v", changes, err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := b.Backup(ctx, copied); err != nil {
		t.Fatal(err)
	}
	again, err := Open(ctx, copied)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if head, err := again.Head(ctx); err != nil || head.Seq != 3 || head.Hash != hashes[3] {
		t.Errorf("the copy has %+v, %v", head, err)
	}
}

// What was damaged is not served.
func TestDamage(t *testing.T) {
	t.Parallel()
	b, ctx := open(t), t.Context()
	publish(t, b, state.New(nil), state.Operation{Ref: state.Ref{Kind: state.Rule, Key: "1"}, Body: []byte(`{"rule_id": 1}`)})
	if _, err := b.write.ExecContext(ctx, `UPDATE objects SET body = ?`, []byte(`{"rule_id": 1, "comment": "x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.State(ctx, 1, nil); err == nil {
		t.Error("a damaged object is taken")
	}
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	b, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.write.ExecContext(t.Context(), `PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file); err == nil {
		t.Error("a book of a newer program is opened")
	}
}

func TestDemand(t *testing.T) {
	t.Parallel()
	b, ctx, now := open(t), t.Context(), time.Now()
	to := aus.Build{Release: "T", Hash: "tt", HashFunction: "sha512", Target: "Linux", Locale: "de"}
	from := func(hash string) aus.Build { return aus.Build{Release: "F" + hash, Hash: hash} }
	for _, w := range []struct {
		hash string
		n    int64
	}{{"a", 0}, {"b", 3}, {"a", 2}, {"b", 1}} {
		if err := b.Want(ctx, from(w.hash), to, w.n, now); err != nil {
			t.Fatal(err)
		}
	}
	d, ok, err := b.NextWanted(ctx)
	if err != nil || !ok || d.From.Hash != "b" || d.N != 4 || d.To != to {
		t.Fatalf("next: %+v, %v, %v", d, ok, err)
	}
	if err := b.Settle(ctx, d, Working, ""); err != nil {
		t.Fatal(err)
	}
	if d, _, _ := b.NextWanted(ctx); d.From.Hash != "a" {
		t.Errorf("next: %+v", d)
	}
	if err := b.Requeue(ctx); err != nil {
		t.Fatal(err)
	}
	if d, _, _ := b.NextWanted(ctx); d.From.Hash != "b" {
		t.Errorf("after a restart: %+v", d)
	}
	if err := b.Settle(ctx, d, Failed, "because"); err != nil {
		t.Fatal(err)
	}
	// Who asks again does not make what failed wanted again.
	if err := b.Want(ctx, from("b"), to, 5, now); err != nil {
		t.Fatal(err)
	}
	list, err := b.Demands(ctx, 10)
	if err != nil || len(list) != 2 || list[0].N != 9 || list[0].State != Failed || list[0].Reason != "because" {
		t.Errorf("%+v, %v", list, err)
	}
}

package book

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
)

// TestBook runs the same tests on both databases.
func TestBook(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		run  func(*testing.T, string)
	}{{"publish", testPublish}, {"history", testHistory}, {"drafts", testDrafts}, {"sign-offs", testSignOffs}, {"revisions", testRevisions}, {"damage", testDamage}, {"newer schema", testNewerSchema}, {"demand", testDemand}, {"files", testFiles}}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, filepath.Join(t.TempDir(), "x y?&%.db"))
			})
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		pg := pgtest.Postgres(t)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, pg.Database(t))
			})
		}
	})
}

func open(t *testing.T, where string) *Book {
	t.Helper()
	b, err := Open(t.Context(), where, nil)
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

func testPublish(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
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
}

// What was damaged is not served.
func testDamage(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
	publish(t, b, state.New(nil), state.Operation{Ref: state.Ref{Kind: state.Rule, Key: "1"}, Body: []byte(`{"rule_id": 1}`)})
	if err := exec(t, b, `UPDATE objects SET body = ?`, []byte(`{"rule_id": 1, "comment": "x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.State(ctx, 1, nil); err == nil {
		t.Error("a damaged object is taken")
	}
}

func exec(t *testing.T, b *Book, q string, args ...any) error {
	t.Helper()
	return b.db.Update(t.Context(), func(tx *database.Tx) error { return tx.Exec(q, args...) })
}

func testNewerSchema(t *testing.T, where string) {
	t.Helper()
	if err := exec(t, open(t, where), `UPDATE meta SET value = '99'`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), where, nil); err == nil {
		t.Error("a book of a newer program is opened")
	}
}

// Words are looked for in who, why and what, and mean nothing but themselves.
func testHistory(t *testing.T, where string) {
	t.Helper()
	b := open(t, where)
	s, _ := publish(t, b, state.New(nil), state.Operation{Ref: state.Ref{Kind: state.Host, Key: "a_b.example"}, Body: []byte(`{"products": ["Fox"]}`)})
	_, last := publish(t, b, s, state.Operation{Ref: state.Ref{Kind: state.Host, Key: "axb.example"}, Body: []byte(`{"products": ["Fox"]}`)})
	for _, tt := range []struct {
		before int64
		words  []string
		want   int
	}{{0, nil, 2}, {last.Seq, nil, 1}, {0, []string{"A_B"}, 1}, {0, []string{"a%b"}, 0}, {0, []string{"example", "c"}, 2}, {0, []string{"!"}, 0}} {
		if list, err := b.History(t.Context(), tt.before, 10, tt.words...); err != nil || len(list) != tt.want {
			t.Errorf("before %d, %q: %+v, %v, want %d", tt.before, tt.words, list, err, tt.want)
		}
	}
}

// A draft is closed once.
func testDrafts(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
	when := time.UnixMilli(time.Now().UnixMilli()).UTC()
	id, err := b.SaveDraft(ctx, Draft{Created: when, Author: "a", Comment: "c", Scheduled: when, Operations: []state.Operation{{Ref: state.Ref{Kind: state.Rule, Key: "1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Unschedule(ctx, id, "why"); err != nil {
		t.Fatal(err)
	}
	if list, err := b.Drafts(ctx); err != nil || len(list) != 1 || list[0].Reason != "why" || !list[0].Scheduled.IsZero() || !list[0].Created.Equal(when) {
		t.Errorf("%+v, %v", list, err)
	}
	if err := b.Withdraw(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := b.Withdraw(ctx, id); !errors.Is(err, ErrClosedDraft) {
		t.Errorf("withdrawn twice: %v", err)
	}
	if err := b.Withdraw(ctx, id+1); !errors.Is(err, ErrNotFound) {
		t.Errorf("a draft that is none: %v", err)
	}
}

func testSignOffs(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	one := state.Operation{Ref: state.Ref{Kind: state.Rule, Key: "1"}, Body: []byte(`{"rule_id": 1}`)}
	people, err := b.SaveDraft(ctx, Draft{Created: now, Author: "a", Operations: []state.Operation{one}})
	if err != nil {
		t.Fatal(err)
	}
	change := &ScheduledChange{Table: "rules", Type: "insert"}
	change.Revise(1, now, "a", now, one.Body)
	id, err := b.SaveDraft(ctx, Draft{Created: now, Author: "a", Scheduled: now, Operations: []state.Operation{one}, Change: change, SignOffs: []SignOff{{"ann", "releng", now}}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.Draft(ctx, id)
	if err != nil || d.Version != 1 || len(d.SignOffs) != 1 || d.SignOffs[0] != (SignOff{"ann", "releng", now}) || d.Change == nil || len(d.Change.Revisions) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	for range 2 { // the second time changes nothing
		if err := b.SignOff(ctx, id, d.Hash, SignOff{"bob", "relman", now}); err != nil {
			t.Error(err)
		}
	}
	if err := b.SignOff(ctx, id, "00", SignOff{"bob", "relman", now}); !errors.Is(err, ErrBehind) {
		t.Errorf("of another hash: %v", err)
	}
	if err := b.SignOff(ctx, id+1, d.Hash, SignOff{"bob", "relman", now}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a draft that is none: %v", err)
	}
	if err := b.RevokeSignOff(ctx, id, d.Hash, "cat"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
	if list, err := b.ScheduledChanges(ctx, false); err != nil || len(list) != 1 || list[0].ID != id || len(list[0].SignOffs) != 2 {
		t.Errorf("scheduled: %+v, %v", list, err)
	}
	other := d
	other.Operations = []state.Operation{{Ref: one.Ref, Body: []byte(`{"rule_id": 1, "comment": "<&>"}`)}}
	other.SignOffs = nil
	if err := b.UpdateDraft(ctx, other); err != nil {
		t.Fatal(err)
	}
	if err := b.UpdateDraft(ctx, other); !errors.Is(err, ErrBehind) {
		t.Errorf("rewritten as it was: %v", err)
	}
	again, err := b.Draft(ctx, id)
	if err != nil || again.Version != 2 || again.Hash == d.Hash || len(again.SignOffs) != 0 {
		t.Errorf("rewritten: %+v, %v", again, err)
	}
	// What was published closes a draft, and rewrites others with it.
	o, err := state.NewObject(one.Ref, one.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := Publication{Hash: "h", Author: "a", Draft: people, Changes: []state.Changed{{Ref: one.Ref, After: o}}, Drafts: []Draft{again}}
	if _, err := b.Publish(ctx, p, now); err != nil {
		t.Fatal(err)
	}
	if d, err := b.Draft(ctx, id); err != nil || d.Version != 3 {
		t.Errorf("rewritten by a publication: %+v, %v", d, err)
	}
	p.After, p.Draft = 1, 0
	if _, err := b.Publish(ctx, p, now); !errors.Is(err, ErrBehind) {
		t.Errorf("with a draft that was rewritten before: %v", err)
	}
	if head, err := b.Head(ctx); err != nil || head.Seq != 1 {
		t.Errorf("half of it is there: %+v, %v", head, err)
	}
	if s, err := b.PublishedBy(ctx, people); err != nil || s.Seq != 1 {
		t.Errorf("published by: %+v, %v", s, err)
	}
	if err := b.SignOff(ctx, people, d.Hash, SignOff{"bob", "relman", now}); !errors.Is(err, ErrClosedDraft) {
		t.Errorf("of a closed draft: %v", err)
	}
	if err := b.Withdraw(ctx, id); err != nil {
		t.Fatal(err)
	}
	if list, err := b.ScheduledChanges(ctx, true); err != nil || len(list) != 0 {
		t.Errorf("withdrawn: %+v, %v", list, err)
	}
}

func testRevisions(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
	ref := state.Ref{Kind: state.Rule, Key: "10"}
	s, _ := publish(t, b, state.New(nil), state.Operation{Ref: ref, Body: []byte(`{"rule_id": 10}`)}, state.Operation{Ref: state.Ref{Kind: state.Rule, Key: "9"}, Body: []byte(`{"rule_id": 9}`)})
	first := s.Get(ref).Hash
	s, _ = publish(t, b, s, state.Operation{Ref: ref, Before: first, Body: []byte(`{"rule_id": 10, "comment": "x"}`)})
	publish(t, b, s, state.Operation{Ref: ref, Before: s.Get(ref).Hash})
	list, err := b.Revisions(ctx, state.Rule, "10", 0, 10)
	if err != nil || len(list) != 2 || list[0].Snapshot.Seq != 2 || list[0].Until != 3 || list[1].Hash != first || list[1].Snapshot.Author != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	for at, want := range map[int64]int{0: 3, 1: 2, 2: 2, 3: 1} {
		if list, err := b.Revisions(ctx, state.Rule, "", at, 10); err != nil || len(list) != want {
			t.Errorf("at %d: %d revisions, want %d, %v", at, len(list), want, err)
		}
	}
	if n, err := b.LastNumber(ctx, state.Rule); err != nil || n != 10 {
		t.Errorf("last number %d, %v, want 10", n, err)
	}
	if n, err := b.LastNumber(ctx, state.Shutoff); err != nil || n != 0 {
		t.Errorf("of nothing: %d, %v", n, err)
	}
}

func testFiles(t *testing.T, where string) {
	t.Helper()
	b, ctx := open(t, where), t.Context()
	sum := strings.Repeat("0a", 64)
	f := File{SHA512: sum, Name: "a.mar", Size: 1 << 40, Added: time.Now(), Build: []byte(`{"x": 1}`)}
	for range 2 { // the second time changes nothing
		if err := b.AddFile(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.File(ctx, sum); err != nil || got.Size != f.Size || string(got.Build) != string(f.Build) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := b.FileBegin(ctx, sum[:32], "a.mar"); err != nil || got != sum {
		t.Errorf("%s, %v", got, err)
	}
	if err := b.RemoveFile(ctx, sum); err != nil {
		t.Fatal(err)
	}
	if _, err := b.File(ctx, sum); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

// A full disk: nothing of a publication is there, all of what was before is, and the book goes on when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	b := open(t, filepath.Join(t.TempDir(), "x.db"))
	host := func(key, text string) state.Operation {
		return state.Operation{Ref: state.Ref{Kind: state.Host, Key: key}, Body: []byte(`{"products": ["` + text + `"]}`)}
	}
	s, before := publish(t, b, state.New(nil), host("a.example", "Fox"))
	room := func(more int) {
		t.Helper()
		if err := b.db.Update(t.Context(), func(tx *database.Tx) error {
			var pages, now int
			if err := tx.Row("PRAGMA page_count").Scan(&pages); err != nil {
				return err
			}
			return tx.Row("PRAGMA max_page_count = " + strconv.Itoa(pages+more)).Scan(&now)
		}); err != nil {
			t.Fatal(err)
		}
	}
	room(4)
	next, changes, err := s.Apply([]state.Operation{host("b.example", "Fox"), host("c.example", strings.Repeat("x", 1<<20))})
	if err != nil {
		t.Fatal(err)
	}
	p := Publication{After: before.Seq, Hash: next.Hash(), Changes: changes}
	if _, err := b.Publish(t.Context(), p, time.Now()); !errors.Is(err, database.ErrNoSpace) {
		t.Fatalf("on a full disk: %v", err)
	}
	if head, err := b.Head(t.Context()); err != nil || head != before {
		t.Errorf("head %+v, %v", head, err)
	}
	if st, err := b.State(t.Context(), before.Seq, nil); err != nil || st.Hash() != before.Hash || st.Len(state.Host) != 1 {
		t.Errorf("the state is not what it was: %v", err)
	}
	room(1000)
	if _, err := b.Publish(t.Context(), p, time.Now()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// A book from before both databases is read on.
func TestOlder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	b := open(t, file)
	for _, q := range []string{
		`DROP TABLE meta`, `DROP INDEX contents_hash`, `DROP TABLE signoffs`, `DROP INDEX drafts_changes`, `DROP INDEX snapshots_draft`, `ALTER TABLE drafts DROP COLUMN change`,
		`ALTER TABLE drafts DROP COLUMN version`, `PRAGMA user_version = 1`,
	} {
		if err := exec(t, b, q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, file).Head(t.Context()); err != nil {
		t.Error(err)
	}
}

func testDemand(t *testing.T, where string) {
	t.Helper()
	b, ctx, now := open(t, where), t.Context(), time.Now()
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

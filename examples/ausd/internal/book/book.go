// Package book keeps everything that an update server must not lose in one database, SQLite or PostgreSQL: the objects that its
// state is made of, every state that was ever published, drafts, and who did what.
//
// A published state is named by a number that grows by one. Of each object the book has the range of numbers in which it held, so that
// publishing writes what changed and nothing else, and any earlier state can be read. What a transaction
// writes is there whole or not at all, and synced before the call returns.
package book

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that there is no such snapshot, draft or object.
	ErrNotFound = errors.New("book: not found")
	// ErrBehind says that somebody else published meanwhile.
	ErrBehind = errors.New("book: another snapshot was published meanwhile")
	// ErrClosedDraft says that a draft is published or withdrawn already.
	ErrClosedDraft = errors.New("book: the draft is closed")
	// ErrEarly says that the time of a draft has not come.
	ErrEarly = errors.New("book: before its time")
)

// The schema, step by step, in the words of package database. A step that was released is never changed; another one follows it.
var schema = []string{`
CREATE TABLE objects (
	hash TEXT PRIMARY KEY,
	body BYTES NOT NULL
)END;
CREATE TABLE snapshots (
	seq     INT PRIMARY KEY,
	hash    TEXT NOT NULL,
	at      INT NOT NULL,
	author  TEXT NOT NULL,
	comment TEXT NOT NULL,
	draft   INT NOT NULL
)END;
CREATE TABLE contents (
	kind  TEXT NOT NULL,
	key   TEXT NOT NULL,
	since INT NOT NULL,
	until INT NULL,
	hash  TEXT NOT NULL,
	PRIMARY KEY (kind, key, since)
)END;
CREATE INDEX contents_now ON contents (kind, key) WHERE until IS NULL;
CREATE INDEX contents_since ON contents (since);
CREATE INDEX contents_until ON contents (until) WHERE until IS NOT NULL;
CREATE TABLE drafts (
	id         SERIAL,
	created    INT NOT NULL,
	author     TEXT NOT NULL,
	comment    TEXT NOT NULL,
	scheduled  INT NOT NULL,
	state      TEXT NOT NULL,
	reason     TEXT NOT NULL,
	operations BYTES NOT NULL
)END;
CREATE INDEX drafts_open ON drafts (id) WHERE state = 'open';
CREATE TABLE demand (
	function TEXT NOT NULL,
	"from"   TEXT NOT NULL,
	"to"     TEXT NOT NULL,
	target   TEXT NOT NULL,
	locale   TEXT NOT NULL,
	n        INT NOT NULL,
	first    INT NOT NULL,
	last     INT NOT NULL,
	state    TEXT NOT NULL,
	reason   TEXT NOT NULL,
	about    BYTES NOT NULL,
	PRIMARY KEY (function, "from", "to", target, locale)
)END;
CREATE TABLE files (
	sha512 TEXT PRIMARY KEY,
	name   TEXT NOT NULL,
	size   INT NOT NULL,
	added  INT NOT NULL,
	build  BYTES NOT NULL
)END`, `
CREATE INDEX contents_hash ON contents (hash, kind)`, `
ALTER TABLE drafts ADD COLUMN version INT NOT NULL DEFAULT 1;
ALTER TABLE drafts ADD COLUMN change BYTES NULL;
CREATE INDEX drafts_changes ON drafts (id) WHERE change IS NOT NULL;
CREATE INDEX snapshots_draft ON snapshots (draft) WHERE draft <> 0;
CREATE TABLE signoffs (
	draft INT NOT NULL,
	hash  TEXT NOT NULL,
	name  TEXT NOT NULL,
	role  TEXT NOT NULL,
	at    INT NOT NULL,
	PRIMARY KEY (draft, hash, name)
)END`}

// Book is open. It is safe for concurrent use.
type Book struct{ db *database.DB }

// Open opens the book: where is the address of a PostgreSQL database, or else the name of an SQLite file, which is made, for its
// owner alone, where there is none.
func Open(ctx context.Context, where string, log *slog.Logger) (*Book, error) {
	open := database.OpenSQLite
	if IsPostgres(where) {
		open = database.OpenPostgres
	}
	db, err := open(ctx, where, schema, &database.Options{Program: "ausd", Log: log})
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	return &Book{db}, nil
}

// IsPostgres says whether a book is in a PostgreSQL database.
func IsPostgres(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

// Alone takes the book for one server: two would publish past each other. Another server that asks is refused with [database.ErrInUse].
func (b *Book) Alone(ctx context.Context) error { return b.db.Alone(ctx) }

// Close closes the database.
func (b *Book) Close() error { return b.db.Close() }

// Ping asks the database whether it is there and can be written to.
func (b *Book) Ping(ctx context.Context) error { return b.db.Ping(ctx) }

// Snapshot is one published state.
type Snapshot struct {
	Seq     int64     `json:"seq"`
	Hash    string    `json:"hash"`
	At      time.Time `json:"at"`
	Author  string    `json:"author"`
	Comment string    `json:"comment"`
	Draft   int64     `json:"draft,omitempty"`
}

const snapshotColumns = `seq, hash, at, author, comment, draft`

func scanSnapshot(r row) (Snapshot, error) {
	var s Snapshot
	var at int64
	err := r.Scan(&s.Seq, &s.Hash, &at, &s.Author, &s.Comment, &s.Draft)
	s.At = time.UnixMilli(at).UTC()
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return s, err
}

// Head returns the snapshot that was published last; before the first one its number is 0.
func (b *Book) Head(ctx context.Context) (Snapshot, error) {
	s, err := scanSnapshot(b.db.Row(ctx, `SELECT `+snapshotColumns+` FROM snapshots ORDER BY seq DESC LIMIT 1`))
	if errors.Is(err, ErrNotFound) {
		return Snapshot{}, nil
	}
	return s, err
}

// Snapshot returns one snapshot.
func (b *Book) Snapshot(ctx context.Context, seq int64) (Snapshot, error) {
	return scanSnapshot(b.db.Row(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE seq = ?`, seq))
}

// SnapshotAt returns the snapshot that held at a time.
func (b *Book) SnapshotAt(ctx context.Context, at time.Time) (Snapshot, error) {
	return scanSnapshot(b.db.Row(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE at <= ? ORDER BY seq DESC LIMIT 1`, at.UnixMilli()))
}

// History returns at most limit snapshots before a number (0: all), the newest first. words must all be in author, comment, or the
// name of an object that changed.
func (b *Book) History(ctx context.Context, before int64, limit int, words ...string) ([]Snapshot, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	q := `SELECT ` + snapshotColumns + ` FROM snapshots s WHERE seq < ?`
	args := []any{before}
	for _, w := range words {
		q += ` AND (lower(author || ' ' || comment) LIKE ? ESCAPE '!' OR EXISTS (SELECT 1 FROM contents c
			WHERE (c.since = s.seq OR c.until = s.seq) AND lower(c.kind || ' ' || c.key) LIKE ? ESCAPE '!'))`
		like := "%" + likeLiterally.Replace(strings.ToLower(w)) + "%"
		args = append(args, like, like)
	}
	rows, err := b.db.Rows(ctx, q+` ORDER BY seq DESC LIMIT ?`, append(args, limit)...)
	return collect(rows, err, scanSnapshot)
}

// likeLiterally takes the meaning off the signs that LIKE has.
var likeLiterally = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// row is a row of an answer.
type row interface{ Scan(to ...any) error }

// collect reads and closes an answer.
func collect[T any](rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		list = append(list, v)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// Change is what one snapshot changed of one object; "" is no object.
type Change struct {
	state.Ref
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Changes returns what a snapshot changed.
func (b *Book) Changes(ctx context.Context, seq int64) ([]Change, error) {
	rows, err := b.db.Rows(ctx, `SELECT kind, key, max(before), max(after) FROM (
		SELECT kind, key, hash AS before, '' AS after FROM contents WHERE until = ?
		UNION ALL SELECT kind, key, '', hash FROM contents WHERE since = ?) AS c GROUP BY kind, key ORDER BY kind, key`, seq, seq)
	return collect(rows, err, func(r row) (c Change, err error) {
		err = r.Scan(&c.Kind, &c.Key, &c.Before, &c.After)
		return c, err
	})
}

// Revision is one object as it was from a snapshot on, until another one changed or removed it.
type Revision struct {
	state.Ref
	Hash     string
	Snapshot Snapshot // that made it so
	Until    int64    // number of the snapshot that ended it; 0 is none yet
}

// Revisions returns how the objects of a kind have changed, the newest first, at most limit; key "" is every object. With a
// snapshot's number at other than 0 it returns those that held then.
func (b *Book) Revisions(ctx context.Context, kind state.Kind, key string, at int64, limit int) ([]Revision, error) {
	q := `SELECT c.kind, c.key, c.hash, coalesce(c.until, 0), s.seq, s.hash, s.at, s.author, s.comment, s.draft
		FROM contents c JOIN snapshots s ON s.seq = c.since WHERE c.kind = ?`
	args := []any{kind}
	if key != "" {
		q, args = q+` AND c.key = ?`, append(args, key)
	}
	if at != 0 {
		q, args = q+` AND c.since <= ? AND (c.until IS NULL OR c.until > ?)`, append(args, at, at)
	}
	rows, err := b.db.Rows(ctx, q+` ORDER BY c.since DESC, c.key LIMIT ?`, append(args, limit)...)
	return collect(rows, err, func(r row) (v Revision, err error) {
		var ms int64
		err = r.Scan(&v.Kind, &v.Key, &v.Hash, &v.Until, &v.Snapshot.Seq, &v.Snapshot.Hash, &ms, &v.Snapshot.Author, &v.Snapshot.Comment, &v.Snapshot.Draft)
		v.Snapshot.At = since(ms)
		return v, err
	})
}

// LastNumber returns the largest number that an object of a kind ever had, of those that are named by numbers; 0 is none.
func (b *Book) LastNumber(ctx context.Context, kind state.Kind) (int64, error) {
	var n int64
	err := b.db.Row(ctx, `SELECT coalesce(max(CAST(key AS BIGINT)), 0) FROM contents WHERE kind = ?`, kind).Scan(&n)
	return n, err
}

// Object returns the body of an object by its hash.
func (b *Book) Object(ctx context.Context, hash string) ([]byte, error) {
	var body []byte
	err := b.db.Row(ctx, `SELECT body FROM objects WHERE hash = ?`, hash).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return body, err
}

// State returns the state of a snapshot; that of number 0 is empty. Objects of known, which may be nil, are used again
// instead of being read.
func (b *Book) State(ctx context.Context, seq int64, known *state.State) (*state.State, error) {
	type entry struct {
		ref  state.Ref
		hash string
	}
	rows, err := b.db.Rows(ctx, `SELECT kind, key, hash FROM contents WHERE since <= ? AND (until IS NULL OR until > ?)`, seq, seq)
	entries, err := collect(rows, err, func(r row) (e entry, err error) {
		err = r.Scan(&e.ref.Kind, &e.ref.Key, &e.hash)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	objects := make([]*state.Object, len(entries))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, e := range entries {
		if known != nil {
			if o := known.Get(e.ref); o != nil && o.Hash == e.hash {
				objects[i] = o
				continue
			}
		}
		g.Go(func() error {
			body, err := b.Object(ctx, e.hash)
			if err != nil {
				return fmt.Errorf("%s: %w", e.ref, err)
			}
			objects[i], err = state.Load(e.ref, body, e.hash)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return state.New(objects), nil
}

// Publication is what is published.
type Publication struct {
	After int64 // number of the snapshot that it changes
	// Seq and At are the number and time of the snapshot where another server has given them; 0 is the next number.
	Seq     int64
	At      time.Time
	Hash    string
	Author  string
	Comment string
	Draft   int64 // 0 is none
	Changes []state.Changed
	// Drafts are open drafts that are rewritten with it, as [Book.UpdateDraft] does.
	Drafts []Draft
}

// Publish writes a snapshot and returns it. If another one was published since After, that is ErrBehind, and nothing is
// written.
func (b *Book) Publish(ctx context.Context, p Publication, now time.Time) (Snapshot, error) {
	if p.Seq == 0 {
		p.Seq, p.At = p.After+1, now
	}
	s := Snapshot{Seq: p.Seq, Hash: p.Hash, At: p.At.UTC().Truncate(time.Millisecond), Author: p.Author, Comment: p.Comment, Draft: p.Draft}
	err := b.db.Update(ctx, func(tx *database.Tx) error {
		var head int64
		if err := tx.Row(`SELECT coalesce(max(seq), 0) FROM snapshots`).Scan(&head); err != nil {
			return err
		}
		if head != p.After {
			return ErrBehind
		}
		for _, c := range p.Changes {
			if c.Before != nil {
				if err := tx.Exec(`UPDATE contents SET until = ? WHERE kind = ? AND key = ? AND until IS NULL`, s.Seq, c.Kind, c.Key); err != nil {
					return err
				}
			}
			if c.After == nil {
				continue
			}
			if err := tx.Exec(`INSERT INTO objects (hash, body) VALUES (?, ?) ON CONFLICT DO NOTHING`, c.After.Hash, c.After.Body()); err != nil {
				return err
			}
			if err := tx.Exec(`INSERT INTO contents (kind, key, since, hash) VALUES (?, ?, ?, ?)`, c.Kind, c.Key, s.Seq, c.After.Hash); err != nil {
				return err
			}
		}
		if p.Draft != 0 {
			if err := closeDraft(tx, p.Draft, DraftPublished, ""); err != nil {
				return err
			}
		}
		for _, d := range p.Drafts {
			if err := updateDraft(tx, d); err != nil {
				return err
			}
		}
		return tx.Exec(`INSERT INTO snapshots (`+snapshotColumns+`) VALUES (?, ?, ?, ?, ?, ?)`, s.Seq, s.Hash, s.At.UnixMilli(), s.Author, s.Comment, s.Draft)
	})
	return s, err
}

package book

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
)

// The states of a wanted partial.
const (
	Wanted   = "wanted"   // it is to be made
	Working  = "working"  // it is being made
	Made     = "made"     // it is published
	Withheld = "withheld" // it may not be published
	Failed   = "failed"   // it cannot be made
)

// Demand is one partial that clients could use: between the completes of two builds.
type Demand struct {
	From, To aus.Build
	N        int64 // how many clients were answered without it
	First    time.Time
	Last     time.Time
	State    string
	Reason   string
}

type pairJSON struct{ From, To aus.Build }

// Want notes that a partial is wanted, n clients more; 0 is for who orders it without being a client.
func (b *Book) Want(ctx context.Context, from, to aus.Build, n int64, now time.Time) error {
	about, err := json.Marshal(pairJSON{from, to})
	if err != nil {
		return err
	}
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`INSERT INTO demand (function, "from", "to", target, locale, n, first, last, state, reason, about) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)
			ON CONFLICT (function, "from", "to", target, locale) DO UPDATE SET n = demand.n + excluded.n, last = excluded.last, about = excluded.about`,
			to.HashFunction, from.Hash, to.Hash, to.Target, to.Locale, n, now.UnixMilli(), now.UnixMilli(), Wanted, about)
	})
}

const demandColumns = `n, first, last, state, reason, about`

func scanDemand(r row) (Demand, error) {
	var d Demand
	var first, last int64
	var about []byte
	var pair pairJSON
	if err := r.Scan(&d.N, &first, &last, &d.State, &d.Reason, &about); err != nil {
		return d, err
	}
	err := json.Unmarshal(about, &pair)
	d.From, d.To, d.First, d.Last = pair.From, pair.To, since(first), since(last)
	return d, err
}

// NextWanted returns the partial that most clients want, and whether there is one.
func (b *Book) NextWanted(ctx context.Context) (Demand, bool, error) {
	d, err := scanDemand(b.db.Row(ctx, `SELECT `+demandColumns+` FROM demand WHERE state = ? ORDER BY n DESC, first, "from" LIMIT 1`, Wanted))
	if errors.Is(err, sql.ErrNoRows) {
		return Demand{}, false, nil
	}
	return d, err == nil, err
}

// Demands returns at most limit wanted partials, the most wanted first.
func (b *Book) Demands(ctx context.Context, limit int) ([]Demand, error) {
	rows, err := b.db.Rows(ctx, `SELECT `+demandColumns+` FROM demand ORDER BY n DESC, first, "from" LIMIT ?`, limit)
	return collect(rows, err, scanDemand)
}

// Open counts the partials that are wanted or being made.
func (b *Book) Open(ctx context.Context) (n int, err error) {
	err = b.db.Row(ctx, `SELECT count(*) FROM demand WHERE state = ? OR state = ?`, Wanted, Working).Scan(&n)
	return n, err
}

// Settle notes what became of a wanted partial.
func (b *Book) Settle(ctx context.Context, d Demand, to, reason string) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`UPDATE demand SET state = ?, reason = ? WHERE function = ? AND "from" = ? AND "to" = ? AND target = ? AND locale = ?`,
			to, reason, d.To.HashFunction, d.From.Hash, d.To.Hash, d.To.Target, d.To.Locale)
	})
}

// Requeue makes wanted again what was being made when the server stopped.
func (b *Book) Requeue(ctx context.Context) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`UPDATE demand SET state = ? WHERE state = ?`, Wanted, Working)
	})
}

// File is a MAR file that the server serves.
type File struct {
	SHA512 string          `json:"sha512"`
	Name   string          `json:"name"`
	Size   int64           `json:"size"`
	Added  time.Time       `json:"added"`
	Build  json.RawMessage `json:"build,omitempty"` // what it says about its build; of a partial nothing
}

// AddFile notes a file. One that is there already stays as it is.
func (b *Book) AddFile(ctx context.Context, f File) error {
	if f.Build == nil {
		f.Build = json.RawMessage("null")
	}
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`INSERT INTO files (sha512, name, size, added, build) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			f.SHA512, f.Name, f.Size, f.Added.UnixMilli(), []byte(f.Build))
	})
}

// File returns a file by its hash.
func (b *Book) File(ctx context.Context, sha512 string) (File, error) {
	f := File{SHA512: sha512}
	var added int64
	var build []byte
	err := b.db.Row(ctx, `SELECT name, size, added, build FROM files WHERE sha512 = ?`, sha512).Scan(&f.Name, &f.Size, &added, &build)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	f.Added, f.Build = since(added), build
	return f, err
}

// FileBegin returns the hash of a file by the begin of its hash and its name.
func (b *Book) FileBegin(ctx context.Context, begin, name string) (string, error) {
	var sum string
	err := b.db.Row(ctx, `SELECT sha512 FROM files WHERE sha512 >= ? AND sha512 < ? AND name = ? LIMIT 1`, begin, begin+"g", name).Scan(&sum)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return sum, err
}

// Files returns all files, the newest first.
func (b *Book) Files(ctx context.Context) ([]File, error) {
	rows, err := b.db.Rows(ctx, `SELECT sha512, name, size, added FROM files ORDER BY added DESC, sha512`)
	return collect(rows, err, func(r row) (f File, err error) {
		var added int64
		err = r.Scan(&f.SHA512, &f.Name, &f.Size, &added)
		f.Added = since(added)
		return f, err
	})
}

// RemoveFile forgets a file.
func (b *Book) RemoveFile(ctx context.Context, sha512 string) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`DELETE FROM files WHERE sha512 = ?`, sha512)
	})
}

var hash512 = regexp.MustCompile(`\b[0-9a-f]{128}\b`)

// NamedSince returns the SHA-512 hashes that releases and made partials name, of every snapshot that held since a time.
func (b *Book) NamedSince(ctx context.Context, since time.Time) (map[string]bool, error) {
	rows, err := b.db.Rows(ctx, `SELECT DISTINCT c.hash FROM contents c LEFT JOIN snapshots s ON s.seq = c.until
		WHERE c.kind IN ('release', 'made') AND (c.until IS NULL OR s.at >= ?)`, since.UnixMilli())
	objects, err := collect(rows, err, func(r row) (hash string, err error) {
		err = r.Scan(&hash)
		return hash, err
	})
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, hash := range objects {
		body, err := b.Object(ctx, hash)
		if err != nil {
			return nil, err
		}
		for _, sum := range hash512.FindAll(bytes.ToLower(body), -1) {
			named[string(sum)] = true
		}
	}
	return named, nil
}

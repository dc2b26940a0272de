package book

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
)

// The states of a draft.
const (
	DraftOpen      = "open"
	DraftPublished = "published"
	DraftWithdrawn = "withdrawn"
)

// Draft is a change that is not published.
type Draft struct {
	ID         int64             `json:"id"`
	Version    int64             `json:"version" doc:"counts how often it was changed, from 1"`
	Created    time.Time         `json:"created"`
	Author     string            `json:"author"`
	Comment    string            `json:"comment"`
	Scheduled  time.Time         `json:"scheduled,omitzero"` // when it is published by itself; the zero time is never
	State      string            `json:"state"`
	Reason     string            `json:"reason,omitempty"` // why it was not published in time
	Operations []state.Operation `json:"operations"`
	// Hash names the operations, and by them every object that they touch as it was. People sign it.
	Hash     string    `json:"hash"`
	SignOffs []SignOff `json:"sign_offs"` // of this hash
	// Change is what Balrog's API keeps beside a scheduled change; nil is a draft of people.
	Change *ScheduledChange `json:"scheduled_change,omitempty"`
}

// SignOff is that somebody agrees to a draft as it is.
type SignOff struct {
	Name string    `json:"name"`
	Role string    `json:"role"`
	At   time.Time `json:"at"`
}

// ScheduledChange is what Balrog's API keeps beside a draft.
type ScheduledChange struct {
	Table string `json:"table"`       // rules, releases, pinnable_releases or emergency_shutoff
	Type  string `json:"change_type"` // insert, update or delete
	// Parts are what a change of a release is made of.
	Parts     []ScheduledPart     `json:"parts,omitempty"`
	Revisions []ScheduledRevision `json:"revisions,omitempty"` // the oldest first; those of releases are not kept
}

// ScheduledPart is one part of a release that changes.
type ScheduledPart struct {
	Platform string `json:"platform,omitempty"` // "" is what belongs to no locale
	Locale   string `json:"locale,omitempty"`
	Type     string `json:"change_type"`
	Version  int64  `json:"sc_data_version"`
}

// ScheduledRevision is a scheduled change as it was.
type ScheduledRevision struct {
	Version   int64           `json:"version"`
	At        time.Time       `json:"at"`
	By        string          `json:"by"`
	Scheduled time.Time       `json:"scheduled"`
	Body      json.RawMessage `json:"body,omitempty"`
}

// maxRevisions bounds how many revisions of a scheduled change are kept, the newest ones.
const maxRevisions = 200

// Revise notes a scheduled change as it becomes; body is that of its operation.
func (c *ScheduledChange) Revise(version int64, at time.Time, by string, when time.Time, body json.RawMessage) {
	if len(c.Parts) > 0 {
		for i := range c.Parts {
			c.Parts[i].Version++
		}
		return
	}
	c.Revisions = append(c.Revisions, ScheduledRevision{version, at, by, when, body})
	c.Revisions = c.Revisions[max(0, len(c.Revisions)-maxRevisions):]
}

// Touch notes that a part of a release changes, once more or for the first time.
func (c *ScheduledChange) Touch(platform, locale, kind string) {
	for i := range c.Parts {
		if p := &c.Parts[i]; p.Platform == platform && p.Locale == locale {
			p.Version++
			return
		}
	}
	c.Parts = append(c.Parts, ScheduledPart{platform, locale, kind, 1})
}

// hashOf names operations.
func hashOf(operations []byte) string {
	sum := sha256.Sum256(operations)
	return hex.EncodeToString(sum[:])
}

// marshal returns how a draft's operations and change are kept; a change of nobody is nil.
func (d *Draft) marshal() (operations, change []byte, err error) {
	if operations, err = json.Marshal(d.Operations); err != nil || d.Change == nil {
		return operations, nil, err
	}
	change, err = json.Marshal(d.Change)
	return operations, change, err
}

// SaveDraft writes a new draft with its sign-offs and returns its number. Bodies that its operations replace must be objects of the book.
func (b *Book) SaveDraft(ctx context.Context, d Draft) (int64, error) {
	operations, change, err := d.marshal()
	if err != nil {
		return 0, err
	}
	var id int64
	err = b.db.Update(ctx, func(tx *database.Tx) error {
		err := tx.Row(`INSERT INTO drafts (created, author, comment, scheduled, state, reason, operations, version, change) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?) RETURNING id`,
			d.Created.UnixMilli(), d.Author, d.Comment, milli(d.Scheduled), DraftOpen, "", operations, change).Scan(&id)
		if err != nil {
			return err
		}
		return signOff(tx, id, hashOf(operations), d.SignOffs)
	})
	return id, err
}

// UpdateDraft rewrites comment, time, operations and change of an open draft, and adds its sign-offs to those of the new
// operations. One whose version is not that of d any more is ErrBehind.
func (b *Book) UpdateDraft(ctx context.Context, d Draft) error {
	return b.db.Update(ctx, func(tx *database.Tx) error { return updateDraft(tx, d) })
}

func updateDraft(tx *database.Tx, d Draft) error {
	operations, change, err := d.marshal()
	if err != nil {
		return err
	}
	n, err := tx.Affected(`UPDATE drafts SET comment = ?, scheduled = ?, reason = '', operations = ?, change = ?, version = version + 1 WHERE id = ? AND version = ? AND state = 'open'`,
		d.Comment, milli(d.Scheduled), operations, change, d.ID, d.Version)
	if err != nil {
		return err
	}
	if n == 0 {
		if err := openDraft(tx, d.ID); err != nil {
			return err
		}
		return fmt.Errorf("%w: draft %d was changed", ErrBehind, d.ID)
	}
	return signOff(tx, d.ID, hashOf(operations), d.SignOffs)
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func since(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

const draftColumns = `id, created, author, comment, scheduled, state, reason, operations, version, change`

func scanDraft(r row) (Draft, error) {
	d := Draft{SignOffs: []SignOff{}}
	var created, scheduled int64
	var operations, change []byte
	err := r.Scan(&d.ID, &created, &d.Author, &d.Comment, &scheduled, &d.State, &d.Reason, &operations, &d.Version, &change)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ErrNotFound
	}
	if err != nil {
		return d, err
	}
	d.Created, d.Scheduled, d.Hash = since(created), since(scheduled), hashOf(operations)
	if change != nil {
		if err := json.Unmarshal(change, &d.Change); err != nil {
			return d, err
		}
	}
	return d, json.Unmarshal(operations, &d.Operations)
}

// withSignOffs reads the sign-offs of drafts.
func (b *Book) withSignOffs(ctx context.Context, drafts []Draft, err error) ([]Draft, error) {
	if err != nil {
		return nil, err
	}
	for i := range drafts {
		rows, err := b.db.Rows(ctx, `SELECT name, role, at FROM signoffs WHERE draft = ? AND hash = ? ORDER BY at, name`, drafts[i].ID, drafts[i].Hash)
		drafts[i].SignOffs, err = collect(rows, err, func(r row) (s SignOff, err error) {
			var at int64
			err = r.Scan(&s.Name, &s.Role, &at)
			s.At = since(at)
			return s, err
		})
		if err != nil {
			return nil, err
		}
	}
	return drafts, nil
}

// Draft returns one draft.
func (b *Book) Draft(ctx context.Context, id int64) (Draft, error) {
	d, err := scanDraft(b.db.Row(ctx, `SELECT `+draftColumns+` FROM drafts WHERE id = ?`, id))
	list, err := b.withSignOffs(ctx, []Draft{d}, err)
	if err != nil {
		return Draft{}, err
	}
	return list[0], nil
}

// Drafts returns the open drafts, the oldest first.
func (b *Book) Drafts(ctx context.Context) ([]Draft, error) {
	rows, err := b.db.Rows(ctx, `SELECT `+draftColumns+` FROM drafts WHERE state = 'open' ORDER BY id`)
	list, err := collect(rows, err, scanDraft)
	return b.withSignOffs(ctx, list, err)
}

// ScheduledChanges returns the drafts of Balrog's API, the oldest first, at most the newest thousand: the open ones, or with closed those that were published, too.
func (b *Book) ScheduledChanges(ctx context.Context, closed bool) ([]Draft, error) {
	q := `state = 'open'`
	if closed {
		q = `state <> 'withdrawn'`
	}
	rows, err := b.db.Rows(ctx, `SELECT `+draftColumns+` FROM (SELECT `+draftColumns+` FROM drafts WHERE change IS NOT NULL AND `+q+` ORDER BY id DESC LIMIT 1000) AS newest ORDER BY id`)
	list, err := collect(rows, err, scanDraft)
	return b.withSignOffs(ctx, list, err)
}

// PublishedBy returns the snapshot that a draft became.
func (b *Book) PublishedBy(ctx context.Context, draft int64) (Snapshot, error) {
	return scanSnapshot(b.db.Row(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE draft = ? AND draft <> 0`, draft))
}

// SignOff notes that somebody agrees to an open draft with a hash; signing again replaces the role. Another hash is ErrBehind.
func (b *Book) SignOff(ctx context.Context, id int64, hash string, s SignOff) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		if err := openDraft(tx, id); err != nil {
			return err
		}
		var operations []byte
		if err := tx.Row(`SELECT operations FROM drafts WHERE id = ?`, id).Scan(&operations); err != nil {
			return err
		}
		if got := hashOf(operations); got != hash {
			return fmt.Errorf("%w: draft %d has the hash %s", ErrBehind, id, got)
		}
		return signOff(tx, id, hash, []SignOff{s})
	})
}

func signOff(tx *database.Tx, id int64, hash string, list []SignOff) error {
	for _, s := range list {
		if err := tx.Exec(`INSERT INTO signoffs (draft, hash, name, role, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (draft, hash, name) DO UPDATE SET role = excluded.role, at = excluded.at`, id, hash, s.Name, s.Role, milli(s.At)); err != nil {
			return err
		}
	}
	return nil
}

// RevokeSignOff takes somebody's sign-off from an open draft. If there is none that is ErrNotFound.
func (b *Book) RevokeSignOff(ctx context.Context, id int64, hash, name string) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		if err := openDraft(tx, id); err != nil {
			return err
		}
		n, err := tx.Affected(`DELETE FROM signoffs WHERE draft = ? AND hash = ? AND name = ?`, id, hash, name)
		if err != nil || n > 0 {
			return err
		}
		return fmt.Errorf("%w: no sign-off of %s", ErrNotFound, name)
	})
}

// Withdraw closes a draft without publishing it.
func (b *Book) Withdraw(ctx context.Context, id int64) error {
	return b.db.Update(ctx, func(tx *database.Tx) error { return closeDraft(tx, id, DraftWithdrawn, "") })
}

// Unschedule takes the time off a draft that could not be published, and notes why.
func (b *Book) Unschedule(ctx context.Context, id int64, reason string) error {
	return b.db.Update(ctx, func(tx *database.Tx) error {
		return tx.Exec(`UPDATE drafts SET scheduled = 0, reason = ? WHERE id = ? AND state = 'open'`, reason, id)
	})
}

func closeDraft(tx *database.Tx, id int64, to, reason string) error {
	n, err := tx.Affected(`UPDATE drafts SET state = ?, reason = ? WHERE id = ? AND state = 'open'`, to, reason, id)
	if err != nil || n == 1 {
		return err
	}
	return openDraft(tx, id)
}

// openDraft is an error unless a draft is open.
func openDraft(tx *database.Tx, id int64) error {
	var was string
	err := tx.Row(`SELECT state FROM drafts WHERE id = ?`, id).Scan(&was)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case err != nil || was == DraftOpen:
		return err
	}
	return fmt.Errorf("%w: it is %s", ErrClosedDraft, was)
}

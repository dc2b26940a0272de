// Package ledger is the book that partiald keeps: who asked for what and when, every step of every job, everything that
// operators did, and what came of it. What a call has written survives kill -9 and a power cut once the call returned.
//
// The book is an SQLite file of one server ([OpenSQLite]) or a PostgreSQL database that servers may share
// ([OpenPostgres]). Both are the same to those who use it:
//
//	jobs        one row for each job: what was asked for and how it stands
//	sources     which jobs there are for a complete update, by its hashes
//	changes     one row for each step in a job's life, unique by job and number, so that it does not matter how many
//	            servers write it down
//	actions     one row for everything that a person did, asking for a job included
//	batches     which jobs were asked for together
package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Options change a Ledger. The zero value is ready for use.
type Options = database.Options

// Ledger is an open book. It is safe for concurrent use. Errors are those of the database; a job or batch that is not
// there is a [*job.Error] with CodeNotFound.
type Ledger struct {
	*database.DB
	searches chan struct{} // as many as there may be at a time
}

// OpenSQLite opens the book in a file, which is made, for its owner alone, where there is none. Writes are in the file
// and synced before they return; those that come at one time share the sync.
func OpenSQLite(ctx context.Context, file string, opts *Options) (*Ledger, error) {
	return newLedger(database.OpenSQLite(ctx, file, schema, opts))
}

// OpenPostgres opens the book in a PostgreSQL database; dsn is an address or a list of settings as libpq takes them.
// Several servers may share the database.
func OpenPostgres(ctx context.Context, dsn string, opts *Options) (*Ledger, error) {
	return newLedger(database.OpenPostgres(ctx, dsn, schema, opts))
}

func newLedger(db *database.DB, err error) (*Ledger, error) {
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &Ledger{db, make(chan struct{}, max(1, db.Connections()/4))}, nil
}

// tx is a transaction.
type tx struct{ *database.Tx }

// update runs do in a transaction and returns when it is durable. do may be run again after a failure.
func (l *Ledger) update(ctx context.Context, do func(tx) error) error {
	return l.Update(ctx, func(t *database.Tx) error { return do(tx{t}) })
}

// Entry is a job as it stands in the book.
type Entry struct {
	// Status is how it stands; the address in its Spec are without credentials. Get fills in all of its Changes, the
	// other methods none.
	Status job.Status
	// Spec is what was asked for, with whatever credentials its addresses have.
	Spec job.Spec
	// Seq is the number of its last change.
	Seq int64
	// Asker is whose share of the queue it counts against; Accept leaves it as it is where this is empty.
	Asker string

	n int64
}

// Accept writes down, all or nothing, that jobs were asked for: each job, where it is not there yet, with what happened
// to it; else what is new about it. The spec of each replaces the one before. actions, of which there may be none, go
// into the book with them, and so does batch, if it is not nil, with its ID, time, the IDs of its jobs, and what has
// no partner.
func (l *Ledger) Accept(ctx context.Context, jobs []Entry, actions []job.Action, batch *job.Batch) error {
	jobs = slices.SortedFunc(slices.Values(jobs), func(a, b Entry) int { return strings.Compare(a.Status.ID, b.Status.ID) })
	return l.update(ctx, func(tx tx) error {
		for i := range jobs {
			if err := tx.accept(&jobs[i]); err != nil {
				return err
			}
		}
		for i := range actions {
			if _, err := tx.act(&actions[i]); err != nil {
				return err
			}
		}
		if batch == nil {
			return nil
		}
		unmatched := ""
		if len(batch.Unmatched) > 0 {
			unmatched = encode(batch.Unmatched)
		}
		if err := tx.Exec(`INSERT INTO batches (id, created, unmatched) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET unmatched = excluded.unmatched`,
			batch.ID, micros(batch.Created), unmatched); err != nil {
			return err
		}
		for i, s := range batch.Jobs {
			if err := tx.Exec(`INSERT INTO batch_jobs (batch, position, job) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
				batch.ID, i, s.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// What a complete update is to a job, in sources.
const (
	sideFrom = "from"
	sideTo   = "to"
)

func (t tx) accept(e *Entry) error {
	s := &e.Status
	spec, err := json.Marshal(e.Spec)
	if err != nil {
		return err
	}
	public, err := json.Marshal(s.Spec)
	if err != nil {
		return err
	}
	if err := t.Exec(`INSERT INTO jobs (id, spec, public, product, locale, words, created, state, attempt, seq, updated, server, result, error, purged, asker)
		VALUES (?, ?, ?, ?, ?, ?, ?, '', 0, 0, 0, '', '', '', 0, ?)
		ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, public = excluded.public, words = excluded.words,
		asker = CASE WHEN excluded.asker = '' THEN jobs.asker ELSE excluded.asker END`,
		s.ID, string(spec), string(public), s.Spec.Product, s.Spec.Locale, words(s), micros(s.Created), e.Asker); err != nil {
		return err
	}
	var rows []string // in one statement: a batch has very many jobs, and a database elsewhere is asked for each
	var args []any
	for _, source := range []struct{ hash, side string }{
		{s.Spec.From.SHA512, sideFrom}, {s.Spec.From.SHA256, sideFrom}, {s.Spec.To.SHA512, sideTo}, {s.Spec.To.SHA256, sideTo},
	} {
		if source.hash != "" {
			rows, args = append(rows, "(?, ?, ?)"), append(args, strings.ToLower(source.hash), source.side, s.ID)
		}
	}
	if len(rows) > 0 {
		if err := t.Exec(`INSERT INTO sources (hash, side, job) VALUES `+strings.Join(rows, ", ")+` ON CONFLICT DO NOTHING`, args...); err != nil {
			return err
		}
	}
	_, err = t.follow(s)
	return err
}

// Follow writes down what is new about a job that is in the book, and says whether it is.
func (l *Ledger) Follow(ctx context.Context, s *job.Status) (known bool, err error) {
	err = l.update(ctx, func(tx tx) (err error) {
		known, err = tx.follow(s)
		return err
	})
	return known, err
}

func (t tx) follow(s *job.Status) (known bool, err error) {
	result, failure, code, more := "", "", "", encode(moreOf(s))
	if s.Result != nil {
		result = encode(s.Result)
	}
	if s.Error != nil {
		failure, code = encode(s.Error), string(s.Error.Code)
	}
	seq := int64(0)
	for _, c := range s.Changes {
		seq = max(seq, c.Seq)
	}
	changed, err := t.Affected(`UPDATE jobs SET state = ?, attempt = ?, seq = ?, updated = ?, server = ?, result = ?, error = ?, code = ?, purged = ?, more = ?
		WHERE id = ? AND seq < ?`,
		string(s.State), s.Attempt, seq, micros(s.Updated), s.Server, result, failure, code, micros(s.Purged), more, s.ID, seq)
	if err != nil {
		return false, err
	}
	if changed > 0 && (s.Result != nil || s.About != nil) { // now it is known what the completes say of themselves
		var product string
		if s.Result != nil {
			product = s.Result.Product
		} else {
			product = s.About.Product
		}
		if err := t.Exec(`UPDATE jobs SET words = ?, product = CASE WHEN product = '' THEN ? ELSE product END WHERE id = ?`,
			words(s), product, s.ID); err != nil {
			return false, err
		}
	}
	if changed == 0 {
		var n int64
		err := t.Row(`SELECT n FROM jobs WHERE id = ?`, s.ID).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	for _, c := range s.Changes {
		if err := t.Exec(`INSERT INTO changes (job, seq, state, at, attempt, server, reason) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (job, seq) DO NOTHING`,
			s.ID, c.Seq, string(c.State), micros(c.At), c.Attempt, c.Server, c.Reason); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Forget removes a job whose first request was refused after it had been accepted, and what was written with it.
func (l *Ledger) Forget(ctx context.Context, id string) error {
	return l.update(ctx, func(tx tx) error {
		for _, q := range []string{
			`DELETE FROM changes WHERE job = ?`, `DELETE FROM sources WHERE job = ?`, `DELETE FROM actions WHERE job = ?`, `DELETE FROM jobs WHERE id = ?`,
		} {
			if err := tx.Exec(q, id); err != nil {
				return err
			}
		}
		return nil
	})
}

const columns = `n, id, spec, public, created, state, attempt, seq, updated, server, result, error, purged, more, asker`

// more is what the book has of a job beside its columns.
type more struct {
	By       string        `json:"by,omitempty"`
	About    *job.About    `json:"about,omitempty"`
	Attempts []job.Attempt `json:"attempts,omitempty"`
	Next     *job.Next     `json:"next,omitempty"`
}

func moreOf(s *job.Status) more { return more{s.By, s.About, s.Attempts, s.Next} }

func scan(rows interface{ Scan(...any) error }) (Entry, error) {
	var e Entry
	s := &e.Status
	var spec, public, state, result, failure, rest string
	var other more
	var created, updated, purged int64
	if err := rows.Scan(&e.n, &s.ID, &spec, &public, &created, &state, &s.Attempt, &e.Seq, &updated, &s.Server, &result, &failure, &purged, &rest, &e.Asker); err != nil {
		return e, err
	}
	s.State, s.Created, s.Updated, s.Purged = job.State(state), at(created), at(updated), at(purged)
	s.Progress.Total = -1
	for _, part := range []struct {
		text string
		into any
	}{{spec, &e.Spec}, {public, &s.Spec}, {result, &s.Result}, {failure, &s.Error}, {rest, &other}} {
		if part.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(part.text), part.into); err != nil {
			return e, fmt.Errorf("ledger: job %s: %w", s.ID, err)
		}
	}
	s.By, s.About, s.Attempts, s.Next = other.By, other.About, other.Attempts, other.Next
	return e, nil
}

// Get returns a job with all of its changes.
func (l *Ledger) Get(ctx context.Context, id string) (Entry, error) {
	e, err := scan(l.Row(ctx, `SELECT `+columns+` FROM jobs WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return e, job.Errorf(job.CodeNotFound, "no job %s", id)
	}
	if err != nil {
		return e, err
	}
	// Not those that were written since: they came with another state.
	rows, err := l.Rows(ctx, `SELECT seq, state, at, attempt, server, reason FROM changes WHERE job = ? AND seq <= ? ORDER BY seq`, id, e.Seq)
	if err != nil {
		return e, err
	}
	defer rows.Close() //nolint:errcheck // what it says, Err says as well
	for rows.Next() {
		var c job.Change
		var state string
		var when int64
		if err := rows.Scan(&c.Seq, &state, &when, &c.Attempt, &c.Server, &c.Reason); err != nil {
			return e, err
		}
		c.State, c.At = job.State(state), at(when)
		e.Status.Changes = append(e.Status.Changes, c)
	}
	return e, rows.Err()
}

// page is how many jobs Open reads at a time.
const page = 500

// Open yields the jobs that are not in a final state, those first that were asked for first. Jobs that come or end
// meanwhile may be among them or not. It ends after the first error.
func (l *Ledger) Open(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for after := int64(0); ; {
			entries, err := l.entries(ctx, `SELECT `+columns+` FROM jobs WHERE state NOT IN ('done', 'failed', 'cancelled') AND n > ?
				ORDER BY n LIMIT ?`, after, page)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if after = e.n; !yield(e, nil) {
					return
				}
			}
			if len(entries) < page {
				return
			}
		}
	}
}

// CountOpen returns how many jobs are not in a final state.
func (l *Ledger) CountOpen(ctx context.Context) (n int, err error) {
	// The condition on n leads SQLite to the index that has these alone.
	err = l.Row(ctx, `SELECT count(*) FROM jobs WHERE state NOT IN ('done', 'failed', 'cancelled') AND n > 0`).Scan(&n)
	return n, err
}

// CountOpenOf returns how many of these count against somebody's share.
func (l *Ledger) CountOpenOf(ctx context.Context, asker string) (n int, err error) {
	err = l.Row(ctx, `SELECT count(*) FROM jobs WHERE state NOT IN ('done', 'failed', 'cancelled') AND asker = ?`, asker).Scan(&n)
	return n, err
}

// Oldest returns since when the job waits that has waited longest; the zero time where none does.
func (l *Ledger) Oldest(ctx context.Context) (time.Time, error) {
	var since int64
	err := l.Row(ctx, `SELECT COALESCE(min(updated), 0) FROM jobs WHERE state = 'queued'`).Scan(&since)
	return at(since), err
}

// CountFailed returns how many jobs have failed with a code, of those not asked for again.
func (l *Ledger) CountFailed(ctx context.Context, code job.Code) (n int, err error) {
	err = l.Row(ctx, `SELECT count(*) FROM jobs WHERE state = 'failed' AND code = ?`, string(code)).Scan(&n)
	return n, err
}

// Limits of a page of the history.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

func limit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return min(n, maxLimit)
}

// where collects conditions.
type where struct {
	text []string
	args []any
}

func (w *where) add(condition string, args ...any) {
	w.text, w.args = append(w.text, condition), append(w.args, args...)
}

func (w *where) String() string {
	if len(w.text) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.text, " AND ")
}

// cursor adds the condition for a page after another.
func (w *where) cursor(column, cursor string) error {
	if cursor == "" {
		return nil
	}
	n, err := strconv.ParseInt(cursor, 36, 64)
	if err != nil || n < 0 {
		return &job.Error{Code: job.CodeRequest, Field: "cursor", Message: "is none that a page had as next"}
	}
	w.add(column+" < ?", n)
	return nil
}

// History returns the jobs that a filter selects, those first that were first asked for last.
func (l *Ledger) History(ctx context.Context, f job.Filter) (job.Page, error) {
	p := job.Page{Jobs: []job.Status{}}
	n := limit(f.Limit)
	query, args, err := selection(f, n+1)
	if err != nil {
		return p, err
	}
	if f.Text != "" || f.Label != "" || f.Who != "" {
		leave, err := l.search(ctx)
		if err != nil {
			return p, err
		}
		defer leave()
	}
	entries, err := l.entries(ctx, query, args...)
	if err != nil {
		return p, err
	}
	if len(entries) > n {
		entries = entries[:n]
		p.Next = strconv.FormatInt(entries[n-1].n, 36)
	}
	for _, e := range entries {
		p.Jobs = append(p.Jobs, e.Status)
	}
	return p, nil
}

// selection is the query for at most n jobs of a filter.
func selection(f job.Filter, n int) (query string, args []any, err error) {
	var w where
	if f.State != "" {
		w.add("state = ?", string(f.State))
	}
	if f.Product != "" {
		w.add("lower(product) = ?", strings.ToLower(f.Product))
	}
	if f.Locale != "" {
		w.add("locale = ?", f.Locale)
	}
	if f.Who != "" {
		w.add("EXISTS (SELECT 1 FROM actions WHERE actions.job = jobs.id AND actions.who = ? AND actions.what = 'submit')", f.Who)
	}
	for _, source := range []struct{ hash, side string }{{f.From, sideFrom}, {f.To, sideTo}} {
		if source.hash != "" {
			w.add("id IN (SELECT job FROM sources WHERE hash = ? AND side = ?)", strings.ToLower(source.hash), source.side)
		}
	}
	if f.Text != "" {
		w.add(`words LIKE ? ESCAPE '!'`, like(f.Text))
	}
	if f.Label != "" { // a line of its own, see words
		line := "\n" + f.Label + "\n"
		if !strings.Contains(f.Label, "=") {
			line = "\n" + f.Label + "="
		}
		w.add(`words || ? LIKE ? ESCAPE '!'`, "\n", like(line))
	}
	// Numbers grow with the times, nearly: they say where to begin and to end, the times themselves what is in between.
	// The sum keeps SQLite from looking for the least number in the order of numbers, which is a look at all jobs.
	if !f.Since.IsZero() {
		w.add("created >= ? AND n >= (SELECT min(n + 0) FROM jobs WHERE created >= ?)", micros(f.Since), micros(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("created < ? AND n <= (SELECT max(n + 0) FROM jobs WHERE created < ?)", micros(f.Until), micros(f.Until))
	}
	if f.Batch != "" {
		w.add("id IN (SELECT job FROM batch_jobs WHERE batch = ?)", f.Batch)
	}
	if err := w.cursor("n", f.Cursor); err != nil {
		return "", nil, err
	}
	return `SELECT ` + columns + ` FROM jobs` + w.String() + ` ORDER BY n DESC LIMIT ?`, append(w.args, n), nil
}

// search waits for its turn: what has to look at everything may not take all connections from those who ask for one job.
func (l *Ledger) search(ctx context.Context) (leave func(), err error) {
	select {
	case l.searches <- struct{}{}:
		return func() { <-l.searches }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Ledger) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := l.Rows(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // what it says, Err says as well
	var entries []Entry
	for rows.Next() {
		e, err := scan(rows)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// Batch returns a batch with the jobs' IDs, and nothing else about them.
func (l *Ledger) Batch(ctx context.Context, id string) (job.Batch, error) {
	b := job.Batch{ID: id}
	var created int64
	var unmatched string
	err := l.Row(ctx, `SELECT created, unmatched FROM batches WHERE id = ?`, id).Scan(&created, &unmatched)
	if errors.Is(err, sql.ErrNoRows) {
		return b, job.Errorf(job.CodeNotFound, "no batch %s", id)
	}
	if err != nil {
		return b, err
	}
	b.Created = at(created)
	if unmatched != "" {
		if err := json.Unmarshal([]byte(unmatched), &b.Unmatched); err != nil {
			return b, err
		}
	}
	rows, err := l.Rows(ctx, `SELECT job FROM batch_jobs WHERE batch = ? ORDER BY position`, id)
	if err != nil {
		return b, err
	}
	defer rows.Close() //nolint:errcheck // what it says, Err says as well
	for rows.Next() {
		var s job.Status
		if err := rows.Scan(&s.ID); err != nil {
			return b, err
		}
		b.Jobs = append(b.Jobs, s)
	}
	return b, rows.Err()
}

// Act writes down what somebody did and returns it with its ID.
func (l *Ledger) Act(ctx context.Context, a job.Action) (job.Action, error) {
	err := l.update(ctx, func(tx tx) (err error) {
		a.ID, err = tx.act(&a)
		return err
	})
	return a, err
}

func (t tx) act(a *job.Action) (id int64, err error) {
	err = t.Row(`INSERT INTO actions (at, server, who, address, request, what, job, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING n`,
		micros(a.At), a.Server, a.Who.Name, a.Who.Address, a.Who.RequestID, a.What, a.Job, a.Detail).Scan(&id)
	return id, err
}

// Actions returns what people did, the last first. Of the filter Who, Text (in what was done, to which job, and the
// detail), Since, Until, Limit and Cursor count; the cursor of the next page is the last ID in base 36.
func (l *Ledger) Actions(ctx context.Context, f job.Filter) ([]job.Action, error) {
	var w where
	if f.Who != "" {
		w.add("who = ?", f.Who)
	}
	if f.Text != "" {
		w.add(`lower(what || ' ' || job || ' ' || detail) LIKE ? ESCAPE '!'`, like(f.Text))
	}
	if !f.Since.IsZero() {
		w.add("at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("at < ?", micros(f.Until))
	}
	if err := w.cursor("n", f.Cursor); err != nil {
		return nil, err
	}
	if len(w.text) > 0 {
		leave, err := l.search(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	rows, err := l.Rows(ctx, `SELECT n, at, server, who, address, request, what, job, detail FROM actions`+w.String()+
		` ORDER BY n DESC LIMIT ?`, append(w.args, limit(f.Limit))...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // what it says, Err says as well
	actions := []job.Action{}
	for rows.Next() {
		var a job.Action
		var when int64
		if err := rows.Scan(&a.ID, &when, &a.Server, &a.Who.Name, &a.Who.Address, &a.Who.RequestID, &a.What, &a.Job, &a.Detail); err != nil {
			return nil, err
		}
		a.At = at(when)
		actions = append(actions, a)
	}
	return actions, rows.Err()
}

// micros is how times stand in the book: microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func at(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // these are plain values
	}
	return string(b)
}

// words is the text that the history is searched in.
func words(s *job.Status) string {
	w := []string{s.ID, s.Spec.Product, s.Spec.Platform, s.Spec.Locale, s.Spec.Channel, s.Spec.ProductVersion}
	for _, source := range []job.Source{s.Spec.From, s.Spec.To} {
		w = append(w, source.SHA512, source.SHA256, source.Name)
		for _, u := range source.URLs {
			if plain, err := url.PathUnescape(u); err == nil && plain != u {
				w = append(w, plain)
			}
			w = append(w, u)
		}
	}
	for name, value := range s.Spec.Labels {
		w = append(w, name+"="+value)
	}
	if a := s.About; a != nil {
		w = append(w, a.Product, a.FromVersion, a.ToVersion, a.FromBuild, a.ToBuild)
	}
	if r := s.Result; r != nil {
		w = append(w, r.Name, r.Product, r.FromVersion, r.ToVersion, r.SHA512, r.SHA256)
	}
	return strings.ToLower(strings.Join(w, "\n"))
}

func like(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(text)) + "%"
}

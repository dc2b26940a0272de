package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite" // it registers the driver "sqlite"
)

// dialect is in what the databases differ.
type dialect struct {
	name   string
	shared bool
	schema []string // each brings the schema from the version before to the next
	lock   string   // keeps others from doing that at the same time; "" where the transaction does
	rebind func(string) string
}

// OpenSQLite opens the book in a file, which is made, for its owner alone, where there is none. Writes are in the file
// and synced before they return; those that come at one time share the sync.
func OpenSQLite(ctx context.Context, file string, opts *Options) (*Ledger, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	open := func(connections int, options ...string) (*sql.DB, error) {
		u := url.URL{Scheme: "file", Path: file}
		q := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "synchronous(FULL)"}, options...)}
		q.Set("_txlock", "immediate")
		u.RawQuery = q.Encode()
		db, err := sql.Open("sqlite", u.String())
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		return db, nil
	}
	// The first connection changes the file to a write-ahead log, so that readers do not wait for the writer.
	write, err := open(1, "journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	read, err := open(opts.connections(), "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	d := dialect{name: "SQLite", schema: sqliteSchema, rebind: func(q string) string { return q }}
	return start(ctx, d, read, write, opts, make(chan op))
}

// OpenPostgres opens the book in a PostgreSQL database; dsn is an address or a list of settings as libpq takes them.
// Several servers may share the database.
func OpenPostgres(ctx context.Context, dsn string, opts *Options) (*Ledger, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "partiald"
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(opts.connections())
	db.SetMaxIdleConns(opts.connections())
	db.SetConnMaxIdleTime(5 * time.Minute)
	d := dialect{name: "PostgreSQL", shared: true, schema: postgresSchema, lock: `SELECT pg_advisory_xact_lock(7350441)`, rebind: numbered}
	return start(ctx, d, db, db, opts, nil)
}

// CheckDSN says what is wrong with how to connect to PostgreSQL, without trying it.
func CheckDSN(dsn string) error {
	_, err := pgx.ParseConfig(dsn)
	return err
}

func (o *Options) connections() int {
	if o == nil || o.Connections <= 0 {
		return 8
	}
	return o.Connections
}

func start(ctx context.Context, d dialect, read, write *sql.DB, opts *Options, ops chan op) (*Ledger, error) {
	l := &Ledger{
		d: d, read: read, write: write, log: slog.New(slog.DiscardHandler), ops: ops, closing: make(chan struct{}),
		searches: make(chan struct{}, max(1, opts.connections()/4)),
	}
	if opts != nil && opts.Log != nil {
		l.log = opts.Log
	}
	if l.ops != nil {
		l.writer.Go(l.writeLoop)
	}
	if opts != nil && opts.Answer > 0 {
		answer, cancel := context.WithTimeout(ctx, opts.Answer)
		err := write.PingContext(answer)
		cancel()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ledger: %w", err), l.Close())
		}
	}
	if err := l.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %w", err), l.Close())
	}
	return l, nil
}

// migrate brings the schema to the newest version.
func (l *Ledger) migrate(ctx context.Context) error {
	return l.update(ctx, func(tx *tx) error {
		if l.d.lock != "" {
			if err := tx.exec(l.d.lock); err != nil {
				return err
			}
		}
		if err := tx.exec(`CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)`); err != nil {
			return err
		}
		var text string
		err := tx.row(`SELECT value FROM meta WHERE name = 'version'`).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			text, err = "0", tx.exec(`INSERT INTO meta (name, value) VALUES ('version', '0')`)
		}
		if err != nil {
			return err
		}
		version, err := strconv.Atoi(text)
		if err != nil || version < 0 {
			return fmt.Errorf("its version is %q, which is none", text)
		}
		if version > len(l.d.schema) {
			return fmt.Errorf("it was written by a newer program: version %d, this one knows %d", version, len(l.d.schema))
		}
		for ; version < len(l.d.schema); version++ {
			l.log.Info("ledger: new schema", "database", l.d.name, "version", version+1)
			for statement := range strings.SplitSeq(l.d.schema[version], ";\n") {
				if err := tx.exec(statement); err != nil {
					return fmt.Errorf("schema %d: %w", version+1, err)
				}
			}
		}
		return tx.exec(`UPDATE meta SET value = ? WHERE name = 'version'`, strconv.Itoa(version))
	})
}

// numbered turns ? into $1, $2, …, for PostgreSQL. No text of ours has a ? in it.
func numbered(q string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(q, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		fmt.Fprintf(&b, "$%d", n)
		q = after
	}
}

// tx is a transaction.
type tx struct {
	ctx context.Context //nolint:containedctx // lives as long as the call that made it
	d   *dialect
	*sql.Tx
}

func (t *tx) exec(q string, args ...any) error {
	_, err := t.affected(q, args...)
	return err
}

func (t *tx) affected(q string, args ...any) (int64, error) {
	r, err := t.ExecContext(t.ctx, t.d.rebind(q), texts(args)...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *tx) row(q string, args ...any) *sql.Row {
	return t.QueryRowContext(t.ctx, t.d.rebind(q), texts(args)...)
}

// texts makes strings such that every database takes them: valid UTF-8 without NUL.
func texts(args []any) []any {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
		}
	}
	return args
}

func (l *Ledger) query(ctx context.Context, q string, args ...any) *sql.Row {
	return l.read.QueryRowContext(ctx, l.d.rebind(q), texts(args)...)
}

func (l *Ledger) rows(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return l.read.QueryContext(ctx, l.d.rebind(q), texts(args)...)
}

// op is something to be written, in a transaction that others may be in as well.
type op struct {
	ctx  context.Context //nolint:containedctx // that of the call that waits for it
	do   func(*tx) error
	done chan error
}

// maxShared is how many writes share a transaction.
const maxShared = 64

// update runs do in a transaction and returns when it is durable. do may be run again after a failure.
func (l *Ledger) update(ctx context.Context, do func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	if l.ops == nil {
		return l.updateNow(ctx, do)
	}
	o := op{ctx, do, make(chan error, 1)}
	select {
	case l.ops <- o:
		return <-o.done // it is under way; what ends ctx does not undo it
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	}
}

// updateNow runs do in a transaction of its own, again where another one was in its way.
func (l *Ledger) updateNow(ctx context.Context, do func(*tx) error) error {
	for try := 0; ; try++ {
		err := l.together(ctx, []op{{ctx: ctx, do: do}})
		var pg *pgconn.PgError
		if try < 4 && errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") { // serialization failure, deadlock
			continue
		}
		return err
	}
}

// writeLoop is SQLite's only writer.
func (l *Ledger) writeLoop() {
	for {
		var batch []op
		select {
		case o := <-l.ops:
			batch = append(batch, o)
		case <-l.closing:
			return
		}
	more:
		for len(batch) < maxShared {
			select {
			case o := <-l.ops:
				batch = append(batch, o)
			default:
				break more
			}
		}
		err := l.together(context.Background(), batch)
		if err != nil && len(batch) > 1 {
			// One may have spoiled it for all: each on its own.
			for _, o := range batch {
				o.done <- l.together(context.Background(), []op{o})
			}
			continue
		}
		for _, o := range batch {
			o.done <- err
		}
	}
}

// together runs all of batch in one transaction.
func (l *Ledger) together(ctx context.Context, batch []op) error {
	raw, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return spaced(err)
	}
	for _, o := range batch {
		if err := o.do(&tx{ctx, &l.d, raw}); err != nil {
			_ = raw.Rollback() // what cannot be undone is undone by the database when the connection is given up
			return spaced(err)
		}
	}
	return spaced(raw.Commit())
}

// spaced marks errors of a full disk.
func spaced(err error) error {
	var lite *sqlite.Error
	var pg *pgconn.PgError
	if errors.As(err, &lite) && lite.Code()&0xff == 13 || // SQLITE_FULL
		errors.As(err, &pg) && pg.Code == "53100" { // disk_full
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Package database is the book of a service: an SQLite file of one server, or a PostgreSQL database that servers may share.
// Both take the same statements, with ? for what is put in, and the same schema in a few words of its own.
//
//	SERIAL   a number that grows, and is the key
//	INT      a whole number of 64 bits
//	BYTES    bytes
//	END      what follows the definition of a table
//	JSON(column, path)   the text at a path of a document
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite" // it registers the driver "sqlite"
)

// Options change a database. The zero value is ready for use.
type Options struct {
	// Program names the service to PostgreSQL, whose operators see it; "" leaves it out.
	Program string
	// Log receives what is done beside the work, such as bringing a schema up to date; nil discards it.
	Log *slog.Logger
	// Connections bounds the connections to PostgreSQL, or those that read SQLite; 0 means 8.
	Connections int
	// Answer is how long the database may take to answer when it is opened; 0 means as long as the context lasts. A new
	// schema may take longer.
	Answer time.Duration
}

// Errors that callers branch on; test with errors.Is.
var (
	// ErrClosed says that the database was closed.
	ErrClosed = errors.New("the database is closed")
	// ErrInUse says that another program has the database for itself.
	ErrInUse = errors.New("another program has the database for itself")
	// ErrNoSpace says that the disk is full.
	ErrNoSpace = errors.New("no space left for the database")
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	d           dialect
	read, write *sql.DB
	log         *slog.Logger

	ops     chan op // SQLite: what waits to be written; nil for PostgreSQL
	closing chan struct{}
	writer  sync.WaitGroup
	once    sync.Once
	err     error
	alone   *sql.Conn // that holds the lock of [DB.Alone]; nil where there is none
}

// dialect is in what the databases differ.
type dialect struct {
	name   string
	shared bool
	words  words
	older  string   // asks for the version of a schema without a table of it; "" where there is none
	lock   string   // keeps others from changing the schema at the same time; "" where the transaction does
	alone  []string // asks for the lock that one program has; nil where a file keeps others away
	rebind func(string) string
}

// words are how a dialect calls things.
type words struct{ serial, integer, bytes, end, json string }

var jsonPath = regexp.MustCompile(`JSON\((\w+), ([\w.]+)\)`)

// dress puts the words of a dialect into a step of a schema.
func (w *words) dress(step string) string {
	step = strings.NewReplacer("SERIAL", w.serial, " INT ", " "+w.integer+" ", " BYTES ", " "+w.bytes+" ", "END", w.end).Replace(strings.TrimSpace(step))
	return jsonPath.ReplaceAllString(step, w.json)
}

// OpenSQLite opens a file, which is made, for its owner alone, where there is none. Writes are in the file and synced
// before they return; those that come at one time share the sync. Each step of schema brings it from the version before to the
// next; a step that was released is never changed, another one follows it.
func OpenSQLite(ctx context.Context, file string, schema []string, opts *Options) (*DB, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	open := func(connections int, options ...string) (*sql.DB, error) {
		u := url.URL{Scheme: "file", Path: file}
		q := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "synchronous(FULL)"}, options...)}
		q.Set("_txlock", "immediate")
		u.RawQuery = q.Encode()
		db, err := sql.Open("sqlite", u.String())
		if err != nil {
			return nil, err
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
	d := dialect{
		name: "SQLite", older: `PRAGMA user_version`, rebind: func(q string) string { return q },
		words: words{serial: "INTEGER PRIMARY KEY AUTOINCREMENT", integer: "INTEGER", bytes: "BLOB", end: " STRICT", json: "json_extract(${1}, '$$.${2}')"},
	}
	return start(ctx, d, read, write, schema, opts, make(chan op))
}

// OpenPostgres opens a PostgreSQL database; dsn is an address or a list of settings as libpq takes them. Several servers
// may share the database. schema is as for [OpenSQLite].
func OpenPostgres(ctx context.Context, dsn string, schema []string, opts *Options) (*DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if opts != nil && opts.Program != "" && config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = opts.Program
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(opts.connections())
	db.SetMaxIdleConns(opts.connections())
	db.SetConnMaxIdleTime(5 * time.Minute)
	d := dialect{
		name: "PostgreSQL", shared: true, lock: `SELECT pg_advisory_xact_lock(7350441)`, rebind: numbered,
		// One that was killed may hold it for a moment more.
		alone: []string{`SET lock_timeout = '2s'`, `SELECT pg_advisory_lock(7350442)`, `RESET lock_timeout`},
		words: words{serial: "BIGSERIAL PRIMARY KEY", integer: "BIGINT", bytes: "BYTEA", json: "(${1}::json #>> string_to_array('${2}', '.'))"},
	}
	return start(ctx, d, db, db, schema, opts, nil)
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

func start(ctx context.Context, d dialect, read, write *sql.DB, schema []string, opts *Options, ops chan op) (*DB, error) {
	b := &DB{d: d, read: read, write: write, log: slog.New(slog.DiscardHandler), ops: ops, closing: make(chan struct{})}
	if opts != nil && opts.Log != nil {
		b.log = opts.Log
	}
	if b.ops != nil {
		b.writer.Go(b.writeLoop)
	}
	if opts != nil && opts.Answer > 0 {
		answer, cancel := context.WithTimeout(ctx, opts.Answer)
		err := write.PingContext(answer)
		cancel()
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	if err := b.migrate(ctx, schema); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// CopySQLite makes a copy of an SQLite file that others may be writing to, and looks whether it is whole.
func CopySQLite(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: from}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // only read
	// The copy goes into a file that only its owner can read: addresses may have passwords in them.
	empty, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := empty.Close(); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return err
	}
	copied, err := sql.Open("sqlite", "file:"+(&url.URL{Path: to}).EscapedPath()+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { _ = copied.Close() }() // only read
	var verdict string
	if err := copied.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is damaged: %s", verdict)
	}
	f, err := os.Open(to)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Connections says how many connections there may be for reading.
func (b *DB) Connections() int { return b.read.Stats().MaxOpenConnections }

// Shared says whether several servers may have the database open.
func (b *DB) Shared() bool { return b.d.shared }

// String says what kind of database it is.
func (b *DB) String() string { return b.d.name }

// Close closes the database. Calls under way end first. Closing twice is fine.
func (b *DB) Close() error {
	b.once.Do(func() {
		close(b.closing)
		b.writer.Wait()
		if b.alone != nil {
			// The lock ends with the connection, if not before; the database may be gone.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _ = b.alone.ExecContext(ctx, `SELECT pg_advisory_unlock_all()`)
			cancel()
			_ = b.alone.Close()
		}
		b.err = errors.Join(b.write.Close(), b.read.Close())
	})
	return b.err
}

// Alone takes a shared database for one program; another one that asks for it gets [ErrInUse], until this one closes
// it or ends. It has a connection of its own, and is lost with it: what must not be written by two is still to be compared
// when it is written. What is in a file is kept from others by a lock beside it, which is the program's. It is called once.
func (b *DB) Alone(ctx context.Context) error {
	if len(b.d.alone) == 0 {
		return nil
	}
	conn, err := b.write.Conn(ctx)
	if err != nil {
		return err
	}
	for _, statement := range b.d.alone {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			var pg *pgconn.PgError
			if errors.As(err, &pg) && pg.Code == "55P03" { // lock_not_available
				err = ErrInUse
			}
			return errors.Join(err, conn.Close())
		}
	}
	b.alone = conn
	b.write.SetMaxOpenConns(b.write.Stats().MaxOpenConnections + 1)
	return nil
}

// Ping asks the database whether it is there and can be written to.
func (b *DB) Ping(ctx context.Context) error {
	return b.Update(ctx, func(tx *Tx) error {
		return tx.Exec(`UPDATE meta SET value = value WHERE name = 'version'`)
	})
}

// migrate brings the schema to the newest version.
func (b *DB) migrate(ctx context.Context, schema []string) error {
	return b.Update(ctx, func(tx *Tx) error {
		if b.d.lock != "" {
			if err := tx.Exec(b.d.lock); err != nil {
				return err
			}
		}
		if err := tx.Exec(`CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)`); err != nil {
			return err
		}
		var text string
		err := tx.Row(`SELECT value FROM meta WHERE name = 'version'`).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			text, err = "0", nil
			if b.d.older != "" {
				err = tx.Row(b.d.older).Scan(&text)
			}
			if err == nil {
				err = tx.Exec(`INSERT INTO meta (name, value) VALUES ('version', ?)`, text)
			}
		}
		if err != nil {
			return err
		}
		version, err := strconv.Atoi(text)
		if err != nil || version < 0 {
			return fmt.Errorf("its version is %q, which is none", text)
		}
		if version > len(schema) {
			return fmt.Errorf("it was written by a newer program: version %d, this one knows %d", version, len(schema))
		}
		for ; version < len(schema); version++ {
			b.log.Info("new schema", "database", b.d.name, "version", version+1)
			for statement := range strings.SplitSeq(b.d.words.dress(schema[version]), ";\n") {
				if err := tx.Exec(statement); err != nil {
					return fmt.Errorf("schema %d: %w", version+1, err)
				}
			}
		}
		return tx.Exec(`UPDATE meta SET value = ? WHERE name = 'version'`, strconv.Itoa(version))
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

// Tx is a transaction, of the goroutine alone that runs what it was made for.
type Tx struct {
	ctx context.Context //nolint:containedctx // lives as long as the call that made it
	d   *dialect
	tx  *sql.Tx
}

// Exec runs a statement.
func (t *Tx) Exec(q string, args ...any) error {
	_, err := t.Affected(q, args...)
	return err
}

// Affected runs a statement and says how many rows it changed.
func (t *Tx) Affected(q string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(t.ctx, t.d.rebind(q), texts(args)...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Row asks for one row.
func (t *Tx) Row(q string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.ctx, t.d.rebind(q), texts(args)...)
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

// Row asks for one row.
func (b *DB) Row(ctx context.Context, q string, args ...any) *sql.Row {
	return b.read.QueryRowContext(ctx, b.d.rebind(q), texts(args)...)
}

// Rows asks for rows.
func (b *DB) Rows(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return b.read.QueryContext(ctx, b.d.rebind(q), texts(args)...)
}

// op is something to be written, in a transaction that others may be in as well.
type op struct {
	ctx  context.Context //nolint:containedctx // that of the call that waits for it
	do   func(*Tx) error
	done chan error
}

// maxShared is how many writes share a transaction.
const maxShared = 64

// Update runs do in a transaction and returns when it is durable. do may be run again after a failure.
func (b *DB) Update(ctx context.Context, do func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-b.closing:
		return ErrClosed
	default:
	}
	if b.ops == nil {
		return b.updateNow(ctx, do)
	}
	o := op{ctx, do, make(chan error, 1)}
	select {
	case b.ops <- o:
		return <-o.done // it is under way; what ends ctx does not undo it
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return ErrClosed
	}
}

// updateNow runs do in a transaction of its own, again where another one was in its way.
func (b *DB) updateNow(ctx context.Context, do func(*Tx) error) error {
	for try := 0; ; try++ {
		err := b.together(ctx, []op{{ctx: ctx, do: do}})
		var pg *pgconn.PgError
		if try < 4 && errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") { // serialization failure, deadlock
			continue
		}
		return err
	}
}

// writeLoop is SQLite's only writer.
func (b *DB) writeLoop() {
	for {
		var batch []op
		select {
		case o := <-b.ops:
			batch = append(batch, o)
		case <-b.closing:
			return
		}
	more:
		for len(batch) < maxShared {
			select {
			case o := <-b.ops:
				batch = append(batch, o)
			default:
				break more
			}
		}
		err := b.together(context.Background(), batch)
		if err != nil && len(batch) > 1 {
			// One may have spoiled it for all: each on its own.
			for _, o := range batch {
				o.done <- b.together(context.Background(), []op{o})
			}
			continue
		}
		for _, o := range batch {
			o.done <- err
		}
	}
}

// together runs all of batch in one transaction.
func (b *DB) together(ctx context.Context, batch []op) error {
	raw, err := b.write.BeginTx(ctx, nil)
	if err != nil {
		return spaced(err)
	}
	for _, o := range batch {
		if err := o.do(&Tx{ctx, &b.d, raw}); err != nil {
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

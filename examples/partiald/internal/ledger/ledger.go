// Package ledger is the book that partiald keeps: who asked for what and when, every step of every job, everything that
// operators did, and what came of it. A row that was written survives kill -9 and a power cut.
//
// The book is an SQLite file of one server ([OpenSQLite]) or a PostgreSQL database that servers may share
// ([OpenPostgres]). Both are the same to those who use it.
package ledger

import (
	"database/sql"
	"log/slog"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Options change a Ledger. The zero value is ready for use.
type Options struct {
	// Log receives what the ledger does beside its work, such as bringing a schema up to date; nil discards it.
	Log *slog.Logger
	// Connections bounds the connections to PostgreSQL, or those that read SQLite; 0 means 8.
	Connections int
}

// Ledger is an open book. It is safe for concurrent use. Errors are those of the database; a job or batch that is not
// there is a [*job.Error] with CodeNotFound.
type Ledger struct {
	read, write *sql.DB
	log         *slog.Logger
}

// Entry is a job as it stands in the book.
type Entry struct {
	// Status has its state and everything that happened.
	Status job.Status
	// Spec is what was asked for, with whatever credentials its addresses have.
	Spec job.Spec
	// Who asked last.
	Who job.Asker
	// At is when.
	At time.Time
}

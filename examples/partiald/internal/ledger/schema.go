package ledger

import "strings"

// The schema, step by step. A step that was released is never changed; another one follows it.
var (
	sqliteSchema   = []string{dressed(schema1, "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER", " STRICT")}
	postgresSchema = []string{dressed(schema1, "BIGSERIAL PRIMARY KEY", "BIGINT", "")}
)

// dressed puts a dialect's words into a schema: SERIAL is a number that grows, INT one of 64 bits, END what follows the
// definition of a table.
func dressed(schema, serial, integer, end string) string {
	return strings.NewReplacer("SERIAL", serial, " INT ", " "+integer+" ", "END", end).Replace(strings.TrimSuffix(strings.TrimSpace(schema), ";"))
}

const schema1 = `
CREATE TABLE jobs (
	n       SERIAL,
	id      TEXT NOT NULL UNIQUE,
	spec    TEXT NOT NULL,
	public  TEXT NOT NULL,
	product TEXT NOT NULL,
	locale  TEXT NOT NULL,
	words   TEXT NOT NULL,
	created INT NOT NULL,
	state   TEXT NOT NULL,
	attempt INT NOT NULL,
	seq     INT NOT NULL,
	updated INT NOT NULL,
	server  TEXT NOT NULL,
	result  TEXT NOT NULL,
	error   TEXT NOT NULL,
	purged  INT NOT NULL
)END;
CREATE INDEX jobs_open ON jobs (n) WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX jobs_state ON jobs (state, n);
CREATE TABLE changes (
	job     TEXT NOT NULL,
	seq     INT NOT NULL,
	state   TEXT NOT NULL,
	at      INT NOT NULL,
	attempt INT NOT NULL,
	server  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	PRIMARY KEY (job, seq)
)END;
CREATE TABLE actions (
	n       SERIAL,
	at      INT NOT NULL,
	server  TEXT NOT NULL,
	who     TEXT NOT NULL,
	address TEXT NOT NULL,
	request TEXT NOT NULL,
	what    TEXT NOT NULL,
	job     TEXT NOT NULL,
	detail  TEXT NOT NULL
)END;
CREATE INDEX actions_job ON actions (job, who);
CREATE TABLE batches (
	id      TEXT PRIMARY KEY,
	created INT NOT NULL
)END;
CREATE TABLE batch_jobs (
	batch    TEXT NOT NULL,
	position INT NOT NULL,
	job      TEXT NOT NULL,
	PRIMARY KEY (batch, position)
)END;
CREATE INDEX batch_jobs_job ON batch_jobs (job, batch)
`

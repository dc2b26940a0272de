package ledger

import (
	"regexp"
	"strings"
)

// The schema, step by step. A step that was released is never changed; another one follows it.
var sqliteSchema, postgresSchema = dressed(vocabulary{
	serial: "INTEGER PRIMARY KEY AUTOINCREMENT", integer: "INTEGER", end: " STRICT", json: "json_extract(${1}, '$$.${2}')",
}), dressed(vocabulary{
	serial: "BIGSERIAL PRIMARY KEY", integer: "BIGINT", json: "(${1}::json #>> string_to_array('${2}', '.'))",
})

// vocabulary has the words of a dialect: SERIAL is a number that grows, INT one of 64 bits, END what follows the definition of a
// table, JSON(column, path) what is at a path of a document.
type vocabulary struct{ serial, integer, end, json string }

var jsonPath = regexp.MustCompile(`JSON\((\w+), ([\w.]+)\)`)

// dressed puts a dialect's words into the schema.
func dressed(w vocabulary) []string {
	var steps []string
	for _, step := range []string{schema1, schema2, schema3} {
		step = strings.NewReplacer("SERIAL", w.serial, " INT ", " "+w.integer+" ", "END", w.end).Replace(strings.TrimSpace(step))
		steps = append(steps, jsonPath.ReplaceAllString(step, w.json))
	}
	return steps
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

// What else is known of a job, as JSON: who asked for it, what its completes say of themselves, its attempts.
const schema3 = `
ALTER TABLE jobs ADD COLUMN more TEXT NOT NULL DEFAULT ''
`

// Nothing that is looked up all the time, and nothing that selects few, may go through all jobs: their rows are wide.
const schema2 = `
ALTER TABLE jobs ADD COLUMN code TEXT NOT NULL DEFAULT '';
UPDATE jobs SET code = JSON(error, code) WHERE error <> '';
CREATE INDEX jobs_code ON jobs (code, state);
CREATE INDEX jobs_created ON jobs (created, n);
CREATE INDEX jobs_product ON jobs (lower(product), n);
CREATE INDEX jobs_locale ON jobs (locale, n);
CREATE TABLE sources (
	hash TEXT NOT NULL,
	side TEXT NOT NULL,
	job  TEXT NOT NULL,
	PRIMARY KEY (hash, side, job)
)END;
INSERT INTO sources (hash, side, job) SELECT lower(JSON(public, from.sha512)), 'from', id FROM jobs WHERE JSON(public, from.sha512) <> '';
INSERT INTO sources (hash, side, job) SELECT lower(JSON(public, from.sha256)), 'from', id FROM jobs WHERE JSON(public, from.sha256) <> '';
INSERT INTO sources (hash, side, job) SELECT lower(JSON(public, to.sha512)), 'to', id FROM jobs WHERE JSON(public, to.sha512) <> '';
INSERT INTO sources (hash, side, job) SELECT lower(JSON(public, to.sha256)), 'to', id FROM jobs WHERE JSON(public, to.sha256) <> ''
`

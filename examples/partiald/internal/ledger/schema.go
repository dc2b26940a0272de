package ledger

// The schema, step by step, in the words of package database. A step that was released is never changed; another one follows it.
var schema = []string{schema1, schema2, schema3, schema4, schema5}

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

// What of the request for a batch made no job, as JSON.
const schema4 = `
ALTER TABLE batches ADD COLUMN unmatched TEXT NOT NULL DEFAULT ''
`

// Whose share of the queue an open job counts against.
const schema5 = `
ALTER TABLE jobs ADD COLUMN asker TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_open_asker ON jobs (asker) WHERE state NOT IN ('done', 'failed', 'cancelled')
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

package job

import (
	"context"
	"io"
	"time"
)

// Artifact is a finished partial update, for reading at any offset.
type Artifact struct {
	ID     string
	Size   int64
	SHA512 string // hexadecimal
	SHA256 string
	Name   string // to save it as
	Made   time.Time
	io.ReaderAt
	// Location is where the bytes can be had directly, presigned, where a storage plugin offers that; "" else.
	Location string
	io.Closer
}

// Service does the work. Its methods are safe for concurrent use, return a [*Error] for everything that a caller should
// see, and end when ctx does. Job IDs are 64 hexadecimal digits; one that is not known gives [CodeNotFound].
type Service interface {
	// Submit asks for a job. Equal specs are one job, on all servers: created is false where it was known already and
	// is queued, under work or done. One that failed or was cancelled is queued again. When Submit returns without an
	// error the job is in the ledger of this server and cannot be lost any more. A spec that leaves out checks is
	// [CodeForbidden] unless the configuration lets them be left out and who asks is an operator; so is Retry.
	Submit(ctx context.Context, spec Spec, who Asker) (status Status, created bool, err error)
	// SubmitBatch asks for many jobs, all or none. Equal batches are one. The field of an error says which spec it is
	// about, as in "specs[1].from.sha512". unmatched is kept with the batch, up to [MaxUnmatched] of them, in the place of
	// what an equal request before had there.
	SubmitBatch(ctx context.Context, specs []Spec, unmatched []Unmatched, who Asker) (Batch, error)
	Batch(ctx context.Context, id string) (Batch, error)
	// Check says what is wrong with a spec without asking for it, and its job ID.
	Check(spec Spec, who Asker) (id string, err error)

	Status(ctx context.Context, id string) (Status, error)
	// Watch returns the status now and every time it changed. The channel is closed after a final state, when ctx ends,
	// and when the service stops. Slow readers miss what is in between, never the last.
	Watch(ctx context.Context, id string) (<-chan Status, error)
	// Cancel ends a job that waits or is under work. One that is cancelled already stays so, which is no error; for one
	// that is done or failed it is [CodeConflict].
	Cancel(ctx context.Context, id string, who Asker) (Status, error)
	// Retry queues a job again that failed or was cancelled; for any other it is [CodeConflict].
	Retry(ctx context.Context, id string, who Asker) (Status, error)

	// Artifact opens the partial of a job that is done; [CodeNotReady] where it is not. The caller closes it. One that
	// the store lost is CodeNotFound, Retryable, and made again when it is submitted again.
	Artifact(ctx context.Context, id string) (*Artifact, error)
	// Present says whether Artifact would find the partial of a job that is done; it is false for a job that is not. What
	// was there a moment ago is not looked for again.
	Present(ctx context.Context, id string) (bool, error)
	// Report and Provenance are JSON documents as package partial and package senbonzakura write them. There is a report of
	// a job, too, that failed since its update was refused, or not proved.
	Report(ctx context.Context, id string) (Document, error)
	Provenance(ctx context.Context, id string) (Document, error)
	// Log returns the log of a job, lines of JSON.
	Log(ctx context.Context, id string) (io.ReadCloser, error)
	// Upload keeps a complete update for jobs whose source has no URLs. It is read to its end and at most to the
	// configured limit (CodeTooLarge).
	Upload(ctx context.Context, r io.Reader, who Asker) (Upload, error)

	History(ctx context.Context, f Filter) (Page, error)
	Actions(ctx context.Context, f Filter) ([]Action, error)
	Queue(ctx context.Context) (Queue, error)
	// Purge removes artifacts and what belongs to them: of one job, or (id "") all that were made before a time.
	Purge(ctx context.Context, id string, before time.Time, who Asker) (removed int, err error)

	// Take counts n events of key against a limit per window, over all servers, and says whether there were too many
	// and when to come back.
	Take(ctx context.Context, key string, n, limit int, window time.Duration) (ok bool, retryAfter time.Duration, err error)
	Ban(ctx context.Context, b Ban, who Asker) error
	Unban(ctx context.Context, address string, who Asker) error
	// Banned is fast: it asks nobody.
	Banned(address string) (Ban, bool)
	Bans(ctx context.Context) ([]Ban, error)

	Health(ctx context.Context) []Health
	// Ready says whether new work is taken: false from the beginning of a graceful stop.
	Ready() bool
}

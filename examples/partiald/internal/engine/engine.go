// Package engine does the work of partiald: it takes jobs, guards them until they are finished, and makes what they ask
// for with a senbonzakura.Generator. It is the job.Service that the outside speaks to.
package engine

import (
	"context"
	"crypto"
	"log/slog"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Options build an [Engine]. Ledger, Queue, Cache and Disk are required; they stay the caller's to close, after the
// engine.
type Options struct {
	// Server is the name of this server, unique among those that share a queue; "" means the host's name.
	Server string
	// Version is that of the program, for the list of workers.
	Version string

	Ledger *ledger.Ledger
	Queue  *queue.Queue
	// Cache holds everything that is made, and Disk is its tier on disk. Where there is Storage its tier belongs into
	// the cache, as the last one, and so does Queue.Store where the queue has one.
	Cache *cache.Layered
	Disk  *cache.Disk
	// Storage is what the servers share; nil means nothing. Servers that share a queue must share a storage or the
	// queue's bucket.
	Storage *Storage

	// Fetch gets completes. Openers and Prefixes are extended for uploads, Dir is that of Disk.
	Fetch fetch.Options
	// Toolchain selects recipes; nil means toolchain.DefaultSet.
	Toolchain *toolchain.Set
	// Signers sign every partial, in this order.
	Signers []Signer
	// Keys are public keys of which one must have signed FROM and TO; none means that their signatures do not matter.
	Keys []crypto.PublicKey
	// ClientKeys are the public keys that are built into clients: see [senbonzakura.Options].
	ClientKeys []crypto.PublicKey
	// Require is what must hold for a partial before it is signed; nil means senbonzakura.DefaultRequirements.
	Require []senbonzakura.Requirement
	// Formats are those that patches may be in where a request does not say; none means those that FROM's updater is
	// known to apply.
	Formats []string
	// Skip are the checks that operators may leave out; none by default. Signatures cannot be among them, nor what
	// Require needs where there are Signers.
	Skip []senbonzakura.Check
	// Workers is how many files one job works on at a time; 0 means one for each CPU.
	Workers int
	// MaxMemory bounds, in bytes, what diffs and files under work hold together over all jobs; see
	// senbonzakura.Options.
	MaxMemory int64

	// Slots is how many jobs are under work at a time; 0 means 2, less than 0 that this server only takes jobs and
	// leaves the work to others.
	Slots int
	// Downloads is how many jobs may wait for servers that have the complete updates, beside those under work; 0 means
	// 128. What is here already waits for a slot, those of higher priority first.
	Downloads int
	// PerCaller is how many jobs that one caller asked for this server has in hands at a time; 0 means three quarters of
	// Slots and Downloads together. What is beyond is left to wait, or to others.
	PerCaller int
	// Share is how many jobs that one caller asked for may be in the queue, waiting or under work; 0 means half of
	// what the queue holds. More are refused, so that one caller does not fill it for all.
	Share int
	// Attempts is how often a job is begun before it is given up, not counting attempts that were handed back; 0 means 5.
	Attempts int
	// RetryDelay is the wait before a job that failed for a reason that may pass is tried again, doubled each time; 0
	// means 15 s.
	RetryDelay time.Duration
	// JobTimeout ends an attempt that takes longer, from when both completes are here and it has a slot; 0 means 2 h.
	JobTimeout time.Duration
	// RequeueEvery is how often jobs are looked for that the queue lost; 0 means 30 s.
	RequeueEvery time.Duration
	// UploadLimit is the largest upload in bytes; 0 means 500 MiB, which is as much as updaters read.
	UploadLimit int64
	// BatchLimit is the largest number of jobs in a batch; 0 means 1000.
	BatchLimit int
	// PresignFor is how long addresses work that are presigned for callers; 0 means 15 min, less than 0 that none are.
	PresignFor time.Duration

	// Clock says what time it is; nil means time.Now. It is used for what is written down and for when bans end. What
	// has to be waited for is measured by the computer's own, which no correction of the time changes.
	Clock func() time.Time
	// Log receives what happens; nil discards it. No credentials are logged.
	Log *slog.Logger
	// Observer is told what happens, for metrics.
	Observer Observer
}

// Storage is a storage plugin and its tier.
type Storage struct {
	Client *storage.Client
	Tier   *storage.Tier
}

// Signer is a key that signs partials.
type Signer struct {
	// Name is what people call it.
	Name string
	mar.Signer
	// Check says whether it can sign now, for Health; nil means that nobody knows.
	Check func(context.Context) error
}

// Observer has functions that are called when something happens. Each may be nil. They may be called from several
// goroutines at once and must return soon.
type Observer struct {
	// State is called on the server on which a job changed its state.
	State func(id string, from, to job.State)
	// Began is called when a job that was asked for is begun the first time since; waited is how long it waited.
	Began func(id string, waited time.Duration)
	// Step is that of [senbonzakura.Observer]; steps are named like the states.
	Step func(step senbonzakura.Step, took time.Duration)
	// Finished is called for every job that ended on this server; the status has the result or the error.
	Finished func(status job.Status)
	// Requeued is called for every job that the queue had lost.
	Requeued func(id string)
}

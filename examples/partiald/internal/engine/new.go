package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
)

// Engine is a [job.Service] that does the work. Build it with [New].
type Engine struct {
	o     Options
	q     *queue.Queue
	l     *ledger.Ledger
	cache *cache.Layered
	log   *slog.Logger
	fetch *fetch.Client
	gen   *senbonzakura.Generator

	mirror  mirror
	rates   rates
	bans    bans
	workers workers
	asked   recent // who asked for what lately
	present recent // artifacts that were there lately
	checked recent // messages that were in order lately
	fresh   recent // jobs that are on their way from the ledger to the queue

	follow struct {
		sync.Mutex
		pending map[string]record
		busy    bool
		wake    chan struct{}
	}
	places room
	orders orders
	named  atomic.Int64 // how often a key was computed
	gate   gate
	checks singleflight.Group // of Health
	active struct {
		sync.Mutex
		m  map[string]*attempt
		of map[string]int // how many jobs of each caller, see admit
	}

	unwatch context.CancelFunc // of the watches; start's, then the requeue loop's
	deaf    atomic.Bool        // the watches have to be begun again
	sick    chan struct{}      // the queue seems to need repair

	draining atomic.Bool
	// drain ends the taking of jobs, stop everything else; each with a reason.
	drain, stop   context.CancelFunc
	drainCtx, ctx context.Context //nolint:containedctx // the engine's life, not a call's
	slots         sync.WaitGroup
	loops         sync.WaitGroup
	closing       sync.RWMutex // held for writing when loops must not grow any more
	close         sync.Once
}

var _ job.Service = (*Engine)(nil)

// OptionError says which option cannot be used.
type OptionError struct {
	Option string // as in "Storage"
	Reason string
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Reason }

// New returns an engine that works until it is closed: it takes jobs off the queue, and looks after those in the ledger.
// ctx is for the start alone. What is wrong with the options is an [*OptionError].
func New(ctx context.Context, o Options) (*Engine, error) {
	for _, need := range []struct {
		name    string
		missing bool
	}{{"Ledger", o.Ledger == nil}, {"Queue", o.Queue == nil}, {"Cache", o.Cache == nil}, {"Disk", o.Disk == nil}} {
		if need.missing {
			return nil, &OptionError{need.name, "is required"}
		}
	}
	if o.Server == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, &OptionError{"Server", fmt.Sprintf("none is given, and the host has no name: %v", err)}
		}
		o.Server = host
	}
	if o.Queue.Shared() && o.Storage == nil && o.Queue.Store() == nil {
		return nil, &OptionError{"Storage", "servers that share a queue have to share what they make: " +
			"a storage plugin, or the queue's own bucket (Queue.Objects)"}
	}
	if len(o.Signers) > mar.MaxSignatures {
		return nil, &OptionError{"Signers", fmt.Sprintf("%d are given, an update has at most %d signatures", len(o.Signers), mar.MaxSignatures)}
	}
	if o.Require == nil {
		o.Require = senbonzakura.DefaultRequirements()
	}
	for _, c := range o.Skip {
		if why := job.SkipForbidden(c, o.Require, len(o.Signers) > 0); why != "" {
			return nil, &OptionError{"Skip", why}
		}
	}
	def(&o.Slots, 2)
	def(&o.Downloads, 128)
	def(&o.PerCaller, max(1, (max(o.Slots, 0)+o.Downloads)*3/4))
	def(&o.Attempts, 5)
	def(&o.RetryDelay, 15*time.Second)
	def(&o.JobTimeout, 2*time.Hour)
	def(&o.RequeueEvery, 30*time.Second)
	def(&o.UploadLimit, 500<<20)
	def(&o.BatchLimit, 1000)
	def(&o.PresignFor, 15*time.Minute)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{o: o, q: o.Queue, l: o.Ledger, cache: o.Cache, log: slog.New(jobHandler{o.Log.Handler()})}
	e.mirror.init()
	e.follow.pending, e.follow.wake = map[string]record{}, make(chan struct{}, 1)
	e.active.m, e.active.of = map[string]*attempt{}, map[string]int{}
	e.sick = make(chan struct{}, 1)
	e.gate.init(max(o.Slots, 1))
	e.places.ways = map[string]int{}
	e.asked.init(time.Minute)
	e.present.init(time.Minute)
	e.checked.init(checkAfter)
	e.fresh.init(time.Minute)
	e.rates.init()
	if err := e.openGenerator(); err != nil {
		return nil, err
	}
	// Loops end by stop and not by ctx, which is the caller's for the start.
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.drainCtx, e.drain = context.WithCancel(e.ctx)
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func def[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

func (e *Engine) openGenerator() error {
	f := e.o.Fetch
	f.Openers = maps.Clone(f.Openers)
	if f.Openers == nil {
		f.Openers = map[string]fetch.Opener{}
	}
	f.Openers[uploadScheme] = uploads{e}
	if len(f.Prefixes) > 0 {
		f.Prefixes = append(slices.Clone(f.Prefixes), uploadPrefix)
	}
	f.Dir = e.o.Disk.TempDir()
	f.Log = e.log
	var err error
	if e.fetch, err = fetch.New(&f); err != nil {
		return &OptionError{"Fetch", err.Error()}
	}
	var signers []mar.Signer
	for _, s := range e.o.Signers {
		signers = append(signers, s.Signer)
	}
	e.gen, err = senbonzakura.New(senbonzakura.Options{
		Fetch: e.fetch, Cache: e.cache, Toolchain: e.o.Toolchain, Signers: signers, ClientKeys: e.o.ClientKeys, Require: e.o.Require,
		Workers: e.o.Workers, MaxMemory: e.o.MaxMemory, Log: slog.New(quieter{e.log.Handler()}),
		Observe: senbonzakura.Observer{Step: e.o.Observer.Step},
	})
	return err
}

// start begins to watch and to work.
func (e *Engine) start(ctx context.Context) error {
	if e.o.Queue.Shared() && e.o.Storage == nil {
		e.log.WarnContext(ctx, "no storage plugin: what is made is shared in the queue's bucket, which is slow for large artifacts")
	}
	if err := e.watch(ctx); err != nil {
		return err
	}
	e.loops.Go(e.followLoop)
	e.loops.Go(e.requeueLoop)
	e.loops.Go(e.heartbeatLoop)
	if e.o.Slots > 0 {
		for range e.o.Slots + e.o.Downloads {
			e.slots.Go(e.slot)
		}
	}
	e.log.InfoContext(ctx, "engine started", "server", e.o.Server, "slots", max(e.o.Slots, 0), "queue", e.q.String(), "ledger", e.l.String())
	return nil
}

// Ready says whether new work is taken.
func (e *Engine) Ready() bool { return !e.draining.Load() }

// Drain ends the work: no new jobs are taken, those under work are handed back for other servers, or for the next
// start. What is already known can still be read. It returns when that is done, or with ctx's error when that ends. Draining again
// waits for the same end.
func (e *Engine) Drain(ctx context.Context) error {
	if !e.draining.Swap(true) {
		e.log.InfoContext(ctx, "draining")
	}
	e.drain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.slots.Wait()
		e.flush(ctx)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drainFor is how long Close drains.
const drainFor = 10 * time.Second

// Close drains for at most 10 seconds and frees everything. Watchers' channels are closed. Closing twice is fine.
func (e *Engine) Close() error {
	var err error
	e.close.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), drainFor)
		defer cancel()
		err = e.Drain(ctx)
		e.closing.Lock()
		e.stop()
		e.closing.Unlock()
		e.slots.Wait()
		e.loops.Wait()
		e.mirror.stop()
		err = errors.Join(err, e.gen.Close(), e.fetch.Close())
	})
	return err
}

// goLoop runs f beside everything else. Close waits for it. After the engine was closed f is run all the same, and finds
// that it has to end.
func (e *Engine) goLoop(f func()) {
	e.closing.RLock()
	defer e.closing.RUnlock()
	if e.ctx.Err() != nil {
		go f()
		return
	}
	e.loops.Go(f)
}

// now is the time that is written down.
func (e *Engine) now() time.Time { return e.o.Clock().UTC().Truncate(time.Microsecond) }

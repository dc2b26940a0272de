package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// suspectPing is how long a process that missed a deadline has to answer a ping before the next call.
const suspectPing = 500 * time.Millisecond

// Process is a plugin that is kept running: when its process dies or gets stuck, the next call starts another
// one, as the RestartPolicy allows. Make it with Start (or Local), and Close it: without Close the process and
// its private directory stay until the host ends. Safe for concurrent use.
type Process struct {
	name string
	cfg  Config
	log  *slog.Logger

	start func(ctx context.Context, n int) (*instance, error)
	clean func() error     // after the last instance
	now   func() time.Time // counts failures

	quit    chan struct{}  // closed when Close begins
	waiting sync.WaitGroup // watchers and starters
	closing sync.Once
	closed  chan struct{}
	failure error // of Close

	row atomic.Int32 // failures since the last answer

	mu       sync.Mutex
	current  *instance
	attempt  *attempt
	failures []time.Time // within the window
	starts   int
	ended    bool
}

// attempt is a start under way; several calls may wait for one.
type attempt struct {
	done chan struct{}
	inst *instance
	err  error
}

// Start copies the binary that cfg names into a private directory, refuses it with ErrChecksum if its hash is
// not the configured one, starts it and waits until it is healthy. It returns when the plugin can be called,
// or when ctx or the StartTimeout is over. When Start fails, nothing is left of the plugin.
func Start(ctx context.Context, cfg Config, kind Kind) (*Process, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if kind.Name == "" || len(kind.Versions) == 0 {
		return nil, errors.New("plugin kind: needs a name and versions")
	}
	if cfg.Attach != "" {
		return startAttached(ctx, cfg, kind)
	}
	h, err := newHome(cfg.Dir, cfg.Path, cfg.SHA256)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(cfg.Path)
	log := cfg.Logger.With("plugin", name)
	t := newThread()
	p := newProcess(name, cfg, log)
	p.start = func(ctx context.Context, n int) (*instance, error) {
		return launch(ctx, t, cfg, kind, h, launchDir(h, n), log)
	}
	p.clean = func() error {
		t.end()
		return h.remove()
	}
	if _, err := p.live(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("plugin %s: %w", name, err), p.Close())
	}
	return p, nil
}

func newProcess(name string, cfg Config, log *slog.Logger) *Process {
	return &Process{name: name, cfg: cfg, log: log, now: time.Now, quit: make(chan struct{}), closed: make(chan struct{})}
}

// Name returns the plugin's name: the base name of its binary.
func (p *Process) Name() string { return p.name }

// PID returns the number of the process that runs now, or 0 if none does that was started here.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || p.current.dead() {
		return 0
	}
	return p.current.pid
}

// Starts returns how often the process was started, or tried to be, for metrics: more than once means that it ended by
// itself, or was killed because it did not answer.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// Dispense returns a connection to a process that lives, after starting one if need be. It waits for a start,
// and the pause before it, only as long as ctx allows. It returns ErrStopped when the RestartPolicy allows no
// start now, and ErrClosed after Close.
//
// The connection is for the call that comes next: ask again for each call. Its calls end within the
// CallTimeout or ctx, whichever is earlier, and fail with errors that match this package's. A stream's time
// starts anew with each message, as long as ctx allows.
func (p *Process) Dispense(ctx context.Context) (grpc.ClientConnInterface, error) {
	i, err := p.live(ctx)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.name, err)
	}
	return &conn{p: p, inst: i}, nil
}

// Ping asks the plugin's health service, after starting the process if need be.
func (p *Process) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	i, err := p.live(ctx)
	if err != nil {
		return fmt.Errorf("plugin %s: ping: %w", p.name, err)
	}
	if err := i.ping(ctx); err != nil {
		return p.outcome(ctx, i, "ping", err, nil)
	}
	return nil
}

// Close ends the process and removes its files. Calls under way fail. It returns when nothing is left, at most
// about two seconds later, whatever the plugin does. Calling it again waits and returns the same.
func (p *Process) Close() error {
	p.closing.Do(func() {
		p.mu.Lock()
		p.ended = true
		i := p.current
		p.mu.Unlock()
		close(p.quit)
		if i != nil {
			i.stop()
		}
		p.waiting.Wait()
		if p.clean != nil {
			p.failure = p.clean()
		}
		close(p.closed)
	})
	<-p.closed
	return p.failure
}

// live returns an instance that lives as far as one can tell.
func (p *Process) live(ctx context.Context) (*instance, error) {
	for {
		p.mu.Lock()
		if p.ended {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		i := p.current
		if i != nil && !i.dead() {
			p.mu.Unlock()
			if !i.suspect.Load() {
				return i, nil
			}
			if p.clear(ctx, i) {
				return i, nil
			}
			if err := ctx.Err(); err != nil {
				return nil, timedOut(err)
			}
			continue
		}
		a := p.attempt
		if a == nil {
			a = &attempt{done: make(chan struct{})}
			p.attempt = a
			p.waiting.Go(func() { p.try(a, i) })
		}
		p.mu.Unlock()
		select {
		case <-a.done:
			return a.inst, a.err
		case <-ctx.Done():
			return nil, timedOut(context.Cause(ctx))
		}
	}
}

// clear pings an instance that missed a deadline. One that does not answer is killed.
func (p *Process) clear(ctx context.Context, i *instance) bool {
	ping, cancel := context.WithTimeout(ctx, suspectPing)
	defer cancel()
	err := i.ping(ping)
	if err == nil {
		i.suspect.Store(false)
		return true
	}
	if ctx.Err() == nil && !i.dead() {
		p.log.Warn("plugin does not answer: killed", "pid", i.pid, "error", err)
		i.kill()
	}
	if ctx.Err() == nil {
		select {
		case <-i.exited:
		case <-ctx.Done():
		}
	}
	return false
}

// try makes one start, after the pause that is due, and tells those who wait.
func (p *Process) try(a *attempt, before *instance) {
	if before != nil {
		<-before.gone
	}
	a.inst, a.err = p.startAfterPause()
	p.mu.Lock()
	p.attempt = nil
	if a.err != nil && !errors.Is(a.err, errBreaker) {
		p.failed()
	}
	if a.inst != nil {
		p.current = a.inst
		p.waiting.Go(func() { p.watch(a.inst) })
		if p.ended { // Close came while it started and has not seen it
			go a.inst.stop()
			a.inst, a.err = nil, ErrClosed
		}
	}
	p.mu.Unlock()
	close(a.done)
}

// errBreaker marks the refusal to start, which is no failure of the plugin itself.
var errBreaker = errors.New("too many failures")

func (p *Process) startAfterPause() (*instance, error) {
	policy := p.cfg.Restart
	p.mu.Lock()
	p.starts++
	n := p.starts
	now := p.now()
	for len(p.failures) > 0 && now.Sub(p.failures[0]) > policy.Window {
		p.failures = p.failures[1:]
	}
	count := len(p.failures)
	var wait time.Duration
	if count > 0 {
		wait = policy.Window - now.Sub(p.failures[0])
	}
	p.mu.Unlock()
	if n > 1 && policy.Max < 0 {
		return nil, stopped("restart is switched off", errBreaker)
	}
	if policy.Max > 0 && count >= policy.Max {
		return nil, stopped(fmt.Sprintf("%d failures within %v, no start for another %v", count, policy.Window, wait.Round(time.Millisecond)), errBreaker)
	}
	if row := p.row.Load(); row > 0 {
		pause := policy.MaxPause
		if row < 16 {
			pause = min(pause, policy.MinPause<<(row-1))
		}
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.quit:
			return nil, ErrClosed
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.StartTimeout)
	defer cancel()
	p.waiting.Go(func() {
		select {
		case <-p.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	i, err := p.start(ctx, n)
	if err != nil {
		select {
		case <-p.quit:
			return nil, ErrClosed
		default:
		}
		p.log.Warn("plugin did not start", "start", n, "error", err)
		return nil, err
	}
	p.log.Debug("plugin started", "start", n, "pid", i.pid)
	return i, nil
}

// watch waits for an instance to end, by itself or not, and cleans up behind it.
func (p *Process) watch(i *instance) {
	defer close(i.gone)
	<-i.exited
	p.mu.Lock()
	unasked := !p.ended
	if unasked {
		p.failed()
	}
	p.mu.Unlock()
	if unasked {
		p.log.Warn("plugin ended", "pid", i.pid, "state", i.state())
	}
	i.stop()
}

// failed counts a failure. The caller holds mu.
func (p *Process) failed() {
	p.row.Add(1)
	p.failures = append(p.failures, p.now())
	if over := len(p.failures) - max(p.cfg.Restart.Max, 1); over > 0 {
		p.failures = p.failures[over:]
	}
}

package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

// serve runs the service until a signal ends it.
func (a *app) serve(c *config.Config) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		echo, another := time.After(signalEcho), false
		for {
			select {
			case <-echo:
				another = true
			case <-signals:
				if another {
					say(a.stderr, "partiald: second signal: stopped at once\n")
					os.Exit(cli.ExitNo)
				}
			case <-done:
				return
			}
		}
	}()
	if a.chaos != "" && !a.dev {
		return cli.UsageError{Err: errors.New("--chaos is for trying out: it needs --dev")}
	}
	log, err := logger(c, a.stderr)
	if err != nil {
		return c.At("log.level", err)
	}
	if a.variable("GOMEMLIMIT") == "" {
		// Diffs hold what the configuration says; without a limit as much again could be garbage.
		debug.SetMemoryLimit(int64(c.Workers.MaxMemory) + int64(c.Cache.Memory) + memoryBeside)
	}
	s, err := start(ctx, a, c, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it was up
		}
		return err
	}
	return s.until(ctx)
}

// signalEcho is how long after the first signal others are taken for the same one, by way of a process group.
const signalEcho = 300 * time.Millisecond

// memoryBeside is what everything else may take before the garbage collector tries harder: queue, ledger, requests,
// encoders, archives.
const memoryBeside = 512 << 20

// service is a running partiald.
type service struct {
	a        *app
	c        *config.Config
	log      *slog.Logger
	parts    *parts
	own      *ownership
	engine   *engine.Engine
	server   *http.Server
	listener net.Listener
	watchers *sync.WaitGroup
}

// start opens everything. An error is one of the configuration, unless something is broken that no key can mend.
func start(ctx context.Context, a *app, c *config.Config, log *slog.Logger) (_ *service, err error) {
	b := cli.ThisBuild()
	s := &service{a: a, c: c, log: log, watchers: &sync.WaitGroup{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := c.MakeDirectories(); err != nil {
		return s, err
	}
	if s.own, err = own(c); err != nil {
		return s, err
	}
	if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", c.Server.Listen); err != nil {
		return s, c.At("server.listen", err)
	}
	if err := s.own.say(s.listener.Addr().String()); err != nil {
		return s, c.At("data", err)
	}
	m := newMetrics(b, c.Name)
	if s.parts, err = openParts(ctx, c, log, m, a.chaos); err != nil {
		return s, err
	}
	if s.engine, err = newEngine(ctx, c, log, b, m, s.parts); err != nil {
		return s, err
	}
	if err := m.registry.Register(newGauges(s.engine, s.parts.disk)); err != nil {
		return s, err
	}
	options, err := webOptions(c, log, b, m)
	if err != nil {
		return s, err
	}
	handler, err := web.New(s.engine, options)
	var wrong *web.OptionError
	if errors.As(err, &wrong) {
		return s, c.At("the page's "+wrong.Field, err)
	}
	if err != nil {
		return s, err
	}
	if s.parts.monkey != nil {
		handler = s.parts.monkey.Handler(handler)
	}
	s.server = chain.NewServer(handler, log.With("part", "http"))
	if c.Server.TLSCertificate != "" {
		certs := &certificates{certificate: c.Server.TLSCertificate, key: c.Server.TLSKey, log: log}
		s.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.get}
	}
	return s, nil
}

func newEngine(ctx context.Context, c *config.Config, log *slog.Logger, b cli.Build, m *metrics, p *parts) (*engine.Engine, error) {
	fetching, err := fetchOptions(c, log, "partiald/"+b.Version+" (+"+source+")")
	if err != nil {
		return nil, c.At("fetch.private_networks", err)
	}
	if p.monkey != nil {
		fetching.Conn = p.monkey.Conn
	}
	rules, err := c.RuleSet()
	if err != nil {
		return nil, c.At("toolchain.rules", err)
	}
	presign := c.Storage.Presign.Duration
	if presign == 0 {
		presign = -1
	}
	e, err := engine.New(ctx, engine.Options{
		Server: c.Name, Version: b.Version, Ledger: p.ledger, Queue: p.queue, Cache: p.cache, Disk: p.disk, Storage: p.storage,
		Fetch: fetching, Toolchain: rules, Signers: p.signers, Keys: p.keys, ClientKeys: p.clientKeys,
		Require: c.Requirements(), Skip: c.Skippable(), Formats: c.Toolchain.Formats, Workers: c.Workers.Files,
		MaxMemory: int64(c.Workers.MaxMemory), Slots: c.Workers.Slots, Downloads: c.Workers.Downloads,
		PerCaller: c.Workers.PerCaller, Share: c.Queue.PerCaller, Attempts: c.Workers.Attempts,
		RetryDelay: c.Workers.RetryDelay.Duration, JobTimeout: c.Workers.JobTimeout.Duration,
		RequeueEvery: c.Queue.Requeue.Duration, UploadLimit: int64(c.Limits.Upload), BatchLimit: c.Limits.Batch,
		PresignFor: presign, Log: log.With("part", "engine"), Observer: m.observer(),
	})
	var wrong *engine.OptionError
	if errors.As(err, &wrong) {
		return nil, c.At("the engine's "+wrong.Option, err)
	}
	return e, err
}

// roles is what a role of the configuration may do: each includes those before it.
func roles(name string) []web.Role {
	switch name {
	case config.RoleRead:
		return []web.Role{web.RoleRead}
	case config.RoleSubmit:
		return []web.Role{web.RoleRead, web.RoleSubmit}
	case config.RoleOperate:
		return []web.Role{web.RoleRead, web.RoleSubmit, web.RoleOperate}
	}
	return nil
}

// limit is a number in a window; 0 is none.
func limit(n int, window time.Duration) web.Limit {
	if n <= 0 {
		return web.Limit{}
	}
	return web.Limit{Count: n, Window: window}
}

func webOptions(c *config.Config, log *slog.Logger, b cli.Build, m *metrics) (web.Options, error) {
	proxies, err := c.TrustedProxies()
	if err != nil {
		return web.Options{}, c.At("server.trusted_proxies", err)
	}
	o := web.Options{
		Anonymous: roles(c.Auth.Anonymous), AnonymousQuota: limit(c.Auth.Quota, time.Hour),
		Rate: limit(c.Auth.Rate, time.Minute), BanAfter: limit(c.Auth.Failures, 10*time.Minute), BanFor: c.Auth.Ban.Duration,
		TrustedProxies: proxies, ProxyHeader: c.Server.ProxyHeader, Hosts: hosts(c),
		MaxUpload: int64(c.Limits.Upload), MaxWait: c.Limits.Wait.Duration,
		Redirect: c.Storage.Command != "" && c.Storage.Presign.Duration > 0,
		Version:  web.Version{Source: source, Version: b.Version, Commit: b.Commit},
		Skip:     c.Auth.Skip, Uploads: c.Limits.Uploads, UploadsEach: c.Limits.UploadsEach, UploadRate: int64(c.Limits.UploadRate),
		Signs: len(c.Signing.Keys) > 0, Sample: len(c.Signing.Keys) == 0 && len(c.Signing.Trust) == 0,
		Registry: m.registry, Logger: log.With("part", "http"),
	}
	if o.UploadRate == 0 {
		o.UploadRate = -1
	}
	for i := range c.Auth.Tokens {
		t := &c.Auth.Tokens[i]
		sum, err := t.Sum()
		if err != nil {
			return o, c.At(fmt.Sprintf("auth.tokens[%d].hash", i), err)
		}
		quota := t.Quota
		if quota == 0 {
			quota = c.Auth.Quota
		}
		o.Tokens = append(o.Tokens, web.Token{
			Name: t.Name, SHA256: hex.EncodeToString(sum[:]), Roles: roles(t.Role), Quota: limit(quota, time.Hour),
		})
	}
	return o, nil
}

// hosts are the names that requests may be for; none means any.
func hosts(c *config.Config) []string {
	own := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(c.Server.Listen); err == nil && host != "" {
		own = append(own, host)
	}
	if c.Server.PublicURL != "" {
		if u, err := url.Parse(c.Server.PublicURL); err == nil {
			return append(own, u.Hostname())
		}
	}
	if c.Loopback() && len(c.Auth.Tokens) == 0 {
		return own // else any web page could use a name of its own that leads here
	}
	return nil
}

// until serves until ctx ends, and stops gracefully then.
func (s *service) until(ctx context.Context) error {
	scheme, serve := "http", s.server.Serve
	if s.server.TLSConfig != nil {
		scheme, serve = "https", func(l net.Listener) error { return s.server.ServeTLS(l, "", "") }
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(s.listener) }()
	page := scheme + "://" + s.listener.Addr().String() + "/"
	if s.c.Server.PublicURL != "" {
		page = s.c.Server.PublicURL
	}
	s.log.Info("ready", "address", s.listener.Addr().String(), "page", page, "slots", s.c.Workers.Slots,
		"anonymous", s.c.Auth.Anonymous, "tokens", len(s.c.Auth.Tokens), "data", s.c.Data, "cache", s.c.Cache.Dir)
	if cli.Terminal(s.a.stdout) {
		say(s.a.stdout, "\n  partiald is ready: %s\n  (stop it with Ctrl-C)\n\n", page)
	}
	socket := s.a.variable("NOTIFY_SOCKET")
	if err := notify(ctx, socket, "READY=1"); err != nil {
		s.log.Warn("systemd was not told", "error", err)
	}
	watching, unwatch := context.WithCancel(context.Background())
	s.watchers.Go(func() {
		watchdog(watching, socket, s.a.variable("WATCHDOG_USEC"), func(ctx context.Context) bool {
			_, err := ask(ctx, near(scheme, s.listener.Addr().String())+"/__lbheartbeat__", true)
			return err == nil
		})
	})
	if s.parts.monkey != nil {
		s.watchers.Go(func() { s.parts.monkey.Run(watching, s.c.Cache.Dir, s.parts.pids) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		s.log.Error("server failed", "error", err)
	}
	unwatch()
	s.watchers.Wait()
	_ = notify(context.WithoutCancel(ctx), socket, "STOPPING=1") // told or not, it stops
	return errors.Join(err, s.stop())
}

// stop drains: new work is refused from now on, jobs are handed back, requests under way end. What is not done when
// the time is over is cut off; no job is lost by it.
func (s *service) stop() error {
	begin := time.Now()
	s.log.Info("stopping", "within", s.c.Server.StopTimeout.Duration)
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Server.StopTimeout.Duration)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.engine.Drain(ctx) }()
	err := <-drained
	if err != nil {
		s.log.Warn("jobs were not handed back in time; their servers will be missed and others take over", "error", err)
	}
	// Until now who came was told that another server answers; from now on nobody is listened to.
	down := make(chan error, 1)
	go func() { down <- s.server.Shutdown(ctx) }()
	// Watchers of progress end with the engine; other requests get a moment to end before.
	settle := time.NewTimer(min(time.Second, s.c.Server.StopTimeout.Duration/4))
	defer settle.Stop()
	var shut error
	done := false
	select {
	case shut = <-down:
		done = true
	case <-settle.C:
	}
	err = errors.Join(err, s.engine.Close())
	s.engine = nil
	if !done {
		shut = <-down
	}
	if errors.Is(shut, context.DeadlineExceeded) {
		s.log.Warn("requests were cut off")
		shut = s.server.Close()
	}
	err = errors.Join(err, shut, s.close())
	s.log.Info("stopped", "took", time.Since(begin))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // said above
	}
	return err
}

// close closes what is open.
func (s *service) close() error {
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.parts != nil {
		errs = append(errs, s.parts.Close())
	}
	if s.listener != nil {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.own != nil {
		errs = append(errs, s.own.Close())
	}
	return errors.Join(errs...)
}

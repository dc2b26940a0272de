package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/signers"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/chaos"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// answerWithin is how long a server elsewhere may take to answer at the start.
const answerWithin = 4 * time.Second

// parts is everything that the engine stands on.
type parts struct {
	ledger     *ledger.Ledger
	queue      *queue.Queue
	disk       *cache.Disk
	memory     *cache.Memory
	cache      *cache.Layered
	storage    *engine.Storage
	signers    []engine.Signer
	keys       []crypto.PublicKey
	clientKeys []crypto.PublicKey
	monkey     *chaos.Monkey // nil but for --chaos

	mu      sync.Mutex
	close   []func() error // in the order of opening
	running []*plugins.Process
}

// pids are the processes of the plugins, as far as they run now.
func (p *parts) pids() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []int
	for _, r := range p.running {
		if pid := r.PID(); pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// plugin notes a plugin's process.
func (p *parts) plugin(m *metrics, kind, name string, process *plugins.Process) error {
	p.mu.Lock()
	p.running = append(p.running, process)
	p.mu.Unlock()
	return m.plugin(kind, name, process)
}

// unleash prepares the faults of a profile, where there is one.
func (p *parts) unleash(profile string, log *slog.Logger, m *metrics) error {
	if profile == "" {
		return nil
	}
	chosen, err := chaos.Load(profile)
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("--chaos: %w", err)}
	}
	p.monkey, err = chaos.New(chosen, log.With("part", "chaos"), m.registry)
	return err
}

// opened notes how to close something.
func (p *parts) opened(closer func() error) {
	p.mu.Lock()
	p.close = append(p.close, closer)
	p.mu.Unlock()
}

// Close closes everything, the last opened first.
func (p *parts) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i := len(p.close) - 1; i >= 0; i-- {
		errs = append(errs, p.close[i]())
	}
	p.close = nil
	return errors.Join(errs...)
}

// openParts opens everything at the same time and says everything that does not open, each with its key.
func openParts(ctx context.Context, c *config.Config, log *slog.Logger, m *metrics, profile string) (_ *parts, err error) {
	p := &parts{}
	if err := p.unleash(profile, log, m); err != nil {
		return p, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	var mu sync.Mutex
	var broken config.Error
	var wg sync.WaitGroup
	for _, part := range []func(context.Context, *config.Config, *slog.Logger, *metrics) (string, error){
		p.openLedger, p.openQueue, p.openCache, p.openStorage, p.openSigning,
	} {
		wg.Go(func() {
			key, err := part(ctx, c, log, m)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			var problems *config.Error
			if errors.As(c.At(key, err), &problems) {
				broken.Problems = append(broken.Problems, problems.Problems...)
			}
		})
	}
	wg.Wait()
	if len(broken.Problems) > 0 {
		return p, &broken
	}
	return p, p.layer(c, log, m)
}

func (p *parts) openLedger(ctx context.Context, c *config.Config, log *slog.Logger, _ *metrics) (string, error) {
	dsn, err := c.PostgresDSN()
	if err != nil {
		return c.PostgresKey(), err
	}
	opts := &ledger.Options{Log: log.With("part", "ledger"), Answer: answerWithin}
	if dsn == "" {
		if p.ledger, err = ledger.OpenSQLite(ctx, c.Ledger.SQLite, opts); err != nil {
			return "ledger.sqlite", fmt.Errorf("%s: %w", c.Ledger.SQLite, err)
		}
	} else if p.ledger, err = ledger.OpenPostgres(ctx, dsn, opts); err != nil {
		return c.PostgresKey(), err
	}
	p.opened(p.ledger.Close)
	return "", nil
}

func (p *parts) openQueue(ctx context.Context, c *config.Config, log *slog.Logger, _ *metrics) (string, error) {
	q := &c.Queue
	tlsConfig, err := c.QueueTLS()
	if err != nil {
		return "queue.tls_certificate", err
	}
	opts := queue.Options{
		Server: c.Name, Prefix: q.Prefix, Dir: q.Dir, Lazy: q.Lazy, Listen: q.Listen, URLs: q.URLs, Credentials: q.Credentials,
		Replicas: q.Replicas, Limit: q.Limit, AckWait: q.AckWait.Duration, Timeout: q.Timeout.Duration, Objects: q.Objects,
		Log: log.With("part", "queue"),
	}
	key := "queue.dir"
	switch {
	case !c.Embedded():
		key, opts.TLS = "queue.urls", tlsConfig
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	case q.ClusterListen != "":
		// The others may start later: this waits for them, until somebody stops it.
		key, opts.StartTimeout = "queue.cluster_listen", 100*365*24*time.Hour
		word, err := c.ClusterSecret()
		if err != nil {
			return "queue.cluster_secret_file", err
		}
		opts.Cluster = &queue.Cluster{Listen: q.ClusterListen, Routes: q.ClusterRoutes, Secret: word, TLS: tlsConfig}
	}
	if p.queue, err = queue.Open(ctx, opts); err != nil {
		return key, err
	}
	p.opened(p.queue.Close)
	return "", nil
}

func (p *parts) openCache(ctx context.Context, c *config.Config, log *slog.Logger, _ *metrics) (string, error) {
	limits := map[cache.Kind]cache.Limit{}
	for kind, size := range map[cache.Kind]config.Size{
		cache.Completes: c.Cache.Completes, cache.Patches: c.Cache.Patches, cache.Partials: c.Cache.Partials,
		senbonzakura.Reports: c.Cache.Reports, engine.KindDocs: c.Cache.Reports, engine.KindLogs: c.Cache.Reports,
	} {
		limits[kind] = cache.Limit{Bytes: int64(size), Age: c.Cache.Age.Duration}
	}
	var err error
	if p.disk, err = cache.OpenDisk(ctx, c.Cache.Dir, &cache.DiskOptions{Limits: limits, Log: log.With("part", "cache")}); err != nil {
		return "cache.dir", err
	}
	p.opened(p.disk.Close)
	if c.Cache.Memory > 0 {
		if p.memory, err = cache.NewMemory(&cache.MemoryOptions{Bytes: int64(c.Cache.Memory)}); err != nil {
			return "cache.memory", err
		}
		p.opened(p.memory.Close)
	}
	return "", nil
}

func (p *parts) openStorage(ctx context.Context, c *config.Config, log *slog.Logger, m *metrics) (string, error) {
	s := &c.Storage
	if s.Command == "" {
		return "", nil
	}
	client, err := storage.Start(ctx, s.Start(log.With("part", "storage")))
	if err != nil {
		return "storage.command", err
	}
	p.opened(client.Close)
	seal, err := c.Seal()
	if err != nil {
		return "storage.seal_file", err
	}
	process := client.Process()
	if p.monkey != nil {
		if client, err = p.monkey.Store(client); err != nil {
			return "storage.command", err
		}
		p.opened(client.Close)
	}
	tier, err := storage.NewTier(client, &storage.TierOptions{Prefix: s.Prefix, TempDir: os.TempDir(), Secret: seal})
	if err != nil {
		return "storage.prefix", err
	}
	// A store that does not answer now is one that nobody configured right; later it may come and go.
	check, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if _, _, err := client.List(check, s.Prefix, "", 1); err != nil {
		return "storage.command", fmt.Errorf("the plugin cannot use its store: %w", err)
	}
	p.storage = &engine.Storage{Client: client, Tier: tier}
	if err := p.plugin(m, "storage", process.Name(), process); err != nil {
		return "storage.command", err
	}
	return "", nil
}

func (p *parts) openSigning(ctx context.Context, c *config.Config, log *slog.Logger, m *metrics) (string, error) {
	for _, name := range c.Signing.Trust {
		key, err := signers.PublicKey(name)
		if err != nil {
			return "signing.trust", err
		}
		p.keys = append(p.keys, key)
	}
	for _, name := range c.Signing.ClientKeys {
		key, err := signers.PublicKey(name)
		if err != nil {
			return "signing.client_keys", err
		}
		p.clientKeys = append(p.clientKeys, key)
	}
	if len(c.Signing.Keys) == 0 {
		return "", nil
	}
	opened, err := c.Signing.Open(ctx, signers.Options{
		Log: log, Opened: p.opened, Plugin: func(name string, process *plugins.Process) error { return p.plugin(m, "signing", name, process) },
	})
	if err != nil {
		var at *signers.KeyError
		if errors.As(err, &at) {
			return at.Key, at.Err
		}
		return "signing.keys", err
	}
	for _, s := range opened.Signers {
		p.signers = append(p.signers, engine.Signer{Name: s.Name, Signer: s.Signer, Check: s.Check})
	}
	return "", nil
}

// layer puts the tiers of the cache together.
func (p *parts) layer(c *config.Config, log *slog.Logger, m *metrics) error {
	var tiers []cache.Store
	if p.memory != nil {
		tiers = append(tiers, p.memory)
	}
	tiers = append(tiers, p.disk)
	if bucket := p.queue.Store(); bucket != nil {
		tiers = append(tiers, bucket)
	}
	if p.storage != nil {
		tiers = append(tiers, p.storage.Tier)
	}
	p.cache = cache.NewLayered(tiers, &cache.LayeredOptions{
		Log: log.With("part", "cache"), FillTimeout: c.Workers.JobTimeout.Duration, SpoolDir: p.disk.TempDir(), Observe: m.cached,
	})
	p.opened(p.cache.Close)
	return nil
}

var _ senbonzakura.RotatingSigner = (*signing.PlaceSigner)(nil)

// fetchOptions are how completes are fetched.
func fetchOptions(c *config.Config, log *slog.Logger, agent string) (fetch.Options, error) {
	f := &c.Fetch
	networks, err := c.PrivateNetworks()
	if err != nil {
		return fetch.Options{}, err
	}
	opts := fetch.Options{
		Insecure: f.Insecure, Prefixes: f.Allow, AllowNetworks: networks, MaxSize: int64(f.MaxSize), Attempts: f.Attempts,
		Stall: f.Stall.Duration, Deadline: f.Deadline.Duration, MinRate: int64(f.MinRate), PerHost: f.PerHost, UserAgent: agent, Log: log.With("part", "fetch"),
	}
	if f.MinRate == 0 {
		opts.MinRate = -1
	}
	for _, port := range f.Ports {
		opts.Ports = append(opts.Ports, uint16(port)) //nolint:gosec // 1 to 65535 was checked
	}
	if f.Proxy != "" {
		if opts.Proxy, err = url.Parse(f.Proxy); err != nil {
			return fetch.Options{}, err
		}
	}
	return opts, nil
}

// certificates reads the server's certificate again when its file changes.
type certificates struct {
	certificate, key string
	log              *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
	looked  time.Time
}

// get implements tls.Config.GetCertificate.
func (s *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && time.Since(s.looked) < 10*time.Second {
		return s.current, nil
	}
	s.looked = time.Now()
	info, err := os.Stat(s.certificate)
	if err == nil && s.current != nil && info.ModTime().Equal(s.changed) {
		return s.current, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(s.certificate, s.key)
	}
	if err != nil {
		if s.current != nil { // key and certificate are replaced one after the other
			s.log.Warn("certificate cannot be read again; the old one stays", "error", err)
			return s.current, nil
		}
		return nil, err
	}
	s.current, s.changed = &pair, info.ModTime()
	return s.current, nil
}

// Package chaos injects faults into a partiald that is being tried out: it kills plugins, cuts connections of callers,
// delays and breaks off those to origins, delays and fails the store, and damages entries of the cache, each at a rate
// that a profile says. What is promised must hold all the same: no wrong byte, nothing lost that was taken.
//
// Faults come at random. They are counted by kind, in partiald_chaos_faults_total.
package chaos

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

// Profile says how often what fails. Zero values are none of that kind. Shares are from 0 to 0.9. What happens in a share of
// cases begins with the first request, so that the service starts.
type Profile struct {
	Name  string `toml:"-"`
	About string `toml:"about"`
	// Lasts is for how long faults are injected after the first request; 0 means as long as the service runs.
	Lasts config.Duration `toml:"lasts"`
	// KillPlugins is the mean time between kills of a plugin's process, any one.
	KillPlugins config.Duration `toml:"kill_plugins"`
	// DamageCache is the mean time between damages to an entry of the cache on disk, any one: a changed byte, a cut
	// end, nothing left, or the file gone.
	DamageCache config.Duration `toml:"damage_cache"`
	// DropConnections is the share of callers' requests whose connection is cut: half of them before they are looked
	// at, half in the middle of the answer.
	DropConnections float64 `toml:"drop_connections"`
	// OriginFail is about the share of answers of origins that break off; OriginDelayShare that of those that hesitate
	// for OriginDelay at most. Long answers get more of both.
	OriginFail       float64         `toml:"origin_fail"`
	OriginDelay      config.Duration `toml:"origin_delay"`
	OriginDelayShare float64         `toml:"origin_delay_share"`
	// StoreFail is the share of calls of the storage plugin that fail; StoreDelayShare that of those that take up to
	// StoreDelay longer.
	StoreFail       float64         `toml:"store_fail"`
	StoreDelay      config.Duration `toml:"store_delay"`
	StoreDelayShare float64         `toml:"store_delay_share"`
}

// ProfileError says what is wrong with a profile.
type ProfileError struct{ Name, Reason string }

func (e *ProfileError) Error() string { return fmt.Sprintf("profile %s: %s", e.Name, e.Reason) }

//go:embed profiles/*.toml
var files embed.FS

// Names returns the profiles that come with the program.
func Names() ([]string, error) {
	list, err := fs.Glob(files, "profiles/*.toml")
	for i := range list {
		list[i] = strings.TrimSuffix(path.Base(list[i]), ".toml")
	}
	return list, err
}

// Load returns a profile that comes with the program, by its name, or one of a file. The error is a [*ProfileError], or
// why the file cannot be read.
func Load(name string) (Profile, error) {
	data, err := files.ReadFile("profiles/" + name + ".toml")
	if err != nil {
		if data, err = os.ReadFile(name); errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(name, "./\\") {
			names, err := Names()
			if err != nil {
				return Profile{}, err
			}
			return Profile{}, &ProfileError{name, "is none: it is one of " + strings.Join(names, ", ") + ", or a file"}
		}
	}
	if err != nil {
		return Profile{}, err
	}
	return Parse(name, data)
}

// Parse reads a profile. The error is a [*ProfileError].
func Parse(name string, data []byte) (Profile, error) {
	p := Profile{Name: name}
	wrong := func(format string, args ...any) (Profile, error) {
		return Profile{}, &ProfileError{name, fmt.Sprintf(format, args...)}
	}
	if len(data) > 1<<20 {
		return wrong("has more than a MiB")
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&p); err != nil {
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return wrong("has a key that is not known:\n%s", strict.String())
		case errors.As(err, &decode):
			return wrong("cannot be read:\n%s", decode.String())
		}
		return wrong("cannot be read: %v", err)
	}
	p.Name = name
	for key, v := range map[string]float64{
		"drop_connections": p.DropConnections, "origin_fail": p.OriginFail, "origin_delay_share": p.OriginDelayShare,
		"store_fail": p.StoreFail, "store_delay_share": p.StoreDelayShare,
	} {
		if !(v >= 0 && v <= 0.9) {
			return wrong("%s is %v, want 0 to 0.9", key, v)
		}
	}
	for key, d := range map[string]time.Duration{"kill_plugins": p.KillPlugins.Duration, "damage_cache": p.DamageCache.Duration} {
		if d != 0 && d < 100*time.Millisecond {
			return wrong("%s is %v, want at least 100ms", key, d)
		}
	}
	for key, d := range map[string]time.Duration{"origin_delay": p.OriginDelay.Duration, "store_delay": p.StoreDelay.Duration} {
		if d > time.Minute {
			return wrong("%s is %v, want at most 1m", key, d)
		}
	}
	return p, nil
}

// faultKinds are the kinds that are counted.
var faultKinds = []string{"plugin killed", "connection cut", "answer cut", "origin cut", "origin slow", "store failed", "store slow", "cache damaged"}

// Monkey injects faults. It is safe for concurrent use.
type Monkey struct {
	p      Profile
	asked  sync.Once
	begun  chan struct{} // closed when begin is set, by the first request
	begin  time.Time
	log    *slog.Logger
	faults *prometheus.CounterVec
}

// New returns a Monkey that counts in a registry. Nothing fails before its methods are used.
func New(p Profile, log *slog.Logger, registry prometheus.Registerer) (*Monkey, error) {
	m := &Monkey{p: p, begun: make(chan struct{}), log: log, faults: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "partiald_chaos_faults_total", Help: "Faults that this server injected into itself (--chaos), by kind.",
	}, []string{"fault"})}
	for _, k := range faultKinds {
		m.faults.WithLabelValues(k)
	}
	return m, registry.Register(m.faults)
}

func (m *Monkey) count(fault string) { m.faults.WithLabelValues(fault).Inc() }

// chance says whether something that happens in a share of cases happens now. A server starts without faults.
func (m *Monkey) chance(share float64) bool {
	return share > 0 && rand.Float64() < share && m.at()
}

// request notes the first request.
func (m *Monkey) request() {
	m.asked.Do(func() {
		m.begin = time.Now()
		close(m.begun)
	})
}

// at says whether faults are injected at this time: from the first request on, for as long as the profile says.
func (m *Monkey) at() bool {
	select {
	case <-m.begun:
		d := m.p.Lasts.Duration
		return d <= 0 || time.Since(m.begin) <= d
	default:
		return false
	}
}

// upTo returns a random time, d at most.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// Run kills plugins and damages the cache in dir until ctx ends. pids returns the plugins' processes of the moment.
func (m *Monkey) Run(ctx context.Context, dir string, pids func() []int) {
	m.log.WarnContext(ctx, "chaos: faults are injected", "profile", m.p.Name)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	if d := m.p.Lasts.Duration; d > 0 {
		wg.Go(func() {
			select {
			case <-m.begun:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(d):
				m.log.Warn("chaos: it is over")
				cancel()
			case <-ctx.Done():
			}
		})
	}
	wg.Go(func() { every(ctx, m.p.KillPlugins.Duration, func() { m.kill(pids()) }) })
	wg.Go(func() { every(ctx, m.p.DamageCache.Duration, func() { m.damage(ctx, dir) }) })
	wg.Wait()
}

// every does something again and again, with a random time between whose mean is given; never where that is 0.
func every(ctx context.Context, mean time.Duration, do func()) {
	if mean <= 0 {
		return
	}
	for {
		select {
		case <-time.After(mean/2 + rand.N(mean)):
			do()
		case <-ctx.Done():
			return
		}
	}
}

// kill ends one process at once.
func (m *Monkey) kill(pids []int) {
	if len(pids) == 0 {
		return
	}
	pid := pids[rand.N(len(pids))]
	p, err := os.FindProcess(pid)
	if err != nil || p.Kill() != nil {
		return // it ended by itself
	}
	m.count("plugin killed")
	m.log.Info("chaos: plugin killed", "pid", pid)
}

// damage damages a file of the cache's entries.
func (m *Monkey) damage(ctx context.Context, dir string) {
	name, err := pick(ctx, filepath.Join(dir, "v1"))
	if err != nil || name == "" {
		return // nothing is there yet, or it went away
	}
	how, err := spoil(name)
	if err != nil {
		return
	}
	m.count("cache damaged")
	m.log.Info("chaos: cache entry damaged", "file", strings.TrimPrefix(name, dir), "how", how)
}

// pick returns any file below dir, each as likely as any other.
func pick(ctx context.Context, dir string) (string, error) {
	chosen, seen := "", 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil //nolint:nilerr // entries come and go
		}
		if d.Type().IsRegular() {
			if seen++; rand.N(seen) == 0 {
				chosen = name
			}
		}
		return nil
	})
	return chosen, err
}

// spoil changes a file as bad disks and careless people do: the next who opens it gets the damaged one. Who has it open
// has checked it and keeps it, as from the cache of the operating system.
func spoil(name string) (how string, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	switch n := rand.N(10); {
	case n == 0:
		return "removed", os.Remove(name)
	case n == 1 || len(data) == 0:
		how, data = "emptied", nil
	case n == 2:
		how, data = "cut", data[:rand.N(len(data))]
	default:
		how = "a byte changed"
		data[rand.N(len(data))] ^= 1 << rand.N(8)
	}
	return how, atomicfile.Write(context.Background(), name, 0o600, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

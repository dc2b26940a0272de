package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// counter is how many events of a key there were in a window, over all servers: the value of its key in memory.
type counter struct {
	Start time.Time
	N     int
}

// rates are the counters that this server uses.
type rates struct {
	mu   sync.Mutex
	m    map[string]*rate
	rest time.Time // the queue did not answer, and is not asked before then: requests would wait one after the other
}

// rate is one of them. A server takes events in blocks out of what is left of the limit, so that not every event asks
// the queue; the blocks become smaller as the limit comes nearer, down to one.
type rate struct {
	mu       sync.Mutex
	counter  counter
	revision uint64
	reserve  int // taken from the shared counter, and not used yet
	used     time.Time
}

// Bounds of rates.
const (
	maxRates  = 20_000 // about 5 MB
	maxBlock  = 256
	maxWindow = 31 * 24 * time.Hour
	restFor   = 5 * time.Second
)

func (r *rates) init() { r.m = map[string]*rate{} }

func (r *rates) get(key string) *rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.m[key]
	if v == nil {
		if len(r.m) >= maxRates {
			// What they counted is in the shared counters. All go where most were used just now: else every new key
			// would cost a walk through them.
			maps.DeleteFunc(r.m, func(_ string, other *rate) bool { return time.Since(other.used) > time.Minute })
			if len(r.m) > maxRates/2 {
				clear(r.m)
			}
		}
		v = &rate{}
		r.m[key] = v
	}
	v.used = time.Now()
	return v
}

// resting says whether the queue is not asked now.
func (r *rates) resting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.rest)
}

// unanswered has the queue not be asked for a while.
func (r *rates) unanswered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = time.Now().Add(restFor)
}

// Take implements [job.Service]. Where the queue does not answer, this server counts for itself.
func (e *Engine) Take(ctx context.Context, key string, n, limit int, window time.Duration) (bool, time.Duration, error) {
	if n < 0 || limit < 0 || window < time.Second || window > maxWindow {
		return false, 0, fmt.Errorf("rate of %d per %v: want a limit that is not negative, and one second to %v", limit, window, maxWindow)
	}
	name := queue.Key("rate", fmt.Sprintf("%s\x00%v", key, window))
	r := e.rates.get(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	for try := 0; ; try++ {
		now := e.now()
		start := now.Truncate(window)
		// A clock that is a little behind those of other servers goes by theirs. One that is far off goes by itself.
		if ahead := r.counter.Start.Sub(start); ahead != 0 && (ahead < 0 || ahead > window) {
			r.counter, r.reserve = counter{Start: start}, 0
		}
		wait := min(max(r.counter.Start.Add(window).Sub(now), 0), window)
		if r.reserve >= n {
			r.reserve -= n
			return true, 0, nil
		}
		next := r.counter
		need := n - r.reserve
		block := min(need+min((limit-next.N-need)/16, maxBlock), limit-next.N)
		if block < need {
			return false, wait, nil
		}
		next.N += block
		value, err := json.Marshal(next)
		if err != nil {
			return false, 0, err
		}
		if e.rates.resting() {
			r.counter.N, r.reserve = r.counter.N+need, 0 // alone
			return true, 0, nil
		}
		revision, err := e.q.SwapLive(ctx, name, value, r.revision, window+time.Minute)
		switch {
		case err == nil:
			r.counter, r.revision, r.reserve = next, revision, r.reserve+block
			continue
		case errors.Is(err, queue.ErrConflict) && try < 50:
			value, revision, err = e.q.GetLive(ctx, name)
			if err == nil && json.Unmarshal(value, &next) == nil {
				if next.Start != r.counter.Start {
					r.reserve = 0
				}
				r.counter, r.revision = next, revision
				continue
			}
			if errors.Is(err, queue.ErrNotFound) {
				r.revision = revision
				continue
			}
		}
		if errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, context.Canceled) {
			e.rates.unanswered()
		}
		if ctx.Err() != nil {
			return false, 0, ctx.Err()
		}
		r.counter.N, r.reserve = r.counter.N+need, 0 // alone
		return true, 0, nil
	}
}

// bans are those that this server knows, which is all of them.
type bans struct {
	mu       sync.RWMutex
	address  map[netip.Addr]job.Ban
	networks map[netip.Prefix]job.Ban
}

// heard is told that a ban was made, changed or lifted.
func (b *bans) heard(u queue.Update) {
	prefix, err := banned(u.Name)
	if err != nil {
		return
	}
	var ban job.Ban
	if u.Value != nil && json.Unmarshal(u.Value, &ban) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.address == nil {
		b.address, b.networks = map[netip.Addr]job.Ban{}, map[netip.Prefix]job.Ban{}
	}
	switch {
	case prefix.IsSingleIP() && u.Value == nil:
		delete(b.address, prefix.Addr())
	case prefix.IsSingleIP():
		b.address[prefix.Addr()] = ban
	case u.Value == nil:
		delete(b.networks, prefix)
	default:
		b.networks[prefix] = ban
	}
}

// banned parses what can be banned: an address, or a network as 192.0.2.0/24.
func banned(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// Banned implements [job.Service].
func (e *Engine) Banned(address string) (job.Ban, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return job.Ban{}, false
	}
	a = a.Unmap().WithZone("")
	now := e.now()
	e.bans.mu.RLock()
	defer e.bans.mu.RUnlock()
	if ban, ok := e.bans.address[a]; ok && now.Before(ban.Until) {
		return ban, true
	}
	for network, ban := range e.bans.networks {
		if network.Contains(a) && now.Before(ban.Until) {
			return ban, true
		}
	}
	return job.Ban{}, false
}

// Ban implements [job.Service]. The address may be a network.
func (e *Engine) Ban(ctx context.Context, b job.Ban, who job.Asker) error {
	prefix, err := banned(b.Address)
	if err != nil {
		return refuse("address", "%q is neither an IP address nor a network like 192.0.2.0/24", b.Address)
	}
	if !b.Until.After(e.now()) {
		return refuse("until", "is over already")
	}
	if prefix.IsSingleIP() {
		b.Address = prefix.Addr().String()
	} else {
		b.Address = prefix.String()
	}
	if b.By == "" {
		b.By = who.Name
	}
	value, err := json.Marshal(b)
	if err != nil {
		return outward(err)
	}
	if err := e.q.Set(ctx, queue.Key("ban", b.Address), value, banLife(b, e.now())); err != nil {
		return outward(err)
	}
	e.bans.heard(queue.Update{Name: b.Address, Value: value})
	return e.act(ctx, who, "ban", "", fmt.Sprintf("%s until %s: %s", b.Address, b.Until.UTC().Format(time.RFC3339), b.Reason))
}

// keepBans puts the bans that this server knows into a queue that has lost them.
func (e *Engine) keepBans(ctx context.Context) {
	list, err := e.Bans(ctx)
	for _, b := range list {
		value, marshalErr := json.Marshal(b)
		if marshalErr != nil {
			continue
		}
		if _, err = e.q.Put(ctx, queue.Key("ban", b.Address), value, 0, banLife(b, e.now())); errors.Is(err, queue.ErrConflict) {
			err = nil
		}
	}
	if err != nil {
		e.log.WarnContext(ctx, "bans could not be kept", "error", err)
	}
}

// banLife is how long a ban is kept by the queue: longer than it lasts, whatever the clock says meanwhile.
func banLife(b job.Ban, now time.Time) time.Duration { return 2*b.Until.Sub(now) + 24*time.Hour }

// Unban implements [job.Service].
func (e *Engine) Unban(ctx context.Context, address string, who job.Asker) error {
	prefix, err := banned(address)
	if err != nil {
		return refuse("address", "%q is neither an IP address nor a network like 192.0.2.0/24", address)
	}
	if address = prefix.String(); prefix.IsSingleIP() {
		address = prefix.Addr().String()
	}
	if _, _, err := e.q.Get(ctx, queue.Key("ban", address)); err != nil {
		if errors.Is(err, queue.ErrNotFound) {
			return job.Errorf(job.CodeNotFound, "%s is not banned", address)
		}
		return outward(err)
	}
	if err := e.q.Delete(ctx, queue.Key("ban", address)); err != nil {
		return outward(err)
	}
	e.bans.heard(queue.Update{Name: address})
	return e.act(ctx, who, "unban", "", address)
}

// Bans implements [job.Service]: those that are not over, the one that ends first coming first.
func (e *Engine) Bans(context.Context) ([]job.Ban, error) {
	now := e.now()
	list := []job.Ban{}
	e.bans.mu.RLock()
	defer e.bans.mu.RUnlock()
	for _, b := range e.bans.address {
		list = append(list, b)
	}
	for _, b := range e.bans.networks {
		list = append(list, b)
	}
	list = slices.DeleteFunc(list, func(b job.Ban) bool { return !now.Before(b.Until) })
	slices.SortFunc(list, func(a, b job.Ban) int {
		if c := a.Until.Compare(b.Until); c != 0 {
			return c
		}
		return strings.Compare(a.Address, b.Address)
	})
	return list, nil
}

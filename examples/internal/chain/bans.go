package chain

import (
	"sync"
	"time"
)

// Bans keeps addresses out from which too many wrong tokens come. It counts for one process alone: services with a queue
// share theirs. The zero value bans nobody. It is safe for concurrent use.
type Bans struct {
	// Failures is how many wrong tokens within Window are too many; 0 bans nobody. For is how long a ban holds.
	Failures    int
	Window, For time.Duration
	// Now is the clock; nil is that of the system.
	Now func() time.Time

	mu    sync.Mutex
	known map[string]*offences
}

// offences are those of one address.
type offences struct {
	n            int
	since, until time.Time
}

// maxOffenders bounds what is remembered.
const maxOffenders = 20_000

func (b *Bans) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// Banned says until when an address is banned.
func (b *Bans) Banned(addr string) (until time.Time, ok bool) {
	if b.Failures <= 0 {
		return time.Time{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.known[addr]
	if o == nil || !b.now().Before(o.until) {
		return time.Time{}, false
	}
	return o.until, true
}

// Offend counts a wrong token, and says whether it is the one that bans its address.
func (b *Bans) Offend(addr string) (banned bool) {
	if b.Failures <= 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	o := b.known[addr]
	if o == nil {
		b.sweep(now)
		o = &offences{since: now}
		b.known[addr] = o
	}
	if now.Sub(o.since) >= b.Window {
		o.n, o.since = 0, now
	}
	if o.n++; o.n < b.Failures || now.Before(o.until) {
		return false
	}
	o.n, o.since, o.until = 0, now, now.Add(b.For)
	return true
}

// sweep forgets addresses about which nothing is left to know, and if that is not enough, all.
func (b *Bans) sweep(now time.Time) {
	if b.known == nil {
		b.known = map[string]*offences{}
	}
	if len(b.known) < maxOffenders {
		return
	}
	for addr, o := range b.known {
		if now.Sub(o.since) >= b.Window && !now.Before(o.until) {
			delete(b.known, addr)
		}
	}
	if len(b.known) >= maxOffenders {
		clear(b.known)
	}
}

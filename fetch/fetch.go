// Package fetch gets files whose hashes are known: URLs and a hash in, a verified file out.
//
// It is stubborn and distrustful. Broken downloads go on where they ended, if the server still has the same file;
// servers that are down are asked again, after growing and random waits, or as long as they ask for; those
// that send nothing or too slowly are left; alternates are tried in order. What asking again cannot mend
// (a status like 404, a wrong size or hash, a refused address) is not asked again. Nobody sees a byte that
// is not verified.
//
// # What a URL may do
//
// Without options only https on public addresses is allowed. Addresses are checked when a connection is about to be
// made, after names were resolved: private networks, loopback, link-local addresses and all others that
// are not public are refused however they are spelled and whatever a name server says. Redirects are followed
// up to 5 times, never from https to http and never out of the allowed prefixes. Proxies of the environment are
// not used.
//
// User and password in a URL are sent to its host and to no other. They, the query and the fragment are left out of
// every error and log line. Addresses that names resolved to are in errors, for those who run the
// program; [Public] leaves them out.
package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options changes a [Client]. The zero value is safe: https only, public addresses only.
type Options struct {
	// Insecure allows http. It is meant for development.
	Insecure bool
	// Files allows file: URLs and paths. Such a file is copied while it is verified.
	Files bool
	// Openers open further schemes, in lower case, without the colon.
	Openers map[string]Opener
	// Prefixes, if any, are the only URLs allowed, for every scheme and after every redirect:
	// "https://archive.mozilla.org/pub/" allows what is below /pub/ on that host and port. URLs whose path
	// can be read in two ways (dot segments, escaped slashes) match none.
	Prefixes []string
	// AllowNetworks are addresses that may be connected to although they are not public, on any port.
	AllowNetworks []netip.Prefix
	// Ports are those that may be connected to on public addresses; none means 443 and 80.
	Ports []uint16
	// Proxy, if not nil, makes all connections. It then also resolves names, so addresses cannot be checked:
	// Prefixes are required, and hosts written as numbers must be public.
	Proxy *url.URL
	// TLS is the base of the configuration of https; nil means the defaults.
	TLS *tls.Config
	// Resolver looks names up; nil means the default.
	Resolver *net.Resolver

	// Dir is the directory of temporary files; empty means os.TempDir(). On the file system of a cache, best
	// in its own temporary directory, files can be adopted without copying.
	Dir string
	// MaxSize is the size in bytes beyond which a file of unknown size is refused; zero means 2 GiB.
	MaxSize int64

	// Attempts is how often one URL is asked without getting on; zero means 6. An attempt that brought at
	// least a 64th of the file does not count.
	Attempts int
	// Backoff is the longest wait before the second attempt, doubled for each further one; zero means 1 s.
	// Waits are random between 0 and that.
	Backoff time.Duration
	// MaxBackoff is where doubling ends; zero means 30 s.
	MaxBackoff time.Duration
	// MaxRetryAfter is the longest wait that a server may ask for; zero means 5 min. One that asks for more
	// has failed.
	MaxRetryAfter time.Duration
	// Stall is how long a server may send nothing; zero means 30 s.
	Stall time.Duration
	// MinRate is how many bytes per second must arrive on average over Stall; zero means 1024, less than
	// zero means none.
	MinRate int64
	// Deadline is how long a download may take, over all URLs and attempts, not counting the time in which nobody is
	// asked: while it waits for its turn at a host, or before another attempt. Zero means no limit.
	Deadline time.Duration
	// PerHost is how many requests to one host and port may be under way at a time; zero means 4.
	PerHost int
	// UserAgent is sent with every request; empty means "senbonzakura".
	UserAgent string
	// Log receives a line for every attempt that failed and will be followed by another, and one for every URL that was
	// given up; nil discards them.
	Log *slog.Logger
	// Conn, if not nil, is given every connection that was made, and what it returns takes its place: for programs
	// that measure, or that try how they stand a bad network. It must be safe for concurrent use.
	Conn func(net.Conn) net.Conn
}

// Client fetches files. It is safe for concurrent use. The zero value is not usable, see [New].
type Client struct {
	o         Options
	prefixes  []prefix
	openers   map[string]Opener
	guard     *guard
	transport *http.Transport
	hosts     hosts
}

// New returns a client. Options that contradict each other are refused.
func New(opts *Options) (*Client, error) {
	c := new(Client)
	if opts != nil {
		c.o = *opts
	}
	o := &c.o
	for _, n := range []int64{
		o.MaxSize, int64(o.Attempts), int64(o.Backoff), int64(o.MaxBackoff), int64(o.MaxRetryAfter), int64(o.Stall), int64(o.PerHost), int64(o.Deadline),
	} {
		if n < 0 {
			return nil, errors.New("fetch: a limit is negative")
		}
	}
	def(&o.MaxSize, 2<<30)
	def(&o.Attempts, 6)
	def(&o.Backoff, time.Second)
	def(&o.MaxBackoff, max(30*time.Second, o.Backoff))
	def(&o.MaxRetryAfter, 5*time.Minute)
	def(&o.Stall, 30*time.Second)
	def(&o.MinRate, 1024)
	def(&o.PerHost, 4)
	def(&o.UserAgent, "senbonzakura")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBackoff < o.Backoff {
		return nil, errors.New("fetch: MaxBackoff is less than Backoff")
	}
	for _, raw := range o.Prefixes {
		p, err := parsePrefix(raw)
		if err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		if p.scheme == "http" && !o.Insecure || p.scheme == "file" && !o.Files {
			return nil, fmt.Errorf("fetch: prefix with scheme %s, which is not allowed", p.scheme)
		}
		c.prefixes = append(c.prefixes, p)
	}
	c.openers = make(map[string]Opener)
	for scheme, opener := range o.Openers {
		if opener == nil || slices.Contains([]string{"http", "https", "file"}, scheme) || !hasScheme(scheme+":") ||
			scheme != strings.ToLower(scheme) || strings.Contains(scheme, ":") {
			return nil, fmt.Errorf("fetch: no opener can be given for scheme %q", scheme)
		}
		c.openers[scheme] = opener
	}
	if o.Proxy != nil && len(c.prefixes) == 0 {
		return nil, errors.New("fetch: a proxy needs prefixes, because addresses cannot be checked behind it")
	}
	c.guard = newGuard(o)
	c.hosts.limit = o.PerHost
	guarded := &net.Dialer{Timeout: o.Stall, Control: c.guard.control, Resolver: o.Resolver}
	dial := guarded.DialContext
	c.transport = &http.Transport{
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    o.PerHost,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    o.Stall,
		MaxResponseHeaderBytes: maxHeader,
		TLSClientConfig:        o.TLS.Clone(),
		DialContext:            dial,
	}
	if o.Proxy != nil {
		c.transport.Proxy = http.ProxyURL(o.Proxy)
		plain := &net.Dialer{Timeout: o.Stall, Resolver: o.Resolver}
		c.transport.DialContext = plain.DialContext // only ever to the proxy
	}
	if wrap := o.Conn; wrap != nil {
		dial := c.transport.DialContext
		c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
	return c, nil
}

func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Close ends idle connections. The client may be used on.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Request says what to fetch.
type Request struct {
	// URLs are where the file is, tried in this order. Paths are URLs, too.
	URLs []string
	// Size is the number of bytes it must have; zero means that it is not known.
	Size int64
	// Hashes are what its bytes must hash to, all of them; one is needed at least.
	Hashes []Hash
	// Progress, if not nil, is called as bytes arrive, from one goroutine at a time: done bytes are there, of
	// total, which is -1 while it is not known. done falls back to 0 when the download starts again.
	Progress func(done, total int64)
}

// Fetch returns the file, verified. The caller closes it. The error is the context's, matched by errors.Is, when ctx
// has ended; otherwise an *Error which tells how each URL failed, or one about the request itself.
func (c *Client) Fetch(ctx context.Context, r Request) (*File, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(c.o.Dir, "fetch-*.part")
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", &localError{err})
	}
	d := c.download(r, f)
	url, err := d.fetch(ctx)
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	file := &File{f: f, size: d.off, url: url, verified: r.algorithms()}
	copy(file.sha512[:], d.digest.of(SHA512).Sum(nil))
	return file, nil
}

// FetchInto is [Client.Fetch] into memory: buf must have room for r.Size bytes, which must be known. Its first r.Size bytes
// are the file, verified, when FetchInto returns nil; until then, and after an error, they are anything.
func (c *Client) FetchInto(ctx context.Context, r Request, buf []byte) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.Size == 0 || int64(len(buf)) < r.Size {
		return fmt.Errorf("fetch: %d bytes into a buffer of %d", r.Size, len(buf))
	}
	_, err := c.download(r, memory(buf[:r.Size])).fetch(ctx)
	return err
}

// check says what is wrong with a request.
func (r *Request) check() error {
	if len(r.URLs) == 0 {
		return errors.New("fetch: no URL is given")
	}
	if len(r.Hashes) == 0 {
		return fmt.Errorf("fetch: %w", errNoHash)
	}
	if r.Size < 0 {
		return errors.New("fetch: size is negative")
	}
	for _, h := range r.Hashes {
		if err := h.check(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	return nil
}

func (r *Request) algorithms() []Algorithm {
	list := make([]Algorithm, len(r.Hashes))
	for i, h := range r.Hashes {
		list[i] = h.Algorithm
	}
	return list
}

// sink takes what is fetched: a file, or memory.
type sink interface {
	io.WriterAt
	Truncate(size int64) error
}

// memory is a sink of a fixed size, beyond which nothing is written: a download has that limit.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func (m memory) Truncate(int64) error { return nil }

// download is one Fetch under way.
type download struct {
	c      *Client
	r      Request
	f      sink
	digest *digester
	buf    []byte

	left time.Duration // of Options.Deadline

	off       int64  // bytes that are in the file and in the digest
	validator string // of the object they are from
	parts     int    // answers they are from
	total     int64  // size of the object, or -1
}

func (c *Client) download(r Request, f sink) *download {
	return &download{c: c, r: r, f: f, digest: newDigester(r.Hashes), buf: make([]byte, 256<<10), left: c.o.Deadline}
}

// fetch tries the URLs in turn, and returns the one that had the file.
func (d *download) fetch(ctx context.Context) (string, error) {
	failure := new(Error)
	for _, raw := range d.r.URLs {
		try := d.url(ctx, raw)
		if try.Err == nil {
			if allWeak(d.r.algorithms()) {
				d.c.o.Log.WarnContext(ctx, "verified by a weak hash only", "url", try.URL)
			}
			return try.URL, nil
		}
		failure.Tries = append(failure.Tries, try)
		level, what := slog.LevelWarn, "fetch: address failed"
		if ctx.Err() != nil { // nobody waits for it any more, which says nothing about the address
			level, what = slog.LevelInfo, "fetch: cancelled"
		}
		d.c.o.Log.Log(ctx, level, what, "url", try.URL, "attempts", try.Attempts, "bytes", try.Bytes,
			"permanent", try.Permanent(), "err", try.Err)
		var local *localError
		var deadline *DeadlineError
		if ctx.Err() != nil || errors.As(try.Err, &local) || errors.As(try.Err, &deadline) {
			break
		}
	}
	return "", failure
}

// restart throws away what there is.
func (d *download) restart() error {
	d.off, d.validator, d.parts, d.total = 0, "", 0, -1
	if d.r.Size > 0 {
		d.total = d.r.Size
	}
	d.digest.reset()
	if err := d.f.Truncate(0); err != nil {
		return &localError{err}
	}
	return nil
}

// url tries one URL until it gives the file or must be given up.
func (d *download) url(ctx context.Context, raw string) Try {
	c := d.c
	u, err := parse(raw)
	if err != nil {
		return Try{URL: "(malformed URL)", Err: &NotAllowedError{URL: "(malformed URL)", Reason: ReasonMalformed}}
	}
	try := Try{URL: redact(u)}
	if try.Err = c.allowed(u, 0, ""); try.Err != nil {
		return try
	}
	if try.Err = d.restart(); try.Err != nil {
		return try
	}
	hidden := secrets(u)
	waits := &backoff.ExponentialBackOff{
		InitialInterval:     c.o.Backoff / 2, // of which a random part between none and twice is waited
		RandomizationFactor: 1,
		Multiplier:          2,
		MaxInterval:         c.o.MaxBackoff / 2,
	}
	var furthest int64 // bytes that an attempt got to
	failures := 0
	mixed := false // whether a wrong hash was blamed on a file that changed in the middle
	for {
		try.Attempts++
		before := d.off
		got, err := d.attempt(ctx, u)
		try.Bytes += got
		if d.parts > 1 && before > 0 && d.off > before {
			try.Resumed++
		}
		var digest *DigestError
		if errors.As(err, &digest) && d.parts > 1 && !mixed {
			mixed = true
			c.o.Log.WarnContext(ctx, "fetch: wrong hash after going on; starting again", "url", try.URL)
			if try.Err = d.restart(); try.Err != nil {
				return try
			}
			continue
		}
		if err == nil {
			try.Err = nil
			return try
		}
		try.Err = scrub(err, hidden)
		if ctx.Err() != nil {
			try.Err = context.Cause(ctx)
			return try
		}
		if permanent(err) {
			return try
		}
		step := int64(1 << 20)
		if d.total > 0 {
			step = max(1, d.total/64)
		}
		if d.off-furthest >= step {
			furthest = d.off
			failures = 0
			waits.Reset()
		}
		failures++
		wait := waits.NextBackOff()
		var status *StatusError
		if errors.As(err, &status) && status.RetryAfter > wait {
			wait = status.RetryAfter
			if wait > c.o.MaxRetryAfter {
				return try
			}
		}
		if failures >= c.o.Attempts {
			return try
		}
		c.o.Log.InfoContext(ctx, "fetch: attempt failed", "url", try.URL, "attempt", try.Attempts, "bytes", d.off, "wait", wait, "err", try.Err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			try.Err = context.Cause(ctx)
			return try
		}
	}
}

// attempt asks once and reads what comes. It returns how many bytes came.
func (d *download) attempt(ctx context.Context, u *url.URL) (got int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := newWatchdog(d.c.o.Stall, d.c.o.MinRate, cancel)
	if d.c.o.Deadline > 0 {
		w.spend(d.left, d.c.o.Deadline)
	}
	defer func() { d.left = w.stop() }()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // the stall, or what the caller says
		}
	}()
	if d.off > 0 && d.validator == "" {
		if err := d.restart(); err != nil {
			return 0, err
		}
	}
	o, err := d.c.open(ctx, u, Position{d.off, d.validator}, w)
	if err != nil {
		if errors.Is(err, errChanged) {
			err = errors.Join(err, d.restart())
		}
		return 0, err
	}
	defer o.Body.Close()
	if o.Offset == 0 {
		if err := d.restart(); err != nil {
			return 0, err
		}
	}
	d.validator = o.Validator
	d.parts++
	limit := d.c.o.MaxSize
	if d.r.Size > 0 {
		limit = d.r.Size
	}
	tooLong := func(n int64) error { return &SizeError{Want: limit, Got: n, Limit: d.r.Size == 0} }
	if o.Size >= 0 {
		switch {
		case o.Size > limit:
			return 0, tooLong(o.Size)
		case d.r.Size > 0 && o.Size != d.r.Size:
			return 0, Permanent(&SizeError{Want: d.r.Size, Got: o.Size})
		}
		d.total = o.Size
	}
	w.body()
	for {
		if ctx.Err() != nil {
			return got, context.Cause(ctx)
		}
		n, err := o.Body.Read(d.buf)
		w.got(n)
		got += int64(n)
		if d.off+int64(n) > limit {
			return got, tooLong(d.off + int64(n))
		}
		if n > 0 {
			if _, err := d.f.WriteAt(d.buf[:n], d.off); err != nil {
				return got, &localError{err}
			}
			d.digest.add(d.buf[:n])
			d.off += int64(n)
			if d.r.Progress != nil {
				d.r.Progress(d.off, d.total)
			}
		}
		if errors.Is(err, io.EOF) || err != nil && d.off == d.total {
			break // what goes wrong after the last byte does not matter
		}
		if err != nil {
			return got, err
		}
	}
	if d.total >= 0 && d.off < d.total {
		return got, &SizeError{Want: d.total, Got: d.off}
	}
	return got, d.digest.compare(d.r.Hashes)
}

// hosts bounds how many requests to one host are under way.
type hosts struct {
	limit int

	mu    sync.Mutex
	slots map[string]*slots
}

type slots struct {
	users int // who holds or wants one
	free  chan struct{}
}

func (h *hosts) acquire(ctx context.Context, host string) error {
	h.mu.Lock()
	if h.slots == nil {
		h.slots = make(map[string]*slots)
	}
	s := h.slots[host]
	if s == nil {
		s = &slots{free: make(chan struct{}, h.limit)}
		h.slots[host] = s
	}
	s.users++
	h.mu.Unlock()
	select {
	case s.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		h.leave(host, s)
		return context.Cause(ctx)
	}
}

func (h *hosts) release(host string) {
	h.mu.Lock()
	s := h.slots[host]
	h.mu.Unlock()
	<-s.free
	h.leave(host, s)
}

func (h *hosts) leave(host string, s *slots) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(h.slots, host)
	}
}

package senbonzakura

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// Reports is the kind of cache entry that holds the provenance of an update, beside the update itself.
const Reports cache.Kind = "reports"

// ReportKey returns the name under which the provenance of an update is stored, as JSON. Who removes the update from a
// cache removes this as well. key is the update's: [Result.Key], or what [Generator.Key] returns.
func ReportKey(key cache.Key) cache.Key { return cache.NewKey(Reports, key.String()) }

// Options build a [Generator]. The zero value works: it fetches by https, keeps nothing, follows the built-in rules
// and does not sign.
type Options struct {
	// Fetch gets completes; nil means a client with its defaults: https on public addresses. One whose Dir is the
	// TempDir of the cache saves a copy of each complete.
	Fetch *fetch.Client
	// Cache keeps completes, patches, updates and their provenance; nil means that nothing is kept, though equal
	// requests at one time are still made once. It stays the caller's to close, after the generator.
	Cache *cache.Layered
	// Toolchain selects recipes; nil means toolchain.DefaultSet.
	Toolchain *toolchain.Set
	// Signers sign every update, in this order. None means that updates are not signed. Installed updaters accept
	// exactly one signature. Those that are a [ProductSigner] are asked for each update.
	Signers []mar.Signer
	// ClientKeys are the public keys that are built into FROM's updater, of which one must make the signature: an order for
	// signers with none of them is refused before the work. None means that they are not known; then the key that FROM was
	// verified with counts, which the updater must have.
	ClientKeys []crypto.PublicKey
	// Require is what must hold for an update before it is signed; nil means [DefaultRequirements]. A list that is empty
	// and not nil requires nothing: then whatever a request leaves out is signed, too.
	Require []Requirement
	// Workers is how many files one request works on at a time; 0 means one for each CPU.
	Workers int
	// MaxMemory bounds, in bytes, what diffs and files under work hold together over all requests; 0 means
	// partial.DefaultMemory. It is handed out in the order of asking, but for an eighth in which small files pass large
	// ones that wait, so no request waits for ever.
	MaxMemory int64
	// Limits bound what compressed members may cost.
	Limits updater.Limits
	// Log receives what happens, step by step, and with Fetch nil also the addresses that failed; nil discards it. No
	// credentials are logged. What failed is logged as an error, what was cancelled as information.
	Log *slog.Logger
	// Observe has functions that are told what happens, for metrics.
	Observe Observer
}

// ProductSigner is a signer that does not sign everything: a policy decides by the product block, or a journal notes it.
type ProductSigner interface {
	mar.Signer
	// ForProduct returns the signer for one update with this product block (nil if it has none), with the same key (but see
	// [RotatingSigner]), or says why there is none. It may be called from several goroutines. Updates that are stored were allowed once
	// and are handed out without asking again.
	ForProduct(ctx context.Context, product *mar.Product) (mar.Signer, error)
}

// RotatingSigner is a [ProductSigner] with several keys, which take over from each other.
type RotatingSigner interface {
	ProductSigner
	// Keys describes all of them in the order in which they are configured, the same each time. ForProduct may return a
	// signer with any of them; the update's provenance says which it was. All are part of what names the update: one
	// that was made when the list was another one is not handed out.
	Keys() []mar.SignerInfo
}

// keysOf returns the keys that a signer may come to sign with.
func keysOf(s mar.Signer) []mar.SignerInfo {
	if r, ok := s.(RotatingSigner); ok {
		return r.Keys()
	}
	return []mar.SignerInfo{s.Info()}
}

// Event says how far a job is. Done and Total are bytes; Total is -1 while it is not known. File is "from" or "to" while
// fetching, else the file under work.
type Event = partial.Event

// Step is a step of the job, in the order in which they come; some overlap.
type Step = partial.Step

// The steps.
const (
	StepFetching  Step = "fetching"
	StepUnpacking      = partial.StepUnpacking
	StepDiffing        = partial.StepDiffing
	StepPacking        = partial.StepPacking
	StepVerifying      = partial.StepVerifying
	StepSigning   Step = "signing"
	StepStoring   Step = "storing"
)

// Generator makes partial updates. Build one with [New]. It is safe for concurrent use.
type Generator struct {
	opts   Options
	memory *partial.Memory
	memo   *partial.Memo
	store  *cache.Layered

	mu   sync.Mutex
	jobs map[cache.Key]*job
	// Downloads under way, and which addresses gave the completes that were fetched lately.
	turns   map[string]*turn
	origins map[string]string
	recent  []made // the newest updates' provenance, for stores that forget
	closed  bool
}

// made is an update that was made lately.
type made struct {
	key        cache.Key
	provenance []byte
}

const maxRecent = 64

// New returns a generator. Options that contradict themselves are an error: more signers than an update can have, one that is
// nil, a key that is none, a requirement that there is not, negative numbers.
func New(opts Options) (*Generator, error) {
	g := &Generator{opts: opts, store: opts.Cache, jobs: map[cache.Key]*job{}, turns: map[string]*turn{}, origins: map[string]string{}, memo: partial.NewMemo()}
	if len(opts.Signers) > mar.MaxSignatures {
		return nil, fmt.Errorf("%d signers: an update has at most %d signatures", len(opts.Signers), mar.MaxSignatures)
	}
	for i, s := range opts.Signers {
		if s == nil {
			return nil, fmt.Errorf("signer %d is nil", i)
		}
	}
	if opts.Workers < 0 || opts.MaxMemory < 0 || opts.Limits.Member < 0 || opts.Limits.Ratio < 0 {
		return nil, fmt.Errorf("negative options: %d workers, %d bytes of memory, limits %+v", opts.Workers, opts.MaxMemory, opts.Limits)
	}
	for i, k := range opts.ClientKeys {
		if _, err := mar.Fingerprint(k); err != nil {
			return nil, fmt.Errorf("client key %d: %w", i, err)
		}
	}
	if g.opts.Require == nil {
		g.opts.Require = DefaultRequirements()
	}
	for _, r := range g.opts.Require {
		if !slices.Contains(Requirements(), r) {
			return nil, fmt.Errorf("there is no requirement %q (requirements: %q)", string(r), Requirements())
		}
	}
	if g.opts.Toolchain == nil {
		g.opts.Toolchain = toolchain.DefaultSet()
	}
	if g.opts.MaxMemory == 0 {
		g.opts.MaxMemory = partial.DefaultMemory
	}
	if g.opts.Log == nil {
		g.opts.Log = slog.New(slog.DiscardHandler)
	}
	if g.store == nil {
		g.store = cache.NewLayered(nil, nil)
	}
	if g.opts.Fetch == nil {
		client, err := fetch.New(&fetch.Options{Dir: g.store.TempDir(), Log: g.opts.Log})
		if err != nil {
			return nil, err
		}
		g.opts.Fetch = client
	}
	g.memory = partial.NewMemory(g.opts.MaxMemory)
	return g, nil
}

// Close makes later calls of Generate return [ErrClosed]. Jobs under way go on for their callers. What was passed in
// Options stays the caller's to close, afterwards. Closing twice is fine.
func (g *Generator) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	return nil
}

// Result is a partial update that was made, or found. It holds nothing open until [Result.Open].
type Result struct {
	// Key names the update: equal requests have equal keys.
	Key cache.Key
	// Size is in bytes.
	Size   int64
	SHA512 [sha512.Size]byte // of the update, signatures included
	SHA256 [sha256.Size]byte // likewise
	// Report has the decision about every file; it is part of the provenance.
	Report     *partial.Report
	Provenance *Provenance // where the update comes from
	// Cached says that the update was there already.
	Cached bool

	entry *cache.Entry
}

// Open returns the update's bytes, verified, for reading at any offset. The caller closes it. It may be called until
// the result is closed. Where there was an error as well, and in what GenerateTo returns, there is nothing to open.
func (r *Result) Open() *cache.Entry { return r.entry.Clone() }

// Close frees the result. Entries from Open stay readable.
func (r *Result) Close() error {
	if r.entry == nil { // a report alone
		return nil
	}
	return r.entry.Close()
}

// Generate returns the partial update that a request asks for: from the cache where it was made before, else it is
// made. Equal requests at one time are made once; progress of the job goes to every caller, never from two goroutines at
// once per caller, and progress may be nil.
//
// A caller leaves when its ctx ends; the job goes on for the others and is cancelled when nobody is left. Nothing is
// visible of an update before it is proved, signed and stored.
//
// The errors are those of this package (see [ErrRequest], [ErrCheck], [ErrRequirement], [InputError]) and of the packages that do the work,
// wrapped: *fetch.Error, *mar.FormatError, *partial.RefusedError, *toolchain.WatershedError. [FaultOf] says whose they are. What the proof finds is a
// *partial.VerifyError or a *updater.UpdateError.
//
// The report comes with a refusal, and with a proof that failed: the result has nothing else then.
func (g *Generator) Generate(ctx context.Context, r Request, progress func(Event)) (result *Result, err error) {
	defer g.observe(time.Now(), &result, &err)
	if err := g.open(); err != nil {
		return nil, err
	}
	if r.AllowFindings {
		return nil, &RequestError{"AllowFindings", "what clients may fail on is not stored: see GenerateTo"}
	}
	o, release, err := g.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	defer release()
	return g.answer(ctx, o, progress)
}

func (g *Generator) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	return nil
}

// Make is [Generator.Generate] for a request that was looked at before.
func (g *Generator) Make(ctx context.Context, o *Order, progress func(Event)) (result *Result, err error) {
	defer g.observe(time.Now(), &result, &err)
	if err := g.open(); err != nil {
		return nil, err
	}
	return g.answer(ctx, o, progress)
}

func (g *Generator) answer(ctx context.Context, o *Order, progress func(Event)) (*Result, error) {
	r, key := &o.request, o.key
	j, leave := g.join(key, progress)
	defer leave()

	entry, err := g.store.GetOrFill(ctx, key, func(ctx context.Context, w io.Writer) error {
		start := time.Now()
		g.opts.Log.InfoContext(ctx, "making a partial update", "key", key.String(), "from", r.From.identity(), "to", r.To.identity())
		p, err := g.make(ctx, o, j, w)
		if err != nil {
			level, what := slog.LevelError, "partial update failed"
			if ctx.Err() != nil { // nobody waits for it any more, which is no failure
				level, what = slog.LevelInfo, "partial update cancelled"
			}
			g.opts.Log.Log(ctx, level, what, "key", key.String(), "took", time.Since(start), "error", err)
			return err
		}
		if err := g.remember(ctx, key, p); err != nil {
			return err
		}
		g.opts.Log.InfoContext(ctx, "made a partial update", "key", key.String(), "took", time.Since(start),
			"size", p.Output.Size, "complete", p.To.Size, "sha512", p.Output.SHA512)
		return nil
	})
	if err != nil {
		if p := j.refused(err); p != nil {
			return &Result{Key: key, Report: p.Report, Provenance: p}, err
		}
		return nil, err
	}
	result, err := g.result(ctx, o, entry, j)
	if err != nil {
		entry.Close()
		return nil, err
	}
	result.Cached = !j.made()
	return result, nil
}

// Prefetch makes sure that both completes of an order are in the cache, unless the update itself is, so that a following
// [Generator.Make] need not wait for servers elsewhere. What the cache loses in between is fetched again. The errors are
// those of Generate; progress, which may be nil, is told of [StepFetching] alone, never from two goroutines at once.
func (g *Generator) Prefetch(ctx context.Context, o *Order, progress func(Event)) error {
	if err := g.open(); err != nil {
		return err
	}
	if entry, err := g.store.Get(ctx, o.key); err == nil {
		return entry.Close()
	}
	j := g.newJob(progress)
	defer j.steps.end()
	group, ctx := errgroup.WithContext(ctx)
	for i, source := range []*Source{&o.request.From, &o.request.To} {
		group.Go(func() error {
			entry, _, err := g.complete(ctx, source, []string{"from", "to"}[i], j)
			if err != nil {
				return &InputError{Input: []string{"FROM", "TO"}[i], Err: err}
			}
			return entry.Close()
		})
	}
	return group.Wait()
}

// result puts the update and its provenance together.
func (g *Generator) result(ctx context.Context, o *Order, entry *cache.Entry, j *job) (*Result, error) {
	r := &o.request
	p, err := g.provenance(ctx, o, j)
	if err != nil {
		return nil, err
	}
	if err := r.From.agrees(&p.From); err != nil {
		return nil, &InputError{Input: "FROM", Err: err}
	}
	if err := r.To.agrees(&p.To); err != nil {
		return nil, &InputError{Input: "TO", Err: err}
	}
	res := &Result{Key: o.key, Size: entry.Size(), SHA256: entry.SHA256(), Report: p.Report, Provenance: p, entry: entry}
	if p.Output.SHA256 != hexOf(res.SHA256[:]) {
		return nil, fmt.Errorf("provenance is of an update with SHA-256 %s, the stored one has %x", p.Output.SHA256, res.SHA256)
	}
	sum, err := hex.DecodeString(p.Output.SHA512)
	if err != nil || len(sum) != sha512.Size {
		return nil, fmt.Errorf("provenance has no SHA-512 of the update: %q", p.Output.SHA512)
	}
	res.SHA512 = [sha512.Size]byte(sum)
	return res, nil
}

// provenance finds the provenance of an update that exists. Where the store forgot it the job is done again: the bytes
// are the same, and the patches are usually still there.
func (g *Generator) provenance(ctx context.Context, o *Order, j *job) (*Provenance, error) {
	key := ReportKey(o.key)
	g.mu.Lock()
	for _, m := range g.recent {
		if m.key == key {
			g.mu.Unlock()
			return decodeProvenance(m.provenance)
		}
	}
	g.mu.Unlock()
	entry, err := g.store.GetOrFill(ctx, key, func(ctx context.Context, w io.Writer) error {
		p, err := g.make(ctx, o, j, io.Discard)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(p)
	})
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	defer entry.Close()
	data, err := io.ReadAll(entry.Reader())
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return decodeProvenance(data)
}

func decodeProvenance(data []byte) (*Provenance, error) {
	p := &Provenance{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return p, nil
}

// remember stores the provenance, before the update becomes visible.
func (g *Generator) remember(ctx context.Context, of cache.Key, p *Provenance) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	key := ReportKey(of)
	g.mu.Lock()
	g.recent = slices.DeleteFunc(g.recent, func(m made) bool { return m.key == key })
	g.recent = append(g.recent, made{key, data})
	if extra := len(g.recent) - maxRecent; extra > 0 {
		g.recent = slices.Delete(g.recent, 0, extra)
	}
	g.mu.Unlock()
	if _, err := g.store.Put(ctx, key, bytes.NewReader(data)); err != nil && ctx.Err() != nil {
		return ctx.Err() // any other failure costs the provenance of a restart, not the update
	}
	return nil
}

// complete returns a complete update, verified, from the cache or fetched.
func (g *Generator) complete(ctx context.Context, s *Source, side string, j *job) (*cache.Entry, Input, error) {
	in := Input{}
	weak := len(s.Hashes) > 0
	for _, h := range s.Hashes {
		weak = weak && h.Algorithm.Weak()
	}
	in.Weak = weak
	entry, fetched, from, err := g.get(ctx, s, side, j)
	if err != nil {
		return nil, in, err
	}
	in.URL = g.gave(ctx, s, from)
	in.Size = entry.Size()
	sums, err := sumsOf(ctx, entry, s, fetched)
	if err != nil {
		entry.Close()
		return nil, in, fmt.Errorf("fetch %s: %w", side, err)
	}
	in.SHA512 = hexOf(sums[fetch.SHA512])
	in.SHA256 = hexOf(sums[fetch.SHA256])
	if err := s.agrees(&in); err != nil {
		entry.Close()
		return nil, in, err
	}
	return entry, in, nil
}

// get returns the bytes of a complete: from the cache, or fetched. Who asks for the same at the same addresses at one
// time shares one download and its error; who has other addresses does not have to wait for a slow one. fetched says that
// this call did it, and from is the address that gave them then.
func (g *Generator) get(ctx context.Context, s *Source, side string, j *job) (e *cache.Entry, fetched bool, from string, err error) {
	name := s.identity() + "\x00" + strings.Join(s.URLs, "\x00") + "\x00" + s.File
	for {
		g.mu.Lock()
		t := g.turns[name]
		first := t == nil
		if first {
			t = &turn{done: make(chan struct{})}
			g.turns[name] = t
		}
		g.mu.Unlock()
		if first {
			e, fetched, from, t.err = g.getFirst(ctx, s, side, j)
			if ctx.Err() != nil {
				t.left = true
			}
			g.mu.Lock()
			delete(g.turns, name)
			g.mu.Unlock()
			close(t.done)
			return e, fetched, from, t.err
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return nil, false, "", context.Cause(ctx)
		}
		switch {
		case t.left: // which says nothing about the address
		case t.err != nil:
			return nil, false, "", t.err
		default:
			if e, err := g.store.Get(ctx, cache.NewKey(cache.Completes, s.identity())); err == nil {
				return e, false, "", nil
			}
		}
	}
}

// maxGave bounds how many completes it is remembered of which address gave them.
const maxGave = 10_000

// gave returns the address among those of a source that gave its bytes, without credentials, and remembers it where it is
// known now, where there are several also beside the bytes; the first one where nobody knows. Addresses of others are not told.
func (g *Generator) gave(ctx context.Context, s *Source, from string) string {
	from = g.origin(ctx, s.identity(), redacted(from), len(s.URLs) > 1)
	for _, u := range s.URLs {
		if u = redacted(u); u == from {
			return u
		}
	}
	return redacted(strings.Join(append(slices.Clone(s.URLs), s.File)[:1], ""))
}

// origin returns the address that gave a complete: from, where it was fetched now, else what is remembered, by this generator
// and (several) by those before it. That it cannot be written down or read is no reason for an update to fail.
func (g *Generator) origin(ctx context.Context, identity, from string, several bool) string {
	g.mu.Lock()
	known := g.origins[identity]
	if from != "" {
		if len(g.origins) >= maxGave {
			clear(g.origins)
		}
		g.origins[identity] = from
	}
	g.mu.Unlock()
	key := cache.NewKey(Reports, "origin", identity)
	switch {
	case from == "" && known != "":
		return known
	case !several, from == known && from != "":
	case from != "":
		_, _ = g.store.Put(ctx, key, strings.NewReader(from))
	default:
		entry, err := g.store.Get(ctx, key)
		if err != nil {
			return ""
		}
		defer entry.Close()
		if data, err := io.ReadAll(entry.Reader()); err == nil {
			return string(data)
		}
	}
	return from
}

// turn is a download that others wait for.
type turn struct {
	done chan struct{} // closed when err and left are set
	err  error
	left bool // who did it gave up
}

// getFirst is get for the first of those who want a complete from the same addresses.
func (g *Generator) getFirst(ctx context.Context, s *Source, side string, j *job) (e *cache.Entry, fetched bool, from string, err error) {
	key := cache.NewKey(cache.Completes, s.identity())
	began := make(chan struct{})
	var address string // set before the value is there
	gave := func(err error) string {
		if err != nil { // who gives up does not wait for the filling, which may go on
			return ""
		}
		return address
	}
	type found struct {
		entry *cache.Entry
		err   error
	}
	done := make(chan found, 1)
	waiting, leave := context.WithCancel(ctx)
	defer leave()
	go func() {
		entry, err := g.store.GetOrFill(waiting, key, func(ctx context.Context, w io.Writer) error {
			close(began)
			file, err := g.fetch(ctx, s, side, j)
			if err != nil {
				return err // which of the two it is may be another one for others who wait for it
			}
			defer file.Close()
			address = file.URL()
			return fill(w, file)
		})
		done <- found{entry, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var f found
	select {
	case f = <-done:
	case <-began:
		f = <-done
		return f.entry, true, gave(f.err), f.err
	case <-timer.C: // somebody else fetches it, from addresses that are slow
		leave()
		f = <-done
	}
	select {
	case <-began:
		return f.entry, true, gave(f.err), f.err
	default:
	}
	if f.err == nil || ctx.Err() != nil || s.File != "" {
		return f.entry, false, "", f.err
	}
	// What went wrong with the addresses of others says nothing about these.
	file, err := g.fetch(ctx, s, side, j)
	if err != nil {
		return nil, true, "", err
	}
	defer file.Close()
	if _, err := g.store.Put(ctx, key, file.Reader()); err != nil {
		return nil, true, "", err
	}
	if e, err = g.store.Get(ctx, key); errors.Is(err, cache.ErrMiss) { // nothing is kept: so it is waited for after all
		e, err = g.store.GetOrFill(ctx, key, func(_ context.Context, w io.Writer) error { return fill(w, file) })
	}
	return e, true, file.URL(), err
}

// patience is how long a complete is waited for that somebody else fetches, before it is fetched from the own addresses.
const patience = 5 * time.Second

// fetch fetches a complete.
func (g *Generator) fetch(ctx context.Context, s *Source, side string, j *job) (*fetch.File, error) {
	urls, client := s.URLs, g.opts.Fetch
	if s.File != "" {
		local, err := fetch.New(&fetch.Options{Files: true, Attempts: 1, Dir: g.store.TempDir()})
		if err != nil {
			return nil, err
		}
		urls, client = []string{s.File}, local
	}
	return client.Fetch(ctx, fetch.Request{
		URLs: urls, Size: s.Size, Hashes: s.Hashes,
		Progress: func(done, total int64) { j.send(Event{Step: StepFetching, File: side, Done: done, Total: total}) },
	})
}

// fill hands a file that was fetched to the cache: as it is where that can take it.
func fill(w io.Writer, file *fetch.File) error {
	if adopter, ok := w.(cache.HashedAdopter); ok && adopter.AdoptHashed(file.Name(), file.SHA512()) == nil {
		file.Release()
		return nil
	}
	_, err := io.Copy(w, file.Reader())
	return err
}

// sumsOf returns the hashes of a complete that its source gives, compared, and its SHA-512. What was fetched for this
// source was compared with all of them; what was in the cache already is known by the one that names it.
func sumsOf(ctx context.Context, e *cache.Entry, s *Source, fetched bool) (map[fetch.Algorithm][]byte, error) {
	sums := map[fetch.Algorithm][]byte{}
	for _, h := range s.Hashes {
		if fetched || h.String() == s.identity() {
			sums[h.Algorithm] = h.Sum
		}
	}
	if info := e.Info(); info.SHA512 != [sha512.Size]byte{} {
		sums[fetch.SHA512] = info.SHA512[:]
	}
	unknown := map[fetch.Algorithm]hash.Hash{}
	var all []io.Writer
	for _, alg := range append(algorithms(s.Hashes), fetch.SHA512) {
		if sums[alg] != nil || unknown[alg] != nil {
			continue
		}
		h := alg.New()
		if h == nil {
			return nil, fmt.Errorf("unknown algorithm %q", string(alg))
		}
		unknown[alg] = h
		all = append(all, h)
	}
	if len(all) > 0 {
		if _, err := stream.Copy(ctx, io.MultiWriter(all...), e.Reader()); err != nil {
			return nil, err
		}
	}
	for alg, h := range unknown {
		sums[alg] = h.Sum(nil)
	}
	for _, h := range s.Hashes {
		if got := sums[h.Algorithm]; !bytes.Equal(got, h.Sum) {
			return nil, &fetch.DigestError{Algorithm: h.Algorithm, Want: bytes.Clone(h.Sum), Got: bytes.Clone(got)}
		}
	}
	return sums, nil
}

func algorithms(hashes []fetch.Hash) []fetch.Algorithm {
	var algs []fetch.Algorithm
	for _, h := range hashes {
		algs = append(algs, h.Algorithm)
	}
	return algs
}

// job is one update being made: who wants to know how far it is.
type job struct {
	mu        sync.Mutex
	listeners map[int]func(Event)
	next      int
	started   bool
	failure   error       // how making it ended
	report    *Provenance // what it came to before that
	steps     *steps
}

func (g *Generator) newJob(listeners ...func(Event)) *job {
	j := &job{listeners: map[int]func(Event){}, next: len(listeners), steps: &steps{tell: g.opts.Observe.Step}}
	for i, l := range listeners {
		j.listeners[i] = l
	}
	return j
}

// join adds a listener to the job of a key. leave takes it out again.
func (g *Generator) join(key cache.Key, progress func(Event)) (j *job, leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	j = g.jobs[key]
	if j == nil {
		j = g.newJob()
		g.jobs[key] = j
	}
	j.mu.Lock()
	id := j.next
	j.next++
	j.listeners[id] = progress
	j.mu.Unlock()
	return j, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.listeners, id)
		if len(j.listeners) == 0 && g.jobs[key] == j {
			delete(g.jobs, key)
		}
	}
}

// send tells every listener. Holding the lock while calling them is what promises each that it is never called from two
// goroutines at once, nor after it left.
func (j *job) send(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps.at(e.Step)
	for _, listener := range j.listeners {
		if listener != nil {
			listener(e)
		}
	}
}

// fail notes what an attempt came to that ends with an error.
func (j *job) fail(p *Provenance, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report, j.failure = p, err
}

// refused returns what an attempt came to that ended with err.
func (j *job) refused(err error) *Provenance {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == nil || !errors.Is(err, j.failure) {
		return nil
	}
	return j.report
}

func (j *job) start() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.started = true
}

// made reports whether the update was made while this caller waited.
func (j *job) made() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.started
}

// patches lets package partial keep patches in the store.
type patches struct{ g *Generator }

func (p patches) key(key partial.PatchKey) cache.Key {
	sum := key.Sum()
	return cache.NewKey(cache.Patches, "patch/1", string(sum[:]))
}

// Get implements partial.PatchCache.
func (p patches) Get(ctx context.Context, key partial.PatchKey) ([]byte, bool, error) {
	entry, err := p.g.store.Get(ctx, p.key(key))
	if errors.Is(err, cache.ErrMiss) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer entry.Close()
	value := make([]byte, entry.Size())
	if _, err := io.ReadFull(entry.Reader(), value); err != nil {
		return nil, false, err
	}
	return value, true, nil
}

// Put implements partial.PatchCache.
func (p patches) Put(ctx context.Context, key partial.PatchKey, value []byte) error {
	_, err := p.g.store.Put(ctx, p.key(key), bytes.NewReader(value))
	return err
}

// Package server is an update server on one machine: it answers clients from a compiled snapshot in memory, publishes
// changes of it, serves files, and makes the partial updates that its clients lack.
package server

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
)

// Options are what a server is told. Dir and URL are required.
type Options struct {
	Dir string // of everything that must not be lost
	// Postgres is the address of a PostgreSQL database that the book is kept in; "" is SQLite in Dir.
	Postgres string
	URL      *url.URL // scheme and host under which clients reach the server
	// Builds is how many older builds get a partial to a new release by itself; 0 means 3, a negative number none.
	Builds int
	// Review makes drafts of made partials instead of publishing them.
	Review bool
	// ClientParameter names the query parameter that tells clients apart in a throttled rule; "" is the address, cut to /24 or
	// /48 and hashed with a secret, which is never stored.
	ClientParameter string
	// TrustedProxies may say in X-Forwarded-For whom they ask for.
	TrustedProxies []netip.Prefix
	// Failures is how many wrong tokens of one address within ten minutes ban it, for Ban; 0 bans nobody. What clients ask is
	// answered all the same.
	Failures int
	Ban      time.Duration
	// Tokens are who may change things from elsewhere than this machine.
	Tokens []Token
	// Generator says how partials are made. Its Signers sign those whose complete is signed.
	Generator senbonzakura.Options
	// ContentSignature says how answers are signed; nil is not at all.
	ContentSignature *ContentSignature
	// Partiald makes the partials in place of the server; nil is the server itself.
	Partiald *Partiald
	// PublishMade is the shortest time between two publications of made partials; 0 means 5 s.
	PublishMade time.Duration
	// Purge is called behind each publication, to empty caches in front of the server; nil does nothing.
	Purge func(context.Context, book.Snapshot)
	Log   *slog.Logger
	// Replica makes this server answer what another one publishes, and publish nothing itself; nil is a server of its own.
	Replica *Replica
	// Policy says which changes need people to agree.
	Policy state.Policy
	// OpenBalrog lets everybody read Balrog's admin API without a token, as Balrog does.
	OpenBalrog bool
	// Now is the clock; nil is that of the system.
	Now func() time.Time
}

// Errors that callers branch on, besides those of packages state and book.
var (
	// ErrNothing says that a change changes nothing.
	ErrNothing = errors.New("server: nothing changes")
	// ErrInput says that something that was asked for makes no sense.
	ErrInput = errors.New("server: bad input")
	// ErrRefused says that a state would not be servable. The error is a [*RefusedError].
	ErrRefused = errors.New("server: refused")
)

// RefusedError says what makes a state unservable.
type RefusedError struct{ Problems []aus.Problem }

func (e *RefusedError) Error() string {
	s := "this cannot be served"
	for i, p := range e.Problems {
		if i == 10 {
			s += fmt.Sprintf("; and %d more", len(e.Problems)-i)
			break
		}
		s += "; " + p.String()
	}
	return s
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Reasons says what is wrong, one by one.
func (e *RefusedError) Reasons() []string {
	var list []string
	for _, p := range e.Problems {
		list = append(list, p.String())
	}
	return list
}

// Server is running. It is safe for concurrent use.
type Server struct {
	opts   Options
	book   *book.Book
	files  *os.Root
	log    *slog.Logger
	own    string // host of the server's own files
	base   string // scheme and host
	secret atomic.Pointer[[]byte]

	publishing sync.Mutex // one publication at a time
	writing    writes
	balrog     *balrogapi.API
	current    atomic.Pointer[published]

	generator *senbonzakura.Generator
	signedBy  *senbonzakura.Generator // makes what is signed; nil where there is no key
	cache     *cache.Layered
	disk      *cache.Disk

	lacking  lackingCounts // clients that were answered without a partial
	work     chan struct{} // there may be something to make
	ordering chan []string // products whose partials are to be ordered
	counts   counters
	signs    contentSigner
	locator  chain.Locator
	bans     chain.Bans

	signing  statements
	replica  replica
	replicas askers

	lifetime context.Context //nolint:containedctx // ends when the server is closed
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// published is what clients are answered from.
type published struct {
	head     book.Snapshot
	state    *state.State
	snapshot *aus.Snapshot
	problems []aus.Problem
	replaced chan struct{} // closed when something else is published
	said     saidAnswers
}

func newPublished(head book.Snapshot, st *state.State, snapshot *aus.Snapshot, problems []aus.Problem) *published {
	return &published{head: head, state: st, snapshot: snapshot, problems: problems, replaced: make(chan struct{}), said: saidAnswers{seed: maphash.MakeSeed()}}
}

// install lets clients be answered from something else, and tells replicas.
func (s *Server) install(p *published) {
	if old := s.current.Swap(p); old != nil {
		close(old.replaced)
	}
}

// Open starts a server: it reads what was published last and begins to make what is wanted. Close stops it.
func Open(ctx context.Context, opts Options) (*Server, error) {
	if opts.Builds == 0 {
		opts.Builds = 3
	}
	if opts.PublishMade == 0 {
		opts.PublishMade = 5 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: opts, log: opts.Log, own: opts.URL.Host, base: opts.URL.Scheme + "://" + opts.URL.Host,
		work: make(chan struct{}, 1), ordering: make(chan []string, 64), signs: contentSigner{opts: opts.ContentSignature, log: opts.Log},
		locator: chain.Locator{TrustedProxies: opts.TrustedProxies}, bans: chain.Bans{Failures: opts.Failures, Window: 10 * time.Minute, For: opts.Ban},
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.balrog = s.balrogAPI()
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	for _, dir := range []string{s.opts.Dir, filepath.Join(s.opts.Dir, "files"), filepath.Join(s.opts.Dir, "cache")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if s.files, err = os.OpenRoot(filepath.Join(s.opts.Dir, "files")); err != nil {
		return err
	}
	client, err := secret(ctx, filepath.Join(s.opts.Dir, secretName))
	if err != nil {
		return err
	}
	s.secret.Store(&client)
	if s.signing.key, err = Key(ctx, s.opts.Dir); err != nil {
		return err
	}
	if s.book, err = book.Open(ctx, cmp.Or(s.opts.Postgres, filepath.Join(s.opts.Dir, "ausd.db")), s.log); err != nil {
		return err
	}
	if err := s.book.Alone(ctx); errors.Is(err, database.ErrInUse) {
		return fmt.Errorf("server: %w: another ausd publishes there; make this one a replica of it, or stop that one first", err)
	} else if err != nil {
		return err
	}
	head, err := s.book.Head(ctx)
	if err != nil {
		return err
	}
	st, err := s.book.State(ctx, head.Seq, nil)
	if err != nil {
		return err
	}
	if got := st.Hash(); head.Seq > 0 && got != head.Hash {
		return fmt.Errorf("server: snapshot %d is damaged: its hash is %s, want %s", head.Seq, got, head.Hash)
	}
	snapshot, problems := aus.Compile(st.Config(s.own))
	now := newPublished(head, st, snapshot, problems)
	s.install(now)
	s.lifetime, s.stop = context.WithCancel(context.Background())
	if s.opts.Replica != nil {
		if err := s.openReplica(now); err != nil {
			return err
		}
		s.done.Go(func() { s.countDemand(s.lifetime) })
		s.done.Go(func() { s.follow(s.lifetime) })
		return nil
	}
	if err := s.book.Requeue(ctx); err != nil {
		return err
	}
	if s.disk, err = cache.OpenDisk(ctx, filepath.Join(s.opts.Dir, "cache"), &cache.DiskOptions{Log: s.log}); err != nil {
		return err
	}
	s.cache = cache.NewLayered([]cache.Store{s.disk}, nil)
	g := s.opts.Generator
	g.Cache, g.Log = s.cache, s.log
	if len(g.Signers) > 0 {
		if s.signedBy, err = senbonzakura.New(g); err != nil {
			return err
		}
	}
	g.Signers, g.Require = nil, nil
	if s.generator, err = senbonzakura.New(g); err != nil {
		return err
	}
	ctx = s.lifetime
	s.done.Go(func() { s.countDemand(ctx) })
	s.done.Go(func() { s.makeWanted(ctx) })
	s.done.Go(func() { s.orderPartials(ctx) })
	s.done.Go(func() { s.publishScheduled(ctx) })
	s.wake()
	return nil
}

// What tells clients apart.
const (
	secretName = "secret"
	secretSize = 32 // bytes
)

// secret returns 32 bytes that are made once.
func secret(ctx context.Context, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err == nil {
		b, err := hex.DecodeString(string(text))
		if err != nil || len(b) != secretSize {
			return nil, fmt.Errorf("%s holds no secret: remove it to have another made", file)
		}
		return b, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b := make([]byte, secretSize)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	return b, writeSecret(ctx, file, b)
}

func writeSecret(ctx context.Context, file string, b []byte) error {
	return atomicfile.Write(ctx, file, 0o600, func(w io.Writer) error {
		_, err := io.WriteString(w, hex.EncodeToString(b))
		return err
	})
}

// Close stops what is being made and closes everything.
func (s *Server) Close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
	}
	s.done.Wait()
	for _, g := range []*senbonzakura.Generator{s.generator, s.signedBy} {
		if g != nil {
			errs = append(errs, g.Close())
		}
	}
	if s.cache != nil {
		errs = append(errs, s.cache.Close())
	}
	if s.disk != nil {
		errs = append(errs, s.disk.Close())
	}
	if s.book != nil {
		errs = append(errs, s.book.Close())
	}
	if s.files != nil {
		errs = append(errs, s.files.Close())
	}
	return errors.Join(errs...)
}

// now is the time.
func (s *Server) now() time.Time {
	if s.opts.Now != nil {
		return s.opts.Now()
	}
	return time.Now()
}

// wake tells the maker that there may be something to make.
func (s *Server) wake() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// client is what tells clients apart: as good as random, and not to be traced back without the secret.
func (s *Server) client(name string) string {
	m := hmac.New(sha256.New, *s.secret.Load())
	m.Write([]byte(name))
	return string(m.Sum(nil)[:16])
}

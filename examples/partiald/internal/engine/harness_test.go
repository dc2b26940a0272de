package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue/queuetest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

func TestMain(m *testing.M) {
	queuetest.Main()
	if testkit.Count(1, 0, 0) == 1 { // with the promised counts on a disk
		testkit.InMemory()
	}
	if !testkit.Race { // with which they compute most of the time
		testkit.AtOnce(10)
	}
	debug.SetGCPercent(400) // encoders are large and live for a moment
	goleak.VerifyTestMain(m, queuetest.NotOurs())
}

// origin serves completes and counts requests.
type origin struct {
	*httptest.Server
	requests atomic.Int64
	files    sync.Map
	// before, if set, is called before an answer and may give it itself.
	before atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
}

func newOrigin(tb testing.TB) *origin {
	tb.Helper()
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		if before := o.before.Load(); before != nil && (*before)(w, r) {
			return
		}
		data, ok := o.files.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data.([]byte))
	}))
	tb.Cleanup(o.Close)
	return o
}

func (o *origin) intercept(f func(w http.ResponseWriter, r *http.Request) bool) { o.before.Store(&f) }

func (o *origin) source(data []byte) job.Source {
	sum := sha512.Sum512(data)
	name := "/" + hex.EncodeToString(sum[:8]) + ".mar"
	o.files.Store(name, data)
	return job.Source{URLs: []string{o.URL + name}, SHA512: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// spec makes the spec of a job that can be done. salt makes it another one.
func (o *origin) spec(tb testing.TB, salt string) job.Spec {
	tb.Helper()
	return job.Spec{From: o.source(testrelease.Complete(tb, "140.1", salt)), To: o.source(testrelease.Complete(tb, "140.2", salt)), Locale: "de"}
}

// node is a server of the service, without its outside.
type node struct {
	*engine.Engine
	t      testing.TB
	o      engine.Options
	disk   *cache.Disk
	layers *cache.Layered
	closed bool
}

// setting says how nodes are made.
type setting struct {
	dir     string // of the node
	queue   queue.Options
	ledger  string          // PostgreSQL; "" is SQLite in dir
	storage storage.Backend // shared; nil for none
	options func(*engine.Options)
}

var nodes atomic.Int64

// open starts a node. It is closed at the end of the test, if not before.
func open(tb testing.TB, s setting) *node {
	tb.Helper()
	n := &node{t: tb}
	ctx := tb.Context()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("PARTIALD_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	name := fmt.Sprintf("node%d", nodes.Add(1))
	if s.queue.Server == "" {
		s.queue.Server = name
	}
	if s.queue.Dir == "" && len(s.queue.URLs) == 0 {
		s.queue.Dir = filepath.Join(s.dir, "queue")
	}
	s.queue.Log = log
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	n.disk, err = cache.OpenDisk(ctx, filepath.Join(s.dir, "cache"), nil)
	check(err)
	tb.Cleanup(func() { n.disk.Close() })
	tiers := []cache.Store{n.disk}
	if s.storage != nil {
		client, err := storage.Local(s.storage)
		check(err)
		tb.Cleanup(func() { client.Close() })
		tier, err := storage.NewTier(client, &storage.TierOptions{TempDir: tb.TempDir()})
		check(err)
		n.o.Storage = &engine.Storage{Client: client, Tier: tier}
		tiers = append(tiers, tier)
	}
	n.o.Queue, err = queue.Open(ctx, s.queue)
	check(err)
	tb.Cleanup(func() { n.o.Queue.Close() })
	if store := n.o.Queue.Store(); store != nil {
		tiers = append(tiers, store)
	}
	n.layers = cache.NewLayered(tiers, nil)
	tb.Cleanup(func() { n.layers.Close() })
	if s.ledger == "" {
		n.o.Ledger, err = ledger.OpenSQLite(ctx, filepath.Join(s.dir, "ledger.db"), nil)
	} else {
		n.o.Ledger, err = ledger.OpenPostgres(ctx, s.ledger, nil)
	}
	check(err)
	tb.Cleanup(func() { n.o.Ledger.Close() })
	n.o.Server, n.o.Cache, n.o.Disk, n.o.Log = name, n.layers, n.disk, log
	n.o.Fetch = fetch.Options{
		Insecure: true, Attempts: 2, Backoff: 1, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	n.o.RetryDelay = 10 * time.Millisecond
	n.o.RequeueEvery = 200 * time.Millisecond
	if s.options != nil {
		s.options(&n.o)
	}
	n.Engine, err = engine.New(ctx, n.o)
	check(err)
	tb.Cleanup(n.close)
	return n
}

// close ends a node and everything below it.
func (n *node) close() {
	if n.closed {
		return
	}
	n.closed = true
	if err := n.Close(); err != nil {
		n.t.Error(err)
	}
	n.o.Queue.Close()
	n.o.Ledger.Close()
	n.layers.Close()
	n.disk.Close()
}

var alice = job.Asker{Name: "alice", Address: "192.0.2.1", RequestID: "r1"}

func (n *node) submit(spec job.Spec) job.Status {
	n.t.Helper()
	s, _, err := n.Submit(n.t.Context(), spec, alice)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// wait waits until a job has ended.
func (n *node) wait(id string) job.Status {
	n.t.Helper()
	return n.until(id, func(s job.Status) bool { return s.State.Final() })
}

func (n *node) until(id string, ok func(job.Status) bool) job.Status {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 60*time.Second)
	defer cancel()
	c, err := n.Watch(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	var last job.Status
	for s := range c {
		if last = s; ok(s) {
			return s
		}
	}
	n.t.Fatalf("job %s is %s after a minute: %+v", id, last.State, last.Changes)
	return last
}

// bytes reads an artifact and compares it with what is said of it.
func (n *node) bytes(id string) []byte {
	n.t.Helper()
	a, err := n.Artifact(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	defer a.Close()
	data, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size))
	if err != nil {
		n.t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha512.Sum512(data)); got != a.SHA512 {
		n.t.Errorf("SHA-512 of the artifact is %s, want %s", got, a.SHA512)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != a.SHA256 {
		n.t.Errorf("SHA-256 of the artifact is %s, want %s", got, a.SHA256)
	}
	return data
}

// check proves that an artifact turns FROM into TO.
func (o *origin) check(t *testing.T, spec job.Spec, data []byte) {
	t.Helper()
	readers := make([]*mar.Reader, 3)
	for i, b := range [][]byte{o.file(t, spec.From), data, o.file(t, spec.To)} {
		var err error
		if readers[i], err = mar.NewReader(bytes.NewReader(b), int64(len(b)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := partial.Verify(t.Context(), readers[0], readers[1], readers[2], nil); err != nil {
		t.Error(err)
	}
}

func (o *origin) file(t *testing.T, s job.Source) []byte {
	t.Helper()
	data, ok := o.files.Load(strings.TrimPrefix(s.URLs[0], o.URL))
	if !ok {
		t.Fatalf("no file of %s", s.URLs[0])
	}
	return data.([]byte)
}

// directory is a storage that nodes share.
func directory(t *testing.T) storage.Backend {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d, err := storage.NewDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return shared{d}
}

// shared keeps a backend open when one of its users closes.
type shared struct{ *storage.Dir }

// Close hides the directory's.
func (shared) Close() error { return nil }

// clock is one that can be set.
type clock struct {
	mu      sync.Mutex
	offset  time.Duration
	stopped time.Time
}

func newClock() *clock { return &clock{} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped
	}
	return time.Now().Add(c.offset)
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.offset = time.Time{}, time.Until(t)
}

// jump makes the clock jump away and, the next time, back; 0 stops it and lets it go on.
func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case d == 0 && c.stopped.IsZero():
		c.stopped = time.Now()
	case d == 0 || c.offset != 0:
		c.stopped, c.offset = time.Time{}, 0
	default:
		c.offset = d
	}
}

func sumOf(t *testing.T, id string) (sum [32]byte) {
	t.Helper()
	b, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	copy(sum[:], b)
	return sum
}

// signer is one whose key is made once for all tests.
func signer(t *testing.T) engine.Signer {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Signer{Name: "test", Signer: s}
}

var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

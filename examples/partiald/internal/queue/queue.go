// Package queue has the jobs of partiald that wait or are under work, and what its servers tell each other, on NATS
// JetStream: embedded in the process without any port, embedded and joined with the other servers to a cluster, or an
// engine that is there already.
//
//	stream PREFIX-jobs          one message for each job that waits or is under work, on
//	                            PREFIX.jobs.<priority>.<id>.<anything>; it is gone when a worker has acknowledged it
//	bucket PREFIX-state         on disk: job.<id>, ban.<address>, batch.<id>
//	bucket PREFIX-live          in memory: worker.<server>, progress.<id>, rate.<key>
//	bucket PREFIX-objects       artifacts, where Options.Objects asks for it
//
// # What is promised, and what is not
//
// A job has at most one message, whatever its priority: publishing it again gives [ErrExists] until the first one was
// acknowledged. What was published has been synced to the disk (of most replicas). A worker that dies is noticed after
// AckWait, and its message delivered again.
//
// JetStream itself is not trusted to lose nothing: of damaged files it drops what it cannot read without a word, and
// reads may block. So every request here ends after Options.Timeout, every value carries its SHA-256, and those who
// accepted a job look after it themselves, with [Queue.Jobs]. A worker that was given up may still acknowledge what
// another one was given since; so nobody may conclude from a message being gone that its job is done.
package queue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Options say which queue. Dir or URLs is required.
type Options struct {
	// Server is the name of this server, unique among those that share the queue.
	Server string
	// Prefix begins the names of all streams, buckets and subjects: letters, digits, - and _; "" means "partiald".
	// Services with different prefixes share an engine without seeing each other.
	Prefix string

	// Dir is where the embedded engine keeps its files.
	Dir string
	// Lazy lets the embedded engine acknowledge before files are synced, every two minutes. Faster, and a power cut
	// costs what came since; the ledger then queues it again.
	Lazy bool
	// Listen is an address for NATS clients of the embedded engine, as "127.0.0.1:4222"; "" means that there is none.
	// Everybody who reaches it can do everything.
	Listen string
	// Cluster joins the embedded engine with others.
	Cluster *Cluster

	// URLs are those of an external engine; Dir is not used then.
	URLs []string
	// Credentials is a file of NATS credentials for it, and TLS its configuration of TLS; both may be left out.
	Credentials string
	TLS         *tls.Config

	// Replicas is how many copies there are of everything; 0 means 3 where there are as many servers, else 1. Of what an
	// external engine has already there stay as many as there are.
	Replicas int
	// Limit is the largest number of jobs that wait or are under work; 0 means 10,000.
	Limit int
	// AckWait is how long a worker may be silent before its job is given to another; 0 means 30 s.
	AckWait time.Duration
	// Timeout bounds every request to the engine; 0 means 5 s.
	Timeout time.Duration
	// StartTimeout bounds how long Open waits for the engine, and for the others of its cluster; 0 means 60 s.
	StartTimeout time.Duration
	// Objects makes a bucket for artifacts, for clusters without a storage plugin.
	Objects bool
	// TempDir is where artifacts of that bucket are while they are read; "" means os.TempDir().
	TempDir string
	// Log receives what happens; nil discards it.
	Log *slog.Logger
}

// Cluster says how embedded engines find each other.
type Cluster struct {
	// Name is the same on all of them; "" means the queue's prefix.
	Name string
	// Listen is the address for the others, as "10.0.0.1:6222".
	Listen string
	// Routes are the others' addresses, as "10.0.0.2:6222". The own one may be among them.
	Routes []string
	// Secret is what they know each other by; "" lets everybody in who reaches Listen.
	Secret string
	// TLS, if not nil, protects the connections; it must have a certificate and the CAs of both directions.
	TLS *tls.Config
}

// Errors that callers branch on; test with errors.Is.
var (
	// ErrExists: the job has a message already, or the key a value.
	ErrExists = errors.New("exists already")
	// ErrFull: there are as many jobs as Options.Limit allows.
	ErrFull = errors.New("queue is full")
	// ErrNotFound: the key has no value, or one that was damaged.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else changed the value since.
	ErrConflict = errors.New("changed by somebody else")
	// ErrUnavailable: the engine does not answer. It unwraps to what happened.
	ErrUnavailable = errors.New("queue is not available")
	// ErrDamaged: the embedded engine has lost what it counts; Repair mends that. ErrUnavailable comes with it.
	ErrDamaged = errors.New("files of the queue are damaged")
)

// Priorities is how many there are: 0 to 9.
const Priorities = 10

// pollEvery is how often a worker looks for jobs that came without its being woken: handed back, or given up by others.
const pollEvery = time.Second

// Queue is an open queue. It is safe for concurrent use.
type Queue struct {
	o        Options
	embedded *embedded // nil where the engine is external
	nc       *nats.Conn
	js       jetstream.JetStream

	handles
	repairing sync.Mutex
	created   map[string]time.Time // of the streams, as this server knows them
	failing   time.Time            // since when the engine that is alone does not take what Repair writes; zero if it does
	damaged   atomic.Bool          // the engine that is alone has to be started again
	sick      chan struct{}

	pulls pulls
	turn  chan struct{} // held by the one who asks for the next job
	woken chan struct{}
	close sync.Once
}

// handles are what the queue is made of. They hold names, and stay good when what they name is made again.
type handles struct {
	jobs    jetstream.Stream
	values  jetstream.Stream // of state
	state   jetstream.KeyValue
	live    jetstream.KeyValue
	objects *objects
}

// Open starts the embedded engine, or connects to an external one, and makes what is missing there. It waits until the
// engine answers, for StartTimeout at most: a cluster does when most of its members have been started.
func Open(ctx context.Context, o Options) (*Queue, error) {
	if o.Prefix == "" {
		o.Prefix = "partiald"
	}
	if strings.Trim(o.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return nil, fmt.Errorf("queue: prefix %q: want letters, digits, - and _", o.Prefix)
	}
	if o.Server == "" {
		return nil, errors.New("queue: the server has no name")
	}
	if len(o.URLs) == 0 && o.Dir == "" {
		return nil, errors.New("queue: neither a directory nor the URLs of an engine")
	}
	if len(o.URLs) > 0 && (o.Cluster != nil || o.Listen != "") {
		return nil, errors.New("queue: an external engine does not listen here and is not joined with others from here")
	}
	if o.Replicas == 0 && len(o.URLs) == 0 {
		o.Replicas = 1
		if o.Cluster != nil {
			o.Replicas = 3
		}
	}
	def(&o.Limit, 10_000)
	def(&o.AckWait, 30*time.Second)
	def(&o.Timeout, 5*time.Second)
	def(&o.StartTimeout, time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{o: o, turn: make(chan struct{}, 1), woken: make(chan struct{}, 1), sick: make(chan struct{}, 1)}
	if err := q.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("queue: %w", err), q.Close())
	}
	return q, nil
}

func def[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

func (q *Queue) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, q.o.StartTimeout)
	defer cancel()
	if len(q.o.URLs) == 0 {
		q.embedded = &embedded{password: rand.Text()}
		if err := q.embed(); err != nil {
			return err
		}
	}
	if err := q.connect(ctx); err != nil {
		return err
	}
	var err error
	q.handles, err = q.ready(ctx)
	return err
}

// ready waits until the engine answers, and everything is there.
func (q *Queue) ready(ctx context.Context) (handles, error) {
	// A cluster has to find a leader first, and each stream one of its own: everything is tried until it works.
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		// While there is no leader nobody answers at all. What one round has made the next one finds. An engine that is
		// alone answers, be it late: what is asked a second time it would do beside the first.
		within := min(q.o.Timeout, 10*wait+500*time.Millisecond)
		if !q.Shared() {
			within = q.o.StartTimeout / 4
		}
		h, err := q.round(ctx, within)
		if err == nil {
			return h, nil
		}
		var api *jetstream.APIError
		if errors.As(err, &api) && !passing(api) || errors.Is(err, nats.ErrConnectionClosed) {
			return h, err
		}
		q.o.Log.InfoContext(ctx, "queue: waiting for the engine", "error", err)
		select {
		case <-ctx.Done():
			return h, fmt.Errorf("the engine is not ready after %v: %w", q.o.StartTimeout, err)
		case <-time.After(wait):
		}
	}
}

// round makes what is missing, and looks whether all that an engine has which is alone can be read. within bounds each
// step but the look, which takes as long as there is much.
func (q *Queue) round(ctx context.Context, within time.Duration) (h handles, err error) {
	making, done := context.WithTimeout(ctx, within)
	defer done()
	q.copies(making)
	if h, err = q.setUp(making, !q.Shared()); err != nil {
		return h, err
	}
	if !q.Shared() {
		if h, err = q.salvage(ctx, h); err != nil {
			return h, err
		}
	}
	looking, done := context.WithTimeout(ctx, within)
	defer done()
	_, err = q.missing(looking)
	return h, err
}

// passing says whether an answer of the engine may be another one soon.
func passing(e *jetstream.APIError) bool {
	switch e.ErrorCode {
	case 10005, // no suitable peers for placement: they may not have joined yet
		10074, // replicas > 1 not supported in non-clustered mode: the cluster has not formed
		10058: // stream name in use: another server is making it just now
		return true
	case 10028, 10047, 10023: // no memory, no disk, no resources: somebody has to do something about it
		return false
	}
	return e.Code >= 500
}

// embed starts an engine in this process.
func (q *Queue) embed() error {
	o := &server.Options{
		ServerName: q.o.Server, DontListen: q.o.Listen == "", JetStream: true, StoreDir: q.o.Dir,
		SyncAlways: !q.o.Lazy, NoSigs: true, JetStreamMaxMemory: 256 << 20, DisableShortFirstPing: true,
		// What the disk has is the limit. Else it would be three quarters of what was free at the start, for as long as
		// the process lives.
		JetStreamMaxStore: 1 << 50,
	}
	if q.o.Listen != "" {
		var err error
		if o.Host, o.Port, err = address(q.o.Listen); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	if o.DontListen && q.o.Cluster != nil {
		// The engine begins to listen to its cluster only after it listens to clients. So it does, on some port of this
		// machine alone, to clients that know a password which nobody does but the connection below.
		o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
		o.Username, o.Password = "partiald", q.embedded.password
	}
	if c := q.o.Cluster; c != nil {
		host, port, err := address(c.Listen)
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		o.Cluster = server.ClusterOpts{Name: c.Name, Host: host, Port: port, TLSConfig: c.TLS, PoolSize: -1}
		if o.Cluster.Name == "" {
			o.Cluster.Name = q.o.Prefix
		}
		if c.TLS != nil {
			o.Cluster.TLSTimeout = 5
		}
		for _, route := range c.Routes {
			if _, _, err := address(route); err != nil {
				return fmt.Errorf("cluster: route: %w", err)
			}
			u := &url.URL{Scheme: "nats", Host: route}
			if c.Secret != "" {
				u.User = url.UserPassword("partiald", c.Secret)
			}
			o.Routes = append(o.Routes, u)
		}
		if c.Secret != "" {
			o.Cluster.Username, o.Cluster.Password, o.Cluster.AuthTimeout = "partiald", c.Secret, 5
		}
	}
	if !q.Shared() {
		if err := distrust(q.o.Dir); err != nil {
			return err
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return err
	}
	log := &natsLog{q.o.Log, make(chan string, 1)}
	ns.SetLoggerV2(log, false, false, false)
	if !q.embedded.set(ns) {
		return errClosed
	}
	go ns.Start()
	for begin := time.Now(); !ns.ReadyForConnections(200 * time.Millisecond); {
		select {
		case why := <-log.fatal:
			return fmt.Errorf("the embedded engine does not start: %s", why)
		default:
			if time.Since(begin) > q.o.StartTimeout {
				return errors.New("the embedded engine does not start; its directory may be in use")
			}
		}
	}
	return nil
}

func address(s string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("address %s: bad port", s)
	}
	return host, int(n), nil
}

func (q *Queue) connect(ctx context.Context) error {
	dial := q.o.Timeout
	if end, ok := ctx.Deadline(); ok { // for all of them, one after the other
		dial = max(min(dial, time.Until(end)/time.Duration(max(len(q.o.URLs), 1))), 250*time.Millisecond)
	}
	log := q.o.Log
	options := []nats.Option{
		nats.Name("partiald " + q.o.Server), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, time.Second), nats.Timeout(dial),
		nats.ReconnectBufSize(-1), // nothing is sent late: who sends it is told instead
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("queue: connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("queue: connected again", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("queue: connection", "error", err) }),
	}
	address := strings.Join(q.o.URLs, ",")
	if q.embedded != nil {
		options = append(options, nats.InProcessServer(q.embedded), nats.IgnoreDiscoveredServers())
		if q.o.Cluster != nil && q.o.Listen == "" {
			options = append(options, nats.UserInfo("partiald", q.embedded.password))
		}
	} else {
		if q.o.Credentials != "" {
			options = append(options, nats.UserCredentials(q.o.Credentials))
		}
		if q.o.TLS != nil {
			options = append(options, nats.Secure(q.o.TLS))
		}
	}
	nc, err := nats.Connect(address, options...)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	q.nc = nc
	q.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(q.o.Timeout))
	if err != nil {
		return err
	}
	if err := q.pulls.open(nc); err != nil {
		return err
	}
	_, err = nc.Subscribe(q.o.Prefix+".wake", func(*nats.Msg) { q.wake() })
	return err
}

// copies finds out how many copies there are to be, where nobody said so.
func (q *Queue) copies(ctx context.Context) {
	if q.o.Replicas > 0 {
		return
	}
	q.o.Replicas = 1
	servers := map[string]bool{}
	for _, s := range q.nc.Servers() { // those that were named and those that these told about
		if u, err := url.Parse(s); err == nil {
			servers[u.Host] = true
		}
	}
	if len(servers) >= 3 {
		q.o.Replicas = 3
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	if stream, err := q.js.Stream(ctx, q.o.Prefix+"-jobs"); err == nil {
		if n := stream.CachedInfo().Config.Replicas; n > 0 {
			q.o.Replicas = n
		}
	}
	if q.o.Replicas < 3 {
		q.o.Log.WarnContext(ctx, "queue: one copy of everything: what a server loses comes back only from the ledger", "servers", len(servers), "replicas", q.o.Replicas)
	}
}

// Replicas returns how many copies there are of everything.
func (q *Queue) Replicas() int { return q.o.Replicas }

// setUp makes streams, buckets and consumers, or brings them to what the options say.
// alone says that nobody works on any job now.
func (q *Queue) setUp(ctx context.Context, alone bool) (h handles, err error) {
	name := q.o.Prefix + "-jobs"
	if h.jobs, err = q.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Description: "jobs that wait or are under work", Subjects: []string{q.o.Prefix + ".jobs.*.*.*"},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: q.o.Replicas,
		MaxMsgs: int64(q.o.Limit), MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		AllowDirect: false, MaxMsgSize: 1 << 20,
	}); err != nil {
		return h, fmt.Errorf("stream %s: %w", name, err)
	}
	// In a cluster each of them elects a leader, so all at once.
	var group errgroup.Group
	for p := range Priorities {
		group.Go(func() error { return q.consumer(ctx, h.jobs, p, alone) })
	}
	group.Go(func() error { return q.buckets(ctx, &h) })
	return h, group.Wait()
}

// consumer makes the consumer of a priority.
func (q *Queue) consumer(ctx context.Context, jobs jetstream.Stream, p int, alone bool) error {
	name := fmt.Sprintf("p%d", p)
	if alone {
		// What was under work when the process ended waits again. The engine would deliver it
		// only after AckWait.
		if err := jobs.DeleteConsumer(ctx, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
	}
	_, err := jobs.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: fmt.Sprintf("%s.jobs.%d.*.*", q.o.Prefix, p),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.o.AckWait,
		// Who takes a job counts how often its workers died; see the engine. Messages of which JetStream would give up
		// the delivery would stay, and keep the job from being queued ever again.
		MaxDeliver: -1, MaxAckPending: 10_000,
	})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", name, err)
	}
	return nil
}

// buckets makes the buckets.
func (q *Queue) buckets(ctx context.Context, h *handles) (err error) {
	if h.state, err = q.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: q.o.Prefix + "-state", Description: "how jobs stand", Storage: jetstream.FileStorage, Replicas: q.o.Replicas,
		History: 1, LimitMarkerTTL: time.Minute,
	}); err != nil {
		return fmt.Errorf("bucket state: %w", err)
	}
	if h.values, err = q.js.Stream(ctx, "KV_"+q.o.Prefix+"-state"); err != nil {
		return fmt.Errorf("bucket state: %w", err)
	}
	if h.live, err = q.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: q.o.Prefix + "-live", Description: "workers, progress and rates", Storage: jetstream.MemoryStorage,
		Replicas: q.o.Replicas, History: 1, LimitMarkerTTL: time.Minute,
	}); err != nil {
		return fmt.Errorf("bucket live: %w", err)
	}
	if q.o.Objects {
		store, err := q.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: q.o.Prefix + "-objects", Description: "artifacts", Storage: jetstream.FileStorage, Replicas: q.o.Replicas,
		})
		if err != nil {
			return fmt.Errorf("bucket objects: %w", err)
		}
		h.objects = &objects{store: store, name: q.o.Prefix + "-objects", timeout: q.o.Timeout, dir: q.o.TempDir}
	}
	return nil
}

// missing says whether a stream or a consumer is not there, or a stream is another one than before.
func (q *Queue) missing(ctx context.Context) (bool, error) {
	names := []string{q.o.Prefix + "-jobs", "KV_" + q.o.Prefix + "-state", "KV_" + q.o.Prefix + "-live"}
	if q.o.Objects {
		names = append(names, "OBJ_"+q.o.Prefix+"-objects")
	}
	now := map[string]time.Time{}
	for _, name := range names {
		s, err := q.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return true, nil
		}
		if err != nil {
			return false, unavailable("look for stream "+name, err)
		}
		now[name] = s.CachedInfo().Created
		if name == names[0] && s.CachedInfo().State.Consumers < Priorities {
			return true, nil
		}
	}
	other := q.created != nil && !maps.EqualFunc(q.created, now, time.Time.Equal)
	q.created = now
	return other, nil
}

// Repair makes again what is missing of streams and buckets: an engine that is alone forgets those in memory when it
// restarts. An embedded one that nobody else uses is started again where it is damaged or does not take anything any
// more. Repair says whether there was something, be it that another server has made it again. Watches have to be begun
// again then.
func (q *Queue) Repair(ctx context.Context) (bool, error) {
	q.repairing.Lock()
	defer q.repairing.Unlock()
	if !q.Shared() {
		if restarted, err := q.mend(ctx); restarted || err != nil {
			return restarted, err
		}
	}
	ctx, cancel := q.request(ctx)
	defer cancel()
	missing, err := q.missing(ctx)
	if !missing || err != nil {
		return false, err
	}
	if _, err := q.setUp(ctx, false); err != nil {
		return false, unavailable("repair", err)
	}
	_, err = q.missing(ctx)
	return true, err
}

// Shared says whether other servers can work on the jobs of the queue.
func (q *Queue) Shared() bool { return len(q.o.URLs) > 0 || q.o.Cluster != nil || q.o.Listen != "" }

// Limit is how many jobs may wait or be under work.
func (q *Queue) Limit() int { return q.o.Limit }

// AckWait is how long a worker may be silent.
func (q *Queue) AckWait() time.Duration { return q.o.AckWait }

// String says what kind of queue it is.
func (q *Queue) String() string {
	switch {
	case len(q.o.URLs) > 0:
		return "external NATS"
	case q.o.Cluster != nil:
		return "embedded NATS, clustered"
	}
	return "embedded NATS"
}

// Close leaves the engine, and ends it where it is embedded. Calls under way fail. Closing twice is fine.
func (q *Queue) Close() error {
	var err error
	q.close.Do(func() {
		if q.nc != nil {
			q.nc.Close()
		}
		if q.embedded == nil {
			return
		}
		q.embedded.close()
		q.repairing.Lock() // which ends soon without the connection
		defer q.repairing.Unlock()
		if !q.embedded.end(closeWithin) {
			err = errors.New("queue: the embedded engine does not end")
		}
	})
	return err
}

// closeWithin is how long Close waits for an engine that hangs.
const closeWithin = 30 * time.Second

// request bounds a request.
func (q *Queue) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, q.o.Timeout)
}

// unavailable wraps an error of a request.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}

// seal puts the hash of a value in front of it, and unseal takes it off.
func seal(value []byte) []byte {
	sum := sha256.Sum256(value)
	return append(sum[:], value...)
}

func unseal(data []byte) ([]byte, bool) {
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data[:sha256.Size]) {
		return nil, false
	}
	return data[sha256.Size:], true
}

// natsLog brings what the embedded engine says into our log.
type natsLog struct {
	log   *slog.Logger
	fatal chan string // why it ended
}

func (l *natsLog) say(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "nats: "+fmt.Sprintf(format, args...))
}

func (l *natsLog) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l *natsLog) Errorf(format string, args ...any)  { l.say(slog.LevelError, format, args) }
func (l *natsLog) Debugf(format string, args ...any)  {}
func (l *natsLog) Tracef(format string, args ...any)  {}

func (l *natsLog) Warnf(format string, args ...any) {
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // ours are in no file of its
	}
	l.say(slog.LevelWarn, format, args)
}

func (l *natsLog) Fatalf(format string, args ...any) {
	l.say(slog.LevelError, format, args)
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}

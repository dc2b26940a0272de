package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/engine"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue/queuetest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// backend makes settings whose nodes share a queue, as far as they can.
type backend func(t *testing.T) setting

// tests run on every backend. Those that need several servers to mean anything are marked: on external backends only
// these run unless long tests are asked for.
var tests = []struct {
	name    string
	several bool
	run     func(*testing.T, backend)
}{
	{"life", true, testLife},
	{"failures", false, testFailures},
	{"cancel", false, testCancel},
	{"uploads", false, testUploads},
	{"drain", true, testDrain},
	{"stale worker", false, testStale},
	{"dead workers", false, testDeadWorkers},
	{"queue full", false, testFull},
	{"batch", true, testBatch},
	{"purge", true, testPurge},
	{"secrets", false, testSecrets},
	{"lost in the queue", false, testLost},
	{"other signers", true, testStrangers},
	{"bans", true, testBans},
	{"rates", true, testRates},
	{"health", false, testHealth},
	{"clock", false, testClock},
}

// externalTests need servers that share a queue.
var externalTests = []struct {
	name string
	run  func(*testing.T, *external)
}{
	{"many servers", testManyServers},
	{"guardian", testGuardian},
	{"purged twice", testPurgedTwice},
	{"deaf", testDeaf},
}

// TestEngine runs the same tests on what needs nothing, an embedded queue and SQLite, and on an external queue,
// PostgreSQL and a storage; long tests also on a cluster of three.
func TestEngine(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("external %d", servers), func(t *testing.T) {
			if servers > 1 {
				testkit.Long(t, "elections")
			} else {
				t.Parallel()
			}
			external := newExternal(t, servers)
			t.Run("all", func(t *testing.T) {
				for _, tt := range tests {
					t.Run(tt.name, func(t *testing.T) {
						if !tt.several {
							testkit.Long(t, "it runs on the embedded backend, too")
						}
						if servers == 1 {
							t.Parallel()
						}
						tt.run(t, external.backend)
					})
				}
				if servers > 1 {
					return
				}
				for _, tt := range externalTests {
					t.Run(tt.name, func(t *testing.T) {
						t.Parallel()
						tt.run(t, external)
					})
				}
			})
		})
	}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, func(t *testing.T) setting { t.Helper(); return setting{dir: t.TempDir()} })
			})
		}
	})
}

// external is a NATS of its own process or processes, and a PostgreSQL.
type external struct {
	urls     []string
	replicas int
	postgres *pgtest.Server
	n        atomic.Int64
}

func newExternal(t *testing.T, servers int) *external {
	t.Helper()
	e := &external{replicas: servers}
	if servers == 1 {
		e.urls = []string{queuetest.Start(t)}
	} else {
		e.urls = queuetest.URLs(queuetest.Cluster(t, servers))
	}
	if pgtest.Found() {
		e.postgres = pgtest.Postgres(t)
	} else {
		t.Log("no PostgreSQL: these tests use SQLite as well")
	}
	return e
}

// backend makes a setting that no other test sees.
func (e *external) backend(t *testing.T) setting {
	t.Helper()
	s := setting{dir: t.TempDir(), storage: directory(t)}
	s.queue = queue.Options{URLs: e.urls, Prefix: fmt.Sprintf("t%d", e.n.Add(1)), Replicas: e.replicas}
	if e.postgres != nil {
		s.ledger = e.postgres.Database(t)
	}
	return s
}

// another makes the setting of a second node: with the queue, the storage and, where it is PostgreSQL, the ledger of
// the first. It returns false where that cannot be.
func (s setting) another(t *testing.T) (setting, bool) {
	t.Helper()
	s.dir = t.TempDir()
	return s, len(s.queue.URLs) > 0
}

func codeOf(err error) job.Code {
	var e *job.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func states(s job.Status) (list []job.State) {
	for _, c := range s.Changes {
		list = append(list, c.State)
	}
	return list
}

func testLife(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	var mu sync.Mutex
	seen := map[job.State]int{}
	finished := 0
	setting := b(t)
	setting.options = func(o *engine.Options) {
		o.Observer.State = func(_ string, _, to job.State) { mu.Lock(); defer mu.Unlock(); seen[to]++ }
		o.Observer.Finished = func(s job.Status) { mu.Lock(); defer mu.Unlock(); finished++ }
	}
	n := open(t, setting)
	spec := o.spec(t, "de")
	id, err := n.Check(spec, alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Status(t.Context(), id); codeOf(err) != job.CodeNotFound {
		t.Errorf("status before: %v, want CodeNotFound", err)
	}
	s, created, err := n.Submit(t.Context(), spec, alice)
	if err != nil || !created || s.ID != id {
		t.Fatalf("%+v, %v, %v", s, created, err)
	}
	s = n.wait(s.ID)
	if s.State != job.Done {
		t.Fatalf("%s: %v", s.State, s.Error)
	}
	for i, c := range s.Changes {
		if c.Seq != int64(i+1) || c.At.IsZero() || c.Server != n.o.Server || c.Reason == "" {
			t.Errorf("change %+v", c)
		}
	}
	for _, state := range []job.State{
		job.Queued, job.Fetching, job.Unpacking, job.Diffing, job.Packing, job.Verifying, job.Storing, job.Done,
	} {
		if !slices.Contains(states(s), state) {
			t.Errorf("was never %s: %v", state, states(s))
		}
	}
	data := n.bytes(s.ID)
	o.check(t, spec, data)
	if s.Result.Size != int64(len(data)) || s.Result.Complete != spec.To.Size || s.Result.Saved <= 0 || s.Result.Cached {
		t.Errorf("result %+v", s.Result)
	}

	// The documents.
	doc, err := n.Provenance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var p senbonzakura.Provenance
	if err := json.Unmarshal(doc, &p); err != nil || p.Output.SHA512 != s.Result.SHA512 {
		t.Errorf("provenance of %s, %v", p.Output.SHA512, err)
	}
	if doc, err = n.Report(t.Context(), id); err != nil || !bytes.Contains(doc, []byte(`"libxul.so"`)) {
		t.Errorf("report: %v, %.100s", err, doc)
	}
	r, err := n.Log(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	log, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(log), `"msg":"attempt begins"`) || !strings.Contains(string(log), "made a partial update") ||
		!strings.Contains(string(log), `"msg":"done"`) {
		t.Errorf("log: %v\n%s", err, log)
	}
	for line := range strings.Lines(string(log)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("line of the log is not JSON: %s", line)
		}
	}

	// Again: known, and nothing is done.
	before := o.requests.Load()
	again, created, err := n.Submit(t.Context(), spec, job.Asker{Name: "bob"})
	if err != nil || created || again.State != job.Done {
		t.Errorf("again: %v, %v, %v", again.State, created, err)
	}
	if got := o.requests.Load(); got != before {
		t.Errorf("%d requests for what is done", got-before)
	}

	// The ledger.
	if err := n.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Ready() {
		t.Error("ready after draining")
	}
	if _, _, err := n.Submit(t.Context(), spec, alice); codeOf(err) != job.CodeUnavailable {
		t.Errorf("submit after draining: %v, want CodeUnavailable", err)
	}
	entry, err := n.o.Ledger.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	entry.Status.Progress = s.Progress
	if diff := cmp.Diff(s, entry.Status); diff != "" {
		t.Errorf("ledger (-want +got)\n%s", diff)
	}
	for _, who := range []string{"alice", "bob"} {
		if page, err := n.History(t.Context(), job.Filter{Who: who}); err != nil || len(page.Jobs) != 1 || page.Jobs[0].Result == nil {
			t.Errorf("history of %s: %+v, %v", who, page, err)
		}
	}
	if actions, err := n.Actions(t.Context(), job.Filter{}); err != nil || len(actions) != 2 || actions[1].Who != alice || actions[1].What != "submit" {
		t.Errorf("actions %+v, %v", actions, err)
	}
	mu.Lock()
	defer mu.Unlock()
	// Where the queue is slow, what is between is told together with the end.
	if finished != 1 || seen[job.Done] != 1 || seen[job.Queued] != 1 || seen[job.Fetching] != 1 {
		t.Errorf("observed %d ends and %v", finished, seen)
	}
}

func testFailures(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	good := o.spec(t, "good")
	junk := o.source([]byte("MAR1, but then something else entirely"))
	var hits sync.Map // requests by path
	count := func(path string) int64 {
		c, _ := hits.LoadOrStore(path, new(atomic.Int64))
		return c.(*atomic.Int64).Add(1)
	}
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		hit := count(r.URL.Path)
		switch {
		case strings.HasPrefix(r.URL.Path, "/down"):
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case strings.HasPrefix(r.URL.Path, "/wrong"):
			w.Write([]byte("not what was announced"))
			return true
		case strings.HasPrefix(r.URL.Path, "/late"): // works at the third attempt of the job
			if hit <= 4 {
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/late")
		}
		return false
	})
	other := func(salt string) job.Source { t.Helper(); return o.source(testrelease.Complete(t, "140.1", salt)) } // that no cache has
	at := func(s job.Source, path string) job.Source { s.URLs = []string{o.URL + path}; s.Size = 0; return s }
	tests := []struct {
		name     string
		from, to job.Source
		change   func(*job.Spec)
		state    job.State
		code     job.Code
		attempts int
		again    bool
		field    string
	}{
		{name: "404", from: at(other("404"), "/nothing"), to: good.To, state: job.Failed, code: job.CodeFetch, attempts: 1, field: "from.urls"},
		{name: "503", from: at(other("503"), "/down"), to: good.To, state: job.Failed, code: job.CodeFetch, attempts: 3, again: true, field: "from.urls"},
		{name: "hash", from: at(other("hash"), "/wrong"), to: good.To, state: job.Failed, code: job.CodeDigest, attempts: 2, field: "from.sha512"},
		{name: "late", from: at(other("late"), "/late"+strings.TrimPrefix(other("late").URLs[0], o.URL)), to: good.To, state: job.Done, attempts: 3},
		{name: "junk", from: junk, to: good.To, state: job.Failed, code: job.CodeInvalidMAR, attempts: 1, field: "from"},
		{name: "junk as TO", from: good.From, to: junk, state: job.Failed, code: job.CodeInvalidMAR, attempts: 1, field: "to"},
		{name: "downgrade", from: good.To, to: good.From, state: job.Failed, code: job.CodeRefused, attempts: 1},
		{
			name: "channel", from: good.From, to: good.To, state: job.Failed, code: job.CodeRefused, attempts: 1,
			change: func(s *job.Spec) { s.Channels = []string{"release"} },
		},
		{
			name: "private address", from: other("private"), to: good.To, state: job.Failed, code: job.CodeFetch, attempts: 1,
			field: "from.urls", change: func(s *job.Spec) { s.From.URLs = []string{"http://10.1.2.3/x"} },
		},
	}
	setting := b(t)
	setting.options = func(o *engine.Options) { o.Attempts, o.RetryDelay = 3, time.Millisecond }
	n := open(t, setting)
	var wg sync.WaitGroup
	for _, tt := range tests {
		// Another job with the same files each time: labels are part of its identity.
		spec := job.Spec{From: tt.from, To: tt.to, Labels: map[string]string{"test": tt.name}}
		if tt.change != nil {
			tt.change(&spec)
		}
		wg.Go(func() {
			s, _, err := n.Submit(t.Context(), spec, alice)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				return
			}
			s = n.wait(s.ID)
			var code job.Code
			if s.Error != nil {
				code = s.Error.Code
			}
			if s.State != tt.state || code != tt.code || s.Attempt != tt.attempts {
				t.Errorf("%s: %s after %d attempts, %v", tt.name, s.State, s.Attempt, s.Error)
			}
			if s.Error != nil && (s.Error.Retryable != tt.again || s.Error.Field != tt.field) {
				t.Errorf("%s: retryable %v, field %q, want %v, %q", tt.name, s.Error.Retryable, s.Error.Field, tt.again, tt.field)
			}
		})
	}
	wg.Wait()

	// Failed jobs are tried again when somebody asks for it, with new addresses where there are some.
	spec := job.Spec{From: other("404"), To: good.To, Labels: map[string]string{"test": "404"}}
	s, created, err := n.Submit(t.Context(), spec, alice)
	if err != nil || !created {
		t.Fatalf("again: created %v, %v", created, err)
	}
	if s = n.wait(s.ID); s.State != job.Done || s.Error != nil || s.Attempt != 2 {
		t.Errorf("again: %s, %v, attempt %d", s.State, s.Error, s.Attempt)
	}
	if _, err := n.Retry(t.Context(), s.ID, alice); codeOf(err) != job.CodeConflict {
		t.Errorf("retry of what is done: %v, want CodeConflict", err)
	}
	spec = job.Spec{From: at(other("503"), "/down"), To: good.To, Labels: map[string]string{"test": "503"}}
	id, err := n.Check(spec, alice)
	if err != nil {
		t.Fatal(err)
	}
	found := strings.TrimPrefix(other("503").URLs[0], o.URL)
	o.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/down" {
			r.URL.Path = found
		}
		return false
	})
	if _, err := n.Retry(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	if s := n.wait(id); s.State != job.Done {
		t.Errorf("retried: %s, %v", s.State, s.Error)
	}
	// A partial is a MAR file, but no complete.
	if s := n.wait(n.submit(job.Spec{From: good.From, To: o.source(n.bytes(id))}).ID); s.State != job.Failed || s.Error.Code != job.CodeInvalidMAR || s.Error.Field != "to" {
		t.Errorf("a partial as TO: %s, %v, want CodeInvalidMAR", s.State, s.Error)
	}
	for _, id := range []string{"", "x", strings.Repeat("0", 64), strings.ToUpper(id)} {
		for name, err := range map[string]error{
			"Status": third(n.Status(t.Context(), id)), "Cancel": third(n.Cancel(t.Context(), id, alice)), "Retry": third(n.Retry(t.Context(), id, alice)),
			"Artifact": third(n.Artifact(t.Context(), id)), "Report": third(n.Report(t.Context(), id)), "Log": third(n.Log(t.Context(), id)),
			"Batch": third(n.Batch(t.Context(), id)), "Watch": third(n.Watch(t.Context(), id)),
		} {
			if codeOf(err) != job.CodeNotFound {
				t.Errorf("%s of %q: %v, want CodeNotFound", name, id, err)
			}
		}
	}
}

func third[T any](_ T, err error) error { return err }

// TestSpec has specs that cannot be used.
func TestSpec(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) {
		o.Slots, o.Skip = -1, []senbonzakura.Check{senbonzakura.CheckDowngrade}
	}})
	good := o.spec(t, "x")
	if _, err := n.Check(good, alice); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, field string
		change      func(*job.Spec)
	}{
		{"no hash", "from.sha512", func(s *job.Spec) { s.From.SHA512 = "" }},
		{"short hash", "to.sha512", func(s *job.Spec) { s.To.SHA512 = "ab" }},
		{"bad hash", "from.sha256", func(s *job.Spec) { s.From.SHA256 = strings.Repeat("x", 64) }},
		{"scheme", "from.urls[0]", func(s *job.Spec) { s.From.URLs = []string{"ftp://example.org/x"} }},
		{"no URL", "from.urls[1]", func(s *job.Spec) { s.From.URLs = []string{"https://example.org/x", "x"} }},
		{"own scheme", "from.urls[0]", func(s *job.Spec) { s.From.URLs = []string{"upload://store/sha512/00"} }},
		{"file", "from.urls[0]", func(s *job.Spec) { s.From.URLs = []string{"file:///etc/passwd"} }},
		{"same", "to", func(s *job.Spec) { s.To = s.From }},
		{"size", "from.size", func(s *job.Spec) { s.From.Size = -1 }},
		{"recipe", "recipe", func(s *job.Spec) { s.Recipe = "best" }},
		{"half a product", "channel", func(s *job.Spec) { s.Recipe, s.Channel = "mozilla", "x" }},
		{"name", "from.name", func(s *job.Spec) { s.From.Name = "a\nb" }},
		{"long name", "to.name", func(s *job.Spec) { s.To.Name = strings.Repeat("x", 256) }},
		{"locale", "locale", func(s *job.Spec) { s.Locale = strings.Repeat("x", 129) }},
		{"channel", "channel", func(s *job.Spec) { s.Channel = strings.Repeat("x", 100) }},
		{"version", "product_version", func(s *job.Spec) { s.ProductVersion = strings.Repeat("x", 100) }},
		{"priority", "priority", func(s *job.Spec) { s.Priority = 10 }},
		{"force", "force[0]", func(s *job.Spec) { s.Force = []string{""} }},
		{"labels", "labels", func(s *job.Spec) { s.Labels = map[string]string{"": "x"} }},
		{"urls", "to.urls", func(s *job.Spec) { s.To.URLs = slices.Repeat(s.To.URLs, 17) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := good
			tt.change(&spec)
			for _, err := range []error{third(n.Check(spec, alice)), third3(n.Submit(t.Context(), spec, alice))} {
				var e *job.Error
				if !errors.As(err, &e) || e.Code != job.CodeRequest || e.Field != tt.field {
					t.Errorf("got %v, want CodeRequest for %s", err, tt.field)
				}
			}
			var e *job.Error
			if _, err := n.SubmitBatch(t.Context(), []job.Spec{good, spec}, nil, alice); !errors.As(err, &e) || e.Field != "specs[1]."+tt.field {
				t.Errorf("in a batch: %v", err)
			}
		})
	}
	big := good
	big.Force = slices.Repeat([]string{strings.Repeat("x", 1000)}, 1000)
	if _, err := n.Check(big, alice); codeOf(err) != job.CodeTooLarge {
		t.Errorf("a megabyte: %v, want CodeTooLarge", err)
	}
	// What the ID does and does not depend on.
	id := func(change func(*job.Spec)) string {
		spec := good
		change(&spec)
		id, err := n.Check(spec, job.Asker{Name: "operator", Operator: true})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	same := id(func(*job.Spec) {})
	for name, change := range map[string]func(*job.Spec){
		"urls": func(s *job.Spec) { s.From.URLs = []string{"https://elsewhere.example/"} }, "size": func(s *job.Spec) { s.To.Size = 0 },
		"priority": func(s *job.Spec) { s.Priority = 9 }, "case": func(s *job.Spec) { s.To.SHA512 = strings.ToUpper(s.To.SHA512) },
		"recipe": func(s *job.Spec) { s.Recipe = "auto" }, "name": func(s *job.Spec) { s.From.Name = "old.mar" },
	} {
		if id(change) != same {
			t.Errorf("the job's ID depends on: %s", name)
		}
	}
	for name, change := range map[string]func(*job.Spec){
		"formats": func(s *job.Spec) { s.Formats = []string{"mbdiff10"} },
		"recipe":  func(s *job.Spec) { s.Recipe = "mozilla" }, "force": func(s *job.Spec) { s.Force = []string{"x"} },
		"channel": func(s *job.Spec) { s.Channel = "x" }, "skip": func(s *job.Spec) { s.Skip = []string{"downgrade"} },
		"labels": func(s *job.Spec) { s.Labels = map[string]string{"a": "b"} },
	} {
		if id(change) == same {
			t.Errorf("the job's ID does not depend on: %s", name)
		}
	}
	if page, err := n.History(t.Context(), job.Filter{}); err != nil || len(page.Jobs) != 0 {
		t.Errorf("%d jobs in the ledger, %v", len(page.Jobs), err)
	}
}

func third3[A, B any](_ A, _ B, err error) error { return err }

// hold makes the origin keep requests waiting until release is called. arrived is closed when there is one.
func (o *origin) hold(t *testing.T) (arrived <-chan struct{}, release func()) {
	t.Helper()
	came, free := make(chan struct{}), make(chan struct{})
	var once, end sync.Once
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(came) })
		select {
		case <-free:
			return false
		case <-r.Context().Done():
			return true
		}
	})
	release = func() { end.Do(func() { close(free) }) }
	t.Cleanup(release)
	return came, release
}

func testCancel(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.options = func(o *engine.Options) { o.Slots = 1 }
	n := open(t, setting)
	arrived, release := o.hold(t)
	running := n.submit(o.spec(t, "running"))
	<-arrived
	waiting := n.submit(o.spec(t, "waiting"))

	q, err := n.Queue(t.Context())
	if err != nil || q.Waiting+q.Running != 2 || q.Limit == 0 || len(q.Workers) != 1 {
		t.Errorf("queue %+v, %v", q, err)
	}
	for _, id := range []string{waiting.ID, running.ID} {
		s, err := n.Cancel(t.Context(), id, alice)
		if err != nil || s.State != job.Cancelled || s.Error.Code != job.CodeCancelled {
			t.Fatalf("%+v, %v", s, err)
		}
		if s, err = n.Cancel(t.Context(), id, alice); err != nil || s.State != job.Cancelled {
			t.Errorf("again: %v, %v", s.State, err)
		}
		if _, err := n.Artifact(t.Context(), id); codeOf(err) != job.CodeNotReady {
			t.Errorf("artifact: %v, want CodeNotReady", err)
		}
	}
	// The attempt ends, though its download still hangs: the only slot is free.
	deadline := time.Now().Add(20 * time.Second)
	for q.Running = 1; q.Running > 0; <-time.After(5 * time.Millisecond) {
		if q, err = n.Queue(t.Context()); err != nil || len(q.Workers) != 1 {
			t.Fatalf("queue %+v, %v", q, err)
		}
		q.Running = len(q.Workers[0].Jobs)
		if time.Now().After(deadline) {
			t.Fatalf("%q is under work long after it was cancelled", q.Workers[0].Jobs)
		}
	}
	// Asked for again they are made.
	release()
	for _, salt := range []string{"running", "waiting"} {
		s, created, err := n.Submit(t.Context(), o.spec(t, salt), alice)
		if err != nil || !created {
			t.Fatalf("%v, %v", created, err)
		}
		if s = n.wait(s.ID); s.State != job.Done {
			t.Errorf("%s: %s, %v", salt, s.State, s.Error)
		}
		if _, err := n.Cancel(t.Context(), s.ID, alice); codeOf(err) != job.CodeConflict {
			t.Errorf("cancel what is done: %v, want CodeConflict", err)
		}
	}
	empty(t, n)
}

// empty waits until the queue has nothing.
func empty(t *testing.T, n *node) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		left, err := n.o.Queue.Len(t.Context())
		if err == nil && left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs are left in the queue, %v", left, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func testUploads(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.options = func(o *engine.Options) { o.UploadLimit = 1 << 20; o.Fetch.Prefixes = []string{"http://127.0.0.1:1/"} }
	n := open(t, setting)
	from, to := testrelease.Complete(t, "140.1", "up"), testrelease.Complete(t, "140.2", "up")
	fromSource, toSource := o.source(from), o.source(to)
	spec := job.Spec{From: fromSource, To: toSource}
	spec.From.URLs, spec.To.URLs = nil, nil

	_, _, err := n.Submit(t.Context(), spec, alice)
	var e *job.Error
	if !errors.As(err, &e) || e.Code != job.CodeConflict || e.Field != "from" {
		t.Errorf("before the upload: %v, want CodeConflict for from", err)
	}
	for _, data := range [][]byte{from, to, from} {
		u, err := n.Upload(t.Context(), bytes.NewReader(data), alice)
		if err != nil || u.Size != int64(len(data)) || u.SHA256 != fmt.Sprintf("%x", sha256.Sum256(data)) {
			t.Fatalf("%+v, %v", u, err)
		}
	}
	s := n.wait(n.submit(spec).ID)
	if s.State != job.Done {
		t.Fatalf("%s: %v", s.State, s.Error)
	}
	o.check(t, job.Spec{From: fromSource, To: toSource}, n.bytes(s.ID))
	// By its other hash it is another job, with the same bytes.
	spec.From.SHA512, spec.From.SHA256 = "", fmt.Sprintf("%x", sha256.Sum256(from))
	other := n.wait(n.submit(spec).ID)
	if other.State != job.Done || other.ID == s.ID || other.Result.SHA512 != s.Result.SHA512 {
		t.Errorf("%s: %v", other.State, other.Error)
	}
	if got := o.requests.Load(); got != 0 {
		t.Errorf("%d requests for what was uploaded", got)
	}

	for _, tt := range []struct {
		name string
		r    io.Reader
		code job.Code
	}{
		{"too large", io.LimitReader(zeros{}, 1<<20+1), job.CodeTooLarge},
		{"not a MAR", strings.NewReader("hello"), job.CodeInvalidMAR},
		{"empty", strings.NewReader(""), job.CodeInvalidMAR},
		{"broken off", io.MultiReader(bytes.NewReader(from[:100]), failing{}), job.CodeRequest},
	} {
		if _, err := n.Upload(t.Context(), tt.r, alice); codeOf(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// testDrain stops a node in the middle of a job, and lets the next one go on.
func testDrain(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	n := open(t, setting)
	arrived, release := o.hold(t)
	spec := o.spec(t, "drain")
	id := n.submit(spec).ID
	queued := n.submit(o.spec(t, "queued")).ID
	<-arrived
	c, err := n.Watch(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	n.close()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	var last job.Status
	for s := range c { // closed by the stop
		last = s
	}
	if last.State != job.Queued || !strings.Contains(last.Changes[len(last.Changes)-1].Reason, "handed back") {
		t.Errorf("last seen as %s: %+v", last.State, last.Changes)
	}
	release()
	n = open(t, setting)
	for _, id := range []string{id, queued} {
		s := n.wait(id)
		if s.State != job.Done {
			t.Errorf("%s: %v", s.State, s.Error)
		}
		for i, c := range s.Changes {
			if c.Seq != int64(i+1) {
				t.Errorf("changes are not one line: %+v", s.Changes)
			}
		}
	}
	o.check(t, spec, n.bytes(id))
}

// testStale takes a running job away from its worker. The worker must not go on with it, nor take it out of the queue.
func testStale(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.queue.AckWait = 500 * time.Millisecond
	setting.options = func(o *engine.Options) { o.Slots = 1; o.RequeueEvery = time.Hour }
	n := open(t, setting)
	arrived, release := o.hold(t)
	id := n.submit(o.spec(t, "stale")).ID
	<-arrived
	key := queue.Key("job", id)
	value, revision, err := n.o.Queue.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(value, &r); err != nil {
		t.Fatal(err)
	}
	token := r["token"].(string)
	r["token"], r["attempt"], r["server"] = "somebody else's", 2, "elsewhere"
	changes := r["changes"].([]any)
	r["changes"] = append(changes, map[string]any{"seq": len(changes) + 1, "state": "fetching", "at": r["updated"], "attempt": 2, "server": "elsewhere"})
	if value, err = json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	if _, err := n.o.Queue.Put(t.Context(), key, value, revision, 0); err != nil {
		t.Fatal(err)
	}
	release()
	// The other one never does anything. After AckWait the job comes back, and is done by a new attempt.
	s := n.wait(id)
	if s.State != job.Done || s.Attempt != 3 {
		t.Errorf("%s at attempt %d, want done at attempt 3: %+v", s.State, s.Attempt, s.Changes)
	}
	if !slices.ContainsFunc(s.Changes, func(c job.Change) bool { return strings.Contains(c.Reason, "elsewhere fell silent") }) {
		t.Errorf("nobody noticed: %+v", s.Changes)
	}
	if strings.Contains(fmt.Sprint(s), token) {
		t.Error("the token is in the status")
	}
	empty(t, n)
}

// testDeadWorkers is about a job over which every worker dies.
func testDeadWorkers(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.options = func(o *engine.Options) { o.Slots = -1; o.RequeueEvery = time.Hour }
	n := open(t, setting)
	spec := o.spec(t, "dead")
	id := n.submit(spec).ID
	key := queue.Key("job", id)
	value, revision, err := n.o.Queue.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	value = bytes.Replace(value, []byte(`"epoch":1`), []byte(`"epoch":1,"token":"x","deaths":4`), 1)
	if _, err := n.o.Queue.Put(t.Context(), key, value, revision, 0); err != nil {
		t.Fatal(err)
	}
	n.close()
	setting.options = nil
	n = open(t, setting)
	s := n.wait(id)
	if s.State != job.Failed || s.Error.Code != job.CodeAttempts {
		t.Fatalf("%s: %v, want CodeAttempts", s.State, s.Error)
	}
	empty(t, n)
	deadline := time.Now().Add(20 * time.Second)
	for {
		q, err := n.Queue(t.Context())
		if err == nil && q.Dead == 1 && q.Waiting == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("queue %+v, %v, want one dead", q, err)
		}
		<-time.After(5 * time.Millisecond)
	}
	if _, err := n.Retry(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	if s := n.wait(id); s.State != job.Done {
		t.Errorf("retried: %s, %v", s.State, s.Error)
	}
}

func testFull(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.queue.Limit = 3
	setting.options = func(o *engine.Options) { o.Slots, o.Share = -1, 3 }
	n := open(t, setting)
	var full, taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		spec := o.spec(t, fmt.Sprint(i))
		wg.Go(func() {
			_, _, err := n.Submit(t.Context(), spec, alice)
			var e *job.Error
			switch {
			case err == nil:
				taken.Add(1)
			case errors.As(err, &e) && e.Code == job.CodeQueueFull && e.RetryAfter > 0 && e.Retryable:
				full.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 3 || full.Load() != 9 {
		t.Errorf("%d taken, %d refused, want 3 and 9", taken.Load(), full.Load())
	}
	if page, err := n.History(t.Context(), job.Filter{}); err != nil || len(page.Jobs) != 3 {
		t.Errorf("%d jobs in the ledger, %v, want 3", len(page.Jobs), err)
	}
	// One that is there already is no new one.
	page, err := n.History(t.Context(), job.Filter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, created, err := n.Submit(t.Context(), page.Jobs[0].Spec, alice); err != nil || created {
		t.Errorf("known: %v, %v", created, err)
	}
	if _, err := n.SubmitBatch(t.Context(), []job.Spec{page.Jobs[0].Spec, o.spec(t, "0"), o.spec(t, "1"), o.spec(t, "2"), o.spec(t, "3")}, nil, alice); codeOf(err) != job.CodeQueueFull {
		t.Errorf("batch: %v, want CodeQueueFull", err)
	}
}

func testBatch(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	n := open(t, setting)
	specs := []job.Spec{o.spec(t, "a"), o.spec(t, "b"), o.spec(t, "a")}
	alone := make([]job.Unmatched, job.MaxUnmatched+1)
	alone[0] = job.Unmatched{Field: "matrix.from[3]", Platform: "win64", Locale: "xh"}
	batch, err := n.SubmitBatch(t.Context(), specs, alone, alice)
	if err != nil || len(batch.Jobs) != 2 {
		t.Fatalf("%+v, %v, want two jobs", batch, err)
	}
	same, err := n.SubmitBatch(t.Context(), []job.Spec{specs[1], specs[0]}, alone, alice)
	if err != nil || same.ID != batch.ID || !same.Created.Equal(batch.Created) {
		t.Errorf("an equal batch is %s of %v, %v, want %s of %v", same.ID, same.Created, err, batch.ID, batch.Created)
	}
	for _, s := range batch.Jobs {
		n.wait(s.ID)
	}
	if batch, err = n.Batch(t.Context(), batch.ID); err != nil || !batch.Done || batch.Counts[job.Done] != 2 ||
		len(batch.Unmatched) != job.MaxUnmatched || batch.Unmatched[0] != alone[0] {
		t.Errorf("%+v, %d without a partner, %v", batch.Counts, len(batch.Unmatched), err)
	}
	if page, err := n.History(t.Context(), job.Filter{Batch: batch.ID}); err != nil || len(page.Jobs) != 2 {
		t.Errorf("history: %d jobs, %v", len(page.Jobs), err)
	}
	if _, err := n.SubmitBatch(t.Context(), nil, nil, alice); codeOf(err) != job.CodeRequest {
		t.Errorf("an empty batch: %v, want CodeRequest", err)
	}
	bad := o.spec(t, "c")
	bad.To.URLs = nil
	if _, err := n.SubmitBatch(t.Context(), []job.Spec{o.spec(t, "d"), bad}, nil, alice); codeOf(err) != job.CodeConflict {
		t.Errorf("a batch of which one cannot be: %v, want CodeConflict", err)
	}
	if page, err := n.History(t.Context(), job.Filter{}); err != nil || len(page.Jobs) != 2 {
		t.Errorf("%d jobs, %v: a batch that was refused left some", len(page.Jobs), err)
	}
	if setting, ok := setting.another(t); ok {
		setting.ledger = "" // that does not know the batch
		if got, err := open(t, setting).Batch(t.Context(), batch.ID); err != nil || !got.Done || len(got.Jobs) != 2 || len(got.Unmatched) != job.MaxUnmatched {
			t.Errorf("on another server: %+v, %v", got, err)
		}
	}
}

func testPurge(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	n := open(t, setting)
	var other *node
	if setting, ok := setting.another(t); ok {
		other = open(t, setting)
	}
	spec := o.spec(t, "a")
	id := n.wait(n.submit(spec).ID).ID
	first := n.bytes(id)
	kept := n.wait(n.submit(o.spec(t, "b")).ID).ID
	if other != nil {
		other.until(id, func(s job.Status) bool { return s.State == job.Done })
		if !bytes.Equal(other.bytes(id), first) {
			t.Error("other bytes from the other server")
		}
	}
	if removed, err := n.Purge(t.Context(), id, time.Time{}, alice); err != nil || removed != 1 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	for _, n := range []*node{n, other} {
		if n == nil {
			continue
		}
		s := purged(t, n, id)
		if s.State != job.Done || s.Result == nil {
			t.Errorf("%+v", s)
		}
		_, err := n.Artifact(t.Context(), id)
		var e *job.Error
		if !errors.As(err, &e) || e.Code != job.CodeNotFound || !e.Retryable {
			t.Errorf("artifact: %v, want CodeNotFound", err)
		}
		deadline := time.Now().Add(20 * time.Second)
		update := cache.Key{Kind: cache.Partials, Sum: sumOf(t, id)}
		for _, key := range []cache.Key{update, senbonzakura.ReportKey(update)} {
			for {
				_, err := n.layers.Get(t.Context(), key)
				if errors.Is(err, cache.ErrMiss) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v is still there: %v", key, err)
				}
			}
		}
		if _, err := n.Report(t.Context(), id); codeOf(err) != job.CodeNotFound {
			t.Errorf("report: %v, want CodeNotFound", err)
		}
	}
	// It is made again when somebody asks.
	s, created, err := n.Submit(t.Context(), spec, alice)
	if err != nil || !created {
		t.Fatalf("%v, %v", created, err)
	}
	if s = n.wait(s.ID); s.State != job.Done || !s.Purged.IsZero() || !bytes.Equal(n.bytes(id), first) {
		t.Errorf("made again: %+v", s)
	}
	// All that is old, which is both.
	n.bytes(kept)
	flushed(t, n, id)
	if removed, err := n.Purge(t.Context(), "", time.Now().Add(time.Hour), alice); err != nil || removed != 2 {
		t.Errorf("removed %d, %v, want 2", removed, err)
	}
	if _, err := n.Purge(t.Context(), "", time.Time{}, alice); codeOf(err) != job.CodeRequest {
		t.Errorf("everything: %v, want CodeRequest", err)
	}
	if actions, err := n.Actions(t.Context(), job.Filter{Text: "purge"}); err != nil || len(actions) != 2 {
		t.Errorf("%d actions, %v, want 2", len(actions), err)
	}
}

// purged waits until a node has heard that a job's partial was purged.
func purged(t *testing.T, n *node, id string) job.Status {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := n.Status(t.Context(), id)
		if err == nil && !s.Purged.IsZero() {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v: not purged on %s", s, err, n.o.Server)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// flushed waits until the ledger has heard that a job is done.
func flushed(t *testing.T, n *node, id string) {
	t.Helper()
	want, err := n.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		e, err := n.o.Ledger.Get(t.Context(), id)
		if err == nil && len(e.Status.Changes) == len(want.Changes) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ledger has %d changes, %v, want %d", len(e.Status.Changes), err, len(want.Changes))
		}
		<-time.After(5 * time.Millisecond)
	}
}

// testSecrets looks for the credentials of addresses everywhere.
func testSecrets(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	o.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user != "peter" || password != "hunter2" || r.URL.Query().Get("signature") != "sesame" {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	n := open(t, b(t))
	for _, missing := range []bool{false, true} {
		spec := o.spec(t, "secret")
		for _, s := range []*job.Source{&spec.From, &spec.To} {
			s.URLs = []string{strings.Replace(s.URLs[0], "http://", "http://peter:hunter2@", 1) + "?signature=sesame#frag"}
			if missing {
				spec.Labels = map[string]string{"x": "y"}
				s.SHA512 = strings.Repeat("00", 63) + s.SHA512[:2]
			}
		}
		id := n.submit(spec).ID
		s := n.wait(id)
		if missing == (s.State == job.Done) {
			t.Errorf("%s: %v", s.State, s.Error)
		}
		log, err := n.Log(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(log)
		if err != nil {
			t.Fatal(err)
		}
		page, err := n.History(t.Context(), job.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		all := string(text) + encode(t, s) + encode(t, page)
		for _, secret := range []string{"peter", "hunter2", "sesame"} {
			if strings.Contains(all, secret) {
				t.Errorf("%q is in what callers see: %s", secret, all)
			}
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testLost takes jobs out of the queue behind the engine's back, some with their record.
func testLost(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.options = func(o *engine.Options) { o.Slots = -1; o.RequeueEvery = time.Hour }
	n := open(t, setting)
	var ids []string
	for i := range 6 {
		id := n.submit(o.spec(t, fmt.Sprint(i))).ID
		ids = append(ids, id)
		if i%3 > 0 {
			if err := n.o.Queue.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 > 1 {
			if err := n.o.Queue.Delete(t.Context(), queue.Key("job", id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.close()
	var requeued atomic.Int64
	setting.options = func(o *engine.Options) { o.Observer.Requeued = func(string) { requeued.Add(1) } }
	n = open(t, setting)
	for _, id := range ids {
		if s := n.wait(id); s.State != job.Done || s.Attempt != 1 {
			t.Errorf("%s at attempt %d, %v", s.State, s.Attempt, s.Error)
		}
		n.bytes(id)
	}
	if requeued.Load() != 4 {
		t.Errorf("%d jobs were queued again, want the 4 that were lost", requeued.Load())
	}
}

// testStrangers gives a job to a server that has other signers than the one that took it.
func testStrangers(t *testing.T, b backend) {
	t.Helper()
	o := newOrigin(t)
	setting := b(t)
	setting.options = func(o *engine.Options) { o.Slots = -1; o.Signers = []engine.Signer{signer(t)} }
	n := open(t, setting)
	id := n.submit(o.spec(t, "signed")).ID
	n.close()
	setting.options = nil
	n = open(t, setting)
	s := n.wait(id)
	if s.State != job.Failed || s.Error.Code != job.CodeConflict || !strings.Contains(s.Error.Message, "submit it again") {
		t.Errorf("%s, %v, want CodeConflict", s.State, s.Error)
	}
	setting, ok := setting.another(t)
	if !ok {
		return
	}
	// Where there are several servers the right one gets it.
	setting.options = func(o *engine.Options) { o.Signers = []engine.Signer{signer(t)} }
	right := open(t, setting)
	workers(t, n, 2)
	for i := range 3 {
		if s := right.wait(right.submit(o.spec(t, fmt.Sprint(i))).ID); s.State != job.Done || len(s.Result.SignedBy) != 1 {
			t.Errorf("%s, %v, signed by %v", s.State, s.Error, s.Result)
		}
	}
}

// workers waits until a node knows so many workers.
func workers(t *testing.T, n *node, want int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		q, err := n.Queue(t.Context())
		if err == nil && len(q.Workers) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v: want %d workers", q, err, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func testBans(t *testing.T, b backend) {
	t.Helper()
	setting := b(t)
	n := open(t, setting)
	servers := []*node{n}
	if setting, ok := setting.another(t); ok {
		servers = append(servers, open(t, setting))
	}
	eventually := func(address string, want bool) {
		t.Helper()
		for _, n := range servers {
			deadline := time.Now().Add(20 * time.Second)
			for {
				if _, got := n.Banned(address); got == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s banned on %s: %v, want %v", address, n.o.Server, !want, want)
				}
			}
		}
	}
	until := time.Now().Add(time.Hour)
	for _, address := range []string{"192.0.2.7", "2001:db8::7", "198.51.100.0/24"} {
		if err := n.Ban(t.Context(), job.Ban{Address: address, Until: until, Reason: "flood"}, alice); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range []string{"192.0.2.7", "::ffff:192.0.2.7", "2001:db8:0::7", "198.51.100.200"} {
		eventually(address, true)
	}
	eventually("192.0.2.8", false)
	if list, err := n.Bans(t.Context()); err != nil || len(list) != 3 || list[0].By != "alice" {
		t.Errorf("%+v, %v", list, err)
	}
	n.close() // they are kept
	n = open(t, setting)
	servers[0] = n
	eventually("192.0.2.7", true)
	for _, address := range []string{"::ffff:192.0.2.7", "198.51.100.9/24"} {
		if err := n.Unban(t.Context(), address, alice); err != nil {
			t.Fatal(err)
		}
	}
	eventually("192.0.2.7", false)
	eventually("198.51.100.200", false)
	if err := n.Unban(t.Context(), "192.0.2.7", alice); codeOf(err) != job.CodeNotFound {
		t.Errorf("%v, want CodeNotFound", err)
	}
	for _, b := range []job.Ban{{Address: "nobody", Until: until}, {Address: "192.0.2.9", Until: time.Now().Add(-time.Hour)}} {
		if err := n.Ban(t.Context(), b, alice); codeOf(err) != job.CodeRequest {
			t.Errorf("%+v: %v, want CodeRequest", b, err)
		}
	}
	if _, ok := n.Banned("nonsense"); ok {
		t.Error("nonsense is banned")
	}
	if actions, err := n.Actions(t.Context(), job.Filter{}); err != nil || len(actions) != 5 {
		t.Errorf("%d actions, %v, want 5", len(actions), err)
	}
}

func testRates(t *testing.T, b backend) {
	t.Helper()
	setting := b(t)
	clock := newClock()
	setting.options = func(o *engine.Options) { o.Clock = clock.now }
	n := open(t, setting)
	servers := []*node{n, n}
	if setting, ok := setting.another(t); ok {
		servers[1] = open(t, setting)
	}
	for _, limit := range []int{0, 1, 5, 100} {
		key := fmt.Sprint("key ", limit)
		var wg sync.WaitGroup
		var taken atomic.Int64
		for i := range 3 * limit {
			wg.Go(func() {
				ok, wait, err := servers[i%2].Take(t.Context(), key, 1, limit, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if ok {
					taken.Add(1)
				} else if wait <= 0 || wait > time.Minute {
					t.Errorf("come back after %v", wait)
				}
			})
		}
		wg.Wait()
		// What a server has taken for itself and not used is the most that can be missing: 1/16 of the limit.
		if got := int(taken.Load()); got > limit || got < limit-limit/16 {
			t.Errorf("%d of %d were let through, the limit is %d", got, 3*limit, limit)
		}
		if ok, _, err := n.Take(t.Context(), key, 0, limit, time.Minute); !ok || err != nil {
			t.Errorf("none at all: %v, %v", ok, err)
		}
	}
	if ok, _, _ := n.Take(t.Context(), "key 5", 1, 5, time.Minute); ok {
		t.Error("too many were let through")
	}
	clock.set(clock.now().Add(time.Minute))
	if ok, _, err := n.Take(t.Context(), "key 5", 5, 5, time.Minute); !ok || err != nil {
		t.Errorf("in the next window: %v, %v", ok, err)
	}
	if ok, _, _ := n.Take(t.Context(), "key 5", 1, 5, time.Minute); ok {
		t.Error("too many in the next window")
	}
	if _, _, err := n.Take(t.Context(), "x", 1, 1, time.Millisecond); err == nil {
		t.Error("a window of a millisecond")
	}
}

func testHealth(t *testing.T, b backend) {
	t.Helper()
	setting := b(t)
	var bad atomic.Bool
	setting.options = func(o *engine.Options) {
		s := signer(t)
		s.Check = func(context.Context) error {
			if bad.Load() {
				return errors.New("no")
			}
			return nil
		}
		o.Signers = []engine.Signer{s}
	}
	n := open(t, setting)
	want := []string{"queue", "ledger", "cache"}
	if setting.storage != nil {
		want = append(want, "storage")
	}
	want = append(want, "signer test")
	look := func(broken ...string) {
		t.Helper()
		var names []string
		for _, h := range n.Health(t.Context()) {
			names = append(names, h.Name)
			if h.OK == slices.Contains(broken, h.Name) || h.OK != (h.Error == "") || h.Took <= 0 {
				t.Errorf("%+v, broken are %v", h, broken)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("checked %v, want %v", names, want)
		}
	}
	look()
	bad.Store(true)
	look("signer test")
	bad.Store(false)
	n.o.Ledger.Close()
	look("ledger")
	n.o.Queue.Close()
	look("ledger", "queue")
	n.disk.Close()
	look("ledger", "queue", "cache")
	n.closed = true
	n.Close()
}

// testClock has the clock jump at every place where it is read. (F17)
func testClock(t *testing.T, b backend) {
	t.Helper()
	jumps := map[string]time.Duration{
		"-10 y": -10 * 365 * 24 * time.Hour, "-1 h": -time.Hour, "+1 h": time.Hour, "+10 y": 10 * 365 * 24 * time.Hour, "stop": 0,
	}
	o := newOrigin(t)
	setting := b(t)
	clock := newClock()
	setting.options = func(o *engine.Options) { o.Clock = clock.now }
	n := open(t, setting)
	var want []byte
	for name, jump := range jumps {
		o.requests.Store(0)
		spec := o.spec(t, "clock")
		spec.Labels = map[string]string{"jump": name} // another job each time, of the same bytes
		arrived, release := o.hold(t)
		held := false
		step := func() { clock.jump(jump) }
		step() // before it is accepted
		id := n.submit(spec).ID
		step() // while it waits or is claimed
		if want == nil {
			<-arrived
			held = true
			step() // while it is fetched
		}
		release()
		for range 20 {
			step() // while it is made
		}
		s := n.wait(id)
		if s.State != job.Done || s.Attempt != 1 {
			t.Fatalf("%s: %s at attempt %d, %v", name, s.State, s.Attempt, s.Error)
		}
		step() // when it is read
		data := n.bytes(id)
		if want == nil {
			want = data
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s: other bytes", name)
		}
		if got := o.requests.Load(); held && got != 2 || !held && got != 0 {
			t.Errorf("%s: %d requests", name, got)
		}
		for i, c := range s.Changes {
			if c.Seq != int64(i+1) {
				t.Errorf("%s: %+v", name, s.Changes)
			}
		}
		step() // when it is asked for again
		if again, created, err := n.Submit(t.Context(), spec, alice); err != nil || created || again.State != job.Done {
			t.Errorf("%s: again: %v, %v", name, created, err)
		}
		step() // when the rate is counted
		if ok, wait, err := n.Take(t.Context(), "clock", 1, 1_000_000, time.Hour); err != nil || !ok {
			t.Errorf("%s: not let through, come back after %v, %v", name, wait, err)
		}
		step() // when the history is read
		if page, err := n.History(t.Context(), job.Filter{Limit: 1}); err != nil || page.Jobs[0].ID != id {
			t.Errorf("%s: the newest in the history is %v, %v", name, page.Jobs, err)
		}
	}
	empty(t, n)
	// A ban ends when its time is over, not before.
	clock.set(time.Now())
	if err := n.Ban(t.Context(), job.Ban{Address: "192.0.2.1", Until: time.Now().Add(2 * time.Hour)}, alice); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		jump   time.Duration
		banned bool
	}{{jumps["-10 y"], true}, {jumps["+1 h"], true}, {jumps["+10 y"], false}, {0, true}} {
		clock.set(time.Now().Add(tt.jump))
		if _, got := n.Banned("192.0.2.1"); got != tt.banned {
			t.Errorf("%v later: banned %v", tt.jump, got)
		}
	}
}

// TestOptions has options that cannot be.
func TestOptions(t *testing.T) {
	t.Parallel()
	n := open(t, setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Slots = -1 }})
	tests := map[string]func(*engine.Options){
		"Ledger": func(o *engine.Options) { o.Ledger = nil }, "Queue": func(o *engine.Options) { o.Queue = nil },
		"Cache": func(o *engine.Options) { o.Cache = nil }, "Disk": func(o *engine.Options) { o.Disk = nil },
		"Signers": func(o *engine.Options) { o.Signers = make([]engine.Signer, 9) },
		"Fetch":   func(o *engine.Options) { o.Fetch.Attempts = -1 },
		"Storage": func(o *engine.Options) {
			q, err := queue.Open(t.Context(), queue.Options{Server: "x", URLs: []string{queuetest.Start(t)}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { q.Close() })
			o.Queue = q
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			o := n.o
			change(&o)
			e, err := engine.New(t.Context(), o)
			var bad *engine.OptionError
			if !errors.As(err, &bad) || bad.Option != name {
				t.Errorf("got %v, want an error about %s", err, name)
			}
			if err == nil {
				e.Close()
			}
		})
	}
}

// testManyServers asks two servers for the same at the same time. (F13)
func testManyServers(t *testing.T, external *external) {
	t.Helper()
	rounds, requests := testkit.Count(1, 2, 2), 200
	o := newOrigin(t)
	setting := external.backend(t)
	setting.ledger = "" // each has its own
	a := open(t, setting)
	second, _ := setting.another(t)
	b := open(t, second)
	for round := range rounds {
		o.requests.Store(0)
		spec := o.spec(t, fmt.Sprint(round))
		var wg sync.WaitGroup
		var created atomic.Int64
		ids := make([]string, requests)
		for i := range requests {
			wg.Go(func() {
				n := []*node{a, b}[i%2]
				spec := spec
				spec.Priority = i % 10
				s, fresh, err := n.Submit(t.Context(), spec, alice)
				if err != nil {
					t.Error(err)
					return
				}
				if fresh {
					created.Add(1)
				}
				ids[i] = s.ID
			})
		}
		wg.Wait()
		if created.Load() != 1 || len(slices.Compact(ids)) != 1 {
			t.Errorf("created %d times, IDs %v", created.Load(), slices.Compact(ids))
		}
		sa, sb := a.wait(ids[0]), b.wait(ids[0])
		if diff := cmp.Diff(sa, sb); diff != "" {
			t.Errorf("servers disagree:\n%s", diff)
		}
		if sa.State != job.Done || sa.Attempt != 1 || sa.Result.Cached {
			t.Errorf("%+v", sa)
		}
		if got := o.requests.Load(); got != 2 {
			t.Errorf("%d downloads, want 2: it was made more than once", got)
		}
		data := a.bytes(ids[0])
		if !bytes.Equal(data, b.bytes(ids[0])) {
			t.Error("two servers, two partials")
		}
		o.check(t, spec, data)
		for _, n := range []*node{a, b} { // each follows, as each has accepted it
			flushed(t, n, ids[0])
		}
	}
	empty(t, a)
}

// TestQueueDown has the queue go away: jobs are accepted all the same, and done when it is back.
func TestQueueDown(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	nodes := queuetest.Cluster(t, 1)
	setting := setting{dir: t.TempDir(), storage: directory(t)}
	setting.queue = queue.Options{URLs: queuetest.URLs(nodes), Timeout: time.Second}
	if testkit.Race { // the engine does not answer as soon then
		setting.queue.Timeout = 5 * time.Second
	}
	n := open(t, setting)
	done := n.wait(n.submit(o.spec(t, "before")).ID)
	nodes[0].Kill()
	if s, err := n.Status(t.Context(), done.ID); err != nil || s.State != job.Done {
		t.Errorf("status: %s, %v", s.State, err)
	}
	n.bytes(done.ID)
	id := n.submit(o.spec(t, "while it is away")).ID
	if err := n.Ban(t.Context(), job.Ban{Address: "192.0.2.1", Until: time.Now().Add(time.Hour)}, alice); codeOf(err) != job.CodeUnavailable {
		t.Errorf("ban while it is away: %v, want CodeUnavailable", err)
	}
	nodes[0].Run(t)
	if s := n.wait(id); s.State != job.Done {
		t.Errorf("%s: %v", s.State, s.Error)
	}
	// What it had in memory alone is gone with it, and made again.
	healthy(t, n)
	workers(t, n, 1)

	// Now it has lost everything, while a job is under work, one waits, and somebody is banned.
	if err := n.Ban(t.Context(), job.Ban{Address: "192.0.2.2", Until: time.Now().Add(time.Hour)}, alice); err != nil {
		t.Fatal(err)
	}
	arrived, release := o.hold(t)
	running, waiting := n.submit(o.spec(t, "running")).ID, n.submit(o.spec(t, "waiting")).ID
	<-arrived
	nc, err := nats.Connect(nodes[0].URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"partiald-jobs", "KV_partiald-state", "KV_partiald-live"} {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	healthy(t, n)
	release()
	for _, id := range []string{running, waiting} {
		if s := n.wait(id); s.State != job.Done {
			t.Errorf("%s: %v", s.State, s.Error)
		}
	}
	workers(t, n, 1)
	s := setting
	s.dir = t.TempDir()
	other := open(t, s)
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) { // the first one puts it back, beside the rest
		if _, ok := other.Banned("192.0.2.2"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the ban was lost")
		}
	}
	other.until(running, func(s job.Status) bool { return s.State == job.Done })
	last := n.submit(o.spec(t, "last")).ID // they hear of each other
	for _, n := range []*node{n, other} {
		if s := n.wait(last); s.State != job.Done {
			t.Errorf("%s: %v", s.State, s.Error)
		}
	}
}

// healthy waits until all is well.
func healthy(t *testing.T, n *node) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		list := n.Health(t.Context())
		if !slices.ContainsFunc(list, func(h job.Health) bool { return !h.OK }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", list)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestBucket has servers share nothing but the queue and its bucket.
func TestBucket(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	from, to := testrelease.Complete(t, "140.1", "bucket"), testrelease.Complete(t, "140.2", "bucket")
	spec := job.Spec{From: o.source(from), To: o.source(to)}
	s := setting{dir: t.TempDir(), options: func(o *engine.Options) { o.Slots = -1 }}
	s.queue = queue.Options{URLs: []string{queuetest.Start(t)}, Objects: true}
	a := open(t, s)
	s.dir, s.options = t.TempDir(), nil
	b := open(t, s)
	uploaded := spec
	uploaded.From.URLs, uploaded.To.URLs = nil, nil
	for _, data := range [][]byte{from, to} {
		if _, err := a.Upload(t.Context(), bytes.NewReader(data), alice); err != nil {
			t.Fatal(err)
		}
	}
	id := a.submit(uploaded).ID
	if s := a.wait(id); s.State != job.Done || s.Server != b.o.Server {
		t.Fatalf("%s on %s, %v", s.State, s.Server, s.Error)
	}
	if got := o.requests.Load(); got != 0 {
		t.Errorf("%d requests for what was uploaded", got)
	}
	data := a.bytes(id) // which never made it
	o.check(t, spec, data)
	b.close()
	for _, f := range []func(context.Context, string) (job.Document, error){a.Report, a.Provenance} {
		if _, err := f(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	log, err := a.Log(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(log); err != nil || !strings.Contains(string(text), "attempt begins") {
		t.Errorf("log: %v\n%s", err, text)
	}
	if removed, err := a.Purge(t.Context(), id, time.Time{}, alice); err != nil || removed != 1 {
		t.Errorf("removed %d, %v", removed, err)
	}
	if _, err := a.Artifact(t.Context(), id); codeOf(err) != job.CodeNotFound {
		t.Errorf("after the purge: %v, want CodeNotFound", err)
	}
}

// flaky is a storage that refuses to store anything for a while.
type flaky struct {
	hang atomic.Bool
	storage.Backend
	fail atomic.Int64
}

func (f *flaky) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	if strings.HasPrefix(o.Name, "partials/") && f.fail.Add(-1) >= 0 {
		return storage.Object{}, false, plugins.ErrDenied
	}
	return f.Backend.PutIfAbsent(ctx, o, r)
}

// Stat implements [storage.Backend].
func (f *flaky) Stat(ctx context.Context, name string) (storage.Object, error) {
	if f.hang.Load() {
		<-ctx.Done()
		return storage.Object{}, ctx.Err()
	}
	return f.Backend.Stat(ctx, name)
}

// TestStorageHangs: what the cache has is handed out though the storage does not answer.
func TestStorageHangs(t *testing.T) {
	t.Parallel()
	f := &flaky{Backend: directory(t)}
	n := open(t, setting{dir: t.TempDir(), storage: f})
	s := n.wait(n.submit(newOrigin(t).spec(t, "x")).ID)
	f.hang.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	a, err := n.Artifact(ctx, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if data, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size)); err != nil || int64(len(data)) != s.Result.Size {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	// What only the storage has cannot be had now. That is not to say that it is gone.
	if _, err := n.disk.Purge(ctx, cache.Filter{}); err != nil {
		t.Fatal(err)
	}
	n.o.Storage.Client.Close()
	if _, err := n.Artifact(ctx, s.ID); codeOf(err) != job.CodeUnavailable {
		t.Errorf("artifact: %v, want CodeUnavailable", err)
	}
	if _, err := n.Provenance(ctx, s.ID); codeOf(err) != job.CodeUnavailable {
		t.Errorf("provenance: %v, want CodeUnavailable", err)
	}
	// Who purges it is told to do so again.
	if _, err := n.Purge(ctx, s.ID, time.Time{}, alice); codeOf(err) != job.CodeUnavailable || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("purge: %v, want CodeUnavailable, and why in one line", err)
	}
	if now, err := n.Status(ctx, s.ID); err != nil || !now.Purged.IsZero() {
		t.Errorf("purged at %v though the storage has it (%v)", now.Purged, err)
	}
}

// TestStorageFails has a storage that fails: a job is done when its partial is there, and not before.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	for _, tt := range []struct {
		name  string
		fails int64
		state job.State
		code  job.Code
	}{{"for a while", 2, job.Done, ""}, {"for ever", 1000, job.Failed, job.CodeStore}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{Backend: directory(t)}
			f.fail.Store(tt.fails)
			n := open(t, setting{dir: t.TempDir(), storage: f, options: func(o *engine.Options) { o.Attempts, o.RetryDelay = 3, time.Millisecond }})
			s := n.wait(n.submit(o.spec(t, "x")).ID)
			if s.State != tt.state || tt.code != "" && s.Error.Code != tt.code {
				t.Errorf("%s, %v, want %s", s.State, s.Error, tt.state)
			}
			if s.Attempt < 2 {
				t.Errorf("%s at attempt %d, want another one", s.State, s.Attempt)
			}
			if tt.state == job.Done {
				if _, err := n.o.Storage.Client.Stat(t.Context(), n.o.Storage.Tier.ObjectName(cache.Key{Kind: cache.Partials, Sum: sumOf(t, s.ID)})); err != nil {
					t.Errorf("done, but not in the storage: %v", err)
				}
			}
		})
	}
}

// testGuardian has a server die that had accepted a job which the queue then lost. Another server of the same ledger
// looks after it.
func testGuardian(t *testing.T, external *external) {
	t.Helper()
	o := newOrigin(t)
	if external.postgres == nil {
		t.Skip("no PostgreSQL, and SQLite is not shared")
	}
	s := external.backend(t)
	other, _ := s.another(t)
	s.options = func(o *engine.Options) { o.Slots, o.RequeueEvery = -1, time.Hour }
	a := open(t, s)
	id := a.submit(o.spec(t, "x")).ID
	if err := a.o.Queue.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	a.close()
	b := open(t, other)
	if s := b.wait(id); s.State != job.Done {
		t.Errorf("%s, %v", s.State, s.Error)
	}
}

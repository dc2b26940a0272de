package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/examples/internal/database"
	"github.com/senbonzakura/senbonzakura/examples/internal/pgtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/ledger"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// childVariable makes this program a writer that is going to be killed: it says where the ledger is.
const childVariable = "PARTIALD_LEDGER_CHILD"

func TestMain(m *testing.M) {
	if where := os.Getenv(childVariable); where != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(where))
		os.Exit(1)
	}
	if testkit.Count(1, 0, 0) == 1 { // with the promised counts on a disk
		testkit.InMemory()
	}
	testkit.AtOnce(8)
	goleak.VerifyTestMain(m)
}

// place is where a ledger is.
type place struct {
	dsn string
	pg  *pgtest.Server
}

func (p place) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := open(t.Context(), p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func open(ctx context.Context, dsn string) (*ledger.Ledger, error) {
	if strings.HasPrefix(dsn, "postgres:") {
		return ledger.OpenPostgres(ctx, dsn, nil)
	}
	return ledger.OpenSQLite(ctx, dsn, nil)
}

// TestLedger runs the same tests on both databases.
func TestLedger(t *testing.T) {
	tests := []struct {
		name string
		run  func(*testing.T, place)
	}{
		{"life", testLife},
		{"history", testHistory},
		{"read while written", testReadWhileWritten},
		{"batch", testBatch},
		{"actions", testActions},
		{"askers", testAskers},
		{"all or nothing", testAllOrNothing},
		{"forget", testForget},
		{"several servers", testSeveral},
		{"strange texts", testStrange},
		{"newer schema", testNewer},
		{"older schema", testOlder},
		{"closed", testClosed},
	}
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		t.Run("kill", func(t *testing.T) {
			t.Parallel()
			testKill(t, place{dsn: filepath.Join(t.TempDir(), "a b?%41#.db")})
		})
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, place{dsn: filepath.Join(t.TempDir(), "a b?%41#.db")})
			})
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		pg := pgtest.Postgres(t)
		t.Run("kill", func(t *testing.T) { testKill(t, place{dsn: pg.Database(t), pg: pg}) }) // the server, while nobody else uses it
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.run(t, place{dsn: pg.Database(t), pg: pg})
			})
		}
	})
}

var epoch = time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)

// entry makes a job that was just asked for.
func entry(n int) ledger.Entry {
	id := fmt.Sprintf("%064x", n)
	spec := job.Spec{
		From:    job.Source{URLs: []string{fmt.Sprintf("https://example.org/firefox-%d.1.mar", n)}, SHA512: strings.Repeat("a", 128)},
		To:      job.Source{URLs: []string{fmt.Sprintf("https://example.org/firefox-%d.2.mar", n)}, SHA512: strings.Repeat("b", 128)},
		Product: "Firefox", Locale: []string{"de", "fr"}[n%2], Labels: map[string]string{"branch": "release"},
	}
	s := job.Status{ID: id, Spec: spec, State: job.Queued, Created: epoch.Add(time.Duration(n) * time.Second)}
	s.Progress.Total = -1
	step(&s, job.Queued, "")
	secret := spec
	secret.From.URLs = []string{"https://user:secret@example.org/a?token=x"}
	return ledger.Entry{Status: s, Spec: secret}
}

// step goes on with a job.
func step(s *job.Status, state job.State, reason string) {
	s.State, s.Updated = state, s.Created.Add(time.Duration(len(s.Changes))*time.Minute)
	s.Changes = append(slices.Clone(s.Changes), job.Change{
		Seq: int64(len(s.Changes) + 1), State: state, At: s.Updated, Attempt: s.Attempt, Server: s.Server, Reason: reason,
	})
}

// testReadWhileWritten reads a job while it goes on: state and changes are always those of one moment.
func testReadWhileWritten(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	e := entry(1)
	accept(t, l, "alice", e)
	written := make(chan error, 1)
	go func() {
		s := e.Status
		for i := range 60 {
			step(&s, job.States()[i%2], "") // queued, fetching
			if _, err := l.Follow(t.Context(), &s); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for {
		got, err := l.Get(t.Context(), e.Status.ID)
		if err != nil {
			t.Fatal(err)
		}
		if last := got.Status.Changes[len(got.Status.Changes)-1]; last.Seq != got.Seq || last.State != got.Status.State {
			t.Fatalf("the job is %s by change %d, its last change is %d to %s", got.Status.State, got.Seq, last.Seq, last.State)
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func accept(t *testing.T, l *ledger.Ledger, who string, entries ...ledger.Entry) {
	t.Helper()
	var actions []job.Action
	for _, e := range entries {
		actions = append(actions, job.Action{At: e.Status.Created, Server: "a", Who: job.Asker{Name: who}, What: "submit", Job: e.Status.ID})
	}
	if err := l.Accept(t.Context(), entries, actions, nil); err != nil {
		t.Fatal(err)
	}
}

func openIDs(t *testing.T, l *ledger.Ledger) []string {
	t.Helper()
	var ids []string
	for e, err := range l.Open(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.Status.ID)
	}
	if n, err := l.CountOpen(t.Context()); err != nil || n != len(ids) {
		t.Errorf("CountOpen = %d, %v, want %d", n, err, len(ids))
	}
	return ids
}

func testLife(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	if err := l.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	e := entry(1)
	if _, err := l.Get(t.Context(), e.Status.ID); !errors.Is(err, &job.Error{Code: job.CodeNotFound}) {
		t.Errorf("Get of what is not there: %v, want CodeNotFound", err)
	}
	if known, err := l.Follow(t.Context(), &e.Status); known || err != nil {
		t.Errorf("Follow of what is not there: %v, %v", known, err)
	}
	accept(t, l, "alice", e)

	s := e.Status
	s.Attempt, s.Server = 1, "b"
	step(&s, job.Fetching, "")
	old := s
	step(&s, job.Diffing, "because")
	step(&s, job.Done, "")
	s.Result = &job.Result{Size: 10, Complete: 100, SHA512: "x", Saved: 0.9, SignedBy: []string{"k"}, Elapsed: time.Second}
	for _, now := range []job.Status{s, s, old} { // again and late ones change nothing
		if known, err := l.Follow(t.Context(), &now); !known || err != nil {
			t.Fatalf("Follow: %v, %v", known, err)
		}
	}
	want := ledger.Entry{Status: s, Spec: e.Spec, Seq: 4}
	check := func(l *ledger.Ledger) {
		t.Helper()
		got, err := l.Get(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(ledger.Entry{}), ignoreN); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	check(l)
	if ids := openIDs(t, l); len(ids) != 0 {
		t.Errorf("open: %v, want none", ids)
	}

	// Asked for again, with another address, after it had failed.
	step(&s, job.Failed, "no")
	s.Result, s.Error = nil, &job.Error{Code: job.CodeFetch, Message: "no", Retryable: true, RetryAfter: time.Minute}
	step(&s, job.Queued, "again")
	again := ledger.Entry{Status: s, Spec: e.Spec}
	again.Spec.To.URLs = []string{"https://elsewhere.example/"}
	accept(t, l, "bob", again)
	want = ledger.Entry{Status: s, Spec: again.Spec, Seq: 6}
	check(l)
	if ids := openIDs(t, l); !slices.Equal(ids, []string{s.ID}) {
		t.Errorf("open: %v, want the one", ids)
	}
	check(p.open(t)) // and for who opens it anew
}

var ignoreN = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".n" }, cmp.Ignore())

func testHistory(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	var entries []ledger.Entry
	for n := range 25 {
		e := entry(n)
		e.Status.Spec.To.SHA256 = fmt.Sprintf("%064x", 1000+n)
		if n%5 == 0 {
			step(&e.Status, job.Failed, "no")
		}
		e.Status.Spec.Labels = map[string]string{"what": fmt.Sprintf("100%%_%d!", n)}
		who := "alice"
		if n%3 == 0 {
			who = "bob"
		}
		accept(t, l, who, e)
		entries = append(entries, e)
	}
	number := func(f job.Filter) (got []int) {
		t.Helper()
		for {
			page, err := l.History(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page.Jobs {
				got = append(got, slices.IndexFunc(entries, func(e ledger.Entry) bool { return e.Status.ID == s.ID }))
			}
			if f.Cursor = page.Next; f.Cursor == "" {
				return got
			}
			if len(page.Jobs) != f.Limit {
				t.Fatalf("%d jobs on a page of %d that is not the last", len(page.Jobs), f.Limit)
			}
		}
	}
	all := make([]int, 25)
	for n := range all {
		all[n] = 24 - n
	}
	only := func(keep func(int) bool) []int {
		return slices.DeleteFunc(slices.Clone(all), func(n int) bool { return !keep(n) })
	}
	tests := []struct {
		name string
		f    job.Filter
		want []int
	}{
		{"everything", job.Filter{}, all},
		{"pages", job.Filter{Limit: 7}, all},
		{"exact pages", job.Filter{Limit: 5}, all},
		{"state", job.Filter{State: job.Failed}, only(func(n int) bool { return n%5 == 0 })},
		{"product", job.Filter{Product: "Firefox", Limit: 10}, all},
		{"product in other letters", job.Filter{Product: "FIREfox"}, all},
		{"no product", job.Filter{Product: "fire"}, nil},
		{"locale", job.Filter{Locale: "fr"}, only(func(n int) bool { return n%2 == 1 })},
		{"who", job.Filter{Who: "bob", Limit: 2}, only(func(n int) bool { return n%3 == 0 })},
		{"since", job.Filter{Since: epoch.Add(20 * time.Second)}, only(func(n int) bool { return n >= 20 })},
		{"until", job.Filter{Until: epoch.Add(3 * time.Second)}, only(func(n int) bool { return n < 3 })},
		{"since ever", job.Filter{Since: epoch.Add(-time.Hour), Until: epoch.Add(time.Hour), Limit: 10}, all},
		{"since never", job.Filter{Since: epoch.Add(time.Hour)}, nil},
		{"until never", job.Filter{Until: epoch.Add(-time.Hour)}, nil},
		{"from", job.Filter{From: strings.Repeat("A", 128), Limit: 10}, all},
		{"to", job.Filter{To: fmt.Sprintf("%064X", 1009)}, []int{9}},
		{"from and to", job.Filter{From: strings.Repeat("a", 128), To: fmt.Sprintf("%064x", 1009), State: job.Queued}, []int{9}},
		{"from what is TO", job.Filter{From: strings.Repeat("b", 128)}, nil},
		{"from a part", job.Filter{From: strings.Repeat("a", 64)}, nil},
		{"address", job.Filter{Text: "FIREFOX-7.1.mar"}, []int{7}},
		{"hash", job.Filter{Text: fmt.Sprintf("%060X", 1009)}, []int{9}},
		{"ID", job.Filter{Text: entries[11].Status.ID}, []int{11}},
		{"label", job.Filter{Text: "100%_12!"}, []int{12}},
		{"label by name and value", job.Filter{Label: "What=100%_1!"}, []int{1}},
		{"label by name", job.Filter{Label: "what", Limit: 10}, all},
		{"label by a part of its value", job.Filter{Label: "what=100%_1"}, nil},
		{"label by a part of its name", job.Filter{Label: "hat=100%_1!"}, nil},
		{"not a pattern", job.Filter{Text: "100%%12"}, nil},
		{"secret", job.Filter{Text: "secret"}, nil},
		{"two", job.Filter{Locale: "de", State: job.Failed}, only(func(n int) bool { return n%10 == 0 })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := number(tt.f); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	// One that did not say what it is for; that became known when it was made.
	made := entry(25)
	made.Status.Spec.Product = ""
	accept(t, l, "alice", made)
	made.Status.Result = &job.Result{Name: "x", Product: "Thunderbird", FromVersion: "153.5.1", ToVersion: "153.6.0"}
	step(&made.Status, job.Done, "")
	if _, err := l.Follow(t.Context(), &made.Status); err != nil {
		t.Fatal(err)
	}
	entries = append(entries, made)
	for _, f := range []job.Filter{{Product: "thunderbird"}, {Text: "153.6.0"}, {Product: "Thunderbird", Text: "firefox-25.1"}} {
		if got := number(f); !slices.Equal(got, []int{25}) {
			t.Errorf("%+v: got %v, want the one that names it itself", f, got)
		}
	}
	// Times need not grow with the numbers: clocks differ, and jump.
	early := entry(3)
	early.Status.ID = fmt.Sprintf("%064x", 26)
	accept(t, l, "alice", early)
	entries = append(entries, early)
	for f, want := range map[*job.Filter][]int{
		{Until: epoch.Add(4 * time.Second)}:                                    {26, 3, 2, 1, 0},
		{Since: epoch.Add(23 * time.Second)}:                                   {25, 24, 23},
		{Since: epoch.Add(3 * time.Second), Until: epoch.Add(4 * time.Second)}: {26, 3},
	} {
		if got := number(*f); !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", f, got, want)
		}
	}
	for _, cursor := range []string{"!", "-1", "zzzzzzzzzzzzzzzzzz"} {
		if _, err := l.History(t.Context(), job.Filter{Cursor: cursor}); !errors.Is(err, &job.Error{Code: job.CodeRequest}) {
			t.Errorf("cursor %q: %v, want CodeRequest", cursor, err)
		}
	}
}

func testBatch(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	a, b, c := entry(1), entry(2), entry(3)
	batch := job.Batch{ID: "batch", Created: epoch, Jobs: []job.Status{{ID: b.Status.ID}, {ID: a.Status.ID}}, Unmatched: []job.Unmatched{{Field: "matrix.to[1]", Locale: "xh"}}}
	if _, err := l.Batch(t.Context(), "batch"); !errors.Is(err, &job.Error{Code: job.CodeNotFound}) {
		t.Errorf("before: %v, want CodeNotFound", err)
	}
	accept(t, l, "x", c)
	for range 2 {
		if err := l.Accept(t.Context(), []ledger.Entry{b, a}, nil, &batch); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Batch(t.Context(), "batch")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batch, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	batch.Unmatched = nil // the same, asked for without what has no partner
	if err := l.Accept(t.Context(), nil, nil, &batch); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Batch(t.Context(), "batch"); err != nil || got.Unmatched != nil || len(got.Jobs) != 2 {
		t.Errorf("asked for again: %+v, %v", got, err)
	}
	page, err := l.History(t.Context(), job.Filter{Batch: "batch"})
	if err != nil || len(page.Jobs) != 2 {
		t.Errorf("history of the batch: %d jobs, %v, want 2", len(page.Jobs), err)
	}
}

func testActions(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	var want []job.Action
	for i, what := range []string{"cancel", "ban", "purge"} {
		a, err := l.Act(t.Context(), job.Action{
			At: epoch.Add(time.Duration(i) * time.Hour), Server: "s", Who: job.Asker{Name: []string{"eve", "bob"}[i%2], Address: "::1", RequestID: "r"},
			What: what, Job: "j", Detail: "Detail_" + what,
		})
		if err != nil {
			t.Fatal(err)
		}
		want = append([]job.Action{a}, want...)
	}
	tests := []struct {
		name string
		f    job.Filter
		want []job.Action
	}{
		{"all", job.Filter{}, want},
		{"who", job.Filter{Who: "bob"}, want[1:2]},
		{"text", job.Filter{Text: "l_P"}, want[:1]},
		{"time", job.Filter{Since: epoch.Add(time.Hour), Until: epoch.Add(2 * time.Hour)}, want[1:2]},
		{"first page", job.Filter{Limit: 1}, want[:1]},
		{"second page", job.Filter{Limit: 1, Cursor: fmt.Sprint(want[0].ID)}, want[1:2]}, // below 36 they are written alike
	}
	for _, tt := range tests {
		got, err := l.Actions(t.Context(), tt.f)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

func testAllOrNothing(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Accept(ctx, []ledger.Entry{entry(1)}, nil, nil); err == nil {
		t.Error("accepted although ctx had ended")
	}
	// One that fails must spoil nothing for those who share the transaction with it.
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			e := entry(100 + n)
			if n%4 == 0 {
				if err := l.Spoil(t.Context(), e); err == nil {
					t.Error("the impossible was written down")
				}
				return
			}
			if err := l.Accept(t.Context(), []ledger.Entry{e}, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ids := openIDs(t, l); len(ids) != 15 {
		t.Errorf("%d jobs are there, want the 15 that are in order", len(ids))
	}
}

func testForget(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	accept(t, l, "x", entry(1), entry(2))
	if err := l.Forget(t.Context(), entry(1).Status.ID); err != nil {
		t.Fatal(err)
	}
	if ids := openIDs(t, l); !slices.Equal(ids, []string{entry(2).Status.ID}) {
		t.Errorf("open: %v, want the second job", ids)
	}
	if actions, err := l.Actions(t.Context(), job.Filter{}); err != nil || len(actions) != 1 {
		t.Errorf("%d actions, %v, want 1", len(actions), err)
	}
}

// testSeveral has several servers write down the same at the same time.
func testSeveral(t *testing.T, p place) {
	t.Helper()
	const servers, jobs = 3, 30
	var wg sync.WaitGroup
	for range servers {
		l := p.open(t)
		wg.Go(func() {
			for n := range jobs {
				a, b := entry(n), entry(n+1) // overlapping, in one transaction
				if err := l.Accept(t.Context(), []ledger.Entry{b, a}, nil, nil); err != nil {
					t.Error(err)
					return
				}
				step(&a.Status, job.Fetching, "")
				step(&a.Status, job.Done, "")
				if known, err := l.Follow(t.Context(), &a.Status); err != nil || !known {
					t.Errorf("follow: %v, %v", known, err)
					return
				}
			}
		})
	}
	wg.Wait()
	l := p.open(t)
	for n := range jobs {
		e, err := l.Get(t.Context(), entry(n).Status.ID)
		if err != nil {
			t.Fatal(err)
		}
		if e.Status.State != job.Done || len(e.Status.Changes) != 3 {
			t.Errorf("job %d: %s with %d changes, want done with 3", n, e.Status.State, len(e.Status.Changes))
		}
	}
}

func testStrange(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	e := entry(1)
	e.Status.Spec.Labels = map[string]string{"nul": "a\x00b", "bad": "\xff", "quote": "'\"; DROP TABLE jobs; -- ? $1 :x @y"}
	e.Status.Changes[0].Reason = "x\x00\xfe?"
	accept(t, l, "'; --", e)
	got, err := l.Get(t.Context(), e.Status.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status.Spec.Labels["quote"] != e.Status.Spec.Labels["quote"] || got.Status.Changes[0].Reason != "x\uFFFD\uFFFD?" {
		t.Errorf("got %q and %q", got.Status.Spec.Labels, got.Status.Changes[0].Reason)
	}
}

func testNewer(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	if err := l.SetVersion(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if l, err := open(t.Context(), p.dsn); err == nil {
		l.Close()
		t.Error("a ledger of the future was opened")
	}
}

// A book of an older program is brought up to date, with all that is in it.
func testOlder(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	failed, waiting := entry(1), entry(2)
	failed.Status.Error = job.Errorf(job.CodeAttempts, "three \"workers\" died")
	failed.Status.Spec.To = job.Source{URLs: failed.Status.Spec.To.URLs, SHA256: strings.Repeat("C", 64)}
	step(&failed.Status, job.Failed, "no")
	accept(t, l, "alice", failed, waiting)
	if err := l.Downgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = p.open(t)
	for f, want := range map[*job.Filter][]string{
		{From: strings.Repeat("a", 128)}: {waiting.Status.ID, failed.Status.ID},
		{To: strings.Repeat("b", 128)}:   {waiting.Status.ID},
		{To: strings.Repeat("c", 64)}:    {failed.Status.ID},
		{Product: "firefox"}:             {waiting.Status.ID, failed.Status.ID},
	} {
		page, err := l.History(t.Context(), *f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range page.Jobs {
			got = append(got, s.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %q, want %q", *f, got, want)
		}
	}
	if n, err := l.CountFailed(t.Context(), job.CodeAttempts); n != 1 || err != nil {
		t.Errorf("%d given up, %v, want 1", n, err)
	}
	accept(t, l, "alice", entry(3))
	if n, err := l.CountOpen(t.Context()); n != 2 || err != nil {
		t.Errorf("%d open, %v, want 2", n, err)
	}
}

// Open jobs count against who asked for them last; who asks for one that is under way changes nothing.
func testAskers(t *testing.T, p place) {
	t.Helper()
	l := p.open(t)
	one, two := entry(1), entry(2)
	one.Asker, two.Asker = "alice", "alice"
	accept(t, l, "alice", one, two)
	counted := func(when string, alice, bob int) {
		t.Helper()
		for who, want := range map[string]int{"alice": alice, "bob": bob} {
			if n, err := l.CountOpenOf(t.Context(), who); n != want || err != nil {
				t.Errorf("%s: %d of %s, %v, want %d", when, n, who, err, want)
			}
		}
	}
	counted("asked for", 2, 0)
	one.Asker = ""
	accept(t, l, "bob", one)
	counted("bob asks as well", 2, 0)
	if e, err := l.Get(t.Context(), one.Status.ID); err != nil || e.Asker != "alice" {
		t.Errorf("got %q, %v", e.Asker, err)
	}
	step(&one.Status, job.Failed, "no")
	if _, err := l.Follow(t.Context(), &one.Status); err != nil {
		t.Fatal(err)
	}
	counted("one failed", 1, 0)
	step(&one.Status, job.Queued, "again")
	one.Asker = "bob"
	accept(t, l, "bob", one)
	counted("bob has it tried again", 1, 1)
}

// What is asked again and again must not look at all jobs. Only searches in texts and for people do.
func TestIndexes(t *testing.T) {
	t.Parallel()
	l := place{dsn: filepath.Join(t.TempDir(), "ledger.db")}.open(t)
	hash := strings.Repeat("a", 128)
	for _, tt := range []struct {
		f    job.Filter
		want string // in the plan
	}{
		{job.Filter{State: job.Failed}, "INDEX jobs_state (state=?)"},
		{job.Filter{Product: "firefox"}, "INDEX jobs_product"},
		{job.Filter{Locale: "de"}, "INDEX jobs_locale"},
		{job.Filter{From: hash, To: hash}, "COVERING INDEX sqlite_autoindex_sources_1 (hash=? AND side=?)"},
		{job.Filter{From: hash}, "COVERING INDEX sqlite_autoindex_sources_1 (hash=? AND side=?)"},
		{job.Filter{To: hash, State: job.Done}, "SEARCH jobs USING INDEX"},
		{job.Filter{Since: epoch}, "COVERING INDEX jobs_created (created>?)"},
		{job.Filter{Until: epoch}, "COVERING INDEX jobs_created (created<?)"},
		{job.Filter{Batch: "x"}, "INDEX sqlite_autoindex_batch_jobs_1 (batch=?)"},
		{job.Filter{Text: "x"}, "SCAN jobs"},
		{job.Filter{Label: "x=y"}, "SCAN jobs"},
		{job.Filter{Who: "alice"}, "SCAN jobs"},
		{job.Filter{}, "SCAN jobs"}, // to the end of a page
	} {
		plan, err := l.Plan(t.Context(), tt.f)
		if err != nil {
			t.Fatal(err)
		}
		if scans := slices.Contains(plan, "SCAN jobs"); scans != (tt.want == "SCAN jobs") || !strings.Contains(strings.Join(plan, "\n"), tt.want) {
			t.Errorf("%+v: %q, want %q", tt.f, plan, tt.want)
		}
	}
}

// Searches that look at everything leave connections to those who ask for one job.
func TestSearchesTakeTurns(t *testing.T) {
	t.Parallel()
	l, err := ledger.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), &ledger.Options{Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accept(t, l, "alice", entry(1))
	leave, err := l.Search(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for _, f := range []job.Filter{{Text: "x"}, {Label: "x"}, {Who: "alice"}} {
		if _, err := l.History(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v: %v, want it to wait for its turn", f, err)
		}
	}
	if _, err := l.Actions(t.Context(), job.Filter{}); err != nil {
		t.Errorf("the last actions: %v", err)
	}
	if _, err := l.Actions(ctx, job.Filter{Text: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("actions: %v, want them to wait for their turn", err)
	}
	if page, err := l.History(t.Context(), job.Filter{State: job.Queued}); err != nil || len(page.Jobs) != 1 {
		t.Errorf("by state: %v, %v", page.Jobs, err)
	}
	leave()
	if page, err := l.History(t.Context(), job.Filter{Text: "firefox"}); err != nil || len(page.Jobs) != 1 {
		t.Errorf("after the other one: %v, %v", page.Jobs, err)
	}
}

func testClosed(t *testing.T, p place) {
	t.Helper()
	l, err := open(t.Context(), p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 20 {
				_ = l.Accept(t.Context(), []ledger.Entry{entry(n)}, nil, nil)
			}
		})
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := l.Ping(t.Context()); err == nil {
		t.Error("a closed ledger answers")
	}
}

// testKill kills a writer and looks whether everything is there that it had said was written.
func testKill(t *testing.T, p place) {
	t.Helper()
	p.open(t)
	n, rounds := 0, 3
	if p.pg != nil {
		rounds = 1 // its restart takes a while
	}
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+p.dsn, fmt.Sprintf("FIRST=%d", n))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for count := 0; lines.Scan(); count++ {
			n++
			if count == 20+7*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if p.pg != nil {
			p.pg.Restart(t)
		}
	}
	if n < 20*rounds {
		t.Fatalf("only %d jobs were written", n)
	}
	l := p.open(t)
	for i := range n {
		e, err := l.Get(t.Context(), entry(i).Status.ID)
		if err != nil || len(e.Status.Changes) < 1 {
			t.Fatalf("job %d of the %d that were acknowledged: %v", i, n, err)
		}
	}
}

func writeUntilKilled(dsn string) error {
	ctx := context.Background()
	l, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(os.Getenv("FIRST"), &n); err != nil {
		return err
	}
	for ; ; n++ {
		e := entry(n)
		if err := l.Accept(ctx, []ledger.Entry{e}, nil, nil); err != nil {
			return err
		}
		fmt.Println(n)
		step(&e.Status, job.Fetching, "")
		if _, err := l.Follow(ctx, &e.Status); err != nil {
			return err
		}
	}
}

// TestFull has no more room for an SQLite file, and then again.
func TestFull(t *testing.T) {
	l := place{dsn: filepath.Join(t.TempDir(), "l.db")}.open(t)
	if err := l.Bound(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	n := 0
	var err error
	for ; err == nil && n < 1000; n++ {
		err = l.Accept(t.Context(), []ledger.Entry{entry(n)}, nil, nil)
	}
	if !errors.Is(err, database.ErrNoSpace) {
		t.Fatalf("after %d jobs: %v, want ErrNoSpace", n, err)
	}
	if err := l.Bound(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	accept(t, l, "x", entry(n))
	if ids := openIDs(t, l); len(ids) != n {
		t.Errorf("%d jobs are there, want %d", len(ids), n)
	}
}

package senbonzakura

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// told notes what an Observer is told.
type told struct {
	mu      sync.Mutex
	steps   []Step
	answers []Answer
	sum     time.Duration
}

func (o *told) observer() Observer {
	return Observer{
		Step: func(s Step, took time.Duration) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.steps, o.sum = append(o.steps, s), o.sum+took
		},
		Answered: func(a Answer) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.answers = append(o.answers, a)
		},
	}
}

// The observer is told each step of a job once, in order, and how each call ended.
func TestObserver(t *testing.T) {
	t.Parallel()
	o, seen := newOrigin(t), &told{}
	from, to := release(t, "Example", "1.0", "a"), release(t, "Example", "1.1", "b")
	r := Request{From: o.source("1.0", from), To: o.source("1.1", to)}
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"), func(o *Options) { o.Observe = seen.observer() })
	for range 2 {
		res, err := g.Generate(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Close()
	}
	if want := []Step{StepFetching, StepUnpacking, StepDiffing, StepPacking, StepVerifying, StepStoring}; !slices.Equal(seen.steps, want) {
		t.Errorf("steps %q, want %q", seen.steps, want)
	}
	if len(seen.answers) != 2 {
		t.Fatalf("%d answers, want 2", len(seen.answers))
	}
	made, found := seen.answers[0], seen.answers[1]
	if made.Cached || !found.Cached || made.Size == 0 || made.Size != found.Size || made.Complete != int64(len(to)) || made.Err != nil {
		t.Errorf("made %+v, found %+v; TO has %d bytes", made, found, len(to))
	}
	if made.Took < seen.sum || seen.sum <= 0 {
		t.Errorf("the steps took %v of %v", seen.sum, made.Took)
	}

	// What fails is told with its error; the completes are in the cache now, so nothing is fetched; Prefetch is no answer.
	seen.steps, seen.answers = nil, nil
	order, err := g.Order(Request{From: r.To, To: r.From})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Prefetch(t.Context(), order, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Make(t.Context(), order, nil); !errors.Is(err, ErrCheck) {
		t.Fatal(err)
	}
	if len(seen.answers) != 1 || FaultOf(seen.answers[0].Err) != FaultCaller || seen.answers[0].Size != 0 || !slices.Equal(seen.steps, []Step{StepUnpacking}) {
		t.Errorf("a refusal: steps %q, answers %+v", seen.steps, seen.answers)
	}
	// What Prefetch fetches is a step as well; GenerateTo is an answer.
	seen.steps, seen.answers = nil, nil
	order, err = g.Order(Request{From: r.From, To: o.source("1.2", release(t, "Example", "1.2", "c"))})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Prefetch(t.Context(), order, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := g.GenerateTo(t.Context(), &strings.Builder{}, Request{}, nil); err == nil {
		t.Fatal("no error")
	}
	if !slices.Equal(seen.steps, []Step{StepFetching}) || len(seen.answers) != 1 || !errors.Is(seen.answers[0].Err, ErrRequest) {
		t.Errorf("steps %q, answers %+v", seen.steps, seen.answers)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	all  []string
	news chan struct{} // has something after every line
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSpace(string(b)))
	select {
	case l.news <- struct{}{}:
	default: // it is known already
	}
	return len(b), nil
}

func (l *lines) with(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			n++
		}
	}
	return n
}

// A mirror that failed is logged, the address that gave the bytes is in the provenance, and who gives up is no error.
func TestLog(t *testing.T) {
	t.Parallel()
	o, log := newOrigin(t), &lines{news: make(chan struct{}, 1)}
	logger := slog.New(slog.NewTextHandler(log, nil))
	from, to := o.source("1.0", release(t, "Example", "1.0", "a")), o.source("1.1", release(t, "Example", "1.1", "b"))
	from.URLs = []string{o.URL + "/gone?token=secret", from.URLs[0]}
	g := newGenerator(t, "", func(opts *Options) {
		client, err := fetch.New(&fetch.Options{Insecure: true, Attempts: 1, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: logger})
		if err != nil {
			t.Fatal(err)
		}
		opts.Fetch, opts.Log = client, logger
	})
	res, err := g.Generate(t.Context(), Request{From: from, To: to}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if log.with("level=WARN", "address failed", o.URL+"/gone", "404") != 1 || log.with("secret") != 0 {
		t.Errorf("the mirror that failed is not in the log once, without its query: %q", log.all)
	}
	if got := []string{res.Provenance.From.URL, res.Provenance.To.URL}; !slices.Equal(got, []string{from.URLs[1], to.URLs[0]}) {
		t.Errorf("the addresses of the provenance are %q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	if _, err := g.Generate(ctx, Request{From: from, To: o.source("1.2", release(t, "Example", "1.2", "c"))}, func(e Event) {
		if e.Step == StepDiffing {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for log.with("level=INFO", "cancelled") == 0 { // the job may end after its last caller has left
		select {
		case <-deadline:
			t.Fatalf("a job that nobody waits for is not logged: %q", log.all)
		case <-log.news:
		}
	}
	if log.with("level=ERROR") != 0 {
		t.Errorf("logged as an error: %q", log.all)
	}

	// Without a client of its own the log is that of the generator, too.
	own, err := New(Options{Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	before := log.with("address failed")
	if _, err := own.Generate(t.Context(), Request{From: from, To: to}, nil); FaultOf(err) != FaultCaller {
		t.Fatalf("http is not allowed by itself: %v", err)
	}
	if log.with("address failed") == before {
		t.Errorf("addresses that were refused are not in the log: %q", log.all)
	}
}

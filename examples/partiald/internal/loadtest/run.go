package loadtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sync/errgroup"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/sample"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Options say how a scenario is run.
type Options struct {
	Target *url.URL // see Target
	Token  string   // sent with every request; "" sends none
	// Seed makes the completes: a run with another seed asks for partials that were never made. "" takes the time.
	Seed string
	// Origin has the completes served from here, on 127.0.0.1, instead of uploaded: for targets on this machine that may
	// fetch from there.
	Origin bool
	// Settle is how long jobs may take to end after the load; 0 means 5 minutes.
	Settle time.Duration
	// Progress is told what is done now; nil tells nobody.
	Progress func(string)
}

const (
	prepareFor = 2 * time.Minute  // for each request that must succeed before the load
	settleFor  = 5 * time.Minute  //
	answerFor  = 30 * time.Second // for each request that must succeed after it
	maxProved  = 2000             // partials that are applied at the end; all others are compared with their hashes
)

// complete is a complete update that was made here.
type complete struct {
	data   []byte
	source job.Source
}

func newComplete(data []byte) complete {
	sum := sha512.Sum512(data)
	return complete{data, job.Source{SHA512: hex.EncodeToString(sum[:]), Size: int64(len(data))}}
}

// order is a partial that was asked for.
type order struct{ from, to int }

// run is one run of a scenario.
type run struct {
	o      Options
	s      Scenario
	c      *client
	begin  time.Time
	report *Report

	from, to []complete
	cached   job.Status // of from[0] to to[0]
	body     []byte     // the request for it
	next     atomic.Int64

	mu      sync.Mutex
	ordered map[string]order // by job
}

// Run runs a scenario against a target and reports how it went. Whatever fails under load is in the report; an error
// means that there was no load test: the target does not answer, or not as a partiald does, or ctx ended.
func Run(ctx context.Context, s Scenario, o Options) (*Report, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if o.Seed == "" {
		o.Seed = time.Now().UTC().Format("20060102T150405.000000")
	}
	if o.Settle == 0 {
		o.Settle = settleFor
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	r := &run{o: o, s: s, c: newClient(o.Target, o.Token), ordered: map[string]order{}}
	defer r.c.http.CloseIdleConnections()
	r.report = &Report{
		Format: Format, Scenario: s, Target: o.Target.String(), Seed: o.Seed, Origin: o.Origin,
		Machine: Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()},
	}
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	r.load(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o.Progress("waiting for what was asked for, and proving it")
	r.settle(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return r.report, nil
}

// prepare makes the completes, gives them to the target, and has one partial made that is there from then on.
func (r *run) prepare(ctx context.Context) error {
	data, err := r.c.sure(ctx, 10*time.Second, http.MethodGet, "/__version__", "", nil, http.StatusOK)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &r.report.TargetVersion); err != nil || !strings.Contains(string(data), "version") {
		return fmt.Errorf("/__version__ does not answer as partiald does: %s", problemText(data))
	}
	fresh := 1
	for i := range r.s.Load {
		fresh += r.s.Load[i].jobs()
	}
	sides := int(math.Ceil(math.Sqrt(float64(fresh))))
	r.o.Progress(fmt.Sprintf("making %d complete updates of about %s", 2*sides, r.s.Size))
	r.from, r.to = make([]complete, sides), make([]complete, sides)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range sides {
		for version, list := range map[string][]complete{"1." + fmt.Sprint(i): r.from, "2." + fmt.Sprint(i): r.to} {
			group.Go(func() error {
				data, err := sample.Complete(groupCtx, r.o.Seed, version, int(r.s.Size))
				if err == nil {
					list[i] = newComplete(data)
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if r.o.Origin {
		if err := r.serve(ctx); err != nil {
			return err
		}
	} else if err := r.upload(ctx); err != nil {
		return err
	}
	r.o.Progress("having one partial made beforehand")
	if r.body, err = json.Marshal(r.spec(order{0, 0})); err != nil {
		return err
	}
	if data, err = r.c.sure(ctx, prepareFor, http.MethodPost, "/api/v1/partials", "application/json", r.body, http.StatusOK, http.StatusAccepted, http.StatusCreated); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &r.cached); err != nil || r.cached.ID == "" {
		return fmt.Errorf("the answer to a request is none: %s", problemText(data))
	}
	r.cached, err = r.end(ctx, r.cached.ID, prepareFor)
	if err != nil {
		return err
	}
	if r.cached.State != job.Done {
		return fmt.Errorf("the first partial is %s%w", r.cached.State, reason(r.cached))
	}
	r.next.Store(1)
	return nil
}

// reason says why a job is not done, to be put behind its state.
func reason(st job.Status) error {
	if st.Error == nil {
		return errors.New(" and not done")
	}
	return fmt.Errorf(": %w", st.Error)
}

// spec is a request for a partial.
func (r *run) spec(o order) job.Spec {
	return job.Spec{From: r.from[o.from].source, To: r.to[o.to].source, Labels: map[string]string{"loadtest": r.o.Seed}}
}

// fresh returns a partial that was not asked for before.
func (r *run) fresh() order {
	n := int(r.next.Add(1)-1) % (len(r.from) * len(r.to))
	return order{n / len(r.to), n % len(r.to)}
}

// serve has the completes fetched from here.
func (r *run) serve(ctx context.Context) error {
	files := map[string][]byte{}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for kind, list := range map[string][]complete{"from": r.from, "to": r.to} {
		for i := range list {
			path := fmt.Sprintf("/%s/sample-%d.complete.mar", kind, i)
			files[path] = list[i].data
			list[i].source.URLs = []string{"http://" + l.Addr().String() + path}
		}
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		data, ok := files[q.URL.Path]
		if !ok {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("ETag", `"`+q.URL.Path+`"`)
		http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(data))
	})}
	go func() { _ = server.Serve(l) }() // until it is closed
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// upload gives the completes to the target.
func (r *run) upload(ctx context.Context) error {
	r.o.Progress("uploading them")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, list := range [][]complete{r.from, r.to} {
		for i := range list {
			group.Go(func() error {
				data, err := r.c.sure(ctx, prepareFor, http.MethodPost, "/api/v1/uploads", "application/octet-stream", list[i].data, http.StatusOK, http.StatusCreated)
				if err != nil {
					return err
				}
				var up job.Upload
				if err := json.Unmarshal(data, &up); err != nil || up.SHA512 != list[i].source.SHA512 {
					return fmt.Errorf("an upload is known by another hash: %s", problemText(data))
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// end waits for the end of a job.
func (r *run) end(ctx context.Context, id string, patience time.Duration) (job.Status, error) {
	deadline := time.Now().Add(patience)
	for {
		var st job.Status
		data, err := r.c.sure(ctx, answerFor, http.MethodGet, "/api/v1/jobs/"+id, "", nil, http.StatusOK, http.StatusAccepted)
		if err == nil {
			err = json.Unmarshal(data, &st)
		}
		if err != nil || st.State.Final() || time.Now().After(deadline) {
			return st, err
		}
		select {
		case <-time.After(150 * time.Millisecond):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// load runs all loads side by side, while the target's vitals are read once a second.
func (r *run) load(ctx context.Context) {
	last := 0.0
	for _, l := range r.s.Load {
		last = max(last, (l.Start.Duration + l.Duration.Duration).Seconds())
	}
	r.o.Progress(fmt.Sprintf("load for %.0f s", last))
	r.begin = time.Now()
	r.report.Started = r.begin.UTC().Truncate(time.Second)
	watchCtx, stop := context.WithCancel(ctx)
	var watching, loads sync.WaitGroup
	watching.Go(func() { r.watch(watchCtx) })
	results := make([]Result, len(r.s.Load))
	for i, l := range r.s.Load {
		loads.Go(func() { results[i] = r.one(ctx, l) })
	}
	loads.Wait()
	r.report.Took = time.Since(r.begin).Seconds()
	stop()
	watching.Wait()
	r.report.Loads = results
}

// watch reads the target's vitals until ctx ends, and once more.
func (r *run) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	look := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		v, faults, panics, err := r.c.vitals(ctx)
		if err != nil {
			if errors.Is(err, errNoMetrics) && len(r.report.Vitals) == 0 && len(r.report.Notes) == 0 {
				r.report.Notes = append(r.report.Notes, err.Error())
			}
			return // one that was lost on the way is not missed
		}
		v.At = time.Since(r.begin).Seconds()
		r.report.Vitals = append(r.report.Vitals, v)
		r.report.Faults, r.report.Panics = faults, panics
	}
	for {
		look(ctx)
		select {
		case <-ctx.Done():
			look(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// checked is what a request came to.
type checked struct {
	cause string // "" where it is as it should be
	wrong bool   // bytes were other than they should be
}

// one runs one load.
func (r *run) one(ctx context.Context, l Load) Result {
	res := newResult(l)
	select {
	case <-time.After(l.Start.Duration):
	case <-ctx.Done():
		return res.finish(0)
	}
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	targeter, check := r.targeter(loadCtx, l)
	attacker := vegeta.NewAttacker(vegeta.Client(r.c.http))
	stop := context.AfterFunc(loadCtx, func() { attacker.Stop() })
	defer stop()
	total := uint64(l.requests())
	interval := time.Duration(float64(time.Second) / l.Rate)
	pacer := pacer{vegeta.Rate{Freq: int(math.Round(l.Rate * 1000)), Per: 1000 * time.Second}, total}
	begin := time.Now()
	for hit := range attacker.Attack(targeter, pacer, 0, "") {
		due := begin.Add(time.Duration(hit.Seq+1) * interval) //nolint:gosec // a load has at most ten million; the first comes after one interval
		late := max(0, hit.Timestamp.Sub(due))
		c := checked{cause: network(hit.Error)} // without a status there was no answer, or not all of it
		if hit.Code != 0 {
			c = check(hit)
		}
		res.add(due.Sub(begin)-interval, hit.Latency+late, late, hit, c)
	}
	return res.finish(time.Since(begin).Seconds())
}

// network shortens the error of a request that got no answer, so that equal ones are counted together.
func network(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return cmp.Or("no answer: "+text, "no answer")
}

// pacer is a constant rate that ends after so many requests.
type pacer struct {
	vegeta.Pacer
	total uint64
}

// Pace implements vegeta.Pacer.
func (p pacer) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	if hits >= p.total {
		return 0, true
	}
	return p.Pacer.Pace(elapsed, hits)
}

// targeter returns what makes the requests of a load, and what looks at their answers.
func (r *run) targeter(ctx context.Context, l Load) (vegeta.Targeter, func(*vegeta.Result) checked) {
	header := r.c.header()
	with := func(pairs ...string) http.Header {
		h := header.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	fixed := func(method, path string, h http.Header, body []byte) vegeta.Targeter {
		return func(t *vegeta.Target) error {
			*t = vegeta.Target{Method: method, URL: r.c.base + path, Header: h, Body: body}
			return nil
		}
	}
	status := func(want ...uint16) func(*vegeta.Result) checked {
		return func(hit *vegeta.Result) checked {
			if !slices.Contains(want, hit.Code) {
				return checked{cause: fmt.Sprintf("%d %s", hit.Code, problemText(hit.Body))}
			}
			return checked{}
		}
	}
	switch l.Kind {
	case Status:
		return fixed(http.MethodGet, "/api/v1/jobs/"+r.cached.ID, header, nil), r.done(status(200))
	case Ask:
		return fixed(http.MethodPost, "/api/v1/partials", with("Content-Type", "application/json"), r.body), r.done(status(200))
	case Page:
		return fixed(http.MethodGet, "/jobs/"+r.cached.ID, with("Accept", "text/html"), nil), func(hit *vegeta.Result) checked {
			c := status(200)(hit)
			if c.cause == "" && !bytes.Contains(hit.Body, []byte(r.cached.Result.SHA512)) {
				c = checked{"the page is not about the job", true}
			}
			return c
		}
	case Download:
		return fixed(http.MethodGet, "/api/v1/partials/"+r.cached.ID, header, nil), func(hit *vegeta.Result) checked {
			c := status(200)(hit)
			if sum := sha512.Sum512(hit.Body); c.cause == "" && hex.EncodeToString(sum[:]) != r.cached.Result.SHA512 {
				c = checked{"other bytes than their hash says", true}
			}
			return c
		}
	case Upload:
		return r.uploads(ctx, l, with("Content-Type", "application/octet-stream")), r.uploaded(status(200, 201))
	case Watch:
		return r.watchers(ctx, l, with("Accept", "text/event-stream")), func(hit *vegeta.Result) checked {
			c := status(200)(hit)
			if c.cause == "" && !bytes.Contains(hit.Body[max(0, bytes.LastIndex(hit.Body, []byte("data:"))):], []byte(`"state":"done"`)) {
				c.cause = "events ended before the job did"
			}
			return c
		}
	default: // New
		h := with("Content-Type", "application/json", "Prefer", "wait=120")
		return func(t *vegeta.Target) error {
			body, err := json.Marshal(r.spec(r.fresh()))
			*t = vegeta.Target{Method: http.MethodPost, URL: r.c.base + "/api/v1/partials", Header: h, Body: body}
			return err
		}, r.taken(status(200, 202))
	}
}

// done checks an answer that must be about the partial that is there.
func (r *run) done(first func(*vegeta.Result) checked) func(*vegeta.Result) checked {
	return func(hit *vegeta.Result) checked {
		c := first(hit)
		var st job.Status
		if c.cause == "" && (json.Unmarshal(hit.Body, &st) != nil || st.State != job.Done || st.Result == nil || st.Result.SHA512 != r.cached.Result.SHA512) {
			c = checked{"another answer than before", true}
		}
		return c
	}
}

// taken notes what was asked for and taken.
func (r *run) taken(first func(*vegeta.Result) checked) func(*vegeta.Result) checked {
	return func(hit *vegeta.Result) checked {
		c := first(hit)
		if c.cause != "" {
			return c
		}
		st, ok := r.note(hit.Body)
		switch {
		case !ok:
			c = checked{"the answer is about something else", true}
		case st.State == job.Failed || st.State == job.Cancelled:
			c.cause = string(st.State)
		case st.State != job.Done:
			c.cause = "not done within two minutes"
		}
		return c
	}
}

// note takes the job of an answer into the list of what must be there at the end.
func (r *run) note(body []byte) (job.Status, bool) {
	var st job.Status
	if json.Unmarshal(body, &st) != nil || st.ID == "" {
		return st, false
	}
	find := func(list []complete, sum string) int {
		return slices.IndexFunc(list, func(c complete) bool { return c.source.SHA512 == sum })
	}
	o := order{find(r.from, st.Spec.From.SHA512), find(r.to, st.Spec.To.SHA512)}
	if o.from < 0 || o.to < 0 {
		return st, false
	}
	r.mu.Lock()
	r.ordered[st.ID] = o
	r.mu.Unlock()
	return st, true
}

// uploads sends completes that were never sent: of one, with a file more that has another number each time.
func (r *run) uploads(ctx context.Context, l Load, h http.Header) vegeta.Targeter {
	base := sync.OnceValues(func() (*mar.Archive, error) {
		data, err := sample.Complete(ctx, r.o.Seed+"-upload", "1.0", int(l.Size))
		if err != nil {
			return nil, err
		}
		from, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			return nil, err
		}
		return from.Archive(), nil
	})
	var count atomic.Int64
	return func(t *vegeta.Target) error {
		archive, err := base()
		if err != nil {
			return err
		}
		next := *archive
		next.Entries = append(slices.Clip(archive.Entries), mar.BytesEntry("number.txt", 0o644, fmt.Appendf(nil, "%s %d", r.o.Seed, count.Add(1))))
		var body bytes.Buffer
		_, err = next.WriteTo(&body)
		*t = vegeta.Target{Method: http.MethodPost, URL: r.c.base + "/api/v1/uploads", Header: h, Body: body.Bytes()}
		return err
	}
}

// uploaded checks that an upload is known by its size at least; hashes are the target's to find out.
func (r *run) uploaded(first func(*vegeta.Result) checked) func(*vegeta.Result) checked {
	return func(hit *vegeta.Result) checked {
		c := first(hit)
		var up job.Upload
		if c.cause == "" && (json.Unmarshal(hit.Body, &up) != nil || len(up.SHA512) != 128 || up.Size != int64(hit.BytesOut)) { //nolint:gosec // of a body in memory
			c = checked{"known by another size", true}
		}
		return c
	}
}

// watchers has jobs begun, and each of them watched by so many.
func (r *run) watchers(ctx context.Context, l Load, h http.Header) vegeta.Targeter {
	type slot struct {
		once sync.Once
		id   string
		err  error
	}
	slots := make([]slot, l.jobs()+1)
	var count atomic.Int64
	return func(t *vegeta.Target) error {
		s := &slots[min(int(count.Add(1)-1)/l.PerJob, len(slots)-1)]
		s.once.Do(func() {
			body, err := json.Marshal(r.spec(r.fresh()))
			if err != nil {
				s.err = err
				return
			}
			data, err := r.c.sure(ctx, answerFor, http.MethodPost, "/api/v1/partials", "application/json", body, http.StatusOK, http.StatusAccepted)
			if err != nil {
				s.err = err
				return
			}
			st, ok := r.note(data)
			if s.id = st.ID; !ok {
				s.err = errors.New("the answer is about something else")
			}
		})
		// Without a job there is nothing to watch: the request says so by its status.
		*t = vegeta.Target{Method: http.MethodGet, URL: r.c.base + "/api/v1/jobs/" + cmp.Or(s.id, "none") + "/events", Header: h}
		return ctx.Err()
	}
}

// settle waits for the end of everything that was asked for, and looks whether it is there and right.
func (r *run) settle(ctx context.Context) {
	deadline := time.Now().Add(r.o.Settle)
	ids := make([]string, 0, len(r.ordered))
	for id := range r.ordered {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var mu sync.Mutex
	check := Settled{Asked: len(ids)}
	group := errgroup.Group{}
	group.SetLimit(max(2, runtime.NumCPU()))
	for i, id := range ids {
		group.Go(func() error {
			missing, wrong, proved := r.settled(ctx, id, r.ordered[id], i < maxProved, time.Until(deadline))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case missing != "":
				check.Missing = append(check.Missing, id+": "+missing)
			case wrong != "":
				check.Wrong = append(check.Wrong, id+": "+wrong)
			default:
				check.Right++
			}
			if proved {
				check.Proved++
			}
			return nil
		})
	}
	_ = group.Wait() // nothing returns an error: what is wrong is in the report
	slices.Sort(check.Missing)
	slices.Sort(check.Wrong)
	r.report.Settled = check
	if v, faults, panics, err := r.c.vitals(ctx); err == nil {
		v.At = time.Since(r.begin).Seconds()
		r.report.Vitals = append(r.report.Vitals, v)
		r.report.Faults, r.report.Panics = faults, panics
	}
}

// settled looks at one job: whether it is done, whether its partial can be had and is what the job says, and (prove)
// whether it turns the one complete into the other.
func (r *run) settled(ctx context.Context, id string, o order, prove bool, patience time.Duration) (missing, wrong string, proved bool) {
	st, err := r.end(ctx, id, patience)
	switch {
	case err != nil:
		return err.Error(), "", false
	case st.State != job.Done || st.Result == nil:
		if st.Error != nil {
			return fmt.Sprintf("%s: %s", st.State, st.Error), "", false
		}
		return string(st.State), "", false
	}
	var data []byte
	for attempt := 0; ; attempt++ {
		if data, err = r.c.sure(ctx, answerFor, http.MethodGet, "/api/v1/partials/"+id, "", nil, http.StatusOK); err == nil {
			break
		}
		// One that the store lost is made again when it is asked for again.
		var lost *statusError
		if attempt > 2 || !errors.As(err, &lost) || lost.status != http.StatusNotFound && lost.status != http.StatusGone && lost.status != http.StatusConflict {
			return err.Error(), "", false
		}
		body, err := json.Marshal(r.spec(o))
		if err == nil {
			_, err = r.c.sure(ctx, answerFor, http.MethodPost, "/api/v1/partials", "application/json", body, http.StatusOK, http.StatusAccepted)
		}
		if err == nil {
			st, err = r.end(ctx, id, patience)
		}
		if err != nil {
			return err.Error(), "", false
		}
	}
	if sum := sha512.Sum512(data); hex.EncodeToString(sum[:]) != st.Result.SHA512 || int64(len(data)) != st.Result.Size {
		return "", fmt.Sprintf("%d bytes were handed out that are not the %d of the job's hash", len(data), st.Result.Size), false
	}
	if !prove {
		return "", "", false
	}
	if err := apply(ctx, r.from[o.from].data, data, r.to[o.to].data); err != nil {
		return "", "it does not turn the one into the other: " + err.Error(), false
	}
	return "", "", true
}

// apply looks whether a partial turns one complete into the other.
func apply(ctx context.Context, from, update, to []byte) error {
	var readers [3]*mar.Reader
	for i, data := range [][]byte{from, update, to} {
		var err error
		if readers[i], err = mar.NewReader(bytes.NewReader(data), int64(len(data)), nil); err != nil {
			return err
		}
	}
	return partial.Verify(ctx, readers[0], readers[1], readers[2], nil)
}

// Package jobtest has a [job.Service] in memory, for tests of what speaks to one. Nothing happens by itself: a test
// moves jobs with [Service.Move], [Service.Finish] and [Service.Fail].
package jobtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Service is a job.Service in memory. It is safe for concurrent use; its exported fields are set before it is used.
type Service struct {
	// Limit is how many jobs may wait; 0 means any number.
	Limit int
	// MaxUpload is the most bytes of an upload; 0 means any number.
	MaxUpload int64
	// OnSubmit is called, if set, after a job was queued.
	OnSubmit func(job.Status)
	// Watched is called, if set, when a Watch begins (+1) and ends (-1).
	Watched func(int)

	mu      sync.Mutex
	jobs    map[string]*entry
	order   []string // IDs, oldest first
	batches map[string][]string
	made    map[string]time.Time // of batches
	alone   map[string][]job.Unmatched
	uploads map[string][]byte // by both hashes
	actions []job.Action
	bans    map[string]job.Ban
	taken   map[string]*taken
	health  []job.Health
	broken  error
	stopped bool
	calls   map[string]int
}

type entry struct {
	st       job.Status
	who      job.Asker
	data     []byte
	location string
	report   job.Document
	prov     job.Document
	log      bytes.Buffer
	changed  chan struct{}
}

type taken struct {
	n     int
	until time.Time
}

var _ job.Service = (*Service)(nil)

// New returns an empty service that is ready.
func New() *Service {
	return &Service{
		jobs: map[string]*entry{}, batches: map[string][]string{}, made: map[string]time.Time{}, alone: map[string][]job.Unmatched{}, uploads: map[string][]byte{},
		bans: map[string]job.Ban{}, taken: map[string]*taken{}, calls: map[string]int{},
		health: []job.Health{{Name: "queue", OK: true}, {Name: "ledger", OK: true}},
	}
}

// Break makes every call fail with err from now on; nil mends it.
func (s *Service) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

// Stop makes Ready false.
func (s *Service) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// SetHealth sets what Health returns.
func (s *Service) SetHealth(h ...job.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = h
}

// Calls says how often a method was called that can fail.
func (s *Service) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *Service) enter(method string) error {
	s.calls[method]++
	return s.broken
}

func (s *Service) get(id string) (*entry, error) {
	if e := s.jobs[id]; e != nil {
		return e, nil
	}
	return nil, job.Errorf(job.CodeNotFound, "there is no job %s", id)
}

// move sets the state; the lock is held.
func (s *Service) move(e *entry, to job.State, p job.Progress, reason string) {
	now := time.Now().UTC()
	if e.st.State != to || len(e.st.Changes) == 0 {
		e.st.Changes = append(slices.Clip(e.st.Changes), job.Change{
			Seq: int64(len(e.st.Changes) + 1), State: to, At: now, Attempt: e.st.Attempt, Server: "test", Reason: reason,
		})
		fmt.Fprintf(&e.log, "{\"time\":%q,\"level\":\"INFO\",\"msg\":\"state\",\"state\":%q}\n", now.Format(time.RFC3339Nano), to)
	}
	e.st.State, e.st.Progress, e.st.Updated, e.st.Server = to, p, now, "test"
	close(e.changed)
	e.changed = make(chan struct{})
}

// Move takes a job to a state that is not final.
func (s *Service) Move(id string, to job.State, p job.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.jobs[id]
	if e.st.Attempt == 0 && to != job.Queued {
		e.st.Attempt = 1
	}
	s.move(e, to, p, "")
}

// Output is what a job made.
type Output struct {
	Partial    []byte
	Complete   int64  // bytes of TO's complete
	Location   string // presigned
	Report     job.Document
	Provenance job.Document
}

// Finish takes a job to done.
func (s *Service) Finish(id string, out Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.jobs[id]
	e.data, e.location, e.report, e.prov = out.Partial, out.Location, out.Report, out.Provenance
	sum512, sum256 := hashes(out.Partial)
	complete := cmp.Or(out.Complete, 4*int64(len(out.Partial)))
	e.st.Result = &job.Result{
		Size: int64(len(out.Partial)), Complete: complete, SHA512: sum512, SHA256: sum256,
		Saved: 1 - float64(len(out.Partial))/float64(complete), Elapsed: 1500 * time.Millisecond,
	}
	s.move(e, job.Done, job.Progress{Total: -1}, "")
}

// Fail takes a job to failed.
func (s *Service) Fail(id string, err *job.Error) { s.Refuse(id, err, nil) }

// Refuse takes a job to failed, with the report of what was refused.
func (s *Service) Refuse(id string, err *job.Error, report job.Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.jobs[id]
	e.st.Error, e.report = err, report
	s.move(e, job.Failed, job.Progress{Total: -1}, err.Message)
}

func hashes(p []byte) (sum512, sum256 string) {
	a, b := sha512.Sum512(p), sha256.Sum256(p)
	return hex.EncodeToString(a[:]), hex.EncodeToString(b[:])
}

// Edit changes what is known about a job, for what the other methods do not do.
func (s *Service) Edit(id string, change func(*job.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.jobs[id].st)
}

// Lose has the bytes of a partial gone, as when a cache made room.
func (s *Service) Lose(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[id].data = nil
}

// Present implements [job.Service].
func (s *Service) Present(_ context.Context, id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.get(id)
	return err == nil && e.data != nil, err
}

// Check implements [job.Service].
func (s *Service) Check(spec job.Spec, who job.Asker) (string, error) {
	if len(spec.Skip) > 0 && !who.Operator {
		e := job.Errorf(job.CodeForbidden, "the role operate is needed")
		e.Field = "skip"
		return "", e
	}
	for _, src := range []struct {
		field string
		job.Source
	}{{"from", spec.From}, {"to", spec.To}} {
		if src.SHA512 == "" && src.SHA256 == "" {
			e := job.Errorf(job.CodeRequest, "SHA-512 or SHA-256 is required")
			e.Field = src.field + ".sha512"
			return "", e
		}
		for i, u := range src.URLs {
			if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
				e := job.Errorf(job.CodeRequest, "%q is no address of HTTP", u)
				e.Field = fmt.Sprintf("%s.urls[%d]", src.field, i)
				return "", e
			}
		}
	}
	spec.From.URLs, spec.To.URLs, spec.From.Size, spec.To.Size, spec.Priority = nil, nil, 0, 0, 0
	spec.From.Name, spec.To.Name = "", ""
	data, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Submit implements [job.Service].
func (s *Service) Submit(_ context.Context, spec job.Spec, who job.Asker) (job.Status, bool, error) {
	id, err := s.Check(spec, who)
	if err != nil {
		return job.Status{}, false, err
	}
	s.mu.Lock()
	if err := s.enter("Submit"); err != nil {
		s.mu.Unlock()
		return job.Status{}, false, err
	}
	st, created, err := s.submit(id, spec, who)
	s.mu.Unlock()
	if created && s.OnSubmit != nil {
		s.OnSubmit(st)
	}
	return st, created, err
}

func (s *Service) submit(id string, spec job.Spec, who job.Asker) (job.Status, bool, error) {
	s.act(who, "submit", id, "")
	if e := s.jobs[id]; e != nil {
		if e.st.State == job.Failed || e.st.State == job.Cancelled || !e.st.Purged.IsZero() {
			e.st.Purged = time.Time{}
			e.st.Error = nil
			s.move(e, job.Queued, job.Progress{Total: -1}, "asked for again")
		}
		return e.st, false, nil
	}
	waiting := 0
	for _, e := range s.jobs {
		if !e.st.State.Final() {
			waiting++
		}
	}
	if s.Limit > 0 && waiting >= s.Limit {
		e := job.Errorf(job.CodeQueueFull, "%d jobs wait", waiting)
		e.Retryable, e.RetryAfter = true, 7*time.Second
		return job.Status{}, false, e
	}
	e := &entry{st: job.Status{ID: id, Spec: spec, Created: time.Now().UTC(), By: who.Name}, who: who, changed: make(chan struct{})}
	s.jobs[id] = e
	s.order = append(s.order, id)
	s.move(e, job.Queued, job.Progress{Total: -1}, "")
	return e.st, true, nil
}

func (s *Service) act(who job.Asker, what, id, detail string) {
	s.actions = append(s.actions, job.Action{
		ID: int64(len(s.actions) + 1), At: time.Now().UTC(), Server: "test", Who: who, What: what, Job: id, Detail: detail,
	})
}

// SubmitBatch implements [job.Service].
func (s *Service) SubmitBatch(ctx context.Context, specs []job.Spec, unmatched []job.Unmatched, who job.Asker) (job.Batch, error) {
	var ids []string
	for i, spec := range specs {
		id, err := s.Check(spec, who)
		if err != nil {
			var e *job.Error
			if errors.As(err, &e) {
				e.Field = fmt.Sprintf("specs[%d].%s", i, e.Field)
			}
			return job.Batch{}, err
		}
		ids = append(ids, id)
	}
	sum := sha256.Sum256([]byte(strings.Join(ids, "")))
	id := hex.EncodeToString(sum[:])
	s.mu.Lock()
	if err := s.enter("SubmitBatch"); err != nil {
		s.mu.Unlock()
		return job.Batch{}, err
	}
	for i, spec := range specs {
		if _, _, err := s.submit(ids[i], spec, who); err != nil {
			s.mu.Unlock()
			return job.Batch{}, err
		}
	}
	if _, ok := s.batches[id]; !ok {
		s.batches[id], s.made[id] = ids, time.Now().UTC()
	}
	s.alone[id] = unmatched
	s.mu.Unlock()
	return s.Batch(ctx, id)
}

// Batch implements [job.Service].
func (s *Service) Batch(_ context.Context, id string) (job.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Batch"); err != nil {
		return job.Batch{}, err
	}
	ids, ok := s.batches[id]
	if !ok {
		return job.Batch{}, job.Errorf(job.CodeNotFound, "there is no batch %s", id)
	}
	b := job.Batch{ID: id, Created: s.made[id], Unmatched: s.alone[id], Counts: map[job.State]int{}, Done: true}
	for _, id := range ids {
		st := s.jobs[id].st
		b.Jobs = append(b.Jobs, st)
		b.Counts[st.State]++
		b.Done = b.Done && st.State.Final()
	}
	return b, nil
}

// Status implements [job.Service].
func (s *Service) Status(_ context.Context, id string) (job.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Status"); err != nil {
		return job.Status{}, err
	}
	e, err := s.get(id)
	if err != nil {
		return job.Status{}, err
	}
	return e.st, nil
}

// Watch implements [job.Service].
func (s *Service) Watch(ctx context.Context, id string) (<-chan job.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Watch"); err != nil {
		return nil, err
	}
	e, err := s.get(id)
	if err != nil {
		return nil, err
	}
	if s.Watched != nil {
		s.Watched(+1)
	}
	out := make(chan job.Status)
	go func() {
		defer close(out)
		if s.Watched != nil {
			defer s.Watched(-1)
		}
		for {
			s.mu.Lock()
			st, changed := e.st, e.changed
			s.mu.Unlock()
			select {
			case out <- st:
			case <-ctx.Done():
				return
			}
			if st.State.Final() {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Cancel implements [job.Service].
func (s *Service) Cancel(ctx context.Context, id string, who job.Asker) (job.Status, error) {
	if st, err := s.Status(ctx, id); err != nil || st.State == job.Cancelled {
		return st, err
	}
	return s.turn(id, who, "cancel", job.Cancelled, func(e *entry) bool { return !e.st.State.Final() })
}

// Retry implements [job.Service].
func (s *Service) Retry(_ context.Context, id string, who job.Asker) (job.Status, error) {
	return s.turn(id, who, "retry", job.Queued, func(e *entry) bool {
		return e.st.State == job.Failed || e.st.State == job.Cancelled || e.st.State == job.Done && e.data == nil
	})
}

func (s *Service) turn(id string, who job.Asker, what string, to job.State, allowed func(*entry) bool) (job.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(what); err != nil {
		return job.Status{}, err
	}
	e, err := s.get(id)
	if err != nil {
		return job.Status{}, err
	}
	if !allowed(e) {
		return job.Status{}, job.Errorf(job.CodeConflict, "the job is %s", e.st.State)
	}
	s.act(who, what, id, "")
	e.st.Error = nil
	s.move(e, to, job.Progress{Total: -1}, "by "+who.Name)
	return e.st, nil
}

// done returns a job that is done.
func (s *Service) done(method, id string) (*entry, error) {
	if err := s.enter(method); err != nil {
		return nil, err
	}
	e, err := s.get(id)
	if err != nil {
		return nil, err
	}
	if e.st.State != job.Done {
		return nil, job.Errorf(job.CodeNotReady, "the job is %s", e.st.State)
	}
	if e.data == nil {
		lost := job.Errorf(job.CodeNotFound, "the partial was purged")
		lost.Retryable = true
		return nil, lost
	}
	return e, nil
}

// Artifact implements [job.Service].
func (s *Service) Artifact(_ context.Context, id string) (*job.Artifact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.done("Artifact", id)
	if err != nil {
		return nil, err
	}
	return &job.Artifact{
		ID: id, Size: int64(len(e.data)), SHA512: e.st.Result.SHA512, SHA256: e.st.Result.SHA256,
		Name: "test.partial.mar", Made: e.st.Updated, ReaderAt: bytes.NewReader(e.data), Location: e.location,
		Closer: io.NopCloser(nil),
	}, nil
}

// Report implements [job.Service].
func (s *Service) Report(_ context.Context, id string) (job.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.jobs[id]; e != nil && e.st.State == job.Failed && e.report != nil {
		return e.report, s.enter("Report")
	}
	e, err := s.done("Report", id)
	if err != nil {
		return nil, err
	}
	return e.report, nil
}

// Provenance implements [job.Service].
func (s *Service) Provenance(_ context.Context, id string) (job.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.done("Provenance", id)
	if err != nil {
		return nil, err
	}
	return e.prov, nil
}

// Log implements [job.Service].
func (s *Service) Log(_ context.Context, id string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Log"); err != nil {
		return nil, err
	}
	e, err := s.get(id)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(slices.Clone(e.log.Bytes()))), nil
}

// Upload implements [job.Service].
func (s *Service) Upload(_ context.Context, r io.Reader, who job.Asker) (job.Upload, error) {
	if s.MaxUpload > 0 {
		r = io.LimitReader(r, s.MaxUpload+1)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return job.Upload{}, err
	}
	if s.MaxUpload > 0 && int64(len(data)) > s.MaxUpload {
		return job.Upload{}, job.Errorf(job.CodeTooLarge, "the upload is larger than %d bytes", s.MaxUpload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Upload"); err != nil {
		return job.Upload{}, err
	}
	sum512, sum256 := hashes(data)
	s.uploads[sum512], s.uploads[sum256] = data, data
	s.act(who, "upload", "", sum256)
	return job.Upload{SHA512: sum512, SHA256: sum256, Size: int64(len(data))}, nil
}

// Uploaded returns what was uploaded with a hash, or nil.
func (s *Service) Uploaded(hash string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads[hash]
}

// History implements [job.Service].
func (s *Service) History(_ context.Context, f job.Filter) (job.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("History"); err != nil {
		return job.Page{}, err
	}
	start := len(s.order)
	if f.Cursor != "" {
		n, err := strconv.Atoi(f.Cursor)
		if err != nil || n < 0 || n > len(s.order) {
			e := job.Errorf(job.CodeRequest, "%q is not from a page before", f.Cursor)
			e.Field = "cursor"
			return job.Page{}, e
		}
		start = n
	}
	var page job.Page
	for i := start - 1; i >= 0; i-- {
		e := s.jobs[s.order[i]]
		if !match(e, f) || f.Batch != "" && !slices.Contains(s.batches[f.Batch], e.st.ID) {
			continue
		}
		if len(page.Jobs) == cmp.Or(f.Limit, 100) {
			page.Next = strconv.Itoa(i + 1)
			break
		}
		page.Jobs = append(page.Jobs, e.st)
	}
	return page, nil
}

func match(e *entry, f job.Filter) bool {
	spec := e.st.Spec
	text := strings.Join(slices.Concat([]string{
		e.st.ID, spec.From.SHA512, spec.From.SHA256, spec.To.SHA512, spec.To.SHA256, spec.ProductVersion,
	}, spec.From.URLs, spec.To.URLs, slices.Collect(maps.Values(spec.Labels))), "\n")
	return (f.State == "" || e.st.State == f.State) && (f.Product == "" || spec.Product == f.Product) &&
		(f.Locale == "" || spec.Locale == f.Locale) && (f.Who == "" || e.who.Name == f.Who) && strings.Contains(text, f.Text) && labelled(spec, f.Label) && is(spec.From, f.From) && is(spec.To, f.To) &&
		(f.Since.IsZero() || !e.st.Created.Before(f.Since)) && (f.Until.IsZero() || e.st.Created.Before(f.Until))
}

// labelled says whether a spec has a label; all have none.
func labelled(spec job.Spec, label string) bool {
	name, value, exact := strings.Cut(label, "=")
	got, ok := spec.Labels[name]
	return label == "" || ok && (!exact || got == value)
}

// is says whether a source has a hash; all have none.
func is(s job.Source, hash string) bool {
	return hash == "" || strings.EqualFold(s.SHA512, hash) || strings.EqualFold(s.SHA256, hash)
}

// Actions implements [job.Service].
func (s *Service) Actions(_ context.Context, f job.Filter) ([]job.Action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Actions"); err != nil {
		return nil, err
	}
	var out []job.Action
	for _, a := range slices.Backward(s.actions) {
		if (f.Who == "" || a.Who.Name == f.Who) && strings.Contains(a.What+"\n"+a.Job+"\n"+a.Detail, f.Text) && len(out) < cmp.Or(f.Limit, 100) {
			out = append(out, a)
		}
	}
	return out, nil
}

// Queue implements [job.Service].
func (s *Service) Queue(context.Context) (job.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Queue"); err != nil {
		return job.Queue{}, err
	}
	q := job.Queue{Limit: s.Limit}
	w := job.Worker{Server: "test", Slots: 2, Seen: time.Now().UTC(), Version: "1.0"}
	for _, id := range s.order {
		switch st := s.jobs[id].st; {
		case st.State == job.Queued:
			q.Waiting++
		case st.State == job.Failed && st.Error.Code == job.CodeAttempts:
			q.Dead++
		case !st.State.Final():
			q.Running++
			w.Jobs = append(w.Jobs, id)
		}
	}
	q.Workers = []job.Worker{w}
	return q, nil
}

// Purge implements [job.Service].
func (s *Service) Purge(_ context.Context, id string, before time.Time, who job.Asker) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Purge"); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range s.jobs {
		if e.data != nil && (e.st.ID == id || id == "" && e.st.Updated.Before(before)) {
			e.data, e.st.Purged = nil, time.Now().UTC()
			n++
		}
	}
	if _, ok := s.jobs[id]; id != "" && !ok {
		return 0, job.Errorf(job.CodeNotFound, "there is no job %s", id)
	}
	s.act(who, "purge", id, fmt.Sprint(n))
	return n, nil
}

// Take implements [job.Service].
func (s *Service) Take(_ context.Context, key string, n, limit int, window time.Duration) (bool, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Take"); err != nil {
		return false, 0, err
	}
	now := time.Now()
	t := s.taken[key]
	if t == nil || now.After(t.until) {
		t = &taken{until: now.Add(window)}
		s.taken[key] = t
	}
	if t.n+n > limit {
		return false, t.until.Sub(now), nil
	}
	t.n += n
	return true, 0, nil
}

// Ban implements [job.Service].
func (s *Service) Ban(_ context.Context, b job.Ban, who job.Asker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Ban"); err != nil {
		return err
	}
	s.bans[b.Address] = b
	s.act(who, "ban", "", b.Address)
	return nil
}

// Unban implements [job.Service].
func (s *Service) Unban(_ context.Context, address string, who job.Asker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Unban"); err != nil {
		return err
	}
	if _, ok := s.bans[address]; !ok {
		return job.Errorf(job.CodeNotFound, "%s is not banned", address)
	}
	delete(s.bans, address)
	s.act(who, "unban", "", address)
	return nil
}

// Banned implements [job.Service].
func (s *Service) Banned(address string) (job.Ban, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bans[address]
	return b, ok && time.Now().Before(b.Until)
}

// Bans implements [job.Service].
func (s *Service) Bans(context.Context) ([]job.Ban, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Bans"); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(s.bans), func(a, b job.Ban) int { return strings.Compare(a.Address, b.Address) }), nil
}

// Health implements [job.Service].
func (s *Service) Health(context.Context) []job.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.health)
}

// Ready implements [job.Service].
func (s *Service) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stopped
}

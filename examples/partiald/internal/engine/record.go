package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/queue"
)

// record is how a job stands, as all servers see it: the value of its key in the queue's bucket, and what is published
// for workers. Whoever changes it does so on the revision that he has read, so there is one line of changes, and their
// numbers are in its order.
type record struct {
	job.Status
	// Secret is the spec where its addresses have credentials, which Status.Spec never has.
	Secret *job.Spec `json:"secret,omitempty"`
	// Asker is whose share of the queue it counts against: the [job.Asker.Account] of who asked for it the last time.
	Asker string `json:"asker,omitempty"`
	// Epoch is the number of the change by which the job was asked for, the last time.
	Epoch int64 `json:"epoch"`
	// Token is that of the attempt under work; "" when there is none. Only who has it may go on with the job.
	Token string `json:"token,omitempty"`
	// Deaths counts the workers that fell silent, Failures the attempts that failed, Strangers the servers that could
	// not work on it; all since Epoch.
	Deaths    int `json:"deaths,omitempty"`
	Failures  int `json:"failures,omitempty"`
	Strangers int `json:"strangers,omitempty"`
}

// Bounds of a record, which has to fit into a message of 1 MiB twice over.
const (
	maxChanges = 50   // that are kept; the ledger has them all
	maxReason  = 512  // bytes of a change's reason
	maxMessage = 8192 // bytes of an error's message
	maxRuns    = 20   // attempts that are kept
	maxBrief   = 1024 // bytes of the message of an attempt's error
)

// cut shortens a text for people.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

func (r *record) spec() job.Spec {
	if r.Secret != nil {
		return *r.Secret
	}
	return r.Spec
}

// account is whose job it is; of those that a version before took only the name is known.
func (r *record) account() string { return cmp.Or(r.Asker, r.By) }

func (r *record) setSpec(s job.Spec) {
	r.Spec, r.Secret = redacted(s)
}

// size estimates the bytes that a record takes in memory.
func (r *record) size() int {
	n := 1024 + 256*len(r.Changes) + (256+maxBrief/4)*len(r.Attempts)
	for _, s := range []*job.Spec{&r.Spec, r.Secret} {
		if s == nil {
			continue
		}
		for _, list := range [][]string{s.From.URLs, s.To.URLs, s.Force, s.Channels, s.Skip} {
			for _, text := range list {
				n += 16 + len(text)
			}
		}
		if c := s.Client; c != nil {
			n += 512 + 64*len(c.Channels)
		}
		for name, value := range s.Labels {
			n += 32 + len(name) + len(value)
		}
	}
	return n
}

// round is the change by which it was asked for the last time.
func (r *record) round() (job.Change, bool) {
	at := slices.IndexFunc(r.Changes, func(c job.Change) bool { return c.Seq == r.Epoch })
	if at < 0 {
		return job.Change{}, false
	}
	return r.Changes[at], true
}

func (r *record) seq() int64 {
	if len(r.Changes) == 0 {
		return 0
	}
	return r.Changes[len(r.Changes)-1].Seq
}

// step adds a change. Records share their changes, so these are never written to.
func (r *record) step(state job.State, at time.Time, server, reason string) {
	changes := append(slices.Clone(r.Changes), job.Change{
		Seq: r.seq() + 1, State: state, At: at, Attempt: r.Attempt, Server: server, Reason: cut(reason, maxReason),
	})
	r.Changes = changes[max(0, len(changes)-maxChanges):]
	r.State, r.Updated = state, at
	r.Progress = job.Progress{Total: -1}
}

// attempts returns a copy of the attempts that may be written to, with room for one more.
func (r *record) attempts() []job.Attempt {
	return slices.Clone(r.Attempts[max(0, len(r.Attempts)-maxRuns+1):])
}

// run begins an attempt.
func (r *record) run(at time.Time, server string) {
	r.Attempt++
	r.Attempts = append(r.attempts(), job.Attempt{Number: r.Attempt, Server: server, Begun: at})
	r.Next = nil
}

// ran ends the attempt that runs, if there is one.
func (r *record) ran(at time.Time, outcome job.Outcome, failure *job.Error) {
	runs := r.attempts()
	if len(runs) == 0 || runs[len(runs)-1].Outcome != "" {
		return
	}
	last := &runs[len(runs)-1]
	last.Ended, last.Outcome, last.Step = at, outcome, r.State
	if failure != nil {
		brief := *failure
		brief.Message, brief.Cause = cut(brief.Message, maxBrief), nil
		last.Error = &brief
	}
	r.Attempts = runs
}

// begin starts a new round, which account asks for.
func (r *record) begin(at time.Time, account, server, reason string) {
	r.Asker, r.Next = account, nil
	r.Result, r.Error, r.Token, r.Purged = nil, nil, "", time.Time{}
	r.Deaths, r.Failures, r.Strangers = 0, 0, 0
	r.step(job.Queued, at, server, reason)
	r.Epoch = r.seq()
}

// end comes to a final state.
func (r *record) end(state job.State, at time.Time, server, reason string) {
	r.Token = ""
	r.step(state, at, server, reason)
}

func (r *record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // plain values
	}
	return b
}

func decode(data []byte) (record, error) {
	var r record
	err := json.Unmarshal(data, &r)
	return r, err
}

// redacted takes user, query and fragment out of a spec's addresses. secret is the whole one, nil if that is the same.
func redacted(s job.Spec) (public job.Spec, secret *job.Spec) {
	public = s
	changed := false
	for _, source := range []*job.Source{&public.From, &public.To} {
		source.URLs = slices.Clone(source.URLs)
		for i, raw := range source.URLs {
			u, err := url.Parse(raw)
			if err != nil {
				source.URLs[i], changed = "", true
				continue
			}
			u.User, u.RawQuery, u.Fragment, u.ForceQuery = nil, "", "", false
			if plain := u.String(); plain != raw {
				source.URLs[i], changed = plain, true
			}
		}
	}
	if changed {
		secret = &s
	}
	return public, secret
}

func jobKey(id string) string { return queue.Key("job", id) }

// load asks the queue how a job stands. Without a record err matches queue.ErrNotFound; revision is what to put on.
func (e *Engine) load(ctx context.Context, id string) (r record, revision uint64, err error) {
	data, revision, err := e.q.Get(ctx, jobKey(id))
	if err != nil {
		return r, revision, err
	}
	if r, err = decode(data); err != nil {
		return r, revision, errors.Join(queue.ErrNotFound, err)
	}
	e.mirror.set(id, r, revision)
	return r, revision, nil
}

// recordLife is how long the servers tell each other of a job that has ended, and of a batch. Afterwards those know it
// in whose ledger it is.
const recordLife = 90 * 24 * time.Hour

// save puts a record on a revision, and tells everybody here.
func (e *Engine) save(ctx context.Context, r *record, revision uint64) (uint64, error) {
	var life time.Duration
	if r.State.Final() {
		life = recordLife
	}
	now, err := e.q.Put(ctx, jobKey(r.ID), r.encode(), revision, life)
	if err != nil {
		return 0, err
	}
	e.seen(r.ID, *r, now)
	return now, nil
}

// seen takes notice of a record.
func (e *Engine) seen(id string, r record, revision uint64) {
	if !e.mirror.set(id, r, revision) {
		return
	}
	if r.State.Final() {
		e.orders.remove(id)
	}
	e.active.Lock()
	a := e.active.m[id]
	e.active.Unlock()
	if a != nil {
		a.see(&r, revision)
	}
	e.follow.Lock()
	if old, ok := e.follow.pending[id]; ok && old.seq() <= r.seq() || !ok && len(e.follow.pending) < maxPending {
		e.follow.pending[id] = r
	}
	e.follow.Unlock()
	poke(e.follow.wake)
}

// maxPending bounds what waits for a ledger that takes nothing. Of what is beyond, the loop that looks after the ledger's
// jobs finds out what became of those that are open there.
const maxPending = 10_000

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// known is one record in the mirror.
type known struct {
	record   record
	revision uint64
	progress job.Progress
	attempt  int // to which progress belongs
	size     int
}

// mirror has the records that this server has heard of lately. What it has not is asked for.
type mirror struct {
	mu       sync.Mutex
	m        map[string]*known
	finals   int                                   // how many of these are final
	size     int                                   // of all
	watchers map[string]map[chan struct{}]struct{} // as many as there are calls of Watch
	stopped  chan struct{}
}

// Bounds of the mirror. Those under work always stay: there are as many as all servers have slots.
const (
	maxMirror     = 2_000    // records that are final
	maxMirrorSize = 32 << 20 // bytes of all, by record.size
)

func (m *mirror) init() {
	m.m, m.watchers, m.stopped = map[string]*known{}, map[string]map[chan struct{}]struct{}{}, make(chan struct{})
}

func (m *mirror) stop() { close(m.stopped) }

// set notes a record and says whether it is news.
func (m *mirror) set(id string, r record, revision uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.m[id]
	if k != nil && revision <= k.revision && r.seq() <= k.record.seq() { // revisions begin anew where the queue lost its files
		return false
	}
	now := &known{record: r, revision: revision, size: r.size()}
	if k != nil {
		now.progress, now.attempt = k.progress, k.attempt
		m.remove(id, k)
	}
	m.m[id] = now
	m.size += now.size
	if r.State.Final() {
		m.finals++
	}
	if m.finals > maxMirror+maxMirror/8 || m.size > maxMirrorSize {
		m.evict(id)
	}
	m.tell(id)
	return true
}

// remove takes a record out.
func (m *mirror) remove(id string, k *known) {
	delete(m.m, id)
	m.size -= k.size
	if k.record.State.Final() {
		m.finals--
	}
}

// evict makes room, so much that it is not needed again soon; the record but is the newest, and stays.
func (m *mirror) evict(but string) {
	full := func() bool { return m.finals > maxMirror || m.size > maxMirrorSize-maxMirrorSize/8 }
	for _, final := range []bool{true, false} {
		for id, k := range m.m {
			if !full() {
				return
			}
			if id != but && (k.record.State.Final() == final) && (final || k.record.State == job.Queued) {
				m.remove(id, k)
			}
		}
	}
}

// drop forgets a record, so that the next one that is heard of is taken whatever its revision.
func (m *mirror) drop(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.m[id]; k != nil {
		m.remove(id, k)
	}
	m.tell(id)
}

// forget drops everything.
func (m *mirror) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.m)
	m.finals, m.size = 0, 0
	for id := range m.watchers {
		m.tell(id)
	}
}

// setProgress notes how far the step of a job is.
func (m *mirror) setProgress(id string, p progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.m[id]; k != nil && k.record.Attempt == p.Attempt && k.record.State == p.State {
		k.progress, k.attempt = p.Progress, p.Attempt
		m.tell(id)
	}
}

// get returns what is known.
func (m *mirror) get(id string) (r record, revision uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.m[id]
	if k == nil {
		return r, 0, false
	}
	r = k.record
	if !r.State.Final() && r.State != job.Queued && k.attempt == r.Attempt {
		r.Progress = k.progress
	}
	return r, k.revision, true
}

func (m *mirror) tell(id string) {
	for c := range m.watchers[id] {
		poke(c)
	}
}

// subscribe returns a channel that says when to look again.
func (m *mirror) subscribe(id string) (c chan struct{}, leave func()) {
	c = make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers[id] == nil {
		m.watchers[id] = map[chan struct{}]struct{}{}
	}
	m.watchers[id][c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if delete(m.watchers[id], c); len(m.watchers[id]) == 0 {
			delete(m.watchers, id)
		}
	}
}

// recent remembers for a while that something was so: in two maps, of which the older one is dropped when the younger one
// is as old as a life, or full. So it holds what came in two lives, and never more than maxRecent.
type recent struct {
	mu         sync.Mutex
	life       time.Duration
	young, old map[string]time.Time // monotonic: not the time that is written down
	turned     time.Time
}

const maxRecent = 50_000

func (r *recent) init(life time.Duration) {
	r.life, r.young, r.turned = life, map[string]time.Time{}, time.Now()
}

func (r *recent) has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.young[key]
	if !ok {
		t, ok = r.old[key]
	}
	return ok && time.Since(t) < r.life
}

func (r *recent) add(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.turned) >= r.life || len(r.young) >= maxRecent/2 {
		r.young, r.old, r.turned = map[string]time.Time{}, r.young, time.Now()
	}
	r.young[key] = time.Now()
}

func (r *recent) remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.young, key)
	delete(r.old, key)
}

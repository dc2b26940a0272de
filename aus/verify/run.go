package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// RunOptions say how update verify is run. The zero value asks the servers that the plan names, over https only, and
// applies everything in memory.
type RunOptions struct {
	// AUSServer, FromServer and ToServer replace the plan's servers. An installer's server may be a directory.
	AUSServer, FromServer, ToServer string
	// Request is the form of update requests, in the words of app.update.url; "" is DefaultRequest.
	Request string
	// HTTP asks for what has no hash: answers of the update server and installers. Nil is a client of its own that
	// follows five redirects and none from https to http.
	HTTP *http.Client
	// Fetch fetches MARs. Nil is one without options: https on public addresses.
	Fetch *fetch.Client
	// Keys are those that the updaters of FROM have built in: one of them must have signed each MAR. None means that
	// signatures are not checked, which the report says.
	Keys []crypto.PublicKey
	// Hosts are the hosts on which MARs may be; none means any.
	Hosts []string
	// AllowHTTP takes MARs whose address is not https.
	AllowHTTP bool
	// Rules are expected differences beside those that are built in.
	Rules []Rule
	// Watershed leaves out the tests of older releases, and says so.
	Watershed string
	// Work is a directory that keeps what was fetched and the results as they come, so that the same call goes on where
	// the one before ended. "" is a temporary one.
	Work string
	// Again repeats tests whose results Work has: "failed" those that did not pass, "all" everything.
	Again string
	// Workers is how many update requests are followed at a time; 0 is two for each processor.
	Workers int
	// Memory bounds, in bytes, the files that are patched at a time; 0 is 1 GiB. A larger file runs alone. Up to a quarter as
	// much again is for MARs that are being received; those that find no room go through the disk.
	Memory int64
	// Toolchains have the rules about the updaters of each version, beside what FROM shows of its own; nil is
	// [toolchain.DefaultSet].
	Toolchains *toolchain.Set
	// Updater is a real updater to run beside. Nil runs none.
	Updater *RealUpdater
	// Progress is told about every finished test, from one goroutine at a time; it must return quickly.
	Progress func(Progress)

	rules    []Rule
	now      time.Time
	patience time.Duration               // with slow servers; 0: a minute
	work     func(unpacked, patched int) // told at the end what was worked out
}

// Progress says how far a run is.
type Progress struct {
	Done, Total, Failed int      // numbers of tests
	Test                Identity // the one that is finished
	Result              Result   // how it ended
}

// Again asks for everything or for what did not pass.
const (
	AgainFailed = "failed"
	AgainAll    = "all"
)

// ErrRun matches errors about the options of a run.
var ErrRun = errors.New("bad options")

// runner is a run under way.
type runner struct {
	o      *RunOptions
	dir    string
	get    *getter
	fetch  *fetch.Client
	prover *prover
	store  store
	keeper keeper

	offers memo[string, offerResult]
	mars   memo[marKey, *fetchedMAR]
	trees  memo[string, *tree]
	needed map[string]int // how many requests are still to be followed that need a tree

	clients memo[digest, *updater.Client]

	mu       sync.Mutex
	out      *bufio.Writer
	file     *os.File
	progress Progress
	notes    map[string]int
}

// memo works out each thing once; others wait. What failed with the end of its context is worked out again.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*memoEntry[V]
}

type memoEntry[V any] struct {
	done chan struct{}
	v    V
	err  error
}

func (m *memo[K, V]) do(ctx context.Context, k K, work func() (V, error)) (V, error) {
	for {
		m.mu.Lock()
		if m.m == nil {
			m.m = map[K]*memoEntry[V]{}
		}
		e := m.m[k]
		if e == nil {
			e = &memoEntry[V]{done: make(chan struct{})}
			m.m[k] = e
			m.mu.Unlock()
			e.v, e.err = work()
			if e.err != nil && ctx.Err() != nil {
				m.mu.Lock()
				delete(m.m, k)
				m.mu.Unlock()
				e.err = ctx.Err()
			}
			close(e.done)
			return e.v, e.err
		}
		m.mu.Unlock()
		select {
		case <-e.done:
		case <-ctx.Done():
			return e.v, ctx.Err()
		}
		if e.err != nil && (errors.Is(e.err, context.Canceled) || errors.Is(e.err, context.DeadlineExceeded)) && ctx.Err() == nil {
			continue
		}
		return e.v, e.err
	}
}

// forget drops what will not be asked for again.
func (m *memo[K, V]) forget(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, k)
}

// job is one update request: both patch types of a locale.
type job struct {
	line    *Line
	indices []int // of the report's tests
}

// Run does what update verify does: for every test of the plan it asks the update server, checks the answer, fetches and
// checks the MAR as the client of FROM would, applies it in memory and compares the tree with TO's. What several tests
// share is done once. The tests of the report stand in the plan's order.
//
// Trouble of the network, and of what is missing here, is no failure of an update: such tests are an [Error]. Run itself
// fails only where the options are wrong ([ErrRun], [ErrRule]), the work directory cannot be used, or ctx ends; then
// what was done so far is in Work.
func Run(ctx context.Context, lines []Line, opts *RunOptions) (*Report, error) {
	o := RunOptions{}
	if opts != nil {
		o = *opts
	}
	if o.Again != "" && o.Again != AgainFailed && o.Again != AgainAll {
		return nil, fmt.Errorf("%w: again %q", ErrRun, o.Again)
	}
	if o.Toolchains == nil {
		o.Toolchains = toolchain.DefaultSet()
	}
	o.now = time.Now()
	o.rules = builtinRules()
	report := &Report{Source: "run", Complete: true}
	for i := range o.Rules {
		if err := o.Rules[i].check(); err != nil {
			return nil, err
		}
		o.rules = append(o.rules, o.Rules[i])
	}
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = 1 << 30
	}
	known := newContents()
	r := &runner{
		o: &o, get: newGetter(o.HTTP), fetch: o.Fetch, dir: o.Work, notes: map[string]int{},
		prover: &prover{known: known, memory: semaphore.NewWeighted(o.Memory), size: o.Memory, patched: map[patchKey]*patchResult{}},
	}
	if o.patience > 0 {
		r.get.patience, r.get.wait = o.patience, o.patience/120
	}
	if r.fetch == nil {
		client, err := fetch.New(nil)
		if err != nil {
			return nil, err
		}
		defer func() { _ = client.Close() }() // which ends idle connections
		r.fetch = client
	}
	if r.dir == "" {
		dir, err := os.MkdirTemp("", "verify-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		r.dir = dir
	}
	for _, sub := range []string{"mars", "installers", "files"} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	r.store = store{filepath.Join(r.dir, "files")}
	r.keeper.dir, r.keeper.known, r.keeper.buffers.limit = r.dir, known, o.Memory/4
	jobs := r.plan(lines, report)
	r.needed = map[string]int{}
	for i := range jobs {
		for _, address := range r.treesOf(report, &jobs[i]) {
			r.needed[address]++
		}
	}
	if err := r.resume(report, jobs); err != nil {
		return nil, err
	}
	defer r.file.Close()
	defer r.keeper.open.close() // before the directory is removed
	r.sample(report, jobs)
	work, stop := errgroup.WithContext(ctx)
	work.SetLimit(o.Workers)
	for i := range jobs {
		if stop.Err() != nil {
			break
		}
		work.Go(func() error { return r.pair(stop, report, &jobs[i]) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.finish(report)
	if o.work != nil {
		o.work(int(known.unpacked.Load()), len(r.prover.patched))
	}
	return report, nil
}

// plan lists the tests and the requests that they need.
func (r *runner) plan(lines []Line, report *Report) []job {
	var jobs []job
	behind := map[string]bool{}
	tests := 0
	for i := range lines {
		line := &lines[i]
		if r.o.Watershed != "" && version.Compare(line.Release, r.o.Watershed) < 0 {
			behind[line.Release] = true
			tests += len(line.Locales) * len(line.PatchTypes)
			continue
		}
		if report.To == (Build{}) {
			report.To = Build{Version: line.ToDisplayVersion, BuildID: line.ToBuildID}
			if report.To.Version == "" {
				report.To.Version = line.ToAppVersion
			}
		}
		list := line.Tests()
		for start := 0; start < len(list); start += len(line.PatchTypes) {
			j := job{line: line}
			for _, t := range list[start : start+len(line.PatchTypes)] {
				j.indices = append(j.indices, len(report.Tests))
				report.Tests = append(report.Tests, t)
			}
			jobs = append(jobs, j)
		}
	}
	if len(behind) > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("%s behind the watershed %s, with %s, not tested", count(len(behind), "release"), r.o.Watershed, count(tests, "test")))
	}
	return jobs
}

// key names a test with everything that its result depends on.
func (r *runner) key(line *Line, t *Test) string {
	h := sha256.New()
	plan := *line
	plan.Locales, plan.PatchTypes, plan.Number = nil, nil, 0
	var keys []string
	for _, k := range r.o.Keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		keys = append(keys, fmt.Sprintf("%x %v", der, err))
	}
	slices.Sort(keys)
	real := ""
	if u := r.o.Updater; u != nil {
		real = fmt.Sprintf("%s %v", u.Path, u.All)
	}
	enc := json.NewEncoder(h)
	_ = enc.Encode([]any{ // strings and numbers: this cannot fail
		updater.ModelVersion, r.o.Toolchains.ID(), plan, t.Identity, t.Kind, r.o.AUSServer, r.o.FromServer, r.o.ToServer, r.o.Request, keys, r.o.Hosts, r.o.AllowHTTP, r.o.Rules, real,
	})
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}

// record is a line of the results that a work directory keeps.
type record struct {
	Key  string `json:"key"`
	Test Test   `json:"test"`
}

// resume takes over the results that the work directory has, and opens it for more.
func (r *runner) resume(report *Report, jobs []job) error {
	name := filepath.Join(r.dir, "results.jsonl")
	had := map[string]Test{}
	old, err := os.Open(name)
	if err == nil {
		in := bufio.NewScanner(old)
		in.Buffer(make([]byte, 0, 64<<10), 16<<20)
		for in.Scan() {
			var rec record
			if json.Unmarshal(in.Bytes(), &rec) == nil && rec.Key != "" && known(rec.Test.Result) { // a line that a kill has cut says nothing
				had[rec.Key] = rec.Test
			}
		}
		old.Close()
		if err := in.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.file, err = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	if _, err := r.file.WriteString("\n"); err != nil { // whatever was cut ends here
		return err
	}
	r.out = bufio.NewWriter(r.file)
	r.progress.Total = len(report.Tests)
	for i := range jobs {
		for _, k := range jobs[i].indices {
			t := &report.Tests[k]
			done, ok := had[r.key(jobs[i].line, t)]
			switch {
			case !ok || r.o.Again == AgainAll, done.Result != Pass && done.Result != Warn && (r.o.Again == AgainFailed || done.Result != Fail):
				continue
			}
			*t = done
			r.progress.Done++
			if t.Result == Fail {
				r.progress.Failed++
			}
		}
	}
	return nil
}

// treesOf says where the FROM and the TO of a request are.
func (r *runner) treesOf(report *Report, j *job) []string {
	if j.line.From == "" {
		return nil
	}
	locale := report.Tests[j.indices[0]].Locale
	list := []string{treeAddress(locale, j.line.From, cmp.Or(r.o.FromServer, j.line.FTPServerFrom))}
	if j.line.To != "" {
		list = append(list, treeAddress(locale, j.line.To, cmp.Or(r.o.ToServer, j.line.FTPServerTo)))
	}
	return list
}

// treeAddress says where an installer or a complete update is. The Japanese of macOS is a locale of its own, whose installers
// for other systems are those of "ja".
func treeAddress(locale, name, server string) string {
	if locale == "ja-JP-mac" && (strings.HasSuffix(name, ".exe") || strings.Contains(filepath.Base(name), ".tar.")) {
		locale = "ja"
	}
	address := strings.TrimSuffix(server, "/") + "/" + strings.TrimPrefix(strings.Replace(name, "%locale%", locale, 1), "/")
	if strings.Contains(address, "://") {
		address = strings.ReplaceAll(address, " ", "%20")
	}
	return address
}

// release lets go of the trees of a request that no other needs: those of FROM are one for each locale and release.
func (r *runner) release(report *Report, j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range r.treesOf(report, j) {
		if r.needed[address]--; r.needed[address] == 0 {
			r.trees.forget(address)
		}
	}
}

// sample chooses the tests that the real updater runs: the first of every release, platform and patch type.
func (r *runner) sample(report *Report, jobs []job) {
	if r.o.Updater == nil {
		return
	}
	seen := map[[4]string]bool{}
	r.o.Updater.sampled = map[int]bool{}
	for i := range jobs {
		for _, k := range jobs[i].indices {
			t := &report.Tests[k]
			key := [4]string{t.Release, t.BuildID, t.Platform, t.PatchType}
			if r.o.Updater.All || !seen[key] && t.Kind == KindFull {
				seen[key] = true
				r.o.Updater.sampled[k] = true
			}
		}
	}
}

// save keeps the results of one request.
func (r *runner) save(line *Line, tests []*Test) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	enc := json.NewEncoder(r.out)
	enc.SetEscapeHTML(false)
	for _, t := range tests {
		if err := enc.Encode(record{r.key(line, t), *t}); err != nil {
			return err
		}
		r.progress.Done++
		if t.Result.bad() {
			r.progress.Failed++
		}
		if r.o.Progress != nil {
			p := r.progress
			p.Test, p.Result = t.Identity, t.Result
			r.o.Progress(p)
		}
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	return r.file.Sync()
}

// finish puts what the tests say together.
func (r *runner) finish(report *Report) {
	used := map[string]int{}
	for i := range report.Tests {
		for rule, n := range report.Tests[i].Explained {
			used[rule] += n
		}
	}
	seen := map[string]bool{}
	for _, rule := range append(slices.Clone(r.o.rules), Rule{Name: keptRule, Reason: "TO adds the file only where it is absent: what users have is kept"}) {
		if seen[rule.Name] {
			continue
		}
		seen[rule.Name] = true
		use := RuleUse{Rule: rule.Name, Reason: rule.Reason, Used: used[rule.Name]}
		if !rule.Expires.IsZero() && !r.o.now.Before(rule.Expires) {
			use.Expired = rule.Expires.Format(time.DateOnly)
		}
		report.Rules = append(report.Rules, use)
	}
	unproved := map[string]int{}
	for i := range report.Tests {
		for _, what := range report.Tests[i].Unchecked {
			unproved[what]++
		}
	}
	words := make([]string, 0, len(unproved))
	for what := range unproved {
		words = append(words, what)
	}
	slices.Sort(words)
	for _, what := range words {
		report.Notes = append(report.Notes, fmt.Sprintf("not checked in %s: %s", count(unproved[what], "test"), what))
	}
	report.finish()
}

// pair does the tests of one request.
func (r *runner) pair(ctx context.Context, report *Report, j *job) error {
	defer r.release(report, j)
	var todo []*Test
	var indices []int
	for _, k := range j.indices {
		if t := &report.Tests[k]; t.Result == NotRun {
			todo = append(todo, t)
			indices = append(indices, k)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	for i, t := range todo {
		t.Result, t.Steps = Pass, map[string]int64{}
		start := time.Now()
		o, reason := r.ask(ctx, j.line, t)
		t.Steps["offer_ms"] = time.Since(start).Milliseconds()
		if reason == nil {
			reason = r.test(ctx, j.line, t, o, indices[i])
		}
		if reason == nil && ctx.Err() == nil {
			reason = r.lint(ctx, t, o)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason != nil {
			t.Reasons = append([]Reason{*reason}, t.Reasons...)
			t.Result = Fail
			if reason.Code == NetworkTrouble || reason.Code == SetupTrouble {
				t.Result = Error
			}
		}
		if o != nil {
			comparePair(t, o)
		}
		if t.Reasons == nil {
			t.Reasons = []Reason{}
		}
	}
	return r.save(j.line, todo)
}

// comparePair files what the sizes of a pair say, under its partial.
func comparePair(t *Test, o *offer) {
	if t.PatchType != "partial" {
		return
	}
	p, havePartial := o.patch("partial")
	c, haveComplete := o.patch("complete")
	if !havePartial || !haveComplete || p.Size < c.Size {
		return
	}
	reason, result := Reason{Code: PartialEqual, Detail: fmt.Sprintf("both have %s bytes", thousands(int(p.Size)))}, Warn
	if p.Size > c.Size {
		reason, result = Reason{Code: PartialLarger, Detail: fmt.Sprintf("the partial has %s bytes, the complete %s", thousands(int(p.Size)), thousands(int(c.Size)))}, Fail
	}
	t.Reasons = append(t.Reasons, reason)
	if t.Result == Pass || t.Result == Warn {
		t.Result = result
	}
}

type offerResult struct {
	offer  *offer
	reason *Reason
}

// ask asks the update server, once for both patch types, and checks what it says about the release.
func (r *runner) ask(ctx context.Context, line *Line, t *Test) (*offer, *Reason) {
	server := line.AUSServer
	if r.o.AUSServer != "" {
		server = r.o.AUSServer
	}
	if server == "" {
		return nil, &Reason{Code: SetupTrouble, Detail: "no update server is named"}
	}
	t.Request = requestURL(server, r.o.Request, t)
	res, err := r.offers.do(ctx, t.Request, func() (offerResult, error) {
		text, failed := r.get.text(ctx, t.Request)
		if failed != nil {
			return offerResult{reason: netReason(failed, UpdateXMLUnavailable, "update.xml")}, ctx.Err()
		}
		return readOffer(text), nil
	})
	if err != nil || res.reason != nil {
		return nil, res.reason
	}
	o := res.offer
	for _, check := range []struct{ what, want, got string }{
		{"buildID", line.ToBuildID, o.BuildID}, {"displayVersion", line.ToDisplayVersion, o.DisplayVersion}, {"appVersion", line.ToAppVersion, o.AppVersion},
	} {
		if check.want != "" && check.want != check.got {
			return o, &Reason{Code: WrongMetadata, Detail: fmt.Sprintf("%s %s, expected %s", check.what, short(check.got, 100), check.want)}
		}
	}
	return o, nil
}

// readOffer says what an answer offers.
func readOffer(text []byte) offerResult {
	o, ok, err := parseOffer(text)
	switch {
	case err != nil:
		return offerResult{reason: &Reason{Code: UpdateXMLUnavailable, Detail: err.Error()}}
	case !ok:
		return offerResult{reason: &Reason{Code: NoUpdateOffered, Detail: "the update server answers with an empty <updates>"}}
	}
	return offerResult{offer: &o}
}

// netReason tells what servers say from what the network does.
func netReason(err error, missing Code, what string) *Reason {
	var failed *httpError
	if errors.As(err, &failed) {
		if failed.temporary() {
			return &Reason{Code: NetworkTrouble, HTTPStatus: failed.status, Detail: err.Error()}
		}
		return &Reason{Code: missing, HTTPStatus: failed.status, Detail: fmt.Sprintf("HTTP %d for %s: %s", failed.status, what, failed.url)}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &Reason{Code: missing, Detail: err.Error()}
	}
	return &Reason{Code: NetworkTrouble, Detail: err.Error()}
}

type marKey struct {
	url, hash string
	size      int64
}

// fetchedMAR is a MAR that is here, with what is wrong with it.
type fetchedMAR struct {
	*archive
	reason *Reason

	once   sync.Once
	signed error // what is wrong with its signature

	taker    atomic.Pointer[updater.Client] // the first client that takes it
	lint     sync.Once
	findings []finding
	unlinted error
}

// finding is what somebody stumbles over in a MAR.
type finding struct {
	broken bool // the updater does
	text   string
	at     string
}

// look lists the findings, once however many tests ask: those of the archive, of its manifests, and of how its members are
// packed. That it is not signed, or has no manifest that a client looks for, is said by others.
func (m *fetchedMAR) look(ctx context.Context, known *contents) ([]finding, error) {
	m.lint.Do(func() {
		for _, p := range mar.Lint(m.src, m.src.Size(), &mar.LintOptions{Ignore: []mar.Code{mar.CodeUnsigned, mar.CodeNoManifest}, Max: 20}) {
			if p.Refused || p.Updater || p.Others {
				m.findings = append(m.findings, finding{p.Refused || p.Updater, p.String(), p.Name})
			}
		}
		var list []*updater.UpdateError
		list, m.unlinted = updater.Lint(ctx, m.Reader, &updater.LintOptions{ManifestsOnly: true, Client: m.taker.Load()})
		if m.unlinted == nil {
			list, m.unlinted = m.members(ctx, known, list)
		}
		for _, e := range list[:min(len(list), 20)] {
			m.findings = append(m.findings, finding{e.Code != 0, e.Error(), e.Path})
		}
	})
	return m.findings, m.unlinted
}

// members adds those that updaters do not take: in another format than the manifest, with filters that they do not have.
func (m *fetchedMAR) members(ctx context.Context, known *contents, list []*updater.UpdateError) ([]*updater.UpdateError, error) {
	format := updater.FormatXZ
	for _, name := range manifestNames {
		if e := m.entries[name]; e != nil {
			f, err := e.Format()
			if err != nil {
				return nil, err
			}
			format = cmp.Or(f, format)
		}
	}
	for _, f := range m.Files() {
		err := known.usable(ctx, m.entries[f.Name], updater.Instruction{}, []updater.MemberFormat{format})
		var bad *updater.UpdateError
		switch {
		case errors.As(err, &bad):
			list = append(list, bad)
		case err != nil:
			return nil, err
		}
	}
	return list, nil
}

// verify verifies the signature, once however many clients ask.
func (m *fetchedMAR) verify(ctx context.Context, keys []crypto.PublicKey) error {
	m.once.Do(func() { _, m.signed = m.VerifyAny(ctx, keys...) })
	return m.signed
}

// test does what follows a good answer.
func (r *runner) test(ctx context.Context, line *Line, t *Test, o *offer, index int) *Reason {
	p, ok := o.patch(t.PatchType)
	if !ok {
		return &Reason{Code: PatchTypeMissing, Detail: "update.xml has no patch of this type"}
	}
	t.MAR = p.URL
	if reason := r.address(p.URL); reason != nil {
		return reason
	}
	start := time.Now()
	m, err := r.mar(ctx, p)
	t.Steps["fetch_ms"] = time.Since(start).Milliseconds()
	if err != nil {
		return &Reason{Code: SetupTrouble, Detail: err.Error()}
	}
	if m.reason != nil {
		return m.reason
	}
	t.Proved = []string{"offer", "size", "hash"}
	if t.Kind != KindFull {
		client, err := r.planned(line, toolchain.Build{Product: line.Product, Version: line.Release, BuildID: line.BuildID})
		if err != nil {
			return &Reason{Code: SetupTrouble, Detail: err.Error()}
		}
		return r.client(ctx, t, m, client)
	}
	from, reason := r.tree(ctx, o, t.Locale, line.From, cmp.Or(r.o.FromServer, line.FTPServerFrom))
	if reason != nil {
		return reason
	}
	to, reason := r.target(ctx, o, t, line)
	if reason != nil {
		return reason
	}
	switch {
	case line.To == "":
		t.Unchecked = append(t.Unchecked, "TO: the plan names none, the complete update that is offered was taken for it")
	case to.mar != nil:
		t.Unchecked = append(t.Unchecked, "installer: TO is a complete update, what its installer has beside it is not known")
	}
	return r.full(ctx, line, t, m, from, to, index)
}

// lint looks for what somebody stumbles over in the MAR of a test that passed so far. What the updater stumbles over is a
// failure, though this test did not meet it; the rest is a warning.
func (r *runner) lint(ctx context.Context, t *Test, o *offer) *Reason {
	p, _ := o.patch(t.PatchType)
	m, err := r.mar(ctx, p)
	if err != nil || m.reason != nil {
		return nil // which the test has said
	}
	list, err := m.look(ctx, r.prover.known)
	if err != nil {
		return &Reason{Code: SetupTrouble, Detail: err.Error()}
	}
	if len(list) == 0 {
		t.Proved = append(t.Proved, "lint")
		return nil
	}
	worst := list[0]
	reason := &Reason{Code: MARFinding, Evidence: &Evidence{}}
	for _, f := range list {
		if f.broken && !worst.broken {
			worst = f
		}
		reason.Evidence.Text = append(reason.Evidence.Text, short(f.text, maxEvidenceLine))
	}
	reason.Detail, reason.At = worst.text, worst.at
	if worst.broken {
		return reason
	}
	t.Reasons = append(t.Reasons, *reason)
	if t.Result == Pass {
		t.Result = Warn
	}
	return nil
}

// target is TO: what the plan names, or else the complete update that is offered.
func (r *runner) target(ctx context.Context, o *offer, t *Test, line *Line) (*tree, *Reason) {
	if line.To != "" {
		return r.tree(ctx, o, t.Locale, line.To, cmp.Or(r.o.ToServer, line.FTPServerTo))
	}
	p, ok := o.patch("complete")
	if !ok {
		return nil, &Reason{Code: SetupTrouble, Detail: "the plan names no TO, and no complete update is offered"}
	}
	if reason := r.address(p.URL); reason != nil {
		return nil, reason
	}
	m, err := r.mar(ctx, p)
	switch {
	case err != nil:
		return nil, &Reason{Code: SetupTrouble, Detail: err.Error()}
	case m.reason != nil:
		return nil, &Reason{Code: SetupTrouble, Detail: "the plan names no TO, and of the complete update that is offered " + m.reason.Detail}
	}
	to, err := treeOfMAR(ctx, m.archive, r.prover.known)
	if err != nil {
		return nil, &Reason{Code: UnpackFailed, Detail: err.Error()}
	}
	return to, nil
}

// claims is what the plan says about the client of FROM.
func (r *runner) claims(line *Line) updater.Claims {
	var c updater.Claims
	if line.MARChannelIDs != "" {
		c.Channels = strings.Split(line.MARChannelIDs, ",")
		c.Notes = map[string]string{"channels": "mar_channel_IDs of the plan"}
	}
	return c
}

// address checks where a MAR is said to be.
func (r *runner) address(address string) *Reason {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" && u.Scheme != "file":
		return &Reason{Code: URLNotHTTPS, Detail: fmt.Sprintf("%q is no address", short(address, 200))}
	case u.Scheme != "https" && !r.o.AllowHTTP:
		return &Reason{Code: URLNotHTTPS, Detail: address}
	case len(r.o.Hosts) > 0 && !slices.Contains(r.o.Hosts, u.Hostname()):
		return &Reason{Code: HostNotAllowed, Detail: address}
	}
	return nil
}

// mar fetches a MAR once.
func (r *runner) mar(ctx context.Context, p offeredPatch) (*fetchedMAR, error) {
	return r.mars.do(ctx, marKey{p.URL, strings.ToLower(p.HashFunction + ":" + p.HashValue), p.Size}, func() (*fetchedMAR, error) {
		return r.fetchMAR(ctx, p)
	})
}

// fetchMAR fetches a MAR, and looks at it as an archive.
func (r *runner) fetchMAR(ctx context.Context, p offeredPatch) (*fetchedMAR, error) {
	hash, err := fetch.ParseHash(strings.ToLower(p.HashFunction) + ":" + p.HashValue)
	if err != nil {
		return &fetchedMAR{reason: &Reason{Code: WrongMetadata, Detail: "update.xml gives no hash that can be understood: " + err.Error()}}, nil
	}
	if p.Size <= 0 || p.Size > maxInstaller {
		return &fetchedMAR{reason: &Reason{Code: WrongMetadata, Detail: fmt.Sprintf("update.xml gives the size %d", p.Size)}}, nil
	}
	// Not named by the hash alone: that equal bytes are elsewhere does not prove that they are at this address.
	name := fmt.Sprintf("mars/%x", sha256.Sum256(fmt.Appendf(nil, "%s %s %x", p.URL, hash.Algorithm, hash.Sum)))
	m := &fetchedMAR{}
	src, err := r.keeper.source(name)
	if err != nil || !intact(src, hash, p.Size) {
		request := fetch.Request{URLs: []string{p.URL}, Size: p.Size, Hashes: []fetch.Hash{hash}}
		if buf := r.keeper.buffers.get(p.Size); buf != nil {
			defer r.keeper.buffers.put(buf)
			if err = r.fetch.FetchInto(ctx, request, buf); err == nil {
				m.archive, err = r.received(ctx, m, name, buf)
			}
		} else if src, err = r.fetchFile(ctx, request, name); err == nil {
			m.archive, err = newArchive(filepath.Base(name), src)
		}
	} else {
		m.archive, err = newArchive(filepath.Base(name), src)
	}
	var failed *fetch.Error
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case localTrouble(err):
		return nil, err
	case errors.As(err, &failed):
		m.reason = fetchReason(err, p.URL)
	case errors.Is(err, mar.ErrFormat):
		m.reason = &Reason{Code: DamagedMAR, Detail: err.Error()}
	default:
		return nil, err
	}
	return m, nil
}

// localTrouble says whether an error is that of a file of this machine, as that of a full disk.
func localTrouble(err error) bool {
	var file *fs.PathError
	return errors.As(err, &file) && !errors.Is(err, fs.ErrNotExist)
}

// received keeps a MAR that is in memory, where its signature is quickly verified.
func (r *runner) received(ctx context.Context, m *fetchedMAR, name string, data []byte) (*archive, error) {
	a, err := r.keeper.keep(ctx, name, filepath.Base(name), data)
	if err != nil || len(r.o.Keys) == 0 {
		return a, err
	}
	whole, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		return nil, err
	}
	m.once.Do(func() { _, m.signed = whole.VerifyAny(ctx, r.o.Keys...) })
	return a, ctx.Err()
}

// fetchFile fetches a MAR for which there is no room in memory.
func (r *runner) fetchFile(ctx context.Context, request fetch.Request, name string) (marBytes, error) {
	file, err := r.fetch.Fetch(ctx, request)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	whole := r.keeper.file(name)
	if err := keep(file, whole.name); err != nil {
		return nil, err
	}
	if err := os.Remove(whole.name + partsEnding); err != nil && !errors.Is(err, fs.ErrNotExist) { // which was damaged
		return nil, err
	}
	return &wholeFile{whole, request.Size, name}, nil
}

// keep moves what was fetched into the work directory, which may be on another file system. It need not last through a
// power cut: whoever goes on from the directory compares its hash.
func keep(file *fetch.File, name string) error {
	if err := os.Rename(file.Name(), name); err == nil {
		file.Release()
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), "part-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := io.Copy(tmp, file.Reader()); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// intact says whether a MAR is what it should be.
func intact(src marBytes, hash fetch.Hash, size int64) bool {
	h := hash.Algorithm.New()
	if h == nil || src.Size() != size {
		return false
	}
	_, err := copyAll(h, io.NewSectionReader(src, 0, size))
	return err == nil && string(h.Sum(nil)) == string(hash.Sum)
}

// fetchReason tells what a server says about a MAR from what the network does.
func fetchReason(err error, address string) *Reason {
	var status *fetch.StatusError
	var size *fetch.SizeError
	var hash *fetch.DigestError
	var refused *fetch.NotAllowedError
	switch {
	case errors.As(err, &hash):
		return &Reason{Code: WrongHash, Detail: fmt.Sprintf("the MAR's hash is %s…, update.xml says %s…", first(fmt.Sprintf("%x", hash.Got), 16), first(fmt.Sprintf("%x", hash.Want), 16))}
	case errors.As(err, &size):
		return &Reason{Code: WrongSize, Detail: fmt.Sprintf("the MAR has %s bytes, update.xml says %s", thousands(int(size.Got)), thousands(int(size.Want)))}
	case errors.As(err, &status) && status.Code >= 400 && status.Code < 500 && status.Code != http.StatusRequestTimeout && status.Code != http.StatusTooManyRequests:
		return &Reason{Code: MARMissing, HTTPStatus: status.Code, Detail: fmt.Sprintf("HTTP %d for the MAR: %s", status.Code, address)}
	case errors.As(err, &refused) && (refused.Reason == fetch.ReasonLoop || refused.Reason == fetch.ReasonRedirects):
		return &Reason{Code: RedirectLoop, Detail: err.Error()}
	case errors.As(err, &refused) && (refused.Reason == fetch.ReasonInsecure || refused.Reason == fetch.ReasonDowngrade):
		return &Reason{Code: URLNotHTTPS, Detail: err.Error()}
	}
	return &Reason{Code: NetworkTrouble, Detail: err.Error()}
}

// tree fetches and opens an installer or a complete update, once. One that is offered as well is the one that was fetched.
func (r *runner) tree(ctx context.Context, o *offer, locale, name, server string) (*tree, *Reason) {
	address := treeAddress(locale, name, server)
	var reason *Reason
	t, err := r.trees.do(ctx, address, func() (*tree, error) {
		unpacked := func(t *tree, err error) (*tree, error) {
			if err != nil && !errors.Is(err, errSetup) {
				err = &unpackError{err}
			}
			return t, err
		}
		for _, p := range o.Patches {
			if p.URL != address {
				continue
			}
			if m, err := r.mar(ctx, p); err == nil && m.reason == nil {
				return unpacked(treeOfMAR(ctx, m.archive, r.prover.known))
			}
		}
		if file, ok := localName(address); ok {
			if _, err := os.Stat(file); err != nil {
				return nil, err
			}
			return unpacked(r.treeOf(ctx, file, "", name))
		}
		sum := sha512.Sum512_256([]byte(address))
		kept := fmt.Sprintf("installers/%x", sum[:16])
		if p, err := r.keeper.parts(kept); err == nil && p.intact() { // of installers no hash is known
			return unpacked(r.treeKept(ctx, p, name))
		}
		got, err := r.get.file(ctx, address, r.keeper.file("installers").name, "MAR1", &r.keeper.buffers)
		if err != nil {
			return nil, err
		}
		if got.data != nil {
			defer r.keeper.buffers.put(got.data)
			a, err := r.keeper.keep(ctx, kept, name, got.data)
			if err != nil {
				return unpacked(nil, err)
			}
			return unpacked(treeOfMAR(ctx, a, r.prover.known))
		}
		p, err := newParts(partsList{got.sum, []part{{got.size, "installers/" + got.file, 0}}}, r.keeper.file)
		if err != nil {
			return unpacked(nil, err)
		}
		if err := r.keeper.list(kept, p.partsList); err != nil {
			return nil, err
		}
		return unpacked(r.treeKept(ctx, p, name))
	})
	var bad *unpackError
	switch {
	case err == nil:
		return t, nil
	case errors.As(err, &bad):
		reason = &Reason{Code: UnpackFailed, Detail: err.Error()}
	case errors.Is(err, errSetup):
		reason = &Reason{Code: SetupTrouble, Detail: err.Error()}
	default:
		reason = netReason(err, InstallerMissing, "an installer")
	}
	return nil, reason
}

// treeKept opens an installer or a complete update that the work directory has.
func (r *runner) treeKept(ctx context.Context, p *parts, name string) (*tree, error) {
	if whole := p.Parts[0]; len(p.Parts) == 1 {
		return r.treeOf(ctx, r.keeper.file(whole.File).name, whole.File, name)
	}
	a, err := newArchive(name, p)
	if err != nil {
		return nil, err
	}
	return treeOfMAR(ctx, a, r.prover.known)
}

// unpackError is an installer that cannot be unpacked.
type unpackError struct{ error }

func (e *unpackError) Unwrap() error { return e.error }

// client checks what FROM's client looks at before it reads the manifest.
func (r *runner) client(ctx context.Context, t *Test, m *fetchedMAR, client *updater.Client) *Reason {
	signed := len(m.Signatures()) > 0
	if !signed && (len(r.o.Keys) > 0 || client.Verifies.Known && client.Verifies.Value) {
		return &Reason{Code: SignatureMissing, UpdaterStatus: updater.CodeSignature.String(), Detail: "the MAR has no signature"}
	}
	offer := updater.OfferOf(m.Reader)
	var failed error
	if len(r.o.Keys) > 0 {
		offer.Verify = func() error {
			err := m.verify(ctx, r.o.Keys)
			if err != nil && !errors.Is(err, mar.ErrSignature) {
				failed = err
			}
			return err
		}
	}
	verdicts := client.Check(offer)
	if failed != nil {
		return &Reason{Code: SetupTrouble, Detail: failed.Error()}
	}
	for _, v := range verdicts {
		what := string(v.Check)
		switch v.Answer {
		case updater.Holds:
			t.Proved = append(t.Proved, what)
		case updater.Fails:
			code := RefusedByClient
			switch v.Code {
			case updater.CodeSignature:
				code = SignatureWrongKey
			case updater.CodeChannel:
				code = ChannelMismatch
			case updater.CodeDowngrade:
				code = VersionDowngrade
			}
			return &Reason{Code: code, UpdaterStatus: v.Code.String(), Detail: v.Reason}
		case updater.NotChecked:
			t.Unchecked = append(t.Unchecked, what+": "+v.Reason)
		}
	}
	m.taker.CompareAndSwap(nil, client)
	return nil
}

// planned is the client of a build as far as the plan and the rules of its version know it, beside what it shows.
func (r *runner) planned(line *Line, from toolchain.Build) (*updater.Client, error) {
	from.Platform = line.Platform
	to := toolchain.Build{Product: line.Product, Version: line.ToAppVersion, BuildID: line.ToBuildID, Platform: line.Platform}
	return r.o.Toolchains.Client(from, to, &toolchain.SelectOptions{Client: r.claims(line)})
}

// clientOf is the client of an installation. It is the same for all locales whose programs and settings are, and is looked
// at once for them: its programs are compressed.
func (r *runner) clientOf(ctx context.Context, line *Line, from *tree) (*updater.Client, error) {
	h := sha256.New()
	note := func(format string, args ...any) { _, _ = fmt.Fprintf(h, format, args...) } // a hash takes everything
	note("%q %q %q\n", line.MARChannelIDs, line.Product, line.Platform)
	if from.mar != nil {
		product, ok := from.mar.Product()
		note("%q %q %v\n", product.Channel, product.Version, ok)
		for _, s := range from.mar.Signatures() {
			note("%v\n", s.Algorithm)
		}
	}
	for _, name := range sortedNames(from.files) {
		f := from.files[name]
		switch base := filepath.Base(name); {
		case f.executable, filepath.Ext(base) == "", base == "application.ini", base == "platform.ini", updater.SettingsName(name),
			slices.Contains([]string{".exe", ".dll", ".so", ".dylib"}, strings.ToLower(filepath.Ext(base))):
			note("%q %x %v\n", name, f.sum, f.executable)
		}
		if from.mar != nil { // the formats of members and the versions of manifests
			if format, err := from.mar.entries[name].Format(); err == nil {
				note("%v\n", format)
			}
		}
	}
	for _, name := range manifestNames {
		note("%v\n", from.mar != nil && from.mar.Lookup(name) != nil)
	}
	var key digest
	h.Sum(key[:0])
	return r.clients.do(ctx, key, func() (*updater.Client, error) {
		build, err := from.build()
		if err != nil {
			return nil, err
		}
		return r.planned(line, build)
	})
}

// full applies the update to FROM and compares the tree with TO's.
func (r *runner) full(ctx context.Context, line *Line, t *Test, m *fetchedMAR, from, to *tree, index int) *Reason {
	client, err := r.clientOf(ctx, line, from)
	switch {
	case errors.Is(err, updater.ErrContradiction):
		return &Reason{Code: SetupTrouble, Detail: "what FROM shows of its updater, the plan and the rules of its version exclude each other: " + err.Error()}
	case errors.Is(err, errSetup):
		return &Reason{Code: SetupTrouble, Detail: err.Error()}
	case err != nil:
		return &Reason{Code: UnpackFailed, Detail: "what FROM says of its updater cannot be read: " + err.Error()}
	}
	reason := r.client(ctx, t, m, client)
	var got *outcome
	if reason == nil {
		got, reason = r.apply(ctx, t, m, from, to, client)
	}
	if ctx.Err() != nil {
		return nil
	}
	if u := r.o.Updater; u != nil && (u.sampled[index] || reason != nil && reason.UpdaterStatus != "") || u != nil && reason != nil && len(reason.Files) > 0 {
		r.real(ctx, line, t, m, from, got, reason)
	}
	return reason
}

// apply applies in memory.
func (r *runner) apply(ctx context.Context, t *Test, m *fetchedMAR, from, to *tree, client *updater.Client) (*outcome, *Reason) {
	start := time.Now()
	u, err := r.prover.open(ctx, from, m.archive, client)
	var got *outcome
	if err == nil {
		got, err = r.prover.apply(ctx, u)
	}
	t.Steps["apply_ms"] = time.Since(start).Milliseconds()
	if err != nil {
		return nil, applyReason(err)
	}
	start = time.Now()
	c, err := r.prover.compare(ctx, u, got, to, t, r.o)
	t.Steps["compare_ms"] = time.Since(start).Milliseconds()
	if err != nil {
		return got, &Reason{Code: SetupTrouble, Detail: err.Error()}
	}
	if len(c.explained) > 0 {
		t.Explained = c.explained
	}
	for _, framework := range frameworks {
		if from.dirs[framework] && !hasBelow(got.files, framework) {
			return got, &Reason{Code: FrameworkMissing, At: framework, Detail: framework + " is gone after the update"}
		}
	}
	if len(c.diffs) == 0 {
		t.Proved = append(t.Proved, "tree")
		return got, nil
	}
	code := ExecutableBit
	for _, d := range c.diffs {
		if d.Kind != "mode" {
			code = TreeDiffers
		}
	}
	reason := &Reason{Code: code, Files: c.diffs, Detail: describeDiffs(c.diffs)}
	if len(c.text) > 0 {
		reason.Evidence = &Evidence{Text: first40(c.text)}
	}
	return got, reason
}

func first40(lines []string) []string {
	return lines[:min(len(lines), maxEvidence)]
}

func hasBelow(files map[string]treeFile, dir string) bool {
	for name := range files {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// applyReason says why an update cannot be applied, in the updater's own terms.
func applyReason(err error) *Reason {
	var refused *refusal
	if errors.As(err, &refused) {
		return &Reason{Code: refused.code, UpdaterStatus: refused.status, Detail: refused.detail}
	}
	var failed *updater.UpdateError
	if errors.Is(err, errSetup) || localTrouble(err) {
		return &Reason{Code: SetupTrouble, Detail: err.Error()}
	}
	if !errors.As(err, &failed) {
		return &Reason{Code: ApplyFailed, Detail: err.Error()}
	}
	reason := &Reason{Code: ApplyFailed, Detail: err.Error(), At: failed.Path}
	switch {
	case failed.Code == updater.CodeCrash:
		reason.Code, reason.UpdaterStatus = UpdaterCrashed, "applying"
	case failed.Code > 0:
		reason.UpdaterStatus = failed.Code.String()
	}
	return reason
}

// Package story asks the server again what recorded scripts asked Balrog's administration API, step by step, and compares the
// answers.
//
// A story has users with their permissions in Balrog, an allow list, required sign-offs, steps and the answers to them:
//
//	[{"title": "…", "users": {"ann@x": {"permissions": {"admin": null}, "roles": ["releng"]}}, "allowlist": {"dl.example": ["Fox"]},
//	  "product_signoffs": [{"product": "Fox", "channel": "release", "role": "releng", "signoffs_required": 1}], "system": ["bot"],
//	  "steps": [{"user": "ann@x", "method": "POST", "path": "/rules", "body": {…}}], "answers": [{"status": 200, "body": 1}]}]
//
// The clock shows 2000000001 s at the first step and goes on by a second a step. Bodies are compared as values; numbers of rules, changes and scheduled
// changes are mapped where they are first mentioned.
package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// ErrStory says that a file is no list of stories.
var ErrStory = errors.New("story: invalid story")

// maxFile is how large a file of stories may be, in bytes.
const maxFile = 256 << 20

// begin is what the clock shows before the first step, in seconds since 1970.
const begin = 2_000_000_000

// Story is what scripts asked one server.
type Story struct {
	Title    string          `json:"title"`
	Users    map[string]User `json:"users"`
	Allow    aus.AllowList   `json:"allowlist"`
	SignOffs []struct {
		Product  string `json:"product"`
		Channel  string `json:"channel"`
		Role     string `json:"role"`
		Required int    `json:"signoffs_required"`
	} `json:"product_signoffs"`
	System  []string `json:"system"`
	Steps   []Step   `json:"steps"`
	Answers []Answer `json:"answers"`
}

// User is somebody with permissions in Balrog; null is one without limits.
type User struct {
	Permissions map[string]*struct {
		Products []string `json:"products"`
		Actions  []string `json:"actions"`
	} `json:"permissions"`
	Roles []string `json:"roles"`
}

// Step is one request. Body nil is none.
type Step struct {
	User   *string         `json:"user"` // nil is nobody
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body"`
}

// Answer is one recorded answer.
type Answer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// Result is one step that was asked again.
type Result struct {
	Number      int
	Step        Step
	Differences []string
	// Allowed says why a difference is: a fault of Balrog's that is mended, or that something before it was.
	Allowed string
}

func (r *Result) String() string {
	return fmt.Sprintf("step %d: %s %s: %s", r.Number, r.Step.Method, r.Step.Path, strings.Join(r.Differences, "; "))
}

// Read returns the stories of a file; documents of other kinds are passed over.
func Read(r io.Reader) ([]Story, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrStory, maxFile)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStory, err)
	}
	var stories []Story
	for _, one := range all {
		var kind struct {
			Steps json.RawMessage `json:"steps"`
		}
		if err := json.Unmarshal(one, &kind); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStory, err)
		}
		if kind.Steps == nil {
			continue
		}
		var s Story
		if err := json.Unmarshal(one, &s); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStory, err)
		}
		if len(s.Steps) != len(s.Answers) {
			return nil, fmt.Errorf("%w: %q has %d steps and %d answers", ErrStory, s.Title, len(s.Steps), len(s.Answers))
		}
		stories = append(stories, s)
	}
	return stories, nil
}

// configuration says whether a step writes what is configuration in this server, or releases by version 1.
func (s *Step) configuration() bool {
	if s.Method == http.MethodGet {
		return false
	}
	for _, p := range []string{"/users/", "/permissions", "/required_signoffs/", "/releases"} {
		if strings.HasPrefix(s.Path, p) {
			return true
		}
	}
	return false
}

// LeftOut says whether a story is about what this server does not have. Of such a story Run asks only the writes that are left out: each must be
// refused with 403 or 404.
func (s *Story) LeftOut() bool {
	return slices.ContainsFunc(s.Steps, func(s Step) bool { return s.configuration() })
}

// caller returns who asks a step.
func (s *Story) caller(name *string) *balrogapi.Caller {
	if name == nil {
		return nil
	}
	c := &balrogapi.Caller{Name: *name, System: slices.Contains(s.System, *name), Permissions: map[string]balrogapi.Permission{}}
	u, ok := s.Users[*name]
	if !ok {
		return c
	}
	c.Read, c.Roles = true, u.Roles
	for name, p := range u.Permissions {
		var limits balrogapi.Permission
		if p != nil {
			limits = balrogapi.Permission{Products: p.Products, Actions: p.Actions}
		}
		c.Permissions[name] = limits
	}
	return c
}

// player asks one story.
type player struct {
	story  *Story
	server *server.Server
	api    http.Handler
	now    atomic.Int64 // seconds

	ours    map[string]map[string]string // by kind of number: ours of theirs
	theirs  map[string]map[string]string // and theirs of ours
	refused map[string]bool              // "rule 12", "release R7": what only Balrog took
	tainted map[string]string            // what is not as in Balrog any more, and why
	pruned  bool                         // something refused was left out of a comparison
}

// Run asks a story on a new server that keeps what it needs in an empty directory.
func (s *Story) Run(ctx context.Context, dir string) (results []Result, err error) {
	p := &player{story: s, ours: map[string]map[string]string{}, theirs: map[string]map[string]string{}, refused: map[string]bool{}, tainted: map[string]string{}}
	p.now.Store(begin)
	var policy state.Policy
	for _, r := range s.SignOffs {
		policy = append(policy, state.Requirement{Product: r.Product, Channel: r.Channel, Roles: map[string]int{r.Role: r.Required}})
	}
	p.server, err = server.Open(ctx, server.Options{
		Dir: dir, URL: &url.URL{Scheme: "http", Host: "aus.example"}, Builds: -1, Policy: policy, OpenBalrog: true,
		Now: func() time.Time { return time.Unix(p.now.Load(), 0) },
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.server.Close()) }()
	p.api = p.server.Balrog()
	var hosts []state.Operation
	for _, h := range s.Allow {
		body, err := json.Marshal(state.HostBody{Products: h.Products, Paths: h.Paths})
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, state.Operation{Ref: state.Ref{Kind: state.Host, Key: h.Host}, Body: body})
	}
	if len(hosts) > 0 {
		if err := p.allow(ctx, hosts); err != nil {
			return nil, err
		}
	}
	left := s.LeftOut()
	for i, step := range s.Steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.now.Store(begin + int64(i) + 1)
		if left {
			if step.configuration() {
				r := Result{Number: i, Step: step}
				if got, _, _ := p.ask(ctx, &step); got.Status != http.StatusForbidden && got.Status != http.StatusNotFound {
					r.Differences = []string{fmt.Sprintf("status %d, want 403 or 404", got.Status)}
				}
				results = append(results, r)
			}
			continue
		}
		r, err := p.step(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("%s: step %d: %w", s.Title, i, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// allow publishes the allow list. What needs sign-offs is not asked here: in Balrog it is configuration.
func (p *player) allow(ctx context.Context, hosts []state.Operation) error {
	return p.server.Seed(ctx, "the allow list", hosts)
}

// ask sends a step to the server.
func (p *player) ask(ctx context.Context, step *Step) (Answer, *balrogapi.Notes, error) {
	var notes balrogapi.Notes
	ctx = balrogapi.WithNotes(server.WithBalrogCaller(ctx, p.story.caller(step.User)), &notes)
	r, err := http.NewRequestWithContext(ctx, step.Method, "http://aus.example"+balrogapi.Prefix+step.Path, bytes.NewReader(step.Body))
	if err != nil {
		return Answer{}, nil, err
	}
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	return Answer{w.Code, w.Body.Bytes()}, &notes, nil
}

// step asks one step and compares.
func (p *player) step(ctx context.Context, i int) (Result, error) {
	step, want := p.story.Steps[i], p.story.Answers[i]
	r := Result{Number: i, Step: step}
	sent, err := p.translate(step)
	if err != nil {
		return r, err
	}
	got, notes, err := p.ask(ctx, &sent)
	if err != nil {
		return r, err
	}
	touched := families(step.Path)
	p.pruned = false
	if got.Status != want.Status {
		r.Differences = append(r.Differences, fmt.Sprintf("status %d, want %d", got.Status, want.Status))
	} else if err := p.compareBodies(&r, got.Body, want.Body); err != nil {
		return r, err
	}
	early := slices.Contains(notes.Mended, "early enact")
	hangs := ""
	for _, f := range touched {
		for t, why := range p.tainted {
			if t == f || strings.HasSuffix(f, " *") && strings.HasPrefix(t, strings.TrimSuffix(f, "*")) {
				hangs = why
			}
		}
	}
	switch {
	case len(r.Differences) == 0 && !p.pruned:
	case len(r.Differences) == 0:
		r.Differences, r.Allowed = []string{"without what was refused"}, "what was refused before is not there"
	case want.Status == http.StatusInternalServerError:
		r.Allowed = "Balrog answers 500"
	case len(notes.Mended) > 0:
		r.Allowed = "mended: " + name(notes.Mended[0])
	case hangs != "":
		r.Allowed = hangs
	}
	switch {
	case early && want.Status == http.StatusOK:
		// Balrog enacts early. The change is let happen at its own time, so that the story goes on.
		if err := p.forward(ctx, &sent); err != nil {
			return r, err
		}
		for _, f := range touched {
			if strings.HasPrefix(f, "scheduled ") {
				p.tainted[f] = fmt.Sprintf("hangs on step %d, which happened at its time", i)
			}
		}
	case len(notes.Mended) > 0 && !early:
		for _, f := range touched {
			if p.tainted[f] == "" {
				p.tainted[f] = fmt.Sprintf("hangs on step %d, mended: %s", i, name(notes.Mended[0]))
			}
		}
		p.onlyTheirs(&step, &want)
	}
	return r, nil
}

func name(mended string) string {
	if _, err := strconv.Atoi(mended); err == nil && mended != "500" {
		return "quirk " + mended
	}
	return mended
}

// families are the objects that a step reads or writes; "release *" is all releases.
func families(path string) []string {
	path, _, _ = strings.Cut(path, "?")
	s := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case s[0] == "rules":
		return []string{"rules"}
	case s[0] == "scheduled_changes" && len(s) > 1:
		return []string{s[1], "scheduled " + s[1]}
	case s[0] == "v2" && len(s) > 3 && s[3] == "pinnable":
		return []string{"pins"}
	case s[0] == "v2" && len(s) > 1 && s[1] == "pins":
		return []string{"pins"}
	case s[0] == "v2" && len(s) > 2:
		return []string{"release " + s[2]}
	case s[0] == "v2":
		return []string{"release *"}
	}
	return []string{s[0]}
}

// onlyTheirs notes what Balrog took and this server refused.
func (p *player) onlyTheirs(step *Step, want *Answer) {
	if want.Status != http.StatusOK {
		return
	}
	if step.Method == http.MethodPost && step.Path == "/rules" {
		p.refused["rule "+string(bytes.TrimSpace(want.Body))] = true
	}
	if rest, ok := strings.CutPrefix(step.Path, "/v2/releases/"); ok && step.Method == http.MethodPut && !strings.Contains(rest, "/") {
		p.refused["release "+rest] = true
	}
}

// forward lets a scheduled change happen at its time.
func (p *player) forward(ctx context.Context, enact *Step) error {
	path, _ := strings.CutSuffix(enact.Path, "/enact")
	release, v2 := strings.CutPrefix(path, "/v2/releases/")
	if v2 {
		path = "/v2/releases"
	}
	got, _, err := p.ask(ctx, &Step{Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	type scheduled struct {
		When int64 `json:"when"`
	}
	var when int64
	var one struct {
		Change scheduled `json:"scheduled_change"`
	}
	var all struct {
		Releases []struct {
			Name      string      `json:"name"`
			Scheduled []scheduled `json:"scheduled_changes"`
		} `json:"releases"`
	}
	if v2 {
		if err := json.Unmarshal(got.Body, &all); err != nil {
			return err
		}
		for _, r := range all.Releases {
			if r.Name == release && len(r.Scheduled) > 0 {
				when = r.Scheduled[0].When
			}
		}
	} else {
		if err := json.Unmarshal(got.Body, &one); err != nil {
			return err
		}
		when = one.Change.When
	}
	if when == 0 {
		return fmt.Errorf("%w: nothing is scheduled at %s", ErrStory, path)
	}
	now := p.now.Load()
	p.now.Store((when + 999) / 1000)
	p.server.PublishDue(ctx)
	p.now.Store(now)
	return nil
}

// bind notes that one number of ours is one of theirs; false where they are others already.
func (p *player) bind(kind, theirs, ours string) bool {
	if p.ours[kind] == nil {
		p.ours[kind], p.theirs[kind] = map[string]string{}, map[string]string{}
	}
	o, okOurs := p.ours[kind][theirs]
	t, okTheirs := p.theirs[kind][ours]
	if !okOurs && !okTheirs {
		p.ours[kind][theirs], p.theirs[kind][ours] = ours, theirs
		return true
	}
	return okOurs && okTheirs && o == ours && t == theirs
}

// number returns our number for one of theirs. One that was never mentioned stays, unless it is one of ours.
func (p *player) number(kind, theirs string) string {
	if o, ok := p.ours[kind][theirs]; ok {
		return o
	}
	if _, ok := p.theirs[kind][theirs]; ok {
		return "9" + strings.Repeat("0", max(0, 9-len(theirs))) + theirs
	}
	return theirs
}

// translate is a step with our numbers.
func (p *player) translate(step Step) (Step, error) {
	path, query, _ := strings.Cut(step.Path, "?")
	s := strings.Split(path, "/")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	kind := "change rules"
	switch {
	case len(s) > 2 && s[1] == "rules" && digits(s[2]):
		s[2] = p.number("rule", s[2])
	case len(s) > 3 && s[1] == "scheduled_changes" && digits(s[3]):
		kind = "change scheduled"
		s[3] = p.number("scheduled "+s[2], s[3])
	}
	step.Path = strings.Join(s, "/")
	if query != "" {
		step.Path += "?" + query
	}
	if len(step.Body) == 0 {
		return step, nil
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(step.Body, &body); err != nil {
		return step, nil //nolint:nilerr // it is sent as it is
	}
	for key, kind := range map[string]string{"rule_id": "rule", "change_id": kind} {
		if v, ok := body[key]; ok && digits(string(v)) && (key != "rule_id" || path != "/rules") {
			body[key] = json.RawMessage(p.number(kind, string(v)))
		}
	}
	var err error
	step.Body, err = json.Marshal(body)
	return step, err
}

// compareBodies compares two bodies as values.
func (p *player) compareBodies(r *Result, got, want []byte) error {
	decode := func(data []byte) (any, error) {
		if len(bytes.TrimSpace(data)) == 0 {
			return "", nil
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var v any
		err := d.Decode(&v)
		return v, err
	}
	g, err := decode(got)
	if err != nil {
		r.Differences = append(r.Differences, "the body is not JSON: "+err.Error())
		return nil //nolint:nilerr // it is a difference that is reported
	}
	w, err := decode(want)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStory, err)
	}
	if r.Step.Method == http.MethodPost && r.Step.Path == "/rules" {
		ours, okOurs := g.(json.Number)
		theirs, okTheirs := w.(json.Number)
		if okOurs && okTheirs && p.bind("rule", theirs.String(), ours.String()) {
			return nil
		}
	}
	scope := "releases"
	if s := strings.Split(r.Step.Path, "/"); len(s) > 2 && s[1] == "scheduled_changes" {
		scope, _, _ = strings.Cut(s[2], "?")
	}
	p.compare(r, g, w, "", scope)
	return nil
}

// maxDifferences bounds what is said of one step.
const maxDifferences = 10

func (p *player) compare(r *Result, got, want any, path, scope string) {
	differ := func() {
		if len(r.Differences) < maxDifferences {
			r.Differences = append(r.Differences, fmt.Sprintf("%s: %s, want %s", strings.TrimPrefix(path, "."), short(got), short(want)))
		}
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			differ()
			return
		}
		w = p.prune(w)
		if strings.HasSuffix(path, ".rule_info") {
			w = p.renamed(w, g)
		}
		keys := maps.Clone(w)
		maps.Copy(keys, g)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			a, okGot := g[k]
			b, okWant := w[k]
			switch {
			case okGot != okWant:
				if len(r.Differences) < maxDifferences {
					r.Differences = append(r.Differences, fmt.Sprintf("%s.%s: there %v, want %v", strings.TrimPrefix(path, "."), k, okGot, okWant))
				}
			case p.sameNumber(k, a, b, w, scope):
			default:
				p.compare(r, a, b, path+"."+k, scope)
			}
		}
	case []any:
		g, ok := got.([]any)
		w = p.pruneList(w)
		if !ok || len(g) != len(w) {
			differ()
			return
		}
		for i := range w {
			p.compare(r, g[i], w[i], fmt.Sprintf("%s[%d]", path, i), scope)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			differ()
		}
	}
}

// sameNumber says whether two values are one number of theirs and ours.
func (p *player) sameNumber(key string, got, want any, row map[string]any, scope string) bool {
	g, okGot := got.(json.Number)
	w, okWant := want.(json.Number)
	if !okGot || !okWant {
		return false
	}
	switch key {
	case "rule_id":
		return p.bind("rule", w.String(), g.String())
	case "sc_id":
		return p.bind("scheduled "+scope, w.String(), g.String())
	case "change_id":
		kind := "change rules"
		if _, ok := row["sc_id"]; ok {
			kind = "change scheduled"
		}
		return p.bind(kind, w.String(), g.String())
	}
	return false
}

// renamed is an object by numbers of rules, by ours.
func (p *player) renamed(want, got map[string]any) map[string]any {
	m := map[string]any{}
	for k, v := range want {
		if o, ok := p.ours["rule"][k]; ok {
			k = o
		} else if len(want) == 1 && len(got) == 1 {
			for ours := range got {
				if p.bind("rule", k, ours) {
					k = ours
				}
			}
		}
		m[k] = v
	}
	return m
}

// prune leaves out of an object with a list and its length what was refused.
func (p *player) prune(want map[string]any) map[string]any {
	count, ok := want["count"].(json.Number)
	if !ok {
		return want
	}
	n, err := count.Int64()
	if err != nil {
		return want
	}
	m := maps.Clone(want)
	for k, v := range want {
		if list, ok := v.([]any); ok {
			kept := p.pruneList(list)
			m[k] = kept
			n -= int64(len(list) - len(kept))
		}
	}
	m["count"] = json.Number(strconv.FormatInt(n, 10))
	return m
}

func (p *player) pruneList(list []any) []any {
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		gone := false
		switch v := v.(type) {
		case string:
			gone = p.refused["release "+v]
		case map[string]any:
			id, _ := v["rule_id"].(json.Number)
			name, _ := v["name"].(string)
			gone = p.refused["rule "+id.String()] || p.refused["release "+name]
		}
		p.pruned = p.pruned || gone
		return gone
	})
}

func short(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	if len(text) > 200 {
		return strings.ToValidUTF8(string(text[:200]), "") + "…"
	}
	return string(text)
}

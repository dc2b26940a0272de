package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// clock is a clock that tests set.
type clock struct{ seconds atomic.Int64 }

func newClock(seconds int64) *clock {
	c := &clock{}
	c.seconds.Store(seconds)
	return c
}

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

// token is somebody's; the secret is the name with "-secret".
func token(name string, roles []Role, signOff ...string) Token {
	sum := sha256.Sum256([]byte(name + "-secret"))
	return Token{Name: name, SHA256: hex.EncodeToString(sum[:]), Roles: roles, SignOffRoles: signOff}
}

// as asks as the owner of a token, and returns the status and the text of the answer.
func (s *testServer) as(name, method, path string, body any) (int, string) {
	s.tb.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.tb.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	r, err := http.NewRequestWithContext(s.tb.Context(), method, s.url+path, strings.NewReader(string(text)))
	if err != nil {
		s.tb.Fatal(err)
	}
	if name != "" {
		r.Header.Set("Authorization", "Bearer "+name+"-secret")
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		s.tb.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// must is as, of what must succeed; it decodes the answer into to.
func (s *testServer) must(name, method, path string, body, to any) {
	s.tb.Helper()
	status, text := s.as(name, method, path, body)
	if status >= 300 {
		s.tb.Fatalf("%s %s as %s: status %d: %s", method, path, name, status, text)
	}
	if to != nil {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			s.tb.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
}

// withPolicy is a server on which changes of Fox on the channel release need two of releng and one of relman.
func withPolicy(t *testing.T, c *clock) *testServer {
	t.Helper()
	everything := Roles()
	s := start(t, t.TempDir(), func(o *Options) {
		o.Builds = -1
		o.Policy = state.Policy{{Product: "Fox", Channel: "release", Roles: map[string]int{"releng": 2, "relman": 1}}}
		program := token("ci", everything)
		program.System = true
		o.Tokens = []Token{
			token("ann", everything, "releng"), token("bob", []Role{RoleRead}, "releng"), token("cat", []Role{RoleRead}, "relman", "releng"), program,
		}
		if c != nil {
			o.Now = c.now
		}
	})
	// The first rule is there before anybody has to agree.
	operations, err := s.operations([]operationBody{
		operation("release", "Fox-90.0", releaseBody("90.0", "20240301000000")), operation("release", "Fox-91.0", releaseBody("91.0", "20250401000000")),
		operation("host", "dl.example", json.RawMessage(`{"products": ["Fox"]}`)), operation("rule", "1", ruleBody(1, `, "channel": "release", "mapping": "Fox-91.0"`)),
		operation("rule", "2", ruleBody(2, `, "channel": "nightly", "mapping": "Fox-90.0"`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(t.Context(), "begin", operations); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignOffs(t *testing.T) {
	t.Parallel()
	s := withPolicy(t, nil)
	back := change("back", operation("rule", "1", ruleBody(1, `, "channel": "release", "mapping": "Fox-90.0"`)))
	made, err := json.Marshal(aus.MadePartial{From: strings.Repeat("20", 64), To: strings.Repeat("21", 64), URL: "https://dl.example/p.mar", Size: 5, Hash: strings.Repeat("ab", 64), HashFunction: "sha512"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]changeBody{
		"a rule":                  back,
		"a rule without product":  change("x", operation("rule", "3", json.RawMessage(`{"rule_id": 3, "priority": 1, "backgroundRate": 100, "update_type": "minor", "mapping": "Fox-90.0"}`))),
		"a rule for rel*":         change("x", operation("rule", "3", ruleBody(3, `, "channel": "rel*", "mapping": "Fox-90.0"`))),
		"a rule that comes there": change("x", operation("rule", "2", ruleBody(2, `, "channel": "release", "mapping": "Fox-90.0"`))),
		"a rule that goes":        change("x", operation("rule", "1", nil)),
		"its release":             change("x", operation("release", "Fox-91.0", json.RawMessage(strings.Replace(string(releaseBody("91.0", "20250401000000")), "91.0.mar", "91.1.mar", 1)))),
		"a pin":                   change("x", operation("pin", "Fox/release/90.", json.RawMessage(`{"product": "Fox", "channel": "release", "version": "90.", "mapping": "Fox-90.0"}`))),
		"a host":                  change("x", operation("host", "evil.example", json.RawMessage(`{"products": ["Fox"]}`))),
		"a shutoff with instead":  change("x", operation("shutoff", "new", json.RawMessage(`{"product": "Fox", "channel": "release", "instead": "Fox-90.0", "comment": ""}`))),
		"a partial":               change("x", operation("made", strings.Repeat("20", 64)+"/"+strings.Repeat("21", 64), made)),
	} {
		for _, who := range []string{"ann", ""} {
			if status, text := s.as(who, "POST", "/admin/v1/changes", c); status != http.StatusConflict || !strings.Contains(text, "2 of releng, 1 of relman") {
				t.Errorf("%s by %q: status %d: %s", name, who, status, text)
			}
		}
	}
	s.must("ann", "POST", "/admin/v1/changes", change("x", operation("rule", "2", ruleBody(2, `, "channel": "nightly", "mapping": "Fox-91.0"`))), nil)

	back.Draft = true
	var kept changedBody
	s.must("ann", "POST", "/admin/v1/changes", back, &kept)
	draft := fmt.Sprintf("/admin/v1/drafts/%d", kept.Draft.ID)
	var d draftBody
	read := func() draftBody {
		d = draftBody{}
		s.must("bob", "GET", draft, nil, &d)
		return d
	}
	if read(); fmt.Sprint(d.Required, d.Missing) != "map[releng:2 relman:1] map[releng:2 relman:1]" {
		t.Errorf("a draft: %v, %v", d.Required, d.Missing)
	}
	sign := func(who, role string, want int) {
		t.Helper()
		if status, text := s.as(who, "POST", draft+"/signoffs", signOffBody{Hash: d.Hash, Role: role}); status != want {
			t.Errorf("%s signs as %s: status %d, want %d: %s", who, role, status, want, text)
		}
	}
	sign("ann", "relman", http.StatusForbidden)
	sign("ci", "releng", http.StatusForbidden)
	sign("", "releng", http.StatusForbidden) // nobody's, from this machine
	sign("ann", "releng", http.StatusOK)
	sign("ann", "releng", http.StatusOK) // is one
	sign("cat", "relman", http.StatusOK)
	sign("cat", "releng", http.StatusUnprocessableEntity) // in two roles
	if status, _ := s.as("ann", "POST", draft+"/publish", nil); status != http.StatusConflict || fmt.Sprint(read().Missing) != "map[releng:1]" {
		t.Errorf("with two of three: status %d, missing %v", status, d.Missing)
	}
	sign("bob", "releng", http.StatusOK)
	if read(); len(d.Missing) != 0 || len(d.SignOffs) != 3 {
		t.Errorf("signed: %+v", d)
	}
	s.must("bob", "DELETE", draft+"/signoffs", nil, nil)
	if status, _ := s.as("bob", "DELETE", draft+"/signoffs", nil); status != http.StatusNotFound || fmt.Sprint(read().Missing) != "map[releng:1]" {
		t.Errorf("taken back twice: %d, %v", status, d.Missing)
	}
	sign("bob", "releng", http.StatusOK)

	// Somebody else changes the object: what people agreed to is not what it would become.
	other := change("other", operation("rule", "1", ruleBody(1, `, "channel": "release", "mapping": "Fox-91.0", "comment": "other"`)))
	other.Draft = true
	first := draft
	s.must("ann", "POST", "/admin/v1/changes", other, &kept)
	draft = fmt.Sprintf("/admin/v1/drafts/%d", kept.Draft.ID)
	read()
	sign("ann", "releng", http.StatusOK)
	sign("bob", "releng", http.StatusOK)
	sign("cat", "relman", http.StatusOK)
	s.must("ann", "POST", draft+"/publish", nil, nil)
	draft = first
	if status, text := s.as("ann", "POST", draft+"/publish", nil); status != http.StatusConflict || !strings.Contains(text, "rule 1 changed since") {
		t.Errorf("signed, and changed since: status %d: %s", status, text)
	}
	if read(); len(d.Changed) != 1 || len(d.SignOffs) != 3 {
		t.Errorf("changed since: %+v", d)
	}
	old := d.Hash
	s.must("ann", "POST", draft+"/rebase", nil, nil)
	if read(); d.Hash == old || len(d.SignOffs) != 0 || len(d.Missing) != 2 || d.Version != 2 || !strings.Contains(string(d.Operations[0].Body), `"comment":"other"`) {
		t.Errorf("rebased: %+v", d)
	}
	if status, text := s.as("ann", "POST", draft+"/signoffs", signOffBody{Hash: old, Role: "releng"}); status != http.StatusConflict {
		t.Errorf("signs what it was: status %d: %s", status, text)
	}
	sign("ann", "releng", http.StatusOK)
	sign("bob", "releng", http.StatusOK)
	sign("cat", "relman", http.StatusOK)
	s.must("ann", "POST", draft+"/publish", nil, nil)
	if got := s.State().Get(state.Ref{Kind: state.Rule, Key: "1"}).Rule(); *got.Mapping != "Fox-90.0" || *got.Comment != "other" {
		t.Errorf("published: %+v", got)
	}

	// What leads back, and what is added, becomes a draft.
	if status, _ := s.as("ann", "POST", "/admin/v1/revert", object{"to": 1}); status != http.StatusConflict {
		t.Errorf("reverted alone: %d", status)
	}
	var reverted revertedBody
	s.must("ann", "POST", "/admin/v1/revert", object{"to": 1, "draft": true}, &reverted)
	if head := s.current.Load().head; reverted.Kept == nil || len(reverted.Kept.Operations) == 0 || reverted.Seq != head.Seq {
		t.Errorf("a draft that reverts: %+v", reverted)
	}
	if added := s.add(complete(t, "92.0", "20260101000000", nil), Addition{Channel: "release"}); added.Draft == 0 || s.State().Get(state.Ref{Kind: state.Release, Key: added.Release}) != nil {
		t.Errorf("added: %+v", added)
	}

	// To shut off needs nobody, to lift that does.
	var shut shutoffDone
	s.must("ann", "POST", "/admin/v1/shutoffs", shutoffBody{Product: "Fox", Channel: "release", Comment: "crash"}, &shut)
	if status, _ := s.as("ann", "DELETE", fmt.Sprintf("/admin/v1/shutoffs/%d", shut.Shutoff.ID), nil); status != http.StatusConflict {
		t.Errorf("lifted alone: %d", status)
	}
	// What the server made itself needs nobody.
	if _, err := s.publishOwn(t.Context(), "made", []state.Operation{{Ref: state.Ref{Kind: state.Made, Key: strings.Repeat("20", 64) + "/" + strings.Repeat("21", 64)}, Body: made}}); err != nil {
		t.Errorf("a made partial: %v", err)
	}
}

func TestSignOffPage(t *testing.T) {
	t.Parallel()
	s := withPolicy(t, nil)
	c := change("back to <90>", operation("rule", "1", ruleBody(1, `, "channel": "release", "mapping": "Fox-90.0"`)))
	c.Draft = true
	var kept changedBody
	s.must("ann", "POST", "/admin/v1/changes", c, &kept)
	_, page := s.as("", "GET", "/ui/drafts", nil)
	if !strings.Contains(page, "releng: 0 of 2") || !strings.Contains(page, "back to &lt;90&gt;") || !strings.Contains(page, "not yet") {
		t.Errorf("drafts: %s", page)
	}
	form := func(who, role string) (int, string) {
		t.Helper()
		res, err := http.PostForm(fmt.Sprintf("%s/ui/drafts/%d/signoffs", s.url, kept.Draft.ID), url.Values{"hash": {kept.Draft.Hash}, "token": {who + "-secret"}, "role": {role}})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	if status, text := form("nobody", "releng"); status != http.StatusUnprocessableEntity || !strings.Contains(text, "nobody&#39;s token") {
		t.Errorf("nobody signs: %d: %s", status, text)
	}
	if status, _ := form("bob", "relman"); status != http.StatusForbidden {
		t.Errorf("in a role of others: %d", status)
	}
	for who, role := range map[string]string{"ann": "releng", "bob": "releng", "cat": "relman"} {
		if status, text := form(who, role); status != http.StatusOK {
			t.Errorf("%s signs: %d: %s", who, status, text)
		}
	}
	_, page = s.as("", "GET", fmt.Sprintf("/ui/drafts/%d", kept.Draft.ID), nil)
	if !strings.Contains(page, "releng: 2 of 2") || !strings.Contains(page, "bob as releng") || !strings.Contains(page, "<button>Publish</button>") || !strings.Contains(page, "Of 2 known clients") && !strings.Contains(page, "known clients") {
		t.Errorf("draft: %s", page)
	}
	if status, _ := s.as("", "POST", fmt.Sprintf("/ui/drafts/%d/publish", kept.Draft.ID), nil); status != http.StatusOK {
		t.Errorf("publish: %d", status)
	}
	if status, _ := s.as("", "GET", fmt.Sprintf("/ui/drafts/%d", kept.Draft.ID), nil); status != http.StatusConflict {
		t.Errorf("a published draft: %d", status)
	}
}

// A scheduled draft waits for its time, and for those who must agree.
func TestScheduledSignOffs(t *testing.T) {
	t.Parallel()
	c := newClock(2_000_000_000)
	s := withPolicy(t, c)
	back := change("back", operation("rule", "1", ruleBody(1, `, "channel": "release", "mapping": "Fox-90.0"`)))
	back.Draft, back.Scheduled = true, c.now().Add(time.Hour)
	var kept changedBody
	s.must("ann", "POST", "/admin/v1/changes", back, &kept)
	draft := fmt.Sprintf("/admin/v1/drafts/%d", kept.Draft.ID)
	for who, role := range map[string]string{"ann": "releng", "bob": "releng"} {
		s.must(who, "POST", draft+"/signoffs", signOffBody{Hash: kept.Draft.Hash, Role: role}, nil)
	}
	if status, text := s.as("ann", "POST", draft+"/publish", nil); status != http.StatusUnprocessableEntity || !strings.Contains(text, "nobody publishes it earlier") {
		t.Errorf("early: %d: %s", status, text)
	}
	mapping := func() string { return *s.State().Get(state.Ref{Kind: state.Rule, Key: "1"}).Rule().Mapping }
	c.seconds.Add(7200)
	s.PublishDue(t.Context())
	if mapping() != "Fox-91.0" {
		t.Error("published without the third sign-off")
	}
	s.must("cat", "POST", draft+"/signoffs", signOffBody{Hash: kept.Draft.Hash, Role: "relman"}, nil)
	s.PublishDue(t.Context())
	if mapping() != "Fox-90.0" {
		t.Error("signed, and its time has come, but it is not published")
	}
}

// Roles that are limited to products do nothing with others.
func TestLimitedRoles(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) {
		o.Builds = -1
		limited := func(name, product string, roles ...Role) Token {
			k := token(name, roles)
			k.Products = map[Role][]string{}
			for _, r := range roles {
				k.Products[r] = []string{product}
			}
			return k
		}
		o.Tokens = []Token{limited("fox", "Fox", Roles()...), limited("bird", "Bird", Roles()...), limited("off", "Fox", RoleShutoff), token("all", Roles())}
	})
	s.seed()
	edit := func(who, more string, draft bool) int {
		t.Helper()
		c := change("x", operation("rule", "1", json.RawMessage(`{"rule_id": 1, "priority": 100, "backgroundRate": 100, "update_type": "minor", "mapping": "Fox-91.0"`+more+`}`)))
		c.Draft = draft
		status, _ := s.as(who, "POST", "/admin/v1/changes", c)
		return status
	}
	for _, tt := range []struct {
		who, more string
		draft     bool
		want      int
	}{
		{"bird", `, "product": "Fox", "comment": "1"`, false, 403},
		{"bird", `, "product": "Fox", "comment": "1"`, true, 403},
		{"bird", `, "product": "Bird"`, false, 403}, // it is Fox's now
		{"fox", `, "product": "Bird"`, false, 403},
		{"fox", ``, false, 403}, // every product's
		{"off", `, "product": "Fox", "comment": "2"`, false, 403},
		{"fox", `, "product": "Fox", "comment": "3"`, false, 200},
		{"fox", `, "product": "Fox", "comment": "4"`, true, 200},
		{"all", `, "product": "Bird"`, false, 200},
		{"bird", `, "product": "Bird", "comment": "5"`, false, 200},
	} {
		if got := edit(tt.who, tt.more, tt.draft); got != tt.want {
			t.Errorf("%s with %s, draft %v: %d, want %d", tt.who, tt.more, tt.draft, got, tt.want)
		}
	}
	for _, tt := range []struct {
		who, method, path string
		body              any
		want              int
	}{
		{"bird", "GET", "/admin/v1/objects/release/Fox-91.0", nil, 404},
		{"fox", "GET", "/admin/v1/objects/release/Fox-91.0", nil, 200},
		{"bird", "GET", "/admin/v1/explain?url=" + url.QueryEscape(client), nil, 403},
		{"fox", "GET", "/admin/v1/explain?url=" + url.QueryEscape(client), nil, 200},
		{"fox", "GET", "/admin/v1/history", nil, 403},
		{"all", "GET", "/admin/v1/history", nil, 200},
		{"fox", "POST", "/admin/v1/revert", map[string]any{"to": 1}, 403},
		{"bird", "GET", "/admin/v1/drafts/1", nil, 403},
		{"bird", "POST", "/admin/v1/drafts/1/publish", nil, 403},
		{"bird", "DELETE", "/admin/v1/drafts/1", nil, 403},
		{"off", "POST", "/admin/v1/shutoffs", shutoffBody{Product: "Bird", Comment: "x"}, 403},
		{"off", "POST", "/admin/v1/shutoffs", shutoffBody{Comment: "x"}, 403},
		{"off", "POST", "/admin/v1/shutoffs", shutoffBody{Product: "Fox", Comment: "x"}, 200},
		{"bird", "DELETE", "/admin/v1/shutoffs/1", nil, 403},
		{"off", "DELETE", "/admin/v1/shutoffs/1", nil, 200},
		{"fox", "GET", "/ui/rules", nil, 403},
		{"all", "GET", "/ui/rules", nil, 200},
		// Balrog's API has the same limits.
		{"bird", "POST", "/api/v2/releases/Fox-91.0", map[string]any{"blob": map[string]any{"displayVersion": "x"}, "old_data_versions": map[string]int{".": 1}}, 403},
		{"fox", "POST", "/api/v2/releases/Fox-91.0", map[string]any{"blob": map[string]any{"displayVersion": "x"}, "old_data_versions": map[string]int{".": 1}}, 200},
		{"off", "POST", "/api/emergency_shutoff", map[string]any{"product": "Fox", "channel": "x"}, 201},
		{"off", "POST", "/api/emergency_shutoff", map[string]any{"product": "Bird", "channel": "x"}, 403},
		{"bird", "GET", "/api/rules", nil, 403},
		{"all", "GET", "/api/rules", nil, 200},
	} {
		if got, text := s.as(tt.who, tt.method, tt.path, tt.body); got != tt.want {
			t.Errorf("%s %s %s: %d, want %d: %s", tt.who, tt.method, tt.path, got, tt.want, text)
		}
	}
	var list []objectBody
	if s.must("bird", "GET", "/admin/v1/objects/rule", nil, &list); len(list) != 1 {
		t.Errorf("bird sees %d rules, want its own", len(list))
	}
	if s.must("bird", "GET", "/admin/v1/objects/release", nil, &list); len(list) != 0 {
		t.Errorf("bird sees %d releases", len(list))
	}
}

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/balrogapi"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
)

// object is a JSON object.
type object = map[string]any

const build = `{"buildID": "20250401000000", "completes": [{"from": "*", "filesize": 1000, "hashValue": "00", "fileUrl": "https://dl.example/x.mar"}]}`

func mergeOf(locale, more string) object {
	return object{
		"blob":              object{"platforms": object{"Linux": object{"locales": object{locale: json.RawMessage(strings.Replace(build, "{", "{"+more, 1))}}}},
		"old_data_versions": object{"platforms": object{"Linux": object{"locales": object{locale: 1}}}},
	}
}

// Writes that wait together share a snapshot, and what one of them does wrong is its own error.
func TestBalrogTogether(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Builds = -1; o.Tokens = []Token{token("ci", Roles()), token("ann", Roles())} })
	s.seed()
	const n = 40
	statuses, texts := make([]int, n), make([]string, n)
	s.publishing.Lock()
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			who, body := "ci", mergeOf("l"+strconv.Itoa(i), "")
			switch i {
			case 0, 1: // of two that write one locale with one version, one comes later
				body = mergeOf("de", `"displayVersion": "`+strconv.Itoa(i)+`", `)
			case 2: // not on an allowed host
				text, err := json.Marshal(mergeOf("x", ""))
				if err != nil {
					t.Error(err)
				}
				body = object{}
				if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "dl.example", "evil.example")), &body); err != nil {
					t.Error(err)
				}
			case 3:
				who = "ann"
			}
			statuses[i], texts[i] = s.as(who, "POST", "/api/v2/releases/Fox-91.0", body)
		})
	}
	eventually(t, "waiting", func() bool {
		s.writing.mu.Lock()
		defer s.writing.mu.Unlock()
		return len(s.writing.waiting) == n
	})
	s.publishing.Unlock()
	g.Wait()
	for i, status := range statuses {
		want := http.StatusOK
		if i == 2 {
			want = http.StatusBadRequest
		}
		if i > 1 && status != want {
			t.Errorf("write %d: status %d, want %d: %s", i, status, want, texts[i])
		}
	}
	if slices.Sort(statuses[:2]); statuses[0] != 200 || statuses[1] != 400 || !strings.Contains(texts[0]+texts[1], "OutdatedDataError") {
		t.Errorf("two writes of one locale: %v: %s, %s", statuses[:2], texts[0], texts[1])
	}
	if head := s.current.Load().head; head.Seq != 3 {
		t.Errorf("%d snapshots, want one for each of two authors behind the first", head.Seq)
	}
	var r struct {
		Versions struct {
			Base      int64 `json:"."`
			Platforms map[string]struct {
				Locales map[string]int64 `json:"locales"`
			} `json:"platforms"`
		} `json:"data_versions"`
	}
	s.must("ci", "GET", "/api/v2/releases/Fox-91.0/data_versions", nil, &r)
	locales := r.Versions.Platforms["Linux"].Locales
	if r.Versions.Base != 1 || len(locales) != n-3+1 || locales["de"] != 2 || locales["l39"] != 1 {
		t.Errorf("%+v", r)
	}
	history, err := s.book.History(t.Context(), 0, 10, "ci")
	if err != nil || len(history) != 1 || history[0].Author != "ci" || !strings.HasPrefix(history[0].Comment, "POST /v2/releases/Fox-91.0; ") || len(history[0].Comment) > 600 {
		t.Errorf("history: %+v, %v", history, err)
	}

	// A rule has a revision for each write of it, also of such that wait together.
	s.publishing.Lock()
	for i := range 2 {
		g.Go(func() { s.as("ci", "PUT", "/api/rules/1", object{"data_version": i + 1, "comment": strconv.Itoa(i)}) })
		eventually(t, "waiting", func() bool {
			s.writing.mu.Lock()
			defer s.writing.mu.Unlock()
			return len(s.writing.waiting) == i+1
		})
	}
	s.publishing.Unlock()
	g.Wait()
	var revisions struct {
		Rules []struct {
			Comment *string `json:"comment"`
			By      string  `json:"changed_by"`
		} `json:"rules"`
	}
	s.must("ci", "GET", "/api/rules/1/revisions", nil, &revisions)
	if len(revisions.Rules) != 3 || *revisions.Rules[0].Comment != "1" || *revisions.Rules[1].Comment != "0" || revisions.Rules[1].By != "ci" {
		t.Errorf("revisions: %+v", revisions)
	}
}

// Whatever comes in, nothing is answered with a fault of the server, and only what is answered with success changes anything.
func TestBalrogHostile(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Builds = -1 })
	s.seed()
	s.must("", "PUT", "/api/v2/releases/Fox-91.0/pinnable", object{"product": "Fox", "channel": "release", "version": "91."}, nil)
	s.must("", "POST", "/api/emergency_shutoff", object{"product": "Fox", "channel": "beta"}, nil)
	s.must("", "POST", "/api/scheduled_changes/rules", object{"change_type": "update", "rule_id": 1, "data_version": 1, "when": int64(9_000_000_000_000), "comment": "x"}, nil)
	send := func(method, path, body string) {
		t.Helper()
		before := s.current.Load()
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode >= 500 {
			t.Errorf("%s %s %.100s: status %d: %.300s", method, path, body, res.StatusCode, text)
		}
		if res.StatusCode >= 300 && s.current.Load() != before {
			t.Errorf("%s %s %.100s: status %d, but something is published", method, path, body, res.StatusCode)
		}
		if len(s.current.Load().problems) > len(before.problems)+50 || errorsOf(s.current.Load().problems) != nil {
			t.Errorf("%s %s %.100s: what is published has errors: %v", method, path, body, s.current.Load().problems)
		}
	}
	values := []string{
		`true`, `-1`, `1e400`, `99999999999999999999`, `""`, `"\u0000"`, `[[]]`, `{"": {}}`, `{"platforms": {"Linux": {"locales": []}}}`,
		`{"platforms": {"Linux": {"locales": {"de": 5}}}}`, `{"platforms": {".": {"locales": {"": null}}}}`, `{"schema_version": 9, "name": []}`,
		strings.Repeat(`[`, 50) + strings.Repeat(`]`, 50), `"` + strings.Repeat("é", 3000) + `"`, `"((("`,
	}
	routes := []struct {
		method, path, body string
	}{
		{"PUT", "/api/v2/releases/New", `{"product": "Fox", "when": null, "blob": {"name": "New", "schema_version": 9, "hashFunction": "sha512"}}`},
		{"PUT", "/api/v2/releases/Fox-90.0", `{"product": "Fox", "old_data_versions": {".": 1}, "when": null, "blob": {"name": "Fox-90.0", "schema_version": 9, "hashFunction": "sha512"}}`},
		{"POST", "/api/v2/releases/Fox-90.0", `{"product": "Fox", "old_data_versions": {".": 1}, "when": null, "blob": {"displayVersion": "x"}}`},
		{"PUT", "/api/v2/releases/Fox-90.0/read_only", `{"read_only": true, "old_data_version": 1}`},
		{"PUT", "/api/v2/releases/Fox-90.0/pinnable", `{"product": "Fox", "channel": "release", "version": "90.", "when": null}`},
		{"PUT", "/api/v2/releases/Fox-90.0/signoff", `{"role": "x"}`},
		{"POST", "/api/v2/releases/Fox-90.0/enact", `{}`},
		{"POST", "/api/rules", `{"product": "Fox", "mapping": "Fox-90.0", "priority": 1, "backgroundRate": 100, "update_type": "minor", "channel": null, "version": null, "memory": null, "osVersion": null, "locale": null, "jaws": null, "alias": null, "buildID": null, "fallbackMapping": null, "comment": null}`},
		{"PUT", "/api/rules/1", `{"data_version": 1, "mapping": "Fox-90.0", "version": null, "channel": null, "instructionSet": null, "distribution": null}`},
		{"POST", "/api/rules/1/revisions", `{"change_id": 1}`},
		{"POST", "/api/emergency_shutoff", `{"product": "Fox", "channel": "x", "comment": null}`},
		{"POST", "/api/scheduled_changes/rules", `{"change_type": "insert", "when": 9000000000000, "rule_id": 1, "data_version": 1, "mapping": "Fox-90.0", "priority": 1, "backgroundRate": 1, "update_type": "minor"}`},
		{"POST", "/api/scheduled_changes/rules", `{"change_type": "delete", "when": 9000000000000, "rule_id": 1, "data_version": 1}`},
		{"POST", "/api/scheduled_changes/emergency_shutoff", `{"change_type": "delete", "when": 9000000000000, "product": "Fox", "channel": "beta", "data_version": 1}`},
		{"POST", "/api/scheduled_changes/pinnable_releases", `{"change_type": "update", "when": 9000000000000, "product": "Fox", "channel": "release", "version": "91.", "mapping": "Fox-91.0", "data_version": 1}`},
		{"POST", "/api/scheduled_changes/rules/1", `{"sc_data_version": 1, "when": 9000000000000, "priority": 1}`},
		{"POST", "/api/scheduled_changes/rules/1/signoffs", `{"role": "x"}`},
		{"POST", "/oauth/token", `{"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}`},
	}
	for _, r := range routes {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(r.body), &fields); err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{``, `{}`, `[]`, `5`, `{`, `{}{}`, `nul`, strings.Repeat(`{"a":`, 100_000), `{"blob": ` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, "\xff\xfe", r.body + r.body} {
			send(r.method, r.path, body)
		}
		for name := range fields {
			for _, v := range values {
				changed := make(map[string]json.RawMessage, len(fields))
				for k, v := range fields {
					changed[k] = v
				}
				delete(changed, name)
				text, err := json.Marshal(changed)
				if err != nil {
					t.Fatal(err)
				}
				send(r.method, r.path, strings.TrimSuffix(string(text), "}")+map[bool]string{true: ", "}[len(changed) > 0]+strconv.Quote(name)+": "+v+"}")
			}
		}
	}
	for _, path := range []string{
		"/api/rules?timestamp=x", "/api/rules?timestamp=99999999999999999999", "/api/rules?timestamp=-5", "/api/rules/1/revisions?page=0", "/api/rules/1/revisions?limit=99999999999&page=99999999999", "/api/rules/%00", "/api/rules/history?page=9&limit=x",
		"/api/rules/history?timestamp_from=x", "/api/rules/columns/%00", "/api/scheduled_changes/x", "/api/scheduled_changes/rules/x", "/api/scheduled_changes/rules/99999999999999999999", "/api/scheduled_changes/rules/1/revisions?page=-1",
		"/api/v2/releases/%2e%2e", "/api/v2/releases/Fox-90.0/./data_version", "/api/v2/releases/%ff", "/api/v2/pins/a/b/c", "/api/releases/x/builds/y/z", "/api/", "/api/nothing", "/api/users/x", "/api/required_signoffs/product",
		"/api/scheduled_changes/required_signoffs/product/1", "/api/rules/1/else",
	} {
		for _, method := range []string{"GET", "HEAD", "DELETE", "PATCH", "OPTIONS"} {
			send(method, path, "")
		}
	}
	// What is announced as too large is not read.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.url+"/api/v2/releases/New", io.MultiReader(strings.NewReader("{"), neverEnding{}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 1 << 40
	if res, err := http.DefaultClient.Do(r); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a huge body: status %d", res.StatusCode)
		}
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// Scripts get a token by their name and secret, and are told what is configuration here.
func TestBalrogScripts(t *testing.T) {
	t.Parallel()
	c := newClock(2_000_000_000)
	s := start(t, t.TempDir(), func(o *Options) {
		o.Builds, o.Now = -1, c.now
		one := token("one", []Role{RoleRead})
		one.Balrog = map[string]balrogapi.Permission{"rule": {Products: []string{"Fox"}, Actions: []string{"modify"}}}
		o.Tokens = []Token{token("ci", Roles()), one}
	})
	s.seed()
	for _, tt := range []struct {
		grant, id, secret string
		want              int
	}{
		{"client_credentials", "ci", "ci-secret", 200},
		{"client_credentials", "one", "ci-secret", 401},
		{"client_credentials", "ci", "", 401},
		{"client_credentials", "", "", 401},
		{"password", "ci", "ci-secret", 400},
	} {
		for _, send := range []func() (*http.Response, error){
			func() (*http.Response, error) {
				return http.PostForm(s.url+"/oauth/token", url.Values{"grant_type": {tt.grant}, "client_id": {tt.id}, "client_secret": {tt.secret}})
			},
			func() (*http.Response, error) {
				text, err := json.Marshal(object{"grant_type": tt.grant, "client_id": tt.id, "client_secret": tt.secret, "audience": "balrog"})
				if err != nil {
					return nil, err
				}
				return http.Post(s.url+"/oauth/token", "application/json", strings.NewReader(string(text)))
			},
		} {
			res, err := send()
			if err != nil {
				t.Fatal(err)
			}
			var answer struct {
				Token string `json:"access_token"`
				Type  string `json:"token_type"`
			}
			err = json.NewDecoder(res.Body).Decode(&answer)
			res.Body.Close()
			if err != nil || res.StatusCode != tt.want || (answer.Token == "ci-secret" && answer.Type == "Bearer") != (tt.want == 200) {
				t.Errorf("%+v: status %d, %+v, %v", tt, res.StatusCode, answer, err)
			}
		}
	}
	for _, tt := range []struct {
		who, method, path string
		body              any
		want              int
		say               string
	}{
		{"ci", "PUT", "/api/users/x/permissions/rule", object{}, 403, "key tokens"},
		{"ci", "POST", "/api/required_signoffs/product", object{}, 403, "key sign_offs"},
		{"ci", "POST", "/api/scheduled_changes/permissions", object{}, 403, "key tokens"},
		{"ci", "POST", "/api/scheduled_changes/required_signoffs/product", object{}, 403, "key sign_offs"},
		{"ci", "POST", "/api/releases", object{}, 403, "/v2/releases"},
		{"ci", "PUT", "/api/releases/Fox-90.0/builds/Linux/de", object{}, 403, "/v2/releases"},
		{"ci", "POST", "/api/scheduled_changes/releases", object{"change_type": "update"}, 403, "/v2/releases"},
		{"ci", "GET", "/api/releases/Fox-90.0", nil, 200, `"appVersion": "90.0"`},
		{"ci", "GET", "/api/releases/Fox-90.0/builds/Linux/de", nil, 200, "20240301000000"},
		{"ci", "GET", "/api/releases?names_only=1", nil, 200, `"Fox-91.0"`},
		{"ci", "PATCH", "/api/rules/1", object{}, 405, "not allowed"},
		{"one", "PUT", "/api/rules/1", object{"data_version": 1, "comment": "hi"}, 200, `"new_data_version":2`},
		{"one", "PUT", "/api/rules/1", object{"data_version": 2, "product": "Bird"}, 403, "product Bird"},
		{"one", "DELETE", "/api/rules/1?data_version=2", nil, 403, "not allowed to delete"},
		{"one", "POST", "/api/v2/releases/Fox-90.0", object{"blob": object{"displayVersion": "x"}, "old_data_versions": object{".": 1}}, 403, "modify Fox releases"},
		{"nobody", "GET", "/api/rules", nil, 401, "auth required"},
	} {
		if status, text := s.as(tt.who, tt.method, tt.path, tt.body); status != tt.want || !strings.Contains(text, tt.say) {
			t.Errorf("%s %s %s: status %d, want %d with %q: %s", tt.who, tt.method, tt.path, status, tt.want, tt.say, text)
		}
	}

	// A draft of somebody is left alone by writes of its object, and merged when it is published; a scheduled change is rewritten.
	var kept changedBody
	draft := change("of ann", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0", "comment": "hi"`)))
	draft.Draft = true
	s.must("", "POST", "/admin/v1/changes", draft, &kept)
	s.must("ci", "POST", "/api/scheduled_changes/rules", object{"change_type": "update", "rule_id": 1, "data_version": 2, "when": int64(2_000_003_600_000), "channel": "beta"}, nil)
	s.must("ci", "PUT", "/api/rules/1", object{"data_version": 2, "priority": 90}, nil)
	if d, err := s.book.Draft(t.Context(), kept.Draft.ID); err != nil || d.Hash != kept.Draft.Hash || d.Version != 1 {
		t.Errorf("the draft has changed: %+v, %v", d, err)
	}
	scheduled, err := s.book.ScheduledChanges(t.Context(), false)
	if err != nil || len(scheduled) != 1 || scheduled[0].Version != 2 || !strings.Contains(string(scheduled[0].Operations[0].Body), `"priority":90`) {
		t.Fatalf("scheduled: %+v, %v", scheduled, err)
	}
	enact := fmt.Sprintf("/api/scheduled_changes/rules/%d/enact", scheduled[0].ID)
	if status, text := s.as("ci", "POST", enact, object{}); status != 400 || !strings.Contains(text, "before its time") {
		t.Errorf("early: %d: %s", status, text)
	}
	c.seconds.Add(3600)
	if status, text := s.as("ci", "POST", enact, object{}); status != 200 && !strings.Contains(text, "already completed") { // by the server itself
		t.Errorf("enact: %d: %s", status, text)
	}
	if status, text := s.as("ci", "POST", enact, object{}); status != 400 || !strings.Contains(text, "already completed") {
		t.Errorf("enacted twice: %d: %s", status, text)
	}
	s.must("", "POST", fmt.Sprintf("/admin/v1/drafts/%d/publish", kept.Draft.ID), nil, nil)
	if r := s.State().Get(state.Ref{Kind: state.Rule, Key: "1"}).Rule(); *r.Priority != 90 || *r.Channel != "beta" || *r.Mapping != "Fox-90.0" || r.DataVersion != 5 {
		t.Errorf("merged: %+v", r)
	}
	// A number that was one rule's is no other's.
	s.must("ci", "POST", "/api/rules", object{"product": "Fox", "mapping": "Fox-90.0", "priority": 1, "backgroundRate": 100, "update_type": "minor"}, nil)
	s.must("ci", "DELETE", "/api/rules/2?data_version=1", nil, nil)
	var id int64
	if s.must("ci", "POST", "/api/rules", object{"product": "Fox", "mapping": "Fox-90.0", "priority": 1, "backgroundRate": 100, "update_type": "minor"}, &id); id != 3 {
		t.Errorf("a new rule has number %d, want 3", id)
	}
}

// The server's own API and Balrog's count the same data versions.
func TestBalrogVersions(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Builds = -1 })
	s.seed()
	versions := func() string {
		t.Helper()
		var r struct {
			Versions json.RawMessage `json:"data_versions"`
		}
		s.must("", "GET", "/api/v2/releases/Fox-91.0/data_versions", nil, &r)
		return string(r.Versions)
	}
	s.must("", "POST", "/api/v2/releases/Fox-91.0", mergeOf("de", ""), nil)
	if got := versions(); got != `{".":1,"platforms":{"Linux":{"locales":{"de":2}}}}` {
		t.Errorf("by Balrog's API: %s", got)
	}
	body := json.RawMessage(strings.Replace(string(releaseBody("91.0", "20250401000000")), "91.0.mar", "other.mar", 1))
	s.must("", "POST", "/admin/v1/changes", change("x", operation("release", "Fox-91.0", body)), nil)
	if got := versions(); got != `{".":2,"platforms":{"Linux":{"locales":{"de":3}}}}` {
		t.Errorf("by the server's own: %s", got)
	}
	old := mergeOf("de", "")
	old["old_data_versions"] = object{"platforms": object{"Linux": object{"locales": object{"de": 2}}}}
	if status, text := s.as("", "POST", "/api/v2/releases/Fox-91.0", old); status != 400 || !strings.Contains(text, "OutdatedDataError") {
		t.Errorf("on what it was: %d: %s", status, text)
	}
	// Another process reads the same from the book.
	st, err := s.book.State(context.WithoutCancel(t.Context()), s.current.Load().head.Seq, nil)
	if err != nil || st.Get(state.Ref{Kind: state.Release, Key: "Fox-91.0"}).AssetVersion("Linux", "de") != 3 {
		t.Errorf("read again: %v", err)
	}
}

package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/database"
)

func TestChanges(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	if status := s.call("GET", "/__heartbeat__", nil, nil); status != http.StatusServiceUnavailable {
		t.Errorf("heartbeat before anything is published: %d", status)
	}
	if got := s.offered(client); got != "" {
		t.Errorf("before anything is published: %q", got)
	}
	s.seed()
	if got := s.offered(client); got != "91.0" {
		t.Errorf("offers %q, want 91.0", got)
	}
	var problem string
	for _, tt := range []struct {
		name   string
		change changeBody
		status int
		say    string
	}{
		{"a column that does not parse", change("x", operation("rule", "2", ruleBody(2, `, "memory": "abc", "mapping": "Fox-91.0"`))), 422, "is not a number of megabytes"},
		{"a mapping to nothing", change("x", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-92.0"`))), 422, `there is no release \"Fox-92.0\"`},
		{"a release that is mapped", change("x", operation("release", "Fox-91.0", nil)), 422, `there is no release \"Fox-91.0\"`},
		{"a column that does not exist", change("x", operation("rule", "2", ruleBody(2, `, "colour": "red"`))), 422, "colour"},
		{"another number", change("x", operation("rule", "2", ruleBody(3, ""))), 422, "the body is that of"},
		{"a hash that is too short", change("x", operation("release", "Fox-91.0", json.RawMessage(strings.Replace(string(releaseBody("91.0", "20250401000000")), "202020", "", 1)))), 422, "want 128 of sha512"},
		{"a host that is not allowed", change("x", operation("release", "Fox-91.0", json.RawMessage(strings.Replace(string(releaseBody("91.0", "20250401000000")), "dl.example", "evil.example", 1)))), 422, "on a host that is not allowed"},
		{"nothing", change("x", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0"`))), 422, "nothing changes"},
		{"no operations", changeBody{Comment: "x", Operations: []operationBody{}}, 422, "operations"},
		{"no comment", change("", operation("rule", "1", nil)), 422, "comment"},
		{"another kind", change("x", operation("user", "1", nil)), 422, "kind"},
		{"not JSON in a release", change("x", operation("release", "R", json.RawMessage(`{"product": "Fox", "blob": 5}`))), 422, "want an object"},
	} {
		if status := s.call("POST", "/admin/v1/changes", tt.change, &problem); status != tt.status || !strings.Contains(problem, tt.say) {
			t.Errorf("%s: status %d, want %d with %q: %s", tt.name, status, tt.status, tt.say, problem)
		}
	}
	var st statusBody
	if s.call("GET", "/admin/v1/status", nil, &st); st.Snapshot.Seq != 1 || st.Objects["release"] != 2 || len(st.Problems) != 0 {
		t.Errorf("after refusals: %+v", st)
	}

	// Two people change one rule: what they changed apart is merged, what they changed alike is a conflict.
	var rule objectBody
	s.call("GET", "/admin/v1/objects/rule/1", nil, &rule)
	first := operationBody{Kind: "rule", Key: "1", Before: &rule.Hash, Body: ruleBody(1, `, "mapping": "Fox-90.0"`)}
	second := operationBody{Kind: "rule", Key: "1", Before: &rule.Hash, Body: ruleBody(1, `, "mapping": "Fox-91.0", "channel": "release"`)}
	third := operationBody{Kind: "rule", Key: "1", Before: &rule.Hash, Body: ruleBody(1, `, "mapping": null`)}
	var done changedBody
	if status := s.call("POST", "/admin/v1/changes", change("back to 90.0", first), &done); status != 200 || done.Snapshot.Seq != 2 {
		t.Errorf("first: %d %+v", status, done)
	}
	if status := s.call("POST", "/admin/v1/changes", change("release only", second), &done); status != 200 || done.Snapshot.Seq != 3 {
		t.Errorf("second: %d %+v", status, done)
	}
	if status := s.call("POST", "/admin/v1/changes", change("nothing", third), &problem); status != 409 || !strings.Contains(problem, "both changed mapping") {
		t.Errorf("third: %d %s", status, problem)
	}
	s.call("GET", "/admin/v1/objects/rule/1", nil, &rule)
	if body := string(rule.Body); !strings.Contains(body, `"mapping":"Fox-90.0"`) || !strings.Contains(body, `"channel":"release"`) || !strings.Contains(body, `"data_version":3`) {
		t.Errorf("merged: %s", body)
	}
	if got := s.offered(client); got != "90.0" {
		t.Errorf("offers %q, want 90.0", got)
	}

	// Any time can be looked at, and gone back to.
	var x Explanation
	s.call("GET", "/admin/v1/explain?url="+client+"&at=1", nil, &x)
	if x.Release != "Fox-91.0" || x.Snapshot != 1 {
		t.Errorf("as of snapshot 1: %+v", x)
	}
	s.call("GET", "/admin/v1/explain?url="+client+"&at="+time.Now().UTC().Add(time.Minute).Format(time.RFC3339), nil, &x)
	if x.Release != "Fox-90.0" || x.Rule != 1 || len(x.Rules) != 1 || !x.Rules[0].Decides {
		t.Errorf("now: %+v", x)
	}
	var head book.Snapshot
	if status := s.call("POST", "/admin/v1/revert", map[string]any{"to": 1}, &head); status != 200 || head.Seq != 4 {
		t.Errorf("revert: %d %+v", status, head)
	}
	if first, err := s.book.Snapshot(t.Context(), 1); err != nil || first.Hash != head.Hash || s.offered(client) != "91.0" {
		t.Errorf("after reverting: hash %s, want %s; %v", head.Hash, first.Hash, err)
	}
	if status := s.call("POST", "/admin/v1/revert", map[string]any{"to": 99}, &problem); status != 404 {
		t.Errorf("revert to nothing: %d %s", status, problem)
	}

	// History is whole and searchable.
	var list []book.Snapshot
	if s.call("GET", "/admin/v1/history", nil, &list); len(list) != 4 || list[0].Comment != "revert to snapshot 1" || list[0].Author != "local" {
		t.Errorf("history: %+v", list)
	}
	if s.call("GET", "/admin/v1/history?q=BACK+rule", nil, &list); len(list) != 1 || list[0].Seq != 2 {
		t.Errorf("found: %+v", list)
	}
	var table string
	if s.call("GET", "/admin/v1/history?format=csv&limit=2", nil, &table); strings.Count(table, "\n") != 3 || !strings.HasPrefix(table, "snapshot,at,author,comment,draft,hash\n4,") {
		t.Errorf("CSV: %s", table)
	}
	var changes changesBody
	if s.call("GET", "/admin/v1/history/2", nil, &changes); len(changes.Changes) != 1 || changes.Changes[0].Ref != (state.Ref{Kind: state.Rule, Key: "1"}) || changes.Changes[0].Before == "" {
		t.Errorf("changes: %+v", changes)
	}
	// A server that starts anew answers the same.
	again := start(t, copyOf(t, s), nil)
	if got := again.offered(client); got != "91.0" || again.current.Load().head.Hash != head.Hash {
		t.Errorf("after a restart: offers %q from %+v", got, again.current.Load().head)
	}
}

// copyOf is a data directory with a backup of a server's book.
func copyOf(t *testing.T, s *testServer) string {
	t.Helper()
	dir := t.TempDir()
	if s.opts.Postgres != "" {
		databases.Store(dir, s.opts.Postgres)
		if err := s.Close(); err != nil { // a database has one server
			t.Fatal(err)
		}
	} else if err := database.CopySQLite(t.Context(), s.dir+"/ausd.db", dir+"/ausd.db"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	s.seed()
	locked := json.RawMessage(strings.Replace(string(releaseBody("90.0", "20240301000000")), `"read_only": false`, `"read_only": true`, 1))
	changed := json.RawMessage(strings.Replace(string(locked), `"displayVersion": "90.0"`, `"displayVersion": "x"`, 1))
	for i, tt := range []struct {
		body   json.RawMessage
		status int
	}{{locked, 200}, {changed, 422}, {nil, 422}, {releaseBody("90.0", "20240301000000"), 200}, {nil, 200}} {
		var said string
		if status := s.call("POST", "/admin/v1/changes", change("x", operation("release", "Fox-90.0", tt.body)), &said); status != tt.status {
			t.Errorf("%d: status %d, want %d: %s", i, status, tt.status, said)
		}
	}
}

func TestDrafts(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	s.seed()
	draft := func(when time.Time, mapping string) (int, book.Draft, string) {
		t.Helper()
		c := change("to "+mapping, operation("rule", "1", ruleBody(1, `, "mapping": "`+mapping+`"`)))
		c.Draft, c.Scheduled = true, when
		var text string
		status := s.call("POST", "/admin/v1/changes", c, &text)
		var done changedBody
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(text), &done); err != nil {
				t.Fatal(err)
			}
			return status, *done.Draft, text
		}
		return status, book.Draft{}, text
	}
	if status, _, text := draft(time.Time{}, "Fox-99.0"); status != 422 {
		t.Errorf("a draft that cannot be served: %d %s", status, text)
	}
	_, d, _ := draft(time.Time{}, "Fox-90.0")
	if got := s.offered(client); got != "91.0" {
		t.Errorf("a draft changes what is offered: %q", got)
	}
	var list []book.Draft
	if s.call("GET", "/admin/v1/drafts", nil, &list); len(list) != 1 || list[0].ID != d.ID || list[0].Author != "local" {
		t.Errorf("drafts: %+v", list)
	}
	path := fmt.Sprintf("/admin/v1/drafts/%d", d.ID)
	var head book.Snapshot
	if status := s.call("POST", path+"/publish", nil, &head); status != 200 || head.Draft != d.ID || s.offered(client) != "90.0" {
		t.Errorf("publish: %d %+v", status, head)
	}
	var said string
	for _, tt := range []struct{ method, path string }{{"POST", path + "/publish"}, {"DELETE", path}} {
		if status := s.call(tt.method, tt.path, nil, &said); status != 409 || !strings.Contains(said, "published") {
			t.Errorf("%s of a published draft: %d %s", tt.method, status, said)
		}
	}
	if status := s.call("POST", "/admin/v1/drafts/99/publish", nil, &said); status != 404 {
		t.Errorf("a draft that is not there: %d %s", status, said)
	}
	// Nobody enacts a scheduled draft before its time; then it enacts itself.
	_, later, _ := draft(time.Now().Add(time.Hour), "Fox-91.0")
	if status := s.call("POST", fmt.Sprintf("/admin/v1/drafts/%d/publish", later.ID), nil, &said); status != 422 || !strings.Contains(said, "nobody publishes it earlier") {
		t.Errorf("early: %d %s", status, said)
	}
	if status := s.call("DELETE", fmt.Sprintf("/admin/v1/drafts/%d", later.ID), nil, nil); status >= 300 {
		t.Errorf("withdraw: %d", status)
	}
	_, soon, _ := draft(time.Now().Add(time.Second), "Fox-91.0")
	eventually(t, "published by itself", func() bool { return s.offered(client) == "91.0" })
	if h := s.current.Load().head; h.Draft != soon.ID || h.At.Before(soon.Scheduled) {
		t.Errorf("published as %+v, scheduled for %v", h, soon.Scheduled)
	}
	// One that cannot be published when its time has come says why, and stays.
	_, broken, _ := draft(time.Now().Add(2*time.Second), "Fox-90.0")
	if status := s.call("POST", "/admin/v1/changes", change("remove", operation("release", "Fox-90.0", nil)), &said); status != 200 {
		t.Fatalf("remove: %d %s", status, said)
	}
	eventually(t, "taken off the schedule", func() bool {
		got, err := s.book.Draft(t.Context(), broken.ID)
		return err == nil && got.Scheduled.IsZero() && got.State == book.DraftOpen && strings.Contains(got.Reason, "there is no release")
	})
}

func TestShutoffs(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	s := start(t, t.TempDir(), func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	s.seed()
	shut := func(b shutoffBody) shutoffDone {
		t.Helper()
		b.Comment = "it crashes"
		var done shutoffDone
		if status := s.call("POST", "/admin/v1/shutoffs", b, &done); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return done
	}
	cached := func() string {
		t.Helper()
		res, err := http.Get(s.url + client)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header.Get("Cache-Control")
	}
	if got := cached(); got != "public, max-age=90" {
		t.Errorf("Cache-Control %q", got)
	}
	f := shut(shutoffBody{Product: "Fox", Only: map[string]string{"osVersion": "Linux", "version": "<90.0"}})
	if got := s.offered(client); got != "" {
		t.Errorf("shut off, it offers %q", got)
	}
	if got := s.offered(strings.Replace(client, "89.0", "90.0", 1)); got != "91.0" {
		t.Errorf("another version is offered %q", got)
	}
	if got := cached(); got != "public, max-age=15" {
		t.Errorf("Cache-Control %q while a shutoff is on", got)
	}
	if status := s.call("DELETE", fmt.Sprintf("/admin/v1/shutoffs/%d", f.Shutoff.ID), nil, nil); status != 200 || s.offered(client) != "91.0" {
		t.Errorf("lifting: status %d, offers %q", status, s.offered(client))
	}
	if status := s.call("DELETE", fmt.Sprintf("/admin/v1/shutoffs/%d", f.Shutoff.ID), nil, nil); status != 404 {
		t.Errorf("lifting again: status %d", status)
	}
	shut(shutoffBody{Product: "Fox", Channel: "release", Instead: "Fox-90.0", Expires: time.Now().Add(3 * time.Second)})
	if got := s.offered(client); got != "90.0" {
		t.Errorf("instead it offers %q", got)
	}
	if got := cached(); got != "public, max-age=2" && got != "public, max-age=1" {
		t.Errorf("Cache-Control %q, which reaches past the end", got)
	}
	later.Store(int64(3 * time.Second))
	if got := s.offered(client); got != "91.0" {
		t.Errorf("when it is over it offers %q", got)
	}
	if got := cached(); got != "public, max-age=90" {
		t.Errorf("Cache-Control %q when it is over", got)
	}
	for name, b := range map[string]shutoffBody{
		"a column that does not parse": {Comment: "x", Only: map[string]string{"memory": "abc"}},
		"a column that does not exist": {Comment: "x", Only: map[string]string{"colour": "red"}},
		"a release that is not there":  {Comment: "x", Instead: "Fox-1.0"},
		"an end in the past":           {Comment: "x", Expires: time.Now().Add(-time.Second)},
		"no reason":                    {},
	} {
		var said string
		if status := s.call("POST", "/admin/v1/shutoffs", b, &said); status != 422 {
			t.Errorf("%s: status %d: %s", name, status, said)
		}
	}
}

// A preview says what clients would see, and changes nothing.
func TestPreview(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	s.seed()
	preview := func(operations ...operationBody) Preview {
		t.Helper()
		var p Preview
		if status := s.call("POST", "/admin/v1/preview", change("x", operations...), &p); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return p
	}
	// The client of 90.0 is offered 91.0, that of 91.0 nothing.
	p := preview(operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`)))
	if p.Clients != 2 || p.Changed != 1 || p.LoseUpdate != 1 || len(p.Groups) != 1 || p.Groups[0].Before != "Fox-91.0" || p.Groups[0].After != "no update: not-newer" || len(p.Groups[0].Examples) != 1 || p.Refused != "" {
		t.Errorf("back to 90.0: %+v", p)
	}
	if got := s.offered(p.Groups[0].Examples[0]); got != "91.0" {
		t.Errorf("the example is offered %q", got)
	}
	p = preview(operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0", "channel": "beta"`)), operation("rule", "2", ruleBody(2, `, "mapping": null, "channel": "release"`)))
	if p.Clients != 4 || p.Changed != 1 || p.LoseUpdate != 1 || p.Operations != 2 {
		t.Errorf("by channel: %+v", p)
	}
	if p = preview(operation("rule", "1", ruleBody(1, `, "mapping": "Fox-99.0"`))); p.Refused == "" || p.LoseUpdate != 1 {
		t.Errorf("to nothing: %+v", p)
	}
	made := operation("made", strings.Repeat("20", 64)+"/"+strings.Repeat("20", 64), json.RawMessage(`{"from": "`+strings.Repeat("20", 64)+`", "to": "`+strings.Repeat("20", 64)+`", "url": "`+s.url+`/p.mar", "size": 9, "hash": "`+strings.Repeat("20", 64)+`", "hash_function": "sha512"}`))
	if p = preview(made); p.Changed != 1 || p.GainPartial != 1 || p.Groups[0].After != "Fox-91.0 with a partial" {
		t.Errorf("with a partial: %+v", p)
	}
	if s.current.Load().head.Seq != 1 {
		t.Error("a preview published something")
	}
	c := change("later", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`)))
	c.Draft = true
	var done changedBody
	if status := s.call("POST", "/admin/v1/changes", c, &done); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if status := s.call("GET", fmt.Sprintf("/admin/v1/drafts/%d/preview", done.Draft.ID), nil, &p); status != http.StatusOK || p.LoseUpdate != 1 {
		t.Errorf("of a draft: %d %+v", status, p)
	}
}

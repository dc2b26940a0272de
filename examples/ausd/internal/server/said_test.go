package server

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/aus"
)

// A client that asks what another one asked gets what the snapshot answers; what the clock or a die decides is not remembered.
func TestSaid(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	now := func() time.Time { return time.Unix(clock.Load(), 0).UTC() }
	s := start(t, t.TempDir(), func(o *Options) { o.Now = now })
	s.seed()
	old := ruleBody(2, `, "priority": 200, "buildTarget": "Darwin_x86", "headerArchitecture": "PPC", "mapping": "Fox-90.0"`)
	if status := s.call("POST", "/admin/v1/changes", change("an architecture", operation("rule", "2", old)), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	handler := s.Handler()
	ask := func(method, url, agent string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, url, nil)
		r.Header.Set("User-Agent", agent)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	urls := []string{client, client + "?force=1", strings.Replace(client, "/Linux/", "/Haiku/", 1), strings.Replace(client, "/Fox/", "/Wolf/", 1), strings.Replace(client, "Linux/de", "Darwin_x86/de", 1)}
	for i := range 3 {
		for _, url := range urls {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				for _, agent := range []string{"", "Mozilla/5.0 (Macintosh; PPC)"} {
					got := ask(method, url, agent)
					want := s.current.Load().snapshot.Respond(aus.Request{Method: method, URL: url, Base: s.base, Header: http.Header{"User-Agent": {agent}}}, aus.Env{Now: now()})
					if got.Code != want.Status || got.Body.String() != string(want.Body) || !maps.EqualFunc(got.Header(), want.Header, slices.Equal) {
						t.Errorf("%d: %s %s: %d %s\n%s", i, method, url, got.Code, got.Body, cmp.Diff(want.Header, got.Header()))
					}
				}
			}
		}
	}
	remembered := func(url string) bool {
		k, _ := keyOf(httptest.NewRequest(http.MethodGet, url, nil), url)
		return s.current.Load().said.get(k) != nil
	}
	if ask(http.MethodGet, client, ""); !remembered(client) || remembered("/api/v1/rules") {
		t.Errorf("remembered: %v, %v", remembered(client), remembered("/api/v1/rules"))
	}
	var counts countsBody
	if s.call("GET", "/admin/v1/counts", nil, &counts); counts.Outcomes["update"] < 3*4 {
		t.Errorf("%v: answers that were remembered are not counted", counts.Outcomes)
	}

	// What is published is answered at once.
	if status := s.call("POST", "/admin/v1/changes", change("back", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-90.0"`))), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	if got := s.offered(client); got != "90.0" {
		t.Errorf("%q is offered", got)
	}
	// A die.
	half := strings.Replace(string(ruleBody(1, `, "mapping": "Fox-91.0", "fallbackMapping": "Fox-90.0"`)), `"backgroundRate": 100`, `"backgroundRate": 50`, 1)
	if status := s.call("POST", "/admin/v1/changes", change("half", operation("rule", "1", []byte(half))), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	s.offered(client)
	if remembered(client) {
		t.Error("a die's answer is remembered")
	}
	// The clock.
	if status := s.call("POST", "/admin/v1/changes", change("all, but stopped for an hour", operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0"`)),
		operation("shutoff", "new", []byte(fmt.Sprintf(`{"product": "Fox", "channel": "release", "comment": "x", "expires": %q}`, now().Add(time.Hour).Format(time.RFC3339))))), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	if got := s.offered(client); got != "" || remembered(client) {
		t.Errorf("%q is offered under a shutoff, remembered %v", got, remembered(client))
	}
	clock.Add(2 * 60 * 60)
	if got := s.offered(client); got != "91.0" {
		t.Errorf("%q is offered behind the shutoff", got)
	}
}

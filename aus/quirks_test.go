package aus_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/aus"
)

// What Balrog does and what this package does instead, one by one. An answer here is "status offered version", or a part
// of the body where that is what differs.
func TestQuirks(t *testing.T) {
	t.Parallel()
	old := path("89.0", "20240201000000", "de", "release", "")
	app9 := func(locale string) string {
		return fmt.Sprintf(`{"name": "Fox-91.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "91.0", "displayVersion": "91.0",
			"platforms": {%q: {"locales": {"de": %s}}}}`, target, locale)
	}
	completeOnly := fmt.Sprintf(`"completes": [{"from": "*", "filesize": 1000, "hashValue": %q, "fileUrl": "https://dl.example/91.mar"}]`, sum)
	partialFrom := fmt.Sprintf(`"partials": [{"from": "Fox-89.0", "filesize": 10, "hashValue": %q, "fileUrl": "https://dl.example/p.mar"}]`, sum)
	mapped := `{"product": "Fox", "mapping": "Fox-91.0"}`
	tests := []struct {
		quirk     aus.Quirk
		name      string
		rules     []string
		releases  []string // besides a 91.0 of its own where the name is not taken
		path      string
		strict    string
		ours      string
		problem   aus.Severity
		noProblem bool
	}{
		{quirk: aus.QuirkExtraParameters, rules: []string{mapped}, path: old + "?_=123", strict: "400", ours: "200 91.0", noProblem: true},
		{
			quirk: aus.QuirkMessage, name: "gmp", rules: []string{`{"product": "Fox", "mapping": "G"}`}, path: old, noProblem: false,
			releases: []string{fmt.Sprintf(`{"name": "G", "schema_version": 1000, "hashFunction": "sha512", "vendors": {"v": {"version": "1", "platforms": {%q: {"alias": "no"}}}}}`, target)},
			strict:   "400 No platform '%s' in vendor '%s' no v", ours: "400 No platform 'no' in vendor 'v'",
		},
		{quirk: aus.QuirkNullPriority, rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "priority": null}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkNullRate, rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "backgroundRate": null}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkMapping, rules: []string{`{"product": "Fox", "mapping": "Fox-92.0"}`}, path: old, strict: "500", ours: "200", problem: aus.SeverityError},
		{quirk: aus.QuirkMapping, name: "schema 7", rules: []string{`{"product": "Fox", "mapping": "F"}`}, path: old, strict: "500", ours: "200", problem: aus.SeverityError, releases: []string{`{"name": "F", "schema_version": 7}`}},
		{quirk: aus.QuirkRuleColumn, rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "memory": "abc"}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkRuleColumn, name: "version", rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "version": "=1"}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkRuleColumn, name: "buildID", rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "buildID": "<"}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkRuleColumn, name: "operator and wildcard", rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "version": "<=89.*"}`}, path: old, strict: "400", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkShortGlob, rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "channel": "*"}`}, path: old, strict: "200", ours: "200 91.0"},
		{quirk: aus.QuirkChannelRegexp, rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "channel": "(release)*"}`}, path: old, strict: "200 91.0", ours: "200"},
		{quirk: aus.QuirkChannelRegexp, name: "none", rules: []string{mapped, `{"product": "Fox", "mapping": "Fox-91.0", "channel": "(release*"}`}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkBuildIDOrder, rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "buildID": ">9"}`}, path: old, strict: "200", ours: "200 91.0", noProblem: true},
		{quirk: aus.QuirkBuildIDOrder, name: "of a release", rules: []string{mapped}, path: path("91.0", "9", "de", "release", ""), strict: "200", ours: "200 91.0", noProblem: true},
		{quirk: aus.QuirkEmptyTerm, rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "osVersion": "Darwin,"}`}, path: old, strict: "200 91.0", ours: "200", problem: aus.SeverityError},
		{quirk: aus.QuirkBuildIDNumber, rules: []string{mapped}, releases: []string{app9(`{"buildID": 20240401000000, ` + completeOnly + `}`)}, path: path("91.0", "20240201000000", "de", "release", ""), strict: "500", ours: "200 91.0"},
		{quirk: aus.QuirkUnknownPlatform, rules: []string{mapped}, path: strings.Replace(path("91.0", "20240201000000", "de", "release", ""), target, "Plan9", 1), strict: "400 Can't find platform '%s' Plan9", ours: "200", noProblem: true},
		{quirk: aus.QuirkUnknownLocale, rules: []string{mapped}, path: path("89.0", "20240201000000", "xx", "release", ""), strict: "400 No such locale 'xx'", ours: "200", noProblem: true},
		{quirk: aus.QuirkEscaping, rules: []string{mapped}, releases: []string{strings.Replace(app9(`{"buildID": "20240401000000", `+completeOnly+`}`), `"displayVersion": "91.0"`, `"displayVersion": "a \"b\" <c> &lt; &amp;"`, 1)}, path: old, strict: `200 displayVersion="a "b" <c> &amp;lt; &amp;"`, ours: `200 displayVersion="a &quot;b&quot; &lt;c&gt; &amp;lt; &amp;"`},
		{quirk: aus.QuirkNoPatch, rules: []string{mapped}, releases: []string{app9(`{"buildID": "20240401000000"}`)}, path: old, strict: "200 91.0", ours: "200"},
		{quirk: aus.QuirkFromLocale, rules: []string{mapped}, releases: []string{
			app9(`{"buildID": "20240401000000", ` + completeOnly + `, ` + partialFrom + `}`),
			fmt.Sprintf(`{"name": "Fox-89.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "89.0", "platforms": {%q: {"locales": {"fr": {"buildID": "20240201000000"}}}}}`, target),
		}, path: old, strict: "500", ours: "200 91.0"},
		{quirk: aus.QuirkReplacement, rules: []string{mapped}, releases: []string{fmt.Sprintf(`{"name": "Fox-91.0", "schema_version": 4, "hashFunction": "sha512", "appVersion": "91.0", "displayVersion": "91.0", "fileUrls": {"*": {"completes": {"*": "https://dl.example/%%LOCALE%%"}}},
			"platforms": {%q: {"locales": {"de": {"buildID": "20240401000000", "completes": [{"from": "*", "filesize": 1, "hashValue": %q}]}}}}}`, target, sum)}, path: old, strict: "500", ours: `200 URL="https://dl.example/de"`},
		{quirk: aus.QuirkIncomplete, name: "group without for", rules: []string{mapped}, releases: []string{strings.Replace(app9(`{"buildID": "20240401000000", `+completeOnly+`}`), `"platforms"`, `"updateLine": [{"fields": {"actions": "x"}}], "platforms"`, 1)}, path: old, strict: "500", ours: "200 91.0", problem: aus.SeverityError},
		{quirk: aus.QuirkIncomplete, name: "required", rules: []string{`{"product": "Fox", "mapping": "V"}`}, path: "/json/1/Fox/2.0/" + target + "/release/update.json", releases: []string{fmt.Sprintf(`{"name": "V", "product": "Fox", "schema_version": 10000, "version": "3.0", "hashFunction": "sha512", "platforms": {%q: {"fileUrl": "https://dl.example/v", "hashValue": %q}}}`, target, sum)}, strict: "500", ours: `200 "required": false`, problem: aus.SeverityError},
		{quirk: aus.QuirkEmptyPlatforms, rules: []string{mapped}, releases: []string{`{"name": "Fox-91.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "91.0", "platforms": {}}`}, path: old, strict: "500", ours: "200", problem: aus.SeverityError},
		{quirk: aus.QuirkClientFault, name: "channel without fileUrls", rules: []string{mapped}, releases: []string{fmt.Sprintf(`{"name": "Fox-91.0", "schema_version": 3, "hashFunction": "sha512", "appVersion": "91.0", "fileUrls": {"beta": "https://dl.example/"},
			"platforms": {%q: {"OS_FTP": "w", "OS_BOUNCER": "w", "locales": {"de": {"buildID": "20240401000000", "completes": [{"from": "*", "filesize": 1, "hashValue": %q}]}}}}}`, target, sum)}, path: old, strict: "500", ours: "200"},
		{quirk: aus.QuirkClientFault, name: "complete without address", rules: []string{mapped}, releases: []string{fmt.Sprintf(`{"name": "Fox-91.0", "schema_version": 9, "hashFunction": "sha512", "appVersion": "91.0", "fileUrls": {"beta": {"completes": {"*": "https://dl.example/"}}},
			"platforms": {%q: {"OS_FTP": "w", "OS_BOUNCER": "w", "locales": {"de": {"buildID": "20240401000000", "completes": [{"from": "*", "filesize": 1, "hashValue": %q}]}}}}}`, target, sum)}, path: old, strict: "500", ours: "200"},
		{quirk: aus.QuirkClientFault, name: "JSON of what has none", rules: []string{`{"product": "Fox", "mapping": "G"}`}, releases: []string{`{"name": "G", "schema_version": 1000, "hashFunction": "sha512", "vendors": {}}`}, path: "/json/1/Fox/2.0/" + target + "/release/update.json", strict: "500", ours: "404", noProblem: true},
		{quirk: aus.QuirkVersionGrammar, rules: []string{mapped}, path: path("90.0b3", "20240201000000", "de", "release", ""), strict: "400", ours: "200 91.0", noProblem: true},
		{quirk: aus.QuirkVersionGrammar, name: "of a newer client", rules: []string{mapped}, path: path("120.0-1", "20240201000000", "de", "release", ""), strict: "400", ours: "200", noProblem: true},
		{quirk: aus.QuirkVersionGrammar, name: "of a rule", rules: []string{`{"product": "Fox", "mapping": "Fox-91.0", "version": "<1.0.2-b.4"}`}, path: path("1.0.1", "20240201000000", "de", "release", ""), strict: "200 91.0", ours: "200 91.0"},
		{quirk: aus.QuirkVersionGlob, rules: []string{mapped}, path: path("90.*", "20240201000000", "de", "release", ""), strict: "200 91.0", ours: "200", noProblem: true},
	}
	seen := map[aus.Quirk]bool{}
	for _, tt := range tests {
		seen[tt.quirk] = true
		t.Run(strings.TrimSpace(tt.quirk.String()+" "+tt.name), func(t *testing.T) {
			t.Parallel()
			config := aus.Config{Rules: rules(t, tt.rules...), AllowList: allow()}
			own := true
			for _, document := range tt.releases {
				_, rest, _ := strings.Cut(document, `"name": "`)
				name, _, _ := strings.Cut(rest, `"`)
				config.Releases = append(config.Releases, release(t, name, document))
				own = own && name != "Fox-91.0"
			}
			if own {
				config.Releases = append(config.Releases, build(t, "91.0", `"20240401000000"`, ""))
			}
			s, problems := aus.Compile(config)
			strict, ours := ask(s.Strict(), tt.path), ask(s, tt.path)
			check(t, "strict", strict, tt.strict)
			check(t, "default", ours, tt.ours)
			if !ours.Quirks.Has(tt.quirk) || !strict.Quirks.Has(tt.quirk) {
				t.Errorf("quirks %q, strictly %q, want %v in both", ours.Quirks, strict.Quirks, tt.quirk)
			}
			found := false
			for _, p := range problems {
				found = found || p.Quirk == tt.quirk && p.Severity == tt.problem
			}
			if found == tt.noProblem {
				t.Errorf("problems %v, want %v of severity %v: %v", problems, tt.quirk, tt.problem, !tt.noProblem)
			}
		})
	}
	// These have tests of their own.
	for _, q := range []aus.Quirk{aus.QuirkSquash, aus.QuirkConflicts, aus.QuirkBuildNull, aus.QuirkStickyThrottle} {
		seen[q] = true
	}
	for q := aus.Quirk(1); q <= 31; q++ {
		switch q {
		case 16, 23, 24, 25, 27, 28: // no answer meets these
		default:
			if !seen[q] {
				t.Errorf("%v has no test", q)
			}
		}
	}
}

func check(t *testing.T, mode string, r aus.Response, want string) {
	t.Helper()
	status, rest, _ := strings.Cut(want, " ")
	if fmt.Sprint(r.Status) != status {
		t.Errorf("%s: status %d, want %s; body %s", mode, r.Status, status, r.Body)
		return
	}
	switch got := offers(r.Body); {
	case strings.ContainsAny(rest, `"' `):
		if !strings.Contains(string(r.Body), rest) {
			t.Errorf("%s: body %s, want %s in it", mode, r.Body, rest)
		}
	case got != rest && r.Status == http.StatusOK:
		t.Errorf("%s: offers %q, want %q", mode, got, rest)
	}
}

func TestSquash(t *testing.T) {
	t.Parallel()
	const name = "Firefox-mozilla-central-nightly-latest"
	document := strings.ReplaceAll(build(t, "91.0", `"20240401000000"`, "").Document(), "Fox-91.0", name)
	s, _ := aus.Compile(aus.Config{Rules: rules(t, `{"mapping": "`+name+`"}`), Releases: []*aus.Release{release(t, name, document)}, AllowList: allow()})
	for _, id := range []string{"20190103220533", "20190104093221"} {
		strict, ours := ask(s.Strict(), path("66.0a1", id, "de", "nightly", "")), ask(s, path("66.0a1", id, "de", "nightly", ""))
		if strings.Contains(string(strict.Body), "\n") || !strings.Contains(string(ours.Body), "\n    <update ") || !ours.Quirks.Has(aus.QuirkSquash) {
			t.Errorf("%s: strict %q, default %q, quirks %v", id, strict.Body, ours.Body, ours.Quirks)
		}
	}
}

func TestUnknownBuild(t *testing.T) {
	t.Parallel()
	s, _ := aus.Compile(aus.Config{Releases: []*aus.Release{build(t, "91.0", `"1"`, "")}})
	const url = "/api/v1/releases/Fox-91.0/builds/" + target + "/fr"
	if r := ask(s.Strict(), url); r.Status != http.StatusOK || string(r.Body) != "null" {
		t.Errorf("strict: %d %s", r.Status, r.Body)
	}
	if r := ask(s, url); r.Status != http.StatusNotFound || !r.Quirks.Has(aus.QuirkBuildNull) {
		t.Errorf("default: %d %s, quirks %v", r.Status, r.Body, r.Quirks)
	}
}

// A client that is known stays on its side of a background rate, and the rate is what it says.
func TestSticky(t *testing.T) {
	t.Parallel()
	s, _ := aus.Compile(aus.Config{
		Rules:    rules(t, `{"product": "Fox", "mapping": "Fox-91.0", "backgroundRate": 30}`),
		Releases: []*aus.Release{build(t, "91.0", `"20240401000000"`, "")}, AllowList: allow(),
	})
	q := query(t, path("89.0", "20240201000000", "de", "release", ""))
	const clients = 20000
	served := 0
	for i := range clients {
		env := aus.Env{Client: func() string { return fmt.Sprintf("client %d", i) }, Dice: func() int { return i % 100 }}
		a := s.Answer(q, env)
		if !a.Random || !a.Quirks.Has(aus.QuirkStickyThrottle) {
			t.Fatalf("random %v, quirks %v", a.Random, a.Quirks)
		}
		if a.Outcome == aus.OutcomeUpdate {
			served++
		}
		env.Dice = func() int { return 0 }
		if b := s.Answer(q, env); b.Outcome != a.Outcome {
			t.Fatalf("client %d: %v, then %v", i, a.Outcome, b.Outcome)
		}
	}
	if share := float64(served) / clients; share < 0.28 || share > 0.32 {
		t.Errorf("%.3f of the clients are served, want 0.30", share)
	}
	if a := s.Answer(q, aus.Env{Dice: func() int { return 30 }}); a.Outcome != aus.OutcomeThrottled || !a.Random || a.Quirks != 0 {
		t.Errorf("by the die: %v, random %v, quirks %v", a.Outcome, a.Random, a.Quirks)
	}
	r := s.Respond(aus.Request{Method: "GET", URL: path("89.0", "20240201000000", "de", "release", "")}, aus.Env{Client: func() string { return "x" }})
	if got := r.Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control %q where the client decides", got)
	}
}

package aus_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// generator makes rules, releases and clients, good and bad.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

// maybe returns one of the list, or what leaves the key out.
func (g generator) maybe(percent int, m map[string]any, key string, list ...any) {
	if g.IntN(100) < percent {
		m[key] = pick(g, list...)
	}
}

var (
	someProducts = []any{"Fox", "Bird", "Sub", "Guardian"}
	someTargets  = []any{target, "WINNT_x86_64-msvc", "Linux_x86_64-gcc3", "Plan9"}
	someLocales  = []any{"de", "en-US", "fr"}
	someChannels = []any{"release", "beta", "release-cck-acme", "nightly", "re"}
	someVersions = []any{"88.0", "89.0", "89.0.2", "90.0", "90.0a1", "3.6.3plugin1", "2.0.0.20", "100.1", "90.0b3", "91", "89.0esr", "100.*", "x", "4.0"}
	someBuilds   = []any{"20240101000000", "20240201000000", "9", "20240301000000", "abc", "020240101000000"}
)

func (g generator) rule(id int) map[string]any {
	m := map[string]any{"rule_id": id, "priority": g.IntN(3) * 50, "backgroundRate": pick(g, 0, 30, 50, 100, 100, 100), "update_type": "minor", "data_version": g.IntN(5)}
	g.maybe(90, m, "product", someProducts...)
	g.maybe(90, m, "mapping", "R0", "R1", "R2", "R3", "R4", "nothing", "")
	g.maybe(50, m, "fallbackMapping", "R0", "R1", "nothing", "")
	g.maybe(20, m, "version", "<90.0", ">=89.0", "89.0", "89.*", "88.0,90.0", "<=89.0.2", "", "=1", "3.6.*", "<=89.*", "90.0b3", "<1.0-b4", ">100")
	g.maybe(20, m, "channel", "release", "release*", "re*", "*", "r*", "(re)*", "(re*", "release-cck-*", "")
	g.maybe(10, m, "buildTarget", someTargets...)
	g.maybe(15, m, "buildID", "20240201000000", "<20240201000000", ">9", "2024*", "", "<")
	g.maybe(10, m, "locale", "de", "de,fr", "de, fr", "")
	g.maybe(10, m, "osVersion", "Windows_NT", "Windows_NT 6.1,Darwin", "Windows&&10", "&&", "Win,", "")
	g.maybe(10, m, "memory", "8192", "<8192", ">=4096", "abc", "<")
	g.maybe(10, m, "instructionSet", "SSE3", "SSE2,SSE3", "")
	g.maybe(5, m, "jaws", true, false)
	g.maybe(5, m, "mig64", true, false)
	g.maybe(5, m, "distribution", "acme", "default,acme")
	g.maybe(5, m, "distVersion", "1.0", "default")
	g.maybe(5, m, "headerArchitecture", "Intel", "PPC")
	g.maybe(3, m, "priority", nil)
	g.maybe(3, m, "backgroundRate", nil, 101, -1)
	return m
}

func (g generator) patch(from any) map[string]any {
	m := map[string]any{"from": from, "filesize": pick[any](g, 1000, "2000", 1.5), "hashValue": pick(g, sum, "ab")}
	g.maybe(85, m, "fileUrl", "https://dl.example/a?b&c", "https://dl.example/%LOCALE%", "https://evil.example/x", "https://dl.example/\"<", "dl.example")
	g.maybe(2, m, "hashValue", nil)
	return m
}

func (g generator) release(name string) map[string]any {
	switch g.IntN(10) {
	case 0:
		return map[string]any{"name": name, "schema_version": 1000, "hashFunction": "sha512", "vendors": map[string]any{"v": g.addon(), "w": g.addon()}}
	case 1:
		m := map[string]any{"name": name, "schema_version": 5000, "hashFunction": "sha512"}
		g.maybe(80, m, "addons", map[string]any{"a@x": g.addon()})
		g.maybe(20, m, "uninstall", true, false)
		return m
	case 2:
		m := map[string]any{"name": name, "schema_version": 4000}
		g.maybe(50, m, "products", []any{"Sub", "Bird"}, []any{}, []any{"Sub"})
		g.maybe(50, m, "blobs", []any{"R0", "R1"}, []any{"nothing"}, []any{})
		return m
	case 3:
		m := map[string]any{"name": name, "schema_version": 10000, "hashFunction": "sha512", "version": pick(g, "2.10.1", "x"), "platforms": map[string]any{target: map[string]any{"fileUrl": "https://dl.example/v", "hashValue": sum}}}
		g.maybe(90, m, "required", true, false)
		return m
	case 4:
		return map[string]any{"name": name, "schema_version": pick(g, 50, 7), "detailsUrl": "https://x.example/%LOCALE%/%OS%?a&b", "displayVersion": "1"}
	}
	schema := pick(g, 1, 2, 3, 4, 5, 6, 8, 9, 9, 9)
	m := map[string]any{"name": name, "schema_version": schema, "hashFunction": "sha512"}
	version := "appVersion"
	if schema == 1 {
		version = "extv"
		g.maybe(90, m, "appv", someVersions...)
		g.maybe(50, m, "oldVersionSpecialCases", true)
	}
	g.maybe(95, m, version, someVersions...)
	g.maybe(80, m, "displayVersion", someVersions...)
	g.maybe(30, m, "detailsUrl", "https://x.example/%LOCALE%", "a\"b", "x\x01y")
	g.maybe(20, m, "showPrompt", true, false, nil)
	if schema >= 4 {
		g.maybe(50, m, "fileUrls", map[string]any{"release": map[string]any{"completes": map[string]any{"*": "https://dl.example/%OS_FTP%"}, "partials": map[string]any{"R1": "https://dl.example/%locale%"}}},
			map[string]any{"*": map[string]any{"completes": map[string]any{"*": "https://dl.example/all"}}})
	} else {
		g.maybe(70, m, "fileUrls", map[string]any{"release": "https://dl.example/%FILENAME%?%PRODUCT%&%OS_BOUNCER%"})
	}
	if schema == 9 {
		g.maybe(40, m, "updateLine", []any{
			map[string]any{"for": map[string]any{"locales": []any{"de"}, "versions": []any{"<90.0", "89.*"}}, "fields": map[string]any{"actions": "showURL", "openURL": "https://x.example/%LOCALE%"}},
			map[string]any{"for": map[string]any{"channels": []any{"re*"}, "buildIDs": []any{"<20240201000000"}}, "fields": map[string]any{"type": "major"}},
		}, []any{map[string]any{"fields": map[string]any{"actions": "x"}}})
	}
	platforms := map[string]any{}
	for _, t := range someTargets[:3] {
		if g.IntN(100) < 20 {
			platforms[t.(string)] = map[string]any{"alias": pick(g, someTargets...)}
			continue
		}
		if g.IntN(100) < 20 {
			continue
		}
		locales := map[string]any{}
		for _, name := range someLocales {
			if g.IntN(100) < 20 {
				continue
			}
			l := map[string]any{}
			g.maybe(90, l, "buildID", "20240101000000", "20240201000000", "20240301000000", int64(20240201000000))
			if schema < 3 {
				l["complete"], l["partial"] = g.patch("*"), g.patch("R1")
			} else {
				g.maybe(95, l, "completes", []any{g.patch("*")}, []any{g.patch("R0"), g.patch("*")})
				g.maybe(70, l, "partials", []any{g.patch("R1")}, []any{g.patch("nothing"), g.patch("R2"), g.patch("R0")})
			}
			g.maybe(10, l, version, someVersions...)
			locales[name.(string)] = l
		}
		p := map[string]any{"locales": locales}
		g.maybe(90, p, "OS_FTP", "ftp")
		g.maybe(90, p, "OS_BOUNCER", "bouncer")
		g.maybe(10, p, "buildID", "20240201000000")
		platforms[t.(string)] = p
	}
	g.maybe(97, m, "platforms", platforms)
	return m
}

func (g generator) addon() map[string]any {
	file := map[string]any{"filesize": 7, "hashValue": sum, "fileUrl": pick(g, "https://dl.example/add", "https://evil.example/add")}
	m := map[string]any{"version": "1"}
	g.maybe(95, m, "platforms", map[string]any{target: file, "default": file}, map[string]any{target: map[string]any{"alias": "default"}, "default": file}, map[string]any{target: map[string]any{"alias": "no"}})
	return m
}

func (g generator) config(tb testing.TB) aus.Config {
	tb.Helper()
	config := aus.Config{AllowList: aus.AllowList{{Host: "dl.example", Products: []string{"Fox", "Bird", "Sub", "Guardian"}}}}
	for i := range 1 + g.IntN(8) {
		text, err := json.Marshal(g.rule(i + 1))
		if err != nil {
			tb.Fatal(err)
		}
		var r aus.Rule
		if err := json.Unmarshal(text, &r); err != nil {
			tb.Fatal(err)
		}
		config.Rules = append(config.Rules, r)
	}
	for i := range 5 {
		name := fmt.Sprintf("R%d", i)
		text, err := json.Marshal(g.release(name))
		if err != nil {
			tb.Fatal(err)
		}
		r, err := aus.NewRelease(name, pick(g, "Fox", "Bird"), text, nil)
		if err != nil {
			tb.Fatal(err)
		}
		config.Releases = append(config.Releases, r)
	}
	if g.IntN(3) == 0 {
		config.Pins = []aus.Pin{{Product: "Fox", Channel: "release", Version: "89.", Mapping: pick(g, "R0", "nothing")}}
	}
	if g.IntN(5) == 0 {
		config.Shutoffs = []aus.Shutoff{{Product: "Fox", Channel: "beta"}}
	}
	return config
}

func (g generator) url() string {
	product, version, id, build, locale, channel := pick(g, someProducts...), pick(g, someVersions...), pick(g, someBuilds...), pick(g, someTargets...), pick(g, "de", "en-US", "xx", "%C3%A9", "a%22b"), pick(g, someChannels...)
	query := pick(g, "", "", "", "?force=1", "?force=-1", "?pin=89.", "?pin=89", "?mig64=1", "?_=1", "?force=1%3Favast=1")
	os := pick(g, "Windows_NT%2010.0", "Darwin%2019", "Linux")
	capabilities := pick(g, "ISET:SSE3,MEM:8192,JAWS:1", "SSE3,8192", "NA", "a,b,c", "ISET:SSE2,MEM:x")
	distribution, distVersion := pick(g, "default", "acme"), pick(g, "default", "1.0")
	head := fmt.Sprintf("%v/%v/%v/%v/%v/%v", product, version, id, build, locale, channel)
	switch g.IntN(8) {
	case 0:
		return "/update/1/" + head + "/update.xml" + query
	case 1:
		return "/update/2/" + head + "/" + os + "/update.xml" + query
	case 2:
		return fmt.Sprintf("/update/%d/%s/%s/%s/%s/x/update.xml%s", 4+g.IntN(2), head, os, distribution, distVersion, query)
	case 3:
		return fmt.Sprintf("/json/1/%v/%v/%v/%v/update.json%s", product, version, build, channel, query)
	case 4:
		return "/update/3/" + head + "/" + os + "/" + distribution + "/" + distVersion + "/update.xml" + query
	}
	return "/update/6/" + head + "/" + os + "/" + capabilities + "/" + distribution + "/" + distVersion + "/update.xml" + query
}

// Whatever the rules, releases and clients: no panic, no 500; where an answer names no quirk it is Balrog's, bytes and headers;
// Explain names the rule that Answer names.
func TestRandom(t *testing.T) {
	t.Parallel()
	const perConfig = 50
	configs := testkit.Count(200, 2000, 40000) // 100,000 queries at the gate
	updates, plain, faults := 0, 0, 0
	for i := range configs {
		g := generator{rand.New(rand.NewPCG(uint64(i), 20261130))}
		config := g.config(t)
		s, _ := aus.Compile(config)
		for range perConfig {
			url := g.url()
			dice := g.IntN(100)
			env := aus.Env{Dice: func() int { return dice }}
			request := aus.Request{Method: "GET", URL: url}
			ours, strict := s.Respond(request, env), s.Strict().Respond(request, env)
			if ours.Status >= 500 {
				t.Fatalf("config %d: %s: status %d: %s", i, url, ours.Status, ours.Body)
			}
			if strict.Status == 500 {
				faults++
				if strict.Answer.Quirks == 0 || ours.Quirks == 0 {
					t.Fatalf("config %d: %s: Balrog fails (%s), but quirks are %q, strictly %q", i, url, strict.Answer.Fault, ours.Quirks, strict.Quirks)
				}
			}
			if ours.Quirks == 0 {
				plain++
				ours.Header.Del("Cache-Control") // a die that decided must not be cached
				strict.Header.Del("Cache-Control")
				if ours.Status != strict.Status || string(ours.Body) != string(strict.Body) || fmt.Sprint(ours.Header) != fmt.Sprint(strict.Header) {
					t.Fatalf("config %d: %s (dice %d): no quirk, but\n%d %v %s\nstrictly\n%d %v %s", i, url, dice, ours.Status, ours.Header, ours.Body, strict.Status, strict.Header, strict.Body)
				}
			}
			if ours.Answer == nil {
				continue
			}
			if ours.Answer.Outcome == aus.OutcomeUpdate {
				updates++
			}
			explain(t, s, ours, env)
		}
	}
	t.Logf("%d queries: %d updates, %d without a quirk, %d that Balrog fails on", configs*perConfig, updates, plain, faults)
	if updates < configs || plain < configs*10 || faults < configs {
		t.Errorf("%d updates, %d without a quirk, %d faults: the generator makes too few of them", updates, plain, faults)
	}
}

func explain(t *testing.T, s *aus.Snapshot, r aus.Response, env aus.Env) {
	t.Helper()
	x := s.Explain(*r.Query, env)
	if x.Answer.Rule != r.Answer.Rule || x.Answer.Outcome != r.Answer.Outcome || x.Answer.Quirks != r.Answer.Quirks {
		t.Fatalf("%s: Explain says %v, Answer %v", r.Query.Product, x.Answer, r.Answer)
	}
	decides := 0
	best := int64(-1)
	for _, c := range x.Rules {
		if c.Decides {
			decides++
			if c.Column != "" {
				t.Fatalf("rule %d decides, but does not match by %s", c.Rule.ID, c.Column)
			}
			continue
		}
		if c.Column == "" && c.Rule.Priority != nil {
			best = max(best, *c.Rule.Priority)
		}
	}
	switch rule := x.Answer.Rule; {
	case rule == nil && decides > 0, rule != nil && decides != 1:
		t.Fatalf("%d rules decide, Answer names %v", decides, rule)
	case rule != nil && rule.Priority != nil && best > *rule.Priority:
		t.Fatalf("rule %d decides, but another one that matches has priority %d", rule.ID, best)
	case rule == nil && best >= 0 && x.Answer.Shutoff == nil:
		t.Fatalf("no rule decides, but one matches")
	}
}

func FuzzParseURL(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 50 {
		f.Add(g.url(), "")
	}
	f.Add("//update/3/a//b/%2F/%zz?force=%3F&pin=&&;=", "PPC")
	s, _ := aus.Compile(aus.Config{
		Rules:    rules(f, `{"mapping": "Fox-91.0"}`, `{"mapping": "Fox-91.0", "version": ">80.0", "memory": ">1", "priority": 200}`),
		Releases: []*aus.Release{build(f, "91.0", `"20240401000000"`, "")}, AllowList: allow(),
	})
	f.Fuzz(func(t *testing.T, url, agent string) {
		q, ok := aus.ParseURL(url, map[string][]string{"User-Agent": {agent}})
		if ok {
			if again, ok := aus.ParseURL(url, map[string][]string{"User-Agent": {agent}}); !ok || again != q {
				t.Errorf("%q is read as %+v, then as %+v", url, q, again)
			}
			if strings.ContainsFunc(q.Product+q.Version+q.Channel, func(r rune) bool { return r >= 0x80 }) && !q.Form.JSON() {
				t.Errorf("%q has fields that are not ASCII: %+v", url, q)
			}
			s.Answer(q, aus.Env{})
			s.Strict().Answer(q, aus.Env{})
		}
		r := s.Respond(aus.Request{Method: "GET", URL: url, Header: map[string][]string{"User-Agent": {agent}}}, aus.Env{})
		if r.Status >= 500 || r.Status < 200 {
			t.Errorf("%q: status %d", url, r.Status)
		}
		if ok && r.Status == 200 && r.Answer == nil {
			t.Errorf("%q is an address of a client, but no query", url)
		}
	})
}

func FuzzRelease(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	for range 40 {
		text, err := json.Marshal(g.release("R0"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"name": "R0", "name": "R1", "schema_version": 9.0, "platforms": {"a": {"alias": "a"}}}`))
	queries := []string{path("89.0", "20240201000000", "de", "release", ""), path("91.0", "9", "fr", "beta", "?force=1"), "/json/1/Fox/1.0/" + target + "/release/update.json"}
	f.Fuzz(func(t *testing.T, document []byte) {
		limits := aus.Limits{Size: 1 << 16}
		r, err := aus.NewRelease("R0", "Fox", document, &aus.ReleaseOptions{Limits: limits})
		if err != nil {
			if err := aus.Validate(document, aus.ValidateOptions{Limits: limits}); err == nil {
				t.Error("a document that cannot be read is valid")
			}
			return
		}
		valid := aus.Validate(document, aus.ValidateOptions{Product: "Fox", AllowList: allow(), Limits: limits}) == nil
		s, problems := aus.Compile(aus.Config{Rules: rules(t, `{"mapping": "R0"}`), Releases: []*aus.Release{r}, AllowList: allow()})
		for _, url := range queries {
			ours, strict := ask(s, url), ask(s.Strict(), url)
			if ours.Status >= 500 {
				t.Errorf("%s: status %d", url, ours.Status)
			}
			if strict.Status == 500 && len(problems) == 0 && strict.Answer.Quirks&^(1<<aus.QuirkClientFault|1<<aus.QuirkFromLocale) != 0 {
				t.Errorf("%s: Balrog fails (%s), but there is no problem; valid %v", url, strict.Answer.Fault, valid)
			}
		}
		ask(s, "/api/v1/releases/R0?pretty=1")
	})
}

// benchmarkSnapshot is a part of a large set: rules so that 60 have the client's product, releases of 10 locales on 8 platforms with 3 partials.
func benchmarkSnapshot(b *testing.B) (*aus.Snapshot, []string) {
	b.Helper()
	config := aus.Config{AllowList: aus.AllowList{{Host: "dl.example", Products: []string{"P0", "P1", "P2", "P3", "P4"}}}}
	for i := range 200 {
		platforms := map[string]any{}
		for p := range 8 {
			locales := map[string]any{}
			for l := range 10 {
				patch := func(from string) map[string]any {
					return map[string]any{"from": from, "filesize": 50000000 + i, "hashValue": sum, "fileUrl": fmt.Sprintf("https://dl.example/pub/%d/%d/%d/%s.mar?a&b", i, p, l, from)}
				}
				locales[fmt.Sprintf("l%d", l)] = map[string]any{
					"buildID": fmt.Sprintf("2024%010d", i), "completes": []any{patch("*")},
					"partials": []any{patch(fmt.Sprintf("R%d", max(0, i-3))), patch(fmt.Sprintf("R%d", max(0, i-2))), patch(fmt.Sprintf("R%d", max(0, i-1)))},
				}
			}
			platforms[fmt.Sprintf("t%d", p)] = map[string]any{"OS_FTP": "x", "OS_BOUNCER": "y", "locales": locales}
		}
		text, err := json.Marshal(map[string]any{"name": fmt.Sprintf("R%d", i), "schema_version": 9, "hashFunction": "sha512", "appVersion": fmt.Sprintf("%d.0", 10+i), "displayVersion": fmt.Sprintf("%d.0", 10+i), "platforms": platforms})
		if err != nil {
			b.Fatal(err)
		}
		config.Releases = append(config.Releases, release(b, fmt.Sprintf("R%d", i), string(text)))
	}
	for i := range 300 {
		config.Rules = append(config.Rules, rules(b, fmt.Sprintf(`{"rule_id": %d, "priority": %d, "product": "P%d", "channel": "c%d*", "version": "<%d.0", "locale": "l0,l1,l2,l3,l4,l5,l6,l7,l8,l9", "mapping": "R%d"}`, i+1, i%60, i%5, i/5%6, 20+i%180, 199-i%20))...)
	}
	s, problems := aus.Compile(config)
	if aus.Errors(problems) > 0 {
		b.Fatal(problems[0])
	}
	var urls []string
	for i := range 2000 {
		urls = append(urls, fmt.Sprintf("/update/6/P%d/%d.0/2024%010d/t%d/l%d/c%d/Windows_NT%%2010.0.0.0/ISET:SSE4_2,MEM:8192/default/default/update.xml", i%5, 10+i%180, i%180, i%8, i%10, i%6))
	}
	return s, urls
}

// BenchmarkAnswer is what one answer costs, without and with the reading of the address and the headers.
func BenchmarkAnswer(b *testing.B) {
	s, urls := benchmarkSnapshot(b)
	queries := make([]aus.Query, len(urls))
	updates, partials := 0, 0
	for i, url := range urls {
		queries[i] = query(b, url)
		a := s.Answer(queries[i], aus.Env{})
		if a.Outcome == aus.OutcomeUpdate {
			updates++
		}
		if a.Partial {
			partials++
		}
	}
	if updates < len(urls)/2 {
		b.Fatalf("%d of %d clients get an update", updates, len(urls))
	}
	b.Run("part=answer", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Answer(queries[i%len(queries)], aus.Env{})
		}
		b.ReportMetric(100*float64(updates)/float64(len(urls)), "%updates")
		b.ReportMetric(100*float64(partials)/float64(len(urls)), "%partials")
	})
	b.Run("part=respond", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Respond(aus.Request{Method: "GET", URL: urls[i%len(urls)]}, aus.Env{})
		}
	})
}

package aus_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/aus"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	const head = "Fox/90.0/2024/" + target + "/de/release"
	base := aus.Query{Form: aus.Form3, Product: "Fox", Version: "90.0", BuildID: "2024", BuildTarget: target, Locale: "de", Channel: "release", HeaderArchitecture: "Intel"}
	with := func(form aus.Form, change func(q *aus.Query)) aus.Query {
		q := base
		q.Form = form
		if change != nil {
			change(&q)
		}
		return q
	}
	dist := func(q *aus.Query) { q.OSVersion, q.Distribution, q.DistVersion = "OS 1", "d", "1" }
	tests := []struct {
		url  string
		want aus.Query
	}{
		{"/update/1/" + head + "/update.xml", with(aus.Form1, nil)},
		{"https://aus.example/update/2/" + head + "/OS%201/update.xml#x", with(aus.Form2, func(q *aus.Query) { q.OSVersion = "OS 1" })},
		{"/update/3/" + head + "/OS%201/d/1/update.xml", with(aus.Form3, dist)},
		{"/update/3/Fox/90.0esrpre/2024/" + target + "/de/release/OS%201/d/1/update.xml", with(aus.Form3, dist)},
		{"/update/4/" + head + "/OS%201/d/1/9/update.xml", with(aus.Form4, dist)},
		{"/update/5/" + head + "/OS%201/d/1/imei/update.xml", with(aus.Form5, dist)},
		{"/update/6/" + head + "/OS%201/ISET:SSE3,MEM:8_192,JAWS:1/d/1/update.xml", with(aus.Form6, func(q *aus.Query) {
			dist(q)
			q.InstructionSet, q.Memory, q.MemoryKnown, q.JAWS = "SSE3", 8192, true, aus.Yes
		})},
		{"/update/6/" + head + "/OS%201/SSE3,x/d/1/update.xml", with(aus.Form6, func(q *aus.Query) { dist(q); q.InstructionSet = "SSE3" })},
		{"/update/6/" + head + "/OS%201/a,b,c/d/1/update.xml", with(aus.Form6, func(q *aus.Query) { dist(q); q.InstructionSetUnknown = true })},
		{"/update/3/" + head + "/OS%201/d/1/update.xml?force=-1&mig64=1&pin=9.&pin=90.&other", with(aus.Form3, func(q *aus.Query) {
			dist(q)
			q.Force, q.Mig64, q.Pin, q.HasPin = aus.ForceFallback, aus.Yes, "90.", true
		})},
		{"/update/3/" + head + "/OS%201/d/1/update.xml?force=1%3Favast=1", with(aus.Form3, func(q *aus.Query) { dist(q); q.Force = aus.ForceMain })},
		{"/update/2/" + head + "/OS%201/update.xml?pin=90.", with(aus.Form2, func(q *aus.Query) { q.OSVersion = "OS 1" })},
		{"/update/3/Fox/90.0/2024/" + target + "/de%2Frelease/OS%201/%E2%82%AC/1/update.xml", with(aus.Form3, func(q *aus.Query) { dist(q); q.Distribution = "?" })},
		{"/update/3/Fox/90.0/2024/" + target + "/x86%20de/release/OS%201/d/1/update.xml", with(aus.Form3, dist)},
		{"/json/1/Fox/90.0/" + target + "/release/update.json?force=1", aus.Query{Form: aus.FormJSON1, Product: "Fox", Version: "90.0", BuildTarget: target, Channel: "release", Force: aus.ForceMain}},
		{"/json/2/Fox/90.0/" + target + "/release/OS/update.json", aus.Query{Form: aus.FormJSON2, Product: "Fox", Version: "90.0", BuildTarget: target, Channel: "release", OSVersion: "OS"}},
	}
	for _, tt := range tests {
		got, ok := aus.ParseURL(tt.url, nil)
		if d := cmp.Diff(tt.want, got); !ok || d != "" {
			t.Errorf("%s: known %v (-want +got)\n%s", tt.url, ok, d)
		}
	}
	for _, url := range []string{
		"", "/", "/update/3/" + head + "/OS/d/1/update.xml/", "/update/3/" + head + "/OS/d/update.xml", "/update/7/" + head + "/OS/d/1/update.xml",
		"/update/03/" + head + "/OS/d/1/update.xml", "/update/3//90.0/2024/t/de/release/OS/d/1/update.xml", "update/1/" + head + "/update.xml",
		"/json/3/Fox/1/t/release/update.json", "/json/1/Fox/1/t/release/update.xml", strings.Repeat("/a", 100),
	} {
		if q, ok := aus.ParseURL(url, nil); ok {
			t.Errorf("%q is read as %+v", url, q)
		}
	}
	q, _ := aus.ParseURL(strings.Replace(tests[2].url, target, "Darwin_x86", 1), http.Header{"User-Agent": {"Fox (PPC)"}})
	if q.HeaderArchitecture != "PPC" {
		t.Errorf("header architecture %q of a PowerPC", q.HeaderArchitecture)
	}
}

func TestShutoffs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	os := "Windows_NT 6"
	only := aus.Rule{OSVersion: &os}
	tests := []struct {
		name    string
		shutoff aus.Shutoff
		os      string
		want    string // version that is offered
		outcome aus.Outcome
		until   time.Time
	}{
		{"of the channel", aus.Shutoff{Product: "Fox", Channel: "release"}, "Linux", "", aus.OutcomeShutoff, time.Time{}},
		{"of everything", aus.Shutoff{}, "Linux", "", aus.OutcomeShutoff, time.Time{}},
		{"of another channel", aus.Shutoff{Product: "Fox", Channel: "beta"}, "Linux", "91.0", aus.OutcomeUpdate, time.Time{}},
		{"of a column", aus.Shutoff{Product: "Fox", Only: &only}, "Windows_NT%206.1", "", aus.OutcomeShutoff, time.Time{}},
		{"of a column that differs", aus.Shutoff{Product: "Fox", Only: &only}, "Linux", "91.0", aus.OutcomeUpdate, time.Time{}},
		{"until later", aus.Shutoff{Product: "Fox", Expires: now.Add(time.Hour)}, "Linux", "", aus.OutcomeShutoff, now.Add(time.Hour)},
		{"until now", aus.Shutoff{Product: "Fox", Expires: now}, "Linux", "91.0", aus.OutcomeUpdate, time.Time{}},
		{"with another release", aus.Shutoff{Product: "Fox", Instead: "Fox-90.0"}, "Linux", "90.0", aus.OutcomeUpdate, time.Time{}},
		{"with nothing instead", aus.Shutoff{Product: "Fox", Instead: "Fox-1.0"}, "Linux", "", aus.OutcomeUnknownRelease, time.Time{}},
	}
	for _, tt := range tests {
		s, _ := aus.Compile(aus.Config{
			Rules: rules(t, `{"product": "Fox", "mapping": "Fox-91.0"}`), Shutoffs: []aus.Shutoff{tt.shutoff}, AllowList: allow(),
			Releases: []*aus.Release{build(t, "91.0", `"20240401000000"`, ""), build(t, "90.0", `"20240301000000"`, "")},
		})
		q := query(t, strings.Replace(path("89.0", "20240201000000", "de", "release", ""), "Windows_NT%2010.0", tt.os, 1))
		a := s.Answer(q, aus.Env{Now: now})
		if offers(a.Body) != tt.want || a.Outcome != tt.outcome || !a.Until.Equal(tt.until) || (a.Shutoff != nil) != (tt.outcome != aus.OutcomeUpdate || tt.want == "90.0") {
			t.Errorf("%s: offers %q, %s until %v, shutoff %v; want %q, %s, %v", tt.name, offers(a.Body), a.Outcome, a.Until, a.Shutoff, tt.want, tt.outcome, tt.until)
		}
	}
}

func TestRollout(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	r := rules(t, `{"product": "Fox", "mapping": "Fox-91.0", "backgroundRate": 0}`)
	r[0].Rollout = []aus.Stage{{At: start.Add(2 * time.Hour), Rate: 100}, {At: start.Add(time.Hour), Rate: 40}}
	s, _ := aus.Compile(aus.Config{Rules: r, Releases: []*aus.Release{build(t, "91.0", `"20240401000000"`, "")}, AllowList: allow()})
	q := query(t, path("89.0", "20240201000000", "de", "release", ""))
	for _, tt := range []struct {
		after time.Duration
		dice  int
		want  aus.Outcome
		until time.Time
	}{
		{0, 0, aus.OutcomeThrottled, start.Add(time.Hour)},
		{time.Hour, 39, aus.OutcomeUpdate, start.Add(2 * time.Hour)},
		{time.Hour, 40, aus.OutcomeThrottled, start.Add(2 * time.Hour)},
		{3 * time.Hour, 99, aus.OutcomeUpdate, time.Time{}},
	} {
		a := s.Answer(q, aus.Env{Now: start.Add(tt.after), Dice: func() int { return tt.dice }})
		if a.Outcome != tt.want || !a.Until.Equal(tt.until) {
			t.Errorf("after %v with %d: %s until %v, want %s until %v", tt.after, tt.dice, a.Outcome, a.Until, tt.want, tt.until)
		}
	}
}

// A partial that no release names goes to the clients whose complete it is from, and to no others.
func TestMadePartials(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("ab", 64)
	from := release(t, "Fox-90.0", strings.ReplaceAll(build(t, "90.0", `"20240301000000"`, "").Document(), sum, other))
	config := aus.Config{
		Rules: rules(t, `{"product": "Fox", "mapping": "Fox-91.0"}`), AllowList: allow(),
		Releases: []*aus.Release{from, build(t, "91.0", `"20240401000000"`, "")},
		Made:     []aus.MadePartial{{From: strings.ToUpper(other), To: sum, URL: "https://dl.example/made.mar", Size: 77, Hash: sum, HashFunction: "sha512"}},
	}
	const line = `<patch type="partial" URL="https://dl.example/made.mar" hashFunction="sha512" hashValue="` + sum + `" size="77"/>`
	for _, tt := range []struct {
		buildID string
		made    func(*aus.MadePartial)
		want    bool
	}{
		{"20240301000000", nil, true},
		{"20240201000000", nil, false},
		{"20240301000000", func(m *aus.MadePartial) { m.To = other }, false},
		{"20240301000000", func(m *aus.MadePartial) { m.HashFunction = "sha256" }, false},
		{"20240301000000", func(m *aus.MadePartial) { m.URL = "https://evil.example/made.mar" }, false},
	} {
		c := config
		c.Made = []aus.MadePartial{config.Made[0]}
		if tt.made != nil {
			tt.made(&c.Made[0])
		}
		s, _ := aus.Compile(c)
		a := s.Answer(query(t, path("90.0", tt.buildID, "de", "release", "")), aus.Env{})
		if got := strings.Contains(string(a.Body), line); got != tt.want || a.Partial != tt.want || !a.Complete {
			t.Errorf("%s: partial %v (in the body %v), complete %v, want %v", tt.buildID, a.Partial, got, a.Complete, tt.want)
		}
	}
}

func TestCompileProblems(t *testing.T) {
	t.Parallel()
	config := aus.Config{
		Rules: rules(t,
			`{"product": "Fox", "mapping": "Fox-91.0", "priority": 200}`, `{"product": "Fox", "mapping": "Fox-91.0", "channel": "beta"}`,
			`{"rule_id": 2, "product": "Bird", "mapping": "none", "alias": "a"}`, `{"product": "Cat", "mapping": null, "alias": "a"}`),
		Releases: []*aus.Release{build(t, "91.0", `5`, ""), build(t, "91.0", `"5"`, "")},
		Pins:     []aus.Pin{{Product: "Fox", Channel: "release", Version: "nonsense", Mapping: "Fox-91.0"}},
	}
	_, problems := aus.Compile(config)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	for _, want := range []string{
		`error: release "Fox-91.0": there is another release of this name`,
		`error: rule 2: rule_id: there is another rule of this number`,
		`error: rule 2: mapping: there is no release "none" (Q5)`,
		`error: rule 4: alias: there is another rule called "a"`,
		`warning: rule 2: priority: it never decides: rule 1 comes first and matches all of its clients`,
		`warning: pins.Fox.release.nonsense: no client can ask for this version`,
		`warning: release "Fox-91.0": platforms.` + target + `.locales.de.buildID: 5 is no text; Balrog never finds it in from, and answers 500 to clients of the same version (Q11)`,
		`warning: release "Fox-91.0": platforms.` + target + `.locales.de.completes.fileUrl: "https://dl.example/91.0.mar" is not allowed for Fox, so that it is not offered`,
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("there is no %s", want)
		}
	}
	if aus.Errors(problems) != 4 || problems[0].Severity != aus.SeverityError || problems[len(problems)-1].Severity != aus.SeverityWarning {
		t.Errorf("%d errors, want 4, before the warnings:\n%s", aus.Errors(problems), strings.Join(got, "\n"))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, document string
		limits         aus.Limits
		want           error
	}{
		{"not JSON", "{", aus.Limits{}, aus.ErrFormat},
		{"two values", "{} {}", aus.Limits{}, aus.ErrFormat},
		{"not UTF-8", "\"\xff\"", aus.Limits{}, aus.ErrFormat},
		{"too large", `{"name": "xxxxxxxxxxxx"}`, aus.Limits{Size: 10}, aus.ErrLimit},
		{"too deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), aus.Limits{}, aus.ErrLimit},
		{"deep enough", strings.Repeat("[", 32) + strings.Repeat("]", 32), aus.Limits{}, nil},
	} {
		_, err := aus.NewRelease("x", "Fox", []byte(tt.document), &aus.ReleaseOptions{Limits: tt.limits})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	var invalid *aus.ValidationError
	if err := aus.Validate([]byte(`{"name": ""}`), aus.ValidateOptions{}); !errors.Is(err, aus.ErrInvalid) || !errors.As(err, &invalid) || invalid.Check != aus.CheckSchema {
		t.Errorf("%v, want a ValidationError of the schema", err)
	}
}

// A document with many keys takes time in proportion to them.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"schema_version": 9`)
	for i := range 200_000 {
		fmt.Fprintf(&b, `, "k%d": 1`, i)
	}
	b.WriteString("}")
	start := time.Now()
	if _, err := aus.NewRelease("x", "Fox", []byte(b.String()), nil); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("200,000 keys take %v", d)
	}
}

// A snapshot may be asked by many at once.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s, _ := aus.Compile(aus.Config{
		Rules:    rules(t, `{"product": "Fox", "mapping": "Fox-91.0"}`, `{"product": "Guardian", "version": ">1", "mapping": "Fox-91.0"}`),
		Releases: []*aus.Release{build(t, "91.0", `"20240401000000"`, `"detailsUrl": "x",`)}, AllowList: allow(),
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if r := ask(s, path("89.0", "20240201000000", "de", "release", "")); offers(r.Body) != "91.0" {
					t.Errorf("%d %s", r.Status, r.Body)
					return
				}
				s.Explain(query(t, path("89.0", "20240201000000", "de", "release", "")), aus.Env{})
				ask(s, "/api/v1/rules")
			}
		})
	}
	wg.Wait()
}

// Which groups of updateLine can both apply is decided by intervals.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		condition, a, b string
		conflict        bool
	}{
		{"versions", "10.*", "11.0a1", false},
		{"versions", "10.*", "10.0a1", true},
		{"versions", "10.0.*", "10.0a1", false},
		{"versions", "10.*", ">=11.0", false},
		{"versions", "10.*", ">10.9", true},
		{"versions", "<10.0", ">=10.0", false},
		{"versions", "<=10.0", ">=10.0", true},
		{"versions", "<10.0.1", ">10.0", true}, // there may be 10.0.1a1
		{"versions", "10.0", "11.0", false},
		{"versions", "9.0,10.0", "10.0", true},
		{"buildIDs", "<100", ">=100", false},
		{"buildIDs", "<100", ">98", true},
		{"buildIDs", "<100", ">99", false},
		{"buildIDs", "<=100", ">99", true},
		{"buildIDs", "<0", ">=0", false},
		{"buildIDs", "100", "101", false},
		{"channels", "release*", "release-cck-x", true},
		{"channels", "release", "beta", false},
		{"locales", "de", "fr", false},
	} {
		err := aus.Validate(fmt.Appendf(nil, `{"name": "x", "schema_version": 9, "hashFunction": "sha512", "updateLine": [
			{"for": {%[1]q: [%[2]q]}, "fields": {"actions": "a"}}, {"for": {%[1]q: [%[3]q]}, "fields": {"actions": "b"}}]}`, tt.condition, tt.a, tt.b), aus.ValidateOptions{})
		var invalid *aus.ValidationError
		if err != nil && (!errors.As(err, &invalid) || invalid.Check != aus.CheckConflict) {
			t.Fatalf("%s %s and %s: %v", tt.condition, tt.a, tt.b, err)
		}
		if (err != nil) != tt.conflict {
			t.Errorf("%s %s and %s: conflict %v, want %v", tt.condition, tt.a, tt.b, err != nil, tt.conflict)
		}
	}
}

package loadtest_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/loadtest"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Only what is on this machine is a target, or what was named twice.
func TestTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address, again string
		ok             bool
	}{
		{"http://127.0.0.1:8080", "", true},
		{"http://127.9.9.9:8080/", "", true},
		{"http://localhost:8080", "", true},
		{"http://[::1]:8080", "", true},
		{"http://[::ffff:127.0.0.1]:8080", "", true},
		{"http://updates.example.org", "", false},
		{"http://localhost.example.org", "", false},
		{"http://127.0.0.1.example.org", "", false},
		{"http://10.0.0.1:8080", "", false},
		{"http://0.0.0.0:8080", "", false},
		{"http://[::]:8080", "", false},
		{"http://2130706433:8080", "", false},
		{"https://updates.example.org", "https://updates.example.org/", true},
		{"https://updates.example.org", "https://updates.example.com", false},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8081", false},
		{"http://user:word@127.0.0.1:8080", "", false},
		{"http://127.0.0.1:8080/?a=b", "", false},
		{"file:///etc/passwd", "", false},
		{"127.0.0.1:8080", "", false},
		{"", "", false},
	} {
		u, err := loadtest.Target(tt.address, tt.again)
		var wrong *loadtest.TargetError
		if (err == nil) != tt.ok || err != nil && !errors.As(err, &wrong) {
			t.Errorf("%q, %q: %v, %v", tt.address, tt.again, u, err)
		}
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	builtin, err := loadtest.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[loadtest.Kind]bool{}
	for _, s := range builtin {
		if s.About == "" {
			t.Errorf("%s does not say what it is about", s.Name)
		}
		for _, l := range s.Load {
			seen[l.Kind] = true
		}
	}
	for _, k := range loadtest.Kinds() {
		if !seen[k] {
			t.Errorf("no scenario has %s", k)
		}
	}
	const load = "[[load]]\nkind = \"status\"\nrate = 1\nduration = \"1s\"\n"
	for name, tt := range map[string]struct{ text, wrong string }{
		"good":         {load, ""},
		"empty":        {"", "0 loads"},
		"unknown key":  {"colour = 1\n" + load, "colour"},
		"unknown kind": {strings.Replace(load, "status", "delete", 1), "delete"},
		"no rate":      {strings.Replace(load, "rate = 1", "", 1), "rate"},
		"much":         {strings.Replace(load, "rate = 1", "rate = 1e9", 1), "rate"},
		"nan":          {strings.Replace(load, "rate = 1", "rate = nan", 1), "rate"},
		"long":         {strings.Replace(load, "1s", "99h", 1), "ends after"},
		"no end":       {strings.Replace(load, `duration = "1s"`, "", 1), "ends after"},
		"many":         {strings.Replace(strings.Replace(load, "rate = 1", "rate = 50000", 1), "1s", "2h", 1), "requests"},
		"new":          {"[[load]]\nkind = \"new\"\nrate = 100\nduration = \"1h\"\n", "new partials"},
		"uploads":      {"[[load]]\nkind = \"upload\"\nrate = 100\nsize = \"200MB\"\nduration = \"1h\"\n", "uploads"},
		"small":        {"size = \"1B\"\n" + load, "size"},
		"per job":      {load + "per_job = 3\n", "per_job"},
		"twenty one":   {strings.Repeat(load, 21), "21 loads"},
		"no toml":      {"]", "cannot be read"},
		"large":        {strings.Repeat("#", 2<<20), "MiB"},
	} {
		_, err := loadtest.Parse(name, []byte(tt.text))
		var wrong *loadtest.ScenarioError
		switch {
		case tt.wrong == "" && err != nil, tt.wrong != "" && !errors.As(err, &wrong), tt.wrong != "" && !strings.Contains(err.Error(), tt.wrong):
			t.Errorf("%s: %v, want %q in it", name, err, tt.wrong)
		}
	}
}

// fake answers as partiald does, as far as a load test needs it, and lies where it is told to.
type fake struct {
	mu      sync.Mutex
	uploads map[string][]byte
	jobs    map[string]job.Status
	made    map[string][]byte
	lie     string // "bytes", "swap", "lose", "hash", "fail"
	slow    time.Duration
	hits    int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(f.slow)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hits++
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	lies := func(lie string) bool { return f.lie == lie && len(f.jobs) > 1 } // the first job is that of the preparation
	path := r.URL.Path
	id := path[strings.LastIndex(path, "/")+1:]
	switch {
	case path == "/__version__":
		answer(200, map[string]string{"version": "fake"})
	case path == "/metrics":
		fmt.Fprintf(w, "process_resident_memory_bytes %d\n# TYPE partiald_chaos_faults_total counter\npartiald_chaos_faults_total{fault=\"drop\"} 3\n", 50<<20+f.hits)
	case path == "/api/v1/uploads":
		sum := sha512.Sum512(body)
		name := hex.EncodeToString(sum[:])
		f.uploads[name] = body
		answer(201, job.Upload{SHA512: name, Size: int64(len(body))})
	case path == "/api/v1/partials":
		var spec job.Spec
		if err := json.Unmarshal(body, &spec); err != nil {
			answer(400, nil)
			return
		}
		answer(200, f.job(r, spec, lies))
	case strings.HasPrefix(path, "/api/v1/partials/"):
		data := bytes.Clone(f.made[id])
		if lies("bytes") {
			data[len(data)-1] ^= 1
		}
		_, _ = w.Write(data)
	case strings.HasSuffix(path, "/events"):
		fmt.Fprint(w, "event: status\ndata: {\"state\":\"done\"}\n\n")
	case strings.HasPrefix(path, "/api/v1/jobs/"):
		st, ok := f.jobs[id]
		if !ok || lies("lose") && len(f.jobs) > 1 {
			answer(404, nil)
			return
		}
		answer(200, st)
	case strings.HasPrefix(path, "/jobs/"):
		fmt.Fprintf(w, "<p>%s", f.jobs[id].Result.SHA512)
	default:
		answer(404, nil)
	}
}

func (f *fake) job(r *http.Request, spec job.Spec, lies func(string) bool) job.Status {
	sum := sha512.Sum512([]byte(spec.From.SHA512 + spec.To.SHA512))
	id := hex.EncodeToString(sum[:32])
	if st, ok := f.jobs[id]; ok {
		return st
	}
	from, to := f.uploads[spec.From.SHA512], f.uploads[spec.To.SHA512]
	open := func(data []byte) *mar.Reader {
		m, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			panic(err)
		}
		return m
	}
	archive, _, err := partial.Build(r.Context(), open(from), open(to), partial.DefaultRecipe(), nil)
	var out bytes.Buffer
	if err == nil {
		_, err = archive.WriteTo(&out)
	}
	data := out.Bytes()
	if lies("swap") { // another update than asked for, with the right hash of it
		for _, other := range f.made {
			data = other
		}
	}
	digest := sha512.Sum512(data)
	st := job.Status{ID: id, Spec: spec, State: job.Done, Result: &job.Result{Size: int64(len(data)), SHA512: hex.EncodeToString(digest[:])}}
	if err != nil || lies("fail") {
		st.State, st.Result, st.Error = job.Failed, nil, job.Errorf(job.CodeInternal, "a lie")
	}
	f.jobs[id], f.made[id] = st, data
	return st
}

func (f *fake) run(t *testing.T, text string) (*loadtest.Report, error) {
	t.Helper()
	f.uploads, f.jobs, f.made = map[string][]byte{}, map[string]job.Status{}, map[string][]byte{}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	s, err := loadtest.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return loadtest.Run(t.Context(), s, loadtest.Options{Target: u, Seed: "test", Settle: 2 * time.Second})
}

const everything = `size = "8KB"
[[load]]
kind = "status"
rate = 50
duration = "400ms"
[[load]]
kind = "ask"
rate = 50
duration = "400ms"
[[load]]
kind = "download"
rate = 50
duration = "400ms"
[[load]]
kind = "page"
rate = 50
duration = "400ms"
[[load]]
kind = "new"
rate = 10
duration = "400ms"
[[load]]
kind = "watch"
rate = 20
per_job = 4
duration = "400ms"
[[load]]
kind = "upload"
rate = 10
size = "8KB"
duration = "400ms"
`

// A target that answers as it should passes, with every request counted; one that lies is found out, whatever the lie.
func TestRun(t *testing.T) {
	t.Parallel()
	f := &fake{}
	r, err := f.run(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	if fails := r.Failures(0); len(fails) > 0 {
		t.Errorf("not passed: %v", fails)
	}
	for _, l := range r.Loads {
		want := int(l.Load.Rate * l.Load.Duration.Seconds())
		if l.Requests != want || l.Errors != 0 || l.Latency.P50 <= 0 || l.Latency.Max < l.Latency.P99 {
			t.Errorf("%s: %d requests, want %d; %d errors %v; %+v", l.Load.Kind, l.Requests, want, l.Errors, l.Causes, l.Latency)
		}
	}
	if r.Settled.Asked != 6 || r.Settled.Right != 6 || r.Settled.Proved != 6 { // 4 new and 2 watched
		t.Errorf("settled %+v", r.Settled)
	}
	if len(r.Vitals) < 2 || r.Vitals[0].RSS < 50<<20 || r.Faults["drop"] != 3 {
		t.Errorf("vitals %+v, faults %v", r.Vitals, r.Faults)
	}
	checkWritten(t, r)

	for lie, want := range map[string]string{
		"bytes": "wrong bytes", "swap": "came out wrong", "lose": "are not there", "fail": "are not there",
	} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			r, err := (&fake{lie: lie}).run(t, everything)
			if err != nil {
				t.Fatal(err)
			}
			if fails := strings.Join(r.Failures(1), "\n"); !strings.Contains(fails, want) {
				t.Errorf("failures %q, want %q in it", fails, want)
			}
		})
	}
}

// checkWritten reads a report back, and its page as XML, which it nearly is.
func checkWritten(t *testing.T, r *loadtest.Report) {
	t.Helper()
	var text, page bytes.Buffer
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	back, err := loadtest.Read(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := loadtest.Compare([]*loadtest.Report{back}, r, loadtest.Noise{})
	if err != nil || len(loadtest.Slower(changes)) > 0 {
		t.Errorf("compared with itself: %v, %v", loadtest.Slower(changes), err)
	}
	if err := r.WritePage(&page, nil, changes, "old.json"); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&page)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	pictures := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			if e.Name.Local == "svg" {
				pictures++
			}
			for _, a := range e.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("the page needs %s", a.Value)
				}
			}
		}
	}
	if pictures != len(r.Loads)+4 {
		t.Errorf("%d pictures", pictures)
	}
	for _, other := range []string{"", "{}", `{"format": 99}`, "null"} {
		if _, err := loadtest.Read(strings.NewReader(other)); err == nil {
			t.Errorf("%q is taken for a report", other)
		}
	}
}

// A target that answers slowly has latencies that count from when a request was due, and not from when it was sent.
func TestOpenLoop(t *testing.T) {
	t.Parallel()
	r, err := (&fake{slow: 60 * time.Millisecond}).run(t, "size = \"8KB\"\n[[load]]\nkind = \"status\"\nrate = 100\nduration = \"1s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if l := r.Loads[0]; l.Requests != 100 || l.Rate < 95 || l.Latency.P50 < 60 {
		t.Errorf("%d requests, %.1f a second, p50 %.1f ms: the rate must be kept although each takes 60 ms", l.Requests, l.Rate, l.Latency.P50)
	}
}

// What is no partiald is no target.
func TestNoService(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := loadtest.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadtest.Run(t.Context(), builtin[0], loadtest.Options{Target: u}); err == nil {
		t.Error("a server without anything was put under load")
	}
}

// synthetic makes a report with latencies around a middle, with a spread as real ones have.
func synthetic(seed uint64, middle float64, seconds int) *loadtest.Report {
	random := rand.New(rand.NewPCG(seed, 7))
	l := loadtest.Result{Load: loadtest.Load{Kind: loadtest.Status, Rate: 10}, Requests: 10 * seconds}
	for i := range seconds {
		p50 := middle * (0.9 + 0.2*random.Float64())
		l.Slices = append(l.Slices, loadtest.Slice{At: float64(i), Requests: 10, P50: p50, P90: 2 * p50, Max: 3 * p50})
	}
	return &loadtest.Report{
		Format: loadtest.Format, Scenario: loadtest.Scenario{Name: "x"}, Loads: []loadtest.Result{l},
		Vitals: []loadtest.Vitals{{RSS: 100 << 20}},
	}
}

// What is slower beyond noise is said to be, and noise is not.
func TestCompare(t *testing.T) {
	t.Parallel()
	changed := func(old []*loadtest.Report, now *loadtest.Report) (worse, better []string) {
		t.Helper()
		changes, err := loadtest.Compare(old, now, loadtest.Noise{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Worse {
				worse = append(worse, c.What)
			}
			if c.Better {
				better = append(better, c.What)
			}
		}
		return worse, better
	}
	base := []*loadtest.Report{synthetic(1, 10, 20)}
	for seed := range uint64(50) {
		if worse, better := changed(base, synthetic(100+seed, 10, 20)); worse != nil || better != nil {
			t.Errorf("seed %d: noise is taken for a change: %v, %v", seed, worse, better)
		}
		if worse, _ := changed(base, synthetic(100+seed, 13, 20)); len(worse) != 2 {
			t.Errorf("seed %d: a third slower, found %v", seed, worse)
		}
		if _, better := changed(base, synthetic(100+seed, 7, 20)); len(better) != 2 {
			t.Errorf("seed %d: a third faster, found %v", seed, better)
		}
	}
	if worse, _ := changed(base, synthetic(2, 30, 4)); worse != nil {
		t.Errorf("four seconds say nothing, but %v", worse)
	}
	// Old reports that differ by half among each other leave no room for a third.
	if worse, _ := changed([]*loadtest.Report{synthetic(1, 10, 20), synthetic(2, 15, 20)}, synthetic(3, 14, 20)); worse != nil {
		t.Errorf("within what differed before, but %v", worse)
	}
	failing := synthetic(4, 10, 20)
	failing.Loads[0].Errors = 10
	failing.Vitals[0].RSS = 200 << 20
	if worse, _ := changed(base, failing); !slices.Equal(worse, []string{"status: errors, %", "memory of the target at most, MiB"}) {
		t.Errorf("errors and memory: %v", worse)
	}
	tiny := synthetic(5, 0.1, 20)
	if worse, _ := changed([]*loadtest.Report{tiny}, synthetic(6, 0.2, 20)); worse != nil {
		t.Errorf("a tenth of a millisecond is nothing, but %v", worse)
	}
	other := synthetic(1, 10, 20)
	other.Loads[0].Load.Rate = 11
	if _, err := loadtest.Compare(base, other, loadtest.Noise{}); err == nil {
		t.Error("another rate was compared")
	}
}

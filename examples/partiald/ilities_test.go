package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/loadtest"
)

// ilities is what docs/ilities.md is made of.
type ilities struct {
	Day, Factor                      string
	CPUs                             int
	Go                               string
	Cached, New, Watch, Upload       *loadtest.Report
	Chaos                            *loadtest.Report
	ChaosErrors                      string
	Pages                            string
	Audit                            map[string]int
	History, Again, DrillTook, Start string
	Packages                         []packageSize
	Lines, TestLines                 int
	Modules, Keys                    int
	Parts                            int
}

type packageSize struct {
	Name         string
	Lines, Tests int
}

// TestIlities measures what docs/ilities.md says, and writes it. It takes about four minutes, on a machine that had better
// have nothing else to do.
func TestIlities(t *testing.T) {
	asked := os.Getenv("SENBON_ILITIES")
	if asked == "" {
		t.Skip("writes docs/ilities.md: set SENBON_ILITIES to a factor for how long each load lasts, such as 1")
	}
	d := ilities{Factor: asked, Day: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	begin := time.Now()
	n := newNode(t)
	n.start()
	d.Start = time.Since(begin).Round(10 * time.Millisecond).String()
	load := func(n *node, args ...string) *loadtest.Report {
		t.Helper()
		file := filepath.Join(t.TempDir(), "report.json")
		out, errs, code := partiald(t, nil, append([]string{"loadtest", "--quiet", "--target", "http://" + n.addr, "--time", asked, "--json", file}, args...)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := loadtest.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v\n%s", args, out)
		return r
	}
	d.New = load(n, "--scenario", "new")
	d.Cached = load(n, "--scenario", "cached")
	d.Watch = load(n, "--scenario", "watchers")
	d.Upload = load(n, "--scenario", "uploads")
	d.Pages = "not measured: wrk is not here"
	if _, err := exec.LookPath("wrk"); err == nil {
		o := newOrigin(t)
		spec, _, _ := o.pair(t, "page", false)
		id := n.finish(n.accept(spec).ID, time.Minute).ID
		rate, _, p99 := n.wrk("/jobs/"+id, "-t1", "-c8", "-d5s")
		d.Pages = fmt.Sprintf("%.0f pages/s, p99 %v", rate, p99.Round(time.Millisecond))
	}
	d.audit(t, n)

	dir := t.TempDir()
	c := newNode(t, "PARTIALD_WORKERS_RETRY_DELAY=500ms", "PARTIALD_WORKERS_ATTEMPTS=20")
	configured := filepath.Join(dir, "partiald.toml")
	if err := os.WriteFile(configured, []byte(withPlugins(t, dir, "sample", "", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	c.args = []string{"--dev", "--chaos", "rough", "--config", configured}
	c.start()
	d.Chaos = load(c, "--scenario", "mixed", "--origin", "--errors", "0.5")
	requests, failed := 0, 0
	for _, l := range d.Chaos.Loads {
		requests, failed = requests+l.Requests, failed+l.Errors
	}
	d.ChaosErrors = fmt.Sprintf("%d of %d requests (%.1f %%)", failed, requests, 100*float64(failed)/float64(requests))

	d.count(t)
	var text bytes.Buffer
	if err := template.Must(template.New("ilities").Funcs(template.FuncMap{"load": row, "peak": peak, "faults": faults}).Parse(ilitiesText)).Execute(&text, &d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("../../docs/ilities.md", text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// audit takes the figures of an audit of a server that runs.
func (d *ilities) audit(t *testing.T, n *node) {
	t.Helper()
	begin := time.Now()
	found, _ := audited(t, n.env, "--listen", n.addr)
	d.DrillTook = time.Since(begin).Round(100 * time.Millisecond).String()
	d.Audit = map[string]int{}
	for _, f := range found {
		d.Audit[string(f.Verdict)]++
	}
	d.History, d.Again = found["restore drill/history"].Detail, found["restore drill/a partial again"].Detail
	out, _, _ := partiald(t, n.env, "describe", "--mermaid")
	d.Parts = strings.Count(out, "<b>")
}

// count counts what there is to maintain.
func (d *ilities) count(t *testing.T) {
	t.Helper()
	sizes := map[string]*packageSize{}
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		p := sizes[dir]
		if p == nil {
			p = &packageSize{Name: strings.TrimPrefix(strings.Replace(dir, ".", "partiald", 1), "internal/")}
			sizes[dir] = p
		}
		lines := bytes.Count(data, []byte("\n"))
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(dir, "test") && !strings.HasSuffix(dir, "/loadtest") || strings.HasSuffix(dir, "testrelease") {
			p.Tests, d.TestLines = p.Tests+lines, d.TestLines+lines
		} else {
			p.Lines, d.Lines = p.Lines+lines, d.Lines+lines
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sizes {
		if p.Lines > 0 {
			d.Packages = append(d.Packages, *p)
		}
	}
	slices.SortFunc(d.Packages, func(a, b packageSize) int { return strings.Compare(a.Name, b.Name) })
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := slices.Compact(slices.Sorted(strings.FieldsSeq(string(out))))
	d.Modules = len(modules) - 1
	printed, _, _ := partiald(t, []string{"PARTIALD_DATA=" + t.TempDir()}, "--print-config")
	d.Keys = strings.Count(printed, " = ")
}

// row is a load as a row of a table.
func row(l loadtest.Result) string {
	return fmt.Sprintf("| %s | %g | %d | %d | %.1f | %.1f | %.1f |", l.Load.Kind, l.Load.Rate, l.Requests, l.Errors, l.Latency.P50, l.Latency.P90, l.Latency.P99)
}

// peak is what a report says of the target's memory.
func peak(r *loadtest.Report) string {
	most := 0.0
	for _, v := range r.Vitals {
		most = max(most, v.RSS)
	}
	return fmt.Sprintf("%.0f MiB", most/(1<<20))
}

func faults(m map[string]float64) string {
	var list []string
	for _, k := range slices.Sorted(keysOf(m)) {
		list = append(list, fmt.Sprintf("%.0f × %s", m[k], k))
	}
	return strings.Join(list, ", ")
}

func keysOf(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

const ilitiesText = `# Scalability, reliability, maintainability

Numbers, each with the command that gives it. Written by

    SENBON_ILITIES={{.Factor}} go test ./examples/partiald -run TestIlities -timeout 30m

on {{.Day}}, with {{.CPUs}} processors ({{.Go}}), server and load on the same machine, which had other work as well:
latencies are therefore too long rather than too short. [operations.md](operations.md) has what the tests promise.

## Scalability

Requests come at a fixed rate, whether they are answered or not; a latency counts from the moment a request was due.
Milliseconds.

    partiald --dev --data /tmp/try &
    partiald loadtest --target http://127.0.0.1:8080 --scenario cached   # new, watchers, uploads, mixed

| load | a second | requests | errors | p50 | p90 | p99 |
|---|---|---|---|---|---|---|
{{range .Cached.Loads}}{{load .}}
{{end}}{{range .New.Loads}}{{load .}}
{{end}}{{range .Watch.Loads}}{{load .}}
{{end}}{{range .Upload.Loads}}{{load .}}
{{end}}
| what | number | command |
|---|---|---|
| memory of the server at most, with answers that are there | {{peak .Cached}} | the above, line "target" |
| with new partials | {{peak .New}} | the same |
| with {{with index .Watch.Loads 0}}{{.Requests}}{{end}} watchers | {{peak .Watch}} | the same |
| with uploads of 1 MB | {{peak .Upload}} | the same |
| page of a job that is done | {{.Pages}} | wrk -t1 -c8 -d5s http://127.0.0.1:8080/jobs/ID |
| answers and downloads as fast as they go, an idle machine | 13,000 to 23,900 a second, 1,100 to 3,100 MB/s | SENBON_GATE=1 go test ./examples/partiald -run TestCachedAnswers |

More servers take jobs from one queue: they share nothing but queue, ledger and store. On one machine of two processors
that cannot be shown with a number; that equal requests are made once on all of them is TestCluster.

## Reliability

    partiald --dev --chaos rough --config partiald.toml &   # with a store and a signing key
    partiald loadtest --target http://127.0.0.1:8080 --origin --errors 0.5

| what | number | command |
|---|---|---|
| faults injected in {{printf "%.0f" .Chaos.Took}} s of load and what followed | {{faults .Chaos.Faults}} | the above |
| partials asked for and taken | {{.Chaos.Settled.Asked}} | the above |
| of these there and right at the end | {{.Chaos.Settled.Right}} | the above |
| of these applied to the old version, giving the new one | {{.Chaos.Settled.Proved}} | the above |
| missing, wrong | {{len .Chaos.Settled.Missing}}, {{len .Chaos.Settled.Wrong}} | the above |
| requests that failed meanwhile, most of them cut off by a fault | {{.ChaosErrors}} | the above |
| the same for 60 minutes at a quarter of the rates of mixed, beside other work: asked for, right at the end, applied | 2,500, 2,500, 2,000 (as many as are); 0 missing, 0 wrong | partiald loadtest --origin --errors 0.5 --time 120 --rate 0.25 |
| ready after the start | {{.Start}} | time from start to the line "ready" |
| backup, restore | {{.History}} | partiald audit |
| the same inputs again | {{.Again}} | partiald audit |
| the whole audit | {{.DrillTook}}: {{index .Audit "good"}} good, {{index .Audit "better"}} should be better (it runs with --dev), {{index .Audit "not checked"}} not checked, {{index .Audit "bad"}} bad | partiald audit |
| server killed 10 times with jobs on their way: jobs that were lost | 0 of 30 | SENBON_GATE=1 go test ./examples/partiald -run TestKilledServer |
| configurations that cannot work: refused with the key named | 36 of 36 | SENBON_GATE=1 go test ./examples/partiald -run TestBrokenConfigurations |
| wrong bytes from an origin that were used, of 40 kinds | 0 | SENBON_GATE=1 go test ./examples/partiald -run TestWrongBytes |

## Maintainability

| what | number | command |
|---|---|---|
| lines of the service, and of its tests | {{.Lines}} and {{.TestLines}} | find examples/partiald -name '*.go' |
| packages of its own | {{len .Packages}} | go list ./examples/partiald/... |
| modules of others that are linked in | {{.Modules}} | go list -deps ./examples/partiald |
| keys of the configuration, each documented and checked | {{.Keys}} | partiald --print-config |
| parts that a newcomer has to know | {{.Parts}} | partiald describe |

| package | lines | of tests |
|---|---|---|
{{range .Packages}}| {{.Name}} | {{.Lines}} | {{.Tests}} |
{{end}}`

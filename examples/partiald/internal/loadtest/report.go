package loadtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Format is the number of the format of reports: readers take no other.
const Format = 1

// Report is how a load test went. All latencies are in milliseconds, from the moment a request was due to the end of its
// answer.
type Report struct {
	Format        int                `json:"format"`
	Scenario      Scenario           `json:"scenario"`
	Target        string             `json:"target"`
	TargetVersion Version            `json:"target_version"`
	Seed          string             `json:"seed"`
	Origin        bool               `json:"origin,omitempty"` // completes were fetched from the load test
	Machine       Machine            `json:"machine"`          // that made the load
	Started       time.Time          `json:"started"`
	Took          float64            `json:"took"` // seconds of load
	Loads         []Result           `json:"loads"`
	Vitals        []Vitals           `json:"vitals"`
	Settled       Settled            `json:"settled"`
	Faults        map[string]float64 `json:"faults,omitempty"` // that the target injected into itself, by kind
	Panics        float64            `json:"panics,omitempty"` // of the target, since its start
	Notes         []string           `json:"notes,omitempty"`
}

// Version is what the target says that it is.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
}

// Machine is what made the load.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// Settled is what became of the jobs that were asked for and taken.
type Settled struct {
	Asked   int      `json:"asked"`
	Right   int      `json:"right"`  // done, handed out, and what its hash says
	Proved  int      `json:"proved"` // of these, applied to the old version: the new one came out
	Missing []string `json:"missing,omitempty"`
	Wrong   []string `json:"wrong,omitempty"`
}

// Latency has the percentiles of a load.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Slice is a second of a load.
type Slice struct {
	At       float64 `json:"at"` // seconds after the load's beginning
	Requests int     `json:"requests"`
	Errors   int     `json:"errors,omitempty"`
	P50      float64 `json:"p50"`
	P90      float64 `json:"p90"`
	Max      float64 `json:"max"`
}

// Result is how one load went.
type Result struct {
	Load     Load           `json:"load"`
	Requests int            `json:"requests"`
	Errors   int            `json:"errors"`           // not answered, or not as it should be
	Wrong    int            `json:"wrong"`            // of these, answered with wrong bytes
	Causes   map[string]int `json:"causes,omitempty"` // of the errors
	Codes    map[string]int `json:"codes"`
	Rate     float64        `json:"rate"`      // requests a second that were begun
	LateP99  float64        `json:"late_p99"`  // how late requests were begun: what the generator itself adds
	BytesIn  uint64         `json:"bytes_in"`  // of bodies of answers
	BytesOut uint64         `json:"bytes_out"` // of bodies of requests
	Latency  Latency        `json:"latency"`   // of what was answered as it should be
	Slices   []Slice        `json:"slices"`

	total   float64     // of all latencies
	all     []float64   // latencies
	late    []float64   // how late each request was begun
	seconds [][]float64 // latencies of each second
	errs    []int       // of each second
}

// maxCauses bounds how many causes are told apart.
const maxCauses = 20

func newResult(l Load) *Result {
	return &Result{Load: l, Causes: map[string]int{}, Codes: map[string]int{}}
}

// add counts a request that was due at a time after the load's beginning.
func (r *Result) add(due, latency, late time.Duration, hit *vegeta.Result, c checked) {
	r.Requests++
	r.Codes[fmt.Sprint(hit.Code)]++
	r.BytesIn += hit.BytesIn
	r.BytesOut += hit.BytesOut
	r.late = append(r.late, ms(late))
	second := int(due / time.Second)
	for len(r.seconds) <= second {
		r.seconds, r.errs = append(r.seconds, nil), append(r.errs, 0)
	}
	if c.cause != "" {
		r.Errors++
		r.errs[second]++
		if c.wrong {
			r.Wrong++
		}
		if _, known := r.Causes[c.cause]; !known && len(r.Causes) >= maxCauses {
			c.cause = "others"
		}
		r.Causes[c.cause]++
		return
	}
	r.total += ms(latency)
	r.seconds[second] = append(r.seconds[second], ms(latency))
	r.all = append(r.all, ms(latency))
}

func ms(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }

// finish makes a result of what was counted in so many seconds.
func (r *Result) finish(seconds float64) Result {
	slices.Sort(r.all)
	slices.Sort(r.late)
	r.Latency = Latency{P50: at(r.all, .5), P90: at(r.all, .9), P99: at(r.all, .99), P999: at(r.all, .999), Max: at(r.all, 1)}
	if len(r.all) > 0 {
		r.Latency.Mean = math.Round(1000*r.total/float64(len(r.all))) / 1000
	}
	r.LateP99 = at(r.late, .99)
	if last := min(seconds, r.Load.Duration.Seconds()); last > 0 {
		r.Rate = math.Round(100*float64(r.Requests)/last) / 100
	}
	for i, list := range r.seconds {
		slices.Sort(list)
		r.Slices = append(r.Slices, Slice{At: float64(i), Requests: len(list) + r.errs[i], Errors: r.errs[i], P50: at(list, .5), P90: at(list, .9), Max: at(list, 1)})
	}
	out := *r
	out.all, out.late, out.seconds, out.errs, out.total = nil, nil, nil, nil, 0
	return out
}

// at is a quantile of sorted numbers: the least of which so many are not above it.
func at(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(q*float64(len(sorted))))-1))]
}

// errorShare is the share of requests that were not answered as they should be.
func (r *Report) errorShare() float64 {
	requests, errs := 0, 0
	for _, l := range r.Loads {
		requests, errs = requests+l.Requests, errs+l.Errors
	}
	return float64(errs) / float64(max(1, requests))
}

// Failures says why the load test is not passed: wrong bytes, jobs that are not there or not right, panics, or a larger
// share of errors than allowed. None means that it is.
func (r *Report) Failures(allowed float64) []string {
	var out []string
	for _, l := range r.Loads {
		if l.Wrong > 0 {
			out = append(out, fmt.Sprintf("%s: %d answers had wrong bytes", l.Load.Kind, l.Wrong))
		}
	}
	if n := len(r.Settled.Wrong); n > 0 {
		out = append(out, fmt.Sprintf("%d of %d jobs came out wrong, such as %s", n, r.Settled.Asked, r.Settled.Wrong[0]))
	}
	if n := len(r.Settled.Missing); n > 0 {
		out = append(out, fmt.Sprintf("%d of %d jobs are not there, such as %s", n, r.Settled.Asked, r.Settled.Missing[0]))
	}
	if r.Panics > 0 {
		out = append(out, fmt.Sprintf("%.0f requests ended in a bug of the target", r.Panics))
	}
	if share := r.errorShare(); share > allowed {
		out = append(out, fmt.Sprintf("%.2f %% of the requests failed, allowed are %.2f %%", 100*share, 100*allowed))
	}
	return out
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}

// Read reads a report that [Report.Write] wrote, of 64 MiB at most.
func Read(from io.Reader) (*Report, error) {
	var r Report
	if err := json.NewDecoder(io.LimitReader(from, 64<<20)).Decode(&r); err != nil {
		return nil, fmt.Errorf("this is no report of a load test: %w", err)
	}
	if r.Format != Format {
		return nil, fmt.Errorf("this is no report of a load test, or one of another version: format %d, want %d", r.Format, Format)
	}
	return &r, nil
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "scenario %s against %s (partiald %s), %s, %.0f s\n\n", r.Scenario.Name, r.Target, cmp.Or(r.TargetVersion.Version, "?"), r.Started.Format(time.RFC3339), r.Took)
	fmt.Fprintf(&b, "%-9s %9s %8s %7s %9s %9s %9s %9s %9s\n", "load", "rate", "requests", "errors", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms")
	for _, l := range r.Loads {
		fmt.Fprintf(&b, "%-9s %9.1f %8d %7d %9.2f %9.2f %9.2f %9.2f %9.2f\n", l.Load.Kind, l.Rate, l.Requests, l.Errors, l.Latency.P50, l.Latency.P90, l.Latency.P99, l.Latency.P999, l.Latency.Max)
		for _, cause := range slices.SortedFunc(maps.Keys(l.Causes), func(a, b string) int {
			return cmp.Or(cmp.Compare(l.Causes[b], l.Causes[a]), strings.Compare(a, b))
		}) {
			fmt.Fprintf(&b, "          %d × %s\n", l.Causes[cause], cause)
		}
		if l.LateP99 > 50 {
			fmt.Fprintf(&b, "          requests were begun up to %.0f ms late (p99): the machine that makes the load is too slow for it\n", l.LateP99)
		}
	}
	b.WriteByte('\n')
	if n := len(r.Vitals); n > 0 {
		peak, heap := 0.0, 0.0
		for _, v := range r.Vitals {
			peak, heap = max(peak, v.RSS), max(heap, v.Heap)
		}
		first, last := r.Vitals[0], r.Vitals[n-1]
		fmt.Fprintf(&b, "target: memory %s at the beginning, %s at most, %s at the end; heap in use %s at most; %.1f s of processors\n",
			mebi(first.RSS), mebi(peak), mebi(last.RSS), mebi(heap), last.CPU-first.CPU)
	}
	if r.Settled.Asked > 0 {
		fmt.Fprintf(&b, "jobs: %d asked for, %d there and right, %d proved by applying them, %d missing, %d wrong\n",
			r.Settled.Asked, r.Settled.Right, r.Settled.Proved, len(r.Settled.Missing), len(r.Settled.Wrong))
	}
	for _, list := range [][]string{r.Settled.Missing, r.Settled.Wrong} {
		for i, line := range list {
			if i == 10 {
				fmt.Fprintf(&b, "  … and %d more\n", len(list)-i)
				break
			}
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	if len(r.Faults) > 0 {
		b.WriteString("faults that the target injected into itself:")
		for _, k := range slices.Sorted(maps.Keys(r.Faults)) {
			fmt.Fprintf(&b, " %s %.0f", k, r.Faults[k])
		}
		b.WriteByte('\n')
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mebi(v float64) string { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }

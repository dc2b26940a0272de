package loadtest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Change is what became of one number.
type Change struct {
	What     string  `json:"what"`
	Old      float64 `json:"old"`
	New      float64 `json:"new"`
	P        float64 `json:"p"`        // how likely such a difference is by chance; 0 where no test was made
	Worse    bool    `json:"worse"`    // beyond noise
	Better   bool    `json:"better"`   // the same, the other way
	Untested string  `json:"untested"` // why nothing can be said; "" where something can
}

// Noise is what is taken for noise.
type Noise struct {
	// Share is how much larger a latency may be; more is a change. The spread between several old reports widens it. 0
	// means 0.15.
	Share float64
	// Alpha is how likely a difference may be by chance and count all the same; 0 means 0.01.
	Alpha float64
}

const (
	minSlices  = 6   // fewer seconds than that say nothing
	leastDelta = 0.3 // milliseconds that are never a change
	memoryRoom = 32 << 20
)

// errOther says that reports cannot be compared.
var errOther = errors.New("the reports are of different scenarios")

// Compare says what changed from one or more old reports to a new one. The latencies of each second are compared with a
// Mann-Whitney U test, which asks for no distribution; a change counts where it is unlikely by chance and larger than the
// noise. Errors count where their share grew, memory where its peak grew by a quarter and 32 MiB.
func Compare(old []*Report, now *Report, noise Noise) ([]Change, error) {
	if noise.Share == 0 {
		noise.Share = 0.15
	}
	if noise.Alpha == 0 {
		noise.Alpha = 0.01
	}
	for _, o := range old {
		if o.Scenario.Name != now.Scenario.Name || len(o.Loads) != len(now.Loads) || o.Scenario.Size != now.Scenario.Size {
			return nil, fmt.Errorf("%w: %s and %s", errOther, o.Scenario.Name, now.Scenario.Name)
		}
		for i := range o.Loads {
			if o.Loads[i].Load != now.Loads[i].Load {
				return nil, fmt.Errorf("%w: load %d is %v in the one and %v in the other", errOther, i+1, o.Loads[i].Load, now.Loads[i].Load)
			}
		}
	}
	if len(old) == 0 {
		return nil, errors.New("there is no old report to compare with")
	}
	var out []Change
	for i := range now.Loads {
		for _, q := range []struct {
			name string
			of   func(Slice) float64
		}{{"p50", func(s Slice) float64 { return s.P50 }}, {"p90", func(s Slice) float64 { return s.P90 }}} {
			out = append(out, latency(i, q.name, q.of, old, now, noise))
		}
		before, requests := 0, 0
		for _, o := range old {
			before, requests = before+o.Loads[i].Errors, requests+o.Loads[i].Requests
		}
		c := Change{
			What: fmt.Sprintf("%s: errors, %%", now.Loads[i].Load.Kind), Old: 100 * share(before, requests), New: 100 * share(now.Loads[i].Errors, now.Loads[i].Requests),
		}
		c.Worse, c.Better = c.New > c.Old*1.5+0.1, c.Old > c.New*1.5+0.1
		out = append(out, c)
	}
	peak := Change{What: "memory of the target at most, MiB", New: peakOf(now) / (1 << 20)}
	for _, o := range old {
		peak.Old = max(peak.Old, peakOf(o)/(1<<20))
	}
	if peak.Old == 0 || peak.New == 0 {
		peak.Untested = "a report has none"
	} else {
		peak.Worse, peak.Better = peak.New > peak.Old*1.25+memoryRoom>>20, peak.Old > peak.New*1.25+memoryRoom>>20
	}
	return append(out, peak), nil
}

func share(n, of int) float64 { return float64(n) / float64(max(1, of)) }

func peakOf(r *Report) float64 {
	most := 0.0
	for _, v := range r.Vitals {
		most = max(most, v.RSS)
	}
	return most
}

// latency compares one quantile of one load.
func latency(load int, name string, of func(Slice) float64, old []*Report, now *Report, noise Noise) Change {
	values := func(r *Report) []float64 {
		var out []float64
		for _, s := range r.Loads[load].Slices {
			if s.Requests > s.Errors { // a second in which nothing succeeded has no latency
				out = append(out, of(s))
			}
		}
		return out
	}
	c := Change{What: fmt.Sprintf("%s: %s, ms", now.Loads[load].Load.Kind, name)}
	var before []float64
	var medians []float64
	for _, o := range old {
		v := values(o)
		before = append(before, v...)
		medians = append(medians, median(v))
	}
	after := values(now)
	c.Old, c.New = median(before), median(after)
	if len(before) < minSlices || len(after) < minSlices {
		c.Untested = fmt.Sprintf("%d and %d seconds are too few", len(before), len(after))
		return c
	}
	// What differed between runs that should have been equal is noise, too.
	room := noise.Share
	if c.Old > 0 {
		room = max(room, (slices.Max(medians)-slices.Min(medians))/c.Old)
	}
	thresholds := &benchmath.Thresholds{CompareAlpha: noise.Alpha}
	c.P = benchmath.AssumeNothing.Compare(benchmath.NewSample(before, thresholds), benchmath.NewSample(after, thresholds)).P
	if c.P < noise.Alpha {
		c.Worse = c.New > c.Old*(1+room) && c.New-c.Old > leastDelta
		c.Better = c.Old > c.New*(1+room) && c.Old-c.New > leastDelta
	}
	return c
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// Slower returns what became worse.
func Slower(changes []Change) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return !c.Worse })
}

// WriteChanges writes a comparison for people.
func WriteChanges(w io.Writer, changes []Change) error {
	if _, err := fmt.Fprintf(w, "%-36s %10s %10s %9s %8s  %s\n", "compared", "old", "new", "change", "p", ""); err != nil {
		return err
	}
	for _, c := range changes {
		change, p, verdict := "–", "–", "the same, as far as noise lets see"
		if c.Old > 0 {
			change = fmt.Sprintf("%+.0f %%", math.Round(100*(c.New/c.Old-1)))
		}
		if c.P > 0 {
			p = fmt.Sprintf("%.3f", c.P)
		}
		switch {
		case c.Untested != "":
			verdict = "not compared: " + c.Untested
		case c.Worse:
			verdict = "WORSE"
		case c.Better:
			verdict = "better"
		}
		if _, err := fmt.Fprintf(w, "%-36s %10.2f %10.2f %9s %8s  %s\n", c.What, c.Old, c.New, change, p, verdict); err != nil {
			return err
		}
	}
	return nil
}

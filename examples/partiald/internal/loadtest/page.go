package loadtest

import (
	_ "embed" // of the page
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/plot"
)

//go:embed page.html
var pageText string

type figure struct {
	Name    string
	Keys    []string
	Picture template.HTML
}

type pageData struct {
	R        *Report
	Failures []string
	Plots    []figure
	Target   []figure
	Changes  []Change
	Against  string
}

// WritePage writes the report as one HTML file that needs nothing else: plots, and the tables beside them. changes may
// be nil; against says what they are compared with. failures are those of [Report.Failures].
func (r *Report) WritePage(w io.Writer, failures []string, changes []Change, against string) error {
	t, err := template.New("page").Funcs(template.FuncMap{"mib": func(v float64) string { return fmt.Sprintf("%.0f", v/(1<<20)) }}).Parse(pageText)
	if err != nil {
		return err
	}
	d := pageData{R: r, Failures: failures, Changes: changes, Against: against}
	for _, l := range r.Loads {
		d.Plots = append(d.Plots, figure{Name: fmt.Sprintf("%s, %.4g a second", l.Load.Kind, l.Load.Rate), Picture: latencies(l)})
	}
	if len(r.Vitals) > 1 {
		d.Target = r.targetPlots()
	}
	return t.Execute(w, d)
}

const plotWidth, plotHeight = 460, 210

// seconds are marks on an axis of time.
func seconds(last float64) []plot.Tick {
	var out []plot.Tick
	for _, v := range plot.Ticks(last, 5) {
		if v == math.Trunc(v) {
			out = append(out, plot.Tick{At: v, Label: strconv.FormatFloat(v, 'f', -1, 64) + " s"})
		}
	}
	return out
}

func latencies(l Result) template.HTML {
	p := plot.Lines{Width: plotWidth, Height: plotHeight, Label: fmt.Sprintf("Latencies of %s over time: half within %.1f milliseconds, nine of ten within %.1f.", l.Load.Kind, l.Latency.P50, l.Latency.P90)}
	var p50, p90, most []float64
	for _, s := range l.Slices {
		p.X = append(p.X, s.At)
		a, b, c := s.P50, s.P90, s.Max
		if s.Requests == s.Errors {
			a, b, c = math.NaN(), math.NaN(), math.NaN()
		}
		p50, p90, most = append(p50, a), append(p90, b), append(most, c)
	}
	if n := len(p.X); n > 0 {
		p.XTicks = seconds(p.X[n-1])
	}
	p.Series = []plot.Series{{Class: "s2", Y: most}, {Class: "s1", Y: p90}, {Class: "s0", Y: p50, Area: true}}
	return p.SVG()
}

func (r *Report) targetPlots() []figure {
	var x []float64
	get := func(of func(Vitals) float64) []float64 {
		var out []float64
		for _, v := range r.Vitals {
			out = append(out, of(v))
		}
		return out
	}
	for _, v := range r.Vitals {
		x = append(x, v.At)
	}
	ticks := seconds(x[len(x)-1])
	bytes := plot.Axis{Bytes: true, Label: func(v float64) string { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }}
	draw := func(label string, axis plot.Axis, series ...plot.Series) template.HTML {
		return plot.Lines{Label: label, Width: plotWidth, Height: plotHeight, X: x, XTicks: ticks, Y: axis, Series: series}.SVG()
	}
	cpu := make([]float64, len(x))
	cpu[0] = math.NaN()
	for i := 1; i < len(x); i++ {
		cpu[i] = math.NaN()
		if gap := x[i] - x[i-1]; gap > 0.1 {
			cpu[i] = (r.Vitals[i].CPU - r.Vitals[i-1].CPU) / gap
		}
	}
	return []figure{
		{"Memory", []string{"resident", "heap in use"}, draw("Memory of the target over time.", bytes,
			plot.Series{Y: get(func(v Vitals) float64 { return v.RSS }), Area: true}, plot.Series{Y: get(func(v Vitals) float64 { return v.Heap })})},
		{"Processors used", nil, draw("Processors that the target used over time.", plot.Axis{}, plot.Series{Y: cpu, Area: true})},
		{"Jobs", []string{"waiting", "under work"}, draw("Jobs waiting and under work over time.", plot.Axis{},
			plot.Series{Y: get(func(v Vitals) float64 { return v.Waiting }), Area: true}, plot.Series{Y: get(func(v Vitals) float64 { return v.Running })})},
		{"Goroutines and descriptors", []string{"goroutines", "descriptors"}, draw("Goroutines and open files of the target over time.", plot.Axis{},
			plot.Series{Y: get(func(v Vitals) float64 { return v.Goroutines })}, plot.Series{Y: get(func(v Vitals) float64 { return v.FDs })})},
	}
}

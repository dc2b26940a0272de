package main

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// benchAbout is what figures mean nothing without.
type benchAbout struct {
	Date, Machine string
	Programs      []benchProgram
}

// A benchProgram is what was run for a strategy.
type benchProgram struct{ Name, Version, Command, Apply string }

func describeBench(ctx context.Context, chosen []strategy) benchAbout {
	about := benchAbout{
		Date:    time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		Machine: fmt.Sprintf("%s/%s, %d processors%s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor()),
	}
	for _, s := range chosen {
		p := benchProgram{Name: s.name, Version: "marctl " + version(), Command: strings.Join(s.diff, " "), Apply: strings.Join(s.apply, " ")}
		if s.diff == nil {
			p.Command = "the new file itself, with xz"
		}
		if s.diff != nil && s.diff[0] != "{self}" {
			p.Version = programVersion(ctx, s.version)
		}
		about.Programs = append(about.Programs, p)
	}
	return about
}

// processor returns the name of the processor, where the system tells it.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return ", " + strings.TrimSpace(value)
		}
	}
	return ""
}

// programVersion returns the first line that a program says about its version.
func programVersion(ctx context.Context, line []string) string {
	const unknown = "does not tell its version"
	if len(line) == 0 {
		return unknown
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	said, _ := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput() // some end with 1 after they said it
	first, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	return cmp.Or(strings.Trim(first, "* "), unknown)
}

// A dot of the plot stands for a strategy: bytes against CPU time, the area for memory.
type dot struct {
	X, Y, R int
	Label   string
	// LabelX and Anchor put the label where there is room.
	LabelX  int
	Anchor  string
	Title   string
	Updater bool
}

type tick struct {
	At    int
	Label string
}

type benchData struct {
	benchAbout
	Count          int
	Note           string
	Dots           []dot
	Failed         []measurement
	XTicks, YTicks []tick
	Best           []benchRow
	Columns        []string
	Rows           [][]string
}

// A benchRow is a strategy in the table that answers "which, at what price".
type benchRow struct {
	Name, Stored, Saved, CPU, Memory, Apply string
	Updater                                 bool
}

// The plot, in the units of its picture.
const (
	plotWidth, plotHeight   = 640, 420
	plotLeft, plotBottom    = 70, 370
	plotRight, plotTop      = 610, 20
	plotLargest, plotLeast  = 26, 4 // radius
	plotLabelRight, plotGap = 480, 6
)

// byBytes puts what failed last, never first, and the others in order of their bytes.
func byBytes(a, b measurement) int {
	if failedA, failedB := a.Error != "", b.Error != ""; failedA != failedB {
		if failedA {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Stored, b.Stored), cmp.Compare(a.Strategy, b.Strategy))
}

func newBenchPage(results []measurement, about benchAbout) benchData {
	data := benchData{benchAbout: about, Columns: benchColumns, Count: 1}
	totals := benchTotals(results)
	shown := slices.Clone(totals)
	if totals == nil {
		shown = slices.Clone(results)
	} else {
		data.Note = benchTotalsNote(results, totals)
	}
	slices.SortFunc(shown, byBytes)
	var good []measurement
	for _, m := range shown {
		data.Count = max(data.Count, m.Runs)
		if m.Error != "" {
			data.Failed = append(data.Failed, m)
			continue
		}
		good = append(good, m)
		data.Best = append(data.Best, benchRow{
			m.Strategy, fmt.Sprintf("%d", m.Stored), fmt.Sprintf("%.1f %%", 100*m.Saved), fmt.Sprintf("%.2f ± %.2f s", m.CPU+m.XZCPU, m.CPUSpread/2),
			memoryText(m.PeakKB), fmt.Sprintf("%.0f ms", 1000*m.Apply), m.Updater,
		})
	}
	data.plot(good)
	for _, m := range append(slices.Clone(results), totals...) {
		data.Rows = append(data.Rows, m.cells())
	}
	return data
}

// plot lays the dots out on logarithmic scales.
func (d *benchData) plot(good []measurement) {
	if len(good) == 0 {
		return
	}
	cpu := func(m measurement) float64 { return max(m.CPU+m.XZCPU, 0.001) }
	bytes := func(m measurement) float64 { return float64(max(m.Stored, 1)) }
	x := newScale(good, cpu, plotLeft+30, plotRight-60)
	y := newScale(good, bytes, plotBottom-30, plotTop+30)
	var peak int64 = 1
	for _, m := range good {
		peak = max(peak, m.PeakKB)
	}
	for _, m := range good {
		dot := dot{
			X: x.at(cpu(m)), Y: y.at(bytes(m)), Label: m.Strategy, Updater: m.Updater,
			R:     max(plotLeast, int(plotLargest*math.Sqrt(float64(m.PeakKB)/float64(peak)))), // the area is what the eye compares
			Title: fmt.Sprintf("%s: %d bytes, %.2f s, %s", m.Strategy, m.Stored, cpu(m), memoryText(m.PeakKB)),
		}
		dot.LabelX, dot.Anchor = dot.X+dot.R+plotGap, "start"
		if dot.X > plotLabelRight {
			dot.LabelX, dot.Anchor = dot.X-dot.R-plotGap, "end"
		}
		d.Dots = append(d.Dots, dot)
	}
	slices.SortFunc(d.Dots, func(a, b dot) int { return cmp.Compare(b.R, a.R) }) // the large ones behind
	for _, v := range x.marks() {
		d.XTicks = append(d.XTicks, tick{x.at(v), fmt.Sprintf("%g s", v)})
	}
	for _, v := range y.marks() {
		d.YTicks = append(d.YTicks, tick{y.at(v), size(int64(v))})
	}
}

// A scale maps values to places by their logarithm.
type scale struct {
	least, most float64
	from, to    int
}

func newScale(good []measurement, value func(measurement) float64, from, to int) scale {
	s := scale{least: math.Inf(1), from: from, to: to}
	for _, m := range good {
		s.least, s.most = min(s.least, value(m)), max(s.most, value(m))
	}
	if s.most < 1.2*s.least {
		s.least, s.most = s.least/1.5, s.most*1.5
	}
	return s
}

func (s scale) at(v float64) int {
	share := math.Log(v/s.least) / math.Log(s.most/s.least)
	return s.from + int(math.Round(share*float64(s.to-s.from)))
}

// marks are round numbers on the scale.
func (s scale) marks() []float64 {
	var marks []float64
	for power := math.Floor(math.Log10(s.least)); power <= math.Ceil(math.Log10(s.most)); power++ {
		for _, digit := range []float64{1, 2, 5} {
			if v := digit * math.Pow(10, power); v >= s.least && v <= s.most {
				marks = append(marks, v)
			}
		}
	}
	return marks
}

var benchPage = template.Must(template.New("bench").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Diff strategies compared</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem; color: #1d1d1f; background: #fff }
h1 { line-height: 1.2 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.scroll { overflow-x: auto }
.programs td { text-align: left; white-space: normal; overflow-wrap: anywhere }
svg { width: 100%; height: auto; max-width: 52rem; display: block } text { font: 15px system-ui, sans-serif; fill: #1d1d1f } .axis { fill: #5e5c64 }
line { stroke: #ddd } .yes { fill: #1a5fb4 } .no { fill: #77767b } circle { fill-opacity: .75; stroke: #fff }
.failed { color: #a51d2d }
</style>
<h1>Diff strategies compared</h1>
<p>{{.Date}} · {{.Machine}} · {{.Count}} {{if eq .Count 1}}run{{else}}runs{{end}} of each. Every patch was applied and compared with the new file.</p>
{{with .Note}}<p>{{.}}.</p>{{end}}
<h2>Which, at what price</h2>
<p>Left is faster, low is smaller; the area is the memory. Blue: Gecko's updater can apply the result. Grey: it cannot.</p>
<svg viewBox="0 0 640 420" role="img" aria-label="Bytes in an update against CPU time">
{{range .YTicks}}<line x1="70" x2="610" y1="{{.At}}" y2="{{.At}}"/><text x="64" y="{{.At}}" dy="5" text-anchor="end" class="axis">{{.Label}}</text>
{{end}}{{range .XTicks}}<line x1="{{.At}}" x2="{{.At}}" y1="20" y2="370"/><text x="{{.At}}" y="388" text-anchor="middle" class="axis">{{.Label}}</text>
{{end}}<text x="340" y="412" text-anchor="middle" class="axis">CPU time, diff and compression</text>
{{range .Dots}}<circle cx="{{.X}}" cy="{{.Y}}" r="{{.R}}" class="{{if .Updater}}yes{{else}}no{{end}}"><title>{{.Title}}</title></circle>
{{end}}{{range .Dots}}<text x="{{.LabelX}}" y="{{.Y}}" dy="5" text-anchor="{{.Anchor}}">{{.Label}}</text>
{{end}}</svg>
<div class="scroll"><table><tr><th>strategy</th><th>bytes</th><th>saved</th><th>CPU</th><th>memory</th><th>apply</th><th>updater</th></tr>
{{range .Best}}<tr><td>{{.Name}}</td><td>{{.Stored}}</td><td>{{.Saved}}</td><td>{{.CPU}}</td><td>{{.Memory}}</td><td>{{.Apply}}</td><td>{{if .Updater}}yes{{else}}no{{end}}</td></tr>
{{end}}{{range .Failed}}<tr class="failed"><td>{{.Strategy}}</td><td colspan="6">failed{{with .Error}}: {{.}}{{end}}</td></tr>
{{end}}</table></div>
<h2>What was run</h2>
<table class="programs">
{{range .Programs}}<tr><td>{{.Name}}</td><td>{{.Version}}</td><td><code>{{.Command}}</code>{{with .Apply}}<br><code>{{.}}</code>{{end}}</td></tr>
{{end}}</table>
<h2>All figures</h2>
<div class="scroll"><table><tr>{{range .Columns}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table></div>
</html>
`))

// memoryText says how much memory a program took, in kilobytes: 0 is one that ended before it could be looked at.
func memoryText(kb int64) string {
	if kb == 0 {
		return "not known"
	}
	return size(kb << 10)
}

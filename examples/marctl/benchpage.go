package main

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"image"
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
	first, _, _ = strings.Cut(first, ",") // who wrote it
	return cmp.Or(strings.Trim(first, "* "), unknown)
}

// A dot of the plot stands for a strategy: bytes against CPU time, the area for memory.
type dot struct {
	X, Y, R int
	Label   string
	// LabelX, LabelY and Anchor put the label where there is room; Far says that a line has to lead to it.
	LabelX, LabelY int
	Anchor         string
	Far            bool
	Title          string
	Updater        bool
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

// The plot, in the units of its picture, which is as wide as a phone: letters are as large there as anywhere.
const (
	plotWidth, plotHeight  = 420, 440
	plotLeft, plotBottom   = 62, 392
	plotRight, plotTop     = 412, 8
	plotLargest, plotLeast = 22, 4 // radius
	plotGap                = 5     // between a dot and its label
	plotLine               = 17    // height of a label
	plotLetter             = 8     // width of a letter of one, about
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
			m.Strategy, fmt.Sprintf("%d", m.Stored), fmt.Sprintf("%.1f %%", 100*m.Saved), timeText(m.CPU+m.XZCPU, m.CPUSpread/2, m.Runs),
			memoryText(m.PeakKB), timeText(m.Apply, m.ApplySpread/2, m.Runs), m.Updater,
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
	x := newScale(good, cpu, plotLeft+30, plotRight-30)
	y := newScale(good, bytes, plotBottom-30, plotTop+30)
	var peak int64 = 1
	for _, m := range good {
		peak = max(peak, m.PeakKB)
	}
	for _, m := range good {
		d.Dots = append(d.Dots, dot{
			X: x.at(cpu(m)), Y: y.at(bytes(m)), Label: m.Strategy, Updater: m.Updater,
			R:     max(plotLeast, int(plotLargest*math.Sqrt(float64(m.PeakKB)/float64(peak)))), // the area is what the eye compares
			Title: fmt.Sprintf("%s: %d bytes, %.2f s, %s", m.Strategy, m.Stored, cpu(m), memoryText(m.PeakKB)),
		})
	}
	slices.SortFunc(d.Dots, func(a, b dot) int { return cmp.Compare(b.R, a.R) }) // the large ones behind
	label(d.Dots)
	for _, v := range x.marks() {
		d.XTicks = append(d.XTicks, tick{x.at(v), fmt.Sprintf("%g s", v)})
	}
	for _, v := range y.marks() {
		d.YTicks = append(d.YTicks, tick{y.at(v), roundSize(v)})
	}
}

// label puts each dot's label beside it, or as near as there is room: on no other label, and on no dot.
func label(dots []dot) {
	var taken []image.Rectangle
	for _, d := range dots {
		taken = append(taken, image.Rect(d.X-d.R, d.Y-d.R, d.X+d.R, d.Y+d.R).Inset(2))
	}
	for i := range dots {
		taken = append(taken, dots[i].place(taken))
	}
}

// place finds the place for a label, and returns it.
func (d *dot) place(taken []image.Rectangle) image.Rectangle {
	picture := image.Rect(plotLeft, plotTop, plotWidth, plotBottom)
	width := plotLetter * len(d.Label)
	var box image.Rectangle
	for step := range 2 * plotHeight / plotLine {
		d.LabelY, d.Far = d.Y+(step+1)/2*plotLine, step > 0 // below and above, further and further away
		if step%2 == 1 {
			d.LabelY = 2*d.Y - d.LabelY
		}
		for _, d.Anchor = range []string{"start", "end"} {
			d.LabelX = d.X + d.R + plotGap
			left := d.LabelX
			if d.Anchor == "end" {
				d.LabelX = d.X - d.R - plotGap
				left = d.LabelX - width
			}
			box = image.Rect(left, d.LabelY-plotLine/2, left+width, d.LabelY+plotLine/2)
			if box.In(picture) && !slices.ContainsFunc(taken, box.Overlaps) {
				return box
			}
		}
	}
	return box
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

// roundSize writes a round number of bytes.
func roundSize(v float64) string {
	units := []string{"B", "kB", "MB", "GB"}
	for v >= 1000 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	return fmt.Sprintf("%g %s", v, units[0])
}

var benchPage = template.Must(template.New("bench").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Diff strategies compared</title>
<style>
:root { color-scheme: light dark; --text: light-dark(#1d1d1f, #eee); --soft: light-dark(#5e5c64, #b0afb6); --line: light-dark(#ddd, #444); --page: light-dark(#fff, #1c1b1f); --yes: light-dark(#1a5fb4, #78aeed); --no: light-dark(#77767b, #9a999f); --bad: light-dark(#a51d2d, #ff938c) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem; color: var(--text); background: var(--page) }
h1 { line-height: 1.2 } h2 { margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.scroll { overflow-x: auto }
.programs td { text-align: left; vertical-align: top; white-space: normal } .programs td:first-child { white-space: nowrap } .programs td:last-child { width: 60% } code { overflow-wrap: anywhere }
svg { width: 100%; height: auto; max-width: 36rem; display: block; margin-bottom: 1rem } text { font: 15px system-ui, sans-serif; fill: var(--text) } .axis { fill: var(--soft) }
line { stroke: var(--line) } .lead { stroke: var(--soft) } .yes { fill: var(--yes) } .no { fill: var(--no) } circle { fill-opacity: .75; stroke: var(--page) }
.failed { color: var(--bad) }
@media (max-width: 40rem) { .best td, .best th { padding: .25rem .35rem; font-size: 14px } .programs td:nth-child(n) { display: block; width: auto; padding: 0 .35rem; border: 0 } .programs td:nth-child(1) { padding-top: .7rem; font-weight: bold } }
</style>
<h1>Diff strategies compared</h1>
<p>{{.Date}} · {{.Machine}} · {{.Count}} {{if eq .Count 1}}run{{else}}runs{{end}} of each. Every patch was applied and compared with the new file.</p>
{{with .Note}}<p>{{.}}.</p>{{end}}
<h2>Which, at what price</h2>
<p>Left is faster, low is smaller; the area is the memory. Blue: Gecko's updater can apply the result. Grey: it cannot.</p>
<svg viewBox="0 0 420 440" role="img" aria-label="Bytes in an update against CPU time">
{{range .YTicks}}<line x1="62" x2="412" y1="{{.At}}" y2="{{.At}}"/><text x="56" y="{{.At}}" dy="5" text-anchor="end" class="axis">{{.Label}}</text>
{{end}}{{range .XTicks}}<line x1="{{.At}}" x2="{{.At}}" y1="8" y2="392"/><text x="{{.At}}" y="410" text-anchor="middle" class="axis">{{.Label}}</text>
{{end}}<text x="237" y="434" text-anchor="middle" class="axis">CPU time, diff and compression</text>
{{range .Dots}}<circle cx="{{.X}}" cy="{{.Y}}" r="{{.R}}" class="{{if .Updater}}yes{{else}}no{{end}}"><title>{{.Title}}</title></circle>
{{end}}{{range .Dots}}{{if .Far}}<line x1="{{.X}}" y1="{{.Y}}" x2="{{.LabelX}}" y2="{{.LabelY}}" class="lead"/>{{end}}<text x="{{.LabelX}}" y="{{.LabelY}}" dy="5" text-anchor="{{.Anchor}}">{{.Label}}</text>
{{end}}</svg>
<div class="scroll"><table class="best"><tr><th>strategy</th><th>bytes</th><th>saved</th><th>CPU</th><th>memory</th><th>apply</th><th>updater</th></tr>
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

// timeText says how long something took, and of several runs by how much they differ; nothing, where nothing ran.
func timeText(seconds, spread float64, runs int) string {
	if seconds == 0 {
		return "–"
	}
	unit, digits := "s", 1
	if seconds < 1 {
		seconds, spread, unit, digits = 1000*seconds, 1000*spread, "ms", 0
	}
	if runs < 2 {
		return fmt.Sprintf("%.*f %s", digits, seconds, unit)
	}
	return fmt.Sprintf("%.*f ± %.*f %s", digits, seconds, digits, spread, unit)
}

// memoryText says how much memory a program took, in kilobytes: 0 is one that ended before it could be looked at.
func memoryText(kb int64) string {
	if kb == 0 {
		return "not known"
	}
	return size(kb << 10)
}

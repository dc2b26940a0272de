package main

import (
	"bytes"
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// benchFailing are two inputs and three strategies: one fails on the second input, one on both.
func benchFailing() []measurement {
	return []measurement{
		{Input: "a", Strategy: "good", NewSize: 100, Stored: 40, CPU: 1, PeakKB: 10},
		{Input: "a", Strategy: "half", NewSize: 100, Stored: 30, CPU: 2, PeakKB: 30},
		{Input: "a", Strategy: "none", NewSize: 100, Error: "broken"},
		{Input: "b", Strategy: "good", NewSize: 900, Stored: 500, CPU: 7, PeakKB: 20},
		{Input: "b", Strategy: "half", NewSize: 900, Error: "broken"},
		{Input: "b", Strategy: "none", NewSize: 900, Error: "broken"},
	}
}

// What failed is never the best: totals are of what all managed, and failures stand last and have no figures.
func TestBenchFailures(t *testing.T) {
	t.Parallel()
	results := benchFailing()
	totals := benchTotals(results)
	if len(totals) != 3 || totals[0].Stored != 40 || totals[1].Stored != 30 || totals[0].Inputs != 1 || totals[2].Error == "" || totals[1].Error != "" {
		t.Errorf("got totals %+v", totals)
	}
	if got, want := benchTotalsNote(results, totals), "(all): the 1 of 2 inputs that all strategies managed; none failed on 2, half failed on 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	page := newBenchPage(results, benchAbout{})
	if len(page.Dots) != 2 || len(page.Best) != 2 || page.Best[0].Name != "half" || len(page.Failed) != 1 || page.Failed[0].Strategy != "none" {
		t.Errorf("got %d dots, %+v, failed %+v", len(page.Dots), page.Best, page.Failed)
	}
	for _, d := range page.Dots {
		if d.X < plotLeft || d.X > plotRight || d.Y < plotTop || d.Y > plotBottom {
			t.Errorf("%s is at %d, %d", d.Label, d.X, d.Y)
		}
	}
	if m := results[2]; !strings.Contains(strings.Join(m.cells(), " "), "none no - - -") {
		t.Errorf("got %q", m.cells())
	}
	single := newBenchPage([]measurement{{Strategy: "failed", Error: "broken"}, {Strategy: "made", Stored: 5}}, benchAbout{})
	if len(single.Dots) != 1 || single.Dots[0].Label != "made" {
		t.Errorf("got %+v", single.Dots)
	}
}

// The plot of strategies that are much alike can be read: no label lies on another, on a dot or outside of the picture.
func TestBenchLabels(t *testing.T) {
	t.Parallel()
	var results []measurement
	for i, name := range []string{"default", "compatible", "zucchini-own", "zucchini-plain", "bsdiff40", "bsdiff", "xdelta3", "zstd"} {
		results = append(results, measurement{Input: "a", Strategy: name, NewSize: 100_000, Stored: int64(4312 + 100*(i/2)), CPU: 0.1 + 0.001*float64(i/2), PeakKB: int64(1000 * i)})
	}
	results = append(results, measurement{Input: "a", Strategy: "whole-file", NewSize: 100_000, Stored: 487136, CPU: 0.7})
	dots := newBenchPage(results, benchAbout{}).Dots
	boxes := make([]image.Rectangle, len(dots))
	for i, d := range dots {
		left, width := d.LabelX, plotLetter*len(d.Label)
		if d.Anchor == "end" {
			left -= width
		}
		boxes[i] = image.Rect(left, d.LabelY-plotLine/2, left+width, d.LabelY+plotLine/2)
		if !boxes[i].In(image.Rect(plotLeft, plotTop, plotWidth, plotBottom)) {
			t.Errorf("%s is at %v, outside of the picture", d.Label, boxes[i])
		}
		for j := range i {
			if boxes[i].Overlaps(boxes[j]) {
				t.Errorf("%s at %v lies on %s at %v", d.Label, boxes[i], dots[j].Label, boxes[j])
			}
		}
	}
	if len(dots) != 9 {
		t.Errorf("got %d dots", len(dots))
	}
}

func TestBenchTexts(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		timeText(0, 0, 1): "–", timeText(0.0666, 0.0021, 5): "67 ± 2 ms", timeText(0.0666, 0, 1): "67 ms", timeText(12.34, 0.56, 3): "12.3 ± 0.6 s",
		roundSize(500): "500 B", roundSize(10_000): "10 kB", roundSize(200_000): "200 kB", roundSize(5e6): "5 MB",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Medians and spreads of runs are those that are worked out by hand.
func TestBenchMedian(t *testing.T) {
	t.Parallel()
	m := measurement{NewSize: 1000, Stored: 250}
	var runs []benchRun
	for _, ms := range []int{30, 10, 20, 50} {
		took := time.Duration(ms) * time.Millisecond
		runs = append(runs, benchRun{diff: usage{cpu: took, wall: 2 * took, peakKB: int64(ms)}, apply: usage{wall: took}})
	}
	m.take(runs)
	if m.CPU != 0.025 || m.CPUSpread != 0.04 || m.Wall != 0.05 || m.Apply != 0.025 || m.PeakKB != 50 || m.Saved != 0.75 || m.Runs != 4 {
		t.Errorf("got %+v", m)
	}
}

// One row is worked out by hand: the sizes of the patch, and of it behind xz. Memory is the child's own, not that of marctl.
func TestBenchRow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"old": strings.Repeat("one two three ", 50), "new": strings.Repeat("one two three ", 50) + "and four"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS == "windows" {
		t.Skip("the programs of this test are made by a shell")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{self: self, dir: dir, timeout: time.Minute, count: 2}
	copying := strategy{name: "copy", diff: []string{"cp", "{new}", "{patch}"}, apply: []string{"cp", "{patch}", "{out}"}}
	m := b.measure(t.Context(), copying, benchInput{"input", at("old"), at("new")})
	if m.Error != "" || m.Raw != 708 || m.Stored != 708 || m.NewSize != 708 || m.OldSize != 700 || m.Saved != 0 || m.Runs != 2 || m.Apply <= 0 {
		t.Errorf("got %+v", m)
	}
	if own := ownPeak(); own > 20<<10 && m.PeakKB > own/2 {
		t.Errorf("cp took %d kB, which is about what this process has (%d kB)", m.PeakKB, own)
	}
	if m := b.measure(t.Context(), strategy{name: "wrong", diff: []string{"cp", "{old}", "{patch}"}, apply: copying.apply}, benchInput{"input", at("old"), at("new")}); m.Error == "" || m.Stored != 0 {
		t.Errorf("what is not the new file: got %+v", m)
	}

	// The same patch, made and compressed here, has the sizes that the row of marctl's own has.
	var out bytes.Buffer
	if code := run(t.Context(), []string{"diff", at("old"), at("new"), at("patch")}, strings.NewReader(""), &out, &out); code != exitDone {
		t.Fatal(out.String())
	}
	patch, err := os.ReadFile(at("patch"))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z, err := xz.NewWriter(&packed, &xz.WriterOptions{Level: xz.Best, Patch: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(patch); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	marctl := at("marctl.sh")
	if err := os.WriteFile(marctl, []byte("#!/bin/sh\nexec env MARCTL_RUN=1 "+self+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.self = marctl
	row := b.measure(t.Context(), strategies()[0], benchInput{"input", at("old"), at("new")})
	if row.Error != "" || row.Raw != int64(len(patch)) || row.Stored != int64(packed.Len()) || row.InProcess <= 0 {
		t.Errorf("got %+v, want raw %d, stored %d", row, len(patch), packed.Len())
	}
}

// xdelta3's window has room for the old file, and not for much more.
func TestBenchWindow(t *testing.T) {
	t.Parallel()
	for in, want := range map[int64]int64{0: 1 << 20, 1 << 20: 1 << 20, 1<<20 + 1: 1 << 21, 150e6: 1 << 28, 3e9: 1<<31 - 1} {
		if got := window(in); got != want {
			t.Errorf("window(%d) = %d, want %d", in, got, want)
		}
	}
}

// Commands of one's own run beside those that --differ names, and may have their own format.
func TestBenchCommands(t *testing.T) {
	t.Parallel()
	got, err := chooseStrategies([]string{"default"}, []string{"a=x {old}", "b=y {old}"}, []string{"a=z {patch} {out}"})
	if err != nil || len(got) != 3 || got[1].name != "a" || got[1].updater || got[1].xz != "" || got[1].apply[0] != "z" || !got[2].updater {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range [][3][]string{{{"nosuch"}, nil, nil}, {nil, []string{"x"}, nil}, {nil, nil, []string{"a=z"}}, {nil, []string{"default=x"}, nil}} {
		if _, err := chooseStrategies(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Every form can be read by what it is for.
func TestBenchForms(t *testing.T) {
	t.Parallel()
	m := measurement{Input: "an input", Strategy: "default", NewSize: 1000, Stored: 250}
	m.take([]benchRun{{diff: usage{cpu: time.Second, wall: time.Second, peakKB: 3}}, {diff: usage{cpu: time.Second, wall: 2 * time.Second}}})
	results := []measurement{m, {Input: "an input", Strategy: "bad", Error: "broken"}}
	about := benchAbout{Date: "today", Machine: "this one", Programs: []benchProgram{{"default", "marctl 1", "{self} diff", "{self} patch"}}}
	form := func(format string) string {
		var out bytes.Buffer
		if err := writeBench(&out, format, results, about); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	lines := 0
	reader := benchfmt.NewReader(strings.NewReader(form("benchstat")), "bench.txt")
	for reader.Scan() {
		if r, ok := reader.Result().(*benchfmt.Result); ok {
			lines++
			if v, ok := r.Value("patch-bytes"); !ok || v != 250 {
				t.Errorf("patch-bytes is %v", v)
			}
		}
	}
	if err := reader.Err(); err != nil || lines != 2 {
		t.Errorf("benchstat reads %d results, %v", lines, err)
	}
	if rows := strings.Split(strings.TrimSpace(form("csv")), "\n"); len(rows) != 3 || strings.Count(rows[0], ",") != strings.Count(rows[2], ",") || !strings.Contains(rows[1], "75.0") {
		t.Errorf("got %q", rows)
	}
	for line := range strings.Lines(form("json")) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Error(err)
		}
	}
	page := form("html")
	for _, want := range []string{`name="viewport"`, "today", "this one", "marctl 1", "{self} diff", "<circle", "75.0 %", "failed: broken", "2 runs"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if regexp.MustCompile(`https?:`).MatchString(page) {
		t.Error("the page needs the network")
	}
}

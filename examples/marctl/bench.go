package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// strategy is one way to get from an old file to a new one. Each runs as a process of its own, so that CPU time and
// peak memory are its own.
type strategy struct {
	name    string
	updater bool // Gecko's updater can apply the result
	// diff and apply are command lines; {old}, {new}, {patch}, {out} and {self} stand for paths. Without apply the
	// result is the new file itself.
	diff, apply []string
	// xz says how the result is stored in an update: "patch" or "file"; "" where it is compressed already.
	xz string
}

// strategies returns what can be compared here: our own, and external programs that are installed.
func strategies() []strategy {
	own := func(args ...string) []string { return append([]string{"{self}", "diff", "--quiet"}, args...) }
	apply := []string{"{self}", "patch", "--quiet", "{old}", "{patch}", "{out}"}
	all := []strategy{
		{name: "default", updater: true, diff: own("{old}", "{new}", "{patch}"), apply: apply, xz: "patch"},
		{name: "compatible", updater: true, diff: own("--match", "compatible", "{old}", "{new}", "{patch}"), apply: apply, xz: "patch"},
		{name: "zucchini-own", updater: true, diff: own("--format", "zucchini", "{old}", "{new}", "{patch}"), apply: apply, xz: "patch"},
		{name: "zucchini-plain", updater: true, diff: own("--format", "zucchini-plain", "{old}", "{new}", "{patch}"), apply: apply, xz: "patch"},
		{name: "bsdiff40", diff: own("--format", "bsdiff40", "{old}", "{new}", "{patch}"), apply: apply},
		{name: "whole-file", updater: true, xz: "file"},
		{
			name: "mbsdiff", updater: true, diff: []string{"mbsdiff", "{old}", "{new}", "{patch}"},
			apply: apply, xz: "patch",
		},
		{
			name: "zucchini", diff: []string{"zucchini", "-gen", "{old}", "{new}", "{patch}"},
			apply: []string{"zucchini", "-apply", "{old}", "{patch}", "{out}"}, xz: "patch",
		},
		{name: "bsdiff", diff: []string{"bsdiff", "{old}", "{new}", "{patch}"}, apply: []string{"bspatch", "{old}", "{out}", "{patch}"}},
		{
			name: "xdelta3", diff: []string{"xdelta3", "-e", "-9", "-f", "-B", "2000000000", "-s", "{old}", "{new}", "{patch}"},
			apply: []string{"xdelta3", "-d", "-f", "-B", "2000000000", "-s", "{old}", "{patch}", "{out}"},
		},
		{
			name: "zstd", diff: []string{"zstd", "-q", "-f", "-19", "--long=31", "--patch-from={old}", "{new}", "-o", "{patch}"},
			apply: []string{"zstd", "-q", "-f", "-d", "--long=31", "--patch-from={old}", "{patch}", "-o", "{out}"},
		},
		{
			name: "hdiffz", diff: []string{"hdiffz", "-f", "-s-64", "-c-lzma2-9", "{old}", "{new}", "{patch}"},
			apply: []string{"hpatchz", "-f", "{old}", "{patch}", "{out}"},
		},
	}
	return slices.DeleteFunc(all, func(s strategy) bool {
		if s.diff == nil || s.diff[0] == "{self}" {
			return false
		}
		_, err := exec.LookPath(s.diff[0])
		return err != nil
	})
}

// benchInput is one pair of files.
type benchInput struct{ name, old, new string }

// measurement is what one strategy did with one input.
type measurement struct {
	Input    string `json:"input"`
	Strategy string `json:"strategy"`
	// Updater says whether Gecko's updater can apply the result.
	Updater bool  `json:"updater"`
	OldSize int64 `json:"old_size"`
	NewSize int64 `json:"new_size"`
	// Raw is the size of the patch as the differ makes it, Stored its size as it would stand in an update: after xz,
	// unless the format compresses by itself.
	Raw    int64 `json:"raw_bytes"`
	Stored int64 `json:"stored_bytes"`
	// CPU, Wall and PeakKB are of making the patch, without compressing it; XZCPU is of that.
	CPU    float64 `json:"cpu_seconds"`
	Wall   float64 `json:"wall_seconds"`
	PeakKB int64   `json:"peak_kb"`
	XZCPU  float64 `json:"xz_cpu_seconds"`
	// Apply is the wall time of applying the patch, whose result was compared with the new file.
	Apply float64 `json:"apply_seconds"`
	Error string  `json:"error,omitempty"`
}

func (a *app) benchCommand() *cobra.Command {
	var corpus, format, out string
	var names, commands []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "bench [OLD NEW]",
		Short: "Compare diff strategies on files or releases: bytes, CPU time, memory, time to apply",
		Long: `bench runs every strategy that it knows and finds (its own; mbsdiff, zucchini, bsdiff, xdelta3, zstd and
hdiffz where they are installed; and any given with --command) on two files, on all files that changed between two
complete updates, or on a corpus: a directory with pairs NAME.old and NAME.new, or from.mar and to.mar, there or in its
sub-directories. Each patch is applied and compared. The table says which of the results Gecko's updater could apply.`,
		Example: `  marctl bench libxul.so.old libxul.so.new
  marctl bench from.mar to.mar --differ default --differ compatible
  marctl bench --corpus corpus/ --format html --out bench.html
  marctl bench old new --command 'mine=./mydiff {old} {new} {patch}'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if corpus != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := chooseStrategies(names, commands)
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "marctl-bench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			inputs, err := benchInputs(cmd.Context(), dir, corpus, args)
			if err != nil {
				return err
			}
			places := []place{{what: "--out", name: cmp.Or(out, "-"), use: writes}}
			for _, in := range inputs {
				places = append(places, place{what: "an input", name: in.old, use: reads}, place{what: "an input", name: in.new, use: reads})
			}
			if err := a.keepApart(places); err != nil {
				return err
			}
			a.bytesOut = out == "-"
			self, err := os.Executable()
			if err != nil {
				return err
			}
			p := a.newProgress("bench")
			p.counts = true
			defer p.end()
			b := &bench{self: self, dir: dir, timeout: timeout}
			var results []measurement
			total := int64(len(inputs) * len(chosen))
			for _, in := range inputs {
				for _, s := range chosen {
					p.set(s.name+" "+in.name, int64(len(results)), total)
					results = append(results, b.measure(cmd.Context(), s, in))
					if err := cmd.Context().Err(); err != nil {
						return err
					}
				}
			}
			p.end()
			if a.json {
				format = "json"
			}
			err = a.writeFile(cmd.Context(), cmp.Or(out, "-"), func(w io.Writer) error { return writeBench(w, format, results) })
			if err == nil && slices.ContainsFunc(results, func(m measurement) bool { return m.Error != "" }) {
				return errAnswerNo
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&corpus, "corpus", "", "directory of pairs to run on")
	flags.StringArrayVar(&names, "differ", nil, "strategy to run (repeatable; default: all that are here)")
	flags.StringArrayVar(&commands, "command", nil, "further strategy as NAME=PROGRAM ARG…, with {old} {new} {patch}; its patches are MBDIFF10")
	choice(cmd, &format, "format", "text", "form of the result", "text", "json", "csv", "html")
	flags.StringVarP(&out, "out", "o", "", "where to write the result (default: standard output)")
	takes(cmd, reads, reads)
	flagTakes(cmd, writes, "out")
	flagTakes(cmd, finds, "corpus")
	must(cmd.RegisterFlagCompletionFunc("differ", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var names []string
		for _, s := range strategies() {
			names = append(names, s.name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}))
	flags.DurationVar(&timeout, "timeout", time.Hour, "longest time for one strategy on one file")
	return cmd
}

func chooseStrategies(names, commands []string) ([]strategy, error) {
	all := strategies()
	for _, c := range commands {
		name, line, ok := strings.Cut(c, "=")
		args := strings.Fields(line)
		if !ok || name == "" || len(args) == 0 {
			return nil, usagef("--command %q: want NAME=PROGRAM ARG…", c)
		}
		all = append(all, strategy{
			name: name, updater: true, diff: args, xz: "patch",
			apply: []string{"{self}", "patch", "--quiet", "{old}", "{patch}", "{out}"},
		})
	}
	if len(names) == 0 {
		return all, nil
	}
	var chosen []strategy
	for _, name := range names {
		i := slices.IndexFunc(all, func(s strategy) bool { return s.name == name })
		if i < 0 {
			var have []string
			for _, s := range all {
				have = append(have, s.name)
			}
			return nil, usagef("--differ %q: here are %s", name, strings.Join(have, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// benchInputs finds the pairs to run on. Members of updates are unpacked below dir.
func benchInputs(ctx context.Context, dir, corpus string, args []string) ([]benchInput, error) {
	if corpus == "" {
		if isMAR(args[0]) && isMAR(args[1]) {
			return unpackChanged(ctx, filepath.Join(dir, "in"), "", args[0], args[1])
		}
		return []benchInput{{filepath.Base(args[1]), args[0], args[1]}}, nil
	}
	var inputs []benchInput
	err := filepath.WalkDir(corpus, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base, isOld := strings.CutSuffix(name, ".old")
		to := filepath.Join(filepath.Dir(name), "to.mar")
		switch {
		case isOld && exists(base+".new"):
			inputs = append(inputs, benchInput{filepath.Base(base), name, base + ".new"})
		case d.Name() == "from.mar" && exists(to):
			release := filepath.Base(filepath.Dir(name))
			found, err := unpackChanged(ctx, filepath.Join(dir, "in", release), release+"/", name, to)
			inputs = append(inputs, found...)
			return err
		}
		return nil
	})
	if err == nil && len(inputs) == 0 {
		err = fmt.Errorf("%s: no pairs NAME.old and NAME.new, and no from.mar beside a to.mar", corpus)
	}
	return inputs, err
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func isMAR(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "MAR1"
}

// unpackChanged unpacks the files that two complete updates have in common and that differ.
func unpackChanged(ctx context.Context, dir, prefix, fromName, toName string) ([]benchInput, error) {
	from, err := openMAR(fromName, nil)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := openMAR(toName, nil)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	var inputs []benchInput
	for _, f := range to.Files() {
		old := from.Lookup(f.Name)
		if old == nil || strings.HasSuffix(f.Name, ".manifest") || sameMember(old, f) {
			continue
		}
		in := benchInput{prefix + f.Name, filepath.Join(dir, "from", f.Name), filepath.Join(dir, "to", f.Name)}
		for name, member := range map[string]*mar.File{in.old: old, in.new: f} {
			if err := unpack(ctx, name, member); err != nil {
				return nil, fmt.Errorf("%s: %w", member.Name, err)
			}
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

func sameMember(a, b *mar.File) bool {
	if a.Size != b.Size {
		return false
	}
	x, errX := io.ReadAll(a.Section())
	y, errY := io.ReadAll(b.Section())
	return errX == nil && errY == nil && string(x) == string(y)
}

func unpack(ctx context.Context, name string, f *mar.File) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	in, err := openMember(f)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(stream.NewWriter(ctx, out), in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

type bench struct {
	self, dir string
	timeout   time.Duration
}

// measure runs one strategy on one input.
func (b *bench) measure(ctx context.Context, s strategy, in benchInput) measurement {
	m := measurement{Input: in.name, Strategy: s.name, Updater: s.updater, OldSize: fileSize(in.old), NewSize: fileSize(in.new)}
	paths := map[string]string{
		"old": in.old, "new": in.new, "self": b.self,
		"patch": filepath.Join(b.dir, "patch"), "out": filepath.Join(b.dir, "out"),
	}
	if err := b.fill(ctx, &m, s, in, paths); err != nil {
		m.Error = err.Error()
	}
	for _, name := range []string{"patch", "out"} {
		os.Remove(filepath.Join(b.dir, name))
	}
	return m
}

func (b *bench) fill(ctx context.Context, m *measurement, s strategy, in benchInput, paths map[string]string) error {
	source := paths["patch"]
	if s.apply == nil { // the new file itself
		source, m.Raw = in.new, m.NewSize
	} else {
		u, err := b.run(ctx, s.diff, paths)
		if err != nil {
			return err
		}
		m.CPU, m.Wall, m.PeakKB, m.Raw = u.cpu.Seconds(), u.wall.Seconds(), u.peakKB, fileSize(paths["patch"])
		if u, err = b.run(ctx, s.apply, paths); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		m.Apply = u.wall.Seconds()
		if err := sameContent(paths["out"], in.new); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	m.Stored = m.Raw
	var line []string
	switch s.xz {
	case "patch":
		line = []string{"{self}", "xz", "--quiet", "--level", "best", "--patch", source, "{out}"}
	case "file":
		line = []string{"{self}", "xz", "--quiet", "--level", "6", "--filter", "x86", source, "{out}"}
	default:
		return nil
	}
	u, err := b.run(ctx, line, paths)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	m.XZCPU, m.Stored = u.cpu.Seconds(), fileSize(paths["out"])
	return nil
}

// usage is what a process took.
type usage struct {
	cpu, wall time.Duration
	peakKB    int64
}

func (b *bench) run(ctx context.Context, line []string, paths map[string]string) (usage, error) {
	args := slices.Clone(line)
	for i := range args {
		for name, path := range paths {
			args[i] = strings.ReplaceAll(args[i], "{"+name+"}", path)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	said, err := cmd.CombinedOutput()
	u := usage{wall: time.Since(start)}
	if cmd.ProcessState != nil {
		u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		u.peakKB = peakMemory(cmd.ProcessState)
	}
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("took longer than %v", b.timeout)
		}
		return u, fmt.Errorf("%s: %w: %s", filepath.Base(args[0]), err, strings.Join(strings.Fields(string(said)), " "))
	}
	return u, nil
}

func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

func sameContent(a, b string) error {
	x, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	y, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if string(x) != string(y) {
		return errors.New("the result is not the new file")
	}
	return nil
}

var benchColumns = []string{"input", "strategy", "updater", "raw", "stored", "cpu_s", "wall_s", "peak_kb", "xz_cpu_s", "apply_s", "error"}

func (m measurement) cells() []string {
	seconds := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
	updater := "no"
	if m.Updater {
		updater = "yes"
	}
	return []string{
		m.Input, m.Strategy, updater, strconv.FormatInt(m.Raw, 10), strconv.FormatInt(m.Stored, 10),
		seconds(m.CPU), seconds(m.Wall), strconv.FormatInt(m.PeakKB, 10), seconds(m.XZCPU), seconds(m.Apply), m.Error,
	}
}

func writeBench(w io.Writer, format string, results []measurement) error {
	switch format {
	case "json":
		return each(&app{stdout: w, json: true}, results, nil)
	case "csv":
		out := csv.NewWriter(w)
		if err := out.Write(benchColumns); err != nil {
			return err
		}
		for _, m := range results {
			if err := out.Write(m.cells()); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	case "html":
		return benchPage.Execute(w, benchCharts(results))
	}
	p := &printer{w: w}
	p.table(func(row func(...any)) {
		line := func(cells []string) {
			items := make([]any, len(cells))
			for i, c := range cells {
				items[i] = c
			}
			row(items...)
		}
		line(benchColumns)
		for _, m := range results {
			line(m.cells())
		}
		for _, m := range benchTotals(results) {
			line(m.cells())
		}
	})
	return p.err
}

// benchTotals sums up each strategy over all inputs, where there are several.
func benchTotals(results []measurement) []measurement {
	var totals []measurement
	inputs := map[string]bool{}
	for _, m := range results {
		inputs[m.Input] = true
		i := slices.IndexFunc(totals, func(t measurement) bool { return t.Strategy == m.Strategy })
		if i < 0 {
			i = len(totals)
			totals = append(totals, measurement{Input: "(all)", Strategy: m.Strategy, Updater: m.Updater})
		}
		t := &totals[i]
		t.OldSize, t.NewSize, t.Raw, t.Stored = t.OldSize+m.OldSize, t.NewSize+m.NewSize, t.Raw+m.Raw, t.Stored+m.Stored
		t.CPU, t.Wall, t.XZCPU, t.Apply = t.CPU+m.CPU, t.Wall+m.Wall, t.XZCPU+m.XZCPU, t.Apply+m.Apply
		t.PeakKB = max(t.PeakKB, m.PeakKB)
		if m.Error != "" {
			t.Error = "failed on some"
		}
	}
	if len(inputs) < 2 {
		return nil
	}
	return totals
}

// chart is a bar chart of one quantity over the strategies.
type chart struct {
	Title string
	Bars  []bar
}

type bar struct {
	Label, Value string
	Width, Y     int
	Updater      bool
}

type benchData struct {
	Charts  []chart
	Columns []string
	Rows    [][]string
}

func benchCharts(results []measurement) benchData {
	data := benchData{Columns: benchColumns}
	sums := benchTotals(results)
	if sums == nil {
		sums = results
	}
	for _, q := range []struct {
		title string
		value func(m measurement) float64
		text  func(f float64) string
	}{
		{"Bytes in an update", func(m measurement) float64 { return float64(m.Stored) }, func(f float64) string { return size(int64(f)) }},
		{"CPU seconds, diff and compression", func(m measurement) float64 { return m.CPU + m.XZCPU }, func(f float64) string { return fmt.Sprintf("%.2f s", f) }},
		{"Peak memory of the diff", func(m measurement) float64 { return float64(m.PeakKB) * 1024 }, func(f float64) string { return size(int64(f)) }},
		{"Seconds to apply", func(m measurement) float64 { return m.Apply }, func(f float64) string { return fmt.Sprintf("%.2f s", f) }},
	} {
		c := chart{Title: q.title}
		largest := 0.0
		for _, m := range sums {
			largest = max(largest, q.value(m))
		}
		for i, m := range sums {
			width := 0
			if largest > 0 {
				width = int(500 * q.value(m) / largest)
			}
			c.Bars = append(c.Bars, bar{m.Strategy, q.text(q.value(m)), width, 24 * i, m.Updater})
		}
		data.Charts = append(data.Charts, c)
	}
	for _, m := range append(slices.Clone(results), benchTotals(results)...) {
		data.Rows = append(data.Rows, m.cells())
	}
	return data
}

var benchPage = template.Must(template.New("bench").Funcs(template.FuncMap{
	"height": func(bars []bar) int { return 24 * len(bars) },
	"plus":   func(a, b int) int { return a + b },
}).Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Diff strategies compared</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d1d1f; background: #fff }
table { border-collapse: collapse } th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
text { font: 13px system-ui, sans-serif }
.yes { fill: #1a5fb4 } .no { fill: #9a9996 }
</style>
<h1>Diff strategies compared</h1>
<p>Blue: Gecko's updater can apply the result. Grey: it cannot. Every patch was applied and compared with the new file.</p>
{{range .Charts}}<h2>{{.Title}}</h2>
<svg width="860" height="{{height .Bars}}" role="img" aria-label="{{.Title}}">
{{range .Bars}}<text x="0" y="{{plus .Y 16}}">{{.Label}}</text><rect x="120" y="{{plus .Y 3}}" width="{{.Width}}" height="17" class="{{if .Updater}}yes{{else}}no{{end}}"/><text x="{{plus .Width 128}}" y="{{plus .Y 16}}">{{.Value}}</text>
{{end}}</svg>
{{end}}<h2>All figures</h2>
<table><tr>{{range .Columns}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
</html>
`))

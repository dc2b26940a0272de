package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
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
	version     []string // prints the program's version
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
			// The window is the whole old file, as large as it is and no larger: memory for it is cleared each time.
			name: "xdelta3", diff: []string{"xdelta3", "-e", "-9", "-f", "-B", "{window}", "-s", "{old}", "{new}", "{patch}"},
			apply: []string{"xdelta3", "-d", "-f", "-B", "{window}", "-s", "{old}", "{patch}", "{out}"}, version: []string{"xdelta3", "-V"},
		},
		{
			// As zstd's manual has it for patches; level 19 is the highest that needs no --ultra.
			name: "zstd", diff: []string{"zstd", "-q", "-f", "-19", "--long=31", "--patch-from={old}", "{new}", "-o", "{patch}"},
			apply: []string{"zstd", "-q", "-f", "-d", "--long=31", "--patch-from={old}", "{patch}", "-o", "{out}"}, version: []string{"zstd", "--version"},
		},
		{
			// Both files in memory, which is hdiffz's default and makes its smallest patches.
			name: "hdiffz", diff: []string{"hdiffz", "-f", "-m", "-c-lzma2-9", "{old}", "{new}", "{patch}"},
			apply: []string{"hpatchz", "-f", "{old}", "{patch}", "{out}"}, version: []string{"hdiffz", "-v"},
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

// measurement is what one strategy did with one input, a line of JSON of bench. Times are the median of all runs.
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
	// Saved is the share of the new file, from 0 to 1, that Stored saves.
	Saved float64 `json:"saved"`
	Runs  int     `json:"runs"`
	// CPU, Wall and PeakKB are of making the patch, without compressing it; XZCPU is of that. CPUSpread is how far the runs
	// are apart, the largest less the smallest.
	CPU       float64 `json:"cpu_seconds"`
	CPUSpread float64 `json:"cpu_spread_seconds"`
	Wall      float64 `json:"wall_seconds"`
	PeakKB    int64   `json:"peak_kb"` // 0: not known
	XZCPU     float64 `json:"xz_cpu_seconds"`
	// Apply is the wall time of applying the patch, in a process of its own for every strategy, whose result was compared
	// with the new file. InProcess is that of applying it within this process, for the formats that marctl applies.
	Apply       float64 `json:"apply_seconds"`
	ApplySpread float64 `json:"apply_spread_seconds"`
	InProcess   float64 `json:"apply_in_process_seconds,omitempty"`
	// Inputs is, in a total, of how many inputs it is.
	Inputs int    `json:"inputs,omitempty"`
	Error  string `json:"error,omitempty"`

	runs []benchRun
}

// benchRun is one run of a strategy.
type benchRun struct {
	diff, compress, apply usage
	inProcess             time.Duration
}

// take puts the middle of all runs into the measurement.
func (m *measurement) take(runs []benchRun) {
	m.runs, m.Runs = runs, len(runs)
	m.Saved = 1 - float64(m.Stored)/float64(max(m.NewSize, 1))
	of := func(value func(r benchRun) float64) (median, spread float64) {
		values := make([]float64, len(runs))
		for i, r := range runs {
			values[i] = value(r)
		}
		slices.Sort(values)
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2, values[len(values)-1] - values[0]
	}
	m.CPU, m.CPUSpread = of(func(r benchRun) float64 { return r.diff.cpu.Seconds() })
	m.Wall, _ = of(func(r benchRun) float64 { return r.diff.wall.Seconds() })
	m.XZCPU, _ = of(func(r benchRun) float64 { return r.compress.cpu.Seconds() })
	m.Apply, m.ApplySpread = of(func(r benchRun) float64 { return r.apply.wall.Seconds() })
	m.InProcess, _ = of(func(r benchRun) float64 { return r.inProcess.Seconds() })
	for _, r := range runs {
		m.PeakKB = max(m.PeakKB, r.diff.peakKB)
	}
}

func (a *app) benchCommand() *cobra.Command {
	var corpus, format, out string
	var names, commands, applies []string
	var count int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "bench [OLD NEW]",
		Short: "Compare diff strategies on files or releases: bytes, CPU time, memory, time to apply",
		Long: `bench runs every strategy that it knows and finds (its own; mbsdiff, zucchini, bsdiff, xdelta3, zstd and
hdiffz where they are installed; and any given with --command) on two files, on all files that changed between two
complete updates, or on a corpus: a directory with pairs NAME.old and NAME.new, or from.mar and to.mar, there or in its
sub-directories. Each patch is applied and compared. The table says which of the results Gecko's updater could apply.

Everything runs as a process of its own, so that time and memory are its own. Programs run at their best for the purpose:
xdelta3 with a window as large as the old file, hdiffz with both files in memory, zstd with --patch-from at level 19 and
whole files with xz at level 6 and the x86 filter, as updates have them. --command adds a program whose patches are MBDIFF10;
with --apply-command they may be of any format. Totals are of the inputs that all strategies managed.`,
		Example: `  marctl bench libxul.so.old libxul.so.new
  marctl bench from.mar to.mar --differ default --differ compatible
  marctl bench --corpus corpus/ --format html --out bench.html
  marctl bench --count 10 --format benchstat old new > bench.txt
  marctl bench old new --command 'mine=./mydiff {old} {new} {patch}'
  marctl bench old new --command 'mine=./mydiff {old} {new} {patch}' --apply-command 'mine=./mypatch {old} {patch} {out}'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if corpus != "" {
				return noArgs(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := chooseStrategies(names, commands, applies)
			if err != nil {
				return err
			}
			if count < 1 {
				return usagef("--count %d: want 1 or more", count)
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
			b := &bench{self: self, dir: dir, timeout: timeout, count: count}
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
			err = a.writeFile(cmd.Context(), cmp.Or(out, "-"), func(w io.Writer) error { return writeBench(w, format, results, describeBench(cmd.Context(), chosen)) })
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
	choice(cmd, &format, "format", "text", "form of the result", "text", "json", "csv", "benchstat", "html")
	flags.IntVar(&count, "count", 1, "how often to run each")
	flags.StringArrayVar(&applies, "apply-command", nil, "what applies the patches of a --command, as NAME=PROGRAM ARG…, with {old} {patch} {out}")
	freeText(cmd, "command", "apply-command")
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

func chooseStrategies(names, commands, applies []string) ([]strategy, error) {
	all := strategies()
	chosen := all
	if len(names) > 0 {
		chosen = nil
		var have []string
		for _, s := range all {
			have = append(have, s.name)
		}
		own := map[string]bool{}
		for _, c := range commands {
			name, _, _ := strings.Cut(c, "=")
			own[name] = true
		}
		for _, name := range names {
			i := slices.Index(have, name)
			if i < 0 && own[name] {
				continue // comes below
			}
			if i < 0 {
				return nil, usagef("--differ %q: here are %s%s", name, strings.Join(have, ", "), didYouMean(name, have))
			}
			chosen = append(chosen, all[i])
		}
	}
	for _, c := range commands {
		name, args, err := namedCommand("command", c)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chosen, func(s strategy) bool { return s.name == name }) {
			return nil, usagef("--command %q: there is a strategy of that name", name)
		}
		chosen = append(chosen, strategy{
			name: name, updater: true, diff: args, xz: "patch",
			apply: []string{"{self}", "patch", "--quiet", "{old}", "{patch}", "{out}"},
		})
	}
	for _, c := range applies {
		name, args, err := namedCommand("apply-command", c)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(commands, func(c string) bool { return strings.HasPrefix(c, name+"=") })
		if i < 0 {
			return nil, usagef("--apply-command %q: there is no --command of that name", name)
		}
		s := &chosen[len(chosen)-len(commands)+i]
		s.apply, s.updater, s.xz = args, false, ""
	}
	return chosen, nil
}

func namedCommand(flag, text string) (string, []string, error) {
	name, line, ok := strings.Cut(text, "=")
	args := strings.Fields(line)
	if !ok || name == "" || len(args) == 0 {
		return "", nil, usagef("--%s %q: want NAME=PROGRAM ARG…", flag, text)
	}
	return name, args, nil
}

// benchInputs finds the pairs to run on. Members of updates are unpacked below dir.
func benchInputs(ctx context.Context, dir, corpus string, args []string) ([]benchInput, error) {
	if corpus == "" {
		for _, name := range args {
			if info, err := os.Stat(name); err != nil {
				return nil, err
			} else if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("%s: no regular file (a directory of pairs is for --corpus)", name)
			}
		}
		if isMAR(args[0]) && isMAR(args[1]) {
			inputs, err := unpackChanged(ctx, filepath.Join(dir, "in"), "", args[0], args[1])
			if err == nil && len(inputs) == 0 {
				err = fmt.Errorf("%s and %s: no file that both have differs", args[0], args[1])
			}
			return inputs, err
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
	count     int
}

// measure runs one strategy on one input.
func (b *bench) measure(ctx context.Context, s strategy, in benchInput) measurement {
	m := measurement{Input: in.name, Strategy: s.name, Updater: s.updater, OldSize: fileSize(in.old), NewSize: fileSize(in.new)}
	paths := map[string]string{
		"old": in.old, "new": in.new, "self": b.self,
		"patch": filepath.Join(b.dir, "patch"), "out": filepath.Join(b.dir, "out"), "window": strconv.FormatInt(window(m.OldSize), 10),
	}
	var runs []benchRun
	for range b.count {
		var r benchRun
		err := b.fill(ctx, &m, &r, s, in, paths)
		for _, name := range []string{"patch", "out"} {
			os.Remove(filepath.Join(b.dir, name))
		}
		if err != nil {
			// What failed has no figures: a part of them would look like a good result.
			return measurement{Input: m.Input, Strategy: m.Strategy, Updater: m.Updater, OldSize: m.OldSize, NewSize: m.NewSize, Error: err.Error()}
		}
		runs = append(runs, r)
	}
	m.take(runs)
	return m
}

// window is the least power of two that an old file has room in, of those that xdelta3 takes.
func window(size int64) int64 {
	w := int64(1) << 20
	for w < size && w < 1<<31 {
		w <<= 1
	}
	return min(w, 1<<31-1)
}

func (b *bench) fill(ctx context.Context, m *measurement, r *benchRun, s strategy, in benchInput, paths map[string]string) error {
	source := paths["patch"]
	if s.apply == nil { // the new file itself
		source, m.Raw = in.new, m.NewSize
	} else {
		u, err := b.run(ctx, s.diff, paths)
		if err != nil {
			return err
		}
		r.diff, m.Raw = u, fileSize(paths["patch"])
		if u, err = b.run(ctx, s.apply, paths); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		r.apply = u
		if err := sameContent(paths["out"], in.new); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		if s.apply[0] == "{self}" {
			if r.inProcess, err = applyHere(ctx, in.old, paths["patch"]); err != nil {
				return fmt.Errorf("apply: %w", err)
			}
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
	r.compress, m.Stored = u, fileSize(paths["out"])
	return nil
}

// applyHere applies a patch within this process, for the time that it takes without starting one.
func applyHere(ctx context.Context, oldName, patchName string) (time.Duration, error) {
	start := time.Now()
	old, err := os.Open(oldName)
	if err != nil {
		return 0, err
	}
	defer old.Close()
	patch, err := openPatch(patchName)
	if err != nil {
		return 0, err
	}
	defer patch.Close()
	_, err = applyPatch(ctx, io.Discard, old, fileSize(oldName), patch, false)
	return time.Since(start), err
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
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Start()
	var seen func() int64
	if err == nil {
		seen = watchMemory(cmd.Process.Pid)
		err = cmd.Wait()
	}
	u := usage{wall: time.Since(start)}
	said := out.Bytes()
	if cmd.ProcessState != nil {
		u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		u.peakKB = peakMemory(cmd.ProcessState)
		if seen != nil {
			// A child is born with the memory of its parent, and the system counts that: below it counts what was seen,
			// which is nothing where the child ended at once.
			if own := seen(); u.peakKB <= ownPeak() {
				u.peakKB = own
			}
		}
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

var benchColumns = []string{
	"input", "strategy", "updater", "raw", "stored", "saved_%", "cpu_s", "±", "wall_s", "peak_kb", "xz_cpu_s", "apply_s", "±", "in_process_s", "error",
}

func (m *measurement) cells() []string {
	seconds := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	updater := "no"
	if m.Updater {
		updater = "yes"
	}
	cells := []string{m.Input, m.Strategy, updater}
	if m.Error != "" {
		return append(append(cells, slices.Repeat([]string{"-"}, len(benchColumns)-len(cells)-1)...), m.Error)
	}
	return append(cells,
		strconv.FormatInt(m.Raw, 10), strconv.FormatInt(m.Stored, 10), strconv.FormatFloat(100*m.Saved, 'f', 1, 64),
		seconds(m.CPU), seconds(m.CPUSpread), seconds(m.Wall), strconv.FormatInt(m.PeakKB, 10), seconds(m.XZCPU),
		seconds(m.Apply), seconds(m.ApplySpread), seconds(m.InProcess), "")
}

func writeBench(w io.Writer, format string, results []measurement, about benchAbout) error {
	switch format {
	case "json":
		return each(&app{stdout: w, json: true}, results, nil)
	case "csv":
		out := csv.NewWriter(w)
		columns := slices.Clone(benchColumns)
		columns[7], columns[12] = "cpu_spread_s", "apply_spread_s"
		if err := out.Write(columns); err != nil {
			return err
		}
		for _, m := range results {
			if err := out.Write(m.cells()); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	case "benchstat":
		return writeBenchstat(w, results)
	case "html":
		return benchPage.Execute(w, newBenchPage(results, about))
	}
	p := &printer{w: w}
	totals := benchTotals(results)
	p.table(func(row func(...any)) {
		line := func(cells []string) {
			items := make([]any, len(cells))
			for i, c := range cells {
				items[i] = c
			}
			row(items...)
		}
		line(benchColumns)
		for _, m := range append(slices.Clone(results), totals...) {
			line(m.cells())
		}
	})
	if len(totals) > 0 {
		p.printf("%s\n", benchTotalsNote(results, totals))
	}
	return p.err
}

// writeBenchstat writes every run as a line that benchstat reads (https://pkg.go.dev/golang.org/x/perf/cmd/benchstat).
func writeBenchstat(w io.Writer, results []measurement) error {
	p := &printer{w: w}
	for _, m := range results {
		for _, r := range m.runs {
			name := "BenchmarkDiff/differ=" + m.Strategy + "/input=" + strings.ReplaceAll(m.Input, " ", "_")
			p.printf("%s 1 %d ns/op %d patch-bytes %d cpu-ns/op %d apply-ns/op %d peak-bytes\n",
				name, r.diff.wall.Nanoseconds(), m.Stored, (r.diff.cpu + r.compress.cpu).Nanoseconds(), r.apply.wall.Nanoseconds(), r.diff.peakKB<<10)
		}
		if m.Error != "" {
			p.printf("# %s failed on %s\n", m.Strategy, m.Input)
		}
	}
	return p.err
}

// benchTotals sums up each strategy over the inputs that all strategies managed, where there are several inputs. One that
// failed on everything counts for none of that; it has its failure alone.
func benchTotals(results []measurement) []measurement {
	var inputs, names []string
	failed, ran := map[string]int{}, map[string]int{}
	for _, m := range results {
		if !slices.Contains(inputs, m.Input) {
			inputs = append(inputs, m.Input)
		}
		if !slices.Contains(names, m.Strategy) {
			names = append(names, m.Strategy)
		}
		ran[m.Strategy]++
		if m.Error != "" {
			failed[m.Strategy]++
		}
	}
	if len(inputs) < 2 {
		return nil
	}
	good := slices.DeleteFunc(slices.Clone(inputs), func(input string) bool {
		return slices.ContainsFunc(results, func(m measurement) bool {
			return m.Input == input && m.Error != "" && failed[m.Strategy] < ran[m.Strategy]
		})
	})
	var totals []measurement
	for _, name := range names {
		t := measurement{Input: "(all)", Strategy: name, Inputs: len(good)}
		for _, m := range results {
			if m.Strategy != name {
				continue
			}
			t.Updater = m.Updater
			if !slices.Contains(good, m.Input) || m.Error != "" {
				continue
			}
			t.OldSize, t.NewSize, t.Raw, t.Stored = t.OldSize+m.OldSize, t.NewSize+m.NewSize, t.Raw+m.Raw, t.Stored+m.Stored
			t.CPU, t.Wall, t.XZCPU, t.Apply = t.CPU+m.CPU, t.Wall+m.Wall, t.XZCPU+m.XZCPU, t.Apply+m.Apply
			t.CPUSpread, t.ApplySpread, t.InProcess = t.CPUSpread+m.CPUSpread, t.ApplySpread+m.ApplySpread, t.InProcess+m.InProcess
			t.PeakKB, t.Runs = max(t.PeakKB, m.PeakKB), m.Runs
		}
		t.Saved = 1 - float64(t.Stored)/float64(max(t.NewSize, 1))
		switch n := failed[name]; {
		case n == ran[name]:
			t.Error = "failed on all inputs"
		case len(good) == 0:
			t.Error = "there is no input that all managed"
		}
		totals = append(totals, t)
	}
	return totals
}

// benchTotalsNote says what the totals are of.
func benchTotalsNote(results, totals []measurement) string {
	inputs := map[string]bool{}
	bad := map[string]int{}
	var names []string
	for _, m := range results {
		inputs[m.Input] = true
		if m.Error != "" {
			if bad[m.Strategy]++; bad[m.Strategy] == 1 {
				names = append(names, m.Strategy)
			}
		}
	}
	note := fmt.Sprintf("(all): the %d of %d inputs that all strategies managed", totals[0].Inputs, len(inputs))
	for i, name := range names {
		note += fmt.Sprintf("%s %s failed on %d", []string{";", ","}[min(i, 1)], name, bad[name])
	}
	return note
}

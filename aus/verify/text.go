package verify

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// TextOptions say how a report is written for a terminal.
type TextOptions struct {
	Color   bool // ANSI colours beside the words
	Width   int  // columns; 0: 100
	All     bool // a line for every test that passed, too
	Verbose bool // all evidence that was kept, and every test of a group by its name
}

// text writes one report.
type text struct {
	w *bufio.Writer
	r *Report
	o TextOptions
}

func (t *text) printf(format string, args ...any) { put(t.w, format, args...) }

// put writes to a writer that keeps its first error for Flush.
func put(w *bufio.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

func (t *text) paint(colour, s string) string {
	if !t.o.Color || s == "" {
		return s
	}
	return colour + s + plain
}

// verdict is the report in a word.
func (r *Report) verdict() (word, detail string) {
	n := r.Totals()
	var parts []string
	add := func(k int, format string) {
		if k > 0 {
			parts = append(parts, fmt.Sprintf(format, thousands(k)))
		}
	}
	switch {
	case n.Tests == 0:
		return "NOTHING TESTED", "no test was found"
	case !r.Complete || n.Interrupted+n.NotRun+n.Error > 0:
		add(n.Fail, "%s failed")
		add(n.Pass, "%s passed")
		add(n.Warn, "%s warned")
		add(n.Error, "%s could not be tested")
		add(n.Interrupted, "%s interrupted")
		add(n.NotRun, "%s not run")
		add(n.Known, "%s failed as expected")
		detail = strings.Join(parts, ", ")
		if n.Fail > 0 {
			return "FAILED, INCOMPLETE", detail
		}
		return "INCOMPLETE", detail
	}
	parts = append(parts, "passed "+thousands(n.Pass), "warned "+thousands(n.Warn), "not run 0")
	if n.Known > 0 {
		parts = append(parts, "failed as expected "+thousands(n.Known))
	}
	detail = strings.Join(parts, "   ")
	if n.Fail > 0 {
		return "FAILED", fmt.Sprintf("%s of %s        %s", thousands(n.Fail), thousands(n.Tests), detail)
	}
	if n.Warn+n.Remarks > 0 {
		return "PASSED, WITH WARNINGS", detail
	}
	return "PASSED", detail
}

// title is the head of a report in the parts that are known.
func (r *Report) title() []string {
	var parts []string
	if name := strings.TrimSpace(r.Product + " " + r.To.Version); name != "" {
		parts = append(parts, name)
	}
	for _, list := range [][]string{r.Platforms, r.Channels} {
		switch {
		case len(list) == 1:
			parts = append(parts, list[0])
		case len(list) > 1 && len(list) <= 3:
			parts = append(parts, strings.Join(list, ", "))
		case len(list) > 3:
			parts = append(parts, fmt.Sprintf("%s and %d more", list[0], len(list)-1))
		}
	}
	return parts
}

// extent says how much was read or tested.
func (r *Report) extent() string {
	said := count(len(r.Tests), "test")
	if r.Source == "log" {
		lines := 0
		for _, f := range r.Files {
			lines += f.Lines
		}
		said += " in " + count(len(r.Files), "log") + ", " + count(lines, "line")
	}
	return said
}

// WriteText writes the report for a person at a terminal: the verdict, then each cause with what it hits, what is
// likely behind it and what to do, then what passed.
func (r *Report) WriteText(w io.Writer, opts *TextOptions) error {
	t := &text{w: bufio.NewWriter(w), r: r}
	if opts != nil {
		t.o = *opts
	}
	if t.o.Width <= 0 {
		t.o.Width = 100
	}
	t.printf("%s  %s\n", t.paint(bold, "update verify"), printable(strings.Join(append(r.title(), r.extent()), "  ")))
	word, detail := r.verdict()
	colour := red
	switch word {
	case "PASSED":
		colour = green
	case "PASSED, WITH WARNINGS", "INCOMPLETE":
		colour = yellow
	}
	t.printf("\n  %s   %s\n", t.paint(colour+bold, word), detail)
	for i := range r.Groups {
		t.group(&r.Groups[i])
	}
	t.passed()
	if t.o.All {
		t.all()
	}
	t.rules()
	if len(r.Notes) > 0 {
		t.printf("\n")
		for _, note := range r.Notes {
			t.wrap("  note: ", "        ", clean([]byte(note), 2000))
		}
	}
	return t.w.Flush()
}

// group writes one cause.
func (t *text) group(g *Group) {
	tests := count(g.Tests, "test")
	title := g.Title
	colour := red
	switch g.Result {
	case Warn, Pass, Interrupted, NotRun, Error:
		colour = yellow
	case Known:
		colour = dim
	}
	mark := ""
	switch g.Result {
	case Warn:
		mark = "warning: "
	case Pass:
		mark = "remark: "
	}
	title = mark + title
	gap := max(2, t.o.Width-5-utf8.RuneCountInString(title)-len(tests))
	t.printf("\n  %-2d %s%s%s\n", g.ID, t.paint(colour+bold, title), strings.Repeat(" ", gap), tests)
	first := &t.r.Tests[g.first]
	to := ""
	if t.r.To.Version != "" {
		to = " -> " + t.r.To.Version
	}
	release, rest, _ := strings.Cut(printable(g.Members), "  ")
	if len(t.r.Platforms) > 1 {
		t.printf("     %s\n", printable(g.Members))
	} else {
		t.printf("     %s%s  %s\n", release, to, rest)
	}
	files := []FileDiff(nil)
	if len(first.Reasons) > 0 {
		files = first.Reasons[0].Files
	}
	shown := 0
	if len(files) > 0 && !strings.HasSuffix(g.What, "and others") {
		for _, f := range files {
			if strings.HasSuffix(f.Kind, "directory") && len(files) > 1 {
				continue
			}
			if shown == 5 && !t.o.Verbose {
				t.printf("       and %s\n", count(len(files)-shown, "more difference"))
				break
			}
			shown++
			t.printf("       %s   %s\n", printable(f.Path), kindWords(f))
		}
	} else if g.What != "" && g.What != g.Title {
		t.wrap("       ", "       ", g.What)
	}
	t.evidence(first)
	switch {
	case g.Beside != "" && g.Cause != "":
		t.wrap("     ", "     ", g.Beside+" -> "+g.Cause)
	case g.Cause != "":
		t.wrap("     -> ", "        ", g.Cause)
	case g.Beside != "":
		t.wrap("     ", "     ", g.Beside)
	}
	if g.MAR != "" {
		t.printf("     the MAR: %s\n", printable(g.MAR))
	}
	if g.Next != "" {
		t.printf("     next: %s\n", printable(g.Next))
	}
	if place := first.place(); place != "" {
		if g.Tests > 1 {
			place += fmt.Sprintf("  (the first of %d)", g.Tests)
		}
		t.printf("     %s\n", t.paint(dim, printable(place)))
	}
	if t.o.Verbose && g.Tests > 1 {
		for _, i := range g.indices {
			test := &t.r.Tests[i]
			t.printf("       %s\n", printable(fmt.Sprintf("%s %s %s %s   %s", test.Release, test.Platform, test.Locale, test.PatchType, test.place())))
		}
	}
}

// place is where the first reason stands: FILE:LINE.
func (t *Test) place() string {
	file, line := t.File, t.Line
	for _, r := range t.Reasons {
		if r.Evidence != nil && r.Evidence.Line > 0 {
			line = r.Evidence.Line
			if r.Evidence.File != "" {
				file = r.Evidence.File
			}
			break
		}
	}
	switch {
	case file == "":
		return ""
	case line == 0:
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func kindWords(f FileDiff) string {
	switch f.Kind {
	case "content":
		if f.Offset != nil {
			return fmt.Sprintf("differs from byte %d on", *f.Offset)
		}
		return "differs"
	case "missing", "missing directory":
		return "is missing"
	case "extra", "extra directory":
		return "should not be there"
	case "mode":
		return "has another mode"
	}
	return f.Kind
}

// evidence writes the lines of a log that show the trouble best: of a difference what was taken away and put in.
func (t *text) evidence(test *Test) {
	if len(test.Reasons) == 0 || test.Reasons[0].Evidence == nil {
		return
	}
	lines := test.Reasons[0].Evidence.Text
	if !t.o.Verbose {
		var best []string
		if len(test.Reasons[0].Files) > 0 {
			for _, line := range lines {
				if len(line) > 1 && strings.ContainsRune("+-<>", rune(line[0])) && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "+++") {
					best = append(best, line)
				}
			}
		}
		if len(best) > 6 {
			best = append(best[:6], fmt.Sprintf("… %s", count(len(best)-6, "more line")))
		}
		lines = best
	}
	for _, line := range lines {
		line = printable(line)
		if room := t.o.Width - 9; utf8.RuneCountInString(line) > room && !t.o.Verbose {
			line = string([]rune(line)[:room-1]) + "…"
		}
		colour := ""
		switch {
		case strings.HasPrefix(line, "-"), strings.HasPrefix(line, "<"):
			colour = red
		case strings.HasPrefix(line, "+"), strings.HasPrefix(line, ">"):
			colour = green
		}
		if colour != "" {
			line = t.paint(colour, line)
		}
		t.printf("         %s\n", line)
	}
}

// printable takes control characters out: a log must not move the cursor of who reads about it.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t':
			return ' '
		case c < 0x20, c >= 0x7f && c < 0xa0, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
			return -1
		}
		return c
	}, s)
}

// wrap writes words in lines.
func (t *text) wrap(front, next, s string) {
	line := front
	used := utf8.RuneCountInString(front)
	fresh := true
	for _, word := range strings.Fields(printable(s)) {
		n := utf8.RuneCountInString(word)
		if !fresh && used+1+n > t.o.Width {
			t.printf("%s\n", line)
			line, used, fresh = next, utf8.RuneCountInString(next), true
		}
		if !fresh {
			line += " "
			used++
		}
		line += word
		used += n
		fresh = false
	}
	t.printf("%s\n", line)
}

// row is one release of the table of what passed.
type row struct {
	platform, release string
	locales           map[string]bool
	all, good         map[string]int // by patch type
	quick             bool
	full              bool
}

// rows counts per platform and release, newest first.
func (r *Report) rows() []*row {
	u := newUniverse(r.Tests)
	byName := map[[2]string]*row{}
	var list []*row
	for _, platform := range u.platforms {
		for _, release := range u.releases {
			byName[[2]string{platform, release}] = nil
		}
	}
	for i := range r.Tests {
		t := &r.Tests[i]
		c := u.cell(t)
		key := [2]string{c.platform, c.release}
		if byName[key] == nil {
			byName[key] = &row{platform: c.platform, release: c.release, locales: map[string]bool{}, all: map[string]int{}, good: map[string]int{}}
		}
		at := byName[key]
		at.locales[t.Locale] = true
		at.all[t.PatchType]++
		if t.Result == Pass || t.Result == Warn {
			at.good[t.PatchType]++
		}
		if t.Kind == KindFull {
			at.full = true
		} else {
			at.quick = true
		}
	}
	for _, platform := range u.platforms {
		for _, release := range u.releases {
			if at := byName[[2]string{platform, release}]; at != nil {
				list = append(list, at)
			}
		}
	}
	return list
}

// passed writes the table of what passed.
func (t *text) passed() {
	rows := t.r.rows()
	if len(rows) == 0 {
		return
	}
	const most = 40
	t.printf("\n")
	width, platforms := 0, 0
	for _, at := range rows {
		width = max(width, len(at.release))
		if len(t.r.Platforms) > 1 {
			platforms = max(platforms, len(at.platform))
		}
	}
	for i, at := range rows {
		if i == most && !t.o.Verbose {
			t.printf("          and %s\n", count(len(rows)-most, "more line"))
			break
		}
		head := "          "
		if i == 0 {
			head = "  " + t.paint(green, "passed") + "  "
		}
		line := head
		if platforms > 0 {
			line += fmt.Sprintf("%-*s  ", platforms, printable(at.platform))
		}
		line += fmt.Sprintf("%-*s  %12s", width, printable(at.release), count(len(at.locales), "locale"))
		for _, patchType := range []string{"complete", "partial"} {
			if n := at.all[patchType]; n > 0 {
				said := fmt.Sprintf("%s %d", patchType, at.good[patchType])
				if at.good[patchType] != n {
					said += fmt.Sprintf(" of %d", n)
				}
				line += fmt.Sprintf("   %-18s", said)
			}
		}
		switch {
		case at.quick && !at.full:
			line += "   offered only, not applied"
		case at.quick:
			line += "   some offered only, not applied"
		}
		t.printf("%s\n", strings.TrimRight(line, " "))
	}
}

// all writes a line for every test.
func (t *text) all() {
	t.printf("\n")
	for i := range t.r.Tests {
		test := &t.r.Tests[i]
		t.printf("  %-11s  %s\n", test.Result, printable(strings.Join([]string{test.Platform, test.Release, test.BuildID, test.Locale, test.PatchType, test.Kind, test.place()}, "  ")))
	}
}

// rules says which differences were expected.
func (t *text) rules() {
	used := 0
	for _, rule := range t.r.Rules {
		used += rule.Used
	}
	if used > 0 {
		t.printf("\n  %s explained by rules:\n", count(used, "difference"))
	}
	for _, rule := range t.r.Rules {
		switch {
		case rule.Expired != "":
			t.wrap("  note: ", "        ", fmt.Sprintf("rule %q has expired (%s) and explains nothing any more", rule.Rule, rule.Expired))
		case rule.Used > 0:
			t.printf("      %6s  %s\n", thousands(rule.Used), strings.TrimSpace(rule.Rule+"  "+rule.Reason))
		case t.o.Verbose:
			t.printf("      %6s  %s\n", "unused", rule.Rule)
		}
	}
}

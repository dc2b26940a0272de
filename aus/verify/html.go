package verify

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed report.html
var pageText string

// Limits of the page: what a phone still scrolls.
const (
	pageCells  = 60_000
	pageGroups = 300
)

// page is what the template shows.
type page struct {
	Title    []string
	Verdict  string
	Class    string
	Detail   string
	Extent   string
	Counts   []pageCount
	Groups   []pageGroup
	More     string
	Matrices []matrix
	Rules    []RuleUse
	Notes    []string
	Logs     []File
	Letters  []letter
}

type pageCount struct {
	Letter, Name string
	Class        string
	N            string
}

type pageGroup struct {
	*Group
	Class, Letter string
	Files         []string
	Evidence      []evidenceLine
	Place         string
	Tests         string
	Names         []string
	MoreNames     string
}

type evidenceLine struct{ Class, Text string }

type letter struct{ Letter, Class, Words string }

// matrix is the locales against the releases of one platform.
type matrix struct {
	Platform string
	Releases []matrixHead
	Trouble  []matrixRow // rows with anything but passes
	All      []matrixRow
	Left     string
	Open     bool
}

// Rows gives the template a table of some rows.
func (m matrix) Rows(rows []matrixRow) table { return table{m, rows} }

type table struct {
	Head matrix
	Rows []matrixRow
}

type matrixHead struct {
	Name  string
	Types []string
}

type matrixRow struct {
	Locale string
	Cells  []matrixCell
}

type matrixCell struct {
	Letter, Class, Title string
	Group                int
	First                bool
}

// letters of the results: the page must be readable without its colours.
var letters = map[Result]letter{
	Pass:        {"P", "p", "passed"},
	Warn:        {"W", "w", "passed with a warning"},
	Fail:        {"F", "f", "failed"},
	Error:       {"E", "e", "could not be tested"},
	Interrupted: {"I", "i", "interrupted"},
	NotRun:      {"N", "n", "not run"},
	Known:       {"K", "k", "failed as expected"},
}

// WriteHTML writes the report as one page without anything around it: no script is needed, it is readable on a phone,
// in print and without colours. Each cause can be opened; the matrix of locales and releases links every cell to its
// cause.
func (r *Report) WriteHTML(w io.Writer) error {
	tmpl, err := template.New("report").Parse(pageText)
	if err != nil {
		return err
	}
	word, detail := r.verdict()
	p := page{Title: r.title(), Verdict: word, Detail: strings.Join(strings.Fields(detail), " "), Extent: r.extent(), Notes: r.Notes, Logs: r.Files}
	p.Class = map[string]string{"PASSED": "p", "PASSED, WITH WARNINGS": "w", "INCOMPLETE": "i"}[word]
	if p.Class == "" {
		p.Class = "f"
	}
	n := r.Totals()
	for _, result := range results {
		k := map[Result]int{Pass: n.Pass, Fail: n.Fail, Warn: n.Warn, Error: n.Error, Interrupted: n.Interrupted, NotRun: n.NotRun, Known: n.Known}[result]
		l := letters[result]
		if k > 0 || result == Pass || result == Fail {
			p.Counts = append(p.Counts, pageCount{l.Letter, l.Words, l.Class, thousands(k)})
			p.Letters = append(p.Letters, l)
		}
	}
	for _, rule := range r.Rules {
		if rule.Used > 0 || rule.Expired != "" {
			p.Rules = append(p.Rules, rule)
		}
	}
	for i := range r.Groups {
		if i == pageGroups {
			p.More = count(len(r.Groups)-i, "more cause")
			break
		}
		p.Groups = append(p.Groups, r.pageGroup(&r.Groups[i]))
	}
	cells := 0
	for _, platform := range r.Platforms {
		m := r.matrix(platform, &cells)
		p.Matrices = append(p.Matrices, m)
	}
	return tmpl.Execute(w, &p)
}

func (r *Report) pageGroup(g *Group) pageGroup {
	first := &r.Tests[g.first]
	l := letters[g.Result]
	p := pageGroup{Group: g, Class: l.Class, Letter: l.Letter, Place: first.place(), Tests: count(g.Tests, "test")}
	if len(first.Reasons) > 0 {
		for i, f := range first.Reasons[0].Files {
			if i == 20 {
				p.Files = append(p.Files, "and "+count(len(first.Reasons[0].Files)-i, "more difference"))
				break
			}
			p.Files = append(p.Files, f.Path+"   "+kindWords(f))
		}
		if e := first.Reasons[0].Evidence; e != nil {
			for _, line := range e.Text {
				class := ""
				switch {
				case strings.HasPrefix(line, "-"), strings.HasPrefix(line, "<"):
					class = "minus"
				case strings.HasPrefix(line, "+"), strings.HasPrefix(line, ">"):
					class = "plus"
				}
				p.Evidence = append(p.Evidence, evidenceLine{class, printable(line)})
			}
		}
	}
	for k, i := range g.indices {
		if k == 200 {
			p.MoreNames = "and " + count(g.Tests-k, "more test")
			break
		}
		t := &r.Tests[i]
		name := fmt.Sprintf("%s (%s) %s %s %s", t.Release, t.BuildID, t.Platform, t.Locale, t.PatchType)
		if place := t.place(); place != "" {
			name += " · " + place
		}
		p.Names = append(p.Names, name)
	}
	return p
}

// matrix makes the table of one platform.
func (r *Report) matrix(platform string, cells *int) matrix {
	m := matrix{Platform: platform}
	type key struct{ locale, release, patchType string }
	at := map[key]int{}
	u := newUniverse(r.Tests)
	locales, releases, types := map[string]bool{}, map[string]bool{}, map[key]bool{}
	for i := range r.Tests {
		t := &r.Tests[i]
		if t.Platform != platform {
			continue
		}
		c := u.cell(t)
		k := key{t.Locale, c.release, t.PatchType}
		locales[t.Locale], releases[c.release] = true, true
		types[key{release: c.release, patchType: t.PatchType}] = true
		if old, ok := at[k]; !ok || slices.Index(results, t.Result) < slices.Index(results, r.Tests[old].Result) {
			at[k] = i // the worst of those that are there twice
		}
	}
	for _, release := range u.releases {
		if !releases[release] {
			continue
		}
		head := matrixHead{Name: release}
		for _, patchType := range []string{"complete", "partial"} {
			if types[key{release: release, patchType: patchType}] {
				head.Types = append(head.Types, patchType)
			}
		}
		m.Releases = append(m.Releases, head)
	}
	left := 0
	for _, locale := range sortedKeys(locales) {
		row := matrixRow{Locale: locale}
		trouble := false
		for _, head := range m.Releases {
			for n, patchType := range head.Types {
				cell := matrixCell{Letter: "·", Class: "none", Title: "no such test", First: n == 0}
				if i, ok := at[key{locale, head.Name, patchType}]; ok {
					t := &r.Tests[i]
					l := letters[t.Result]
					cell.Letter, cell.Class, cell.Group = l.Letter, l.Class, t.Group
					cell.Title = fmt.Sprintf("%s %s %s: %s", head.Name, locale, patchType, l.Words)
					if t.remark() {
						cell.Letter, cell.Class = "P!", "w"
						cell.Title += ", with a remark"
					}
					trouble = trouble || t.Result != Pass || t.remark()
				}
				row.Cells = append(row.Cells, cell)
			}
		}
		if *cells += len(row.Cells); *cells > pageCells {
			left++
			continue
		}
		if trouble {
			m.Trouble = append(m.Trouble, row)
		}
		m.All = append(m.All, row)
	}
	if left > 0 {
		m.Left = count(left, "locale") + " left out: the table is too large for a page"
	}
	m.Open = len(m.All) <= 12
	return m
}

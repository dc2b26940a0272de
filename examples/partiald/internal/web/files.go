package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/plot"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

const (
	maxFiles     = 300      // in the table of the page; the report has all of them
	maxCells     = 48       // in the picture; the rest is one cell
	maxFragments = 24 << 20 // bytes of reports that are kept ready
)

// reportData is what people want to know of a report. It does not change, so it is made once and kept for those who look
// at the same job.
type reportData struct {
	Name     string // what the releases call themselves
	Title    string // their versions
	Summary  string
	Verified bool
	Failure  string
	Findings []finding // those that matter most first
	Found    int       // how many there are
	More     int
	Picture  template.HTML // what the partial is made of
	Kinds    []kindSum
	Rows     template.HTML // of the table of files
	Checks   template.HTML // what they came to
	Client   template.HTML // what was taken to be so of the installed updater
	Required string        // what held when it was signed
}

// kindSum is what files of one kind take together.
type kindSum struct {
	Class, Name string
	N           int
	Size        int64
}

func (d *reportData) bytes() int {
	return len(d.Picture) + len(d.Rows) + len(d.Checks) + len(d.Client) + 1000
}

// fragments keeps reports that are ready to be shown. The oldest go first. It is safe for concurrent use.
type fragments struct {
	mu    sync.Mutex
	m     map[string]*reportData
	order []string
	size  int
}

func (f *fragments) get(key string) *reportData {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[key]
}

func (f *fragments) put(key string, d *reportData) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[string]*reportData{}
	}
	if f.m[key] != nil {
		return
	}
	f.m[key] = d
	f.order = append(f.order, key)
	f.size += d.bytes()
	for f.size > maxFragments && len(f.order) > 1 {
		f.size -= f.m[f.order[0]].bytes()
		delete(f.m, f.order[0])
		f.order = f.order[1:]
	}
}

// proved are the parts of a provenance that the page shows; the rest is not even read.
type proved struct {
	Checks   updater.Verdicts           `json:"checks"`
	Required []senbonzakura.Requirement `json:"required"`
	Report   shown                      `json:"report"`
}

// shown are the parts of a report that the page shows.
type shown struct {
	RecipeID string              `json:"recipe_id"`
	From     partial.ReleaseInfo `json:"from"`
	To       partial.ReleaseInfo `json:"to"`
	Verified bool                `json:"verified"`
	Failure  string              `json:"failure"`
	Files    []shownFile         `json:"files"`
	Findings []partial.Finding   `json:"findings"`
	Client   *updater.Client     `json:"client"`
	Checks   updater.Verdicts    `json:"checks"` // of the client alone
}

type shownFile struct {
	Path     string         `json:"path"`
	Action   partial.Action `json:"action"`
	Why      string         `json:"why"`
	Format   string         `json:"format"` // of the patch, where the report says it
	FullSize int64          `json:"full_size"`
	Size     int64          `json:"size"`
	Seconds  float64        `json:"seconds"`
}

// formats says in which format the recipe stores patches and whole files: "MBDIFF10" and "xz".
func formats(recipeID string) (patch, file string) {
	for part := range strings.FieldsSeq(recipeID) {
		key, value, _ := strings.Cut(part, "=")
		names := strings.Split(value, "/")
		switch key {
		case "differ":
			patch = names[min(1, len(names)-1)]
		case "files":
			file = names[0]
		}
	}
	return chain.Cut(cmp.Or(patch, "patch"), 20), chain.Cut(cmp.Or(file, "whole"), 20)
}

// readProvenance makes of a provenance what the page shows.
func readProvenance(doc job.Document) (*reportData, error) {
	var p proved
	if err := json.Unmarshal(doc, &p); err != nil {
		return nil, err
	}
	return readReport(&p), nil
}

// readRefusal makes what the page shows of the report of a job that made nothing.
func readRefusal(doc job.Document) (*reportData, error) {
	var r shown
	if err := json.Unmarshal(doc, &r); err != nil {
		return nil, err
	}
	return readReport(&proved{Report: r, Checks: r.Checks}), nil
}

// readReport makes what the page shows: what changed, the largest first, what was checked, and what was found.
func readReport(p *proved) *reportData {
	r := &p.Report
	d := &reportData{Verified: r.Verified, Checks: verdictRows(p.Checks), Required: required(p.Required)}
	if r.Client != nil {
		d.Client = clientRows(r.Client)
	}
	for _, text := range []*string{&r.From.Version, &r.From.BuildID, &r.To.Name, &r.To.Version, &r.To.BuildID} { // anybody's
		*text = chain.Cut(*text, 128)
	}
	if r.From.Version != "" && r.To.Version != "" {
		d.Name, d.Title = r.To.Name, way(r.From.Version, r.To.Version)
		if r.From.Version == r.To.Version && r.From.BuildID != r.To.BuildID {
			d.Title += ", build " + way(r.From.BuildID, r.To.BuildID)
		}
	}
	patch, whole := formats(r.RecipeID)
	n := map[partial.Action]int{}
	var rows []fileRow
	sums := []kindSum{{Class: "s0", Name: "patches"}, {Class: "s1", Name: "whole files"}, {Class: "s2", Name: "instructions"}, {Class: "s3", Name: "Zucchini patches"}}
	var most int64
	for _, f := range r.Files {
		n[f.Action]++
		row := fileRow{shownFile: f}
		switch f.Action {
		case partial.ActionPatch:
			row.Action, row.Format, row.kind, row.Whole = "patched", patch, 0, f.FullSize
			switch f.Format {
			case "":
			case updater.PatchZucchini:
				row.Format, row.kind = "Zucchini", 3
			default:
				row.Format = chain.Cut(strings.ToUpper(f.Format), 20)
			}
		case partial.ActionAdd:
			row.Action, row.Format, row.kind, row.Whole = "added", whole, 1, f.FullSize
		case partial.ActionRemove:
			row.Action, row.kind = "removed", 2
		default:
			if f.Size > 0 { // the manifest
				sums[2].N, sums[2].Size = sums[2].N+1, sums[2].Size+f.Size
			}
			continue
		}
		sums[row.kind].N++
		sums[row.kind].Size += f.Size
		most = max(most, f.Size)
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b fileRow) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(b.Whole, a.Whole), strings.Compare(a.Path, b.Path))
	})
	d.Picture, d.Kinds = picture(rows, sums), slices.DeleteFunc(sums, func(k kindSum) bool { return k.Size == 0 })
	if len(rows) > maxFiles {
		d.More = len(rows) - maxFiles
		rows = rows[:maxFiles]
	}
	d.Rows = table(rows, most)
	d.Summary = fmt.Sprintf("%d patched, %d added, %d removed, %d unchanged.",
		n[partial.ActionPatch], n[partial.ActionAdd], n[partial.ActionRemove], n[partial.ActionSame])
	if out := n[partial.ActionLeftOut]; out > 0 {
		d.Summary = strings.TrimSuffix(d.Summary, ".") + fmt.Sprintf(", %d left out.", out)
	}
	d.Failure, d.Found = chain.Cut(r.Failure, 1000), len(r.Findings)
	d.Findings = foundRows(r.Findings)
	return d
}

// maxFindings are shown; the report has all of them.
const maxFindings = 100

// finding is what was found, in words.
type finding struct {
	Class, Severity       string
	Path, Message, WayOut string
}

func foundRows(list []partial.Finding) []finding {
	list = slices.Clone(list)
	order := []partial.Severity{partial.Broken, partial.Warning, partial.Repaired, partial.Note}
	slices.SortStableFunc(list, func(a, b partial.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	var out []finding
	for _, f := range list[:min(len(list), maxFindings)] {
		row := finding{Severity: chain.Cut(string(f.Severity), 20), Path: chain.Cut(f.Path, 300), Message: chain.Cut(f.Message, 1000), WayOut: chain.Cut(f.WayOut, 1000), Class: "queued"}
		if f.Severity == partial.Broken {
			row.Class = "failed"
		}
		out = append(out, row)
	}
	return out
}

type fileRow struct {
	shownFile
	Action, Format string // as they are shown
	Whole          int64
	kind           int
}

// picture shows what the partial is made of, each file as large as what it takes in it.
func picture(rows []fileRow, sums []kindSum) template.HTML {
	var cells []plot.Cell
	var rest, total int64
	others := 0
	for i, row := range rows {
		total += row.Size
		if i >= maxCells {
			rest += row.Size
			others++
			continue
		}
		name := plain(row.Path)
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			name = name[i+1:]
		}
		cells = append(cells, plot.Cell{
			Name: name, Sub: humanBytes(row.Size), Class: sums[row.kind].Class, Size: float64(row.Size),
			Title: plain(row.Path) + ": " + row.Action + ", " + row.Format + ", " + humanBytes(row.Size),
		})
	}
	if total == 0 {
		return ""
	}
	if rest > 0 {
		cells = append(cells, plot.Cell{Name: fmt.Sprintf("%d others", others), Sub: humanBytes(rest), Class: "s7", Size: float64(rest), Title: fmt.Sprintf("%d smaller files: %s", others, humanBytes(rest))})
	}
	return plot.Treemap("What the partial is made of: each file as large as what it takes. The table below has the numbers.", 960, 300, cells)
}

// table writes the rows of the table of files. By hand, as this is most of the page: with a template it took three
// quarters of the time.
func table(rows []fileRow, most int64) template.HTML {
	var b strings.Builder
	b.Grow(450 * len(rows))
	number := func(class string, n int64, shown bool) {
		b.WriteString(`<td class="` + class + `">`)
		if shown {
			b.WriteString(humanBytes(n))
		} else {
			b.WriteString(`<span class="soft">–</span>`)
		}
		b.WriteString("</td>")
	}
	for i := range rows {
		f := &rows[i]
		b.WriteString(`<tr><th scope="row"><code>`)
		b.WriteString(html.EscapeString(plain(f.Path)))
		b.WriteString(`</code></th><td><span title="`)
		b.WriteString(html.EscapeString(f.Why))
		b.WriteString(`">`)
		b.WriteString(f.Action)
		b.WriteString(`</span></td><td class="wide soft">`)
		b.WriteString(html.EscapeString(f.Format))
		b.WriteString("</td>")
		number("num", f.Size, true)
		number("num wide", f.Whole, f.Whole > 0)
		number("num wide", max(0, f.Whole-f.Size), f.Whole > 0)
		b.WriteString(`<td class="num wide">`)
		if f.Seconds >= 0.0005 {
			b.WriteString(seconds(f.Seconds))
		} else {
			b.WriteString(`<span class="soft">–</span>`)
		}
		b.WriteString(`</td><td class="barcell wide"><svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false"><rect class="part" width="`)
		b.WriteString(strconv.FormatInt(bar(f.Size, most), 10))
		b.WriteString("\" height=\"10\"/></svg></td></tr>\n")
	}
	return template.HTML(b.String()) //nolint:gosec // numbers, words of ours, and text that was escaped
}

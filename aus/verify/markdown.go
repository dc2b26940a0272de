package verify

import (
	"fmt"
	"io"
	"strings"
)

// markdownBytes is where a summary ends: GitHub drops one of more than 1,024 KiB whole.
const markdownBytes = 900 << 10

// WriteMarkdown writes the report as a summary for a job's page: GitHub's GITHUB_STEP_SUMMARY, a comment, a wiki. It has
// at most 900 KiB and 50 groups; what is left out is counted.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	word, detail := r.verdict()
	fmt.Fprintf(&b, "## Update verify: %s\n\n", word)
	fmt.Fprintf(&b, "%s\n\n**%s**\n\n", md(strings.Join(append(r.title(), r.extent()), " · ")), md(strings.Join(strings.Fields(detail), " ")))
	const mostGroups = 50
	shown := r.Groups
	if len(shown) > mostGroups {
		shown = shown[:mostGroups]
	}
	if len(shown) > 0 {
		b.WriteString("| # | what | tests | which | likely cause |\n|--:|---|--:|---|---|\n")
		for i := range shown {
			g := &shown[i]
			what := md(g.Title)
			if g.What != "" {
				what += "<br>" + md(short(g.What, 200))
			}
			fmt.Fprintf(&b, "| %d | %s | %d | %s | %s |\n", g.ID, what, g.Tests, md(g.Members), md(g.Cause))
		}
		b.WriteString("\n")
	}
	if left := len(r.Groups) - len(shown); left > 0 {
		fmt.Fprintf(&b, "and %s.\n\n", count(left, "more cause"))
	}
	for i := range shown {
		g := &shown[i]
		t := &r.Tests[g.first]
		body := t.body(junitLines)
		if body == "" && g.Next == "" {
			continue
		}
		var d strings.Builder
		fmt.Fprintf(&d, "<details><summary>%d: %s, %s</summary>\n\n", g.ID, md(g.Title), md(t.Release+" "+t.Locale+" "+t.PatchType))
		if g.Beside != "" {
			fmt.Fprintf(&d, "%s.\n\n", md(g.Beside))
		}
		if g.MAR != "" {
			fmt.Fprintf(&d, "The MAR: %s\n\n", fence(g.MAR, ""))
		}
		if g.Next != "" {
			fmt.Fprintf(&d, "Next: %s\n\n", fence(g.Next, ""))
		}
		if body != "" {
			d.WriteString(fence(body, "text"))
		}
		d.WriteString("\n</details>\n\n")
		if b.Len()+d.Len() > markdownBytes*2/3 {
			fmt.Fprintf(&b, "The evidence of %s is left out here.\n\n", count(len(shown)-i, "cause"))
			break
		}
		b.WriteString(d.String())
	}
	rows := r.rows()
	if len(rows) > 0 && len(rows) <= 200 {
		b.WriteString("| platform | release | locales | complete | partial |\n|---|---|--:|--:|--:|\n")
		for _, at := range rows {
			cell := func(patchType string) string {
				if at.all[patchType] == 0 {
					return ""
				}
				return fmt.Sprintf("%d of %d", at.good[patchType], at.all[patchType])
			}
			line := fmt.Sprintf("| %s | %s | %d | %s | %s |\n", md(at.platform), md(at.release), len(at.locales), cell("complete"), cell("partial"))
			if b.Len()+len(line) > markdownBytes*5/6 {
				break
			}
			b.WriteString(line)
		}
		b.WriteString("\n")
	}
	for i, note := range r.Notes {
		line := "- " + md(short(note, 500)) + "\n"
		if b.Len()+len(line) > markdownBytes-100 {
			fmt.Fprintf(&b, "- and %s more\n", count(len(r.Notes)-i, "note"))
			break
		}
		b.WriteString(line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var mdEscape = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "\n", " ", "#", `\#`, "~", `\~`, "@", "&#64;",
)

// md escapes text for a line of Markdown.
func md(s string) string { return mdEscape.Replace(printable(s)) }

// fence puts text between fences that it cannot close.
func fence(s, language string) string {
	mark := "```"
	for strings.Contains(s, mark) {
		mark += "`"
	}
	return "\n" + mark + language + "\n" + s + "\n" + mark + "\n"
}

// WriteAnnotations writes the causes as commands that GitHub's runner shows beside a job: at most nine, as it keeps ten a
// step.
func (r *Report) WriteAnnotations(w io.Writer) error {
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	n := 0
	for i := range r.Groups {
		g := &r.Groups[i]
		if !g.Result.bad() {
			continue
		}
		if n++; n > 9 {
			break
		}
		text := fmt.Sprintf("%s: %s. %s", count(g.Tests, "test"), strings.Join(strings.Fields(g.Members), " "), strings.TrimSpace(g.What+" "+g.Cause))
		if _, err := fmt.Fprintf(w, "::error title=%s::%s\n", property.Replace(printable(g.Title)), escape.Replace(printable(short(text, 1000)))); err != nil {
			return err
		}
	}
	return nil
}

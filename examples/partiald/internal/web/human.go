package web

import (
	"cmp"
	"fmt"
	"html/template"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// What people read. Times are UTC, as in the log; where there is JavaScript the time of the reader stands before it.

func mapsKeys[M ~map[string]V, V any](m M) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// humanBytes says a size in bytes with three digits or so.
func humanBytes(n int64) string {
	if n < 0 {
		return "–"
	}
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1023.95 && i < len(units)-1 {
		v /= 1024
		i++
	}
	switch {
	case n == 1:
		return "1 byte"
	case i == 0:
		return fmt.Sprintf("%d bytes", n)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// percent says a share; it never rounds to all or nothing what is not.
func percent(share float64) string {
	p := 100 * share
	if p > 99.9 && p < 100 {
		return "99.9 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}

// took says a duration with two or three digits.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "–"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// seconds says a duration that is given as a number of them.
func seconds(s float64) string { return took(time.Duration(s * float64(time.Second))) }

// when says a time.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	// Only digits and signs of the layout can be in it.
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2006-01-02 15:04:05") + ` UTC</time>`) //nolint:gosec // see above
}

// short is an ID or a hash as people compare it.
func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// subject says what a job is about: "firefox 152.0 → 153.0, de, linux-x86_64" as soon as that is known, before that the
// names of the files.
func subject(st job.Status) string {
	if a := st.About; a != nil && a.FromVersion != "" && a.ToVersion != "" {
		spec := st.Spec
		spec.Locale, spec.Platform = cmp.Or(spec.Locale, a.Locale), cmp.Or(spec.Platform, a.Platform)
		versions := way(a.FromVersion, a.ToVersion)
		if a.FromVersion == a.ToVersion && a.FromBuild != a.ToBuild {
			versions += ", build " + way(a.FromBuild, a.ToBuild)
		}
		return about(cmp.Or(a.Product, st.Spec.Product), versions, spec)
	}
	if r := st.Result; r != nil && r.FromVersion != "" && r.ToVersion != "" {
		return about(cmp.Or(r.Product, st.Spec.Product), way(r.FromVersion, r.ToVersion), st.Spec)
	}
	from, to := sourceName(st.Spec.From), sourceName(st.Spec.To)
	if p := st.Spec.Product; p != "" {
		from, to = strings.TrimPrefix(from, p+"-"), strings.TrimPrefix(to, p+"-")
	}
	return about(st.Spec.Product, way(from, to), st.Spec)
}

// way says from where to where.
func way(from, to string) string { return name(from) + " → " + name(to) }

// name is a text from outside among others.
func name(text string) string { return apart(plain(text)) }

// plain shows what would change the order of letters, or not be seen, as its number: a name must not look like another.
func plain(s string) string {
	if !strings.ContainsFunc(s, hides) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hides(r) {
			fmt.Fprintf(&b, "[U+%04X]", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hides says whether a letter is a control, of the direction of text or another, takes no room, or is none.
func hides(r rune) bool {
	return unicode.Is(unicode.Cf, r) || unicode.IsControl(r) && r != '\n' && r != '\t' || r >= 0xFDD0 && r <= 0xFDEF
}

// about puts a title together. versions is a way.
func about(product, versions string, spec job.Spec) string {
	title := strings.TrimSpace(name(product) + " " + versions)
	for _, more := range []string{spec.Locale, spec.Platform} {
		if more != "" {
			title += ", " + name(more)
		}
	}
	return title
}

// labels are those of a job, in a line that is not too long.
func labels(st job.Status) string {
	list := make([]string, 0, len(st.Spec.Labels))
	for k, v := range st.Spec.Labels {
		list = append(list, chain.Cut(k+": "+v, 120))
	}
	slices.Sort(list)
	for i, l := range list {
		list[i] = name(l)
	}
	return shortened(list, 120)
}

// shortened joins texts with commas, as many as have room; how many are missing it says.
func shortened(list []string, room int) string {
	n := 0
	for i, text := range list {
		if n += len(text) + 2; n > room+2 && i > 0 {
			return strings.Join(list[:i], ", ") + fmt.Sprintf(", and %d more", len(list)-i)
		}
	}
	return strings.Join(list, ", ")
}

// sourceName is the name of a complete update: of its file, or its hash.
func sourceName(s job.Source) string {
	name := s.Name
	if name == "" && len(s.URLs) > 0 {
		name, _, _ = strings.Cut(s.URLs[0], "?")
	}
	if name != "" {
		name = path.Base(name)
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".mar"), ".complete")
		if name != "" && name != "." && name != "/" {
			return chain.Cut(name, 80)
		}
	}
	return short(cmp.Or(s.SHA512, s.SHA256, "?"))
}

// bar is the length of a part in a bar of 1000; what there is at all can be seen.
func bar(part, whole int64) int64 {
	if part <= 0 || whole <= 0 {
		return 0
	}
	return min(1000, max(2, int64(1000*(float64(part)/float64(whole)))))
}

// sentence makes a sentence of an error's text, for pages. What begins with a name stays as it is.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if r := []rune(first); len(r) > 0 && unicode.IsLower(r[0]) && !strings.ContainsAny(strings.TrimSuffix(first, ":"), "./:\"_0123456789") {
		r[0] = unicode.ToUpper(r[0])
		text = string(r) + text[len(first):]
	}
	if !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "?") {
		text += "."
	}
	return text
}

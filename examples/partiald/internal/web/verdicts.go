package web

import (
	"html"
	"html/template"
	"strings"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/internal/chain"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// checkWords say what each check asks.
var checkWords = map[updater.Check]string{
	updater.CheckSignatures:      "Both complete updates are signed by a trusted key",
	updater.CheckChannels:        "The new version is for an allowed channel",
	updater.CheckProduct:         "Both are of one product and platform",
	updater.CheckDowngrade:       "The new version is not older",
	updater.CheckWatershed:       "No release in between must be passed through",
	updater.CheckClientSignature: "The installed updater takes the signature",
	updater.CheckProductBlock:    "The partial has a channel and a version",
	updater.CheckClientChannel:   "The installed updater accepts its channel",
	updater.CheckSettings:        "update-settings.ini stays where the updater looks for it",
	updater.CheckMembers:         "The installed updater unpacks every member",
	updater.CheckManifests:       "The manifest that the installed updater reads is there",
	updater.CheckPatches:         "The installed updater applies every patch",
	updater.CheckVerify:          "Applied to the old version, it gives the new one",
}

// answerClasses are how answers look.
var answerClasses = map[updater.Answer]string{
	updater.Holds: "done", updater.Fails: "failed", updater.NotChecked: "queued", updater.Skipped: "cancelled",
}

// verdictRows writes the rows of the table of checks.
func verdictRows(list updater.Verdicts) template.HTML {
	var b strings.Builder
	for _, v := range list {
		words := checkWords[v.Check]
		if words == "" {
			words = string(v.Check)
		}
		b.WriteString(`<tr><th scope="row">` + told(words) + ` <code class="soft">` + told(string(v.Check)) + `</code>`)
		note := func(text string) { b.WriteString(`<br><span class="small soft">` + told(sentence(text)) + `</span>`) }
		switch {
		case v.Reason != "":
			note(v.Reason)
		case v.Answer == updater.Skipped:
			note("An operator left it out.")
		}
		if v.Warning {
			note("An updater that verifies would not take it.")
		}
		if v.WayOut != "" {
			note(v.WayOut)
		}
		b.WriteString(`</th><td><span class="state ` + answerClasses[v.Answer] + `">` + told(string(v.Answer)) + "</span></td></tr>\n")
	}
	return template.HTML(b.String()) //nolint:gosec // words of ours, and text that was escaped
}

// told is a text of unknown origin, as it may stand in a page.
func told(text string) string { return html.EscapeString(plain(chain.Cut(text, 1000))) }

// sourceWords say where a fact about the client comes from.
var sourceWords = map[updater.Source]string{
	updater.SourceCaller:   "the request says so",
	updater.SourceComplete: "read in the old version's complete update",
	updater.SourceRule:     "a rule for its version",
	updater.SourceDefault:  "assumed: as current updaters do",
}

// clientRows writes the rows of the table of what was taken to be so of the installed updater.
func clientRows(c *updater.Client) template.HTML {
	var b strings.Builder
	row := func(name, value string, source updater.Source, known bool, note string) {
		words := sourceWords[source]
		switch {
		case !known && (value == "" || value == yes(true) || value == yes(false)):
			value, words = "not known", "nobody says"
		case !known && source != updater.SourceDefault:
			words += ", not certain"
		case value == "":
			value = "–"
		}
		if note != "" {
			words += ": " + note
		}
		b.WriteString(`<tr><th scope="row">` + name + `</th><td class="any">` + told(value) + `<br><span class="small soft">` + told(words) + "</span></td></tr>\n")
	}
	clientFact(row, "Product", c.Product, func(v string) string { return v })
	clientFact(row, "Version", c.Version, func(v string) string { return v })
	clientFact(row, "Gecko", c.Gecko, func(v string) string { return v })
	clientFact(row, "Platform", c.Platform, func(v updater.Platform) string { return string(v) })
	clientFact(row, "macOS application", c.Bundle, yes)
	clientFact(row, "Unpacks members in", c.Members, func(v []updater.MemberFormat) string {
		return listed(v, func(f updater.MemberFormat) string { return string(f) })
	})
	clientFact(row, "Looks for manifests", c.Manifests, func(v []updater.ManifestVersion) string { return listed(v, updater.ManifestVersion.Name) })
	clientFact(row, "Applies patches in", c.Patches, func(v []string) string { return listed(v, func(s string) string { return s }) })
	row("Accepts signatures by", c.Signature.Value.String(), c.Signature.Source, c.Signature.Known, c.Signature.Note)
	clientFact(row, "Verifies at all", c.Verifies, yes)
	clientFact(row, "Accepts channels", c.Channels, func(v []string) string {
		if len(v) == 0 && c.Channels.Known {
			return "any"
		}
		return listed(v, func(s string) string { return s })
	})
	clientFact(row, "update-settings.ini", c.Settings, func(v string) string { return v })
	clientFact(row, "Writes drafts first", c.Drafts, yes)
	return template.HTML(b.String()) //nolint:gosec // words of ours, and text that was escaped
}

func clientFact[T any](row func(name, value string, source updater.Source, known bool, note string), name string, f updater.Fact[T], say func(T) string) {
	row(name, say(f.Value), f.Source, f.Known, f.Note)
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func listed[T any](list []T, say func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = say(v)
	}
	return strings.Join(texts, ", ")
}

// required says what held when the partial was signed.
func required(list []senbonzakura.Requirement) string {
	return listed(list, func(r senbonzakura.Requirement) string { return string(r) })
}

package partial

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// What the manifest of a complete update says beyond the list of its files: under which condition a file is put in,
// what is removed, and lines that only the updater of a fork knows.
type completeManifest struct {
	name string // of the entry; "" where the archive has none
	// adds holds how each file is put in, by its clean path; of several lines the last.
	adds map[string]updater.Instruction
	// removes are the lines that remove something, in their order.
	removes []updater.Instruction
	// unknown are lines with a method that Gecko's updater does not know.
	unknown []string
	// patches are lines that patch a file, which a complete update has no reason to do.
	patches []updater.Instruction
	// err says why the rest of the manifest cannot be parsed.
	err error
}

// readManifest reads the newest manifest of a complete update, and says whether it is one of a partial update.
func readManifest(name string, text []byte) (m completeManifest, isPartial bool) {
	m.name = name
	known, unknown := updater.SplitUnknown(text)
	m.unknown = unknown
	man, err := updater.ParseManifest(known)
	if err != nil {
		m.err = err
		return m, false
	}
	m.adds = make(map[string]updater.Instruction, len(man.Instructions))
	for _, i := range man.Instructions {
		switch i.Op {
		case updater.OpAdd, updater.OpAddIf, updater.OpAddIfNot:
			m.adds[path.Clean(i.Path)] = i
		case updater.OpPatch, updater.OpPatchIf:
			m.patches = append(m.patches, i)
		default:
			m.removes = append(m.removes, i)
		}
	}
	return m, man.Type == "partial"
}

// adding returns the instruction that puts a whole file in: with the condition that the release's own manifest gives
// it, else by the packaging rules.
func (r *release) adding(name string) updater.Instruction {
	if i := r.manifest.adds[name]; i.Test != "" {
		return updater.Instruction{Op: i.Op, Test: i.Test, Path: name}
	}
	return addInstruction(name)
}

// patching returns the instruction that patches a file with an item, under the condition of adding.
func (r *release) patching(name, item string) updater.Instruction {
	if i := r.manifest.adds[name]; i.Op == updater.OpAddIf {
		return updater.Instruction{Op: updater.OpPatchIf, Test: i.Test, Item: item, Path: name}
	}
	return patchInstruction(name, item)
}

// maxNamed is how many findings of one sort are listed one by one.
const maxNamed = 20

// some adds findings, up to maxNamed of them, and one for the rest.
func (c *checks) some(list []Finding) {
	for i, f := range list {
		if i == maxNamed {
			c.add(Finding{Kind: f.Kind, Severity: f.Severity, Message: fmt.Sprintf("%d more of this sort are not listed", len(list)-i)})
			return
		}
		c.add(f)
	}
}

// manifests looks for what the completes' own manifests say and a partial update does not.
func (c *checks) manifests() {
	c.readable("FROM", c.from.manifest, Note)
	c.readable("TO", c.to.manifest, Broken)
	c.foreign()
	var list []Finding
	for _, i := range c.to.manifest.patches {
		list = append(list, Finding{
			Kind: KindInstruction, Severity: Broken, Path: i.Path, Other: i.String(),
			Message: "is patched by the manifest of TO, which cannot be carried over", WayOut: "put the whole file in",
		})
	}
	c.some(list)
	c.conditions()
	c.listed()
}

// readable names a manifest that no updater can parse.
func (c *checks) readable(input string, m completeManifest, severity Severity) {
	if m.err != nil {
		c.add(Finding{
			Kind: KindInstruction, Severity: severity, Other: m.name,
			Message: fmt.Sprintf("%s's %s cannot be parsed, so its conditions are not known: %v", input, m.name, m.err),
			WayOut:  "make the complete update again",
		})
	}
}

// foreign names the lines that Gecko's updater does not know.
func (c *checks) foreign() {
	had := make(map[string]bool, len(c.from.manifest.unknown))
	for _, line := range c.from.manifest.unknown {
		had[line] = true
	}
	has := make(map[string]bool, len(c.to.manifest.unknown))
	var lost, same, gone []Finding
	for _, line := range c.to.manifest.unknown {
		has[line] = true
		f := Finding{Kind: KindInstruction, Severity: Note, Other: line}
		if had[line] {
			f.Message = fmt.Sprintf("FROM's and TO's manifests have the line %q, which Gecko's updater does not know; what it did stays", line)
			same = append(same, f)
			continue
		}
		f.Severity = Broken
		f.Message = fmt.Sprintf("TO's manifest has the line %q, which Gecko's updater does not know and a partial update cannot carry", line)
		f.WayOut = "ship a complete update"
		lost = append(lost, f)
	}
	for _, line := range c.from.manifest.unknown {
		if !has[line] {
			gone = append(gone, Finding{
				Kind: KindInstruction, Severity: Note, Other: line,
				Message: fmt.Sprintf("FROM's manifest has the line %q, which Gecko's updater does not know; what it did is not undone", line),
			})
		}
	}
	c.some(lost)
	c.some(same)
	c.some(gone)
}

// conditions names those that the scripts lose, because they go by names alone.
func (c *checks) conditions() {
	if !c.scripts {
		return
	}
	var list []Finding
	for _, n := range c.to.names {
		i := c.to.manifest.adds[n]
		if want := addInstruction(n); i.Test != "" && (i.Op != want.Op || path.Clean(i.Test) != path.Clean(want.Test)) {
			list = append(list, Finding{
				Kind: KindInstruction, Severity: Broken, Path: n, Other: i.String(),
				Message: fmt.Sprintf("TO puts it in by %s, the scripts by %s", i.Op, want.Op), WayOut: "use the strict rules",
			})
		}
	}
	c.some(list)
}

// listed compares TO's entries with what its manifest does with them.
func (c *checks) listed() {
	m := c.to.manifest
	if m.name == "" || m.err != nil {
		return
	}
	var idle, missing []Finding
	for _, n := range c.to.names {
		if _, ok := m.adds[n]; !ok {
			idle = append(idle, Finding{
				Kind: KindInstruction, Severity: Note, Path: n,
				Message: fmt.Sprintf("is in TO, whose %s does not install it; the partial update does", m.name),
			})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(m.adds)) {
		if c.to.files[n] == nil && !updater.IsManifestName(n) {
			missing = append(missing, Finding{
				Kind: KindInstruction, Severity: Note, Path: n, Other: m.adds[n].String(),
				Message: fmt.Sprintf("is installed by TO's %s, but TO does not have it: the complete update crashes updaters", m.name),
				WayOut:  "make the complete update again",
			})
		}
	}
	c.some(idle)
	c.some(missing)
}

// manifestRemoves returns the lines of TO's manifest that remove something and are not among those of removed-files.
func (c *checks) manifestRemoves(removedText []byte) []updater.Instruction {
	if len(c.to.manifest.removes) == 0 {
		return nil
	}
	known := make(map[string]bool)
	for _, scripts := range []bool{true, false} {
		for _, i := range removedFiles(removedText, scripts) {
			known[i.String()] = true
		}
	}
	var kept []updater.Instruction
	var lost []Finding
	for _, i := range c.to.manifest.removes {
		if line := i.String(); known[line] {
			continue
		} else if known[line] = true; c.scripts {
			lost = append(lost, Finding{
				Kind: KindInstruction, Severity: Note, Other: line,
				Message: fmt.Sprintf("TO's manifest has the line %q, which is not from removed-files; the scripts do not carry it over", line),
				WayOut:  "use the strict rules",
			})
			continue
		}
		found := len(c.findings)
		i.Line = 0
		c.removedLine(i, "TO's manifest")
		if len(c.findings) == found {
			kept = append(kept, i)
		}
	}
	c.some(lost)
	return kept
}

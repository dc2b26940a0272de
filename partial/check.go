package partial

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/names"
	"github.com/senbonzakura/senbonzakura/internal/spelling"
	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// checks finds what is wrong with two releases before anything is made of them.
type checks struct {
	findings
	from, to *release
	platform string
	scripts  bool
	skip     []updater.Check
	old, new nameIndex // of FROM and TO
}

func newChecks(from, to *release, r Recipe) *checks {
	c := &checks{from: from, to: to, platform: r.Platform, scripts: r.Rules == RulesScripts}
	c.index()
	return c
}

// refuse returns what was found, where it must not go on.
func (c *checks) refuse() error {
	if broken := c.broken(); len(broken) > 0 && !c.scripts {
		return &RefusedError{Findings: broken}
	}
	return nil
}

// index makes files and directories known by any of their spellings.
func (c *checks) index() {
	c.old, c.new = indexNames(c.from.names, c.platform), indexNames(c.to.names, c.platform)
}

// repaired adds a finding that is repaired by the strict rules and breaks the update by the scripts' ones.
func (c *checks) repaired(f Finding, how string) {
	f.Severity = Repaired
	if c.scripts {
		f.Severity, f.WayOut = Broken, "use the strict rules"
	} else {
		f.Message += "; " + how
		f.Code = 0
	}
	c.add(f)
}

// force looks for paths of the force list that do nothing, most likely because they are misspelled.
func (c *checks) force(list []string) {
	for _, n := range list {
		if c.to.files[n] == nil {
			c.add(Finding{
				Kind: KindForce, Severity: Note, Path: n, Message: "is on the force list, but TO has no such file",
				WayOut: "spell it as TO's manifest does, from the installation's directory on and with slashes",
			})
		}
	}
}

func (c *checks) names() {
	for _, n := range c.to.names {
		c.findings = append(c.findings, checkName(n, c.platform, c.scripts)...)
	}
	for _, n := range c.from.names {
		if c.to.files[n] != nil {
			continue
		}
		for _, f := range checkName(n, c.platform, c.scripts) {
			if f.Severity == Broken {
				f.Message = "cannot be removed: " + f.Message
				f.WayOut = "ship a complete update"
				c.add(f)
			}
		}
		if other := c.new.file(n); other != "" {
			d := spelling.Between(n, other)
			c.add(Finding{
				Kind: spellingKind(d), Severity: Broken, Path: other, Other: n,
				Message: fmt.Sprintf("was %q, which differs %v: on %s removing the old name removes the new file", n, d, d.Places()),
				WayOut:  "keep the old name, or make the update for a platform where they are two",
			})
		}
	}
	c.findings = append(c.findings, checkSpelling(c.to.names, c.platform)...)
	for _, n := range c.to.excluded {
		c.add(Finding{
			Kind: KindManifest, Severity: Broken, Path: n, Message: "is left out because it is named like a manifest",
			WayOut: "rename the file, or use the strict rules",
		})
	}
}

func (c *checks) fileOrDirectory() {
	for _, n := range c.from.names {
		if d := c.new.dir(n); d != "" {
			c.add(Finding{
				Kind: KindFileToDirectory, Severity: Broken, Path: n, Other: other(d, n), Code: updater.CodeWrite,
				Message: "is a file in FROM and a directory in TO: every client would fail",
				WayOut:  "use another name, ship a complete update, or go through a release that has neither",
			})
		}
	}
	for _, n := range c.to.names {
		if d := c.old.dir(n); d != "" {
			c.add(Finding{
				Kind: KindDirectoryToFile, Severity: Broken, Path: n, Other: other(d, n),
				Message: fmt.Sprintf("is a directory in FROM and a file in TO: clients would keep a stale %q", n+updater.BackupSuffix),
				WayOut:  "use another name, ship a complete update, or go through a release that has neither",
			})
		}
	}
}

// other returns a second spelling of a name, or "" where it is the first.
func other(spelt, name string) string {
	if spelt == name {
		return ""
	}
	return spelt
}

// badPrecomplete adds the finding for a list of installed files that cannot be parsed.
func (c *checks) badPrecomplete(name string, err error) {
	c.add(Finding{
		Kind: KindPrecomplete, Severity: Broken, Path: name, Code: updater.CodeParse,
		Message: fmt.Sprintf("cannot be parsed, so every later complete update would fail: %v", err),
		WayOut:  "let Pack make a new one",
	})
}

// installed reads a list of installed files, as the updater of the platform does.
func (c *checks) installed(text []byte) ([]updater.Instruction, error) {
	list, err := updater.ParsePrecomplete(text)
	if err != nil {
		return nil, err
	}
	for _, ins := range list {
		if reason := names.WindowsReason(ins.Path); reason.Refused() && names.OnWindows(c.platform) {
			return nil, &updater.UpdateError{Code: updater.CodeParse, Line: ins.Line, Op: ins.Op, Err: fmt.Errorf("path %q: %v", ins.Path, reason)}
		}
	}
	return list, nil
}

// lostSettings adds the finding for a list of installed files with settings that are only added where they are missing: by
// TO's manifest, or by the packaging rules where there is none that says.
func (c *checks) lostSettings(name string, list []updater.Instruction) {
	onlyIfMissing := addIfNot
	if m := c.to.manifest; m.name != "" && m.err == nil {
		onlyIfMissing = func(n string) bool {
			n = path.Clean(n)
			return c.to.files[n] != nil && m.adds[n].Op == updater.OpAddIfNot
		}
	}
	lost, settings := updater.LostSettings(list, onlyIfMissing)
	if len(lost) == 0 {
		return
	}
	f := Finding{
		Kind: KindPrecomplete, Check: updater.CheckSettings, Severity: Broken, Path: name, Other: lost[0],
		Message: updater.LostSettingsMessage(lost, settings), WayOut: "let Pack make a new precomplete",
	}
	if settings {
		f.Code = updater.CodeSettings
	}
	if slices.Contains(c.skip, updater.CheckSettings) {
		f.Severity = Note
	}
	c.add(f)
}

func (c *checks) precomplete() error {
	for _, n := range updater.PrecompleteNames {
		m := c.to.files[n]
		if m == nil {
			continue
		}
		text, err := c.to.text(m)
		if err != nil {
			return &InputError{"TO", err}
		}
		list, err := c.installed(text)
		if err != nil {
			c.badPrecomplete(n, err)
		} else {
			c.lostSettings(n, list)
		}
		return nil
	}
	f := Finding{
		Kind: KindPrecomplete, Severity: Note,
		Message: "TO has no precomplete: a later complete update will leave files behind that it should remove",
		WayOut:  "let Pack make one",
	}
	if c.scripts {
		f.Severity, f.Message = Broken, "TO has no precomplete: the scripts refuse to run"
	}
	c.add(f)
	return nil
}

// versions compares what the releases call themselves with the order of versions.
func (c *checks) versions(from, to ReleaseInfo, allowed bool) {
	severity := Broken
	if allowed {
		severity = Note
	}
	if to.Version != "" && from.Version != "" && version.Compare(to.Version, from.Version) < 0 {
		f := Finding{
			Kind: KindDowngrade, Check: updater.CheckDowngrade, Severity: severity, Code: updater.CodeDowngrade,
			Message: fmt.Sprintf("TO's version %s is older than FROM's %s: clients refuse to go back", to.Version, from.Version),
		}
		if !allowed {
			f.WayOut = "swap FROM and TO, or allow the downgrade"
		}
		c.add(f)
		return
	}
	if to.Version == from.Version && to.BuildID != "" && from.BuildID != "" && to.BuildID < from.BuildID {
		c.add(Finding{Kind: KindDowngrade, Severity: Note, Message: fmt.Sprintf("TO's build %s is older than FROM's %s, of the same version", to.BuildID, from.BuildID)})
	}
	if from.Name != "" && to.Name != "" && from.Name != to.Name {
		c.add(Finding{Kind: KindDowngrade, Severity: Note, Message: fmt.Sprintf("FROM calls itself %q, TO %q", from.Name, to.Name)})
	}
}

// removedFiles turns TO's removed-files into instructions. Lines that break the update, or undo a part of it, are
// left out by the strict rules.
func (c *checks) removedFiles(text []byte) []updater.Instruction {
	var kept []updater.Instruction
	for _, ins := range removedFiles(text, c.scripts) {
		found := len(c.findings)
		c.removedLine(ins, "removed-files")
		if c.scripts || len(c.findings) == found {
			kept = append(kept, ins)
			if strings.Contains(ins.Path, "|") {
				c.add(Finding{
					Kind: KindRemovedFiles, Severity: Note, Other: ins.Path,
					Message: fmt.Sprintf("removed-files has the line %q, whose bar the scripts would take for a blank; here it stays one", ins.Path),
				})
			}
		}
	}
	return kept
}

// removedLine finds what speaks against an instruction that removes something; list says where it is from.
func (c *checks) removedLine(ins updater.Instruction, list string) {
	line := ins.Path
	if ins.Op == updater.OpRmrfdir {
		line += "*"
	}
	report := func(p string, code updater.Code, message string) {
		c.repaired(Finding{Kind: KindRemovedFiles, Path: p, Other: line, Code: code, Message: message}, "the line is left out")
	}
	why := updater.RefusedPath(ins.Path, ins.Op != updater.OpRemove)
	switch {
	case why != "":
		report("", updater.CodeParse, fmt.Sprintf("%s has the line %q, which %s", list, line, why))
		return
	case names.Unquotable(ins.Path):
		report("", updater.CodeParse, fmt.Sprintf("%s has the line %q, which cannot be written in a manifest", list, line))
		return
	case len(ins.Path) >= updater.MaxPathLen:
		report("", updater.CodeCrash, list+" has a line that does not fit the updater's buffers")
		return
	}
	if reason := names.WindowsReason(ins.Path); reason != names.Fine && names.OnWindows(c.platform) {
		report("", c.windowsCode(reason), fmt.Sprintf("%s has the line %q: %v", list, line, reason))
		return
	}
	key := path.Clean(ins.Path)
	// a file or directory that has this name, as it is spelled
	newFile, oldFile, newDir, oldDir := c.new.file(key), c.old.file(key), c.new.dir(key), c.old.dir(key)
	switch ins.Op {
	case updater.OpRemove:
		switch {
		case newFile != "" && oldFile != "":
			report(newFile, 0, "is listed in "+list+": it would be removed after it was updated")
		case newFile != "":
			report(newFile, 0, "is listed in "+list+": where it is installed it would be removed after it was updated")
		case oldDir != "" || newDir != "":
			report(key, updater.CodeExpectedFile, "is listed in "+list+" as a file, but is a directory")
		}
	case updater.OpRmdir:
		if newFile != "" || oldFile != "" {
			report(key, updater.CodeExpectedDir, "is listed in "+list+" as a directory, but is a file")
		}
	case updater.OpRmrfdir:
		if oldFile != "" {
			report(key, updater.CodeFileOperation, "is listed in "+list+" as a directory, but is a file")
			return
		}
		below := spelling.Key(key, c.platform) + "/"
		for _, n := range c.to.names {
			if key == "." || strings.HasPrefix(spelling.Key(n, c.platform), below) {
				report(n, 0, fmt.Sprintf("is below a directory that %s removes with all it holds (%s)", list, line))
				if !c.scripts {
					return // one is enough to leave the line out
				}
			}
		}
	}
}

// windowsCode is the updater's number for a line of removed-files. A path that Windows does not know is no file there.
func (c *checks) windowsCode(reason names.Reason) updater.Code {
	if reason.Refused() {
		return updater.CodeParse
	}
	return 0
}

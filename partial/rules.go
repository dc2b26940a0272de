package partial

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The rules of Mozilla's packaging scripts (make_full_update.sh, make_incremental_update.sh, common.sh) about
// single paths. None of them looks at a file's content.

// reverse sorts names as "LC_ALL=C sort -r" does: byte by byte, last first.
func reverse(names []string) {
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
}

// addIfNot reports whether a file is only installed where there is none yet: it holds the user's update channel.
func addIfNot(name string) bool {
	switch path.Base(name) {
	case "channel-prefs.js", "update-settings.ini":
		return true
	}
	rooted := "/" + name
	return strings.Contains(rooted, "/ChannelPrefs.framework/") || strings.Contains(rooted, "/UpdateSettings.framework/")
}

// extensionDir returns the directory that must exist for a file below distribution/extensions to be updated:
// who removed a bundled extension does not get it back.
func extensionDir(name string) (dir string, ok bool) {
	const parent = "distribution/extensions/"
	for at := strings.LastIndex(name, parent); at >= 0; at = strings.LastIndex(name[:at+len(parent)-1], parent) {
		end := at + len(parent)
		if slash := strings.IndexByte(name[end:], '/'); slash >= 0 {
			return name[:end+slash], true
		}
	}
	return "", false
}

// forced reports whether a file goes in whole whenever it is in both releases, even unchanged, and why.
func forced(name string, list []string) (why string, ok bool) {
	switch name {
	case "precomplete", "Contents/Resources/precomplete":
		return "forced: a complete update reads the installed one", true
	case "removed-files", "Contents/Resources/removed-files":
		return "forced: list of removed files", true
	case "Contents/CodeResources":
		return "forced: notarisation ticket", true
	case "Contents/MacOS/firefox":
		return "forced: built-in entry of the force list", true
	}
	if name[strings.LastIndexByte(name, '.')+1:] == "chk" {
		return "forced: a checksum must match the library that is shipped", true
	}
	if slices.Contains(list, name) {
		return "forced: on the force list", true
	}
	return "", false
}

// addInstruction returns the instruction that puts a whole file in.
func addInstruction(name string) Instruction {
	if addIfNot(name) {
		return Instruction{Op: OpAddIfNot, Test: name, Path: name}
	}
	if dir, ok := extensionDir(name); ok {
		return Instruction{Op: OpAddIf, Test: dir, Path: name}
	}
	return Instruction{Op: OpAdd, Path: name}
}

// patchInstruction returns the instruction that patches a file with an item.
func patchInstruction(name, item string) Instruction {
	if dir, ok := extensionDir(name); ok {
		return Instruction{Op: OpPatchIf, Test: dir, Item: item, Path: name}
	}
	return Instruction{Op: OpPatch, Item: item, Path: name}
}

// removedFilesNames are where the list of removed files stands; the first that exists counts.
var removedFilesNames = [...]string{"removed-files", "Contents/Resources/removed-files"}

// precompleteNames are where the list of installed files stands: on macOS it is the second.
var precompleteNames = [...]string{"precomplete", "Contents/Resources/precomplete"}

// removedFiles turns the lines of removed-files into instructions, in the scripts' order.
func removedFiles(text []byte) []Instruction {
	lines := strings.Split(string(text), "\n")
	slices.SortStableFunc(lines, func(a, b string) int {
		return cmp.Compare(strings.ReplaceAll(b, " ", "|"), strings.ReplaceAll(a, " ", "|"))
	})
	var list []Instruction
	for _, line := range lines {
		for word := range strings.SplitSeq(line, "\t") {
			name := strings.Join(strings.Fields(strings.ReplaceAll(word, "\r", "")), " ")
			switch {
			case name == "" || name[0] == '#':
			case strings.HasSuffix(name, "/"):
				list = append(list, Instruction{Op: OpRmdir, Path: name})
			case strings.HasSuffix(name, "/*"):
				list = append(list, Instruction{Op: OpRmrfdir, Path: strings.TrimSuffix(name, "*")})
			default:
				list = append(list, Instruction{Op: OpRemove, Path: name})
			}
		}
	}
	return list
}

// precomplete returns the list of a tree's files and directories that a complete update removes before it adds
// its own, as createprecomplete.py writes it at packaging time. names are the tree's files.
func precomplete(names []string) []byte {
	kept := func(n string) bool {
		return strings.HasSuffix(n, "channel-prefs.js") || strings.HasSuffix(n, "update-settings.ini") ||
			strings.Contains(n, "ChannelPrefs.framework/") || strings.Contains(n, "UpdateSettings.framework/") ||
			strings.Contains(n, "distribution/")
	}
	var b strings.Builder
	names = slices.Clone(names)
	reverse(names)
	for _, n := range names {
		if !kept(n) {
			fmt.Fprintf(&b, "remove \"%s\"\n", n)
		}
	}
	for _, d := range directories(names) {
		if d += "/"; !kept(d) {
			fmt.Fprintf(&b, "rmdir \"%s\"\n", d)
		}
	}
	return []byte(b.String())
}

// directories returns every directory above the given files, children before parents.
func directories(names []string) []string {
	seen := make(map[string]bool)
	var list []string
	for _, n := range names {
		for d := path.Dir(n); d != "." && d != "/" && !seen[d]; d = path.Dir(d) {
			seen[d] = true
			list = append(list, d)
		}
	}
	// createprecomplete.py and the scripts sort with the slash at the end
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(b+"/", a+"/") })
	return list
}

// versionTwo returns the instructions as updatev2.manifest has them: its readers do not know add-if-not.
// The list of channels is left alone, but for the settings in a complete update, which are simply added.
func versionTwo(list []Instruction, complete bool) []Instruction {
	out := make([]Instruction, 0, len(list))
	for _, i := range list {
		if i.Op == OpAddIfNot {
			if !complete || path.Base(i.Path) != "update-settings.ini" {
				continue
			}
			i = Instruction{Op: OpAdd, Path: i.Path}
		}
		out = append(out, i)
	}
	return out
}

// Platforms that names are checked for.
const (
	PlatformLinux   = "linux"
	PlatformWindows = "windows"
	PlatformMacOS   = "macos"
)

// detectPlatform looks for files that only one platform has. It returns "" where there are none, and names are
// then checked as strictly as the strictest platform needs.
func detectPlatform(names []string) string {
	for _, n := range names {
		base := path.Base(n)
		switch {
		case strings.HasPrefix(n, "Contents/MacOS/"), strings.Contains(n, ".app/Contents/MacOS/"):
			return PlatformMacOS
		case strings.HasSuffix(base, ".exe"), strings.HasSuffix(base, ".dll"):
			return PlatformWindows
		case strings.HasSuffix(base, ".so"):
			return PlatformLinux
		}
	}
	return ""
}

const (
	// The updater renames a file to its name and this, while it is replaced.
	backupSuffix = ".moz-backup"
	maxComponent = 255 - len(backupSuffix)
	// MAXPATHLEN is 4096 on Linux, 1024 on macOS and 260 on Windows, for the installation's directory, the path
	// and the suffix together. 256 bytes (60 on Windows) are left for the directory.
	maxPathUnix    = 1024 - 256 - len(backupSuffix)
	maxPathWindows = 260 - 60 - len(backupSuffix)
)

// checkName finds what is wrong with a file's name in an update. scripts says that the name went, or goes,
// through the shell scripts, which mishandle more than the updater does.
func checkName(name, platform string, scripts bool) []Finding {
	var list findings
	broken := func(kind Kind, code Code, message string) {
		list.add(Finding{Kind: kind, Severity: Broken, Path: name, Message: message, Code: code, WayOut: "rename the file"})
	}
	switch {
	case name == "":
		broken(KindName, CodeParse, "an empty name cannot be written in a manifest")
		return list
	case strings.ContainsAny(name, "\"\r\n\x00"):
		broken(KindName, CodeParse, "a quote, line end or NUL in a name cannot be written in a manifest")
	}
	switch {
	case name[0] == '/':
		broken(KindName, CodeParse, "the updater refuses absolute paths")
	case strings.Contains(name, ".."):
		broken(KindName, CodeParse, "the updater refuses every path with two dots in a row")
	case path.Clean(name) != name || name == ".":
		broken(KindName, 0, "the path is not in its shortest form")
	}
	switch {
	case strings.ContainsRune(name, '\\'):
		broken(KindName, CodeParse, "a backslash separates directories on Windows")
	case strings.ContainsFunc(name, unicode.IsControl):
		broken(KindName, CodeWrite, "a control character in a name is not allowed on Windows, and shell scripts mishandle it")
	case !utf8.ValidString(name):
		broken(KindName, CodeWrite, "the name is not UTF-8: Windows cannot take it, and release services lose this entry and all behind it")
	}
	if windows := platform == PlatformWindows; windows || platform == "" {
		switch {
		case len(name) > 1 && name[1] == ':':
			broken(KindName, CodeParse, "a colon behind the first letter means a drive on Windows")
		case windows && strings.ContainsAny(name, `<>:"|?*`):
			broken(KindName, CodeWrite, "a sign in the name is not allowed on Windows")
		}
		for part := range strings.SplitSeq(name, "/") {
			if windows && part != strings.TrimRight(part, ". ") {
				broken(KindName, CodeWrite, "a dot or blank at the end of a name is lost on Windows")
				break
			}
		}
	}
	limit := maxPathUnix
	if platform == PlatformWindows {
		limit = maxPathWindows
	}
	if len(name) > limit {
		broken(KindPathLength, CodeCrash, fmt.Sprintf("the path has %d bytes, over the %d that the updater's buffers leave for it", len(name), limit))
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxComponent {
			broken(KindPathLength, CodeFileOperation, fmt.Sprintf("a part of the path has %d bytes, over the %d that leave room for the updater's %q", len(part), maxComponent, backupSuffix))
			break
		}
	}
	if strings.HasSuffix(name, backupSuffix) {
		broken(KindName, CodeFileOperation, "the updater uses names with this ending for its backups")
	}
	if first, _, _ := strings.Cut(name, "/"); strings.EqualFold(first, workDir) {
		broken(KindName, 0, "the name is that of the directory in which Apply prepares an update")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		list.add(Finding{
			Kind: KindName, Severity: Note, Path: name,
			Message: "the name is not ASCII: some release services lose this entry and all behind it",
		})
	}
	if scripts && (strings.ContainsAny(name, "\\$`") || strings.TrimSpace(name) != name) {
		list.add(Finding{
			Kind: KindName, Severity: Note, Path: name,
			Message: "the shell scripts mishandle a blank at either end, a backslash, a dollar sign or a backtick; the name is handled properly here",
		})
	}
	return list
}

// checkCase finds names that differ only in case.
func checkCase(names []string, platform string) []Finding {
	var list findings
	folded := make(map[string]string, len(names))
	sorted := slices.Clone(names)
	reverse(sorted)
	sorted = append(sorted, directories(sorted)...)
	for _, n := range sorted {
		key := fold(n)
		other, ok := folded[key]
		if !ok {
			folded[key] = n
			continue
		}
		f := Finding{
			Kind: KindCase, Severity: Broken, Path: n, Other: other,
			Message: fmt.Sprintf("differs from %q only in case: Windows and macOS keep one of them", other),
			WayOut:  "rename one of them, or set the recipe's platform to linux",
		}
		if platform == PlatformLinux {
			f.Severity, f.WayOut = Note, ""
		}
		list.add(f)
	}
	return list
}

// fold maps names that file systems may take for equal to one text: simple case folding, rune by rune.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

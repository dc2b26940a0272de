package partial

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// The rules of Mozilla's packaging scripts (make_full_update.sh, make_incremental_update.sh, common.sh) about
// single paths. None of them looks at a file's content.

// reverse sorts names as "LC_ALL=C sort -r" does: byte by byte, last first.
func reverse(names []string) {
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
}

// What holds the user's update channel: files, and directories with all that is in them.
var (
	channelFiles      = [...]string{"channel-prefs.js", updater.SettingsFile}
	channelFrameworks = [...]string{"ChannelPrefs.framework/", "UpdateSettings.framework/"}
)

// addIfNot reports whether a file is only installed where there is none yet: it holds the user's update channel.
func addIfNot(name string) bool {
	if slices.Contains(channelFiles[:], path.Base(name)) {
		return true
	}
	return slices.ContainsFunc(channelFrameworks[:], func(dir string) bool { return strings.Contains("/"+name, "/"+dir) })
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
func addInstruction(name string) updater.Instruction {
	if addIfNot(name) {
		return updater.Instruction{Op: updater.OpAddIfNot, Test: name, Path: name}
	}
	if dir, ok := extensionDir(name); ok {
		return updater.Instruction{Op: updater.OpAddIf, Test: dir, Path: name}
	}
	return updater.Instruction{Op: updater.OpAdd, Path: name}
}

// patchInstruction returns the instruction that patches a file with an item.
func patchInstruction(name, item string) updater.Instruction {
	if dir, ok := extensionDir(name); ok {
		return updater.Instruction{Op: updater.OpPatchIf, Test: dir, Item: item, Path: name}
	}
	return updater.Instruction{Op: updater.OpPatch, Item: item, Path: name}
}

// removedFilesNames are where the list of removed files stands; the first that exists counts.
var removedFilesNames = [...]string{"removed-files", "Contents/Resources/removed-files"}

// removedFiles turns the lines of removed-files into instructions, in the scripts' order. scripts takes a bar for a
// blank, and what stands behind a tab for a line of its own even in a comment, as the shell does.
func removedFiles(text []byte, scripts bool) []updater.Instruction {
	lines := strings.Split(string(text), "\n")
	slices.SortStableFunc(lines, func(a, b string) int {
		return cmp.Compare(strings.ReplaceAll(b, " ", "|"), strings.ReplaceAll(a, " ", "|"))
	})
	var list []updater.Instruction
	for _, line := range lines {
		line = strings.ReplaceAll(line, "\r", "")
		if !scripts && strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			continue
		}
		for word := range strings.SplitSeq(line, "\t") {
			if scripts {
				word = strings.ReplaceAll(word, "|", " ")
			}
			// only blanks are blanks: U+00A0 and the like are part of a name
			name := strings.Join(strings.FieldsFunc(word, func(r rune) bool { return r == ' ' }), " ")
			switch {
			case name == "" || name[0] == '#':
			case strings.HasSuffix(name, "/"):
				list = append(list, updater.Instruction{Op: updater.OpRmdir, Path: name})
			case strings.HasSuffix(name, "/*"):
				list = append(list, updater.Instruction{Op: updater.OpRmrfdir, Path: strings.TrimSuffix(name, "*")})
			default:
				list = append(list, updater.Instruction{Op: updater.OpRemove, Path: name})
			}
		}
	}
	return list
}

// precomplete returns the list of a tree's files and directories that a complete update removes before it adds
// its own, as createprecomplete.py writes it at packaging time. names are the tree's files.
func precomplete(names []string) []byte {
	kept := func(n string) bool {
		// createprecomplete.py looks at ends and pieces of paths, not at their elements
		return slices.ContainsFunc(channelFiles[:], func(file string) bool { return strings.HasSuffix(n, file) }) ||
			slices.ContainsFunc(channelFrameworks[:], func(dir string) bool { return strings.Contains(n, dir) }) ||
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
func versionTwo(list []updater.Instruction, complete bool) []updater.Instruction {
	out := make([]updater.Instruction, 0, len(list))
	for _, i := range list {
		if i.Op == updater.OpAddIfNot {
			if !complete || path.Base(i.Path) != updater.SettingsFile {
				continue
			}
			i = updater.Instruction{Op: updater.OpAdd, Path: i.Path}
		}
		out = append(out, i)
	}
	return out
}

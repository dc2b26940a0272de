package partial

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/names"
	"github.com/senbonzakura/senbonzakura/internal/spelling"
)

// Platforms that names are checked for.
const (
	PlatformLinux   = names.Linux
	PlatformWindows = names.Windows
	PlatformMacOS   = names.MacOS
)

const (
	// The updater renames a file to its name and this, while it is replaced.
	maxComponent = names.MaxElement - len(updater.BackupSuffix)
	// MAXPATHLEN is 4096 on Linux, 1024 on macOS and 260 on Windows, for the installation's directory, the path
	// and the suffix together. 256 bytes (60 on Windows) are left for the directory.
	maxPathUnix    = 1024 - 256 - len(updater.BackupSuffix)
	maxPathWindows = 260 - 60 - len(updater.BackupSuffix)
)

// checkName finds what is wrong with a file's name in an update. scripts says that the name went, or goes,
// through the shell scripts, which mishandle more than the updater does.
func checkName(name, platform string, scripts bool) []Finding {
	var list findings
	broken := func(kind Kind, code updater.Code, message string) {
		list.add(Finding{Kind: kind, Severity: Broken, Path: name, Message: message, Code: code, WayOut: "rename the file"})
	}
	switch {
	case name == "":
		broken(KindName, updater.CodeParse, "an empty name cannot be written in a manifest")
		return list
	case names.Unquotable(name):
		broken(KindName, updater.CodeParse, "a quote, line end or NUL in a name cannot be written in a manifest")
	}
	switch {
	case name[0] == '/':
		broken(KindName, updater.CodeParse, "the updater refuses absolute paths")
	case names.Dots(name):
		broken(KindName, updater.CodeParse, "the updater refuses every path with two dots in a row")
	case path.Clean(name) != name || name == ".":
		broken(KindName, 0, "the path is not in its shortest form")
	}
	if !utf8.ValidString(name) {
		broken(KindName, updater.CodeWrite, "the name is not UTF-8: Windows cannot take it, and release services lose this entry and all behind it")
	}
	switch reason := names.WindowsReason(name); reason {
	case names.Fine:
	case names.Root, names.Backslash, names.Signs: // on no platform: other readers take them apart
		broken(KindName, reasonCode(reason), reason.String())
	default:
		if names.OnWindows(platform) {
			broken(KindName, reasonCode(reason), reason.String())
		}
	}
	limit := maxPathUnix
	if platform == PlatformWindows {
		limit = maxPathWindows
	}
	if len(name) > limit {
		broken(KindPathLength, updater.CodeCrash, fmt.Sprintf("the path has %d bytes, over the %d that the updater's buffers leave for it", len(name), limit))
	}
	if n, long := names.LongElement(name, maxComponent); long {
		broken(KindPathLength, updater.CodeFileOperation, fmt.Sprintf("a part of the path has %d bytes, over the %d that leave room for the updater's %q", n, maxComponent, updater.BackupSuffix))
	}
	for _, suffix := range [...]string{updater.BackupSuffix, updater.DraftSuffix} {
		if strings.HasSuffix(spelling.Key(name, platform), spelling.Key(suffix, platform)) {
			broken(KindName, updater.CodeFileOperation, fmt.Sprintf("the updater gives the ending %q to files of its own", suffix))
		}
	}
	if first, _, _ := strings.Cut(name, "/"); strings.EqualFold(first, updater.WorkDir) {
		broken(KindName, 0, "the name is that of the directory in which Apply prepares an update")
	}
	if !names.ASCII(name) {
		list.add(Finding{
			Kind: KindName, Severity: Note, Path: name,
			Message: "the name is not ASCII: some release services lose this entry and all behind it",
		})
	}
	if scripts && (strings.ContainsAny(name, "\\$`") || strings.Trim(name, " \t") != name) {
		list.add(Finding{
			Kind: KindName, Severity: Note, Path: name,
			Message: "the shell scripts mishandle a blank at either end, a backslash, a dollar sign or a backtick; the name is handled properly here",
		})
	}
	return list
}

// reasonCode is what the updater on Windows reports where a name does not do.
func reasonCode(r names.Reason) updater.Code {
	if r.Refused() || r == names.Backslash {
		return updater.CodeParse
	}
	return updater.CodeWrite
}

// A nameIndex finds the files and directories of a tree by any of the spellings that a platform takes for one.
type nameIndex struct {
	platform    string
	files, dirs map[string]string // by key: as they are spelled; of several the first
}

func indexNames(list []string, platform string) nameIndex {
	x := nameIndex{platform: platform, files: make(map[string]string, len(list)), dirs: make(map[string]string)}
	for _, n := range list {
		if key := spelling.Key(n, platform); x.files[key] == "" {
			x.files[key] = n
		}
	}
	for _, d := range directories(list) {
		if key := spelling.Key(d, platform); x.dirs[key] == "" {
			x.dirs[key] = d
		}
	}
	return x
}

// file returns the file that has this name, or "".
func (x nameIndex) file(name string) string { return x.files[spelling.Key(name, x.platform)] }

// dir returns the directory that has this name, or "".
func (x nameIndex) dir(name string) string { return x.dirs[spelling.Key(name, x.platform)] }

// checkSpelling finds names of one tree that are one on some platform.
func checkSpelling(list []string, platform string) []Finding {
	var found findings
	where := platform
	if platform == PlatformLinux {
		where = PlatformWindows // worth a note
	}
	sorted := slices.Clone(list)
	reverse(sorted)
	sorted = append(sorted, directories(sorted)...)
	spelling.Collisions(sorted, where, func(n, other string, d spelling.Difference) {
		f := Finding{
			Kind: spellingKind(d), Severity: Broken, Path: n, Other: other,
			Message: fmt.Sprintf("differs from %q %v: that is one name on %s", other, d, d.Places()),
			WayOut:  "rename one of them, or make the update for a platform where they are two",
		}
		if platform == PlatformLinux {
			f.Severity, f.WayOut = Note, ""
		}
		found.add(f)
	})
	return found
}

func spellingKind(d spelling.Difference) Kind {
	if d == spelling.Case {
		return KindCase
	}
	return KindNormalization
}

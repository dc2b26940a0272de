// Package names says what updaters and file systems make of the paths of files in an update: which they refuse,
// which mean something else on one platform, and which are one name although they are spelled in two ways.
//
// A path has its elements separated by slashes, as in a MAR file and in a manifest:
//
//	Contents/MacOS/firefox
//
// The rules come from the updater's get_valid_path and from what Windows documents about names of files. Nothing here
// looks at a file system; everything is safe for concurrent use.
package names

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Platforms that a name may be meant for. "" stands for any of them.
const (
	Linux   = "linux"
	Windows = "windows"
	MacOS   = "macos"
)

// OnWindows reports whether a name for this platform may end up on Windows.
func OnWindows(platform string) bool { return platform == Windows || platform == "" }

// Control reports whether a name holds an ASCII control character. Windows allows none of them, and lists of names
// that are written line by line cannot hold all.
func Control(name string) bool {
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return true
		}
	}
	return false
}

// ASCII reports whether a name is ASCII alone. The reader of Mozilla's services ends its list of entries at the first
// name that is not.
func ASCII(name string) bool {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Unquotable reports whether a manifest cannot express a name: its text has quotes around names, ends lines at CR and
// LF and itself at a NUL, and knows no escapes.
func Unquotable(name string) bool { return strings.ContainsAny(name, "\"\r\n\x00") }

// Dots reports whether a name has two dots in a row, which the updater refuses anywhere.
func Dots(name string) bool { return strings.Contains(name, "..") }

// LongElement reports whether an element of a path has more than limit bytes, and how many the first such has.
func LongElement(name string, limit int) (length int, long bool) {
	for elem := range strings.SplitSeq(name, "/") {
		if len(elem) > limit {
			return len(elem), true
		}
	}
	return 0, false
}

// MaxElement is how many bytes an element of a path may have on every common file system.
const MaxElement = 255

// A Reason says why Windows does not take a name as it stands. Its zero value means that it does.
type Reason int

// What Windows refuses, or gives another meaning.
const (
	Fine      Reason = iota
	Drive            // a colon behind the first character means a drive
	Root             // a backslash at the start means the root of a drive, two of them another machine
	Backslash        // a backslash separates directories
	Sign             // < > : " | ? * cannot stand in a name
	Signs            // a control character cannot stand in a name
	Ending           // a dot or blank at the end of an element is dropped
	Device           // an element is the name of a device, with or without an extension
)

// String says in words what is wrong.
func (r Reason) String() string {
	switch r {
	case Drive:
		return "a colon behind the first letter means a drive on Windows"
	case Root:
		return "a backslash at the start means the root of a drive, or another machine, on Windows"
	case Backslash:
		return "a backslash separates directories on Windows"
	case Sign:
		return "a sign in the name is not allowed on Windows"
	case Signs:
		return "a control character in a name is not allowed on Windows, and shell scripts mishandle it"
	case Ending:
		return "a dot or blank at the end of a name is lost on Windows"
	case Device:
		return "a part of the name is that of a device on Windows"
	}
	return ""
}

// Refused reports whether the updater on Windows refuses a path for this reason, with error 5, before it touches
// anything. For the others it fails at the file, or changes another one than is meant.
func (r Reason) Refused() bool { return r == Drive || r == Root }

// WindowsReason returns the first reason for which Windows does not take a path as it stands.
func WindowsReason(name string) Reason {
	switch {
	case len(name) > 1 && name[1] == ':':
		return Drive
	case strings.HasPrefix(name, `\`):
		return Root
	case strings.ContainsRune(name, '\\'):
		return Backslash
	case Control(name):
		return Signs
	case strings.ContainsAny(name, `<>:"|?*`):
		return Sign
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "." || elem == ".." {
			continue
		}
		if strings.HasSuffix(elem, ".") || strings.HasSuffix(elem, " ") {
			return Ending
		}
		if device(elem) {
			return Device
		}
	}
	return Fine
}

// device reports whether an element of a path is a device on Windows: CON, PRN, AUX, NUL, COM and LPT with a digit,
// whatever their case and whatever follows behind a dot or blanks.
func device(elem string) bool {
	base, _, _ := strings.Cut(elem, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, port := range [...]string{"COM", "LPT"} {
		switch rest, ok := strings.CutPrefix(base, port); {
		case !ok:
		case len(rest) == 1 && rest[0] >= '0' && rest[0] <= '9', rest == "¹", rest == "²", rest == "³":
			return true
		}
	}
	return false
}

// Fold maps names that are equal but for case to one text: simple case folding, rune by rune, as Windows and macOS do.
func Fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

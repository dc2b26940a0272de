package partial

import (
	"fmt"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// A Kind names what a Finding is about. The set is closed; new ones may be added.
type Kind string

// What Build and Pack find in their inputs.
const (
	KindFileToDirectory Kind = "file-to-directory" // a file's path becomes a directory: clients fail with error 7
	KindDirectoryToFile Kind = "directory-to-file" // a directory's path becomes a file: a stale backup stays behind
	KindName            Kind = "name"              // the updater, or a platform, cannot take the name
	KindPathLength      Kind = "path-length"       // the path is too long for the updater's buffers or for a file system
	KindCase            Kind = "case"              // two names differ only in case
	KindNormalization   Kind = "normalization"     // two names differ only in their Unicode normalisation
	KindSame            Kind = "same"              // FROM and TO are the same
	KindItem            Kind = "item"              // a file has the name of another file's patch
	KindMode            Kind = "mode"              // a change of the executable bit is lost
	KindModeBits        Kind = "mode-bits"         // bits of the mode are not part of an update
	KindSymlink         Kind = "symlink"           // a symbolic link, or another file that is not regular
	KindEmptyDirectory  Kind = "empty-directory"   // a directory without files
	KindEmptyMember     Kind = "empty-member"      // a member of no bytes: the updater fails with error 40
	KindMember          Kind = "member"            // a member that the installed updater cannot decompress
	KindSize            Kind = "size"              // a file or the archive is too large
	KindDowngrade       Kind = "downgrade"         // TO is older than FROM: the updater fails with error 23
	KindPrecomplete     Kind = "precomplete"       // TO has no precomplete
	KindRemovedFiles    Kind = "removed-files"     // a line of removed-files that breaks or undoes the update
	KindProduct         Kind = "product"           // no channel and version: the updater fails with error 21
	KindManifest        Kind = "manifest"          // a file that packaging leaves out because it is named like a manifest
	KindInstruction     Kind = "instruction"       // a line of a complete update's manifest that is not carried over, or cannot be
	KindForce           Kind = "force"             // a path of the recipe's force list that TO does not have
	KindDifferent       Kind = "different"         // the update gives something else than TO
	KindClient          Kind = "client"            // FROM's updater refuses the update: Check says over what
)

// A Severity says what a Finding means for whoever wants to ship the update.
type Severity string

// The severities, from harmless to fatal.
const (
	Note     Severity = "note"     // worth knowing; nothing is lost
	Warning  Severity = "warning"  // clients that verify refuse it, and whether FROM's does is not known
	Repaired Severity = "repaired" // the scripts would have got it wrong; what was built is right
	Broken   Severity = "broken"   // clients fail, or end up with something else than TO
)

// A Finding is something in the inputs that Mozilla's packaging scripts pass over in silence. With the default
// rules one of severity Broken makes Build refuse; with those of the scripts it is only reported.
type Finding struct {
	Kind     Kind         `json:"kind"`              // what it is; stable, for programs
	Severity Severity     `json:"severity"`          // what comes of it
	Path     string       `json:"path,omitempty"`    // of the file in question; "" where none is
	Other    string       `json:"other,omitempty"`   // the second path, where two are involved
	Message  string       `json:"message"`           // what is wrong, and what comes of it
	WayOut   string       `json:"way_out,omitempty"` // what to do about it
	Code     updater.Code `json:"code,omitempty"`    // the number with which the updater fails, 0 for none
	// Check is the check that it is about, by which it can be left out; "" where there is none.
	Check updater.Check `json:"check,omitempty"`
}

// String returns path, message and way out in one line.
func (f Finding) String() string {
	var b strings.Builder
	if f.Path != "" {
		fmt.Fprintf(&b, "%q ", f.Path)
	}
	b.WriteString(f.Message)
	if f.WayOut != "" {
		b.WriteString(" (" + f.WayOut + ")")
	}
	return b.String()
}

// findings collects what was found, in the order in which it was looked for.
type findings []Finding

func (l *findings) add(f Finding) { *l = append(*l, f) }

func (l findings) broken() []Finding {
	var out []Finding
	for _, f := range l {
		if f.Severity == Broken {
			out = append(out, f)
		}
	}
	return out
}

// explains reports whether a finding says why a path, or what is below it, may differ from TO.
func (l findings) explains(name string) bool {
	return slices.ContainsFunc(l, func(f Finding) bool {
		if f.Severity != Broken || name == "" {
			return false
		}
		return f.Path == name || f.Other == name || f.Path != "" && strings.HasPrefix(name, f.Path+"/")
	})
}

// explainsFailure reports whether a finding says why the updater fails.
func (l findings) explainsFailure(e *updater.UpdateError) bool {
	return l.explains(e.Path) || slices.ContainsFunc(l, func(f Finding) bool {
		return f.Severity == Broken && e.Path == "" && f.Code == e.Code
	})
}

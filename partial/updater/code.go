package updater

import (
	"errors"
	"fmt"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/member"
)

// A Code is the number with which Gecko's updater reports a failure, as in "failed: 6" in its status file.
type Code int

// The codes that the errors of this package carry.
const (
	CodeCrash         Code = -1 // the updater crashes: there is no number, and the status stays "applying"
	CodeNoActions     Code = 1  // the manifest does nothing
	CodeSourceSize    Code = 2  // a file to be patched has not the size that the patch was made for
	CodeSourceCRC     Code = 4  // a file to be patched has not the content that the patch was made for
	CodeParse         Code = 5  // the manifest cannot be parsed
	CodeRead          Code = 6  // an item or a file cannot be read
	CodeWrite         Code = 7  // a file cannot be written
	CodeSignature     Code = 19 // the archive is not signed once, with the algorithm and the key that are expected
	CodeNoProduct     Code = 21 // the archive has no product information
	CodeChannel       Code = 22 // the archive is for a channel that the installation does not accept
	CodeDowngrade     Code = 23 // the update is for an older version than the installed one
	CodeSettings      Code = 38 // the installation's own update-settings.ini is gone
	CodeXZ            Code = 39 // an item cannot be decompressed
	CodeEntry         Code = 40 // an item has no bytes
	CodePatchFormat   Code = 41 // a patch is malformed or of an unknown format
	CodeFileOperation Code = 42 // a file operation fails
	CodeExpectedDir   Code = 46 // a file is where a directory is to be removed
	CodeExpectedFile  Code = 47 // a directory is where a file is to be removed
)

// String returns what the updater does: "failed: 6", or "crashes".
func (c Code) String() string {
	switch c {
	case 0:
		return "succeeded"
	case CodeCrash:
		return "crashes"
	}
	return fmt.Sprintf("failed: %d", int(c))
}

// ErrPatchFormat matches, with errors.Is, the error for a patch that is in none of the formats of [PatchFormats].
var ErrPatchFormat = errors.New("patch in no format that is known")

// ErrLimit matches, with errors.Is, the error for a member or an archive that is larger than a limit.
var ErrLimit = member.ErrLimit

// ErrMember matches, with errors.Is, the error for a member that is damaged, or in no format that an updater reads.
var ErrMember = member.ErrData

// An UpdateError says what an updater would trip over when it applies an update: which instruction, why, and the
// number that the updater itself would report.
type UpdateError struct {
	Code Code   // what the updater reports; 0 where the updater would not notice, and only this package refuses
	Line int    // line of the manifest, from 1; 0 where none is to blame
	Op   Op     // the instruction's method; "" where none is to blame
	Path string // the file or item in question; may be empty
	Err  error  // what is wrong
}

// Error names line, instruction, path and cause, and the updater's number behind them.
func (e *UpdateError) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "manifest line %d: ", e.Line)
	}
	if e.Op != "" {
		b.WriteString(string(e.Op) + " ")
	}
	if e.Path != "" {
		fmt.Fprintf(&b, "%q", e.Path)
	}
	out := strings.TrimRight(b.String(), " ")
	if out != "" && !strings.HasSuffix(out, ":") {
		out += ":"
	}
	if out != "" {
		out += " "
	}
	out += e.Err.Error()
	switch e.Code {
	case 0:
		return out + " (the updater would not notice)"
	case CodeCrash:
		return out + " (the updater crashes)"
	}
	return fmt.Sprintf("%s (the updater reports %q)", out, e.Code)
}

// Unwrap returns the cause.
func (e *UpdateError) Unwrap() error { return e.Err }

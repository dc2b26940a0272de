package updater

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// ManifestVersion says which of the manifests that a MAR may carry is meant. Gecko's updater reads exactly one
// of them, the newest it knows.
type ManifestVersion int

// The manifests that updaters have read. Version 3 is the only one read since Firefox 4.
const (
	ManifestV1 ManifestVersion = 1 // update.manifest
	ManifestV2 ManifestVersion = 2 // updatev2.manifest: no add-if-not
	ManifestV3 ManifestVersion = 3 // updatev3.manifest
)

// Name returns the name of the MAR entry that holds this manifest.
func (v ManifestVersion) Name() string {
	if v == ManifestV1 {
		return "update.manifest"
	}
	return fmt.Sprintf("updatev%d.manifest", int(v))
}

// IsManifestName reports whether name is that of a manifest of any version. The packaging scripts leave such
// files out of every update, in any directory.
func IsManifestName(name string) bool {
	switch path.Base(name) {
	case "update.manifest", "updatev2.manifest", "updatev3.manifest":
		return true
	}
	return false
}

// Op is the method of an instruction, spelled as in the manifest.
type Op string

// The instructions that Gecko's updater knows.
const (
	OpAdd      Op = "add"        // replace or create Path with the item of the same name
	OpAddIf    Op = "add-if"     // as add if Test exists before the update
	OpAddIfNot Op = "add-if-not" // as add if Test does not exist before the update
	OpPatch    Op = "patch"      // apply the patch Item to the existing Path
	OpPatchIf  Op = "patch-if"   // as patch if Test exists before the update
	OpRemove   Op = "remove"     // delete the file Path where it is present
	OpRmdir    Op = "rmdir"      // at the end, delete the directory Path if it is empty
	OpRmrfdir  Op = "rmrfdir"    // delete everything that is below Path, and Path, when the update starts
)

// An Instruction is one line of a manifest.
type Instruction struct {
	Op   Op     `json:"op"`             // what is done
	Test string `json:"test,omitempty"` // add-if, add-if-not, patch-if: the path whose existence decides
	Item string `json:"item,omitempty"` // patch, patch-if: name of the MAR entry with the patch
	Path string `json:"path"`           // what is changed; rmdir and rmrfdir: with its trailing slash
	Line int    `json:"-"`              // line of the manifest, from 1, or 0 where it was not parsed
}

// String returns the instruction as a line of a manifest, without the line's end.
func (i Instruction) String() string {
	var b strings.Builder
	b.WriteString(string(i.Op))
	for _, arg := range i.args() {
		b.WriteString(` "`)
		b.WriteString(arg)
		b.WriteByte('"')
	}
	return b.String()
}

func (i Instruction) args() []string {
	switch i.Op {
	case OpAddIf, OpAddIfNot:
		return []string{i.Test, i.Path}
	case OpPatch:
		return []string{i.Item, i.Path}
	case OpPatchIf:
		return []string{i.Test, i.Item, i.Path}
	}
	return []string{i.Path}
}

// item returns the name of the MAR entry that the instruction consumes, or "" where it needs none.
func (i Instruction) item() string {
	switch i.Op {
	case OpAdd, OpAddIf, OpAddIfNot:
		return i.Path
	case OpPatch, OpPatchIf:
		return i.Item
	}
	return ""
}

// A Manifest is the list of what an update does, in order. It is a plain value; methods do not change it.
type Manifest struct {
	// Type is "complete" (the installed version's precomplete runs first) or anything else, which the updater
	// takes for a partial update. Empty means that the manifest does not say.
	Type         string        `json:"type,omitempty"`
	Instructions []Instruction `json:"instructions"` // in the order in which they are carried out
}

// String returns the manifest's text as the packaging scripts write it: one instruction per line, every argument
// in quotes, every line ended by one line feed. Names with a quote, a CR, an LF or a NUL cannot be expressed;
// Build and Pack refuse them before.
func (m *Manifest) String() string {
	var b strings.Builder
	if m.Type != "" {
		fmt.Fprintf(&b, "type \"%s\"\n", m.Type)
	}
	for _, i := range m.Instructions {
		b.WriteString(i.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// MaxPathLen is MAXPATHLEN of the updater on Linux. Paths are copied into buffers of that size without a
// check: a longer one aborts the updater.
const MaxPathLen = 4096

// ParseManifest reads a manifest as Gecko's updater does, with all of its habits: lines end at CR or LF; the text
// ends at the first NUL; lines that start with # are skipped; what follows the method is split at quotes, and
// whatever stands between two arguments or behind the last is not looked at; a single argument needs no quotes.
// Exactly one blank must stand between the method and its first argument: a second one becomes the path, as in
// the updater.
//
// What the updater refuses, or crashes on, is an *UpdateError with the line and the updater's error number.
// Whether the instructions make sense for an archive and a tree is not looked at: Verify and Apply do that.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	first := true
	err := eachLine(text, func(number int, method, args string) error {
		if first {
			first = false
			if method == "type" {
				m.Type, _ = nextToken(args, `"`)
				if m.Type == "" {
					return &UpdateError{Code: CodeCrash, Line: number, Op: "type", Err: errors.New("no type is given")}
				}
				return nil
			}
		}
		ins, err := parseInstruction(Op(method), args, number)
		if err != nil {
			return err
		}
		m.Instructions = append(m.Instructions, ins)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// SplitUnknown takes the lines out of a manifest that have a method which Gecko's updater does not know.
func SplitUnknown(text []byte) (known []byte, unknown []string) {
	s, _, _ := strings.Cut(string(text), "\x00")
	var b strings.Builder
	first := true
	for line := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\r' || r == '\n' }) {
		method, _ := nextToken(line, " \t")
		if line[0] != '#' && method != "" {
			switch Op(method) {
			case OpAdd, OpAddIf, OpAddIfNot, OpPatch, OpPatchIf, OpRemove, OpRmdir, OpRmrfdir:
			default:
				if method != "type" || !first {
					unknown = append(unknown, line)
					line = "#"
				}
			}
			first = false
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return []byte(b.String()), unknown
}

// PrecompleteNames are where the list of installed files stands: on macOS it is the second.
var PrecompleteNames = [...]string{"precomplete", "Contents/Resources/precomplete"}

// ParsePrecomplete reads the list of an installed version's files that a complete update removes first.
func ParsePrecomplete(text []byte) ([]Instruction, error) {
	var list []Instruction
	err := eachLine(text, func(number int, method, args string) error {
		switch Op(method) {
		case "remove-cc": // known and ignored
			return nil
		case OpRemove, OpRmdir:
			ins, err := parseInstruction(Op(method), args, number)
			list = append(list, ins)
			return err
		}
		return parseError(number, Op(method), "only remove and rmdir may stand here")
	})
	if err != nil {
		return nil, fmt.Errorf("precomplete: %w", err)
	}
	return list, nil
}

// eachLine calls f with the number, the method and the rest of every line that is neither empty nor a comment.
func eachLine(text []byte, f func(number int, method, args string) error) error {
	s := string(text)
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	for number := 1; s != ""; number++ {
		end := strings.IndexAny(s, "\r\n")
		line, rest := s, ""
		if end >= 0 {
			line, rest = s[:end], s[end+1:]
			if s[end] == '\r' {
				rest = strings.TrimPrefix(rest, "\n")
			}
		}
		s = rest
		if line == "" || line[0] == '#' {
			continue
		}
		method, args := nextToken(line, " \t")
		if method == "" {
			return parseError(number, "", "the line has only blanks")
		}
		if err := f(number, method, args); err != nil {
			return err
		}
	}
	return nil
}

func parseInstruction(op Op, args string, number int) (Instruction, error) {
	ins := Instruction{Op: op, Line: number}
	arg := func() (a string) {
		a, args = nextToken(args, `"`)
		return a
	}
	// second and later arguments: what stands between the quotes is one token, and nobody reads it
	next := func() string {
		if arg() == "" {
			return ""
		}
		return arg()
	}
	switch op {
	case OpAdd, OpRemove:
		ins.Path = arg()
	case OpAddIf, OpAddIfNot:
		ins.Test = arg()
		ins.Path = next()
	case OpPatch:
		ins.Item = arg()
		ins.Path = next()
	case OpPatchIf:
		ins.Test = arg()
		ins.Item = next()
		ins.Path = next()
	case OpRmdir, OpRmrfdir:
		ins.Path = arg()
	default:
		return ins, parseError(number, op, "unknown instruction")
	}
	for _, a := range ins.args() {
		if a == "" {
			return ins, parseError(number, op, "an argument is missing")
		}
	}
	if ins.Test != "" {
		if why := RefusedPath(ins.Test, false); why != "" {
			return ins, parseError(number, op, fmt.Sprintf("test path %q %s", ins.Test, why))
		}
	}
	isDir := op == OpRmdir || op == OpRmrfdir
	if why := RefusedPath(ins.Path, isDir); why != "" {
		return ins, parseError(number, op, fmt.Sprintf("path %q %s", ins.Path, why))
	}
	if len(ins.Path) >= MaxPathLen || len(ins.Test) >= MaxPathLen {
		return ins, &UpdateError{
			Code: CodeCrash, Line: number, Op: op,
			Err: fmt.Errorf("a path of %d bytes does not fit the updater's buffer of %d", max(len(ins.Path), len(ins.Test)), MaxPathLen),
		}
	}
	return ins, nil
}

// RefusedPath says why the updater refuses a path of a manifest, or "".
func RefusedPath(p string, isDir bool) string {
	switch {
	case p[0] == '/':
		return "is not relative"
	case isDir && p[len(p)-1] != '/':
		return "names a directory but has no slash at its end"
	case strings.Contains(p, ".."):
		return "has two dots in a row"
	}
	return ""
}

// nextToken cuts s at the first of the delimiters, after skipping those at its start. It returns "" for the
// token where there is none.
func nextToken(s, delims string) (token, rest string) {
	s = strings.TrimLeft(s, delims)
	if i := strings.IndexAny(s, delims); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func parseError(line int, op Op, why string) error {
	return &UpdateError{Code: CodeParse, Line: line, Op: op, Err: errors.New(why)}
}

// Check lists what is wrong with a manifest whatever it is applied to, in the order of its lines: what Simulate would fail
// with where every condition holds and every file is there, and what updaters make different things of. lookup finds the
// entries of the update's MAR.
func (m *Manifest) Check(lookup func(name string) (Item, bool)) []*UpdateError {
	var list []*UpdateError
	add := func(ins Instruction, code Code, format string, args ...any) {
		list = append(list, &UpdateError{Code: code, Line: ins.Line, Op: ins.Op, Path: ins.Path, Err: fmt.Errorf(format, args...)})
	}
	if len(m.Instructions) == 0 && m.Type != "complete" {
		list = append(list, &UpdateError{Code: CodeNoActions, Err: errors.New("the update does nothing")})
	}
	written, used := make(map[string]int), make(map[string]int)
	for _, ins := range m.Instructions {
		item := ins.item()
		if item == "" {
			continue
		}
		switch it, ok := lookup(item); {
		case !ok:
			add(ins, CodeCrash, "the archive has no entry %q", item)
		case it.Size == 0:
			add(ins, CodeEntry, "entry %q has no bytes", item)
		}
		if line, ok := used[item]; ok {
			add(ins, CodeRead, "entry %q is used by line %d already", item, line)
		} else {
			used[item] = ins.Line
		}
		key := path.Clean(ins.Path)
		if line, ok := written[key]; ok {
			add(ins, 0, "line %d writes the same file: older updaters do one after the other, newer ones lose what the first gave", line)
		} else {
			written[key] = ins.Line
		}
		for _, suffix := range [...]string{BackupSuffix, DraftSuffix} {
			if strings.HasSuffix(key, suffix) {
				add(ins, 0, "the updater has names that end in %s for itself", suffix)
			}
		}
	}
	return list
}

// LostSettings finds files that a precomplete removes although the manifest, or packaging, adds them only where they are
// missing: the next complete update takes them away for good. settings says that the one with the accepted channels is
// among them.
func LostSettings(precomplete []Instruction, onlyIfMissing func(name string) bool) (lost []string, settings bool) {
	for _, ins := range precomplete {
		if ins.Op == OpRemove && onlyIfMissing(ins.Path) {
			lost = append(lost, ins.Path)
			settings = settings || SettingsName(ins.Path)
		}
	}
	slices.Sort(lost)
	return slices.Compact(lost), settings
}

// LostSettingsMessage says what comes of what LostSettings found, behind the precomplete's name.
func LostSettingsMessage(lost []string, settings bool) string {
	s := fmt.Sprintf("removes %q, which is only added where it is missing: after the next complete update it is gone", lost)
	if settings {
		s += ", and every later update fails"
	}
	return s
}

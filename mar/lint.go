package mar

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

// The kinds of problems that only [Lint] reports: [NewReader] accepts such archives.
const (
	// CodeRead: the file could not be read.
	CodeRead Code = "read"
	// CodeMore: there are more problems than were asked for.
	CodeMore Code = "more"
	// CodeUnsigned: there is no signature. Updaters of released products end with error 19.
	CodeUnsigned Code = "unsigned"
	// CodeSignatureCount: there are several signatures. Updaters end with error 19.
	CodeSignatureCount Code = "signature-count"
	// CodeSignatureAlgorithm: a signature is not RSA-4096 with SHA-384. Updaters end with error 19.
	CodeSignatureAlgorithm Code = "signature-algorithm"
	// CodeLayout: the layout has no place for product information, or for signatures.
	CodeLayout Code = "layout"
	// CodeNoProduct: there is no product information. Updaters end with error 21.
	CodeNoProduct Code = "no-product"
	// CodeHiddenProduct: the product information is not the first section, where the updater looks for it, or
	// there are several.
	CodeHiddenProduct Code = "hidden-product"
	// CodeUnknownSection: a section other than product information.
	CodeUnknownSection Code = "unknown-section"
	// CodeGap: bytes that belong to nothing.
	CodeGap Code = "gap"
	// CodeNoManifest: there is no updatev3.manifest. Updaters crash.
	CodeNoManifest Code = "no-manifest"
	// CodeEmptyFile: an entry has no bytes. Updaters that use it end with error 40; an empty file is stored as
	// the compressed form of no bytes.
	CodeEmptyFile Code = "empty-file"
	// CodeDots: a name contains "..", if not as an element. Updaters end with error 5.
	CodeDots Code = "dots"
	// CodeQuote: a name contains a quotation mark, which a manifest cannot express.
	CodeQuote Code = "quote"
	// CodeLongName: a name, or an element of it, is longer than some file system takes.
	CodeLongName Code = "long-name"
	// CodeWindowsName: a name that Windows does not take, or gives another meaning.
	CodeWindowsName Code = "windows-name"
	// CodeNonASCII: a name is not ASCII. The reader of Mozilla's services ends the list of entries there,
	// without an error.
	CodeNonASCII Code = "non-ascii"
	// CodeCase: two names differ in case only. On Windows and macOS the second overwrites the first.
	CodeCase Code = "case"
	// CodeUnreadable: an entry's mode does not let its owner read the file.
	CodeUnreadable Code = "unreadable"
)

// A Problem is something about an archive that somebody may stumble over. Where none of Refused, Updater and
// Others is set, it is only unusual.
type Problem struct {
	Code    Code   `json:"code"`           // what kind of problem it is
	Offset  int64  `json:"offset"`         // where in the file, in bytes
	Name    string `json:"name,omitempty"` // entry concerned, "" where none is
	Detail  string `json:"detail"`         // what is wrong, for people
	Refused bool   `json:"refused"`        // a strict NewReader refuses the archive for this
	Updater bool   `json:"updater"`        // Mozilla's updater refuses it, crashes, or does other than was meant
	Others  bool   `json:"others"`         // other readers and tools refuse it, or lose or overwrite something
}

func (p Problem) String() string {
	var who []string
	for _, w := range []struct {
		is   bool
		name string
	}{{p.Refused, "refused"}, {p.Updater, "updater"}, {p.Others, "others"}} {
		if w.is {
			who = append(who, w.name)
		}
	}
	name := ""
	if p.Name != "" {
		name = fmt.Sprintf(" entry %q:", p.Name)
	}
	return fmt.Sprintf("offset %d:%s %s (%s)", p.Offset, name, p.Detail, strings.Join(append([]string{string(p.Code)}, who...), ", "))
}

// LintOptions say what [Lint] looks for.
type LintOptions struct {
	// Limits are those of the reader that the archive is meant for.
	Limits Limits
	// Ignore lists problems not to report, such as CodeUnsigned for an archive that is to be signed later.
	Ignore []Code
	// Max is the number of problems to report at most, 0 means 1000.
	Max int
}

// affects says who minds the problems that make an archive invalid, unless the one at hand is known to pass.
func affects(c Code) (updater, others bool) {
	switch c {
	case CodeMagic, CodeTruncated, CodeIndex, CodeSignatureBlock, CodeOverlap, CodeName, CodeConflict, CodeRange:
		return true, true
	case CodeLimit, CodeEmpty, CodeSection, CodeProduct, CodeMode:
		return true, false
	case CodeSize, CodeDuplicate:
		return false, true
	}
	return false, false
}

// LintFile is [Lint] of a file. An error says that the file cannot be read or is no regular one; what is wrong with its
// content is a problem.
func LintFile(name string, opts *LintOptions) ([]Problem, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("mar: lint %s: not a regular file", name)
	}
	return Lint(f, info.Size(), opts), nil
}

// Lint returns every problem of an archive, in the order of their discovery: what readers refuse, what
// Mozilla's updater refuses or crashes on, and what other readers lose. It goes on behind a problem wherever
// there is something to go on with. No problems means that a strict [NewReader] accepts the archive, and that
// an updater which trusts the signature's key and accepts the channel and version gets as far as the manifest.
// Contents, manifests and signatures are not looked into. opts may be nil.
func Lint(r io.ReaderAt, size int64, opts *LintOptions) []Problem {
	if opts == nil {
		opts = &LintOptions{}
	}
	l := &linter{opts: opts, max: cmp.Or(max(opts.Max, 0), 1000)}
	limits, err := opts.Limits.withDefaults()
	if err != nil {
		return []Problem{{Code: CodeRead, Detail: err.Error()}}
	}
	s := &scanner{r: r, size: size, limits: limits}
	s.report = func(e *FormatError) error {
		p := Problem{Code: e.Code, Offset: e.Offset, Name: e.Name, Detail: e.Detail, Refused: true}
		p.Updater, p.Others = affects(e.Code)
		p.Updater = p.Updater && !e.accepted
		return l.add(p)
	}
	err = s.scan()
	switch {
	case errors.Is(err, errMore):
		return l.problems
	case errors.Is(err, errStop) && s.files == nil:
		return l.problems
	case err != nil && !errors.Is(err, errStop):
		return append(l.problems, Problem{Code: CodeRead, Detail: err.Error(), Refused: true, Updater: true, Others: true})
	}
	steps := []func(*scanner) error{l.entries, l.cases}
	if err == nil { // the header is known too
		steps = append(steps, l.signatures, l.sections, l.gaps)
	}
	for _, step := range steps {
		if step(s) != nil {
			break
		}
	}
	return l.problems
}

// errMore ends linting when there are enough problems.
var errMore = errors.New("mar: too many problems")

type linter struct {
	opts     *LintOptions
	max      int
	problems []Problem
}

func (l *linter) add(p Problem) error {
	if slices.Contains(l.opts.Ignore, p.Code) {
		return nil
	}
	if len(l.problems) == l.max {
		l.problems[l.max-1] = Problem{Code: CodeMore, Offset: p.Offset, Detail: fmt.Sprintf("more than %d problems", l.max-1)}
		return errMore
	}
	l.problems = append(l.problems, p)
	return nil
}

func (l *linter) entries(s *scanner) error {
	manifest := false
	for i, f := range s.files {
		manifest = manifest || f.Name == "updatev3.manifest"
		for _, c := range []struct {
			is      bool
			code    Code
			detail  string
			updater bool
			others  bool
		}{
			{f.Size == 0, CodeEmptyFile, "entry has no bytes: updaters end with error 40", true, false},
			{
				names.Dots(f.Name) && nameProblem(f.Name) == "", CodeDots,
				`name contains "..": updaters end with error 5`, true, false,
			},
			{strings.Contains(f.Name, `"`), CodeQuote, "name contains a quotation mark, which a manifest cannot express", true, false},
			{longName(f.Name), CodeLongName, "name is longer than 259 bytes, or an element of it than 255", true, true},
			{
				names.WindowsReason(f.Name) != names.Fine && nameProblem(f.Name) == "", CodeWindowsName,
				names.WindowsReason(f.Name).String(), false, true,
			},
			{
				!names.ASCII(f.Name), CodeNonASCII,
				"name is not ASCII: the reader of Mozilla's services ends the list of entries here", false, true,
			},
			{f.Mode&0o400 == 0, CodeUnreadable, fmt.Sprintf("mode %#o does not let the owner read the file", uint32(f.Mode)), true, true},
		} {
			if !c.is {
				continue
			}
			if err := l.add(Problem{Code: c.code, Offset: s.positions[i], Name: f.Name, Detail: c.detail, Updater: c.updater, Others: c.others}); err != nil {
				return err
			}
		}
	}
	if manifest {
		return nil
	}
	return l.add(Problem{Code: CodeNoManifest, Offset: s.indexOffset, Detail: "no updatev3.manifest: updaters crash", Updater: true})
}

func (l *linter) cases(s *scanner) error {
	positions := make(map[*File]int64, len(s.files))
	for i, f := range s.files {
		positions[f] = s.positions[i]
	}
	return caseCollisions(s.sorted, func(a, b *File) error {
		return l.add(Problem{
			Code: CodeCase, Offset: positions[b], Name: b.Name, Others: true,
			Detail: fmt.Sprintf("name differs in case only from %q", a.Name),
		})
	})
}

func (l *linter) signatures(s *scanner) error {
	if s.layout == LayoutOriginal {
		if err := l.add(Problem{Code: CodeLayout, Detail: "layout of 2005, without place for signatures and product information: updaters end with error 19", Updater: true}); err != nil {
			return err
		}
	}
	switch n := len(s.signatures); {
	case n == 0 && s.layout != LayoutOriginal:
		return l.add(Problem{Code: CodeUnsigned, Offset: 16, Detail: "no signature: updaters end with error 19", Updater: true})
	case n > 1:
		if err := l.add(Problem{Code: CodeSignatureCount, Offset: 16, Detail: fmt.Sprintf("%d signatures: updaters accept one and end with error 19", n), Updater: true}); err != nil {
			return err
		}
	}
	for i, sig := range s.signatures {
		if sig.Algorithm == RSAPKCS1SHA384 && len(sig.Bytes) == 512 {
			continue
		}
		if err := l.add(Problem{
			Code: CodeSignatureAlgorithm, Offset: sig.Offset - 8, Updater: true,
			Detail: fmt.Sprintf("signature %d is %v of %d bytes, updaters accept %v of 512", i, sig.Algorithm, len(sig.Bytes), RSAPKCS1SHA384),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (l *linter) sections(s *scanner) error {
	if s.layout == LayoutNoSections {
		if err := l.add(Problem{Code: CodeLayout, Detail: "layout without sections: Mozilla's reader takes contents for sections", Updater: true, Others: true}); err != nil {
			return err
		}
	}
	for i, sec := range s.sections {
		var p Problem
		switch {
		case sec.ID != productID:
			p = Problem{Code: CodeUnknownSection, Detail: fmt.Sprintf("section %d has unknown id %d", i, sec.ID)}
		case i > 0:
			p = Problem{Code: CodeHiddenProduct, Detail: fmt.Sprintf("product information in section %d: the updater looks at section 0 only", i), Others: true, Updater: s.product == nil}
		default:
			continue
		}
		p.Offset = sec.Offset - sectionHeader
		if err := l.add(p); err != nil {
			return err
		}
	}
	if s.product == nil && s.layout != LayoutOriginal {
		return l.add(Problem{Code: CodeNoProduct, Offset: s.dataStart, Detail: "no product information: updaters end with error 21", Updater: true})
	}
	return nil
}

func (l *linter) gaps(s *scanner) error {
	spans := make([]span, 0, len(s.files)+1)
	spans = append(spans, span{start: s.indexOffset, end: s.indexEnd})
	for _, f := range s.files {
		if end := f.Offset + f.Size; end <= s.size { // the others are reported as such
			spans = append(spans, span{start: f.Offset, end: end})
		}
	}
	sortSpans(spans)
	end := s.dataStart
	for _, sp := range spans {
		if sp.start > end {
			if err := l.add(Problem{Code: CodeGap, Offset: end, Detail: fmt.Sprintf("%d bytes that belong to nothing", sp.start-end)}); err != nil {
				return err
			}
		}
		end = max(end, sp.end)
	}
	return nil
}

// longName reports whether a name is too long for Windows' MAX_PATH, which is what the updater's buffers there
// have, or for an element of a path anywhere.
func longName(name string) bool {
	_, long := names.LongElement(name, names.MaxElement)
	return long || len(name) > 259
}

// caseCollisions calls report for each file whose name differs from another one's in case only, or is a
// directory in it but for case. Files of really equal names do not count.
func caseCollisions(files []*File, report func(a, b *File) error) error {
	folded := make([]*File, len(files))
	original := make(map[*File]*File, len(files))
	for i, f := range files {
		folded[i] = &File{Header: Header{Name: names.Fold(f.Name)}}
		original[folded[i]] = f
	}
	slices.SortStableFunc(folded, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range folded {
		if i > 0 && folded[i-1].Name == f.Name {
			if a, b := original[folded[i-1]], original[f]; a.Name != b.Name {
				if err := report(a, b); err != nil {
					return err
				}
			}
			continue
		}
		if j, ok := under(folded, f.Name); ok {
			if a, b := original[folded[j]], original[f]; compareUnder(a.Name, b.Name) != 0 {
				if err := report(a, b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

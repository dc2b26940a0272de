package mar

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// A Layout is one of the three forms of the container that are in use.
type Layout uint8

const (
	// LayoutSections is what Mozilla's tools write since 2012: total size, signatures, additional sections.
	LayoutSections Layout = iota
	// LayoutNoSections has total size and signatures, and contents right behind them without a number of
	// sections. It is what signing makes of an archive of the original layout.
	LayoutNoSections
	// LayoutOriginal is the layout of 2005: contents right behind the index offset. It cannot be signed.
	LayoutOriginal
)

func (l Layout) String() string {
	switch l {
	case LayoutSections:
		return "sections"
	case LayoutNoSections:
		return "no-sections"
	case LayoutOriginal:
		return "original"
	}
	return fmt.Sprintf("layout(%d)", uint8(l))
}

const (
	magic          = "MAR1"
	originalHeader = 4 + 4               // magic, index offset
	header         = 4 + 4 + 8 + 4       // magic, index offset, total size, number of signatures
	entryHeader    = 4 + 4 + 4           // offset, length, flags
	sectionHeader  = 4 + 4               // size, id
	productID      = 1                   // section id of the product information block
	productBlock   = 8 + 63 + 1 + 31 + 1 // size that C writers give the block, so that it can be rewritten in place
)

var be = binary.BigEndian

// scanner reads the structure of an archive. What is wrong goes to report, which decides whether to go on;
// what makes going on impossible ends the scan in any case.
type scanner struct {
	r      io.ReaderAt
	size   int64
	limits Limits
	report func(*FormatError) error

	layout      Layout
	indexOffset int64
	indexEnd    int64
	dataStart   int64 // first byte behind the header, the signatures and the sections
	declared    uint64
	signatures  []Signature
	sections    []Section
	product     *Product
	files       []*File
	sorted      []*File // those with a valid name, by name; equal names in order of the index
	positions   []int64 // where each file's index entry stands
}

// errStop ends a scan whose problem was reported already.
var errStop = errors.New("mar: nothing more can be read")

func (s *scanner) problem(code Code, offset int64, name, format string, args ...any) error {
	return s.report(&FormatError{Code: code, Offset: offset, Name: name, Detail: fmt.Sprintf(format, args...)})
}

// unnoticed reports a problem that Mozilla's updater does not see, although it sees others with this code.
func (s *scanner) unnoticed(code Code, offset int64, name, format string, args ...any) error {
	return s.report(&FormatError{Code: code, Offset: offset, Name: name, Detail: fmt.Sprintf(format, args...), accepted: true})
}

// stop ends the scan behind a problem that report let pass.
func stop(err error) error { return cmp.Or(err, errStop) }

// fatal reports a problem behind which nothing can be read.
func (s *scanner) fatal(code Code, offset int64, format string, args ...any) error {
	return stop(s.problem(code, offset, "", format, args...))
}

// read fills p from offset, which the caller has checked against the size.
func (s *scanner) read(p []byte, offset int64, what string) error {
	n, err := s.r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the file is shorter than the caller said
	}
	return fmt.Errorf("mar: read %s at offset %d: %w", what, offset, err)
}

func (s *scanner) scan() error {
	if s.size < 0 {
		return fmt.Errorf("mar: negative size %d", s.size)
	}
	if s.size > s.limits.FileSize {
		if err := s.problem(CodeLimit, 0, "", "file has %d bytes, limit is %d", s.size, s.limits.FileSize); err != nil {
			return err
		}
	}
	if s.size < originalHeader {
		return s.fatal(CodeTruncated, s.size, "file has %d bytes, not even a header", s.size)
	}
	var head [header]byte
	if err := s.read(head[:min(s.size, header)], 0, "header"); err != nil {
		return err
	}
	if string(head[:4]) != magic {
		return s.fatal(CodeMagic, 0, "file starts with %q, not with %q", head[:4], magic)
	}
	s.indexOffset = int64(be.Uint32(head[4:]))
	if err := s.scanIndex(); err != nil {
		return err
	}
	if err := s.scanHeader(head); err != nil {
		if errors.Is(err, errStop) {
			// The names are known all the same.
			return cmp.Or(s.checkNames(), err)
		}
		return err
	}
	if err := s.checkRanges(); err != nil {
		return err
	}
	return s.checkNames()
}

// scanIndex reads the index into one buffer whose size was checked before.
func (s *scanner) scanIndex() error {
	if s.indexOffset < originalHeader {
		return stop(s.unnoticed(CodeIndex, 4, "", "index offset %d is inside the header", s.indexOffset))
	}
	if s.indexOffset > s.size-4 {
		return s.fatal(CodeTruncated, 4, "index offset %d is behind the end of the file at %d", s.indexOffset, s.size)
	}
	var field [4]byte
	if err := s.read(field[:], s.indexOffset, "index size"); err != nil {
		return err
	}
	n := int64(be.Uint32(field[:]))
	start := s.indexOffset + 4
	switch {
	case n > s.size-start:
		return s.fatal(CodeTruncated, s.indexOffset, "index of %d bytes reaches behind the end of the file at %d", n, s.size)
	case n > s.limits.IndexSize:
		return stop(s.unnoticed(CodeLimit, s.indexOffset, "", "index has %d bytes, limit is %d", n, s.limits.IndexSize))
	}
	s.indexEnd = start + n
	if s.indexEnd < s.size {
		if err := s.problem(CodeTrailing, s.indexEnd, "", "%d bytes behind the index", s.size-s.indexEnd); err != nil {
			return err
		}
	}
	if n == 0 {
		return s.problem(CodeEmpty, s.indexOffset, "", "archive has no entries")
	}
	raw := make([]byte, n)
	if err := s.read(raw, start, "index"); err != nil {
		return err
	}
	return s.parseIndex(raw, start)
}

func (s *scanner) parseIndex(raw []byte, start int64) error {
	all := string(raw) // names are parts of this one string
	var slab []File
	defer func() {
		s.files = make([]*File, len(slab))
		for i := range slab {
			s.files[i] = &slab[i]
		}
	}()
	for pos := 0; pos < len(raw); {
		if len(slab) == s.limits.Entries {
			return stop(s.unnoticed(CodeLimit, start+int64(pos), "", "index has more than %d entries", s.limits.Entries))
		}
		if len(raw)-pos < entryHeader+1 {
			return s.fatal(CodeIndex, start+int64(pos), "%d bytes at the end of the index are no entry", len(raw)-pos)
		}
		name := raw[pos+entryHeader:]
		if len(name) > s.limits.NameLength+1 {
			name = name[:s.limits.NameLength+1]
		}
		end := bytes.IndexByte(name, 0)
		if end < 0 {
			if len(name) > s.limits.NameLength {
				return s.fatal(CodeLimit, start+int64(pos), "name is longer than %d bytes", s.limits.NameLength)
			}
			return s.fatal(CodeIndex, start+int64(pos), "name is not ended by a zero byte")
		}
		from := pos + entryHeader
		slab = append(slab, File{
			Header: Header{
				Name: all[from : from+end],
				Size: int64(be.Uint32(raw[pos+4:])),
				Mode: fs.FileMode(be.Uint32(raw[pos+8:])),
			},
			Offset: int64(be.Uint32(raw[pos:])),
			r:      s.r,
		})
		s.positions = append(s.positions, start+int64(pos))
		pos = from + end + 1
	}
	return nil
}

// boundary is where the header, the signatures and the sections must have ended.
func (s *scanner) boundary() int64 {
	low := s.indexOffset
	for _, f := range s.files {
		low = min(low, f.Offset)
	}
	return low
}

// scanHeader finds out the layout and reads signatures and sections.
func (s *scanner) scanHeader(head [header]byte) error {
	if len(s.files) > 0 && s.files[0].Offset == originalHeader || len(s.files) == 0 && s.indexOffset < header {
		s.layout, s.dataStart = LayoutOriginal, originalHeader
		return nil
	}
	if s.indexOffset < header {
		return stop(s.unnoticed(CodeIndex, 4, "", "index offset %d is inside the header", s.indexOffset))
	}
	s.declared = be.Uint64(head[8:])
	if s.declared != uint64(s.size) {
		if err := s.problem(CodeSize, 8, "", "file has %d bytes, its header says %d", s.size, s.declared); err != nil {
			return err
		}
	}
	boundary := s.boundary()
	pos, err := s.scanSignatures(be.Uint32(head[16:]), boundary)
	if err != nil {
		return err
	}
	if pos == boundary && len(s.files) > 0 {
		s.layout, s.dataStart = LayoutNoSections, pos
		return nil
	}
	return s.scanSections(pos, boundary)
}

func (s *scanner) scanSignatures(count uint32, boundary int64) (int64, error) {
	if int64(count) > int64(s.limits.Signatures) {
		return 0, s.fatal(CodeLimit, 16, "file has %d signatures, limit is %d", count, s.limits.Signatures)
	}
	pos := int64(header)
	if boundary < pos {
		// Which entry it is, checkRanges says; without a boundary there is nothing more to read here.
		s.dataStart = pos
		if err := s.checkRanges(); err != nil {
			return 0, err
		}
		return 0, errStop
	}
	for i := range count {
		if boundary-pos < 8 {
			return 0, s.fatal(CodeSignatureBlock, pos, "signature %d reaches into the contents, which start at %d", i, boundary)
		}
		var field [8]byte
		if err := s.read(field[:], pos, "signature"); err != nil {
			return 0, err
		}
		alg, n := Algorithm(be.Uint32(field[:])), int64(be.Uint32(field[4:]))
		if n > int64(s.limits.SignatureSize) {
			return 0, s.fatal(CodeLimit, pos+4, "signature %d has %d bytes, limit is %d", i, n, s.limits.SignatureSize)
		}
		if n > boundary-pos-8 {
			return 0, s.fatal(CodeSignatureBlock, pos+4, "signature %d of %d bytes reaches into the contents, which start at %d", i, n, boundary)
		}
		sig := Signature{Algorithm: alg, Offset: pos + 8, Bytes: make([]byte, n)}
		if err := s.read(sig.Bytes, sig.Offset, "signature"); err != nil {
			return 0, err
		}
		s.signatures = append(s.signatures, sig)
		pos += 8 + n
	}
	return pos, nil
}

func (s *scanner) scanSections(pos, boundary int64) error {
	if boundary-pos < 4 {
		return s.fatal(CodeSection, pos, "%d bytes before the contents are no list of sections", boundary-pos)
	}
	var field [sectionHeader]byte
	if err := s.read(field[:4], pos, "number of sections"); err != nil {
		return err
	}
	count := be.Uint32(field[:])
	if int64(count) > int64(s.limits.Sections) {
		return stop(s.unnoticed(CodeLimit, pos, "", "file has %d sections, limit is %d", count, s.limits.Sections))
	}
	pos += 4
	for i := range count {
		if boundary-pos < sectionHeader {
			return s.fatal(CodeSection, pos, "section %d reaches into the contents, which start at %d", i, boundary)
		}
		if err := s.read(field[:], pos, "section"); err != nil {
			return err
		}
		n := int64(be.Uint32(field[:]))
		if n < sectionHeader || n > boundary-pos {
			return s.fatal(CodeSection, pos, "section %d declares %d bytes, possible are %d to %d", i, n, sectionHeader, boundary-pos)
		}
		sec := Section{ID: be.Uint32(field[4:]), Offset: pos + sectionHeader, Size: n - sectionHeader}
		s.sections = append(s.sections, sec)
		if i == 0 && sec.ID == productID {
			if err := s.scanProduct(sec); err != nil {
				return err
			}
		}
		pos += n
	}
	s.layout, s.dataStart = LayoutSections, pos
	return nil
}

func (s *scanner) scanProduct(sec Section) error {
	if sec.Size > productBlock-sectionHeader {
		return s.problem(CodeProduct, sec.Offset-sectionHeader, "", "product block has %d bytes, limit is %d", sec.Size+sectionHeader, productBlock)
	}
	raw := make([]byte, sec.Size)
	if err := s.read(raw, sec.Offset, "product block"); err != nil {
		return err
	}
	p, reason := parseProduct(raw)
	if reason != "" {
		return s.problem(CodeProduct, sec.Offset, "", "%s", reason)
	}
	s.product = &p
	return nil
}

// parseProduct reads the body of a product information block: two strings, each ended by a zero byte, and
// padding that nobody looks at.
func parseProduct(raw []byte) (Product, string) {
	channel, rest, ok := bytes.Cut(raw, []byte{0})
	if !ok {
		return Product{}, "channel of the product block is not ended by a zero byte"
	}
	if len(channel) > MaxChannel {
		return Product{}, fmt.Sprintf("channel of the product block has %d bytes, limit is %d", len(channel), MaxChannel)
	}
	version, _, ok := bytes.Cut(rest, []byte{0})
	if !ok {
		return Product{}, "version of the product block is not ended by a zero byte"
	}
	if len(version) > MaxVersion {
		return Product{}, fmt.Sprintf("version of the product block has %d bytes, limit is %d", len(version), MaxVersion)
	}
	return Product{Channel: string(channel), Version: string(version)}, ""
}

// span is a range of bytes of the file.
type span struct {
	start, end int64
	name       string
	pos        int64 // where it is said
}

func sortSpans(spans []span) {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
}

// checkRanges looks at where contents stand: behind the header, inside the file, apart from each other and
// from the index.
func (s *scanner) checkRanges() error {
	spans := make([]span, 0, len(s.files)+1)
	spans = append(spans, span{s.indexOffset, s.indexEnd, "", s.indexOffset})
	for i, f := range s.files {
		end := f.Offset + f.Size // both have 32 bits, the sum has 64
		switch {
		case f.Offset < s.dataStart:
			if err := s.unnoticed(CodeRange, s.positions[i], f.Name, "content at offset %d is inside the header, which ends at %d", f.Offset, s.dataStart); err != nil {
				return err
			}
		case end > s.size:
			if err := s.problem(CodeRange, s.positions[i], f.Name, "content of %d bytes at offset %d reaches behind the end of the file at %d", f.Size, f.Offset, s.size); err != nil {
				return err
			}
		}
		if f.Size > 0 {
			spans = append(spans, span{f.Offset, end, f.Name, s.positions[i]})
		}
	}
	sortSpans(spans)
	far := spans[0] // the one that reaches farthest so far
	for _, sp := range spans[1:] {
		if sp.start < far.end {
			a, b := sp, far
			if a.pos == s.indexOffset { // the index: report it as the other one
				a, b = b, a
			}
			var err error
			if b.pos == s.indexOffset {
				err = s.unnoticed(CodeOverlap, a.pos, a.name, "content shares bytes with the index")
			} else {
				err = s.problem(CodeOverlap, a.pos, a.name, "content shares bytes with that of %q", b.name)
			}
			if err != nil {
				return err
			}
		}
		if sp.end > far.end {
			far = sp
		}
	}
	return nil
}

// checkNames looks at names and flags, and sorts the files.
func (s *scanner) checkNames() error {
	s.sorted = make([]*File, 0, len(s.files))
	var at map[*File]int64
	for i, f := range s.files {
		if n := strings.Count(f.Name, "/") + 1; n > s.limits.Depth {
			if err := s.unnoticed(CodeLimit, s.positions[i], f.Name, "name has %d elements, limit is %d", n, s.limits.Depth); err != nil {
				return err
			}
		}
		if reason := nameProblem(f.Name); reason != "" {
			if err := s.problem(CodeName, s.positions[i], f.Name, "%s", reason); err != nil {
				return err
			}
		} else {
			s.sorted = append(s.sorted, f)
		}
		if extra := f.Mode &^ fs.ModePerm; extra != 0 {
			if err := s.problem(CodeMode, s.positions[i], f.Name, "flags %#o have bits other than permissions", uint32(f.Mode)); err != nil {
				return err
			}
		}
	}
	slices.SortStableFunc(s.sorted, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	position := func(f *File) int64 {
		if at == nil { // only archives with problems pay for this
			at = make(map[*File]int64, len(s.files))
			for i, f := range s.files {
				at[f] = s.positions[i]
			}
		}
		return at[f]
	}
	for i, f := range s.sorted {
		if i > 0 && s.sorted[i-1].Name == f.Name {
			if err := s.problem(CodeDuplicate, position(f), f.Name, "another entry has the same name"); err != nil {
				return err
			}
			continue
		}
		if j, ok := under(s.sorted, f.Name); ok {
			if err := s.problem(CodeConflict, position(f), f.Name, "name is a directory in that of entry %q", s.sorted[j].Name); err != nil {
				return err
			}
		}
	}
	return nil
}

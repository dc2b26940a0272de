package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/bomb"
	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A MemberFormat is how the members of an update are compressed. "" stands for what no updater reads.
type MemberFormat string

// The formats that updaters have known.
const (
	FormatXZ    MemberFormat = "xz"    // since Firefox 56
	FormatBzip2 MemberFormat = "bzip2" // before
)

// MemberFormats returns the formats that this package reads.
func MemberFormats() []MemberFormat {
	var list []MemberFormat
	for _, f := range member.Formats() {
		list = append(list, MemberFormat(f.Name()))
	}
	return list
}

// DefaultMemberLimit is how many bytes a member may have after decompression where nothing else is said.
const DefaultMemberLimit = 1 << 30

// Limits bound what compressed members may cost. A zero field means its default.
type Limits struct {
	// Member is how many bytes a member may have after decompression; the default is DefaultMemberLimit.
	Member int64
	// Ratio is how many bytes may come out for each compressed one, once a member has given 64 MiB. The default
	// is 1000. Patches are measured by the file they give instead.
	Ratio int64
}

// WithDefaults returns the limits with a value in every field.
func (l Limits) WithDefaults() Limits {
	if l.Member <= 0 {
		l.Member = DefaultMemberLimit
	}
	if l.Ratio <= 0 {
		l.Ratio = bomb.DefaultRatio
	}
	return l
}

func (l Limits) member() member.Limits { return member.Limits{Output: l.Member, Ratio: l.Ratio} }

// ManifestLimit bounds a decompressed manifest: tens of thousands of lines.
const ManifestLimit = 16 << 20

// A Member is one compressed file: an entry of a MAR, or one to be. It must not be changed; then it is safe for concurrent use.
type Member struct {
	Name string      // of the entry
	Mode fs.FileMode // permission bits
	Size int64       // in bytes, compressed
	data []byte      // the compressed bytes, where they are in memory
	file *mar.File   // where they are otherwise
}

// MemberOf returns an entry of an archive, which must stay open.
func MemberOf(f *mar.File) *Member {
	return &Member{Name: f.Name, Mode: f.Mode, Size: f.Size, file: f}
}

// NewMember returns a member of compressed bytes, which must not change.
func NewMember(name string, mode fs.FileMode, data []byte) *Member {
	return &Member{Name: name, Mode: mode, Size: int64(len(data)), data: data}
}

// Executable is what counts of a mode: the owner's bit.
func (m *Member) Executable() bool { return mar.Executable(m.Mode) }

// Entry returns the member as an entry of an archive to be written.
func (m *Member) Entry() mar.Entry {
	if m.file == nil {
		return mar.BytesEntry(m.Name, m.Mode, m.data)
	}
	return mar.Entry{Header: mar.Header{Name: m.Name, Size: m.Size, Mode: m.Mode}, Open: m.file.Open}
}

// Section returns the compressed bytes.
func (m *Member) Section() *io.SectionReader {
	if m.file == nil {
		return io.NewSectionReader(bytes.NewReader(m.data), 0, m.Size)
	}
	return m.file.Section()
}

// raw returns all compressed bytes, which the caller must not change.
func (m *Member) raw() ([]byte, error) {
	if m.file == nil {
		return m.data, nil
	}
	buf := make([]byte, m.Size)
	if _, err := m.file.Section().ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %q: %w", m.Name, err)
	}
	return buf, nil
}

// Format says how the member is compressed: "" where it is in no format that an updater reads. The error is that of reading.
func (m *Member) Format() (MemberFormat, error) {
	f, err := m.sniff()
	switch {
	case err == nil:
		return MemberFormat(f.Name()), nil
	case errors.Is(err, member.ErrUnknown):
		return "", nil
	}
	return "", err
}

func (m *Member) sniff() (member.Format, error) {
	f, err := member.Of(m.Section(), m.Size)
	if err != nil && !errors.Is(err, member.ErrUnknown) {
		err = fmt.Errorf("read %q: %w", m.Name, err)
	}
	return f, err
}

// Open decompresses as a stream. A member of no bytes holds nothing, though no updater takes it. Errors name the member;
// they match [ErrMember] where it is damaged or in no format that an updater reads, and [ErrLimit] where it holds too much.
func (m *Member) Open(lim Limits) (io.ReadCloser, error) {
	return m.stream(lim.WithDefaults().member())
}

func (m *Member) stream(lim member.Limits) (io.ReadCloser, error) {
	if m.Size == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r, err := member.Open(m.Section(), m.Size, lim)
	if err != nil {
		return nil, m.failed(err)
	}
	return memberReader{r, m}, nil
}

// A memberReader names the member in its errors.
type memberReader struct {
	r io.ReadCloser
	m *Member
}

func (r memberReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.m.failed(err)
	}
	return n, err
}

func (r memberReader) Close() error { return r.r.Close() }

func (m *Member) failed(err error) error { return fmt.Errorf("decompress %q: %w", m.Name, err) }

// Content decompresses into memory. Errors are those of Open and that of ctx.
func (m *Member) Content(ctx context.Context, lim Limits) ([]byte, error) {
	lim = lim.WithDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.Size == 0 {
		return nil, nil
	}
	f, err := m.sniff()
	if err != nil {
		return nil, m.failed(err)
	}
	if member.Decodes(f) {
		src, err := m.raw()
		if err != nil {
			return nil, err
		}
		out, _, err := member.Decode(f, src, lim.member())
		if err != nil {
			return nil, m.failed(err)
		}
		return out, nil
	}
	r, err := m.Open(lim)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := stream.Copy(ctx, &buf, r); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// ContentSize says how many bytes the member has after decompression, as far as it can be told without that: what the
// file claims, or a guess, at most the limit. Good for planning, not for trust. Errors are those of Open.
func (m *Member) ContentSize(lim Limits) (int64, error) {
	lim = lim.WithDefaults()
	if m.Size == 0 {
		return 0, nil
	}
	f, err := m.sniff()
	if err != nil {
		return 0, m.failed(err)
	}
	n, claimed, err := member.Size(f, m.Section(), m.Size)
	switch {
	case err != nil:
		return 0, m.failed(err)
	case n > lim.Member && claimed:
		return 0, fmt.Errorf("decompress %q: %w: %d bytes, limit is %d", m.Name, ErrLimit, n, lim.Member)
	}
	return min(n, lim.Member), nil
}

// Usable returns nil if an updater that reads the given formats unpacks the member, as far as its headers tell, and an
// *UpdateError that blames ins if it does not. Other errors are those of reading.
func (m *Member) Usable(ins Instruction, formats ...MemberFormat) error {
	wrong := func(code Code, err error) error {
		return &UpdateError{Code: code, Line: ins.Line, Op: ins.Op, Path: m.Name, Err: err}
	}
	if m.Size == 0 {
		return wrong(CodeEntry, errors.New("the member has no bytes"))
	}
	reads := func() string {
		names := make([]string, len(formats))
		for i, f := range formats {
			names[i] = string(f)
		}
		return strings.Join(names, " and ")
	}
	f, err := m.sniff()
	switch {
	case errors.Is(err, member.ErrUnknown):
		return wrong(CodeXZ, fmt.Errorf("the member is %w, the updater reads %s", err, reads()))
	case err != nil:
		return err
	case !slices.Contains(formats, MemberFormat(f.Name())):
		return wrong(CodeXZ, fmt.Errorf("the member is %s, the updater reads %s", f.Name(), reads()))
	}
	if err := member.Check(f, m.Section()); err != nil {
		if errors.Is(err, ErrMember) {
			return wrong(CodeXZ, err)
		}
		return fmt.Errorf("read %q: %w", m.Name, err)
	}
	return nil
}

// ItemError says what the updater reports where it cannot unpack an item, for which reading it gave err. An updater has no
// limits of its own, and does not see errors of reading an archive, which is in its memory: both have code 0.
func ItemError(m *Member, ins Instruction, err error) error {
	e := &UpdateError{Code: CodeXZ, Line: ins.Line, Op: ins.Op, Path: m.Name, Err: err}
	if !errors.Is(err, ErrMember) {
		e.Code = 0
	}
	return e
}

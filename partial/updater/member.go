package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/senbonzakura/senbonzakura/internal/stream"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A MemberFormat is how the members of an update are compressed.
type MemberFormat string

// The formats that updaters have known.
const (
	FormatXZ    MemberFormat = "xz"    // since Firefox 56
	FormatBzip2 MemberFormat = "bzip2" // before
)

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
		l.Ratio = xz.DefaultRatio
	}
	return l
}

func (l Limits) xz() *xz.Limits { return &xz.Limits{Output: l.Member, Ratio: l.Ratio} }

// ManifestLimit bounds a decompressed manifest: tens of thousands of lines.
const ManifestLimit = 16 << 20

// A Member is one compressed file: an entry of a MAR, or one to be. It must not be changed; then it is safe for concurrent use.
type Member struct {
	Name string
	Mode fs.FileMode
	Size int64     // in bytes, compressed
	data []byte    // the compressed bytes, where they are in memory
	file *mar.File // where they are otherwise
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
func (m *Member) Executable() bool { return m.Mode&0o100 != 0 }

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

// Format says how the member is compressed.
func (m *Member) Format() (xz.Format, error) {
	head := make([]byte, min(m.Size, 16))
	if _, err := m.Section().ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read %q: %w", m.Name, err)
	}
	return xz.Sniff(head), nil
}

// Open decompresses as a stream. Errors name the member; over a limit they match [ErrLimit].
func (m *Member) Open(lim Limits) (io.ReadCloser, error) { return m.stream(lim.xz()) }

func (m *Member) stream(lim *xz.Limits) (io.ReadCloser, error) {
	f, err := m.Format()
	if err != nil {
		return nil, err
	}
	switch f {
	case xz.FormatXZ:
		r, err := xz.NewReader(m.Section(), lim)
		if err != nil {
			return nil, m.failed(err)
		}
		return memberReader{r, m}, nil
	case xz.FormatBzip2:
		return memberReader{xz.NewBzip2Reader(m.Section(), lim), m}, nil
	}
	return memberReader{io.NopCloser(m.Section()), m}, nil
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

func (m *Member) failed(err error) error {
	if errors.Is(err, xz.ErrLimit) {
		err = fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return fmt.Errorf("decompress %q: %w", m.Name, err)
}

// Content decompresses into memory.
func (m *Member) Content(ctx context.Context, lim Limits) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := m.Format()
	if err != nil {
		return nil, err
	}
	if f == xz.FormatXZ {
		src, err := m.raw()
		if err != nil {
			return nil, err
		}
		out, err := xz.Decompress(nil, src, lim.xz())
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
	n, err := io.Copy(&buf, io.LimitReader(stream.NewReader(ctx, r), lim.Member+1))
	switch {
	case err != nil:
		return nil, err
	case n > lim.Member:
		return nil, fmt.Errorf("decompress %q: %w: more than %d bytes", m.Name, ErrLimit, lim.Member)
	}
	return buf.Bytes(), nil
}

// ContentSize says how many bytes the member has after decompression. For xz it is what the file's index claims:
// good for planning, not for trust.
func (m *Member) ContentSize(lim Limits) (int64, error) {
	f, err := m.Format()
	if err != nil {
		return 0, err
	}
	switch f {
	case xz.FormatXZ:
		n, err := xz.UncompressedSize(m.Section(), m.Size)
		if err != nil {
			return 0, m.failed(err)
		}
		if n > lim.Member {
			return 0, fmt.Errorf("decompress %q: %w: %d bytes, limit is %d", m.Name, ErrLimit, n, lim.Member)
		}
		return n, nil
	case xz.FormatBzip2:
		return min(m.Size*8, lim.Member), nil
	}
	return m.Size, nil
}

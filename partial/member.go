package partial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/senbonzakura/senbonzakura/internal/version"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
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

func (l Limits) withDefaults() Limits {
	if l.Member <= 0 {
		l.Member = DefaultMemberLimit
	}
	if l.Ratio <= 0 {
		l.Ratio = xz.DefaultRatio
	}
	return l
}

func (l Limits) xz() *xz.Limits { return &xz.Limits{Output: l.Member, Ratio: l.Ratio} }

// manifestLimit bounds a decompressed manifest: tens of thousands of lines.
const manifestLimit = 16 << 20

// A member is one compressed file: an entry of a MAR, or one to be.
type member struct {
	name string
	mode fs.FileMode
	size int64
	data []byte    // the compressed bytes, where they are in memory
	file *mar.File // where they are otherwise
}

func memberOf(f *mar.File) *member {
	return &member{name: f.Name, mode: f.Mode, size: f.Size, file: f}
}

func newMember(name string, mode fs.FileMode, data []byte) *member {
	return &member{name: name, mode: mode, size: int64(len(data)), data: data}
}

// executable is what counts of a mode: the owner's bit.
func (m *member) executable() bool { return m.mode&0o100 != 0 }

// normalMode is the mode that packaging gives to a file.
func normalMode(executable bool) fs.FileMode {
	if executable {
		return 0o755
	}
	return 0o644
}

// entry returns the member as an entry of an archive to be written.
func (m *member) entry() mar.Entry {
	if m.file == nil {
		return mar.BytesEntry(m.name, m.mode, m.data)
	}
	return mar.Entry{Header: mar.Header{Name: m.name, Size: m.size, Mode: m.mode}, Open: m.file.Open}
}

// at returns the compressed bytes.
func (m *member) at() *io.SectionReader {
	if m.file == nil {
		return io.NewSectionReader(bytes.NewReader(m.data), 0, m.size)
	}
	return m.file.Section()
}

// raw returns all compressed bytes, which the caller must not change.
func (m *member) raw() ([]byte, error) {
	if m.file == nil {
		return m.data, nil
	}
	buf := make([]byte, m.size)
	if _, err := m.file.Section().ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %q: %w", m.name, err)
	}
	return buf, nil
}

// format says how the member is compressed.
func (m *member) format() (xz.Format, error) {
	head := make([]byte, min(m.size, 16))
	if _, err := m.at().ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read %q: %w", m.name, err)
	}
	return xz.Sniff(head), nil
}

// open decompresses as a stream.
func (m *member) open(lim *xz.Limits) (io.ReadCloser, error) {
	f, err := m.format()
	if err != nil {
		return nil, err
	}
	switch f {
	case xz.FormatXZ:
		r, err := xz.NewReader(m.at(), lim)
		if err != nil {
			return nil, m.failed(err)
		}
		return r, nil
	case xz.FormatBzip2:
		return xz.NewBzip2Reader(m.at(), lim), nil
	}
	return io.NopCloser(m.at()), nil
}

func (m *member) failed(err error) error {
	if errors.Is(err, xz.ErrLimit) {
		err = fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return fmt.Errorf("decompress %q: %w", m.name, err)
}

// content decompresses into memory.
func (m *member) content(ctx context.Context, lim Limits) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := m.format()
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
	r, err := m.open(lim.xz())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(contextReader{ctx, r}, lim.Member+1))
	switch {
	case err != nil:
		return nil, m.failed(err)
	case n > lim.Member:
		return nil, fmt.Errorf("decompress %q: %w: more than %d bytes", m.name, ErrLimit, lim.Member)
	}
	return buf.Bytes(), nil
}

// contentSize says how many bytes the member has after decompression. For xz it is what the file's index claims:
// good for planning, not for trust.
func (m *member) contentSize(lim Limits) (int64, error) {
	f, err := m.format()
	if err != nil {
		return 0, err
	}
	switch f {
	case xz.FormatXZ:
		n, err := xz.UncompressedSize(m.at(), m.size)
		if err != nil {
			return 0, m.failed(err)
		}
		if n > lim.Member {
			return 0, fmt.Errorf("decompress %q: %w: %d bytes, limit is %d", m.name, ErrLimit, n, lim.Member)
		}
		return n, nil
	case xz.FormatBzip2:
		return min(m.size*8, lim.Member), nil
	}
	return m.size, nil
}

// contextReader ends reading when a context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// sum returns the SHA-256 of the compressed bytes.
func (m *member) sum() (memberName, error) {
	var out memberName
	h := sha256.New()
	n, err := io.Copy(h, m.at())
	if err == nil && n < m.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return out, fmt.Errorf("read %q: %w", m.name, err)
	}
	h.Sum(out[:0])
	return out, nil
}

// readAll reads exactly len(p) bytes of a member's.
func readAll(in io.ReaderAt, p []byte, off int64, name string) error {
	n, err := in.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %q: %w", name, err)
}

// sameBytes reports whether two members are stored as the same bytes.
func sameBytes(ctx context.Context, a, b *member) (bool, error) {
	if a.size != b.size {
		return false, nil
	}
	const chunk = 64 << 10
	n := min(a.size, chunk)
	bufA, bufB := make([]byte, n), make([]byte, n)
	ra, rb := a.at(), b.at()
	for off := int64(0); off < a.size; off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(a.size-off, chunk)
		if _, err := io.ReadFull(ra, bufA[:n]); err != nil {
			return false, fmt.Errorf("read %q: %w", a.name, err)
		}
		if _, err := io.ReadFull(rb, bufB[:n]); err != nil {
			return false, fmt.Errorf("read %q: %w", b.name, err)
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// A release is a complete update seen as a tree.
type release struct {
	what  string // "FROM" or "TO", for messages
	mar   *mar.Reader
	files map[string]*member
	names []string // keys of files, sorted in reverse
	lim   Limits
	// left out of the tree: files named like manifests in a directory
	excluded []string
}

// openRelease reads the list of files of a complete update. scripts leaves out what the packaging scripts do.
func openRelease(what string, r *mar.Reader, lim Limits, scripts bool) (*release, error) {
	rel := &release{what: what, mar: r, files: make(map[string]*member), lim: lim}
	for _, f := range r.Files() {
		switch {
		case rel.files[f.Name] != nil:
			return nil, &InputError{what, fmt.Errorf("two entries are named %q", f.Name)}
		case isManifestName(f.Name) && f.Name == baseName(f.Name):
			continue
		case isManifestName(f.Name) && scripts:
			rel.excluded = append(rel.excluded, f.Name)
			continue
		}
		rel.files[f.Name] = memberOf(f)
		rel.names = append(rel.names, f.Name)
	}
	reverse(rel.names)
	reverse(rel.excluded)
	for v := ManifestV3; v >= ManifestV1; v-- {
		f := r.Lookup(v.Name())
		if f == nil {
			continue
		}
		text, err := rel.text(memberOf(f))
		if err != nil {
			return nil, &InputError{what, err}
		}
		if m, err := ParseManifest(text); err == nil && m.Type == "partial" {
			return nil, &InputError{what, fmt.Errorf("it is not a complete update: its %s says partial", f.Name)}
		}
		break
	}
	return rel, nil
}

func baseName(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	return name
}

// text decompresses a small file: a manifest, a list.
func (r *release) text(m *member) ([]byte, error) {
	return m.content(context.Background(), Limits{Member: min(r.lim.Member, manifestLimit), Ratio: r.lim.Ratio})
}

// first returns the content of the first file that exists, or nil where none does.
func (r *release) first(names ...string) ([]byte, error) {
	for _, n := range names {
		if m := r.files[n]; m != nil {
			text, err := r.text(m)
			if err != nil {
				return nil, &InputError{r.what, err}
			}
			return text, nil
		}
	}
	return nil, nil
}

// identity reads what a release calls itself.
func (r *release) identity() (ReleaseInfo, error) {
	info := ReleaseInfo{Size: r.mar.Size(), Files: len(r.files)}
	text, err := r.first("application.ini", "Contents/Resources/application.ini")
	if err != nil {
		return info, err
	}
	app := version.ParseIni(text)["App"]
	info.Name, info.Version, info.BuildID = app["Name"], app["Version"], app["BuildID"]
	if p, ok := r.mar.Product(); ok {
		info.Channel = p.Channel
		if info.Version == "" {
			info.Version = p.Version
		}
	}
	return info, nil
}

package mar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
)

// A Header describes one entry.
type Header struct {
	// Name is the entry's name: a relative path with slashes.
	Name string `json:"name"`
	// Size is the number of bytes stored, which for a real update are those of a compressed file.
	Size int64 `json:"size"`
	// Mode holds the entry's flags as stored, not the bits of package io/fs. Only permission bits are valid
	// unless the reader was told to allow others.
	Mode fs.FileMode `json:"mode"`
}

// A Product is what the product information block says about the update: which channel it is for and which
// version it leads to. The updater compares the whole channel with the ones it accepts, and refuses versions
// older than its own.
type Product struct {
	Channel string `json:"channel"` // at most MaxChannel bytes, no zero byte
	Version string `json:"version"` // at most MaxVersion bytes, no zero byte
}

// A Signature is one signature as it stands in an archive. Nothing is said about whether it verifies.
type Signature struct {
	Algorithm Algorithm // as the archive names it
	Bytes     []byte
	Offset    int64 // of Bytes in the file
}

// A Section is one additional section of the header. The only one in use, id 1, is the product information
// block.
type Section struct {
	ID     uint32 // number of the kind; 1 is the product block
	Offset int64  // of the section's body in the file
	Size   int64  // of the body in bytes, without the eight bytes in front of it
}

// A File is one entry of an archive that was read. It is safe for concurrent use.
type File struct {
	Header
	// Offset is where the content stands in the archive, in bytes.
	Offset int64

	r io.ReaderAt
}

// Section returns the stored bytes, without any decompression.
func (f *File) Section() *io.SectionReader { return io.NewSectionReader(f.r, f.Offset, f.Size) }

// Open returns a reader of the stored bytes, without any decompression. Where the archive turns out to be
// shorter than it was, reading ends with io.ErrUnexpectedEOF. Closing has no effect.
func (f *File) Open() (io.ReadCloser, error) { return &stored{f: f, s: f.Section()}, nil }

// A Reader reads an archive. It keeps the header and the index in memory and nothing else. It is safe for
// concurrent use if the io.ReaderAt is, which must not change while it is in use: check and use must see the
// same bytes.
type Reader struct {
	scan scanner
}

// NewReader reads the header and the index of the archive that r holds in its first size bytes, and refuses
// everything that Mozilla's tools never write and that has a second meaning to somebody: see the package
// comment. The error is a [*FormatError], or wraps r's own.
//
// It takes time and memory in proportion to the index, not to the file, and allocates nothing for sizes that
// the file only claims. opts may be nil.
func NewReader(r io.ReaderAt, size int64, opts *ReaderOptions) (*Reader, error) {
	limits, allow, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	rd := &Reader{scan: scanner{r: r, size: size, limits: limits}}
	rd.scan.report = func(e *FormatError) error {
		if allow[e.Code] {
			return nil
		}
		return e
	}
	if err := rd.scan.scan(); err != nil {
		return nil, err
	}
	rd.scan.positions, rd.scan.report = nil, nil
	return rd, nil
}

// A FileReader is a [Reader] of an open file. It is safe for concurrent use.
type FileReader struct {
	*Reader
	f    *os.File
	once sync.Once
	err  error
}

// OpenFile opens an archive on disk. The file stays open, so that what was checked is what is read later even
// if the name comes to mean another file, until Close is called; without Close it stays open until the garbage
// collector finds it. opts may be nil.
func OpenFile(name string, opts *ReaderOptions) (*FileReader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := newFileReader(f, opts)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func newFileReader(f *os.File, opts *ReaderOptions) (*FileReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("mar: not a regular file")
	}
	r, err := NewReader(f, info.Size(), opts)
	if err != nil {
		return nil, err
	}
	return &FileReader{Reader: r, f: f}, nil
}

// Close closes the file. Closing twice is fine.
func (r *FileReader) Close() error {
	r.once.Do(func() { r.err = r.f.Close() })
	return r.err
}

// Size returns the size of the archive in bytes.
func (r *Reader) Size() int64 { return r.scan.size }

// Layout returns which of the three layouts the archive has.
func (r *Reader) Layout() Layout { return r.scan.layout }

// Files returns the entries in the order of the index. The slice is the caller's.
func (r *Reader) Files() []*File { return slices.Clone(r.scan.files) }

// Lookup returns the entry with that name, or nil where there is none. Of several with one name, which the
// reader must have been told to allow, it is the first.
func (r *Reader) Lookup(name string) *File {
	i, ok := slices.BinarySearchFunc(r.scan.sorted, name, func(f *File, n string) int { return strings.Compare(f.Name, n) })
	if ok {
		return r.scan.sorted[i]
	}
	if nameProblem(name) == "" {
		return nil
	}
	for _, f := range r.scan.files { // names that are not sorted: the reader was told to allow them
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Product returns the product information, and whether there is any. As in Mozilla's updater only the first
// additional section counts.
func (r *Reader) Product() (Product, bool) {
	if r.scan.product == nil {
		return Product{}, false
	}
	return *r.scan.product, true
}

// Sections returns the additional sections, the product information block among them.
func (r *Reader) Sections() []Section { return slices.Clone(r.scan.sections) }

// Signatures returns the signatures in the order of the file. The bytes are the caller's.
func (r *Reader) Signatures() []Signature {
	sigs := slices.Clone(r.scan.signatures)
	for i := range sigs {
		sigs[i].Bytes = slices.Clone(sigs[i].Bytes)
	}
	return sigs
}

// Archive returns an unsigned archive of the same layout, with the same product information and the same
// entries in the same order, whose contents are read from r. Gaps are closed, contents stand in the order of
// the index, a product information block of an unusual size becomes one of 104 bytes, and other additional
// sections are left out; [Reader.Strip] keeps all that.
func (r *Reader) Archive() *Archive {
	a := &Archive{Layout: r.scan.layout, Entries: make([]Entry, len(r.scan.files))}
	if p, ok := r.Product(); ok {
		a.Product = &p
		a.ExactProduct = r.scan.sections[0].Size+sectionHeader == int64(len(appendProduct(nil, p, true)))
	}
	for i, f := range r.scan.files {
		a.Entries[i] = Entry{Header: f.Header, Open: f.Open}
	}
	return a
}

// header returns everything in front of the contents.
func (r *Reader) header() ([]byte, error) {
	if r.scan.dataStart > r.scan.size {
		return nil, io.ErrUnexpectedEOF
	}
	head := make([]byte, r.scan.dataStart)
	return head, r.scan.read(head, 0, "header")
}

// copyRange copies the bytes from offset to end.
func (r *Reader) copyRange(ctx context.Context, w io.Writer, offset, end int64, buf []byte) error {
	for offset < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), end-offset)]
		if err := r.scan.read(part, offset, "archive"); err != nil {
			return err
		}
		if err := writeFull(w, part); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	return nil
}

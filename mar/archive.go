package mar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
)

// An Entry is a file to be stored in an archive.
type Entry struct {
	Header
	// Open returns the content from its start: exactly Header.Size bytes, already compressed if they are to
	// be. It is called once for each pass over the contents, and must return the same bytes each time.
	Open func() (io.ReadCloser, error)
}

// Executable reports whether a file of this mode is one to be run, as packaging and the updater see it: by its owner's
// bit. All others follow it: 0755 where it is set, 0644 where it is not.
func Executable(mode fs.FileMode) bool { return mode&0o100 != 0 }

// BytesEntry returns an entry whose content is data, which must not change any more. mode holds permission
// bits only.
func BytesEntry(name string, mode fs.FileMode, data []byte) Entry {
	return Entry{
		Header: Header{Name: name, Size: int64(len(data)), Mode: mode},
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// An Archive describes an archive to be written: first the description, then the bytes, in one pass for an
// unsigned archive and in two for a signed one. Contents are streamed; the index is the only thing that takes
// memory. The same description gives the same bytes.
//
// What would not be read by a strict [NewReader] is not written either. An Archive that nobody changes is safe
// for concurrent use, if its entries' Open functions are.
type Archive struct {
	// Product is what the product information block says; nil leaves the block out. Updaters refuse archives
	// without one.
	Product *Product
	// ExactProduct makes the product information block as long as its strings. Otherwise it is padded to 104
	// bytes, as Mozilla's tools do so that it can be rewritten in place.
	ExactProduct bool
	// Layout is the form of the container. Only LayoutSections, which is the zero value, can have product
	// information. Signing turns LayoutOriginal into LayoutNoSections, as Mozilla's tool does.
	Layout Layout
	// Entries are stored in this order, contents back to back.
	Entries []Entry
	// MaxSize is the size in bytes above which writing is refused; 0 means MaxFileSize, above which Mozilla's
	// tools and updater refuse to read. The format itself ends at 4 GiB.
	MaxSize int64
}

// An image is an archive whose layout is computed: everything but the contents of entries and signatures.
type image struct {
	head  []byte     // up to the contents, signatures zeroed
	slots []slot     // signatures in head
	size  int64      // of the whole archive
	body  writerFunc // writes everything behind head
}

type slot struct {
	info  SignerInfo
	start int
	end   int
}

type writerFunc func(ctx context.Context, w io.Writer) error

// bufferSize is the size in bytes of the one buffer that contents are copied with.
const bufferSize = 256 << 10

// plan checks the description and computes the archive's layout.
func (a *Archive) plan(infos []SignerInfo) (*image, error) {
	layout := a.Layout
	if layout == LayoutOriginal && len(infos) > 0 {
		layout = LayoutNoSections
	}
	if len(a.Entries) == 0 {
		return nil, fmt.Errorf("%w: no entries", ErrArchive)
	}
	if err := checkEntries(a.Entries); err != nil {
		return nil, err
	}
	head, slots, err := appendHeader(layout, infos)
	if err != nil {
		return nil, err
	}
	switch {
	case layout > LayoutOriginal:
		return nil, fmt.Errorf("%w: unknown layout %v", ErrArchive, layout)
	case a.Product != nil && layout != LayoutSections:
		return nil, fmt.Errorf("%w: layout %v has no product information", ErrArchive, layout)
	case a.Product != nil:
		if err := checkProduct(*a.Product); err != nil {
			return nil, err
		}
		head = be.AppendUint32(head, 1)
		head = appendProduct(head, *a.Product, a.ExactProduct)
	case layout == LayoutSections:
		head = be.AppendUint32(head, 0)
	}

	var index []byte
	end := int64(len(head))
	for _, e := range a.Entries {
		index = appendEntry(index, end, e.Header)
		if end += e.Size; end > math.MaxUint32 {
			return nil, fmt.Errorf("%w: contents end behind 4 GiB", ErrLimit)
		}
	}
	m := &image{head: head, slots: slots, size: end + 4 + int64(len(index))}
	limit := a.MaxSize
	if limit <= 0 {
		limit = MaxFileSize
	}
	if m.size > limit {
		return nil, fmt.Errorf("%w: archive would have %d bytes, limit is %d", ErrLimit, m.size, limit)
	}
	m.finish(layout, end)
	m.body = func(ctx context.Context, w io.Writer) error {
		buf := make([]byte, bufferSize)
		for _, e := range a.Entries {
			if err := copyEntry(ctx, w, e, buf); err != nil {
				return err
			}
		}
		tail := be.AppendUint32(make([]byte, 0, 4+len(index)), uint32(len(index)))
		return writeFull(w, append(tail, index...))
	}
	return m, nil
}

// finish fills in the numbers at the start of the header that depend on all the rest.
func (m *image) finish(layout Layout, indexOffset int64) {
	be.PutUint32(m.head[4:], uint32(indexOffset))
	if layout != LayoutOriginal {
		be.PutUint64(m.head[8:], uint64(m.size))
	}
}

// appendHeader makes the header of a layout up to and with the signatures.
func appendHeader(layout Layout, infos []SignerInfo) ([]byte, []slot, error) {
	if len(infos) > MaxSignatures {
		return nil, nil, fmt.Errorf("%w: %d signatures, readers accept %d", ErrLimit, len(infos), MaxSignatures)
	}
	head := append(make([]byte, 0, 256), magic...)
	head = append(head, 0, 0, 0, 0)
	if layout == LayoutOriginal {
		return head, nil, nil
	}
	head = append(head, 0, 0, 0, 0, 0, 0, 0, 0)
	head = be.AppendUint32(head, uint32(len(infos)))
	slots := make([]slot, len(infos))
	for i, info := range infos {
		if err := info.check(); err != nil {
			return nil, nil, fmt.Errorf("signer %d: %w", i, err)
		}
		head = be.AppendUint32(head, uint32(info.Algorithm))
		head = be.AppendUint32(head, uint32(info.SignatureSize))
		slots[i] = slot{info: info, start: len(head), end: len(head) + info.SignatureSize}
		head = append(head, make([]byte, info.SignatureSize)...)
	}
	return head, slots, nil
}

func appendEntry(index []byte, offset int64, h Header) []byte {
	index = be.AppendUint32(index, uint32(offset))
	index = be.AppendUint32(index, uint32(h.Size))
	index = be.AppendUint32(index, uint32(h.Mode))
	index = append(index, h.Name...)
	return append(index, 0)
}

// appendProduct appends a product information block.
func appendProduct(head []byte, p Product, exact bool) []byte {
	n := sectionHeader + len(p.Channel) + 1 + len(p.Version) + 1
	size := productBlock
	if exact {
		size = n
	}
	head = be.AppendUint32(head, uint32(size))
	head = be.AppendUint32(head, productID)
	head = append(head, p.Channel...)
	head = append(head, 0)
	head = append(head, p.Version...)
	head = append(head, 0)
	return append(head, make([]byte, size-n)...)
}

func checkProduct(p Product) error {
	switch {
	case len(p.Channel) > MaxChannel:
		return fmt.Errorf("%w: channel has %d bytes, limit is %d", ErrArchive, len(p.Channel), MaxChannel)
	case len(p.Version) > MaxVersion:
		return fmt.Errorf("%w: version has %d bytes, limit is %d", ErrArchive, len(p.Version), MaxVersion)
	case strings.ContainsRune(p.Channel+p.Version, 0):
		return fmt.Errorf("%w: zero byte in channel %q or version %q", ErrArchive, p.Channel, p.Version)
	}
	return nil
}

// checkEntries refuses what a strict reader would refuse.
func checkEntries(entries []Entry) error {
	sorted := make([]*File, len(entries))
	for i, e := range entries {
		if reason := nameProblem(e.Name); reason != "" {
			return fmt.Errorf("%w: entry %q: %s", ErrArchive, e.Name, reason)
		}
		switch {
		case len(e.Name) > maxNameLength:
			return fmt.Errorf("%w: name of %d bytes, limit is %d: %.64q…", ErrLimit, len(e.Name), maxNameLength, e.Name)
		case strings.Count(e.Name, "/") >= maxDepth:
			return fmt.Errorf("%w: entry %q: name has %d elements, limit is %d", ErrLimit, e.Name, strings.Count(e.Name, "/")+1, maxDepth)
		case e.Mode&^fs.ModePerm != 0:
			return fmt.Errorf("%w: entry %q: mode %#o has bits other than permissions", ErrArchive, e.Name, uint32(e.Mode))
		case e.Size < 0:
			return fmt.Errorf("%w: entry %q: negative size %d", ErrArchive, e.Name, e.Size)
		case e.Size > math.MaxUint32:
			return fmt.Errorf("%w: entry %q has %d bytes, the format ends at 4 GiB", ErrLimit, e.Name, e.Size)
		case e.Open == nil:
			return fmt.Errorf("%w: entry %q: Open is nil", ErrArchive, e.Name)
		}
		sorted[i] = &File{Header: e.Header}
	}
	slices.SortStableFunc(sorted, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range sorted {
		if i > 0 && sorted[i-1].Name == f.Name {
			return fmt.Errorf("%w: two entries are named %q", ErrArchive, f.Name)
		}
		if j, ok := under(sorted, f.Name); ok {
			return fmt.Errorf("%w: entry %q is a directory in the name of entry %q", ErrArchive, f.Name, sorted[j].Name)
		}
	}
	return nil
}

// Size returns the number of bytes that the archive will have with these signers, or -1 if it cannot be
// written.
func (a *Archive) Size(signers ...Signer) int64 {
	m, err := a.plan(infosOf(signers))
	if err != nil {
		return -1
	}
	return m.size
}

// WriteTo writes the archive without signatures and returns the number of bytes written. What was written
// before an error is useless. WriteTo may be called again; it opens the contents anew.
func (a *Archive) WriteTo(w io.Writer) (int64, error) {
	m, err := a.plan(nil)
	if err != nil {
		return 0, err
	}
	return m.writeTo(context.Background(), w)
}

// WriteSigned writes the archive with one signature of each signer, in that order, and returns the number of
// bytes written. It makes two passes over the contents: one to hash, one to write. All signatures are there
// and have been verified with the signers' public keys before the first byte is written, and the contents are
// hashed again while they are written: where they differ from what was signed, the error is a [*ContentError].
// What was written before an error is useless.
//
// Mozilla's updater accepts archives with exactly one signature, of [RSAPKCS1SHA384].
func (a *Archive) WriteSigned(ctx context.Context, w io.Writer, signers ...Signer) (int64, error) {
	m, err := a.plan(infosOf(signers))
	if err != nil {
		return 0, err
	}
	return m.writeSigned(ctx, w, signers)
}

// Digest returns what each of the signers would be asked to sign, without asking them. Signers with the same
// algorithm get the same digest, but the number of signatures and their lengths are part of it.
func (a *Archive) Digest(ctx context.Context, infos ...SignerInfo) ([][]byte, error) {
	m, err := a.plan(infos)
	if err != nil {
		return nil, err
	}
	return m.digests(ctx)
}

// WriteReserved writes the archive with room for signatures that are made elsewhere: their algorithm and
// length are set, their bytes are zero. [Archive.Digest] is what has to be signed and
// [Reader.ReplaceSignature] puts the signature in. Public keys in infos are not used and may be nil.
func (a *Archive) WriteReserved(ctx context.Context, w io.Writer, infos ...SignerInfo) (int64, error) {
	m, err := a.plan(infos)
	if err != nil {
		return 0, err
	}
	return m.writeTo(ctx, w)
}

func (m *image) writeTo(ctx context.Context, w io.Writer) (int64, error) {
	c := &counter{w: w}
	if err := writeFull(c, m.head); err != nil {
		return c.n, err
	}
	err := m.body(ctx, c)
	return c.n, err
}

// copyEntry copies exactly the declared number of bytes.
func copyEntry(ctx context.Context, w io.Writer, e Entry, buf []byte) (err error) {
	rc, err := e.Open()
	if err != nil {
		return fmt.Errorf("mar: open entry %q: %w", e.Name, err)
	}
	defer func() {
		if cerr := rc.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("mar: close entry %q: %w", e.Name, cerr)
		}
	}()
	left, empty := e.Size, 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), left+1)] // one more than declared, to see that there is no more
		n, rerr := rc.Read(part)
		if n < 0 || n > len(part) {
			return fmt.Errorf("%w: entry %q: reader returned impossible count %d", ErrContent, e.Name, n)
		}
		if int64(n) > left {
			return &ContentError{Name: e.Name, Declared: e.Size, Got: e.Size + 1}
		}
		if n > 0 {
			empty = 0
			if err := writeFull(w, part[:n]); err != nil {
				return err
			}
			left -= int64(n)
		}
		switch {
		case errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF):
			if left > 0 {
				return &ContentError{Name: e.Name, Declared: e.Size, Got: e.Size - left}
			}
			return nil
		case rerr != nil:
			return fmt.Errorf("mar: read entry %q: %w", e.Name, rerr)
		case n == 0:
			if empty++; empty == 100 {
				return fmt.Errorf("mar: read entry %q: %w", e.Name, io.ErrNoProgress)
			}
		}
	}
}

// counter counts what goes through.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(max(n, 0))
	return n, err
}

func writeFull(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("mar: write: %w", err)
	}
	return nil
}

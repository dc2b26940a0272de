package mar

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"slices"
)

// An Edit is an archive that was read, with another header: signatures stripped or replaced, or another
// product information block. Everything else stays as it is: gaps between contents, their order, other
// sections, and flags and names that the reader was told to allow. It streams from the archive, in bounded
// memory, and is safe for concurrent use.
type Edit struct {
	m *image
	// reserved lays the archive out with room for signatures.
	reserved func(infos []SignerInfo) (*image, error)
}

// Size returns the number of bytes that the edited archive has.
func (e *Edit) Size() int64 { return e.m.size }

// WriteTo writes the edited archive and returns the number of bytes written. What was written before an error
// is useless. It must not write into the file that the archive is read from. WriteTo may be called again.
func (e *Edit) WriteTo(w io.Writer) (int64, error) { return e.m.writeTo(context.Background(), w) }

// WriteSigned writes the edited archive with one signature of each signer, as [Archive.WriteSigned] does: an archive is signed
// again in one step with r.Strip().WriteSigned. An edit that has signatures, or room for them, is refused with [ErrSigned].
func (e *Edit) WriteSigned(ctx context.Context, w io.Writer, signers ...Signer) (int64, error) {
	m, err := e.reserved(infosOf(signers))
	if err != nil {
		return 0, err
	}
	return m.writeSigned(ctx, w, signers)
}

// signedAlready is what cannot be signed, as it has signatures.
func signedAlready([]SignerInfo) (*image, error) {
	return nil, fmt.Errorf("%w: strip it first", ErrSigned)
}

// Strip returns the archive without signatures: what it was before signing, byte for byte. An archive of the
// original layout, or without signatures, comes out as it is.
func (r *Reader) Strip() *Edit {
	head, slots, err := appendHeader(r.scan.layout, nil)
	if err == nil {
		var m *image
		if m, err = r.edited(r.scan.layout, head, slots, r.afterSignatures); err == nil {
			return &Edit{m, r.roomFor}
		}
	}
	return failed(err)
}

// failed is an edit that only fails: what Strip returns where the archive cannot be read any more.
func failed(err error) *Edit {
	return &Edit{
		&image{size: -1, body: func(context.Context, io.Writer) error { return err }},
		func([]SignerInfo) (*image, error) { return nil, err },
	}
}

// WithProduct returns the archive with another product information block, of 104 bytes as Mozilla's tools
// write it. An archive that had a smaller block, or none, grows; one of another layout than LayoutSections
// gets that layout. A signed archive is refused with [ErrSigned], as signatures cover the block.
func (r *Reader) WithProduct(p Product) (*Edit, error) {
	if len(r.scan.signatures) > 0 {
		return nil, fmt.Errorf("%w: its signatures cover the product information", ErrSigned)
	}
	if err := checkProduct(p); err != nil {
		return nil, err
	}
	layOut := func(infos []SignerInfo) (*image, error) {
		head, slots, err := appendHeader(LayoutSections, infos)
		if err != nil {
			return nil, err
		}
		return r.edited(LayoutSections, head, slots, func(head, _ []byte) ([]byte, error) { return r.appendSections(head, p) })
	}
	m, err := layOut(nil)
	if err != nil {
		return nil, err
	}
	return &Edit{m, layOut}, nil
}

// WriteSigned writes the archive with one signature of each signer, keeping everything else as it is. It is
// like [Archive.WriteSigned] otherwise. A signed archive is refused with [ErrSigned]; strip it first.
func (r *Reader) WriteSigned(ctx context.Context, w io.Writer, signers ...Signer) (int64, error) {
	m, err := r.reserved(infosOf(signers))
	if err != nil {
		return 0, err
	}
	return m.writeSigned(ctx, w, signers)
}

// Reserve returns the archive with room for signatures that are made elsewhere, as [Archive.WriteReserved]
// makes it, keeping everything else as it is. A signed archive is refused with [ErrSigned].
func (r *Reader) Reserve(infos ...SignerInfo) (*Edit, error) {
	m, err := r.reserved(infos)
	if err != nil {
		return nil, err
	}
	return &Edit{m, signedAlready}, nil
}

func (r *Reader) reserved(infos []SignerInfo) (*image, error) {
	if len(r.scan.signatures) > 0 {
		return nil, fmt.Errorf("%w: strip it first", ErrSigned)
	}
	return r.roomFor(infos)
}

// roomFor lays the archive out with these signatures instead of its own.
func (r *Reader) roomFor(infos []SignerInfo) (*image, error) {
	layout := r.scan.layout
	if layout == LayoutOriginal {
		layout = LayoutNoSections
	}
	head, slots, err := appendHeader(layout, infos)
	if err != nil {
		return nil, err
	}
	return r.edited(layout, head, slots, r.afterSignatures)
}

// afterSignatures appends what stands between the signatures and the contents.
func (r *Reader) afterSignatures(head, old []byte) ([]byte, error) {
	start := min(int64(header), r.scan.dataStart)
	if n := len(r.scan.signatures); n > 0 {
		last := r.scan.signatures[n-1]
		start = last.Offset + int64(len(last.Bytes))
	}
	return append(head, old[start:]...), nil
}

// appendSections appends all sections, with p in place of the first product information block, or in front.
func (r *Reader) appendSections(head []byte, p Product) ([]byte, error) {
	at := slices.IndexFunc(r.scan.sections, func(s Section) bool { return s.ID == productID })
	count := len(r.scan.sections)
	if at < 0 {
		count++
	}
	head = be.AppendUint32(head, uint32(count))
	if at < 0 {
		head = appendProduct(head, p, false)
	}
	for i, s := range r.scan.sections {
		if i == at {
			head = appendProduct(head, p, false)
			continue
		}
		head = be.AppendUint32(head, uint32(s.Size+sectionHeader))
		head = be.AppendUint32(head, s.ID)
		body := make([]byte, s.Size) // inside the file, as was checked
		if err := r.scan.read(body, s.Offset, "section"); err != nil {
			return nil, err
		}
		head = append(head, body...)
	}
	return head, nil
}

// edited lays the archive out with another header: head, completed by rest from the old one, then everything
// behind the old header with the index moved along.
func (r *Reader) edited(layout Layout, head []byte, slots []slot, rest func(head, old []byte) ([]byte, error)) (*image, error) {
	old, err := r.header()
	if err != nil {
		return nil, err
	}
	if head, err = rest(head, old); err != nil {
		return nil, err
	}
	s := &r.scan
	shift := int64(len(head)) - s.dataStart
	m := &image{head: head, slots: slots, size: s.size + shift}
	if m.size > s.limits.FileSize {
		return nil, fmt.Errorf("%w: archive would have %d bytes, limit is %d", ErrLimit, m.size, s.limits.FileSize)
	}
	index := be.AppendUint32(make([]byte, 0, s.indexEnd-s.indexOffset), uint32(s.indexEnd-s.indexOffset-4))
	for _, f := range s.files {
		offset := f.Offset + shift
		if offset > math.MaxUint32 {
			return nil, fmt.Errorf("%w: entry %q would start behind 4 GiB", ErrLimit, f.Name)
		}
		index = appendEntry(index, offset, f.Header)
	}
	m.finish(layout, s.indexOffset+shift)
	m.body = func(ctx context.Context, w io.Writer) error {
		buf := make([]byte, bufferSize)
		if err := r.copyRange(ctx, w, s.dataStart, s.indexOffset, buf); err != nil {
			return err
		}
		if err := writeFull(w, index); err != nil {
			return err
		}
		return r.copyRange(ctx, w, s.indexEnd, s.size, buf)
	}
	return m, nil
}

// ExtractSignature returns a signature as text, as Mozilla's tool writes it into a file: base64 in lines of 64
// characters, joined by CR LF, without one at the end. Signatures are counted from 0. The error for one that is not there
// matches [ErrSignature].
func (r *Reader) ExtractSignature(i int) ([]byte, error) {
	sig, err := r.signature(i)
	if err != nil {
		return nil, err
	}
	return EncodeSignature(sig.Bytes), nil
}

// signature returns signature i where there is one.
func (r *Reader) signature(i int) (Signature, error) {
	switch n := len(r.scan.signatures); {
	case n == 0:
		return Signature{}, ErrUnsigned
	case i < 0 || i >= n:
		return Signature{}, &SignatureError{-1, fmt.Sprintf("no signature %d: the archive has %d, counted from 0", i, n)}
	}
	return r.scan.signatures[i], nil
}

// ImportSignature returns the archive with signature i replaced by one in the text form of
// [Reader.ExtractSignature]. It must be of the same length. Nothing is verified. Errors match [ErrSignature].
func (r *Reader) ImportSignature(i int, text []byte) (*Edit, error) {
	sig, err := DecodeSignature(text)
	if err != nil {
		return nil, err
	}
	return r.ReplaceSignature(i, sig)
}

// ReplaceSignature returns the archive with the bytes of signature i, counted from 0, replaced by others of the same length.
// Nothing is verified. Errors match [ErrSignature].
func (r *Reader) ReplaceSignature(i int, sig []byte) (*Edit, error) {
	old, err := r.signature(i)
	if err != nil {
		return nil, err
	}
	if len(sig) != len(old.Bytes) {
		return nil, &SignatureError{i, fmt.Sprintf("the new one has %d bytes, the one to replace %d", len(sig), len(old.Bytes))}
	}
	head, err := r.header()
	if err != nil {
		return nil, err
	}
	copy(head[old.Offset:], sig)
	m := &image{head: head, size: r.scan.size, body: func(ctx context.Context, w io.Writer) error {
		return r.copyRange(ctx, w, r.scan.dataStart, r.scan.size, make([]byte, bufferSize))
	}}
	return &Edit{m, signedAlready}, nil
}

// EncodeSignature returns a signature in the text form of [Reader.ExtractSignature].
func EncodeSignature(sig []byte) []byte {
	text := base64.StdEncoding.AppendEncode(nil, sig)
	return bytes.Join(slices.Collect(slices.Chunk(text, 64)), []byte("\r\n"))
}

// DecodeSignature reads the text form of a signature. White space may stand anywhere. Errors match [ErrSignature], or
// [ErrLimit] where the text is longer than any signature.
func DecodeSignature(text []byte) ([]byte, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: signature file has %d bytes, limit is %d", ErrLimit, len(text), maxKeyFile)
	}
	sig, err := base64.StdEncoding.Strict().AppendDecode(nil, bytes.Join(bytes.Fields(text), nil))
	if err != nil {
		return nil, &SignatureError{-1, "not a signature in base64: " + err.Error()}
	}
	if len(sig) == 0 {
		return nil, &SignatureError{-1, "the text of the signature is empty"}
	}
	return sig, nil
}

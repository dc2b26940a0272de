package main

import (
	"errors"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// maxMember bounds what one entry may become when it is unpacked, in bytes.
const maxMember = 4 << 30

// memberFormat tells how an entry is compressed, by its first bytes.
func memberFormat(f *mar.File) (xz.Format, error) {
	head := make([]byte, 6)
	n, err := f.Section().ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return xz.FormatRaw, err
	}
	return xz.Sniff(head[:n]), nil
}

// openMember reads an entry decompressed.
func openMember(f *mar.File) (io.ReadCloser, error) {
	format, err := memberFormat(f)
	if err != nil {
		return nil, err
	}
	switch format {
	case xz.FormatXZ:
		return xz.NewReader(f.Section(), &xz.Limits{Output: maxMember})
	case xz.FormatBzip2:
		return xz.NewBzip2Reader(f.Section(), &xz.Limits{Output: maxMember}), nil
	}
	return f.Open()
}

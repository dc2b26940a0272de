package main

import (
	"errors"
	"io"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// maxMember bounds what one entry may become when it is unpacked, in bytes.
const maxMember = 4 << 30

// memberFormat names how an entry is compressed: raw where it is not.
func memberFormat(f *mar.File) (string, error) {
	format, err := updater.MemberOf(f).Format()
	if err == nil && format == "" {
		return "raw", nil
	}
	return string(format), err
}

// openMember reads an entry decompressed, or as it is where it is not compressed.
func openMember(f *mar.File) (io.ReadCloser, error) {
	r, err := updater.MemberOf(f).Open(updater.Limits{Member: maxMember})
	if errors.Is(err, member.ErrUnknown) {
		return f.Open()
	}
	return r, err
}

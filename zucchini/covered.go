package zucchini

import (
	"bytes"
	"encoding/binary"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// Covered returns how many bytes of the new file are in executables of which the old file has one of the same kind, and
// whose references are worth correcting: not in programs for ARM64 in the format of Windows, whose calls are not found, nor in
// those that a patch has to take as bytes. It takes milliseconds, or a pass over both files where they hold several
// executables.
func Covered(old, new []byte) int64 {
	var n int64
	if len(old) == 0 || len(new) == 0 || len(old) >= maxSize || len(new) >= maxSize {
		return 0
	}
	for _, c := range couples(old, new) {
		if c.old.image.Certain() && c.new.image.Certain() && !foreign(new[c.new.at:], c.new.image.Kind()) {
			n += int64(c.new.image.Size())
		}
	}
	return n
}

// foreign reports whether a program that is read as one for x86-64 is for ARM64.
func foreign(program []byte, k exe.Kind) bool {
	if k != exe.PE64 {
		return false
	}
	at := int(binary.LittleEndian.Uint32(program[60:])) // the image was found, so the header is there
	return bytes.Equal(program[at+4:][:2], []byte{0x64, 0xAA})
}

// Package program tells programs by the first bytes of files: which files of an installation may be one, and for which
// system and processor it is.
//
// The first bytes of the three formats are
//
//	7f 45 4c 46 …               ELF, Linux
//	4d 5a …                     PE, Windows: the word at 3c says where "PE\0\0" and the processor stand
//	cf fa ed fe / ca fe ba be   Mach-O, macOS: for one processor or for several; the latter is also a Java class's
//
// Everything is safe for concurrent use and reads no files by itself.
package program

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/names"
)

const (
	// SystemBytes are enough to tell the system.
	SystemBytes = 8
	// ArchBytes are enough to tell the processor as well, but of a PE with an unusually long beginning.
	ArchBytes = 4096
)

// Likely says whether a file is worth a look at its first bytes; executable is its mode.
func Likely(name string, executable bool) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".exe", ".dll", ".so", ".dylib":
		return true
	case "":
		return executable
	}
	return false
}

// System says for which of the systems of package names a file that begins with head is a program, or "".
func System(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return names.Linux
	case bytes.HasPrefix(head, []byte("MZ")):
		return names.Windows
	}
	if len(head) < SystemBytes {
		return ""
	}
	switch binary.BigEndian.Uint32(head) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe:
		return names.MacOS
	case 0xcafebabe, 0xcafebabf: // a universal one; a Java class has the same magic, and its version (45 or more) behind it
		if binary.BigEndian.Uint32(head[4:]) < 32 {
			return names.MacOS
		}
	}
	return ""
}

// Universal is the Arch of a program for macOS that holds several.
const Universal = "universal"

// Arch says for which processor a program is: x86, x86_64, aarch64, Universal, or "" where that cannot be told.
func Arch(head []byte) string {
	switch system := System(head); {
	case system == "" || len(head) < 64:
		return ""
	case system == names.Linux && head[5] == 1: // little-endian
		return map[uint16]string{0x3e: "x86_64", 3: "x86", 0xb7: "aarch64"}[binary.LittleEndian.Uint16(head[18:])]
	case system == names.Windows:
		at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
		if at+6 > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
			return ""
		}
		return map[uint16]string{0x8664: "x86_64", 0x14c: "x86", 0xaa64: "aarch64"}[binary.LittleEndian.Uint16(head[at+4:])]
	case system == names.MacOS && head[0] == 0xca:
		return Universal
	case system == names.MacOS && head[0] == 0xcf:
		return map[uint32]string{0x01000007: "x86_64", 0x0100000c: "aarch64"}[binary.LittleEndian.Uint32(head[4:])]
	}
	return ""
}

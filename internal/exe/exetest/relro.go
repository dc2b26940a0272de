package exetest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
)

// WithoutRelroPadding returns a 64-bit ELF file whose section .relro_padding, which takes no room in it, has no address any
// more, as if the linker had not made it: with it the file counts as plain data. Other files are returned as they are.
func WithoutRelroPadding(file []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil || f.Class != elf.ELFCLASS64 {
		return file
	}
	i := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return s.Name == ".relro_padding" })
	if i < 0 {
		return file
	}
	const header, address = 64, 16
	out := bytes.Clone(file)
	at := binary.LittleEndian.Uint64(file[40:]) + uint64(header*i+address)
	binary.LittleEndian.PutUint64(out[at:], 0)
	return out
}

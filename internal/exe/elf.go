package exe

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"slices"
)

const elfMagic = elf.ELFMAG

// elfLimit is what addresses, and offsets of what is not in the file, are below.
const elfLimit = 0x7FFF0000

// parseELF reads the headers of an ELF file. They are checked as far as the updater's applier checks them.
func (m *Image) parseELF() error {
	b := m.data
	n := uint64(len(b))
	wide := m.width == 8
	header, class, sectionSize, segmentSize := uint64(52), byte(elf.ELFCLASS32), uint64(40), uint64(32)
	if wide {
		header, class, sectionSize, segmentSize = 64, byte(elf.ELFCLASS64), 64, 56
	}
	if n < header || string(b[:4]) != elfMagic || b[elf.EI_CLASS] != class || b[elf.EI_DATA] != byte(elf.ELFDATA2LSB) || b[elf.EI_VERSION] != byte(elf.EV_CURRENT) {
		return not("no ELF header")
	}
	machine := map[Kind]elf.Machine{ELF386: elf.EM_386, ELFX64: elf.EM_X86_64, ELFARM: elf.EM_ARM, ELFAA64: elf.EM_AARCH64}[m.kind]
	var segments, sections uint64
	var tail []byte // of the header, from the size of a segment's header on
	if wide {
		segments, sections, tail = le64(b, 32), le64(b, 40), b[54:]
	} else {
		segments, sections, tail = uint64(le32(b, 28)), uint64(le32(b, 32)), b[42:]
	}
	kind := elf.Type(le16(b, 16))
	segmentCount, entry := uint64(le16(tail, 2)), uint64(le16(tail, 4))
	sectionCount, names := uint64(le16(tail, 6)), uint64(le16(tail, 8))
	switch {
	case kind != elf.ET_EXEC && kind != elf.ET_DYN || elf.Machine(le16(b, 18)) != machine || le32(b, 20) != uint32(elf.EV_CURRENT):
		return not("ELF file of another type or machine")
	case entry != sectionSize:
		return not("section headers of %d bytes", entry)
	case !fits(sections, sectionCount*sectionSize, n) || !fits(segments, segmentCount*segmentSize, n) || names >= sectionCount:
		return not("tables reach out of the file")
	}
	end := max(sections+sectionCount*sectionSize, segments+segmentCount*segmentSize)
	for i := range segmentCount {
		h := b[segments+i*segmentSize:]
		var at, size uint64
		if wide {
			at, size = le64(h, 8), le64(h, 32)
		} else {
			at, size = uint64(le32(h, 4)), uint64(le32(h, 16))
		}
		if !fits(at, size, n) {
			return not("segment %d reaches out of the file", i)
		}
		end = max(end, at+size)
	}
	m.fixed = []span{
		{0, uint32(header)},
		{uint32(segments), uint32(segments + segmentCount*segmentSize)},
		{uint32(sections), uint32(sections + sectionCount*sectionSize)},
	}
	units := make([]unit, 0, sectionCount)
	for i := range sectionCount {
		s := elfSection(b[sections+i*sectionSize:], wide)
		limit := n
		if s.kind == elf.SHT_NOBITS {
			limit = elfLimit
		}
		if !fits(s.rva, s.size, elfLimit) || !fits(s.at, s.size, limit) {
			return not("section %d reaches out of the file or too far", i)
		}
		if i == names && s.size > 0 && (!inside(s.at, s.size, n) || b[s.at+s.size-1] != 0) {
			return not("names of sections without an end")
		}
		if i == names && s.size > 0 {
			m.fixed = append(m.fixed, span{uint32(s.at + s.size - 1), uint32(s.at + s.size)})
		}
		if s.size == 0 || s.rva == 0 || s.kind == elf.SHT_NOBITS && s.flags&elf.SHF_TLS != 0 {
			continue
		}
		if s.at >= Bound || s.size >= Bound {
			return not("file of more than 2 GiB")
		}
		units = append(units, unit{uint32(s.at), uint32(s.size), uint32(s.rva), uint32(s.size)})
		if s.kind != elf.SHT_NOBITS {
			end = max(end, s.at+s.size)
		}
		pointer := uint64(m.width)
		switch {
		case s.kind == elf.SHT_REL && s.entry == 2*pointer, s.kind == elf.SHT_RELA && s.entry == 3*pointer: //nolint:misspell // that is its name
			m.relocs = append(m.relocs, table{uint32(s.at), uint32(s.size), uint32(s.entry)})
		case s.kind == elf.SHT_PROGBITS && s.flags&elf.SHF_EXECINSTR != 0:
			m.code = append(m.code, section{uint32(s.at), uint32(s.size), uint32(s.rva), uint32(s.size)})
		}
	}
	if end >= Bound {
		return not("file of %d bytes", end)
	}
	slices.SortStableFunc(m.relocs, func(x, y table) int { return cmp.Compare(x.at, y.at) })
	slices.SortStableFunc(m.code, func(x, y section) int { return cmp.Compare(x.at, y.at) })
	var err error
	if m.t, err = newTranslator(units); err != nil {
		return err
	}
	m.data = b[:end]
	m.common = !m.t.tied && !overlapping(m.code)
	for i := 1; i < len(m.relocs); i++ {
		m.common = m.common && m.relocs[i-1].at+m.relocs[i-1].size <= m.relocs[i].at
	}
	return nil
}

// elfHeader is what a section header says.
type elfHeader struct {
	kind                 elf.SectionType
	flags                elf.SectionFlag
	rva, at, size, entry uint64
}

func elfSection(h []byte, wide bool) elfHeader {
	kind := elf.SectionType(le32(h, 4))
	if wide {
		return elfHeader{kind, elf.SectionFlag(uint32(le64(h, 8))), le64(h, 16), le64(h, 24), le64(h, 32), le64(h, 56)}
	}
	return elfHeader{kind, elf.SectionFlag(le32(h, 8)), uint64(le32(h, 12)), uint64(le32(h, 16)), uint64(le32(h, 20)), uint64(le32(h, 36))}
}

// relocsELF returns the relative relocations. An entry counts if it starts in its section, also where the section
// ends before it does.
func (m *Image) relocsELF(ctx context.Context) ([]Ref, error) {
	relative := map[Kind]uint32{
		ELF386: uint32(elf.R_386_RELATIVE), ELFX64: uint32(elf.R_X86_64_RELATIVE),
		ELFARM: uint32(elf.R_ARM_RELATIVE), ELFAA64: uint32(elf.R_AARCH64_RELATIVE),
	}[m.kind]
	var out []Ref
	find := m.t.finder()
	for _, r := range m.relocs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		end := uint64(len(m.data))
		for at := uint64(r.at); at < uint64(r.at)+uint64(r.size) && at+uint64(r.entry) <= end; at += uint64(r.entry) {
			e := m.data[at : at+uint64(r.entry)]
			var rva uint64
			var kind uint32
			if m.width == 8 {
				rva, kind = binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint32(e[8:])
			} else {
				rva, kind = uint64(binary.LittleEndian.Uint32(e)), uint32(e[4])
			}
			if kind != relative || rva >= Bound {
				continue
			}
			if target, ok := m.place(&find, uint32(rva)); ok {
				out = append(out, Ref{uint32(at), target})
			}
		}
	}
	return out, nil
}

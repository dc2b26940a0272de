package exe

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Numbers of the PE format (Microsoft, "PE Format").
const (
	peNewHeader   = 60 // where the place of the PE header is
	peOptional    = 24 // bytes from the PE header to the optional header
	peSection     = 40 // bytes of a section header
	peDirectories = 16
	peFewest      = 6 // directories that there must be
	peRelocTable  = 5 // directory of base relocations
	peReadExecute = 0x60000000
	peBlockHeader = 8
	peHighLow     = 3  // relocation of a pointer of 32 bits
	peDir64       = 10 // of 64 bits
	pagePart      = 0xfff
)

// parsePE reads the headers of a PE file. They are checked as far as the updater's applier checks them.
func (m *Image) parsePE() error {
	b := m.data
	n := uint64(len(b))
	if n < peNewHeader+4 || b[0] != 'M' || b[1] != 'Z' {
		return not("no MZ header")
	}
	fixed, magic := uint64(0x60), uint16(0x10b) // the optional header without its directories
	if m.width == 8 {
		fixed, magic = 0x70, 0x20b
	}
	at := uint64(le32(b, peNewHeader))
	opt := at + peOptional
	sections := opt + fixed + 8*peDirectories
	if at%8 != 0 || at < peNewHeader+4 || sections > n || string(b[at:at+4]) != "PE\x00\x00" {
		return not("no PE header")
	}
	count, size := uint64(binary.LittleEndian.Uint16(b[at+6:])), uint64(binary.LittleEndian.Uint16(b[at+20:]))
	dirs, image := uint64(le32(b, uint32(opt+fixed-4))), le32(b, uint32(opt+56))
	switch {
	case binary.LittleEndian.Uint16(b[opt:]) != magic:
		return not("optional header of another kind")
	case size != fixed+8*dirs || dirs < peFewest || dirs > peDirectories:
		return not("%d data directories in an optional header of %d bytes", dirs, size)
	case image >= Bound:
		return not("image of %d bytes", image)
	case sections+peSection*count > n:
		return not("%d sections", count)
	}
	if m.width == 8 {
		m.base = le64(b, uint32(opt+24))
	} else {
		m.base = uint64(le32(b, uint32(opt+28)))
	}
	units := make([]unit, 0, count)
	end := sections
	for i := range count {
		h := b[sections+peSection*i:]
		length, rva := le32(h, 8), le32(h, 12)
		raw, place := le32(h, 16), le32(h, 20)
		if !fits(uint64(place), uint64(raw), n) || !inside(uint64(rva), uint64(length), uint64(image)) {
			return not("section %d reaches out of the file or the image", i)
		}
		end = max(end, uint64(place)+uint64(raw))
		units = append(units, unit{place, raw, rva, length})
		if le32(h, 36)&peReadExecute == peReadExecute {
			m.code = append(m.code, section{place, min(raw, length), rva, length})
		}
	}
	if len(m.code) == 0 {
		return not("no code section")
	}
	if end >= Bound {
		return not("file of %d bytes", end)
	}
	var err error
	if m.t, err = newTranslator(units); err != nil {
		return err
	}
	m.data = b[:end]
	m.fixed = []span{{0, uint32(sections + peSection*count)}}
	m.blocks = m.chain(le32(b, uint32(opt+fixed+8*peRelocTable)), le32(b, uint32(opt+fixed+8*peRelocTable+4)))
	m.common = !m.t.tied && !overlapping(m.code)
	return nil
}

// chain returns the blocks of relocations; none where anything is wrong with one.
func (m *Image) chain(rva, size uint32) []block {
	if size == 0 {
		return nil
	}
	find := m.t.finder()
	at, ok := find.offset(rva)
	if !ok || !fits(uint64(at), uint64(size), uint64(len(m.data))) {
		return nil
	}
	var out []block
	end := at + size
	for end-at >= peBlockHeader {
		n := le32(m.data, at+4)
		if n < peBlockHeader || n%4 != 0 || n > end-at {
			return nil
		}
		out = append(out, block{at, le32(m.data, at), at + n})
		at += n
	}
	if at != end {
		return nil
	}
	return out
}

func (m *Image) relocsPE() []Ref {
	var out []Ref
	find := m.t.finder()
	want := uint16(peHighLow)
	if m.width == 8 {
		want = peDir64
	}
	for _, b := range m.blocks {
		for at := b.at + peBlockHeader; at < b.end; at += 2 {
			v := le16(m.data, at)
			if v>>12 != want || uint64(b.page)+uint64(v&pagePart) >= Bound {
				continue
			}
			if target, ok := m.place(&find, b.page+uint32(v&pagePart)); ok {
				out = append(out, Ref{at, target})
			}
		}
	}
	return out
}

// place returns the offset of a pointer at an address, which must be in the file.
func (m *Image) place(find *finder, rva uint32) (uint32, bool) {
	at, ok := find.offset(rva)
	return at, ok && uint64(at)+uint64(m.width) <= uint64(len(m.data))
}

// blockOf returns the block of relocations that a place is in.
func (m *Image) blockOf(at uint32) (block, bool) {
	i, found := slices.BinarySearchFunc(m.blocks, at, func(b block, at uint32) int { return cmp.Compare(b.at, at) })
	if !found {
		i--
	}
	if i < 0 || at >= m.blocks[i].end {
		return block{}, false
	}
	return m.blocks[i], true
}

// overlapping reports whether parts of the file belong to several sections.
func overlapping(list []section) bool {
	sorted := slices.SortedFunc(slices.Values(list), func(a, b section) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].at+sorted[i-1].size > sorted[i].at {
			return true
		}
	}
	return false
}

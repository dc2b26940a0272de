package exe

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Reader reads and writes references one by one. Not safe for concurrent use.
type Reader struct {
	m    *Image
	find finder
}

// Reader returns a Reader of the executable.
func (m *Image) Reader() *Reader { return &Reader{m: m, find: m.t.finder()} }

// Target returns where a reference of the given type leads to that the bytes at a place make, whether or not it is one of
// those in [Image.References], and whether they make one that [Reader.Put] writes in the same way. The body of the
// reference must be in the executable. What stands in headers is no reference: they have to be right before references can
// be written.
func (r *Reader) Target(kind uint8, at uint32) (uint32, bool) {
	m := r.m
	for _, s := range m.fixed {
		if at < s.to && at+uint32(m.groups[kind].Width) > s.from {
			return 0, false
		}
	}
	if n := len(m.blocks); n > 0 && at < m.blocks[n-1].end && at+uint32(m.groups[kind].Width) > m.blocks[0].at {
		i, found := slices.BinarySearchFunc(m.blocks, at, func(b block, at uint32) int { return cmp.Compare(b.at, at) })
		if found || i > 0 && at < m.blocks[i-1].at+peBlockHeader || i < n && at+uint32(m.groups[kind].Width) > m.blocks[i].at {
			return 0, false
		}
	}
	var rva uint32
	switch {
	case kind == typeReloc && m.kind <= PE64:
		b, ok := m.blockOf(at)
		v := le16(m.data, at)
		if !ok || v>>12 != m.relocType() {
			return 0, false
		}
		rva = b.page + uint32(v&pagePart)
	case kind <= typePointer:
		v := uint64(le32(m.data, at))
		if m.width == 8 {
			v = le64(m.data, at)
		}
		if kind == typePointer {
			v -= m.base
		}
		if v >= Bound {
			return 0, false
		}
		rva = uint32(v)
	case m.kind == ELFARM:
		var ok bool
		if rva, ok = readARM(kind, m.data, at, r.find.rva(at)); !ok {
			return 0, false
		}
	case m.kind == ELFAA64:
		var ok bool
		if rva, ok = readAA64(kind, le32(m.data, at), r.find.rva(at)); !ok {
			return 0, false
		}
	default:
		place := r.find.rva(at)
		if place == invalid {
			return 0, false
		}
		rva = place + 4 + le32(m.data, at)
	}
	target, ok := r.find.offset(rva)
	return target, ok && r.find.rva(target) == rva
}

func (m *Image) relocType() uint16 {
	if m.width == 8 {
		return peDir64
	}
	return peHighLow
}

// Put writes a reference of the given type to data, which has the size of the executable and, but for references, its
// content. The body must be in data. It reports whether the reference can be expressed: where it cannot the updater's
// applier writes nothing, or for distances and ELF relocations something that makes no sense, and goes on; so does Put.
func (r *Reader) Put(data []byte, kind uint8, at, target uint32) bool {
	return r.PutAddress(data, kind, at, r.Address(target))
}

// Address returns the address of an offset, for [Reader.PutAddress]. Offsets without one have a number that stands for
// that.
func (r *Reader) Address(target uint32) uint32 { return r.find.rva(target) }

// PutAddress is [Reader.Put] where the target's address is known.
func (r *Reader) PutAddress(data []byte, kind uint8, at, rva uint32) bool {
	m := r.m
	switch {
	case kind == typeReloc && m.kind <= PE64:
		b, ok := m.blockOf(at)
		if !ok || rva-b.page > pagePart || rva == invalid {
			return false
		}
		binary.LittleEndian.PutUint16(data[at:], uint16(rva-b.page)|m.relocType()<<12)
	case kind == typeReloc:
		if m.width == 8 {
			binary.LittleEndian.PutUint64(data[at:], uint64(rva))
		} else {
			binary.LittleEndian.PutUint32(data[at:], rva)
		}
	case kind == typePointer:
		if rva == invalid {
			return false
		}
		if m.width == 8 {
			binary.LittleEndian.PutUint64(data[at:], m.base+uint64(rva))
		} else {
			binary.LittleEndian.PutUint32(data[at:], uint32(m.base)+rva)
		}
	case m.kind == ELFARM:
		return writeARM(kind, data, at, r.find.rva(at), rva)
	case m.kind == ELFAA64:
		w, ok := writeAA64(kind, le32(data, at), r.find.rva(at), rva)
		if !ok {
			return false
		}
		binary.LittleEndian.PutUint32(data[at:], w)
	default:
		binary.LittleEndian.PutUint32(data[at:], rva-(r.find.rva(at)+4))
	}
	return rva != invalid
}

// Mixes reports whether the bodies of a type's references hold more than where they lead to. What is beside that in
// the new file comes from the patch's differences.
func (m *Image) Mixes(kind uint8) bool {
	return kind >= typeBranch && (m.kind == ELFARM || m.kind == ELFAA64)
}

// Mix sets mixed, which has the width of the type, to the new body with the distance of the old one. Where that cannot
// be said it is the new body.
func (m *Image) Mix(kind uint8, mixed, old, new []byte) {
	copy(mixed, new)
	if m.kind == ELFAA64 {
		a, b := le32(old, 0), le32(new, 0)
		if typeAA64(a) == kind && typeAA64(b) == kind {
			low, bits := fieldAA64(kind)
			mask := (uint32(1)<<bits - 1) << low
			binary.LittleEndian.PutUint32(mixed, b&^mask|a&mask)
		}
		return
	}
	distance, align := decodeARM(kind, fetchARM(kind, old, 0))
	if align == 0 {
		return
	}
	w := fetchARM(kind, new, 0)
	if _, align = decodeARM(kind, w); align == 0 {
		return
	}
	if w, ok := encodeARM(kind, w, distance); ok {
		storeARM(kind, mixed, 0, w)
	}
}

// Mask writes a number in place of where a reference leads to: as many of its bits, from the lowest on, as there is room
// for. body is that of a reference of the given type, and is not written otherwise but for the upper half of 8 bytes,
// which becomes zero.
func (m *Image) Mask(kind uint8, body []byte, v uint32) {
	switch {
	case len(body) == 2 && !m.Mixes(kind):
		binary.LittleEndian.PutUint16(body, uint16(v))
	case len(body) == 8:
		binary.LittleEndian.PutUint64(body, uint64(v))
	case !m.Mixes(kind):
		binary.LittleEndian.PutUint32(body, v)
	case m.kind == ELFAA64:
		low, bits := fieldAA64(kind)
		mask := (uint32(1)<<bits - 1) << low
		binary.LittleEndian.PutUint32(body, le32(body, 0)&^mask|v<<low&mask)
	default:
		mask := [...]uint32{typeA24: 0xffffff, typeT8: 0xff, typeT11: 0x7ff, typeT20: 0x43f2fff, typeT24: 0x7ff2fff}[kind]
		storeARM(kind, body, 0, fetchARM(kind, body, 0)&^mask|v&mask)
	}
}

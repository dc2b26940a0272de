package exe

import (
	"context"
	"encoding/binary"
)

// Types of 32-bit ARM: A for instructions of ARM, T for those of Thumb, and how many bits hold the distance.
const (
	typeA24 = typeBranch + iota // b, bl, blx
	typeT8                      // b<c>, 2 bytes
	typeT11                     // b, 2 bytes
	typeT20                     // b<c>
	typeT24                     // b, bl, blx
)

// fetchARM returns the instruction at a place: Thumb's of 4 bytes have the half with the operation first.
func fetchARM(kind uint8, b []byte, at uint32) uint32 {
	switch kind {
	case typeA24:
		return le32(b, at)
	case typeT8, typeT11:
		return uint32(le16(b, at))
	}
	return uint32(le16(b, at))<<16 | uint32(le16(b, at+2))
}

func storeARM(kind uint8, b []byte, at, w uint32) {
	switch kind {
	case typeA24:
		binary.LittleEndian.PutUint32(b[at:], w)
	case typeT8, typeT11:
		binary.LittleEndian.PutUint16(b[at:], uint16(w))
	default:
		binary.LittleEndian.PutUint16(b[at:], uint16(w>>16))
		binary.LittleEndian.PutUint16(b[at+2:], uint16(w))
	}
}

// decodeARM returns the distance in an instruction, and what the target is a multiple of; 0 where it is not of the type.
func decodeARM(kind uint8, w uint32) (distance int32, align uint32) {
	signed := func(v uint32, bits uint) int32 { return int32(v<<(32-bits)) >> (32 - bits) }
	switch kind {
	case typeA24:
		switch {
		case w&0x0e000000 != 0x0a000000:
			return 0, 0
		case w>>28 == 0xf: // blx: the last bit but one is elsewhere
			return signed(w&0xffffff<<2|w>>24&1<<1, 26), 2
		}
		return signed(w&0xffffff<<2, 26), 4
	case typeT8:
		if w&0xf000 != 0xd000 || w&0x0f00 == 0x0f00 {
			return 0, 0
		}
		return signed(w&0xff<<1, 9), 2
	case typeT11:
		if w&0xf800 != 0xe000 {
			return 0, 0
		}
		return signed(w&0x7ff<<1, 12), 2
	case typeT20:
		if w&0xf800d000 != 0xf0008000 || w&0x03c00000 == 0x03c00000 {
			return 0, 0
		}
		return signed(w>>26&1<<20|w>>11&1<<19|w>>13&1<<18|w>>16&0x3f<<12|w&0x7ff<<1, 21), 2
	}
	align = 2
	switch w & 0xf800d000 {
	case 0xf0009000, 0xf000d000:
	case 0xf000c000: // blx
		if w&1 != 0 {
			return 0, 0
		}
		align = 4
	default:
		return 0, 0
	}
	s := w >> 26 & 1
	i1, i2 := w>>13&1^s^1, w>>11&1^s^1
	return signed(s<<24|i1<<23|i2<<22|w>>16&0x3ff<<12|w&0x7ff<<1, 25), align
}

// encodeARM returns the instruction with another distance, and whether it fits.
func encodeARM(kind uint8, w uint32, distance int32) (uint32, bool) {
	bits := [...]uint{typeA24: 26, typeT8: 9, typeT11: 12, typeT20: 21, typeT24: 25}[kind]
	if distance < -(1<<(bits-1)) || distance >= 1<<(bits-1) {
		return 0, false
	}
	d := uint32(distance)
	switch kind {
	case typeA24:
		if w>>28 == 0xf {
			return w&0xfe000000 | d>>1&1<<24 | d>>2&0xffffff, d&1 == 0
		}
		return w&0xff000000 | d>>2&0xffffff, d&3 == 0
	case typeT8:
		return w&0xff00 | d>>1&0xff, d&1 == 0
	case typeT11:
		return w&0xf800 | d>>1&0x7ff, d&1 == 0
	case typeT20:
		return w&0xfbc0d000 | d>>20&1<<26 | d>>19&1<<11 | d>>18&1<<13 | d>>12&0x3f<<16 | d>>1&0x7ff, d&1 == 0
	}
	s := d >> 24 & 1
	j1, j2 := d>>23&1^s^1, d>>22&1^s^1
	return w&0xf800d000 | s<<26 | j1<<13 | j2<<11 | d>>12&0x3ff<<16 | d>>1&0x7ff, d&1 == 0
}

// alignARM is what the place of an instruction must be a multiple of, and aheadARM how far behind it distances start.
func alignARM(kind uint8) (align, ahead uint32) {
	if kind == typeA24 {
		return 4, 8
	}
	return 2, 4
}

// readARM returns the address that the instruction at a place, with an address of its own, refers to.
func readARM(kind uint8, b []byte, at, rva uint32) (uint32, bool) {
	distance, align := decodeARM(kind, fetchARM(kind, b, at))
	multiple, ahead := alignARM(kind)
	if align == 0 || rva%multiple != 0 {
		return 0, false
	}
	target := rva + ahead + uint32(distance)
	return target - target%align, true
}

// writeARM writes another address into the instruction at a place.
func writeARM(kind uint8, b []byte, at, rva, target uint32) bool {
	w := fetchARM(kind, b, at)
	_, align := decodeARM(kind, w)
	multiple, ahead := alignARM(kind)
	if align == 0 || rva%multiple != 0 || target%align != 0 {
		return false
	}
	distance := target - (rva + ahead)
	if kind == typeT24 && align == 4 {
		distance += distance % 4 // from where the instruction would be if it were aligned
	}
	w, ok := encodeARM(kind, w, int32(distance))
	if ok {
		storeARM(kind, b, at, w)
	}
	return ok
}

// thumb reports whether a code section holds instructions of Thumb: fewer than two of five words have the condition
// "always", which nearly all of ARM's have.
func (m *Image) thumb(s section) bool {
	if s.rva%4 != 0 || s.size%4 != 0 {
		return true
	}
	always := uint64(0)
	for at := s.at; at < s.at+s.size; at += 4 {
		if m.data[at+3]>>4 == 0xe {
			always++
		}
	}
	return 5*always < 2*uint64(s.size/4)
}

// branchesARM finds branches.
func (m *Image) branchesARM(ctx context.Context, out [][]Ref, most int) error {
	find, place := m.t.finder(), m.t.finder()
	add := func(kind uint8, at uint32) bool {
		rva, ok := readARM(kind, m.data, at, place.rva(at))
		if !ok {
			return false
		}
		target, ok := find.offset(rva)
		if !ok || !m.inCode(target) {
			return false
		}
		if most--; most >= 0 {
			out[kind] = append(out[kind], Ref{at, target})
		}
		return true
	}
	for _, s := range m.code {
		if err := ctx.Err(); err != nil {
			return err
		}
		thumb := m.thumb(s)
		err := m.gaps(out[typePointer], s.at, s.at+s.size, func(from, to uint32) error {
			if !thumb {
				for c := (from + 3) &^ 3; c+4 <= to; c += 4 {
					add(typeA24, c)
				}
				return ctx.Err()
			}
			for c := (from + 1) &^ 1; c+2 <= to; {
				half := le16(m.data, c)
				if half&0xf000 == 0xf000 || half&0xf800 == 0xe800 {
					if c+4 > to {
						break
					}
					_ = add(typeT20, c) || add(typeT24, c)
					c += 4
					continue
				}
				_ = add(typeT8, c) || add(typeT11, c)
				c += 2
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		if most < 0 {
			return errMany
		}
	}
	return nil
}

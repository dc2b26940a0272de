package exe

import (
	"cmp"
	"context"
	"slices"
)

// Types of AArch64: by the bits that hold the distance in words.
const (
	typeImm14 = typeBranch + iota // tbz, tbnz
	typeImm19                     // b.cond, cbz, cbnz
	typeImm26                     // b, bl
)

// field says which bits of an instruction hold the distance.
func fieldAA64(kind uint8) (low, bits uint) {
	switch kind {
	case typeImm14:
		return 5, 14
	case typeImm19:
		return 5, 19
	}
	return 0, 26
}

// typeAA64 returns the type of reference that an instruction is, 0 for none.
func typeAA64(w uint32) uint8 {
	switch w >> 24 {
	case 0x36, 0x37, 0xb6, 0xb7:
		return typeImm14
	case 0x54:
		if w&0x10 == 0 {
			return typeImm19
		}
	case 0x34, 0x35, 0xb4, 0xb5:
		return typeImm19
	case 0x14, 0x15, 0x16, 0x17, 0x94, 0x95, 0x96, 0x97:
		return typeImm26
	}
	return 0
}

// readAA64 returns the address that an instruction at an address refers to.
func readAA64(kind uint8, w, at uint32) (uint32, bool) {
	if typeAA64(w) != kind || at&3 != 0 {
		return 0, false
	}
	low, bits := fieldAA64(kind)
	return at + uint32(int32(w>>low<<(32-bits))>>(32-bits))<<2, true
}

// writeAA64 returns the instruction with another address.
func writeAA64(kind uint8, w, at, rva uint32) (uint32, bool) {
	low, bits := fieldAA64(kind)
	distance := int32(rva - at)
	if typeAA64(w) != kind || at&3 != 0 || distance&3 != 0 || distance < -(1<<(bits+1)) || distance >= 1<<(bits+1) {
		return 0, false
	}
	mask := uint32(1)<<bits - 1
	return w&^(mask<<low) | uint32(distance>>2)&mask<<low, true
}

// branchesAA64 finds branches. Distances that other instructions add up, of adrp and the next one, are not looked for.
func (m *Image) branchesAA64(ctx context.Context, out [][]Ref, most int) error {
	find, at := m.t.finder(), m.t.finder()
	polled := uint32(0)
	for _, s := range m.code {
		err := m.gaps(out[typePointer], s.at, s.at+s.size, func(from, to uint32) error {
			from = (from + 3) &^ 3
			for c := from; c+4 <= to && c >= from; c += 4 {
				w := le32(m.data, c)
				kind := typeAA64(w)
				if kind == 0 {
					continue
				}
				if c-polled > lap {
					polled = c
					if err := ctx.Err(); err != nil {
						return err
					}
				}
				rva, ok := readAA64(kind, w, at.rva(c))
				if !ok {
					continue
				}
				if target, ok := find.offset(rva); ok && m.inCode(target) {
					if most--; most < 0 {
						return errMany
					}
					out[kind] = append(out[kind], Ref{c, target})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inCode reports whether an offset is in a code section.
func (m *Image) inCode(at uint32) bool {
	i, found := slices.BinarySearchFunc(m.code, at, func(s section, at uint32) int { return cmp.Compare(s.at, at) })
	if !found {
		i--
	}
	return i >= 0 && at-m.code[i].at < m.code[i].size
}

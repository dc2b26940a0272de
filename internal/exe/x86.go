package exe

import "context"

// What may begin with a byte in x86 code, as far as it is looked for.
const (
	opNone   = iota
	opCall   // E8, E9: call, jmp
	opJcc    // 0F 80 to 8F
	opMem    // 89, 8B, 8D: mov and lea of what is at a distance from the next instruction, x86-64 only
	opGlobal // FF 15, FF 25: call and jmp to what is there, x86-64 only
)

var (
	ops32 = [256]uint8{0xe8: opCall, 0xe9: opCall, 0x0f: opJcc}
	ops64 = [256]uint8{0xe8: opCall, 0xe9: opCall, 0x0f: opJcc, 0x89: opMem, 0x8b: opMem, 0x8d: opMem, 0xff: opGlobal}
)

// lap is how many bytes are scanned between two looks at the context.
const lap = 1 << 20

// branchesX86 finds distances of 32 bits to the end of the instruction, which they end as far as can be seen. Instructions
// are not decoded, so many are found where there is none.
func (m *Image) branchesX86(ctx context.Context, out [][]Ref, most int) error {
	ops := &ops32
	if m.kind == PE64 || m.kind == ELFX64 {
		ops = &ops64
	}
	refs := out[typeBranch]
	find := m.t.finder()
	b := m.data
	polled := uint32(0)
	for _, s := range m.code {
		err := m.gaps(out[typePointer], s.at, s.at+s.size, func(from, to uint32) error {
			for c := from; c+5 <= to; {
				op := ops[b[c]]
				if op == opNone {
					c++
					continue
				}
				if c-polled > lap {
					polled = c
					if err := ctx.Err(); err != nil {
						return err
					}
				}
				at := c + 1
				if op != opCall {
					at = c + 2
					if c+6 > to {
						c++
						continue
					}
					next := b[c+1]
					if op == opJcc && next&0xf0 != 0x80 || op == opMem && next&0xc7 != 0x05 || op == opGlobal && next != 0x15 && next != 0x25 {
						c++
						continue
					}
				}
				rva := find.rva(at) + 4 + le32(b, at)
				if op <= opJcc && rva-s.rva >= s.length {
					c++
					continue
				}
				target, ok := find.offset(rva)
				if !ok {
					c++
					continue
				}
				if most--; most < 0 {
					return errMany
				}
				refs = append(refs, Ref{at, target})
				c = at + 4
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	out[typeBranch] = refs
	return nil
}

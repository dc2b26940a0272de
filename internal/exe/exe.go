// Package exe finds the references in executables that Zucchini patches are about: relocations, pointers, and
// the distances in calls and jumps, with the place in the file that each leads to.
//
// What a patch means depends on what its applier finds in the old file, so this package finds exactly what
// the applier in Mozilla's updater finds (Zucchini 2.0 as of August 2023, which is in every updater that knows
// the format), with its blind spots: it does not decode instructions, takes bytes for calls that are none, and
// does not read ELF's packed relative relocations (RELR). A file that it would not take for an executable, such
// as every program with a section .relro_padding, is none here either.
//
//	file offset ──┐  sections say which parts of the file    ┌── address when loaded (RVA)
//	              ▼  stand where in memory                   ▼
//	   ┌─────────────┬──────────────────┬──────────┐   pointers and distances are about addresses,
//	   │ headers     │ .text            │ .data    │   references about file offsets; memory that is not
//	   └─────────────┴──────────────────┴──────────┘   in the file (.bss) has "fake" offsets behind its end
//
// Known are PE for x86 and x86-64 and ELF for x86, x86-64, ARM and AArch64. PE for ARM64 counts as PE for
// x86-64: the machine field is not looked at.
package exe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Kind is a sort of executable.
type Kind uint8

// The kinds, in the order in which they are looked for.
const (
	PE32    Kind = iota // Windows, x86
	PE64                // Windows, x86-64 and all that has the same headers
	ELF386              // x86
	ELFX64              // x86-64
	ELFARM              // 32-bit ARM
	ELFAA64             // AArch64
	kinds
)

// String returns the four characters that name the kind in a patch.
func (k Kind) String() string {
	if k < kinds {
		return [kinds]string{"Px86", "Px64", "Ex86", "Ex64", "EA32", "EA64"}[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// KindOf returns the kind that a patch calls so.
func KindOf(name string) (Kind, bool) {
	for k := range kinds {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

// Bound is what offsets and addresses are below.
const Bound = 0x7FFFFFFF

// invalid is the address of what has none. It takes part in arithmetic as any number, as it does in the updater.
const invalid = 0xFFFFFFFE

// ErrNot means that the data is not an executable of the kind, or not one that the updater's applier takes.
var ErrNot = errors.New("not such an executable")

// ErrTooMuch means that the sections name the same bytes so often that reading them would take more time than is
// reasonable for a file of this size, or that there are more references than are wanted.
var ErrTooMuch = errors.New("sections overlap too much, or there are too many references")

var errMany = fmt.Errorf("%w: too many references", ErrTooMuch)

func not(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNot, fmt.Sprintf(format, args...))
}

// Group is one type of references.
type Group struct {
	Type  uint8 // its number in the format
	Pool  uint8 // of types that share their targets
	Width uint8 // bytes of a reference
}

// Ref is a reference: where it is and where it leads to, both as offsets in the file. Target may be a fake offset.
type Ref struct{ At, Target uint32 }

// section is a part of the file that holds code.
type section struct {
	at, size    uint32 // in the file
	rva, length uint32 // in memory
}

// Image is an executable in memory. It is safe for concurrent use as long as nobody writes to its data.
type Image struct {
	kind   Kind
	data   []byte // exactly the executable
	width  uint32 // of a pointer
	base   uint64 // address that pointers count from
	t      translator
	code   []section
	relocs []table
	blocks []block
	groups []Group
	common bool
	fixed  []span // what was read to find all this, but for the headers of blocks
}

// span is a part of the file.
type span struct{ from, to uint32 }

// table is a relocation table of an ELF file.
type table struct{ at, size, entry uint32 }

// block is a block of a PE file's relocations.
type block struct{ at, page, end uint32 }

// Parse reads the headers of an executable that starts at the first byte of data, which may be longer. The Image keeps
// data. Errors match [ErrNot]. Parse takes time in proportion to the number of sections, and at most their square root
// times more for sorting.
func Parse(k Kind, data []byte) (*Image, error) {
	if len(data) > math.MaxInt32 {
		return nil, not("%d bytes", len(data))
	}
	m := &Image{kind: k, data: data, width: 4}
	var err error
	switch k {
	case PE32, PE64:
		if k == PE64 {
			m.width = 8
		}
		err = m.parsePE()
	case ELF386, ELFX64, ELFARM, ELFAA64:
		if k == ELFX64 || k == ELFAA64 {
			m.width = 8
		}
		err = m.parseELF()
	default:
		return nil, not("%v", k)
	}
	if err != nil {
		return nil, err
	}
	m.groups = groups[k]
	for _, f := range m.fixed {
		for _, s := range m.code {
			m.common = m.common && (s.at >= f.to || s.at+s.size <= f.from)
		}
	}
	return m, nil
}

// Find returns the executable that starts at the first byte of data, or nil. What is one only together with bytes behind
// its end, as programs with debugging information there are, is none: the applier sees the executable alone.
func Find(data []byte) *Image {
	if len(data) < 16 {
		return nil
	}
	var from, to Kind
	switch {
	case data[0] == 'M' && data[1] == 'Z':
		from, to = PE32, PE64
	case string(data[:4]) == elfMagic:
		from, to = ELF386, ELFAA64
	default:
		return nil
	}
	for k := from; k <= to; k++ {
		m, err := Parse(k, data)
		if err == nil && m.Size() < len(data) {
			size := m.Size()
			m, err = Parse(k, data[:size:size])
		}
		if err == nil {
			return m
		}
	}
	return nil
}

// The types of each kind, in the order in which a patch has them.
var groups = [kinds][]Group{
	PE32:    {{0, 0, 2}, {1, 1, 4}, {2, 2, 4}},
	PE64:    {{0, 0, 2}, {1, 1, 8}, {2, 2, 4}},
	ELF386:  {{0, 0, 4}, {1, 1, 4}, {2, 2, 4}},
	ELFX64:  {{0, 0, 8}, {1, 1, 8}, {2, 2, 4}},
	ELFARM:  {{0, 0, 4}, {1, 1, 4}, {2, 2, 4}, {3, 2, 2}, {4, 2, 2}, {5, 2, 4}, {6, 2, 4}},
	ELFAA64: {{0, 0, 8}, {1, 1, 8}, {2, 2, 4}, {3, 2, 4}, {4, 2, 4}},
}

// The types that all kinds have.
const (
	typeReloc   = 0
	typePointer = 1
	typeBranch  = 2 // the first of those in code
)

// Pools is the number of pools, which is the same for all kinds: relocations, pointers, code.
const Pools = 3

// Kind returns the kind that it was parsed as.
func (m *Image) Kind() Kind { return m.kind }

// Size returns the size of the executable, which may be less than that of the data it was found in.
func (m *Image) Size() int { return len(m.data) }

// Groups returns the types of references in order. The caller must not change them.
func (m *Image) Groups() []Group { return m.groups }

// Certain reports whether the updater's applier is certain to see what this package sees. It is not where the
// order in which a sort leaves equal things decides, where the same bytes belong to several sections that are looked at, or
// where the headers themselves are in a section.
func (m *Image) Certain() bool { return m.common }

// References returns the references of each type, by its number, in the order of their places. Where several are at one
// place, or overlap, all are there. When ctx ends its error is returned soon; other errors match [ErrTooMuch], as where there
// are more than most.
func (m *Image) References(ctx context.Context, most int) ([][]Ref, error) {
	if err := m.bounded(); err != nil {
		return nil, err
	}
	out := make([][]Ref, len(m.groups))
	var err error
	if m.kind <= PE64 {
		out[typeReloc] = m.relocsPE()
	} else {
		out[typeReloc], err = m.relocsELF(ctx)
	}
	if err != nil {
		return nil, err
	}
	if out[typePointer], err = m.pointers(ctx, out[typeReloc]); err != nil {
		return nil, err
	}
	if most -= len(out[typeReloc]) + len(out[typePointer]); most < 0 {
		return nil, errMany
	}
	switch m.kind {
	case ELFARM:
		err = m.branchesARM(ctx, out, most)
	case ELFAA64:
		err = m.branchesAA64(ctx, out, most)
	default:
		err = m.branchesX86(ctx, out, most)
	}
	if err != nil {
		return nil, err
	}
	for i, refs := range out {
		sortRefs(refs)
		if cap(refs) > len(refs)+len(refs)/64 {
			out[i] = slices.Clone(refs) // they stay for long
		}
	}
	return out, nil
}

func sortRefs(refs []Ref) {
	if !slices.IsSortedFunc(refs, byPlace) {
		slices.SortFunc(refs, func(a, b Ref) int {
			if a.At != b.At {
				return byPlace(a, b)
			}
			return int(int64(a.Target) - int64(b.Target))
		})
	}
}

func byPlace(a, b Ref) int { return int(int64(a.At) - int64(b.At)) }

// bounded refuses what would have to be read more often than four times.
func (m *Image) bounded() error {
	most := 4*int64(len(m.data)) + 1<<16
	code, relocs := int64(0), int64(0)
	for _, s := range m.code {
		code += int64(s.size)
	}
	for _, r := range m.relocs {
		relocs += int64(r.size)
	}
	if code > most || relocs > most {
		return fmt.Errorf("%w: %d bytes of code and %d of relocations in a file of %d", ErrTooMuch, code, relocs, len(m.data))
	}
	return nil
}

// pointers returns the pointers that the loader corrects: those that relocations lead to.
func (m *Image) pointers(ctx context.Context, relocs []Ref) ([]Ref, error) {
	at := make([]uint32, 0, len(relocs))
	for _, r := range relocs {
		at = append(at, r.Target)
	}
	if !slices.IsSorted(at) {
		slices.Sort(at)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []Ref
	free := uint32(0)
	find := m.t.finder()
	for _, a := range at {
		if int(a)+int(m.width) > len(m.data) {
			continue
		}
		if target, ok := m.pointer(&find, a); ok && a >= free {
			out = append(out, Ref{a, target})
			free = a + m.width
		}
	}
	return out, nil
}

// pointer returns where the pointer at a place leads to. The place must be in the data.
func (m *Image) pointer(find *finder, at uint32) (uint32, bool) {
	var v uint64
	if m.width == 8 {
		v = le64(m.data, at)
	} else {
		v = uint64(le32(m.data, at))
	}
	if v -= m.base; v >= Bound {
		return 0, false
	}
	return find.offset(uint32(v))
}

// gaps calls visit for the parts of the file from begin to end that are between pointers.
func (m *Image) gaps(pointers []Ref, begin, end uint32, visit func(from, to uint32) error) error {
	i, _ := slices.BinarySearchFunc(pointers, begin, func(r Ref, at uint32) int { return int(int64(r.At) - int64(at)) })
	for i = max(0, i-1); i < len(pointers) && pointers[i].At < end; i++ {
		if at := pointers[i].At; at > begin {
			if err := visit(begin, at); err != nil {
				return err
			}
		}
		begin = max(begin, pointers[i].At+m.width)
	}
	if begin < end {
		return visit(begin, end)
	}
	return nil
}

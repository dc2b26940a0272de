// Package exetest makes small executables for tests: programs of functions that call each other, tables of pointers to
// them, and relocations for those. They have the structure of real ones and cannot run.
package exetest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// Program is what an executable is made of.
type Program struct {
	Kind      exe.Kind
	Functions []Function
	Pointers  []int // functions that a table points to, by ID
	Data      []byte
	BSS       uint32 // bytes of memory that are not in the file
	Trailing  []byte // behind the executable
}

// Function is a piece of code. It keeps its ID whatever comes before it.
type Function struct {
	ID    int
	Parts []Part
}

// Part is some code and a call of a function, by ID, behind it.
type Part struct {
	Code []byte // a multiple of four bytes
	Call int
}

// Random returns a program of n functions.
func Random(r *rand.Rand, kind exe.Kind, n int) *Program {
	p := &Program{Kind: kind, BSS: uint32(r.IntN(5000)), Data: randomBytes(r, 4*r.IntN(200))}
	for id := range n {
		p.Functions = append(p.Functions, randomFunction(r, kind, id, n))
		if r.IntN(3) == 0 {
			p.Pointers = append(p.Pointers, id)
		}
	}
	return p
}

func randomFunction(r *rand.Rand, kind exe.Kind, id, n int) Function {
	f := Function{ID: id}
	for range 1 + r.IntN(6) {
		f.Parts = append(f.Parts, Part{randomCode(r, kind), r.IntN(n)})
	}
	return f
}

func randomCode(r *rand.Rand, kind exe.Kind) []byte {
	code := randomBytes(r, 4*(1+r.IntN(12)))
	if kind == exe.ELFARM {
		for i := 3; i < len(code); i += 4 {
			code[i] = code[i]&0xf | 0xe0 // executed always, or the section would be taken for Thumb
		}
	}
	return code
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Change returns the program's next version: some functions are new, gone, or different.
func (p *Program) Change(r *rand.Rand, changes int) *Program {
	q := *p
	q.Functions, q.Pointers, q.Data = slices.Clone(p.Functions), slices.Clone(p.Pointers), slices.Clone(p.Data)
	next := 0
	for _, f := range q.Functions {
		next = max(next, f.ID+1)
	}
	for range changes {
		i := r.IntN(len(q.Functions))
		switch r.IntN(5) {
		case 0:
			f := randomFunction(r, p.Kind, next, next)
			next++
			q.Functions = slices.Insert(q.Functions, i, f)
			q.Pointers = append(q.Pointers, f.ID)
		case 1:
			if len(q.Functions) > 2 {
				q.Functions = slices.Delete(q.Functions, i, i+1)
			}
		case 2:
			f := q.Functions[i]
			f.Parts = slices.Clone(f.Parts)
			k := r.IntN(len(f.Parts))
			f.Parts[k] = Part{randomCode(r, p.Kind), f.Parts[k].Call}
			q.Functions[i] = f
		case 3:
			f := q.Functions[i]
			f.Parts = slices.Clone(f.Parts)
			f.Parts[r.IntN(len(f.Parts))].Call = r.IntN(next)
			q.Functions[i] = f
		case 4:
			k := r.IntN(len(q.Functions))
			q.Functions[i], q.Functions[k] = q.Functions[k], q.Functions[i]
		}
	}
	return &q
}

// layout is where things are.
type layout struct {
	textAt, textRVA uint32
	dataAt, dataRVA uint32
	places          map[int]uint32 // of functions in the code
	text, data      []byte
	pointers        []uint32 // addresses of pointers
}

// wide reports whether pointers have 8 bytes.
func wide(k exe.Kind) bool { return k == exe.PE64 || k == exe.ELFX64 || k == exe.ELFAA64 }

// lay places code and data, with pointers that count from base.
func (p *Program) lay(textAt, textRVA uint32, base uint64, inPlace bool) *layout {
	l := &layout{textAt: textAt, textRVA: textRVA, places: make(map[int]uint32)}
	at := uint32(0)
	for _, f := range p.Functions {
		l.places[f.ID] = at
		for _, part := range f.Parts {
			at += uint32(len(part.Code)) + callSize(p.Kind)
		}
	}
	for _, f := range p.Functions {
		for _, part := range f.Parts {
			l.text = append(l.text, part.Code...)
			to, ok := l.places[part.Call]
			if !ok {
				to = 0
			}
			l.text = appendCall(l.text, p.Kind, to-uint32(len(l.text)))
		}
	}
	l.dataAt = (textAt + uint32(len(l.text)) + 15) &^ 15
	l.dataRVA = textRVA + (uint32(len(l.text))+0xfff)&^0xfff + 0x3000
	for _, id := range p.Pointers {
		to, ok := l.places[id]
		if !ok {
			continue
		}
		l.pointers = append(l.pointers, l.dataRVA+uint32(len(l.data)))
		value := base + uint64(textRVA) + uint64(to)
		if !inPlace {
			value = 0
		}
		if wide(p.Kind) {
			l.data = binary.LittleEndian.AppendUint64(l.data, value)
		} else {
			l.data = binary.LittleEndian.AppendUint32(l.data, uint32(value))
		}
	}
	l.data = append(l.data, p.Data...)
	return l
}

func callSize(k exe.Kind) uint32 {
	if k == exe.ELFAA64 || k == exe.ELFARM {
		return 4
	}
	return 8
}

// appendCall appends a call over a distance from where it begins.
func appendCall(b []byte, k exe.Kind, distance uint32) []byte {
	switch k {
	case exe.ELFAA64:
		return binary.LittleEndian.AppendUint32(b, 0x94000000|distance>>2&0x3ffffff)
	case exe.ELFARM:
		return binary.LittleEndian.AppendUint32(b, 0xeb000000|(distance-8)>>2&0xffffff)
	}
	return append(binary.LittleEndian.AppendUint32(append(b, 0xe8), distance-5), 0x90, 0x90, 0x90)
}

// Bytes returns the executable.
func (p *Program) Bytes() []byte {
	if p.Kind <= exe.PE64 {
		return p.pe()
	}
	return p.elf()
}

func (p *Program) elf() []byte {
	le := binary.LittleEndian
	header, sectionSize, entry := 52, 40, 8
	if wide(p.Kind) {
		header, sectionSize, entry = 64, 64, 24
	}
	l := p.lay(0x100, 0x1000, 0, true)
	bss := l.dataRVA + uint32(len(l.data)+0xfff)&^0xfff
	var relocs []byte
	for _, at := range l.pointers {
		switch p.Kind {
		case exe.ELFX64:
			relocs = le.AppendUint64(le.AppendUint64(le.AppendUint64(relocs, uint64(at)), 8), 0)
		case exe.ELFAA64:
			relocs = le.AppendUint64(le.AppendUint64(le.AppendUint64(relocs, uint64(at)), 0x403), 0)
		case exe.ELFARM:
			relocs = le.AppendUint32(le.AppendUint32(relocs, at), 23)
		default:
			relocs = le.AppendUint32(le.AppendUint32(relocs, at), 8)
		}
	}
	relocAt := (l.dataAt + uint32(len(l.data)) + 7) &^ 7
	names := "\x00.text\x00.data\x00.rel\x00.bss\x00.shstrtab\x00"
	namesAt := relocAt + uint32(len(relocs))
	sectionsAt := (namesAt + uint32(len(names)) + 7) &^ 7
	relocKind := uint32(9)
	if entry == 24 {
		relocKind = 4
	}
	type section struct{ name, kind, flags, rva, at, size, entry uint32 }
	sections := []section{
		{},
		{1, 1, 6, l.textRVA, l.textAt, uint32(len(l.text)), 0},
		{7, 1, 3, l.dataRVA, l.dataAt, uint32(len(l.data)), 0},
		{13, relocKind, 2, 0x800, relocAt, uint32(len(relocs)), uint32(entry)},
		{18, 8, 3, bss, sectionsAt, p.BSS, 0},
		{23, 3, 0, 0, namesAt, uint32(len(names)), 0},
	}
	if len(relocs) >= 0x800 {
		sections[3].rva = bss + p.BSS + 0x1000
	}
	b := make([]byte, int(sectionsAt)+len(sections)*sectionSize)
	copy(b, "\x7fELF\x01\x01\x01")
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], map[exe.Kind]uint16{exe.ELF386: 3, exe.ELFX64: 62, exe.ELFARM: 40, exe.ELFAA64: 183}[p.Kind])
	le.PutUint32(b[20:], 1)
	tail := b[header-10:]
	if wide(p.Kind) {
		b[4] = 2
		le.PutUint64(b[40:], uint64(sectionsAt))
	} else {
		le.PutUint32(b[32:], sectionsAt)
	}
	le.PutUint16(tail[4:], uint16(sectionSize))
	le.PutUint16(tail[6:], uint16(len(sections)))
	le.PutUint16(tail[8:], uint16(len(sections)-1))
	for i, s := range sections {
		h := b[int(sectionsAt)+i*sectionSize:]
		le.PutUint32(h, s.name)
		le.PutUint32(h[4:], s.kind)
		if wide(p.Kind) {
			for k, v := range []uint32{s.flags, s.rva, s.at, s.size} {
				le.PutUint64(h[8+8*k:], uint64(v))
			}
			le.PutUint64(h[56:], uint64(s.entry))
		} else {
			for k, v := range []uint32{s.flags, s.rva, s.at, s.size} {
				le.PutUint32(h[8+4*k:], v)
			}
			le.PutUint32(h[36:], s.entry)
		}
	}
	copy(b[l.textAt:], l.text)
	copy(b[l.dataAt:], l.data)
	copy(b[relocAt:], relocs)
	copy(b[namesAt:], names)
	return append(b, p.Trailing...)
}

func (p *Program) pe() []byte {
	le := binary.LittleEndian
	optional, magic, base := 0xe0, uint16(0x10b), uint64(0x400000)
	if wide(p.Kind) {
		optional, magic, base = 0xf0, 0x20b, 0x140000000
	}
	l := p.lay(0x400, 0x1000, base, true)
	kind := uint16(3)
	if wide(p.Kind) {
		kind = 10
	}
	var relocs []byte
	for i := 0; i < len(l.pointers); {
		page := l.pointers[i] &^ 0xfff
		var entries []byte
		for ; i < len(l.pointers) && l.pointers[i]&^0xfff == page; i++ {
			entries = le.AppendUint16(entries, uint16(l.pointers[i]&0xfff)|kind<<12)
		}
		if len(entries)%4 != 0 {
			entries = append(entries, 0, 0)
		}
		relocs = le.AppendUint32(le.AppendUint32(relocs, page), uint32(8+len(entries)))
		relocs = append(relocs, entries...)
	}
	relocAt := (l.dataAt + uint32(len(l.data)) + 15) &^ 15
	dataSize := uint32(len(l.data)) + p.BSS
	relocRVA := l.dataRVA + (dataSize+0xfff)&^0xfff
	b := make([]byte, int(relocAt)+len(relocs))
	copy(b, "MZ")
	le.PutUint32(b[60:], 64)
	copy(b[64:], "PE\x00\x00")
	le.PutUint16(b[64+6:], 3)
	le.PutUint16(b[64+20:], uint16(optional))
	o := b[64+24:]
	le.PutUint16(o, magic)
	if wide(p.Kind) {
		le.PutUint64(o[24:], base)
	} else {
		le.PutUint32(o[28:], uint32(base))
	}
	le.PutUint32(o[56:], relocRVA+uint32(len(relocs))+0x1000)
	le.PutUint32(o[optional-16*8-4:], 16)
	if len(relocs) > 0 {
		le.PutUint32(o[optional-16*8+40:], relocRVA)
		le.PutUint32(o[optional-16*8+44:], uint32(len(relocs)))
	}
	for i, s := range [][5]uint32{
		{uint32(len(l.text)), l.textRVA, uint32(len(l.text)), l.textAt, 0x60000020},
		{dataSize, l.dataRVA, uint32(len(l.data)), l.dataAt, 0xc0000040},
		{uint32(len(relocs)), relocRVA, uint32(len(relocs)), relocAt, 0x42000040},
	} {
		h := o[optional+40*i:]
		for k, v := range s[:4] {
			le.PutUint32(h[8+4*k:], v)
		}
		le.PutUint32(h[36:], s[4])
	}
	copy(b[l.textAt:], l.text)
	copy(b[l.dataAt:], l.data)
	copy(b[relocAt:], relocs)
	return append(b, p.Trailing...)
}

// Kinds are all kinds.
var Kinds = []exe.Kind{exe.PE32, exe.PE64, exe.ELF386, exe.ELFX64, exe.ELFARM, exe.ELFAA64}

// Hostile returns files whose headers lie, by what about. They are not large, but large enough to take long where time is
// not linear.
func Hostile() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := make(map[string][]byte)
	le := binary.LittleEndian
	for _, k := range Kinds {
		out[k.String()+" cut"] = Random(r, k, 50).Bytes()[:700]
	}
	// 65,535 sections of an ELF file.
	many := func(section func(i int, h []byte)) []byte {
		const n = 65535
		b := make([]byte, 64+64*n)
		copy(b, "\x7fELF\x02\x01\x01")
		le.PutUint16(b[16:], 3)
		le.PutUint16(b[18:], 62)
		le.PutUint32(b[20:], 1)
		le.PutUint64(b[40:], 64)
		le.PutUint16(b[58:], 64)
		le.PutUint16(b[60:], n)
		for i := range n {
			section(i, b[64+64*i:][:64])
		}
		return b
	}
	set := func(h []byte, kind uint32, flags, rva, at, size, entry uint64) {
		le.PutUint32(h[4:], kind)
		for i, v := range []uint64{flags, rva, at, size} {
			le.PutUint64(h[8+8*i:], v)
		}
		le.PutUint64(h[56:], entry)
	}
	out["ELF, sections all the same"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 1, 6, 0x1000, 64, 4<<20, 0)
		}
	})
	out["ELF, relocations all the same"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 4, 2, 0x1000, 64, 4<<20, 24)
		}
	})
	out["ELF, a byte each"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 1, 6, 0x1000+2*uint64(i), uint64(i), 1, 0)
		}
	})
	out["ELF, each begins where the one before ends, in the other direction"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 1, 6, 0x100000-uint64(i), uint64(i), 1, 0)
		}
	})
	out["ELF, each one longer"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 1, 6, 0x1000, 64, uint64(i), 0)
		}
	})
	out["ELF, nothing in the file"] = many(func(i int, h []byte) {
		if i > 0 {
			set(h, 8, 3, 0x1000+16*uint64(i), 64, 16, 0)
		}
	})
	// The beginnings of many executables.
	out["MZ everywhere"] = bytes.Repeat([]byte("MZ"), 1<<20)
	pe := Random(r, exe.PE64, 3).Bytes()
	nested := make([]byte, 0, 2<<20)
	for len(nested) < 2<<20 {
		nested = append(nested, pe[:512]...)
	}
	out["PE, headers of many"] = nested
	return out
}

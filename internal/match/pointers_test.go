package match

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// A virtual program has functions, and tables of pointers to them that the loader corrects.
type virtual struct {
	file []byte
	// places are the positions of the pointers, whose names say which is which in all programs of a seed.
	places map[int]int
	// entries are the positions of the relocation entries, where there is one for each.
	entries map[int]int
}

const (
	virtualBase = 0x10000
	imageBase   = 0x180000000
)

// tables lays functions and tables of pointers out: functions of 16 to 500 bytes, left out where leave says so, and
// tables of 3 to 20 pointers with two words before them, without the pointers to what is left out.
func tables(seed uint64, functions, pointers int, leave func(function int) bool) (starts []int, words []int64, names []int) {
	r := rand.New(rand.NewPCG(seed, 4))
	at := 0
	where := make([]int, functions)
	for f := range where {
		size := 16 + r.IntN(485)
		where[f] = -1
		if leave == nil || !leave(f) {
			where[f] = at
			starts = append(starts, at)
			at += size
		}
	}
	starts = append(starts, at)
	name := 0
	for name < pointers {
		words, names = append(words, -1, -int64(2+r.IntN(100))), append(names, -1, -1)
		for range 3 + r.IntN(18) {
			if f := where[r.IntN(functions)]; f >= 0 {
				words, names = append(words, int64(f)), append(names, name)
			}
			name++
		}
	}
	return starts, words, names
}

// elfVirtual is an ELF file with relocations of 24 bytes each, or packed ones.
func elfVirtual(seed uint64, functions, pointers int, packed bool, leave func(function int) bool) virtual {
	starts, words, names := tables(seed, functions, pointers, leave)
	const head = 64 + 3*56
	v := virtual{places: map[int]int{}, entries: map[int]int{}}
	le := binary.LittleEndian

	code := starts[len(starts)-1]
	headerAt := head + code
	b := le.AppendUint32(nil, 0x3b031b01)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(len(starts)))
	for i, s := range starts {
		b = le.AppendUint32(b, uint32(head+s-headerAt))
		b = le.AppendUint32(b, uint32(24*i+40))
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	headerLen := len(b)
	wordsAt := (headerAt + headerLen + 7) &^ 7
	b = append(b, make([]byte, wordsAt-headerAt-headerLen)...)
	var places []int
	for i, w := range words {
		if names[i] >= 0 {
			v.places[wordsAt+8*i] = names[i]
			places = append(places, wordsAt+8*i)
			w += virtualBase + head
		}
		b = le.AppendUint64(b, uint64(w))
	}
	tableAt := headerAt + len(b)
	tags := []uint64{uint64(elf.DT_RELA), virtualBase + uint64(tableAt), uint64(elf.DT_RELASZ), uint64(24 * len(places))} //nolint:misspell // the tag's name
	if packed {
		size := 0
		for i := 0; i < len(places); {
			b, size = le.AppendUint64(b, virtualBase+uint64(places[i])), size+8
			base := places[i] + 8
			for i++; i < len(places) && places[i] < base+63*8; base += 63 * 8 {
				bits := uint64(1)
				for ; i < len(places) && places[i] < base+63*8; i++ {
					bits |= 2 << ((places[i] - base) / 8)
				}
				b, size = le.AppendUint64(b, bits), size+8
			}
		}
		tags = []uint64{uint64(dtRELR), virtualBase + uint64(tableAt), uint64(dtRELRSize), uint64(size)}
	} else {
		for k, p := range places {
			v.entries[tableAt+24*k] = v.places[p]
			b = le.AppendUint64(b, virtualBase+uint64(p))
			b = le.AppendUint64(b, uint64(elf.R_X86_64_RELATIVE))
			b = le.AppendUint64(b, uint64(words[(p-wordsAt)/8]+virtualBase+head))
		}
	}
	dynamicAt := headerAt + len(b)
	for _, t := range append(tags, 0, 0) {
		b = le.AppendUint64(b, t)
	}
	var out bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 3, Shentsize: 64,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	for _, part := range []any{
		h,
		elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: virtualBase, Filesz: uint64(headerAt + len(b))},
		elf.Prog64{Type: uint32(elf.PT_GNU_EH_FRAME), Off: uint64(headerAt), Vaddr: virtualBase + uint64(headerAt), Filesz: uint64(headerLen)},
		elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: uint64(dynamicAt), Vaddr: virtualBase + uint64(dynamicAt), Filesz: uint64(len(b) - dynamicAt + headerAt)},
		make([]byte, code), b,
	} {
		if err := binary.Write(&out, le, part); err != nil {
			panic(err)
		}
	}
	v.file = out.Bytes()
	return v
}

// peVirtual is a PE file for x86-64 with base relocations.
func peVirtual(seed uint64, functions, pointers int, leave func(function int) bool) virtual {
	starts, words, names := tables(seed, functions, pointers, leave)
	const at, rva = 0x400, 0x1000 // one section has everything
	v := virtual{places: map[int]int{}}
	le := binary.LittleEndian
	b := make([]byte, (starts[len(starts)-1]+7)&^7)
	var blocks []byte
	page, begun := uint32(0), -1
	for i, w := range words {
		if names[i] >= 0 {
			v.places[at+len(b)] = names[i]
			place := uint32(rva + len(b))
			if begun < 0 || place>>12 != page>>12 {
				page, begun = place&^0xfff, len(blocks)
				blocks = le.AppendUint32(blocks, page)
				blocks = le.AppendUint32(blocks, pageBlock)
			}
			blocks = le.AppendUint16(blocks, fixupDIR64<<12|uint16(place&0xfff))
			le.PutUint32(blocks[begun+4:], uint32(len(blocks)-begun))
			w += imageBase + rva
		}
		_ = i
		b = le.AppendUint64(b, uint64(w))
	}
	pdata := len(b)
	for i, s := range starts[:len(starts)-1] {
		b = le.AppendUint32(b, uint32(rva+s))
		b = le.AppendUint32(b, uint32(rva+starts[i+1]))
		b = le.AppendUint32(b, uint32(rva+s+77))
	}
	reloc := len(b)
	b = append(b, blocks...)
	var out bytes.Buffer
	dos := make([]byte, 96)
	copy(dos, "MZ")
	dos[0x3c] = 96
	o := pe.OptionalHeader64{Magic: 0x20b, NumberOfRvaAndSizes: 16, ImageBase: imageBase}
	o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXCEPTION] = pe.DataDirectory{VirtualAddress: uint32(rva + pdata), Size: uint32(reloc - pdata)}
	o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_BASERELOC] = pe.DataDirectory{VirtualAddress: uint32(rva + reloc), Size: uint32(len(blocks))}
	section := pe.SectionHeader32{VirtualSize: uint32(len(b)), VirtualAddress: rva, SizeOfRawData: uint32(len(b)), PointerToRawData: at}
	for _, part := range []any{
		dos,
		[]byte("PE\x00\x00"),
		pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: 240},
		o, section,
	} {
		if err := binary.Write(&out, le, part); err != nil {
			panic(err)
		}
	}
	v.file = append(append(out.Bytes(), make([]byte, at-out.Len())...), b...)
	return v
}

// misplaced counts the pointers of new, of those that old has as well, that steps do not make from their own ones.
func misplaced(old, new map[int]int, steps []Triple) int {
	was := make(map[int]int, len(old))
	for at, name := range old {
		was[name] = at
	}
	from := make(map[int]int)
	at, pos := 0, 0
	for _, s := range steps {
		for k := range int(s.Add) {
			if _, ok := new[at+k]; ok {
				from[at+k] = pos + k
			}
		}
		at += int(s.Add + s.Copy)
		pos += int(s.Add + s.Seek)
	}
	wrong := 0
	for at, name := range new {
		if old, ok := was[name]; ok {
			if got, ok := from[at]; !ok || got != old {
				wrong++
			}
		}
	}
	return wrong
}

func TestPointers(t *testing.T) {
	t.Parallel()
	leave := func(f int) bool { return f%97 == 20 }
	functions, pointers := 4000, 6000
	if testkit.Race {
		functions, pointers = functions/4, pointers/4
	}
	tests := []struct {
		name     string
		old, new virtual
	}{
		{"plain", elfVirtual(1, functions, pointers, false, nil), elfVirtual(1, functions, pointers, false, leave)},
		{"packed", elfVirtual(2, functions, pointers, true, nil), elfVirtual(2, functions, pointers, true, leave)},
		{"PE", peVirtual(3, functions, pointers, nil), peVirtual(3, functions, pointers, leave)},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := findTable(c.new.file)
			if found == nil || len(found.fixups) != 1 || len(found.fixups[0].places) != len(c.new.places) {
				t.Fatalf("the %d pointers were not found", len(c.new.places))
			}
			for i, p := range found.fixups[0].places {
				if _, ok := c.new.places[int(p.at)]; !ok {
					t.Fatalf("place %d is at %d, where no pointer is", i, p.at)
				}
			}
			steps := mustMatch(t, c.old.file, c.new.file, Options{})
			if got, most := misplaced(c.old.places, c.new.places, steps), len(c.new.places)/100; got > most {
				t.Errorf("pointers not made from their own: got %d of %d, want at most %d", got, len(c.new.places), most)
			}
			if got, most := misplaced(c.old.entries, c.new.entries, steps), len(c.new.entries)/100; got > most {
				t.Errorf("relocations not made from their own: got %d of %d, want at most %d", got, len(c.new.entries), most)
			}
			segments, err := search(t.Context(), c.old.file, Whole(c.new.file), &scratch{}, Options{}, unknown)
			if err != nil {
				t.Fatal(err)
			}
			got := misplaced(c.old.places, c.new.places, steps)
			if plain := misplaced(c.old.places, c.new.places, makeSteps(segments, len(c.new.file))); 5*got > plain {
				t.Errorf("pointers not made from their own: got %d, want less than a fifth of the %d without the structure", got, plain)
			}
		})
	}
}

// Places that point to something else belong together where they are corrected alike and as far from the one before.
func TestExtended(t *testing.T) {
	t.Parallel()
	at := func(gaps ...uint32) (list []fixup) {
		for _, g := range gaps {
			list = append(list, fixup{kind: relative, gap: g})
		}
		return list
	}
	old, changed := at(8, 8, 16, 8, 8, 24, 8, 8), at(8, 8, 16, 8, 8, 40, 24, 8, 8)
	other := at(8, 8, 16, 8, 8, 24, 8, 8)
	other[3].kind = 7
	for _, tt := range []struct {
		name     string
		old, new []fixup
		runs     []pairing
		want     []pairing
	}{
		{"between two of one shift", old, old, []pairing{{1, 2, 0}, {6, 8, 0}}, []pairing{{0, 6, 0}, {6, 8, 0}}},
		{"up to what was added", old, changed, []pairing{{0, 3, 0}, {7, 9, -1}}, []pairing{{0, 5, 0}, {6, 9, -1}}},
		{"up to the ends", old, old, []pairing{{3, 5, 0}}, []pairing{{0, 8, 0}}},
		{"not to what is corrected in another way", old, other, []pairing{{1, 2, 0}}, []pairing{{0, 3, 0}}},
		{"not out of the files", old, old, []pairing{{0, 2, 6}}, []pairing{{0, 2, 6}}},
		{"nothing", old, old, nil, nil},
	} {
		if got := extended(slices.Clone(tt.runs), tt.old, tt.new); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestPointersThatLie changes every byte of the headers and tables: what is proposed stays within both files.
func TestPointersThatLie(t *testing.T) {
	t.Parallel()
	for name, file := range map[string][]byte{
		"plain":  elfVirtual(1, 5, 12, false, nil).file,
		"packed": elfVirtual(1, 5, 12, true, nil).file,
		"PE":     peVirtual(1, 3, 6, nil).file,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			look := func(old, new []byte) {
				a, b := findTable(old), findTable(new)
				if a == nil || b == nil {
					return
				}
				all := []pairing{{0, min(len(a.keys), len(b.keys)), 0}}
				list, err := pointers(t.Context(), old, new, a, b, all, 1)
				if err != nil {
					t.Fatal(err)
				}
				end := 0
				for _, s := range tidy(list, len(old), len(new)) {
					if s.from < end || s.to > len(new) || s.from >= s.to || s.from+int(s.offset) < 0 || s.to+int(s.offset) > len(old) {
						t.Fatalf("stretch [%d, %d) with offset %d, files of %d and %d bytes", s.from, s.to, s.offset, len(old), len(new))
					}
					end = s.to
				}
			}
			step := testkit.Count(23, 7, 1)
			if testkit.Race {
				step *= 5
			}
			for i := 0; i < len(file); i += step {
				for _, x := range []byte{0xff, 0x01, 0x80} {
					lie := bytes.Clone(file)
					lie[i] ^= x
					look(file, lie)
					look(lie, file)
				}
				look(file[:i], file)
				look(file, file[:i])
				if i%(20*step) == 0 {
					lie := bytes.Clone(file)
					lie[i] ^= 0x80
					mustMatch(t, file, lie, Options{Workers: 1})
				}
			}
		})
	}
}

// TestPointersCost has programs that would make finding addresses slow: many segments, and tables that name places
// which are not there.
func TestPointersCost(t *testing.T) {
	t.Parallel()
	many := elfVirtual(1, 5, 12, false, nil).file
	headers := bytes.Repeat(many[64:64+56], maxParts+1)
	binary.LittleEndian.PutUint64(many[32:], uint64(len(many)))
	binary.LittleEndian.PutUint16(many[56:], uint16(maxParts+1+2))
	if many = append(append(many, headers...), many[64+56:64+3*56]...); findTable(many) != nil {
		t.Errorf("a program with %d segments to load has a table", maxParts+1)
	}

	v := elfVirtual(1, 50, 40, true, nil)
	file := append(v.file, bytes.Repeat([]byte{0xff}, 1<<20)...)
	parts := []part{{virtualBase, 0, uint64(len(v.file))}}
	table := binary.LittleEndian.AppendUint64(nil, 1<<40) // beyond the file, and a million bits that go on from there
	table = append(table, file[len(v.file):]...)
	good := binary.LittleEndian.AppendUint64(nil, virtualBase+8)
	if x := relrFixups(file, append(table, good...), parts); len(x.places) != 0 {
		t.Errorf("%d places found after a million that are not in the file, want the search to end before", len(x.places))
	}
	if x := relrFixups(file, good, parts); len(x.places) != 1 {
		t.Errorf("%d places found, want the one that is there", len(x.places))
	}
}

package match

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// elfProgram is an ELF file of program's code with a function table, so that its size is about 1.2 n.
func elfProgram(seed uint64, n int, leave func(function int) bool) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	var starts []int
	var code []byte
	for f := 0; len(code) < n; f++ {
		function := random(seed*1000+uint64(f), 16+r.IntN(150))
		if leave != nil && leave(f) {
			continue
		}
		starts = append(starts, len(code))
		code = append(code, function...)
	}
	const base = 0x1000
	head := 64 + 2*56
	codeAt := head
	tableAt := codeAt + len(code)
	b := binary.LittleEndian.AppendUint32(nil, 0x3b031b01)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(starts)))
	for i, s := range starts {
		b = binary.LittleEndian.AppendUint32(b, uint32(codeAt+s-tableAt))
		b = binary.LittleEndian.AppendUint32(b, uint32(24*i+40))
	}
	var out bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	for _, part := range []any{
		h,
		elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 0, Vaddr: base, Filesz: uint64(tableAt + len(b))},
		elf.Prog64{Type: uint32(elf.PT_GNU_EH_FRAME), Off: uint64(tableAt), Vaddr: base + uint64(tableAt), Filesz: uint64(len(b))},
		code, b,
	} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

// peProgram is a PE file for machine with an exception directory of n functions.
func peProgram(seed uint64, n int, machine uint16, leave func(function int) bool) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	const base, at = 0x1000, 0x400
	var b []byte
	address := uint32(base + at)
	for f := range n {
		size := 16 + r.Uint32N(500)
		if leave != nil && leave(f) {
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, address)
		address += size
		if machine != pe.IMAGE_FILE_MACHINE_ARM64 {
			b = binary.LittleEndian.AppendUint32(b, address)
		}
		b = binary.LittleEndian.AppendUint32(b, address+77)
	}
	var out bytes.Buffer
	dos := make([]byte, 96)
	copy(dos, "MZ")
	dos[0x3c] = 96
	o := pe.OptionalHeader64{Magic: 0x20b, NumberOfRvaAndSizes: 16}
	o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXCEPTION] = pe.DataDirectory{VirtualAddress: base, Size: uint32(len(b))}
	section := pe.SectionHeader32{VirtualSize: uint32(len(b)), VirtualAddress: base, SizeOfRawData: uint32(len(b)), PointerToRawData: at}
	copy(section.Name[:], ".pdata")
	for _, part := range []any{
		dos,
		[]byte("PE\x00\x00"),
		pe.FileHeader{Machine: machine, NumberOfSections: 1, SizeOfOptionalHeader: 240},
		o, section,
	} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return append(append(out.Bytes(), make([]byte, at-out.Len())...), b...)
}

// repeats counts the bytes of the new file from position from on whose difference is not the one of
// the entry before.
func repeats(old, new []byte, steps []Triple, from, stride int) int {
	diffs := make([]int, len(new))
	at, pos := 0, 0
	for _, s := range steps {
		for k := range int(s.Add) {
			diffs[at+k] = int(new[at+k] - old[pos+k])
		}
		at += int(s.Add)
		for k := range int(s.Copy) {
			diffs[at+k] = 256 + at + k
		}
		at += int(s.Copy)
		pos += int(s.Add + s.Seek)
	}
	n := 0
	for i := from + stride; i < len(new); i++ {
		if diffs[i] != diffs[i-stride] {
			n++
		}
	}
	return n
}

func TestTables(t *testing.T) {
	t.Parallel()
	leave := func(f int) bool { return f%53 == 20 }
	tests := []struct {
		name     string
		old, new []byte
		stride   int
	}{
		{"ELF", elfProgram(1, 400_000, nil), elfProgram(1, 400_000, leave), 8},
		{"PE x86-64", peProgram(1, 5000, pe.IMAGE_FILE_MACHINE_AMD64, nil), peProgram(1, 5000, pe.IMAGE_FILE_MACHINE_AMD64, leave), 12},
		{"PE ARM64", peProgram(1, 5000, pe.IMAGE_FILE_MACHINE_ARM64, nil), peProgram(1, 5000, pe.IMAGE_FILE_MACHINE_ARM64, leave), 8},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			table := findTable(c.new)
			if table == nil || table.stride != c.stride || len(table.keys) < 4000 {
				t.Fatalf("found no table of entries of %d bytes", c.stride)
			}
			steps := mustMatch(t, c.old, c.new, Options{})
			// A function left out changes the difference of all bytes of the entry after it, carries
			// from one byte to the next change some more.
			most := len(table.keys) * c.stride / 8
			got := repeats(c.old, c.new, steps, table.at, c.stride)
			if got > most {
				t.Errorf("differences that change in a table of %d entries: got %d, want at most %d", len(table.keys), got, most)
			}
			segments, err := search(t.Context(), c.old, Whole(c.new), &scratch{}, Options{}, unknown)
			if err != nil {
				t.Fatal(err)
			}
			if plain := repeats(c.old, c.new, makeSteps(segments, len(c.new)), table.at, c.stride); got >= plain {
				t.Errorf("differences that change: got %d, want less than the %d without the structure", got, plain)
			}
		})
	}
}

// TestTablesThatLie changes every byte of the headers, and of a table's first entries, and cuts the file everywhere.
func TestTablesThatLie(t *testing.T) {
	t.Parallel()
	for name, file := range map[string][]byte{
		"ELF": elfProgram(1, 200, nil),
		"PE":  peProgram(1, 10, pe.IMAGE_FILE_MACHINE_AMD64, nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			honest := findTable(file)
			if honest == nil {
				t.Fatal("found no table")
			}
			found, both := 0, testkit.Count(1, 2, 2) == 2
			try := func(lie []byte) {
				table := findTable(lie)
				if table == nil || reflect.DeepEqual(table, honest) {
					return // bytes as any others
				}
				found++
				if testkit.Race && found%5 != 0 {
					return // all of this is the work of one goroutine
				}
				if both || found%2 == 0 {
					mustMatch(t, file, lie, Options{Workers: 1})
				}
				if both || found%2 == 1 {
					mustMatch(t, lie, file, Options{Workers: 1})
				}
			}
			for i := range file {
				for _, x := range []byte{0xff, 0x01} {
					lie := bytes.Clone(file)
					lie[i] ^= x
					try(lie)
				}
				try(file[:i])
			}
			t.Logf("%d lies about a table", found)
			if found < 40 {
				t.Errorf("only %d lies are believed: this test shows nothing", found)
			}
		})
	}
}

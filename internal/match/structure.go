package match

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"slices"
)

// A table lists the functions of a program in order of their addresses: an ELF file's .eh_frame_hdr,
// a PE file's .pdata. When functions are added and removed every entry changes, and almost no bytes
// of old and new entries agree; but most functions keep their size. Sizes tell which entries belong
// together. Entry beside entry, differences are the same over long stretches. The functions themselves
// and what describes them belong together in the same way.
//
// A file that lies about its structure gets useless anchors, nothing worse: the parse prices them as
// any others.
type table struct {
	at, stride int     // position in the file and size of an entry
	keys       []int64 // of the entries: the same for an entry of the old and of the new file that belong together
	// refs are positions in the file that an entry refers to, so many for each entry; -1 for none.
	refs  []int32
	width int // refs per entry

	parts  []part
	starts []uint64 // addresses of the functions, where that is known
	fixups []fixups
}

// stretch is a part of the new file whose alignment is not left to the parse.
type stretch struct {
	from, to int
	offset   int32
}

// moved returns the stretch where positions in the new file count from base.
func (s stretch) moved(base int) stretch {
	return stretch{s.from - base, s.to - base, s.offset + int32(base)}
}

// maxEntries bounds the memory that a table may ask for, maxParts the time that finding an address takes: loaders
// take at most 96 sections of a PE file, and ELF files have about four segments to load. A file with more is taken as
// bytes.
const (
	maxEntries = 1 << 23
	maxParts   = 128
)

// Structure is what is known of the ways through a new file from what the old and the new one are.
type Structure struct {
	fixed   []stretch // with a fixed alignment, sorted by position
	anchors []anchor  // sorted by position
}

// NewStructure returns what two files are known to have in common. It is the same for any number of workers, and may be
// nil.
func NewStructure(ctx context.Context, old, new []byte, workers int) (*Structure, error) {
	a, b := findTable(old), findTable(new)
	if a == nil || b == nil || a.stride != b.stride || a.width != b.width {
		return nil, nil
	}
	runs, err := align(ctx, a.keys, b.keys, workers)
	if err != nil {
		return nil, err
	}
	var fixed []stretch
	var out []anchor
	last := make([]int32, a.width)
	for _, r := range runs {
		start, end, shift := r.from, r.to, r.shift
		at := b.at + start*b.stride
		fixed = append(fixed, stretch{at, b.at + end*b.stride, int32(a.at + (start+shift)*a.stride - at)})
		for k := start; k < end; k++ {
			for w := range a.width {
				to, from := b.refs[k*b.width+w], a.refs[(k+shift)*a.width+w]
				if to >= 0 && from >= 0 && from-to != last[w] {
					last[w] = from - to
					out = append(out, anchor{to, from - to})
				}
			}
		}
	}
	more, err := pointers(ctx, old, new, a, b, runs, workers)
	if err != nil {
		return nil, err
	}
	fixed = tidy(append(fixed, more...), len(old), len(new))
	slices.SortStableFunc(out, func(x, y anchor) int { return cmp.Compare(x.at, y.at) })
	return &Structure{fixed, out}, nil
}

// unknown is the structure of what has none.
func unknown(context.Context, int) (*Structure, error) { return nil, nil }

// pairing is a stretch of entries of the new file that belong to entries of the old one: entry k to entry
// k+shift.
type pairing struct{ from, to, shift int }

// align finds the entries that belong together in two lists of keys.
func align(ctx context.Context, old, new []int64, workers int) ([]pairing, error) {
	segments, err := search(ctx, keyBytes(old), Whole(keyBytes(new)), &scratch{}, Options{Workers: workers}, unknown)
	if err != nil {
		return nil, err
	}
	var runs []pairing
	for i, s := range segments {
		end := len(new)
		if i+1 < len(segments) {
			end = int(segments[i+1].start) / keyLen
		}
		if s.offset == literal || s.offset%keyLen != 0 {
			continue
		}
		start, shift := (int(s.start)+keyLen-1)/keyLen, int(s.offset)/keyLen
		if end = min(end, len(old)-shift); start+shift >= 0 && start < end {
			runs = append(runs, pairing{start, end, shift})
		}
	}
	return runs, nil
}

// keyLen is the size of a key in keyBytes.
const keyLen = 4

// keyBytes turns keys into a text whose parts agree where keys do.
func keyBytes(keys []int64) []byte {
	out := make([]byte, 0, keyLen*len(keys))
	for _, k := range keys {
		out = binary.LittleEndian.AppendUint32(out, uint32(uint64(k)*0x9e3779b97f4a7c15>>32))
	}
	return out
}

// findTable returns the function table of a program, or nil.
func findTable(file []byte) (t *table) {
	// The standard library's parsers are written for files that may be broken, but say that they do
	// not promise it.
	defer func() {
		if recover() != nil {
			t = nil
		}
	}()
	switch {
	case bytes.HasPrefix(file, []byte(elf.ELFMAG)):
		return elfTable(file)
	case bytes.HasPrefix(file, []byte("MZ")):
		return peTable(file)
	}
	return nil
}

// part is a stretch of memory of a program and where the file has it.
type part struct {
	address, offset, size uint64
}

// locate returns the position in the file of an address, or -1.
func locate(parts []part, address uint64, file []byte) int32 {
	for _, p := range parts {
		if address >= p.address && address-p.address < p.size {
			if at := address - p.address + p.offset; at < uint64(len(file)) {
				return int32(at)
			}
			return -1
		}
	}
	return -1
}

// elfTable finds the binary search table that a PT_GNU_EH_FRAME segment has (Linux Standard Base,
// "Exception Frames"): after four bytes that say how the rest is stored come the place of .eh_frame,
// the number of entries, and for each a function's and its description's distance from the segment.
func elfTable(file []byte) *table {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil || f.ByteOrder != binary.LittleEndian {
		return nil
	}
	var parts []part
	var header *elf.Prog
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			parts = append(parts, part{p.Vaddr, p.Off, p.Filesz})
		case elf.PT_GNU_EH_FRAME:
			header = p
		}
	}
	if len(parts) > maxParts || header == nil || header.Off > uint64(len(file)) || header.Filesz > uint64(len(file))-header.Off || header.Filesz < 12 {
		return nil
	}
	b := file[header.Off : header.Off+header.Filesz]
	// Version 1, the count as 4 bytes, entries as signed 4 bytes relative to the segment.
	if b[0] != 1 || b[2] != 0x03 || b[3] != 0x3b || b[1]&0x0f != 0x0b {
		return nil
	}
	n := int(min(binary.LittleEndian.Uint32(b[8:]), maxEntries, uint32(len(b)-12)/8))
	t := &table{at: int(header.Off) + 12, stride: 8, width: 2, keys: make([]int64, n), refs: make([]int32, 2*n)}
	t.parts, t.starts, t.fixups = parts, make([]uint64, n), elfFixups(f, parts, file)
	for i := range n {
		entry := b[12+8*i:]
		start := int32(binary.LittleEndian.Uint32(entry))
		if i+1 < n {
			t.keys[i] = int64(int32(binary.LittleEndian.Uint32(entry[8:]))) - int64(start)
		}
		t.starts[i] = header.Vaddr + uint64(int64(start))
		about := int32(binary.LittleEndian.Uint32(entry[4:]))
		t.refs[2*i] = locate(parts, header.Vaddr+uint64(int64(start)), file)
		t.refs[2*i+1] = locate(parts, header.Vaddr+uint64(int64(about)), file)
	}
	return t
}

// peTable finds the exception directory of a PE file for x86-64 or ARM64 (Microsoft, "PE Format"):
// entries of a function's start, its end (x86-64 only) and how to unwind it.
func peTable(file []byte) *table {
	f, err := pe.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || h.NumberOfRvaAndSizes <= pe.IMAGE_DIRECTORY_ENTRY_EXCEPTION {
		return nil
	}
	stride := 12
	if f.Machine == pe.IMAGE_FILE_MACHINE_ARM64 {
		stride = 8
	}
	var parts []part
	for _, s := range f.Sections {
		parts = append(parts, part{uint64(s.VirtualAddress), uint64(s.Offset), uint64(min(s.Size, s.VirtualSize))})
	}
	if len(parts) > maxParts {
		return nil
	}
	dir := h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXCEPTION]
	at := locate(parts, uint64(dir.VirtualAddress), file)
	if at < 0 {
		return nil
	}
	n := min(int(min(dir.Size, 1<<30)), len(file)-int(at)) / stride
	n = min(n, maxEntries)
	t := &table{at: int(at), stride: stride, width: 2, keys: make([]int64, n), refs: make([]int32, 2*n)}
	t.parts, t.starts, t.fixups = parts, make([]uint64, n), peFixups(h, parts, file)
	for i := range n {
		entry := file[int(at)+stride*i:]
		start := binary.LittleEndian.Uint32(entry)
		t.starts[i] = uint64(start)
		if stride == 12 {
			t.keys[i] = int64(binary.LittleEndian.Uint32(entry[4:])) - int64(start)
		} else if i+1 < n {
			t.keys[i] = int64(binary.LittleEndian.Uint32(entry[stride:])) - int64(start)
		}
		t.refs[2*i] = locate(parts, uint64(start), file)
		t.refs[2*i+1] = locate(parts, uint64(binary.LittleEndian.Uint32(entry[stride-4:])), file)
	}
	return t
}

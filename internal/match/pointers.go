package match

import (
	"context"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"slices"
	"sort"
)

// fixups are the places of a program that the loader corrects: nearly all hold the address of a function or
// of a constant, in virtual method tables and the like. When functions move every one of them changes, often together
// with an entry of a relocation table. An old and a new place belong together when they point to functions that do, and
// have the same neighbours.
type fixups struct {
	places []fixup
	// table is the position in the file of the entries that say so, where there is one for each place, or -1.
	table, stride int
}

// A fixup is one of them.
type fixup struct {
	at     int32  // where it is in the file, or -1
	kind   uint32 // how it is corrected, relative for the common way
	gap    uint32 // bytes of memory from the place before, modulo 2^32
	target uint64 // where it points to; of other kinds than relative, what else is known
}

const relative = 0

// pointerSize is the size of an address; programs of 32 bits have shorter ones, and are left as they are.
const pointerSize = 8

// Tags of the dynamic section (System V ABI, "Dynamic Section"; "Relative Relocation Table"), and types
// of relocations of the processors' supplements.
const (
	dtRELRSize   = elf.DynTag(35)
	dtRELR       = elf.DynTag(36)
	relaSize     = 24
	relrBits     = 63
	pageBlock    = 8  // the header of a block of a PE file's base relocations
	fixupDIR64   = 10 // IMAGE_REL_BASED_DIR64
	maxFixupGap  = 64 // bytes between two places that are taken along
	bytesAFixup  = 64 // programs have fewer than one for so many bytes; more are left out
	peRelocation = pe.IMAGE_DIRECTORY_ENTRY_BASERELOC
)

// room returns how many places a file may ask memory for. Four times as many are looked at: a table may name places
// that are not in the file.
func room(file []byte) int { return min(maxEntries, len(file)/bytesAFixup) }

// elfFixups finds the relocation tables of a program, the plain one and the packed one of relative relocations.
func elfFixups(f *elf.File, parts []part, file []byte) []fixups {
	if f.Class != elf.ELFCLASS64 {
		return nil
	}
	tags := dynamic(f, file)
	find := func(at, size elf.DynTag) (int, int) {
		pos := locate(parts, tags[at], file)
		if tags[at] == 0 || pos < 0 {
			return 0, 0
		}
		return int(pos), int(min(tags[size], uint64(len(file)-int(pos))))
	}
	relativeType := uint32(elf.R_X86_64_RELATIVE)
	if f.Machine == elf.EM_AARCH64 {
		relativeType = uint32(elf.R_AARCH64_RELATIVE)
	}
	var out []fixups
	if at, size := find(elf.DT_RELA, elf.DT_RELASZ); size > 0 { //nolint:misspell // that is the tag's name
		out = append(out, relaFixups(file, at, min(size/relaSize, room(file)), parts, relativeType))
	}
	if at, size := find(dtRELR, dtRELRSize); size > 0 {
		out = append(out, relrFixups(file, file[at:at+size], parts))
	}
	return out
}

// dynamic returns the dynamic section's numbers by their tags, found by its segment.
func dynamic(f *elf.File, file []byte) map[elf.DynTag]uint64 {
	tags := make(map[elf.DynTag]uint64)
	for _, p := range f.Progs {
		if p.Type != elf.PT_DYNAMIC || p.Off > uint64(len(file)) {
			continue
		}
		for b := file[p.Off:][:min(p.Filesz, uint64(len(file))-p.Off)]; len(b) >= 16 && len(tags) < 256; b = b[16:] {
			tag := elf.DynTag(binary.LittleEndian.Uint64(b))
			if tag == elf.DT_NULL {
				break
			}
			tags[tag] = binary.LittleEndian.Uint64(b[8:])
		}
	}
	return tags
}

// relaFixups reads entries of a place, what to do there, and a number to use for it, usually an address.
func relaFixups(file []byte, at, n int, parts []part, relativeType uint32) fixups {
	x := fixups{places: make([]fixup, n), table: at, stride: relaSize}
	var last uint64
	for i := range x.places {
		e := file[at+relaSize*i:]
		place, kind := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint32(e[8:])
		if kind == relativeType {
			kind = relative
		}
		x.places[i] = fixup{locate(parts, place, file), kind, uint32(place - last), binary.LittleEndian.Uint64(e[16:])}
		last = place
	}
	return x
}

// relrFixups reads a table in which an even number is a place and an odd one has a bit for each of the 63 words that
// follow the last one. What is to be corrected stands at the place itself.
func relrFixups(file, table []byte, parts []part) fixups {
	x := fixups{table: -1}
	most := room(file)
	tried := 0
	var next, last uint64
	add := func(place uint64) {
		if tried++; tried > 4*most {
			return
		}
		at := locate(parts, place, file)
		if at < 0 || len(file)-int(at) < pointerSize || len(x.places) == most {
			return
		}
		x.places = append(x.places, fixup{at, relative, uint32(place - last), binary.LittleEndian.Uint64(file[at:])})
		last = place
	}
	for ; len(table) >= pointerSize && len(x.places) < most && tried <= 4*most; table = table[pointerSize:] {
		e := binary.LittleEndian.Uint64(table)
		if e&1 == 0 {
			add(e)
			next = e + pointerSize
			continue
		}
		for bit := range uint64(relrBits) {
			if e>>(bit+1)&1 != 0 {
				add(next + pointerSize*bit)
			}
		}
		next += relrBits * pointerSize
	}
	return x
}

// peFixups reads the base relocations (Microsoft, "PE Format", The .reloc Section): blocks with the address
// of a page and, in 16 bits each, what to correct there.
func peFixups(h *pe.OptionalHeader64, parts []part, file []byte) []fixups {
	if h.NumberOfRvaAndSizes <= peRelocation {
		return nil
	}
	dir := h.DataDirectory[peRelocation]
	at := locate(parts, uint64(dir.VirtualAddress), file)
	if at < 0 {
		return nil
	}
	x := fixups{table: -1}
	most := room(file)
	tried := 0
	var last uint64
	for table := file[at:][:min(int(dir.Size), len(file)-int(at))]; len(table) >= pageBlock; {
		page, size := uint64(binary.LittleEndian.Uint32(table)), int(binary.LittleEndian.Uint32(table[4:]))
		if size < pageBlock || size > len(table) {
			break
		}
		for e := table[pageBlock:size]; len(e) >= 2 && len(x.places) < most; e = e[2:] {
			if tried++; tried > 4*most {
				return []fixups{x}
			}
			v := binary.LittleEndian.Uint16(e)
			place := page + uint64(v&0xfff)
			at := locate(parts, place, file)
			if v>>12 != fixupDIR64 || at < 0 || len(file)-int(at) < pointerSize {
				continue
			}
			x.places = append(x.places, fixup{at, relative, uint32(place - last), binary.LittleEndian.Uint64(file[at:]) - h.ImageBase})
			last = place
		}
		table = table[size:]
	}
	return []fixups{x}
}

// keys names what each place points to: names[i] is what function i is called in both files.
func (x *fixups) keys(t *table, file []byte, names []int32) []int64 {
	out := make([]int64, len(x.places))
	for k, p := range x.places {
		key := mix(uint64(p.kind), p.target)
		if p.kind == relative {
			if i := t.function(p.target); i >= 0 {
				key = mix(uint64(uint32(names[i])), p.target-t.starts[i])
			} else if at := locate(t.parts, p.target, file); at >= 0 && len(file)-int(at) >= pointerSize {
				// A constant, known by how it begins. Where that is an address in turn it is a new one each time.
				key = mix(1, binary.LittleEndian.Uint64(file[at:]))
			}
		}
		out[k] = mix(uint64(key), uint64(p.gap))
	}
	return out
}

// mix is a hash of two numbers.
func mix(a, b uint64) int64 {
	h := (a*0x9e3779b97f4a7c15 ^ b) * 0xbf58476d1ce4e5b9
	return int64(h ^ h>>29)
}

// function returns the number of the function that an address is in, or -1.
func (t *table) function(address uint64) int {
	i := sort.Search(len(t.starts), func(i int) bool { return t.starts[i] > address }) - 1
	if i < 0 || i == len(t.starts)-1 {
		return -1 // nobody knows where the last one ends
	}
	return i
}

// names returns numbers for the functions of a new file: those of the old functions that they are paired with.
func names(n int, functions []pairing) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(-2 - i)
	}
	for _, r := range functions {
		for k := r.from; k < r.to; k++ {
			out[k] = int32(k + r.shift)
		}
	}
	return out
}

// pointers pairs the places of two programs whose functions are paired, and returns what follows for their alignment.
func pointers(ctx context.Context, old, new []byte, a, b *table, functions []pairing, workers int) ([]stretch, error) {
	if len(a.fixups) != len(b.fixups) {
		return nil, nil
	}
	same := names(len(a.starts), []pairing{{0, len(a.starts), 0}})
	renamed := names(len(b.starts), functions)
	var out []stretch
	for i := range b.fixups {
		x, y := &a.fixups[i], &b.fixups[i]
		runs, err := align(ctx, x.keys(a, old, same), y.keys(b, new, renamed), workers)
		if err != nil {
			return nil, err
		}
		for _, r := range extended(runs, x.places, y.places) {
			if x.table >= 0 && y.table >= 0 {
				at := y.table + r.from*y.stride
				out = append(out, stretch{at, y.table + r.to*y.stride, int32(x.table + (r.from+r.shift)*y.stride - at)})
			}
			out = appendPlaces(out, x.places[r.from+r.shift:r.to+r.shift], y.places[r.from:r.to])
		}
	}
	return out, nil
}

// extended makes runs longer by places that point to something else but are corrected in the same way and have the same
// distance from the one before: what lies between them in memory is of one build.
func extended(runs []pairing, old, new []fixup) []pairing {
	like := func(k, shift int) bool {
		return k+shift >= 0 && k+shift < len(old) && old[k+shift].kind == new[k].kind && old[k+shift].gap == new[k].gap
	}
	for i := range runs {
		r, next := &runs[i], len(new)
		if i+1 < len(runs) {
			next = runs[i+1].from
		}
		for r.to < next && like(r.to, r.shift) {
			r.to++
		}
	}
	before := 0
	for i := range runs {
		r := &runs[i]
		// the first place of a run has a gap of its own
		for r.from > before && like(r.from, r.shift) && like(r.from-1, r.shift) {
			r.from--
		}
		before = r.to
	}
	return runs
}

// appendPlaces appends stretches over places that belong together, those close to each other in one.
func appendPlaces(out []stretch, old, new []fixup) []stretch {
	first := len(out)
	for k, p := range new {
		q := old[k]
		if p.at < 0 || q.at < 0 {
			continue
		}
		at, offset := int(p.at), q.at-p.at
		if n := len(out); n > first {
			if last := &out[n-1]; offset == last.offset && at >= last.from && at <= last.to+maxFixupGap {
				last.to = max(last.to, at+pointerSize)
				continue
			}
		}
		out = append(out, stretch{at, at + pointerSize, offset})
	}
	return out
}

// tidy sorts stretches and leaves out what overlaps with one before, or leaves the files.
func tidy(list []stretch, oldLen, newLen int) []stretch {
	slices.SortStableFunc(list, func(x, y stretch) int { return x.from - y.from })
	out := list[:0]
	end := 0
	for _, s := range list {
		s.from = max(s.from, end)
		if s.from < s.to && s.to <= newLen && s.from+int(s.offset) >= 0 && s.to+int(s.offset) <= oldLen {
			out = append(out, s)
			end = s.to
		}
	}
	return out
}

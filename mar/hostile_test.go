package mar

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// raw describes an archive field by field, so that any of them can lie. It shares nothing with the writer.
type raw struct {
	magic       string
	indexOffset func(int64) int64 // nil: the truth
	total       func(int64) uint64
	layout      Layout
	sigs        []rawSig
	sigCount    *uint32
	sections    []rawSection
	secCount    *uint32
	entries     []rawEntry
	indexSize   func(int64) int64
	indexTail   []byte
	trailing    []byte
	padTo       int64 // size of the file, filled up with zeros
}

type rawSig struct {
	alg  uint32
	size *uint32
	data []byte
}

type rawSection struct {
	size *uint32
	id   uint32
	data []byte
}

type rawEntry struct {
	name   string
	data   []byte
	offset func(at, index int64) int64 // nil: the truth
	size   *uint32
	flags  uint32
	noEnd  bool
}

func u32(v uint32) *uint32 { return &v }

func file(name, data string) rawEntry { return rawEntry{name: name, data: []byte(data), flags: 0o644} }

// product is the body of a product block, padded to size bytes.
func product(channel, version string, size int) rawSection {
	data := []byte(channel + "\x00" + version + "\x00")
	if n := size - len(data); n > 0 {
		data = append(data, make([]byte, n)...)
	}
	return rawSection{id: 1, data: data}
}

// valid is an archive that a strict reader accepts and Lint says nothing about but for its signature's absence.
func valid() *raw {
	return &raw{
		magic:    "MAR1",
		sections: []rawSection{product("release", "1.0", 96)},
		entries:  []rawEntry{file("updatev3.manifest", "type \"partial\"\n"), file("dir/one", "first"), file("two", "second")},
	}
}

func (a *raw) bytes() []byte {
	b := append([]byte(a.magic), 0, 0, 0, 0)
	if a.layout != LayoutOriginal {
		b = append(b, make([]byte, 8)...)
		count := uint32(len(a.sigs))
		if a.sigCount != nil {
			count = *a.sigCount
		}
		b = be.AppendUint32(b, count)
		for _, s := range a.sigs {
			size := uint32(len(s.data))
			if s.size != nil {
				size = *s.size
			}
			b = append(be.AppendUint32(be.AppendUint32(b, s.alg), size), s.data...)
		}
	}
	if a.layout == LayoutSections {
		count := uint32(len(a.sections))
		if a.secCount != nil {
			count = *a.secCount
		}
		b = be.AppendUint32(b, count)
		for _, s := range a.sections {
			size := uint32(len(s.data) + 8)
			if s.size != nil {
				size = *s.size
			}
			b = append(be.AppendUint32(be.AppendUint32(b, size), s.id), s.data...)
		}
	}
	ats := make([]int64, len(a.entries))
	for i, e := range a.entries {
		ats[i] = int64(len(b))
		b = append(b, e.data...)
	}
	indexAt := int64(len(b))
	var index []byte
	for i, e := range a.entries {
		at, size := ats[i], uint32(len(e.data))
		if e.offset != nil {
			at = e.offset(at, indexAt)
		}
		if e.size != nil {
			size = *e.size
		}
		index = be.AppendUint32(be.AppendUint32(be.AppendUint32(index, uint32(at)), size), e.flags)
		index = append(index, e.name...)
		if !e.noEnd {
			index = append(index, 0)
		}
	}
	index = append(index, a.indexTail...)
	n := int64(len(index))
	if a.indexSize != nil {
		n = a.indexSize(n)
	}
	b = append(append(be.AppendUint32(b, uint32(n)), index...), a.trailing...)
	if a.indexOffset != nil {
		indexAt = a.indexOffset(indexAt)
	}
	be.PutUint32(b[4:], uint32(indexAt))
	if a.layout != LayoutOriginal {
		size := max(int64(len(b)), a.padTo)
		total := uint64(size)
		if a.total != nil {
			total = a.total(size)
		}
		be.PutUint64(b[8:], total)
	}
	return b
}

// A hostile file, and what has to be said about it.
type hostile struct {
	class string
	name  string
	data  []byte
	size  int64 // of the file where it is larger than data
	code  Code  // that a strict reader refuses it with, or "" where it must accept it
	lint  Code  // that Lint must report, "" means the same as code
	// extract is what extraction ends with when the reader accepts; "" means that it works
	extract Code
}

// zeroReader is a file of which only the start is not zero.
type zeroReader struct{ head []byte }

func (z zeroReader) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(z.head)) {
		copy(p, z.head[off:])
	}
	return len(p), nil
}

func (h hostile) reader() (r interface {
	ReadAt([]byte, int64) (int, error)
}, size int64,
) {
	if h.size > 0 {
		return zeroReader{h.data}, h.size
	}
	return bytes.NewReader(h.data), int64(len(h.data))
}

// hostiles returns the files. Classes of the same kind that are about compressed contents (xz bombs, xz
// dictionaries, filters, bzip2) are not about the container; package partial and the xz reader have them.
func hostiles() []hostile {
	var list []hostile
	class := ""
	add := func(name string, code Code, a *raw) *hostile {
		list = append(list, hostile{class: class, name: name, data: a.bytes(), code: code})
		return &list[len(list)-1]
	}
	with := func(change func(*raw)) *raw {
		a := valid()
		change(a)
		return a
	}
	entry := func(change func(*rawEntry)) *raw { return with(func(a *raw) { change(&a.entries[1]) }) }
	offset := func(f func(at, index int64) int64) *raw {
		return entry(func(e *rawEntry) { e.offset = f })
	}

	class = "overlap of entries"
	add("same range", CodeOverlap, with(func(a *raw) {
		a.entries[2].offset = func(at, _ int64) int64 { return at - 5 }
		a.entries[2].size = u32(5)
	}))
	add("front", CodeOverlap, offset(func(at, _ int64) int64 { return at - 1 }))
	add("back", CodeOverlap, offset(func(at, _ int64) int64 { return at + 1 }))
	add("container", CodeOverlap, entry(func(e *rawEntry) {
		e.offset, e.size = func(at, _ int64) int64 { return at - 15 }, u32(26)
	}))
	add("contained", CodeOverlap, entry(func(e *rawEntry) {
		e.offset, e.size = func(at, _ int64) int64 { return at + 6 }, u32(2)
	}))
	add("three", CodeOverlap, with(func(a *raw) {
		a.entries[1].offset = func(at, _ int64) int64 { return at - 2 }
		a.entries[2].offset = func(at, _ int64) int64 { return at - 2 }
	}))
	add("far one hidden by a short one", CodeOverlap, with(func(a *raw) {
		a.entries[0].size = u32(25)                                     // reaches over all of one and into two
		a.entries[1].offset = func(at, _ int64) int64 { return at - 2 } // ends before it
	}))
	add("original layout", CodeOverlap, with(func(a *raw) {
		a.layout = LayoutOriginal
		a.entries[2].offset = func(at, _ int64) int64 { return at - 1 }
	}))

	class = "overlap of index"
	add("whole index", CodeOverlap, entry(func(e *rawEntry) {
		e.offset, e.size = func(_, index int64) int64 { return index }, u32(40)
	}))
	add("last byte in index", CodeOverlap, with(func(a *raw) { a.entries[2].size = u32(7) }))
	add("inside the index", CodeOverlap, offset(func(_, index int64) int64 { return index + 8 }))
	add("around the index", CodeOverlap, with(func(a *raw) {
		a.entries[2].size = u32(6 + 4 + 30 + 20 + 16 + 3)
		a.trailing = []byte("xyz")
		a.total = func(n int64) uint64 { return uint64(n) }
	})).code = CodeTrailing
	list[len(list)-1].lint = CodeOverlap

	class = "overlap of signatures"
	signed := func(change func(*raw)) *raw {
		return with(func(a *raw) {
			a.sigs = []rawSig{{alg: 2, data: make([]byte, 512)}}
			change(a)
		})
	}
	add("entry in the signature", CodeSignatureBlock, signed(func(a *raw) {
		a.entries[1].offset = func(int64, int64) int64 { return 100 }
	}))
	add("entry at the signature", CodeSignatureBlock, signed(func(a *raw) {
		a.entries[1].offset = func(int64, int64) int64 { return 28 }
	}))
	add("entry at the signature's header", CodeSignatureBlock, signed(func(a *raw) {
		a.entries[1].offset = func(int64, int64) int64 { return 20 }
	}))
	add("entry in the header", CodeRange, signed(func(a *raw) {
		a.entries[1].offset = func(int64, int64) int64 { return 12 }
	}))
	add("entry at 0", CodeRange, offset(func(int64, int64) int64 { return 0 }))
	add("entry in the product block", CodeSection, offset(func(int64, int64) int64 { return 40 }))
	add("entry at the number of sections", CodeSection, offset(func(int64, int64) int64 { return 22 }))
	add("signature reaches into contents", CodeSignatureBlock, signed(func(a *raw) { a.sigs[0].size = u32(700) }))
	add("signature reaches behind the file", CodeSignatureBlock, signed(func(a *raw) { a.sigs[0].size = u32(2048) }))

	for _, c := range []struct {
		class string
		names []string
	}{
		{"dot-dot", []string{"..", "../x", "../../x", "a/../../x", "a/..", "a/../x"}},
		{"absolute", []string{"/x", "/", "//x", "/etc/passwd"}},
		{"drive", []string{"C:x", "c:/x", "C:", "Z:/x"}},
		{"backslash", []string{`\x`, `..\x`, `a\b`, `a\..\..\x`, `C:\x`}},
		{"UNC", []string{`//server/share/x`, `\\server\share\x`, `\\?\C:\x`, `//?/C:/x`, `\\.\pipe\x`}},
		{"newline", []string{"a\nb", "a\rb", "a\r\nb", "\n", "a\x1b[2J", "a\x7f", "\t"}},
		{"empty", []string{""}},
		{"dot", []string{".", "./x", "a/.", "a/./b"}},
		{"empty element", []string{"a//b", "a/", "dir/"}},
		{"not UTF-8", []string{"caf\xe9", "\xff\xfe", "a\xc0\xafb", "\xed\xa0\x80"}},
	} {
		class = c.class
		for _, name := range c.names {
			add(fmt.Sprintf("%q", name), CodeName, entry(func(e *rawEntry) { e.name = name }))
		}
	}
	class = "empty"
	add("last entry", CodeName, with(func(a *raw) { a.entries[2].name = "" }))

	class = "zero byte in a name"
	add("rest too short", CodeIndex, with(func(a *raw) { a.entries[2].name = "a\x00b" }))
	add("rest becomes an entry", CodeRange, with(func(a *raw) { a.entries[2].name = "a\x00../../etc/passwd" }))
	add("no end", CodeIndex, with(func(a *raw) { a.entries[2].noEnd = true }))
	add("no end in the middle", CodeRange, entry(func(e *rawEntry) { e.noEnd = true })) // the next entry's first byte ends it

	class = "duplicate names"
	add("next", CodeDuplicate, with(func(a *raw) { a.entries[2].name = "dir/one" }))
	add("apart", CodeDuplicate, with(func(a *raw) { a.entries[2].name = "updatev3.manifest" }))
	add("same content", CodeDuplicate, with(func(a *raw) { a.entries = append(a.entries, file("two", "second")) }))
	add("empty files", CodeDuplicate, with(func(a *raw) { a.entries = append(a.entries, file("e", ""), file("e", "")) }))

	class = "names equal but for case"
	for _, names := range [][2]string{{"readme", "README"}, {"ä", "Ä"}, {"a/B", "A/b"}, {"K", "\u212a"}, {"X", "x/y"}, {"s", "ſ"}} {
		h := add(fmt.Sprintf("%q", names), "", with(func(a *raw) { a.entries[1].name, a.entries[2].name = names[0], names[1] }))
		h.lint, h.extract = CodeCase, CodeCase
	}

	class = "file and directory"
	add("file first", CodeConflict, with(func(a *raw) { a.entries[2].name = "dir/one/more" }))
	add("directory first", CodeConflict, with(func(a *raw) { a.entries[2].name = "dir" }))
	add("with names between", CodeConflict, with(func(a *raw) {
		a.entries = append(a.entries, file("d", "1"), file("d-", "2"), file("d.x", "3"), file("d/x", "4"))
	}))

	class = "mode bits"
	for name, flags := range map[string]uint32{
		"setuid": 0o4755, "setgid": 0o2755, "sticky": 0o1755, "symlink": 0o120777, "directory": 0o040755, "device": 0o060644,
		"socket": 0o140644, "regular file": 0o100644, "everything": math.MaxUint32, "top bit": 1 << 31,
	} {
		add(name, CodeMode, entry(func(e *rawEntry) { e.flags = flags }))
	}
	add("no permission", "", entry(func(e *rawEntry) { e.flags = 0 })).lint = CodeUnreadable

	class = "2^32-1"
	add("offset", CodeRange, offset(func(int64, int64) int64 { return math.MaxUint32 }))
	add("length", CodeRange, entry(func(e *rawEntry) { e.size = u32(math.MaxUint32) }))
	add("offset and length", CodeRange, entry(func(e *rawEntry) {
		e.offset, e.size = func(int64, int64) int64 { return math.MaxUint32 }, u32(math.MaxUint32)
	}))
	add("index offset", CodeTruncated, with(func(a *raw) { a.indexOffset = func(int64) int64 { return math.MaxUint32 } }))
	add("index size", CodeTruncated, with(func(a *raw) { a.indexSize = func(int64) int64 { return math.MaxUint32 } }))
	add("sections", CodeLimit, with(func(a *raw) { a.secCount = u32(math.MaxUint32) }))
	add("section size", CodeSection, with(func(a *raw) { a.sections[0].size = u32(math.MaxUint32) }))
	add("signature length", CodeLimit, signed(func(a *raw) { a.sigs[0].size = u32(math.MaxUint32) }))
	add("algorithm", "", signed(func(a *raw) { a.sigs[0].alg = math.MaxUint32 })).lint = CodeSignatureAlgorithm
	add("length in the original layout", CodeRange, with(func(a *raw) {
		a.layout = LayoutOriginal
		a.entries[2].size = u32(math.MaxUint32)
	}))

	class = "offset and length overflow 32 bits"
	for name, n := range map[string]uint32{"to 0": 0, "to the header": 8, "to the signatures": 20, "to the contents": 138} {
		add(name, CodeRange, entry(func(e *rawEntry) {
			e.offset = func(at, _ int64) int64 { return at }
			at := uint32(143)
			e.size = u32(n - at)
		}))
	}
	add("2^31", CodeRange, entry(func(e *rawEntry) {
		e.offset, e.size = func(int64, int64) int64 { return 1 << 31 }, u32(1<<31)
	}))

	class = "zero length"
	add("one", "", entry(func(e *rawEntry) { e.data = nil })).lint = CodeEmptyFile
	add("all", "", with(func(a *raw) {
		for i := range a.entries {
			a.entries[i].data = nil
		}
	})).lint = CodeEmptyFile
	add("inside another", "", entry(func(e *rawEntry) {
		e.data, e.offset = nil, func(at, _ int64) int64 { return at - 3 }
	})).lint = CodeEmptyFile
	add("in the header", CodeRange, entry(func(e *rawEntry) { e.data, e.offset = nil, func(int64, int64) int64 { return 4 } }))
	add("behind the file", CodeRange, entry(func(e *rawEntry) {
		e.data, e.offset = nil, func(int64, int64) int64 { return 1 << 20 }
	}))

	class = "index in the header"
	for _, at := range []int64{0, 4, 7} {
		add(fmt.Sprint("at ", at), CodeIndex, with(func(a *raw) { a.indexOffset = func(int64) int64 { return at } }))
	}
	for at, code := range map[int64]Code{8: CodeTrailing, 12: CodeTruncated, 16: CodeTrailing} { // numbers of the header, taken for an index
		add(fmt.Sprint("at ", at), code, with(func(a *raw) { a.indexOffset = func(int64) int64 { return at } }))
	}
	header19 := append([]byte("MAR1\x00\x00\x00\x0c"), 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 1, 0xa4, 'x', 0)
	header19 = header19[:12+4+14]
	list = append(list, hostile{class: class, name: "index is the header", data: header19, code: CodeIndex})

	class = "file size lie"
	for name, f := range map[string]func(int64) uint64{
		"0": func(int64) uint64 { return 0 }, "one less": func(n int64) uint64 { return uint64(n) - 1 },
		"one more": func(n int64) uint64 { return uint64(n) + 1 }, "2^32 more": func(n int64) uint64 { return uint64(n) + 1<<32 },
		"2^63": func(int64) uint64 { return 1 << 63 }, "2^64-1": func(int64) uint64 { return math.MaxUint64 },
	} {
		add(name, CodeSize, with(func(a *raw) { a.total = f }))
	}

	class = "number of signatures"
	sigs := func(n int, count *uint32) *raw {
		return with(func(a *raw) {
			for range n {
				a.sigs = append(a.sigs, rawSig{alg: 2, data: make([]byte, 256)})
			}
			a.sigCount = count
		})
	}
	add("0", "", sigs(0, nil)).lint = CodeUnsigned
	add("8", "", sigs(8, nil)).lint = CodeSignatureCount
	add("9", CodeLimit, sigs(9, nil))
	add("8, said to be 9", CodeLimit, sigs(8, u32(9)))
	add("2^32-1", CodeLimit, sigs(1, u32(math.MaxUint32)))
	add("1, said to be 2", CodeSignatureBlock, sigs(1, u32(2)))
	add("1, said to be 0", CodeSection, sigs(1, u32(0)))

	class = "signature length"
	sig := func(n int, alg uint32) *raw {
		return with(func(a *raw) { a.sigs = []rawSig{{alg: alg, data: make([]byte, n)}} })
	}
	add("2048", "", sig(2048, 2)).lint = CodeSignatureAlgorithm
	add("2049", CodeLimit, sig(2049, 2))
	add("4096", CodeLimit, sig(4096, 2))
	add("0", "", sig(0, 2)).lint = CodeSignatureAlgorithm
	add("1", "", sig(1, 2)).lint = CodeSignatureAlgorithm
	add("SHA-1", "", sig(256, 1)).lint = CodeSignatureAlgorithm
	add("algorithm 0", "", sig(512, 0)).lint = CodeSignatureAlgorithm
	add("algorithm 3", "", sig(512, 3)).lint = CodeSignatureAlgorithm

	class = "product information"
	sections := func(s ...rawSection) *raw { return with(func(a *raw) { a.sections = s }) }
	c63, v31 := strings.Repeat("c", 63), strings.Repeat("v", 31)
	add("63 and 31 characters", "", sections(product(c63, v31, 96))).lint = CodeUnsigned
	add("64 characters of channel", CodeProduct, sections(product(c63+"c", "1.0", 96)))
	add("32 characters of version", CodeProduct, sections(product("release", v31+"v", 96)))
	add("105 bytes", CodeProduct, sections(product("release", "1.0", 97)))
	add("64 KiB", CodeProduct, sections(product("release", "1.0", 65536)))
	add("8 bytes", CodeProduct, sections(rawSection{id: 1}))
	add("9 bytes", CodeProduct, sections(rawSection{id: 1, data: []byte{0}}))
	add("10 bytes", "", sections(rawSection{id: 1, data: []byte{0, 0}})).lint = CodeUnsigned
	add("channel without end", CodeProduct, sections(rawSection{id: 1, data: []byte("release")}))
	add("version without end", CodeProduct, sections(rawSection{id: 1, data: []byte("release\x001.0")}))
	add("full of letters", CodeProduct, sections(rawSection{id: 1, data: bytes.Repeat([]byte("x"), 96)}))
	add("hidden", "", sections(rawSection{id: 7, data: []byte("x")}, product("release", "1.0", 96))).lint = CodeHiddenProduct
	add("two", "", sections(product("release", "1.0", 96), product("nightly", "2.0", 96))).lint = CodeHiddenProduct
	add("none", "", sections()).lint = CodeNoProduct

	class = "sections"
	add("size 0", CodeSection, with(func(a *raw) { a.sections[0].size = u32(0) }))
	add("size 7", CodeSection, with(func(a *raw) { a.sections[0].size = u32(7) }))
	add("one byte into contents", CodeSection, with(func(a *raw) { a.sections[0].size = u32(105) }))
	add("more than there are", CodeSection, with(func(a *raw) { a.secCount = u32(2) }))
	add("less than there are", "", with(func(a *raw) { a.secCount = u32(0) })).lint = CodeGap
	add("65", CodeLimit, with(func(a *raw) { a.sections = slices.Repeat([]rawSection{{id: 9}}, 65) }))
	add("64", "", with(func(a *raw) { a.sections = slices.Repeat([]rawSection{{id: 9}}, 64) })).lint = CodeUnknownSection
	for n := 1; n <= 3; n++ {
		a := with(func(a *raw) {
			a.layout = LayoutNoSections
			for i := range a.entries {
				a.entries[i].offset = func(at, _ int64) int64 { return at + int64(n) }
			}
			a.entries[2].size = u32(uint32(6 - n))
		})
		add(fmt.Sprint("number of ", n, " bytes"), CodeSection, a)
	}

	class = "layout"
	add("original header in a new file", CodeRange, with(func(a *raw) {
		a.entries[0].offset = func(int64, int64) int64 { return 8 }
		a.entries[1].offset = func(int64, int64) int64 { return 7 }
	}))
	add("first entry at 8 in a new file", "", with(func(a *raw) { // what the file then says is of the original layout
		a.entries[0].offset = func(int64, int64) int64 { return 8 }
	})).lint = CodeLayout
	add("original", "", with(func(a *raw) { a.layout = LayoutOriginal })).lint = CodeLayout
	add("no sections", "", with(func(a *raw) { a.layout = LayoutNoSections })).lint = CodeLayout
	add("no entries", CodeEmpty, with(func(a *raw) { a.entries = nil }))
	add("no entries, original", CodeEmpty, with(func(a *raw) { a.entries, a.layout = nil, LayoutOriginal }))
	add("other magic", CodeMagic, with(func(a *raw) { a.magic = "MAR2" }))
	add("magic in small letters", CodeMagic, with(func(a *raw) { a.magic = "mar1" }))

	class = "index"
	add("garbage at the end", CodeIndex, with(func(a *raw) { a.indexTail = []byte("x") }))
	add("twelve bytes at the end", CodeIndex, with(func(a *raw) { a.indexTail = make([]byte, 12) }))
	add("one byte short", CodeTrailing, with(func(a *raw) { a.indexSize = func(n int64) int64 { return n - 1 } }))
	add("one byte long", CodeTruncated, with(func(a *raw) { a.indexSize = func(n int64) int64 { return n + 1 } }))
	add("name of 4096 bytes", CodeLimit, entry(func(e *rawEntry) { e.name = strings.Repeat("n", 4096) }))
	add("name of 4095 bytes", "", entry(func(e *rawEntry) {
		e.name = strings.Repeat(strings.Repeat("n", 127)+"/", 31) + strings.Repeat("n", 127)
	})).lint = CodeLongName
	add("101 elements", CodeLimit, entry(func(e *rawEntry) { e.name = strings.Repeat("n/", 100) + "n" }))
	add("2048 elements", CodeLimit, entry(func(e *rawEntry) { e.name = strings.Repeat("n/", 2047) + "n" }))
	add("100 elements", "", entry(func(e *rawEntry) { e.name = strings.Repeat("n/", 99) + "n" })).lint = CodeUnsigned
	add("element of 256 bytes", "", entry(func(e *rawEntry) { e.name = strings.Repeat("n", 256) })).lint = CodeLongName
	list[len(list)-1].extract = "os"

	class = "names that others mistake"
	for name, code := range map[string]Code{
		"foo..bar": CodeDots, "...": CodeDots, `say "hi"`: CodeQuote, "CON": CodeWindowsName, "aux.txt": CodeWindowsName,
		"com1": CodeWindowsName, "lpt¹.x": CodeWindowsName, "dot.": CodeWindowsName, "blank ": CodeWindowsName, "ab:c": CodeWindowsName,
		"what?": CodeWindowsName, "n\u00e9": CodeNonASCII, "ne\u0301": CodeNonASCII, strings.Repeat("dd/", 90) + "x": CodeLongName,
	} {
		add(fmt.Sprintf("%.20q", name), "", entry(func(e *rawEntry) { e.name = name })).lint = code
	}
	add("no manifest", "", with(func(a *raw) { a.entries = a.entries[1:] })).lint = CodeNoManifest

	class = "truncated"
	whole := valid().bytes()
	for n := range len(whole) {
		list = append(list, hostile{class: class, name: fmt.Sprintf("at %d", n), data: whole[:n], code: CodeTruncated})
	}

	class = "trailing data"
	for name, tail := range map[string][]byte{"a line end": []byte("\n"), "zeros": make([]byte, 512), "another archive": whole} {
		add(name, CodeSize, with(func(a *raw) {
			a.trailing = tail
			a.total = func(n int64) uint64 { return uint64(n) - uint64(len(tail)) }
		})).code = CodeTrailing
		add(name+", counted", CodeTrailing, with(func(a *raw) { a.trailing = tail }))
	}
	add("contents behind the index", CodeTrailing, with(func(a *raw) {
		a.trailing = []byte("hello")
		a.entries[1].offset = func(_, index int64) int64 { return index + 4 + 12*3 + 18 + 8 + 4 }
	}))

	class = "file of 500 MB"
	for name, more := range map[string]int64{"and a byte": 1, "and 4 GiB": 4 << 30} {
		size := int64(MaxFileSize) + more
		a := with(func(a *raw) { a.padTo = size })
		list = append(list, hostile{class: class, name: name, data: a.bytes(), size: size, code: CodeLimit})
	}
	a := with(func(a *raw) { a.padTo = MaxFileSize })
	list = append(list, hostile{class: class, name: "exactly", data: a.bytes(), size: MaxFileSize, code: CodeTrailing})

	class = "gaps and order"
	add("gap before the first", "", with(func(a *raw) {
		a.sections = append(a.sections, rawSection{id: 1, data: []byte("hid\x00den\x00")})
		a.secCount = u32(1)
	})).lint = CodeGap
	add("gap between", "", entry(func(e *rawEntry) { e.size = u32(3) })).lint = CodeGap
	add("other order", "", with(func(a *raw) {
		a.entries[1].offset = func(at, _ int64) int64 { return at + 1 + 5 }
		a.entries[1].size = u32(5)
		a.entries[2].offset = func(at, _ int64) int64 { return at - 5 }
	})).lint = CodeUnsigned
	return list
}

// allowed are all problems that a reader can be told to allow.
func allowed() []Code {
	var codes []Code
	for _, c := range []Code{CodeSize, CodeTrailing, CodeEmpty, CodeProduct, CodeOverlap, CodeName, CodeDuplicate, CodeConflict, CodeMode} {
		if allowable(c) {
			codes = append(codes, c)
		}
	}
	return codes
}

func TestHostile(t *testing.T) {
	list := hostiles()
	classes := map[string]int{}
	for _, h := range list {
		classes[h.class]++
	}
	t.Logf("%d files in %d classes", len(list), len(classes))
	if len(list) < 120 || len(classes) < 24 {
		t.Errorf("got %d files in %d classes, want at least 120 in 24", len(list), len(classes))
	}
	base := t.TempDir()
	for i, h := range list {
		t.Run(h.class+"/"+h.name, func(t *testing.T) {
			ra, size := h.reader()
			r, err := NewReader(ra, size, nil)
			checkRefusal(t, h, size, err)
			checkLint(t, h)
			if r == nil {
				if r, err = NewReader(ra, size, &ReaderOptions{Allow: allowed()}); err != nil {
					var fe *FormatError
					if !errors.As(err, &fe) {
						t.Errorf("everything allowed: got %v, want a *FormatError", err)
					}
					return
				}
			}
			if err := r.Verify(t.Context(), testKey(t).Public()); !errors.Is(err, ErrSignature) {
				t.Errorf("got %v, want ErrSignature", err)
			}
			checkExtraction(t, h, r, filepath.Join(base, fmt.Sprint(i)))
			walk(t, r)
		})
	}
}

func checkRefusal(t *testing.T, h hostile, size int64, err error) {
	t.Helper()
	if h.code == "" {
		if err != nil {
			t.Errorf("got %v, want it read", err)
		}
		return
	}
	var fe *FormatError
	if !errors.As(err, &fe) {
		t.Errorf("got %v, want a *FormatError with code %s", err, h.code)
		return
	}
	want := ErrFormat
	if h.code == CodeLimit {
		want = ErrLimit
	}
	if fe.Code != h.code || !errors.Is(err, want) || errors.Is(err, ErrSignature) {
		t.Errorf("got code %s (%v), want %s", fe.Code, err, h.code)
	}
	if fe.Offset < 0 || fe.Offset > size {
		t.Errorf("offset %d is outside the file of %d bytes", fe.Offset, size)
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("error has control characters: %q", err)
	}
}

func checkLint(t *testing.T, h hostile) {
	t.Helper()
	ra, size := h.reader()
	problems := Lint(ra, size, nil)
	want := h.lint
	if want == "" {
		want = h.code
	}
	if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Code == want }) {
		t.Errorf("Lint does not report %s: %v", want, problems)
	}
	if refused := slices.ContainsFunc(problems, func(p Problem) bool { return p.Refused }); refused != (h.code != "") {
		t.Errorf("Lint says refused is %v: %v", refused, problems)
	}
}

// checkExtraction extracts into a directory beside others, and looks at everything that is there afterwards.
func checkExtraction(t *testing.T, h hostile, r *Reader, base string) {
	t.Helper()
	if r.Size() > 1<<20 {
		return // nothing but zeros
	}
	target := filepath.Join(base, "outer", "root")
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, base)
	root, err := os.OpenRoot(target)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = r.Extract(t.Context(), root, nil)
	if h.code == "" {
		var fe *FormatError
		switch isFormat := errors.As(err, &fe); {
		case h.extract == "" && err != nil:
			t.Errorf("extract: %v", err)
		case h.extract == "os" && (err == nil || isFormat):
			t.Errorf("extract: got %v, want an error of the system", err)
		case h.extract != "" && h.extract != "os" && (!isFormat || fe.Code != h.extract):
			t.Errorf("extract: got %v, want code %s", err, h.extract)
		}
	}
	after := tree(t, base)
	if err != nil {
		if !slices.Equal(before, after) {
			t.Errorf("left behind after %v: %q", err, after)
		}
		return
	}
	want := slices.Clone(before)
	for _, f := range r.Files() {
		for i := range len(f.Name) {
			if f.Name[i] == '/' {
				want = append(want, "outer/root/"+f.Name[:i])
			}
		}
		want = append(want, "outer/root/"+f.Name)
	}
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(after, want) {
		t.Errorf("got files %q, want %q", after, want)
	}
	for _, f := range r.Files() {
		info, err := root.Stat(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&^fs.ModePerm != 0 || info.Mode()&^f.Mode != 0 {
			t.Errorf("%s has mode %v, stored is %o", f.Name, info.Mode(), f.Mode)
		}
	}
}

// tree lists everything below a directory, sorted.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// walk uses everything that a reader has; nothing may panic.
func walk(t *testing.T, r *Reader) {
	t.Helper()
	for _, f := range r.Files() {
		if f.Size > 1<<20 {
			continue
		}
		if n := int64(len(content(t, f))); n != f.Size {
			t.Errorf("%q: got %d bytes, want %d", f.Name, n, f.Size)
		}
		if r.Lookup(f.Name) == nil {
			t.Errorf("%q is not found", f.Name)
		}
	}
	if err := fs.WalkDir(r, ".", func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		t.Errorf("walk: %v", err)
	}
	r.Signatures()
	r.Sections()
}

// A file of 46 bytes whose index claims 4 GB must be refused without allocating for it.
func TestHostileNoAllocation(t *testing.T) {
	data := make([]byte, 46)
	copy(data, "MAR1")
	be.PutUint32(data[4:], 42)
	be.PutUint64(data[8:], 46)
	be.PutUint32(data[42:], math.MaxUint32)
	in := bytes.NewReader(data)
	if _, err := NewReader(in, 46, nil); !errors.Is(err, ErrFormat) {
		t.Fatalf("got %v, want ErrFormat", err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 100
	for range runs {
		_, _ = NewReader(in, 46, nil)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / runs; per > 4096 {
		t.Errorf("refusing allocates %d bytes", per)
	}

	// The same with a file that is as long as it says, where the limit must do it.
	size := int64(MaxFileSize)
	be.PutUint32(data[42:], uint32(size-46))
	be.PutUint64(data[8:], uint64(size))
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := NewReader(zeroReader{data}, size, nil); !errors.Is(err, ErrLimit) {
			t.Fatalf("got %v, want ErrLimit", err)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / runs; per > 4096 {
		t.Errorf("refusing allocates %d bytes", per)
	}
}

// No prefix and no single changed byte of a valid archive may make anything panic, and what is accepted must
// be usable.
func TestHostileEveryByte(t *testing.T) {
	t.Parallel()
	for _, layout := range []Layout{LayoutSections, LayoutNoSections, LayoutOriginal} {
		a := valid()
		a.layout = layout
		if layout != LayoutOriginal {
			a.sigs = []rawSig{{alg: 2, data: make([]byte, 16)}}
		}
		whole := a.bytes()
		for i := range whole {
			for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff, whole[i] + 1, whole[i] - 1} {
				data := slices.Clone(whole)
				data[i] = v
				r, err := NewReader(bytes.NewReader(data), int64(len(data)), nil)
				problems := Lint(bytes.NewReader(data), int64(len(data)), nil)
				if refused := slices.ContainsFunc(problems, func(p Problem) bool { return p.Refused }); refused != (err != nil) {
					t.Errorf("%v: byte %d = %#x: got %v from NewReader and %v from Lint", layout, i, v, err, problems)
				}
				if err == nil {
					walk(t, r)
				}
			}
		}
	}
}

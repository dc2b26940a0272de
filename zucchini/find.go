package zucchini

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/senbonzakura/senbonzakura/internal/exe"
)

// found is an executable in a file.
type found struct {
	at    uint32
	image *exe.Image
}

func (f found) end() uint32 { return f.at + uint32(f.image.Size()) }

// maxFound is how many executables a file has at most to be looked at as such: as many as the reference generator takes.
const maxFound = 255

// findAll returns the executables of a file, in order. There are none where there are too many, or where looking for them
// would take more time than is reasonable: headers that lie can have each beginning of one claim a long table.
func findAll(file []byte) []found {
	var out []found
	work := 0
	magics := [...]struct {
		text []byte
		next int
	}{{[]byte("MZ"), -1}, {[]byte("\x7fELF"), -1}}
	for at := 0; ; {
		next := len(file)
		for i := range magics {
			m := &magics[i]
			if m.next < at {
				if m.next = bytes.Index(file[at:], m.text); m.next < 0 {
					m.next = len(file)
				} else {
					m.next += at
				}
			}
			next = min(next, m.next)
		}
		if at = next; at == len(file) {
			return out
		}
		if work += 1 + headers(file[at:])/64; work > 1<<12+len(file)/64 {
			return nil
		}
		m := exe.Find(file[at:])
		if m == nil {
			at++
			continue
		}
		if len(out) == maxFound {
			return nil
		}
		out = append(out, found{uint32(at), m})
		at += m.Size()
	}
}

// headers returns about how many headers of sections and segments the executable that may begin here says it has.
func headers(b []byte) int {
	number := func(at int64) int {
		if at+2 > int64(len(b)) {
			return 0
		}
		return int(binary.LittleEndian.Uint16(b[at:]))
	}
	switch {
	case len(b) < 64:
		return 0
	case b[0] == 'M':
		return number(int64(binary.LittleEndian.Uint32(b[60:])) + 6)
	case b[4] == 1:
		return number(44) + number(48)
	}
	return number(56) + number(60)
}

// similarity returns how many of the smallest hashes of two executables are the same.
func similarity(a, b []uint64) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		switch cmp.Compare(a[0], b[0]) {
		case -1:
			a = a[1:]
		case 1:
			b = b[1:]
		default:
			n++
			a, b = a[1:], b[1:]
		}
	}
	return n
}

// sketch returns the smallest hashes of the windows of a file, in order.
func sketch(file []byte) []uint64 {
	const size, window = 1024, 12
	var list []uint64
	limit := ^uint64(0)
	trim := func() {
		slices.Sort(list)
		list = slices.Compact(list)
		if len(list) > size {
			list = list[:size]
			limit = list[size-1]
		}
	}
	for i := 0; i+window <= len(file); i++ {
		w := file[i : i+window]
		h := (binary.LittleEndian.Uint64(w) ^ uint64(binary.LittleEndian.Uint32(w[8:]))<<13) * 0x9e3779b97f4a7c15
		h = (h ^ h>>31) * 0xd6e8feb86659fd93
		if h <= limit {
			if list = append(list, h); len(list) == 2*size {
				trim()
			}
		}
	}
	trim()
	return list
}

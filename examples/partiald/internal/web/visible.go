package web

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// turns says whether a character changes in which direction what follows is read: with it a name can look like another.
func turns(r rune) bool {
	return r == 0x061C || r == 0x200E || r == 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// visible shows such characters as what they are. The pages have none of their own.
func visible(page []byte) []byte {
	var out []byte
	done := 0
	for at := 0; at < len(page); {
		// All of them begin with one of two bytes, of which there are few in a page.
		i := bytes.IndexByte(page[at:], 0xE2)
		if i < 0 {
			i = len(page) - at
		}
		if k := bytes.IndexByte(page[at:at+i], 0xD8); k >= 0 {
			i = k
		}
		at += i
		r, n := utf8.DecodeRune(page[at:])
		if n == 0 {
			break
		}
		if turns(r) {
			out = fmt.Appendf(append(out, page[done:at]...), "⟦U+%04X⟧", r)
			done = at + n
		}
		at += n
	}
	if done == 0 {
		return page
	}
	return append(out, page[done:]...)
}

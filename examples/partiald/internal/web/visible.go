package web

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// turns says whether a character changes in which direction what follows is read: with it a name can look like another.
func turns(r rune) bool {
	return r == 0x061C || r == 0x200E || r == 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// What isolates a text that is read from the right from what stands beside it. In what the pages are made of they are these
// two, which are no characters and come from nobody else: visible puts the real ones in their place.
const (
	isolate, isolated   = '\uFDD0', '\uFDD1'
	firstStrong, popped = "\u2068", "\u2069"
)

// leftwards says whether a character is in one of the blocks that Unicode has for what is read from the right.
func leftwards(r rune) bool {
	return r >= 0x0590 && r <= 0x08FF || r >= 0xFB1D && r <= 0xFDCF || r >= 0xFDF0 && r <= 0xFDFF || r >= 0xFE70 && r <= 0xFEFE ||
		r >= 0x10800 && r <= 0x10FFF || r >= 0x1E800 && r <= 0x1EFFF
}

// apart keeps a text that is read from the right from moving what stands beside it in a line: a name among other names.
func apart(text string) string {
	if !strings.ContainsFunc(text, leftwards) {
		return text
	}
	return string(isolate) + strings.Map(func(r rune) rune {
		if r == isolate || r == isolated {
			return -1
		}
		return r
	}, text) + string(isolated)
}

// unmarked is a text without what keeps its parts apart: for what is no page.
func unmarked(text string) string {
	return strings.NewReplacer(string(isolate), "", string(isolated), "").Replace(text)
}

// visible shows the characters that turn the direction as what they are, and isolates what is to be. The pages have no
// others of their own.
func visible(page []byte) []byte {
	var out []byte
	done := 0
	for at := 0; at < len(page); {
		// All of them begin with one of three bytes, of which there are few in a page.
		i := len(page) - at
		for _, first := range []byte{0xE2, 0xD8, 0xEF} {
			if k := bytes.IndexByte(page[at:at+i], first); k >= 0 {
				i = k
			}
		}
		at += i
		r, n := utf8.DecodeRune(page[at:])
		if n == 0 {
			break
		}
		switch {
		case turns(r):
			out = fmt.Appendf(append(out, page[done:at]...), "⟦U+%04X⟧", r)
			done = at + n
		case r == isolate:
			out = append(append(out, page[done:at]...), firstStrong...)
			done = at + n
		case r == isolated:
			out = append(append(out, page[done:at]...), popped...)
			done = at + n
		}
		at += n
	}
	if done == 0 {
		return page
	}
	return append(out, page[done:]...)
}

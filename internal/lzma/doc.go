// Package lzma writes LZMA2, the compressed data inside .xz files, with a strong encoder
// made for binary patches.
//
// LZMA2 is a sequence of chunks. Each begins with a control byte:
//
//	0x00       end of the data
//	0x01       stored chunk, dictionary starts anew:  | 01 | size-1 (2) | content |
//	0x02       stored chunk:                          | 02 | size-1 (2) | content |
//	0x80-0xFF  compressed chunk: | control | content size-1 (2) | size-1 (2) | [properties] | LZMA |
//	           bits 0-4 of control are bits 16-20 of the content size; bits 5-6 say whether
//	           the models (and the properties, and the dictionary) start anew
//
// All numbers are big-endian. A chunk holds at most 2 MiB of content and 64 KiB of
// compressed data. The properties byte is (pb*5+lp)*9+lc, where LZMA2 wants lc+lp <= 4.
//
// # The encoder
//
// A patch in the bsdiff family is mostly zeros with single bytes strewn in. What makes it
// small is to look for the cheapest way through the next few thousand bytes, with the
// prices that the adaptive models ask for at that moment, and to let matches be as long as
// LZMA allows, 273 bytes. [Encoder] does so, and can change the literal and position
// contexts on the way, so that a patch's three blocks are each coded with what suits them.
//
// Not supported: the older .lzma framing, and preset dictionaries.
package lzma

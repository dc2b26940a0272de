package bsdiff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The loops here work on eight bytes at a time, each in its own lane of a word.
const (
	lowBits  = 0x7F7F7F7F7F7F7F7F
	highBits = 0x8080808080808080
)

// addBytes adds src to dst, byte by byte, modulo 256.
func addBytes(dst, src []byte) {
	src = src[:len(dst)]
	for len(dst) >= 8 {
		if y := binary.LittleEndian.Uint64(dst); y == 0 {
			copy(dst[:8], src[:8])
		} else {
			x := binary.LittleEndian.Uint64(src)
			binary.LittleEndian.PutUint64(dst, (x&lowBits+y&lowBits)^(x^y)&highBits)
		}
		dst, src = dst[8:], src[8:]
	}
	for i, b := range src {
		dst[i] += b
	}
}

// subtractBytes sets dst to new minus old, byte by byte, modulo 256.
func subtractBytes(dst, new, old []byte) {
	new, old = new[:len(dst)], old[:len(dst)]
	for len(dst) >= 8 {
		x, y := binary.LittleEndian.Uint64(new), binary.LittleEndian.Uint64(old)
		binary.LittleEndian.PutUint64(dst, (x|highBits)-y&lowBits^(x^^y)&highBits)
		dst, new, old = dst[8:], new[8:], old[8:]
	}
	for i, b := range old {
		dst[i] = new[i] - b
	}
}

// differing returns a word with the highest bit of each byte set in which x and y differ.
func differing(x, y uint64) uint64 {
	t := x ^ y
	return (t&lowBits + lowBits | t) & highBits
}

// equalBytes counts the places at which a and b, of the same length, hold the same byte.
func equalBytes(a, b []byte) int {
	b = b[:len(a)]
	n := len(a)
	for len(a) >= 8 {
		n -= bits.OnesCount64(differing(binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b)))
		a, b = a[8:], b[8:]
	}
	for i, c := range a {
		if c != b[i] {
			n--
		}
	}
	return n
}

// zeroBytes counts the zeros in data.
func zeroBytes(data []byte) int64 { return int64(bytes.Count(data, []byte{0})) }

// commonPrefix returns how many bytes a and b have in common at their start.
func commonPrefix(a, b []byte) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for ; i+8 <= len(a) && i < 128; i += 8 {
		if t := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); t != 0 {
			return i + bits.TrailingZeros64(t)/8
		}
	}
	for step := 256; i+step <= len(a) && bytes.Equal(a[i:i+step], b[i:i+step]); step = min(2*step, 1<<16) {
		i += step
	}
	for ; i+8 <= len(a); i += 8 {
		if t := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); t != 0 {
			return i + bits.TrailingZeros64(t)/8
		}
	}
	for ; i < len(a) && a[i] == b[i]; i++ {
	}
	return i
}

package zucchini

import (
	"encoding/binary"
	"math/bits"
)

// commonPrefix returns how many bytes a and b, of the same length, have in common at their start.
func commonPrefix(a, b []byte) int {
	b = b[:len(a)]
	i := 0
	for ; i+8 <= len(a); i += 8 {
		if t := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); t != 0 {
			return i + bits.TrailingZeros64(t)/8
		}
	}
	for ; i < len(a) && a[i] == b[i]; i++ {
	}
	return i
}

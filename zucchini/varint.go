package zucchini

// maxVarint is how many bytes a number has at most. Of the last of five bytes only four bits count.
const maxVarint = 5

// uvarint takes an unsigned number off the front of b: seven bits in each byte, the lowest first, and the highest bit
// set in all bytes but the last. It takes nothing where there is no number, or none that ends within five bytes.
func uvarint(b *[]byte) (uint32, bool) {
	s := *b
	if len(s) > 0 && s[0] < 0x80 {
		*b = s[1:]
		return uint32(s[0]), true
	}
	v := uint32(0)
	for i := range min(len(s), maxVarint) {
		v |= uint32(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			*b = s[i+1:]
			return v, true
		}
	}
	return 0, false
}

// varint is uvarint for signed numbers: the lowest bit says whether the others are to be inverted.
func varint(b *[]byte) (int32, bool) {
	v, ok := uvarint(b)
	return int32(v>>1) ^ -int32(v&1), ok
}

func appendUvarint(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendVarint(b []byte, v int32) []byte { return appendUvarint(b, uint32(v)<<1^uint32(v>>31)) }

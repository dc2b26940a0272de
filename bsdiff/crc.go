package bsdiff

import (
	"encoding/binary"
	"sync"
)

// crcPolynomial is that of bzip2 and POSIX cksum, most significant bit first; unlike that of zip and
// hash/crc32 the register is not reflected.
const crcPolynomial = 0x04C11DB7

// crcTables hold in [k][b] what a byte b that is followed by k bytes of zero leaves in the register.
var crcTables = sync.OnceValue(func() *[16][256]uint32 {
	t := new([16][256]uint32)
	for b := range t[0] {
		r := uint32(b) << 24
		for range 8 {
			if r&(1<<31) != 0 {
				r = r<<1 ^ crcPolynomial
			} else {
				r <<= 1
			}
		}
		t[0][b] = r
	}
	for k := 1; k < len(t); k++ {
		for b := range t[k] {
			r := t[k-1][b]
			t[k][b] = r<<8 ^ t[0][r>>24]
		}
	}
	return t
})

// Checksum returns the checksum that MBDIFF10 keeps of the old file: bzip2's CRC-32. The checksum of
// "123456789" is 0xFC891918. A checksum can be continued with [UpdateChecksum].
func Checksum(data []byte) uint32 { return UpdateChecksum(0, data) }

// UpdateChecksum returns the checksum of some bytes followed by data, where crc is the checksum of the
// former. That of no bytes is 0.
func UpdateChecksum(crc uint32, data []byte) uint32 {
	t := crcTables()
	r := ^crc
	for len(data) >= 16 {
		a := binary.BigEndian.Uint32(data) ^ r
		b := binary.BigEndian.Uint32(data[4:])
		c := binary.BigEndian.Uint32(data[8:])
		d := binary.BigEndian.Uint32(data[12:])
		r = t[15][a>>24] ^ t[14][a>>16&0xFF] ^ t[13][a>>8&0xFF] ^ t[12][a&0xFF] ^
			t[11][b>>24] ^ t[10][b>>16&0xFF] ^ t[9][b>>8&0xFF] ^ t[8][b&0xFF] ^
			t[7][c>>24] ^ t[6][c>>16&0xFF] ^ t[5][c>>8&0xFF] ^ t[4][c&0xFF] ^
			t[3][d>>24] ^ t[2][d>>16&0xFF] ^ t[1][d>>8&0xFF] ^ t[0][d&0xFF]
		data = data[16:]
	}
	for _, b := range data {
		r = r<<8 ^ t[0][byte(r>>24)^b]
	}
	return ^r
}

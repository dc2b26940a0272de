package bsdiff

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Checksum returns the checksum that MBDIFF10 keeps of the old file: bzip2's CRC-32, which takes the most
// significant bit of each byte first, unlike that of zip and hash/crc32. The checksum of "123456789" is
// 0xFC891918. A checksum can be continued with [UpdateChecksum].
func Checksum(data []byte) uint32 { return UpdateChecksum(0, data) }

// UpdateChecksum returns the checksum of some bytes followed by data, where crc is the checksum of the
// former. That of no bytes is 0.
func UpdateChecksum(crc uint32, data []byte) uint32 {
	// The polynomial, the start and the end are those of zip: only the order of bits is the other one. Processors
	// have instructions for that, so turning all bytes around costs less than tables.
	r := bits.Reverse32(crc)
	var buf [4 << 10]byte
	for len(data) > 0 {
		n := copy(buf[:], data)
		data = data[n:]
		for i := 0; i < n; i += 8 {
			v := binary.LittleEndian.Uint64(buf[i:])
			v = v>>1&0x5555555555555555 | v&0x5555555555555555<<1
			v = v>>2&0x3333333333333333 | v&0x3333333333333333<<2
			v = v>>4&0x0F0F0F0F0F0F0F0F | v&0x0F0F0F0F0F0F0F0F<<4
			binary.LittleEndian.PutUint64(buf[i:], v)
		}
		r = crc32.Update(r, crc32.IEEETable, buf[:n])
	}
	return bits.Reverse32(r)
}

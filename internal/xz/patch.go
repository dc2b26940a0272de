package xz

import "encoding/binary"

// patchHeader is the size of an MBDIFF10 patch's header.
const patchHeader = 32

// patchID names the properties that patchBlocks chooses.
const patchID = "220,300,400"

// patchBlocks returns the ranges of a patch with this header, none for what is no patch. A patch is
//
//	"MBDIFF10"  old size(4)  old CRC32(4)  new size(4)  control size(4)  difference size(4)  extra size(4)
//	control block  difference block  extra block
//
// with big-endian numbers. The control block has numbers of four bytes, the difference block is the difference of
// machine code and tables, the extra block is what a new file has of its own.
func patchBlocks(head []byte) []Block {
	if len(head) < patchHeader || string(head[:8]) != "MBDIFF10" {
		return nil
	}
	size := func(at int) int64 { return int64(binary.BigEndian.Uint32(head[at:])) }
	return []Block{
		{Size: patchHeader + size(20), LC: 2, LP: 2, PB: 2},
		{Size: size(24), LC: 3, LP: 0, PB: 0},
		{Size: size(28), LC: 4, LP: 0, PB: 0},
	}
}

package xz

import (
	"encoding/binary"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

// patchHeader is the size of an MBDIFF10 patch's header.
const patchHeader = 32

// patchID names the properties that patchBlocks chooses.
const patchID = "222,choice-2"

// The properties that the difference and the extra block of a patch may have. Which suit depends on the processor
// and on who made the patch: numbers of four bytes want position bits, text and small changes do not.
var (
	differenceProps = []lzma.Props{{LC: 3}, {LC: 2, LP: 2, PB: 2}, {LC: 3, PB: 2}}
	extraProps      = []lzma.Props{{LC: 4}, {LC: 2, LP: 2, PB: 2}, {LC: 3, PB: 2}, {LC: 3}}
)

// chooser is an Encoder that finds out what suits a block.
type chooser interface {
	ChooseProps(choices ...lzma.Props) error
}

// chooseProps lets the encoder choose for the block of a patch that has this many blocks from itself on.
func chooseProps(enc chooser, blocks int) error {
	if blocks == 2 {
		return enc.ChooseProps(differenceProps...)
	}
	return enc.ChooseProps(extraProps...)
}

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

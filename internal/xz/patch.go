package xz

import (
	"encoding/binary"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

// patchHeader is the size of an MBDIFF10 patch's header.
const patchHeader = 32

// patchID names the properties that patchBlocks and outline choose.
const patchID = "222,choice-5"

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

// numberProps are those of lists of numbers of which nearly all have one byte.
var numberProps = []lzma.Props{{LC: 1}}

// smallList is the size in bytes below which the lists of a Zucchini patch go on with the properties of the one before: to
// change them is to begin with what the encoder has learned anew.
const smallList = 8 << 10

// smallPatch is the size in bytes below which a Zucchini patch is too small for properties by lists.
const smallPatch = 64 << 10

// outline follows a Zucchini patch, which is
//
//	"Zucc"  version(4)  old size(4)  old CRC32(4)  new size(4)  new CRC32(4)  number of elements(4)
//	elements: 22 bytes, seven lists, number of pools(4), and for each pool its tag(1) and a list
//
// with little-endian numbers, where a list is its size(4) and its content. Where it is none, or lies, the outline leads
// nowhere, which does no harm.
type outline struct {
	elements uint32 // to come
	pools    uint32 // to come, of this element
	list     int    // which of the seven it is
	began    bool   // the number of elements is known
	state    int
	last     [4]byte // what was written last
}

const (
	outlineHeader = iota
	outlineElement
	outlineList  // of the seven
	outlinePools // their number was read
	outlinePool  // of a list of targets
	outlineEnd
)

// The sizes of what comes before the size of a list.
const (
	zucchiniHeader  = 28
	zucchiniElement = 22
	zucchiniLists   = 7
)

// Which of the lists are not numbers.
const (
	zucchiniExtra = 3 // new bytes
	zucchiniDiff  = 5 // differences
)

func isZucchini(head []byte) bool {
	return len(head) >= zucchiniHeader && string(head[:4]) == "Zucc"
}

// see is told what is written, none of which is behind the end of a block.
func (o *outline) see(p []byte) {
	if len(p) >= 4 {
		copy(o.last[:], p[len(p)-4:])
		return
	}
	copy(o.last[:], o.last[len(p):])
	copy(o.last[4-len(p):], p)
}

// next returns the size of the next block, and the properties that suit it, nil for those of the block before. At the end
// the size is negative.
func (o *outline) next() (int64, []lzma.Props) {
	size := int64(binary.LittleEndian.Uint32(o.last[:]))
	switch o.state {
	case outlineHeader:
		o.state = outlineElement
		return zucchiniHeader, nil
	case outlineElement:
		if !o.began {
			o.elements, o.began = uint32(size), true
		}
		return o.element()
	case outlineList:
		props := numberProps
		switch o.list {
		case zucchiniExtra:
			props = extraProps
		case zucchiniDiff:
			props = differenceProps
		}
		if o.list++; o.list == zucchiniLists {
			o.state = outlinePools
		}
		return size + 4, suiting(size, props)
	case outlinePools:
		if o.pools = uint32(size); o.pools == 0 {
			return o.element()
		}
		o.state = outlinePool
		return 5, nil
	case outlinePool:
		if o.pools--; o.pools > 0 {
			return size + 5, suiting(size, numberProps)
		}
		o.state = outlineElement
		return size, suiting(size, numberProps)
	}
	return -1, nil
}

// element begins the next element.
func (o *outline) element() (int64, []lzma.Props) {
	if o.elements == 0 {
		o.state = outlineEnd
		return -1, nil
	}
	o.elements--
	o.list, o.state = 0, outlineList
	return zucchiniElement + 4, nil
}

func suiting(size int64, props []lzma.Props) []lzma.Props {
	if size < smallList {
		return nil
	}
	return props
}

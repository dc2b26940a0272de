package xz

import "math"

// Defaults of Limits.
const (
	DefaultDict   = 64 << 20 // what Mozilla's updater takes
	DefaultOutput = 1<<31 - 1
	DefaultRatio  = 1000
)

// ratioGrace is how much output the ratio does not look at: small files of zeros are normal.
const ratioGrace = 64 << 20

// hardRatio is more than LZMA2 can reach: 273 bytes cost at least 14 bits of 0.022 bits each.
const hardRatio = 8192

// Limits bound what a compressed file may cost. A zero field means its default, a negative one no limit.
//
// They are checked against what headers claim before anything is allocated, and against what really comes out
// while decoding.
type Limits struct {
	// Dict is the largest dictionary in bytes a block may declare. Memory of a Reader stays below 1.25 times
	// that + 5 MiB.
	Dict int64
	// Output is the most bytes that may come out, over all blocks and streams.
	Output int64
	// Ratio is how many bytes may come out for each compressed byte, once 64 MiB have come out. Patches between
	// nearly equal files are all zeros and reach 6,900: for these, set Output to the size the patch's header
	// promises and Ratio to -1.
	Ratio int64
}

// bounds are Limits with defaults filled in.
type bounds struct {
	dict, output, ratio int64
	grace               int64 // output that the ratio does not look at
}

func (l *Limits) bounds() bounds {
	if l == nil {
		l = &Limits{}
	}
	pick := func(v, def int64) int64 {
		switch {
		case v == 0:
			return def
		case v < 0:
			return math.MaxInt64
		}
		return v
	}
	return bounds{pick(l.Dict, DefaultDict), pick(l.Output, DefaultOutput), pick(l.Ratio, DefaultRatio), ratioGrace}
}

// tooMuch says why plain bytes out of packed ones are too many, or "".
func (b bounds) tooMuch(packed, plain int64) string {
	switch {
	case plain > b.output:
		return "more output than allowed"
	case plain > b.grace && plain/b.ratio > packed:
		return "a higher compression ratio than allowed"
	}
	return ""
}

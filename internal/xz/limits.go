package xz

import "github.com/senbonzakura/senbonzakura/internal/bomb"

// DefaultDict is the largest dictionary, in bytes, that Mozilla's updater takes.
const DefaultDict = 64 << 20

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
	// Output is the most bytes that may come out, over all blocks and streams, and Ratio how many for each compressed
	// byte: see bomb.Limits.
	Output, Ratio int64
}

// bounds are Limits with defaults filled in.
type bounds struct {
	bomb.Bounds
	dict int64
}

func (l *Limits) bounds() bounds {
	if l == nil {
		l = &Limits{}
	}
	return bounds{bomb.Limits{Output: l.Output, Ratio: l.Ratio}.Bounds(), bomb.Or(l.Dict, DefaultDict)}
}

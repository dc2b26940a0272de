// Package bomb says when compressed data gives more than it may.
package bomb

import "math"

// Defaults of Limits.
const (
	DefaultOutput = 1<<31 - 1
	DefaultRatio  = 1000
)

// Grace is how much output the ratio does not look at: small files of zeros are normal.
const Grace = 64 << 20

// Limits bound what may come out. A zero field means its default, a negative one no limit.
type Limits struct {
	// Output is the most bytes that may come out.
	Output int64
	// Ratio is how many bytes may come out for each compressed byte, once 64 MiB have come out. Patches between
	// nearly equal files are all zeros and reach 6,900: for these, set Output to the size the patch's header
	// promises and Ratio to -1.
	Ratio int64
}

// Bounds are Limits with defaults filled in.
type Bounds struct {
	Output, Ratio int64
	Grace         int64 // output that the ratio does not look at
}

// Bounds returns the limits with defaults filled in.
func (l Limits) Bounds() Bounds {
	return Bounds{Or(l.Output, DefaultOutput), Or(l.Ratio, DefaultRatio), Grace}
}

// Or returns v, its default for 0, and the largest number there is for a negative one.
func Or(v, def int64) int64 {
	switch {
	case v == 0:
		return def
	case v < 0:
		return math.MaxInt64
	}
	return v
}

// TooMuch says why plain bytes out of packed ones are too many, or "".
func (b Bounds) TooMuch(packed, plain int64) string {
	switch {
	case plain > b.Output:
		return "more output than allowed"
	case plain > b.Grace && plain/b.Ratio > packed:
		return "a higher compression ratio than allowed"
	}
	return ""
}

package match

import "math/bits"

// A run is up to four differences without an equal byte between them, the first in the lowest byte.
const maxRun = 4

// stats counts what a walk through the new file sees.
type stats struct {
	runs  []uint32         // by hash of the run
	pairs *[1 << 16]uint32 // bytes of the new file by the byte before them; nil where these were counted before
	shift uint             // of a run's hash
}

// newStats returns counters for a new file of n bytes. Most of what a diff of small files takes is memory that has to be
// cleared, so there are pairs only where they are counted.
func newStats(n int, pairs bool) *stats {
	size := uint(8)
	for size < 18 && 1<<size < n/8 {
		size++
	}
	s := &stats{runs: make([]uint32, 1<<size), shift: 32 - size}
	if pairs {
		s.pairs = new([1 << 16]uint32)
	}
	return s
}

// add returns the sum of s, which may be nil and is changed, and t, which is not used any more.
func (s *stats) add(t *stats) *stats {
	if s == nil {
		return t
	}
	for i, n := range t.runs {
		s.runs[i] += n
	}
	if t.pairs != nil {
		for i, n := range t.pairs {
			s.pairs[i] += n
		}
	}
	return s
}

// model says what differences and bytes cost, in 1/costUnit bits.
type model struct {
	runs  []uint16
	pairs *[1 << 16]uint16
	shift uint
}

func runHash(w uint32, n int, shift uint) uint32 {
	return (w*0x9e3779b1 + uint32(n)*0x85ebca6b) >> shift
}

// newModel turns counts into costs, those of pairs taken from a model before where they were not counted again. Logarithms
// are rounded to whole units, so that no machine's arithmetic shows.
func newModel(s *stats, before *model, scale int) *model {
	if scale <= 0 {
		scale = litScale
	}
	m := &model{runs: make([]uint16, len(s.runs)), shift: s.shift}
	total := uint64(0)
	for _, n := range s.runs {
		total += uint64(n)
	}
	whole := log2(total*4 + 1<<14)
	for i, n := range s.runs {
		m.runs[i] = uint16(whole - log2(uint64(n)*4+1))
	}
	if s.pairs == nil {
		m.pairs = before.pairs
		return m
	}
	m.pairs = new([1 << 16]uint16)
	for c := range 256 {
		row := s.pairs[c<<8 : c<<8+256]
		sum := uint64(0)
		for _, n := range row {
			sum += uint64(n)
		}
		whole := log2(sum*16 + 256*8)
		cost := func(n uint32) uint16 {
			// At least something, or nothing would be better than whatever the old file has.
			return uint16(max(1, (whole-log2(uint64(n)*16+8))*scale/64))
		}
		unseen := cost(0) // what nearly all pairs of a small file are
		for k, n := range row {
			if m.pairs[c<<8+k] = unseen; n > 0 {
				m.pairs[c<<8+k] = cost(n)
			}
		}
	}
	return m
}

// log2 returns the logarithm of x, which is not zero, in 1/costUnit bits, rounded down.
func log2(x uint64) int {
	n := bits.Len64(x) - 1
	// The bits after the first one, 8 of them, say where between two powers x is.
	return n*costUnit + int(log2Table[x<<(63-n)>>55&0xff])
}

// log2Table has the logarithms of 1 + i/256, in 1/costUnit bits, rounded down.
var log2Table = [256]uint8{
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5,
	5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9,
	9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11,
	11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
	12, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14,
	14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
}

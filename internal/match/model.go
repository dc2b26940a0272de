package match

import "math/bits"

// A run is up to four differences without an equal byte between them, the first in the lowest byte.
const maxRun = 4

// stats counts what a first, greedy walk through the new file sees.
type stats struct {
	runs  []uint32        // by hash of the run
	pairs [1 << 16]uint32 // bytes of the new file by the byte before them
	shift uint            // of a run's hash
}

// newStats returns counters for a new file of n bytes.
func newStats(n int) *stats {
	size := uint(8)
	for size < 18 && 1<<size < n/8 {
		size++
	}
	return &stats{runs: make([]uint32, 1<<size), shift: 32 - size}
}

func (s *stats) add(t *stats) {
	for i, n := range t.runs {
		s.runs[i] += n
	}
	for i, n := range t.pairs {
		s.pairs[i] += n
	}
}

// model says what differences and bytes cost, in 1/costUnit bits.
type model struct {
	runs  []uint16
	pairs [1 << 16]uint16
	shift uint
}

func runHash(w uint32, n int, shift uint) uint32 {
	return (w*0x9e3779b1 + uint32(n)*0x85ebca6b) >> shift
}

// newModel turns counts into costs. Logarithms are rounded to whole units, so that no machine's
// arithmetic shows.
func newModel(s *stats) *model {
	m := &model{runs: make([]uint16, len(s.runs)), shift: s.shift}
	total := uint64(0)
	for _, n := range s.runs {
		total += uint64(n)
	}
	whole := log2(total*4 + 1<<14)
	for i, n := range s.runs {
		m.runs[i] = uint16(whole - log2(uint64(n)*4+1))
	}
	for c := range 256 {
		row := s.pairs[c<<8 : c<<8+256]
		sum := uint64(0)
		for _, n := range row {
			sum += uint64(n)
		}
		whole := log2(sum*16 + 256*8)
		for k, n := range row {
			// At least something, or nothing would be better than whatever the old file has.
			m.pairs[c<<8+k] = uint16(max(1, (whole-log2(uint64(n)*16+8))*litScale/64))
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

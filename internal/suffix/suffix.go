// Package suffix sorts the suffixes of a byte string in linear time.
//
// The suffix array of a text lists the starts of all its suffixes in lexical order:
//
//	text            b a n a n a
//	start           0 1 2 3 4 5
//	suffix array    5 3 1 0 4 2        a, ana, anana, banana, na, nana
//
// The algorithm is SA-IS (Nong, Zhang, Chan: "Linear Suffix Array Construction by Almost Pure
// Induced-Sorting", 2009). Every input takes time proportional to its length, also a text of one
// repeated byte. Beside the array itself it needs a few kilobytes, and for a text of many different
// short substrings at most as much again as a quarter of the array.
package suffix

import (
	"context"
	"slices"
)

// MaxLen is the length of the longest text that can be sorted: starts are kept in 32 bits.
const MaxLen = 1<<31 - 2

// Sort fills sa with the starts of all suffixes of text in lexical order; a suffix that is a prefix
// of another comes first. The length of sa must be that of text, and that at most [MaxLen]; Sort
// panics otherwise. What sa held before does not matter. Sort is safe for concurrent use on
// different arrays.
func Sort(sa []int32, text []byte) {
	// Without an end of the context there is no error.
	_ = SortContext(context.Background(), sa, text)
}

// SortContext is like [Sort], but gives up soon after ctx ends: then sa holds nothing of use, and the error
// is that of ctx.
func SortContext(ctx context.Context, sa []int32, text []byte) error {
	if len(sa) != len(text) || len(text) > MaxLen {
		panic("suffix: array and text differ in length, or the text is too long")
	}
	var space [512]int32
	return sortText(ctx, sa, text, 256, space[:])
}

// sweepBlock is how many entries a sweep handles between two looks at the context.
const sweepBlock = 1 << 20

// symbol is a letter of a text: a byte of the input, or in the recursion the rank of a substring.
type symbol interface{ byte | int32 }

// sortText sorts the suffixes of text, whose symbols are below k. space is scratch memory for bucket
// counts; it is replaced where it is shorter than k.
//
// A suffix has type S when it is smaller than the suffix that starts one symbol later, else type L;
// the last one has type L, for the end is smaller than every symbol. LMS positions are those of type
// S with an L before them. Once the LMS suffixes are sorted the order of all others follows from two
// sweeps over the array (induce).
func sortText[T symbol](ctx context.Context, sa []int32, text []T, k int, space []int32) error {
	n := len(text)
	switch n {
	case 0:
		return nil
	case 1:
		sa[0] = 0
		return nil
	}
	var counts, bounds []int32
	switch {
	case len(space) >= 2*k:
		counts, bounds = space[:k:k], space[k:2*k:2*k]
	case len(space) >= k:
		bounds = space[:k:k]
	default:
		bounds = make([]int32, k)
	}
	b := buckets[T]{text: text, counts: counts, bounds: bounds}
	if counts != nil {
		clear(counts)
		for _, c := range text {
			counts[c]++
		}
	}

	// Sort the substrings between LMS positions: enter these in any order, induce, collect.
	clear(sa)
	b.ends()
	m := 0
	eachLMS(text, func(i int) {
		c := text[i]
		bounds[c]--
		sa[bounds[c]] = int32(i)
		m++
	})
	if m > 1 {
		b.starts()
		if err := reduceL(ctx, sa, text, bounds); err != nil {
			return err
		}
		b.ends()
		if err := reduceS(ctx, sa, text, bounds); err != nil {
			return err
		}
		at := 0
		for _, j := range sa {
			if j < 0 {
				sa[at] = ^j
				at++
			}
		}
		names := rankSubstrings(sa, text, m)
		ranks := sa[n-m:]
		if names < m {
			if err := sortText(ctx, sa[:m:m], ranks, names, sa[m:n-m:n-m]); err != nil {
				return err
			}
		} else {
			for i, r := range ranks {
				sa[r] = int32(i)
			}
		}
		// From numbers of LMS positions to the positions.
		at = n
		eachLMS(text, func(i int) {
			at--
			sa[at] = int32(i)
		})
		for i, r := range sa[:m] {
			sa[i] = ranks[r]
		}
		clear(sa[m:])
		b.ends()
		for i := m - 1; i >= 0; i-- {
			j := sa[i]
			sa[i] = 0
			c := text[j]
			bounds[c]--
			sa[bounds[c]] = j
		}
	}
	b.starts()
	if err := induceL(ctx, sa, text, bounds); err != nil {
		return err
	}
	b.ends()
	return induceS(ctx, sa, text, bounds)
}

// buckets computes where the bucket of each symbol, the suffixes that begin with it, starts and ends.
type buckets[T symbol] struct {
	text   []T
	counts []int32 // occurrences of each symbol; nil where memory does not allow to keep them
	bounds []int32
}

func (b *buckets[T]) load() {
	if b.counts != nil {
		copy(b.bounds, b.counts)
		return
	}
	clear(b.bounds)
	for _, c := range b.text {
		b.bounds[c]++
	}
}

func (b *buckets[T]) starts() {
	b.load()
	at := int32(0)
	for i, c := range b.bounds {
		b.bounds[i] = at
		at += c
	}
}

func (b *buckets[T]) ends() {
	b.load()
	at := int32(0)
	for i, c := range b.bounds {
		at += c
		b.bounds[i] = at
	}
}

// eachLMS calls visit for every LMS position of text, from the last to the first.
func eachLMS[T symbol](text []T, visit func(i int)) {
	next := text[len(text)-1]
	smaller := false // whether the suffix at i+1 has type S
	for i := len(text) - 2; i >= 0; i-- {
		c := text[i]
		switch {
		case c < next:
			smaller = true
		case c > next:
			if smaller {
				visit(i + 1)
			}
			smaller = false
		}
		next = c
	}
}

// rankSubstrings takes in sa[:m] the LMS positions sorted by the substrings up to the next LMS
// position, leaves in sa[len(sa)-m:] for each of them, in order of the text, the rank of its
// substring among the different ones, and returns how many these are.
func rankSubstrings[T symbol](sa []int32, text []T, m int) int {
	n := len(text)
	// LMS positions are at least 2 apart, so that half of one identifies it.
	lengths := sa[m:]
	clear(lengths)
	next := n
	eachLMS(text, func(i int) {
		lengths[i/2] = int32(next - i + 1)
		next = i
	})
	rank := int32(0)
	prev, prevLen := 0, int32(-1)
	for _, p := range sa[:m] {
		i, l := int(p), lengths[p/2]
		same := l == prevLen && i+int(l) <= n && prev+int(l) <= n
		if same {
			a, b := text[i:i+int(l)], text[prev:prev+int(l)]
			for x := range a {
				if a[x] != b[x] {
					same = false
					break
				}
			}
		}
		if !same {
			rank++
			prev, prevLen = i, l
		}
		lengths[p/2] = rank
	}
	at := n
	for i := (n - 1) / 2; i >= 0; i-- {
		if i < len(lengths) && lengths[i] != 0 {
			at--
			sa[at] = lengths[i] - 1
		}
	}
	return int(rank)
}

// The sweeps. An entry that is positive when a sweep comes to it stands for a suffix whose
// predecessor, the suffix one symbol longer, is of the type that the sweep enters; others are stored
// complemented. One look at the text, when the entry is made, decides that: the two symbols needed
// then stand side by side.

// reduceL enters the suffixes of type L, given those at LMS positions, and drops what it has used:
// what remains are L suffixes preceded by type S. Suffix 0 precedes nothing, 0 means empty.
func reduceL[T symbol](ctx context.Context, sa []int32, text []T, bounds []int32) error {
	enter := func(j int32) {
		c := text[j]
		v := j
		if j > 0 && text[j-1] < c {
			v = ^j
		}
		p := bounds[c]
		bounds[c] = p + 1
		sa[p] = v
	}
	enter(int32(len(text) - 1))
	for part := range slices.Chunk(sa, sweepBlock) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, j := range part {
			if j > 0 {
				part[i] = 0
				j--
				c := text[j]
				v := j
				if j > 0 && text[j-1] < c {
					v = ^j
				}
				p := bounds[c]
				bounds[c] = p + 1
				sa[p] = v
			} else if j < 0 {
				part[i] = ^j
			}
		}
	}
	return nil
}

// reduceS enters the suffixes of type S, given what reduceL leaves: what remains are those at LMS
// positions, complemented.
func reduceS[T symbol](ctx context.Context, sa []int32, text []T, bounds []int32) error {
	for end := len(sa); end > 0; end -= min(end, sweepBlock) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := end - 1; i >= max(end-sweepBlock, 0); i-- {
			j := sa[i]
			if j <= 0 {
				continue
			}
			sa[i] = 0
			j--
			c := text[j]
			v := j
			if j > 0 && text[j-1] > c {
				v = ^j
			}
			p := bounds[c] - 1
			bounds[c] = p
			sa[p] = v
		}
	}
	return nil
}

// induceL enters the suffixes of type L, given the sorted ones at LMS positions.
func induceL[T symbol](ctx context.Context, sa []int32, text []T, bounds []int32) error {
	last := int32(len(text) - 1)
	c := text[last]
	v := last
	if text[last-1] < c {
		v = ^last
	}
	sa[bounds[c]] = v
	bounds[c]++
	for part := range slices.Chunk(sa, sweepBlock) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, j := range part {
			part[i] = ^j
			if j > 0 {
				j--
				c := text[j]
				v := j
				if j > 0 && text[j-1] < c {
					v = ^j
				}
				p := bounds[c]
				bounds[c] = p + 1
				sa[p] = v
			}
		}
	}
	return nil
}

// induceS enters the suffixes of type S, given those of type L, and clears all marks.
func induceS[T symbol](ctx context.Context, sa []int32, text []T, bounds []int32) error {
	for end := len(sa); end > 0; end -= min(end, sweepBlock) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := end - 1; i >= max(end-sweepBlock, 0); i-- {
			j := sa[i]
			if j <= 0 {
				sa[i] = ^j
				continue
			}
			j--
			c := text[j]
			v := j
			if j == 0 || text[j-1] > c {
				v = ^j
			}
			p := bounds[c] - 1
			bounds[c] = p
			sa[p] = v
		}
	}
	return nil
}

package match

import (
	"context"
	"encoding/binary"
	"slices"
)

// Tables of addresses or distances have few bytes that agree once what they point to has moved, but
// the differences of successive words often do. numeric finds places of the old file by four such
// differences, of 32-bit words 4 or 8 bytes apart.
type numeric struct {
	old    []byte
	stride int
	shift  uint
	mask   uint64 // positions are known for which these bits of the hash are zero
	starts []uint32
	places []uint32 // positions divided by 4
}

// numericShare is how many bytes of the old file there are at least for each place in the index.
const numericShare = 64

// numericLimit bounds the differences that make words a table.
const numericLimit = 1 << 22

// sequence returns a hash of the four differences of words stride bytes apart at i, or false when
// they do not look like those of a table.
func sequence(b []byte, i, stride int) (uint64, bool) {
	if i+4*stride+4 > len(b) {
		return 0, false
	}
	b = b[i : i+4*stride+4]
	w0 := binary.LittleEndian.Uint32(b)
	w1 := binary.LittleEndian.Uint32(b[stride:])
	d0 := w1 - w0
	if d0+numericLimit >= 2*numericLimit {
		return 0, false
	}
	w2 := binary.LittleEndian.Uint32(b[2*stride:])
	d1 := w2 - w1
	if d1+numericLimit >= 2*numericLimit {
		return 0, false
	}
	w3 := binary.LittleEndian.Uint32(b[3*stride:])
	d2 := w3 - w2
	if d2+numericLimit >= 2*numericLimit {
		return 0, false
	}
	d3 := binary.LittleEndian.Uint32(b[4*stride:]) - w3
	if d3+numericLimit >= 2*numericLimit {
		return 0, false
	}
	// Repetition says nothing about the place.
	if d0 == d1 && d1 == d2 || d0 == d2 && d1 == d3 || d0|d1 == 0 || d2|d3 == 0 {
		return 0, false
	}
	h := uint64(d0)<<32 | uint64(d1)
	h = (h ^ h>>29) * 0x9e3779b97f4a7c15
	h ^= uint64(d2)<<32 | uint64(d3)
	return (h ^ h>>32) * 0xd6e8feb86659fd93, true
}

// numericBits returns the number of hash bits of the index of an old file of n bytes.
func numericBits(n int64) uint {
	hashBits := uint(6)
	for hashBits < 18 && int64(1)<<hashBits < n/numericShare {
		hashBits++
	}
	return hashBits
}

func newNumeric(ctx context.Context, old []byte, stride int) (*numeric, error) {
	x := &numeric{old: old, stride: stride}
	hashBits := numericBits(int64(len(old)))
	x.shift = 64 - hashBits
	x.starts = make([]uint32, 1<<hashBits+1)
	ends := x.starts[1:]
	each := func(visit func(i int, h uint64)) error {
		for from := 0; from < len(old); from += 1 << 20 {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := from; i < min(len(old), from+1<<20); i += 4 {
				if h, ok := sequence(old, i, stride); ok && h&x.mask == 0 {
					visit(i, h)
				}
			}
		}
		return nil
	}
	n := 0
	if err := each(func(_ int, h uint64) { n++ }); err != nil {
		return nil, err
	}
	for n > len(old)/numericShare {
		x.mask = x.mask<<1 | 1
		n /= 2
	}
	n = 0
	if err := each(func(_ int, h uint64) { ends[h>>x.shift]++; n++ }); err != nil {
		return nil, err
	}
	sum := uint32(0)
	for i, c := range ends {
		ends[i] = sum
		sum += c
	}
	x.places = make([]uint32, n)
	if err := each(func(i int, h uint64) {
		x.places[ends[h>>x.shift]] = uint32(i / 4)
		ends[h>>x.shift]++
	}); err != nil {
		return nil, err
	}
	// What was the start of each bucket has become its end.
	return x, nil
}

// search returns the place nearest to near whose differences are those of new at i, or -1.
func (x *numeric) search(new []byte, i, near int) int {
	h, ok := sequence(new, i, x.stride)
	if !ok || h&x.mask != 0 {
		return -1
	}
	k := h >> x.shift
	b := x.places[x.starts[k]:x.starts[k+1]]
	if len(b) > lookAt {
		p, _ := slices.BinarySearch(b, uint32(max(0, near)/4))
		from := min(max(0, p-lookAt/2), len(b)-lookAt)
		b = b[from : from+lookAt]
	}
	best := -1
	for _, p := range b {
		o := int(p) * 4
		if g, _ := sequence(x.old, o, x.stride); g == h && (best < 0 || abs(o-near) < abs(best-near)) {
			best = o
		}
	}
	return best
}

package match

import (
	"context"
	"encoding/binary"
	"math/bits"
	"slices"
)

// seedLen is the number of bytes by which the index is looked up.
const seedLen = 8

// load64 returns the 8 bytes of b at i. The caller makes sure that they exist.
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// equalLen returns how many bytes of a and b agree, from the first one on.
func equalLen(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := load64(a, i) ^ load64(b, i); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n; i++ {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// equalLenBack returns how many bytes of a and b agree, from the last one backwards.
func equalLenBack(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[len(a)-n:], b[len(b)-n:]
	i := n
	for ; i >= 8; i -= 8 {
		if x := load64(a, i-8) ^ load64(b, i-8); x != 0 {
			return n - i + bits.LeadingZeros64(x)/8
		}
	}
	for ; i > 0; i-- {
		if a[i-1] != b[i-1] {
			break
		}
	}
	return n - i
}

// zeroBytes returns the number of bytes of x that are zero.
func zeroBytes(x uint64) int {
	const low = 0x7f7f7f7f7f7f7f7f
	return bits.OnesCount64(^(((x & low) + low) | x | low))
}

// index finds places of the old file by their next 8 bytes. It knows every stride-th position,
// grouped by hash in buckets of rising positions.
type index struct {
	old    []byte
	shift  uint     // of the product that is the hash
	stride int      // distance of the positions in the index
	starts []uint32 // where the bucket of each hash starts in places, and an end
	places []uint32 // positions divided by stride
}

// indexShape returns the stride and the number of hash bits of the index of an old file of n bytes.
func indexShape(n int64) (stride int, hashBits uint) {
	// Every position of a large file would double the memory for some tenths of a percent.
	stride = 1
	if n > 24<<20 {
		stride = 2
	}
	hashBits = 6
	for hashBits < 24 && int64(1)<<hashBits < n/int64(stride) {
		hashBits++
	}
	return stride, hashBits
}

func hash64(x uint64, shift uint) uint32 { return uint32((x * 0x9e3779b97f4a7c15) >> shift) }

// scratch is the memory of an index, which the next one uses again.
type scratch struct{ starts, places []uint32 }

// resized returns a table of n zeros, in the array of list where there is room.
func resized(list []uint32, n int) []uint32 {
	if cap(list) < n {
		return make([]uint32, n)
	}
	list = list[:n]
	clear(list)
	return list
}

func newIndex(ctx context.Context, old []byte, memory *scratch) (*index, error) {
	stride, hashBits := indexShape(int64(len(old)))
	x := &index{old: old, shift: 64 - hashBits, stride: stride}
	memory.starts = resized(memory.starts, 1<<hashBits+1)
	x.starts = memory.starts
	n := 0
	if len(old) >= seedLen {
		n = (len(old)-seedLen)/stride + 1
	}
	memory.places = resized(memory.places, n)
	x.places = memory.places
	ends := x.starts[1:]
	err := x.sort(ctx, n, false, func(list []keyed) {
		for _, k := range list {
			ends[k.hash]++
		}
	})
	if err != nil {
		return nil, err
	}
	sum := uint32(0)
	for i, c := range ends {
		sum += c
		ends[i] = sum
	}
	// From the last to the first, so that each bucket rises and ends become starts.
	err = x.sort(ctx, n, true, func(list []keyed) {
		for _, k := range list {
			ends[k.hash]--
			x.places[ends[k.hash]] = k.place
		}
	})
	if err != nil {
		return nil, err
	}
	// ends[h] is now the start of bucket h; the end of the last bucket is n.
	copy(x.starts, ends)
	x.starts[len(x.starts)-1] = uint32(n)
	return x, nil
}

// keyed is a place with its hash.
type keyed struct{ hash, place uint32 }

// How many bins sort has, and how many places it collects in each.
const (
	binBits = 7
	binSize = 1024
	// fewPlaces is below how many places one bin will do: their counts do not leave the processor's cache, and making the
	// bins would take longer than the rest.
	fewPlaces = 1 << 15
)

// sort visits the places below n, or from the last one on down, with their hashes, in lists of which each has
// hashes from a small range: to visit them one by one would be to wait for memory each time. Those of one hash
// are visited in order.
func (x *index) sort(ctx context.Context, n int, down bool, visit func(list []keyed)) error {
	const lap = 1 << 20 // positions between two looks at ctx
	hashBits := 64 - x.shift
	bits := min(hashBits, binBits)
	if n < fewPlaces {
		bits = 0
	}
	shift := hashBits - bits
	var fill [1 << binBits]int
	lists := make([]keyed, binSize<<bits)
	for from := 0; from < n; from += lap {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := from; i < min(n, from+lap); i++ {
			place := i
			if down {
				place = n - 1 - i
			}
			h := hash64(load64(x.old, place*x.stride), x.shift)
			bin := h >> shift % uint32(len(fill))
			k := fill[bin]
			lists[int(bin)*binSize+k] = keyed{h, uint32(place)}
			if k++; k == binSize {
				visit(lists[int(bin)*binSize:][:k])
				k = 0
			}
			fill[bin] = k
		}
	}
	for bin, k := range fill {
		if k > 0 {
			visit(lists[bin*binSize:][:k])
		}
	}
	return nil
}

// search returns the longest of the stretches that start with the 8 bytes of new at i, among the
// places of the old file nearest to near. The length is 0 when there is none.
func (x *index) search(new []byte, i, near int) (at, length int) {
	if i+seedLen > len(new) {
		return 0, 0
	}
	seed := load64(new, i)
	h := hash64(seed, x.shift)
	b := x.places[x.starts[h]:x.starts[h+1]]
	if len(b) > lookAt {
		p := uint32(max(0, near) / x.stride)
		k, _ := slices.BinarySearch(b, p)
		from := min(max(0, k-lookAt/2), len(b)-lookAt)
		b = b[from : from+lookAt]
	}
	for _, p := range b {
		o := int(p) * x.stride
		if load64(x.old, o) != seed {
			continue
		}
		l := seedLen + equalLen(x.old[o+seedLen:min(len(x.old), o+maxLook)], new[i+seedLen:])
		if l > length || l == length && abs(o-near) < abs(at-near) {
			at, length = o, l
		}
	}
	if first := new[i]; length > 0 && seed == uint64(first)*0x0101010101010101 {
		// A run of one byte: the places nearest to near are not where the longest one begins.
		more := equalLen(new[i:min(len(new)-1, i+maxLook)], new[i+1:]) + 1 - length
		for ; more > 0 && at > 0 && x.old[at-1] == first; more-- {
			at--
			length++
		}
	}
	return at, length
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}

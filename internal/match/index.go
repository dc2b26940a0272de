package match

import (
	"context"
	"encoding/binary"
	"math/bits"
	"slices"

	"golang.org/x/sync/errgroup"
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

// newIndex makes the index, in that many parts at the same time.
func newIndex(ctx context.Context, old []byte, parts int) (*index, error) {
	stride, hashBits := indexShape(int64(len(old)))
	x := &index{old: old, shift: 64 - hashBits, stride: stride}
	x.starts = make([]uint32, 1<<hashBits+1)
	n := 0
	if len(old) >= seedLen {
		n = (len(old)-seedLen)/stride + 1
	}
	x.places = make([]uint32, n)
	const lap = 1 << 20 // positions between two looks at ctx
	ends := x.starts[1:]
	// Each part goes over all positions and cares for buckets of its own: what takes the time is to wait for those.
	each := func(work func(ctx context.Context, first, count uint32) error) error {
		g, ctx := errgroup.WithContext(ctx)
		for p := range parts {
			first := len(ends) * p / parts
			g.Go(func() error { return work(ctx, uint32(first), uint32(len(ends)*(p+1)/parts-first)) })
		}
		return g.Wait()
	}
	err := each(func(ctx context.Context, first, count uint32) error {
		for from := 0; from < n; from += lap {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := from; i < min(n, from+lap); i++ {
				if h := hash64(load64(old, i*stride), x.shift); h-first < count {
					ends[h]++
				}
			}
		}
		return nil
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
	err = each(func(ctx context.Context, first, count uint32) error {
		for to := n; to > 0; to -= lap {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := to - 1; i >= max(0, to-lap); i-- {
				if h := hash64(load64(old, i*stride), x.shift); h-first < count {
					ends[h]--
					x.places[ends[h]] = uint32(i)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// ends[h] is now the start of bucket h; the end of the last bucket is n.
	copy(x.starts, ends)
	x.starts[len(x.starts)-1] = uint32(n)
	return x, nil
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
	return at, length
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}

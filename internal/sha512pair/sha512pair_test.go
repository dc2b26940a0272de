package sha512pair

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// Both streams of a pair get what crypto/sha512 makes of them, from any state between blocks.
func TestHashTogether(t *testing.T) {
	t.Parallel()
	if !paired {
		t.Skip("the processor cannot hash two streams together")
	}
	p, q := noise(1, 64<<10), noise(2, 64<<10)
	for _, before := range []int{0, 128, 1280} {
		for _, n := range []int{128, 256, 384, 4096, 64 << 10} {
			a, b := sha512.New(), sha512.New()
			a.Write(q[:before])
			b.Write(p[:2*before])
			if !hashTogether(a, b, p[:n], q[:n]) {
				t.Fatalf("%d bytes after %d: not hashed", n, before)
			}
			a.Write(q[:5])
			b.Write(p[:7])
			wantA, wantB := sha512.New(), sha512.New()
			for _, part := range [][]byte{q[:before], p[:n], q[:5]} {
				wantA.Write(part)
			}
			for _, part := range [][]byte{p[:2*before], q[:n], p[:7]} {
				wantB.Write(part)
			}
			if got, want := a.Sum(nil), wantA.Sum(nil); !bytes.Equal(got, want) {
				t.Errorf("%d bytes after %d, first: got %x, want %x", n, before, got, want)
			}
			if got, want := b.Sum(nil), wantB.Sum(nil); !bytes.Equal(got, want) {
				t.Errorf("%d bytes after %d, second: got %x, want %x", n, before, got, want)
			}
		}
	}
	// What it cannot do it leaves alone.
	inBlock := sha512.New()
	inBlock.Write([]byte{1})
	for name, try := range map[string]func() bool{
		"part of a block":       func() bool { return hashTogether(sha512.New(), sha512.New(), p[:130], q[:130]) },
		"nothing":               func() bool { return hashTogether(sha512.New(), sha512.New(), nil, nil) },
		"other length":          func() bool { return hashTogether(sha512.New(), sha512.New(), p[:128], q[:256]) },
		"in a block":            func() bool { return hashTogether(inBlock, sha512.New(), p[:128], q[:128]) },
		"in the other's block":  func() bool { return hashTogether(sha512.New(), inBlock, p[:128], q[:128]) },
		"another hash function": func() bool { return hashTogether(sha512.New384(), sha512.New(), p[:128], q[:128]) },
	} {
		if try() {
			t.Errorf("%s: hashed", name)
		}
	}
	if got, want := inBlock.Sum(nil), sha512.Sum512([]byte{1}); !bytes.Equal(got, want[:]) {
		t.Errorf("what it left alone became %x", got)
	}
}

// FuzzHashTogether holds blocks of any content against crypto/sha512.
func FuzzHashTogether(f *testing.F) {
	f.Add([]byte{}, []byte{0xff})
	f.Add(noise(3, 300), noise(4, 500))
	f.Fuzz(func(t *testing.T, p, q []byte) {
		n := (max(len(p), len(q)) + 128) &^ 127
		p, q = append(p, make([]byte, n-len(p))...), append(q, make([]byte, n-len(q))...)
		a, b := sha512.New(), sha512.New()
		hashPair(a, b, p, q)
		wantA, wantB := sha512.Sum512(p), sha512.Sum512(q)
		if !bytes.Equal(a.Sum(nil), wantA[:]) || !bytes.Equal(b.Sum(nil), wantB[:]) {
			t.Errorf("got %x and %x, want %x and %x", a.Sum(nil), b.Sum(nil), wantA, wantB)
		}
	})
}

// A growing is a file that grows as it is told, and cannot be read beyond its end.
type growing struct {
	data []byte
	size atomic.Int64
}

func (f *growing) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.data[:f.size.Load()]).ReadAt(p, off)
}

func (f *growing) grow(s *Stream, n int) {
	f.size.Add(int64(n))
	s.Grown(int64(n))
}

// Any number of streams that grow in any pieces at the same time, begin again and are given up in the middle give what
// each gives alone.
func TestGroup(t *testing.T) {
	t.Parallel()
	var g Group
	data := noise(5, 10*parcel)
	var wg sync.WaitGroup
	for i := range 7 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(6, uint64(i)))
			for round := range 24 {
				n := rng.IntN(len(data))
				from := rng.IntN(len(data) - n)
				f := &growing{data: data[from : from+n]}
				s := g.New(f)
				grow := func(n int) {
					for n > 0 {
						k := min(n, 1+rng.IntN(2*parcel))
						f.grow(s, k)
						n -= k
					}
				}
				switch round % 4 {
				case 1: // begun again
					grow(rng.IntN(n + 1))
					s.Reset()
					f.size.Store(0)
				case 2: // given up
					grow(n / 2)
					s.Close()
					continue
				}
				half := rng.IntN(n + 1)
				grow(half)
				if i%2 == 0 { // asked in the middle
					if got, err := s.Sum(); got != sha512.Sum512(f.data[:half]) || err != nil {
						t.Errorf("stream %d, round %d: got %x, %v in the middle", i, round, got, err)
					}
				}
				grow(n - half)
				for range 2 {
					if got, err := s.Sum(); got != sha512.Sum512(f.data) || err != nil {
						t.Errorf("stream %d, round %d, %d bytes: got %x, %v", i, round, n, got, err)
					}
				}
				s.Close()
				s.Close()
			}
		})
	}
	wg.Wait()
	if len(g.open) > 0 {
		t.Errorf("%d streams are open in the end", len(g.open))
	}
}

// Streams that are there together wait for each other, up to a point, and are hashed together; one alone waits for
// nobody.
func TestPairing(t *testing.T) {
	t.Parallel()
	var g Group
	data := noise(7, maxLag+2*parcel)
	a, b := &growing{data: data}, &growing{data: data}
	first := g.New(a)
	defer first.Close()
	a.grow(first, parcel)
	if first.taken != parcel {
		t.Errorf("alone: %d bytes are hashed, want %d", first.taken, parcel)
	}
	second := g.New(b)
	defer second.Close()
	if !paired {
		t.Skip("the processor cannot hash two streams together")
	}
	a.grow(first, 2*parcel+5)
	if first.taken != parcel {
		t.Errorf("with another one that is behind: %d bytes are hashed, want still %d", first.taken, parcel)
	}
	b.grow(second, parcel)
	if first.taken != 2*parcel || second.taken != parcel {
		t.Errorf("with another one that comes: %d and %d bytes are hashed, want %d and %d", first.taken, second.taken, 2*parcel, parcel)
	}
	second.Reset()
	b.size.Store(0)
	a.grow(first, maxLag-2*parcel-5)
	if want := int64(2 * parcel); first.taken != want {
		t.Errorf("just before it waits for too long: %d bytes are hashed, want %d", first.taken, want)
	}
	a.grow(first, parcel)
	if lag := first.there - first.taken; lag >= maxLag {
		t.Errorf("%d bytes wait, want less than %d", lag, maxLag)
	}
	b.grow(second, len(data)-10)
	for i, s := range []*Stream{first, second} {
		f := []*growing{a, b}[i]
		if got, err := s.Sum(); got != sha512.Sum512(f.data[:f.size.Load()]) || err != nil {
			t.Errorf("stream %d: got %x, %v", i, got, err)
		}
	}
}

// A file that cannot be read spoils no sum but its own.
func TestReadError(t *testing.T) {
	t.Parallel()
	var g Group
	data := noise(10, 4*parcel)
	for _, badFirst := range []bool{true, false} {
		good, bad := &growing{data: data}, &growing{data: data}
		s, broken := g.New(good), g.New(bad)
		tell := func() { broken.Grown(2 * parcel) } // which is not true
		if badFirst {
			tell()
		}
		good.grow(s, len(data))
		if !badFirst {
			tell()
		}
		if _, err := broken.Sum(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("bad one first %v: %v", badFirst, err)
		}
		if got, err := s.Sum(); got != sha512.Sum512(data) || err != nil {
			t.Errorf("bad one first %v: the other one: %x, %v", badFirst, got, err)
		}
		broken.Reset()
		bad.grow(broken, 10)
		if got, err := broken.Sum(); got != sha512.Sum512(data[:10]) || err != nil {
			t.Errorf("bad one first %v: begun again: %x, %v", badFirst, got, err)
		}
		s.Close()
		broken.Close()
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	var g Group
	data := noise(11, 3*parcel+1)
	for _, n := range []int{0, 1, parcel, len(data)} {
		if got, err := g.Sum(t.Context(), bytes.NewReader(data), int64(n)); got != sha512.Sum512(data[:n]) || err != nil {
			t.Errorf("%d bytes: got %x, %v", n, got, err)
		}
	}
	if _, err := g.Sum(t.Context(), bytes.NewReader(data), int64(len(data)+1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("more than there is: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Sum(ctx, bytes.NewReader(data), 10); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if len(g.open) > 0 {
		t.Errorf("%d streams are open in the end", len(g.open))
	}
}

func BenchmarkHash(b *testing.B) {
	p, q := noise(8, parcel), noise(9, parcel)
	for name, do := range map[string]func(x, y hash.Hash){
		"together": func(x, y hash.Hash) { hashPair(x, y, p, q) },
		"alone":    func(x, y hash.Hash) { x.Write(p); y.Write(q) },
	} {
		b.Run("how="+name, func(b *testing.B) {
			x, y := sha512.New(), sha512.New()
			b.SetBytes(2 * parcel)
			for b.Loop() {
				do(x, y)
			}
		})
	}
}

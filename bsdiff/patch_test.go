package bsdiff

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// memory is an io.WriterAt.
type memory struct{ b []byte }

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if need := int(at) + len(b); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[at:], b), nil
}

// ways are all the ways to apply a patch.
var ways = []struct {
	name  string
	apply func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error)
}{
	{"random access", func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error) {
		tb.Helper()
		var b bytes.Buffer
		n, err := Patch(tb.Context(), &b, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), o)
		if n != int64(b.Len()) {
			tb.Errorf("Patch says %d bytes, wrote %d", n, b.Len())
		}
		return b.Bytes(), err
	}},
	{"stream", func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error) {
		tb.Helper()
		var b bytes.Buffer
		_, err := Patch(tb.Context(), &b, bytes.NewReader(old), int64(len(old)), iotest.HalfReader(bytes.NewReader(patch)), o)
		return b.Bytes(), err
	}},
	{"one byte", func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error) {
		tb.Helper()
		var b bytes.Buffer
		_, err := Patch(tb.Context(), &b, bytes.NewReader(old), int64(len(old)), iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(patch))), o)
		return b.Bytes(), err
	}},
	{"to", func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error) {
		tb.Helper()
		var m memory
		n, err := PatchTo(tb.Context(), &m, bytes.NewReader(old), int64(len(old)), io.MultiReader(bytes.NewReader(patch)), o)
		if err == nil && n != int64(len(m.b)) {
			tb.Errorf("PatchTo says %d bytes, wrote %d", n, len(m.b))
		}
		return m.b, err
	}},
	{"bytes", func(tb testing.TB, old, patch []byte, o *PatchOptions) ([]byte, error) {
		tb.Helper()
		dirty := bytes.Repeat([]byte{0xAA}, 1000)
		return PatchBytes(tb.Context(), dirty, old, io.MultiReader(bytes.NewReader(patch)), o)
	}},
}

func TestPatchRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range seeds(80, 400) {
		r := rand.New(rand.NewPCG(seed, 2))
		size := 2000
		if seed%40 == 0 {
			size = 20_000
		}
		old, new := randomPair(r, size)
		for _, o := range []Options{{}, {Match: Compatible}} {
			patch := diff(t, o, old, new)
			for _, way := range ways {
				if size > 2000 && way.name == "one byte" {
					continue
				}
				got, err := way.apply(t, old, patch, nil)
				if err != nil {
					t.Fatalf("seed %d, %v, %s: %v", seed, o.Match, way.name, err)
				}
				if !bytes.Equal(got, new) {
					t.Fatalf("seed %d, %v, %s: result differs at byte %d of %d", seed, o.Match, way.name, commonPrefix(got, new), len(new))
				}
			}
		}
	}
}

package xz

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// sample is text-like and code-like data in which all filters find something.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < n {
		switch r.IntN(6) {
		case 0:
			b = append(b, 0xE8, byte(r.Uint32()), byte(r.Uint32()), byte(r.IntN(3)), byte(-r.IntN(2)))
		case 1:
			b = append(b, byte(r.Uint32()), byte(r.Uint32()), 0, 0xEB)
		case 2:
			b = append(b, 0x48|byte(r.IntN(4)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())|1)
		case 3:
			b = append(b, byte(r.Uint32()), 0xF0|byte(r.IntN(8)), byte(r.Uint32()), 0xF8|byte(r.IntN(8)))
		case 4:
			b = append(b, 0x40, byte(r.IntN(64)), byte(r.Uint32()), byte(r.Uint32()), 0, 0, 0, 0x94)
		default:
			at := r.IntN(len(b) + 1)
			b = append(b, b[at:min(len(b), at+r.IntN(40))]...)
		}
	}
	return b[:n]
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 5, 1000, 200_000} {
		for f := None; f <= ARM64; f++ {
			for c := CRC64; c <= CheckNone; c++ {
				want := sample(n)
				var buf bytes.Buffer
				w, err := NewWriter(&buf, &WriterOptions{Filter: f, Check: c})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(want); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				got, err := Decompress(nil, buf.Bytes(), nil)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%v %v, %d bytes: Decompress gives %d bytes, %v", f, c, n, len(got), err)
				}
				r, err := NewReader(&buf, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err = io.ReadAll(r)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%v %v, %d bytes: Reader gives %d bytes, %v", f, c, n, len(got), err)
				}
			}
		}
	}
}

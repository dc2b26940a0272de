package xz

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func convertAll(f Filter, encode bool, p []byte) []byte {
	b := bytes.Clone(p)
	newCode(f, encode).convert(b)
	return b
}

func TestFilterInverse(t *testing.T) {
	t.Parallel()
	for f := X86; f <= ARM64; f++ {
		in := sample(100_000)
		coded := convertAll(f, true, in)
		if bytes.Equal(coded, in) {
			t.Errorf("%v: the sample has nothing to change", f)
		}
		if got := convertAll(f, false, coded); !bytes.Equal(got, in) {
			t.Errorf("%v: decoding does not undo encoding", f)
		}
	}
}

// How the data is cut must not matter, in either direction.
func TestFilterPieces(t *testing.T) {
	t.Parallel()
	in := sample(70_001)
	r := rand.New(rand.NewPCG(3, 4))
	for f := X86; f <= ARM64; f++ {
		for _, encode := range []bool{true, false} {
			want := convertAll(f, encode, in)
			for _, most := range []int{1, 2, 7, 40, 70_000} {
				var got bytes.Buffer
				w := newConvertWriter(&got, newCode(f, encode))
				for rest := in; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(most))
					if _, err := w.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := w.flush(); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%v, encode %v, at most %d at once: the writer's result depends on the cuts", f, encode, most)
				}
			}
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "one byte": iotest.OneByteReader,
				"half": iotest.HalfReader, "data with error": iotest.DataErrReader,
			} {
				got, err := io.ReadAll(newConvertReader(wrap(bytes.NewReader(in)), newCode(f, encode)))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v, encode %v, %s: the reader's result depends on the cuts (%v)", f, encode, name, err)
				}
			}
		}
	}
}

func TestFilterErrors(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	r := newConvertReader(io.MultiReader(bytes.NewReader(sample(100_001)), iotest.ErrReader(failed)), newCode(X86, false))
	got, err := io.ReadAll(r)
	if !errors.Is(err, failed) || len(got) > 100_001 || len(got) < 100_001-4 {
		t.Errorf("got %d bytes and %v, want the reader's error behind all but the last four", len(got), err)
	}
}

func TestDelta(t *testing.T) {
	t.Parallel()
	in := sample(3000)
	for _, distance := range []int{1, 2, 3, 100, 255, 256} {
		coded := bytes.Clone(in)
		for i := len(coded) - 1; i >= distance; i-- {
			coded[i] -= in[i-distance]
		}
		for _, piece := range []int{1, 2, 5, 99, 256, 257, 3000} {
			got := bytes.Clone(coded)
			d := newConverter(filterSpec{idDelta, []byte{byte(distance - 1)}})
			for rest := got; len(rest) > 0; {
				n := min(piece, len(rest))
				if k := d.convert(rest[:n]); k != n {
					t.Fatalf("%d of %d bytes are final", k, n)
				}
				rest = rest[n:]
			}
			if !bytes.Equal(got, in) {
				t.Errorf("distance %d in pieces of %d: wrong", distance, piece)
			}
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(sample(300), uint8(0), uint16(7))
	f.Add([]byte{0xE8, 0xE8, 0xE8, 0, 0, 0, 0, 0xFF, 0, 0xE9, 0, 0, 0, 0xFF}, uint8(X86), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, kind uint8, cut uint16) {
		filter := Filter(kind%uint8(ARM64)) + 1
		coded := convertAll(filter, true, in)
		if got := convertAll(filter, false, coded); !bytes.Equal(got, in) {
			t.Fatalf("%v: decoding does not undo encoding", filter)
		}
		var got bytes.Buffer
		w := newConvertWriter(&got, newCode(filter, true))
		at := min(int(cut), len(in))
		for _, p := range [][]byte{in[:at], in[at:]} {
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil || !bytes.Equal(got.Bytes(), coded) {
			t.Fatalf("%v: cut at %d, the result is another", filter, at)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	in := sample(1 << 20)
	for f := X86; f <= ARM64; f++ {
		b.Run("filter="+f.String(), func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				newCode(f, false).convert(in)
			}
		})
	}
}

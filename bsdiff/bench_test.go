package bsdiff_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
)

// program is 8 MB of something like machine code, and its successor.
func program() (old, new []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 3000)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(14))
		for k := range words[i] {
			words[i][k] = byte(r.ExpFloat64() * 40)
		}
	}
	for len(old) < 8<<20 {
		i := int(r.ExpFloat64() * 400)
		old = append(old, words[i%len(words)]...)
	}
	for at := 0; at < len(old); {
		n := min(1+int(r.ExpFloat64()*4000), len(old)-at)
		part := bytes.Clone(old[at : at+n])
		for i := 10; i+4 < n; i += 60 + r.IntN(100) {
			part[i] += 16
			part[i+1]++
		}
		new = append(new, part...)
		for range r.IntN(30) {
			new = append(new, byte(r.Uint32()))
		}
		at += n
	}
	return old, new
}

func BenchmarkDiff(b *testing.B) {
	old, new := program()
	zeros := make([]byte, 3_000_000)
	for _, in := range []struct {
		name     string
		old, new []byte
	}{{"program", old, new}, {"zeros", zeros, append(zeros, 0)}} {
		for _, m := range []bsdiff.Match{bsdiff.Default, bsdiff.Compatible} {
			d := bsdiff.New(bsdiff.Options{Match: m})
			b.Run("differ="+d.ID()+"/input="+in.name, func(b *testing.B) {
				b.SetBytes(int64(len(in.new)))
				var n int64
				for b.Loop() {
					var c counter
					if err := d.Diff(b.Context(), &c, in.old, in.new); err != nil {
						b.Fatal(err)
					}
					n = c.n
				}
				b.ReportMetric(float64(n), "patch-bytes")
			})
		}
	}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

func BenchmarkPatch(b *testing.B) {
	old, new := program()
	var patch bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(b.Context(), &patch, old, new); err != nil {
		b.Fatal(err)
	}
	out := make([]byte, len(new))
	for _, way := range []struct {
		name  string
		apply func() error
	}{
		{"bytes", func() error {
			_, err := bsdiff.PatchBytes(b.Context(), out, old, io.MultiReader(bytes.NewReader(patch.Bytes())), nil)
			return err
		}},
		{"random-access", func() error {
			_, err := bsdiff.Patch(b.Context(), io.Discard, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch.Bytes()), nil)
			return err
		}},
		{"stream", func() error {
			_, err := bsdiff.Patch(b.Context(), io.Discard, bytes.NewReader(old), int64(len(old)), io.MultiReader(bytes.NewReader(patch.Bytes())), nil)
			return err
		}},
	} {
		b.Run("way="+way.name, func(b *testing.B) {
			b.SetBytes(int64(len(new)))
			for b.Loop() {
				if err := way.apply(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

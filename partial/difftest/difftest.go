// Package difftest tests and compares implementations of partial.Differ.
//
// A differ's whole test is
//
//	func TestDiffer(t *testing.T) { difftest.Run(t, mydiff.New()) }
//
// and its benchmark
//
//	func BenchmarkDiffer(b *testing.B) {
//		difftest.Benchmark(b, difftest.Inputs(), mydiff.New(), bsdiff.New(bsdiff.Options{}))
//	}
//
// whose names, differ=ID/input=NAME, are made for
//
//	go test -bench . -count 10 | benchstat -col /differ -
//
// which compares time, memory and, as patch-bytes and xz-bytes, the sizes of the patches.
package difftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

// Input is one pair of files to diff.
type Input struct {
	Name     string // for people and subtests
	Old, New []byte // the two files
}

// Inputs returns pairs of files of the sorts that updates consist of, some hundred kilobytes each and the same in
// every call: changed text, a program whose addresses all moved, a table whose entries all moved, long runs, periodic
// and random data, and empty files.
func Inputs() []Input {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var text bytes.Buffer
	words := strings.Fields("the quick brown fox jumps over one lazy dog and then some more words until it is a file")
	for text.Len() < 200_000 {
		text.WriteString(words[r.IntN(len(words))])
		text.WriteByte(" \n"[min(r.IntN(9), 1)^1])
	}
	oldText := text.Bytes()
	newText := bytes.ReplaceAll(oldText, []byte("lazy dog"), []byte("sleeping cat"))

	// A program: code with the addresses of its own functions in it, and a sorted table of those addresses.
	program := func(shift uint32, extra []byte) []byte {
		r := rand.New(rand.NewPCG(3, 4))
		var b []byte
		for i := range 20_000 {
			b = append(b, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()))
			address := uint32(0x40_0000+16*r.IntN(1<<18)) + shift
			b = append(b, byte(address), byte(address>>8), byte(address>>16), byte(address>>24))
			if i == 10_000 {
				b = append(b, extra...)
			}
		}
		for i := range uint32(10_000) {
			address := 0x40_0000 + 37*i + shift
			b = append(b, byte(address), byte(address>>8), byte(address>>16), byte(address>>24))
		}
		return b
	}
	noise := random(300_000)
	moved := append(bytes.Clone(noise[150_000:]), noise[:150_000]...)
	zeros := make([]byte, 1<<20)
	sparse := bytes.Clone(zeros)
	for range 100 {
		sparse[r.IntN(len(sparse))] = byte(r.Uint32())
	}
	return []Input{
		{"text", oldText, newText},
		{"program", program(0, nil), program(0x120, random(700))},
		{"moved", noise, moved},
		{"zeros", zeros, sparse},
		{"periodic", bytes.Repeat([]byte("abcdefg"), 100_000), bytes.Repeat([]byte("abcdefh"), 100_000)},
		{"unrelated", random(100_000), random(100_000)},
		{"grown", noise[:100_000], noise},
		{"shrunk", noise, noise[100_000:200_000]},
		{"same", noise, noise},
		{"empty-old", nil, oldText[:1000]},
		{"empty-new", oldText[:1000], nil},
		{"empty", nil, nil},
	}
}

// Run checks that d is a partial.Differ that Build can use: that its patches turn old into new by the updater's rules,
// that they are the same every time, that the inputs stay as they are, that a failing writer and an ending context
// end it with their errors, and that long runs do not take for ever.
func Run(t *testing.T, d partial.Differ) {
	t.Helper()
	if d.ID() == "" {
		t.Error("ID is empty")
	}
	for _, in := range Inputs() {
		t.Run(in.Name, func(t *testing.T) {
			t.Parallel()
			if err := Check(t.Context(), d, in); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("failing writer", func(t *testing.T) {
		t.Parallel()
		if err := checkWriter(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		if err := checkCancel(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
}

// Check diffs one pair twice and says which promise of a partial.Differ is broken: the patch must turn old into new by
// the updater's rules, must be the same both times, and the files must stay as they are. Where one of them is empty there may
// be no patch, with zucchini.ErrEmpty.
func Check(ctx context.Context, d partial.Differ, in Input) error {
	oldCopy, newCopy := bytes.Clone(in.Old), bytes.Clone(in.New)
	format, ok := updater.PatchFormatNamed(d.Format())
	if !ok {
		return fmt.Errorf("no updater has patches in the format %q", d.Format())
	}
	first, err := diff(ctx, d, in)
	switch {
	case errors.Is(err, zucchini.ErrEmpty) && (len(in.Old) == 0 || len(in.New) == 0):
		return nil
	case err != nil:
		return err
	}
	if !bytes.Equal(in.Old, oldCopy) || !bytes.Equal(in.New, newCopy) {
		return errors.New("the differ changed its input")
	}
	got, err := updater.PatchBytes(ctx, format, in.Old, bytes.NewReader(first), updater.PatchOptions{Limit: int64(len(in.New))})
	if err != nil {
		return fmt.Errorf("the patch does not apply: %w", err)
	}
	if !bytes.Equal(got, in.New) {
		return errors.New("the patch does not give the new file")
	}
	again, err := diff(ctx, d, in)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, first) {
		return errors.New("a second diff of the same files gives other bytes")
	}
	return nil
}

// checkWriter wants the error of a writer that fails.
func checkWriter(ctx context.Context, d partial.Differ) error {
	in, full := Inputs()[0], errors.New("disk full")
	if err := d.Diff(ctx, failingWriter{full}, in.Old, in.New); !errors.Is(err, full) {
		return fmt.Errorf("a diff into a failing writer gives %q, want the writer's error", fmt.Sprint(err))
	}
	return nil
}

// checkCancel wants a Diff whose context has ended to end soon, with the context's error.
func checkCancel(ctx context.Context, d partial.Differ) error {
	in := Inputs()[1]
	for range 4 {
		in.Old, in.New = append(in.Old, in.Old...), append(in.New, in.New...)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	start := time.Now()
	if err := d.Diff(ctx, io.Discard, in.Old, in.New); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a diff whose context has ended gives %q, want context.Canceled", fmt.Sprint(err))
	}
	if took := time.Since(start); took > 5*time.Second {
		return fmt.Errorf("a diff took %v after its context had ended", took)
	}
	return nil
}

func diff(ctx context.Context, d partial.Differ, in Input) ([]byte, error) {
	var patch bytes.Buffer
	if err := d.Diff(ctx, &patch, in.Old, in.New); err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	return patch.Bytes(), nil
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// Benchmark times each differ on each input and reports the bytes of the patch as it is made (patch-bytes) and as an
// update stores it (xz-bytes).
func Benchmark(b *testing.B, inputs []Input, differs ...partial.Differ) {
	b.Helper()
	for _, d := range differs {
		for _, in := range inputs {
			if len(in.Old) == 0 || len(in.New) == 0 {
				continue
			}
			b.Run("differ="+label(d.ID())+"/input="+label(in.Name), func(b *testing.B) {
				b.SetBytes(int64(len(in.New)))
				b.ReportAllocs()
				var patch []byte
				for b.Loop() {
					var err error
					if patch, err = diff(b.Context(), d, in); err != nil {
						b.Fatal(err)
					}
				}
				stored, err := stored(patch)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(patch)), "patch-bytes")
				b.ReportMetric(float64(stored), "xz-bytes")
			})
		}
	}
}

// label makes a text fit for a benchmark's name.
func label(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/ =\t", r) {
			return '_'
		}
		return r
	}, s)
}

// stored returns the size of a patch after compression.
func stored(patch []byte) (int, error) {
	var out bytes.Buffer
	z, err := partial.XZ{}.NewWriter(context.Background(), &out, partial.Content{Kind: partial.ContentPatch, Size: int64(len(patch))})
	if err != nil {
		return 0, err
	}
	if _, err := z.Write(patch); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	return out.Len(), nil
}

package bsdiff_test

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// member returns a member of a MAR file, decompressed.
func member(tb testing.TB, r *mar.Reader, name string) []byte {
	tb.Helper()
	f := r.Lookup(name)
	if f == nil {
		tb.Fatalf("no member %s", name)
	}
	stored, err := f.Open()
	if err != nil {
		tb.Fatal(err)
	}
	defer stored.Close()
	z, err := xz.NewReader(stored, nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return b
}

// comparePartial makes the patches of a partial update again, of files up to a size, and compares.
func comparePartial(t *testing.T, from, to, partial string, largest int) {
	t.Helper()
	var readers [3]*mar.Reader
	for i, name := range []string{from, to, partial} {
		f, err := mar.OpenFile(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readers[i] = f.Reader
	}
	patches := 0
	for _, f := range readers[2].Files() {
		name, ok := strings.CutSuffix(f.Name, ".patch")
		if !ok {
			continue
		}
		old, new, want := member(t, readers[0], name), member(t, readers[1], name), member(t, readers[2], f.Name)
		if len(new) > largest {
			continue
		}
		patches++
		var got bytes.Buffer
		if err := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(t.Context(), &got, old, new); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: patch of %d bytes is not mbsdiff's of %d", name, got.Len(), len(want))
		}
		made, err := bsdiff.PatchBytes(t.Context(), nil, old, bytes.NewReader(want), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(made, new) {
			t.Errorf("%s: mbsdiff's patch does not give the new file", name)
		}
	}
	if patches == 0 {
		t.Error("no patches in the partial")
	}
	t.Logf("%d patches", patches)
}

func TestCompatibleFirefoxSmall(t *testing.T) {
	t.Parallel()
	dir := testkit.Shared(t, "corpus", "firefox-small")
	largest := testkit.Count(250_000, 500_000, math.MaxInt32)
	comparePartial(t, filepath.Join(dir, "from.mar"), filepath.Join(dir, "to.mar"), filepath.Join(dir, "reference.partial.mar"), largest)
}

// The whole pair of releases takes a minute or two: SENBON_FIREFOX names the directory with from.mar and to.mar.
func TestCompatibleFirefox(t *testing.T) {
	dir := os.Getenv("SENBON_FIREFOX")
	if dir == "" {
		t.Skip("SENBON_FIREFOX does not name a directory with from.mar and to.mar")
	}
	comparePartial(t, filepath.Join(dir, "from.mar"), filepath.Join(dir, "to.mar"), testkit.Shared(t, "corpus", "firefox", "reference.partial.mar"), math.MaxInt32)
}

// BenchmarkPatchFirefox applies Mozilla's patch of libxul.so.
func BenchmarkPatchFirefox(b *testing.B) {
	dir := os.Getenv("SENBON_FIREFOX")
	if dir == "" {
		b.Skip("SENBON_FIREFOX does not name a directory with from.mar and to.mar")
	}
	from, err := mar.OpenFile(filepath.Join(dir, "from.mar"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	partial, err := mar.OpenFile(testkit.Shared(b, "corpus", "firefox", "reference.partial.mar"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer partial.Close()
	const name = "libxul.so"
	old, patch := member(b, from.Reader, name), member(b, partial.Reader, name+".patch")
	var out []byte
	b.Run("way=bytes", func(b *testing.B) {
		for b.Loop() {
			if out, err = bsdiff.PatchBytes(b.Context(), out, old, io.MultiReader(bytes.NewReader(patch)), nil); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(out)))
		}
	})
	b.Run("way=random-access", func(b *testing.B) {
		for b.Loop() {
			n, err := bsdiff.Patch(b.Context(), io.Discard, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
	})
	b.Run("way=stream", func(b *testing.B) {
		for b.Loop() {
			n, err := bsdiff.Patch(b.Context(), io.Discard, bytes.NewReader(old), int64(len(old)), io.MultiReader(bytes.NewReader(patch)), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
	})
}

package sample_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/sample"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

func complete(t *testing.T, seed, version string, size int) []byte {
	t.Helper()
	data, err := sample.Complete(t.Context(), seed, version, size)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func reader(t *testing.T, data []byte) *mar.Reader {
	t.Helper()
	r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Two versions make a partial that is proved, has all kinds of changes in it, and is much smaller than the complete.
func TestPair(t *testing.T) {
	t.Parallel()
	from, to := complete(t, "a", "1.0", 400<<10), complete(t, "a", "2.0", 400<<10)
	archive, report, err := partial.Build(t.Context(), reader(t, from), reader(t, to), partial.DefaultRecipe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := archive.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if !report.Verified || report.Proof.Patched < 3 || report.Proof.Added < 1 || report.Proof.Removed < 1 {
		t.Errorf("proof %+v", report.Proof)
	}
	if out.Len() > len(to)/3 || len(to) < 100<<10 {
		t.Errorf("the partial has %d bytes, the complete %d", out.Len(), len(to))
	}
	if report.From.Version != "1.0" || report.To.Version != "2.0" || report.To.Name != sample.Product {
		t.Errorf("from %+v to %+v", report.From, report.To)
	}
}

// Equal arguments give equal bytes, others do not.
func TestSame(t *testing.T) {
	t.Parallel()
	a := complete(t, "a", "1.0", 9000)
	if !bytes.Equal(a, complete(t, "a", "1.0", 9000)) {
		t.Error("the same arguments give other bytes")
	}
	for name, other := range map[string][]byte{"seed": complete(t, "b", "1.0", 9000), "version": complete(t, "a", "2.0", 9000), "size": complete(t, "a", "1.0", 99000)} {
		if bytes.Equal(a, other) {
			t.Errorf("another %s gives the same bytes", name)
		}
	}
	if small, least := complete(t, "a", "1.0", -5), complete(t, "a", "1.0", sample.MinSize); !bytes.Equal(small, least) {
		t.Error("a size that is too small is not the smallest")
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sample.Complete(ctx, "a", "1.0", 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

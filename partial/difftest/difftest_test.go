package difftest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

func TestDefault(t *testing.T)    { Run(t, bsdiff.New(bsdiff.Options{})) }
func TestCompatible(t *testing.T) { Run(t, bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible})) }

func TestZucchini(t *testing.T)      { Run(t, zucchini.New(zucchini.Options{})) }
func TestZucchiniPlain(t *testing.T) { Run(t, zucchini.New(zucchini.Options{Plain: true})) }

func TestInputsAreTheSameEveryTime(t *testing.T) {
	first, second := Inputs(), Inputs()
	for i, in := range first {
		if !bytes.Equal(in.Old, second[i].Old) || !bytes.Equal(in.New, second[i].New) {
			t.Errorf("input %s differs between two calls", in.Name)
		}
	}
}

// broken breaks one promise of a good differ.
type broken struct {
	partial.Differ
	how   string
	calls int
}

func (b *broken) Diff(ctx context.Context, patch io.Writer, old, changed []byte) error {
	b.calls++
	switch b.how {
	case "wrong result":
		changed = append(bytes.Clone(changed[:len(changed)-1]), changed[len(changed)-1]^1)
	case "other bytes":
		if b.calls%2 == 0 {
			return bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(ctx, patch, old, changed)
		}
	case "input changed":
		old[0]++
	case "empty":
		return zucchini.ErrEmpty
	case "garbage":
		_, err := patch.Write([]byte("garbage"))
		return err
	case "context":
		ctx = context.WithoutCancel(ctx)
	case "writer":
		var buf bytes.Buffer
		if err := b.Differ.Diff(ctx, &buf, old, changed); err != nil {
			return err
		}
		_, _ = patch.Write(buf.Bytes())
		return nil
	}
	return b.Differ.Diff(ctx, patch, old, changed)
}

// Format is no longer that of the patches where that is what is broken.
func (b *broken) Format() string {
	switch b.how {
	case "other format":
		return "zucchini"
	case "no format":
		return "bsdiff40"
	}
	return b.Differ.Format()
}

// The kit must notice what it is for.
func TestTheKitNotices(t *testing.T) {
	good := bsdiff.New(bsdiff.Options{})
	for how, says := range map[string]string{
		"wrong result": "does not give the new file", "other bytes": "other bytes", "input changed": "changed its input",
		"garbage": "does not apply", "other format": "does not apply", "no format": `"bsdiff40"`, "empty": "empty file",
	} {
		err := Check(t.Context(), &broken{Differ: good, how: how}, Inputs()[0])
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want an error that says %q", how, err, says)
		}
	}
	if err := checkWriter(t.Context(), &broken{Differ: good, how: "writer"}); err == nil {
		t.Error("a differ that ignores its writer's error passes")
	}
	if err := checkCancel(t.Context(), &broken{Differ: good, how: "context"}); err == nil {
		t.Error("a differ that ignores its context passes")
	}
}

func BenchmarkDiffers(b *testing.B) {
	Benchmark(b, Inputs(), bsdiff.New(bsdiff.Options{}), bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}),
		zucchini.New(zucchini.Options{}), zucchini.New(zucchini.Options{Plain: true}))
}

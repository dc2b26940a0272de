package partial_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/partial"
)

// whole is a Differ of one's own. Its patches hold the new file as it is, which is valid, if not small.
type whole struct{}

func (whole) ID() string     { return "whole-1" }
func (whole) Format() string { return updater.PatchMBDIFF10 }

func (whole) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// See the package comment of bsdiff: the header, one step of 0 bytes added and all copied, the bytes.
	head := []byte("MBDIFF10")
	for _, n := range []int{len(old), int(bsdiff.Checksum(old)), len(new), 12, 0, len(new), 0, len(new), 0} {
		head = binary.BigEndian.AppendUint32(head, uint32(n))
	}
	if _, err := patch.Write(head); err != nil {
		return err
	}
	_, err := patch.Write(new)
	return err
}

// A recipe takes any Differ. Its patches are proved like all others, and a file goes in whole where that is smaller.
// difftest.Run is the test of a Differ.
func ExampleDiffer() {
	from := release("1.0", fstest.MapFS{"readme.txt": text("hello")})
	to := release("2.0", fstest.MapFS{"readme.txt": text("hello, world")})
	recipe := partial.DefaultRecipe()
	recipe.Name, recipe.Differ = "whole", whole{}
	_, report, err := partial.Build(context.Background(), from, to, recipe, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(report.Recipe, report.Verified)
	// Output: whole true
}

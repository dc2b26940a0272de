package zucchini_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/senbonzakura/senbonzakura/zucchini"
)

func Example() {
	ctx := context.Background()
	old := []byte(strings.Repeat("All the world's a stage. ", 40) + "Exeunt.")
	new := []byte("PROLOGUE. " + strings.Repeat("All the world's a stage. ", 40) + "They leave.")

	var patch bytes.Buffer
	if err := zucchini.New(zucchini.Options{}).Diff(ctx, &patch, old, new); err != nil {
		panic(err)
	}
	made, err := zucchini.Apply(ctx, nil, old, patch.Bytes(), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(bytes.Equal(made, new))
	// Output: true
}

// What is in a patch. This one is of bytes; of an executable there would be references.
func ExampleInspect() {
	ctx := context.Background()
	old := bytes.Repeat([]byte("0123456789"), 10)
	new := append([]byte("new: "), old...)
	new[50]++
	var patch bytes.Buffer
	if err := zucchini.New(zucchini.Options{}).Diff(ctx, &patch, old, new); err != nil {
		panic(err)
	}
	info, err := zucchini.Inspect(ctx, patch.Bytes(), nil)
	if err != nil {
		panic(err)
	}
	for _, p := range info.Parts {
		fmt.Printf("%s: %d bytes copied in %d stretches, %d of them different; %d bytes new\n", p.Type, p.Copied, p.Equivalences, p.Differences, p.Extra)
	}
	// Output: NoOp: 100 bytes copied in 1 stretches, 1 of them different; 5 bytes new
}

// What an installed updater would say to a patch that does not fit.
func ExampleUpdaterCode() {
	ctx := context.Background()
	var patch bytes.Buffer
	if err := zucchini.New(zucchini.Options{}).Diff(ctx, &patch, []byte("version 1"), []byte("version 2")); err != nil {
		panic(err)
	}
	_, err := zucchini.Apply(ctx, nil, []byte("version 0"), patch.Bytes(), nil)
	fmt.Println(errors.Is(err, zucchini.ErrOldCRC), zucchini.UpdaterCode(err))
	fmt.Println(err)
	// Output:
	// true 4
	// zucchini: old file has another checksum: 0d89be0e, the patch is for 7a8e8e98 (at byte 12 of the patch)
}

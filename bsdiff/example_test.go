package bsdiff_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/bsdiff"
)

func Example() {
	ctx := context.Background()
	old := []byte(strings.Repeat("All the world's a stage. ", 40) + "Exeunt.")
	new := []byte("PROLOGUE. " + strings.Repeat("All the world's a stage. ", 40) + "They leave.")

	var patch bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(ctx, &patch, old, new); err != nil {
		panic(err)
	}
	made, err := bsdiff.PatchBytes(ctx, nil, old, &patch, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(bytes.Equal(made, new))
	// Output: true
}

// A patch as it is applied to files: the old one is read and the new one written in pieces.
func ExamplePatch() {
	ctx := context.Background()
	old := strings.NewReader("The quick brown fox jumps over the lazy dog.")
	var patch bytes.Buffer
	err := bsdiff.New(bsdiff.Options{}).Diff(ctx, &patch, []byte("The quick brown fox jumps over the lazy dog."), []byte("The quick brown fox jumped over the lazy dogs."))
	if err != nil {
		panic(err)
	}
	n, err := bsdiff.Patch(ctx, os.Stdout, old, old.Size(), bytes.NewReader(patch.Bytes()), nil)
	if err != nil {
		panic(err)
	}
	fmt.Printf("\n%d bytes\n", n)
	// Output:
	// The quick brown fox jumped over the lazy dogs.
	// 46 bytes
}

// What an installed updater would say to a patch that does not fit.
func ExampleUpdaterCode() {
	ctx := context.Background()
	var patch bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(ctx, &patch, []byte("version 1"), []byte("version 2")); err != nil {
		panic(err)
	}
	_, err := bsdiff.PatchBytes(ctx, nil, []byte("version 0"), &patch, nil)
	fmt.Println(errors.Is(err, bsdiff.ErrOldCRC), bsdiff.UpdaterCode(err))
	fmt.Println(err)
	// Output:
	// true 4
	// bsdiff: old file has another checksum: aeeb8d87, the patch is for aa2a9030 (at byte 12 of the patch)
}

// Compatible matching makes the very patch that Mozilla's mbsdiff makes.
func ExampleDiffer_Diff() {
	old := bytes.Repeat([]byte("0123456789"), 10)
	new := append([]byte("new: "), old...)
	d := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible})
	var patch bytes.Buffer
	if err := d.Diff(context.Background(), &patch, old, new); err != nil {
		panic(err)
	}
	fmt.Println(d.ID(), patch.Len())
	// Output: bsdiff/MBDIFF10/compatible 149
}

func ExampleInspect() {
	ctx := context.Background()
	old := bytes.Repeat([]byte("0123456789"), 10)
	new := append([]byte("new: "), old...)
	new[50]++
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(ctx, pw, old, new))
	}()
	info, err := bsdiff.Inspect(ctx, pr, &bsdiff.InspectOptions{Step: func(_ int, t bsdiff.Triple) error {
		fmt.Printf("add %d, copy %d, move %d\n", t.Add, t.Copy, t.Seek)
		return nil
	}})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%v: %d steps, %d bytes of which %.0f %% differ, %d new\n", info.Format, info.Steps, info.Added, 100*(1-info.ZeroShare()), info.Copied)
	// Output:
	// add 0, copy 5, move 0
	// add 100, copy 0, move -10
	// MBDIFF10: 2 steps, 100 bytes of which 1 % differ, 5 new
}

package partial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// release packs a tree into a complete update in memory. A program would write it to a file.
func release(version string, files fstest.MapFS) *mar.Reader {
	archive, _, err := partial.Pack(context.Background(), files, partial.PackOptions{
		Product: &mar.Product{Channel: "example", Version: version},
		Arch:    "x86_64",
	})
	if err != nil {
		panic(err)
	}
	return inMemory(archive)
}

func inMemory(archive *mar.Archive) *mar.Reader {
	var buf bytes.Buffer
	if _, err := archive.WriteTo(&buf); err != nil {
		panic(err)
	}
	r, err := mar.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), nil)
	if err != nil {
		panic(err)
	}
	return r
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o644} }

func ExampleBuild() {
	from := release("1.0", fstest.MapFS{"license.txt": text("free"), "readme.txt": text("hello"), "old.txt": text("goes")})
	to := release("2.0", fstest.MapFS{"license.txt": text("free"), "readme.txt": text("hello, world"), "new.txt": text("comes")})

	archive, report, err := partial.Build(context.Background(), from, to, partial.DefaultRecipe(), nil)
	if err != nil {
		panic(err)
	}
	for _, f := range report.Files {
		fmt.Printf("%-8s %s\n", f.Action, f.Path)
	}
	fmt.Println("verified:", report.Verified, "entries:", len(archive.Entries))
	// Output:
	// manifest updatev3.manifest
	// add      readme.txt
	// add      precomplete
	// add      new.txt
	// remove   old.txt
	// same     license.txt
	// verified: true entries: 4
}

func ExampleBuild_refused() {
	from := release("1.0", fstest.MapFS{"data": text("a file")})
	to := release("2.0", fstest.MapFS{"data/part": text("now a directory")})
	_, _, err := partial.Build(context.Background(), from, to, partial.DefaultRecipe(), nil)
	var refused *partial.RefusedError
	if errors.As(err, &refused) {
		for _, f := range refused.Findings {
			fmt.Println(f.Kind, f.Path)
			fmt.Println(f.WayOut)
		}
	}
	// Output:
	// file-to-directory data
	// use another name, ship a complete update, or go through a release that has neither
}

func ExampleVerify() {
	from := release("1.0", fstest.MapFS{"readme.txt": text("hello")})
	to := release("2.0", fstest.MapFS{"readme.txt": text("hello, world")})
	other := release("2.0", fstest.MapFS{"readme.txt": text("hello, moon")})
	archive, _, err := partial.Build(context.Background(), from, to, partial.DefaultRecipe(), nil)
	if err != nil {
		panic(err)
	}
	update := inMemory(archive)
	fmt.Println(partial.Verify(context.Background(), from, update, to, nil))
	fmt.Println(partial.Verify(context.Background(), from, update, other, nil))
	// Output:
	// <nil>
	// the updated tree is not the target: "readme.txt" differs from byte 7 on (12 bytes instead of 11) after add "readme.txt"
}

func ExampleRecipe_ID() {
	r := partial.DefaultRecipe()
	r.Name = "nightly"
	fmt.Println("the name counts:", r.ID() != partial.DefaultRecipe().ID())
	r.Arch = "aarch64"
	fmt.Println("the architecture counts:", r.ID() != partial.DefaultRecipe().ID())
	// Output:
	// the name counts: false
	// the architecture counts: true
}

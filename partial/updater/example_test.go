package updater_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

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

func ExampleApply() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "readme.txt"), []byte("hello"), 0o600); err != nil {
		panic(err)
	}

	from := release("1.0", fstest.MapFS{"readme.txt": text("hello")})
	to := release("2.0", fstest.MapFS{"readme.txt": text("hello, world")})
	archive, _, err := partial.Build(context.Background(), from, to, partial.DefaultRecipe(), nil)
	if err != nil {
		panic(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	defer root.Close()
	if err := updater.Apply(context.Background(), root, inMemory(archive), nil); err != nil {
		panic(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "readme.txt"))
	fmt.Println(string(data), err)
	// Output: hello, world <nil>
}

func ExampleParseManifest() {
	m, err := updater.ParseManifest([]byte("type \"partial\"\nremove \"old.txt\"\n"))
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Type, m.Instructions[0].Op, m.Instructions[0].Path)

	_, err = updater.ParseManifest([]byte("remove \"../up\"\n"))
	fmt.Println(err)
	// Output:
	// partial remove old.txt
	// manifest line 1: remove: path "../up" has two dots in a row (the updater reports "failed: 5")
}

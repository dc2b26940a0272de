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

func ExampleApply() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "readme.txt"), []byte("hello"), 0o600); err != nil {
		panic(err)
	}
	// A program would open a file with mar.OpenFile.
	complete, _, err := partial.Pack(context.Background(), fstest.MapFS{"readme.txt": {Data: []byte("hello, world")}}, partial.PackOptions{
		Product: &mar.Product{Channel: "example", Version: "2.0"},
	})
	if err != nil {
		panic(err)
	}
	var file bytes.Buffer
	if _, err := complete.WriteTo(&file); err != nil {
		panic(err)
	}
	update, err := mar.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()), nil)
	if err != nil {
		panic(err)
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	defer root.Close()
	if err := updater.Apply(context.Background(), root, update, nil); err != nil {
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

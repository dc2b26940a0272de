package senbonzakura_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// complete writes the complete update of a version of a small product.
func complete(ctx context.Context, name, version string) error {
	tree := fstest.MapFS{
		"application.ini": {Data: []byte("[App]\nName=Example\nVersion=" + version + "\nBuildID=20260101000000\n")},
		"example":         {Data: []byte("#!/bin/sh\necho example\n"), Mode: 0o755},
		"notes.txt":       {Data: []byte("What is new in " + version)},
	}
	archive, _, err := partial.Pack(ctx, tree, partial.PackOptions{Product: &mar.Product{Channel: "example", Version: version}})
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := archive.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// Two complete updates become a partial one, which is kept: the second request is answered from the cache.
func ExampleGenerator_Generate() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	from, to := filepath.Join(dir, "1.0.mar"), filepath.Join(dir, "1.1.mar")
	for version, name := range map[string]string{"1.0": from, "1.1": to} {
		if err := complete(ctx, name, version); err != nil {
			fmt.Println(err)
			return
		}
	}

	disk, err := cache.OpenDisk(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disk.Close()
	store := cache.NewLayered([]cache.Store{disk}, nil)
	defer store.Close()
	generator, err := senbonzakura.New(senbonzakura.Options{Cache: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer generator.Close()

	for range 2 {
		result, err := generator.Generate(ctx, senbonzakura.Request{
			From: senbonzakura.Source{File: from}, // or URLs and Hashes
			To:   senbonzakura.Source{File: to},
		}, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		update := result.Open() // its bytes, to read at any offset
		r, err := mar.NewReader(update, update.Size(), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		product, _ := r.Product()
		fmt.Println("update to", product.Version, "proved:", result.Report.Verified, "cached:", result.Cached)
		update.Close()
		result.Close()
	}
	// Output:
	// update to 1.1 proved: true cached: false
	// update to 1.1 proved: true cached: true
}

// The provenance says where an update comes from and what was decided about each file. A part of it is what
// Mozilla's submitters read.
func ExampleProvenance_Submission() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	from, to := filepath.Join(dir, "1.0.mar"), filepath.Join(dir, "1.1.mar")
	for version, name := range map[string]string{"1.0": from, "1.1": to} {
		if err := complete(ctx, name, version); err != nil {
			fmt.Println(err)
			return
		}
	}
	generator, err := senbonzakura.New(senbonzakura.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer generator.Close()
	result, err := generator.Generate(ctx, senbonzakura.Request{
		From: senbonzakura.Source{File: from}, To: senbonzakura.Source{File: to},
		Locale: "de", Platform: "linux64",
		Labels: map[string]string{"mar": "target.partial-1.mar", "update_number": "1", "previousVersion": "1.0"},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer result.Close()
	s := result.Provenance.Submission()
	s.FromMAR, s.FromSize, s.FromHash, s.ToMAR, s.ToSize, s.ToHash, s.Size, s.Hash = "…", 0, "…", "…", 0, "…", 0, "…"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(text))
	// Output:
	// {
	//   "MAR_CHANNEL_ID": "example",
	//   "version": "1.1",
	//   "appName": "Example",
	//   "repo": "",
	//   "revision": "",
	//   "platform": "linux64",
	//   "locale": "de",
	//   "from_mar": "…",
	//   "from_size": 0,
	//   "from_hash": "…",
	//   "from_buildid": "20260101000000",
	//   "to_mar": "…",
	//   "to_size": 0,
	//   "to_hash": "…",
	//   "to_buildid": "20260101000000",
	//   "mar": "target.partial-1.mar",
	//   "branch": "",
	//   "size": 0,
	//   "hash": "…",
	//   "update_number": "1",
	//   "previousVersion": "1.0"
	// }
}

// Package updatetest has what tests of updates need: trees, archives, and how they are made and compared.
package updatetest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/internal/member"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// A Tree is what a tree holds: content and executable bit by path, and directories with a slash behind.
type Tree map[string]string

// File is an ordinary file in a tree.
func File(data string) string { return "-" + data }

// Program is an executable file in a tree.
func Program(data string) string { return "x" + data }

// Files returns the snapshot without its directories.
func (s Tree) Files() Tree {
	out := maps.Clone(s)
	maps.DeleteFunc(out, func(n, _ string) bool { return strings.HasSuffix(n, "/") })
	return out
}

// FS returns the files as a file system.
func (s Tree) FS() fstest.MapFS {
	m := fstest.MapFS{}
	for n, v := range s.Files() {
		mode := fs.FileMode(0o644)
		if v[0] == 'x' {
			mode = 0o755
		}
		m[n] = &fstest.MapFile{Data: []byte(v[1:]), Mode: mode}
	}
	return m
}

// Write writes the files and directories into a directory.
func (s Tree) Write(tb testing.TB, dir string) {
	tb.Helper()
	for n := range s {
		if strings.HasSuffix(n, "/") {
			if err := os.MkdirAll(filepath.Join(dir, n), 0o755); err != nil {
				tb.Fatal(err)
			}
		}
	}
	for n, v := range s.Files() {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if v[0] == 'x' {
			mode = 0o755
		}
		if err := os.WriteFile(p, []byte(v[1:]), mode); err != nil {
			tb.Fatal(err)
		}
	}
}

// Look takes a snapshot of a directory.
func Look(tb testing.TB, dir string) Tree {
	tb.Helper()
	s := Tree{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(p, dir+string(filepath.Separator)))
		if d.IsDir() {
			s[name+"/"] = ""
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(p)
			s[name] = "l" + to
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		kind := "-"
		if mar.Executable(info.Mode()) {
			kind = "x"
		}
		s[name] = kind + string(data)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Contents takes a snapshot of the files of a complete update.
func Contents(tb testing.TB, r *mar.Reader) Tree {
	tb.Helper()
	s := Tree{}
	for _, f := range r.Files() {
		if ok, _ := path.Match("update*.manifest", path.Base(f.Name)); ok {
			continue
		}
		kind := "-"
		if mar.Executable(f.Mode) {
			kind = "x"
		}
		s[f.Name] = kind + string(Content(tb, r, f.Name))
	}
	return s
}

// DiffSnapshots describes how two snapshots differ.
func DiffSnapshots(got, want Tree) string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[n]; !ok {
			fmt.Fprintf(&b, "%q is missing\n", n)
		} else if g != want[n] {
			fmt.Fprintf(&b, "%q: got %.80q, want %.80q\n", n, g, want[n])
		}
	}
	for _, n := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[n]; !ok {
			fmt.Fprintf(&b, "%q is too much\n", n)
		}
	}
	return b.String()
}

// TestProduct is what updates of tests are for.
var TestProduct = &mar.Product{Channel: "test", Version: "2.0"}

// Noise returns random bytes.
func Noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Edited returns data with a few changes, as a new version of a file has.
func Edited(r *rand.Rand, data []byte) []byte {
	out := slices.Clone(data)
	for range 1 + r.IntN(4) {
		switch at := r.IntN(len(out) + 1); r.IntN(3) {
		case 0:
			if at < len(out) {
				out[at] ^= byte(1 + r.IntN(255))
			}
		case 1:
			out = slices.Insert(out, at, Noise(r, 1+r.IntN(20))...)
		case 2:
			out = slices.Delete(out, at, min(len(out), at+r.IntN(20)))
		}
	}
	return out
}

// Open opens an archive of the shared inputs.
func Open(tb testing.TB, elem ...string) *mar.Reader {
	tb.Helper()
	r, err := mar.OpenFile(testkit.Shared(tb, elem...), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r.Reader
}

// Write writes an archive into memory and opens it.
func Write(tb testing.TB, a *mar.Archive) *mar.Reader {
	tb.Helper()
	var buf bytes.Buffer
	if _, err := a.WriteTo(&buf); err != nil {
		tb.Fatal(err)
	}
	r, err := mar.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Content returns what the entry of an archive holds.
func Content(tb testing.TB, r *mar.Reader, name string) []byte {
	tb.Helper()
	f := r.Lookup(name)
	if f == nil {
		tb.Fatalf("no entry %q", name)
	}
	z, err := member.Open(f.Section(), f.Size, member.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// Names lists the entries of an archive.
func Names(r *mar.Reader) []string {
	var out []string
	for _, f := range r.Files() {
		out = append(out, f.Name)
	}
	return out
}

// With returns s with one more file.
func (s Tree) With(name, value string) Tree {
	s[name] = value
	return s
}

// OpenRoot opens a directory until the test ends.
func OpenRoot(tb testing.TB, dir string) *os.Root {
	tb.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { root.Close() })
	return root
}

// Archive makes an update of a manifest and items.
func Archive(tb testing.TB, manifest string, items Tree) *mar.Reader {
	tb.Helper()
	a := &mar.Archive{Product: TestProduct}
	add := func(name string, mode fs.FileMode, data string) {
		a.Entries = append(a.Entries, mar.BytesEntry(name, mode, Compress(tb, []byte(data))))
	}
	add("updatev3.manifest", 0o644, manifest)
	for _, n := range slices.Sorted(maps.Keys(items)) {
		mode := fs.FileMode(0o644)
		if items[n][0] == 'x' {
			mode = 0o755
		}
		add(n, mode, items[n][1:])
	}
	return Write(tb, a)
}

// Compress makes an xz file, fast.
func Compress(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := member.XZ{}.Writer("fast").NewWriter(tb.Context(), &buf, member.Content{Patch: true, Size: int64(len(data))})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

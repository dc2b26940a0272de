package partial

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
)

// A snapshot is what a tree holds: content and executable bit by path, and directories with a slash behind.
type snapshot map[string]string

func file0(data string) string { return "-" + data }
func fileX(data string) string { return "x" + data }

// files returns the snapshot without its directories.
func (s snapshot) files() snapshot {
	out := maps.Clone(s)
	maps.DeleteFunc(out, func(n, _ string) bool { return strings.HasSuffix(n, "/") })
	return out
}

// tree returns the files as a file system.
func (s snapshot) tree() fstest.MapFS {
	m := fstest.MapFS{}
	for n, v := range s.files() {
		mode := fs.FileMode(0o644)
		if v[0] == 'x' {
			mode = 0o755
		}
		m[n] = &fstest.MapFile{Data: []byte(v[1:]), Mode: mode}
	}
	return m
}

// write writes the files into a directory.
func (s snapshot) write(tb testing.TB, dir string) {
	tb.Helper()
	for n, v := range s.files() {
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

// look takes a snapshot of a directory.
func look(tb testing.TB, dir string) snapshot {
	tb.Helper()
	s := snapshot{}
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
		if info.Mode()&0o100 != 0 {
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

// contents takes a snapshot of the files of a complete update.
func contents(tb testing.TB, r *mar.Reader) snapshot {
	tb.Helper()
	s := snapshot{}
	for _, f := range r.Files() {
		if isManifestName(f.Name) {
			continue
		}
		kind := "-"
		if f.Mode&0o100 != 0 {
			kind = "x"
		}
		s[f.Name] = kind + string(decompressed(tb, r, f.Name))
	}
	return s
}

// diffSnapshots describes how two snapshots differ.
func diffSnapshots(got, want snapshot) string {
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

var testProduct = &mar.Product{Channel: "test", Version: "2.0"}

// pack makes a complete update of a snapshot, fast.
func pack(tb testing.TB, s snapshot) *mar.Reader {
	tb.Helper()
	a, _, err := Pack(tb.Context(), s.tree(), PackOptions{
		Product: testProduct, Platform: PlatformLinux, Workers: 1,
		Compression: Compression{Files: XZ{Level: LevelFast}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return writeMAR(tb, a)
}

// fastRecipe is a recipe for tests about rules, not about bytes.
func fastRecipe(rules Rules) Recipe {
	r := MozillaRecipe()
	r.Rules, r.Platform = rules, PlatformLinux
	r.Compression = Compression{Patches: XZ{Level: LevelFast}, Files: XZ{Level: LevelFast}}
	return r
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// edited returns data with a few changes, as a new version of a file has.
func edited(r *rand.Rand, data []byte) []byte {
	out := slices.Clone(data)
	for range 1 + r.IntN(4) {
		switch at := r.IntN(len(out) + 1); r.IntN(3) {
		case 0:
			if at < len(out) {
				out[at] ^= byte(1 + r.IntN(255))
			}
		case 1:
			out = slices.Insert(out, at, noise(r, 1+r.IntN(20))...)
		case 2:
			out = slices.Delete(out, at, min(len(out), at+r.IntN(20)))
		}
	}
	return out
}

func TestMain(m *testing.M) {
	// Thousands of small archives: let the garbage collector wait for more than the 4 MB that it waits for by itself.
	debug.SetGCPercent(5000)
	debug.SetMemoryLimit(400 << 20)
	os.Exit(m.Run())
}

// stored makes xz files without compressing anything, for tests that make thousands.
type stored struct{}

func (stored) ID() string { return "stored" }

func (stored) NewWriter(w io.Writer, _ Content) (io.WriteCloser, error) {
	return &storedWriter{w: w}, nil
}

type storedWriter struct {
	w    io.Writer
	data []byte
}

func (s *storedWriter) Write(p []byte) (int, error) {
	s.data = append(s.data, p...)
	return len(p), nil
}

func (s *storedWriter) Close() error {
	le := binary.LittleEndian
	sum := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	vli := func(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

	flags := []byte{0, 1} // CRC32
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = append(out, sum(flags)...)
	index := []byte{0, 0}
	if len(s.data) > 0 {
		header := []byte{2, 0, 0x21, 1, 0, 0, 0, 0}
		block := append(header, sum(header)...)
		for i, rest := 0, s.data; len(rest) > 0; i++ {
			n := min(len(rest), 1<<16)
			block = append(block, byte(1+min(i, 1)))
			block = binary.BigEndian.AppendUint16(block, uint16(n-1))
			block = append(block, rest[:n]...)
			rest = rest[n:]
		}
		block = append(block, 0)
		index = vli(vli([]byte{0, 1}, len(block)+4), len(s.data))
		out = append(out, append(pad(block), sum(s.data)...)...)
	}
	index = pad(index)
	index = append(index, sum(index)...)
	foot := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	out = append(out, index...)
	out = append(out, sum(foot)...)
	out = append(append(out, foot...), "YZ"...)
	_, err := s.w.Write(out)
	return err
}

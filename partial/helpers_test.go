package partial

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"runtime/debug"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"

	"github.com/senbonzakura/senbonzakura/mar"
)

// pack makes a complete update of a snapshot, fast.
func pack(tb testing.TB, s updatetest.Tree) *mar.Reader {
	tb.Helper()
	a, _, err := Pack(tb.Context(), s.FS(), PackOptions{
		Product: updatetest.TestProduct, Platform: PlatformLinux, Workers: 1,
		Compression: Compression{Files: XZ{Level: LevelFast}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return updatetest.Write(tb, a)
}

// fastRecipe is a recipe for tests about rules, not about bytes.
func fastRecipe(rules Rules) Recipe {
	r := MozillaRecipe()
	r.Rules, r.Platform = rules, PlatformLinux
	r.Compression = Compression{Patches: XZ{Level: LevelFast}, Files: XZ{Level: LevelFast}}
	return r
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

func (stored) NewWriter(_ context.Context, w io.Writer, _ Content) (io.WriteCloser, error) {
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

package mar

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"testing"
	"time"
)

// many is an archive of n entries in a hundred directories.
func many(tb testing.TB, n int) []byte {
	tb.Helper()
	a := &Archive{Product: &Product{"release", "1.0"}}
	for i := range n {
		a.Entries = append(a.Entries, BytesEntry(fmt.Sprintf("browser/chrome/directory%02d/file%06d.properties", i%100, i), 0o644, []byte("x")))
	}
	var out bytes.Buffer
	if _, err := a.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// 100,000 entries must parse within a second; it takes a small part of that.
func TestParseIsFast(t *testing.T) {
	data := many(t, 100_000)
	best := time.Hour
	for i := 0; i < 10 && best > slower*time.Second; i++ { // on a machine that does other things too
		start := time.Now()
		r := parse(t, data)
		best = min(best, time.Since(start))
		if len(r.Files()) != 100_000 {
			t.Fatalf("got %d files", len(r.Files()))
		}
	}
	t.Logf("100,000 entries in %v", best)
	if best > slower*time.Second {
		t.Errorf("100,000 entries take %v", best)
	}
}

// The cost of names that share long prefixes, differ in case only or hide each other must not explode either.
func TestLintIsFast(t *testing.T) {
	a := valid()
	a.entries = nil
	for i := range 50_000 {
		a.entries = append(a.entries, rawEntry{name: fmt.Sprintf("%0100d/x%d", i%7, i%11), flags: 0o7777})
	}
	data := a.bytes()
	start := time.Now()
	problems := Lint(bytes.NewReader(data), int64(len(data)), &LintOptions{Max: 1 << 30})
	if took := time.Since(start); took > slower*5*time.Second {
		t.Errorf("%d problems take %v", len(problems), took)
	}
}

// Reading, verifying and stripping take memory in proportion to the index, not to the contents.
func TestMemoryIsBounded(t *testing.T) {
	const size = 32 << 20
	a := valid()
	a.padTo = 0
	a.sigs = []rawSig{{alg: 2, data: make([]byte, 512)}}
	small := a.bytes()
	start := len(small)
	// The same archive with contents of 32 MiB, which only a function knows.
	grown := &sparse{head: bytes.Clone(small[:be.Uint32(small[4:])]), tail: bytes.Clone(small[be.Uint32(small[4:]):]), size: int64(start) + size}
	be.PutUint32(grown.head[4:], be.Uint32(small[4:])+size)
	be.PutUint64(grown.head[8:], uint64(grown.size))
	last := len(grown.tail) - len("two\x00") - 12
	be.PutUint32(grown.tail[last+4:], be.Uint32(grown.tail[last+4:])+size)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := NewReader(grown, grown.size, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Digest(t.Context(), RSAPKCS1SHA384); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Strip().WriteTo(io.Discard); err != nil || n != grown.size-520 {
		t.Fatal(n, err)
	}
	if n, err := r.Archive().WriteTo(io.Discard); err != nil || n != grown.size-520 {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("allocated %d bytes for contents of %d", got, size)
	}
}

// sparse is a file with zeros between its head and its tail.
type sparse struct {
	head, tail []byte
	size       int64
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	tail := s.size - int64(len(s.tail))
	if end := off + int64(len(p)); end > tail {
		if off >= tail {
			copy(p, s.tail[off-tail:])
		} else {
			copy(p[tail-off:], s.tail)
		}
	}
	return len(p), nil
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			data := many(b, n)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewReader(bytes.NewReader(data), int64(len(data)), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	data := many(b, 100_000)
	r := parse(b, data)
	for b.Loop() {
		if err := fs.WalkDir(r, ".", func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	content := make([]byte, 16<<20)
	a := &Archive{Entries: []Entry{BytesEntry("x", 0o644, content)}}
	b.SetBytes(a.Size())
	for b.Loop() {
		if _, err := a.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	a := &Archive{Entries: []Entry{BytesEntry("x", 0o644, make([]byte, 16<<20))}}
	var out bytes.Buffer
	if _, err := a.WriteReserved(b.Context(), &out, SignerInfo{Algorithm: RSAPKCS1SHA384, SignatureSize: 512}); err != nil {
		b.Fatal(err)
	}
	r := parse(b, out.Bytes())
	b.SetBytes(r.Size())
	for b.Loop() {
		if _, err := r.Digest(b.Context(), RSAPKCS1SHA384); err != nil {
			b.Fatal(err)
		}
	}
}

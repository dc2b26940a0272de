package verify

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// repeated gives a log whose tests come again and again, each time of another release.
type repeated struct {
	text []byte
	left int
	turn int
	buf  bytes.Buffer
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.buf.Len() == 0 {
		if r.left <= 0 {
			return 0, io.EOF
		}
		r.turn++
		r.left -= len(r.text)
		r.buf.Write(bytes.ReplaceAll(r.text, []byte("20261019143936"), fmt.Appendf(nil, "20261019%06d", r.turn)))
	}
	return r.buf.Read(p)
}

func (*repeated) Close() error { return nil }

// Memory grows with the tests, not with the bytes: a log with few tests and very much noise takes no more than a small
// one, and one of a gigabyte with 70,000 tests stays under 100 MB.
func TestMemory(t *testing.T) {
	samples := samples(t)
	var text []byte
	for _, s := range samples {
		if s.name == "14-hundreds-two-failures" {
			text = s.text
		}
	}
	size := testkit.Count(128<<20, 1<<30, 1<<30)
	runtime.GC()
	before := heap()
	peak := uint64(0)
	in := &watched{r: &repeated{text: text, left: size}, see: func() {
		peak = max(peak, heap())
	}}
	report, err := Read(t.Context(), []Log{{Name: "big", Open: func() (io.ReadCloser, error) { return in, nil }}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	turns := (size + len(text) - 1) / len(text)
	if totals := report.Totals(); totals.Tests != 253*turns || totals.Fail != 2*turns {
		t.Errorf("%d turns: %+v", turns, totals)
	}
	peak = max(peak, heap())
	used := int64(peak) - int64(before)
	t.Logf("%d MB, %d tests: %d MB of heap at most", size>>20, 253*turns, used>>20)
	if used > 100<<20 {
		t.Errorf("%d MB of heap for a log of %d MB", used>>20, size>>20)
	}
}

// watched looks at the memory every few megabytes.
type watched struct {
	r    io.Reader
	see  func()
	read int
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.read += n; w.read > 8<<20 {
		w.read = 0
		w.see()
	}
	return n, err
}

func (*watched) Close() error { return nil }

// heap is what is on the heap, with what the collector has not taken yet.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func BenchmarkRead(b *testing.B) {
	for _, s := range samples(b) {
		if s.name != "14-hundreds-two-failures" && s.name != "18-old-grammar-2019" && s.name != "20-final-verification" {
			continue
		}
		b.Run("log="+s.name, func(b *testing.B) {
			b.SetBytes(int64(len(s.text)))
			b.ReportAllocs()
			for b.Loop() {
				read(b, s.text)
			}
		})
	}
}

// FuzzRead reads anything without trouble, and what is written of it can be read again.
func FuzzRead(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.text[:min(len(s.text), 100<<10)])
		if end := bytes.LastIndex(s.text, []byte("command: END")); end > 40<<10 {
			f.Add(s.text[end-40<<10:])
		}
	}
	f.Add([]byte("Using  https://h/update/3/F/1/2/L/de/c/u.xml\nTEST-UNEXPECTED-FAIL: [1 de partial] download_mars returned non-zero exit code: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<20 {
			return
		}
		report := read(t, text)
		var lines bytes.Buffer
		if err := report.WriteJSON(&lines); err != nil {
			t.Fatal(err)
		}
		again, err := ReadResults(&lines)
		if err != nil {
			t.Fatal(err)
		}
		if again.Totals() != report.Totals() || again.Passed(true) != report.Passed(true) || len(again.Groups) != len(report.Groups) {
			t.Errorf("read again: %+v, was %+v", again.Totals(), report.Totals())
		}
		for _, test := range report.Tests {
			if test.Result == Pass && test.Platform == "" && test.Kind != KindFull {
				t.Errorf("a pass of nothing: %+v", test)
			}
		}
	})
}

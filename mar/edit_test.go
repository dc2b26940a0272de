package mar

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// awkward is an archive with everything that edits must keep: gaps, contents in another order, a section that
// nobody knows, and a product block of its own size.
func awkward(sigs int) []byte {
	a := valid()
	a.sections = []rawSection{product("release", "1.0", 20), {id: 77, data: []byte("unknown")}}
	for range sigs {
		a.sigs = append(a.sigs, rawSig{alg: 2, data: bytes.Repeat([]byte{7}, 512)})
	}
	a.entries = []rawEntry{file("updatev3.manifest", "manifest"), file("b", "bbbb-gap"), file("c", "cc")}
	a.entries[0].offset = func(at, _ int64) int64 { return at + 1 }
	a.entries[0].size = u32(7)
	a.entries[1].size = u32(4)
	a.entries[1].offset, a.entries[2].offset = func(at, _ int64) int64 { return at }, func(at, _ int64) int64 { return at }
	return a.bytes()
}

func TestStripKeepsLayout(t *testing.T) {
	t.Parallel()
	for n := 0; n <= 8; n++ {
		if got := write(t, parse(t, awkward(n)).Strip()); !bytes.Equal(got, awkward(0)) {
			t.Errorf("%d signatures: stripping does not give the unsigned archive", n)
		}
	}
	info := SignerInfo{Algorithm: RSAPKCS1SHA384, SignatureSize: 512}
	edit, err := parse(t, awkward(0)).Reserve(info, info)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.ReplaceAll(awkward(2), bytes.Repeat([]byte{7}, 512), make([]byte, 512))
	if got := write(t, edit); !bytes.Equal(got, want) || edit.Size() != int64(len(want)) {
		t.Error("reserving does not keep the rest")
	}
}

// What the reader was told to allow is kept by edits, not by writing anew.
func TestStripKeepsProblems(t *testing.T) {
	t.Parallel()
	build := func(sigs int) []byte {
		a := valid()
		for range sigs {
			a.sigs = append(a.sigs, rawSig{alg: 1, data: make([]byte, 256)})
		}
		a.entries[1].name = "../one"
		a.entries[2].flags = 0o4755
		a.trailing = []byte("behind")
		return a.bytes()
	}
	r := parse(t, build(3), allowed()...)
	if got := write(t, r.Strip()); !bytes.Equal(got, build(0)) {
		t.Error("bytes differ")
	}
	if _, err := r.Archive().WriteTo(io.Discard); !errors.Is(err, ErrArchive) {
		t.Errorf("writing anew: got %v, want ErrArchive", err)
	}
}

func TestWithProduct(t *testing.T) {
	t.Parallel()
	p := Product{Channel: "nightly", Version: "99.0a1"}
	contents := map[string]string{"updatev3.manifest": "anifest", "b": "bbbb", "c": "cc"}
	for name, tt := range map[string]struct {
		data     []byte
		sections int
		same     bool // size
	}{
		"small block":      {awkward(0), 2, false},
		"block of 104":     {bytesOf(func(*raw) {}), 1, true},
		"no block":         {bytesOf(func(a *raw) { a.sections = nil }), 1, false},
		"behind another":   {bytesOf(func(a *raw) { a.sections = []rawSection{{id: 5, data: []byte("x")}, product("r", "1", 96)} }), 2, true},
		"no sections":      {bytesOf(func(a *raw) { a.layout = LayoutNoSections }), 1, false},
		"original":         {bytesOf(func(a *raw) { a.layout = LayoutOriginal }), 1, false},
		"broken, allowed":  {bytesOf(func(a *raw) { a.sections[0] = rawSection{id: 1, data: []byte("x")} }), 1, false},
		"too big, allowed": {bytesOf(func(a *raw) { a.sections[0] = product("r", "1", 200) }), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := parse(t, tt.data, CodeProduct)
			edit, err := old.WithProduct(p)
			if err != nil {
				t.Fatal(err)
			}
			data := write(t, edit)
			if (len(data) == len(tt.data)) != tt.same {
				t.Errorf("got %d bytes from %d", len(data), len(tt.data))
			}
			r := parse(t, data)
			got, ok := r.Product()
			if first := r.Sections()[0].ID == 1; first != ok || ok && got != p {
				t.Errorf("got %v, %v", got, ok)
			}
			if n := len(r.Sections()); n != tt.sections {
				t.Errorf("got %d sections, want %d", n, tt.sections)
			}
			for i, f := range r.Files() {
				want := string(content(t, old.Files()[i]))
				if c, ok := contents[f.Name]; name == "small block" && (!ok || c != want) {
					t.Errorf("%s has %q", f.Name, want)
				}
				if got := string(content(t, f)); got != want {
					t.Errorf("%s: got %q, want %q", f.Name, got, want)
				}
			}
			// Back to where it was, in place.
			if back, err := r.WithProduct(Product{"release", "1.0"}); err != nil || back.Size() != int64(len(data)) {
				t.Errorf("back: got %v", err)
			}
		})
	}
	if _, err := parse(t, awkward(1)).WithProduct(p); !errors.Is(err, ErrSigned) {
		t.Errorf("signed: got %v, want ErrSigned", err)
	}
	if _, err := parse(t, awkward(0)).WithProduct(Product{Channel: strings.Repeat("x", 64)}); !errors.Is(err, ErrArchive) {
		t.Errorf("long channel: got %v, want ErrArchive", err)
	}
}

func bytesOf(change func(*raw)) []byte {
	a := valid()
	change(a)
	return a.bytes()
}

// An archive that gets shorter after it was opened is an error everywhere, not a shorter file.
func TestShrinkingFile(t *testing.T) {
	t.Parallel()
	data := bytesOf(func(a *raw) { a.sigs = []rawSig{{alg: 2, data: make([]byte, 512)}} })
	for n := range len(data) {
		in := &shrinking{data: data}
		r, err := NewReader(in, int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		in.data = data[:n]
		for name, f := range map[string]func() error{
			"strip":  func() error { return second(r.Strip().WriteTo(io.Discard)) },
			"write":  func() error { return second(r.Archive().WriteTo(io.Discard)) },
			"digest": func() error { return second(r.Digest(t.Context(), RSAPKCS1SHA384)) },
			"replace": func() error {
				edit, err := r.ReplaceSignature(0, make([]byte, 512))
				if err == nil {
					_, err = edit.WriteTo(io.Discard)
				}
				return err
			},
			"read": func() error {
				for _, f := range r.Files() {
					if _, err := r.ReadFile(f.Name); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			err := f()
			first := r.Files()[0].Offset
			last := r.Files()[2].Offset + r.Files()[2].Size
			needed := map[string]int64{"strip": int64(len(data)), "digest": int64(len(data)), "replace": int64(len(data)), "write": last, "read": last}[name]
			if name == "strip" && int64(n) >= last && int64(n) >= first {
				needed = last // the index is in memory
			}
			if int64(n) < needed && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, cut at %d: got %v, want io.ErrUnexpectedEOF", name, n, err)
			}
		}
	}
	if _, err := NewReader(bytes.NewReader(data), int64(len(data))+1000, nil); !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("size larger than the file: got %v", err)
	}
}

type shrinking struct{ data []byte }

func (s *shrinking) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, off)
}

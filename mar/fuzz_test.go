package mar

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// seed adds Mozilla's archives, where they are, and the hostile files.
func seed(f *testing.F) {
	f.Helper()
	base := os.Getenv(testkit.SharedVariable)
	if base == "" {
		base = filepath.Join(filepath.Dir(testkit.Root(f)), "shared")
	}
	for _, dir := range []string{"libmar", "updater", "mardor", "packaging"} {
		paths, err := filepath.Glob(filepath.Join(base, "testdata", dir, "*.mar"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			if len(data) < 1<<14 {
				f.Add(data)
			}
		}
	}
	for _, h := range hostiles() {
		if h.class != "truncated" && len(h.data) < 1<<14 {
			f.Add(h.data)
		}
	}
	for _, layout := range []Layout{LayoutSections, LayoutNoSections, LayoutOriginal} {
		f.Add(bytesOf(func(a *raw) { a.layout = layout }))
	}
	f.Add(awkward(2))
}

// naive reads entries in the most direct way there is.
func naive(data []byte) (files []File) {
	at := be.Uint32(data[4:])
	n := be.Uint32(data[at:])
	for index := data[at+4 : at+4+n]; len(index) > 0; {
		name, rest, _ := bytes.Cut(index[12:], []byte{0})
		files = append(files, File{
			Header: Header{Name: string(name), Size: int64(be.Uint32(index[4:])), Mode: fs.FileMode(be.Uint32(index[8:]))},
			Offset: int64(be.Uint32(index)),
		})
		index = rest
	}
	return files
}

// What is accepted must be read as the format says, must be usable in every way, and must come out the same
// when written and read again.
func FuzzReader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		r, err := NewReader(bytes.NewReader(data), size, nil)
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) || !errors.Is(err, ErrFormat) && !errors.Is(err, ErrLimit) {
				t.Fatalf("got %T %v", err, err)
			}
			if fe.Offset < 0 || fe.Offset > size {
				t.Fatalf("offset %d is outside the file of %d bytes", fe.Offset, size)
			}
			if r, err = NewReader(bytes.NewReader(data), size, &ReaderOptions{Allow: allowed()}); err == nil {
				walk(t, r)
				checkEdits(t, r, data)
			}
			return
		}
		walk(t, r)
		want := naive(data)
		for i, file := range r.Files() {
			if file.Header != want[i].Header || file.Offset != want[i].Offset {
				t.Errorf("entry %d: got %+v, want %+v", i, file.Header, want[i].Header)
			}
			end := file.Offset + file.Size
			if !bytes.Equal(content(t, file), data[file.Offset:end]) {
				t.Errorf("entry %d: content differs", i)
			}
		}
		if len(want) != len(r.Files()) {
			t.Errorf("got %d entries, want %d", len(r.Files()), len(want))
		}
		checkEdits(t, r, data)
		checkSame(t, r, parse(t, write(t, r.Archive())))
	})
}

// checkSame compares everything but signatures and sections that nobody knows.
func checkSame(t *testing.T, a, b *Reader) {
	t.Helper()
	if a.Layout() != b.Layout() || len(a.Files()) != len(b.Files()) {
		t.Fatalf("got layout %v and %d files, want %v and %d", b.Layout(), len(b.Files()), a.Layout(), len(a.Files()))
	}
	pa, oka := a.Product()
	if pb, okb := b.Product(); pa != pb || oka != okb {
		t.Errorf("got product %v, %v, want %v, %v", pb, okb, pa, oka)
	}
	for i, fa := range a.Files() {
		fb := b.Files()[i]
		if fa.Header != fb.Header || !bytes.Equal(content(t, fa), content(t, fb)) {
			t.Errorf("entry %d: got %+v, want %+v", i, fb.Header, fa.Header)
		}
	}
}

// checkEdits strips signatures and puts them back, which must give the same bytes.
func checkEdits(t *testing.T, r *Reader, data []byte) {
	t.Helper()
	var codes []Code
	codes = append(codes, allowed()...)
	stripped := write(t, r.Strip())
	if len(r.Signatures()) == 0 {
		want := slices.Clone(data)
		if r.Layout() != LayoutOriginal {
			be.PutUint64(want[8:], uint64(len(want))) // repaired where it was wrong
		}
		if !bytes.Equal(stripped, want) {
			t.Errorf("stripping an unsigned archive changes it")
		}
		return
	}
	s := parse(t, stripped, codes...)
	var infos []SignerInfo
	for _, sig := range r.Signatures() {
		infos = append(infos, SignerInfo{Algorithm: sig.Algorithm, SignatureSize: len(sig.Bytes)})
	}
	edit, err := s.Reserve(infos...)
	if err != nil {
		return // signatures that nobody would make
	}
	again := write(t, edit)
	for i, sig := range r.Signatures() {
		edit, err := parse(t, again, codes...).ReplaceSignature(i, sig.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		again = write(t, edit)
	}
	want := slices.Clone(data)
	be.PutUint64(want[8:], uint64(len(want)))
	if !bytes.Equal(again, want) {
		t.Error("stripping and putting the signatures back changes the archive")
	}
}

// Whatever can be described is written, read as described, and written the same again.
func FuzzRoundTrip(f *testing.F) {
	f.Add("release", "1.0", uint8(0), false, "updatev3.manifest", []byte("type"), uint32(0o644), "dir/x", []byte{0}, uint32(0o755))
	f.Add("", "", uint8(1), true, "a", []byte(nil), uint32(0), "b", []byte(nil), uint32(0o777))
	f.Add("c", "v", uint8(2), true, "ä/ö", []byte("MAR1"), uint32(0o4755), "ä", []byte("x"), uint32(1))
	f.Fuzz(func(t *testing.T, channel, version string, layout uint8, exact bool, n1 string, d1 []byte, m1 uint32, n2 string, d2 []byte, m2 uint32) {
		a := &Archive{Layout: Layout(layout), ExactProduct: exact, Entries: []Entry{
			BytesEntry(n1, fs.FileMode(m1), d1), BytesEntry(n2, fs.FileMode(m2), d2),
		}}
		if a.Layout == LayoutSections {
			a.Product = &Product{channel, version}
		}
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			if !errors.Is(err, ErrArchive) && !errors.Is(err, ErrLimit) {
				t.Fatal(err)
			}
			if a.Size() != -1 || out.Len() > 0 {
				t.Errorf("%v, but size %d and %d bytes written", err, a.Size(), out.Len())
			}
			return
		}
		if a.Size() != int64(out.Len()) {
			t.Errorf("got %d bytes, planned were %d", out.Len(), a.Size())
		}
		r := parse(t, out.Bytes())
		for i, want := range a.Entries {
			got := r.Files()[i]
			if got.Header != want.Header || !bytes.Equal(content(t, got), [][]byte{d1, d2}[i]) {
				t.Errorf("entry %d: got %+v, want %+v", i, got.Header, want.Header)
			}
		}
		if p, ok := r.Product(); ok != (a.Product != nil) || ok && p != *a.Product {
			t.Errorf("got product %v, %v, want %v", p, ok, a.Product)
		}
		again := r.Archive()
		if !bytes.Equal(write(t, again), out.Bytes()) {
			t.Error("bytes differ when written again")
		}
	})
}

// The body of a product block reads without panic, and what it says can be written and read again.
func FuzzProduct(f *testing.F) {
	f.Add([]byte("release\x001.0\x00"))
	f.Add(make([]byte, 96))
	f.Add(bytes.Repeat([]byte("x"), 96))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, reason := parseProduct(body)
		if reason != "" {
			return
		}
		if err := checkProduct(p); err != nil {
			t.Fatal(err)
		}
		for _, exact := range []bool{false, true} {
			block := appendProduct(nil, p, exact)
			if int(be.Uint32(block)) != len(block) {
				t.Errorf("block of %d bytes says %d", len(block), be.Uint32(block))
			}
			if again, reason := parseProduct(block[8:]); again != p || reason != "" {
				t.Errorf("got %v, %s, want %v", again, reason, p)
			}
		}
		if r, err := NewReader(bytes.NewReader(bytesOf(func(a *raw) { a.sections[0].data = body })), 0, nil); err == nil {
			t.Errorf("a file of no size reads: %v", r)
		}
	})
}

// Lint and NewReader agree on what is refused, and Lint never says more than it was asked for.
func FuzzLint(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		in, size := bytes.NewReader(data), int64(len(data))
		_, err := NewReader(in, size, nil)
		problems := Lint(in, size, &LintOptions{Max: 1 << 30})
		if refused := slices.ContainsFunc(problems, func(p Problem) bool { return p.Refused }); refused != (err != nil) {
			t.Errorf("NewReader says %v, Lint %v", err, problems)
		}
		var fe *FormatError
		if errors.As(err, &fe) && (problems[0].Code != fe.Code || problems[0].Offset != fe.Offset) {
			t.Errorf("NewReader says %v, Lint first %v", err, problems[0])
		}
		for _, p := range problems {
			if p.Offset < 0 || p.Offset > size || p.Detail == "" || p.Code == "" {
				t.Errorf("got %+v", p)
			}
		}
		if few := Lint(in, size, &LintOptions{Max: 3}); len(few) > 3 || len(few) != min(3, len(problems)) {
			t.Errorf("got %d problems of %d", len(few), len(problems))
		}
	})
}

// The text form of signatures reads without panic and comes out the same.
func FuzzSignatureText(f *testing.F) {
	f.Add([]byte("Qv7nfMB5+ri3errM8NqkCl7LwWFHu3DX\r\nBFAHaw3R"))
	f.Add([]byte("=="))
	f.Fuzz(func(t *testing.T, text []byte) {
		sig, err := DecodeSignature(text)
		if err != nil {
			return
		}
		again, err := DecodeSignature(EncodeSignature(sig))
		if err != nil || !bytes.Equal(again, sig) {
			t.Errorf("got %x, %v, want %x", again, err, sig)
		}
	})
}

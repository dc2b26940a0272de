package mar

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func TestFS(t *testing.T) {
	t.Parallel()
	names := []string{
		"updatev3.manifest", "a-b", "a.b", "a/b", "a/c/d", "a/c.d", "a0", "b/x", "b.x", "b-/x", "ä/ö", "dir with space/x", "{brace}/x",
		"z/z/z/z/z", "z/z/z/y", "z/z-", "z/z.",
	}
	var a Archive
	for _, n := range names {
		a.Entries = append(a.Entries, BytesEntry(n, 0o640, []byte(n)))
	}
	r := parse(t, write(t, &a))
	if err := fstest.TestFS(r, names...); err != nil {
		t.Error(err)
	}
	var walked []string
	err := fs.WalkDir(r, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			walked = append(walked, path)
		}
		return err
	})
	slices.Sort(names)
	slices.Sort(walked)
	if err != nil || !slices.Equal(walked, names) {
		t.Errorf("got %q, %v, want %q", walked, err, names)
	}
	info, err := fs.Stat(r, "a/b")
	if err != nil || info.Mode() != 0o640 || info.Size() != 3 || info.Name() != "b" || info.Sys() != r.Lookup("a/b") {
		t.Errorf("got %v, %v", info, err)
	}
	for name, want := range map[string]error{
		"none": fs.ErrNotExist, "a/none": fs.ErrNotExist, "a-b/x": fs.ErrNotExist, "z/z/z/z/z/z": fs.ErrNotExist, "/a": fs.ErrInvalid,
		"a/": fs.ErrInvalid, "": fs.ErrInvalid, "../a": fs.ErrInvalid, "a/../a": fs.ErrInvalid, `a\b`: fs.ErrNotExist, "a\x00": fs.ErrNotExist,
	} {
		for op, f := range map[string]func() error{
			"open":    func() error { return second(r.Open(name)) },
			"stat":    func() error { return second(r.Stat(name)) },
			"read":    func() error { return second(r.ReadFile(name)) },
			"readdir": func() error { return second(r.ReadDir(name)) },
		} {
			var pe *fs.PathError
			if err := f(); !errors.Is(err, want) || !errors.As(err, &pe) || pe.Path != name {
				t.Errorf("%s %q: got %v, want %v", op, name, err, want)
			}
		}
	}
	if d, err := r.Open("a"); err != nil {
		t.Error(err)
	} else if _, err := d.Read(make([]byte, 1)); err == nil {
		t.Error("a directory reads as a file")
	}
	if info, err := r.Stat("a"); err != nil || info.Sys() != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := r.ReadFile("a"); err == nil {
		t.Error("a directory reads")
	}
	if _, err := r.ReadDir("a-b"); err == nil {
		t.Error("a file lists")
	}
}

func TestFSOfRealArchives(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"libmar", "packaging", "mardor"} {
		paths, err := filepath.Glob(filepath.Join(testkit.Shared(t, "testdata", dir), "*.mar"))
		if err != nil || len(paths) == 0 {
			t.Fatal(dir, len(paths), err)
		}
		for _, path := range paths {
			if strings.Contains(path, "manipulated") {
				continue
			}
			r, err := OpenFile(path, nil)
			if err != nil {
				t.Error(err)
				continue
			}
			var names []string
			for _, f := range r.Files() {
				names = append(names, f.Name)
			}
			if err := fstest.TestFS(r, names...); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("closing twice: %v", err)
			}
		}
	}
}

// Real releases read strictly, and come out the same when written anew.
func TestReleases(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"firefox-small/from.mar", "firefox-small/to.mar", "firefox-small/reference.partial.mar", "firefox/reference.partial.mar"} {
		path := testkit.Shared(t, "corpus", filepath.FromSlash(name))
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := parse(t, want)
		if got := write(t, r.Archive()); !bytes.Equal(got, want) {
			t.Errorf("%s: bytes differ when written anew", name)
		}
		for _, p := range Lint(bytes.NewReader(want), int64(len(want)), &LintOptions{Ignore: []Code{CodeUnsigned}}) {
			t.Errorf("%s: %v", name, p)
		}
	}
}

func TestFileReaders(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	a := &Archive{Entries: []Entry{BytesEntry("x", 0o644, []byte("front")), BytesEntry("y", 0o644, data), BytesEntry("z", 0o644, []byte("back"))}}
	r := parse(t, write(t, a))
	f := r.Lookup("y")
	rc, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(rc, data); err != nil {
		t.Error(err)
	}
	if err := iotest.TestReader(f.Section(), data); err != nil {
		t.Error(err)
	}
	open, err := r.Open("y")
	if err != nil {
		t.Fatal(err)
	}
	at, ok := open.(io.ReaderAt)
	if !ok {
		t.Fatal("a file of the fs.FS is no io.ReaderAt")
	}
	buf := make([]byte, 10)
	if n, err := at.ReadAt(buf, 9995); n != 5 || !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || string(buf[:5]) != "56789" {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := at.ReadAt(buf, 20000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := at.ReadAt(buf, -1); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
	// A reader that fails: the error comes through, and is not one of the format.
	for _, off := range []int64{0, 4, 19, 22, r.Size() - 10} {
		_, err := NewReader(failAt{bytes.NewReader(write(t, a)), off}, r.Size(), nil)
		if !errors.Is(err, errTest) || errors.Is(err, ErrFormat) {
			t.Errorf("failing at %d: got %v", off, err)
		}
		problems := Lint(failAt{bytes.NewReader(write(t, a)), off}, r.Size(), nil)
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Code == CodeRead }) {
			t.Errorf("failing at %d: Lint says %v", off, problems)
		}
	}
}

// failAt fails when a read touches an offset.
type failAt struct {
	r   io.ReaderAt
	off int64
}

func (f failAt) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.off && f.off < off+int64(len(p)) {
		return 0, errTest
	}
	return f.r.ReadAt(p, off)
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenFile(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := OpenFile(dir, nil); err == nil {
		t.Error("a directory opens")
	}
	bad := filepath.Join(dir, "bad.mar")
	if err := os.WriteFile(bad, []byte("MAR2 and more"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(bad, nil); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), bad) {
		t.Errorf("got %v, want ErrFormat with the name", err)
	}
	// The file that was opened is what is read, whatever the name means later.
	good := filepath.Join(dir, "good.mar")
	if err := os.WriteFile(good, write(t, sample()), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenFile(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Rename(bad, good); err != nil {
		t.Fatal(err)
	}
	if got := string(content(t, r.Lookup("updatev3.manifest"))); got != "type \"partial\"\n" {
		t.Errorf("got %q", got)
	}
}

func TestReaderOptions(t *testing.T) {
	t.Parallel()
	data := write(t, sample())
	open := func(o ReaderOptions) error {
		_, err := NewReader(bytes.NewReader(data), int64(len(data)), &o)
		return err
	}
	for name, o := range map[string]ReaderOptions{
		"negative limit":      {Limits: Limits{Entries: -1}},
		"negative size limit": {Limits: Limits{FileSize: -1}},
		"magic":               {Allow: []Code{CodeMagic}},
		"truncated":           {Allow: []Code{CodeTruncated}},
		"range":               {Allow: []Code{CodeRange}},
		"limit":               {Allow: []Code{CodeLimit}},
		"unknown":             {Allow: []Code{"no such problem"}},
		"lint only":           {Allow: []Code{CodeCase}},
	} {
		if err := open(o); err == nil || errors.Is(err, ErrFormat) || errors.Is(err, ErrLimit) {
			t.Errorf("%s: got %v, want an error about the options", name, err)
		}
	}
	for name, o := range map[string]ReaderOptions{
		"file size":  {Limits: Limits{FileSize: int64(len(data)) - 1}},
		"index size": {Limits: Limits{IndexSize: 10}},
		"entries":    {Limits: Limits{Entries: 2}},
		"name":       {Limits: Limits{NameLength: 5}},
		"depth":      {Limits: Limits{Depth: 1}},
	} {
		var fe *FormatError
		if err := open(o); !errors.Is(err, ErrLimit) || errors.Is(err, ErrFormat) || !errors.As(err, &fe) || fe.Code != CodeLimit {
			t.Errorf("%s: got %v, want ErrLimit", name, err)
		}
	}
	for name, o := range map[string]ReaderOptions{
		"file size": {Limits: Limits{FileSize: int64(len(data))}},
		"entries":   {Limits: Limits{Entries: 3}},
		"name":      {Limits: Limits{NameLength: len("updatev3.manifest")}},
		"depth":     {Limits: Limits{Depth: 2}},
		"all":       {Allow: allowed()},
	} {
		if err := open(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewReader(bytes.NewReader(data), -1, nil); err == nil {
		t.Error("a negative size passes")
	}
}

// What was allowed must not confuse the fs.FS: the first of equal names, files before directories, no names
// that are not paths.
func TestFSOfAllowed(t *testing.T) {
	t.Parallel()
	r := parse(t, bytesOf(func(a *raw) {
		a.entries = []rawEntry{
			file("../up", "1"), file("x", "first"), file("x", "second"), file("x/below", "3"), file("y/z", "4"), file("y", "5"), file("", "6"),
			file(`back\slash`, "7"),
		}
		a.entries[3].flags = 0o4755
	}), allowed()...)
	if got, err := r.ReadFile("x"); err != nil || string(got) != "first" {
		t.Errorf("got %q, %v", got, err)
	}
	list, err := r.ReadDir(".")
	if err != nil || len(list) != 2 || list[0].Name() != "x" || list[1].Name() != "y" || list[0].IsDir() || list[1].IsDir() {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := r.Open(`back\slash`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if len(r.Files()) != 8 {
		t.Errorf("got %d files", len(r.Files()))
	}
	for _, name := range []string{"../up", "", `back\slash`} {
		if r.Lookup(name) == nil {
			t.Errorf("%q is not found", name)
		}
	}
	if got := r.Lookup("x"); got != r.Files()[1] {
		t.Error("Lookup does not find the first")
	}
	if r.Lookup("/none") != nil {
		t.Error("Lookup finds what is not there")
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		LayoutSections.String(): "sections", LayoutNoSections.String(): "no-sections", LayoutOriginal.String(): "original", Layout(9).String(): "layout(9)",
		RSAPKCS1SHA1.String(): "rsa-pkcs1-sha1", RSAPKCS1SHA384.String(): "rsa-pkcs1-sha384", Algorithm(9).String(): "algorithm(9)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, err := range map[string]error{
		`mar: entry "x": content has 3 bytes, declared are 5`:         &ContentError{Name: "x", Declared: 5, Got: 3},
		`mar: entry "x": content is longer than the declared 5 bytes`: &ContentError{Name: "x", Declared: 5, Got: 6},
		`mar: contents changed between hashing and writing`:           &ContentError{},
		`mar: signature 2: does not verify`:                           &SignatureError{Signature: 2, Detail: "does not verify"},
		`mar: two keys`:                                               &SignatureError{Signature: -1, Detail: "two keys"},
		`mar: offset 7: bad`:                                          &FormatError{Offset: 7, Detail: "bad"},
		`mar: archive is not signed`:                                  ErrUnsigned,
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	long := (&FormatError{Code: CodeName, Name: strings.Repeat("n", 4000), Detail: "d"}).Error()
	if len(long) > 300 {
		t.Errorf("error has %d bytes", len(long))
	}
}

package mar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestExtract(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := parse(t, write(t, sample()))
	if err := r.Extract(t.Context(), openRoot(t, dir), nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Files() {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, content(t, f)) {
			t.Errorf("%s: got %d bytes, %v", f.Name, len(got), err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "dir", "one")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("got %v, %v, want it executable", info.Mode(), err)
	}
	// Again: nothing is overwritten, nothing removed.
	if err := os.WriteFile(filepath.Join(dir, "updatev3.manifest"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	if err := r.Extract(t.Context(), openRoot(t, dir), nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "updatev3.manifest")); err != nil || string(got) != "mine" || !slices.Equal(before, tree(t, dir)) {
		t.Errorf("got %q, %v, %q", got, err, tree(t, dir))
	}
}

func TestExtractOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := parse(t, write(t, sample()))
	opts := &ExtractOptions{
		Select: func(f *File) bool { return f.Name != "empty" },
		Content: func(f *File) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("content of " + f.Name)), nil
		},
		Mode: func(f *File) fs.FileMode { return fs.ModeSetuid | UpdateMode(f.Mode) },
	}
	if err := r.Extract(t.Context(), openRoot(t, dir), opts); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), []string{".", "dir", "dir/one", "updatev3.manifest"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got, err := os.ReadFile(filepath.Join(dir, "dir", "one"))
	if err != nil || string(got) != "content of dir/one" {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "dir", "one")); err != nil || info.Mode()&^fs.ModePerm != 0 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

// Whatever fails, nothing is left behind.
func TestExtractFails(t *testing.T) {
	t.Parallel()
	var a Archive
	for _, n := range []string{"a/b/c/one", "a/b/two", "d/three", "four"} {
		a.Entries = append(a.Entries, BytesEntry(n, 0o644, bytes.Repeat([]byte("x"), 100)))
	}
	r := parse(t, write(t, &a))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := func(n int, f func(io.Reader) (io.ReadCloser, error)) *ExtractOptions {
		return &ExtractOptions{Content: func(e *File) (io.ReadCloser, error) {
			if n--; n < 0 {
				return f(e.Section())
			}
			return e.Open()
		}}
	}
	for i := range 4 {
		for name, tt := range map[string]struct {
			opts *ExtractOptions
			want error
		}{
			"open":   {count(i, func(io.Reader) (io.ReadCloser, error) { return nil, errTest }), errTest},
			"read":   {count(i, func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(io.MultiReader(r, failing{})), nil }), errTest},
			"cancel": {count(i, func(r io.Reader) (io.ReadCloser, error) { cancel(); return io.NopCloser(r), nil }), context.Canceled},
		} {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "a", "kept"), 0o755); err != nil {
				t.Fatal(err)
			}
			c := t.Context()
			if name == "cancel" {
				c = ctx
			}
			if err := r.Extract(c, openRoot(t, dir), tt.opts); !errors.Is(err, tt.want) {
				t.Errorf("%s %d: got %v, want %v", name, i, err, tt.want)
			}
			if got := tree(t, dir); !slices.Equal(got, []string{".", "a", "a/kept"}) {
				t.Errorf("%s %d: left behind %q", name, i, got)
			}
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errTest }

// Links below the root lead nowhere else.
func TestExtractLinks(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(root, outside string) error{
		"directory is a link":   func(root, outside string) error { return os.Symlink(outside, filepath.Join(root, "dir")) },
		"directory is a way up": func(root, _ string) error { return os.Symlink("../outside", filepath.Join(root, "dir")) },
		"file is a link": func(root, outside string) error {
			return os.Symlink(filepath.Join(outside, "new"), filepath.Join(root, "updatev3.manifest"))
		},
		"file is a link to a file": func(root, outside string) error {
			return os.Symlink(filepath.Join(outside, "old"), filepath.Join(root, "empty"))
		},
	} {
		base := t.TempDir()
		root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
		for _, dir := range []string{root, outside} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(outside, "old"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := prepare(root, outside); err != nil {
			t.Skip(err)
		}
		before := tree(t, base)
		if err := parse(t, write(t, sample())).Extract(t.Context(), openRoot(t, root), nil); err == nil {
			t.Errorf("%s: extracts", name)
		}
		if after := tree(t, base); !slices.Equal(before, after) {
			t.Errorf("%s: got %q, want %q", name, after, before)
		}
		if got, err := os.ReadFile(filepath.Join(outside, "old")); err != nil || string(got) != "old" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// Names that the reader was told to allow do not reach the file system.
func TestExtractAllowed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*raw)
		want   Code
	}{
		"up":        {func(a *raw) { a.entries[2].name = "../up" }, CodeName},
		"absolute":  {func(a *raw) { a.entries[2].name = "/abs" }, CodeName},
		"backslash": {func(a *raw) { a.entries[2].name = `..\up` }, CodeName},
		"duplicate": {func(a *raw) { a.entries[2].name = "dir/one" }, CodeDuplicate},
		"conflict":  {func(a *raw) { a.entries[2].name = "dir/one/x" }, CodeConflict},
		"case":      {func(a *raw) { a.entries[2].name = "DIR/one" }, CodeCase},
		"case of a directory": {func(a *raw) {
			a.entries[2].name = "DIR"
		}, CodeCase},
	} {
		dir := t.TempDir()
		r := parse(t, bytesOf(tt.change), allowed()...)
		var fe *FormatError
		if err := r.Extract(t.Context(), openRoot(t, dir), nil); !errors.As(err, &fe) || fe.Code != tt.want {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
		if got := tree(t, dir); len(got) != 1 {
			t.Errorf("%s: left behind %q", name, got)
		}
	}
	r := parse(t, bytesOf(func(a *raw) { a.entries[2].name, a.entries[1].flags = "TWO", 0o4755 }), CodeMode)
	dir := t.TempDir()
	if err := r.Extract(t.Context(), openRoot(t, dir), &ExtractOptions{CaseSensitive: true}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "dir", "one")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("got %v, %v, want no setuid bit", info, err)
	}
}

func TestUpdateMode(t *testing.T) {
	t.Parallel()
	for in, want := range map[fs.FileMode]fs.FileMode{
		0o644: 0o644, 0o600: 0o644, 0o755: 0o755, 0o700: 0o755, 0o111: 0o755, 0: 0o644, fs.ModeDir | 0o755: 0o755, 0o4644: 0o644, 0o777: 0o755,
	} {
		if got := UpdateMode(in); got != want {
			t.Errorf("%o: got %o, want %o", in, got, want)
		}
	}
}

package layering

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

func TestFloors(t *testing.T) {
	root := os.DirFS("../..")
	files := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); base == "testdata" || name != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := Check(path.Dir(name), imported); why != "" {
				t.Errorf("%s: import %q: %s", name, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("no Go files found")
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		dir, path string
		ok        bool
	}{
		{"mar", "io", true},
		{"mar", Module + "/internal/verify", true},
		{"mar", Module + "/bsdiff", false},
		{"mar", "golang.org/x/sync/errgroup", false},
		{"bsdiff", "golang.org/x/sync/errgroup", true},
		{"zucchini", Module + "/internal/exe", true},
		{"zucchini", Module + "/bsdiff", false},
		{"partial", Module + "/mar", true},
		{"mar", Module + "/partial", false},
		{"partial", Module + "/cache", true},
		{"partial/difftest", Module + "/partial", true},
		{"partial", Module + "/partial/updater", true},
		{"partial/updater", Module + "/partial", false},
		{"partial/updater", Module + "/zucchini", true},
		{"zucchini", Module + "/internal/exe", true},
		{"zucchini", Module + "/bsdiff", false},
		{"zucchini", "golang.org/x/sync/errgroup", true},
		{"aus", Module + "/mar", false},
		{"aus/verify", Module + "/aus", true},
		{"aus/verify", Module + "/partial/updater", true},
		{"aus", Module + "/aus/verify", false},
		{"toolchain", Module + "/toolchain/tools", true},
		{"internal/exe", Module + "/internal/xz", false},
		{"cache", "github.com/dgraph-io/ristretto/v2", true},
		{"fetch", "github.com/dgraph-io/ristretto/v2", false},
		{"plugins/signing", Module + "/plugins", true},
		{"plugins", Module + "/plugins/signing", false},
		{"internal/xz", Module + "/mar", false},
		{"internal/xz", "github.com/ulikunitz/xz/lzma", true},
		{"internal/suffix", "github.com/ulikunitz/xz/lzma", false},
		{"examples/marctl", "github.com/spf13/cobra", true},
		{"elsewhere", "io", false},
	}
	for _, tt := range tests {
		if why := Check(tt.dir, tt.path); (why == "") != tt.ok {
			t.Errorf("Check(%q, %q) = %q, want ok=%v", tt.dir, tt.path, why, tt.ok)
		}
	}
}

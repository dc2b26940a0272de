package layering

import (
	"cmp"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
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

// A listed package is one as `go list` knows it on one system.
type listed struct {
	dir           string
	imports, deps []string
}

// list asks the go command for every package and all that it is built of.
func list(t *testing.T, goos string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .Deps " "}}`, "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOPROXY=off")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list on %s: %v: %s", goos, err, exit.Stderr)
		}
		t.Skip("no go command: ", err)
	}
	var packages []listed
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		dir := strings.TrimPrefix(strings.TrimPrefix(fields[0], Module), "/")
		packages = append(packages, listed{cmp.Or(dir, "."), strings.Fields(fields[1]), strings.Fields(fields[2])})
	}
	return packages
}

// What a package brings along through others counts as if it imported it, on every system.
func TestDependencies(t *testing.T) {
	for _, goos := range []string{"linux", "windows", "darwin"} {
		packages := list(t, goos)
		if len(packages) < 20 {
			t.Fatalf("got %d packages on %s", len(packages), goos)
		}
		for _, p := range packages {
			for _, path := range p.imports {
				if why := Check(p.dir, path); why != "" {
					t.Errorf("%s on %s: import %q: %s", p.dir, goos, path, why)
				}
			}
			for _, path := range p.deps {
				if !isOutside(path) {
					continue
				}
				if why := Check(p.dir, path); why != "" {
					t.Errorf("%s on %s: is built of %q: %s", p.dir, goos, path, why)
				}
			}
		}
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
		{"toolchain", Module + "/toolchain/tools", false},
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
		{"toolchain", "code.dny.dev/ssrf", false},
		{"toolchain/tools", "code.dny.dev/ssrf", true},
		{"partial", "golang.org/x/text/unicode/norm", true},
		{"partial/updater", "golang.org/x/text/unicode/norm", true},
		{"mar", "golang.org/x/text/unicode/norm", false},
		{"mar", Module + "x/y", false},
	}
	for _, tt := range tests {
		if why := Check(tt.dir, tt.path); (why == "") != tt.ok {
			t.Errorf("Check(%q, %q) = %q, want ok=%v", tt.dir, tt.path, why, tt.ok)
		}
	}
}

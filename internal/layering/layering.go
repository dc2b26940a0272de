// Package layering holds the floors of this module: which package may import which, inside and outside.
//
// Imports go down only: a package may import packages on floors below its own, and those that share its
// rule. Outside modules are listed per package, with those that come in through others, so that a user who imports one
// package never pays for another one's dependencies. The tests of this package read every Go file of the module, and
// what `go list -deps` says of each package, and fail on the first import that breaks a rule, and on a module that no
// package needs any more; do not add an exception, move the code.
package layering

import (
	"slices"
	"strings"
)

// Module is the path of the module whose floors these are.
const Module = "github.com/senbonzakura/senbonzakura"

// rule says where a package stands and which outside modules its non-test code may import.
type rule struct {
	dir     string   // directory relative to the module's root; a trailing "/..." covers everything below
	floor   int      // imports must come from a lower floor
	outside []string // prefixes of import paths outside the standard library, also of what those import
}

// rules are looked up from the top: the first whose directory matches is the one that holds.
var rules = []rule{
	{"examples/...", 7, []string{"*"}},
	{".", 6, all(fetching, caching, patching, rulesFiles)},
	{"aus/verify/...", 6, all(fetching, patching, rulesFiles)},
	{"toolchain/tools/...", 5, all(fetching, caching, patching)},
	{"toolchain/...", 5, all(patching, rulesFiles)},
	{"plugins/signing/...", 5, pluginModules},
	{"plugins/storage/...", 5, all(pluginModules, caching)},
	{"plugins/internal/...", 3, pluginModules},
	{"plugins/...", 4, pluginModules},
	{"partial/updater/...", 3, patching},
	{"partial/internal/...", 3, members},
	{"partial/...", 4, patching},
	{"mar/...", 2, nil},
	{"bsdiff/...", 2, all(searching, members)},
	{"zucchini/...", 2, searching},
	{"aus/...", 2, searching},
	{"cache/...", 2, caching},
	{"fetch/...", 2, fetching},
	{"internal/member/...", 1, members},
	{"internal/spelling/...", 1, normalizing},
	{"internal/bzip2/...", 0, []string{"github.com/dsnet/compress"}},
	{"internal/xz/...", 1, members},
	{"internal/testkit/schema/...", 0, []string{"github.com/google/jsonschema-go"}},
	{"internal/...", 0, []string{"golang.org/x/sync", "golang.org/x/sys"}},
}

// What comes together, with all that it brings along.
var (
	searching = []string{"golang.org/x/sync"}
	members   = []string{"github.com/ulikunitz/xz", "github.com/dsnet/compress"}
	locking   = []string{"golang.org/x/sys"}
	// names that are one on macOS
	normalizing = []string{"golang.org/x/text/unicode/norm", "golang.org/x/text/transform"}
	patching    = all(searching, locking, members, normalizing)
	rulesFiles  = []string{"github.com/pelletier/go-toml/v2"}
	fetching    = []string{"github.com/cenkalti/backoff/v5", "code.dny.dev/ssrf"}
	caching     = []string{
		"github.com/dgraph-io/ristretto/v2", "github.com/cespare/xxhash/v2", "github.com/dustin/go-humanize", "golang.org/x/sys", "golang.org/x/sync",
	}
	pluginModules = []string{
		"github.com/hashicorp/go-plugin", "github.com/hashicorp/go-hclog", "github.com/hashicorp/yamux", "github.com/fatih/color",
		"github.com/mattn/go-colorable", "github.com/mattn/go-isatty", "github.com/oklog/run", "github.com/golang/protobuf",
		"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
		"golang.org/x/net", "golang.org/x/text", "golang.org/x/sync", "golang.org/x/sys",
	}
)

func all(lists ...[]string) []string { return slices.Concat(lists...) }

// lookup returns the rule for a directory, and whether there is one.
func lookup(dir string) (rule, bool) {
	for _, r := range rules {
		base, deep := strings.CutSuffix(r.dir, "/...")
		if dir == base || deep && strings.HasPrefix(dir, base+"/") {
			return r, true
		}
	}
	return rule{}, false
}

// Check says why the package in dir may not import path, or "" where it may. Packages below one directory of
// one rule may import each other.
func Check(dir, path string) string {
	from, ok := lookup(dir)
	if !ok {
		return "stands on no floor: add a rule for it"
	}
	if covers(Module, path) {
		target := strings.TrimPrefix(strings.TrimPrefix(path, Module), "/")
		if target == "" {
			target = "."
		}
		to, ok := lookup(target)
		switch {
		case !ok:
			return "imports a package that stands on no floor"
		case to.dir == from.dir || to.floor < from.floor:
			return ""
		case strings.HasPrefix(target, "internal/") && to.floor <= from.floor:
			return ""
		}
		return "imports a package that is not on a lower floor"
	}
	if !isOutside(path) {
		return ""
	}
	for _, prefix := range from.outside {
		if covers(prefix, path) {
			return ""
		}
	}
	return "may not import this module"
}

// isOutside reports whether an import path is neither the standard library's nor this module's.
func isOutside(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !covers(Module, path)
}

// covers reports whether a package is below a prefix of import paths.
func covers(prefix, path string) bool {
	return prefix == "*" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

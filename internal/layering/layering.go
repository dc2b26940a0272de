// Package layering holds the floors of this module: which package may import which, inside and outside.
//
// Imports go down only: a package may import packages on floors below its own, and those that share its
// rule. Outside modules are listed per package, so that a user who imports one package
// never pays for another one's dependencies. The test of this package reads every Go file of the module and
// fails on the first import that breaks a rule; do not add an exception, move the code.
package layering

import "strings"

// Module is the path of the module whose floors these are.
const Module = "github.com/senbonzakura/senbonzakura"

// rule says where a package stands and which outside modules its non-test code may import.
type rule struct {
	dir     string   // directory relative to the module's root; a trailing "/..." covers everything below
	floor   int      // imports must come from a lower floor
	outside []string // prefixes of import paths outside the standard library
}

// rules are looked up from the top: the first whose directory matches is the one that holds.
var rules = []rule{
	{"examples/...", 7, []string{"*"}},
	{".", 6, []string{"golang.org/x/sync"}},
	{"aus/verify/...", 6, []string{"golang.org/x/sync"}},
	{"toolchain/...", 5, []string{"golang.org/x/sync", "github.com/pelletier/go-toml/v2"}},
	{"plugins/signing/...", 5, pluginModules},
	{"plugins/storage/...", 5, pluginModules},
	{"plugins/internal/...", 3, pluginModules},
	{"plugins/...", 4, pluginModules},
	{"partial/updater/...", 3, []string{"golang.org/x/sync"}},
	{"partial/internal/...", 3, nil},
	{"partial/...", 4, []string{"golang.org/x/sync", "golang.org/x/text/unicode/norm"}},
	{"mar/...", 2, nil},
	{"bsdiff/...", 2, []string{"golang.org/x/sync"}},
	{"zucchini/...", 2, []string{"golang.org/x/sync"}},
	{"aus/...", 2, []string{"golang.org/x/sync"}},
	{"cache/...", 2, []string{
		"github.com/dgraph-io/ristretto/v2", "golang.org/x/sync", "github.com/google/renameio/v2",
		"github.com/rogpeppe/go-internal/lockedfile", "golang.org/x/sys",
	}},
	{"aus/...", 2, []string{"golang.org/x/sync"}},
	{"fetch/...", 2, []string{"github.com/cenkalti/backoff/v5", "code.dny.dev/ssrf", "golang.org/x/sync"}},
	{"internal/member/...", 1, nil},
	{"internal/bzip2/...", 0, []string{"github.com/dsnet/compress"}},
	{"internal/xz/...", 1, []string{"github.com/ulikunitz/xz", "github.com/dsnet/compress", "golang.org/x/sync"}},
	{"internal/...", 0, []string{"golang.org/x/sync", "golang.org/x/sys"}},
}

var pluginModules = []string{
	"github.com/hashicorp/go-plugin", "github.com/hashicorp/go-hclog", "google.golang.org/grpc",
	"google.golang.org/protobuf", "golang.org/x/sync", "golang.org/x/sys",
}

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
	if inside, ok := strings.CutPrefix(path, Module); ok {
		target := strings.TrimPrefix(inside, "/")
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
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for _, prefix := range from.outside {
		if prefix == "*" || path == prefix || strings.HasPrefix(path, prefix+"/") {
			return ""
		}
	}
	return "may not import this module"
}

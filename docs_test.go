package senbonzakura

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ranBy says which test runs a command that a document shows, or why none does. The first that fits holds.
var ranBy = []struct {
	document, command string // patterns
	test              string // directory and name; "" where none runs it
	why               string // not
}{
	{`docs/verify`, `marctl (verify-updates|plan)`, "examples/marctl TestVerifyDocs", ""},
	{`plugins/README`, ``, "plugins/signing TestTutorial", ""},
	{`README|docs/engine`, `^marctl`, "examples/marctl TestExamples", ""},
	{`docs/(ausd|updates)`, `^(ausd|go run ./examples/ausd)`, "examples/ausd TestExamples", ""},
	{`README|docs/(deploy|operations|ilities)`, `^(partiald|go run ./examples/partiald)`, "examples/partiald TestExamples", ""},
	{`README|docs/api`, `^curl`, "examples/partiald TestCurl", ""},
	{``, `^go test|^SENBON_ILITIES`, "", "it runs tests"},
	{``, `^(FULL=1 )?\.ci/run`, "", "it runs everything"},
	{``, `^go run ./examples/quickstart`, "", "a step of .ci/run, for itself"},
	{``, `^go (install|build)`, "", "it builds programs that tests have built"},
	{`README`, `^go run ./examples/marctl bench --help`, "", "the documents' other calls of marctl are run"},
	{`PROTOCOL`, `^marctl plugin check`, "", "my-plugin is the reader's; help's examples are the same with plugins that are here, and are run"},
	{`docs/api`, `^oapi-codegen`, "", "a program of others; a validator reads the document instead"},
	{`docs/deploy`, `^(install|systemctl)`, "", "it changes the machine"},
	{`docs/deploy`, `^podman`, "", "it needs a container engine"},
}

var shownCommand = regexp.MustCompile(`^ {4}(?:\$ )?((?:[A-Z_]+=\S+ )*(?:go|marctl|partiald|ausd|curl|docker|podman|systemctl|install|oapi-codegen|openssl|mkdir|git|\.ci/run) .*|(?:partiald|ausd|marctl|\.ci/run))$`)

// Every command that a document shows is run by a test, or listed here with the reason why not.
func TestDocumentsAreRun(t *testing.T) {
	documents := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "docs/schemas/*.md", "plugins/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	ran, left := 0, 0
	used := make([]int, len(ranBy))
	for _, name := range documents {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			m := shownCommand.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if m == nil || strings.HasPrefix(m[1], "make the ") || strings.HasPrefix(m[1], "install, ") {
				continue
			}
			i := 0
			for ; i < len(ranBy); i++ {
				if regexp.MustCompile(ranBy[i].document).MatchString(name) && regexp.MustCompile(ranBy[i].command).MatchString(m[1]) {
					break
				}
			}
			switch {
			case i == len(ranBy):
				t.Errorf("%s: no test runs %q", name, m[1])
				continue
			case ranBy[i].test != "":
				ran++
			default:
				left++
			}
			used[i]++
		}
	}
	for i, r := range ranBy {
		if used[i] == 0 {
			t.Errorf("no document shows %q", r.command)
		}
		dir, test, _ := strings.Cut(r.test, " ")
		if r.test != "" && !hasTest(t, dir, test) {
			t.Errorf("there is no test %s", r.test)
		}
	}
	t.Logf("%d commands are run by tests, %d are not", ran, left)
}

// hasTest says whether a directory has a test of this name.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		code, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(code), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

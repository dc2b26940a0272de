package senbonzakura

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// promises are the sentences of the README's promise, each with the tests that hold it, by package.
var promises = []struct {
	sentence string
	tests    map[string]string
}{
	{"takes the update and ends up with the new one", map[string]string{"partial": "TestProveLikeUpdater", "partial/updater": "TestClientLikeUpdater"}},
	{"An update that FROM's updater would refuse is not made", map[string]string{"partial": "TestClientsChannel"}},
	{"An update that does not turn FROM into TO, name by name and byte by byte, is not made", map[string]string{"partial": "TestGeneratedTrees"}},
	{"What could not be checked is listed as not checked, with the reason", map[string]string{"toolchain": "TestSelectSaysWhatIsNotChecked", "partial/updater": "TestClientChecks"}},
	{"`partial.Verify` proves anybody's updates", map[string]string{"partial": "TestClientsManifest"}},
	{"is what Gecko's updater would crash on, fail on, or silently get wrong", map[string]string{"partial": "TestBuildRefuses"}},
	{"come from the same inputs, for any number of workers", map[string]string{"partial": "TestSameBytes"}},
	{"there are limits before allocations", map[string]string{"partial": "TestBuildLimits"}},
	{"nothing is written outside the directory", map[string]string{"partial/updater": "TestApplyLinks"}},
	{"nothing is left half-written", map[string]string{"partial/updater": "TestApplyKilledAtEveryOperation"}},
}

// Each sentence of the README's promise stands there, and is held by tests that exist.
func TestReadmePromises(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(readme)), " ")
	for _, p := range promises {
		if !strings.Contains(text, p.sentence) {
			t.Errorf("the README does not say %q", p.sentence)
		}
		for dir, name := range p.tests {
			files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range files {
				code, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(code), "func "+name+"(t *testing.T)")
			}
			if !found {
				t.Errorf("%q: there is no test %s in %s", p.sentence, name, dir)
			}
		}
	}
}

package senbonzakura

import (
	"os"
	"slices"
	"strings"
	"testing"
)

type promise struct {
	sentence string
	tests    map[string]string
}

// promises are the README's promise, piece by piece, each with the tests that hold it, by package.
var promises = []promise{
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
	{"Each file gets the smallest of a MBDIFF10 patch", map[string]string{"partial": "TestFormats"}},
	{"a Zucchini patch, which the updaters of Firefox and Thunderbird 140.12 ESR and of 144 and newer apply as well, on Linux and Windows", map[string]string{"toolchain": "TestSelectByVersion"}},
	{"For other products and for macOS a rule has to say so", map[string]string{"toolchain": "TestPatchFormatsHaveReasons"}},
	{"`--formats` overrules that", map[string]string{".": "TestFormatsOfRequest"}},
	{"Updates for updaters before Firefox 56 (bzip2 members) are made and read", map[string]string{"partial": "TestFormatsBothWays"}},
	{"manifests of version 1 are not", map[string]string{"partial": "TestOldestManifests"}},
	{"Signatures are RSA with SHA-384", map[string]string{"mar": "TestSignerPromises"}},
	{"SHA-1 is verified, and made only when asked for by name", map[string]string{"mar": "TestSignMany"}},
	{"is for tests and tools", map[string]string{"partial/updater": "TestApplyFollowsTheUpdater"}},
	{"on users' machines the product's own updater does that", map[string]string{"partial/updater": "TestVectors"}},
}

// Each sentence of the README's promise stands there, and is held by tests that exist.
func TestReadmePromises(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## What it promises\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var sentences []string
	for bullet := range strings.SplitSeq(strings.ReplaceAll(section, "\nAnd what not:\n", ""), "\n- ") {
		text := strings.Join(strings.Fields(bullet), " ")
		sentences = append(sentences, strings.FieldsFunc(strings.NewReplacer(". ", "\n", "; ", "\n").Replace(text), func(r rune) bool { return r == '\n' })...)
	}
	if len(sentences) < 15 {
		t.Fatalf("only %d sentences: %q", len(sentences), sentences)
	}
	for _, s := range sentences {
		if !slices.ContainsFunc(promises, func(p promise) bool { return strings.Contains(s, p.sentence) }) {
			t.Errorf("no test is named for %q", s)
		}
	}
	for _, p := range promises {
		if !slices.ContainsFunc(sentences, func(s string) bool { return strings.Contains(s, p.sentence) }) {
			t.Errorf("the README does not say %q", p.sentence)
		}
		for dir, name := range p.tests {
			if !hasTest(t, dir, name) {
				t.Errorf("%q: there is no test %s in %s", p.sentence, name, dir)
			}
		}
	}
}

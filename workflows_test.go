package senbonzakura

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func words(t *testing.T, file, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(text), -1) {
		found = append(found, strings.Fields(m[1])...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// The workflow on Linux has every step of .ci/run, the one elsewhere only such as there are, and releases and images are
// made of programs that there are.
func TestWorkflows(t *testing.T) {
	all := words(t, ".ci/run", `steps=\((install .*)\);? *$`)
	if got := words(t, ".github/workflows/ci.yml", `^ +- (install .*)$`); !slices.Equal(got, all) || len(all) < 10 {
		t.Errorf("the workflow on Linux has the steps %q, .ci/run has %q", got, all)
	}
	elsewhere := words(t, ".github/workflows/ci.yml", `run: \.ci/run (.*)$`)
	for _, step := range elsewhere {
		if !slices.Contains(all, step) {
			t.Errorf("step %q is not one of .ci/run", step)
		}
	}
	if len(elsewhere) < 2 {
		t.Errorf("the workflow elsewhere has the steps %q", elsewhere)
	}
	programs := append(words(t, ".goreleaser.yaml", `main: (\S+)$`), words(t, "examples/partiald/deploy/Containerfile", `(\./examples/[a-z0-9-]+)`)...)
	for _, dir := range programs {
		if _, err := os.Stat(dir + "/main.go"); err != nil {
			t.Error(err)
		}
	}
	if len(programs) < 15 {
		t.Errorf("releases and images have the programs %q", programs)
	}
}

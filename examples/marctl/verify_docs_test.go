package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The commands in docs/verify.md have only flags that there are.
func TestVerifyDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^    .*?\bmarctl (verify-updates [^|\n]*)`).FindAllSubmatch(text, -1)
	if len(commands) < 8 {
		t.Fatalf("%d commands found", len(commands))
	}
	for _, c := range commands {
		var out strings.Builder
		if code := run(t.Context(), append(strings.Fields(string(c[1])), "--help"), strings.NewReader(""), &out, &out); code != exitDone {
			t.Errorf("%s: exit code %d: %s", c[1], code, out.String())
		}
	}
	for _, flag := range regexp.MustCompile("`--[a-z-]+").FindAllString(string(text), -1) {
		if flag = strings.TrimPrefix(flag, "`--"); (&app{}).verifyUpdatesCommand().Flags().Lookup(flag) == nil && flag != "json" {
			t.Errorf("--%s is no flag of verify-updates", flag)
		}
	}
}

package conformance

import (
	"strings"
	"testing"
)

// What was seen stays below its rule where it has several lines, so that each other line is one of a rule.
func TestWriteText(t *testing.T) {
	t.Parallel()
	r := &Report{Kind: "signing", Results: []Result{{Rule: "P2", Section: "2.2", What: "it starts", Status: Failed, Detail: "timed out\nit said: x"}}}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if want := "\n          → timed out\n            it said: x\nsigning plugin: 0 passed, 1 failed, 0 skipped\n"; !strings.HasSuffix(text.String(), want) {
		t.Errorf("got %q, want %q at the end", text.String(), want)
	}
}

package partial

import (
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
)

// A differ that is a nil pointer is refused with a word, before anything calls it.
func TestNilDiffer(t *testing.T) {
	t.Parallel()
	var none *bsdiff.Differ
	if err := (Recipe{Differ: none}).check(); err == nil || !strings.Contains(err.Error(), "nil *bsdiff.Differ") {
		t.Errorf("got %v", err)
	}
}

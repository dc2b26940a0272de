package updater

import (
	"slices"
	"testing"
)

func TestSplitUnknown(t *testing.T) {
	t.Parallel()
	known, unknown := SplitUnknown([]byte("type \"complete\"\r\n# a comment\n\nadd \"a\"\raddsymlink \"a\" \"b\"\n  frob\n \t\nremove \"c\"\ntype \"partial\"\n\x00zap \"z\"\n"))
	if want := []string{`addsymlink "a" "b"`, "  frob", `type "partial"`}; !slices.Equal(unknown, want) {
		t.Errorf("got %q, want %q", unknown, want)
	}
	if got, want := string(known), "type \"complete\"\n# a comment\nadd \"a\"\n#\n#\n \t\nremove \"c\"\n#\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

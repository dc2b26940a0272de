package doctest

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestLines(t *testing.T) {
	t.Parallel()
	text := "Words\n\n    prog a -x   # why\n    $ prog b \\\n      'c\n   d' > out\n    other\n    curl -s \"$LOG\" | prog -\n  prog no\n    prog\n    prog   e --f\n"
	want := []string{"prog a -x", "prog b 'c d' > out", `curl -s "$LOG" | prog -`, "prog", "prog   e --f"}
	if diff := cmp.Diff(want, Lines(text, "prog")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	root := &cobra.Command{Use: "prog", Example: "  prog a   what?\n  X_Y=1 prog b"}
	root.AddCommand(&cobra.Command{Use: "sub", Example: "  prog sub"})
	if diff := cmp.Diff([]string{"prog a", "X_Y=1 prog b", "prog sub"}, Examples(root)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a.mar", "b.mar"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := `prog 'a b' *.mar --x="c" none*.txt >> out && next | jq '.[] | x' > f & A=1 B_C= last D=2`
	got, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	want := []Command{
		{Line: line, Words: []string{"prog", "a b", "a.mar", "b.mar", "--x=c", "none*.txt"}, Out: "out", Append: true},
		{Line: line, Words: []string{"next"}, Piped: true},
		{Line: line, Words: []string{"jq", ".[] | x"}, Out: "f", Fed: true},
		{Line: line, Env: []string{"A=1", "B_C="}, Words: []string{"last", "D=2"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Parse("prog 'x"); err == nil {
		t.Error("an open quote is taken")
	}
}

package updater

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func TestParseManifest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		typ        string
		want       []Instruction
	}{
		{"all", "type \"partial\"\nadd \"a\"\nadd-if \"t\" \"b\"\nadd-if-not \"c\" \"c\"\npatch \"i\" \"p\"\npatch-if \"t\" \"i\" \"p\"\nremove \"r\"\nrmdir \"d/\"\nrmrfdir \"e/\"\n", "partial", []Instruction{
			{OpAdd, "", "", "a", 2},
			{OpAddIf, "t", "", "b", 3},
			{OpAddIfNot, "c", "", "c", 4},
			{OpPatch, "", "i", "p", 5},
			{OpPatchIf, "t", "i", "p", 6},
			{OpRemove, "", "", "r", 7},
			{OpRmdir, "", "", "d/", 8},
			{OpRmrfdir, "", "", "e/", 9},
		}},
		{"no type", `add "a"`, "", []Instruction{{OpAdd, "", "", "a", 1}}},
		{"any line end", "add \"a\"\r\n\n\r\radd \"b\"", "", []Instruction{{OpAdd, "", "", "a", 1}, {OpAdd, "", "", "b", 5}}},
		{"comments", "# x\n#y\nadd \"a\"", "", []Instruction{{OpAdd, "", "", "a", 3}}},
		{"ends at NUL", "add \"a\"\n\x00add \"b\"", "", []Instruction{{OpAdd, "", "", "a", 1}}},
		{"leading blanks", " \tadd \"a\"", "", []Instruction{{OpAdd, "", "", "a", 1}}},
		{"tab behind the method", "add\t\"a\"", "", []Instruction{{OpAdd, "", "", "a", 1}}},
		{"anything between arguments", `patch "i"xyz"p"`, "", []Instruction{{OpPatch, "", "i", "p", 1}}},
		{"anything behind", `add "a" "b" c`, "", []Instruction{{OpAdd, "", "", "a", 1}}},
		{"unquoted", `remove a b`, "", []Instruction{{OpRemove, "", "", "a b", 1}}},
		{"many quotes", `remove """a`, "", []Instruction{{OpRemove, "", "", "a", 1}}},
		{"spaces, UTF-8, backslash", "add \"a b\\é\"", "", []Instruction{{OpAdd, "", "", "a b\\é", 1}}},
		{"item is not checked", `patch "/../i" "p"`, "", []Instruction{{OpPatch, "", "/../i", "p", 1}}},
		{"type complete", `type "complete"`, "complete", nil},
		{"unquoted type", `type what ever`, "what ever", nil},
		{"empty", "", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := ParseManifest([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if m.Type != tt.typ || !slices.Equal(m.Instructions, tt.want) {
				t.Errorf("got type %q and %v, want %q and %v", m.Type, m.Instructions, tt.typ, tt.want)
			}
		})
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		code       Code
		line       int
	}{
		{"blanks only", "add \"a\"\n \t \n", CodeParse, 2},
		{"late type", "add \"a\"\ntype \"partial\"", CodeParse, 2},
		{"type twice", "type \"partial\"\ntype \"partial\"", CodeParse, 2},
		{"type of nothing", "type", CodeCrash, 1},
		{"type of no text", `type ""`, CodeCrash, 1},
		{"unknown", `copy "a"`, CodeParse, 1},
		{"upper case", `ADD "a"`, CodeParse, 1},
		{"comment behind a blank", ` # x`, CodeParse, 1},
		{"no argument", "add", CodeParse, 1},
		{"empty argument", `add ""`, CodeParse, 1},
		{"second argument missing", `add-if "t"`, CodeParse, 1},
		{"arguments without a gap", `add-if "t""p"`, CodeParse, 1},
		{"third argument missing", `patch-if "t" "i"`, CodeParse, 1},
		{"absolute", `add "/a"`, CodeParse, 1},
		{"absolute test", `add-if "/t" "a"`, CodeParse, 1},
		{"parent", `add "../a"`, CodeParse, 1},
		{"rmdir without slash", `rmdir "d"`, CodeParse, 1},
		{"rmrfdir without slash", `rmrfdir "d"`, CodeParse, 1},
		{"rmrfdir of the root", `rmrfdir "/"`, CodeParse, 1},
		{"too long", `add "` + strings.Repeat("a/", 3000) + `a"`, CodeCrash, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseManifest([]byte(tt.text))
			var ue *UpdateError
			if !errors.As(err, &ue) {
				t.Fatalf("got %v, want an *UpdateError", err)
			}
			if ue.Code != tt.code || ue.Line != tt.line {
				t.Errorf("got code %d at line %d (%v), want code %d at line %d", ue.Code, ue.Line, err, tt.code, tt.line)
			}
		})
	}
}

// Exactly one blank stands between the method and its first argument: a second one becomes the path.
func TestTrap08SecondBlankBecomesThePath(t *testing.T) {
	t.Parallel()
	m, err := ParseManifest([]byte(`add  "a"`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Instruction{{OpAdd, "", "", " ", 1}}; !slices.Equal(m.Instructions, want) {
		t.Errorf("got %v, want %v", m.Instructions, want)
	}
}

// Two dots anywhere in a path are refused, in the middle of a name as well.
func TestTrap09TwoDotsAreRefused(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`add "foo..bar"`, `remove "a/..b"`, `rmdir "a../"`, `rmrfdir "x..y/"`, `patch "i" "foo..bar"`, `add-if "t..t" "a"`} {
		_, err := ParseManifest([]byte(line))
		var ue *UpdateError
		if !errors.As(err, &ue) || ue.Code != CodeParse {
			t.Errorf("%s: got %v, want an *UpdateError with code %d", line, err, CodeParse)
		}
	}
	for _, name := range []string{"foo..bar", "..", "../a", "a/.."} {
		if RefusedPath(name, false) == "" {
			t.Errorf("refusedPath(%q) found nothing", name)
		}
	}
}

func TestParsePrecomplete(t *testing.T) {
	t.Parallel()
	list, err := ParsePrecomplete([]byte("# list\nremove \"a\"\nremove-cc \"b\"\nrmdir \"d/\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Instruction{{OpRemove, "", "", "a", 2}, {OpRmdir, "", "", "d/", 4}}; !slices.Equal(list, want) {
		t.Errorf("got %v, want %v", list, want)
	}
	for _, text := range []string{`add "a"`, `type "x"`, `rmrfdir "d/"`, ` `, `remove "../a"`} {
		var ue *UpdateError
		if _, err := ParsePrecomplete([]byte(text)); !errors.As(err, &ue) || ue.Code != CodeParse {
			t.Errorf("%q: got %v, want an *UpdateError with code %d", text, err, CodeParse)
		}
	}
}

// Mozilla's own manifests are printed as they were written.
func TestManifestsOfTheTreeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"complete_update_manifest", "partial_update_manifest"} {
		text, err := os.ReadFile(filepath.Join(testkit.Shared(t, "testdata", "updater"), name))
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.String(); got != string(text) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, text)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{
		"type \"partial\"\nadd \"a\"\nadd-if \"t\" \"b\"\nadd-if-not \"c\" \"c\"\npatch \"i\" \"p\"\npatch-if \"t\" \"i\" \"p\"\nremove \"r\"\nrmdir \"d/\"\nrmrfdir \"e/\"\n",
		"add\t\"a\"", "remove a b", "# c\r\n\r\nadd  \"a\"", "type complete", "patch \"i\"xyz\"p\"zzz", "add \"a\"\x00garbage", " \n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			var ue *UpdateError
			if !errors.As(err, &ue) {
				t.Fatalf("got %v, want an *UpdateError", err)
			}
			return
		}
		printed := m.String()
		again, err := ParseManifest([]byte(printed))
		if err != nil {
			t.Fatalf("%q, printed as %q: %v", text, printed, err)
		}
		same := slices.EqualFunc(m.Instructions, again.Instructions, func(a, b Instruction) bool {
			a.Line, b.Line = 0, 0
			return a == b
		})
		if m.Type != again.Type || !same {
			t.Fatalf("%q, printed as %q: got %v, want %v", text, printed, again, m)
		}
	})
}

package partial

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/mar"
)

// complete makes a complete update of files by a manifest of its own.
func complete(tb testing.TB, manifest string, s updatetest.Tree) *mar.Reader {
	tb.Helper()
	r := updatetest.Archive(tb, "type \"complete\"\n"+manifest, s)
	return r
}

func found(list []Finding, kind Kind, part string) bool {
	return slices.ContainsFunc(list, func(f Finding) bool { return f.Kind == kind && strings.Contains(f.String(), part) })
}

// The conditions of TO's manifest go into the update, and the proof gives leave by them.
func TestConditionsAreKept(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("all work and no play ", 200)
	p := "add \"precomplete\"\n"
	files := func(n string, data string) updatetest.Tree {
		return updatetest.Tree{"precomplete": updatetest.File(pp), n: updatetest.File(data), "z": updatetest.File("z")}
	}
	for _, tt := range []struct {
		name, from, to string
		old, new       string
		want, leave    string
		scripts        string
	}{
		{
			name: "add-if-not", from: `add-if-not "o" "o"`, to: `add-if-not "o" "o"`, old: noisy(900), new: noisy(900) + "2",
			want: `add-if-not "o" "o"`, leave: "add-if-not", scripts: `patch "o.patch" "o"`,
		},
		{
			name: "add-if-not that did not change", from: `add-if-not "o" "o"`, to: `add-if-not "o" "o"`, old: "1", new: "1",
			want: `add-if-not "o" "o"`, scripts: "",
		},
		{
			name: "add-if-not of another", from: `add "o"`, to: `add-if-not "z" "o"`, old: "1", new: "2",
			want: `add-if-not "z" "o"`, leave: `"z" is installed`, scripts: `add "o"`,
		},
		{
			name: "add-if", from: `add-if "z" "o"`, to: `add-if "z" "o"`, old: noisy(900), new: noisy(900) + "2",
			want: `patch-if "z" "o.patch" "o"`, scripts: `patch "o.patch" "o"`,
		},
		{
			name: "add-if of what is missing", from: ``, to: `add-if "no" "o"`, old: "", new: long,
			want: `add-if "no" "o"`, leave: `"no" is not installed`, scripts: `add "o"`,
		},
		{
			name: "no condition any more", from: `add-if-not "o" "o"`, to: `add "o"`, old: noisy(900), new: noisy(900) + "2",
			want: `add "o"`, scripts: `patch "o.patch" "o"`,
		},
		{
			name: "no condition any more, the same bytes", from: `add-if "z" "o"`, to: `add "o"`, old: "1", new: "1",
			want: `add "o"`, scripts: "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			old := files("o", tt.old)
			if tt.from == "" {
				delete(old, "o")
			}
			from := complete(t, p+"add \"z\"\n"+tt.from+"\n", old)
			to := complete(t, p+"add \"z\"\n"+tt.to+"\n", files("o", tt.new))
			got, text, rep := build(t, from, to, fastRecipe(RulesStrict), nil)
			want := "type \"partial\"\nadd \"precomplete\"\n" + tt.want + "\n"
			if text != want {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			expected := fmt.Sprint(rep.Proof.Expected)
			if !rep.Verified || tt.leave != "" && !strings.Contains(expected, tt.leave) || tt.leave == "" && len(rep.Proof.Expected) > 0 {
				t.Errorf("got the leave %s, want %q", expected, tt.leave)
			}
			if _, err := Prove(t.Context(), from, got, to, nil); err != nil {
				t.Errorf("Prove: %v", err)
			}
			scripts := "type \"partial\"\nadd \"precomplete\"\n"
			if tt.scripts != "" {
				scripts += tt.scripts + "\n"
			}
			_, text, rep = build(t, from, to, fastRecipe(RulesScripts), nil)
			if text != scripts {
				t.Errorf("scripts: got\n%s\nwant\n%s", text, scripts)
			}
			if lost := strings.HasPrefix(tt.to, "add-if"); found(rep.Broken(), KindInstruction, "TO puts it in by") != lost {
				t.Errorf("scripts: got findings %v", rep.Findings)
			}
		})
	}
}

// A condition that TO does not have gives no leave.
func TestLeaveIsTakenFromTO(t *testing.T) {
	t.Parallel()
	from := complete(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File("1")})
	to := complete(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File("2")})
	update := updatetest.Archive(t, "type \"partial\"\nadd-if-not \"a\" \"a\"\n", updatetest.Tree{"a": updatetest.File("2")})
	if err := Verify(t.Context(), from, update, to, nil); !errors.Is(err, ErrDifferent) {
		t.Errorf("got %v, want ErrDifferent: TO replaces the file", err)
	}
	to = complete(t, "add-if-not \"a\" \"a\"\n", updatetest.Tree{"a": updatetest.File("2")})
	if err := Verify(t.Context(), from, update, to, nil); err != nil {
		t.Error(err)
	}
}

func TestReportAddIfNot(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata", "reports", "add-if-not", "F.mar"), updatetest.Open(t, "testdata", "reports", "add-if-not", "T.mar")
	r := DefaultRecipe()
	r.Product = updatetest.TestProduct
	a, rep, err := Build(t.Context(), from, to, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(updatetest.Content(t, updatetest.Write(t, a), updater.ManifestV3.Name())); !strings.Contains(text, "add-if-not \"distribution/distribution.ini\" \"distribution/distribution.ini\"\n") {
		t.Errorf("got\n%s", text)
	}
	if len(rep.Proof.Expected) != 1 || rep.Proof.Expected[0].Path != "distribution/distribution.ini" {
		t.Errorf("got %+v", rep.Proof)
	}
}

// Lines that only a fork's updater knows are never lost in silence.
func TestUnknownInstructions(t *testing.T) {
	t.Parallel()
	const line = "addsymlink \"a\" \"link\""
	file := updatetest.Tree{"precomplete": updatetest.File(pp), "a": updatetest.File("1")}
	plain, linked := "add \"precomplete\"\nadd \"a\"\n", "add \"precomplete\"\n"+line+"\nadd \"a\"\n"
	for _, tt := range []struct {
		name, from, to string
		refused        bool
		say            string
	}{
		{"new", plain, linked, true, "cannot carry"},
		{"changed", linked, strings.ReplaceAll(linked, "link", "other"), true, "cannot carry"},
		{"the same", linked, linked, false, "what it did stays"},
		{"gone", linked, plain, false, "is not undone"},
	} {
		from, to := complete(t, tt.from, file), complete(t, tt.to, file.With("a", updatetest.File("2")))
		_, rep, err := Build(t.Context(), from, to, fastRecipe(RulesStrict), nil)
		if errors.Is(err, ErrRefused) != tt.refused || err != nil && !tt.refused || !found(rep.Findings, KindInstruction, tt.say) {
			t.Errorf("%s: got %v and %v", tt.name, err, rep)
		}
		if _, rep, err = Build(t.Context(), from, to, fastRecipe(RulesScripts), nil); err != nil || found(rep.Broken(), KindInstruction, tt.say) != tt.refused {
			t.Errorf("%s by the scripts: got %v and %v", tt.name, err, rep)
		}
		file = updatetest.Tree{"precomplete": updatetest.File(pp), "a": updatetest.File("1")}
	}
	from, to := updatetest.Open(t, "testdata", "reports", "addsymlink", "from.mar"), updatetest.Open(t, "testdata", "reports", "addsymlink", "to.mar")
	r := DefaultRecipe()
	r.Product = updatetest.TestProduct
	if _, rep, err := Build(t.Context(), from, to, r, nil); !errors.Is(err, ErrRefused) || !found(rep.Broken(), KindInstruction, "other-link") {
		t.Errorf("report: got %v", err)
	}
}

// What else a complete's manifest may say is carried, or named.
func TestOtherInstructionsOfCompletes(t *testing.T) {
	t.Parallel()
	tree := func() updatetest.Tree {
		return updatetest.Tree{"precomplete": updatetest.File(pp), "a": updatetest.File("1"), "removed-files": updatetest.File("listed\n")}
	}
	adds := "add \"precomplete\"\nadd \"a\"\nadd \"removed-files\"\n"
	from := complete(t, adds, tree())
	to := complete(t, adds+"remove \"listed\"\nremove \"cache/index\"\nrmrfdir \"cache/\"\nrmdir \"d/\"\nremove \"a\"\nremove \"cache/index\"\n", tree())
	_, text, rep := build(t, from, to, fastRecipe(RulesStrict), nil)
	want := "type \"partial\"\nadd \"removed-files\"\nadd \"precomplete\"\nremove \"listed\"\nremove \"cache/index\"\nrmrfdir \"cache/\"\nrmdir \"d/\"\n"
	if text != want || !found(rep.Findings, KindRemovedFiles, "is listed in TO's manifest") {
		t.Errorf("got %v and\n%s", rep.Findings, text)
	}
	_, text, rep = build(t, from, to, fastRecipe(RulesScripts), nil)
	if strings.Contains(text, "cache") || !found(rep.Findings, KindInstruction, "cache/index") {
		t.Errorf("scripts: got %v and\n%s", rep.Findings, text)
	}
	for _, tt := range []struct {
		manifest, say string
		severity      Severity
	}{
		{adds + "patch \"a.patch\" \"a\"\n", "is patched by the manifest", Broken},
		{adds + "add-if \"a\"\n", "cannot be parsed", Broken},
		{adds + "add \"b\"\n", "does not have it", Note},
		{"add \"precomplete\"\nadd \"removed-files\"\n", "does not install it", Note},
	} {
		_, rep, err := Build(t.Context(), from, complete(t, tt.manifest, tree()), fastRecipe(RulesStrict), nil)
		if errors.Is(err, ErrRefused) != (tt.severity == Broken) || !found(rep.Findings, KindInstruction, tt.say) {
			t.Errorf("%s: got %v and %v", tt.manifest, err, rep)
		}
	}
	// a manifest of nothing but strange lines does not fill the report
	many := adds
	for i := range 500 {
		many += fmt.Sprintf("frob \"%d\"\n", i)
	}
	if _, rep, _ := Build(t.Context(), from, complete(t, many, tree()), fastRecipe(RulesStrict), nil); len(rep.Findings) > 2*maxNamed || !found(rep.Findings, KindInstruction, "480 more") {
		t.Errorf("got %d findings", len(rep.Findings))
	}
}

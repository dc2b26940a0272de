package partial

import (
	"bytes"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// sameAsReference holds a partial against one made by Mozilla's scripts: manifest text, names and order of
// entries, modes, and content after decompression.
func sameAsReference(t *testing.T, got, want *mar.Reader) {
	t.Helper()
	if g, w := updatetest.Names(got), updatetest.Names(want); !slices.Equal(g, w) {
		t.Fatalf("got entries %q, want %q", g, w)
	}
	for _, f := range want.Files() {
		if g := got.Lookup(f.Name); g.Mode != f.Mode {
			t.Errorf("%s: got mode %o, want %o", f.Name, g.Mode, f.Mode)
		}
		if g, w := updatetest.Content(t, got, f.Name), updatetest.Content(t, want, f.Name); !bytes.Equal(g, w) {
			if updater.IsManifestName(f.Name) {
				t.Errorf("%s: got\n%s\nwant\n%s", f.Name, g, w)
			} else {
				t.Errorf("%s: got %d bytes, want %d other ones", f.Name, len(g), len(w))
			}
		}
	}
}

func TestMozillaRecipePackaging(t *testing.T) {
	t.Parallel()
	from := updatetest.Open(t, "testdata", "packaging", "update-packaging-from.complete.mar")
	to := updatetest.Open(t, "testdata", "packaging", "update-packaging-to.complete.mar")
	want := updatetest.Open(t, "testdata", "packaging", "update-packaging-partial.mar")
	r := MozillaRecipe()
	r.Arch = "x86"
	a, rep, err := Build(t.Context(), from, to, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Verified || len(rep.Broken()) > 0 {
		t.Errorf("got verified=%v and findings %v", rep.Verified, rep.Broken())
	}
	got := updatetest.Write(t, a)
	sameAsReference(t, got, want)
	if p, _ := got.Product(); p != (mar.Product{Channel: "test-channel", Version: "2.0"}) {
		t.Errorf("got product %v", p)
	}
}

func TestMozillaRecipeFirefoxSmall(t *testing.T) {
	if testkit.Race {
		t.Skip("takes a minute with the race detector; TestMozillaRecipePackaging does the same with less")
	}
	t.Parallel()
	from := updatetest.Open(t, "corpus", "firefox-small", "from.mar")
	to := updatetest.Open(t, "corpus", "firefox-small", "to.mar")
	want := updatetest.Open(t, "corpus", "firefox-small", "reference.partial.mar")
	a, rep, err := Build(t.Context(), from, to, MozillaRecipe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Verified || len(rep.Broken()) > 0 {
		t.Errorf("got verified=%v and findings %v", rep.Verified, rep.Broken())
	}
	got := updatetest.Write(t, a)
	sameAsReference(t, got, want)
	t.Logf("%d bytes, Mozilla %d, %v", got.Size(), want.Size(), rep.Elapsed)
	if testkit.Count(0, 1, 1) == 1 {
		if err := Verify(t.Context(), from, want, to, nil); err != nil {
			t.Errorf("Mozilla's own: %v", err)
		}
	}
}

// Progress rises to its end in every step, and within a large file.
func TestBuildProgress(t *testing.T) {
	t.Parallel()
	long := noisy(300_000)
	from, to := releases(t, updatetest.Tree{"f": updatetest.File(long), "g": updatetest.File("1")}, updatetest.Tree{"f": updatetest.File(long + "x"), "g": updatetest.File("2")})
	last := map[Step]updater.Event{}
	inside := 0
	a, _, err := Build(t.Context(), from, to, fastRecipe(RulesStrict), &BuildOptions{Progress: func(e updater.Event) {
		if before := last[e.Step]; e.Done < before.Done || e.Done > e.Total {
			t.Errorf("got %+v after %+v", e, before)
		}
		if e.Step == StepDiffing && e.File == "f" && e.Done < e.Total*9/10 {
			inside++
		}
		last[e.Step] = e
	}})
	if err != nil || a == nil {
		t.Fatal(err)
	}
	for _, step := range []Step{StepUnpacking, StepDiffing, StepPacking, StepVerifying} {
		if e, ok := last[step]; !ok || e.Done != e.Total || e.Total == 0 {
			t.Errorf("%s ended with %+v", step, e)
		}
	}
	if inside == 0 {
		t.Error("nothing was told while a large file was worked on")
	}
}

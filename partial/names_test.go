package partial

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// buildBy makes a partial update with a recipe for the platform, and returns its manifest and what was found.
func buildBy(t *testing.T, rules Rules, platform string, from, to updatetest.Tree) (text string, list []Finding, err error) {
	t.Helper()
	f, o := releases(t, from, to)
	r := fastRecipe(rules)
	r.Platform = platform
	a, rep, err := Build(t.Context(), f, o, r, nil)
	if err != nil {
		return "", rep.Findings, err
	}
	return string(updatetest.Content(t, updatetest.Write(t, a), updater.ManifestV3.Name())), rep.Findings, nil
}

// Lines that Windows takes for something else are left out where the update may get there, and each is named.
func TestRemovedFilesByPlatform(t *testing.T) {
	t.Parallel()
	lines := []string{`C:\x`, `\\srv\x`, `c:x`, `d:/`, `\x`, `dir\old`, "con.txt", "aux/*", "x.", "y ./z", "q?", "XUL.dll", "Xul.DLL/*", "LIB/"}
	from := updatetest.Tree{"xul.dll": updatetest.File("1"), "lib/a": updatetest.File("a")}
	to := updatetest.Tree{"xul.dll": updatetest.File("2"), "lib/a": updatetest.File("a"), "removed-files": updatetest.File(strings.Join(lines, "\n") + "\nfine\nsub/fine\n")}
	kept := func(text string) (out []string) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "rm") || strings.HasPrefix(line, "remove") {
				out = append(out, strings.TrimSpace(line))
			}
		}
		return out
	}
	for _, platform := range []string{PlatformWindows, ""} {
		text, list, err := buildBy(t, RulesStrict, platform, from, to)
		if err != nil {
			t.Fatalf("%q: %v", platform, err)
		}
		// a directory that is there under another spelling is not empty: its line does no harm
		if got, want := kept(text), []string{`remove "sub/fine"`, `remove "fine"`, `rmdir "LIB/"`}; !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", platform, got, want)
		}
		for _, line := range lines[:len(lines)-1] {
			if !slices.ContainsFunc(list, func(f Finding) bool {
				return f.Kind == KindRemovedFiles && f.Severity == Repaired && f.Other == line
			}) {
				t.Errorf("%q: %q is not named in %v", platform, line, list)
			}
		}
	}
	text, list, err := buildBy(t, RulesStrict, PlatformLinux, from, to)
	if err != nil || slices.ContainsFunc(list, func(f Finding) bool { return f.Kind == KindRemovedFiles }) || len(kept(text)) != len(lines)+2 {
		t.Errorf("on Linux they are names: got %v, %v and\n%s", list, err, text)
	}
}

// As the release of the report: drive letters and another machine's share.
func TestReportRemovedFilesOfWindows(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata", "reports", "removed-files-win", "from.mar"), updatetest.Open(t, "testdata", "reports", "removed-files-win", "to.mar")
	a, rep, err := Build(t.Context(), from, to, DefaultRecipe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(updatetest.Content(t, updatetest.Write(t, a), updater.ManifestV3.Name()))
	if strings.Contains(text, `\`) || !rep.Verified {
		t.Errorf("got\n%s", text)
	}
	for _, line := range []string{`C:\x`, `\\srv\x`} {
		if !slices.ContainsFunc(rep.Findings, func(f Finding) bool { return f.Kind == KindRemovedFiles && f.Other == line }) {
			t.Errorf("%q is not named in %v", line, rep.Findings)
		}
	}
	if _, rep, err = Build(t.Context(), from, to, MozillaRecipe(), nil); err != nil || !has(rep.Broken(), KindRemovedFiles, Broken, "") {
		t.Errorf("scripts: got %v, %v", rep, err)
	}
}

// A list of installed files that Windows' updater cannot parse makes every later complete update fail there.
func TestPrecompleteByPlatform(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`remove "C:\x"`, `remove "\\srv\x"`, `rmdir "c:x/"`} {
		tree := updatetest.Tree{"a": updatetest.File(""), "precomplete": updatetest.File(line + "\n")}.FS()
		for platform, want := range map[string]bool{PlatformWindows: true, "": true, PlatformLinux: false, PlatformMacOS: false} {
			_, rep, err := Pack(t.Context(), tree, PackOptions{Product: updatetest.TestProduct, Platform: platform})
			if got := errors.Is(err, ErrRefused) && has(rep.Broken(), KindPrecomplete, Broken, "precomplete"); got != want {
				t.Errorf("%s on %q: got %v", line, platform, err)
			}
		}
	}
}

// Two spellings of one name collide where the platform takes them for one, in one tree and across the two.
func TestSpellingsOfOneName(t *testing.T) {
	t.Parallel()
	const composed, split = "d/\u00e9.txt", "d/e\u0301.txt"
	everywhere := []string{PlatformLinux, PlatformWindows, PlatformMacOS, ""}
	for _, tt := range []struct {
		name     string
		from, to updatetest.Tree
		kind     Kind
		on       []string
	}{
		{"normalisation in TO", updatetest.Tree{}, updatetest.Tree{composed: updatetest.File("1"), split: updatetest.File("2")}, KindNormalization, []string{PlatformMacOS, ""}},
		{"normalisation across", updatetest.Tree{composed: updatetest.File("1")}, updatetest.Tree{split: updatetest.File("1")}, KindNormalization, []string{PlatformMacOS, ""}},
		{"case and normalisation across", updatetest.Tree{"d/É.txt": updatetest.File("1")}, updatetest.Tree{split: updatetest.File("1")}, KindNormalization, []string{PlatformMacOS, ""}},
		{"case across", updatetest.Tree{"A": updatetest.File("1")}, updatetest.Tree{"a": updatetest.File("1")}, KindCase, []string{PlatformWindows, PlatformMacOS, ""}},
		{"file to directory by case", updatetest.Tree{"P": updatetest.File("1")}, updatetest.Tree{"p/q": updatetest.File("1")}, KindFileToDirectory, []string{PlatformWindows, PlatformMacOS, ""}},
		{"directory to file by normalisation", updatetest.Tree{"é/a": updatetest.File("1")}, updatetest.Tree{"e\u0301": updatetest.File("1")}, KindDirectoryToFile, []string{PlatformMacOS, ""}},
	} {
		for _, platform := range everywhere {
			_, list, err := buildBy(t, RulesStrict, platform, tt.from, tt.to)
			want := slices.Contains(tt.on, platform)
			if got := errors.Is(err, ErrRefused) && has(list, tt.kind, Broken, ""); got != want {
				t.Errorf("%s on %q: got %v", tt.name, platform, err)
			}
		}
	}
}

func TestReportNormalisation(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata", "reports", "nfd", "m0.mar"), updatetest.Open(t, "testdata", "reports", "nfd", "m1.mar")
	_, rep, err := Build(t.Context(), from, to, DefaultRecipe(), nil)
	if !errors.Is(err, ErrRefused) || !has(rep.Broken(), KindNormalization, Broken, "Contents/Resources/e\u0301.txt") {
		t.Errorf("got %v, want it refused for its names", err)
	}
}

// An update that is larger than its complete is noted: here it removes many files whose names do not compress.
func TestLargerThanComplete(t *testing.T) {
	t.Parallel()
	to := updatetest.Tree{"precomplete": updatetest.File(pp), "a": updatetest.File("2")}
	for _, removed := range []int{1, 100} {
		from := maps.Clone(to)
		for i := range removed {
			from[fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i)}))] = updatetest.File("1")
		}
		was, is := releases(t, from, to)
		_, rep, err := Build(t.Context(), was, is, fastRecipe(RulesStrict), nil)
		if err != nil || rep.Size > rep.Complete != (removed > 1) || has(rep.Findings, KindSize, Note, "") != (removed > 1) {
			t.Errorf("%d removed: got %v and %+v", removed, err, rep)
		}
	}
}

// Two releases of the same files are named; an update that does nothing is refused, because the updater fails.
func TestSameReleases(t *testing.T) {
	t.Parallel()
	r := fastRecipe(RulesStrict)
	same := updatetest.Tree{"precomplete": updatetest.File(pp), "a": updatetest.File("1")}
	from, to := releases(t, same, same)
	_, rep, err := Build(t.Context(), from, to, r, nil)
	if err != nil || !has(rep.Findings, KindSame, Note, "") {
		t.Errorf("got %v and %v", err, rep)
	}
	// compressed in another way they are the same still
	again := from.Archive()
	for i, e := range again.Entries {
		if e.Name == "a" {
			packed, err := compress(t.Context(), XZ{Level: Level6}, Content{Kind: ContentFile, Arch: "x86"}, []byte("1"))
			if err != nil {
				t.Fatal(err)
			}
			again.Entries[i] = mar.BytesEntry("a", 0o644, packed)
		}
	}
	if _, rep, err = Build(t.Context(), from, updatetest.Write(t, again), r, nil); err != nil || !has(rep.Findings, KindSame, Note, "") {
		t.Errorf("compressed again: got %v and %v", err, rep)
	}
	for _, other := range []updatetest.Tree{{"a": updatetest.File("2")}, {"a": updatetest.Program("1")}, {"a": updatetest.File("1"), "b": updatetest.File("")}, {}, {"a": updatetest.File("1"), "precomplete": updatetest.File("# other\n")}} {
		if other["precomplete"] == "" {
			other["precomplete"] = updatetest.File(pp)
		}
		if _, rep, err = Build(t.Context(), from, pack(t, other), r, nil); err != nil || has(rep.Findings, KindSame, Note, "") {
			t.Errorf("%v: got %v and %v", other, err, rep)
		}
	}
	bare := complete(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File("1")})
	if _, rep, err = Build(t.Context(), bare, bare, r, nil); !errors.Is(err, ErrRefused) || rep.Broken()[0].Code != updater.CodeNoActions {
		t.Errorf("nothing to do: got %v", err)
	}
}

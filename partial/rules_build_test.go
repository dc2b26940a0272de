package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// build makes a partial update of two snapshots and returns it with its manifest's text.
func build(tb testing.TB, from, to *mar.Reader, r Recipe, opts *BuildOptions) (*mar.Reader, string, *Report) {
	tb.Helper()
	a, rep, err := Build(tb.Context(), from, to, r, opts)
	if err != nil {
		tb.Fatal(err)
	}
	got := updatetest.Write(tb, a)
	return got, string(updatetest.Content(tb, got, updater.ManifestV3.Name())), rep
}

func has(list []Finding, kind Kind, severity Severity, path string) bool {
	return slices.ContainsFunc(list, func(f Finding) bool {
		return f.Kind == kind && f.Severity == severity && (path == "" || f.Path == path)
	})
}

// pp is a precomplete that never changes, so that it does not get into the way of what is tested.
const pp = "# none\n"

func releases(tb testing.TB, from, to updatetest.Tree) (*mar.Reader, *mar.Reader) {
	tb.Helper()
	return pack(tb, from.With("precomplete", updatetest.File(pp))), pack(tb, to.With("precomplete", updatetest.File(pp)))
}

// A patch wins only if it is strictly smaller, both compressed; a tie goes to the whole file.
func TestTrap03PatchOrFullIsDecidedOnCompressedSizes(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"f": updatetest.File("old")}, updatetest.Tree{"f": updatetest.File("new content")})
	full := int(updater.MemberOf(to.Lookup("f")).Size)
	for _, tt := range []struct {
		size int
		want string
	}{{full - 1, `patch "f.patch" "f"`}, {full, `add "f"`}, {full + 1, `add "f"`}} {
		for _, rules := range []Rules{RulesStrict, RulesScripts} {
			r := fastRecipe(rules)
			r.Compression.Patches = fixedSize{r.Compression.Patches, tt.size}
			_, text, _ := build(t, from, to, r, &BuildOptions{NoVerify: true})
			if !strings.Contains(text, tt.want+"\n") {
				t.Errorf("patch of %d bytes, whole file of %d: got\n%s\nwant %s", tt.size, full, text, tt.want)
			}
		}
	}
}

// fixedSize makes everything that many bytes long.
type fixedSize struct {
	Compressor
	size int
}

func (f fixedSize) NewWriter(_ context.Context, w io.Writer, _ Content) (io.WriteCloser, error) {
	_, err := w.Write(make([]byte, f.size))
	return nopWriter{}, err
}

type nopWriter struct{}

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) Close() error                { return nil }

// The manifest comes first, then the entries in the order of their instructions.
func TestTrap04EntriesStandInTheOrderOfTheManifest(t *testing.T) {
	t.Parallel()
	from, to := releases(t,
		updatetest.Tree{"b": updatetest.File("b1"), "a/x": updatetest.File("x1"), "gone": updatetest.File("g")},
		updatetest.Tree{"b": updatetest.File("b2"), "a/x": updatetest.File("x2"), "z": updatetest.File("z"), "a/n": updatetest.File("n")})
	got, text, _ := build(t, from, to, fastRecipe(RulesScripts), nil)
	if want := []string{"updatev3.manifest", "precomplete", "b", "a/x", "z", "a/n"}; !slices.Equal(updatetest.Names(got), want) {
		t.Errorf("got entries %q, want %q", updatetest.Names(got), want)
	}
	want := "type \"partial\"\nadd \"precomplete\"\nadd \"b\"\nadd \"a/x\"\nadd \"z\"\nadd \"a/n\"\nremove \"gone\"\n"
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// brokenDiffer makes patches that the updater would apply without a word, and that give something else.
type brokenDiffer struct{ breakIt func([]byte) []byte }

func (brokenDiffer) ID() string { return "broken" }

func (brokenDiffer) Format() string { return updater.PatchMBDIFF10 }

func (d brokenDiffer) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	var b bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(ctx, &b, old, new); err != nil {
		return err
	}
	_, err := patch.Write(d.breakIt(b.Bytes()))
	return err
}

// The updater checks neither the content nor the length of what a patch gives; Build and Verify do.
func TestTrap05PatchResultsAreChecked(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("all work and no play makes jack a dull boy\n", 100)
	from, to := releases(t, updatetest.Tree{"f": updatetest.File(old + "x" + noisy(500))}, updatetest.Tree{"f": updatetest.File(old + "y" + noisy(500))})
	for name, breakIt := range map[string]func([]byte) []byte{
		"other byte":  func(b []byte) []byte { b[50+7]++; return b },
		"longer dlen": func(b []byte) []byte { b[19]++; return b },
		"shorter":     func(b []byte) []byte { b[19]--; return b },
		"unused byte": func(b []byte) []byte { b[31]++; return append(b, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fastRecipe(RulesStrict)
			r.Differ = brokenDiffer{breakIt}
			if a, _, err := Build(t.Context(), from, to, r, nil); err == nil || a != nil {
				t.Fatal("Build gave an update")
			}
			a, rep, err := Build(t.Context(), from, to, r, &BuildOptions{NoVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			if rep.Verified || rep.Proof != nil {
				t.Error("the report says that it is verified")
			}
			if err := Verify(t.Context(), from, updatetest.Write(t, a), to, nil); err == nil {
				t.Error("Verify accepts the update")
			}
		})
	}
}

func noisy(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// Each item may be used once; the updater fails with 6 at the second line.
func TestTrap06ItemsAreUsedOnce(t *testing.T) {
	t.Parallel()
	from := pack(t, updatetest.Tree{"a": updatetest.File("a")})
	update := updatetest.Archive(t, "add \"x\"\nadd \"x\"\n", updatetest.Tree{"x": updatetest.File("x")})
	var ue *updater.UpdateError
	if err := Verify(t.Context(), from, update, from, nil); !errors.As(err, &ue) || ue.Code != updater.CodeRead || ue.Line != 2 {
		t.Errorf("Verify: got %v, want code %d at line 2", err, updater.CodeRead)
	}
	dir := t.TempDir()
	if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); !errors.As(err, &ue) || ue.Code != updater.CodeRead {
		t.Errorf("Apply: got %v, want code %d", err, updater.CodeRead)
	}
	// a line that is skipped uses nothing
	skipped := updatetest.Archive(t, "add-if \"none\" \"x\"\nadd \"x\"\n", updatetest.Tree{"x": updatetest.File("x")})
	if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, dir), skipped, nil); err != nil {
		t.Error(err)
	}

	// A file that has the name of another one's patch: with the strict rules the patch gets another name.
	long := noisy(3000)
	f, to := releases(t,
		updatetest.Tree{"f": updatetest.File(long + "1"), "f.patch": updatetest.File("mine 1")},
		updatetest.Tree{"f": updatetest.File(long + "2"), "f.patch": updatetest.File("mine 2")})
	_, text, rep := build(t, f, to, fastRecipe(RulesStrict), nil)
	if !strings.Contains(text, `patch "f.1.patch" "f"`) || !has(rep.Findings, KindItem, Repaired, "f") {
		t.Errorf("got findings %v and\n%s", rep.Findings, text)
	}
	if _, _, err := Build(t.Context(), f, to, fastRecipe(RulesScripts), nil); !errors.Is(err, ErrRefused) {
		t.Errorf("scripts: got %v, want ErrRefused: two entries of one name cannot be written", err)
	}
}

// A line without its item, and an archive without a manifest, crash the updater.
func TestTrap07MissingItemsAreFound(t *testing.T) {
	t.Parallel()
	from := pack(t, updatetest.Tree{"a": updatetest.File("a")})
	for name, update := range map[string]*mar.Reader{
		"add":         updatetest.Archive(t, `add "x"`, nil),
		"patch":       updatetest.Archive(t, `patch "x" "a"`, nil),
		"no manifest": updatetest.Write(t, &mar.Archive{Product: updatetest.TestProduct, Entries: []mar.Entry{updater.MemberOf(from.Lookup("a")).Entry()}}),
	} {
		var ue *updater.UpdateError
		if err := Verify(t.Context(), from, update, from, nil); !errors.As(err, &ue) || ue.Code != updater.CodeCrash {
			t.Errorf("%s: Verify: got %v, want an *UpdateError with code %d", name, err, updater.CodeCrash)
		}
		if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, t.TempDir()), update, nil); !errors.As(err, &ue) || ue.Code != updater.CodeCrash {
			t.Errorf("%s: Apply: got %v, want an *UpdateError with code %d", name, err, updater.CodeCrash)
		}
	}
}

// A file that becomes a directory fails on every client; a directory that becomes a file leaves a backup behind.
func TestTrap10FilesAndDirectoriesThatChangePlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind     Kind
		from, to updatetest.Tree
	}{
		{KindFileToDirectory, updatetest.Tree{"p": updatetest.File("1")}, updatetest.Tree{"p/q": updatetest.File("2")}},
		{KindDirectoryToFile, updatetest.Tree{"p/q": updatetest.File("1")}, updatetest.Tree{"p": updatetest.File("2")}},
	} {
		from, to := releases(t, tt.from, tt.to)
		_, rep, err := Build(t.Context(), from, to, fastRecipe(RulesStrict), nil)
		var re *RefusedError
		if !errors.As(err, &re) || !has(re.Findings, tt.kind, Broken, "p") || rep == nil {
			t.Errorf("strict: got %v, want a finding %s", err, tt.kind)
		}
		if re != nil && re.Findings[0].WayOut == "" {
			t.Error("no way out is named")
		}
		a, rep, err := Build(t.Context(), from, to, fastRecipe(RulesScripts), nil)
		if err != nil {
			t.Fatalf("scripts: %v", err)
		}
		if !has(rep.Broken(), tt.kind, Broken, "p") || rep.Verified || rep.Failure == "" {
			t.Errorf("scripts: got report %+v", rep)
		}
		if err := Verify(t.Context(), from, updatetest.Write(t, a), to, nil); err == nil {
			t.Errorf("Verify accepts %s", tt.kind)
		}
	}
}

// failing tools make the scripts exit with 0 and package what there is; here every failure is one.
func TestTrap11FailuresOfToolsAreFailures(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"f": updatetest.File(noisy(1000))}, updatetest.Tree{"f": updatetest.File(noisy(1000) + "x")})
	boom := errors.New("tool failed")
	for _, rules := range []Rules{RulesStrict, RulesScripts} {
		r := fastRecipe(rules)
		r.Differ = failingDiffer{boom}
		if a, _, err := Build(t.Context(), from, to, r, nil); !errors.Is(err, boom) || a != nil {
			t.Errorf("differ: got %v, want the tool's error", err)
		}
		for _, late := range []bool{false, true} {
			r = fastRecipe(rules)
			r.Compression.Patches = failingCompressor{r.Compression.Patches, boom, late}
			if a, _, err := Build(t.Context(), from, to, r, nil); !errors.Is(err, boom) || a != nil {
				t.Errorf("compressor: got %v, want the tool's error", err)
			}
		}
	}
	if _, _, err := Pack(t.Context(), failingTree{updatetest.Tree{"f": updatetest.File("x")}.FS(), boom}, PackOptions{}); !errors.Is(err, boom) {
		t.Errorf("Pack: got %v, want the tree's error", err)
	}
}

type failingDiffer struct{ err error }

func (failingDiffer) ID() string { return "failing" }

func (failingDiffer) Format() string { return updater.PatchMBDIFF10 }

func (d failingDiffer) Diff(_ context.Context, patch io.Writer, _, _ []byte) error {
	if _, err := patch.Write([]byte("MBDIFF10")); err != nil {
		return err
	}
	return d.err
}

type failingCompressor struct {
	Compressor
	err  error
	late bool
}

func (f failingCompressor) NewWriter(_ context.Context, _ io.Writer, _ Content) (io.WriteCloser, error) {
	if f.late {
		return failingWriter{f.err}, nil
	}
	return nil, f.err
}

type failingWriter struct{ err error }

func (f failingWriter) Write(p []byte) (int, error) { return len(p), nil }
func (f failingWriter) Close() error                { return f.err }

type failingTree struct {
	fs.FS
	err error
}

func (f failingTree) Open(name string) (fs.File, error) {
	if name == "f" {
		return nil, f.err
	}
	return f.FS.Open(name)
}

// The scripts lose changes of the executable bit; the strict rules add such a file whole.
func TestTrap12ModeChangesAreDelivered(t *testing.T) {
	t.Parallel()
	long := noisy(3000)
	from, to := releases(t,
		updatetest.Tree{"same": updatetest.File("s"), "changed": updatetest.Program(long + "1")},
		updatetest.Tree{"same": updatetest.Program("s"), "changed": updatetest.File(long + "2")})
	_, text, rep := build(t, from, to, fastRecipe(RulesStrict), nil)
	for _, n := range []string{"same", "changed"} {
		if !strings.Contains(text, fmt.Sprintf("add \"%s\"\n", n)) || !has(rep.Findings, KindMode, Repaired, n) {
			t.Errorf("%s: got findings %v and\n%s", n, rep.Findings, text)
		}
	}
	if !rep.Verified || len(rep.Broken()) > 0 {
		t.Errorf("got report %+v", rep)
	}
	update, text, rep := build(t, from, to, fastRecipe(RulesScripts), nil)
	for _, n := range []string{"same", "changed"} {
		if !has(rep.Broken(), KindMode, Broken, n) {
			t.Errorf("%s: got findings %v", n, rep.Findings)
		}
	}
	if want := "type \"partial\"\nadd \"precomplete\"\npatch \"changed.patch\" \"changed\"\n"; text != want || rep.Verified {
		t.Errorf("got verified=%v and\n%s\nwant\n%s", rep.Verified, text, want)
	}
	err := Verify(t.Context(), from, update, to, nil)
	var ve *VerifyError
	if !errors.As(err, &ve) || len(ve.Differences) != 2 || ve.Differences[0].Kind != DiffersExecutable {
		t.Errorf("Verify: got %v, want two differences in the executable bit", err)
	}
}

// Names that lead out of the tree are written nowhere.
func TestTrap13HostileNamesAreNotWritten(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"../x", "/tmp/x", "a/../../x"} {
		a := &mar.Archive{Entries: []mar.Entry{mar.BytesEntry(n, 0o644, []byte("x"))}}
		if _, err := a.WriteTo(io.Discard); err == nil {
			t.Errorf("an archive with %q can be written", n)
		}
		var ue *updater.UpdateError
		update := updatetest.Archive(t, "add \""+n+"\"\n", nil)
		if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, t.TempDir()), update, nil); !errors.As(err, &ue) || ue.Code != updater.CodeParse {
			t.Errorf("%q: got %v, want code %d", n, err, updater.CodeParse)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	ini := func(version string) string { return updatetest.File("[App]\nVersion=" + version + "\n") }
	tests := []struct {
		name     string
		from, to updatetest.Tree
		change   func(*Recipe)
		kind     Kind
		code     updater.Code
	}{
		{"two dots", updatetest.Tree{}, updatetest.Tree{"a..b": updatetest.File("")}, nil, KindName, updater.CodeParse},
		{"removed two dots", updatetest.Tree{"a..b": updatetest.File("")}, updatetest.Tree{"x": updatetest.File("")}, nil, KindName, updater.CodeParse},
		{"case", updatetest.Tree{}, updatetest.Tree{"a": updatetest.File(""), "A": updatetest.File("")}, func(r *Recipe) { r.Platform = PlatformWindows }, KindCase, 0},
		{"case changes", updatetest.Tree{"a": updatetest.File("")}, updatetest.Tree{"A": updatetest.File("")}, func(r *Recipe) { r.Platform = PlatformMacOS }, KindCase, 0},
		{"long", updatetest.Tree{}, updatetest.Tree{strings.Repeat("directory/", 80) + "x": updatetest.File("")}, nil, KindPathLength, updater.CodeCrash},
		{"older", updatetest.Tree{"application.ini": ini("2.0")}, updatetest.Tree{"application.ini": ini("1.0")}, nil, KindDowngrade, updater.CodeDowngrade},
		{"bad precomplete", updatetest.Tree{}, updatetest.Tree{"Contents/Resources/precomplete": updatetest.File("")}, nil, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw := func(s updatetest.Tree) *mar.Reader {
				a := &mar.Archive{Product: &mar.Product{Channel: "c", Version: "1.0"}}
				for _, n := range slices.Sorted(maps.Keys(s.With("precomplete", updatetest.File(pp)))) {
					packed, err := compress(t.Context(), XZ{Level: LevelFast}, Content{Kind: ContentFile}, []byte(s[n][1:]))
					if err != nil {
						t.Fatal(err)
					}
					a.Entries = append(a.Entries, mar.BytesEntry(n, 0o644, packed))
				}
				return updatetest.Write(t, a)
			}
			from, to := raw(tt.from), raw(tt.to)
			r := fastRecipe(RulesStrict)
			if tt.change != nil {
				tt.change(&r)
			}
			_, rep, err := Build(t.Context(), from, to, r, nil)
			if tt.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var re *RefusedError
			if !errors.As(err, &re) || !has(re.Findings, tt.kind, Broken, "") {
				t.Fatalf("got %v, want a finding of kind %s", err, tt.kind)
			}
			if f := re.Findings[0]; f.Code != tt.code || f.WayOut == "" || rep == nil {
				t.Errorf("got %+v, want code %d and a way out", f, tt.code)
			}
			if tt.kind == KindDowngrade {
				if _, _, err := Build(t.Context(), from, to, r, &BuildOptions{Skip: []updater.Check{updater.CheckDowngrade}}); err != nil {
					t.Errorf("allowed: %v", err)
				}
			}
			r.Rules = RulesScripts
			_, rep, err = Build(t.Context(), from, to, r, nil)
			if err != nil {
				t.Fatalf("scripts: %v", err)
			}
			if !has(rep.Broken(), tt.kind, Broken, "") {
				t.Errorf("scripts: got findings %v", rep.Findings)
			}
		})
	}
}

func TestBuildNeedsProduct(t *testing.T) {
	t.Parallel()
	from := pack(t, updatetest.Tree{"a": updatetest.File("1")})
	bare := pack(t, updatetest.Tree{"a": updatetest.File("2")}).Archive()
	bare.Product = nil
	to := updatetest.Write(t, bare)
	r := fastRecipe(RulesStrict)
	if _, _, err := Build(t.Context(), from, to, r, nil); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	r.Product = updatetest.TestProduct
	a, _, err := Build(t.Context(), from, to, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := updatetest.Write(t, a).Product(); !ok || p != *updatetest.TestProduct {
		t.Errorf("got product %v", p)
	}
}

// What removed-files can do to an update: strict rules leave the line out, those of the scripts keep it and say so.
func TestBuildRemovedFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line, instruction string
		breaks                  bool // the update, under the rules of the scripts
	}{
		{"fine", "old.dll", `remove "old.dll"`, false},
		{"fine directory", "olddir/", `rmdir "olddir/"`, false},
		{"fine recursion", "olddir/*", `rmrfdir "olddir/"`, false},
		{"kept file", "kept", `remove "kept"`, true},
		{"new file", "new", `remove "new"`, false},
		{"directory as file", "dir", `remove "dir"`, true},
		{"file as directory", "kept/", `rmdir "kept/"`, true},
		{"file as tree", "kept/*", `rmrfdir "kept/"`, true},
		{"tree with files of TO", "dir/*", `rmrfdir "dir/"`, true},
		{"everything", "./*", `rmrfdir "./"`, true},
		{"parent", "../x", `remove "../x"`, true},
		{"quote", `a"b`, `remove "a"b"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, to := releases(t,
				updatetest.Tree{"kept": updatetest.File("1"), "dir/f": updatetest.File("f"), "removed-files": updatetest.File("")},
				updatetest.Tree{"kept": updatetest.File("2"), "dir/f": updatetest.File("f"), "new": updatetest.File("n"), "removed-files": updatetest.File(tt.line + "\n")})
			fine := strings.HasPrefix(tt.name, "fine")
			_, text, rep := build(t, from, to, fastRecipe(RulesStrict), nil)
			if strings.Contains(text, tt.instruction+"\n") != fine || has(rep.Findings, KindRemovedFiles, Repaired, "") == fine || !rep.Verified {
				t.Errorf("strict: got verified=%v, findings %v and\n%s", rep.Verified, rep.Findings, text)
			}
			update, text, rep := build(t, from, to, fastRecipe(RulesScripts), nil)
			if !strings.Contains(text, tt.instruction+"\n") || has(rep.Broken(), KindRemovedFiles, Broken, "") == fine {
				t.Errorf("scripts: got findings %v and\n%s", rep.Findings, text)
			}
			if err := Verify(t.Context(), from, update, to, nil); (err != nil) != tt.breaks {
				t.Errorf("Verify: %v, want an error: %v", err, tt.breaks)
			}
			if rep.Verified == tt.breaks {
				t.Errorf("scripts: got verified=%v (%s)", rep.Verified, rep.Failure)
			}
		})
	}
}

// Differences that are meant to be are accepted and listed.
func TestVerifyExpectedDifferences(t *testing.T) {
	t.Parallel()
	from, to := releases(t,
		updatetest.Tree{"defaults/pref/channel-prefs.js": updatetest.File("esr"), "distribution/extensions/have/f": updatetest.File("1")},
		updatetest.Tree{
			"defaults/pref/channel-prefs.js": updatetest.File("release"), "distribution/extensions/have/f": updatetest.File("2"),
			"distribution/extensions/have/g": updatetest.File("g"), "distribution/extensions/new/f": updatetest.File("n"), "distribution/extensions/top.xpi": updatetest.File("t"),
		})
	r := fastRecipe(RulesStrict)
	r.Manifests = []updater.ManifestVersion{updater.ManifestV3, updater.ManifestV2}
	update, text, rep := build(t, from, to, r, nil)
	if !rep.Verified {
		t.Error("not verified")
	}
	for _, line := range []string{
		`add-if-not "defaults/pref/channel-prefs.js" "defaults/pref/channel-prefs.js"`,
		`add-if "distribution/extensions/have" "distribution/extensions/have/f"`,
		`add-if "distribution/extensions/have" "distribution/extensions/have/g"`,
		`add-if "distribution/extensions/new" "distribution/extensions/new/f"`,
		`add "distribution/extensions/top.xpi"`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	client, err := updater.ClientOf(from, updater.Claims{Manifests: []updater.ManifestVersion{updater.ManifestV2, updater.ManifestV3}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prove(t.Context(), from, update, to, &VerifyOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range p.Expected {
		got = append(got, fmt.Sprintf("%s %s %s", d.Manifest, d.Kind, d.Path))
	}
	want := []string{
		"updatev3.manifest content defaults/pref/channel-prefs.js", "updatev3.manifest missing distribution/extensions/new/f",
		"updatev2.manifest content defaults/pref/channel-prefs.js", "updatev2.manifest missing distribution/extensions/new/f",
	}
	if !slices.Equal(got, want) || len(p.Differences) > 0 {
		t.Errorf("got expected %q and others %v, want %q", got, p.Differences, want)
	}
	if p.Skipped != 2 || p.Files != 6 {
		t.Errorf("got %+v", p)
	}
}

// Every kind of difference is reported, all at once, with the offset of the first byte that differs.
func TestVerifyFindsDifferences(t *testing.T) {
	t.Parallel()
	from := pack(t, updatetest.Tree{"a": updatetest.File("12345"), "b": updatetest.File("b"), "c": updatetest.File("c"), "d": updatetest.File("d"), "short": updatetest.File("123"), "precomplete": updatetest.File(pp)})
	to := pack(t, updatetest.Tree{"a": updatetest.File("12x45"), "b": updatetest.Program("b"), "d": updatetest.File("D"), "e": updatetest.File("e"), "short": updatetest.File("1234"), "precomplete": updatetest.File(pp)})
	update := updatetest.Archive(t, "add \"x\"\nadd \"d\"\n", updatetest.Tree{"x": updatetest.File("x"), "d": updatetest.File("Dd")})
	err := Verify(t.Context(), from, update, to, &VerifyOptions{Workers: 3})
	var ve *VerifyError
	if !errors.As(err, &ve) || !errors.Is(err, ErrDifferent) {
		t.Fatalf("got %v, want a *VerifyError", err)
	}
	want := []Difference{
		{Path: "a", Kind: DiffersContent, Offset: 2, GotSize: 5, WantSize: 5},
		{Path: "b", Kind: DiffersExecutable},
		{Path: "c", Kind: DiffersExtra},
		{Path: "d", Kind: DiffersContent, Offset: 1, GotSize: 2, WantSize: 1, Instruction: `add "d"`},
		{Path: "e", Kind: DiffersMissing},
		{Path: "short", Kind: DiffersContent, Offset: 3, GotSize: 3, WantSize: 4},
		{Path: "x", Kind: DiffersExtra, Instruction: `add "x"`},
	}
	for i := range want {
		want[i].Manifest = "updatev3.manifest"
	}
	if !slices.Equal(ve.Differences, want) {
		t.Errorf("got\n%v\nwant\n%v", ve.Differences, want)
	}
	if !strings.Contains(err.Error(), `"a" differs from byte 2 on`) {
		t.Errorf("got %v", err)
	}
}

// The instructions that undo each other are followed as the updater does: remove asks what exists before the update.
func TestVerifyFollowsThePhases(t *testing.T) {
	t.Parallel()
	from := pack(t, updatetest.Tree{"a": updatetest.File("1"), "d/f": updatetest.File("f"), "precomplete": updatetest.File(pp)})
	tests := []struct {
		name, manifest string
		to             updatetest.Tree
	}{
		{"remove behind add takes the new file", "add \"a\"\nremove \"a\"\n", updatetest.Tree{"d/f": updatetest.File("f")}},
		{"remove of a new file does nothing", "add \"n\"\nremove \"n\"\n", updatetest.Tree{"a": updatetest.File("1"), "d/f": updatetest.File("f"), "n": updatetest.File("n")}},
		{"conditions see the tree as it was", "add \"n\"\nadd-if \"n\" \"a\"\n", updatetest.Tree{"a": updatetest.File("1"), "d/f": updatetest.File("f"), "n": updatetest.File("n")}},
		{"rmrfdir goes where it stands", "rmrfdir \"d/\"\nadd \"d/n\"\n", updatetest.Tree{"a": updatetest.File("1"), "d/n": updatetest.File("x")}},
		{"rmrfdir removes what was, behind an add as well", "add \"d/n\"\nrmrfdir \"d/\"\n", updatetest.Tree{"a": updatetest.File("1"), "d/n": updatetest.File("x")}},
		{"rmrfdir expands to what is there before", "add \"d/f\"\nrmrfdir \"d/\"\n", updatetest.Tree{"a": updatetest.File("1")}},
	}
	items := updatetest.Tree{"a": updatetest.File("2"), "n": updatetest.File("n"), "d/n": updatetest.File("x"), "d/f": updatetest.File("g")}
	for _, tt := range tests {
		update := updatetest.Archive(t, tt.manifest, items)
		to := pack(t, tt.to.With("precomplete", updatetest.File(pp)))
		if err := Verify(t.Context(), from, update, to, nil); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		dir := t.TempDir()
		updatetest.Contents(t, from).Write(t, dir)
		if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir).Files(), tt.to); diff != "" {
			t.Errorf("%s: Apply:\n%s", tt.name, diff)
		}
	}
}

// A whole file is TO's own member, byte for byte, unless the updater cannot take it.
func TestBuildTakesMembersOver(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"a": updatetest.File("1")}, updatetest.Tree{"a": updatetest.File("2"), "other": updatetest.File("r"), "empty": updatetest.File("")})
	raw := to.Archive()
	for i, e := range raw.Entries {
		switch e.Name {
		case "other":
			packed, err := compress(t.Context(), Bzip2{}, Content{}, []byte("in bzip2"))
			if err != nil {
				t.Fatal(err)
			}
			raw.Entries[i] = mar.BytesEntry("other", 0o600, packed)
		case "empty":
			raw.Entries[i] = mar.BytesEntry("empty", 0o644, nil)
		}
	}
	to = updatetest.Write(t, raw)
	got, _, rep := build(t, from, to, fastRecipe(RulesStrict), nil)
	same, err := sameBytes(t.Context(), updater.MemberOf(got.Lookup("a")), updater.MemberOf(to.Lookup("a")))
	if err != nil || !same {
		t.Errorf("the member was made anew (%v)", err)
	}
	if data := updatetest.Content(t, got, "other"); string(data) != "in bzip2" || got.Lookup("other").Mode != 0o644 {
		t.Errorf("got %q with mode %o", data, got.Lookup("other").Mode)
	}
	if got.Lookup("empty").Size == 0 {
		t.Error("the entry without bytes was taken over")
	}
	if !has(rep.Findings, KindMember, Repaired, "other") || !has(rep.Findings, KindEmptyMember, Repaired, "empty") || !has(rep.Findings, KindModeBits, Note, "other") {
		t.Errorf("got findings %v", rep.Findings)
	}
}

// What TO holds and nobody can read is TO's fault, in files that FROM has and in new ones: damage, and formats that no
// updater knows.
func TestBuildBlamesTO(t *testing.T) {
	t.Parallel()
	good := updatetest.Compress(t, []byte(noisy(1000)))
	damaged := slices.Clone(good)
	damaged[len(damaged)/2] ^= 1
	for name, data := range map[string][]byte{
		"damaged": damaged, "cut off": good[:len(good)/2], "raw": []byte("not compressed"),
		".lzma": []byte("\x5D\x00\x00\x80\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00"), "gzip": []byte("\x1F\x8B\x08\x00\x00\x00\x00\x00"),
	} {
		for _, file := range []string{"old", "new"} {
			from, to := releases(t, updatetest.Tree{"old": updatetest.File(noisy(1001))}, updatetest.Tree{"old": updatetest.File(noisy(1001)), "new": updatetest.File("1")})
			a := to.Archive()
			for i, e := range a.Entries {
				if e.Name == file {
					a.Entries[i] = mar.BytesEntry(file, 0o644, data)
				}
			}
			_, _, err := Build(t.Context(), from, updatetest.Write(t, a), fastRecipe(RulesStrict), nil)
			var ie *InputError
			if !errors.As(err, &ie) || ie.Input != "TO" || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, %s: got %v, want TO's error with the file's name", name, file, err)
			}
		}
	}
}

// The same with completes as they were reported: a member that FROM does not have is damaged, or in a format that no updater
// reads.
func TestReportMembers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dir, to string }{{"corrupt-member", "to.mar"}, {"no-xz-member", "lzma_alone.mar"}, {"no-xz-member", "raw.mar"}} {
		from, to := updatetest.Open(t, "testdata", "reports", tt.dir, "from.mar"), updatetest.Open(t, "testdata", "reports", tt.dir, tt.to)
		for _, rules := range []Rules{RulesStrict, RulesScripts} {
			_, _, err := Build(t.Context(), from, to, fastRecipe(rules), nil)
			var ie *InputError
			if !errors.As(err, &ie) || ie.Input != "TO" {
				t.Errorf("%s/%s, %s: got %v, want TO's error", tt.dir, tt.to, rules, err)
			}
		}
	}
}

// Updaters before 56 read bzip2: members that are xz in TO are compressed again.
func TestBuildBzip2(t *testing.T) {
	t.Parallel()
	long := noisy(2000)
	old, to := releases(t, updatetest.Tree{"f": updatetest.File(long), "g": updatetest.File("1")}, updatetest.Tree{"f": updatetest.File(long + "x"), "g": updatetest.File("2")})
	from := old.Archive()
	for i, e := range from.Entries {
		packed, err := compress(t.Context(), Bzip2{}, Content{}, updatetest.Content(t, old, e.Name))
		if err != nil {
			t.Fatal(err)
		}
		from.Entries[i] = mar.BytesEntry(e.Name, e.Mode, packed)
	}
	r := Recipe{Compression: Compression{Format: updater.FormatBzip2}, Platform: PlatformLinux, Manifests: []updater.ManifestVersion{updater.ManifestV2, updater.ManifestV3}}
	got, text, rep := build(t, updatetest.Write(t, from), to, r, nil)
	if !rep.Verified || !strings.Contains(text, `patch "f.patch" "f"`) {
		t.Errorf("got verified=%v and\n%s", rep.Verified, text)
	}
	for _, f := range got.Files() {
		if err := updater.MemberOf(f).Usable(updater.Instruction{}, updater.FormatBzip2); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if err := Verify(t.Context(), updatetest.Write(t, from), got, to, nil); err != nil {
		t.Error(err)
	}
	var ue *updater.UpdateError
	if err := Verify(t.Context(), old, got, to, nil); !errors.As(err, &ue) || ue.Code != updater.CodeXZ {
		t.Errorf("for an updater that reads xz: got %v, want code %d", err, updater.CodeXZ)
	}
}

func TestBuildNeedsCompletes(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"a": updatetest.File("1")}, updatetest.Tree{"a": updatetest.File("2")})
	update, _, _ := build(t, from, to, fastRecipe(RulesStrict), nil)
	if _, _, err := Build(t.Context(), update, to, fastRecipe(RulesStrict), nil); err == nil || !strings.Contains(err.Error(), "not a complete update") {
		t.Errorf("got %v", err)
	}
}

// A small archive that unpacks to gigabytes costs neither their time nor their memory.
func TestBombs(t *testing.T) {
	if testkit.Race {
		t.Skip("unpacks 64 MiB again and again, which takes a minute with the race detector")
	}
	t.Parallel()
	var packed bytes.Buffer
	w, err := (XZ{Level: Level6}).NewWriter(t.Context(), &packed, Content{Kind: ContentPatch, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 80 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	from := pack(t, updatetest.Tree{"a": updatetest.File("a")})
	for _, manifest := range []string{"add \"bomb\"\n", "patch \"bomb\" \"a\"\n"} {
		a := updatetest.Archive(t, manifest, nil).Archive()
		a.Entries = append(a.Entries, mar.BytesEntry("bomb", 0o644, packed.Bytes()))
		update := updatetest.Write(t, a)
		if err := Verify(t.Context(), from, update, from, nil); err == nil {
			t.Errorf("%s: Verify accepts it", manifest)
		}
		dir := t.TempDir()
		updatetest.Contents(t, from).Write(t, dir)
		before := updatetest.Look(t, dir)
		if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); err == nil || updatetest.DiffSnapshots(updatetest.Look(t, dir), before) != "" {
			t.Errorf("%s: Apply: got %v", manifest, err)
		}
	}
	a := from.Archive()
	a.Entries = append(a.Entries, mar.BytesEntry("bomb", 0o644, packed.Bytes()))
	if _, _, err := Build(t.Context(), updatetest.Write(t, a), from, fastRecipe(RulesStrict), nil); err != nil {
		t.Errorf("a file that is only removed need not be unpacked: %v", err)
	}
	if err := Verify(t.Context(), from, updatetest.Archive(t, "add \"b\"\n", updatetest.Tree{"b": updatetest.File("b")}), updatetest.Write(t, a), nil); !errors.Is(err, ErrDifferent) {
		t.Errorf("got %v, want ErrDifferent: what is missing need not be unpacked", err)
	}
}

// A member that unpacks to more than the limit is refused before it is unpacked.
func TestBuildLimits(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"a": updatetest.File("1")}, updatetest.Tree{"a": updatetest.File(strings.Repeat("x", 100_000))})
	opts := &BuildOptions{Limits: updater.Limits{Member: 50_000}}
	if _, _, err := Build(t.Context(), from, to, fastRecipe(RulesStrict), opts); !errors.Is(err, updater.ErrLimit) {
		t.Errorf("Build: got %v, want ErrLimit", err)
	}
	update := updatetest.Archive(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File(strings.Repeat("x", 100_000))})
	if err := Verify(t.Context(), from, update, to, &VerifyOptions{Limits: opts.Limits}); !errors.Is(err, updater.ErrLimit) {
		t.Errorf("Verify: got %v, want ErrLimit", err)
	}
	dir := t.TempDir()
	if err := updater.Apply(t.Context(), updatetest.OpenRoot(t, dir), update, &updater.ApplyOptions{Limits: opts.Limits}); err == nil || len(updatetest.Look(t, dir)) > 0 {
		t.Errorf("Apply: got %v and %v", err, updatetest.Look(t, dir))
	}
}

package partial

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// The trees of Mozilla's packaging test give Mozilla's completes: manifest, names and order of entries, modes, content.
func TestPackReference(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"from", "to"} {
		tree := os.DirFS(testkit.Shared(t, "testdata", "packaging", name))
		want := updatetest.Open(t, "testdata", "packaging", "update-packaging-"+name+".complete.mar")
		product := mar.Product{Channel: "test-channel", Version: "2.0"}
		a, rep, err := Pack(t.Context(), tree, PackOptions{Product: &product, Arch: "x86"})
		if err != nil {
			t.Fatal(err)
		}
		got := updatetest.Write(t, a)
		sameAsReference(t, got, want)
		if len(rep.Broken()) > 0 || rep.Size != got.Size() {
			t.Errorf("got report %+v", rep)
		}
	}
}

func TestPackPrecomplete(t *testing.T) {
	t.Parallel()
	own := "remove \"precomplete\"\nremove \"a\"\n"
	tests := []struct {
		name   string
		tree   updatetest.Tree
		source PrecompleteSource
		at     string
		want   string
		note   bool
	}{
		{"made", updatetest.Tree{"a": updatetest.File("")}, PrecompleteAuto, "precomplete", own, false},
		{"taken", updatetest.Tree{"a": updatetest.File(""), "precomplete": updatetest.File("remove \"a\"\n")}, PrecompleteAuto, "precomplete", "remove \"a\"\n", true},
		{"complete", updatetest.Tree{"a": updatetest.File(""), "precomplete": updatetest.File(own)}, PrecompleteTake, "precomplete", own, false},
		{"replaced", updatetest.Tree{"a": updatetest.File(""), "precomplete": updatetest.File("junk")}, PrecompleteGenerate, "precomplete", own, false},
		{
			"macOS",
			updatetest.Tree{"Contents/MacOS/firefox": updatetest.Program("")},
			PrecompleteAuto, "Contents/Resources/precomplete",
			"remove \"Contents/Resources/precomplete\"\nremove \"Contents/MacOS/firefox\"\nrmdir \"Contents/Resources/\"\nrmdir \"Contents/MacOS/\"\nrmdir \"Contents/\"\n", false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, rep, err := Pack(t.Context(), tt.tree.FS(), PackOptions{Product: updatetest.TestProduct, Precomplete: tt.source})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(updatetest.Content(t, updatetest.Write(t, a), tt.at)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := len(rep.Findings) > 0; got != tt.note {
				t.Errorf("got findings %v", rep.Findings)
			}
		})
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		tree fstest.MapFS
		opts PackOptions
		kind Kind
	}{
		{"link", fstest.MapFS{"a": {Data: []byte("x"), Mode: fs.ModeSymlink | 0o777}}, PackOptions{}, KindSymlink},
		{"device", fstest.MapFS{"a": {Mode: fs.ModeDevice | 0o666}}, PackOptions{}, KindSymlink},
		{"quote", fstest.MapFS{`a"b`: {}}, PackOptions{}, KindName},
		{"newline", fstest.MapFS{"a\nb": {}}, PackOptions{}, KindName},
		{"two dots", fstest.MapFS{"a..b": {}}, PackOptions{}, KindName},
		{"case", fstest.MapFS{"a": {}, "A": {}}, PackOptions{}, KindCase},
		{"long", fstest.MapFS{strings.Repeat("a/", 500) + "a": {}}, PackOptions{}, KindPathLength},
		{"no precomplete", fstest.MapFS{"a": {}}, PackOptions{Precomplete: PrecompleteTake}, KindPrecomplete},
		{"bad precomplete", fstest.MapFS{"precomplete": {Data: []byte("add \"x\"\n")}}, PackOptions{}, KindPrecomplete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, rep, err := Pack(t.Context(), tt.tree, tt.opts)
			var re *RefusedError
			if !errors.As(err, &re) || !slices.ContainsFunc(re.Findings, func(f Finding) bool { return f.Kind == tt.kind }) {
				t.Fatalf("got %v, want a finding of kind %s", err, tt.kind)
			}
			if rep == nil || len(rep.Broken()) == 0 {
				t.Errorf("got report %+v", rep)
			}
		})
	}
}

func TestPackLeavesOut(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{
		"a": {Data: []byte("a")}, "link": {Data: []byte("a"), Mode: fs.ModeSymlink | 0o777}, "empty/dir": {Mode: fs.ModeDir | 0o755},
		"updatev3.manifest": {Data: []byte("x")}, "sub/update.manifest": {Data: []byte("x")},
		"removed-files": {Data: []byte("a\ngone\n../up\nsub/*\n")},
	}
	a, rep, err := Pack(t.Context(), tree, PackOptions{Product: updatetest.TestProduct, SkipLinks: true})
	if err != nil {
		t.Fatal(err)
	}
	got := updatetest.Write(t, a)
	if want := []string{"updatev3.manifest", "removed-files", "precomplete", "a"}; !slices.Equal(updatetest.Names(got), want) {
		t.Errorf("got entries %q, want %q", updatetest.Names(got), want)
	}
	want := "type \"complete\"\nadd \"removed-files\"\nadd \"precomplete\"\nadd \"a\"\nrmrfdir \"sub/\"\nremove \"gone\"\n"
	if got := string(updatetest.Content(t, got, "updatev3.manifest")); got != want {
		t.Errorf("got manifest\n%s\nwant\n%s", got, want)
	}
	var kinds []string
	for _, f := range rep.Findings {
		kinds = append(kinds, string(f.Kind)+" "+string(f.Severity))
	}
	slices.Sort(kinds)
	if want := []string{"empty-directory note", "manifest note", "manifest note", "removed-files repaired", "removed-files repaired", "symlink note"}; !slices.Equal(kinds, want) {
		t.Errorf("got findings %q, want %q", kinds, want)
	}
}

// The preset behind Mozilla's `xz -7e --lzma2` is 6: one block, CRC64, an 8 MiB dictionary. The filter is that of the
// architecture, for files and manifests, and never for patches.
func TestTrap01And02MembersAreCompressedAsMozillaDoes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arch string
		kind ContentKind
		want byte // number of filters less one
	}{
		{"x86_64", ContentFile, 1},
		{"x86", ContentManifest, 1},
		{"aarch64", ContentFile, 0},
		{"macos-x86_64-aarch64", ContentFile, 0},
		{"x86_64", ContentPatch, 0},
	} {
		var buf bytes.Buffer
		w, err := MozillaRecipe().For(nil).Compression.Files.NewWriter(t.Context(), &buf, Content{Kind: tt.kind, Size: -1, Arch: tt.arch})
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("some bytes"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out := buf.Bytes()
		if out[7] != 4 {
			t.Errorf("%v: the check is %d, want 4 (CRC64)", tt, out[7])
		}
		var dict byte
		flags := out[13]
		if flags&3 == 0 {
			dict = out[16]
		} else {
			if out[14] != 4 {
				t.Errorf("%v: the filter is %d, want 4 (x86)", tt, out[14])
			}
			dict = out[18]
		}
		if flags != tt.want {
			t.Errorf("%v: the block's flags are %d, want %d", tt, flags, tt.want)
		}
		if dict != 22 {
			t.Errorf("%v: the dictionary's code is %d, want 22 (8 MiB)", tt, dict)
		}
		if err := updater.NewMember("x", 0, out).Usable(updater.Instruction{}, updater.FormatXZ); err != nil {
			t.Errorf("%v: %v", tt, err)
		}
	}
	if id := MozillaRecipe().For(nil).Compression.Patches.ID(); !strings.Contains(id, ":6/") {
		t.Errorf("recipe mozilla compresses patches with %s, want level 6", id)
	}
}

// Bytes behind the first xz stream are silently dropped by the updater: such a member is not taken over.
func TestTrap16SecondStreamIsNotTakenOver(t *testing.T) {
	t.Parallel()
	one, err := compress(t.Context(), XZ{}, Content{Kind: ContentFile}, []byte("first "))
	if err != nil {
		t.Fatal(err)
	}
	two, err := compress(t.Context(), XZ{}, Content{Kind: ContentFile}, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	none, err := compress(t.Context(), XZ{}, Content{Kind: ContentFile}, []byte("# none\n"))
	if err != nil {
		t.Fatal(err)
	}
	both := append(slices.Clone(one), two...)
	m := updater.NewMember("a", 0o644, both)
	var unusable *updater.UpdateError
	if err := m.Usable(updater.Instruction{}, updater.FormatXZ); !errors.As(err, &unusable) || !errors.Is(err, xz.ErrRefused) {
		t.Fatalf("got %v, want it refused", err)
	}
	to := updatetest.Write(t, &mar.Archive{Product: updatetest.TestProduct, Entries: []mar.Entry{
		mar.BytesEntry("precomplete", 0o644, none), mar.BytesEntry("a", 0o644, both),
	}})
	a, rep, err := Build(t.Context(), pack(t, updatetest.Tree{"precomplete": updatetest.File("#")}), to, fastRecipe(RulesStrict), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := updatetest.Write(t, a)
	if err := updater.MemberOf(got.Lookup("a")).Usable(updater.Instruction{}, updater.FormatXZ); err != nil {
		t.Error(err)
	}
	if data := updatetest.Content(t, got, "a"); string(data) != "first second" {
		t.Errorf("got %q", data)
	}
	if !slices.ContainsFunc(rep.Findings, func(f Finding) bool { return f.Kind == KindMember && f.Path == "a" && f.Severity == Repaired }) {
		t.Errorf("got findings %v", rep.Findings)
	}
	// as an update, the archive would be cut off without an error: Verify says so
	update := updatetest.Archive(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File("x")}).Archive()
	update.Entries[1] = mar.BytesEntry("a", 0o644, both)
	var ue *updater.UpdateError
	if err := Verify(t.Context(), pack(t, updatetest.Tree{}.With("p", updatetest.File(""))), updatetest.Write(t, update), to, nil); !errors.As(err, &ue) || ue.Code != updater.CodeXZ {
		t.Errorf("Verify: got %v, want an *UpdateError with code %d", err, updater.CodeXZ)
	}
}

// What clients before Firefox 56, and much older ones, read: bzip2, updatev2.manifest, the containers of old.
func TestPackForOldClients(t *testing.T) {
	t.Parallel()
	tree := updatetest.Tree{
		"application.ini": updatetest.File("[App]\nVersion=45.0\nVersion=46.0\n"), "precomplete": updatetest.File(pp), "run": updatetest.Program("x"), "empty": updatetest.File(""),
		"update-settings.ini": updatetest.File("x"), "defaults/pref/channel-prefs.js": updatetest.File("x"),
	}
	pack := func(opts PackOptions) *mar.Reader {
		a, rep, err := Pack(t.Context(), tree.FS(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if rep.To.Version != "46.0" {
			t.Errorf("got version %q, want the last one", rep.To.Version)
		}
		return updatetest.Write(t, a)
	}
	both := []updater.ManifestVersion{updater.ManifestV2, updater.ManifestV3}
	bz := PackOptions{Product: &mar.Product{Channel: "c", Version: "46.0"}, Compression: Compression{Format: updater.FormatBzip2}, Manifests: both}
	got := pack(bz)
	for _, f := range got.Files() {
		head := make([]byte, 3)
		if _, err := f.Section().ReadAt(head, 0); err != nil || string(head) != "BZh" {
			t.Errorf("%s starts with %q, %v", f.Name, head, err)
		}
	}
	if d := updatetest.DiffSnapshots(updatetest.Contents(t, got), tree); d != "" {
		t.Error(d)
	}
	v2 := string(updatetest.Content(t, got, "updatev2.manifest"))
	if want := "type \"complete\"\nadd \"update-settings.ini\"\nadd \"run\"\nadd \"precomplete\"\nadd \"empty\"\nadd \"application.ini\"\n"; v2 != want {
		t.Errorf("got\n%s\nwant\n%s", v2, want)
	}
	if got.Files()[0].Name != "updatev2.manifest" || got.Files()[1].Name != "updatev3.manifest" {
		t.Errorf("got %q", updatetest.Names(got))
	}
	// such a complete is FROM of an update that its client reads
	tree["run"] = updatetest.Program("y")
	r := fastRecipe(RulesStrict)
	r.Compression, r.Manifests = Compression{Format: updater.FormatBzip2}, both
	next := pack(bz)
	a, rep, err := Build(t.Context(), got, next, r, nil)
	if err != nil || !rep.Verified {
		t.Fatalf("got %v, %+v", err, rep)
	}
	if _, err := Prove(t.Context(), got, updatetest.Write(t, a), next, nil); err != nil {
		t.Error(err)
	}
	for _, layout := range []mar.Layout{mar.LayoutNoSections, mar.LayoutOriginal} {
		got := pack(PackOptions{Layout: layout})
		if d := updatetest.DiffSnapshots(updatetest.Contents(t, got), tree); d != "" || got.Layout() != layout {
			t.Errorf("%v: got layout %v and %s", layout, got.Layout(), d)
		}
		if _, _, err := Pack(t.Context(), tree.FS(), PackOptions{Layout: layout, Product: updatetest.TestProduct}); err == nil {
			t.Errorf("%v: a product is ignored", layout)
		}
	}
}

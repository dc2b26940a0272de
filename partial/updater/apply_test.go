package updater

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// The updater's own test updates, on a real directory.
func TestApplyUpdaterTests(t *testing.T) {
	t.Parallel()
	complete := updatetest.Open(t, "testdata", "updater", "complete.mar")
	update := updatetest.Open(t, "testdata", "updater", "partial.mar")
	dir := t.TempDir()
	updatetest.Contents(t, complete).Write(t, dir)
	var steps []Step
	err := Apply(t.Context(), updatetest.OpenRoot(t, dir), update, &ApplyOptions{Progress: func(e Event) {
		if len(steps) == 0 || steps[len(steps)-1] != e.Step {
			steps = append(steps, e.Step)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Step{StepStaging, StepCommitting}; !slices.Equal(steps, want) {
		t.Errorf("got steps %q, want %q", steps, want)
	}
	exe, png := readShared(t, "partial.exe"), readShared(t, "partial.png")
	was := updatetest.Contents(t, complete)
	want := updatetest.Tree{
		"0/": "", "0/00/": "", "2/": "", "2/20/": "", "defaults/": "", "defaults/pref/": "", "distribution/": "", "distribution/extensions/": "",
		"distribution/extensions/extensions0/": "", "distribution/extensions/extensions1/": "", "searchplugins/": "",
		"exe0.exe": updatetest.Program(exe), "0/0exe0.exe": updatetest.Program(exe),
		"defaults/pref/channel-prefs.js": was["defaults/pref/channel-prefs.js"], "update-settings.ini": was["update-settings.ini"],
		"removed-files": was["removed-files"],
	}
	for _, n := range []string{"0/00/00png0.png", "searchplugins/searchpluginspng0.png", "searchplugins/searchpluginspng1.png"} {
		want[n] = updatetest.File(png)
	}
	for _, f := range update.Files() {
		if name, ok := strings.CutSuffix(f.Name, ".patch"); ok {
			if _, ok := want[name]; !ok {
				want[name] = updatetest.File(png)
			}
			continue
		}
		if _, ok := want[f.Name]; !ok && !IsManifestName(f.Name) {
			want[f.Name] = updatetest.File(string(updatetest.Content(t, update, f.Name)))
		}
	}
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), want); diff != "" {
		t.Error(diff)
	}
}

func readShared(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(sharedUpdater(tb), name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

// A complete update removes what the installed precomplete lists, keeps the rest, and adds its files.
func TestApplyComplete(t *testing.T) {
	t.Parallel()
	from := updatetest.Tree{"a": updatetest.File("old"), "gone/b": updatetest.File("old"), "defaults/channel-prefs.js": updatetest.File("mine")}
	to := updatetest.Tree{"a": updatetest.Program("new"), "c/d": updatetest.File("new"), "defaults/channel-prefs.js": updatetest.File("theirs")}
	dir := t.TempDir()
	from.With("precomplete", updatetest.File("remove \"a\"\nremove \"gone/b\"\nremove \"precomplete\"\nrmdir \"gone/\"\n")).Write(t, dir)
	updatetest.Tree{"user/own": updatetest.File("kept")}.Write(t, dir)
	to.With("precomplete", updatetest.File("remove \"a\"\nremove \"c/d\"\nremove \"precomplete\"\nrmdir \"c/\"\n"))
	next := updatetest.Archive(t, `type "complete"
add "a"
add "c/d"
add "precomplete"
add-if-not "defaults/channel-prefs.js" "defaults/channel-prefs.js"
`, to)
	if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), next, nil); err != nil {
		t.Fatal(err)
	}
	want := updatetest.Contents(t, next)
	want["user/own"], want["defaults/channel-prefs.js"] = updatetest.File("kept"), updatetest.File("mine")
	want["user/"], want["c/"], want["defaults/"] = "", "", ""
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), want); diff != "" {
		t.Error(diff)
	}
}

// The same update with patches of either format gives the same tree.
func TestApplyZucchini(t *testing.T) {
	t.Parallel()
	complete := updatetest.Open(t, "testdata", "updater", "complete.mar")
	var trees [2]updatetest.Tree
	for i, name := range []string{"partial.mar", "partial_zucchini.mar"} {
		dir := t.TempDir()
		updatetest.Contents(t, complete).Write(t, dir)
		before := updatetest.Look(t, dir)
		if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Open(t, "testdata", "updater", name), nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		trees[i] = updatetest.Look(t, dir)
		if diff := updatetest.DiffSnapshots(trees[i], before); diff == "" {
			t.Errorf("%s: changes nothing", name)
		}
	}
	if diff := updatetest.DiffSnapshots(trees[1], trees[0]); diff != "" {
		t.Error(diff)
	}
}

// killCase is an update in which everything happens: patches, chains of directories, adds, removals, a file that makes
// room for a directory, directories that go.
func killCase(tb testing.TB) (from, to updatetest.Tree, update *mar.Reader) {
	tb.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	big := updatetest.Noise(r, 4000)
	from = updatetest.Tree{
		"room/": "", "patched": updatetest.File(string(big)), "tool": updatetest.Program("tool 1"), "removed": updatetest.File("r"), "old/deep/f": updatetest.File("f"), "old/g": updatetest.File("g"),
		"becomes": updatetest.File("a file"), "same": updatetest.File("same"),
		"old/": "", "old/deep/": "",
	}
	next := updatetest.Edited(r, big)
	to = updatetest.Tree{
		"patched": updatetest.File(string(next)), "tool": updatetest.Program("tool 2"), "new/deep/f": updatetest.File("n"), "new/x": updatetest.Program("x"), "becomes/inner": updatetest.File("i"),
		"same": updatetest.File("same"), "room": updatetest.File("full"),
		"new/": "", "new/deep/": "", "becomes/": "",
	}
	var patch bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(context.Background(), &patch, big, next); err != nil {
		tb.Fatal(err)
	}
	update = updatetest.Archive(tb, `type "partial"
remove "becomes"
patch "patched.patch" "patched"
add "tool"
add "new/deep/f"
add "new/x"
add "becomes/inner"
add "room"
remove "removed"
remove "old/deep/f"
remove "old/g"
rmdir "old/deep/"
rmdir "old/"
`, updatetest.Tree{
		"patched.patch": updatetest.File(patch.String()), "tool": to["tool"], "new/deep/f": to["new/deep/f"], "new/x": to["new/x"],
		"becomes/inner": to["becomes/inner"], "room": to["room"],
	})
	return from, to, update
}

// A faultFS fails, or kills the process, at one operation.
type faultFS struct {
	filesystem
	count, at int
	kill      func() // instead of failing
}

var errFault = errors.New("injected fault")

func (f *faultFS) step() error {
	f.count++
	if f.count != f.at {
		return nil
	}
	if f.kill != nil {
		f.kill()
	}
	return errFault
}

func (f *faultFS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.filesystem.Lstat(name)
}

func (f *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.filesystem.Stat(name)
}

func (f *faultFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.filesystem.ReadDir(name)
}

func (f *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.filesystem.Mkdir(name, perm)
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.filesystem.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.filesystem.Remove(name)
}

func (f *faultFS) Chmod(name string, mode fs.FileMode) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.filesystem.Chmod(name, mode)
}

func (f *faultFS) SyncDir(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.filesystem.SyncDir(name)
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	g, err := f.filesystem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{g, f}, nil
}

type faultFile struct {
	file
	f *faultFS
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.f.step(); err != nil {
		return f.writeHalf(p, err)
	}
	return f.file.Write(p)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.step(); err != nil {
		return 0, err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultFile) writeHalf(p []byte, err error) (int, error) {
	n, _ := f.file.Write(p[:len(p)/2])
	return n, err
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.step(); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *faultFile) Sync() error {
	if err := f.f.step(); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultFile) Close() error {
	if err := f.f.step(); err != nil {
		f.file.Close()
		return err
	}
	return f.file.Close()
}

// Whatever file operation fails, the tree is the old one, or, if the error says so, the new one, and applying again gives
// the new one.
func TestApplyFailsAtEveryOperation(t *testing.T) {
	t.Parallel()
	from, to, update := killCase(t)
	undone, finished, stuck := 0, 0, 0
	for at := 1; ; at++ {
		dir := testkit.MemoryDir(t)
		from.Write(t, dir)
		root := updatetest.OpenRoot(t, dir)
		fsys := &faultFS{filesystem: rootFS{root}, at: at}
		err := apply(t.Context(), fsys, update, nil)
		if fsys.count < at {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations: %d undone, %d finished although one failed, %d left to the next run", at-1, undone, finished, stuck)
			break
		}
		got := updatetest.Look(t, dir)
		switch {
		case err == nil: // one that does not matter
			finished++
			if diff := updatetest.DiffSnapshots(got, to); diff != "" && !strings.Contains(diff, "old/") {
				t.Fatalf("operation %d: no error, and\n%s", at, diff)
			}
			continue
		case !errors.Is(err, errFault):
			t.Fatalf("operation %d: got %v, want the injected fault", at, err)
		case errors.Is(err, ErrNotCleaned):
			finished++
		default:
			if left(dir) {
				stuck++
			} else {
				undone++
			}
			// undoing may be left to the next run only where the fault hit it
			for n := range got {
				if strings.HasPrefix(n, WorkDir) {
					delete(got, n)
				}
			}
			if diff := updatetest.DiffSnapshots(got, from); diff != "" {
				t.Fatalf("operation %d: %v, and\n%s", at, err, diff)
			}
		}
		done := errors.Is(err, ErrNotCleaned) && !exists(dir, committedFile)
		if err := Apply(t.Context(), root, update, nil); err != nil && !done {
			t.Fatalf("again after operation %d: %v", at, err)
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), to); diff != "" {
			t.Fatalf("again after operation %d:\n%s", at, diff)
		}
	}
	if undone < 20 || finished < 5 {
		t.Errorf("%d undone and %d finished: the test does not test", undone, finished)
	}
}

func left(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, WorkDir))
	return err == nil
}

// Undoing itself may be interrupted, at any point, and is taken up again.
func TestApplyFailsWhileUndoing(t *testing.T) {
	t.Parallel()
	from, to, update := killCase(t)
	for at := 1; ; at++ {
		dir := testkit.MemoryDir(t)
		from.Write(t, dir)
		root := updatetest.OpenRoot(t, dir)
		// the last move into place cannot succeed, and then the at-th operation of undoing fails
		late := &lateFault{faultFS: faultFS{filesystem: rootFS{root}, at: -1}, trigger: "patched", then: at}
		err := apply(t.Context(), late, update, nil)
		if err == nil || !late.hit {
			t.Fatalf("the fault was not hit: %v", err)
		}
		if late.count < at {
			break
		}
		if err := Apply(t.Context(), root, update, nil); err != nil {
			t.Fatalf("again after operation %d of undoing: %v", at, err)
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), to); diff != "" {
			t.Fatalf("again after operation %d of undoing:\n%s", at, diff)
		}
	}
}

// A lateFault fails the rename that puts a file in place, and then one more operation.
type lateFault struct {
	faultFS
	trigger string
	then    int
	hit     bool
}

func (l *lateFault) Rename(from, to string) error {
	if to == l.trigger && strings.HasPrefix(from, newDir) {
		l.hit, l.count, l.at = true, 0, l.then
		return errFault
	}
	return l.faultFS.Rename(from, to)
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

// An interrupted update is undone before another one is applied.
func TestApplyAnotherUpdateAfterAKill(t *testing.T) {
	t.Parallel()
	from, _, update := killCase(t)
	dir := t.TempDir()
	from.Write(t, dir)
	root := updatetest.OpenRoot(t, dir)
	fsys := &lateFault{faultFS: faultFS{filesystem: rootFS{root}, at: -1}, trigger: "patched", then: 3}
	if err := apply(t.Context(), fsys, update, nil); err == nil || !exists(dir, journalFile) {
		t.Fatalf("got %v and no journal", err)
	}
	other := updatetest.Archive(t, "remove \"removed\"\nadd \"other\"\n", updatetest.Tree{"other": updatetest.File("o")})
	if err := Apply(t.Context(), root, other, nil); err != nil {
		t.Fatal(err)
	}
	delete(from, "removed")
	from["other"] = updatetest.File("o")
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), from); diff != "" {
		t.Error(diff)
	}
}

// A second Apply on the same tree would undo what the first one is doing.
func TestApplyTwiceAtOnce(t *testing.T) {
	t.Parallel()
	from, to, update := killCase(t)
	dir, other := t.TempDir(), t.TempDir()
	from.Write(t, dir)
	from.Write(t, other)
	seen := map[Step]bool{}
	err := Apply(t.Context(), updatetest.OpenRoot(t, dir), update, &ApplyOptions{Progress: func(e Event) {
		if seen[e.Step] {
			return
		}
		seen[e.Step] = true
		if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); !errors.Is(err, ErrBusy) {
			t.Errorf("second Apply during %s: got %v, want ErrBusy", e.Step, err)
		}
		if e.Step == StepStaging {
			if err := Apply(t.Context(), updatetest.OpenRoot(t, other), update, nil); err != nil {
				t.Errorf("Apply on another tree: %v", err)
			}
		}
	}})
	if err != nil || !seen[StepStaging] || !seen[StepCommitting] {
		t.Fatalf("got %v, steps %v", err, seen)
	}
	for _, d := range []string{dir, other} {
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, d), to); diff != "" {
			t.Error(diff)
		}
	}
	if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("afterwards: got %v, want that the update does not fit", err)
	}
}

// A journal is as hostile as everything else in a tree: what it names outside of the root is left alone.
func TestApplyHostileJournal(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	updatetest.Tree{"f": updatetest.File("outside")}.Write(t, outside)
	for i, j := range []string{
		`{"version":1,"files":[{"path":"../outside/f","staged":true}]}`,
		`{"version":1,"files":[{"path":"../outside/f","existed":true}]}`,
		`{"version":1,"files":[{"path":"link/f","staged":true}]}`,
		`{"version":1,"dirs":["../outside"]}`,
		`{"version":1,"update":"","rmdirs":["../outside","."]}`,
		`{"version":2}`,
		`{`,
	} {
		for _, name := range []string{journalFile, committedFile} {
			dir := filepath.Join(base, "root"+strconv.Itoa(i)+filepath.Base(name))
			updatetest.Tree{"a": updatetest.File("a"), name: updatetest.File(j), oldDir + "/0": updatetest.File("x")}.Write(t, dir)
			if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, "remove \"a\"\n", nil), nil)
			if diff := updatetest.DiffSnapshots(updatetest.Look(t, outside), updatetest.Tree{"f": updatetest.File("outside")}); diff != "" {
				t.Errorf("%s in %s: %s", j, name, diff)
			}
		}
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	t.Parallel()
	from, _, update := killCase(t)
	dir := t.TempDir()
	from.Write(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := Apply(ctx, updatetest.OpenRoot(t, dir), update, &ApplyOptions{Progress: func(Event) {
		if n++; n == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), from); diff != "" {
		t.Error(diff)
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	patch := func(old, new string) string {
		var b bytes.Buffer
		if err := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible}).Diff(context.Background(), &b, []byte(old), []byte(new)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	short := func(p string) string { // the declared size of the new file is one more than the steps give
		b := []byte(p)
		b[19]++
		return string(b)
	}
	tests := []struct {
		name, manifest string
		items          updatetest.Tree
		code           Code
	}{
		{"nothing", "type \"partial\"\n", nil, CodeNoActions},
		{"nothing but a missing directory", `rmrfdir "none/"`, nil, CodeNoActions},
		{"missing item", `add "x"`, nil, CodeCrash},
		{"missing patch", `patch "x" "a"`, nil, CodeCrash},
		{"second blank", `add  "x"`, updatetest.Tree{"x": updatetest.File("x")}, CodeCrash},
		{"two dots", `add "x..y"`, updatetest.Tree{"x..y": updatetest.File("x")}, CodeParse},
		{"file in the way", `add "a/b"`, updatetest.Tree{"a/b": updatetest.File("x")}, CodeWrite},
		{"directory in the way", `add "d"`, updatetest.Tree{"d": updatetest.File("x")}, 0},
		{"name of a directory", `add "x/"`, updatetest.Tree{"x": updatetest.File("x")}, CodeCrash},
		{"name of a directory, beyond a file", `add "a/b/c"`, updatetest.Tree{"a/b/c": updatetest.File("x")}, CodeWrite},
		{"file in the way of nothing", `add "a/b"`, nil, CodeCrash},
		{"remove a directory", `remove "d"`, nil, CodeExpectedFile},
		{"rmdir a file", `rmdir "a/"`, nil, CodeExpectedDir},
		{"nothing to patch", `patch "p" "none"`, updatetest.Tree{"p": updatetest.File(patch("a", "b"))}, CodeRead},
		{"patch of another size", `patch "p" "a"`, updatetest.Tree{"p": updatetest.File(patch("aaaa", "b"))}, CodeSourceSize},
		{"patch of another file", `patch "p" "a"`, updatetest.Tree{"p": updatetest.File(patch("x", "b"))}, CodeSourceCRC},
		{"no patch", `patch "p" "a"`, updatetest.Tree{"p": updatetest.File(strings.Repeat("x", 40))}, CodePatchFormat},
		{"short patch", `patch "p" "a"`, updatetest.Tree{"p": updatetest.File("MBDIFF10")}, CodeRead},
		{"lying patch", `patch "p" "a"`, updatetest.Tree{"p": updatetest.File(short(patch("a", "ab")))}, 0},
		{"Apply's own directory", `add "` + WorkDir + `/x"`, updatetest.Tree{WorkDir + "/x": updatetest.File("x")}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			updatetest.Tree{"a": updatetest.File("a"), "d/f": updatetest.File("f")}.Write(t, dir)
			before := updatetest.Look(t, dir)
			err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, tt.manifest, tt.items), nil)
			var ue *UpdateError
			if !errors.As(err, &ue) || ue.Code != tt.code {
				t.Errorf("got %v, want an *UpdateError with code %d", err, tt.code)
			}
			if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), before); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Habits of the updater that a tree shows.
func TestApplyFollowsTheUpdater(t *testing.T) {
	t.Parallel()
	file := updatetest.File
	tests := []struct {
		name, manifest string
		change         updatetest.Tree // of the tree below; "" removes
		err            Code
	}{
		{"rmrfdir removes a file", `rmrfdir "a/"`, updatetest.Tree{"a": ""}, 0},
		{"rmdir behind what empties the directory", "remove \"d/f\"\nrmdir \"d/\"", updatetest.Tree{"d/": "", "d/f": ""}, 0},
		{"rmdir before what empties the directory", "rmdir \"d/\"\nremove \"d/f\"", updatetest.Tree{"d/f": ""}, 0},
		{"a file that is added and removed has no old one", "add \"e/x\"\nrmdir \"e/\"\nremove \"a\"", updatetest.Tree{"e/x": file("new"), "a": ""}, 0},
		{"an empty directory becomes a file", `add "e"`, updatetest.Tree{"e/": "", "e": file("new")}, 0},
		{"a file is not there with a slash behind", "remove \"a/\"\nadd-if \"a/\" \"x\"\nadd-if-not \"a/\" \"y\"", updatetest.Tree{"y": file("new")}, 0},
		{"a directory is", "add-if \"d/\" \"x\"", updatetest.Tree{"x": file("new")}, 0},
		{"rmrfdir meets a name with two dots", `rmrfdir "dots/"`, nil, CodeParse},
		{"rmrfdir cuts a name at a quote", `rmrfdir "quote/"`, updatetest.Tree{"quote/x": ""}, 0},
		{"a later failure counts before a directory in the way", "add \"d\"\nremove \"e\"", nil, CodeExpectedFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := testkit.MemoryDir(t)
			updatetest.Tree{
				"a": file("a"), "d/": "", "d/f": file("f"), "e/": "", "dots/": "", "dots/x..y": file("x"),
				"quote/": "", "quote/x\"y": file("xy"), "quote/x": file("x"),
			}.Write(t, dir)
			want := updatetest.Look(t, dir)
			for n, v := range tt.change {
				if v == "" {
					delete(want, n)
				} else {
					want[n] = v
				}
			}
			items := updatetest.Tree{}
			for _, n := range []string{"e", "e/x", "x", "y", "d"} {
				if strings.Contains(tt.manifest, strconv.Quote(n)) {
					items[n] = file("new")
				}
			}
			err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, tt.manifest, items), nil)
			var ue *UpdateError
			if tt.err != 0 && (!errors.As(err, &ue) || ue.Code != tt.err) || tt.err == 0 && err != nil {
				t.Errorf("got %v, want code %d", err, tt.err)
			}
			if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Links: a link is replaced, not followed; a directory behind a link is used if it is inside and refused if it is not.
func TestApplyLinks(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	updatetest.Tree{"f": updatetest.File("outside")}.Write(t, outside)
	fresh := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		updatetest.Tree{"target": updatetest.File("t"), "real/f": updatetest.File("f")}.Write(t, dir)
		for link, to := range map[string]string{"link": "target", "out": filepath.Join(outside, "f"), "dir": "real", "outdir": outside} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	dir := fresh(t)
	items := updatetest.Tree{"link": updatetest.File("new"), "out": updatetest.File("new"), "dir/f": updatetest.File("new"), "dir/g": updatetest.File("new")}
	manifest := "add \"link\"\nadd \"out\"\nadd \"dir/f\"\nadd \"dir/g\"\n"
	if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, manifest, items), nil); err == nil {
		t.Error("a link that leads out of the tree was looked through")
	}
	if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, "add \"link\"\nadd \"dir/f\"\nadd \"dir/g\"\n", items), nil); err != nil {
		t.Fatal(err)
	}
	got := updatetest.Look(t, dir)
	want := updatetest.Look(t, fresh(t))
	want["link"], want["real/f"], want["real/g"] = updatetest.File("new"), updatetest.File("new"), updatetest.File("new")
	if diff := updatetest.DiffSnapshots(got, want); diff != "" {
		t.Error(diff)
	}
	for _, manifest := range []string{"add \"outdir/x\"\n", "remove \"outdir/f\"\n", "rmrfdir \"outdir/\"\n", "patch \"p\" \"outdir/f\"\n", "patch \"p\" \"out\"\n"} {
		dir := fresh(t)
		before := updatetest.Look(t, dir)
		if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), updatetest.Archive(t, manifest, updatetest.Tree{"outdir/x": updatetest.File("x"), "p": updatetest.File("p")}), nil); err == nil {
			t.Errorf("%s was applied", manifest)
		}
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), before); diff != "" {
			t.Error(diff)
		}
	}
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, outside), updatetest.Tree{"f": updatetest.File("outside")}); diff != "" {
		t.Error(diff)
	}
}

// Two patches of one file work one after the other, as in the updater.
func TestApplyChainsOfPatches(t *testing.T) {
	t.Parallel()
	d := bsdiff.New(bsdiff.Options{Match: bsdiff.Compatible})
	var p1, p2, p3 bytes.Buffer
	for _, s := range []struct {
		b        *bytes.Buffer
		old, new string
	}{{&p1, "one", "two"}, {&p2, "two", "three"}, {&p3, "fresh", "patched"}} {
		if err := d.Diff(t.Context(), s.b, []byte(s.old), []byte(s.new)); err != nil {
			t.Fatal(err)
		}
	}
	from := updatetest.Tree{"f": updatetest.Program("one")}
	update := updatetest.Archive(t, "patch \"p1\" \"f\"\npatch \"p2\" \"f\"\nadd \"g\"\npatch \"p3\" \"g\"\n", updatetest.Tree{
		"p1": updatetest.File(p1.String()), "p2": updatetest.File(p2.String()), "p3": updatetest.File(p3.String()), "g": updatetest.Program("fresh"),
	})
	dir := t.TempDir()
	from.Write(t, dir)
	if err := Apply(t.Context(), updatetest.OpenRoot(t, dir), update, nil); err != nil {
		t.Fatal(err)
	}
	want := updatetest.Tree{"f": updatetest.Program("three"), "g": updatetest.Program("patched")}
	if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), want); diff != "" {
		t.Error(diff)
	}
}

// Whatever an update says, nothing outside of the tree changes, and the tree is the old one after an error.
func FuzzApply(f *testing.F) {
	for _, s := range []string{
		"add \"../outside/f\"\n", "add \"x\"\n", "remove \"d/../../outside/f\"\n", "rmrfdir \"d/\"\n", "rmrfdir \"./\"\n", "add \"link/x\"\n",
		"remove \"link/f\"\n", "rmrfdir \"link/\"\n", "patch \"p\" \"link/f\"\n", "patch \"p\" \"a\"\n", "add-if \"link/f\" \"x\"\n",
		"type \"complete\"\nadd \"x\"\n", "remove \"a\"\nadd \"a/b\"\n", "add \"./d//x\"\n", "rmdir \"d/\"\n", "remove \"link\"\nadd \"link/x\"\n",
	} {
		f.Add(s, []byte("data"), "x")
	}
	f.Fuzz(func(t *testing.T, manifest string, data []byte, name string) {
		base := t.TempDir()
		dir, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
		updatetest.Tree{"a": updatetest.File("a"), "d/f": updatetest.File("f"), "precomplete": updatetest.File("remove \"a\"\n")}.Write(t, dir)
		updatetest.Tree{"f": updatetest.File("outside")}.Write(t, outside)
		if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		a := &mar.Archive{Product: updatetest.TestProduct}
		seen := map[string]bool{}
		for _, n := range []string{ManifestV3.Name(), "x", "link/x", "p", "a/b", name} {
			content := data
			if n == ManifestV3.Name() {
				content = []byte(manifest)
			}
			if !seen[n] {
				a.Entries = append(a.Entries, mar.BytesEntry(n, 0o755, updatetest.Compress(t, content)))
			}
			seen[n] = true
		}
		if _, err := a.WriteTo(&buf); err != nil {
			return
		}
		r, err := mar.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), nil)
		if err != nil {
			return
		}
		before := updatetest.Look(t, dir)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		err = Apply(t.Context(), root, r, &ApplyOptions{Limits: Limits{Member: 1 << 20}})
		if diff := updatetest.DiffSnapshots(updatetest.Look(t, outside), updatetest.Tree{"f": updatetest.File("outside")}); diff != "" {
			t.Fatal(diff)
		}
		if left(dir) {
			t.Fatalf("the work directory is left: %v", err)
		}
		if err != nil {
			if diff := updatetest.DiffSnapshots(updatetest.Look(t, dir), before); diff != "" {
				t.Fatalf("%v, and\n%s", err, diff)
			}
		}
	})
}

func sharedUpdater(tb testing.TB) string {
	tb.Helper()
	return testkit.Shared(tb, "testdata", "updater")
}

// Apply asks the client that it is given before anything changes, and only then.
func TestApplyAsksTheClient(t *testing.T) {
	t.Parallel()
	const manifest = "type \"partial\"\nadd \"a\"\n"
	yes := true
	update := updatetest.Archive(t, manifest, updatetest.Tree{"a": updatetest.File("new")})
	lost := updatetest.Archive(t, "type \"partial\"\nremove \"update-settings.ini\"\n", nil)
	var diff bytes.Buffer
	if err := bsdiff.New(bsdiff.Options{}).Diff(t.Context(), &diff, []byte("old"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	patched := updatetest.Archive(t, "type \"partial\"\npatch \"a.patch\" \"a\"\n", updatetest.Tree{"a.patch": updatetest.File(diff.String())})
	for _, tt := range []struct {
		name   string
		update *mar.Reader
		claims Claims
		skip   []Check
		want   Code
	}{
		{"takes it", update, Claims{Verifies: &yes, Version: "1.0", Channels: []string{"test"}}, nil, 0},
		{"another channel", update, Claims{Verifies: &yes, Channels: []string{"other"}}, nil, CodeChannel},
		{"left out", update, Claims{Verifies: &yes, Channels: []string{"other"}}, []Check{CheckClientChannel}, 0},
		{"newer", update, Claims{Verifies: &yes, Version: "3.0"}, nil, CodeDowngrade},
		{"perhaps verifies", update, Claims{Version: "3.0", Channels: []string{"other"}}, nil, 0},
		{"loses its settings", lost, Claims{Verifies: &yes, Settings: "update-settings.ini"}, nil, CodeSettings},
		{"settings left out", lost, Claims{Verifies: &yes, Settings: "update-settings.ini"}, []Check{CheckSettings}, 0},
		{"looks for another manifest", update, Claims{Manifests: []ManifestVersion{ManifestV2}}, nil, CodeCrash},
		{"whatever it looks for", update, Claims{Manifests: []ManifestVersion{ManifestV2}}, []Check{CheckManifests}, 0},
		{"reads xz", update, Claims{Members: []MemberFormat{FormatXZ}}, nil, 0},
		{"whatever it reads", update, Claims{Members: []MemberFormat{FormatBzip2}}, []Check{CheckMembers}, 0},
		{"applies no such patch", patched, Claims{Patches: []string{PatchZucchini}}, nil, CodePatchFormat},
		{"applies it", patched, Claims{Patches: []string{PatchMBDIFF10}}, nil, 0},
		{"reads bzip2 alone", update, Claims{Members: []MemberFormat{FormatBzip2}}, nil, CodeXZ},
	} {
		c, err := NewClient(tt.claims, Claims{}, Claims{}, TrustNeither)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, name := range []string{"a", "update-settings.ini"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err = Apply(t.Context(), updatetest.OpenRoot(t, dir), tt.update, &ApplyOptions{Client: c, Skip: tt.skip})
		var code Code
		var refused *ClientError
		var ue *UpdateError
		switch {
		case errors.As(err, &refused):
			code = refused.Verdicts[0].Code
		case errors.As(err, &ue):
			code = ue.Code
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		}
		if code != tt.want {
			t.Errorf("%s: got %v, want code %d", tt.name, err, tt.want)
		}
		left, err := os.ReadFile(filepath.Join(dir, "a"))
		_, gone := os.Stat(filepath.Join(dir, "update-settings.ini"))
		if changed := string(left) == "new" || gone != nil; err != nil || changed != (tt.want == 0) {
			t.Errorf("%s: the tree is changed: %v, %v", tt.name, changed, err)
		}
	}
}

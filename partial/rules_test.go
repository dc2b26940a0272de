package partial

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func TestAddInstruction(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"a", `add "a"`},
		{"channel-prefs.js", `add-if-not "channel-prefs.js" "channel-prefs.js"`},
		{"defaults/pref/channel-prefs.js", `add-if-not "defaults/pref/channel-prefs.js" "defaults/pref/channel-prefs.js"`},
		{"xchannel-prefs.js", `add "xchannel-prefs.js"`},
		{"a/update-settings.ini", `add-if-not "a/update-settings.ini" "a/update-settings.ini"`},
		{"ChannelPrefs.framework/x", `add-if-not "ChannelPrefs.framework/x" "ChannelPrefs.framework/x"`},
		{"a/UpdateSettings.framework/b/c", `add-if-not "a/UpdateSettings.framework/b/c" "a/UpdateSettings.framework/b/c"`},
		{"xChannelPrefs.framework/x", `add "xChannelPrefs.framework/x"`},
		{"distribution/extensions/top.xpi", `add "distribution/extensions/top.xpi"`},
		{"distribution/extensions/e/f", `add-if "distribution/extensions/e" "distribution/extensions/e/f"`},
		{"distribution/extensions/e/f/g", `add-if "distribution/extensions/e" "distribution/extensions/e/f/g"`},
		{"x/mydistribution/extensions/e/f", `add-if "x/mydistribution/extensions/e" "x/mydistribution/extensions/e/f"`},
		{"distribution/extensions/a/distribution/extensions/b/c", `add-if "distribution/extensions/a/distribution/extensions/b" "distribution/extensions/a/distribution/extensions/b/c"`},
		{"distribution/extensions/a/distribution/extensions/c", `add-if "distribution/extensions/a" "distribution/extensions/a/distribution/extensions/c"`},
	}
	for _, tt := range tests {
		if got := addInstruction(tt.name).String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	if got, want := patchInstruction("distribution/extensions/e/f", "i").String(), `patch-if "distribution/extensions/e" "i" "distribution/extensions/e/f"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestForced(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"precomplete", "Contents/Resources/precomplete", "removed-files", "Contents/Resources/removed-files", "Contents/CodeResources",
		"libnss3.chk", "a/b.chk", "Contents/MacOS/firefox", "force.txt",
	} {
		if _, ok := forced(name, []string{"force.txt"}); !ok {
			t.Errorf("%s is not forced", name)
		}
	}
	for _, name := range []string{"a/precomplete", "x.chk.txt", "a.chk/b.so", "a/force.txt", "firefox"} {
		if why, ok := forced(name, []string{"force.txt"}); ok {
			t.Errorf("%s is forced: %s", name, why)
		}
	}
}

// A path of the force list that does nothing is noted, and changes nothing.
func TestForceOfNoFile(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"a": updatetest.File("1"), "gone": updatetest.File("g")}, updatetest.Tree{"a": updatetest.File("1"), "b": updatetest.File("2")})
	for _, rules := range []Rules{RulesStrict, RulesScripts} {
		r := fastRecipe(rules)
		_, plain, _ := build(t, from, to, r, nil)
		r.Force = []string{"gone", "a/", "b"}
		_, text, rep := build(t, from, to, r, nil)
		if text != plain {
			t.Errorf("%s: got\n%s\nwant\n%s", rules, text, plain)
		}
		for name, want := range map[string]bool{"gone": true, "a/": true, "b": false} {
			if got := has(rep.Findings, KindForce, Note, name); got != want {
				t.Errorf("%s: %q is noted: %v, want %v", rules, name, got, want)
			}
		}
	}
}

func TestRemovedFiles(t *testing.T) {
	t.Parallel()
	text := "a\n# comment\tx\n\n  b  c \r\nd/\ne/*\n\tf\nn\u00a0b\nd\u3000x/*\npipe|name\nzz\n"
	for _, tt := range []struct {
		scripts bool
		want    []string
	}{
		// "  b" sorts by its bars, behind every letter; the bar of a name stays one
		{false, []string{`remove "b c"`, `remove "zz"`, `remove "pipe|name"`, "remove \"n\u00a0b\"", `rmrfdir "e/"`, "rmrfdir \"d\u3000x/\"", `rmdir "d/"`, `remove "a"`, `remove "f"`}},
		// the shell splits a comment at its tab, and makes every bar a blank
		{true, []string{`remove "b c"`, `remove "zz"`, `remove "pipe name"`, "remove \"n\u00a0b\"", `rmrfdir "e/"`, "rmrfdir \"d\u3000x/\"", `rmdir "d/"`, `remove "a"`, `remove "x"`, `remove "f"`}},
	} {
		var got []string
		for _, i := range removedFiles([]byte(text), tt.scripts) {
			got = append(got, i.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("scripts %v:\ngot  %q\nwant %q", tt.scripts, got, tt.want)
		}
	}
}

func TestRemovedFilesOfTheReference(t *testing.T) {
	t.Parallel()
	dir := testkit.Shared(t, "testdata", "packaging", "to")
	text, err := os.ReadFile(filepath.Join(dir, "removed-files"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, i := range removedFiles(text, true) {
		b.WriteString(i.String() + "\n")
	}
	want := `remove "this file has spaces"
remove "removed3-foo.txt"
remove "removed2.bin"
remove "removed1.txt"
rmrfdir "recursivedir/meh/"
rmdir "notherdir/"
remove "lastFile"
remove "extra-spaces"
rmdir "dir/"
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestPrecomplete(t *testing.T) {
	t.Parallel()
	names := []string{
		"a", "b/c/d", "defaults/pref/channel-prefs.js", "update-settings.ini", "distribution/extensions/e/f", "precomplete",
		"x/UpdateSettings.framework/y", "b/e",
	}
	want := "remove \"precomplete\"\nremove \"b/e\"\nremove \"b/c/d\"\nremove \"a\"\n" +
		"rmdir \"x/\"\nrmdir \"defaults/pref/\"\nrmdir \"defaults/\"\nrmdir \"b/c/\"\nrmdir \"b/\"\n"
	if got := precomplete(names); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !slices.Equal(names[:2], []string{"a", "b/c/d"}) {
		t.Error("the names were reordered")
	}
}

func TestVersionTwo(t *testing.T) {
	t.Parallel()
	list := []updater.Instruction{addInstruction("a"), addInstruction("update-settings.ini"), addInstruction("channel-prefs.js")}
	complete := (&updater.Manifest{Instructions: versionTwo(list, true)}).String()
	if want := "add \"a\"\nadd \"update-settings.ini\"\n"; complete != want {
		t.Errorf("got %q, want %q", complete, want)
	}
	partial := (&updater.Manifest{Instructions: versionTwo(list, false)}).String()
	if want := "add \"a\"\n"; partial != want {
		t.Errorf("got %q, want %q", partial, want)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, platform string
		broken         Kind
	}{
		{"a/b", "", ""},
		{"a b", "", ""},
		{"é", "", ""},
		{"$x`", "", ""},
		{"a:b", PlatformLinux, ""},
		{"CON.", PlatformLinux, ""},
		{"", "", KindName},
		{`a"b`, "", KindName},
		{"a\nb", "", KindName},
		{"a\rb", "", KindName},
		{"/a", "", KindName},
		{"./a", "", KindName},
		{"a//b", "", KindName},
		{"a/", "", KindName},
		{"foo..bar", "", KindName},
		{`a\b`, "", KindName},
		{`a\b`, PlatformLinux, KindName},
		{"a\xff", PlatformLinux, KindName},
		{"c:b", "", KindName},
		{"a?b", PlatformWindows, KindName},
		{"a.", PlatformWindows, KindName},
		{"a.", "", KindName},
		{"a ", PlatformWindows, KindName},
		{"a\u00a0", PlatformWindows, ""},
		{"con.txt", PlatformWindows, KindName},
		{"con.txt", "", KindName},
		{"con.txt", PlatformMacOS, ""},
		{"aux/x", PlatformWindows, KindName},
		{"x/Com1.dll", PlatformWindows, KindName},
		{`\\srv\x`, PlatformWindows, KindName},
		{`C:\x`, PlatformWindows, KindName},
		{"x.moz-draft", "", KindName},
		{"x.MOZ-Draft", PlatformWindows, KindName},
		{"x.MOZ-Draft", PlatformLinux, ""},
		{"a\tb", PlatformLinux, KindName},
		{"x.moz-backup", "", KindName},
		{updater.WorkDir + "/x", "", KindName},
		{strings.Repeat("a", 244), PlatformLinux, ""},
		{strings.Repeat("a", 245), PlatformLinux, KindPathLength},
		{strings.Repeat("a/", 400) + "a", PlatformLinux, KindPathLength},
		{strings.Repeat("a/", 100) + "a", PlatformWindows, KindPathLength},
	}
	for _, tt := range tests {
		got := Kind("")
		if list := findings(checkName(tt.name, tt.platform, false)).broken(); len(list) > 0 {
			got = list[0].Kind
		}
		if got != tt.broken {
			t.Errorf("%.40q on %q: got %q, want %q", tt.name, tt.platform, got, tt.broken)
		}
	}
	if list := checkName(" a", PlatformLinux, true); len(list) != 1 || list[0].Severity != Note {
		t.Errorf("blank at the start: got %v, want one note", list)
	}
}

func TestCheckSpelling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		names    []string
		platform string
		want     int
		severity Severity
	}{
		{[]string{"a", "b"}, "", 0, ""},
		{[]string{"a", "A"}, "", 1, Broken},
		{[]string{"a", "A"}, PlatformLinux, 1, Note},
		{[]string{"É", "é"}, PlatformWindows, 1, Broken},
		{[]string{"d/a", "D/b"}, PlatformMacOS, 1, Broken},
		{[]string{"d/a", "D"}, PlatformMacOS, 1, Broken},
		{[]string{"é", "e\u0301"}, "", 1, Broken},
		{[]string{"é", "e\u0301"}, PlatformMacOS, 1, Broken},
		{[]string{"É/a", "e\u0301/b"}, PlatformMacOS, 1, Broken},
		{[]string{"é", "e\u0301"}, PlatformWindows, 0, ""},
		{[]string{"é", "e\u0301"}, PlatformLinux, 0, ""},
	}
	for _, tt := range tests {
		got := checkSpelling(tt.names, tt.platform)
		if len(got) != tt.want || len(got) > 0 && got[0].Severity != tt.severity {
			t.Errorf("%q on %q: got %v, want %d of severity %s", tt.names, tt.platform, got, tt.want, tt.severity)
		}
	}
}

func TestErrorsRead(t *testing.T) {
	t.Parallel()
	err := error(&updater.UpdateError{Code: updater.CodeRead, Line: 3, Op: updater.OpAdd, Path: "a", Err: errors.New("no such item")})
	if got, want := err.Error(), `manifest line 3: add "a": no such item (the updater reports "failed: 6")`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	refused := error(&RefusedError{Findings: []Finding{{Path: "a", Message: "is bad", WayOut: "make it good"}}})
	if !errors.Is(refused, ErrRefused) || !bytes.Contains([]byte(refused.Error()), []byte(`"a" is bad (make it good)`)) {
		t.Errorf("got %v", refused)
	}
}

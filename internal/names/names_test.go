package names

import (
	"strings"
	"testing"
)

func TestWindowsReason(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Reason{
		"a": Fine, "dir/a b": Fine, "": Fine, ".a": Fine, "..": Fine, "./x": Fine, "é": Fine, "C": Fine,
		"c:": Drive, "C:/x": Drive, `C:\x`: Drive, "1:x": Drive,
		`\x`: Root, `\\srv\share\x`: Root,
		`a\b`: Backslash, `a/b\`: Backslash,
		"a\tb": Signs, "a\x7f": Signs, "a\u0085b": Fine,
		"aa:b": Sign, "a*": Sign, "a<b": Sign, "a|b": Sign, `a"b`: Sign, "x/a?": Sign,
		"a.": Ending, "a ": Ending, "a. /b": Ending, "d./x": Ending, "a\u00a0": Fine,
		"con": Device, "x/CON": Device, "con.txt": Device, "con .txt": Device, "CONx": Fine, "COM": Fine, "COM1": Device, "com10": Fine,
		"lpt9/x": Device, "lpt": Fine, "NUL.tar.gz": Device, "aux/x": Device, "conin$": Device, "xcom1": Fine, "com²": Device, "prn": Device,
	} {
		if got := WindowsReason(name); got != want {
			t.Errorf("%q: got %d (%v), want %d", name, got, got, want)
		}
		if got := WindowsReason(name).String() == ""; got != (want == Fine) {
			t.Errorf("%q: its reason has the text %q", name, want)
		}
	}
	if !Drive.Refused() || !Root.Refused() || Backslash.Refused() || Fine.Refused() {
		t.Error("the updater refuses drives and roots, and nothing else")
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	names := []string{"k", "K", "\u212a", "ſ", "s", "S", "σ", "ς", "Σ", "a/b", "A/B", "straße", "x"}
	for _, a := range names {
		for _, b := range names {
			if got := Fold(a) == Fold(b); got != strings.EqualFold(a, b) {
				t.Errorf("%q and %q: got %v", a, b, got)
			}
		}
	}
}

func TestElements(t *testing.T) {
	t.Parallel()
	if n, long := LongElement("ab/abcd/abcde", 3); n != 4 || !long {
		t.Errorf("got %d, %v", n, long)
	}
	if n, long := LongElement("abc/abc", 3); n != 0 || long {
		t.Errorf("got %d, %v", n, long)
	}
	for name, want := range map[string]bool{"": true, "a/b": true, "é": false, "\xff": false} {
		if ASCII(name) != want {
			t.Errorf("%q: got ASCII %v", name, !want)
		}
	}
	for _, name := range []string{`a"`, "a\n", "a\r", "a\x00"} {
		if !Unquotable(name) {
			t.Errorf("%q can be quoted", name)
		}
	}
	if Unquotable("a b'\\") || !Dots("a..b") || Dots("a.b.") || !OnWindows("") || OnWindows(MacOS) || OnWindows(Linux) || !OnWindows(Windows) {
		t.Error("wrong about names that do")
	}
}

func FuzzWindowsReason(f *testing.F) {
	for _, s := range []string{"a", "con.txt", `\\x`, "c:", "a. ", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if Fold(Fold(name)) != Fold(name) {
			t.Errorf("%q is folded again", name)
		}
		// case does not matter to Windows
		if a, b := WindowsReason(name), WindowsReason(strings.ToLower(name)); a != b && ASCII(name) {
			t.Errorf("%q: got %v, in lower case %v", name, a, b)
		}
	})
}

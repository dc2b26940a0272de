package mar

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func codes(problems []Problem) []Code {
	var out []Code
	for _, p := range problems {
		out = append(out, p.Code)
	}
	slices.Sort(out)
	return out
}

// One file with many problems: all are found, not the first.
func TestLintFindsAll(t *testing.T) {
	t.Parallel()
	data := bytesOf(func(a *raw) {
		a.total = func(int64) uint64 { return 1 }
		a.trailing = []byte("x")
		a.sigs = []rawSig{{alg: 1, data: make([]byte, 256)}, {alg: 9, data: make([]byte, 3)}}
		a.sections = []rawSection{{id: 3, data: []byte("abc")}, product("release", "1.0", 10)}
		a.entries = []rawEntry{
			file("../up", "one"), file("DIR/a", "two"), file("dir/a", "three"), file("dir/a", "four"), file("dir/a/b", "five"),
			file("caf\u00e9..\"?", "six"), file("", "seven"), file("empty", ""), file("last", "eight"),
		}
		a.entries[1].flags = 0o4055
		a.entries[8].offset = func(at, _ int64) int64 { return at - 1 }
	})
	got := codes(Lint(bytes.NewReader(data), int64(len(data)), nil))
	want := []Code{
		CodeSize, CodeTrailing, CodeSignatureCount, CodeSignatureAlgorithm, CodeSignatureAlgorithm, CodeUnknownSection, CodeHiddenProduct, CodeNoProduct,
		CodeName, CodeName, CodeCase, CodeDuplicate, CodeConflict, CodeDots, CodeQuote, CodeNonASCII, CodeWindowsName, CodeEmptyFile, CodeMode,
		CodeUnreadable, CodeOverlap, CodeGap, CodeNoManifest,
	}
	// Of "dir/a" twice, each is a problem of case with "DIR/a" where it follows it.
	slices.Sort(want)
	if !slices.Equal(slices.Compact(slices.Clone(got)), slices.Compact(slices.Clone(want))) {
		t.Errorf("got %v, want %v", got, want)
	}
	ignored := Lint(bytes.NewReader(data), int64(len(data)), &LintOptions{Ignore: want})
	if len(ignored) != 0 {
		t.Errorf("got %v with everything ignored", ignored)
	}
}

func TestLintAccepts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	signer := fixedSigner{info: SignerInfo{Algorithm: RSAPKCS1SHA384, SignatureSize: 512}}
	if _, err := sampleWithoutEmpty().WriteReserved(t.Context(), &out, signer.info); err != nil {
		t.Fatal(err)
	}
	if got := Lint(bytes.NewReader(out.Bytes()), int64(out.Len()), nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func sampleWithoutEmpty() *Archive {
	a := sample()
	a.Entries = a.Entries[:2]
	return a
}

func TestLintLimits(t *testing.T) {
	t.Parallel()
	a := valid()
	for range 5000 {
		a.entries = append(a.entries, file("../x", "y"))
	}
	data := a.bytes()
	for limit, want := range map[int]int{0: 1000, 1: 1, 7: 7, -1: 1000} {
		got := Lint(bytes.NewReader(data), int64(len(data)), &LintOptions{Max: limit})
		if len(got) != want || got[want-1].Code != CodeMore {
			t.Errorf("limit %d: got %d problems, the last %v", limit, len(got), got[len(got)-1])
		}
	}
	got := Lint(bytes.NewReader(data), int64(len(data)), &LintOptions{Limits: Limits{FileSize: 100, Entries: -1}})
	if len(got) != 1 || got[0].Code != CodeRead {
		t.Errorf("impossible limits: got %v", got)
	}
	got = Lint(bytes.NewReader(data), int64(len(data)), &LintOptions{Limits: Limits{FileSize: 100}, Max: 10})
	if got[0].Code != CodeLimit || len(got) != 10 {
		t.Errorf("a file over the limit: got %v", got)
	}
}

func TestProblemForms(t *testing.T) {
	t.Parallel()
	p := Problem{Code: CodeName, Offset: 7, Name: "../x", Detail: "name is bad", Refused: true, Others: true}
	if got, want := p.String(), `offset 7: entry "../x": name is bad (name, refused, others)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got, err := json.Marshal(p)
	if want := `{"code":"name","offset":7,"name":"../x","detail":"name is bad","refused":true,"updater":false,"others":true}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestWindowsNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": false, "con": true, "x/CON": true, "con.txt": true, "con .txt": true, "CONx": false, "COM": false, "COM1": true, "com10": false,
		"lpt9/x": true, "lpt": false, "NUL.tar.gz": true, "a.": true, "a ": true, "a. /b": true, ".a": false, "a:b": true, "a*": true, "a<b": true, "conin$": true,
		"xcom1": false, "..": false,
	} {
		if got := windowsName(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func TestFoldCase(t *testing.T) {
	t.Parallel()
	names := []string{"k", "K", "\u212a", "ſ", "s", "S", "σ", "ς", "Σ", "a/b", "A/B", "straße", "x"}
	for _, a := range names {
		for _, b := range names {
			if got := foldCase(a) == foldCase(b); got != strings.EqualFold(a, b) {
				t.Errorf("%q and %q: got %v", a, b, got)
			}
		}
	}
}

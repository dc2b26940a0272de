package mar

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// Exactly these problems, and who minds them: r a strict reader, u the updater, o others.
func TestLintExactly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*raw)
		want   []string
	}{
		"unsigned":     {func(*raw) {}, []string{"unsigned 16 u"}},
		"original":     {func(a *raw) { a.layout = LayoutOriginal }, []string{"layout 0 u"}},
		"no sections":  {func(a *raw) { a.layout = LayoutNoSections }, []string{"unsigned 16 u", "layout 0 uo", "no-product 20 u"}},
		"no product":   {func(a *raw) { a.sections = nil }, []string{"unsigned 16 u", "no-product 24 u"}},
		"other first":  {func(a *raw) { a.sections = append([]rawSection{{id: 2}}, a.sections...) }, []string{"unsigned 16 u", "unknown-section 24 ", "hidden-product 32 uo", "no-product 136 u"}},
		"product last": {func(a *raw) { a.sections = append(a.sections, a.sections[0]) }, []string{"unsigned 16 u", "hidden-product 128 o"}},
		"two signatures": {
			func(a *raw) { a.sigs = slices.Repeat([]rawSig{{alg: 2, data: make([]byte, 512)}}, 2) },
			[]string{"signature-count 16 u"},
		},
		"short signature":   {func(a *raw) { a.sigs = []rawSig{{alg: 2, data: make([]byte, 256)}} }, []string{"signature-algorithm 20 u"}},
		"SHA-1":             {func(a *raw) { a.sigs = []rawSig{{alg: 1, data: make([]byte, 512)}} }, []string{"signature-algorithm 20 u"}},
		"trailing":          {func(a *raw) { a.trailing = []byte("x") }, []string{"trailing 224 r", "unsigned 16 u"}},
		"size":              {func(a *raw) { a.total = func(int64) uint64 { return 7 } }, []string{"size 8 ro", "unsigned 16 u"}},
		"setuid":            {func(a *raw) { a.entries[1].flags = 0o4644 }, []string{"mode 188 ru", "unsigned 16 u"}},
		"duplicate":         {func(a *raw) { a.entries[2].name = "dir/one" }, []string{"duplicate 208 ro", "unsigned 16 u"}},
		"conflict":          {func(a *raw) { a.entries[2].name = "dir" }, []string{"conflict 208 ruo", "unsigned 16 u"}},
		"name":              {func(a *raw) { a.entries[2].name = "../x" }, []string{"name 208 ruo", "unsigned 16 u"}},
		"overlap":           {func(a *raw) { a.entries[2].offset = func(at, _ int64) int64 { return at - 1 } }, []string{"overlap 208 ruo", "unsigned 16 u", "gap 153 "}},
		"overlap of index":  {func(a *raw) { a.entries[2].size = u32(7) }, []string{"overlap 208 ro", "unsigned 16 u"}},
		"in the header":     {func(a *raw) { a.entries[2].offset = func(int64, int64) int64 { return 2 } }, []string{"range 208 ro"}},
		"behind the file":   {func(a *raw) { a.entries[2].size = u32(1 << 30) }, []string{"range 208 ruo", "overlap 208 ro", "unsigned 16 u", "gap 148 "}},
		"product too long":  {func(a *raw) { a.sections[0] = product(strings.Repeat("c", 64), "1", 96) }, []string{"product 32 ru", "unsigned 16 u", "no-product 128 u"}},
		"too many sections": {func(a *raw) { a.secCount = u32(65) }, []string{"limit 20 r"}},
		"9 signatures":      {func(a *raw) { a.sigCount = u32(9) }, []string{"limit 16 ru"}},
		"no entries":        {func(a *raw) { a.entries = nil }, []string{"empty 128 ru", "no-manifest 128 u", "unsigned 16 u"}},
		"no manifest":       {func(a *raw) { a.entries[0].name = "x" }, []string{"no-manifest 154 u", "unsigned 16 u"}},
		"empty file":        {func(a *raw) { a.entries[2].data = nil }, []string{"empty-file 202 u", "unsigned 16 u"}},
		"dots":              {func(a *raw) { a.entries[2].name = "a..b" }, []string{"dots 208 u", "unsigned 16 u"}},
		"quote":             {func(a *raw) { a.entries[2].name = `"` }, []string{"quote 208 u", "windows-name 208 o", "unsigned 16 u"}},
		"not ASCII":         {func(a *raw) { a.entries[2].name = "é" }, []string{"non-ascii 208 o", "unsigned 16 u"}},
		"Windows":           {func(a *raw) { a.entries[2].name = "nul" }, []string{"windows-name 208 o", "unsigned 16 u"}},
		"259 bytes":         {func(a *raw) { a.entries[2].name = strings.Repeat("d/", 50) + strings.Repeat("x", 159) }, []string{"unsigned 16 u"}},
		"260 bytes":         {func(a *raw) { a.entries[2].name = strings.Repeat("d/", 50) + strings.Repeat("x", 160) }, []string{"long-name 208 uo", "unsigned 16 u"}},
		"element of 256":    {func(a *raw) { a.entries[2].name = "a/" + strings.Repeat("x", 256) }, []string{"long-name 208 uo", "unsigned 16 u"}},
		"element of 255":    {func(a *raw) { a.entries[2].name = "a/" + strings.Repeat("x", 255) }, []string{"unsigned 16 u"}},
		"case":              {func(a *raw) { a.entries[2].name = "DIR/One" }, []string{"case 188 o", "unsigned 16 u"}},
		"unreadable":        {func(a *raw) { a.entries[2].flags = 0o377 }, []string{"unreadable 208 uo", "unsigned 16 u"}},
		"gap":               {func(a *raw) { a.entries[1].size = u32(1) }, []string{"unsigned 16 u", "gap 144 "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := bytesOf(tt.change)
			var got []string
			for _, p := range Lint(bytes.NewReader(data), int64(len(data)), nil) {
				who := ""
				for _, w := range []struct {
					is   bool
					name string
				}{{p.Refused, "r"}, {p.Updater, "u"}, {p.Others, "o"}} {
					if w.is {
						who += w.name
					}
				}
				got = append(got, fmt.Sprintf("%s %d %s", p.Code, p.Offset, who))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
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

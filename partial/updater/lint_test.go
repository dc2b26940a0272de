package updater_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"

	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
)

// Every member and every manifest is looked at, and each finding has the updater's number.
func TestLint(t *testing.T) {
	t.Parallel()
	good := updatetest.Compress(t, []byte(strings.Repeat("some text ", 100)))
	damaged := slices.Clone(good)
	damaged[len(damaged)/2] ^= 1
	var sha strings.Builder
	w, err := xz.NewWriter(&sha, &xz.WriterOptions{Check: xz.SHA256})
	if err == nil {
		_, err = w.Write([]byte("x"))
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(text string) []byte { return updatetest.Compress(t, []byte(text)) }
	for _, tt := range []struct {
		name    string
		entries []mar.Entry
		opts    *updater.LintOptions
		want    []string // path and code
		says    string
	}{
		{"nothing wrong", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, good)}, nil, nil, ""},
		{"damage", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, damaged)}, nil, []string{"a 39"}, "corrupt"},
		{"damage, fast", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, damaged)}, &updater.LintOptions{Fast: true}, nil, ""},
		{"cut off, fast", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, good[:40])}, &updater.LintOptions{Fast: true}, []string{"a 39"}, "ends inside"},
		{"a second stream", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, slices.Concat(good, good))}, nil, []string{"a 39"}, "second stream"},
		{"a check that it lacks", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, []byte(sha.String()))}, nil, []string{"a 39"}, "SHA-256"},
		{"other formats", []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\nadd \"b\"\nadd \"c\"\n")),
			mar.BytesEntry("a", 0o644, bzip2(t, []byte("x"))), mar.BytesEntry("b", 0o644, []byte("raw")), mar.BytesEntry("c", 0o644, []byte("\x1F\x8B\x08")),
		}, nil, []string{"a 39", "b 39", "c 39"}, "bzip2"},
		{"a client that reads bzip2", []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, bzip2(t, []byte("add \"a\"\n"))), mar.BytesEntry("a", 0o644, bzip2(t, []byte("x"))),
		}, nil, nil, ""},
		{"and one that does not", []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, bzip2(t, []byte("add \"a\"\n"))), mar.BytesEntry("a", 0o644, good),
		}, &updater.LintOptions{Members: []updater.MemberFormat{updater.FormatXZ}}, []string{"updatev3.manifest 39"}, "bzip2"},
		{"over the limit", []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\n")), mar.BytesEntry("a", 0o644, good)}, &updater.LintOptions{Limits: updater.Limits{Member: 500}}, []string{"a 0"}, "limit"},
		{"no manifest", []mar.Entry{mar.BytesEntry("a", 0o644, good)}, nil, []string{"updatev3.manifest -1"}, "no manifest"},
		{"manifests", []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, manifest("add \"a\"\nadd \"none\"\n")), mar.BytesEntry("updatev2.manifest", 0o644, manifest("add \"a..b\"\n")),
			mar.BytesEntry("update.manifest", 0o644, damaged), mar.BytesEntry("a", 0o644, good),
		}, nil, []string{"update.manifest 39", "none -1", " 5"}, "corrupt"},
	} {
		list, err := updater.Lint(t.Context(), updatetest.Write(t, &mar.Archive{Product: updatetest.TestProduct, Entries: tt.entries}), tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprint(e.Path, " ", int(e.Code)))
		}
		if !slices.Equal(got, tt.want) || len(list) > 0 && !strings.Contains(list[0].Error(), tt.says) {
			t.Errorf("%s: got %v, want %v that says %q", tt.name, list, tt.want, tt.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := updater.Lint(ctx, updatetest.Archive(t, "add \"a\"\n", updatetest.Tree{"a": updatetest.File("x")}), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// Patches are read as far as that says something without the files that they are for, and must be ones that the client
// applies.
func TestLintPatches(t *testing.T) {
	t.Parallel()
	old, changed := []byte(strings.Repeat("some text ", 100)), []byte(strings.Repeat("some text ", 90)+"and more")
	made := func(d partial.Differ) []byte {
		var b bytes.Buffer
		if err := d.Diff(t.Context(), &b, old, changed); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	mbdiff, zucc := made(bsdiff.New(bsdiff.Options{})), made(zucchini.New(zucchini.Options{}))
	edited := func(b []byte, at int, with byte) []byte {
		b = bytes.Clone(b)
		b[at] = with
		return b
	}
	knows := func(formats ...string) *updater.LintOptions {
		c, err := updater.NewClient(updater.Claims{Patches: formats}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
		if err != nil {
			t.Fatal(err)
		}
		return &updater.LintOptions{Client: c}
	}
	both, one := knows(updater.PatchMBDIFF10, updater.PatchZucchini), knows(updater.PatchMBDIFF10)
	damaged := updatetest.Compress(t, zucc)
	damaged[len(damaged)/2] ^= 1
	for _, tt := range []struct {
		name, manifest string
		member         []byte // compressed
		opts           *updater.LintOptions
		want, says     string
	}{
		{"MBDIFF10", "patch \"p\" \"x\"\n", updatetest.Compress(t, mbdiff), one, "", ""},
		{"Zucchini", "patch \"p\" \"x\"\n", updatetest.Compress(t, zucc), both, "", ""},
		{"for whoever", "patch \"p\" \"x\"\n", updatetest.Compress(t, zucc), nil, "", ""},
		{"for who does not apply it", "patch \"p\" \"x\"\n", updatetest.Compress(t, zucc), one, "p 41", "format zucchini"},
		{"if there is something", "patch-if \"d/\" \"p\" \"x\"\n", updatetest.Compress(t, zucc), one, "p 41", "format zucchini"},
		{"damaged member", "patch \"p\" \"x\"\n", damaged, both, "p 39", "corrupt"},
		{"cut off", "patch \"p\" \"x\"\n", updatetest.Compress(t, zucc[:len(zucc)-1]), both, "p 6", "element 0"},
		{"two elements", "patch \"p\" \"x\"\n", updatetest.Compress(t, edited(zucc, 24, 2)), both, "p 6", "element 1"},
		{"MBDIFF10 cut off", "patch \"p\" \"x\"\n", updatetest.Compress(t, mbdiff[:len(mbdiff)-1]), both, "p 41", "ends too early"},
		{"neither", "patch \"p\" \"x\"\n", updatetest.Compress(t, old), both, "p 41", "begins with"},
		{"no patch", "add \"p\"\n", updatetest.Compress(t, zucc), one, "", ""},
	} {
		a := &mar.Archive{Product: updatetest.TestProduct, Entries: []mar.Entry{
			mar.BytesEntry("updatev3.manifest", 0o644, updatetest.Compress(t, []byte("type \"partial\"\n"+tt.manifest))),
			mar.BytesEntry("p", 0o644, tt.member),
		}}
		list, err := updater.Lint(t.Context(), updatetest.Write(t, a), tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprint(e.Path, " ", int(e.Code)))
		}
		if strings.Join(got, ", ") != tt.want || len(list) > 0 && !strings.Contains(list[0].Error(), tt.says) {
			t.Errorf("%s: got %v, want %q that says %q", tt.name, list, tt.want, tt.says)
		}
	}
}

// What an update means for its client as a whole: its channel, the precomplete that it brings, and names.
func TestLintRelease(t *testing.T) {
	t.Parallel()
	const settings = "[Settings]\nACCEPTED_MAR_CHANNEL_IDS=a,b\n"
	type file struct{ name, text string }
	update := func(p *mar.Product, manifest string, files ...file) *mar.Reader {
		a := &mar.Archive{Product: p, Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, updatetest.Compress(t, []byte(manifest)))}}
		for _, f := range files {
			a.Entries = append(a.Entries, mar.BytesEntry(f.name, 0o644, updatetest.Compress(t, []byte(f.text))))
		}
		return updatetest.Write(t, a)
	}
	channel := func(name string) *mar.Product { return &mar.Product{Channel: name, Version: "2.0"} }
	const partial, complete = "type \"partial\"\nadd \"x\"\n", "type \"complete\"\nadd-if-not \"update-settings.ini\" \"update-settings.ini\"\nadd \"precomplete\"\n"
	x := file{"x", "1"}
	ini := file{"update-settings.ini", settings}
	no := false
	indifferent, err := updater.NewClient(updater.Claims{Verifies: &no}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		update *mar.Reader
		opts   *updater.LintOptions
		want   []string // path and code
		says   string
	}{
		{"one channel", update(channel("a"), partial, x), nil, nil, ""},
		{"two channels", update(channel("a,b"), partial, x), nil, []string{" 22"}, "no client with a list"},
		{"a blank", update(channel("a b"), partial, x), nil, []string{" 22"}, "no client with a list"},
		{"a tab", update(channel("a\tb"), partial, x), nil, []string{" 22"}, "no client with a list"},
		{"none", update(channel(""), partial, x), nil, []string{" 22"}, "no client with a list"},
		{"no product block, which mar.Lint says", update(nil, partial, x), nil, nil, ""},
		{"two channels for who does not look", update(channel("a,b"), partial, x), &updater.LintOptions{Client: indifferent}, nil, ""},
		{"a complete for its own channel", update(channel("b"), complete, ini, file{"precomplete", "remove \"x\"\n"}), nil, nil, ""},
		{"and for another", update(channel("c"), complete, ini, file{"precomplete", "remove \"x\"\n"}), nil, []string{" 22"}, `channel "c"`},
		{"and for both", update(channel("a,b"), complete, ini, file{"precomplete", "remove \"x\"\n"}), nil, []string{" 22"}, `channel "a,b"`},
		{"settings lost", update(channel("a"), complete, ini, file{"precomplete", "remove \"update-settings.ini\"\n"}), nil, []string{"precomplete 38"}, "every later update fails"},
		{"other things lost", update(channel("a"), complete+"add-if-not \"y\" \"y\"\n", ini, file{"y", "1"}, file{"precomplete", "remove \"y\"\n"}), nil, []string{"precomplete 0"}, `"y"`},
		{"settings that are put in again", update(channel("a"), "type \"complete\"\nadd \"update-settings.ini\"\nadd \"precomplete\"\n", ini, file{"precomplete", "remove \"update-settings.ini\"\n"}), nil, nil, ""},
		{"a precomplete that nobody parses", update(channel("a"), complete, ini, file{"precomplete", "delete \"x\"\n"}), nil, []string{"precomplete 5"}, "later complete"},
		{"in a partial it is a file", update(channel("a"), "type \"partial\"\nadd \"precomplete\"\n", file{"precomplete", "delete \"x\"\n"}), nil, nil, ""},
		{"names that Windows takes for others", update(channel("a"), partial+"remove \"C:/x\"\nremove \"con.txt\"\nrmdir \"d/aux/\"\nremove \"fine\"\n", x), nil, []string{"C:/x 5", "con.txt 0", "d/aux/ 0"}, "drive"},
		{"names that macOS takes for one", update(channel("a"), "type \"partial\"\nadd \"caf\u00e9/x\"\nadd \"cafe\u0301/y\"\n", file{"caf\u00e9/x", "1"}, file{"cafe\u0301/y", "1"}), nil, []string{"cafe\u0301 0"}, "normalisation"},
		{"not where it is for Linux", update(channel("a"), "type \"complete\"\nadd \"caf\u00e9\"\nadd \"cafe\u0301\"\nadd \"l.so\"\nremove \"aux\"\n", file{"caf\u00e9", "1"}, file{"cafe\u0301", "1"}, file{"l.so", "\x7fELF"}), nil, nil, ""},
	} {
		list, err := updater.Lint(t.Context(), tt.update, tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprint(e.Path, " ", int(e.Code)))
		}
		if !slices.Equal(got, tt.want) || len(list) > 0 && !strings.Contains(list[0].Error(), tt.says) {
			t.Errorf("%s: got %v, want %v that says %q", tt.name, list, tt.want, tt.says)
		}
	}
}

// The updates that the real updater was run with.
func TestLintClientChecks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]updater.Code{
		"from.mar": nil, "to.mar": nil, "good.partial.mar": nil, "badchannel.partial.mar": nil, // a partial does not say who it is for
		"badpre.from.mar": {updater.CodeSettings}, "badpre.to.mar": {updater.CodeSettings},
	} {
		list, err := updater.Lint(t.Context(), updatetest.Open(t, "testdata/client-checks", name), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []updater.Code
		for _, e := range list {
			got = append(got, e.Code)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, list, want)
		}
	}
}

package updater_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/updater"

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

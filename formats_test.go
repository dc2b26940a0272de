package senbonzakura

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// The formats of a request overrule what FROM's updater is known to apply, both ways, and are part of the key.
func TestFormatsOfRequest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	considered := func(version, platform string, formats ...string) (n int, key string) {
		t.Helper()
		r := Request{
			From: o.source("a"+version, release(t, "Firefox", version, "de")), To: o.source("b"+version, release(t, "Firefox", version+".1", "de")),
			Platform: platform, Formats: formats,
		}
		result, err := g.Generate(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer result.Close()
		for _, f := range result.Report.Files {
			for _, c := range f.Candidates {
				if f.Path == "libxul.so" && c.Format != "" {
					n++
				}
			}
			if len(formats) == 1 && f.Action == partial.ActionPatch && f.Format != formats[0] {
				t.Errorf("%s: %s is a patch in %s", version, f.Path, f.Format)
			}
		}
		return n, result.Key.String()
	}
	for _, tt := range []struct {
		version, platform string
		formats           []string
		want              int
	}{
		{"140.1", "linux-x86_64", nil, 0},
		{"140.1", "linux-x86_64", []string{updater.PatchMBDIFF10, updater.PatchZucchini}, 3},
		{"144.0", "linux-x86_64", nil, 3},
		{"144.0", "linux-x86_64", []string{updater.PatchMBDIFF10}, 0},
		{"144.0", "macos", nil, 0},
		{"144.0", "macos", []string{updater.PatchZucchini, updater.PatchMBDIFF10}, 3},
	} {
		if got, _ := considered(tt.version, tt.platform, tt.formats...); got != tt.want {
			t.Errorf("%s on %s, formats %q: %d ways were compared, want %d", tt.version, tt.platform, tt.formats, got, tt.want)
		}
	}
	_, plain := considered("140.1", "linux-x86_64")
	if _, other := considered("140.1", "linux-x86_64", updater.PatchMBDIFF10); other == plain {
		t.Error("formats that are asked for are not part of the key")
	}
	mozilla := partial.MozillaRecipe()
	for name, r := range map[string]Request{
		"no such format": {Formats: []string{"courgette"}}, "recipe mozilla leaves no choice": {Formats: []string{updater.PatchZucchini}, Recipe: &mozilla},
	} {
		r.From, r.To = o.source("a140.1", release(t, "Firefox", "140.1", "de")), o.source("b140.1", release(t, "Firefox", "140.1.1", "de"))
		var bad *RequestError
		if _, err := g.Generate(t.Context(), r, nil); !errors.As(err, &bad) || bad.Field != "Formats" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

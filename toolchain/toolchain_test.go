package toolchain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

func build(product, version string, change ...func(*Build)) Build {
	b := Build{Product: product, Version: version, Platform: "linux64", Arch: "x86_64"}
	for _, c := range change {
		c(&b)
	}
	return b
}

func TestSelectByVersion(t *testing.T) {
	set := DefaultSet()
	tests := []struct {
		name      string
		from, to  Build
		format    updater.MemberFormat
		manifests []updater.ManifestVersion
		signature mar.Algorithm
		patches   []string
	}{
		{
			"before manifest version 3", build("Firefox", "20.0"), build("Firefox", "28.0"),
			updater.FormatBzip2,
			[]updater.ManifestVersion{updater.ManifestV2},
			mar.RSAPKCS1SHA1,
			[]string{FormatMBDIFF10},
		},
		{
			"bzip2", build("Firefox", "50.0"), build("Firefox", "57.0.4"),
			updater.FormatBzip2,
			[]updater.ManifestVersion{updater.ManifestV2, updater.ManifestV3},
			mar.RSAPKCS1SHA1,
			[]string{FormatMBDIFF10},
		},
		{
			"xz", build("firefox", "115.0esr"), build("Firefox", "115.1esr"),
			updater.FormatXZ,
			[]updater.ManifestVersion{updater.ManifestV3},
			mar.RSAPKCS1SHA384,
			[]string{FormatMBDIFF10},
		},
		{
			"zucchini", build("Firefox", "153.5.1"), build("Firefox", "153.6.0"),
			updater.FormatXZ,
			[]updater.ManifestVersion{updater.ManifestV3},
			mar.RSAPKCS1SHA384,
			[]string{FormatMBDIFF10, FormatZucchini},
		},
		{
			"same version, as for a rebuilt release", build("Thunderbird", "140.0"), build("Thunderbird", "140.0"),
			updater.FormatXZ,
			[]updater.ManifestVersion{updater.ManifestV3},
			mar.RSAPKCS1SHA384,
			[]string{FormatMBDIFF10, FormatZucchini},
		},
		{
			"a pre-release comes before its release", build("Firefox", "140.0a1"), build("Firefox", "140.0"),
			updater.FormatXZ,
			[]updater.ManifestVersion{updater.ManifestV3},
			mar.RSAPKCS1SHA384,
			[]string{FormatMBDIFF10},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sel, err := set.Select(tt.from, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			got := []any{sel.Recipe.Compression.Format, sel.Recipe.Manifests, sel.Signature, sel.PatchFormats}
			want := []any{tt.format, tt.manifests, tt.signature, tt.patches}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("selection (-want +got):\n%s", diff)
			}
			if len(sel.Reasons) == 0 {
				t.Error("no reasons given")
			}
		})
	}
}

func TestSelectRefuses(t *testing.T) {
	set, err := NewSet(BuiltinRules(), nil)
	if err != nil {
		t.Fatal(err)
	}
	windows := func(b *Build) { b.Platform = "win64" }
	tests := []struct {
		name     string
		from, to Build
		want     error
		says     string
	}{
		{"another product", build("Firefox", "140.0"), build("Thunderbird", "141.0"), ErrProduct, "FROM is Firefox, TO is Thunderbird"},
		{"unknown product", build("Fork", "1.0"), build("Fork", "2.0"), ErrNoRules, `no rules for "Fork"`},
		{"downgrade", build("Firefox", "140.0"), build("Firefox", "140.0b9"), ErrDowngrade, "140.0b9 is older than 140.0"},
		{"watershed", build("Firefox", "50.0"), build("Firefox", "60.0"), ErrWatershed, "50.0 → 57.0.4 → 60.0"},
		{"watershed of another platform", build("Firefox", "50.0", windows), build("Firefox", "60.0", windows), ErrWatershed, "50.0 → 56.0 → 60.0"},
		{"several watersheds", build("Firefox", "11.0"), build("Firefox", "80.0"), ErrWatershed, "11.0 → 12.0 → 45.0.2 → 57.0.4 → 72.0.2 → 80.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := set.Select(tt.from, tt.to)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
	if _, err := set.Select(build("Firefox", "57.0.4"), build("Firefox", "60.0")); err != nil {
		t.Errorf("from the watershed itself: got %v, want no error", err)
	}
	if _, err := set.Select(build("Firefox", "50.0"), build("Firefox", "57.0.4")); err != nil {
		t.Errorf("to the watershed itself: got %v, want no error", err)
	}
}

func TestCapabilitiesOutrankVersions(t *testing.T) {
	shows := func(c Capabilities) func(*Build) { return func(b *Build) { b.Capabilities = &c } }
	old := Capabilities{Compression: CompressionBzip2, Manifests: []int{2, 3}, Signatures: []mar.Algorithm{mar.RSAPKCS1SHA1}}
	from, to := build("Firefox", "57.0.4", shows(old)), build("Firefox", "58.0")

	_, err := DefaultSet().Select(from, to)
	if !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "bzip2") || !strings.Contains(err.Error(), "xz") {
		t.Errorf("got %v, want a contradiction that says bzip2 and xz", err)
	}
	for trust, want := range map[Trust]updater.MemberFormat{TrustComplete: updater.FormatBzip2, TrustVersion: updater.FormatXZ} {
		set, err := NewSet(BuiltinRules(), &SetOptions{Trust: trust})
		if err != nil {
			t.Fatal(err)
		}
		sel, err := set.Select(from, to)
		if err != nil || sel.Recipe.Compression.Format != want {
			t.Errorf("trust %v: got %v, %v, want %v", trust, sel.Recipe.Compression.Format, err, want)
		}
	}
	// Manifests can be read off without a contradiction.
	sel, err := DefaultSet().Select(build("Firefox", "50.0", shows(Capabilities{Manifests: []int{3}})), build("Firefox", "51.0"))
	if err != nil || !slices.Equal(sel.Recipe.Manifests, []updater.ManifestVersion{updater.ManifestV3}) {
		t.Errorf("got manifests %v, %v, want version 3 alone", sel.Recipe.Manifests, err)
	}
	// A product without rules is judged by its complete alone.
	set, err := NewSet(nil, &SetOptions{AnyProduct: true})
	if err != nil {
		t.Fatal(err)
	}
	sel, err = set.Select(build("Fork", "1.0", shows(old)), build("Fork", "2.0"))
	if err != nil || sel.Recipe.Compression.Format != updater.FormatBzip2 || sel.Signature != mar.RSAPKCS1SHA1 {
		t.Errorf("got %v, %v, %v, want bzip2 and SHA-1", sel.Recipe.Compression.Format, sel.Signature, err)
	}
}

func TestZucchiniSince(t *testing.T) {
	for since, want := range map[string]bool{"145.0": false, "128.0": true, "*": false} {
		set, err := NewSet(BuiltinRules(), &SetOptions{ZucchiniSince: map[string]string{"firefox": since}})
		if err != nil {
			t.Fatal(err)
		}
		sel, err := set.Select(build("Firefox", "140.0"), build("Firefox", "150.0"))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(sel.PatchFormats, FormatZucchini); got != want {
			t.Errorf("since %s: Zucchini = %v, want %v", since, got, want)
		}
	}
	if _, err := NewSet(BuiltinRules(), &SetOptions{ZucchiniSince: map[string]string{"nosuch": "1"}}); !errors.Is(err, ErrRules) {
		t.Errorf("got %v, want ErrRules for a product without rules", err)
	}
}

func TestParseRules(t *testing.T) {
	const good = "product = \"P\"\n[[era]]\nsince = \"0\"\ncompression = \"xz\"\nmanifests = [3]\nsignature = \"sha384\"\npatches = [\"mbdiff10\"]\n"
	rules, err := ParseRules([]byte(good + "[[era]]\nsince = \"7\"\nmanifests = [2, 3]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := rules.era("7.1"); got.Compression != "xz" || !slices.Equal(got.Manifests, []int{2, 3}) {
		t.Errorf("era of 7.1 = %+v: want manifests 2 and 3 and the rest inherited", got)
	}
	for _, tt := range []struct{ name, text, says string }{
		{"unknown key", "produkt = \"P\"\n", "produkt"},
		{"wrong type", "product = 1\n", "product = 1"},
		{"no product", "aliases = []\n", "key product is missing"},
		{"no era", "product = \"P\"\n", "no era"},
		{"first era", strings.Replace(good, "\"0\"", "\"5\"", 1), "since = \"0\""},
		{"compression", strings.Replace(good, "xz", "zip", 1), "compression = \"zip\""},
		{"manifest", strings.Replace(good, "[3]", "[4]", 1), "manifests holds 4"},
		{"signature", strings.Replace(good, "sha384", "md5", 1), "signature = \"md5\""},
		{"patches", strings.Replace(good, "mbdiff10", "vcdiff", 1), "patches"},
		{"order", good + "[[era]]\nsince = \"0\"\n", "oldest first"},
		{"watershed", good + "[[watershed]]\nreason = \"r\"\n", "watershed 1 has no version"},
		{"arch", good + "[arch]\nx = \"y\"\n", "arch.x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseRules([]byte(tt.text))
			if !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want ErrRules that says %q", err, tt.says)
			}
		})
	}
}

func TestLaterRulesReplaceEarlierOnes(t *testing.T) {
	own, err := ParseRules([]byte("product = \"firefox\"\n[[era]]\nsince = \"0\"\ncompression = \"bzip2\"\nmanifests = [2]\nsignature = \"sha1\"\npatches = [\"mbdiff10\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(append(BuiltinRules(), own), nil)
	if err != nil {
		t.Fatal(err)
	}
	sel, err := set.Select(build("Firefox", "140.0"), build("Firefox", "150.0"))
	if err != nil || sel.Recipe.Compression.Format != updater.FormatBzip2 {
		t.Errorf("got %v, %v, want the own rules' bzip2", sel.Recipe.Compression.Format, err)
	}
	if got := len(set.Products()); got != 2 {
		t.Errorf("%d products, want 2", got)
	}
}

func TestPlan(t *testing.T) {
	history := []Build{
		build("Firefox", "50.0"), build("Firefox", "57.0.4"), build("Firefox", "60.0"),
		build("Firefox", "60.0", func(b *Build) { b.Platform = "win64" }),
		build("Thunderbird", "60.0"),
	}
	var got []string
	for _, p := range DefaultSet().Plan(history) {
		line := p.From.Version + " " + p.To.Version
		if p.Refused != "" {
			line += " via " + strings.Join(p.Hops, ",")
		} else if p.Recipe == "" {
			line += " without recipe"
		}
		got = append(got, line)
	}
	want := []string{"50.0 57.0.4", "50.0 60.0 via 57.0.4", "57.0.4 60.0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestParseBuildID(t *testing.T) {
	for id, want := range map[string]time.Time{
		"20260601120304": time.Date(2026, 6, 1, 12, 3, 4, 0, time.UTC),
		"2008060112":     time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseBuildID(id); err != nil || !got.Equal(want) {
			t.Errorf("ParseBuildID(%q) = %v, %v, want %v", id, got, err, want)
		}
	}
	for _, id := range []string{"", "2026", "20261301000000", "2026060112030x", "202606011203045"} {
		if got, err := ParseBuildID(id); err == nil {
			t.Errorf("ParseBuildID(%q) = %v, want an error", id, got)
		}
	}
}

func TestReadBuild(t *testing.T) {
	r, err := mar.OpenFile(testkit.Shared(t, "corpus/firefox-small/from.mar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := ReadBuild(r.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got.Product != "Firefox" || got.Version != "153.5.1" || len(got.BuildID) != 14 {
		t.Errorf("got %+v, want Firefox 153.5.1 with a build ID", got)
	}
	want := &Capabilities{Compression: CompressionXZ, Manifests: []int{3}}
	if diff := cmp.Diff(want, got.Capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if !slices.Equal(got.Channels, []string{"corpus-release"}) {
		t.Errorf("channels %q, want corpus-release", got.Channels)
	}
}

func TestReadBuildOfMixedMembers(t *testing.T) {
	archive := &mar.Archive{Entries: []mar.Entry{
		mar.BytesEntry("a", 0o644, []byte("BZh91AY")),
		mar.BytesEntry("b", 0o644, []byte("\xfd7zXZ\x00")),
	}}
	var sb strings.Builder
	if _, err := archive.WriteTo(&sb); err != nil {
		t.Fatal(err)
	}
	r, err := mar.NewReader(strings.NewReader(sb.String()), int64(sb.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBuild(r); !errors.Is(err, ErrContradiction) {
		t.Errorf("got %v, want ErrContradiction", err)
	}
}

package toolchain

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
	both := []string{updater.PatchMBDIFF10, updater.PatchZucchini}
	one := []string{updater.PatchMBDIFF10}
	v2, v23, v3 := []updater.ManifestVersion{2}, []updater.ManifestVersion{2, 3}, []updater.ManifestVersion{3}
	mac := func(b *Build) { b.Platform = "Darwin_aarch64-gcc3" }
	unknown := func(b *Build) { b.Platform = "" }
	tests := []struct {
		name      string
		from, to  Build
		format    updater.MemberFormat
		manifests []updater.ManifestVersion
		signature mar.Algorithm
		patches   []string
	}{
		{"before manifest version 3", build("Firefox", "20.0"), build("Firefox", "28.0"), updater.FormatBzip2, v2, mar.RSAPKCS1SHA1, one},
		{"bzip2", build("Firefox", "50.0"), build("Firefox", "57.0.4"), updater.FormatBzip2, v23, mar.RSAPKCS1SHA1, one},
		{"xz", build("firefox", "115.0esr"), build("Firefox", "115.1esr"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"before the uplift", build("Firefox", "140.11.0"), build("Firefox", "140.12.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"the uplift to the ESR", build("Firefox", "140.12.0"), build("Firefox", "140.13.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, both},
		{"newer than the ESR, and without", build("Firefox", "143.0.4"), build("Firefox", "144.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"first nightly behind the ESR", build("Firefox", "141.0a1"), build("Firefox", "142.0a1"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"a pre-release comes before its release", build("Firefox", "144.0b9"), build("Firefox", "144.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"zucchini", build("Firefox", "153.5.1"), build("Firefox", "153.6.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, both},
		{"not on macOS", build("Firefox", "153.5.1", mac), build("Firefox", "153.6.0", mac), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"not where it may be macOS", build("Firefox", "153.5.1", unknown), build("Firefox", "153.6.0", unknown), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"not for a product without rules", build("Fork", "153.5.1"), build("Fork", "153.6.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, one},
		{"same version, as for a rebuilt release", build("Thunderbird", "144.0"), build("Thunderbird", "144.0"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, both},
		{"eras go by Gecko", build("Firefox", "15.0", func(b *Build) { b.Gecko = "140.12.0" }), build("Firefox", "15.0.1"), updater.FormatXZ, v3, mar.RSAPKCS1SHA384, both},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sel, err := set.Select(tt.from, tt.to, &SelectOptions{Skip: []updater.Check{updater.CheckWatershed}})
			if err != nil {
				t.Fatal(err)
			}
			recipe := sel.Recipe.For(sel.Client)
			got := []any{recipe.Compression.Format, recipe.Manifests, sel.Client.Signature.Value, sel.Client.Patches.Value}
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

// Why a client gets Zucchini patches, or none, stands in the reasons.
func TestPatchFormatsHaveReasons(t *testing.T) {
	fork := func(key string) Rules {
		rules, err := ParseRules([]byte("product = \"Fork\"\n[[era]]\nsince = \"0\"\ncompression = \"xz\"\nmanifests = [3]\nsignature = \"sha384\"\n" + key))
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	on, off := `patches = ["mbdiff10", "zucchini"]`, `patches = ["mbdiff10"]`
	onMac := on + "\n" + `patches_macos = ["mbdiff10", "zucchini"]`
	for _, tt := range []struct {
		name, product, version, platform, key string
		zucchini                              bool
		reason                                string
	}{
		{"ESR before the uplift", "Firefox", "140.11.0", "linux", "", false, "patches: [mbdiff10], by rule (era since Gecko 56.0)"},
		{"ESR", "Firefox", "140.12.0", "linux", "", true, "patches: [mbdiff10 zucchini], by rule (era since Gecko 140.12)"},
		{"nightly without", "Firefox", "141.0a1", "win64", "", false, "patches: [mbdiff10], by rule (era since Gecko 141.0a1)"},
		{"release", "Firefox", "144.0", "win64", "", true, "patches: [mbdiff10 zucchini], by rule (era since Gecko 144.0)"},
		{"macOS", "Firefox", "153.0", "macos", "", false, "patches: [mbdiff10], by rule (era since Gecko 144.0: the formats for macOS (patches_macos))"},
		{"unknown platform", "Firefox", "153.0", "", "", false, "patches: [mbdiff10], by rule (era since Gecko 144.0: the platform is not known"},
		{"no rules", "Fork", "153.0", "linux", "", false, "patches: [mbdiff10], by default"},
		{"fork, on", "Fork", "6.6", "linux", on, true, "patches: [mbdiff10 zucchini], by rule (era since Gecko 0)"},
		{"fork, off", "Fork", "6.6", "linux", off, false, "patches: [mbdiff10], by rule (era since Gecko 0)"},
		{"fork, macOS", "Fork", "6.6", "macos", on, false, "the formats for macOS"},
		{"fork, on for macOS", "Fork", "6.6", "macos", onMac, true, "patches: [mbdiff10 zucchini], by rule (era since Gecko 0)"},
	} {
		rules := BuiltinRules()
		if tt.key != "" {
			rules = append(rules, fork(tt.key))
		}
		set, err := NewSet(rules, &SetOptions{AnyProduct: true})
		if err != nil {
			t.Fatal(err)
		}
		there := func(b *Build) { b.Platform = tt.platform }
		sel, err := set.Select(build(tt.product, tt.version, there), build(tt.product, tt.version, there), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(sel.Recipe.For(sel.Client).Formats, updater.PatchZucchini); got != tt.zucchini {
			t.Errorf("%s: Zucchini %v, want %v", tt.name, got, tt.zucchini)
		}
		if !slices.ContainsFunc(sel.Reasons, func(r string) bool { return strings.Contains(r, tt.reason) }) {
			t.Errorf("%s: got %q, want %q", tt.name, sel.Reasons, tt.reason)
		}
	}
}

// What forks number in their own way: eras go by Gecko, watersheds by the product.
func TestSelectForks(t *testing.T) {
	fork, err := ParseRules([]byte(`product = "Waterfox"
[[era]]
since = "0"
compression = "xz"
manifests = [3]
signature = "sha384"
patches = ["mbdiff10"]
verifies = true
[[era]]
since = "140.12"
patches = ["mbdiff10", "zucchini"]
patches_macos = ["mbdiff10", "zucchini"]
[[watershed]]
version = "6.5.0"
platforms = ["WINNT"]
`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(append(BuiltinRules(), fork), nil)
	if err != nil {
		t.Fatal(err)
	}
	gecko := func(v string) func(*Build) { return func(b *Build) { b.Gecko = v } }
	on := func(p string) func(*Build) { return func(b *Build) { b.Platform = p } }
	sel, err := set.Select(build("Waterfox", "6.6.4", gecko("140.12.0"), on("macos")), build("Waterfox", "6.6.5"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := sel.Client; !c.Applies(updater.PatchZucchini) || c.Version.Value != "6.6.4" || c.Gecko.Value != "140.12.0" || !c.Verifies.Value || c.Verifies.Source != updater.SourceRule || c.Drafts.Value || !c.Drafts.Known {
		t.Errorf("got %+v", c)
	}
	if sel, err = set.Select(build("Waterfox", "6.6.4", gecko("128.0")), build("Waterfox", "6.6.5"), nil); err != nil || sel.Client.Applies(updater.PatchZucchini) {
		t.Errorf("Gecko 128: got %+v, %v", sel.Client, err)
	}
	for platform, crossed := range map[string]bool{"WINNT_x86_64-msvc": true, "windows": true, "linux64": false, "osx": false, "": true} {
		_, err := set.Select(build("Waterfox", "6.4.0", gecko("128.0"), on(platform)), build("Waterfox", "6.6.5", on(platform)), nil)
		if errors.Is(err, ErrWatershed) != crossed {
			t.Errorf("on %q: got %v", platform, err)
		}
		if platform == "" && !strings.Contains(err.Error(), "--platform") {
			t.Errorf("%q names no way out", err)
		}
	}
	if _, err := set.Select(build("Waterfox", "6.4.0", on("")), build("Waterfox", "6.6.5", on("")), &SelectOptions{Skip: []updater.Check{updater.CheckWatershed}}); err != nil {
		t.Errorf("skipped: got %v", err)
	}
	if _, err := set.Select(build("Waterfox", "6.4.0", on("")), build("Waterfox", "6.6.5", on("")), &SelectOptions{Client: updater.Claims{Platform: updater.Linux}}); err != nil {
		t.Errorf("the caller says linux: got %v", err)
	}
}

// What cannot be compared is not called checked.
func TestSelectSaysWhatIsNotChecked(t *testing.T) {
	answers := func(from, to Build) string {
		sel, err := DefaultSet().Select(from, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, v := range sel.Checks {
			if v.Answer == updater.NotChecked && v.Reason == "" {
				t.Errorf("%v has no reason", v)
			}
			list = append(list, string(v.Check)+" "+string(v.Answer))
		}
		return strings.Join(list, ", ")
	}
	for _, tt := range []struct {
		name     string
		from, to Build
		want     string
	}{
		{"all", build("Firefox", "140.0"), build("Firefox", "141.0"), "product holds, downgrade holds, watershed holds"},
		{"no version", build("Firefox", ""), build("Firefox", "141.0"), "product holds, downgrade not checked, watershed not checked"},
		{"no rules", build("Fork", "1"), build("Fork", "2"), "product holds, downgrade holds, watershed not checked"},
		{"nothing", Build{}, Build{}, "product not checked, downgrade not checked, watershed not checked"},
	} {
		if got := answers(tt.from, tt.to); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
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
			_, err := set.Select(tt.from, tt.to, nil)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
	if _, err := set.Select(build("Firefox", "57.0.4"), build("Firefox", "60.0"), nil); err != nil {
		t.Errorf("from the watershed itself: got %v, want no error", err)
	}
	if _, err := set.Select(build("Firefox", "50.0"), build("Firefox", "57.0.4"), nil); err != nil {
		t.Errorf("to the watershed itself: got %v, want no error", err)
	}
}

func TestCompletesOutrankVersions(t *testing.T) {
	shows := func(c updater.Claims) func(*Build) { return func(b *Build) { b.Client = &c } }
	old := updater.Claims{
		Members: []updater.MemberFormat{updater.FormatBzip2}, Manifests: []updater.ManifestVersion{2, 3}, Signature: mar.RSAPKCS1SHA1,
	}
	from, to := build("Firefox", "57.0.4", shows(old)), build("Firefox", "58.0")

	_, err := DefaultSet().Select(from, to, nil)
	if !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "bzip2") || !strings.Contains(err.Error(), "xz") {
		t.Errorf("got %v, want a contradiction that says bzip2 and xz", err)
	}
	for trust, want := range map[updater.Trust]updater.MemberFormat{updater.TrustComplete: updater.FormatBzip2, updater.TrustVersion: updater.FormatXZ} {
		set, err := NewSet(BuiltinRules(), &SetOptions{Trust: trust})
		if err != nil {
			t.Fatal(err)
		}
		sel, err := set.Select(from, to, nil)
		if err != nil || sel.Client.Members.Value[0] != want {
			t.Errorf("trust %v: got %v, %v, want %v", trust, sel.Client.Members, err, want)
		}
		sel, err = DefaultSet().Select(from, to, &SelectOptions{Trust: trust})
		if err != nil || sel.Client.Members.Value[0] != want {
			t.Errorf("trust %v of one pair: got %v, %v, want %v", trust, sel.Client.Members, err, want)
		}
	}
	if sel, err := DefaultSet().Select(from, to, &SelectOptions{Client: updater.Claims{Members: []updater.MemberFormat{updater.FormatXZ}, Signature: mar.RSAPKCS1SHA384}}); err != nil || sel.Client.Members.Source != updater.SourceCaller {
		t.Errorf("the caller settles it: got %v", err)
	}
	// Manifests can be read off without a contradiction where one is read by both.
	sel, err := DefaultSet().Select(build("Firefox", "50.0", shows(updater.Claims{Manifests: []updater.ManifestVersion{3}})), build("Firefox", "51.0"), nil)
	if err != nil || !slices.Equal(sel.Recipe.For(sel.Client).Manifests, []updater.ManifestVersion{updater.ManifestV3}) {
		t.Errorf("got manifests %v, %v, want version 3 alone", sel.Client.Manifests, err)
	}
	_, err = DefaultSet().Select(build("Firefox", "140.0", shows(updater.Claims{Manifests: []updater.ManifestVersion{2}})), build("Firefox", "141.0"), nil)
	if !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "updatev2.manifest") {
		t.Errorf("manifest 2 alone: got %v, want a contradiction", err)
	}
	// A product without rules is judged by its complete alone.
	set, err := NewSet(nil, &SetOptions{AnyProduct: true})
	if err != nil {
		t.Fatal(err)
	}
	sel, err = set.Select(build("Fork", "1.0", shows(old)), build("Fork", "2.0"), nil)
	if err != nil || sel.Client.Members.Value[0] != updater.FormatBzip2 || sel.Client.Signature.Value != mar.RSAPKCS1SHA1 {
		t.Errorf("got %+v, %v, want bzip2 and SHA-1", sel.Client, err)
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
		{"wrong type", "product = 1\n", `line 1: key "product": cannot decode TOML integer`},
		{"no product", "aliases = []\n", "key product is missing"},
		{"no era", "product = \"P\"\n", "no era"},
		{"first era", strings.Replace(good, "\"0\"", "\"5\"", 1), "since = \"0\""},
		{"compression", strings.Replace(good, "xz", "zip", 1), "compression = \"zip\""},
		{"manifest", strings.Replace(good, "[3]", "[4]", 1), "manifests holds 4"},
		{"signature", strings.Replace(good, "sha384", "md5", 1), "signature = \"md5\""},
		{"patches", strings.Replace(good, "mbdiff10", "vcdiff", 1), "patches"},
		{"patches on macOS", good + "patches_macos = [\"zucchini\"]\n", "patches_macos"},
		{"platform", good + "[[watershed]]\nversion = \"2\"\nplatforms = [\"solaris\"]\n", "\"solaris\""},
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
	sel, err := set.Select(build("Firefox", "140.0"), build("Firefox", "150.0"), nil)
	if err != nil || sel.Client.Members.Value[0] != updater.FormatBzip2 {
		t.Errorf("got %v, %v, want the own rules' bzip2", sel.Client, err)
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
	c := got.Client
	if !slices.Equal(c.Members, []updater.MemberFormat{updater.FormatXZ}) || !slices.Equal(c.Manifests, []updater.ManifestVersion{3}) ||
		c.Verifies != nil || c.Platform != updater.Linux || got.Gecko != "153.5.1" {
		t.Errorf("got %+v of Gecko %s", c, got.Gecko)
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
	b, err := ReadBuild(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DefaultSet().Client(b, b, nil); !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "xz and bzip2") {
		t.Errorf("got %v, want ErrContradiction that says both", err)
	}
}

package partial

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

func answer(list updater.Verdicts, c updater.Check) updater.Verdict {
	if at := slices.IndexFunc(list, func(v updater.Verdict) bool { return v.Check == c }); at >= 0 {
		return list[at]
	}
	return updater.Verdict{}
}

// What is called proved is what FROM's updater takes: members and manifests are the client's under every recipe, and the
// proof of anybody else agrees.
func TestClientsFormats(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata/reports/bzip2-local/from.mar"), updatetest.Open(t, "testdata/reports/bzip2-local/to.mar")
	for name, recipe := range map[string]Recipe{"default": DefaultRecipe(), "mozilla": MozillaRecipe()} {
		a, rep, err := Build(t.Context(), from, to, recipe, nil)
		if err != nil || !rep.Verified {
			t.Fatalf("%s: %v", name, err)
		}
		update := updatetest.Write(t, a)
		if update.Lookup("updatev2.manifest") == nil || update.Lookup("updatev3.manifest") != nil {
			t.Errorf("%s: entries %q, want the client's manifest", name, updatetest.Names(update))
		}
		for _, f := range update.Files() {
			if format, err := updater.MemberOf(f).Format(); err != nil || format != updater.FormatBzip2 {
				t.Errorf("%s: %s is %v, %v, want bzip2", name, f.Name, format, err)
			}
		}
		if err := Verify(t.Context(), from, update, to, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	recipe := DefaultRecipe()
	recipe.Compression.Format = updater.FormatXZ
	recipe.Manifests = []updater.ManifestVersion{updater.ManifestV3}
	_, rep, err := Build(t.Context(), from, to, recipe, nil)
	if !errors.Is(err, ErrRefused) || answer(rep.Checks, updater.CheckMembers).Code != updater.CodeXZ || answer(rep.Checks, updater.CheckManifests).Code != updater.CodeCrash {
		t.Errorf("a recipe that overrules the client: got %v", err)
	}
}

// The real updater crashes where the manifest that it looks for is absent.
func TestClientsManifest(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata/reports/channels/v2-from.mar"), updatetest.Open(t, "testdata/reports/channels/v2-to.mar")
	_, err := Prove(t.Context(), from, updatetest.Open(t, "testdata/reports/channels/v2-only.partial.mar"), to, nil)
	var ue *updater.UpdateError
	if !errors.As(err, &ue) || ue.Code != updater.CodeCrash {
		t.Errorf("got %v, want a crash", err)
	}
}

// A channel that FROM does not accept is refused where FROM's updater verifies, and a warning where that is not known.
func TestClientsChannel(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata/reports/channels/from.mar"), updatetest.Open(t, "testdata/reports/channels/to-other.mar")
	_, rep, err := Build(t.Context(), from, to, DefaultRecipe(), nil)
	if err != nil || !has(rep.Findings, KindClient, Warning, "") || !answer(rep.Checks, updater.CheckClientChannel).Warning {
		t.Errorf("not known whether it verifies: got %v, %+v", err, rep.Findings)
	}
	yes := true
	client, err := updater.ClientOf(from, updater.Claims{Verifies: &yes})
	if err != nil {
		t.Fatal(err)
	}
	_, rep, err = Build(t.Context(), from, to, DefaultRecipe(), &BuildOptions{Client: client})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Findings[0].Code != updater.CodeChannel || !strings.Contains(refused.Findings[0].WayOut, "--channel") || rep == nil {
		t.Errorf("it verifies: got %v", err)
	}
	if _, _, err = Build(t.Context(), from, to, DefaultRecipe(), &BuildOptions{Client: client, Skip: []updater.Check{updater.CheckClientChannel}}); err != nil {
		t.Errorf("left out: %v", err)
	}
	recipe := DefaultRecipe()
	recipe.Product = &mar.Product{Channel: "test-channel"}
	a, _, err := Build(t.Context(), from, to, recipe, &BuildOptions{Client: client})
	if err != nil || a.Product.Channel != "test-channel" || a.Product.Version != "1.1" {
		t.Errorf("the channel is set: got %v", err)
	}
}

// The updates of client-checks, as the real updater took or refused them.
func TestProveLikeUpdater(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata/client-checks/from.mar"), updatetest.Open(t, "testdata/client-checks/to.mar")
	for name, want := range map[string]updater.Code{"good": 0, "wrongmode": 0, "badchannel": 22, "downgrade": 23} {
		err := Verify(t.Context(), from, updatetest.Open(t, "testdata/client-checks/"+name+".partial.mar"), to, nil)
		var refused *updater.ClientError
		if want == 0 && err != nil || want != 0 && (!errors.As(err, &refused) || refused.Verdicts[0].Code != want) {
			t.Errorf("%s: got %v, want code %d", name, err, want)
		}
	}
}

// A precomplete that removes what is only added where it is missing takes the settings away with the next complete update.
func TestLostSettings(t *testing.T) {
	t.Parallel()
	from, to := updatetest.Open(t, "testdata/client-checks/badpre.from.mar"), updatetest.Open(t, "testdata/client-checks/badpre.to.mar")
	_, _, err := Build(t.Context(), from, to, DefaultRecipe(), nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Findings[0].Kind != KindPrecomplete || refused.Findings[0].Code != updater.CodeSettings {
		t.Errorf("partial: got %v", err)
	}
	if _, _, err := Build(t.Context(), from, to, DefaultRecipe(), &BuildOptions{Skip: []updater.Check{updater.CheckSettings}}); err != nil {
		t.Errorf("left out: %v", err)
	}
	tree := updatetest.Tree{
		"a": updatetest.File("1"), "update-settings.ini": updatetest.File("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=c\n"),
		"precomplete": updatetest.File("remove \"a\"\nremove \"update-settings.ini\"\nremove \"precomplete\"\n"),
	}
	if _, _, err := Pack(t.Context(), tree.FS(), PackOptions{}); !errors.As(err, &refused) || refused.Findings[0].Code != updater.CodeSettings {
		t.Errorf("pack: got %v", err)
	}
	if _, _, err := Pack(t.Context(), tree.FS(), PackOptions{Precomplete: PrecompleteGenerate}); err != nil {
		t.Errorf("pack with a new one: %v", err)
	}
	// The update itself removes the file.
	gone, left := releases(t, updatetest.Tree{"a": tree["a"], "update-settings.ini": tree["update-settings.ini"]}, updatetest.Tree{"a": updatetest.File("2")})
	if _, _, err := Build(t.Context(), gone, left, DefaultRecipe(), nil); !errors.As(err, &refused) || refused.Findings[0].Check != updater.CheckSettings {
		t.Errorf("removed: got %v", err)
	}
}

// FROM and TO in other formats: what goes in whole is compressed again as FROM's updater reads it, and named; both recipes,
// both ways.
func TestFormatsBothWays(t *testing.T) {
	t.Parallel()
	long := noisy(3000)
	old := updatetest.Tree{"patched": updatetest.File(long), "whole": updatetest.File("1"), "same": updatetest.File("s"), "precomplete": updatetest.File("remove \"same\"\n")}
	target := updatetest.Tree{
		"patched": updatetest.File(long + "x"), "whole": updatetest.File("2"), "same": updatetest.File("s"), "new": updatetest.File("n"),
		"precomplete": updatetest.File("remove \"same\"\n"),
	}
	packed := func(tree updatetest.Tree, f updater.MemberFormat) *mar.Reader {
		a, _, err := Pack(t.Context(), tree.FS(), PackOptions{Product: updatetest.TestProduct, Compression: Compression{Format: f}})
		if err != nil {
			t.Fatal(err)
		}
		return updatetest.Write(t, a)
	}
	for _, way := range [][2]updater.MemberFormat{{updater.FormatBzip2, updater.FormatXZ}, {updater.FormatXZ, updater.FormatBzip2}} {
		from, to := packed(old, way[0]), packed(target, way[1])
		for _, recipe := range []Recipe{DefaultRecipe(), MozillaRecipe()} {
			a, rep, err := Build(t.Context(), from, to, recipe, nil)
			if err != nil || !rep.Verified {
				t.Fatalf("%v, %s: %v", way, recipe.Name, err)
			}
			update := updatetest.Write(t, a)
			for _, f := range update.Files() {
				if format, err := updater.MemberOf(f).Format(); err != nil || format != way[0] {
					t.Errorf("%v, %s: %s is %v, %v", way, recipe.Name, f.Name, format, err)
				}
			}
			for _, name := range []string{"whole", "new"} {
				if !has(rep.Findings, KindMember, Repaired, name) {
					t.Errorf("%v, %s: nothing says that %s was compressed again: %v", way, recipe.Name, name, rep.Findings)
				}
			}
			if update.Lookup("patched.patch") == nil {
				t.Errorf("%v, %s: entries %q", way, recipe.Name, updatetest.Names(update))
			}
			if err := Verify(t.Context(), from, update, to, nil); err != nil {
				t.Errorf("%v, %s: %v", way, recipe.Name, err)
			}
		}
	}
}

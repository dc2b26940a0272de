package partial

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/exe/exetest"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
	"github.com/senbonzakura/senbonzakura/zucchini"
)

// A client that applies patches of some formats.
func clientApplying(tb testing.TB, formats ...string) *updater.Client {
	tb.Helper()
	c, err := updater.NewClient(updater.Claims{Patches: formats}, updater.Claims{}, updater.Claims{}, updater.TrustNeither)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func verdictOf(list updater.Verdicts, check updater.Check) updater.Verdict {
	i := slices.IndexFunc(list, func(v updater.Verdict) bool { return v.Check == check })
	if i < 0 {
		return updater.Verdict{}
	}
	return list[i]
}

// An update with Zucchini patches is made and proved where the client applies them, refused where it does not, and where
// nobody says so that is what the check comes to.
func TestZucchini(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	program := exetest.Random(r, exe.PE64, 200)
	from, to := releases(t,
		updatetest.Tree{"xul.dll": updatetest.File(string(program.Bytes())), "a": updatetest.File("1")},
		updatetest.Tree{"xul.dll": updatetest.File(string(program.Change(r, 5).Bytes())), "a": updatetest.File("1")})
	recipe := fastRecipe(RulesStrict)
	recipe.Differ = zucchini.New(zucchini.Options{})
	both, older := clientApplying(t, updater.PatchMBDIFF10, updater.PatchZucchini), clientApplying(t, updater.PatchMBDIFF10)

	update, _, rep := build(t, from, to, recipe, &BuildOptions{Client: both})
	if v := verdictOf(rep.Checks, updater.CheckPatches); v.Answer != updater.Holds || !rep.Verified {
		t.Errorf("got %v, verified %v", v, rep.Verified)
	}
	i := slices.IndexFunc(rep.Files, func(f FileReport) bool { return f.Path == "xul.dll" })
	if i < 0 || rep.Files[i].Action != ActionPatch {
		t.Fatalf("got %+v, want a patch of xul.dll", rep.Files)
	}
	for _, tt := range []struct {
		client *updater.Client
		want   updater.Answer
	}{{both, updater.Holds}, {older, updater.Fails}, {nil, updater.NotChecked}} {
		p, err := Prove(t.Context(), from, update, to, &VerifyOptions{Client: tt.client})
		if err != nil || len(p.Differences) > 0 {
			t.Fatalf("got %+v, %v", p, err)
		}
		v := verdictOf(p.Checks, updater.CheckPatches)
		if v.Answer != tt.want || tt.want == updater.Fails && v.Code != updater.CodePatchFormat || v.Warning != (tt.want == updater.NotChecked) {
			t.Errorf("got %+v, want %v", v, tt.want)
		}
	}
	if err := Verify(t.Context(), from, update, to, &VerifyOptions{Client: older}); !errors.Is(err, updater.ErrClient) {
		t.Errorf("got %v, want %v", err, updater.ErrClient)
	}
	if err := Verify(t.Context(), from, update, to, &VerifyOptions{Client: older, Skip: []updater.Check{updater.CheckPatches}}); err != nil {
		t.Errorf("skipped: %v", err)
	}
	if _, _, err := Build(t.Context(), from, to, recipe, &BuildOptions{Client: older}); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want %v", err, ErrRefused)
	}
}

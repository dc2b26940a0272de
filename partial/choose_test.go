package partial

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/exe"
	"github.com/senbonzakura/senbonzakura/internal/exe/exetest"
	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// noise returns n random bytes.
func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Which strategies are tried follows from the two files, and where one is not the reason is given.
func TestChoose(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	program := exetest.Random(r, exe.PE64, 3000)
	oldProgram, newProgram := program.Bytes(), program.Change(r, 20).Bytes()
	if len(newProgram) <= small {
		t.Fatalf("the program has only %d bytes", len(newProgram))
	}
	arm := slices.Clone(newProgram)
	machine := int(arm[60]) + int(arm[61])<<8 + 4
	copy(arm[machine:], []byte{0x64, 0xAA})
	large := noise(r, medium+1)
	touched := slices.Clone(large)
	for i := 0; i < len(touched); i += 300 {
		touched[i]++
	}
	sparse := slices.Clone(large[:4*small])
	sparse[small]++
	both, only := []string{updater.PatchMBDIFF10, updater.PatchZucchini}, []string{updater.PatchZucchini}
	for _, tt := range []struct {
		name     string
		formats  []string
		old, new []byte
		want     []string
	}{
		{"program", both, oldProgram, newProgram, []string{"zucchini"}},
		{"program of another machine", both, oldProgram, arm, []string{"zucchini-plain", "mbdiff10"}},
		{"nearly the same", both, large[:4*small], sparse, []string{"zucchini-plain"}},
		{"large and changed everywhere", both, large, touched, []string{"mbdiff10"}},
		{"small", both, large[:1000], touched[:1000], []string{"zucchini-plain", "mbdiff10"}},
		{"small program", both, oldProgram[:0x400], newProgram[:0x400], []string{"zucchini-plain", "mbdiff10"}},
		{"empty", both, nil, large[:10], []string{"mbdiff10"}},
		{"one format, two ways", only, large, touched, []string{"zucchini-plain"}},
		{"one format, empty", only, large[:10], nil, []string{"zucchini-plain"}},
		{"one way", []string{updater.PatchMBDIFF10}, oldProgram, newProgram, []string{"mbdiff10"}},
	} {
		list := Recipe{Formats: tt.formats}.strategies()
		chosen := choose(list, tt.old, tt.new)
		var got []string
		for i, s := range list {
			if chosen[i] == "" {
				got = append(got, s.name)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nreasons %q", tt.name, diff, chosen)
		}
	}
}

// Each file gets the smallest patch that the client applies, and the report says which and why. The cache has one entry for
// each format: who applies one of them finds what was made for who applies both, and the other way round.
func TestFormats(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	program := exetest.Random(r, exe.PE64, 400)
	text := bytes.Repeat([]byte("some text that is the same all over "), 3000)
	text = append(text, noise(r, 3000)...)
	changed := slices.Concat(text[:60_000], []byte("new"), text[60_000:])
	from, to := releases(t,
		updatetest.Tree{"xul.dll": updatetest.File(string(program.Bytes())), "omni.ja": updatetest.File(string(text)), "a": updatetest.File("1"), "e": updatetest.File("")},
		updatetest.Tree{"xul.dll": updatetest.File(string(program.Change(r, 9).Bytes())), "omni.ja": updatetest.File(string(changed)), "a": updatetest.File("2"), "e": updatetest.File("")})
	recipe := fastRecipe(RulesStrict)
	recipe.Differ = nil
	both, older := clientApplying(t, updater.PatchMBDIFF10, updater.PatchZucchini), clientApplying(t, updater.PatchMBDIFF10)

	cache := newTestCache()
	made := func(client *updater.Client, recipe Recipe) (*Report, []byte) {
		t.Helper()
		opts := &BuildOptions{Client: client, Patches: cache, Digests: cache, CacheMinimum: 1}
		a, rep, err := Build(t.Context(), from, to, recipe, opts)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if !rep.Verified || int64(out.Len()) != rep.Size {
			t.Errorf("verified %v, size %d of %d", rep.Verified, out.Len(), rep.Size)
		}
		return rep, out.Bytes()
	}
	file := func(rep *Report, name string) FileReport {
		return rep.Files[slices.IndexFunc(rep.Files, func(f FileReport) bool { return f.Path == name })]
	}

	oldReport, oldBytes := made(older, recipe)
	alone := recipe
	alone.Differ = bsdiff.New(bsdiff.Options{})
	if _, want := made(older, alone); !bytes.Equal(oldBytes, want) {
		t.Error("a client that applies MBDIFF10 alone gets other bytes than with MBDIFF10 alone")
	}
	if _, unknown := made(nil, recipe); !bytes.Equal(oldBytes, unknown) {
		t.Error("a client of which nothing is known gets other bytes than with MBDIFF10 alone")
	}
	f := file(oldReport, "xul.dll")
	if f.Format != updater.PatchMBDIFF10 || f.Candidates != nil {
		t.Errorf("got %+v, want MBDIFF10 without a choice", f)
	}

	puts := cache.puts
	rep, first := made(both, recipe)
	if rep.Size >= oldReport.Size || cache.puts == puts {
		t.Errorf("got %d bytes with a choice, %d without", rep.Size, oldReport.Size)
	}
	for _, name := range []string{"xul.dll", "omni.ja", "a"} {
		f := file(rep, name)
		smallest := int64(0)
		for _, c := range f.Candidates {
			if (c.Size == 0) == (c.Why == "") {
				t.Errorf("%s: got %+v, want a size or a reason", name, c)
			}
			if c.Size > 0 && (smallest == 0 || c.Size < smallest) {
				smallest = c.Size
			}
		}
		if len(f.Candidates) != 3 || f.Action == ActionPatch && f.Size != smallest || f.Action != ActionPatch && smallest > 0 {
			t.Errorf("%s: got %+v", name, f)
		}
	}
	if f := file(rep, "xul.dll"); f.Format != updater.PatchZucchini || !strings.Contains(f.Why, "zucchini") {
		t.Errorf("got %+v, want a Zucchini patch", f)
	}

	puts = cache.puts
	again, second := made(both, recipe)
	if !bytes.Equal(first, second) || cache.puts != puts || again.Cache.Misses > 0 {
		t.Errorf("the second time %d entries were put, %d misses", cache.puts-puts, again.Cache.Misses)
	}
	for i, f := range again.Files {
		if diff := cmp.Diff(rep.Files[i].Candidates, f.Candidates); diff != "" {
			t.Errorf("%s, from the cache (-want +got):\n%s", f.Path, diff)
		}
	}
	if third, _ := made(older, recipe); third.Cache.Misses > 0 || cache.puts != puts {
		t.Errorf("for the other client %d misses", third.Cache.Misses)
	}

	// a cache with a damaged choice is one without
	for key, v := range cache.patches {
		if strings.HasPrefix(key.Recipe, choiceVersion) {
			v[len(v)-1] ^= 1
		}
	}
	damaged, fourth := made(both, recipe)
	if !bytes.Equal(first, fourth) || damaged.Cache.Errors == 0 {
		t.Errorf("with damaged choices: %+v", damaged.Cache)
	}

	// what the recipe says overrules the client; what the client would refuse is refused
	forced := recipe
	forced.Formats = []string{updater.PatchMBDIFF10}
	if _, got := made(both, forced); !bytes.Equal(got, oldBytes) {
		t.Error("Formats do not overrule the client")
	}
	forced.Formats = []string{updater.PatchZucchini}
	if _, _, err := Build(t.Context(), from, to, forced, &BuildOptions{Client: older}); err == nil || !strings.Contains(err.Error(), updater.PatchZucchini) {
		t.Errorf("Zucchini for a client that does not apply it: %v", err)
	}
	for _, wrong := range []Recipe{{Formats: []string{"gzip"}}, {Differ: bsdiff.New(bsdiff.Options{}), Formats: []string{updater.PatchMBDIFF10}}} {
		if _, _, err := Build(t.Context(), from, to, wrong, nil); err == nil || !strings.HasPrefix(err.Error(), "recipe: ") {
			t.Errorf("%+v: got %v", wrong.Formats, err)
		}
	}
}

// What decides about bytes is part of the IDs.
func TestFormatsID(t *testing.T) {
	t.Parallel()
	seen := map[string][]string{}
	for _, formats := range [][]string{nil, {updater.PatchMBDIFF10}, {updater.PatchZucchini}, {updater.PatchMBDIFF10, updater.PatchZucchini}} {
		r := DefaultRecipe()
		r.Formats = formats
		id := r.ID()
		if other, ok := seen[id]; ok {
			t.Errorf("%v and %v have the ID %s", formats, other, id)
		}
		seen[id] = formats
		if len(formats) != 1 && !strings.Contains(id, choiceVersion) {
			t.Errorf("%v: %s lacks the version of the choice", formats, id)
		}
	}
}

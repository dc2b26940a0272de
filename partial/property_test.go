package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/senbonzakura/senbonzakura/partial/internal/updatetest"
	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
)

// Generated releases.

var fileNames = []string{
	"firefox", "firefox-bin", "libxul.so", "omni.ja", "browser/omni.ja", "browser/a b.txt", "é/ü.txt", "precomplete.txt", "x.chk", "sub/y.chk", "removed-files",
	"channel-prefs.js", "defaults/pref/channel-prefs.js", "update-settings.ini", "xchannel-prefs.js", "ChannelPrefs.framework/f", "a/UpdateSettings.framework/g",
	"distribution/extensions/one/f", "distribution/extensions/one/g", "distribution/extensions/two/d/f", "distribution/extensions/top.xpi",
	"distribution/distribution.ini", "deep/er/and/deep/er", "deep/er/f", "$HOME", "`ls`", "#x", "{foodir/f", "f.patch", "f", "libxul.so.patch",
}

// someContent returns file content of the kinds that releases have: text, noise, zeros, nothing.
func someContent(r *rand.Rand) []byte {
	switch r.IntN(6) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(3000))
	case 2:
		return updatetest.Noise(r, 1+r.IntN(20))
	case 3:
		return bytes.Repeat(updatetest.Noise(r, 1+r.IntN(30)), 1+r.IntN(50))
	}
	return updatetest.Noise(r, 200+r.IntN(800))
}

// someRelease returns a tree.
func someRelease(r *rand.Rand) updatetest.Tree {
	s := updatetest.Tree{}
	for _, n := range fileNames {
		if r.IntN(2) == 0 {
			continue
		}
		kind := "-"
		if r.IntN(4) == 0 {
			kind = "x"
		}
		data := string(someContent(r))
		if n == "removed-files" {
			data = someRemovedFiles(r)
		}
		s[n] = kind + data
	}
	if r.IntN(3) == 0 && s["firefox"] != "" {
		s["firefox-bin"] = s["firefox"]
	}
	return s
}

func someRemovedFiles(r *rand.Rand) string {
	lines := []string{"gone.txt", "gone/", "gone/*", "# comment", "", "  spaced  out ", "libxul.so", "browser/", "browser/*", "deep/er", "firefox/", "../x", "f\r"}
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString(lines[r.IntN(len(lines))] + "\n")
	}
	return b.String()
}

// nextRelease returns what could follow a tree.
func nextRelease(r *rand.Rand, from updatetest.Tree) updatetest.Tree {
	to := updatetest.Tree{}
	for _, n := range fileNames {
		v, ok := from[n]
		switch k := r.IntN(10); {
		case !ok && k < 8, ok && k == 0:
			continue
		case !ok, k == 1:
			v = "-" + string(someContent(r))
		case k < 5:
			v = v[:1] + string(updatetest.Edited(r, []byte(v[1:])))
		}
		if r.IntN(8) == 0 {
			v = string("-x"[r.IntN(2)]) + v[1:]
		}
		if n == "removed-files" {
			v = "-" + someRemovedFiles(r)
		}
		to[n] = v
	}
	if from["firefox"] != "" && from["firefox"] == from["firefox-bin"] && to["firefox"] != "" {
		to["firefox-bin"] = to["firefox"]
	}
	return to
}

// apply(partial, FROM) == TO, for generated pairs, 2,000 with SENBON_GATE, judged by Build's own proof, by Verify on the bytes
// as written, by Apply on a directory, and, for a sample, by an independent program.
func TestGeneratedTrees(t *testing.T) {
	t.Parallel()
	pairs, sample := testkit.Count(140, 2000, 40_000), testkit.Count(1, 5, 200)
	if testkit.Race {
		pairs = testkit.Count(40, 400, 4000)
	}
	workers := runtime.GOMAXPROCS(0)
	var mu sync.Mutex
	count := map[Action]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < pairs && !t.Failed(); i += workers {
				actions := generated(t, uint64(i), i%(pairs/sample) == 0)
				mu.Lock()
				for a, n := range actions {
					count[a] += n
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d pairs: %v", pairs, count)
	for _, a := range []Action{ActionSame, ActionPatch, ActionAdd, ActionRemove} {
		if count[a] < pairs/2 {
			t.Errorf("only %d times %q: the generator does not generate", count[a], a)
		}
	}
}

// generated makes and judges the pair of one seed.
func generated(t *testing.T, seed uint64, sample bool) map[Action]int {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	fromTree := someRelease(r)
	toTree := nextRelease(r, fromTree)
	if v, ok := fromTree[updater.SettingsFile]; ok && toTree[updater.SettingsFile] == "" {
		toTree[updater.SettingsFile] = v // an update that takes it away is refused
	}
	fail := func(err error) map[Action]int {
		t.Errorf("seed %d: %v", seed, err)
		return nil
	}
	packed := func(s updatetest.Tree) (*mar.Reader, []byte, error) {
		a, _, err := Pack(t.Context(), s.FS(), PackOptions{
			Product: updatetest.TestProduct, Platform: PlatformLinux, Workers: 1, Compression: Compression{Files: stored{}},
		})
		if err != nil {
			return nil, nil, err
		}
		return written(a)
	}
	from, fromBytes, err := packed(fromTree)
	if err != nil {
		return fail(err)
	}
	to, toBytes, err := packed(toTree)
	if err != nil {
		return fail(err)
	}
	a, rep, err := Build(t.Context(), from, to, fastRecipe(RulesStrict), &BuildOptions{Workers: 1 + int(seed%3)})
	if err != nil {
		return fail(err)
	}
	if !rep.Verified || len(rep.Broken()) > 0 {
		return fail(fmt.Errorf("got verified=%v and findings %v", rep.Verified, rep.Findings))
	}
	update, updateBytes, err := written(a)
	if err != nil {
		return fail(err)
	}
	if int64(len(updateBytes)) != rep.Size {
		return fail(fmt.Errorf("the report says %d bytes, there are %d", rep.Size, len(updateBytes)))
	}
	proof, err := Prove(t.Context(), from, update, to, nil)
	if err != nil || len(proof.Differences) > 0 {
		return fail(fmt.Errorf("prove: %w %v", err, proof))
	}
	actions := map[Action]int{}
	for _, f := range rep.Files {
		actions[f.Action]++
	}
	if seed%20 == 0 {
		if err := appliedOnDisk(t, from, to, update, proof); err != nil {
			return fail(err)
		}
	}
	if sample && len(proof.Expected) == 0 {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"from.mar": fromBytes, "to.mar": toBytes, "partial.mar": updateBytes} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return fail(err)
			}
		}
		if said, ok := askOracle(t, dir); !ok {
			return fail(fmt.Errorf("the independent applier says: %s", said))
		}
	}
	if seed%4 != 0 {
		return actions
	}
	// The rules of the scripts give what is right, or say that they do not.
	a, rep, err = Build(t.Context(), from, to, fastRecipe(RulesScripts), nil)
	switch {
	case errors.Is(err, ErrRefused): // a file with the name of a patch
	case err != nil:
		return fail(fmt.Errorf("scripts: %w", err))
	case !rep.Verified && len(rep.Broken()) == 0:
		return fail(errors.New("scripts: neither verified nor a finding"))
	default:
		update, _, err := written(a)
		if err != nil {
			return fail(err)
		}
		if err := Verify(t.Context(), from, update, to, nil); (err == nil) != rep.Verified {
			return fail(fmt.Errorf("scripts: the report says verified=%v, Verify says %w", rep.Verified, err))
		}
	}
	return actions
}

func written(a *mar.Archive) (*mar.Reader, []byte, error) {
	var buf bytes.Buffer
	if _, err := a.WriteTo(&buf); err != nil {
		return nil, nil, err
	}
	r, err := mar.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), nil)
	return r, buf.Bytes(), err
}

// appliedOnDisk applies an update to a directory and compares it with TO, but for what is meant to differ.
func appliedOnDisk(t *testing.T, from, to, update *mar.Reader, proof *Proof) error {
	t.Helper()
	dir := testkit.MemoryDir(t)
	updatetest.Contents(t, from).Write(t, dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := updater.Apply(t.Context(), root, update, nil); err != nil {
		return err
	}
	got, want := updatetest.Look(t, dir).Files(), updatetest.Contents(t, to)
	for _, d := range proof.Expected {
		delete(got, d.Path)
		delete(want, d.Path)
	}
	if diff := updatetest.DiffSnapshots(got, want); diff != "" {
		return errors.New("Apply: " + diff)
	}
	return nil
}

// askOracle asks the independent applier, where there is one.
func askOracle(t *testing.T, dir string) (string, bool) {
	t.Helper()
	shared := os.Getenv(testkit.SharedVariable)
	if shared == "" {
		shared = filepath.Join(filepath.Dir(testkit.Root(t)), "shared")
	}
	script := filepath.Join(shared, "oracle", "mar_oracle.py")
	if _, err := os.Stat(script); err != nil {
		return "", true
	}
	return runOracle(t, script, "check", filepath.Join(dir, "from.mar"), filepath.Join(dir, "partial.mar"), filepath.Join(dir, "to.mar"))
}

// The same inputs give the same bytes: for any number of workers, any bound on memory, with and without caches, cold
// and warm.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	fromTree := someRelease(r)
	size := 20_000
	if testkit.Race {
		size = 3000
	}
	for _, n := range []string{"libxul.so", "omni.ja", "firefox"} {
		fromTree[n] = "x" + string(updatetest.Noise(r, size))
	}
	toTree := updatetest.Tree{}
	for n, v := range fromTree {
		toTree[n] = v[:1] + string(updatetest.Edited(r, []byte(v[1:])))
	}
	toTree["removed-files"] = updatetest.File("")
	var first []byte
	cache := newTestCache()
	check := func(name string, opts BuildOptions, pack PackOptions) {
		t.Helper()
		pack.Product, pack.Platform = updatetest.TestProduct, PlatformLinux
		var readers []*mar.Reader
		for _, s := range []updatetest.Tree{fromTree, toTree} {
			a, _, err := Pack(t.Context(), s.FS(), pack)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, updatetest.Write(t, a))
		}
		a, _, err := Build(t.Context(), readers[0], readers[1], DefaultRecipe(), &opts)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, data, err := written(a)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(data, first) {
			t.Errorf("%s: other bytes", name)
		}
	}
	for _, workers := range []int{1, 2, 8} {
		check(fmt.Sprintf("%d workers", workers), BuildOptions{Workers: workers}, PackOptions{Workers: workers})
	}
	check("little memory", BuildOptions{Workers: 4, Memory: NewMemory(1)}, PackOptions{Memory: NewMemory(1)})
	check("not verified", BuildOptions{NoVerify: true}, PackOptions{})
	for _, name := range []string{"cold cache", "warm cache"} {
		check(name, BuildOptions{Patches: cache, Digests: cache, CacheMinimum: 1}, PackOptions{})
	}
	memo := NewMemo()
	for _, name := range []string{"cold memo", "warm memo"} {
		check(name, BuildOptions{Patches: cache, Memo: memo, CacheMinimum: 1}, PackOptions{})
	}
	check("warm cache of patches", BuildOptions{Patches: cache, CacheMinimum: 1}, PackOptions{})
	cache.damage()
	check("damaged cache", BuildOptions{Patches: cache, CacheMinimum: 1}, PackOptions{})
	check("failing cache", BuildOptions{Patches: failingCache{}, Digests: failingCache{}, CacheMinimum: 1}, PackOptions{})
}

// testCache is both caches, in memory, and counts.
type testCache struct {
	mu      sync.Mutex
	patches map[PatchKey][]byte
	digests map[[32]byte]Digest
	puts    int
}

func newTestCache() *testCache {
	return &testCache{patches: map[PatchKey][]byte{}, digests: map[[32]byte]Digest{}}
}

func (c *testCache) Get(_ context.Context, key PatchKey) ([]byte, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.patches[key]
	return v, ok, nil
}

func (c *testCache) Put(_ context.Context, key PatchKey, v []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	c.patches[key] = slices.Clone(v)
	return nil
}

func (c *testCache) Digest(_ context.Context, sum [32]byte) (Digest, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.digests[sum]
	return d, ok, nil
}

func (c *testCache) PutDigest(_ context.Context, sum [32]byte, d Digest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.digests[sum] = d
	return nil
}

// damage changes one bit of every value.
func (c *testCache) damage() {
	for _, v := range c.patches {
		v[len(v)-1] ^= 1
	}
}

type failingCache struct{}

var errCache = errors.New("the cache is broken")

func (failingCache) Get(context.Context, PatchKey) ([]byte, bool, error) { return nil, false, errCache }
func (failingCache) Put(context.Context, PatchKey, []byte) error         { return errCache }
func (failingCache) PutDigest(context.Context, [32]byte, Digest) error   { return errCache }
func (failingCache) Digest(context.Context, [32]byte) (Digest, bool, error) {
	return Digest{}, false, errCache
}

// countingDiffer counts its calls.
type countingDiffer struct {
	Differ
	mu    sync.Mutex
	calls int
}

func (c *countingDiffer) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	return c.Differ.Diff(ctx, patch, old, new)
}

// A patch serves every path and every locale: what was made once is not made again, nor applied, nor is either file
// unpacked.
func TestCacheServesOtherReleases(t *testing.T) {
	t.Parallel()
	t.Run("digests", func(t *testing.T) { testCacheServesOtherReleases(t, false) })
	t.Run("memo", func(t *testing.T) { testCacheServesOtherReleases(t, true) })
}

func testCacheServesOtherReleases(t *testing.T, memo bool) {
	t.Helper()
	long := noisy(20_000)
	locale := func(name, version string) updatetest.Tree {
		return updatetest.Tree{
			"libxul.so": updatetest.Program(long + version), "copy/libxul.so": updatetest.Program(long + version), "small": updatetest.File("s" + version), "locale.txt": updatetest.File(name + version),
			"huge-change": updatetest.File(strings.Repeat(version, 1+len(version)*20_000)),
		}
	}
	cache := newTestCache()
	differ := &countingDiffer{Differ: fastRecipe(RulesStrict).Differ}
	r := fastRecipe(RulesStrict)
	r.Differ = differ
	opts := &BuildOptions{Patches: cache, Digests: cache}
	if memo {
		opts.Digests, opts.Memo = nil, NewMemo()
	}
	var sizes []int64
	for i, name := range []string{"de", "fr"} {
		from, to := releases(t, locale(name, "1"), locale(name, "22"))
		before := differ.calls
		_, _, rep := build(t, from, to, r, opts)
		if !rep.Verified {
			t.Error("not verified")
		}
		calls := differ.calls - before
		cached, shared := 0, 0
		for _, f := range rep.Files {
			if f.Cached {
				cached++
			}
			if f.SharedWith != "" {
				shared++
			}
		}
		// large files: libxul.so once for both paths, huge-change; small ones: small, locale.txt
		want := []int{4, 2}[i]
		if calls != want || shared != 1 {
			t.Errorf("%s: got %d diffs and %d shared, want %d and 1", name, calls, shared, want)
		}
		if wantCached := []int{0, 3}[i]; cached != wantCached {
			t.Errorf("%s: got %d files from the cache, want %d", name, cached, wantCached)
		}
		sizes = append(sizes, rep.Size)
	}
	if sizes[0] != sizes[1] {
		t.Errorf("got %d and %d bytes", sizes[0], sizes[1])
	}
	// not verified: nothing may be put
	cache = newTestCache()
	from, to := releases(t, locale("de", "1"), locale("de", "22"))
	build(t, from, to, r, &BuildOptions{Patches: cache, NoVerify: true})
	if cache.puts != 0 {
		t.Errorf("%d patches that nobody verified were put into the cache", cache.puts)
	}
}

func TestBuildStopsWithItsContext(t *testing.T) {
	t.Parallel()
	from, to := releases(t, updatetest.Tree{"f": updatetest.File(noisy(1000))}, updatetest.Tree{"f": updatetest.File(noisy(1000) + "x")})
	ctx, cancel := context.WithCancel(t.Context())
	r := fastRecipe(RulesStrict)
	r.Differ = cancellingDiffer{cancel}
	if _, _, err := Build(ctx, from, to, r, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Build: got %v, want context.Canceled", err)
	}
	if err := Verify(ctx, from, to, to, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: got %v, want context.Canceled", err)
	}
	if _, _, err := Pack(ctx, updatetest.Tree{"f": updatetest.File("x")}.FS(), PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Pack: got %v, want context.Canceled", err)
	}
}

type cancellingDiffer struct{ cancel func() }

func (cancellingDiffer) ID() string { return "cancelling" }

func (cancellingDiffer) Format() string { return updater.PatchMBDIFF10 }

func (d cancellingDiffer) Diff(ctx context.Context, _ io.Writer, _, _ []byte) error {
	d.cancel()
	<-ctx.Done()
	return ctx.Err()
}

func TestRecipeID(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, change := range map[string]func(*Recipe){
		"default":  func(*Recipe) {},
		"mozilla":  func(r *Recipe) { *r = MozillaRecipe() },
		"rules":    func(r *Recipe) { r.Rules = RulesScripts },
		"arch":     func(r *Recipe) { r.Arch = "aarch64" },
		"platform": func(r *Recipe) { r.Platform = PlatformWindows },
		"force":    func(r *Recipe) { r.Force = []string{"a"} },
		"forces":   func(r *Recipe) { r.Force = []string{"a", "b"} },
		"product":  func(r *Recipe) { r.Product = updatetest.TestProduct },
		"manifest": func(r *Recipe) { r.Manifests = []updater.ManifestVersion{updater.ManifestV2} },
		"order":    func(r *Recipe) { r.Manifests = []updater.ManifestVersion{updater.ManifestV3, updater.ManifestV2} },
		"patches":  func(r *Recipe) { r.Compression.Patches = XZ{Level: LevelFast} },
		"files":    func(r *Recipe) { r.Compression.Files = XZ{Level: LevelFast} },
		"bzip2":    func(r *Recipe) { r.Compression = Compression{Files: Bzip2{}} },
		"level":    func(r *Recipe) { r.Compression.Level = Level6 },
		"differ":   func(r *Recipe) { r.Differ = MozillaRecipe().Differ },
		"format":   func(r *Recipe) { r.Compression.Format = updater.FormatBzip2 },
	} {
		r := DefaultRecipe()
		change(&r)
		id := r.ID()
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same ID %s", name, other, id)
		}
		seen[id] = name
	}
	a, b := DefaultRecipe(), DefaultRecipe()
	a.Name, a.Force, b.Force = "other", []string{"b", "a", "a"}, []string{"a", "b"}
	if a.ID() != b.ID() {
		t.Errorf("got %s and %s for recipes that give the same", a.ID(), b.ID())
	}
	for _, r := range []Recipe{{Rules: "x"}, {Platform: "x"}, {Manifests: []updater.ManifestVersion{1}}, {Compression: Compression{Format: "x"}}} {
		if _, _, err := Build(t.Context(), nil, nil, r, nil); err == nil || !strings.Contains(err.Error(), "recipe") {
			t.Errorf("%+v: got %v", r, err)
		}
	}
}

package senbonzakura

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// write puts files into a new directory and returns their names.
func write(t *testing.T, contents ...[]byte) []string {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for i, data := range contents {
		name := filepath.Join(dir, string(rune('a'+i))+".mar")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// A local file that is not the same at the end as at the beginning gives no update, and the error says whose it is.
func TestFileChangesWhileItIsRead(t *testing.T) {
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	for _, tt := range []struct {
		name   string
		change func(name string) error
		want   error
	}{
		{"longer", func(name string) error {
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			return errors.Join(err, f.Close())
		}, ErrChanged},
		{"later", func(name string) error { return os.Chtimes(name, time.Time{}, time.Now().Add(time.Hour)) }, ErrChanged},
		{"another file", func(name string) error {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			other := name + ".new" // of the same size and time
			return errors.Join(os.WriteFile(other, data, 0o600), os.Chtimes(other, time.Time{}, info.ModTime()), os.Rename(other, name))
		}, ErrChanged},
		{"gone", os.Remove, fs.ErrNotExist},
	} {
		for i, side := range []string{"FROM", "TO"} {
			t.Run(tt.name+" "+side, func(t *testing.T) {
				names := write(t, from, to)
				var once sync.Once
				var out bytes.Buffer
				result, err := newGenerator(t, "").GenerateTo(t.Context(), &out, Request{From: Source{File: names[0]}, To: Source{File: names[1]}}, func(e Event) {
					if e.Step == StepStoring {
						once.Do(func() {
							if err := tt.change(names[i]); err != nil {
								t.Error(err)
							}
						})
					}
				})
				var input *InputError
				if !errors.Is(err, tt.want) || !errors.As(err, &input) || input.Input != side || result != nil {
					t.Errorf("got %v, %v, want %v of %s and no result", result, err, tt.want, side)
				}
			})
		}
	}
}

// GenerateTo gives the bytes of Generate, and without a cache writes nothing but them.
func TestGenerateTo(t *testing.T) {
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	names := write(t, from, to)
	request := Request{From: Source{File: names[0]}, To: Source{File: names[1]}}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir := t.TempDir()
	cached := newGenerator(t, filepath.Join(dir, "cache"))
	want, err := cached.Generate(t.Context(), request, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for name, g := range map[string]*Generator{"with a cache": cached, "without": newGenerator(t, "")} {
		var out bytes.Buffer
		got, err := g.GenerateTo(t.Context(), &out, request, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(out.Bytes(), content(t, want, from, to)) || got.SHA512 != want.SHA512 || got.SHA256 != want.SHA256 || got.Size != want.Size || got.Key != want.Key {
			t.Errorf("%s: not the update that Generate gives", name)
		}
		if got.Report == nil || got.Provenance.Output.Size != got.Size || got.Cached != (g == cached) {
			t.Errorf("%s: %+v", name, got)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, where := range []string{temp, filepath.Dir(names[0])} {
		left, err := os.ReadDir(where)
		if err != nil || len(left) > 0 && where == temp || len(left) > 2 {
			t.Errorf("left in %s: %v, %v", where, left, err)
		}
	}
	// Nothing is given where the writer fails.
	if got, err := newGenerator(t, "").GenerateTo(t.Context(), failingWriter{}, request, nil); !errors.Is(err, errWriter) || got != nil {
		t.Errorf("a writer that fails: %v, %v", got, err)
	}
}

var errWriter = errors.New("the disk is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errWriter }

// packed makes a complete update of a tree.
func packed(t *testing.T, tree fstest.MapFS, level partial.Level, signers ...mar.Signer) []byte {
	t.Helper()
	archive, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
		Arch: "x86_64", Product: &mar.Product{Channel: "test", Version: "2"}, Compression: partial.Compression{Files: partial.XZ{Level: level}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if len(signers) > 0 {
		_, err = archive.WriteSigned(t.Context(), &out, signers...)
	} else {
		_, err = archive.WriteTo(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func signerOf(t *testing.T, algorithm mar.Algorithm) (mar.Signer, crypto.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s, err := mar.CryptoSigner(key, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return s, key.Public()
}

// What clients may fail on is made only on demand, and then neither signed nor stored.
func TestAllowFindings(t *testing.T) {
	tree := func(mode fs.FileMode) fstest.MapFS { // the scripts lose a mode that changes alone
		return fstest.MapFS{"run": {Data: []byte("#!/bin/sh\n"), Mode: mode}, "more": {Data: []byte(mode.String())}}
	}
	names := write(t, packed(t, tree(0o644), partial.LevelFast), packed(t, tree(0o755), partial.LevelFast))
	recipe := partial.MozillaRecipe()
	request := Request{From: Source{File: names[0]}, To: Source{File: names[1]}, Recipe: &recipe}
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	var out bytes.Buffer
	result, err := g.GenerateTo(t.Context(), &out, request, nil)
	if !errors.Is(err, partial.ErrRefused) || result == nil || len(result.Report.Broken()) == 0 || out.Len() > 0 {
		t.Fatalf("not asked for: %v, %v, %d bytes", result, err, out.Len())
	}
	request.AllowFindings = true
	if _, err := g.Generate(t.Context(), request, nil); !errors.Is(err, ErrRequest) {
		t.Errorf("Generate: %v, want ErrRequest", err)
	}
	allowed, err := g.GenerateTo(t.Context(), &out, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(allowed.Report.Broken()) == 0 || allowed.Report.Verified || int64(out.Len()) != allowed.Size || allowed.Key == result.Key {
		t.Errorf("allowed: %+v", allowed)
	}
	if r, err := mar.NewReader(bytes.NewReader(out.Bytes()), allowed.Size, nil); err != nil || len(r.Signatures()) > 0 {
		t.Errorf("%v, or it is signed", err)
	}
	for _, key := range []cache.Key{allowed.Key, ReportKey(allowed.Key), result.Key} {
		if _, err := g.store.Get(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%v is stored: %v", key, err)
		}
	}
	signer, _ := signerOf(t, mar.RSAPKCS1SHA384)
	counted := &countingSigner{Signer: signer}
	signing := newGenerator(t, "", func(o *Options) { o.Signers = []mar.Signer{counted} })
	out.Reset()
	if _, err := signing.GenerateTo(t.Context(), &out, request, nil); !errors.Is(err, ErrRequest) || counted.n != 0 || out.Len() > 0 {
		t.Errorf("with a signer: %v, signed %d times, %d bytes", err, counted.n, out.Len())
	}
}

// A directory is packed, and what comes of it is what comes of the complete update that Pack makes. What packing finds
// stands in the report.
func TestDirectories(t *testing.T) {
	trees := []fstest.MapFS{}
	var dirs []string
	for _, version := range []string{"1", "2"} {
		large := bytes.Repeat([]byte("a line\n"), 3000)
		tree := fstest.MapFS{
			"application.ini": {Data: []byte("[App]\nName=Fork\nVersion=" + version + "\n")},
			"large":           {Data: append(large, version...)}, "bin": {Data: []byte("\x7fELF" + version), Mode: 0o755},
		}
		dir := t.TempDir()
		for name, f := range tree {
			if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600|f.Mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
			t.Fatal(err)
		}
		trees, dirs = append(trees, tree), append(dirs, dir)
	}
	files := write(t, packed(t, trees[0], partial.LevelFast), packed(t, trees[1], partial.Level6))
	g := newGenerator(t, "")
	var outs [2]bytes.Buffer
	for i, names := range [][]string{dirs, files} {
		result, err := g.GenerateTo(t.Context(), &outs[i], Request{
			From: Source{File: names[0]}, To: Source{File: names[1]}, Channel: "test", ProductVersion: "2", Client: updater.Claims{Version: "1"},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		empty := slices.ContainsFunc(result.Report.Findings, func(f partial.Finding) bool { return f.Kind == partial.KindEmptyDirectory })
		if !result.Report.Verified || empty != (i == 0) {
			t.Errorf("%v: %v", names, result.Report.Findings)
		}
	}
	if !bytes.Equal(outs[0].Bytes(), outs[1].Bytes()) {
		t.Errorf("%d bytes from directories, %d others from files", outs[0].Len(), outs[1].Len())
	}
	var input *InputError
	if _, err := g.GenerateTo(t.Context(), &outs[0], Request{From: Source{File: dirs[0], Size: 3}, To: Source{File: dirs[1]}}, nil); !errors.As(err, &input) || input.Input != "FROM" {
		t.Errorf("a directory with a size: %v", err)
	}
}

// Under the rules of the scripts, empty directories of FROM's tree go where TO's tree does not have them. They are part of
// the update's name.
func TestEmptyDirectories(t *testing.T) {
	tree := func(text string, empty ...string) string {
		dir := t.TempDir()
		for _, d := range append(empty, "kept") {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"precomplete", "kept/file"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("remove \""+name+text+"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	keys := map[cache.Key]bool{}
	for _, tt := range []struct {
		from, to, recipe string
		want             []string
	}{
		{tree("1", "a/b", "c"), tree("2"), "mozilla", []string{"c/", "a/b/", "a/"}},
		{tree("1", "a/b", "c"), tree("2", "c"), "mozilla", []string{"a/b/", "a/"}},
		{tree("1"), tree("2", "c"), "mozilla", nil},
		{tree("1", "a/b", "c"), tree("2"), "default", nil},
	} {
		recipe := map[string]partial.Recipe{"mozilla": partial.MozillaRecipe(), "default": partial.DefaultRecipe()}[tt.recipe]
		var out bytes.Buffer
		result, err := newGenerator(t, "").GenerateTo(t.Context(), &out, Request{
			From: Source{File: tt.from}, To: Source{File: tt.to}, Recipe: &recipe, Channel: "test", ProductVersion: "2",
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		keys[result.Key] = true
		r, err := mar.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := updater.MemberOf(r.Lookup("updatev3.manifest")).Content(t.Context(), updater.Limits{}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		man, err := updater.ParseManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ins := range man.Instructions {
			if ins.Op == updater.OpRmdir {
				got = append(got, ins.Path)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: removes %q, want %q", tt.recipe, got, tt.want)
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys of four updates", len(keys))
	}
}

// A signer that the client is known to refuse, by its algorithm or its key, is refused before the work begins.
func TestRefusedSigner(t *testing.T) {
	sha384, public := signerOf(t, mar.RSAPKCS1SHA384)
	sha1, other := signerOf(t, mar.RSAPKCS1SHA1)
	tree := func(text string) fstest.MapFS {
		return fstest.MapFS{"application.ini": {Data: []byte("[App]\nName=Fork\nVersion=2\n")}, "text": {Data: []byte(text)}}
	}
	names := write(t, packed(t, tree("1"), partial.LevelFast, sha384), packed(t, tree("2"), partial.LevelFast, sha384))
	request := Request{From: Source{File: names[0]}, To: Source{File: names[1]}}
	for _, tt := range []struct {
		name   string
		signer mar.Signer
		keys   []crypto.PublicKey // of the client
		skip   []Check
		want   updater.Answer
	}{
		{"its algorithm", sha384, nil, nil, updater.NotChecked},
		{"its key", sha384, []crypto.PublicKey{other, public}, nil, updater.Holds},
		{"another algorithm", sha1, nil, nil, updater.Fails},
		{"another key", sha384, []crypto.PublicKey{other}, nil, updater.Fails},
		{"left out", sha1, []crypto.PublicKey{public}, []Check{CheckClientSignature}, updater.Skipped},
	} {
		counted := &countingSigner{Signer: tt.signer}
		g := newGenerator(t, "", func(o *Options) { o.Signers, o.ClientKeys = []mar.Signer{counted}, tt.keys })
		r := request
		r.Skip = tt.skip
		var steps []Step
		var out bytes.Buffer
		result, err := g.GenerateTo(t.Context(), &out, r, func(e Event) { steps = append(steps, e.Step) })
		if tt.want == updater.Fails {
			var check *CheckError
			if !errors.As(err, &check) || check.Check != CheckClientSignature || !errors.Is(err, updater.ErrClient) || counted.n != 0 || slices.Contains(steps, StepPacking) || out.Len() > 0 {
				t.Errorf("%s: %v after %v, signed %d times", tt.name, err, steps, counted.n)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		checks := result.Provenance.Checks
		if i := slices.IndexFunc(checks, func(v updater.Verdict) bool { return v.Check == CheckClientSignature }); i < 0 || checks[i].Answer != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, checks, tt.want)
		}
	}
	// Other keys of clients are other updates: one that was made for some is not handed out for others.
	keys := map[cache.Key]bool{}
	for _, have := range [][]crypto.PublicKey{nil, {public}, {other}, {public, other}} {
		g := newGenerator(t, "", func(o *Options) { o.Signers, o.ClientKeys = []mar.Signer{sha384}, have })
		o := g.order(request, [2]*local{})
		keys[o.Key()] = true
	}
	if len(keys) != 4 {
		t.Errorf("%d keys of updates for four sets of clients' keys", len(keys))
	}
}

// askedSigner counts how often it is asked for its keys, which stand in the keys of updates.
type askedSigner struct {
	rotatingSigner
	asked *int
}

func (s askedSigner) Keys() []mar.SignerInfo {
	*s.asked++
	return s.rotatingSigner.Keys()
}

// The key of an update is computed once, however often it is made or found.
func TestKeyIsComputedOnce(t *testing.T) {
	signer, _ := signerOf(t, mar.RSAPKCS1SHA384)
	o := newOrigin(t)
	asked := 0
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"), func(o *Options) {
		o.Signers = []mar.Signer{askedSigner{rotatingSigner{[]mar.Signer{signer}, new(int)}, &asked}}
	})
	order, err := g.Order(Request{
		From: o.source("a", release(t, "Firefox", "140.1", "de")), To: o.source("b", release(t, "Firefox", "140.2", "de")),
	})
	if err != nil || asked != 1 {
		t.Fatalf("%v; asked %d times, want once", err, asked)
	}
	if err := g.Prefetch(t.Context(), order, nil); err != nil || asked != 1 {
		t.Errorf("prefetch: %v; asked %d times, want once", err, asked)
	}
	for i, want := range []int{3, 3} { // what is made asks twice, whether the client has such a key, and whether the signer is who it said
		result, err := g.Make(t.Context(), order, nil)
		if err != nil {
			t.Fatal(err)
		}
		if asked != want || result.Key != order.Key() || result.Cached != (i > 0) {
			t.Errorf("make %d: asked %d times, want %d", i+1, asked, want)
		}
		result.Close()
	}
}

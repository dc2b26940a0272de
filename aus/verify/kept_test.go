package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// counting counts the bytes that are read.
type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += n
	return n, err
}

// Members are the same if all their bytes are, whatever their names; those with another end are told apart by it, without
// being read through.
func TestRecognise(t *testing.T) {
	t.Parallel()
	base := bytes.Repeat([]byte("member"), 50_000)
	changed := func(at int) []byte {
		b := bytes.Clone(base)
		b[at] ^= 1
		return b
	}
	known := newContents()
	seen := map[*content]string{}
	for _, tt := range []struct {
		name  string
		data  []byte
		same  string
		reads int // at most, of the member itself
	}{
		{"first", base, "first", 64},
		{"another end", changed(len(base) - 1), "another end", 64},
		{"another middle", changed(150_000), "another middle", len(base) + 64},
		{"another front", changed(0), "another front", 2*(128<<10) + 64},
		{"the same", base, "first", len(base) + 64},
		{"the same middle", changed(150_000), "another middle", 3*len(base) + 64},
		{"shorter", base[1:], "shorter", 64},
		{"tiny", base[:10], "tiny", 10},
		{"tiny again", base[:10], "tiny", 20},
		{"nothing", nil, "nothing", 0},
		{"nothing again", nil, "nothing", 0},
	} {
		c := &counting{ReaderAt: bytes.NewReader(tt.data)}
		e := &entry{raw: io.NewSectionReader(c, 0, int64(len(tt.data)))}
		e.Member = updater.NewMember(tt.name, 0o644, tt.data)
		got, err := known.recognise(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if seen[got] == "" {
			seen[got] = tt.name
		}
		if seen[got] != tt.same || c.n > tt.reads {
			t.Errorf("%s: is %q after %d bytes, want %q after %d at most", tt.name, seen[got], c.n, tt.same, tt.reads)
		}
	}
}

// newKeeper keeps in a directory, beside others that did.
func newKeeper(t *testing.T, dir string) *keeper {
	t.Helper()
	for _, sub := range []string{"mars", "installers"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k := &keeper{dir: dir, known: newContents()}
	t.Cleanup(k.open.close)
	return k
}

func marWith(t *testing.T, members ...string) []byte {
	t.Helper()
	a := &mar.Archive{}
	for i, m := range members {
		a.Entries = append(a.Entries, mar.BytesEntry(fmt.Sprint("m", i), 0o644, []byte(m)))
	}
	var out bytes.Buffer
	if _, err := a.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func noise(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return string(b)
}

// keptAs keeps a MAR, and looks whether it reads as what it was.
func keptAs(t *testing.T, k *keeper, name string, data []byte) *archive {
	t.Helper()
	a, err := k.keep(t.Context(), name, name, data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(a.src, 0, a.src.Size())); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s: %v", name, err)
	}
	for _, e := range a.entries {
		if _, err := k.known.recognise(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// Of a MAR only what no other has is written, and what is left reads as all of it, in this run and in a later one.
func TestKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newKeeper(t, dir)
	shared, other := noise(1, 10_000), noise(2, 5000)
	one := marWith(t, shared, "de", other)
	two := marWith(t, "another", "hr, longer", other, shared, noise(3, 1000))
	first := keptAs(t, k, "mars/one", one)
	a := keptAs(t, k, "installers/two", two)
	own := func(a *archive) string { // what no other has
		list := a.src.(*parts).Parts
		return filepath.Join(dir, list[len(list)-1].File) // the index is its own
	}
	size := func(a *archive) int {
		info, err := os.Stat(own(a))
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Size())
	}
	if size(first) != len(one) || size(a) > 1000+500 {
		t.Errorf("%d and %d bytes are written of %d and %d", size(first), size(a), len(one), len(two))
	}
	if k.known.unpacked.Load() != 0 || a.entries["m3"].content == nil {
		t.Error("what was compared is not remembered")
	}
	three := marWith(t, noise(3, 1000), shared) // parts of parts
	if c := keptAs(t, k, "mars/three", three); size(c) > 1000 {
		t.Errorf("%d bytes are written of what two others have", size(c))
	}
	later := newKeeper(t, dir)
	for name, data := range map[string][]byte{"mars/one": one, "installers/two": two, "mars/three": three} {
		src, err := later.source(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(io.NewSectionReader(src, 0, src.Size()), data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p, ok := src.(*parts); ok && !p.intact() {
			t.Errorf("%s is taken for damaged", name)
		}
	}
	text, err := os.ReadFile(own(first))
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	for what, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(own(first), text, 0o600) },
		"cut":     func() error { return os.Truncate(own(first), 1000) },
		"gone":    func() error { return os.Remove(own(first)) },
	} {
		if err := damage(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		later := newKeeper(t, dir)
		src, err := later.source("mars/three")
		if err != nil {
			t.Fatal(err)
		}
		if src.(*parts).intact() {
			t.Errorf("what it is made of is %s, and it is taken for intact", what)
		}
	}
	if _, err := k.source("mars/four"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was never kept: %v", err)
	}
}

// damagedLists are lists of parts that are damaged, or mean harm.
var damagedLists = []string{
	"", "\n", "{}", "{\n", "[]\n", `{"parts":[]}`, `{"parts":[{"size":1,"off":0}]}`, `{"parts":[{"size":-1,"off":0,"file":"a"}]}` + "\n", `{"parts":[{"size":0,"off":0,"file":"a"}]}` + "\n", `{"parts":[{"size":1,"off":-1,"file":"a"}]}` + "\n",
	`{"parts":[{"size":1,"off":0,"file":"../../etc/passwd"}]}` + "\n", `{"parts":[{"size":1,"off":0,"file":"/etc/passwd"}]}` + "\n",
	`{"parts":[{"size":9223372036854775807,"off":0,"file":"a"},{"size":9223372036854775807,"off":0,"file":"a"}]}` + "\n",
}

// Lists of parts that are damaged, or mean harm, are refused.
func TestDamagedParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newKeeper(t, dir)
	for _, list := range append(slices.Clone(damagedLists), `{"parts":[{"size":1,"off":0,"file":"a"}`+strings.Repeat(" ", maxParts)+"]}") {
		if err := os.WriteFile(filepath.Join(dir, "mars", "odd.parts"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if src, err := k.source("mars/odd"); err == nil {
			t.Errorf("%.60q: is taken, with %d bytes", list, src.Size())
		}
	}
}

// Buffers are used again, and never come to more than the bound.
func TestBuffers(t *testing.T) {
	t.Parallel()
	b := &buffers{limit: 100}
	first, second := b.get(60), b.get(40)
	if len(first) != 60 || len(second) != 40 || b.get(1) != nil || b.get(0) != nil || b.get(-1) != nil || b.get(101) != nil {
		t.Error("the bound is not kept")
	}
	b.put(first)
	b.put(nil)
	if again := b.get(50); len(again) != 50 || &again[0] != &first[0] {
		t.Error("a buffer that is free is not used again")
	}
	b.put(second)
	if b.get(41) != nil {
		t.Error("60 and 41 are more than 100")
	}
	b.put(first)
	if got := b.get(100); len(got) != 100 || b.held != 100 {
		t.Errorf("no room, though nothing is in use: %d are held", b.held)
	}
}

// passes runs a release in which nothing is wrong.
func (r *release) passes(tb testing.TB, o *RunOptions) {
	tb.Helper()
	report, err := Run(tb.Context(), r.config(), o)
	if err != nil {
		tb.Fatal(err)
	}
	if !report.Passed(true) {
		tb.Fatalf("%+v", report.Groups)
	}
}

// Without room in memory everything goes through files, and comes to the same.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 2, 2, 1)
	o := r.options(t)
	o.Memory, o.Work = 1, t.TempDir()
	r.passes(t, o)
	if list, err := filepath.Glob(filepath.Join(o.Work, "mars", "*.parts")); err != nil || len(list) > 0 {
		t.Errorf("there was no room, and %q came through memory: %v", list, err)
	}
}

// A work directory whose files were damaged, or are gone, costs another fetch and nothing else.
func TestDamagedWork(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 3, 1)
	o := r.options(t)
	o.Work, o.Workers = t.TempDir(), 1
	r.passes(t, o)
	kept := func() []string {
		var list []string
		for _, pattern := range []string{"mars/*", "installers/*"} {
			names, err := filepath.Glob(filepath.Join(o.Work, pattern))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, names...)
		}
		return list
	}
	if list := kept(); len(list) < 2*(3+3+3) || !strings.HasSuffix(list[0], partsEnding) {
		t.Fatalf("kept is %q", list)
	}
	o.Again = AgainAll
	rnd := rand.New(rand.NewPCG(1, 2))
	for what, damage := range map[string]func(name string) error{
		"cut":         func(name string) error { return os.Truncate(name, 100) },
		"gone":        os.Remove,
		"other bytes": func(name string) error { return os.WriteFile(name, []byte(noise(9, 5000)), 0o600) },
	} {
		for _, name := range kept() {
			if rnd.IntN(3) > 0 {
				continue
			}
			if err := damage(name); err != nil {
				t.Fatal(err)
			}
		}
		for _, o.Memory = range []int64{1, 0} { // through the disk, and through memory
			report, err := Run(t.Context(), r.config(), o)
			if err != nil || !report.Passed(true) {
				t.Errorf("%s, memory %d: %v: %+v", what, o.Memory, err, report.Groups)
			}
		}
	}
}

// A work directory that takes nothing any more is trouble of this machine, and no failure of an update.
func TestNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 2, 1)
	for _, tt := range []struct {
		gone, when string
		memory     int64
	}{
		{"mars", "/update/", 0}, {"mars", "/update/", 1}, {"installers", "/update/", 0}, {"installers", "/from/", 0}, {"installers", "/from/", 1},
	} {
		o := r.options(t)
		o.Work, o.Memory = t.TempDir(), tt.memory
		o.HTTP = &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.HasPrefix(req.URL.Path, tt.when) {
				if err := os.RemoveAll(filepath.Join(o.Work, tt.gone)); err != nil {
					return nil, err
				}
			}
			return http.DefaultTransport.RoundTrip(req)
		})}
		report, err := Run(t.Context(), r.config(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range report.Tests {
			if test := &report.Tests[i]; test.Result != Error || test.Reasons[0].Code != SetupTrouble {
				t.Errorf("%+v: %s %+v", tt, test.Result, test.Reasons)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The end of the context ends a comparison.
func TestRecogniseEnds(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, t.TempDir())
	data := marWith(t, noise(1, 1000))
	keptAs(t, k, "mars/one", data)
	ctx, end := context.WithCancel(t.Context())
	end()
	if _, err := k.keep(ctx, "mars/two", "two", data); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What was missing and came is found when what failed is run again, and nothing else is asked for.
func TestAgainFailed(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 3, 1)
	r.gone = fmt.Sprintf("/partial/%s/%s/%s.mar", r.platforms[0], r.releases[0], r.locales[1])
	o := r.options(t)
	o.Work = t.TempDir()
	report, err := Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	missing := Identity{"Firefox", r.releases[0], buildID(0), r.platforms[0], r.locales[1], "esr-localtest", "partial"}
	checkPlanted(t, report, map[Identity]Code{missing: MARMissing})
	r.gone = ""
	if report, err = Run(t.Context(), r.config(), o); err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, report, map[Identity]Code{missing: MARMissing}) // nobody asked for it to be run again
	clear(r.asked)
	o.Again = AgainFailed
	if report, err = Run(t.Context(), r.config(), o); err != nil || !report.Passed(true) {
		t.Errorf("%v: %+v", err, report.Groups)
	}
	for path := range r.asked {
		if !strings.Contains(path, r.locales[1]) || strings.HasPrefix(path, "/from/") || strings.HasPrefix(path, "/to/") {
			t.Errorf("%s is asked for, which the work directory has", path)
		}
	}
}

// A work directory of an earlier version has MARs as whole files: they serve. Whole installers, of which nothing says what they
// should be, do not.
func TestOlderWork(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 2, 1)
	o := r.options(t)
	o.Work = t.TempDir()
	r.passes(t, o)
	k := newKeeper(t, o.Work)
	for _, sub := range []string{"mars", "installers"} {
		lists, err := filepath.Glob(filepath.Join(o.Work, sub, "*"+partsEnding))
		if err != nil || len(lists) == 0 {
			t.Fatalf("%d, %v", len(lists), err)
		}
		whole := map[string][]byte{}
		for _, list := range lists {
			name := strings.TrimSuffix(list, partsEnding)
			src, err := k.source(sub + "/" + filepath.Base(name))
			if err != nil {
				t.Fatal(err)
			}
			if whole[name], err = io.ReadAll(io.NewSectionReader(src, 0, src.Size())); err != nil {
				t.Fatal(err)
			}
		}
		k.open.close()
		if err := os.RemoveAll(filepath.Join(o.Work, sub)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(o.Work, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, data := range whole {
			if sub == "installers" {
				data = data[:len(data)/2] // by a power cut
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	clear(r.asked)
	o.Again = AgainAll
	r.passes(t, o)
	for path := range r.asked {
		if strings.HasPrefix(path, "/partial/") || strings.HasPrefix(path, "/to/") {
			t.Errorf("%s is asked for, which the work directory has", path)
		}
	}
}

// FuzzParts reads any list of parts without trouble; what is taken says of every byte where it is.
func FuzzParts(f *testing.F) {
	for _, list := range damagedLists {
		f.Add([]byte(list), int64(0), int64(1))
	}
	f.Add([]byte(`{"crc32c":1,"parts":[{"size":3,"off":5,"file":"a"},{"size":4,"off":0,"file":"b/c"}]}`), int64(2), int64(2))
	dir := f.TempDir()
	var open openFiles
	f.Fuzz(func(t *testing.T, text []byte, off, size int64) {
		p, err := parseParts(text, func(name string) lazyFile { return lazyFile{filepath.Join(dir, "none", name), &open} })
		if err != nil {
			return
		}
		at := p.place(off, size)
		if inside := off >= 0 && size > 0 && off < p.size && size <= p.size-off; at != (place{}) && !inside {
			t.Errorf("%d bytes at %d of %d are in %+v", size, off, p.size, at)
		} else if inside && p.place(off, 1) == (place{}) {
			t.Errorf("the byte at %d of %d is nowhere", off, p.size)
		}
		if n, err := p.ReadAt(make([]byte, 16), off); n != 0 || err == nil {
			t.Errorf("%d bytes of files that are not there, %v", n, err)
		}
		if p.intact() {
			t.Error("what is not there is intact")
		}
	})
}

// A MAR that is another one now, at the same address, is not taken from the work directory.
func TestChangedMAR(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 2, 1)
	o := r.options(t)
	o.Work = t.TempDir()
	r.passes(t, o)
	path := fmt.Sprintf("/partial/%s/%s/%s.mar", r.platforms[0], r.releases[0], r.locales[1])
	delete(r.files, path)
	delete(r.made, path)
	r.fault = func(_, locale, _, patchType string) string {
		if locale == r.locales[1] && patchType == "partial" {
			return "wrong-tree"
		}
		return ""
	}
	o.Again = AgainAll
	report, err := Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, report, map[Identity]Code{{"Firefox", r.releases[0], buildID(0), r.platforms[0], r.locales[1], "esr-localtest", "partial"}: TreeDiffers})
}

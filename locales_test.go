package senbonzakura

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// locales is a release in many locales, made of one real pair: each locale has all files of the pair, as they are
// stored, and four of its own, three of which change. It is an opener for fetch, of URLs like release://xx-1/from, so
// that what it takes to serve it is not a part of what is measured.
type locales struct {
	from, to *mar.Reader
	serving  map[string][]byte
	served   atomic.Int64
}

func newLocales(t *testing.T, dir string) *locales {
	t.Helper()
	open := func(name string) *mar.Reader {
		r, err := mar.OpenFile(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r.Reader
	}
	return &locales{from: open("from.mar"), to: open("to.mar")}
}

// prepare makes the two completes of a locale, which stay servable until the next call, and returns the request for its
// update.
func (l *locales) prepare(t *testing.T, i int) Request {
	t.Helper()
	l.serving = map[string][]byte{}
	words := func(seed uint64, n int) []byte {
		r := rand.New(rand.NewPCG(uint64(i), seed))
		var b bytes.Buffer
		for b.Len() < n {
			fmt.Fprintf(&b, "message-%d = %x in locale %d\n", r.IntN(1000), r.Uint32(), i)
		}
		return b.Bytes()
	}
	var files [4][2][]byte
	for f := range files {
		old := words(uint64(f), 4000<<f)
		changed := old
		if f > 0 {
			changed = bytes.Replace(old, []byte(" in locale"), []byte(" (new) in locale"), 1)
		}
		files[f] = [2][]byte{old, append(changed[:len(changed):len(changed)], old[:100*f]...)}
	}
	var sources [2]Source
	for side, base := range []*mar.Reader{l.from, l.to} {
		archive := base.Archive()
		for f, content := range files {
			var packed bytes.Buffer
			w, err := partial.XZ{Level: partial.LevelFast}.NewWriter(t.Context(), &packed, partial.Content{Kind: partial.ContentFile, Size: int64(len(content[side]))})
			if err == nil {
				_, err = w.Write(content[side])
				err = errors.Join(err, w.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			archive.Entries = append(archive.Entries, mar.BytesEntry(fmt.Sprintf("localization/locale/%d.ftl", f), 0o644, packed.Bytes()))
		}
		var out bytes.Buffer
		if _, err := archive.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("release://xx-%d/%s.mar", i, []string{"from", "to"}[side])
		sum := sha512.Sum512(out.Bytes())
		l.serving[name] = out.Bytes()
		sources[side] = Source{
			URLs: []string{name}, Size: int64(out.Len()), Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: sum[:]}},
		}
	}
	return Request{From: sources[0], To: sources[1], Locale: fmt.Sprint("xx-", i)}
}

// Open implements [fetch.Opener].
func (l *locales) Open(_ context.Context, u *url.URL, _ fetch.Position) (*fetch.Object, error) {
	data, ok := l.serving[u.String()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	l.served.Add(int64(len(data)))
	return &fetch.Object{Body: io.NopCloser(bytes.NewReader(data)), Size: int64(len(data)), Validator: "1"}, nil
}

// makePair writes two small completes of 16 files, 14 of which change, into a new directory.
func makePair(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"from.mar", "to.mar"} {
		tree := fstest.MapFS{}
		for f := range 16 {
			data := make([]byte, 20_000)
			_, _ = rand.NewChaCha8([32]byte{byte(f)}).Read(data) // never fails
			if f > 1 {
				data[f*1000] += byte(i)
			}
			tree[fmt.Sprint("file-", f)] = &fstest.MapFile{Data: data, Mode: 0o644}
		}
		a, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
			Product: &mar.Product{Channel: "test", Version: fmt.Sprintf("%d.0", 1+i)}, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLocales makes the updates of a release in many locales and holds how many patches that takes. The pair is made up;
// with SENBON_GATE or SENBON_LONG it is that of the small corpus, or the one in the directory that SENBON_FIREFOX names
// (from.mar, to.mar), and what further locales take is held against what the first one takes: for 5 locales, with
// SENBON_LONG for 100. SENBON_LOCALES sets the number.
//
// A further locale has to verify its own completes. So their SHA-512 is what the rest is compared with, on the same bytes.
func TestLocales(t *testing.T) {
	dir, measured := os.Getenv("SENBON_FIREFOX"), !testkit.Race
	switch {
	case dir != "":
	case testkit.Count(0, 1, 1) == 0:
		dir, measured = makePair(t), false // too small to measure anything
	default:
		dir = testkit.Shared(t, "corpus", "firefox-small")
	}
	n := testkit.Count(4, 5, 100)
	if text := os.Getenv("SENBON_LOCALES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 2 {
			t.Fatalf("SENBON_LOCALES=%s: want a number of 2 or more", text)
		}
	}
	l := newLocales(t, dir)
	store := filepath.Join(t.TempDir(), "cache")
	start := func() (g *Generator, end func()) {
		disk, err := cache.OpenDisk(t.Context(), store, nil)
		if err != nil {
			t.Fatal(err)
		}
		client, err := fetch.New(&fetch.Options{Openers: map[string]fetch.Opener{"release": l}, Dir: disk.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		layered := cache.NewLayered([]cache.Store{disk}, nil)
		if g, err = New(Options{Cache: layered, Fetch: client}); err != nil {
			t.Fatal(err)
		}
		return g, func() { g.Close(); layered.Close(); disk.Close(); client.Close() }
	}

	g, end := start()
	requests := make([]Request, n)
	cpu := make([]time.Duration, n)
	read := make([]int64, n)
	var hits, misses int64
	var hashing time.Duration
	for i := range n {
		requests[i] = l.prepare(t, i)
		if i > 0 {
			before := usedCPU(t)
			for _, data := range l.serving {
				_ = sha512.Sum512(data)
			}
			hashing += usedCPU(t) - before
		}
		before, readBefore := usedCPU(t), readBytes()
		res, err := g.Generate(t.Context(), requests[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		cpu[i], read[i] = usedCPU(t)-before, readBytes()-readBefore
		if !res.Report.Verified || res.Cached {
			t.Errorf("locale %d: verified %v, cached %v, want a new update that is proved", i, res.Report.Verified, res.Cached)
		}
		if i > 0 {
			hits, misses = hits+res.Report.Cache.Hits, misses+res.Report.Cache.Misses
		}
		if i == n-1 { // and applied to files, which is not measured
			content(t, res, l.serving[requests[i].From.URLs[0]], l.serving[requests[i].To.URLs[0]])
		}
		res.Close()
	}
	end()

	// The second run of everything, by a new process as it were.
	l.serving = nil
	g, end = start()
	defer end()
	began, before := time.Now(), usedCPU(t)
	for i := range n {
		res, err := g.Generate(t.Context(), requests[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Cached {
			t.Errorf("locale %d was made again", i)
		}
		res.Close()
	}
	second, secondCPU := time.Since(began), usedCPU(t)-before

	var more time.Duration
	var moreRead int64
	for i := 1; i < n; i++ {
		more, moreRead = more+cpu[i], moreRead+read[i]
	}
	times := func(d time.Duration) float64 { return float64(cpu[0]+d) / float64(cpu[0]) }
	each := time.Duration(n - 1)
	t.Logf("%d locales: CPU %v for the first, %.2f times that for all; %v for each more, of which hashing its completes takes %v; without that, %.2f times for all",
		n, cpu[0], times(more), more/each, hashing/each, times(more-hashing))
	t.Logf("%d MB of completes; %d MB read for the first, %d MB for each more; patches for those: %d from the cache, %d made",
		l.served.Load()>>20, read[0]>>20, moreRead/int64(n-1)>>20, hits, misses)
	t.Logf("second run of everything: %v, CPU %v", second, secondCPU)
	if perLocale := hits / int64(n-1); misses > 3*int64(n-1) || perLocale < 10 {
		t.Errorf("%d patches for each further locale from the cache and %d made for all, want only those of its own files made", perLocale, misses)
	}
	if !measured {
		return
	}
	if more > 4*hashing {
		t.Errorf("each more locale takes %v, more than 4 times what hashing its completes takes, %v", more/each, hashing/each)
	}
	if times(more-hashing)-1 > 0.03*float64(n-1) {
		t.Errorf("%d locales take %.2f times the CPU time of one, besides hashing their completes", n, times(more-hashing))
	}
	if secondCPU > 2*time.Second {
		t.Errorf("the second run took %v of CPU time, want at most 2 s", secondCPU)
	}
}

// readBytes returns how many bytes this process has read from files and sockets, where the system says.
func readBytes() int64 {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	var n int64
	_, _ = fmt.Sscanf(strings.TrimSpace(string(data)), "rchar: %d", &n)
	return n
}

package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content returns n bytes that follow from the seed and do not repeat.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func sum512(b []byte) fetch.Hash {
	s := sha512.Sum512(b)
	return fetch.Hash{Algorithm: fetch.SHA512, Sum: s[:]}
}

func hashOf(a fetch.Algorithm, b []byte) fetch.Hash {
	h := map[fetch.Algorithm]hash.Hash{fetch.SHA512: sha512.New(), fetch.SHA384: sha512.New384(), fetch.SHA256: sha256.New(), fetch.SHA1: sha1.New()}[a]
	h.Write(b)
	return fetch.Hash{Algorithm: a, Sum: h.Sum(nil)}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// client returns one that may ask test servers and does not wait long.
func client(tb testing.TB, change func(o *fetch.Options)) *fetch.Client {
	tb.Helper()
	o := &fetch.Options{
		Insecure: true, AllowNetworks: loopback, Dir: tb.TempDir(),
		Backoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond, Stall: 10 * time.Second,
	}
	if change != nil {
		change(o)
	}
	c, err := fetch.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close()
		// Whatever happened, nothing that was fetched is leftb.
		if left, err := os.ReadDir(o.Dir); err == nil && len(left) > 0 {
			tb.Errorf("%d temporary files are left", len(left))
		}
	})
	return c
}

// origin serves one file, and misbehaves as it is told.
type origin struct {
	*httptest.Server
	data     []byte
	noRange  bool
	etag     func(request int) string
	cut      func(request int) int // after how many bytes of the body the connection breaks; -1 for never
	requests atomic.Int64
	sent     atomic.Int64
}

func newOrigin(tb testing.TB, data []byte) *origin {
	tb.Helper()
	o := &origin{data: data}
	o.Server = httptest.NewServer(o)
	tb.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(o.requests.Add(1))
	tag := `"one"`
	if o.etag != nil {
		tag = o.etag(n)
	}
	if tag != "" {
		w.Header().Set("ETag", tag)
	}
	from, status := 0, http.StatusOK
	if span, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !o.noRange && r.Header.Get("If-Range") == tag {
		from, _ = strconv.Atoi(strings.TrimSuffix(span, "-"))
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(o.data)-1, len(o.data)))
	}
	body := o.data[from:]
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	cut := -1
	if o.cut != nil {
		cut = o.cut(n)
	}
	if cut < 0 || cut >= len(body) {
		m, _ := w.Write(body)
		o.sent.Add(int64(m))
		return
	}
	m, _ := w.Write(body[:cut])
	o.sent.Add(int64(m))
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func mustFetch(t *testing.T, c *fetch.Client, r fetch.Request, want []byte) {
	t.Helper()
	f, err := c.Fetch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f.Reader())
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
	if f.SHA512() != sha512.Sum512(want) || f.Size() != int64(len(want)) {
		t.Fatalf("hash or size of the file differs")
	}
}

func TestFetch(t *testing.T) {
	data := content(1, 300_000)
	o := newOrigin(t, data)
	c := client(t, nil)
	var last, calls int64
	f, err := c.Fetch(t.Context(), fetch.Request{
		URLs: []string{o.URL}, Size: int64(len(data)), Hashes: []fetch.Hash{sum512(data)},
		Progress: func(done, total int64) {
			calls++
			if done < last || total != int64(len(data)) {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != int64(len(data)) || calls == 0 {
		t.Errorf("progress ended at %d after %d calls", last, calls)
	}
	if st, err := os.Stat(f.Name()); err != nil || st.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("temporary file: %v, %v", st, err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := os.Stat(f.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the file is there: %v", err)
	}
}

// Into memory as onto a disk: broken downloads go on, and what is wrong is an error.
func TestFetchInto(t *testing.T) {
	data := content(1, 300_000)
	broken := newOrigin(t, data)
	broken.cut = func(n int) int { return []int{-1, 100_000, -1}[n] }
	longer := newOrigin(t, append(bytes.Clone(data), 'x'))
	other := newOrigin(t, content(2, len(data)))
	right := fetch.Request{Size: int64(len(data)), Hashes: []fetch.Hash{sum512(data)}}
	unknown := right
	unknown.Size = 0
	for _, tt := range []struct {
		name   string
		origin *origin
		r      fetch.Request
		room   int
		ok     bool
	}{
		{"broken once", broken, right, len(data) + 10, true},
		{"longer than it should be", longer, right, len(data) + 10, false},
		{"other bytes", other, right, len(data), false},
		{"no room", broken, right, len(data) - 1, false},
		{"unknown size", broken, unknown, len(data), false},
	} {
		c := client(t, nil)
		tt.r.URLs = []string{tt.origin.URL}
		buf := make([]byte, tt.room)
		err := c.FetchInto(t.Context(), tt.r, buf)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.ok && !bytes.Equal(buf, append(bytes.Clone(data), make([]byte, tt.room-len(data))...)) {
			t.Errorf("%s: other bytes than those that were sent", tt.name)
		}
	}
	if broken.requests.Load() != 2 || broken.sent.Load() != int64(len(data)) {
		t.Errorf("%d requests brought %d bytes, want 2 with each byte once", broken.requests.Load(), broken.sent.Load())
	}
}

func TestKeep(t *testing.T) {
	data := content(2, 1000)
	o := newOrigin(t, data)
	dir := t.TempDir()
	c := client(t, func(o *fetch.Options) { o.Dir = filepath.Join(dir, "tmp"); os.Mkdir(o.Dir, 0o700) })
	f, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{o.URL}, Hashes: []fetch.Hash{sum512(data)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Keep(filepath.Join(dir, "absent", "x")); err == nil {
		t.Error("Keep in an absent directory: no error")
	}
	name := filepath.Join(dir, "kept")
	if err := f.Keep(name); err != nil {
		t.Fatal(err)
	}
	if err := f.Keep(name); err == nil {
		t.Error("second Keep: no error")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("kept file: %d bytes, %v", len(got), err)
	}
}

func TestHashes(t *testing.T) {
	data := content(3, 5000)
	o := newOrigin(t, data)
	s1, s256, s384, s512 := sha1.Sum(data), sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	tests := []struct {
		hash string
		weak bool
	}{
		{fmt.Sprintf("%x", s512), false},
		{fmt.Sprintf("SHA-512:%X", s512), false},
		{fmt.Sprintf("sha384:%x", s384), false},
		{fmt.Sprintf("%x", s256), false},
		{fmt.Sprintf("sha1:%x", s1), true},
	}
	for _, tt := range tests {
		h, err := fetch.ParseHash(tt.hash)
		if err != nil {
			t.Fatal(err)
		}
		f, err := client(t, nil).Fetch(t.Context(), fetch.Request{URLs: []string{o.URL}, Hashes: []fetch.Hash{h}})
		if err != nil {
			t.Fatal(err)
		}
		if f.Weak() != tt.weak || len(f.Verified()) != 1 || f.Verified()[0] != h.Algorithm {
			t.Errorf("%s: weak %v, verified %v", h, f.Weak(), f.Verified())
		}
		f.Close()
	}
	for _, bad := range []string{"", "xyz", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + strings.Repeat("0", 64), "00"} {
		if h, err := fetch.ParseHash(bad); err == nil {
			t.Errorf("ParseHash(%q) = %v, want an error", bad, h)
		}
	}
}

func TestBadRequests(t *testing.T) {
	h := sum512(nil)
	for name, r := range map[string]fetch.Request{
		"no url":        {Hashes: []fetch.Hash{h}},
		"no hash":       {URLs: []string{"https://example.invalid/"}},
		"negative size": {URLs: []string{"https://example.invalid/"}, Hashes: []fetch.Hash{h}, Size: -1},
		"short hash":    {URLs: []string{"https://example.invalid/"}, Hashes: []fetch.Hash{{Algorithm: fetch.SHA256, Sum: h.Sum}}},
		"unknown hash":  {URLs: []string{"https://example.invalid/"}, Hashes: []fetch.Hash{{Algorithm: "md5", Sum: h.Sum}}},
	} {
		if _, err := client(t, nil).Fetch(t.Context(), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAlternates(t *testing.T) {
	data := content(4, 70_000)
	good := newOrigin(t, data)
	wrong := newOrigin(t, content(5, 70_000))
	var asked sync.Map
	count := func(name string, code int) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := asked.LoadOrStore(name, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			http.Error(w, "no", code)
		}))
		t.Cleanup(s.Close)
		return s
	}
	gone, down := count("gone", 404), count("down", 503)
	c := client(t, func(o *fetch.Options) { o.Attempts = 3 })
	urls := []string{gone.URL + "/a", down.URL + "/b", wrong.URL + "/c", "http://127.0.0.1:1/d"}
	_, err := c.Fetch(t.Context(), fetch.Request{URLs: urls, Hashes: []fetch.Hash{sum512(data)}})
	var all *fetch.Error
	if !errors.As(err, &all) || len(all.Tries) != 4 {
		t.Fatalf("got %v, want an *Error with 4 tries", err)
	}
	for i, want := range []int{1, 3, 1, 3} {
		if all.Tries[i].Attempts != want || all.Tries[i].URL != urls[i] {
			t.Errorf("try %d: %d attempts at %s, want %d at %s", i, all.Tries[i].Attempts, all.Tries[i].URL, want, urls[i])
		}
	}
	var status *fetch.StatusError
	var digest *fetch.DigestError
	if !errors.As(err, &status) || status.Code != 404 || !errors.As(err, &digest) {
		t.Errorf("the error does not tell all: %v", err)
	}
	for name, want := range map[string]int64{"gone": 1, "down": 3} {
		n, _ := asked.Load(name)
		if got := n.(*atomic.Int64).Load(); got != want {
			t.Errorf("%s was asked %d times, want %d", name, got, want)
		}
	}
	mustFetch(t, c, fetch.Request{URLs: append(urls, good.URL), Hashes: []fetch.Hash{sum512(data)}}, data)
}

func TestPermanent(t *testing.T) {
	for _, tt := range []struct {
		code     int
		attempts int
	}{{400, 1}, {401, 1}, {403, 1}, {404, 1}, {410, 1}, {204, 1}, {304, 1}, {501, 1}, {505, 1}, {408, 3}, {425, 3}, {429, 3}, {500, 3}, {502, 3}, {503, 3}, {504, 3}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.code) }))
		c := client(t, func(o *fetch.Options) { o.Attempts = 3 })
		_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{s.URL}, Hashes: []fetch.Hash{sum512(nil)}})
		s.Close()
		var all *fetch.Error
		var status *fetch.StatusError
		if !errors.As(err, &all) || !errors.As(err, &status) || status.Code != tt.code || all.Tries[0].Attempts != tt.attempts {
			t.Errorf("status %d: got %v, want %d attempts", tt.code, err, tt.attempts)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1000))
		http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	_, err := client(t, nil).Fetch(ctx, fetch.Request{URLs: []string{s.URL, s.URL}, Hashes: []fetch.Hash{sum512(nil)}})
	var all *fetch.Error
	if !errors.Is(err, context.Canceled) || !errors.As(err, &all) || len(all.Tries) != 1 {
		t.Errorf("got %v, want context.Canceled and no second URL", err)
	}
}

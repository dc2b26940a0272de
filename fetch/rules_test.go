package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// TestCredentials looks for the parts of URLs that are secret in every error and log line.
func TestCredentials(t *testing.T) {
	words := []string{"s3cr3t-user", "s3cr3t-pass", "s3cr3t-token", "s3cr3t-fragment", "s3cr3t%20word", "s3cr3t word", "s3cr3t-path"}
	inURL := func(base, path string) string {
		return strings.Replace(base, "://", "://s3cr3t-user:s3cr3t-pass@", 1) + path + "?sig=s3cr3t-token&w=s3cr3t%20word#s3cr3t-fragment"
	}
	var elsewhere *httptest.Server
	var auths sync.Map
	note := func(w http.ResponseWriter, r *http.Request) {
		auths.Store(r.Host+r.URL.Path, r.Header.Get("Authorization"))
	}
	elsewhere = httptest.NewServer(http.HandlerFunc(note))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(w, r)
		switch r.URL.Path {
		case "/404":
			http.NotFound(w, r)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/same": // a redirect on the same host keeps them
			http.Redirect(w, r, "/landed", http.StatusFound)
		case "/other":
			http.Redirect(w, r, elsewhere.URL+"/landed", http.StatusFound)
		case "/echo": // repeats what it was sent
			http.Redirect(w, r, "ftp://example.com/"+r.URL.Query().Get("sig"), http.StatusFound)
		case "/garbage":
			conn, _, _ := http.NewResponseController(w).Hijack()
			user, password, _ := r.BasicAuth()
			fmt.Fprintf(conn, "HTTP/1.1 %s %s %s\r\n\r\n", r.URL.RawQuery, user, password)
			conn.Close()
		}
	}))
	defer s.Close()
	var log lockedBuffer
	urls := []string{inURL("ftp://example.com", "/x"), inURL("http://[::1", "/x"), inURL("http://10.0.0.1", "/x"), inURL("http://127.0.0.1:1", "/x"), inURL("https://127.0.0.1:1", "/x")}
	for _, path := range []string{"/404", "/503", "/same", "/other", "/echo", "/garbage", "/wrong"} {
		urls = append(urls, inURL(s.URL, path))
	}
	urls = append(urls, strings.Replace(inURL(s.URL, "/x"), "http:", "https:", 1)) // no TLS there
	for _, raw := range urls {
		c := client(t, func(o *fetch.Options) {
			o.Attempts = 2
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{raw}, Hashes: []fetch.Hash{sum512([]byte("x"))}})
		if err == nil {
			t.Fatalf("%s: no error", raw)
		}
		texts := []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)}
		var all *fetch.Error
		if errors.As(err, &all) {
			for e := all.Tries[0].Err; e != nil; e = errors.Unwrap(e) {
				texts = append(texts, e.Error(), fmt.Sprintf("%+v", e))
			}
		}
		for _, text := range texts {
			for _, w := range words {
				if strings.Contains(text, w) {
					t.Errorf("error holds %q: %s", w, text)
				}
			}
		}
		c.Close()
	}
	for _, w := range words {
		if strings.Contains(log.String(), w) {
			t.Errorf("log holds %q", w)
		}
	}
	if log.String() == "" {
		t.Error("nothing was logged")
	}
	host := strings.TrimPrefix(s.URL, "http://")
	for where, want := range map[string]bool{
		host + "/same": true, host + "/landed": true, host + "/other": true,
		strings.TrimPrefix(elsewhere.URL, "http://") + "/landed": false,
	} {
		got, ok := auths.Load(where)
		if !ok || (got != "") != want {
			t.Errorf("%s was asked: %v, with authorization %q, want %v", where, ok, got, want)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPerHost(t *testing.T) {
	data := content(11, 100)
	var now, most atomic.Int64
	gate := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-gate
		w.Write(data)
	}))
	defer s.Close()
	c := client(t, func(o *fetch.Options) { o.PerHost = 3 })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { mustFetchAny(t, c, s.URL, data) })
	}
	// One that waits for a slot leaves on its own context.
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		_, err := c.Fetch(ctx, fetch.Request{URLs: []string{s.URL}, Hashes: []fetch.Hash{sum512(data)}})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while waiting: %v", err)
		}
	})
	cancel()
	close(gate)
	wg.Wait()
	if most.Load() > 3 {
		t.Errorf("%d requests at a time, want at most 3", most.Load())
	}
}

func mustFetchAny(t *testing.T, c *fetch.Client, u string, want []byte) {
	t.Helper()
	f, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(want)}})
	if err != nil {
		t.Error(err)
		return
	}
	f.Close()
}

// bucket is an Opener whose answers are scripted: one function for each attempt, the last one for all others.
type bucket struct {
	mu     sync.Mutex
	script []func(ctx context.Context, p fetch.Position) (*fetch.Object, error)
	at     []time.Time
	asked  []fetch.Position
}

func (b *bucket) Open(ctx context.Context, _ *url.URL, p fetch.Position) (*fetch.Object, error) {
	b.mu.Lock()
	b.at, b.asked = append(b.at, time.Now()), append(b.asked, p)
	n := min(len(b.at), len(b.script)) - 1
	b.mu.Unlock()
	return b.script[n](ctx, p)
}

func serve(data []byte) func(context.Context, fetch.Position) (*fetch.Object, error) {
	return func(_ context.Context, p fetch.Position) (*fetch.Object, error) {
		return &fetch.Object{
			Body: io.NopCloser(bytes.NewReader(data[p.Offset:])), Offset: p.Offset, Size: int64(len(data)), Validator: "v",
		}, nil
	}
}

func fail(err error) func(context.Context, fetch.Position) (*fetch.Object, error) {
	return func(context.Context, fetch.Position) (*fetch.Object, error) { return nil, err }
}

func breakAfter(data []byte, n int) func(context.Context, fetch.Position) (*fetch.Object, error) {
	return func(_ context.Context, p fetch.Position) (*fetch.Object, error) {
		body := io.MultiReader(bytes.NewReader(data[p.Offset:min(p.Offset+int64(n), int64(len(data)))]), errReader{})
		return &fetch.Object{Body: io.NopCloser(body), Offset: p.Offset, Size: int64(len(data)), Validator: "v"}, nil
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// fetchFrom runs in a bubble of package synctest, where waiting takes no time.
func fetchFrom(t *testing.T, b *bucket, data []byte, change func(o *fetch.Options)) (took time.Duration, err error) {
	t.Helper()
	o := &fetch.Options{Openers: map[string]fetch.Opener{"bucket": b}, Dir: t.TempDir()}
	if change != nil {
		change(o)
	}
	c, err := fetch.New(o)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	f, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{"bucket://name/object"}, Hashes: []fetch.Hash{sum512(data)}})
	if err == nil {
		f.Close()
	}
	return time.Since(start), err
}

func TestWaits(t *testing.T) {
	data := content(12, 1000)
	temporary := errors.New("try later")
	t.Run("full jitter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var sums [7]time.Duration
			const rounds = 200
			for range rounds {
				b := &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){fail(temporary)}}
				_, err := fetchFrom(t, b, data, func(o *fetch.Options) { o.Attempts, o.MaxBackoff = 8, 8*time.Second })
				if !errors.Is(err, temporary) || len(b.at) != 8 {
					t.Fatalf("%d attempts: %v", len(b.at), err)
				}
				for i := range sums {
					wait := b.at[i+1].Sub(b.at[i])
					longest := min(time.Second<<i, 8*time.Second)
					if wait < 0 || wait > longest+time.Millisecond {
						t.Errorf("wait %d is %v, want at most %v", i+1, wait, longest)
					}
					sums[i] += wait
				}
			}
			for i, sum := range sums {
				mean, want := sum/rounds, min(time.Second<<i, 8*time.Second)/2
				if mean < want*7/10 || mean > want*13/10 {
					t.Errorf("wait %d is %v on average, want about %v", i+1, mean, want)
				}
			}
		})
	})
	t.Run("retry after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){
				fail(&fetch.StatusError{Code: 429, RetryAfter: 100 * time.Second}), serve(data),
			}}
			took, err := fetchFrom(t, b, data, nil)
			if err != nil || took != 100*time.Second {
				t.Errorf("took %v, %v, want 100 s", took, err)
			}
			b = &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){
				fail(&fetch.StatusError{Code: 503, RetryAfter: time.Hour}), serve(data),
			}}
			took, err = fetchFrom(t, b, data, nil)
			var status *fetch.StatusError
			if took != 0 || !errors.As(err, &status) || status.RetryAfter != time.Hour {
				t.Errorf("server that wants an hour: %v after %v, want its error at once", err, took)
			}
		})
	})
	t.Run("progress is not failure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){breakAfter(data, 20)}}
			if _, err := fetchFrom(t, b, data, func(o *fetch.Options) { o.Attempts = 2 }); err != nil {
				t.Errorf("a server that sends 2 %% each time: %v", err)
			}
			if len(b.at) != 50 {
				t.Errorf("%d attempts, want 50", len(b.at))
			}
			for i, p := range b.asked {
				if p.Offset != int64(20*i) {
					t.Errorf("attempt %d asks for offset %d, want %d", i, p.Offset, 20*i)
				}
			}
			b = &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){breakAfter(data, 2)}}
			if _, err := fetchFrom(t, b, data, func(o *fetch.Options) { o.Attempts = 5 }); err == nil || len(b.at) > 200 {
				t.Errorf("a server that sends 0.2 %% each time: %v after %d attempts", err, len(b.at))
			}
		})
	})
	t.Run("stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := func(ctx context.Context, _ fetch.Position) (*fetch.Object, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			b := &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){hang}}
			took, err := fetchFrom(t, b, data, func(o *fetch.Options) { o.Attempts = 1 })
			if !isStall(0)(err) || took != 30*time.Second {
				t.Errorf("silent: %v after %v, want a *StallError after 30 s", err, took)
			}
			for rate, ok := range map[int]bool{1: false, 1000: false, 1100: true, 100_000: true} {
				big := content(13, max(1000, rate*100))
				slow := func(ctx context.Context, p fetch.Position) (*fetch.Object, error) {
					pos := 0
					return &fetch.Object{Size: int64(len(big)), Body: io.NopCloser(readerFunc(func(p []byte) (int, error) {
						if pos == len(big) {
							return 0, io.EOF
						}
						select {
						case <-time.After(100 * time.Millisecond):
						case <-ctx.Done():
							return 0, ctx.Err()
						}
						n := copy(p, big[pos:min(len(big), pos+max(1, rate/10))])
						pos += n
						return n, nil
					}))}, nil
				}
				b := &bucket{script: []func(context.Context, fetch.Position) (*fetch.Object, error){slow}}
				took, err := fetchFrom(t, b, big, func(o *fetch.Options) { o.Attempts = 1 })
				switch {
				case ok && err != nil:
					t.Errorf("%d B/s: %v", rate, err)
				case !ok && (!isStall(-1)(err) || took > 31*time.Second):
					t.Errorf("%d B/s: %v after %v, want a *StallError within 31 s", rate, err, took)
				}
			}
		})
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOpener(t *testing.T) {
	data := content(14, 100_000)
	type script = []func(context.Context, fetch.Position) (*fetch.Object, error)
	tests := []struct {
		name   string
		script script
		ok     bool
		asked  int
	}{
		{"serves", script{serve(data)}, true, 1},
		{"breaks, goes on", script{breakAfter(data, 50_000), serve(data)}, true, 2},
		{"absent", script{fail(fs.ErrNotExist)}, false, 1},
		{"forbidden", script{fail(fmt.Errorf("bucket: %w", fs.ErrPermission))}, false, 1},
		{"permanent", script{fail(fetch.Permanent(errors.New("no such bucket")))}, false, 1},
		{"temporary, then there", script{fail(errors.New("busy")), fail(errors.New("busy")), serve(data)}, true, 3},
		{"goes on with something else", script{breakAfter(data, 50_000), func(_ context.Context, p fetch.Position) (*fetch.Object, error) {
			return &fetch.Object{Body: io.NopCloser(bytes.NewReader(data[p.Offset:])), Offset: p.Offset, Size: int64(len(data)), Validator: "other"}, nil
		}}, false, 2},
		{"goes on elsewhere", script{breakAfter(data, 50_000), func(_ context.Context, p fetch.Position) (*fetch.Object, error) {
			return &fetch.Object{Body: io.NopCloser(bytes.NewReader(data[10:])), Offset: 10, Size: int64(len(data)), Validator: p.Validator}, nil
		}}, false, 2},
		{"size unknown", script{func(context.Context, fetch.Position) (*fetch.Object, error) {
			return &fetch.Object{Body: io.NopCloser(bytes.NewReader(data)), Size: -1}, nil
		}}, true, 1},
		{"no validator, starts again", script{func(context.Context, fetch.Position) (*fetch.Object, error) {
			return &fetch.Object{Body: io.NopCloser(io.MultiReader(bytes.NewReader(data[:500]), errReader{})), Size: -1}, nil
		}, serve(data)}, true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bucket{script: tt.script}
				_, err := fetchFrom(t, b, data, nil)
				if (err == nil) != tt.ok || len(b.asked) != tt.asked {
					t.Errorf("got %v after %d attempts, want success %v after %d", err, len(b.asked), tt.ok, tt.asked)
				}
				if tt.name == "no validator, starts again" && b.asked[1] != (fetch.Position{}) {
					t.Errorf("second attempt asks for %+v", b.asked[1])
				}
			})
		})
	}
}

func TestFiles(t *testing.T) {
	data := content(15, 50_000)
	dir := t.TempDir()
	name := filepath.Join(dir, "complete.mar")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	files := func(o *fetch.Options) { o.Files = true }
	for _, u := range []string{name, "file://" + name, "file://localhost" + name} {
		mustFetch(t, client(t, files), fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(data)}, Size: 50_000}, data)
		_, err := client(t, nil).Fetch(t.Context(), fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(data)}})
		var n *fetch.NotAllowedError
		if !errors.As(err, &n) || n.Reason != fetch.ReasonFile {
			t.Errorf("%s without Files: %v", u, err)
		}
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file itself is gone or changed: %v", err)
	}
	for what, u := range map[string]string{
		"absent": filepath.Join(dir, "absent"), "directory": dir, "device": os.DevNull, "other host": "file://elsewhere" + name, "empty": "",
	} {
		_, err := client(t, files).Fetch(t.Context(), fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(data)}})
		var all *fetch.Error
		if !errors.As(err, &all) || all.Tries[0].Attempts > 1 {
			t.Errorf("%s: got %v, want one attempt", what, err)
		}
	}
	c := client(t, func(o *fetch.Options) { o.Files, o.Prefixes = true, []string{"file://" + dir + "/pub/"} })
	_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{name}, Hashes: []fetch.Hash{sum512(data)}})
	var n *fetch.NotAllowedError
	if !errors.As(err, &n) || n.Reason != fetch.ReasonPrefix {
		t.Errorf("outside the prefix: %v", err)
	}
}

func TestProxy(t *testing.T) {
	data := content(16, 1000)
	var hosts sync.Map
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host, true)
		w.Write(data)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetch.New(&fetch.Options{Proxy: at}); err == nil {
		t.Error("a proxy without prefixes was accepted")
	}
	prefixes := []string{"http://mirror.example.com/pub/"}
	private := []string{"http://10.0.0.1/", "http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/", "http://localhost/"}
	c := client(t, func(o *fetch.Options) {
		o.Proxy, o.AllowNetworks = at, nil
		o.Prefixes = append(prefixes, private...)
	})
	request := func(u string) fetch.Request {
		return fetch.Request{URLs: []string{u}, Hashes: []fetch.Hash{sum512(data)}}
	}
	mustFetch(t, c, request("http://mirror.example.com/pub/file"), data)
	for _, u := range private {
		_, err := c.Fetch(t.Context(), request(u))
		var address *fetch.AddressError
		if !errors.As(err, &address) {
			t.Errorf("%s behind a proxy: %v", u, err)
		}
	}
	n := 0
	hosts.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("the proxy was asked for %d hosts, want 1", n)
	}
}

func TestEncoding(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte("x"))
	}))
	defer s.Close()
	_, err := client(t, nil).Fetch(t.Context(), fetch.Request{URLs: []string{s.URL}, Hashes: []fetch.Hash{sum512([]byte("x"))}})
	var all *fetch.Error
	if !errors.As(err, &all) || all.Tries[0].Attempts != 1 {
		t.Errorf("got %v, want an error after one attempt", err)
	}
}

func TestBadOptions(t *testing.T) {
	opener := openerFunc(nil)
	for name, o := range map[string]fetch.Options{
		"negative attempts":         {Attempts: -1},
		"negative stall":            {Stall: -1},
		"maximum below first":       {Backoff: time.Minute, MaxBackoff: time.Second},
		"http prefix":               {Prefixes: []string{"http://example.com/"}},
		"file prefix":               {Prefixes: []string{"/srv"}},
		"prefix with query":         {Prefixes: []string{"https://example.com/?a"}},
		"prefix with password":      {Prefixes: []string{"https://u:p@example.com/"}},
		"prefix with dot segment":   {Prefixes: []string{"https://example.com/a/../b"}},
		"prefix without host":       {Prefixes: []string{"https:///pub"}},
		"opener for https":          {Openers: map[string]fetch.Opener{"https": opener}},
		"nil opener":                {Openers: map[string]fetch.Opener{"s3": nil}},
		"opener in capitals":        {Openers: map[string]fetch.Opener{"S3": opener}},
		"opener with a colon":       {Openers: map[string]fetch.Opener{"s3:": opener}},
		"opener without a name":     {Openers: map[string]fetch.Opener{"": opener}},
		"proxy that allows it all":  {Proxy: &url.URL{Scheme: "http", Host: "proxy:3128"}},
		"negative concurrency":      {PerHost: -1},
		"negative size":             {MaxSize: -1},
		"negative wait":             {Backoff: -1},
		"negative patience":         {MaxRetryAfter: -1},
		"maximum wait is below nil": {MaxBackoff: -1},
	} {
		if _, err := fetch.New(&o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAnswers breaks a download in the middle and then answers the attempt to go on in odd ways.
func TestAnswers(t *testing.T) {
	data := content(17, 100_000)
	const half = 50_000
	ranged := func(from, to, size int, tag string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", tag)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, size))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		}
	}
	whole := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:half])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	tests := []struct {
		name     string
		answers  []http.HandlerFunc
		size     int64
		ok       bool
		requests int
	}{
		{"goes on", []http.HandlerFunc{cut, ranged(half, 99_999, 100_000, `"v"`, data[half:])}, 0, true, 2},
		{"goes on without a tag", []http.HandlerFunc{cut, ranged(half, 99_999, 100_000, "", data[half:])}, 0, true, 2},
		{"size unknown", []http.HandlerFunc{cut, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 50000-99999/*")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[half:])
		}}, 0, true, 2},
		{"goes on too early", []http.HandlerFunc{cut, ranged(half-10, 99_999, 100_000, `"v"`, data[half-10:]), whole}, 0, true, 3},
		{"goes on too late", []http.HandlerFunc{cut, ranged(half+10, 99_999, 100_000, `"v"`, data[half+10:]), whole}, 0, true, 3},
		{"goes on with another", []http.HandlerFunc{cut, ranged(half, 99_999, 100_000, `"w"`, data[half:]), whole}, 0, true, 3},
		{"cannot go on there", []http.HandlerFunc{cut, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, whole}, 0, true, 3},
		{"whole again", []http.HandlerFunc{cut, whole}, 0, true, 2},
		{"part of the rest", []http.HandlerFunc{cut, ranged(half, 60_000, 100_000, `"v"`, data[half:60_001]), whole}, 0, false, 2},
		{"part, unasked", []http.HandlerFunc{ranged(0, 99_999, 100_000, `"v"`, data)}, 0, false, 1},
		{"several parts", []http.HandlerFunc{cut, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(http.StatusPartialContent)
		}}, 0, false, 2},
		{"shorter than it must be", []http.HandlerFunc{whole}, 100_001, false, 1},
		{"longer than it must be", []http.HandlerFunc{whole}, 99_999, false, 1},
		{"ends early without a length", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"v"`)
			http.NewResponseController(w).Flush()
			w.Write(data[:half])
		}, ranged(half, 99_999, 100_000, `"v"`, data[half:])}, 100_000, true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tt.answers[min(int(n.Add(1)), len(tt.answers))-1](w, r)
			}))
			defer s.Close()
			f, err := client(t, nil).Fetch(t.Context(), fetch.Request{URLs: []string{s.URL}, Size: tt.size, Hashes: []fetch.Hash{sum512(data)}})
			if err == nil {
				f.Close()
			}
			if (err == nil) != tt.ok || int(n.Load()) != tt.requests {
				t.Errorf("got %v after %d requests, want success %v after %d", err, n.Load(), tt.ok, tt.requests)
			}
		})
	}
}

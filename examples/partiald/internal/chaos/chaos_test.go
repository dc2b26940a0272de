package chaos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/chaos"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

func monkey(t *testing.T, text string) (*chaos.Monkey, func(string) float64) {
	t.Helper()
	p, err := chaos.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	m, err := chaos.New(p, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	return m, func(fault string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, metric := range f.GetMetric() {
				if metric.GetLabel()[0].GetValue() == fault {
					return metric.GetCounter().GetValue()
				}
			}
		}
		t.Fatalf("no counter of %q", fault)
		return 0
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	names, err := chaos.Names()
	if err != nil || len(names) < 3 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		if p, err := chaos.Load(name); err != nil || p.About == "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for _, text := range []string{"store_fail = 1", "store_fail = -0.1", "store_fail = nan", "colour = 1", "]", "kill_plugins = \"1ms\"", "store_delay = \"2m\"", strings.Repeat("#", 2<<20)} {
		var wrong *chaos.ProfileError
		if _, err := chaos.Parse("x", []byte(text)); !errors.As(err, &wrong) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// Connections are cut at the rate that is asked for, in both ways, and never those that a test is watched by.
func TestHandler(t *testing.T) {
	t.Parallel()
	m, count := monkey(t, "drop_connections = 0.5")
	body := bytes.Repeat([]byte("x"), 64<<10)
	srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.Start()
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // else Go asks again by itself
	get := func(path string) bool {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err == nil && !bytes.Equal(data, body) {
			t.Error("an answer that was cut looks whole")
		}
		return err == nil
	}
	failed := 0
	for range 200 {
		if !get("/x") {
			failed++
		}
		if !get("/metrics") {
			t.Fatal("the metrics were cut")
		}
	}
	if cut, half := count("connection cut"), count("answer cut"); int(cut+half) != failed || cut < 20 || half < 20 || failed > 160 {
		t.Errorf("%d failed, %v cut before and %v in the middle", failed, cut, half)
	}
}

// ask makes the first request.
func ask(m *chaos.Monkey) {
	m.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}

func TestConn(t *testing.T) {
	t.Parallel()
	m, count := monkey(t, "origin_fail = 0.2")
	ask(m)
	whole, broken := 0, 0
	for range 60 {
		a, b := net.Pipe()
		go func() {
			_, _ = a.Write(bytes.Repeat([]byte("x"), 200<<10))
			a.Close()
		}()
		// In pieces of one size, seven and the end: each of them may break off, also the end.
		var data bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&data}, m.Conn(b), make([]byte, 32<<10))
		switch {
		case err == nil && data.Len() == 200<<10:
			whole++
		case err != nil && data.Len() <= 200<<10:
			broken++
		default:
			t.Fatalf("%d bytes, %v", data.Len(), err)
		}
		b.Close()
	}
	if whole < 10 || broken < 10 || int(count("origin cut")) != broken {
		t.Errorf("%d whole, %d broken, %v counted", whole, broken, count("origin cut"))
	}
}

// A store that fails now and then takes and gives what it should when it does not.
func TestStore(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	dir, err := storage.NewDir(root)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := storage.Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Close() }()
	m, count := monkey(t, "store_fail = 0.6\nstore_delay = \"1ms\"\nstore_delay_share = 0.5")
	bad, err := m.Store(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bad.Close() }()
	data := []byte("what is stored")
	o := storage.Object{Name: "a/b", Size: int64(len(data)), SHA256: sha256.Sum256(data)}
	try := func(what string, do func() error) {
		t.Helper()
		failed := false
		for range 500 {
			err := do()
			if err == nil && failed {
				return
			}
			if err != nil && !errors.Is(err, plugins.ErrUnavailable) {
				t.Fatalf("%s: %v", what, err)
			}
			failed = failed || err != nil
		}
		t.Errorf("%s never failed and succeeded", what)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 50 { // a server starts without faults: nobody has asked for anything
		if _, _, err := bad.List(ctx, "", "", 10); err != nil || count("store failed") != 0 {
			t.Fatal(err)
		}
	}
	ask(m)
	try("put", func() error {
		_, _, err := bad.PutIfAbsent(ctx, o, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		return err
	})
	try("get", func() error {
		r, err := bad.Get(ctx, "a/b", nil)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("got %q", got)
		}
		return err
	})
	try("stat", func() error { _, err := bad.Stat(ctx, "a/b"); return err })
	try("list", func() error { _, _, err := bad.List(ctx, "", "", 10); return err })
	try("delete", func() error { return bad.Delete(ctx, "a/b") })
	if count("store failed") == 0 || count("store slow") == 0 {
		t.Error("nothing was counted")
	}
}

// Entries are damaged again and again until it is over, and processes are killed that are still there.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "v1", "partials", "ab", "file")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := bytes.Repeat([]byte("y"), 5000)
	synctest.Test(t, func(t *testing.T) {
		m, count := monkey(t, "damage_cache = \"1s\"\nkill_plugins = \"1s\"")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go m.Run(ctx, dir, func() []int { return nil })
		changed := 0
		for range 50 {
			if err := os.WriteFile(name, fresh, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			if data, err := os.ReadFile(name); err != nil || !bytes.Equal(data, fresh) {
				changed++
			}
		}
		if changed < 45 || count("cache damaged") < 50 || count("plugin killed") != 0 {
			t.Errorf("%d of 50 were damaged, %v counted, %v killed", changed, count("cache damaged"), count("plugin killed"))
		}
	})
}

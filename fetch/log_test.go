package fetch_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// An address that failed is a warning, without what is secret; who gives up is none.
func TestLog(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.NotFound(w, r)
			return
		}
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	var log bytes.Buffer
	client, err := fetch.New(&fetch.Options{
		Insecure: true, Attempts: 1, Dir: t.TempDir(), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	hash, err := fetch.ParseHash("sha256:" + strings.Repeat("00", 32))
	if err != nil {
		t.Fatal(err)
	}
	try := func(ctx context.Context, path string) {
		t.Helper()
		log.Reset()
		if _, err := client.Fetch(ctx, fetch.Request{URLs: []string{server.URL + path}, Hashes: []fetch.Hash{hash}}); err == nil {
			t.Fatal("no error")
		}
	}
	try(t.Context(), "/gone?token=secret")
	if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "address failed") || strings.Contains(said, "secret") {
		t.Errorf("an address that failed: %s", said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	try(ctx, "/slow")
	if said := log.String(); strings.Contains(said, "level=WARN") || strings.Contains(said, "level=ERROR") || !strings.Contains(said, "level=INFO msg=\"fetch: cancelled\"") {
		t.Errorf("who gave up: %s", said)
	}
}

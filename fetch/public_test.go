package fetch_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/fetch"
)

// What a name resolved to is in an error, but not in what is for outsiders.
func TestPublic(t *testing.T) {
	resolver := fakeResolver(map[string]netip.Addr{
		"build.corp": netip.MustParseAddr("10.1.2.3"), "here.corp": netip.MustParseAddr("127.0.0.1"), "six.corp": netip.MustParseAddr("fd00::1"),
	})
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(closed.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 1000))
		http.NewResponseController(w).Flush()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		_ = conn.Close()
	}))
	defer broken.Close()
	_, brokenPort, err := net.SplitHostPort(broken.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse("http://here.corp:" + port)
	if err != nil {
		t.Fatal(err)
	}
	redirector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, err := hex.DecodeString(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", string(target))
		w.WriteHeader(http.StatusFound)
	}))
	defer redirector.Close()
	to := func(target string) string { return redirector.URL + "/" + hex.EncodeToString([]byte(target)) }
	for _, tt := range []struct {
		name, url string
		change    func(*fetch.Options)
		hidden    []string // in the error, not in what is public
		want      string   // in what is public
	}{
		{"private", "http://build.corp/a.mar", nil, []string{"10.1.2.3", "10.0.0.0/8"}, "fetch http://build.corp/a.mar (1 attempt): build.corp does not lead to a public address"},
		{"private, IPv6", "http://six.corp/", nil, []string{"fd00::1"}, "six.corp does not lead to a public address"},
		{"private, with a password", "http://user:1.2.3@build.corp/", nil, []string{"10.1.2.3"}, "build.corp does not lead to a public address"},
		{"a number", "http://10.1.2.3/", nil, nil, "connection to 10.1.2.3 is refused"},
		{"a number, IPv6", "http://[fd00:0::1]/", nil, nil, "connection to fd00:0::1 is refused"},
		{"port", "http://build.corp:8443/", nil, []string{"10.1.2.3:8443"}, "connection to build.corp is refused: prohibited port number: 8443"},
		{"nobody listens", "http://here.corp:" + port + "/", nil, []string{"127.0.0.1"}, "dial tcp: connect: connection refused"},
		{"nobody listens, with a password", "http://user:connection@here.corp:" + port + "/", nil, []string{"127.0.0.1"}, "dial tcp: connect: … refused"},
		{"reset", "http://here.corp:" + brokenPort + "/", nil, []string{"127.0.0.1"}, "read tcp: read: connection reset by peer"},
		{"no such name", "http://nowhere.corp/", nil, []string{" on "}, "lookup nowhere.corp: no such host"},
		{"redirect to a name", to("http://build.corp/"), nil, []string{"10.1.2.3"}, "redirect 1: build.corp does not lead to a public address"},
		{"redirect to a number", to("http://10.9.8.7/"), nil, []string{"10.9.8.7"}, "redirect 1 does not lead to where it is allowed to"},
		{"redirect to a port of a number", to("http://10.9.8.7:8443/"), nil, []string{"10.9.8.7"}, "redirect 1 does not lead to where it is allowed to"},
		{"redirect to what is not allowed", to("ftp://10.9.8.7/x"), nil, []string{"10.9.8.7"}, "redirect 1: scheme is not allowed"},
		{"redirect to a name that is not allowed", to("ftp://build.corp/x"), nil, nil, "redirect 1 to ftp://build.corp/x: scheme is not allowed"},
		{"proxy", "http://build.corp/", func(o *fetch.Options) { o.Proxy, o.Prefixes = proxy, []string{"http://build.corp/"} }, []string{"127.0.0.1"}, "dial tcp: connect: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, func(o *fetch.Options) {
				o.Resolver, o.Attempts = resolver, 1
				if tt.change != nil {
					tt.change(o)
				}
			})
			_, err := c.Fetch(t.Context(), fetch.Request{URLs: []string{tt.url}, Hashes: []fetch.Hash{sum512(nil)}})
			if err == nil {
				t.Fatal("no error")
			}
			err = fmt.Errorf("FROM: %w", errors.Join(err, errors.New("second")))
			got := fetch.Public(err)
			if !strings.Contains(got, tt.want) || !strings.HasPrefix(got, "FROM: ") || !strings.HasSuffix(got, "\nsecond") {
				t.Errorf("got %q, want it to have %q", got, tt.want)
			}
			for _, hidden := range tt.hidden {
				if !strings.Contains(err.Error(), hidden) {
					t.Errorf("the error does not have %q: %v", hidden, err)
				}
				if strings.Contains(got, hidden) {
					t.Errorf("%q is in %q", hidden, got)
				}
			}
		})
	}
	if got := fetch.Public(fmt.Errorf("plain: %w", errors.New("text"))); got != "plain: text" {
		t.Errorf("got %q, want the text as it is", got)
	}
}

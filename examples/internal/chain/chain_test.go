package chain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A panic is an answer where nothing was sent, and the end of the connection where something was; every request is logged and counted.
func TestChain(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	c, err := New(Options{Name: "thingd", Log: slog.New(slog.NewJSONHandler(&log, nil)), Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Name: "thingd", Log: slog.Default(), Registry: registry}); err == nil {
		t.Error("two chains share their metrics")
	}
	type key struct{}
	handler := c.Handler(Hooks{
		Begin: func(r *http.Request, _ *Request) *http.Request {
			return r.WithContext(context.WithValue(r.Context(), key{}, "who"))
		},
		Serve: func(w http.ResponseWriter, r *http.Request) {
			in := From(r.Context())
			in.Route = r.URL.Path
			if r.URL.Path == "/late" {
				_, _ = w.Write([]byte("half"))
			}
			if r.URL.Path != "/fine" {
				panic("oh")
			}
			_, _ = io.WriteString(w, r.Context().Value(key{}).(string)+" "+in.ID)
		},
		Panicked: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "sorry", http.StatusInternalServerError) },
		Attrs:    func(r *http.Request) []slog.Attr { return []slog.Attr{slog.Any("who", r.Context().Value(key{}))} },
	})
	ask := func(path, id string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("X-Request-Id", id)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	if w := ask("/fine", "a-number-of-its-own"); w.Code != http.StatusOK || w.Body.String() != "who a-number-of-its-own" || w.Header().Get("X-Frame-Options") != "DENY" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
	if w := ask("/fine", "bad\nnumber"); len(w.Header().Get("X-Request-Id")) != 26 {
		t.Errorf("%v", w.Header())
	}
	if w := ask("/early", ""); w.Code != http.StatusInternalServerError || w.Body.String() != "sorry\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("a torn answer ends with %v", err)
			}
		}()
		ask("/late", "")
	}()
	for _, want := range []string{`"who":"who"`, `"request_id":"a-number-of-its-own"`, `"path":"/fine"`, `"panic":"oh"`, `"status":500`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()) + m.GetGauge().GetValue()
		}
	}
	if got["thingd_http_panics_total"] != 2 || got["thingd_http_request_duration_seconds"] != 4 || got["thingd_http_requests_in_flight"] != 0 || got["thingd_http_sent_bytes_total"] == 0 {
		t.Errorf("%v", got)
	}
}

func TestLocator(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, remote, header, value, want string
		local                             bool
	}{
		{"nobody between", "203.0.113.9:1", "X-Forwarded-For", "198.51.100.1", "203.0.113.9", false},
		{"a proxy", "10.0.0.1:1", "X-Forwarded-For", "198.51.100.1, 203.0.113.9", "203.0.113.9", false},
		{"two proxies", "10.0.0.1:1", "X-Forwarded-For", "203.0.113.9, 10.0.0.2", "203.0.113.9", false},
		{"a proxy that says nothing", "10.0.0.1:1", "X-Forwarded-For", "", "10.0.0.1", true},
		{"what is no address", "10.0.0.1:1", "X-Forwarded-For", "unknown", "10.0.0.1", true},
		{"the other header", "10.0.0.1:1", "Forwarded", `for="[2001:db8:1:2:3::4]:80";proto=https`, "2001:db8:1:2::/64", false},
		{"this machine", "127.0.0.1:1", "X-Forwarded-For", "203.0.113.9", "127.0.0.1", true},
		{"IPv4 within IPv6", "[::ffff:203.0.113.9]:1", "", "", "203.0.113.9", false},
		{"a socket", "@", "", "", "unknown", true},
	} {
		l := Locator{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ProxyHeader: tt.header}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tt.remote
		if tt.value != "" {
			r.Header.Set(tt.header, tt.value)
		}
		var in Request
		l.locate(r, &in)
		if in.Addr != tt.want || in.Local != tt.local {
			t.Errorf("%s: %s, local %v; want %s, %v", tt.name, in.Addr, in.Local, tt.want, tt.local)
		}
	}
}

func TestBans(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := Bans{Failures: 3, Window: time.Minute, For: time.Hour, Now: func() time.Time { return now }}
	for i := range 3 {
		if got, want := b.Offend("a"), i == 2; got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if until, ok := b.Banned("a"); !ok || !until.Equal(now.Add(time.Hour)) {
		t.Errorf("%v, %v", until, ok)
	}
	if _, ok := b.Banned("b"); ok {
		t.Error("another address is banned")
	}
	now = now.Add(time.Hour)
	if _, ok := b.Banned("a"); ok {
		t.Error("a ban does not end")
	}
	for range 5 { // slowly
		if now = now.Add(40 * time.Second); b.Offend("b") {
			t.Error("banned, though not too many came within a minute")
		}
	}
	for i := range 2 * maxOffenders {
		b.Offend("address " + strconv.Itoa(i))
	}
	if len(b.known) > maxOffenders {
		t.Errorf("%d addresses are remembered", len(b.known))
	}
	var none Bans
	if none.Offend("a") {
		t.Error("the zero value bans")
	}
}

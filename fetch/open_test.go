package fetch

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	tests := []struct {
		retry, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{" 7 ", "", 7 * time.Second},
		{"-5", "", 0},
		{"99999999999999", "", 365 * 24 * time.Hour},
		{"soon", "", 0},
		{"1.5", "", 0},
		{date(90 * time.Second), "", 90 * time.Second},
		{date(-time.Hour), "", 0},
		{date(time.Hour + 30*time.Second), date(time.Hour), 30 * time.Second}, // the server's clock is an hour ahead
	}
	for _, tt := range tests {
		h := http.Header{}
		h.Set("Retry-After", tt.retry)
		h.Set("Date", tt.date)
		if got := retryAfter(h, now); got != tt.want {
			t.Errorf("Retry-After %q at %q: got %v, want %v", tt.retry, tt.date, got, tt.want)
		}
	}
}

func TestContentRange(t *testing.T) {
	tests := []struct {
		s           string
		first, size int64
		ok          bool
	}{
		{"bytes 10-99/100", 10, 100, true},
		{"bytes 0-0/1", 0, 1, true},
		{"bytes 10-99/*", 10, -1, true},
		{"bytes 10-98/100", 0, 0, false}, // not to the end
		{"bytes 10-9/100", 0, 0, false},
		{"bytes -1-9/10", 0, 0, false},
		{"bytes */100", 0, 0, false},
		{"bytes 10-99", 0, 0, false},
		{"items 10-99/100", 0, 0, false},
		{"bytes 99999999999999999999-1/2", 0, 0, false},
		{"", 0, 0, false},
	}
	for _, tt := range tests {
		first, size, err := contentRange(tt.s)
		if (err == nil) != tt.ok || tt.ok && (first != tt.first || size != tt.size) {
			t.Errorf("%q: got %d, %d, %v, want %d, %d, ok %v", tt.s, first, size, err, tt.first, tt.size, tt.ok)
		}
	}
}

func TestValidator(t *testing.T) {
	const date = "Sun, 01 Mar 2026 12:00:00 GMT"
	for _, tt := range []struct{ tag, date, want string }{
		{`"abc"`, date, `"abc"`},
		{`W/"abc"`, date, date},
		{`W/"abc"`, "", ""},
		{"abc", "", ""},
		{`"`, "", ""},
		{"", "yesterday", ""},
		{"", date, date},
	} {
		h := http.Header{}
		h.Set("ETag", tt.tag)
		h.Set("Last-Modified", tt.date)
		if got := validator(h); got != tt.want {
			t.Errorf("ETag %q, Last-Modified %q: got %q, want %q", tt.tag, tt.date, got, tt.want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	tests := []struct {
		prefix, url string
		want        bool
	}{
		{"https://a.example/pub/", "https://a.example/pub/x", true},
		{"https://a.example/pub", "https://a.example/pub/x/y", true},
		{"https://a.example/pub", "https://a.example/pub", true},
		{"https://a.example/pub/", "https://a.example/pub", false},
		{"https://a.example/pub", "https://a.example/public", false},
		{"https://a.example", "https://a.example/x", true},
		{"https://a.example", "https://a.example", true},
		{"https://a.example/", "https://a.example", true},
		{"https://A.example:443/", "https://a.EXAMPLE/x", true},
		{"https://a.example/", "https://a.example./x", true},
		{"https://a.example/", "https://a.example:444/x", false},
		{"https://a.example/", "http://a.example/x", false},
		{"https://a.example/", "https://b.a.example/x", false},
		{"https://a.example/", "https://a.example.evil/x", false},
		{"https://a.example/", "https://a.example@evil/x", false},
		{"https://a.example/pub/", "https://a.example/pub/../x", false},
		{"https://a.example/pub/", "https://a.example/pub/%2e%2e/x", false},
		{"https://a.example/pub/", "https://a.example/pub/%2E./x", false},
		{"https://a.example/pub/", "https://a.example/pub/..%2fx", false},
		{"https://a.example/pub/", "https://a.example/pub/%252e%252e/x", false},
		{"https://a.example/pub/", `https://a.example/pub/..\x`, false},
		{"https://a.example/pub/", "https://a.example//pub/x", false},
		{"https://a.example/pub/", "https://a.example/pub//x", false},
		{"https://a.example/pub/", "https://a.example/pub/x%20y?query=/../#f", true},
		{"s3://bucket/dir/", "s3://bucket/dir/key", true},
		{"s3://bucket/dir/", "s3://other/dir/key", false},
	}
	for _, tt := range tests {
		p, err := parsePrefix(tt.prefix)
		if err != nil {
			t.Fatalf("%s: %v", tt.prefix, err)
		}
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatalf("%s: %v", tt.url, err)
		}
		if got := p.allows(u); got != tt.want {
			t.Errorf("%s allows %s: got %v, want %v", tt.prefix, tt.url, got, tt.want)
		}
	}
}

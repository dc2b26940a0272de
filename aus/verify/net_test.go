package verify

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Servers are asked by a few at a time, again only where that may help, and after as long as they ask for.
func TestPolite(t *testing.T) {
	t.Parallel()
	answer := func(status int, after string) *http.Response {
		r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), ContentLength: -1}
		if after != "" {
			r.Header.Set("Retry-After", after)
		}
		return r
	}
	take := func(io.Reader, int64) error { return nil }
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		g := newGetter(&http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return answer(http.StatusOK, ""), nil
		})})
		start := time.Now()
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if err := g.get(t.Context(), fmt.Sprintf("https://h%d/", i%2), take); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 5*time.Second || most.Load() != 8 {
			t.Errorf("40 requests of a second to two hosts took %v, %d at a time; want 5 s, 8", took, most.Load())
		}
	})
	for _, tt := range []struct {
		status int
		after  string
		asked  int
		least  time.Duration // that all takes
		most   time.Duration
	}{
		{http.StatusNotFound, "", 1, 0, 0},
		{http.StatusForbidden, "30", 1, 0, 0},
		{http.StatusServiceUnavailable, "", 4, 0, 7 * time.Second},
		{http.StatusTooManyRequests, "20", 4, 60 * time.Second, 60 * time.Second},
		{http.StatusServiceUnavailable, "86400", 4, 3 * time.Minute, 3 * time.Minute},
		{http.StatusServiceUnavailable, "-5", 4, 0, 7 * time.Second},
		{http.StatusServiceUnavailable, "soon", 4, 0, 7 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			g := newGetter(&http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				asked++
				return answer(tt.status, tt.after), nil
			})})
			start := time.Now()
			err := g.get(t.Context(), "https://h/", take)
			if took := time.Since(start); err == nil || asked != tt.asked || took < tt.least || took > tt.most {
				t.Errorf("%d, Retry-After %q: %v, asked %d times in %v, want %d times in %v to %v", tt.status, tt.after, err, asked, took, tt.asked, tt.least, tt.most)
			}
		})
	}
}

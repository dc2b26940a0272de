package progress

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestCounter(t *testing.T) {
	t.Parallel()
	var told []string
	c := New(func(file string, done, total int64) { told = append(told, fmt.Sprint(file, ":", done, "/", total)) }).Start(10)
	c.Add("a", 3)
	c.Add("b", 7)
	if got := strings.Join(told, " "); got != ":0/10 a:3/10 b:10/10" {
		t.Errorf("got %q", got)
	}
	New(nil).Start(1).Add("a", 1) // silent
}

// The callback is never called from two goroutines at once, and what it is told only grows.
func TestCounterOfManyGoroutines(t *testing.T) {
	t.Parallel()
	var last int64
	c := New(func(_ string, done, _ int64) {
		if done < last {
			t.Errorf("%d after %d", done, last)
		}
		last = done
	}).Start(800)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				c.Add("", 1)
			}
		})
	}
	wg.Wait()
	if last != 800 {
		t.Errorf("got %d, want 800", last)
	}
}

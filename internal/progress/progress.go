// Package progress counts how far a piece of work is, for a callback that must not be called from two goroutines at once.
package progress

import "sync"

// A Counter counts what is done of one step. It is safe for concurrent use.
type Counter struct {
	call func(file string, done, total int64)

	mu          sync.Mutex
	done, total int64
}

// New returns a counter with nothing to do. call is told of every change, never from two goroutines at once; nil makes
// the counter silent.
func New(call func(file string, done, total int64)) *Counter { return &Counter{call: call} }

// Start says that the work begins, and how much there is.
func (c *Counter) Start(total int64) *Counter {
	c.mu.Lock()
	c.total = total
	c.mu.Unlock()
	c.Add("", 0)
	return c
}

// Add says that n more are done, and of which file.
func (c *Counter) Add(file string, n int64) {
	if c.call == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.call(file, c.done, c.total)
}

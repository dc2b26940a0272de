package fetch

import (
	"context"
	"sync"
	"time"
)

// watchdog cancels an attempt that gets no byte for a while, or too few. Its goroutines are those of timers.
type watchdog struct {
	limit  time.Duration
	min    int64 // bytes that must arrive within limit
	cancel context.CancelCauseFunc

	budget time.Duration // that is left for all attempts; none where it is 0
	since  time.Time     // monotonic: when it began to be used up; zero while it is not
	over   *time.Timer   // when it is used up

	mu      sync.Mutex
	stopped bool
	stall   *time.Timer
	rate    *time.Timer
	slots   [slotsPerLimit]int64 // bytes that arrived in the last parts of limit
	slot    int
	full    bool // the slots span limit
}

const slotsPerLimit = 32

func newWatchdog(limit time.Duration, minRate int64, cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{limit: limit, min: int64(float64(minRate) * limit.Seconds()), cancel: cancel}
}

// spend lets an attempt take what is left of a budget of time; whatever it waits for while it is disarmed costs nothing.
func (w *watchdog) spend(left, whole time.Duration) {
	w.budget = left
	w.over = time.AfterFunc(time.Hour, func() { w.cancel(&DeadlineError{After: whole}) })
	w.over.Stop()
}

// meter begins or ends to use up the budget. The mutex is held.
func (w *watchdog) meter(on bool) {
	switch {
	case w.over == nil, on != w.since.IsZero():
	case on:
		w.since = time.Now()
		w.over.Reset(w.budget)
	default:
		w.over.Stop()
		w.budget = max(w.budget-time.Since(w.since), 1)
		w.since = time.Time{}
	}
}

// arm starts, or starts again, to wait for a sign of life.
func (w *watchdog) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meter(true)
	if w.stall == nil {
		w.stall = time.AfterFunc(w.limit, func() { w.cancel(&StallError{After: w.limit}) })
		return
	}
	w.stall.Reset(w.limit)
}

// disarm stops waiting, until it is armed again.
func (w *watchdog) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meter(false)
	if w.stall != nil {
		w.stall.Stop()
	}
}

// body starts to watch the rate as well.
func (w *watchdog) body() {
	w.arm()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.min > 0 {
		w.rate = time.AfterFunc(w.limit/slotsPerLimit, w.tick)
	}
}

func (w *watchdog) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.slot++
	if w.slot == slotsPerLimit {
		w.slot, w.full = 0, true
	}
	var sum int64
	for _, n := range w.slots {
		sum += n
	}
	if w.full && sum < w.min {
		w.cancel(&StallError{After: w.limit, Bytes: sum})
		return
	}
	w.slots[w.slot] = 0
	w.rate.Reset(w.limit / slotsPerLimit)
}

// got notes that n bytes have arrived.
func (w *watchdog) got(n int) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slots[w.slot] += int64(n)
	w.stall.Reset(w.limit)
}

// stop ends the watch and returns what is left of the budget. Timers that have fired already may still cancel.
func (w *watchdog) stop() (left time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.meter(false)
	for _, t := range []*time.Timer{w.stall, w.rate} {
		if t != nil {
			t.Stop()
		}
	}
	return w.budget
}

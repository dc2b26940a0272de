package engine

import "github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"

// Deafen ends the watches, as the client of the queue does where the engine refuses what it did not expect.
func (e *Engine) Deafen() {
	e.unwatch()
	e.deaf.Store(true)
	poke(e.sick)
}

// KeepError is an error of the store in which what jobs make is kept.
func KeepError(err error) error { return &keepError{err} }

// Named is how often the key of what was asked for was computed.
func (e *Engine) Named() int64 { return e.named.Load() }

// Judge says what an error of an attempt is to callers, and how often it is tried.
func Judge(err error) (*job.Error, int) {
	v := judge(err, 5)
	return v.err, v.tries
}

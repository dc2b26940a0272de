package engine

import (
	"context"
	"errors"
)

// New returns an engine that works until it is closed. What is wrong with the options is an [*OptionError].
func New(_ context.Context, _ Options) (*Engine, error) { return nil, errors.New("not there yet") }

// Drain ends the work: no new jobs are taken, those under work are handed back for other servers, or for the next
// start. It returns when that is done, or when ctx ends.
func (e *Engine) Drain(_ context.Context) error { return nil }

// Close drains for at most 10 seconds and frees everything. Watchers' channels are closed.
func (e *Engine) Close() error { return nil }

// OptionError says which option cannot be used.
type OptionError struct {
	Option string // as in "Storage"
	Reason string
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Reason }

package partial

import (
	"errors"
	"strings"
)

// ErrRefused matches every *RefusedError with errors.Is.
var ErrRefused = errors.New("refused")

// ErrDifferent matches every *VerifyError with errors.Is.
var ErrDifferent = errors.New("the updated tree is not the target")

// ErrInput matches, with errors.Is, the error for a FROM or TO that cannot be used whatever is asked for: it is not a
// complete update, or what its members hold cannot be read. The error is an [*InputError].
var ErrInput = errors.New("not a complete update that can be used")

// InputError says which of the two cannot be used, and why. It matches [ErrInput] and unwraps to the reason.
type InputError struct {
	Input string // "FROM" or "TO"
	Err   error  // why
}

func (e *InputError) Error() string { return e.Input + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *InputError) Unwrap() error { return e.Err }

// Is makes errors.Is find [ErrInput].
func (e *InputError) Is(target error) bool { return target == ErrInput }

// A RefusedError says why Build or Pack made nothing: the inputs would give an update that clients fail on, or
// that silently gives them something else. Every reason is listed, with a way out.
type RefusedError struct {
	Findings []Finding // only those with severity Broken
}

// Error lists all findings, one after the other.
func (e *RefusedError) Error() string {
	texts := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		texts[i] = f.String()
	}
	return "refused: " + strings.Join(texts, "; ")
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

package plugins

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Errors of the host's side.
var (
	// ErrChecksum means that the binary is not the one whose SHA-256 was configured.
	ErrChecksum = errors.New("plugin binary has the wrong checksum")
	// ErrHandshake means that the process did not announce itself as PROTOCOL.md section 2 says.
	ErrHandshake = errors.New("plugin handshake")
	// ErrStopped means that the process ended during the call, or cannot be started again for now.
	ErrStopped = errors.New("plugin stopped")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("plugin closed")
	// ErrAnswer means that the plugin answered with something that cannot be: a signature that does not
	// verify, an object other than the one asked for. Such an answer is never used and the request not repeated.
	ErrAnswer = errors.New("bad answer from plugin")
	// ErrLimit means that the plugin sent more than a message, a stream or a list may hold.
	ErrLimit = errors.New("plugin exceeded a limit")
)

// Errors that a plugin answers with: one for each Reason. A plugin written with Serve returns them (wrapped, if
// it likes), and the host's calls return errors that match them.
var (
	// ErrInvalid means that the request makes no sense to the plugin. Asking again does not help.
	ErrInvalid = errors.New("invalid request")
	// ErrDenied means that the plugin, or the service behind it, refuses.
	ErrDenied = errors.New("denied")
	// ErrNotFound means that there is no such key or object.
	ErrNotFound = errors.New("not found")
	// ErrExists means that there is such an object already, with other content.
	ErrExists = errors.New("exists already")
	// ErrUnsupported means that the plugin cannot do this at all.
	ErrUnsupported = errors.New("unsupported")
	// ErrThrottled means: not now, later (see Error.RetryAfter).
	ErrThrottled = errors.New("throttled")
	// ErrUnavailable means that the service behind the plugin does not answer.
	ErrUnavailable = errors.New("unavailable")
	// ErrTimeout means that the call's time is over, here or in the plugin.
	ErrTimeout = errors.New("timed out")
	// ErrCorrupt means that stored or sent bytes are not what their hash says.
	ErrCorrupt = errors.New("corrupt")
	// ErrInternal is every other failure.
	ErrInternal = errors.New("internal error")
)

// Reason says why a plugin refuses a call. The set is closed: PROTOCOL.md section 4.
type Reason string

// The reasons, spelled as on the wire.
const (
	ReasonInvalid     Reason = "INVALID"
	ReasonDenied      Reason = "DENIED"
	ReasonNotFound    Reason = "NOT_FOUND"
	ReasonExists      Reason = "EXISTS"
	ReasonUnsupported Reason = "UNSUPPORTED"
	ReasonThrottled   Reason = "THROTTLED"
	ReasonUnavailable Reason = "UNAVAILABLE"
	ReasonTimeout     Reason = "TIMEOUT"
	ReasonCorrupt     Reason = "CORRUPT"
	ReasonInternal    Reason = "INTERNAL"
)

// Names of the trailing metadata that carry a reason, and the pause a throttled caller should make.
const (
	reasonTrailer     = "senbonzakura-reason"
	retryAfterTrailer = "senbonzakura-retry-after-ms"
)

// maxRetryAfter bounds the pause that a plugin can ask for.
const maxRetryAfter = 10 * time.Minute

// maxErrorText bounds what of a plugin's error text is kept, in bytes.
const maxErrorText = 1024

// reasons lists, for each reason, its sentinel and its gRPC code.
var reasons = []struct {
	reason Reason
	err    error
	code   codes.Code
}{
	{ReasonInvalid, ErrInvalid, codes.InvalidArgument},
	{ReasonDenied, ErrDenied, codes.PermissionDenied},
	{ReasonNotFound, ErrNotFound, codes.NotFound},
	{ReasonExists, ErrExists, codes.AlreadyExists},
	{ReasonUnsupported, ErrUnsupported, codes.Unimplemented},
	{ReasonThrottled, ErrThrottled, codes.ResourceExhausted},
	{ReasonUnavailable, ErrUnavailable, codes.Unavailable},
	{ReasonTimeout, ErrTimeout, codes.DeadlineExceeded},
	{ReasonCorrupt, ErrCorrupt, codes.DataLoss},
	{ReasonInternal, ErrInternal, codes.Internal},
}

// Error is the failure of one call. It matches the sentinel of its Reason with errors.Is, and what caused it.
type Error struct {
	// Reason is one of the closed set.
	Reason Reason
	// Message is for people. On the host's side it came from the plugin: it is cut to 1 KiB and holds no
	// control characters, but is otherwise untrusted.
	Message string
	// RetryAfter is how long a throttled caller should wait; zero means that nothing was said.
	RetryAfter time.Duration
	// Cause is the error below, if there is one: on the host's side the context's error or ErrLimit.
	Cause error
}

// Error returns the reason, the message and the cause.
func (e *Error) Error() string {
	text := strings.ToLower(strings.ReplaceAll(string(e.Reason), "_", " "))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Is says whether target is the sentinel of the error's Reason.
func (e *Error) Is(target error) bool {
	for _, r := range reasons {
		if r.err == target {
			return r.reason == e.Reason
		}
	}
	return false
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// BadAnswer makes the error for an answer that breaks the protocol. It matches ErrAnswer and ErrInternal.
func BadAnswer(format string, args ...any) error {
	return &Error{Reason: ReasonInternal, Cause: fmt.Errorf("%w: %w", ErrAnswer, fmt.Errorf(format, args...))}
}

// reasonOf finds the reason an error of a plugin's code stands for.
func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		for _, r := range reasons {
			if r.reason == e.Reason {
				return r.reason
			}
		}
		return ReasonInternal
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return ReasonTimeout
	}
	return ReasonInternal
}

// toWire turns an error of a plugin's code into a gRPC status and the trailer that carries its reason. An
// error that is a status already (from the gRPC library itself) goes as it is.
func toWire(err error) (metadata.MD, error) {
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) {
		return nil, err
	}
	reason := reasonOf(err)
	md := metadata.Pairs(reasonTrailer, string(reason))
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		md.Set(retryAfterTrailer, strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
	}
	code := codes.Internal
	for _, r := range reasons {
		if r.reason == reason {
			code = r.code
		}
	}
	return md, status.Error(code, clean(err.Error(), maxErrorText))
}

// fromWire turns what a call returned into an error of this package. It does not know whether the process
// lives; the caller does.
func fromWire(err error, trailer metadata.MD) *Error {
	st := status.Convert(err)
	e := &Error{Reason: ReasonInternal, Message: clean(st.Message(), maxErrorText)}
	if said := trailer.Get(reasonTrailer); len(said) == 1 {
		for _, r := range reasons {
			if string(r.reason) == said[0] {
				e.Reason = r.reason
			}
		}
		if ms := trailer.Get(retryAfterTrailer); len(ms) == 1 {
			if n, err := strconv.ParseInt(ms[0], 10, 64); err == nil && n > 0 {
				e.RetryAfter = time.Duration(min(n, maxRetryAfter.Milliseconds())) * time.Millisecond
			}
		}
		return e
	}
	if st.Code() == codes.ResourceExhausted {
		// Nobody but the gRPC library says so without a reason: a message was too large.
		e.Cause = ErrLimit
		return e
	}
	for _, r := range reasons {
		if r.code == st.Code() {
			e.Reason = r.reason
		}
	}
	return e
}

// clean makes text of a plugin fit for logs and errors: valid UTF-8, one line, at most limit bytes.
func clean(text string, limit int) string {
	cut := false
	if len(text) > limit {
		text, cut = text[:limit], true
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if cut {
		text += "…"
	}
	return text
}

// stopped makes the error for a call that met a dead process.
func stopped(what string, err error) error {
	if err == nil {
		return fmt.Errorf("%s: %w", what, ErrStopped)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrStopped, err)
}

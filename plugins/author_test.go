package plugins

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestFromStatus(t *testing.T) {
	t.Parallel()
	said := errors.New("as the service says")
	for status, want := range map[int]error{
		0: ErrUnavailable, 400: ErrInternal, 401: ErrDenied, 403: ErrDenied, 404: ErrNotFound, 409: ErrInternal, 429: ErrThrottled,
		500: ErrUnavailable, 503: ErrUnavailable,
	} {
		if err := FromStatus(status, said); !errors.Is(err, want) || !errors.Is(err, said) || reasonOf(err) == "" {
			t.Errorf("%d: got %v, want %v", status, err, want)
		}
	}
	for _, err := range []error{nil, ErrInvalid, fmt.Errorf("x: %w", ErrCorrupt), context.Canceled, context.DeadlineExceeded} {
		if got := FromStatus(500, err); got != err { //nolint:errorlint // it is the very same one
			t.Errorf("%v became %v", err, got)
		}
	}
}

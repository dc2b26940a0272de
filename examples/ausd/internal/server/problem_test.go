package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/mar"
)

// What is wrong with what a caller sent is told as such, whichever package says it.
func TestProblemOf(t *testing.T) {
	t.Parallel()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("x.mar: %w", mar.ErrFormat), 422},
		{fmt.Errorf("x.mar: %w", mar.ErrLimit), 422},
		{fmt.Errorf("x.mar: %w", mar.ErrSignature), 422},
		{fmt.Errorf("document: %w", aus.ErrLimit), 422},
		{ErrInput, 422},
		{context.Canceled, 503},
		{io.ErrUnexpectedEOF, 503},
		{errors.New("disk"), 503},
	} {
		var status huma.StatusError
		if err := s.problemOf(tt.err); !errors.As(err, &status) || status.GetStatus() != tt.status {
			t.Errorf("%v: %v, want %d", tt.err, err, tt.status)
		}
	}
}

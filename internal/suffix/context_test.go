package suffix

import (
	"context"
	"errors"
	"testing"
)

func TestSortContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	text := []byte("banana, bandana, and so on")
	if err := SortContext(ctx, make([]int32, len(text)), text); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

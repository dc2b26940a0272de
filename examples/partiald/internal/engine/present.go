package engine

import (
	"context"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Present implements [job.Service].
func (e *Engine) Present(ctx context.Context, id string) (bool, error) {
	if !validID(id) {
		return false, notFound(id)
	}
	r, _, err := e.find(ctx, id)
	if err != nil {
		return false, err
	}
	return r.State == job.Done && r.Purged.IsZero() && e.there(ctx, &r), nil
}

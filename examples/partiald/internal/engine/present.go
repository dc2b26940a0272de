package engine

import (
	"context"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// Present says whether the partial of a job that is done is still there to be handed out. What was there a moment ago is
// not looked for again. It is false for a job that is not done; the error is that of [Engine.Status].
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

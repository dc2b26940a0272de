package queue

import (
	"context"
	"time"
)

// Round is what a start tries until it ends well.
func (q *Queue) Round(ctx context.Context, within time.Duration) error {
	_, err := q.round(ctx, within)
	return err
}

package book

import (
	"context"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/replicate"
)

// Difference says how the contents of a snapshot differ from those of an earlier one; from number 0 it is everything.
func (b *Book) Difference(ctx context.Context, from, to int64) ([]replicate.Entry, error) {
	rows, err := b.db.Rows(ctx, `SELECT kind, key, hash FROM contents WHERE since > ? AND since <= ? AND (until IS NULL OR until > ?)
		UNION ALL SELECT kind, key, '' FROM contents c WHERE since <= ? AND until > ? AND until <= ?
			AND NOT EXISTS (SELECT 1 FROM contents n WHERE n.kind = c.kind AND n.key = c.key AND n.since > ? AND n.since <= ? AND (n.until IS NULL OR n.until > ?))`,
		from, to, to, from, from, to, from, to, to)
	return collect(rows, err, func(r row) (e replicate.Entry, err error) {
		err = r.Scan(&e.Kind, &e.Key, &e.Hash)
		return e, err
	})
}

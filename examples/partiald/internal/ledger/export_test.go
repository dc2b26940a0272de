package ledger

import (
	"context"
	"strconv"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// SetVersion pretends that the schema has another version.
func (l *Ledger) SetVersion(ctx context.Context, version int) error {
	return l.update(ctx, func(tx tx) error {
		return tx.Exec(`UPDATE meta SET value = ? WHERE name = 'version'`, strconv.Itoa(version))
	})
}

// Spoil accepts a job in a transaction that then fails.
func (l *Ledger) Spoil(ctx context.Context, e Entry) error {
	return l.update(ctx, func(tx tx) error {
		if err := tx.accept(&e); err != nil {
			return err
		}
		return tx.Exec(`INSERT INTO meta (name, value) VALUES ('version', 'twice')`)
	})
}

// Bound bounds how large an SQLite file may grow, in pages more than it has now.
func (l *Ledger) Bound(ctx context.Context, more int) error {
	return l.update(ctx, func(tx tx) error {
		var pages, now int
		if err := tx.Row("PRAGMA page_count").Scan(&pages); err != nil {
			return err
		}
		return tx.Row("PRAGMA max_page_count = " + strconv.Itoa(pages+more)).Scan(&now)
	})
}

// Downgrade takes the book back to the first schema.
func (l *Ledger) Downgrade(ctx context.Context) error {
	return l.update(ctx, func(tx tx) error {
		for _, q := range []string{
			`DROP TABLE sources`, `DROP INDEX jobs_code`, `DROP INDEX jobs_created`, `DROP INDEX jobs_product`, `DROP INDEX jobs_locale`,
			`DROP INDEX jobs_open_asker`, `ALTER TABLE jobs DROP COLUMN asker`,
			`ALTER TABLE jobs DROP COLUMN code`, `ALTER TABLE jobs DROP COLUMN more`,
			`ALTER TABLE batches DROP COLUMN unmatched`, `UPDATE meta SET value = '1' WHERE name = 'version'`,
		} {
			if err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
}

// Plan says how SQLite finds the jobs of a filter.
func (l *Ledger) Plan(ctx context.Context, f job.Filter) (steps []string, err error) {
	query, args, err := selection(f, 100)
	if err != nil {
		return nil, err
	}
	rows, err := l.Rows(ctx, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, rows.Err()
}

// Search takes the turn of a search.
func (l *Ledger) Search(ctx context.Context) (leave func(), err error) { return l.search(ctx) }

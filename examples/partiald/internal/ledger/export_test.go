package ledger

import (
	"context"
	"strconv"
)

// SetVersion pretends that the schema has another version.
func (l *Ledger) SetVersion(ctx context.Context, version int) error {
	return l.update(ctx, func(tx *tx) error {
		return tx.exec(`UPDATE meta SET value = ? WHERE name = 'version'`, strconv.Itoa(version))
	})
}

// Spoil accepts a job in a transaction that then fails.
func (l *Ledger) Spoil(ctx context.Context, e Entry) error {
	return l.update(ctx, func(tx *tx) error {
		if err := tx.accept(&e); err != nil {
			return err
		}
		return tx.exec(`INSERT INTO meta (name, value) VALUES ('version', 'twice')`)
	})
}

// Bound bounds how large an SQLite file may grow, in pages more than it has now.
func (l *Ledger) Bound(ctx context.Context, more int) error {
	var pages int
	if err := l.write.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return err
	}
	var now int
	return l.write.QueryRowContext(ctx, "PRAGMA max_page_count = "+strconv.Itoa(pages+more)).Scan(&now)
}

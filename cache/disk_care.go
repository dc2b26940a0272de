package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Purge removes the entries that the filter matches, in every process's view, and returns what that was.
func (d *Disk) Purge(ctx context.Context, f Filter) (Usage, error) {
	var removed Usage
	if d.closed.Load() {
		return removed, ErrClosed
	}
	if f.Key != nil {
		if err := f.Key.check(); err != nil {
			return removed, err
		}
	}
	err := d.locked(ctx, func(u usage) error {
		kinds, err := d.kinds()
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			if f.Kind != "" && f.Kind != kind || f.Key != nil && f.Key.Kind != kind {
				continue
			}
			if err := d.purgeKind(ctx, kind, f, u, &removed); err != nil {
				return err
			}
		}
		if f.Key != nil || f.Kind != "" {
			return nil
		}
		bad, err := d.list(filepath.Join(d.dir, "bad"))
		for _, file := range bad {
			if d.now().Sub(file.used) >= f.Age {
				_ = d.fsys.Remove(file.name)
			}
		}
		return err
	})
	if err != nil {
		return removed, fmt.Errorf("purge cache: %w", err)
	}
	return removed, nil
}

// purgeKind removes the entries of one kind that the filter matches, and adds them to removed.
func (d *Disk) purgeKind(ctx context.Context, kind Kind, f Filter, u usage, removed *Usage) error {
	var files []file
	if f.Key != nil {
		if st, err := d.fsys.Lstat(d.path(*f.Key)); err == nil {
			files = []file{{d.path(*f.Key), st.Size(), st.ModTime()}}
		}
	} else {
		var err error
		if files, _, err = d.scan(ctx, kind); err != nil {
			return err
		}
	}
	for _, file := range files {
		k, err := ParseKey(string(kind) + "/" + filepath.Base(file.name))
		if err != nil || !f.matches(k, d.now().Sub(file.used)) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := d.fsys.Remove(file.name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		u.add(kind, -blocks(file.size))
		removed.Entries++
		removed.Bytes += max(0, file.size-recordSize)
	}
	return nil
}

// Damage is an entry that [Disk.Verify] found damaged.
type Damage struct {
	Key Key   // of the entry
	Err error // matches ErrCorrupt
}

// VerifyReport is what [Disk.Verify] found.
type VerifyReport struct {
	Checked   Usage    // what was read and hashed
	Damaged   []Damage // moved away
	Strangers []string // files that are no entries, left alone
}

// Verify reads every entry and compares it with its hash. Damaged entries are moved away as Get would. Entries
// that other processes add or remove meanwhile may be missed. The error says why the check could not be
// finished, not that something is damaged. If progress is not nil, it is called after each entry.
func (d *Disk) Verify(ctx context.Context, progress func(done, total Usage)) (*VerifyReport, error) {
	if d.closed.Load() {
		return nil, ErrClosed
	}
	kinds, err := d.kinds()
	if err != nil {
		return nil, fmt.Errorf("verify cache: %w", err)
	}
	var files []file
	kindOf := make(map[string]Kind)
	var total Usage
	for _, kind := range kinds {
		some, err := d.entries(ctx, kind)
		if err != nil {
			return nil, fmt.Errorf("verify cache: %w", err)
		}
		for _, f := range some {
			kindOf[f.name] = kind
			total.Entries++
			total.Bytes += max(0, f.size-recordSize)
		}
		files = append(files, some...)
	}
	report := new(VerifyReport)
	var done Usage
	for _, file := range files {
		k, err := ParseKey(string(kindOf[file.name]) + "/" + filepath.Base(file.name))
		if err != nil || d.path(k) != file.name {
			report.Strangers = append(report.Strangers, file.name)
		} else {
			f, _, err := d.verified(ctx, k, file.name)
			switch {
			case err == nil:
				f.Close()
			case errors.Is(err, fs.ErrNotExist): // evicted meanwhile
			case errors.Is(err, ErrCorrupt):
				report.Damaged = append(report.Damaged, Damage{k, err})
			default:
				return report, fmt.Errorf("verify %s: %w", k, err)
			}
			report.Checked.Entries++
			report.Checked.Bytes += max(0, file.size-recordSize)
		}
		done.Entries++
		done.Bytes += max(0, file.size-recordSize)
		if progress != nil {
			progress(done, total)
		}
	}
	return report, nil
}

// Stats returns what this Disk did since it was opened, and what the directory holds.
func (d *Disk) Stats(ctx context.Context) (Stats, error) {
	s := d.stats.snapshot()
	s.Kinds = make(map[Kind]Usage)
	if d.closed.Load() {
		return s, ErrClosed
	}
	kinds, err := d.kinds()
	if err != nil {
		return s, fmt.Errorf("cache statistics: %w", err)
	}
	for _, kind := range kinds {
		files, err := d.entries(ctx, kind)
		if err != nil {
			return s, fmt.Errorf("cache statistics: %w", err)
		}
		var u Usage
		for _, f := range files {
			u.Entries++
			u.Bytes += max(0, f.size-recordSize)
		}
		s.Kinds[kind] = u
	}
	return s, nil
}

package server

import (
	"context"
	"errors"
	"io/fs"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
)

// How much gc keeps if nobody says.
const (
	gcDays   = 30
	gcNewest = 10
)

// Garbage is what no client can be led to any more.
type Garbage struct {
	Files   []book.File `json:"files"`
	Bytes   int64       `json:"bytes"`
	Kept    int         `json:"kept"`
	Removed bool        `json:"removed"` // false of a dry run
}

// Collect removes files that nothing leads to: no release or made partial of a snapshot that held in the last days, and
// that were not added in these days, nor are among the newest. Nothing is published meanwhile.
func (s *Server) Collect(ctx context.Context, days, newest int, dry bool) (Garbage, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	since := s.now().AddDate(0, 0, -days)
	named, err := s.book.NamedSince(ctx, since)
	if err != nil {
		return Garbage{}, err
	}
	files, err := s.book.Files(ctx)
	if err != nil {
		return Garbage{}, err
	}
	g := Garbage{Files: []book.File{}, Removed: !dry}
	for i, f := range files {
		if named[f.SHA512] || i < newest || f.Added.After(since) {
			g.Kept++
			continue
		}
		if !dry {
			// The note goes first: a file without one is never offered, a note without a file would be.
			if err := s.book.RemoveFile(ctx, f.SHA512); err != nil {
				return g, err
			}
			if err := s.files.Remove(fileName(f.SHA512)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return g, err
			}
		}
		g.Files = append(g.Files, f)
		g.Bytes += f.Size
	}
	return g, nil
}

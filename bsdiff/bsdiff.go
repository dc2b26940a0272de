package bsdiff

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/match"
	"github.com/senbonzakura/senbonzakura/internal/progress"
)

// Match is a way of finding in the old file what the new one is made of.
type Match uint8

const (
	// Default finds what makes the smallest patches; what it finds may change from version to version of
	// this package, and then [Differ.ID] changes as well.
	Default Match = iota
	// Compatible finds what Mozilla's mbsdiff finds: the patch is the same byte for byte. With [BSDIFF40] it
	// finds what bsdiff 4.3 finds: the blocks are the same, but other programs may compress them otherwise.
	//
	// mbsdiff takes time in proportion to the square of the size where old files repeat themselves: two minutes for
	// 3 MB of zeros. Here the searches take n log n steps whatever the files are. What is left, and has no such
	// bound, is that after each search the bytes since the last step are looked at again: a file can be made for
	// which that is much, although none of those known to be hard (runs, periodic, sparse and Fibonacci texts, with
	// and without noise) takes longer than random bytes do by more than a small factor.
	//
	// Files over 700 MB, at which mbsdiff's 32-bit scores overflow, give what exact scores give.
	Compatible
)

// String returns the name of the way: "default" or "compatible".
func (m Match) String() string {
	switch m {
	case Default:
		return "default"
	case Compatible:
		return "compatible"
	}
	return fmt.Sprintf("Match(%d)", uint8(m))
}

// Options for [New]. The zero value makes the smallest patch that Mozilla's updater applies.
type Options struct {
	Match  Match  // how matches are looked for
	Format Format // of the patch
	// Workers is how many goroutines look for matches, zero means one for each CPU. The patch is the same
	// for any number.
	Workers int
	// Progress, if not nil, is told from time to time how many units of work of how many are done, in
	// rising order, from one goroutine at a time. It must return quickly.
	Progress func(done, total int64)
}

// Differ makes patches. It is safe for concurrent use.
type Differ struct {
	o Options
}

// New returns a Differ with the given options. Options that do not exist are reported by [Differ.Diff].
func New(o Options) *Differ {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return &Differ{o: o}
}

// Format names the format of the patches: "mbdiff10" or "bsdiff40".
func (d *Differ) Format() string { return strings.ToLower(d.o.Format.String()) }

// ID names everything that decides which bytes [Differ.Diff] writes: two Differs of the same ID, also of
// different versions of this package, make the same patch of the same files.
func (d *Differ) ID() string {
	id := "bsdiff/" + d.o.Format.String() + "/" + d.o.Match.String()
	if d.o.Match == Default {
		id += "-" + match.Version
	}
	if d.o.Format == BSDIFF40 {
		id += "/" + bzip2Version
	}
	return id
}

// Diff writes a patch that turns old into new. The patch is not compressed, except that BSDIFF40 compresses
// by itself. It goes out in pieces of at most 128 KiB as it is made: neither the difference nor the extra
// block exists whole. After an error what was written is worthless.
//
// Files of 2 GiB and more, and patches of that size, are refused with [ErrTooLarge]: neither mbsdiff nor the
// updater can handle them. Diff returns soon after ctx ends.
func (d *Differ) Diff(ctx context.Context, patch io.Writer, old, new []byte) error {
	if d.o.Match > Compatible || d.o.Format > BSDIFF40 {
		return fmt.Errorf("bsdiff: %v, %v: %w", d.o.Match, d.o.Format, ErrUnsupported)
	}
	if len(old) >= maxSize || len(new) >= maxSize {
		return fmt.Errorf("bsdiff: old file of %d bytes and new file of %d bytes: %w (the limit is %d)", len(old), len(new), ErrTooLarge, maxSize-1)
	}
	// Matching counts for seven eighths of the work, or rather less; writing for the rest.
	report := progress.To(patch, d.o.Progress)
	if report == nil {
		report = func(_, _ int64) {}
	}
	total := 8 * int64(len(new))
	done := int64(0)
	triples, err := d.match(ctx, old, new, func(part, whole int64) {
		if whole > 0 {
			done = max(done, int64(float64(part)/float64(whole)*float64(7*int64(len(new)))))
			report(done, total)
		}
	})
	if err != nil {
		return err
	}
	done = 7 * int64(len(new))
	b := &blocks{old: old, new: new, triples: triples, progress: func(n int) {
		done += int64(n)
		report(done, total)
	}}
	if err := b.check(); err != nil {
		return err
	}
	if d.o.Format == BSDIFF40 {
		return b.writeBS(ctx, patch)
	}
	return b.writeMB(ctx, patch)
}

func (d *Differ) match(ctx context.Context, old, new []byte, progress func(done, total int64)) ([]Triple, error) {
	o := match.Options{Workers: d.o.Workers, Progress: progress}
	switch {
	case d.o.Match == Default:
		return match.Default(ctx, old, new, o)
	case d.o.Format == BSDIFF40:
		return compatible(ctx, old, new, scoringBS, o)
	}
	return compatible(ctx, old, new, scoringMB, o)
}

// PeakMemory returns how many bytes of memory [Differ.Diff] needs at most for files of the given sizes, beyond
// the files themselves. For [Default] it is nearly what is needed. For [Compatible] it covers files that are made
// of long repetitions; others need half of it.
func (d *Differ) PeakMemory(oldSize, newSize int64) int64 {
	const buffers = 4 << 20
	n := int64(buffers)
	if d.o.Match == Compatible {
		// Suffix array and, in the worst case, tables of six times the old file; steps; what workers have found
		// ahead.
		n += 10*oldSize + newSize/4 + int64(d.o.Workers+2)*28*scanChunk
		if oldSize >= wideIndex {
			n += 4 << 24
		}
	} else {
		n += match.PeakMemory(oldSize, newSize)
	}
	if d.o.Format == BSDIFF40 {
		n += newSize // the compressed control and difference blocks
	}
	return n
}

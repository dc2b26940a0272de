package member

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// XZ is what updaters since Firefox 56 read.
type XZ struct{}

// Name returns "xz".
func (XZ) Name() string { return "xz" }

// Sniff looks for the magic.
func (XZ) Sniff(head []byte) bool { return xz.Sniff(head) }

// Size is what the file's index claims.
func (XZ) Size(r io.ReaderAt, size int64) (n int64, claimed bool, err error) {
	n, err = xz.UncompressedSize(r, size)
	return n, true, err
}

func limits(l Limits) *xz.Limits { return &xz.Limits{Output: l.Output, Ratio: l.Ratio} }

// NewReader reads one file.
func (XZ) NewReader(r io.Reader, lim Limits) (io.ReadCloser, error) {
	return xz.NewReader(r, limits(lim))
}

// Decode decompresses what is in memory.
func (XZ) Decode(src []byte, lim Limits) ([]byte, error) { return xz.Decompress(nil, src, limits(lim)) }

// readers are buffers of the size that xz.UpdaterAccepts would make for itself each time.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// Check refuses filters, checks and dictionaries that the updater does not have, and what it would silently leave out.
func (XZ) Check(r io.Reader) error {
	in := readers.Get().(*bufio.Reader)
	defer readers.Put(in)
	in.Reset(r)
	return xz.UpdaterAccepts(in)
}

// Fault knows the reader's errors.
func (XZ) Fault(err error) (data, limit bool) {
	var e *xz.Error
	return errors.As(err, &e), errors.Is(err, xz.ErrLimit)
}

// Writer knows the levels of package xz; "" means its Best.
func (XZ) Writer(level string) Writer {
	if level == "" {
		level = string(xz.Best)
	}
	return xzWriter{xz.Level(level)}
}

type xzWriter struct{ level xz.Level }

// xzDict is the dictionary of the xz program's level 6. A larger one hardly makes patches smaller.
const xzDict = 8 << 20

func (x xzWriter) options(c Content) xz.WriterOptions {
	o := xz.WriterOptions{Level: x.level, DictSize: xzDict}
	if c.Patch {
		o.Patch = o.Level == xz.Best || o.Level == xz.Extreme
	} else {
		o.Filter = filterFor(c.Arch)
	}
	if c.Size >= 0 {
		// More than there is would only take memory, here and in the updater. A patch is longer than the new file by
		// its control block.
		n := c.Size
		if c.Patch {
			n += n/2 + 4<<10
		}
		o.DictSize = int(min(max(n, 4<<10), xzDict))
	}
	return o
}

// filterFor returns the filter that suits an architecture's executables, as the scripts choose it.
func filterFor(arch string) xz.Filter {
	switch arch {
	case "x86", "x86_64":
		return xz.X86
	}
	return xz.None
}

// ID names the encoder, its level and settings, and the rule by which small content gets a smaller dictionary.
func (x xzWriter) ID() string { return x.options(Content{Patch: true, Size: -1}).ID() + "/size-1" }

func (x xzWriter) NewWriter(ctx context.Context, w io.Writer, c Content) (io.WriteCloser, error) {
	o := x.options(c)
	z, err := xz.NewWriter(w, &o)
	if err != nil {
		return nil, err
	}
	return &stopping{ctx: ctx, z: z, off: context.AfterFunc(ctx, z.Stop)}, nil
}

func (x xzWriter) Memory(c Content) int64 {
	o := x.options(c)
	if c.Patch && c.Size >= 0 {
		return o.PatchMemory(c.Size + c.Size/2)
	}
	// window, binary tree and hash tables for each byte of the dictionary
	return 14*int64(o.DictSize) + 4<<20
}

// A stopping writer stops its encoder, which may have goroutines at work, when its context ends.
type stopping struct {
	ctx context.Context //nolint:containedctx // lives as long as one member is compressed
	z   *xz.Writer
	off func() bool
}

func (s *stopping) Write(p []byte) (int, error) {
	n, err := s.z.Write(p)
	return n, s.why(err)
}

func (s *stopping) Close() error {
	if s.ctx.Err() != nil {
		s.z.Stop()
	}
	err := s.z.Close()
	s.off()
	return s.why(err)
}

func (s *stopping) why(err error) error {
	if errors.Is(err, xz.ErrStopped) && s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	return err
}

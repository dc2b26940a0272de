package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// maxOpen is how many files are kept open: a run reads from a few dozen at a time, and has thousands.
const maxOpen = 64

// openFiles keeps the files open that were read from last. Safe for concurrent use.
type openFiles struct {
	mu    sync.Mutex
	files map[string]*os.File
	order []string // the one that was opened first in front
}

func (o *openFiles) get(name string) (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.files[name]; f != nil {
		return f, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if o.files == nil {
		o.files = map[string]*os.File{}
	}
	if len(o.order) == maxOpen {
		_ = o.files[o.order[0]].Close() // opened for reading: nothing is lost
		delete(o.files, o.order[0])
		o.order = o.order[1:]
	}
	o.files[name] = f
	o.order = append(o.order, name)
	return f, nil
}

// close closes all of them. What is read later opens them again.
func (o *openFiles) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.files {
		_ = f.Close()
	}
	o.files, o.order = nil, nil
}

// lazyFile is a file that is open only while it is read from now and then.
type lazyFile struct {
	name string
	open *openFiles
}

// ReadAt implements io.ReaderAt.
func (f lazyFile) ReadAt(p []byte, off int64) (int, error) {
	for {
		file, err := f.open.get(f.name)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errSetup, err)
		}
		n, err := file.ReadAt(p, off)
		switch {
		case errors.Is(err, os.ErrClosed):
			continue // others needed its place
		case err != nil && !errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: %w", errSetup, err)
		}
		return n, err
	}
}

// archive is a MAR that is here.
type archive struct {
	*mar.Reader
	name    string
	src     marBytes
	entries map[string]*entry
}

// entry is a member of an archive.
type entry struct {
	*updater.Member
	raw   *io.SectionReader
	place place // of raw

	mu      sync.Mutex
	content *content // once it is known
}

// newArchive opens a MAR for as long as its bytes are there.
func newArchive(name string, src marBytes) (*archive, error) {
	a := &archive{name: name, src: src}
	var err error
	if a.Reader, err = mar.NewReader(src, src.Size(), nil); err != nil {
		return nil, err
	}
	list := a.Files()
	a.entries = make(map[string]*entry, len(list))
	for _, f := range list {
		if a.entries[f.Name] == nil { // as the updater, which takes the first
			a.entries[f.Name] = &entry{Member: updater.MemberOf(f), raw: io.NewSectionReader(src, f.Offset, f.Size), place: src.place(f.Offset, f.Size)}
		}
	}
	return a, nil
}

// contents knows what compressed members hold, so that what a hundred locales share is unpacked once. Members are
// recognised by their bytes. Safe for concurrent use.
type contents struct {
	unpacked atomic.Int64 // members that were

	mu    sync.Mutex
	known map[contentKey]*alike
}

// contentKey tells most members apart without reading them through: what is compressed ends with a check sum of what it
// holds.
type contentKey struct {
	size int64
	tail [64]byte
}

// alike are the contents of members of one size and end.
type alike struct {
	mu   sync.Mutex
	list []*content
}

// content is what members with the same bytes hold.
type content struct {
	raw  *io.SectionReader     // their bytes, which are in a file
	kept atomic.Pointer[place] // of raw, or of the same bytes elsewhere; nil: not in the work directory

	mu   sync.Mutex
	done bool
	sum  digest
	size int64
	fine string // formats in which an updater takes it
}

// maxKnown is how many different contents are kept that look alike.
const maxKnown = 64

func newContents() *contents { return &contents{known: map[contentKey]*alike{}} }

// recognise finds the content that a member shares with those that were seen before, or makes it known.
func (c *contents) recognise(ctx context.Context, e *entry) (*content, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.content != nil {
		return e.content, nil
	}
	others, err := c.alike(e.Size, onDisk(e.raw))
	if err != nil {
		return nil, err
	}
	others.mu.Lock()
	defer others.mu.Unlock()
	if e.content, err = others.find(ctx, onDisk(e.raw)); err != nil {
		return nil, err
	}
	if e.content == nil {
		e.content = &content{raw: e.raw}
		if len(others.list) < maxKnown {
			others.list = append(others.list, e.content)
		}
	}
	if e.place != (place{}) {
		e.content.kept.CompareAndSwap(nil, &e.place)
	}
	return e.content, nil
}

// kept finds the content of a member that was seen before and whose bytes the work directory has, and where; or nil.
func (c *contents) kept(ctx context.Context, raw []byte) (*content, place, error) {
	others, err := c.alike(int64(len(raw)), inBuffer(raw))
	if err != nil {
		return nil, place{}, err
	}
	others.mu.Lock()
	defer others.mu.Unlock()
	k, err := others.find(ctx, inBuffer(raw))
	if k == nil {
		return nil, place{}, err
	}
	at := k.kept.Load()
	if at == nil {
		return nil, place{}, nil
	}
	return k, *at, nil
}

// alike gives those that a member may be the same as.
func (c *contents) alike(size int64, raw stretch) (*alike, error) {
	key := contentKey{size: size}
	buf := make([]byte, min(size, int64(len(key.tail))))
	tail, err := raw(buf, size-int64(len(buf)))
	if err != nil {
		return nil, err
	}
	copy(key.tail[:], tail)
	c.mu.Lock()
	defer c.mu.Unlock()
	others := c.known[key]
	if others == nil {
		others = &alike{}
		c.known[key] = others
	}
	return others, nil
}

func (a *alike) find(ctx context.Context, raw stretch) (*content, error) {
	for _, k := range a.list {
		same, err := sameBytes(ctx, k.raw, raw)
		if err != nil {
			return nil, err
		}
		if same {
			return k, nil
		}
	}
	return nil, nil
}

// stretch gives as many bytes of a member as buf has, from an offset on, in buf or where they are.
type stretch func(buf []byte, off int64) ([]byte, error)

func onDisk(raw *io.SectionReader) stretch {
	return func(buf []byte, off int64) ([]byte, error) {
		if n, err := raw.ReadAt(buf, off); n < len(buf) {
			return nil, fmt.Errorf("read again what was fetched: %w", err)
		}
		return buf, nil
	}
}

func inBuffer(raw []byte) stretch {
	return func(buf []byte, off int64) ([]byte, error) { return raw[off:][:len(buf)], nil }
}

// of returns the digest and size of what a member holds. Of members with the same bytes one is unpacked.
func (c *contents) of(ctx context.Context, e *entry) (digest, int64, error) {
	k, err := c.recognise(ctx, e)
	if err != nil {
		return digest{}, 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return k.sum, k.size, ctx.Err()
	}
	c.unpacked.Add(1)
	r, err := e.Open(limits)
	if err != nil {
		return digest{}, 0, err
	}
	defer r.Close()
	h := sha256.New()
	if k.size, err = copyAll(h, r); err != nil {
		return digest{}, 0, err
	}
	h.Sum(k.sum[:0])
	k.done = true
	return k.sum, k.size, ctx.Err()
}

// usable is [updater.Member.Usable], asked once for members with the same bytes.
func (c *contents) usable(ctx context.Context, e *entry, ins updater.Instruction, formats []updater.MemberFormat) error {
	k, err := c.recognise(ctx, e)
	if err != nil {
		return err
	}
	key := fmt.Sprint(formats)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fine == key {
		return nil
	}
	if err := e.Usable(ins, formats...); err != nil {
		return err
	}
	k.fine = key
	return nil
}

// steps are buffers of 256 KiB.
var steps = sync.Pool{New: func() any {
	b := make([]byte, 256<<10)
	return &b
}}

// copyAll copies in large steps.
func copyAll(w io.Writer, r io.Reader) (int64, error) {
	buf := steps.Get().(*[]byte)
	defer steps.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
}

// sameBytes compares a member with another of its size.
func sameBytes(ctx context.Context, a *io.SectionReader, b stretch) (bool, error) {
	const chunk = 128 << 10
	both := steps.Get().(*[]byte)
	defer steps.Put(both)
	for off := int64(0); off < a.Size(); off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(a.Size()-off, chunk)
		x, err := onDisk(a)((*both)[:n], off)
		if err != nil {
			return false, err
		}
		y, err := b((*both)[chunk:][:n], off)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}

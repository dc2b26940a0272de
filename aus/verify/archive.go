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
			return 0, err
		}
		n, err := file.ReadAt(p, off)
		if errors.Is(err, os.ErrClosed) {
			continue // others needed its place
		}
		return n, err
	}
}

// archive is a MAR that is here.
type archive struct {
	*mar.Reader
	file    lazyFile
	bytes   int64
	entries map[string]*entry
}

// entry is a member of an archive.
type entry struct {
	*updater.Member
	raw *io.SectionReader

	mu      sync.Mutex
	content *content // once it is known
}

// openArchive opens a MAR for as long as the file is there.
func openArchive(name string, files *openFiles) (*archive, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: lazyFile{name, files}, bytes: info.Size()}
	if a.Reader, err = mar.NewReader(a.file, info.Size(), nil); err != nil {
		return nil, err
	}
	list := a.Files()
	a.entries = make(map[string]*entry, len(list))
	for _, f := range list {
		if a.entries[f.Name] == nil { // as the updater, which takes the first
			a.entries[f.Name] = &entry{Member: updater.MemberOf(f), raw: io.NewSectionReader(a.file, f.Offset, f.Size)}
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

type contentKey struct {
	name string
	size int64
}

// alike are the contents of members of one name and size.
type alike struct {
	mu   sync.Mutex
	list []*content
}

// content is what members with the same bytes hold.
type content struct {
	raw *io.SectionReader // their bytes, which are in a file

	mu   sync.Mutex
	done bool
	sum  digest
	size int64
	fine string // formats in which an updater takes it
}

// maxKnown is how many different contents are kept of one name and size.
const maxKnown = 64

func newContents() *contents { return &contents{known: map[contentKey]*alike{}} }

// recognise finds the content that a member shares with those that were seen before, or makes it known.
func (c *contents) recognise(ctx context.Context, e *entry) (*content, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.content != nil {
		return e.content, nil
	}
	key := contentKey{e.Name, e.Size}
	c.mu.Lock()
	others := c.known[key]
	if others == nil {
		others = &alike{}
		c.known[key] = others
	}
	c.mu.Unlock()
	others.mu.Lock()
	defer others.mu.Unlock()
	for _, k := range others.list {
		same, err := sameBytes(ctx, k.raw, e.raw)
		if err != nil {
			return nil, err
		}
		if same {
			e.content = k
			return k, nil
		}
	}
	e.content = &content{raw: e.raw}
	if len(others.list) < maxKnown {
		others.list = append(others.list, e.content)
	}
	return e.content, nil
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

// buffers are of 256 KiB.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 256<<10)
	return &b
}}

// copyAll copies in large steps.
func copyAll(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
}

// sameBytes compares two members of one size.
func sameBytes(ctx context.Context, a, b *io.SectionReader) (bool, error) {
	const chunk = 128 << 10
	both := buffers.Get().(*[]byte)
	defer buffers.Put(both)
	bufA, bufB := (*both)[:chunk], (*both)[chunk:]
	for off := int64(0); off < a.Size(); off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(a.Size()-off, chunk)
		for _, side := range []struct {
			r   *io.SectionReader
			buf []byte
		}{{a, bufA}, {b, bufB}} {
			if got, err := side.r.ReadAt(side.buf[:n], off); int64(got) < n {
				return false, fmt.Errorf("read again what was fetched: %w", err)
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

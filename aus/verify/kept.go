package verify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/senbonzakura/senbonzakura/mar"
)

// marBytes is where the bytes of a MAR are.
type marBytes interface {
	io.ReaderAt
	Size() int64
	// place says where a range is in the work directory; the zero place if it is not there, or in several files.
	place(off, size int64) place
}

// place is where bytes are in the work directory.
type place struct {
	file string // below the directory, with slashes
	off  int64
}

// wholeFile is a MAR that is a file, and its name in the work directory if it is there.
type wholeFile struct {
	lazyFile
	size int64
	kept string
}

func (f *wholeFile) Size() int64 { return f.size }

func (f *wholeFile) place(off, _ int64) place {
	if f.kept == "" {
		return place{}
	}
	return place{f.kept, off}
}

// inMemory is a MAR that was just received.
type inMemory struct{ *bytes.Reader }

func (inMemory) place(_, _ int64) place { return place{} }

// part is a run of bytes of a MAR.
type part struct {
	Size int64  `json:"size"`
	File string `json:"file"` // below the work directory
	Off  int64  `json:"off"`
}

// partsList says of what a MAR, or an installer, is put together.
type partsList struct {
	Sum   uint32 `json:"crc32c"` // of all
	Parts []part `json:"parts"`
}

// parts is a MAR of which the work directory keeps only what no other has: a list of parts of files, one of which has its own
// bytes. Files that parts are in are never changed.
type parts struct {
	partsList
	at   []int64 // where each part begins
	file func(name string) lazyFile
	size int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// intact says whether the files of all parts still are what they were.
func (p *parts) intact() bool {
	h := crc32.New(castagnoli)
	n, err := copyAll(h, io.NewSectionReader(p, 0, p.size))
	return err == nil && n == p.size && h.Sum32() == p.Sum
}

// partsEnding is that of files with parts.
const partsEnding = ".parts"

// maxParts is how long a list of parts may be, in bytes.
const maxParts = 16 << 20

func (p *parts) Size() int64 { return p.size }

// find returns the part in which an offset is, which must be inside.
func (p *parts) find(off int64) int {
	i, found := slices.BinarySearch(p.at, off)
	if !found {
		i--
	}
	return i
}

// ReadAt implements io.ReaderAt.
func (p *parts) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for len(b) > 0 {
		if off >= p.size {
			return n, io.EOF
		}
		i := p.find(off)
		in := off - p.at[i]
		step := min(int64(len(b)), p.Parts[i].Size-in)
		m, err := p.file(p.Parts[i].File).ReadAt(b[:step], p.Parts[i].Off+in)
		n += m
		if int64(m) < step {
			if errors.Is(err, io.EOF) { // the MAR does not end here
				err = fmt.Errorf("%w: %s is shorter than it was", errSetup, p.Parts[i].File)
			}
			return n, err
		}
		b, off = b[step:], off+step
	}
	return n, nil
}

func (p *parts) place(off, size int64) place {
	if off < 0 || size <= 0 || off > p.size-size {
		return place{}
	}
	i := p.find(off)
	if in := off - p.at[i]; in+size <= p.Parts[i].Size {
		return place{p.Parts[i].File, p.Parts[i].Off + in}
	}
	return place{}
}

// newParts checks a list of parts.
func newParts(list partsList, file func(name string) lazyFile) (*parts, error) {
	p := &parts{partsList: list, file: file}
	for _, q := range list.Parts {
		if q.Size <= 0 || q.Off < 0 || !fs.ValidPath(q.File) || q.File == "." || p.size > maxInstaller-q.Size {
			return nil, errors.New("the list of parts is damaged")
		}
		p.at = append(p.at, p.size)
		p.size += q.Size
	}
	if p.size == 0 {
		return nil, errors.New("the list of parts is empty")
	}
	return p, nil
}

// keeper keeps MARs in the work directory: whole, or of those that came through memory only what no other has.
type keeper struct {
	dir     string
	open    openFiles
	known   *contents
	buffers buffers
}

func (k *keeper) file(name string) lazyFile {
	return lazyFile{filepath.Join(k.dir, filepath.FromSlash(name)), &k.open}
}

// source finds what is kept under a name: in parts, or whole.
func (k *keeper) source(name string) (marBytes, error) {
	whole := k.file(name)
	p, err := k.parts(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	info, err := os.Stat(whole.name)
	if err != nil {
		return nil, err
	}
	return &wholeFile{whole, info.Size(), name}, nil
}

// parts reads the list of parts that is kept under a name.
func (k *keeper) parts(name string) (*parts, error) {
	f, err := os.Open(k.file(name + partsEnding).name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxParts+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxParts {
		return nil, fmt.Errorf("%s: more than %d bytes", f.Name(), maxParts)
	}
	p, err := parseParts(text, k.file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return p, nil
}

func parseParts(text []byte, file func(name string) lazyFile) (*parts, error) {
	var list partsList
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	return newParts(list, file)
}

// list keeps a list of parts under a name. It need not last through a power cut, nor need what it names: whoever goes on from
// the directory looks whether all is what it should be.
func (k *keeper) list(name string, list partsList) error {
	text, err := json.Marshal(list)
	if err == nil {
		var tmp string
		if tmp, err = k.write(path.Dir(name), text); err == nil {
			err = os.Rename(k.file(tmp).name, k.file(name+partsEnding).name)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSetup, err)
	}
	return nil
}

// write writes a file that has no name yet.
func (k *keeper) write(dir string, pieces ...[]byte) (name string, err error) {
	f, err := os.CreateTemp(k.file(dir).name, "own-*")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSetup, err)
	}
	for _, b := range pieces {
		if _, err = f.Write(b); err != nil {
			break
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("%w: %w", errSetup, errors.Join(err, os.Remove(f.Name())))
	}
	return path.Join(dir, filepath.Base(f.Name())), nil
}

// keep keeps a MAR that was received into memory, under a name, and opens it where it is then.
func (k *keeper) keep(ctx context.Context, name, title string, data []byte) (*archive, error) {
	m, err := newArchive(title, inMemory{bytes.NewReader(data)})
	if err != nil {
		return nil, err
	}
	s, err := k.split(ctx, m, data)
	if err != nil {
		return nil, err
	}
	own, err := k.write(path.Dir(name), s.own...)
	if err != nil {
		return nil, err
	}
	for i := range s.list {
		if s.list[i].File == "" {
			s.list[i].File = own
		}
	}
	list := partsList{crc32.Checksum(data, castagnoli), s.list}
	src, err := newParts(list, k.file)
	if err != nil {
		return nil, err
	}
	if err := k.list(name, list); err != nil {
		return nil, err
	}
	a, err := newArchive(title, src)
	if err != nil {
		return nil, err
	}
	for _, e := range a.entries {
		if _, off, n := e.raw.Outer(); s.known[off] != nil && s.known[off].raw.Size() == n {
			e.content = s.known[off]
		}
	}
	return a, nil
}

// smallMember is the size of members below which it is no use to keep them once.
const smallMember = 512

// split says which parts of a MAR are kept already, and which bytes are its own.
type split struct {
	list  []part // own bytes in no file yet
	own   [][]byte
	known map[int64]*content // by the offset of a member
}

func (k *keeper) split(ctx context.Context, m *archive, data []byte) (*split, error) {
	s := &split{known: map[int64]*content{}}
	var pos, written int64
	upTo := func(end int64) {
		if end > pos {
			s.list = append(s.list, part{Size: end - pos, Off: written})
			s.own = append(s.own, data[pos:end])
			written += end - pos
		}
	}
	files := m.Files()
	slices.SortStableFunc(files, func(a, b *mar.File) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, f := range files {
		if f.Size < smallMember || f.Offset < pos || f.Offset > int64(len(data))-f.Size {
			continue
		}
		c, at, err := k.known.kept(ctx, data[f.Offset:][:f.Size])
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		upTo(f.Offset)
		s.list = append(s.list, part{Size: f.Size, File: at.file, Off: at.off})
		s.known[f.Offset] = c
		pos = f.Offset + f.Size
	}
	upTo(int64(len(data)))
	return s, nil
}

// buffers are for MARs that are being received, within a bound. Safe for concurrent use.
type buffers struct {
	limit int64 // in bytes, of all together

	mu   sync.Mutex
	held int64
	free [][]byte
}

// get returns a buffer of n bytes, or nil if there is no room.
func (b *buffers) get(n int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= 0 || n > b.limit {
		return nil
	}
	for i, buf := range b.free {
		if int64(cap(buf)) >= n {
			b.free = slices.Delete(b.free, i, i+1)
			return buf[:n]
		}
	}
	for b.held+n > b.limit && len(b.free) > 0 {
		b.held -= int64(cap(b.free[0]))
		b.free = b.free[1:]
	}
	if b.held+n > b.limit {
		return nil
	}
	b.held += n
	return make([]byte, n)
}

// put gives a buffer back; nil is none.
func (b *buffers) put(buf []byte) {
	if buf == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, buf)
}

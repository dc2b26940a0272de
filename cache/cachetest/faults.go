package cachetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/faultfs"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

// FaultConfig describes a store on disk whose file operations can be made to fail. It is for stores of this module: the
// operations are those of a package that others cannot import.
type FaultConfig struct {
	// Open opens the store in dir, all of its file operations going through fsys. It must close nothing by
	// t.Cleanup.
	Open func(t testing.TB, dir string, fsys osfs.FS) (cache.Store, error)
	// Temporary lists the files below dir that must not be there once the store was opened again and closed.
	Temporary func(name string) bool
}

// Faults makes every file operation of a small history of Open, Put, Get, PutNegative, Purge and Close fail, one
// history for each: once with EIO, once with ENOSPC, with the first half of a write stored, with the operation
// done but reported as failed, and with all later ones failing too. Afterwards, on a sound disk, a Get must give
// the bytes that were put, whole, or be a miss; what was acknowledged must not be a miss; an error must be the
// injected one; and no temporary file may be left.
func Faults(t *testing.T, c FaultConfig) {
	t.Helper()
	modes := []struct {
		name    string
		err     syscall.Errno
		fault   faultfs.Fault
		forever bool
	}{
		{name: "EIO", err: syscall.EIO},
		{name: "ENOSPC", err: syscall.ENOSPC},
		{name: "short write", err: syscall.ENOSPC, fault: faultfs.Fault{Short: true}},
		{name: "done but failed", err: syscall.EIO, fault: faultfs.Fault{After: true}},
		{name: "dead disk", err: syscall.EIO, forever: true},
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			fault := m.fault
			fault.Err = m.err
			runs, failed := 0, 0
			for i := 0; ; i++ {
				fsys := faultfs.New(disk, func(op faultfs.Op) *faultfs.Fault {
					if op.N == i || m.forever && op.N > i {
						return &fault
					}
					return nil
				})
				h := &history{T: t, c: c, dir: t.TempDir(), injected: m.err, what: fmt.Sprintf("%s at operation %d", m.name, i), forever: m.forever}
				h.run(fsys)
				if fsys.Faults() == 0 {
					break // the history has no i-th operation
				}
				runs++
				failed += h.failed
			}
			t.Logf("%d histories, one for each file operation; %d calls failed; 0 wrong", runs, failed)
			if runs < 50 {
				t.Errorf("only %d file operations were seen", runs)
			}
		})
	}
}

// disk is a sound one. Nothing here cuts the power, so nothing need be synced.
var disk = faultfs.WithoutSync(osfs.OS{})

type history struct {
	*testing.T
	c        FaultConfig
	dir      string
	injected error
	what     string
	forever  bool
	failed   int

	acked map[cache.Key][]byte   // what must be there
	may   map[cache.Key][][]byte // what may be there
}

// ok says whether a call worked; if not, the injected error must be the reason.
func (h *history) ok(call string, err error) bool {
	h.Helper()
	if err == nil {
		return true
	}
	h.failed++
	if !errors.Is(err, h.injected) {
		h.Errorf("%s: %s: %v, want an error that matches %v", h.what, call, err, h.injected)
	}
	return false
}

func (h *history) put(s cache.Store, k cache.Key, data []byte) {
	h.Helper()
	h.may[k] = append(h.may[k], data)
	_, err := s.Put(h.Context(), k, bytes.NewReader(data))
	if h.ok("Put", err) {
		h.acked[k] = data
	} else {
		delete(h.acked, k) // the old one or the new one
	}
}

// get must not give wrong bytes, whatever happens.
func (h *history) get(s cache.Store, k cache.Key) {
	h.Helper()
	e, err := s.Get(h.Context(), k)
	var negative *cache.NegativeError
	switch {
	case errors.Is(err, cache.ErrMiss):
		if want, ok := h.acked[k]; ok {
			h.Errorf("%s: Get: miss, although a Put of %d bytes was acknowledged: %v", h.what, len(want), err)
		}
		return
	case errors.As(err, &negative):
		return
	case err != nil:
		h.ok("Get", err)
		return
	}
	defer e.Close()
	got, err := io.ReadAll(e.Reader())
	if err != nil {
		h.ok("read", err)
		return
	}
	if want, ok := h.acked[k]; ok && bytes.Equal(got, want) {
		return
	}
	for _, want := range h.may[k] {
		if _, ok := h.acked[k]; !ok && bytes.Equal(got, want) {
			return
		}
	}
	h.Errorf("%s: Get: wrong bytes (%d)", h.what, len(got))
}

func (h *history) run(fsys osfs.FS) {
	h.Helper()
	h.acked, h.may = make(map[cache.Key][]byte), make(map[cache.Key][][]byte)
	old, fresh, twice, gone := key("old"), key("fresh"), key("twice"), key("gone")
	keys := []cache.Key{old, fresh, twice, gone, key("negative")}
	sound, err := h.c.Open(h, h.dir, disk)
	if err != nil {
		h.Fatal(err)
	}
	h.put(sound, old, value(1, 5000))
	h.put(sound, twice, value(2, 300))
	h.put(sound, gone, value(3, 9000))
	closeStore(sound)

	s, err := h.c.Open(h, h.dir, fsys)
	if h.ok("Open", err) {
		h.put(s, fresh, value(4, 150_000))
		h.put(s, twice, value(5, 70_000))
		h.get(s, old)
		h.get(s, fresh)
		if n, ok := s.(cache.NegativePutter); ok {
			h.ok("PutNegative", n.PutNegative(h.Context(), key("negative"), "reason", time.Hour))
		}
		if p, ok := s.(cache.Purger); ok {
			delete(h.acked, gone)
			_, err := p.Purge(h.Context(), cache.Filter{Key: &gone})
			h.ok("Purge", err)
		}
		for _, k := range keys {
			h.get(s, k)
		}
		closeStore(s)
	}

	sound, err = h.c.Open(h, h.dir, disk)
	if err != nil {
		h.Fatalf("%s: cannot be opened any more: %v", h.what, err)
	}
	for _, k := range keys {
		h.get(sound, k)
	}
	h.put(sound, key("later"), value(6, 1000))
	h.get(sound, key("later"))
	closeStore(sound)
	if h.c.Temporary == nil {
		return
	}
	err = filepath.WalkDir(h.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && h.c.Temporary(strings.TrimPrefix(name, h.dir+string(os.PathSeparator))) {
			h.Errorf("%s: temporary file %s is left", h.what, name)
		}
		return err
	})
	if err != nil {
		h.Error(err)
	}
}

func closeStore(s cache.Store) {
	if c, ok := s.(io.Closer); ok {
		c.Close()
	}
}

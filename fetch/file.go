package fetch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// File is a fetched and verified file: a temporary one, which Close removes. It is safe for concurrent use.
type File struct {
	size     int64
	sha512   [64]byte
	verified []Algorithm
	url      string

	mu   sync.Mutex
	f    *os.File
	gone bool // the file is not ours to remove any more
}

// ReadAt implements [io.ReaderAt].
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Reader returns a new reader over the whole file. It is valid until Close.
func (f *File) Reader() *io.SectionReader { return io.NewSectionReader(f, 0, f.size) }

// Size returns the number of bytes.
func (f *File) Size() int64 { return f.size }

// SHA512 returns the SHA-512 of all bytes, whatever they were verified with.
func (f *File) SHA512() [64]byte { return f.sha512 }

// Verified returns the algorithms of the hashes that were compared.
func (f *File) Verified() []Algorithm { return append([]Algorithm(nil), f.verified...) }

// Weak says whether only weak hashes were compared.
func (f *File) Weak() bool { return allWeak(f.verified) }

// URL returns where the bytes came from, without credentials.
func (f *File) URL() string { return f.url }

// Name returns the name of the temporary file. Whoever renames it, as a cache does that adopts it, calls
// Release afterwards.
func (f *File) Name() string { return f.f.Name() }

// Release makes Close leave the temporary file alone, wherever it is by then.
func (f *File) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
}

// Keep moves the file to a name on the same file system, replacing what is there in one step. When it returns nil
// the file is durable under that name, and Close only ends reading. After an error the file is still temporary.
func (f *File) Keep(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return errors.New("keep: the file is not the fetcher's any more")
	}
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	if err := os.Rename(f.f.Name(), name); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	f.gone = true
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	dir, err := os.Open(filepath.Dir(name))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("keep: the file is there, but maybe not after a power cut: %w", err)
	}
	return nil
}

// Close ends reading and removes the file, unless it was kept or released. Later calls do nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.f.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	if !f.gone {
		f.gone = true
		err = errors.Join(err, os.Remove(f.f.Name()))
	}
	return err
}

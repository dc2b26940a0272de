package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// dirPrefix begins the names of private directories; short, because a socket's whole path has about 100 bytes.
const dirPrefix = "sbzplugin"

// maxBase is the longest base directory that leaves room for a private directory and a socket in it: the
// limit of a Unix socket's path is 104 bytes on macOS and 108 on Linux.
const maxBase = 56

// staleAfter is the age at which a private directory without an owner is swept away.
const staleAfter = time.Minute

// Sum returns the SHA-256 of a file in hexadecimal, as Config.SHA256 wants it.
func Sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash plugin: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxBinary+1)); err != nil {
		return "", fmt.Errorf("hash plugin %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// home is the private directory of one Process: the verified copy of the binary, and a directory per start.
type home struct {
	path   string
	binary string
	lock   *os.File
}

// newHome makes a private directory and copies the binary into it while hashing it: what was hashed is what
// will run, whatever happens to the original.
func newHome(base, binary, sum string) (_ *home, err error) {
	if base == "" {
		base = os.TempDir()
		if len(base) > maxBase && runtime.GOOS != "windows" {
			base = "/tmp"
		}
	}
	if len(base) > maxBase && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("plugin directory %q is too long for a socket's path: at most %d bytes", base, maxBase)
	}
	if base, err = filepath.Abs(base); err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	sweep(base)
	h := &home{}
	if h.path, err = os.MkdirTemp(base, dirPrefix); err != nil { // mode 0700
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.remove())
		}
	}()
	if h.lock, err = os.OpenFile(filepath.Join(h.path, "lock"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	if err = lockFile(h.lock); err != nil {
		return nil, fmt.Errorf("plugin directory: lock: %w", err)
	}
	h.binary = filepath.Join(h.path, "plugin")
	if runtime.GOOS == "windows" {
		h.binary += ".exe"
	}
	if err = copyVerified(h.binary, binary, sum); err != nil {
		return nil, err
	}
	return h, nil
}

func copyVerified(dst, src, sum string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("open plugin: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("open plugin: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("open plugin: %s is not a regular file", src)
	case info.Size() > maxBinary:
		return fmt.Errorf("open plugin: %s has %d bytes, more than %d", src, info.Size(), maxBinary)
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o500)
	if err != nil {
		return fmt.Errorf("copy plugin: %w", err)
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, maxBinary))
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy plugin: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%w: %s has SHA-256 %s, configured is %s", ErrChecksum, src, got, sum)
	}
	return nil
}

// check hashes the private copy again; it is done before each start.
func (h *home) check(sum string) error {
	got, err := Sum(h.binary)
	if err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("%w: the private copy has changed to %s, configured is %s", ErrChecksum, got, sum)
	}
	return nil
}

// remove deletes the directory with everything in it.
func (h *home) remove() error {
	err := os.RemoveAll(h.path)
	if h.lock != nil {
		err = errors.Join(err, h.lock.Close())
	}
	if err != nil && runtime.GOOS == "windows" { // the lock is an open file inside
		err = os.RemoveAll(h.path)
	}
	return err
}

// sweep removes what hosts left that were killed: private directories whose lock nobody holds.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), dirPrefix) || !mine(info) || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		dir := filepath.Join(base, e.Name())
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lockFile(lock) == nil {
			_ = os.RemoveAll(dir) // what stays is tried again next time
		}
		lock.Close()
	}
}

package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Checker collects what is wrong with values that could be read. What only follows from a value that could not be read is
// left out.
type Checker struct {
	Reader   *Reader
	Problems []Problem
}

// Add notes a problem, unless it only follows from a value that could not be read.
func (k *Checker) Add(key, format string, args ...any) {
	if !k.Reader.Known(key) {
		return
	}
	k.Problems = append(k.Problems, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// Try notes an error under a key.
func (k *Checker) Try(key string, err error) {
	if err != nil {
		k.Add(key, "%s", err)
	}
}

// Known says whether all of some keys have the values that they were meant to have, and with them what follows.
func (k *Checker) Known(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return !k.Reader.Known(key) })
}

// Between says where a number is out of bounds.
func (k *Checker) Between(key string, n, low, high int) {
	if n < low || n > high {
		k.Add(key, "%d is not between %d and %d", n, low, high)
	}
}

// AtLeast says where a time span is too short.
func (k *Checker) AtLeast(key string, d Duration, least string) {
	var want Duration
	if err := want.UnmarshalText([]byte(least)); err != nil || d.Duration < want.Duration {
		k.Add(key, "%s is too short: at least %s", d, least)
	}
}

// Directory says whether a directory can be written to or, where it is not there yet, be made. It makes none.
func (k *Checker) Directory(key, dir string) (ok bool) {
	if dir == "" {
		return false // said already
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	missing := false
	for {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			dir, missing = filepath.Dir(dir), true
			continue
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", dir)
		}
		if err != nil {
			k.Add(key, "cannot be made: %s", err)
			return false
		}
		break
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	switch {
	case err == nil:
		f.Close()
		os.Remove(f.Name())
	case missing:
		k.Add(key, "cannot be made: %s", reason(err))
	default:
		k.Add(key, "cannot be written to: %s", reason(err))
	}
	return err == nil
}

// reason is an error without the name of a temporary file.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return filepath.Dir(path.Path) + ": " + path.Err.Error()
	}
	return err.Error()
}

// UserDir returns the directory of a program that systemd names in a variable, else one of its name below that of the user,
// which another variable names or which is below the home directory.
func UserDir(program, systemd, xdg, below string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv(systemd), ":"); filepath.IsAbs(dir) { // the first, where the unit names several
		return dir, nil
	}
	if dir := os.Getenv(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, program), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, below, program), nil
}

// SecretOf returns a secret that is in the configuration, or in a file that it names.
func SecretOf(value Secret, file string) (string, error) {
	if file == "" {
		return value.Reveal(), nil
	}
	data, err := ReadSmall(file, 64<<10)
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(data), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return s, nil
}

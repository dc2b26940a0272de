package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/internal/atomicfile"
	"github.com/senbonzakura/senbonzakura/mar"
)

// openMAR opens a MAR file for reading; errors name the file.
func openMAR(name string, opts *mar.ReaderOptions) (*mar.FileReader, error) {
	r, err := mar.OpenFile(name, opts)
	if err != nil {
		return nil, named(name, err)
	}
	return r, nil
}

// named puts the file's name in front of an error that does not carry it yet.
func named(name string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) && pathError.Path == name || strings.HasPrefix(err.Error(), name+":") {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// readSmall reads a file that is small by nature (keys, signatures); limit is in bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// publicKey finds a key by what --key was given: the name of a built-in key or a file.
func publicKey(name string) (crypto.PublicKey, error) {
	if key, err := mar.BuiltinKey(name); err == nil {
		return key, nil
	}
	data, err := readSmall(name, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--key %s: no such file, and no built-in key of that name (built in: %s)",
			name, strings.Join(mar.BuiltinKeys(), ", "))
	}
	if err != nil {
		return nil, err
	}
	key, err := mar.ParsePublicKey(data)
	if err != nil {
		return nil, named(name, err)
	}
	return key, nil
}

func publicKeys(names []string) ([]crypto.PublicKey, error) {
	keys := make([]crypto.PublicKey, len(names))
	for i, name := range names {
		key, err := publicKey(name)
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	return keys, nil
}

// writeFile writes a result so that nobody ever sees half of it; "-" is standard output.
func (a *app) writeFile(ctx context.Context, name string, write func(w io.Writer) error) error {
	if name == "-" {
		var whole bytes.Buffer // nothing is printed unless all of it could be made
		if err := write(&whole); err != nil {
			return err
		}
		_, err := whole.WriteTo(a.stdout)
		return err
	}
	var content error // what could not be made says itself which file is at fault
	err := atomicfile.Write(ctx, name, 0o644, func(w io.Writer) error {
		content = write(w)
		return content
	})
	if err != nil && content == nil {
		return named(name, err)
	}
	return err
}

// checkOutput returns why writeFile will not write there, before much work is done in vain.
func checkOutput(name string) error {
	if name == "-" {
		return nil
	}
	if err := atomicfile.Check(name); err != nil {
		return named(name, err)
	}
	return nil
}

// sameFile reports whether two names mean one existing file, which must not be input and output at once where
// the output is made while the input is read.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// size prints a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 10<<10:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

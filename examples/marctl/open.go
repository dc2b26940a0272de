package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

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
		return nil, fmt.Errorf("--key %s: no such file, and no built-in key of that name%s (built in: %s)",
			name, didYouMean(name, mar.BuiltinKeys()), strings.Join(mar.BuiltinKeys(), ", "))
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

// keyFlag declares a flag that takes keys: files, or names of built-in ones.
func keyFlag(cmd *cobra.Command, name string) {
	flagTakes(cmd, reads, name)
	must(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(mar.BuiltinKeys(), cobra.ShellCompDirectiveDefault)))
}

// mozillaKeys returns the names of the built-in keys that mardor's :mozilla-NAME stands for, or the name itself.
func mozillaKeys(name string) []string {
	short, ok := strings.CutPrefix(name, ":mozilla-")
	if !ok {
		return []string{name}
	}
	var names []string
	for _, builtin := range mar.BuiltinKeys() {
		if base := strings.TrimPrefix(builtin, "sha1-"); base == short || strings.HasPrefix(base, short+"-") {
			names = append(names, builtin)
		}
	}
	if names == nil {
		return []string{name}
	}
	return names
}

// manyKeys puts all keys in the place of the names that stand for several.
func manyKeys(names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, mozillaKeys(name)...)
	}
	return all
}

func publicKeys(names []string) ([]crypto.PublicKey, error) {
	names = manyKeys(names)
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

// makeDir makes a directory where it is missing.
func makeDir(name string) error { return os.MkdirAll(name, 0o755) }

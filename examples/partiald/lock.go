package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/internal/filelock"
)

// ownership is that of the directories in which two processes would damage each other's work: each has a file that is
// locked as long as the process runs, however it ends, and one beside it that says to people which process it is.
type ownership struct {
	names []string // of the files, without their ends
	locks []*filelock.Lock
}

const (
	lockEnd  = ".lock"
	ownerEnd = ".pid"
)

// own locks the directory of the data, and that of the embedded queue, which may be elsewhere. Where another process has
// one of them the error says which, with the key.
func own(c *config.Config) (_ *ownership, err error) {
	o := &ownership{}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	places := []struct{ key, dir, name string }{{"data", c.Data, filepath.Join(c.Data, "partiald")}}
	if c.Embedded() { // beside the directory: what is in it is the queue's
		places = append(places, struct{ key, dir, name string }{"queue.dir", c.Queue.Dir, filepath.Clean(c.Queue.Dir)})
	}
	for _, p := range places {
		lock, err := filelock.Try(p.name + lockEnd)
		if errors.Is(err, filelock.ErrBusy) {
			return o, c.At(p.key, fmt.Errorf("%s belongs to a partiald that runs: %s", p.dir, ownerOf(p.name)))
		}
		if err != nil {
			return o, c.At(p.key, err)
		}
		o.names, o.locks = append(o.names, p.name), append(o.locks, lock)
	}
	return o, o.say(c.Server.Listen)
}

// ownerOf says who has a directory, as far as is known.
func ownerOf(name string) string {
	text, err := os.ReadFile(name + ownerEnd)
	if err != nil || len(text) > 300 {
		return "it does not say which (process and address)"
	}
	return strings.TrimSpace(string(text))
}

// say writes down which process it is and where it listens.
func (o *ownership) say(address string) error {
	for _, name := range o.names {
		text := fmt.Sprintf("process %d, at %s\n", os.Getpid(), address)
		if err := os.WriteFile(name+ownerEnd, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the directories back.
func (o *ownership) Close() error {
	var errs []error
	for i, lock := range o.locks {
		if err := os.Remove(o.names[i] + ownerEnd); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, lock.Unlock())
	}
	o.locks, o.names = nil, nil
	return errors.Join(errs...)
}

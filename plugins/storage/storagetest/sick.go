package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/storage"
)

// Mode is a way in which a sick backend misbehaves.
type Mode string

// The modes. Those that end the process need a process of their own: never use them with Local.
const (
	CrashBefore Mode = "crash-before" // ends the process when it is asked for the object
	CrashDuring Mode = "crash-during" // ends it half way through the bytes
	Panic       Mode = "panic"        // panics in a goroutine of its own
	Hang        Mode = "hang"         // never answers, whatever the context says
	HangDuring  Mode = "hang-during"  // stops half way through the bytes
	Flood       Mode = "flood"        // writes 16 MiB without a newline to its log first
	LogBomb     Mode = "log-bomb"     // writes log lines that are JSON of the wrong types
	Print       Mode = "print"        // prints garbage to standard output
	Flipped     Mode = "flipped"      // one bit of what it returns is wrong
	Short       Mode = "short"        // returns half of the object
	Swapped     Mode = "swapped"      // returns another object of the same size
	Denying     Mode = "denying"
)

// Modes lists all modes.
func Modes() []Mode {
	return []Mode{CrashBefore, CrashDuring, Panic, Hang, HangDuring, Flood, LogBomb, Print, Flipped, Short, Swapped, Denying}
}

// Harmless says whether a mode leaves the answer right.
func (m Mode) Harmless() bool { return m == Flood || m == LogBomb || m == Print }

// Sick returns a backend that does what b does, but misbehaves in Get and PutIfAbsent of objects whose names end
// with ".sick-" and a mode. What is put under such a name can be got with and without the end.
func Sick(b storage.Backend) storage.Backend { return &sick{b} }

type sick struct{ storage.Backend }

// mode splits a name. What all calls have in common it does at once.
func mode(name string) (string, Mode, error) {
	i := strings.LastIndex(name, ".sick-")
	if i < 0 {
		return name, "", nil
	}
	m := Mode(name[i+len(".sick-"):])
	stderr := os.NewFile(2, "stderr") // os.Stderr is a pipe by now
	var err error
	switch m {
	case CrashBefore:
		os.Exit(9)
	case Panic:
		go func() { panic("sick in a goroutine") }()
		select {}
	case Hang:
		select {}
	case Flood:
		_, err = stderr.Write(bytes.Repeat([]byte("flood"), 16<<20/5))
	case LogBomb:
		_, err = fmt.Fprintln(stderr, `{"@message":1,"@level":[],"@timestamp":{},"level":2,"msg":{"a":[]}}`)
	case Print:
		fmt.Println("1|1|unix|/garbage|grpc|")
	case Denying:
		err = fmt.Errorf("not today: %w", plugins.ErrDenied)
	}
	return name[:i], m, err
}

func (s *sick) Get(ctx context.Context, name string, offset, length int64) (storage.Object, io.ReadCloser, error) {
	real, m, err := mode(name)
	if err != nil {
		return storage.Object{}, nil, err
	}
	if m == Swapped {
		real += "-other"
	}
	o, r, err := s.Backend.Get(ctx, real, offset, length)
	if err != nil {
		return o, r, err
	}
	o.Name = name
	if m == Swapped {
		mine, err := s.Stat(ctx, strings.TrimSuffix(real, "-other"))
		if err != nil {
			return o, nil, errors.Join(err, r.Close())
		}
		o.SHA256 = mine.SHA256
	}
	return o, struct {
		io.Reader
		io.Closer
	}{damage(m, o.Size, r), r}, nil
}

func (s *sick) PutIfAbsent(ctx context.Context, o storage.Object, r io.Reader) (storage.Object, bool, error) {
	real, m, err := mode(o.Name)
	if err != nil {
		return storage.Object{}, false, err
	}
	name := o.Name
	o.Name = real
	there, created, err := s.Backend.PutIfAbsent(ctx, o, damage(m, o.Size, r))
	there.Name = name
	return there, created, err
}

// damage returns a reader of an object's bytes that misbehaves in the middle.
func damage(m Mode, size int64, r io.Reader) io.Reader {
	half := size / 2
	switch m {
	case CrashDuring:
		return io.MultiReader(io.LimitReader(r, half), readerFunc(func([]byte) (int, error) { os.Exit(9); return 0, nil }))
	case HangDuring:
		return io.MultiReader(io.LimitReader(r, half), readerFunc(func([]byte) (int, error) { select {} }))
	case Short:
		return io.LimitReader(r, half)
	case Flipped:
		return io.MultiReader(io.LimitReader(r, half), &flipFirst{r: r})
	}
	return r
}

// flipFirst flips a bit of the first byte.
type flipFirst struct {
	r    io.Reader
	done bool
}

func (f *flipFirst) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 && !f.done {
		p[0] ^= 1
		f.done = true
	}
	return n, err
}

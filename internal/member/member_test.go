package member

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func compress(tb testing.TB, f Format, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := f.Writer("").NewWriter(tb.Context(), &buf, Content{Size: int64(len(data))})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Every format is found by its name and its bytes, and no other takes its bytes for its own.
func TestFormats(t *testing.T) {
	t.Parallel()
	want := []byte(strings.Repeat("some text ", 1000))
	seen := map[string]bool{}
	for _, f := range Formats() {
		packed := compress(t, f, want)
		if seen[f.Name()] {
			t.Errorf("two formats are named %q", f.Name())
		}
		seen[f.Name()] = true
		if named, ok := Named(f.Name()); !ok || named != f {
			t.Errorf("%s: Named gives %v", f.Name(), named)
		}
		if got, err := Of(bytes.NewReader(packed), int64(len(packed))); err != nil || got != f {
			t.Errorf("%s: Of gives %v, %v", f.Name(), got, err)
		}
		r, err := Open(bytes.NewReader(packed), int64(len(packed)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, want); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
		if out, ok, err := Decode(f, packed, Limits{}); ok != Decodes(f) || err != nil || ok && !bytes.Equal(out, want) {
			t.Errorf("%s: Decode gives %d bytes, %v, %v", f.Name(), len(out), ok, err)
		}
		if n, claimed, err := Size(f, bytes.NewReader(packed), int64(len(packed))); err != nil || n <= 0 || claimed && n != int64(len(want)) {
			t.Errorf("%s: Size gives %d, %v, %v", f.Name(), n, claimed, err)
		}
		if err := Check(f, bytes.NewReader(packed)); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
		if id := f.Writer("").ID(); !strings.HasPrefix(id, f.Name()) {
			t.Errorf("%s: the writer's ID is %q", f.Name(), id)
		}
		if m := f.Writer("").Memory(Content{Size: 1000}); m <= 0 {
			t.Errorf("%s: Memory is %d", f.Name(), m)
		}
	}
	if _, ok := Named("none"); ok {
		t.Error("a format is named none")
	}
}

// Damage, too much output and a failing reader are told apart, whatever the format.
func TestErrors(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for _, f := range Formats() {
		packed := compress(t, f, bytes.Repeat([]byte("0123456789"), 100_000))
		read := func(in io.ReaderAt, size int64, lim Limits) error {
			r, err := Open(in, size, lim)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		}
		cut := packed[:len(packed)/2]
		var e *Error
		if err := read(bytes.NewReader(cut), int64(len(cut)), Limits{}); !errors.Is(err, ErrData) || errors.Is(err, ErrLimit) || !errors.As(err, &e) {
			t.Errorf("%s, cut off: got %v", f.Name(), err)
		}
		if err := read(bytes.NewReader(packed), int64(len(packed)), Limits{Output: 1000}); !errors.Is(err, ErrLimit) || errors.Is(err, ErrData) {
			t.Errorf("%s, over the limit: got %v", f.Name(), err)
		}
		if out, ok, err := Decode(f, packed, Limits{Output: 1000}); ok && (!errors.Is(err, ErrLimit) || out != nil) {
			t.Errorf("%s, over the limit: Decode gives %d bytes, %v", f.Name(), len(out), err)
		}
		if err := read(failingAt{bytes.NewReader(packed), failed}, int64(len(packed)), Limits{}); !errors.Is(err, failed) || errors.Is(err, ErrData) {
			t.Errorf("%s, a reader that fails: got %v", f.Name(), err)
		}
	}
}

type failingAt struct {
	r   io.ReaderAt
	err error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > HeadSize {
		return 0, f.err
	}
	return f.r.ReadAt(p, off)
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	for head, name := range map[string]string{
		"\x1F\x8B\x08\x00": "gzip", "\x5D\x00\x00\x80\x00": ".lzma", "\x28\xB5\x2F\xFD": "zstandard", "PK\x03\x04": "zip", "plain text": "not compressed",
		"MBDIFF10": "patch", "": "no bytes", "BZ": "not compressed", "\xFD7zXZ": "not compressed",
	} {
		if _, err := Open(strings.NewReader(head), int64(len(head)), Limits{}); !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrData) || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: got %v, want ErrUnknown that says %q", head, err, name)
		}
	}
}

// A context that has ended ends a writer, with its own error, before and after something was written.
func TestWriterEnds(t *testing.T) {
	t.Parallel()
	for _, f := range Formats() {
		for _, c := range []Content{{Size: -1}, {Patch: true, Size: 1 << 20}} {
			for _, n := range []int{0, 1000, 1 << 20} {
				ctx, cancel := context.WithCancel(t.Context())
				w, err := f.Writer("").NewWriter(ctx, io.Discard, c)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				cancel()
				if err := w.Close(); !errors.Is(err, context.Canceled) {
					t.Errorf("%s, after %d bytes: Close gives %v", f.Name(), n, err)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w, err := f.Writer("").NewWriter(ctx, io.Discard, Content{Size: -1})
		if err == nil {
			for range 1000 { // the encoder is told by a goroutine
				if _, err = w.Write(make([]byte, 1<<10)); err != nil {
					break
				}
			}
			w.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Write gives %v", f.Name(), err)
		}
	}
}

package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	t.Parallel()
	if err := iotest.TestReader(NewReader(t.Context(), strings.NewReader("some bytes")), []byte("some bytes")); err != nil {
		t.Error(err)
	}
}

// A cancelled context ends a reader and a copy between two reads, with its own error.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	endless := readerFunc(func(p []byte) (int, error) {
		if reads++; reads == 3 {
			cancel()
		}
		return len(p), nil
	})
	var out bytes.Buffer
	n, err := Copy(ctx, &out, endless)
	if !errors.Is(err, context.Canceled) || n != int64(out.Len()) || reads != 3 {
		t.Errorf("got %d bytes, %v after %d reads, want context.Canceled after 3", n, err, reads)
	}
	if n, err := NewReader(ctx, strings.NewReader("x")).Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v from a reader whose context has ended", n, err)
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	w := NewWriter(ctx, &out)
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	cancel()
	if n, err := w.Write([]byte("def")); n != 0 || !errors.Is(err, context.Canceled) || out.String() != "abc" {
		t.Errorf("got %d, %v from a writer whose context has ended, and %q", n, err, out.String())
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if n, err := Copy(t.Context(), &out, iotest.OneByteReader(strings.NewReader("abc"))); n != 3 || err != nil || out.String() != "abc" {
		t.Errorf("got %d, %v, %q", n, err, out.String())
	}
	if _, err := Copy(t.Context(), io.Discard, iotest.ErrReader(io.ErrNoProgress)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

package xz

import (
	"bytes"
	"errors"
	"io"
	"testing"

	uxz "github.com/ulikunitz/xz"
)

// Whatever is read: the two ways of reading agree, the limits hold, and what the updater is said to accept can be
// read up to its checks. Where there is no filter, an independent reader agrees as well.
func FuzzReader(f *testing.F) {
	f.Add(pack(f, sample(300), small(X86, CRC64)))
	f.Add(pack(f, sample(100), small(None, SHA256)))
	f.Add(pack(f, nil, small(None, CRC32)))
	f.Add(append(pack(f, sample(50), small(ARM, CheckNone)), make([]byte, 8)...))
	f.Add(container{blocks: []part{stored([]byte("hello"), filterSpec{idDelta, []byte{2}}), stored([]byte("x"))}}.bytes())
	f.Fuzz(func(t *testing.T, packed []byte) {
		lim := &Limits{Dict: 1 << 20, Output: 1 << 20}
		got, err := Decompress(nil, packed, lim)
		read, err2 := readAll(packed, lim)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Decompress says %v, Reader says %v", err, err2)
		}
		if int64(len(read)) > lim.Output {
			t.Fatalf("%d bytes came out", len(read))
		}
		accepts := UpdaterAccepts(bytes.NewReader(packed))
		size, err3 := UncompressedSize(bytes.NewReader(packed), int64(len(packed)))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || !errors.As(err2, &e) {
				t.Fatalf("errors without a place: %v, %v", err, err2)
			}
			return
		}
		if !bytes.Equal(got, read) || err3 != nil || size != int64(len(got)) {
			t.Fatalf("Decompress gives %d bytes, Reader %d, UncompressedSize %d and %v", len(got), len(read), size, err3)
		}
		if accepts != nil && !errors.Is(accepts, ErrRefused) {
			t.Fatalf("UpdaterAccepts says %v to what can be read", accepts)
		}
		r, err := uxz.NewReader(bytes.NewReader(packed))
		if err != nil {
			return // a filter
		}
		if other, err := io.ReadAll(r); err == nil && !bytes.Equal(other, got) {
			t.Fatalf("another reader gives %d bytes, we give %d", len(other), len(got))
		}
	})
}

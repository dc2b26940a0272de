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
	f.Fuzz(func(t *testing.T, packed []byte) { compareReaders(t, packed) })
}

// The same, behind the CRCs, which stop nearly everything else: the fields of a block header, its data, and the index are
// made up.
func FuzzContainer(f *testing.F) {
	p := stored([]byte("hello"), filterSpec{4, nil})
	f.Add([]byte{0, 1, 4, 0, 0x21, 1, 0}, p.data, []byte{0, 1, 12 + 9, 5})
	f.Add([]byte{0, 0xC0, 9, 5, 0x21, 1, 0}, p.data, []byte{0, 1, 12 + 9, 5})
	f.Add([]byte{0, 2, 3, 1, 9, 7, 4, 0, 0, 0, 0, 0x21, 1, 7}, p.data, []byte{0, 1, 20 + 9, 5})
	f.Add([]byte{0, 0, 0x21, 1, 8}, pack(f, sample(40), small(None, CheckNone))[24:70], []byte{0, 1, 12 + 46, 40})
	f.Fuzz(func(t *testing.T, fields, data, index []byte) {
		if len(fields) == 0 || len(fields) > 1000 || len(data) > 1<<16 || len(index) == 0 {
			return
		}
		head := pad4(bytes.Clone(fields))
		head[0] = byte(len(head) / 4)
		compareReaders(t, container{blocks: []part{{header: withCRC(head), data: data}}, index: withCRC(pad4(bytes.Clone(index)))}.bytes())
	})
}

func compareReaders(t *testing.T, packed []byte) {
	t.Helper()
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
}

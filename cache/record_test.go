package cache

import (
	"bytes"
	"testing"
	"time"
)

// FuzzRecord parses anything as a record, and writes what it took again.
func FuzzRecord(f *testing.F) {
	k := NewKey(Patches, "x")
	for _, r := range []record{
		{info: Info{Key: k, Size: 5}, stored: time.Unix(1_800_000_000, 0)},
		{info: Info{Key: k, Size: 7}, sum: [32]byte{1, 2, 3}, long: true, stored: time.Unix(1_800_000_000, 0)},
		{info: Info{Key: k}, negative: true, stored: time.Unix(0, 0), expires: time.Unix(1<<40, 0)},
		{info: Info{Key: Key{Kind: "sixteen-letters-"}, Size: 1 << 40}, stored: time.Unix(-1, 0)},
	} {
		b := r.append(nil)
		f.Add(b, r.info.Size+recordSize)
		f.Add(b, r.info.Size)
		f.Add(b[1:], r.info.Size+recordSize)
	}
	f.Fuzz(func(t *testing.T, b []byte, total int64) {
		r, err := parseRecord(b, total)
		if err != nil {
			return
		}
		again := r.append(nil)
		// Bytes that must be zero are not looked at one by one: their checksum is right.
		for _, part := range [][2]int{{0, 12}, {32, 112}} {
			if !bytes.Equal(again[part[0]:part[1]], b[part[0]:part[1]]) {
				t.Errorf("bytes %d to %d: got %x, want %x", part[0], part[1], again[part[0]:part[1]], b[part[0]:part[1]])
			}
		}
		if r.info.Size != total-recordSize {
			t.Errorf("size %d of %d bytes", r.info.Size, total)
		}
	})
}

// FuzzUsage parses anything as accounts, and writes what it took again.
func FuzzUsage(f *testing.F) {
	f.Add(usage{}.encode())
	f.Add(usage{Patches: 4096, Partials: 0, "x": 1 << 50}.encode())
	f.Add([]byte("patches 1\n0123456789abcdef\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, ok := parseUsage(b)
		if !ok {
			return
		}
		back, ok := parseUsage(u.encode())
		if !ok || len(back) != len(u) {
			t.Fatalf("%v becomes %v, %v", u, back, ok)
		}
		for k, n := range u {
			if n < 0 || back[k] != n {
				t.Errorf("%s: %d becomes %d", k, n, back[k])
			}
		}
	})
}

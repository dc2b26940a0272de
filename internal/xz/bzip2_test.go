package xz

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
)

func packBzip2(tb testing.TB, p []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := NewBzip2Writer(&buf)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

func TestBzip2RoundTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 255, 256, 1000, 50_000, 920_000} {
		want := sample(n)
		packed := packBzip2(t, want)
		if Sniff(packed) != FormatBzip2 || !bytes.HasPrefix(packed, []byte("BZh9")) {
			t.Errorf("%d bytes: the file begins with %q", n, packed[:4])
		}
		got, err := io.ReadAll(NewBzip2Reader(bytes.NewReader(packed), nil))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %d and %v", n, len(got), err)
		}
		if n > 900_000 {
			continue // more than a block; the rest takes long
		}
		if again := packBzip2(t, want); !bytes.Equal(again, packed) {
			t.Errorf("%d bytes: another file the second time", n)
		}
		two := append(packed, packed...)
		if got, err := io.ReadAll(NewBzip2Reader(iotest.HalfReader(bytes.NewReader(two)), nil)); err != nil || len(got) != 2*n {
			t.Errorf("two files of %d bytes: got %d and %v", n, len(got), err)
		}
	}
}

func TestBzip2Program(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("bzip2")
	if err != nil {
		t.Skip("the bzip2 program is not installed")
	}
	want := sample(300_000)
	c := exec.CommandContext(t.Context(), path, "-dc")
	c.Stdin = bytes.NewReader(packBzip2(t, want))
	if got, err := c.Output(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("bzip2 -dc gives %d bytes and %v, want %d", len(got), err, len(want))
	}
	c = exec.CommandContext(t.Context(), path, "-1c")
	c.Stdin = bytes.NewReader(want)
	packed, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(NewBzip2Reader(bytes.NewReader(packed), nil)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("bzip2 -1c: got %d bytes and %v, want %d", len(got), err, len(want))
	}
}

func TestBzip2Broken(t *testing.T) {
	t.Parallel()
	packed := packBzip2(t, sample(300))
	var e *Error
	for n := 0; n < len(packed); n += 5 {
		_, err := io.ReadAll(NewBzip2Reader(bytes.NewReader(packed[:n]), nil))
		if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, ErrFormat) || !errors.As(err, &e) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	for i := 0; i < len(packed); i += 5 {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x10
		got, err := io.ReadAll(NewBzip2Reader(bytes.NewReader(bad), nil))
		if err == nil && !bytes.Equal(got, sample(300)) { // the last byte has unused bits
			t.Errorf("byte %d: damage is not seen", i)
		}
		if err != nil && !errors.As(err, &e) {
			t.Errorf("byte %d: got %v", i, err)
		}
	}
	failed := errors.New("failed")
	_, err := io.ReadAll(NewBzip2Reader(io.MultiReader(bytes.NewReader(packed[:50]), iotest.ErrReader(failed)), nil))
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the reader's error", err)
	}
	r := NewBzip2Reader(bytes.NewReader(packed), nil)
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close gives %v", err)
	}
}

// 4 MB of zeros become 41 bytes.
func TestBzip2Bomb(t *testing.T) {
	t.Parallel()
	packed := packBzip2(t, make([]byte, 4<<20))
	for _, c := range []struct {
		name  string
		lim   *Limits
		grace int64 // a smaller one, so that less has to come out
		fail  bool
	}{
		{"by ratio", nil, 1 << 20, true},
		{"by output", &Limits{Output: 1 << 20, Ratio: -1}, ratioGrace, true},
		{"allowed", &Limits{Output: 4 << 20, Ratio: -1}, 0, false},
		{"small enough for any ratio", nil, ratioGrace, false},
	} {
		r := NewBzip2Reader(bytes.NewReader(packed), c.lim)
		r.(*bzip2Reader).lim.grace = c.grace
		n, err := io.Copy(io.Discard, r)
		if errors.Is(err, ErrLimit) != c.fail || !c.fail && err != nil {
			t.Errorf("%s: got %v", c.name, err)
		}
		if c.fail && n > 1<<20 {
			t.Errorf("%s: %d bytes came out", c.name, n)
		}
	}
}

func TestSniff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		head string
		want Format
		name string
	}{
		{"\xFD7zXZ\x00", FormatXZ, "xz"},
		{"\xFD7zXZ", FormatRaw, "raw"},
		{"BZh9", FormatBzip2, "bzip2"},
		{"BZ", FormatRaw, "raw"},
		{"", FormatRaw, "raw"},
		{strings.Repeat("x", 100), FormatRaw, "raw"},
	} {
		if got := Sniff([]byte(c.head)); got != c.want || got.String() != c.name {
			t.Errorf("%q is %v, want %v", c.head, got, c.want)
		}
	}
}

package bzip2

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/senbonzakura/senbonzakura/internal/bomb"
)

func packBzip2(tb testing.TB, p []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf)
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
		if !Sniff(packed) || !bytes.HasPrefix(packed, []byte("BZh9")) {
			t.Errorf("%d bytes: the file begins with %q", n, packed[:4])
		}
		got, err := io.ReadAll(NewReader(bytes.NewReader(packed), bomb.Limits{}))
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
		if got, err := io.ReadAll(NewReader(iotest.HalfReader(bytes.NewReader(two)), bomb.Limits{})); err != nil || len(got) != 2*n {
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
	if got, err := io.ReadAll(NewReader(bytes.NewReader(packed), bomb.Limits{})); err != nil || !bytes.Equal(got, want) {
		t.Errorf("bzip2 -1c: got %d bytes and %v, want %d", len(got), err, len(want))
	}
}

func TestBzip2Broken(t *testing.T) {
	t.Parallel()
	packed := packBzip2(t, sample(300))
	var e *Error
	for n := 0; n < len(packed); n += 5 {
		_, err := io.ReadAll(NewReader(bytes.NewReader(packed[:n]), bomb.Limits{}))
		if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, ErrFormat) || !errors.As(err, &e) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	for i := 0; i < len(packed); i += 5 {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x10
		got, err := io.ReadAll(NewReader(bytes.NewReader(bad), bomb.Limits{}))
		if err == nil && !bytes.Equal(got, sample(300)) { // the last byte has unused bits
			t.Errorf("byte %d: damage is not seen", i)
		}
		if err != nil && !errors.As(err, &e) {
			t.Errorf("byte %d: got %v", i, err)
		}
	}
	failed := errors.New("failed")
	_, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(packed[:50]), iotest.ErrReader(failed)), bomb.Limits{}))
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the reader's error", err)
	}
	r := NewReader(bytes.NewReader(packed), bomb.Limits{})
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
		lim   bomb.Limits
		grace int64 // a smaller one, so that less has to come out
		fail  bool
	}{
		{"by ratio", bomb.Limits{}, 1 << 20, true},
		{"by output", bomb.Limits{Output: 1 << 20, Ratio: -1}, bomb.Grace, true},
		{"allowed", bomb.Limits{Output: 4 << 20, Ratio: -1}, 0, false},
		{"small enough for any ratio", bomb.Limits{}, bomb.Grace, false},
	} {
		r := NewReader(bytes.NewReader(packed), c.lim)
		r.(*reader).lim.Grace = c.grace
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
	for head, want := range map[string]bool{"BZh9": true, "BZh": true, "BZ": false, "": false, "\xFD7zXZ\x00": false} {
		if got := Sniff([]byte(head)); got != want {
			t.Errorf("%q: got %v", head, got)
		}
	}
}

// sample is text of few words.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(5))...)
		b = append(b, byte(r.Uint32()))
	}
	return b[:n]
}

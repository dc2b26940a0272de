package mar

import (
	"bytes"
	"context"
	"crypto"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func shared(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, append([]string{"testdata"}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte, allow ...Code) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(data), int64(len(data)), &ReaderOptions{Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func key(t testing.TB, elem ...string) crypto.PublicKey {
	t.Helper()
	k, err := ParsePublicKey(shared(t, elem...))
	if err != nil {
		t.Fatalf("%s: %v", filepath.Join(elem...), err)
	}
	return k
}

func content(t testing.TB, f *File) []byte {
	t.Helper()
	rc, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, w io.WriterTo) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := w.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Errorf("WriteTo says %d bytes, wrote %d", n, b.Len())
	}
	return b.Bytes()
}

// fixedSigner hands out a signature that somebody else made.
type fixedSigner struct {
	info SignerInfo
	sig  []byte
	err  error
}

func (s fixedSigner) Info() SignerInfo                             { return s.info }
func (s fixedSigner) Sign(context.Context, []byte) ([]byte, error) { return s.sig, s.err }

package mar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

func shared(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(testkit.Shared(tb, append([]string{"testdata"}, elem...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func parse(tb testing.TB, data []byte, allow ...Code) *Reader {
	tb.Helper()
	r, err := NewReader(bytes.NewReader(data), int64(len(data)), &ReaderOptions{Allow: allow})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func key(tb testing.TB, elem ...string) crypto.PublicKey {
	tb.Helper()
	k, err := ParsePublicKey(shared(tb, elem...))
	if err != nil {
		tb.Fatalf("%s: %v", filepath.Join(elem...), err)
	}
	return k
}

func content(tb testing.TB, f *File) []byte {
	tb.Helper()
	rc, err := f.Open()
	if err != nil {
		tb.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func write(tb testing.TB, w io.WriterTo) []byte {
	tb.Helper()
	var b bytes.Buffer
	n, err := w.WriteTo(&b)
	if err != nil {
		tb.Fatal(err)
	}
	if n != int64(b.Len()) {
		tb.Errorf("WriteTo says %d bytes, wrote %d", n, b.Len())
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

// testKey returns a key that all tests share, as making one takes time.
func testKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	k, err := sharedKey()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

var sharedKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

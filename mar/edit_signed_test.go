package mar

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// An edit that is signed is what comes of writing it and signing that, and what has signatures is refused.
func TestEditWriteSigned(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := CryptoSigner(key, RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) *Reader {
		t.Helper()
		r, err := NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, product := range []*Product{nil, {Channel: "one", Version: "1"}} {
		a := &Archive{Product: product, Entries: []Entry{BytesEntry("a", 0o644, []byte("some text"))}}
		var plain, signed bytes.Buffer
		if _, err := a.WriteTo(&plain); err != nil {
			t.Fatal(err)
		}
		if _, err := a.WriteSigned(t.Context(), &signed, signer); err != nil {
			t.Fatal(err)
		}
		changed, err := read(plain.Bytes()).WithProduct(Product{Channel: "two", Version: "2"})
		if err != nil {
			t.Fatal(err)
		}
		for name, edit := range map[string]*Edit{"stripped": read(signed.Bytes()).Strip(), "unsigned": read(plain.Bytes()).Strip(), "product": changed} {
			var written, want, got bytes.Buffer
			if _, err := edit.WriteTo(&written); err != nil {
				t.Fatal(err)
			}
			if _, err := read(written.Bytes()).WriteSigned(t.Context(), &want, signer); err != nil {
				t.Fatal(err)
			}
			if n, err := edit.WriteSigned(t.Context(), &got, signer); err != nil || n != int64(got.Len()) || !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%s, %v: %d of %d bytes, %v", name, product, n, want.Len(), err)
			}
		}
		replaced, err := read(signed.Bytes()).ReplaceSignature(0, make([]byte, 256))
		if err != nil {
			t.Fatal(err)
		}
		reserved, err := read(plain.Bytes()).Reserve(signer.Info())
		if err != nil {
			t.Fatal(err)
		}
		for _, edit := range []*Edit{replaced, reserved} {
			if _, err := edit.WriteSigned(t.Context(), io.Discard, signer); !errors.Is(err, ErrSigned) {
				t.Errorf("got %v, want ErrSigned", err)
			}
		}
	}
}

// LintFile says what Lint says, and what is no file at all is an error.
func TestLintFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "a.mar")
	if err := os.WriteFile(name, []byte("MAR1 and nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if problems, err := LintFile(name, nil); err != nil || len(problems) == 0 {
		t.Errorf("got %v, %v", problems, err)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "absent")} {
		if _, err := LintFile(bad, nil); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

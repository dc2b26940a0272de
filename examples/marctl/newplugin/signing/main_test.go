// A test of the backend without a process: marctl plugin check tries the program.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestConformance(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "release.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEY_DIR", dir)
	backend, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signingtest.Run(t, backend, nil)
}

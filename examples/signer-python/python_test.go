// Package python holds a signing plugin in Python that was written from plugins/PROTOCOL.md, and has it
// checked.
package python

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

func TestConformance(t *testing.T) {
	const python = "/usr/bin/python3" // as in the script
	for _, check := range [][]string{
		{python, "-c", "import grpc, google.protobuf"},
		{"protoc", "--version"},
		{"openssl", "version"},
	} {
		if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s not found or incomplete (%v %.200s): install python3-grpcio, python3-protobuf, protobuf-compiler and openssl", check[0], err, out)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("protoc", "--python_out="+dir, "-I", "../../plugins/internal/signingpb", "signing.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v: %s", err, out)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum("signer.py")
	if err != nil {
		t.Fatal(err)
	}
	r := signingtest.CheckBinary(t.Context(), plugins.Config{
		Path: "signer.py", SHA256: sum, Args: []string{"release=" + file},
		Env:          []string{"PATH=" + os.Getenv("PATH"), "PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"},
		StartTimeout: 30 * time.Second,
	}, &signingtest.Options{Key: "release", PublicKey: key.Public()})
	r.Apply(t)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
}

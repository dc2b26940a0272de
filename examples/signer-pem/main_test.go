package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
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

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

// beEnv makes the test binary the plugin.
const beEnv = "SENBON_TEST_BE_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(beEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

func config(t *testing.T, args ...string) plugins.Config {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	return plugins.Config{Path: path, SHA256: sum, Args: args, Env: []string{testkit.FastExit, beEnv + "=1"}, StartTimeout: 20 * time.Second}
}

func writeKey(t *testing.T, pkcs1 bool) (string, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if !pkcs1 {
		block.Type = "PRIVATE KEY"
		if block.Bytes, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, key
}

func TestConformance(t *testing.T) {
	first, key := writeKey(t, false)
	second, _ := writeKey(t, true)
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	answers := filepath.Join(t.TempDir(), "answers.pem")
	if err := os.WriteFile(answers, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, "release="+first, "nightly="+second, "answers="+answers)
	signingtest.CheckBinary(t.Context(), cfg, nil).Apply(t)
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release", PublicKey: key.Public()}).Apply(t)
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "answers", PublicKey: ec.Public()}).Apply(t)
}

func TestPassphrase(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl not found: install it to test encrypted keys")
	}
	plain, key := writeKey(t, false)
	for i, scheme := range [][]string{
		{"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"},
		{"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"},
		{"-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"},
	} {
		t.Run(strings.Join(scheme, " "), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key.pem")
			args := append([]string{"pkcs8", "-topk8", "-in", plain, "-out", file, "-passout", "pass:open sesame"}, scheme...)
			if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("openssl: %v: %s", err, out)
			}
			cfg := config(t, "release="+file)
			if i == 0 {
				if _, err := signing.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "no passphrase") {
					t.Errorf("without a passphrase: got %v", err)
				}
			}
			passphrase := "open sesame"
			cfg.Secrets = []plugins.Secret{{Env: "PASSPHRASE_FD", Value: func() ([]byte, error) { return []byte(passphrase + "\n"), nil }}}
			c, err := signing.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sign(t, c, "release", key)
			passphrase = "wrong"
			if _, err := signing.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "passphrase") {
				t.Errorf("with a wrong passphrase: got %v", err)
			}
		})
	}
}

// sign signs an archive and verifies it.
func sign(t *testing.T, c *signing.Client, id string, key *rsa.PrivateKey) {
	t.Helper()
	s, err := c.Signer(t.Context(), id, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	a := &mar.Archive{
		Product: &mar.Product{Channel: "c", Version: "1"},
		Entries: []mar.Entry{mar.BytesEntry("a", 0o644, []byte("a"))},
	}
	var b bytes.Buffer
	if _, err := a.WriteSigned(t.Context(), &b, s); err != nil {
		t.Fatal(err)
	}
	r, err := mar.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), key.Public()); err != nil {
		t.Error(err)
	}
}

func TestBadArguments(t *testing.T) {
	notAKey := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(notAKey, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, args := range map[string][]string{
		"no keys":           nil,
		"is not ID=FILE":    {"release"},
		"no such file":      {"release=/absent"},
		"no PEM":            {"release=" + notAKey},
		"two keys have the": nil,
	} {
		if text == "two keys have the" {
			file, _ := writeKey(t, false)
			args = []string{"a=" + file, "a=" + file}
		}
		if _, err := signing.Start(t.Context(), config(t, args...)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: got %v, want %q", args, err, text)
		}
	}
}

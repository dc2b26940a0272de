package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
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

var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// config returns a plugin with one key, "release", whose private key is the file release.key in the directory
// that replaces DIR in args.
func config(tb testing.TB, args ...string) (plugins.Config, *rsa.PrivateKey) {
	tb.Helper()
	key, err := testKey()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"release.key": {Type: "PRIVATE KEY", Bytes: private},
		"release.pub": {Type: "PUBLIC KEY", Bytes: public},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", dir)
	}
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		tb.Fatal(err)
	}
	return plugins.Config{
		Path: path, SHA256: sum, Args: args, Env: []string{testkit.FastExit, beEnv + "=1", "PATH=" + os.Getenv("PATH")},
		StartTimeout: 20 * time.Second,
	}, key
}

func openssl(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		tb.Skip("openssl not found: install it to test signing with it")
	}
}

func TestOpenSSL(t *testing.T) {
	openssl(t)
	cfg, key := config(t, "release=DIR/release.pub", "--", "openssl", "pkeyutl", "-sign", "-inkey", "DIR/{key}.key", "-pkeyopt", "digest:sha384")
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release", PublicKey: key.Public()}).Apply(t)
}

func TestDigestInfo(t *testing.T) {
	openssl(t)
	cfg, key := config(t, "-digestinfo", "release=DIR/release.pub", "--", "openssl", "rsautl", "-sign", "-inkey", "DIR/{key}.key")
	c, err := signing.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Signer(t.Context(), "release", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(t.Context(), make([]byte, 48)); err != nil {
		t.Error(err)
	}
}

func TestCommandFails(t *testing.T) {
	for text, command := range map[string][]string{
		"no such key":            {"/bin/sh", "-c", "echo no such key >&2; exit 3"},
		"unavailable":            {"/absent/command"},
		"more than":              {"/bin/sh", "-c", "head -c 100000 /dev/zero"},
		"signature has 5":        {"/bin/echo", "sign"},
		"did not answer in time": {"/bin/sleep", "600"},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			cfg, key := config(t, append([]string{"release=DIR/release.pub", "--"}, command...)...)
			cfg.CallTimeout = 300 * time.Millisecond
			c, err := signing.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.Signer(t.Context(), "release", key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Sign(t.Context(), make([]byte, 48)); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want %q", err, text)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	for text, args := range map[string][]string{
		"usage":            {"release=DIR/release.pub"},
		"no such file":     {"release=DIR/absent", "--", "x"},
		"is not ID=PUBLIC": {"release", "--", "x"},
	} {
		cfg, _ := config(t, args...)
		if _, err := signing.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: got %v, want %q", args, err, text)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	openssl(b)
	cfg, key := config(b, "release=DIR/release.pub", "--", "openssl", "pkeyutl", "-sign", "-inkey", "DIR/{key}.key", "-pkeyopt", "digest:sha384")
	c, err := signing.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.Signer(b.Context(), "release", key.Public())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sign(b.Context(), make([]byte, 48)); err != nil {
			b.Fatal(err)
		}
	}
}

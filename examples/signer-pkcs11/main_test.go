//go:build cgo

package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"

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

// softHSM makes a token with an RSA key, one of 2048 bits that the token generates or the one in a file, and returns
// the plugin's configuration and the public key.
func softHSM(tb testing.TB, file string) (plugins.Config, *rsa.PublicKey) {
	tb.Helper()
	util, err := exec.LookPath("softhsm2-util")
	if err != nil {
		tb.Skip("softhsm2-util not found: install softhsm2 to test with a PKCS #11 token")
	}
	module := os.Getenv("SENBON_PKCS11_MODULE")
	for _, path := range []string{
		"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
		"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	} {
		if _, err := os.Stat(path); module == "" && err == nil {
			module = path
		}
	}
	if module == "" {
		tb.Skip("libsofthsm2.so not found: set SENBON_PKCS11_MODULE to its path")
	}
	dir := tb.TempDir()
	tokens := filepath.Join(dir, "tokens")
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.Command(util, "--init-token", "--free", "--label", "mar", "--pin", "1234", "--so-pin", "5678").CombinedOutput()
	if err != nil {
		tb.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	if file != "" { // a token takes seconds to generate a large key
		out, err := exec.Command(util, "--module", module, "--import", file, "--token", "mar", "--label", "release-key", "--id", "6964", "--pin", "1234").CombinedOutput()
		if err != nil {
			tb.Fatalf("softhsm2-util: %v: %s", err, out)
		}
	}
	session, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: "mar", Pin: "1234"})
	if err != nil {
		tb.Fatal(err)
	}
	var key crypto11.Signer
	if file == "" {
		key, err = session.GenerateRSAKeyPairWithLabel([]byte("id"), []byte("release-key"), 2048)
	} else {
		key, err = session.FindKeyPair(nil, []byte("release-key"))
	}
	if err != nil {
		tb.Fatal(err)
	}
	public := key.Public().(*rsa.PublicKey)
	if err := session.Close(); err != nil {
		tb.Fatal(err)
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
		Path: path, SHA256: sum, Args: []string{module, "mar", "release=release-key"},
		Env:          []string{testkit.FastExit, beEnv + "=1", "SOFTHSM2_CONF=" + conf},
		Secrets:      []plugins.Secret{{Env: "PIN_FD", Value: func() ([]byte, error) { return []byte("1234"), nil }}},
		StartTimeout: 20 * time.Second,
	}, public
}

func TestConformance(t *testing.T) {
	cfg, public := softHSM(t, "")
	r := signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release", PublicKey: public, Concurrency: 160})
	r.Apply(t)
}

// TestMozillaRule signs an archive with RSA-4096 and SHA-384, as Mozilla's updater wants it, and has openssl
// judge the signature as well.
func TestMozillaRule(t *testing.T) {
	cfg, public := softHSM(t, "testdata/rsa4096.pem")
	c, err := signing.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	policy := signing.Policy{Rules: []signing.Rule{{Key: "release", Channels: []string{"firefox-mozilla-release"}}}}
	a, err := signing.NewAuthority(t.Context(), []signing.Place{{{Client: c, ID: "release", PublicKey: public}}}, policy, nil)
	if err != nil {
		t.Fatal(err)
	}
	archive := &mar.Archive{
		Product: &mar.Product{Channel: "firefox-mozilla-release", Version: "150.0"},
		Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("type \"complete\"\n"))},
	}
	var b bytes.Buffer
	if _, err := a.WriteSigned(t.Context(), &b, archive); err != nil {
		t.Fatal(err)
	}
	r, err := mar.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), public); err != nil {
		t.Error(err)
	}
	signatures := r.Signatures()
	if len(signatures) != 1 || signatures[0].Algorithm != mar.RSAPKCS1SHA384 || len(signatures[0].Bytes) != 512 {
		t.Fatalf("got %d signatures, want one of 512 bytes with SHA-384", len(signatures))
	}
	opensslVerifies(t, c, public)
}

// opensslVerifies signs a text through the plugin and has openssl verify it.
func opensslVerifies(t *testing.T, c *signing.Client, public *rsa.PublicKey) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl not found: not asked for its opinion")
		return
	}
	s, err := c.Signer(t.Context(), "release", public)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("to be signed")
	digest := sha512.Sum384(text)
	sig, err := s.Sign(t.Context(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"text": text, "sig": sig, "pub": publicPEM(t, public)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(openssl, "dgst", "-sha384", "-verify", "pub", "-signature", "sig", "text")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

func TestBadStart(t *testing.T) {
	cfg, _ := softHSM(t, "")
	tests := []struct {
		name, text string
		change     func(c *plugins.Config)
	}{
		{"wrong PIN", "PIN", func(c *plugins.Config) {
			c.Secrets = []plugins.Secret{{Env: "PIN_FD", Value: func() ([]byte, error) { return []byte("9999"), nil }}}
		}},
		{"no such token", "other", func(c *plugins.Config) { c.Args = []string{c.Args[0], "other", "release"} }},
		{"no such key", "absent", func(c *plugins.Config) { c.Args = []string{c.Args[0], "mar", "absent"} }},
		{"no such module", "mar", func(c *plugins.Config) { c.Args = []string{"/absent.so", "mar", "release"} }},
		{"usage", "usage", func(c *plugins.Config) { c.Args = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			tt.change(&cfg)
			c, err := signing.Start(t.Context(), cfg)
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %q", err, tt.text)
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	cfg, public := softHSM(b, "testdata/rsa4096.pem")
	c, err := signing.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.Signer(b.Context(), "release", public)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sign(b.Context(), make([]byte, 48)); err != nil {
			b.Fatal(err)
		}
	}
}

func publicPEM(tb testing.TB, public *rsa.PublicKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

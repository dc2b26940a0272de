package main

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// TestHawkVectors checks the header against the examples in Hawk's own documentation.
func TestHawkVectors(t *testing.T) {
	h := &hawk{id: "dh37fgj492je", key: []byte("werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn")}
	tests := []struct {
		method, body, kind, want string
	}{
		{"GET", "", "", `mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="`},
		{"POST", "Thank you for flying Hawk", "text/plain; charset=utf-8", `mac="aSe1DERmZuRl3pI36/9BdZmnErTw3sNzOOAUlfeKjVw="`},
	}
	for _, tt := range tests {
		r, err := http.NewRequest(tt.method, "http://example.com:8000/resource/1?b=1&a=2", nil)
		if err != nil {
			t.Fatal(err)
		}
		var body []byte
		if tt.body != "" {
			body = []byte(tt.body)
			r.Header.Set("Content-Type", tt.kind)
		}
		h.sign(r, body, 1353832234, "j4h3g2", "some-app-ext-data")
		if got := r.Header.Get("Authorization"); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.method, got, tt.want)
		}
	}
}

// service starts a service whose requests are judged by the npm package hawk, and returns a plugin for it.
func service(tb testing.TB, mode string) (plugins.Config, *rsa.PublicKey) {
	tb.Helper()
	modules := os.Getenv("SENBON_HAWK")
	if modules == "" {
		tb.Skip("npm package hawk not found: install it and set SENBON_HAWK to its node_modules")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		tb.Skip("node not found: install it to test against a Hawk server")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	for name, block := range map[string]*pem.Block{
		"key": {Type: "PRIVATE KEY", Bytes: private},
		"pub": {Type: "PUBLIC KEY", Bytes: public},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	server := exec.Command(node, "testdata/server.js")
	server.Env = append(os.Environ(), "NODE_PATH="+modules, "KEY="+filepath.Join(dir, "key"), "USER=alice", "SECRET=open sesame", "MODE="+mode)
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stdin.Close()
		if err := server.Wait(); err != nil {
			tb.Errorf("server: %v", err)
		}
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		tb.Fatalf("server does not start: %v", err)
	}
	return config(tb, "http://127.0.0.1:"+strings.TrimSpace(port)+"/prefix", "alice", "release="+filepath.Join(dir, "pub")), &key.PublicKey
}

func config(tb testing.TB, args ...string) plugins.Config {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		tb.Fatal(err)
	}
	return plugins.Config{
		Path: path, SHA256: sum, Args: args, Env: []string{testkit.FastExit, beEnv + "=1"}, StartTimeout: 20 * time.Second,
		Secrets: []plugins.Secret{{Env: "HAWK_KEY_FD", Value: func() ([]byte, error) { return []byte("open sesame"), nil }}},
	}
}

func TestConformance(t *testing.T) {
	cfg, public := service(t, "")
	signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release", PublicKey: public}).Apply(t)
}

func sign(t *testing.T, cfg plugins.Config, public *rsa.PublicKey) error {
	t.Helper()
	c, err := signing.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	keys, err := c.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Signer(t.Context(), keys[0].ID, public)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Sign(t.Context(), signing.Request{KeyID: s.Key().ID, Algorithm: s.Key().Algorithm, Digest: make([]byte, 48)})
	return err
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, mode string
		change     func(c *plugins.Config)
		want       error
		text       string
	}{
		{"wrong key", "", func(c *plugins.Config) {
			c.Secrets[0].Value = func() ([]byte, error) { return []byte("wrong"), nil }
		}, plugins.ErrDenied, "Bad mac"},
		{"unknown user", "", func(c *plugins.Config) { c.Args[1] = "mallory" }, plugins.ErrDenied, "401"},
		{"not the user's key", "", func(c *plugins.Config) { c.Args[2] = strings.Replace(c.Args[2], "release", "other", 1) }, plugins.ErrDenied, "403"},
		{"wrong path", "", func(c *plugins.Config) { c.Args[0] += "/x" }, plugins.ErrNotFound, "404"},
		{"throttled", "throttle", nil, plugins.ErrThrottled, "429"},
		{"broken", "broken", nil, plugins.ErrUnavailable, "on holiday"},
		{"redirect is not followed", "redirect", nil, plugins.ErrInternal, "302"},
		{"garbage", "garbage", nil, plugins.ErrInternal, "0 signatures"},
		{"nobody there", "", func(c *plugins.Config) { c.Args[0] = "http://127.0.0.1:1" }, plugins.ErrUnavailable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, public := service(t, tt.mode)
			if tt.change != nil {
				tt.change(&cfg)
			}
			err := sign(t, cfg, public)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
			var e *plugins.Error
			if tt.mode == "throttle" && (!errors.As(err, &e) || e.RetryAfter != 7*time.Second) {
				t.Errorf("got %#v, want to be asked to wait for 7 s", e)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	for text, args := range map[string][]string{
		"usage":         {"https://x"},
		"neither https": {"http://example.com", "alice", "release=x"},
		"no such file":  {"https://example.com", "alice", "release=/absent"},
		"no Hawk user":  {"https://example.com", "", "release=/absent"},
	} {
		if _, err := signing.Start(t.Context(), config(t, args...)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", args, err, text)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	cfg, public := service(b, "")
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

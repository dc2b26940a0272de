package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
)

// Each line of the tables of habits does what it says.
func TestHabits(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, errPrivate := x509.MarshalPKCS8PrivateKey(key)
	public, errPublic := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if errPrivate != nil || errPublic != nil {
		t.Fatal(errPrivate, errPublic)
	}
	lines := 0
	for _, tool := range habitsOf {
		for _, h := range tool.habits {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			call := func(args ...string) (int, string) {
				var out bytes.Buffer
				code := run(t.Context(), args, strings.NewReader(""), &out, &out)
				return code, out.String()
			}
			for name, data := range map[string][]byte{
				"a.txt": []byte("some text"), "in/a.txt": []byte("some text"),
				"key.pem":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
				"other.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
				"key.pub":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "key.der": public,
			} {
				if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at(name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{
				{"create", "-H", "chan", "-V", "1.0", "-C", dir, at("update.mar"), "a.txt"},
				{"sign", "-q", at("update.mar"), at("signed.mar"), "--pem", at("key.pem")},
				{"signature", "extract", at("signed.mar"), "0", at("theirs.b64")},
			} {
				if code, said := call(args...); code != exitDone {
					t.Fatal(said)
				}
			}
			_, digest := call("digest", "--bits", "2048", at("update.mar"))
			sum, err := hex.DecodeString(strings.TrimSpace(digest))
			if err != nil {
				t.Fatal(err)
			}
			sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA384, sum)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at("sig.bin"), sig, 0o600); err != nil {
				t.Fatal(err)
			}
			args := strings.Fields(h.ours)[1:]
			in := false
			for i, arg := range args {
				switch {
				case arg == "-C":
					in = true
				case i > 0 && args[i-1] == "-C":
					args[i] = at(arg)
				case strings.Contains(arg, ".") && arg != "1.0" && arg != "1.1" && arg != "a.txt" || arg == "dir":
					args[i] = at(arg)
				}
			}
			if args[0] == "create" && !in {
				args = append(args, "-C", dir)
			}
			want := exitDone
			if strings.Contains(h.ours, ":mozilla-release") {
				if err := os.Rename(at("signed.mar"), at("release.mar")); err != nil {
					t.Fatal(err)
				}
				want = exitNo // nobody here can sign as Mozilla
			}
			lines++
			code, said := call(args...)
			if code != want {
				t.Errorf("%s: %s: exit code %d: %s", tool.name, h.ours, code, said)
				continue
			}
			if strings.Contains(h.ours, "new.mar") && args[0] != "signature" && args[0] != "strip" {
				if _, err := os.Stat(at("new.mar")); err != nil {
					t.Errorf("%s: %v", h.ours, err)
				}
			}
			if args[0] == "sign" || args[0] == "signature" && args[1] == "add" {
				if code, said := call("verify", "--any", "--key", at("key.pub"), at("new.mar")); code != exitDone {
					t.Errorf("%s: %s", h.ours, said)
				}
			}
			switch {
			case strings.Contains(h.ours, ":mozilla-release"):
				if !strings.Contains(said, "NOT verified") {
					t.Errorf("said %q", said)
				}
			case strings.Contains(h.ours, "--asn1"):
				if !strings.HasPrefix(said, "MEEwDQYJYIZIAWUDBAICBQAEM") {
					t.Errorf("%s: said %q", h.ours, said)
				}
			case strings.Contains(h.ours, "--compression"):
				if _, said := call("list", at("new.mar")); !strings.Contains(said, args[2]) {
					t.Errorf("%s: %s", h.ours, said)
				}
			}
		}
		var help bytes.Buffer
		if code := run(t.Context(), []string{"help", tool.name}, strings.NewReader(""), &help, &help); code != exitDone || !strings.Contains(help.String(), tool.habits[0].ours) {
			t.Errorf("help %s: %s", tool.name, help.String())
		}
	}
	if lines < 25 {
		t.Errorf("%d lines", lines)
	}
	for _, name := range []string{"release", "nightly", "dep"} {
		if got := mozillaKeys(":mozilla-" + name); len(got) < 2 {
			t.Errorf(":mozilla-%s: %v of %v", name, got, mar.BuiltinKeys())
		}
	}
}

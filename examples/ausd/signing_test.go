package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// beSigner makes the test binary a signing plugin of the keys in its arguments.
const beSigner = "SENBON_TEST_BE_SIGNER"

func serveKeys(context.Context) (signing.Backend, error) {
	var keys []signing.HeldKey
	for _, arg := range os.Args[1:] {
		id, file, _ := strings.Cut(arg, "=")
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := signing.ParseKey(text, nil)
		if err != nil {
			return nil, err
		}
		algorithm, err := signing.AlgorithmOf(key.Public())
		if err != nil {
			return nil, err
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: algorithm}, Signer: key})
	}
	return signing.NewKeyring(signing.Info{Name: "test", Version: "1"}, keys...)
}

// completeOf is a small complete update, signed where there is a key.
func completeOf(t *testing.T, version, buildID string, key *rsa.PrivateKey) []byte {
	t.Helper()
	large := bytes.Repeat([]byte("what stays "), 1000)
	archive, _, err := partial.Pack(t.Context(), fstest.MapFS{
		"application.ini": {Data: []byte("[App]\nName=Fox\nVersion=" + version + "\nBuildID=" + buildID + "\n")},
		"libxul.so":       {Data: append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00"), append(large, version...)...), Mode: 0o755},
		"noise":           {Data: noise()},
	}, partial.PackOptions{Product: &mar.Product{Channel: "fox-release", Version: version}, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if key == nil {
		_, err = archive.WriteTo(&b)
	} else {
		var s mar.Signer
		if s, err = mar.CryptoSigner(key, mar.RSAPKCS1SHA384); err == nil {
			_, err = archive.WriteSigned(t.Context(), &b, s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise is the same each time, and not compressible.
func noise() []byte {
	b := make([]byte, 0, 32<<10)
	for sum := sha512.Sum512(nil); len(b) < cap(b); sum = sha512.Sum512(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b
}

func writePEM(t *testing.T, name, kind string, der []byte, err error) {
	t.Helper()
	if err == nil {
		err = os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// As configured, a plugin signs the partials of signed completes, by policy and with a journal, and answers.
func TestSigningPlugin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	release, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	answers, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, in("release.pem"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(release), nil)
	der, err := x509.MarshalPKIXPublicKey(release.Public())
	writePEM(t, in("release.pub"), "PUBLIC KEY", der, err)
	der, err = x509.MarshalECPrivateKey(answers)
	writePEM(t, in("answers.pem"), "EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(answers.Public())
	writePEM(t, in("answers.pub"), "PUBLIC KEY", der, err)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := plugins.Sum(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, channel, state, reason string
	}{
		{"allowed", "fox-*", book.Made, ""},
		{"not allowed", "wolf-*", book.Failed, "policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			file := filepath.Join(data, "ausd.toml")
			policy := filepath.Join(data, "policy.json")
			if err := os.WriteFile(policy, fmt.Appendf(nil, `{"rules": [{"key": "release", "channels": [%q]}]}`, tt.channel), 0o600); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf(`data = %[1]q
[signing]
policy = %[2]q
[[signing.plugins]]
name = "test"
command = %[3]q
sha256 = %[4]q
args = [%[5]q, %[6]q]
env = ["%[7]s=1", %[8]q]
[[signing.keys]]
name = "release"
plugin = "test"
id = "release"
public_key = %[9]q
[content_signature]
plugin = "test"
id = "answers"
public_key = %[10]q
x5u = "https://aus.example/chain.pem"
products = ["Fox"]
`, filepath.Join(data, "state"), policy, self, sum, "release="+in("release.pem"), "answers="+in("answers.pem"), beSigner, testkit.FastExit, in("release.pub"), in("answers.pub"))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := loadConfig(file, nil)
			opts, err := c.options(io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			opts.PublishMade = time.Millisecond
			s, closed, err := openData(t.Context(), c, opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := closed(); err != nil {
					t.Error(err)
				}
			})
			for _, v := range [][2]string{{"90.0", "20240101000000"}, {"91.0", "20240102000000"}} {
				kept, _, err := s.Upload(t.Context(), "x.complete.mar", bytes.NewReader(completeOf(t, v[0], v[1], release)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Add(t.Context(), "test", server.Addition{SHA512: kept.SHA512}); err != nil {
					t.Fatal(err)
				}
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/update/3/Fox/90.0/20240101000000/Linux_x86_64-gcc3/en-US/release/x/default/default/update.xml", nil))
			x5u, encoded, _ := strings.Cut(w.Header().Get("Content-Signature"), "; p384ecdsa=")
			sig, err := base64.RawURLEncoding.DecodeString(encoded)
			digest := sha512.Sum384(slices.Concat([]byte("Content-Signature:\x00"), w.Body.Bytes()))
			if err != nil || x5u != "x5u=https://aus.example/chain.pem" || len(sig) != 96 || !ecdsa.Verify(&answers.PublicKey, digest[:], new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])) {
				t.Errorf("%v: %s", w.Header(), w.Body)
			}
			if !strings.Contains(w.Body.String(), `type="complete"`) {
				t.Errorf("%s", w.Body)
			}
			demand, err := s.MakeAll(t.Context(), 10)
			if err != nil || len(demand) != 1 || demand[0].State != tt.state || !strings.Contains(demand[0].Reason, tt.reason) {
				t.Fatalf("%+v, %v", demand, err)
			}
			journal, err := os.ReadFile(filepath.Join(data, "state", "signing.journal"))
			if err != nil || !json.Valid(bytes.SplitN(journal, []byte("\n"), 2)[0]) || !bytes.Contains(journal, []byte("release")) {
				t.Errorf("%s, %v", journal, err)
			}
			for _, o := range s.State().List(state.Made) {
				files, err := filepath.Glob(filepath.Join(data, "state", "files", o.Made().Hash+"*"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				r, err := mar.OpenFile(files[0], nil)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if err := r.Verify(t.Context(), release.Public()); err != nil {
					t.Errorf("the partial: %v", err)
				}
			}
		})
	}
}

// What is wrong with a configuration is said with its place, all of it at once.
func TestConfigProblems(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ausd.toml")
	if err := os.WriteFile(file, []byte(`listen = "here"
trusted_proxie = ["127.0.0.1"]
[demand]
builds = "three"
[[tokens]]
name = "ci"
roles = ["publisher"]
[signing]
keys = ["release.pem"]
[content_signature]
plugin = "hsm"
x5u = "ftp://x"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadConfig(file, []string{"AUSD_PURGE_URL=aus.example", "AUSD_SNAPSHOT=3", "AUSD_URL=http://elsewhere", "AUSD_DATE=/x"}).options(io.Discard)
	if err == nil {
		t.Fatal("it holds")
	}
	for _, want := range []string{
		`ausd.toml:1: listen: "here" is no address and port`,
		"ausd.toml:2: trusted_proxie: unknown key (did you mean trusted_proxies?)",
		"ausd.toml:4: demand.builds: is a string, want a whole number",
		"ausd.toml:5: tokens[0].sha256: want 64 hexadecimal digits",
		`ausd.toml:7: tokens[0].roles: "publisher"`,
		"ausd.toml:9: signing.keys: has a string in it, which cannot stand here",
		`ausd.toml:11: content_signature.plugin: "hsm" is not the name of one of signing.plugins`,
		"content_signature.id: is missing",
		`content_signature.x5u: "ftp://x": want where clients find`,
		`AUSD_PURGE_URL: purge_url: "aus.example": want http or https`,
		"AUSD_DATE: no key has this variable (did you mean AUSD_DATA?)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(err.Error(), "SNAPSHOT") {
		t.Error("a variable of the purge command is taken for a key")
	}
	if t.Failed() {
		t.Log(err)
	}
}

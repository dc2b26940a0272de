package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// signedName is whom clients take signed answers from.
const signedName = "aus.content-signature.example"

// certificates are a root and a certificate of it for the key that signs answers.
type certificates struct {
	pem  []byte
	root [sha256.Size]byte // what clients know
	key  *ecdsa.PrivateKey
}

func newChain(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{}
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range []string{"root", signedName} {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: i == 0, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		}
		if i > 0 {
			template.DNSNames = []string{name}
		} else {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if parent, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
			c.root = sha256.Sum256(der)
		}
		c.pem = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), c.pem...) // the end entity comes first
		c.key = key
	}
	return c
}

// clientVerifies does what Gecko does with the header: it fetches the chain, whose last certificate must be the root that it knows and whose
// first one must be for the name that it expects, and verifies r and s.
func clientVerifies(root [sha256.Size]byte, header string, body []byte) error {
	fields := map[string]string{}
	for field := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	res, err := http.Get(fields["x5u"])
	if err != nil {
		return err
	}
	defer res.Body.Close()
	rest, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var certificates []*x509.Certificate
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) < 2 {
		return errors.New("the chain is too short")
	}
	last := certificates[len(certificates)-1]
	if sha256.Sum256(last.Raw) != root {
		return errors.New("another root")
	}
	roots := x509.NewCertPool()
	roots.AddCert(last)
	if _, err := certificates[0].Verify(x509.VerifyOptions{DNSName: signedName, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		return err
	}
	sig, err := base64.URLEncoding.DecodeString(fields["p384ecdsa"])
	if err != nil {
		return err
	}
	if len(sig) != 96 {
		return errors.New("the signature has not 96 bytes")
	}
	digest := sha512.Sum384(append([]byte("Content-Signature:\x00"), body...))
	if !ecdsa.Verify(certificates[0].PublicKey.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// countedSigner counts what it is asked for, and fails where it is told to.
type countedSigner struct {
	signing.Backend
	asked  atomic.Int64
	broken atomic.Bool
}

func (s *countedSigner) Sign(ctx context.Context, r signing.Request) ([]byte, error) {
	s.asked.Add(1)
	if s.broken.Load() {
		return nil, errors.New("the token is locked")
	}
	return s.Backend.Sign(ctx, r)
}

// Answers of the products that are configured, and those in JSON, are signed so that a client takes them; each text is signed once.
func TestContentSignature(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	where := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.pem) }))
	t.Cleanup(where.Close)
	ring, err := signing.NewKeyring(signing.Info{Name: "test", Version: "1"}, signing.HeldKey{Key: signing.Key{ID: "answers", Algorithm: signing.ECDSAP384SHA384}, Signer: c.key})
	if err != nil {
		t.Fatal(err)
	}
	backend := &countedSigner{Backend: ring}
	plugin, err := signing.Local(backend)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plugin.Close(); err != nil {
			t.Error(err)
		}
	})
	signer, err := plugin.ContentSigner(t.Context(), "answers", c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), func(o *Options) {
		o.ContentSignature = &ContentSignature{Signer: signer, X5U: where.URL + "/chain.pem", Products: []string{"GMP"}}
	})
	sha := strings.Repeat("ab", 64)
	vpn := `{"product": "FirefoxVPN", "read_only": false, "data_version": 1, "blob": {"name": "VPN", "product": "FirefoxVPN", "schema_version": 10000, "version": "3.0", "required": true,
		"hashFunction": "sha512", "platforms": {"WINNT_x86_64": {"fileUrl": "https://dl.example/vpn.exe", "hashValue": "` + sha + `"}}}}`
	gmp := `{"product": "GMP", "read_only": false, "data_version": 1, "blob": {"name": "CDM", "schema_version": 1000, "hashFunction": "sha512", "vendors": {"gmp-ü": {"version": "1.0",
		"platforms": {"Linux": {"filesize": 1, "hashValue": "` + sha + `", "fileUrl": "https://dl.example/cdm.zip"}}}}}}`
	rule := func(id int, product, mapping string) json.RawMessage {
		return json.RawMessage(strings.Replace(string(ruleBody(id, `, "mapping": "`+mapping+`"`)), `"Fox"`, `"`+product+`"`, 1))
	}
	if status := s.call("POST", "/admin/v1/changes", change("begin",
		operation("release", "Fox-91.0", releaseBody("91.0", "20250401000000")), operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0"`)),
		operation("release", "CDM", json.RawMessage(gmp)), operation("rule", "2", rule(2, "GMP", "CDM")),
		operation("release", "VPN", json.RawMessage(vpn)), operation("rule", "3", rule(3, "FirefoxVPN", "VPN")),
		operation("host", "dl.example", json.RawMessage(`{"products": ["Fox", "GMP", "FirefoxVPN"]}`)),
	), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	type answered struct {
		StatusCode int
		Header     http.Header
	}
	ask := func(method, url string) (answered, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answered{res.StatusCode, res.Header}, body
	}
	media := strings.Replace(client, "/Fox/", "/GMP/", 1)
	none := strings.Replace(media, "/Linux/", "/Haiku/", 1)
	const json1 = "/json/1/FirefoxVPN/2.0/WINNT_x86_64/release/update.json"
	for url, part := range map[string]string{media: "cdm.zip", none: "<addons>", json1: "vpn.exe"} {
		res, body := ask(http.MethodGet, url)
		header := res.Header.Get("Content-Signature")
		if !strings.Contains(string(body), part) {
			t.Errorf("%s: %s", url, body)
		}
		if err := clientVerifies(c.root, header, body); err != nil {
			t.Errorf("%s: %v: %q", url, err, header)
		}
		if err := clientVerifies(c.root, header, append(body, '\n')); err == nil {
			t.Errorf("%s: a client takes another body", url)
		}
		before := backend.asked.Load()
		for _, again := range []string{url, url + "?_=1"} {
			if res, _ := ask(http.MethodGet, again); res.Header.Get("Content-Signature") != header {
				t.Errorf("%s: another signature for one text", again)
			}
		}
		if res, _ := ask(http.MethodHead, url); res.Header.Get("Content-Signature") != header {
			t.Errorf("%s: HEAD has %q", url, res.Header.Get("Content-Signature"))
		}
		if n := backend.asked.Load() - before; n != 0 {
			t.Errorf("%s: %d more signatures", url, n)
		}
	}
	for _, url := range []string{client, "/json/1/FirefoxVPN/3.0/WINNT_x86_64/release/update.json", strings.Replace(media, "update.xml", "update.xm", 1), "/api/v1/rules"} {
		if res, body := ask(http.MethodGet, url); res.Header.Get("Content-Signature") != "" {
			t.Errorf("%s is signed: %s", url, body)
		}
	}

	// While the plugin cannot sign, answers go out without, and nobody keeps them.
	backend.broken.Store(true)
	if status := s.call("POST", "/admin/v1/changes", change("another", operation("release", "CDM", json.RawMessage(strings.Replace(gmp, "1.0", "1.1", 1)))), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	before := backend.asked.Load()
	for range 3 {
		if res, body := ask(http.MethodGet, media); res.StatusCode != http.StatusOK || res.Header.Get("Content-Signature") != "" || res.Header.Get("Cache-Control") != "no-store" || !strings.Contains(string(body), `version="1.1"`) {
			t.Errorf("%d %v: %s", res.StatusCode, res.Header, body)
		}
	}
	if n := backend.asked.Load() - before; n < 1 || n > 3 {
		t.Errorf("the plugin was asked %d times", n)
	}
	if _, text := ask(http.MethodGet, "/metrics"); !strings.Contains(string(text), "ausd_answers_unsigned_total 3") {
		t.Errorf("%s", text)
	}
	backend.broken.Store(false)
	s.signs.mu.Lock()
	s.signs.resume = time.Time{}
	s.signs.mu.Unlock()
	if res, body := ask(http.MethodGet, media); clientVerifies(c.root, res.Header.Get("Content-Signature"), body) != nil || res.Header.Get("Cache-Control") == "no-store" {
		t.Errorf("after it was mended: %v", res.Header)
	}
}

package mar

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Unix(1, 0)} // long expired
	cert, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&k.PublicKey)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, data := range map[string][]byte{
		"DER certificate":    cert,
		"PEM certificate":    block("CERTIFICATE", cert),
		"DER key":            spki,
		"PEM key":            block("PUBLIC KEY", spki),
		"DER PKCS #1":        pkcs1,
		"PEM PKCS #1":        block("RSA PUBLIC KEY", pkcs1),
		"PEM with a comment": append([]byte("subject: x\n"), block("CERTIFICATE", cert)...),
		"chain":              append(block("CERTIFICATE", cert), "-----BEGIN CERTIFICATE-----\nbroken"...),
	} {
		got, err := ParsePublicKey(data)
		if err != nil || !k.PublicKey.Equal(got) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	huge := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), MaxSignatureSize*8), E: 65537}
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"garbage":        []byte("garbage"),
		"broken PEM":     []byte("-----BEGIN CERTIFICATE-----\nAAAA"),
		"private key":    block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)),
		"elliptic":       ecDER,
		"1024 bits":      x509.MarshalPKCS1PublicKey(&small.PublicKey),
		"16385 bits":     x509.MarshalPKCS1PublicKey(huge),
		"over 16 KiB":    append(block("CERTIFICATE", cert), bytes.Repeat([]byte("\n"), 16<<10)...),
		"cut":            cert[:len(cert)-1],
		"bytes too many": append(bytes.Clone(spki), 0),
	} {
		if got, err := ParsePublicKey(data); !errors.Is(err, ErrKey) {
			t.Errorf("%s: got %v, %v, want ErrKey", name, got, err)
		}
	}
}

func TestBuiltinKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range BuiltinKeys() {
		k, err := BuiltinKey(name)
		if err != nil {
			t.Fatal(err)
		}
		key, ok := k.(*rsa.PublicKey)
		if !ok {
			t.Fatalf("%s is a %T", name, k)
		}
		want := 512
		if strings.HasPrefix(name, "sha1-") {
			want = 256
		}
		if key.Size() != want || key.E != 65537 {
			t.Errorf("%s has %d bytes, exponent %d", name, key.Size(), key.E)
		}
		if other, ok := seen[key.N.String()]; ok {
			t.Errorf("%s is the same as %s", name, other)
		}
		seen[key.N.String()] = name
	}
	for _, channel := range []string{"release", "nightly", "dep", "sha1-release", "sha1-dep"} {
		for _, which := range []string{"primary", "secondary"} {
			if _, err := BuiltinKey(channel + "-" + which); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := BuiltinKey("nobody"); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "release-primary") {
		t.Errorf("got %v, want ErrKey and the names", err)
	}
}

package signing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/signingpb"
)

// oldPlugin is a plugin from before there was ECDSA: it ignores what a host knows, and asks for an algorithm of archives.
type oldPlugin struct {
	liar
	asked *[]signingpb.Algorithm
}

func (p *oldPlugin) Keys(_ context.Context, in *signingpb.KeysRequest) (*signingpb.KeysResponse, error) {
	*p.asked = append(*p.asked, in.GetAlgorithms()...)
	return &p.keys, nil
}

func (p *oldPlugin) Sign(_ context.Context, in *signingpb.SignRequest) (*signingpb.SignResponse, error) {
	if mar.Algorithm(in.GetAlgorithm()).Hash() == 0 { // as Serve said it
		return nil, plugins.ErrUnsupported
	}
	return &signingpb.SignResponse{Signature: []byte("x")}, nil
}

// Keys on P-384 sign what update servers answer. A host from before does not see them, and a plugin from before says that it has none.
func TestContentSigner(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	release, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := NewKeyring(Info{Name: "ring", Version: "1"},
		HeldKey{Key: Key{ID: "answers", Algorithm: ECDSAP384SHA384}, Signer: p384},
		HeldKey{Key: Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384}, Signer: release})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Local(ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := c.ContentSigner(t.Context(), "answers", p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // of which some begin with a zero
		digest := sha512.Sum384([]byte(rand.Text()))
		sig, err := s.Sign(t.Context(), digest[:])
		if err != nil || len(sig) != 96 {
			t.Fatalf("%d bytes, %v", len(sig), err)
		}
	}

	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContentSigner(t.Context(), "answers", other.Public()); !errors.Is(err, plugins.ErrAnswer) {
		t.Errorf("another key: %v", err)
	}
	if _, err := c.ContentSigner(t.Context(), "answers", p256.Public()); err == nil || !strings.Contains(err.Error(), "want ECDSA on P-384") {
		t.Errorf("another curve: %v", err)
	}
	if _, err := c.ContentSigner(t.Context(), "release", release.Public()); err == nil {
		t.Error("an RSA key signs answers")
	}
	if _, err := c.Signer(t.Context(), "answers", p384.Public()); err == nil {
		t.Error("a key on P-384 signs archives")
	}
	if _, err := NewKeyring(Info{}, HeldKey{Key: Key{ID: "k", Algorithm: ECDSAP384SHA384}, Signer: p256}); err == nil {
		t.Error("a keyring takes P-256")
	}

	// A host that says nothing is shown what it has always been shown.
	conn, err := c.process.Dispense(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reply, err := signingpb.NewSigningClient(conn).Keys(t.Context(), &signingpb.KeysRequest{})
	if err != nil || len(reply.GetKeys()) != 1 || reply.GetKeys()[0].GetId() != "release" {
		t.Errorf("%v, %v: want the key release alone", reply, err)
	}

	var asked []signingpb.Algorithm
	old := &oldPlugin{asked: &asked}
	old.keys.Keys = []*signingpb.Key{goodKey(t)}
	from := lieBy(t, old)
	if _, err := from.ContentSigner(t.Context(), "answers", p384.Public()); !errors.Is(err, plugins.ErrNotFound) {
		t.Errorf("a plugin from before: %v, want ErrNotFound", err)
	}
	if _, err := from.Sign(t.Context(), Request{KeyID: "answers", Algorithm: ECDSAP384SHA384, Digest: make([]byte, 48)}); !errors.Is(err, plugins.ErrUnsupported) {
		t.Errorf("a plugin from before signs: %v, want ErrUnsupported", err)
	}
	if !slices.Equal(asked, []signingpb.Algorithm{signingpb.Algorithm_ALGORITHM_ECDSA_P384_SHA384}) {
		t.Errorf("the host says that it knows %v", asked)
	}
}

// A signature that does not verify is refused, as those of archives are.
func TestContentSignatureIsVerified(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string]func([]byte) []byte{
		"another":    func([]byte) []byte { return make([]byte, 96) },
		"cut":        func(sig []byte) []byte { return sig[:95] },
		"one bit":    func(sig []byte) []byte { sig[40] ^= 1; return sig },
		"the halves": func(sig []byte) []byte { return append(sig[48:96:96], sig[:48]...) },
	} {
		remote := func(_ context.Context, digest []byte) ([]byte, error) {
			der, err := ecdsa.SignASN1(rand.Reader, key, digest)
			if err != nil {
				return nil, err
			}
			sig, err := rawECDSA(der)
			return lie(sig), err
		}
		ring, err := NewKeyring(Info{Name: "ring", Version: "1"}, HeldKey{Key: Key{ID: "k", Algorithm: ECDSAP384SHA384, PublicKey: key.Public()}, Remote: remote})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Local(ring)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.ContentSigner(t.Context(), "k", key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), make([]byte, 48)); !errors.Is(err, plugins.ErrAnswer) {
			t.Errorf("%s: %v, want ErrAnswer", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	written := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	for name, text := range map[string][]byte{
		"SEC 1":        written,
		"with a curve": append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 43, 129, 4, 0, 34}}), written...),
		"PKCS #8":      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	} {
		got, err := ParseKey(text, nil)
		if err != nil || !key.PublicKey.Equal(got.Public()) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParsePrivateKey(text, nil); err == nil || !strings.Contains(err.Error(), "want RSA") {
			t.Errorf("%s, where RSA is wanted: %v", name, err)
		}
	}
	if a, err := AlgorithmOf(key.Public()); err != nil || a != ECDSAP384SHA384 {
		t.Errorf("%v, %v", a, err)
	}
}

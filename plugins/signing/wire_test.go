package signing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/signingpb"
)

// liar answers what a test wants, past everything that Serve checks.
type liar struct {
	signingpb.UnimplementedSigningServer
	info signingpb.InfoResponse
	keys signingpb.KeysResponse
}

func (l *liar) Info(context.Context, *signingpb.InfoRequest) (*signingpb.InfoResponse, error) {
	return &l.info, nil
}

func (l *liar) Keys(context.Context, *signingpb.KeysRequest) (*signingpb.KeysResponse, error) {
	return &l.keys, nil
}

func goodKey(tb testing.TB) *signingpb.Key {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return &signingpb.Key{Id: "k", Algorithm: 2, SignatureSize: 256, PublicKey: der}
}

func TestLies(t *testing.T) {
	good := goodKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(k *signingpb.Key)) []*signingpb.Key {
		k := proto.CloneOf(good)
		f(k)
		return []*signingpb.Key{k}
	}
	tests := []struct {
		name string
		keys []*signingpb.Key
	}{
		{"no ID", change(func(k *signingpb.Key) { k.Id = "" })},
		{"long ID", change(func(k *signingpb.Key) { k.Id = strings.Repeat("k", 201) })},
		{"ID with newline", change(func(k *signingpb.Key) { k.Id = "a\nb" })},
		{"ID beyond ASCII", change(func(k *signingpb.Key) { k.Id = "schlüssel" })},
		{"no algorithm", change(func(k *signingpb.Key) { k.Algorithm = 0 })},
		{"unknown algorithm", change(func(k *signingpb.Key) { k.Algorithm = 3 })},
		{"no public key", change(func(k *signingpb.Key) { k.PublicKey = nil })},
		{"huge public key", change(func(k *signingpb.Key) { k.PublicKey = make([]byte, 9<<10) })},
		{"not RSA", change(func(k *signingpb.Key) { k.PublicKey = ecDER })},
		{"RSA for ECDSA", change(func(k *signingpb.Key) { k.Algorithm, k.SignatureSize = 1000, 96 })},
		{"wrong size of ECDSA", change(func(k *signingpb.Key) { k.Algorithm, k.SignatureSize, k.PublicKey = 1000, 104, ecDER })},
		{"wrong size", change(func(k *signingpb.Key) { k.SignatureSize = 512 })},
		{"huge size", change(func(k *signingpb.Key) { k.SignatureSize = 1 << 31 })},
		{"bad channel", change(func(k *signingpb.Key) { k.MarChannels = []string{"["} })},
		{"many channels", change(func(k *signingpb.Key) { k.MarChannels = slices.Repeat([]string{"x"}, 101) })},
		{"same ID twice", []*signingpb.Key{good, good}},
		{"too many", slices.Repeat([]*signingpb.Key{good}, 1001)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := lie(t, &liar{keys: signingpb.KeysResponse{Keys: tt.keys}})
			if _, err := c.Keys(t.Context()); !errors.Is(err, plugins.ErrAnswer) {
				t.Errorf("got %v, want ErrAnswer", err)
			}
		})
	}
	c := lie(t, &liar{keys: signingpb.KeysResponse{Keys: []*signingpb.Key{good}}, info: signingpb.InfoResponse{Name: "a\x1b[31mb"}})
	if _, err := c.Keys(t.Context()); err != nil {
		t.Errorf("a good key: %v", err)
	}
	if _, err := c.Info(t.Context()); !errors.Is(err, plugins.ErrAnswer) {
		t.Errorf("control characters in a name: got %v, want ErrAnswer", err)
	}
	if _, err := c.Sign(t.Context(), Request{}); !errors.Is(err, plugins.ErrUnsupported) {
		t.Errorf("method that is not there: got %v, want ErrUnsupported", err)
	}
}

func lie(t *testing.T, l *liar) *Client {
	t.Helper()
	return lieBy(t, l)
}

func lieBy(t *testing.T, l signingpb.SigningServer) *Client {
	t.Helper()
	p, err := plugins.Local("liar", func(r grpc.ServiceRegistrar) { signingpb.RegisterSigningServer(r, l) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Client{process: p}
}

// FuzzKey reads keys as a hostile plugin could send them: what is accepted must come back the same.
func FuzzKey(f *testing.F) {
	good, err := proto.Marshal(goodKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := &signingpb.Key{}
		if proto.Unmarshal(b, in) != nil {
			return
		}
		k, err := keyFromWire(in)
		if err != nil {
			return
		}
		out, err := keyToWire(k)
		if err != nil {
			t.Fatal(err)
		}
		again, err := keyFromWire(out)
		if err != nil {
			t.Fatalf("%+v was accepted, but not what it became: %v", k, err)
		}
		if again.ID != k.ID || !again.NotBefore.Equal(k.NotBefore) || !again.NotAfter.Equal(k.NotAfter) || !slices.Equal(again.Channels, k.Channels) {
			t.Fatalf("got %+v, then %+v", k, again)
		}
	})
}

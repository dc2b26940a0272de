package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"path"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/signingpb"
)

// Bounds of what a plugin may say about itself and its keys.
const (
	maxKeys     = 1000
	maxKeyID    = 200
	maxName     = 100
	maxKeyBytes = 8 << 10
	maxChannels = 100
)

// ECDSAP384SHA384 is ECDSA on the curve P-384 with SHA-384, by which update servers sign their answers in the header
// Content-Signature. No archive has such a signature. The number is the protocol's.
const ECDSAP384SHA384 mar.Algorithm = 1000

// ecdsaSize is the length of its signatures: r and s, 48 bytes each.
const ecdsaSize = 2 * 48

// hashOf returns the hash function of an algorithm, or 0 where the algorithm is unknown.
func hashOf(a mar.Algorithm) crypto.Hash {
	if a == ECDSAP384SHA384 {
		return crypto.SHA384
	}
	return a.Hash()
}

// nameOf is what messages call an algorithm.
func nameOf(a mar.Algorithm) string {
	if a == ECDSAP384SHA384 {
		return "ecdsa-p384-sha384"
	}
	return a.String()
}

// signatureSize returns how long the signatures of a key are; the error says why the key cannot be used with the algorithm.
func signatureSize(a mar.Algorithm, public crypto.PublicKey) (int, error) {
	if a == ECDSAP384SHA384 {
		if key, ok := public.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P384() {
			return ecdsaSize, nil
		}
		return 0, fmt.Errorf("is %T, want ECDSA on P-384", public)
	}
	key, ok := public.(*rsa.PublicKey)
	switch {
	case !ok:
		return 0, fmt.Errorf("is %T, want RSA", public)
	case a.Hash() == 0:
		return 0, fmt.Errorf("is for %v, which is not supported", a)
	}
	return key.Size(), nil
}

// Kind is what plugins.Start and plugins.Serve need to know about signing plugins.
func Kind() plugins.Kind { return plugins.Kind{Name: "signing", Versions: []int{1}} }

// Info is what a plugin says about itself, for people.
type Info struct {
	Name, Version string // for people
	// Capabilities names optional abilities; version 1 of the protocol defines none.
	Capabilities []string
}

// Key describes a key that a plugin can sign with.
type Key struct {
	// ID names the key within the plugin: 1 to 200 bytes of printable ASCII.
	ID string
	// Algorithm is the one algorithm that the key is used with.
	Algorithm mar.Algorithm
	// PublicKey is an *rsa.PublicKey, or for ECDSAP384SHA384 an *ecdsa.PublicKey.
	PublicKey crypto.PublicKey
	// SignatureSize is the length of every signature in bytes. Serve fills it in when it is 0.
	SignatureSize int
	// NotBefore and NotAfter say when the key may be used, in whole seconds: from NotBefore to just before
	// NotAfter. Zero means no limit.
	NotBefore, NotAfter time.Time
	// Channels are the MAR channels that the key is meant for; "*" stands for any text. None means that
	// nothing is said. The host's Policy decides; these can only narrow it.
	Channels []string
}

// AlgorithmName returns what the key's algorithm is called.
func (k Key) AlgorithmName() string { return nameOf(k.Algorithm) }

// ValidAt says whether the key may be used at a time.
func (k Key) ValidAt(t time.Time) bool {
	return (k.NotBefore.IsZero() || !t.Before(k.NotBefore)) && (k.NotAfter.IsZero() || t.Before(k.NotAfter))
}

// ParseTime reads what configuration files say about the validity of keys: a day (2026-11-30), which begins at midnight
// UTC, or a time (2026-11-30T12:00:00Z). "" is the zero time.
func ParseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a day such as 2026-11-30 nor a time such as 2026-11-30T12:00:00Z", text)
	}
	return t, nil
}

// Request asks for one signature.
type Request struct {
	// KeyID names the key and Algorithm is the key's algorithm.
	KeyID     string
	Algorithm mar.Algorithm
	// Digest is what the algorithm's hash function made: 20 bytes of SHA-1, 48 of SHA-384.
	Digest []byte
	// ID names the request in logs and journals. A request that is repeated keeps its ID.
	ID string
}

func (r Request) check() error {
	hash := hashOf(r.Algorithm)
	switch {
	case r.KeyID == "":
		return fmt.Errorf("no key: %w", plugins.ErrInvalid)
	case hash == 0:
		return fmt.Errorf("%s: %w", nameOf(r.Algorithm), plugins.ErrUnsupported)
	case len(r.Digest) != hash.Size():
		return fmt.Errorf("digest has %d bytes, %v has %d: %w", len(r.Digest), hash, hash.Size(), plugins.ErrInvalid)
	}
	return nil
}

// Backend is what the author of a plugin implements. Methods may be called from several goroutines. Errors
// should match one of those of package plugins (ErrDenied, ErrNotFound, ErrThrottled, ErrUnavailable …), or be
// a *plugins.Error; everything else reaches the host as ErrInternal. A Backend with a method Close() error is
// closed at the end.
type Backend interface {
	// Info says what the plugin is. It must not block.
	Info(ctx context.Context) (Info, error)
	// Keys lists the keys. It should answer from memory: hosts call it whenever they start.
	Keys(ctx context.Context) ([]Key, error)
	// Sign signs r.Digest with the key r.KeyID. The digest's length has been checked. It must return exactly
	// the key's SignatureSize bytes, the same ones for the same request (of ECDSA r and s one after the other, which may
	// be others each time); plugins.ErrNotFound for a key that
	// is not there, plugins.ErrUnsupported for an algorithm that is not the key's; and it must return soon
	// after ctx ends.
	Sign(ctx context.Context, r Request) ([]byte, error)
}

// FindKey returns the key that a request names, for use in Backend.Sign: plugins.ErrNotFound when there is no
// such key, plugins.ErrUnsupported when the algorithm is not the key's.
func FindKey(keys []Key, r Request) (Key, error) {
	for _, k := range keys {
		if k.ID != r.KeyID {
			continue
		}
		if k.Algorithm != r.Algorithm {
			return Key{}, fmt.Errorf("key %q signs with %s, not %s: %w", r.KeyID, nameOf(k.Algorithm), nameOf(r.Algorithm), plugins.ErrUnsupported)
		}
		return k, nil
	}
	return Key{}, fmt.Errorf("key %q: %w", r.KeyID, plugins.ErrNotFound)
}

// Serve is the whole main of a signing plugin: open makes the backend, from arguments and environment; what it
// prints is logged by the host, and its error ends the process with status 1. Serve never returns. See
// plugins.Serve.
func Serve(open func(ctx context.Context) (Backend, error)) {
	plugins.Serve(Kind(), open, register)
}

func register(r grpc.ServiceRegistrar, b Backend) {
	signingpb.RegisterSigningServer(r, &server{backend: b})
}

// server shows a Backend to the wire.
type server struct {
	signingpb.UnimplementedSigningServer
	backend Backend
}

func (s *server) Info(ctx context.Context, _ *signingpb.InfoRequest) (*signingpb.InfoResponse, error) {
	info, err := s.backend.Info(ctx)
	if err != nil {
		return nil, err
	}
	return &signingpb.InfoResponse{Name: info.Name, Version: info.Version, Capabilities: info.Capabilities}, nil
}

func (s *server) Keys(ctx context.Context, in *signingpb.KeysRequest) (*signingpb.KeysResponse, error) {
	keys, err := s.backend.Keys(ctx)
	if err != nil {
		return nil, err
	}
	reply := &signingpb.KeysResponse{}
	for _, k := range keys {
		if a := signingpb.Algorithm(k.Algorithm); k.Algorithm.Hash() == 0 && !slices.Contains(in.GetAlgorithms(), a) {
			continue // the host would not know what to make of it
		}
		pk, err := keyToWire(k)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		reply.Keys = append(reply.Keys, pk)
	}
	return reply, nil
}

func (s *server) Sign(ctx context.Context, in *signingpb.SignRequest) (*signingpb.SignResponse, error) {
	r := Request{KeyID: in.GetKeyId(), Algorithm: mar.Algorithm(in.GetAlgorithm()), Digest: in.GetDigest(), ID: in.GetRequestId()}
	if err := r.check(); err != nil {
		return nil, err
	}
	sig, err := s.backend.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	return &signingpb.SignResponse{Signature: sig}, nil
}

func keyToWire(k Key) (*signingpb.Key, error) {
	der, err := x509.MarshalPKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, err
	}
	if size, err := signatureSize(k.Algorithm, k.PublicKey); err == nil && k.SignatureSize == 0 {
		k.SignatureSize = size
	}
	out := &signingpb.Key{
		Id: k.ID, Algorithm: signingpb.Algorithm(k.Algorithm), SignatureSize: uint32(k.SignatureSize),
		PublicKey: der, MarChannels: k.Channels,
	}
	if !k.NotBefore.IsZero() {
		out.NotBefore = k.NotBefore.Unix()
	}
	if !k.NotAfter.IsZero() {
		out.NotAfter = k.NotAfter.Unix()
	}
	return out, nil
}

// keyFromWire checks everything that a plugin says about a key.
func keyFromWire(in *signingpb.Key) (Key, error) {
	k := Key{
		ID: in.GetId(), Algorithm: mar.Algorithm(in.GetAlgorithm()), SignatureSize: int(in.GetSignatureSize()),
		Channels: in.GetMarChannels(),
	}
	if !goodID(k.ID) {
		return k, plugins.BadAnswer("key with ID %.220q", k.ID)
	}
	if hashOf(k.Algorithm) == 0 {
		return k, plugins.BadAnswer("key %s: unknown %v", k.ID, k.Algorithm)
	}
	if len(in.GetPublicKey()) > maxKeyBytes {
		return k, plugins.BadAnswer("key %s: public key of %d bytes", k.ID, len(in.GetPublicKey()))
	}
	pub, err := x509.ParsePKIXPublicKey(in.GetPublicKey())
	if err != nil {
		return k, plugins.BadAnswer("key %s: public key: %v", k.ID, err)
	}
	size, err := signatureSize(k.Algorithm, pub)
	if err != nil {
		return k, plugins.BadAnswer("key %s: public key %v", k.ID, err)
	}
	k.PublicKey = pub
	if k.SignatureSize != size {
		return k, plugins.BadAnswer("key %s: signature size %d, but the key's signatures have %d bytes", k.ID, k.SignatureSize, size)
	}
	if n := in.GetNotBefore(); n != 0 {
		k.NotBefore = time.Unix(n, 0).UTC()
	}
	if n := in.GetNotAfter(); n != 0 {
		k.NotAfter = time.Unix(n, 0).UTC()
	}
	if len(k.Channels) > maxChannels {
		return k, plugins.BadAnswer("key %s: %d channels", k.ID, len(k.Channels))
	}
	for _, c := range k.Channels {
		if _, err := path.Match(c, ""); err != nil || len(c) > maxKeyID {
			return k, plugins.BadAnswer("key %s: channel %.220q", k.ID, c)
		}
	}
	return k, nil
}

func goodID(id string) bool {
	if id == "" || len(id) > maxKeyID {
		return false
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// verify checks a signature of a digest.
func verify(public crypto.PublicKey, alg mar.Algorithm, digest, sig []byte) error {
	size, err := signatureSize(alg, public)
	switch {
	case err != nil:
		return fmt.Errorf("public key %w", err)
	case len(sig) != size:
		return plugins.BadAnswer("signature has %d bytes, want %d", len(sig), size)
	}
	good := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.Verify(key, digest, new(big.Int).SetBytes(sig[:size/2]), new(big.Int).SetBytes(sig[size/2:]))
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, alg.Hash(), digest, sig) == nil
	}
	if !good {
		return plugins.BadAnswer("signature does not verify with the configured key")
	}
	return nil
}

package mar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	_ "crypto/sha1"   // RSAPKCS1SHA1
	_ "crypto/sha512" // RSAPKCS1SHA384
)

// An Algorithm is a signature algorithm, numbered as in the file. The zero value is none.
type Algorithm uint32

const (
	// RSAPKCS1SHA1 is RSASSA-PKCS1-v1_5 with SHA-1, made with RSA-2048 until 2016. It is verified, and made
	// only by a signer that was created for it; current updaters refuse it.
	RSAPKCS1SHA1 Algorithm = 1
	// RSAPKCS1SHA384 is RSASSA-PKCS1-v1_5 with SHA-384, made with RSA-4096. It is the only one that current
	// updaters accept.
	RSAPKCS1SHA384 Algorithm = 2
)

func (a Algorithm) String() string {
	switch a {
	case RSAPKCS1SHA1:
		return "rsa-pkcs1-sha1"
	case RSAPKCS1SHA384:
		return "rsa-pkcs1-sha384"
	}
	return fmt.Sprintf("algorithm(%d)", uint32(a))
}

// Hash returns the hash function of the algorithm, or 0 where the algorithm is unknown.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case RSAPKCS1SHA1:
		return crypto.SHA1
	case RSAPKCS1SHA384:
		return crypto.SHA384
	}
	return 0
}

// minKeySize is the length in bytes of an RSA-2048 signature. Mozilla's tools ask for it in signing and mean
// to ask for it in verifying, but compare bits with bytes there; this package asks for it in both.
const minKeySize = 256

// SignerInfo is what has to be known about a signature before it is made, as its place and length are part of
// what is signed.
type SignerInfo struct {
	Algorithm Algorithm // of the signature
	// PublicKey is an *rsa.PublicKey; the signature is verified with it before anything is written.
	PublicKey crypto.PublicKey
	// SignatureSize is the length in bytes that the signature will have: 512 for RSA-4096.
	SignatureSize int
}

func (i SignerInfo) check() error {
	if i.Algorithm.Hash() == 0 {
		return fmt.Errorf("%w: unknown %v", ErrSigner, i.Algorithm)
	}
	if i.SignatureSize < minKeySize || i.SignatureSize > MaxSignatureSize {
		return fmt.Errorf("%w: signature of %d bytes, possible are %d to %d", ErrSigner, i.SignatureSize, minKeySize, MaxSignatureSize)
	}
	return nil
}

// A Signer makes signatures. Implementations keep the key to themselves; the digest is all they see.
type Signer interface {
	// Info says what the signature will be. It must return the same each time, without blocking.
	Info() SignerInfo
	// Sign signs a digest, made with the hash function of Info().Algorithm. It must return exactly
	// Info().SignatureSize bytes, and soon after ctx ends it must return ctx's error. The caller verifies
	// the signature. It may be called from several goroutines.
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

// A SignError says which of an archive's signers failed. It unwraps to the signer's error.
type SignError struct {
	Signer int   // its place among those given, from 0
	Err    error // what the signer said
}

// Error names the signer and what it said.
func (e *SignError) Error() string { return fmt.Sprintf("mar: signer %d: %v", e.Signer, e.Err) }

// Unwrap returns the signer's error.
func (e *SignError) Unwrap() error { return e.Err }

func infosOf(signers []Signer) []SignerInfo {
	infos := make([]SignerInfo, len(signers))
	for i, s := range signers {
		infos[i] = s.Info()
	}
	return infos
}

// CryptoSigner makes a signer of a private key held by the standard library or anything like it. The key must
// be RSA with 2048 bits or more; Mozilla's updater needs one with 4096 bits and [RSAPKCS1SHA384].
func CryptoSigner(s crypto.Signer, alg Algorithm) (Signer, error) {
	key, err := rsaKey(s.Public())
	if err != nil {
		return nil, err
	}
	info := SignerInfo{Algorithm: alg, PublicKey: key, SignatureSize: key.Size()}
	if err := info.check(); err != nil {
		return nil, err
	}
	return &cryptoSigner{info: info, s: s}, nil
}

type cryptoSigner struct {
	info SignerInfo
	s    crypto.Signer
}

func (c *cryptoSigner) Info() SignerInfo { return c.info }

func (c *cryptoSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.s.Sign(rand.Reader, digest, c.info.Algorithm.Hash())
}

// kindOfKey names a key that is no RSA key.
func kindOfKey(k crypto.PublicKey) string {
	switch k.(type) {
	case *ecdsa.PublicKey:
		return "a key of ECDSA"
	case ed25519.PublicKey, *ed25519.PublicKey:
		return "a key of Ed25519"
	case nil, *rsa.PublicKey:
		return "no key"
	}
	return fmt.Sprintf("a key of type %T", k)
}

// rsaKey returns the RSA key that k is, if it can be used.
func rsaKey(k crypto.PublicKey) (*rsa.PublicKey, error) {
	key, ok := k.(*rsa.PublicKey)
	if !ok || key == nil || key.N == nil {
		return nil, fmt.Errorf("%w: %s, where only RSA keys sign updates", ErrKey, kindOfKey(k))
	}
	if n := key.Size(); n < minKeySize || n > MaxSignatureSize {
		return nil, fmt.Errorf("%w: RSA key of %d bits, possible are %d to %d", ErrKey, key.N.BitLen(), minKeySize*8, MaxSignatureSize*8)
	}
	return key, nil
}

// hasher hashes one stream with the hash functions of several algorithms.
type hasher map[Algorithm]hash.Hash

func newHasher(algs ...Algorithm) hasher {
	h := hasher{}
	for _, a := range algs {
		if f := a.Hash(); f != 0 && h[a] == nil {
			h[a] = f.New()
		}
	}
	return h
}

func (h hasher) writer() io.Writer {
	writers := make([]io.Writer, 0, len(h))
	for _, a := range slices.Sorted(maps.Keys(h)) {
		writers = append(writers, h[a])
	}
	return io.MultiWriter(writers...)
}

// sum returns a digest for each algorithm.
func (h hasher) sum() map[Algorithm][]byte {
	sums := make(map[Algorithm][]byte, len(h))
	for a, f := range h {
		sums[a] = f.Sum(nil)
	}
	return sums
}

// writeCovered writes the part of a header that signatures cover: all but the signatures themselves.
func writeCovered(w io.Writer, head []byte, slots []slot) error {
	pos := 0
	for _, s := range slots {
		if err := writeFull(w, head[pos:s.start]); err != nil {
			return err
		}
		pos = s.end
	}
	return writeFull(w, head[pos:])
}

func (m *image) newHasher() hasher {
	algs := make([]Algorithm, len(m.slots))
	for i, s := range m.slots {
		algs[i] = s.info.Algorithm
	}
	return newHasher(algs...)
}

// digests makes a pass over the contents and returns what each signature has to sign.
func (m *image) digests(ctx context.Context) ([][]byte, error) {
	h := m.newHasher()
	w := h.writer()
	if err := writeCovered(w, m.head, m.slots); err != nil {
		return nil, err
	}
	if err := m.body(ctx, w); err != nil {
		return nil, err
	}
	sums := h.sum()
	out := make([][]byte, len(m.slots))
	for i, s := range m.slots {
		out[i] = slices.Clone(sums[s.info.Algorithm])
	}
	return out, nil
}

// writeSigned makes the two passes of a signed write.
func (m *image) writeSigned(ctx context.Context, w io.Writer, signers []Signer) (int64, error) {
	if len(signers) == 0 {
		return 0, fmt.Errorf("%w: none given", ErrSigner)
	}
	for i, s := range m.slots { // before the long pass
		key, err := rsaKey(s.info.PublicKey)
		if err != nil {
			return 0, fmt.Errorf("signer %d: %w", i, err)
		}
		if key.Size() != s.info.SignatureSize {
			return 0, fmt.Errorf("signer %d: %w: signatures of %d bytes with a key of %d", i, ErrSigner, s.info.SignatureSize, key.Size())
		}
	}
	digests, err := m.digests(ctx)
	if err != nil {
		return 0, err
	}
	for i, s := range m.slots {
		sig, err := signers[i].Sign(ctx, slices.Clone(digests[i]))
		if err != nil {
			return 0, &SignError{Signer: i, Err: err}
		}
		if len(sig) != s.info.SignatureSize {
			return 0, fmt.Errorf("signer %d: %w: signature has %d bytes, promised were %d", i, ErrSigner, len(sig), s.info.SignatureSize)
		}
		if err := verifyDigest(s.info.PublicKey, s.info.Algorithm, digests[i], sig); err != nil {
			return 0, fmt.Errorf("signer %d: %w: %w", i, ErrSigner, err)
		}
		copy(m.head[s.start:s.end], sig)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}

	h := m.newHasher()
	covered := h.writer()
	if err := writeCovered(covered, m.head, m.slots); err != nil {
		return 0, err
	}
	c := &counter{w: w}
	if err := writeFull(c, m.head); err != nil {
		return c.n, err
	}
	if err := m.body(ctx, io.MultiWriter(covered, c)); err != nil {
		return c.n, err
	}
	sums := h.sum()
	for i, s := range m.slots {
		if !bytes.Equal(sums[s.info.Algorithm], digests[i]) {
			return c.n, &ContentError{}
		}
	}
	return c.n, nil
}

// verifyDigest checks one signature.
func verifyDigest(k crypto.PublicKey, alg Algorithm, digest, sig []byte) error {
	key, err := rsaKey(k)
	if err != nil {
		return err
	}
	if alg.Hash() == 0 {
		return fmt.Errorf("unknown %v", alg)
	}
	return rsa.VerifyPKCS1v15(key, alg.Hash(), digest, sig)
}

// covered writes what the archive's signatures cover: the header without the signatures' bytes, and
// everything behind it to the end of the file.
func (r *Reader) covered(ctx context.Context, w io.Writer) error {
	buf := make([]byte, bufferSize)
	pos := int64(0)
	for _, s := range r.scan.signatures {
		if err := r.copyRange(ctx, w, pos, s.Offset, buf); err != nil {
			return err
		}
		pos = s.Offset + int64(len(s.Bytes))
	}
	return r.copyRange(ctx, w, pos, r.scan.size, buf)
}

// Digest returns the digest of the bytes that the archive's signatures cover, with the hash function of alg.
// It is a stream over the whole file in bounded memory, and ends with ctx. An archive without signatures has
// no such digest, as making room for them changes what they cover: the error matches [ErrUnsigned], and
// [Archive.Digest] computes it in advance.
func (r *Reader) Digest(ctx context.Context, alg Algorithm) ([]byte, error) {
	if alg.Hash() == 0 {
		return nil, fmt.Errorf("mar: unknown %v", alg)
	}
	if len(r.scan.signatures) == 0 {
		return nil, ErrUnsigned
	}
	h := newHasher(alg)
	if err := r.covered(ctx, h.writer()); err != nil {
		return nil, err
	}
	return h.sum()[alg], nil
}

// sums returns the digests for all signatures in one pass.
func (r *Reader) sums(ctx context.Context) (map[Algorithm][]byte, error) {
	algs := make([]Algorithm, len(r.scan.signatures))
	for i, s := range r.scan.signatures {
		algs[i] = s.Algorithm
	}
	h := newHasher(algs...)
	if len(h) == 0 {
		return nil, nil
	}
	err := r.covered(ctx, h.writer())
	return h.sum(), err
}

// Verify verifies the archive as Mozilla's tool does: there must be as many signatures as keys, and each
// signature must verify with the key at the same place. Keys are *rsa.PublicKey of 2048 bits or more.
//
// The error matches [ErrSignature] where the answer is no, [ErrKey] where a key cannot be used, and neither
// where the file could not be read or ctx ended. SHA-1 signatures verify like the others; use
// [Reader.VerifyUpdater] to ask what a current updater accepts.
func (r *Reader) Verify(ctx context.Context, keys ...crypto.PublicKey) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	sigs := r.scan.signatures
	if len(sigs) == 0 {
		return ErrUnsigned
	}
	if len(sigs) != len(keys) {
		return &SignatureError{Signature: -1, Detail: fmt.Sprintf("archive has %d signatures, given are %d keys", len(sigs), len(keys))}
	}
	for i, s := range sigs {
		if s.Algorithm.Hash() == 0 {
			return &SignatureError{Signature: i, Detail: fmt.Sprintf("unknown %v", s.Algorithm)}
		}
	}
	sums, err := r.sums(ctx)
	if err != nil {
		return err
	}
	for i, s := range sigs {
		if verifyDigest(keys[i], s.Algorithm, sums[s.Algorithm], s.Bytes) != nil {
			return &SignatureError{Signature: i, Detail: fmt.Sprintf("does not verify with key %d", i)}
		}
	}
	return nil
}

// A Match says which signature verified with which key.
type Match struct {
	Signature int // index into Reader.Signatures
	Key       int // index into the keys given
}

// VerifyAny returns the first signature that verifies with any of the keys. Other signatures do not count,
// nor does their number. Errors are those of [Reader.Verify].
func (r *Reader) VerifyAny(ctx context.Context, keys ...crypto.PublicKey) (Match, error) {
	if err := checkKeys(keys); err != nil {
		return Match{}, err
	}
	if len(r.scan.signatures) == 0 {
		return Match{}, ErrUnsigned
	}
	sums, err := r.sums(ctx)
	if err != nil {
		return Match{}, err
	}
	for i, s := range r.scan.signatures {
		for k, key := range keys {
			if verifyDigest(key, s.Algorithm, sums[s.Algorithm], s.Bytes) == nil {
				return Match{Signature: i, Key: k}, nil
			}
		}
	}
	return Match{}, &SignatureError{Signature: -1, Detail: fmt.Sprintf("none of %d signatures verifies with any of %d keys", len(r.scan.signatures), len(keys))}
}

// VerifyUpdater verifies the archive as Mozilla's updater does: it must have exactly one signature, of
// [RSAPKCS1SHA384], which verifies with one of the keys, usually the primary and the secondary of a channel.
// It returns the index of that key. Errors are those of [Reader.Verify].
func (r *Reader) VerifyUpdater(ctx context.Context, keys ...crypto.PublicKey) (int, error) {
	if n := len(r.scan.signatures); n > 1 {
		return 0, &SignatureError{Signature: -1, Detail: fmt.Sprintf("archive has %d signatures, updaters accept exactly one", n)}
	}
	if len(r.scan.signatures) == 1 && r.scan.signatures[0].Algorithm != RSAPKCS1SHA384 {
		return 0, &SignatureError{Signature: 0, Detail: fmt.Sprintf("updaters do not accept %v", r.scan.signatures[0].Algorithm)}
	}
	m, err := r.VerifyAny(ctx, keys...)
	return m.Key, err
}

func checkKeys(keys []crypto.PublicKey) error {
	if len(keys) == 0 {
		return fmt.Errorf("%w: none given", ErrKey)
	}
	for i, k := range keys {
		if _, err := rsaKey(k); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	return nil
}

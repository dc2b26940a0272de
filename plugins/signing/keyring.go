package signing

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// Keyring is a Backend over keys that are crypto.Signers, as crypto/rsa, crypto/ecdsa, PKCS #11 libraries and most clients
// of key services provide. Safe for concurrent use if the signers are.
type Keyring struct {
	info  Info
	order []string
	keys  map[string]HeldKey
}

// HeldKey is a key of a Keyring: its description, and what signs: a Signer, or Remote. SignatureSize of the description
// follows from the public key, which is the Signer's.
type HeldKey struct {
	Key
	// Signer signs digests of the key's algorithm.
	Signer crypto.Signer
	// Remote signs in place of a Signer, for keys of a service: it gets the call's context, and returns the signature
	// of a digest by PublicKey, which has to be set, in the protocol's form: of ECDSA r and s, 48 bytes each. It must
	// return soon after ctx ends.
	Remote func(ctx context.Context, digest []byte) ([]byte, error)
}

// NewKeyring returns a Backend with these keys. It refuses keys that are not of their algorithm's kind, two keys with one ID, and a
// keyring without keys.
func NewKeyring(info Info, keys ...HeldKey) (*Keyring, error) {
	k := &Keyring{info: info, keys: make(map[string]HeldKey)}
	for _, key := range keys {
		if (key.Signer == nil) == (key.Remote == nil) {
			return nil, fmt.Errorf("key %q has no signer, or two", key.ID)
		}
		if key.Signer != nil {
			key.PublicKey = key.Signer.Public()
		}
		size, err := signatureSize(key.Algorithm, key.PublicKey)
		switch {
		case err != nil:
			return nil, fmt.Errorf("key %q %w", key.ID, err)
		case !goodID(key.ID):
			return nil, fmt.Errorf("key ID %q is not 1 to %d printable ASCII characters", key.ID, maxKeyID)
		}
		if _, ok := k.keys[key.ID]; ok {
			return nil, fmt.Errorf("two keys have the ID %q", key.ID)
		}
		key.SignatureSize = size
		k.keys[key.ID] = key
		k.order = append(k.order, key.ID)
	}
	if len(keys) == 0 {
		return nil, errors.New("no keys")
	}
	return k, nil
}

// Info implements Backend.
func (k *Keyring) Info(context.Context) (Info, error) { return k.info, nil }

// Keys implements Backend.
func (k *Keyring) Keys(context.Context) ([]Key, error) {
	out := make([]Key, len(k.order))
	for i, id := range k.order {
		out[i] = k.keys[id].Key
	}
	return out, nil
}

// Sign implements Backend. It cannot interrupt a crypto.Signer; when ctx ends first, the signature is thrown away.
func (k *Keyring) Sign(ctx context.Context, r Request) ([]byte, error) {
	key, ok := k.keys[r.KeyID]
	if !ok {
		return nil, fmt.Errorf("key %q: %w", r.KeyID, plugins.ErrNotFound)
	}
	if r.Algorithm != key.Algorithm {
		return nil, fmt.Errorf("key %q signs with %s, not %s: %w", r.KeyID, nameOf(key.Algorithm), nameOf(r.Algorithm), plugins.ErrUnsupported)
	}
	var sig []byte
	var err error
	if key.Remote != nil {
		sig, err = key.Remote(ctx, r.Digest)
	} else {
		sig, err = key.Signer.Sign(rand.Reader, r.Digest, hashOf(r.Algorithm))
		if err == nil && r.Algorithm == ECDSAP384SHA384 {
			sig, err = rawECDSA(sig)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", r.KeyID, err)
	}
	return sig, ctx.Err()
}

// rawECDSA returns r and s of a signature in ASN.1, which is how crypto.Signers give it.
func rawECDSA(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if err := unmarshal(der, &sig); err != nil {
		return nil, err
	}
	const half = ecdsaSize / 2
	if sig.R.Sign() < 0 || sig.S.Sign() < 0 || sig.R.BitLen() > 8*half || sig.S.BitLen() > 8*half {
		return nil, errors.New("the signature is not of P-384")
	}
	raw := make([]byte, ecdsaSize)
	sig.R.FillBytes(raw[:half])
	sig.S.FillBytes(raw[half:])
	return raw, nil
}

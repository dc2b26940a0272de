package signing

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/senbonzakura/senbonzakura/plugins"
)

// Keyring is a Backend over keys that are crypto.Signers, as crypto/rsa, PKCS #11 libraries and most clients
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
	// of a digest by PublicKey, which has to be set. It must return soon after ctx ends.
	Remote func(ctx context.Context, digest []byte) ([]byte, error)
}

// NewKeyring returns a Backend with these keys. It refuses keys that are not RSA, two keys with one ID, and a
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
		pub, ok := key.PublicKey.(*rsa.PublicKey)
		switch {
		case !ok:
			return nil, fmt.Errorf("key %q is %T, want RSA", key.ID, key.PublicKey)
		case !goodID(key.ID):
			return nil, fmt.Errorf("key ID %q is not 1 to %d printable ASCII characters", key.ID, maxKeyID)
		case key.Algorithm.Hash() == 0:
			return nil, fmt.Errorf("key %q: %v is not supported", key.ID, key.Algorithm)
		}
		if _, ok := k.keys[key.ID]; ok {
			return nil, fmt.Errorf("two keys have the ID %q", key.ID)
		}
		key.SignatureSize = pub.Size()
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
		return nil, fmt.Errorf("key %q signs with %v, not %v: %w", r.KeyID, key.Algorithm, r.Algorithm, plugins.ErrUnsupported)
	}
	var sig []byte
	var err error
	if key.Remote != nil {
		sig, err = key.Remote(ctx, r.Digest)
	} else {
		sig, err = key.Signer.Sign(rand.Reader, r.Digest, r.Algorithm.Hash())
	}
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", r.KeyID, err)
	}
	return sig, ctx.Err()
}

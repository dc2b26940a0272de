package signing

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/internal/signingpb"
)

// Client is the host's end of a signing plugin. Its methods check what the plugin says but believe whose key
// is whose; Client.Signer and Authority do not. Close it. Safe for concurrent use.
type Client struct {
	process *plugins.Process
}

// Start starts a signing plugin and waits until it answers.
func Start(ctx context.Context, cfg plugins.Config) (*Client, error) {
	p, err := plugins.Start(ctx, cfg, Kind())
	if err != nil {
		return nil, err
	}
	c := &Client{process: p}
	if _, err := c.Info(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Local serves a backend within this process, without the protection of a process of its own: for tests, and
// for keys that the host holds itself.
func Local(b Backend) (*Client, error) {
	p, err := plugins.Local("signing", func(r grpc.ServiceRegistrar) { register(r, b) })
	if err != nil {
		return nil, err
	}
	return &Client{process: p}, nil
}

// Process returns the plugin's process, to ping it or to learn its number.
func (c *Client) Process() *plugins.Process { return c.process }

// Close ends the plugin. See plugins.Process.Close.
func (c *Client) Close() error { return c.process.Close() }

func (c *Client) wire(ctx context.Context) (signingpb.SigningClient, error) {
	conn, err := c.process.Dispense(ctx)
	if err != nil {
		return nil, err
	}
	return signingpb.NewSigningClient(conn), nil
}

// again makes a request that changes nothing, again if need be.
func (c *Client) again(ctx context.Context, f func(w signingpb.SigningClient) error) error {
	return plugins.Retry(ctx, func() error {
		w, err := c.wire(ctx)
		if err != nil {
			return err
		}
		return f(w)
	})
}

// Info asks the plugin what it is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var reply *signingpb.InfoResponse
	err := c.again(ctx, func(w signingpb.SigningClient) (err error) {
		reply, err = w.Info(ctx, &signingpb.InfoRequest{})
		return err
	})
	if err != nil {
		return Info{}, err
	}
	if len(reply.GetName()) > maxName || len(reply.GetVersion()) > maxName || len(reply.GetCapabilities()) > maxName {
		return Info{}, plugins.BadAnswer("name, version or list of capabilities is longer than %d", maxName)
	}
	for _, s := range append([]string{reply.GetName(), reply.GetVersion()}, reply.GetCapabilities()...) {
		if s != "" && !goodID(s) {
			return Info{}, plugins.BadAnswer("name, version or capability %.220q is not printable ASCII", s)
		}
	}
	return Info{Name: reply.GetName(), Version: reply.GetVersion(), Capabilities: reply.GetCapabilities()}, nil
}

// Keys asks the plugin for its keys, and refuses a list that breaks the protocol with plugins.ErrAnswer.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	var reply *signingpb.KeysResponse
	err := c.again(ctx, func(w signingpb.SigningClient) (err error) {
		reply, err = w.Keys(ctx, &signingpb.KeysRequest{Algorithms: []signingpb.Algorithm{signingpb.Algorithm(ECDSAP384SHA384)}})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(reply.GetKeys()) > maxKeys {
		return nil, plugins.BadAnswer("%d keys, at most %d are allowed", len(reply.GetKeys()), maxKeys)
	}
	seen := make(map[string]bool)
	var keys []Key
	for _, in := range reply.GetKeys() {
		k, err := keyFromWire(in)
		if err != nil {
			return nil, err
		}
		if seen[k.ID] {
			return nil, plugins.BadAnswer("two keys with the ID %q", k.ID)
		}
		seen[k.ID] = true
		keys = append(keys, k)
	}
	return keys, nil
}

// Sign asks the plugin once for one signature and returns what it says, unverified: it is there for tools that
// examine plugins. To sign, use Signer or Authority.
func (c *Client) Sign(ctx context.Context, r Request) ([]byte, error) {
	w, err := c.wire(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := w.Sign(ctx, &signingpb.SignRequest{
		KeyId: r.KeyID, Algorithm: signingpb.Algorithm(r.Algorithm), Digest: r.Digest, RequestId: r.ID,
	})
	if err != nil {
		return nil, err
	}
	return reply.GetSignature(), nil
}

// Signer returns a signer of archives for one key of the plugin. public is the key that the result must verify with, from
// the configuration and not from the plugin. It fails when the plugin has no such key, or names another public
// key for it.
func (c *Client) Signer(ctx context.Context, keyID string, public crypto.PublicKey) (*Signer, error) {
	if _, ok := public.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("key %q: the configured public key is %T, want RSA", keyID, public)
	}
	key, err := c.key(ctx, keyID, public)
	if err != nil {
		return nil, err
	}
	return &Signer{digestSigner{c: c, key: key}}, nil
}

// ContentSigner returns a signer of what update servers answer ([ECDSAP384SHA384]) for one key of the plugin. public is the
// key that the result must verify with, from the configuration. It fails as Signer does; a plugin from before there was
// this algorithm has no such key.
func (c *Client) ContentSigner(ctx context.Context, keyID string, public crypto.PublicKey) (*ContentSigner, error) {
	if _, err := signatureSize(ECDSAP384SHA384, public); err != nil {
		return nil, fmt.Errorf("key %q: the configured public key %w", keyID, err)
	}
	key, err := c.key(ctx, keyID, public)
	if err != nil {
		return nil, err
	}
	return &ContentSigner{digestSigner{c: c, key: key}}, nil
}

// key finds a key of the plugin.
func (c *Client) key(ctx context.Context, keyID string, public crypto.PublicKey) (Key, error) {
	keys, err := c.Keys(ctx)
	if err != nil {
		return Key{}, err
	}
	for _, k := range keys {
		if k.ID != keyID {
			continue
		}
		if same, ok := public.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !same.Equal(k.PublicKey) {
			return Key{}, fmt.Errorf("key %q: the plugin has another public key than configured: %w", keyID, plugins.ErrAnswer)
		}
		k.PublicKey = public
		return k, nil
	}
	return Key{}, fmt.Errorf("key %q of plugin %s: %w", keyID, c.process.Name(), plugins.ErrNotFound)
}

// Signer signs with one key of a plugin and is a mar.Signer. A request is repeated up to three times where the
// plugin died, was throttled, unavailable or out of time, as long as the context allows; never after a refusal
// or a bad answer. Every signature is verified with the configured public key. Safe for concurrent use.
type Signer struct{ digestSigner }

var _ mar.Signer = (*Signer)(nil)

// Info implements mar.Signer.
func (s *Signer) Info() mar.SignerInfo {
	return mar.SignerInfo{Algorithm: s.key.Algorithm, PublicKey: s.key.PublicKey, SignatureSize: s.key.SignatureSize}
}

// ContentSigner signs with one key of a plugin by [ECDSAP384SHA384]: its Sign returns r and s, 48 bytes each. It repeats
// requests and verifies signatures as Signer does. Safe for concurrent use.
type ContentSigner struct{ digestSigner }

// digestSigner signs digests with one key of a plugin, whose public key is the configured one.
type digestSigner struct {
	c   *Client
	key Key
}

// Key returns what the plugin said about the key when the signer was made.
func (s *digestSigner) Key() Key { return s.key }

// Sign signs a digest of the key's algorithm.
func (s *digestSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return s.sign(ctx, digest, rand.Text())
}

func (s *digestSigner) sign(ctx context.Context, digest []byte, id string) ([]byte, error) {
	r := Request{KeyID: s.key.ID, Algorithm: s.key.Algorithm, Digest: digest, ID: id}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", s.key.ID, err)
	}
	var sig []byte
	err := plugins.Retry(ctx, func() error {
		var err error
		if sig, err = s.c.Sign(ctx, r); err == nil {
			err = verify(s.key.PublicKey, s.key.Algorithm, digest, sig)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", s.key.ID, err)
	}
	return sig, nil
}

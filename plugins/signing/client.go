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
		reply, err = w.Keys(ctx, &signingpb.KeysRequest{})
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

// Signer returns a signer for one key of the plugin. public is the key that the result must verify with, from
// the configuration and not from the plugin. It fails when the plugin has no such key, or names another public
// key for it.
func (c *Client) Signer(ctx context.Context, keyID string, public crypto.PublicKey) (*Signer, error) {
	pub, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key %q: the configured public key is %T, want RSA", keyID, public)
	}
	keys, err := c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.ID != keyID {
			continue
		}
		if !pub.Equal(k.PublicKey) {
			return nil, fmt.Errorf("key %q: the plugin has another public key than configured: %w", keyID, plugins.ErrAnswer)
		}
		return &Signer{c: c, key: k, public: pub}, nil
	}
	return nil, fmt.Errorf("key %q of plugin %s: %w", keyID, c.process.Name(), plugins.ErrNotFound)
}

// Signer signs with one key of a plugin and is a mar.Signer. A request is repeated up to three times where the
// plugin died, was throttled, unavailable or out of time, as long as the context allows; never after a refusal
// or a bad answer. Every signature is verified with the configured public key. Safe for concurrent use.
type Signer struct {
	c      *Client
	key    Key
	public *rsa.PublicKey
}

var _ mar.Signer = (*Signer)(nil)

// Key returns what the plugin said about the key when the Signer was made.
func (s *Signer) Key() Key { return s.key }

// Info implements mar.Signer.
func (s *Signer) Info() mar.SignerInfo {
	return mar.SignerInfo{Algorithm: s.key.Algorithm, PublicKey: s.public, SignatureSize: s.public.Size()}
}

// Sign implements mar.Signer.
func (s *Signer) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return s.sign(ctx, digest, rand.Text())
}

func (s *Signer) sign(ctx context.Context, digest []byte, id string) ([]byte, error) {
	r := Request{KeyID: s.key.ID, Algorithm: s.key.Algorithm, Digest: digest, ID: id}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", s.key.ID, err)
	}
	var sig []byte
	err := plugins.Retry(ctx, func() error {
		var err error
		if sig, err = s.c.Sign(ctx, r); err == nil {
			err = verify(s.public, s.key.Algorithm, digest, sig)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", s.key.ID, err)
	}
	return sig, nil
}

// Package signingtest is the conformance kit of signing plugins. It does not import testing: the same checks
// run in an author's test, against a backend in process, and in a tool, against any binary in any language.
//
//	func TestConformance(t *testing.T) { signingtest.Run(t, myBackend, nil) }
//
//	report := signingtest.CheckBinary(ctx, plugins.Config{Path: path, SHA256: sum}, nil)
//
// Sick wraps a backend so that it misbehaves in every way that a host must survive.
package signingtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/plugins/internal/signingpb"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// Options changes a check. The zero value is ready for use.
type Options struct {
	// Key is the only key to try; empty means every key, at most 5.
	Key string
	// PublicKey is what Key's signatures must verify with; nil means the key that the plugin names.
	PublicKey crypto.PublicKey
	// Concurrency is the number of signatures asked for at once; 0 means 8.
	Concurrency int
}

// maxTried is the number of keys that are tried when none is named.
const maxTried = 5

// Run checks a backend in this process and tells the test what is broken.
func Run(t conformance.TB, b signing.Backend, opts *Options) {
	t.Helper()
	c, err := signing.Local(b)
	if err != nil {
		t.Fatalf("serve backend: %v", err)
	}
	Check(t.Context(), c, opts).Apply(t)
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// signLimit is the longest time of a rule: a few signatures, one after the other.
const signLimit = 20 * time.Second

// CheckBinary checks a plugin's binary: first the process, then what Check checks. It takes some seconds, and of a plugin
// that hangs about half a minute. cfg.CallTimeout is 10 s where it is zero; raise it for keys that are slow.
func CheckBinary(ctx context.Context, cfg plugins.Config, opts *Options) *conformance.Report {
	r := &conformance.Report{Kind: "signing"}
	cfg = r.Patience(cfg)
	r.Process(ctx, cfg, signing.Kind())
	r.Limit = cmp.Or(r.Limit, signLimit)
	var c *signing.Client
	r.Try(ctx, "S1", "5.1", "it starts and says what it is", func(ctx context.Context) (err error) {
		if c, err = signing.Start(ctx, cfg); err != nil {
			r.Stop("the plugin did not start in S1")
		}
		return err
	})
	check(ctx, r, c, opts)
	if c != nil {
		begin := time.Now()
		err := c.Close()
		r.Record("S0", "2.5", "it ends when it is closed", err, time.Since(begin))
	}
	return r
}

// Check checks a plugin that runs.
func Check(ctx context.Context, c *signing.Client, opts *Options) *conformance.Report {
	r := &conformance.Report{Kind: "signing"}
	check(ctx, r, c, opts)
	return r
}

func check(ctx context.Context, r *conformance.Report, c *signing.Client, opts *Options) {
	if opts == nil {
		opts = &Options{}
	}
	r.Limit = cmp.Or(r.Limit, signLimit)
	r.Try(ctx, "S2", "5.1", "it has a name and a version", func(ctx context.Context) error {
		info, err := c.Info(ctx)
		if err == nil && (info.Name == "" || info.Version == "") {
			err = fmt.Errorf("name %q, version %q", info.Name, info.Version)
		}
		return err
	})
	var keys []signing.Key
	r.Try(ctx, "S3", "5.2", "it lists its keys, all well formed, and the same ones each time", func(ctx context.Context) error {
		var err error
		if keys, err = c.Keys(ctx); err != nil {
			return err
		}
		if len(keys) == 0 {
			return errors.New("it has no keys")
		}
		again, err := c.Keys(ctx)
		if err != nil {
			return err
		}
		if len(again) != len(keys) {
			return fmt.Errorf("%d keys at first, then %d", len(keys), len(again))
		}
		for i, k := range keys {
			if again[i].ID != k.ID || !k.PublicKey.(interface{ Equal(x crypto.PublicKey) bool }).Equal(again[i].PublicKey) {
				return fmt.Errorf("key %d is %q at first, then %q, or has another public key", i, k.ID, again[i].ID)
			}
		}
		return nil
	})
	r.Try(ctx, "S14", "5.2", "a host that knows no further algorithms is shown no keys of these", func(ctx context.Context) error {
		conn, err := c.Process().Dispense(ctx)
		if err != nil {
			return err
		}
		reply, err := signingpb.NewSigningClient(conn).Keys(ctx, &signingpb.KeysRequest{})
		if err != nil {
			return err
		}
		for _, k := range reply.GetKeys() {
			if a := mar.Algorithm(k.GetAlgorithm()); a.Hash() == 0 { // which refuses the whole list
				return fmt.Errorf("key %s has algorithm %d", k.GetId(), a)
			}
		}
		return nil
	})
	tried := keys[:min(len(keys), maxTried)]
	if opts.Key != "" {
		tried = nil
		r.Try(ctx, "S4", "5.2", "it has the key that was asked for", func(context.Context) error {
			for _, k := range keys {
				if k.ID == opts.Key {
					tried = []signing.Key{k}
					return nil
				}
			}
			return fmt.Errorf("no key %q", opts.Key)
		})
	}
	r.Try(ctx, "S10", "5.3", "a key that is not there: NOT_FOUND", func(ctx context.Context) error {
		digest := make([]byte, 48)
		for _, id := range []string{"no such key " + rand.Text(), "../../etc/passwd", strings.Repeat("k", 200)} {
			_, err := c.Sign(ctx, signing.Request{KeyID: id, Algorithm: mar.RSAPKCS1SHA384, Digest: digest, ID: rand.Text()})
			if !errors.Is(err, plugins.ErrNotFound) {
				return fmt.Errorf("key %.30q: got %w", id, or(err))
			}
		}
		return nil
	})
	r.Try(ctx, "S11", "5.3", "a request that makes no sense is refused and costs nothing else", func(ctx context.Context) error {
		for _, q := range []signing.Request{
			{},
			{KeyID: strings.Repeat("k", 1<<20), Algorithm: mar.RSAPKCS1SHA384, Digest: make([]byte, 48)},
			{KeyID: "k", Algorithm: mar.RSAPKCS1SHA384, Digest: make([]byte, 3<<20)},
			{KeyID: "k", Algorithm: 4711, Digest: make([]byte, 48)},
		} {
			if _, err := c.Sign(ctx, q); err == nil || errors.Is(err, plugins.ErrStopped) || errors.Is(err, plugins.ErrTimeout) {
				return fmt.Errorf("got %w", or(err))
			}
		}
		_, err := c.Keys(ctx)
		return err
	})
	if len(tried) == 0 {
		r.Stop("the plugin shows no key to try")
		tried = []signing.Key{{ID: "(none)"}}
	}
	for _, k := range tried {
		checkKey(ctx, r, c, k, opts)
	}
}

// checkKey tries the rules for one key.
func checkKey(ctx context.Context, r *conformance.Report, c *signing.Client, k signing.Key, opts *Options) {
	public := k.PublicKey
	if opts.PublicKey != nil {
		public = opts.PublicKey
	}
	name := fmt.Sprintf("key %s: ", k.ID)
	request := func() signing.Request {
		digest := make([]byte, digestSize(k.Algorithm))
		_, _ = rand.Read(digest) // never fails
		return signing.Request{KeyID: k.ID, Algorithm: k.Algorithm, Digest: digest, ID: rand.Text()}
	}
	now := time.Now()
	if !k.ValidAt(now) {
		r.Try(ctx, "S5", "5.2", name+"signs", func(context.Context) error {
			return conformance.Skip("the key is not valid now")
		})
		return
	}
	r.Try(ctx, "S5", "5.3", name+"its signatures have the declared size and verify", func(ctx context.Context) error {
		s, err := signerOf(ctx, c, k, public)
		if err != nil {
			return err
		}
		for range 3 {
			if _, err := s.Sign(ctx, request().Digest); err != nil {
				return err
			}
		}
		return nil
	})
	r.Try(ctx, "S6", "5.3", name+"the same digest gives the same signature", func(ctx context.Context) error {
		if k.Algorithm == signing.ECDSAP384SHA384 {
			return conformance.Skip("signatures of ECDSA may be others each time")
		}
		q := request()
		first, err := c.Sign(ctx, q)
		if err != nil {
			return err
		}
		second, err := c.Sign(ctx, q)
		if err == nil && !bytes.Equal(first, second) {
			err = errors.New("two different signatures: a repeated request must be answered alike")
		}
		return err
	})
	r.Try(ctx, "S7", "5.3", name+"a digest of the wrong length: INVALID", func(ctx context.Context) error {
		for _, n := range []int{0, 1, 19, 21, 32, 47, 49, 64} {
			q := request()
			q.Digest = make([]byte, n)
			if _, err := c.Sign(ctx, q); !errors.Is(err, plugins.ErrInvalid) {
				return fmt.Errorf("%d bytes: got %w", n, or(err))
			}
		}
		return nil
	})
	r.Try(ctx, "S8", "5.3", name+"another algorithm than the key's: UNSUPPORTED", func(ctx context.Context) error {
		q := request()
		q.Algorithm = mar.RSAPKCS1SHA384
		if k.Algorithm == q.Algorithm {
			q.Algorithm = mar.RSAPKCS1SHA1
		}
		q.Digest = make([]byte, digestSize(q.Algorithm))
		if _, err := c.Sign(ctx, q); !errors.Is(err, plugins.ErrUnsupported) {
			return fmt.Errorf("got %w", or(err))
		}
		return nil
	})
	r.Try(ctx, "S9", "5.3", name+"many signatures at once, each for its own digest", func(ctx context.Context) error {
		s, err := signerOf(ctx, c, k, public)
		if err != nil {
			return err
		}
		n := opts.Concurrency
		if n == 0 {
			n = 8
		}
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.Sign(ctx, request().Digest) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	r.Try(ctx, "S12", "4", name+"a call that is given up does not disturb the next", func(ctx context.Context) error {
		given, cancel := context.WithCancel(ctx)
		go cancel()
		_, _ = c.Sign(given, request()) // may or may not have been quicker
		s, err := signerOf(ctx, c, k, public)
		if err != nil {
			return err
		}
		_, err = s.Sign(ctx, request().Digest)
		return err
	})
	r.Try(ctx, "S13", "2.5", name+"killed with kill -9, it starts again and signs as before", func(ctx context.Context) error {
		s, err := signerOf(ctx, c, k, public)
		if err != nil {
			return err
		}
		digest := request().Digest
		before, err := s.Sign(ctx, digest)
		if err != nil {
			return err
		}
		if err := conformance.Kill(c.Process()); err != nil {
			return err
		}
		after, err := s.Sign(ctx, digest)
		if err == nil && k.Algorithm != signing.ECDSAP384SHA384 && !bytes.Equal(before, after) {
			err = errors.New("the signatures before and after differ")
		}
		return err
	})
}

func digestSize(a mar.Algorithm) int {
	if a == signing.ECDSAP384SHA384 {
		return crypto.SHA384.Size()
	}
	return a.Hash().Size()
}

// digestSigner is a signer of a plugin, of archives or of answers.
type digestSigner interface {
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

func signerOf(ctx context.Context, c *signing.Client, k signing.Key, public crypto.PublicKey) (digestSigner, error) {
	if k.Algorithm == signing.ECDSAP384SHA384 {
		return c.ContentSigner(ctx, k.ID, public)
	}
	return c.Signer(ctx, k.ID, public)
}

// or stands for "no error" where there had to be one.
func or(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

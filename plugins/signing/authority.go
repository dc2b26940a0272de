package signing

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
)

// KeyRef is one key as an Authority is configured with it.
type KeyRef struct {
	// Name is what Policy and Journal call the key; empty means ID.
	Name string
	// Client is the plugin that has the key, ID what the plugin calls it.
	Client *Client
	ID     string
	// PublicKey is what signatures must verify with.
	PublicKey crypto.PublicKey
	// NotBefore and NotAfter say when the key is used: from NotBefore to just before NotAfter. Zero means no
	// limit. What the plugin says about the key's validity holds as well.
	NotBefore, NotAfter time.Time
}

// Place is one signature of an archive: a list of keys that take over from each other. Of those that are valid
// at the time of signing, the one with the latest NotBefore is used, and of equals the first.
type Place []KeyRef

// AuthorityOptions changes an Authority. The zero value is ready for use.
type AuthorityOptions struct {
	// Journal records what is signed; nil records nothing.
	Journal Journal
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authority signs archives with everything around it: policy, quorum, rotation, verification, journal. Each
// Place makes one signature, and all of them must succeed. Safe for concurrent use.
type Authority struct {
	places  [][]placed
	policy  Policy
	journal Journal
	now     func() time.Time
}

// placed is a KeyRef that has been looked up.
type placed struct {
	KeyRef
	signer      *Signer
	fingerprint string
}

// NewAuthority looks up the keys of all places in their plugins, and fails when one is missing, or has another
// public key than configured. Mozilla's updater accepts exactly one signature; an archive can have eight.
func NewAuthority(ctx context.Context, places []Place, policy Policy, opts *AuthorityOptions) (*Authority, error) {
	if opts == nil {
		opts = &AuthorityOptions{}
	}
	a := &Authority{policy: policy, journal: opts.Journal, now: opts.Now}
	if a.now == nil {
		a.now = time.Now
	}
	if err := policy.check(); err != nil {
		return nil, err
	}
	if len(places) == 0 || len(places) > mar.MaxSignatures {
		return nil, fmt.Errorf("signing authority: %d places, possible are 1 to %d", len(places), mar.MaxSignatures)
	}
	for i, place := range places {
		if len(place) == 0 {
			return nil, fmt.Errorf("signing authority: place %d has no keys", i+1)
		}
		var keys []placed
		for _, ref := range place {
			if ref.Name == "" {
				ref.Name = ref.ID
			}
			if ref.Client == nil {
				return nil, fmt.Errorf("signing authority: key %q has no plugin", ref.Name)
			}
			signer, err := ref.Client.Signer(ctx, ref.ID, ref.PublicKey)
			if err != nil {
				return nil, fmt.Errorf("signing authority: %w", err)
			}
			fingerprint, err := mar.Fingerprint(ref.PublicKey)
			if err != nil {
				return nil, fmt.Errorf("signing authority: key %q: %w", ref.Name, err)
			}
			keys = append(keys, placed{KeyRef: ref, signer: signer, fingerprint: fingerprint})
		}
		a.places = append(a.places, keys)
	}
	return a, nil
}

// Signers returns the signers for an archive with this product information (nil if it has none), one per
// place. It refuses with ErrPolicy when a key may not sign it or none is valid now, and records that.
func (a *Authority) Signers(ctx context.Context, product *mar.Product) ([]mar.Signer, error) {
	var out []mar.Signer
	for _, p := range a.Places() {
		s, err := p.ForProduct(ctx, product)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Places returns the signers of all places, in order, before it is known what they sign: see [PlaceSigner].
func (a *Authority) Places() []*PlaceSigner {
	out := make([]*PlaceSigner, len(a.places))
	for i := range a.places {
		out[i] = &PlaceSigner{a: a, place: i}
	}
	return out
}

// choose returns the key of a place that is to be used now.
func (a *Authority) choose(place int) (*placed, error) {
	now := a.now()
	var best *placed
	for i := range a.places[place] {
		k := &a.places[place][i]
		window := Key{NotBefore: k.NotBefore, NotAfter: k.NotAfter}
		if !window.ValidAt(now) || !k.signer.key.ValidAt(now) {
			continue
		}
		if best == nil || k.from().After(best.from()) {
			best = k
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: no key of place %d is valid at %s", ErrPolicy, place+1, now.UTC().Format(time.RFC3339))
	}
	return best, nil
}

// from returns when the key's validity begins.
func (p *placed) from() time.Time {
	if told := p.signer.key.NotBefore; told.After(p.NotBefore) {
		return told
	}
	return p.NotBefore
}

// WriteSigned writes an archive with the signatures of all places and returns the number of bytes written. No
// byte is written before all signatures are there and verified; what was written before an error is useless.
func (a *Authority) WriteSigned(ctx context.Context, w io.Writer, archive *mar.Archive) (int64, error) {
	signers, err := a.Signers(ctx, archive.Product)
	if err != nil {
		return 0, err
	}
	return archive.WriteSigned(ctx, w, signers...)
}

// A PlaceSigner makes the signature of one place. It signs nothing before [PlaceSigner.ForProduct] was told what. Safe
// for concurrent use.
type PlaceSigner struct {
	a     *Authority
	place int
	// what ForProduct chose: one key, allowed to sign one archive
	key     *placed
	product *mar.Product
}

// Info describes the key that was chosen, or the one that would be now. Where none is valid it is the first.
func (s *PlaceSigner) Info() mar.SignerInfo {
	key := s.key
	if key == nil {
		var err error
		if key, err = s.a.choose(s.place); err != nil {
			key = &s.a.places[s.place][0]
		}
	}
	return key.signer.Info()
}

// Keys describes all keys of the place, in their order. Each of them may come to sign.
func (s *PlaceSigner) Keys() []mar.SignerInfo {
	out := make([]mar.SignerInfo, len(s.a.places[s.place]))
	for i := range out {
		out[i] = s.a.places[s.place][i].signer.Info()
	}
	return out
}

// ForProduct returns the signer for one archive with this product information (nil if it has none): the key that is
// valid now. It refuses with ErrPolicy when that may not sign it or none is valid, and records that.
func (s *PlaceSigner) ForProduct(ctx context.Context, product *mar.Product) (mar.Signer, error) {
	key, err := s.a.choose(s.place)
	if err != nil {
		return nil, err
	}
	err = s.a.policy.Allow(key.Name, product)
	if told := key.signer.key.Channels; err == nil && len(told) > 0 && product != nil && !matchAny(told, product.Channel) {
		err = fmt.Errorf("%w: by what the plugin says, key %q is not for channel %q", ErrPolicy, key.Name, product.Channel)
	}
	chosen := &PlaceSigner{a: s.a, place: s.place, key: key, product: product}
	if err != nil {
		return nil, errors.Join(err, chosen.record(ctx, Refused, rand.Text(), nil, nil, err))
	}
	return chosen, nil
}

// Sign implements mar.Signer, with policy and journal. It refuses with ErrPolicy what ForProduct was not told about.
func (s *PlaceSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	if s.key == nil {
		return nil, fmt.Errorf("%w: it is not known what is to be signed", ErrPolicy)
	}
	id := rand.Text()
	if err := s.record(ctx, Asked, id, digest, nil, nil); err != nil {
		return nil, err
	}
	sig, err := s.key.signer.sign(ctx, digest, id)
	outcome := Signed
	if err != nil {
		outcome, sig = Failed, nil
	}
	// The record is written even where ctx is over: it says what has happened.
	if jerr := s.record(context.WithoutCancel(ctx), outcome, id, digest, sig, err); jerr != nil {
		return nil, errors.Join(err, jerr)
	}
	return sig, err
}

func (s *PlaceSigner) record(ctx context.Context, o Outcome, id string, digest, sig []byte, cause error) error {
	if s.a.journal == nil {
		return nil
	}
	r := Record{
		Time: s.a.now().UTC(), Request: id, Outcome: o,
		Plugin: s.key.Client.process.Name(), Key: s.key.Name, KeyID: s.key.ID, Fingerprint: s.key.fingerprint,
		Algorithm: s.key.signer.key.Algorithm.String(), Digest: hex.EncodeToString(digest),
	}
	if s.product != nil {
		r.Channel, r.Version = s.product.Channel, s.product.Version
	}
	if sig != nil {
		sum := sha256.Sum256(sig)
		r.Signature = hex.EncodeToString(sum[:])
	}
	if cause != nil {
		r.Error = cause.Error()
	}
	if err := s.a.journal.Record(ctx, r); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

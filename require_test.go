package senbonzakura

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"github.com/senbonzakura/senbonzakura/mar"
)

func TestRequirements(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t)
	good := Request{From: o.source("a", release(t, "Firefox", "140.1", "de")), To: o.source("b", release(t, "Firefox", "140.2", "de"))}
	for _, tt := range []struct {
		name    string
		require []Requirement
		change  func(*Request)
		want    Requirement // that does not hold; "" if it is signed
		field   string
	}{
		{"by default", nil, func(*Request) {}, "", ""},
		{"no proof", nil, func(r *Request) { r.Skip = []Check{CheckVerify} }, RequireProof, "Skip"},
		{"no comparison of products", nil, func(r *Request) { r.Skip = []Check{CheckProduct} }, RequireProduct, "Skip"},
		{"version beyond TO's", nil, func(r *Request) { r.ProductVersion = "140.3" }, RequireProduct, "ProductVersion"},
		{"no version", nil, func(r *Request) { r.ProductVersion = "test" }, RequireProduct, "ProductVersion"}, // which is less than any
		{"channel of nobody", nil, func(r *Request) { r.Channel = "release" }, RequireChannel, "Channel"},
		{"channels not compared", nil, func(r *Request) { r.Channels, r.Skip = []string{"release"}, []Check{CheckChannels} }, RequireChannel, "Skip"},
		{"channels compared", nil, func(r *Request) { r.Channels = []string{"test"} }, "", ""},
		{"downgrade not required", nil, func(r *Request) { r.Skip = []Check{CheckDowngrade} }, "", ""},
		{"downgrade required", []Requirement{"downgrade"}, func(r *Request) { r.Skip = []Check{CheckDowngrade} }, "downgrade", "Skip"},
		{"signatures required, no keys", []Requirement{"signatures"}, func(*Request) {}, "signatures", ""},
		{"nothing required", []Requirement{}, func(r *Request) { r.Skip, r.ProductVersion = []Check{CheckVerify}, "999" }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good
			tt.change(&r)
			asked := &countingSigner{Signer: signer}
			g := newGenerator(t, "", func(o *Options) { o.Signers, o.Require = []mar.Signer{asked}, tt.require })
			res, err := g.Generate(t.Context(), r, nil)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer res.Close()
				if want := g.opts.Require; !slices.Equal(res.Provenance.Required, want) || len(res.Provenance.Output.SignedBy) != 1 {
					t.Errorf("provenance says that %q held, want %q", res.Provenance.Required, want)
				}
				return
			}
			var e *RequirementError
			if !errors.As(err, &e) || !errors.Is(err, ErrRequirement) || e.Requirement != tt.want || e.Field != tt.field {
				t.Errorf("got %v, want that %q does not hold because of %q", err, tt.want, tt.field)
			}
			if asked.n != 0 {
				t.Errorf("the signer was asked %d times", asked.n)
			}
			unsigned := newGenerator(t, "", func(o *Options) { o.Require = tt.require })
			if res, err := unsigned.Generate(t.Context(), r, nil); err != nil {
				t.Errorf("without a signer: %v", err)
			} else {
				res.Close()
			}
		})
	}
	if _, err := New(Options{Require: []Requirement{"luck"}}); err == nil {
		t.Error("an unknown requirement was taken")
	}
	// What is required is part of the name, where there are signers.
	name := func(signers []mar.Signer, require ...Requirement) string {
		order, err := newGenerator(t, "", func(o *Options) { o.Signers, o.Require = signers, require }).Order(good)
		if err != nil {
			t.Fatal(err)
		}
		return order.Key().String()
	}
	if name([]mar.Signer{signer}, RequireProof) == name([]mar.Signer{signer}, RequireProof, RequireChannel) {
		t.Error("two updates of which other things are required have one name")
	}
	if name(nil, RequireProof) != name(nil, RequireProof, RequireChannel) {
		t.Error("the name of an unsigned update depends on what is required before signing")
	}
}

// countingSigner counts what is signed.
type countingSigner struct {
	mar.Signer
	n int
}

func (c *countingSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	c.n++
	return c.Signer.Sign(ctx, digest)
}

package senbonzakura

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/partial/updater"
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
		{"platform, which nobody shows", []Requirement{RequirePlatform}, func(r *Request) { r.Platform = "linux" }, RequirePlatform, "Platform"},
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
	// What executables show needs no claim, and a claim that contradicts it is refused: other rules would hold then.
	executables := func(name, version string) Source {
		archive, _, err := partial.Pack(t.Context(), fstest.MapFS{
			"application.ini":     {Data: []byte("[App]\nName=Firefox\nVersion=" + version + "\n")},
			"firefox":             {Data: []byte("\x7fELF" + strings.Repeat(version, 100)), Mode: 0o755},
			"update-settings.ini": {Data: []byte("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=test\n")},
		}, partial.PackOptions{Arch: "x86_64", Product: &mar.Product{Channel: "test", Version: version}})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := archive.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return o.source(name, b.Bytes())
	}
	shown := Request{From: executables("x", "140.1"), To: executables("y", "140.2")}
	for platform, good := range map[string]bool{"": true, "linux64": true, "Linux_x86_64-gcc3": true, "win64": false, "macos": false} {
		shown.Platform = platform
		g := newGenerator(t, "", func(o *Options) { o.Signers, o.Require = []mar.Signer{signer}, []Requirement{RequirePlatform} })
		res, err := g.Generate(t.Context(), shown, nil)
		var wrong *RequestError
		switch {
		case good && err != nil, !good && (!errors.As(err, &wrong) || wrong.Field != "Platform"):
			t.Errorf("platform %q: %v", platform, err)
		case good:
			if f := res.Report.Client.Platform; f.Value != "linux" || f.Source != "complete" {
				t.Errorf("platform %q: the client's is %+v", platform, f)
			}
			res.Close()
		}
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

// Options that contradict themselves are refused by New, not by the first job.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{
		"nil signer": {Signers: []mar.Signer{nil}}, "workers": {Workers: -1}, "memory": {MaxMemory: -1}, "signers": {Signers: make([]mar.Signer, mar.MaxSignatures+1)},
		"no key": {ClientKeys: []crypto.PublicKey{nil}}, "text for a key": {ClientKeys: []crypto.PublicKey{"RSA"}}, "limit": {Limits: updater.Limits{Member: -1}}, "ratio": {Limits: updater.Limits{Ratio: -1}},
	} {
		if g, err := New(opts); err == nil {
			t.Errorf("%s: taken", name)
			g.Close()
		}
	}
}

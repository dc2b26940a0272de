package senbonzakura

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
	"github.com/senbonzakura/senbonzakura/toolchain"
)

// release makes the complete update of a small product. Versions differ in a large file; salt makes a locale.
func release(t *testing.T, product, version, salt string) []byte {
	t.Helper()
	large := bytes.Repeat([]byte("the same in every version and hard to say in fewer words\n"), 2000)
	copy(large[len(large)/2:], "but for this: version "+version)
	for i := range 40000 { // not compressible, so that a patch is smaller than the whole
		large = append(large, byte(i*i>>3^i>>5))
	}
	tree := fstest.MapFS{
		"application.ini": {Data: []byte("[App]\nName=" + product + "\nVersion=" + version + "\nBuildID=20260101000000\n")},
		"libxul.so":       {Data: large, Mode: 0o755},
		"locale.txt":      {Data: []byte("locale " + salt + " of " + version)},
		"only-" + version: {Data: []byte("x")},
		"update-settings.ini": {
			Data: []byte("[Settings]\nACCEPTED_MAR_CHANNEL_IDS=test\n"),
		},
	}
	archive, _, err := partial.Pack(t.Context(), tree, partial.PackOptions{
		Arch: "x86_64", Product: &mar.Product{Channel: "test", Version: version},
		Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := archive.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// origin serves files by name and counts requests.
type origin struct {
	*httptest.Server
	requests atomic.Int64
	files    sync.Map
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		data, ok := o.files.Load(strings.TrimPrefix(r.URL.Path, "/"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data.([]byte))
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) source(name string, data []byte) Source {
	o.files.Store(name, data)
	sum := sha512.Sum512(data)
	return Source{
		URLs:   []string{o.URL + "/" + name},
		Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: sum[:]}},
		Size:   int64(len(data)),
	}
}

// newGenerator makes a generator over a disk cache in dir ("" for none) that may fetch from this machine.
func newGenerator(t *testing.T, dir string, change ...func(*Options)) *Generator {
	t.Helper()
	client, err := fetch.New(&fetch.Options{
		Insecure: true, Attempts: 2, Backoff: 1,
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Fetch: client}
	if dir != "" {
		disk, err := cache.OpenDisk(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Cache = cache.NewLayered([]cache.Store{disk}, nil)
		t.Cleanup(func() { o.Cache.Close(); disk.Close() })
	}
	for _, c := range change {
		c(&o)
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// content reads a result and proves that it turns from into to.
func content(t *testing.T, res *Result, from, to []byte) []byte {
	t.Helper()
	entry := res.Open()
	defer entry.Close()
	data, err := io.ReadAll(entry.Reader())
	if err != nil {
		t.Fatal(err)
	}
	if sha512.Sum512(data) != res.SHA512 || int64(len(data)) != res.Size {
		t.Error("the result's size and SHA-512 are not those of its bytes")
	}
	readers := make([]*mar.Reader, 3)
	for i, b := range [][]byte{from, data, to} {
		if readers[i], err = mar.NewReader(bytes.NewReader(b), int64(len(b)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := partial.Verify(t.Context(), readers[0], readers[1], readers[2], nil); err != nil {
		t.Error(err)
	}
	return data
}

func TestGenerate(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	request := Request{From: o.source("from.mar", from), To: o.source("to.mar", to), Labels: map[string]string{"update_number": "1"}}
	dir := filepath.Join(t.TempDir(), "cache")
	g := newGenerator(t, dir)

	seen := map[Step]bool{}
	res, err := g.Generate(t.Context(), request, func(e Event) { seen[e.Step] = true })
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	first := content(t, res, from, to)
	if res.Cached || res.Size >= int64(len(to)) {
		t.Errorf("cached %v, %d bytes for a complete of %d", res.Cached, res.Size, len(to))
	}
	for _, step := range []Step{StepFetching, StepUnpacking, StepDiffing, StepStoring} {
		if !seen[step] {
			t.Errorf("no progress event of step %s", step)
		}
	}
	p := res.Provenance
	if p.From.Build.Version != "140.1" || p.To.Build.Version != "140.2" || !slices.Contains(p.Checked, CheckVerify) ||
		p.Recipe == "" || !p.Report.Verified || len(p.Report.Files) == 0 {
		t.Errorf("provenance %+v is not that of this update", p)
	}
	s := p.Submission()
	if s.Channel != "test" || s.Version != "140.2" || s.AppName != "Firefox" || s.FromBuildID != "20260101000000" ||
		s.Hash != fmt.Sprintf("%x", sha512.Sum512(first)) || s.UpdateNumber != "1" || s.FromSize != int64(len(from)) {
		t.Errorf("submission %+v does not describe this update", s)
	}
	order, err := g.Order(request)
	if err != nil || order.Key() != res.Key {
		t.Errorf("Order gave %v, %v, want the key of the result, %v", order, err, res.Key)
	}

	// The same again, also by another generator on the same cache: nothing is fetched, the same bytes come back.
	before := o.requests.Load()
	for _, again := range []*Generator{g, newGenerator(t, dir)} {
		res, err := again.Generate(t.Context(), request, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, res, from, to), first) || !res.Cached || res.Provenance.Report == nil {
			t.Error("the second answer is not the first one from the cache")
		}
		res.Close()
	}
	if got := o.requests.Load(); got != before {
		t.Errorf("%d requests for what is in the cache", got-before)
	}
}

func TestGenerateWithoutCache(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Fork", "1", "de"), release(t, "Fork", "2", "de")
	g := newGenerator(t, "")
	res, err := g.Generate(t.Context(), Request{From: o.source("a", from), To: o.source("b", to)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	content(t, res, from, to)
}

func TestGenerateFromFiles(t *testing.T) {
	dir := t.TempDir()
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	for name, data := range map[string][]byte{"from.mar": from, "to.mar": to} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := newGenerator(t, filepath.Join(dir, "cache"))
	request := Request{From: Source{File: filepath.Join(dir, "from.mar")}, To: Source{File: filepath.Join(dir, "to.mar")}}
	if _, err := g.Order(request); !errors.Is(err, ErrRequest) {
		t.Errorf("order of files without hashes: %v, want ErrRequest", err)
	}
	res, err := g.Generate(t.Context(), request, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	content(t, res, from, to)
}

func TestGenerateOnce(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	request := Request{From: o.source("from.mar", from), To: o.source("to.mar", to)}
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	const callers = 1000
	var wg sync.WaitGroup
	var served atomic.Int64
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%10 == 0 {
				cancel() // one in ten has left already
			}
			res, err := g.Generate(ctx, request, nil)
			switch {
			case err == nil:
				served.Add(1)
				res.Close()
			case i%10 != 0:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := o.requests.Load(); got != 2 {
		t.Errorf("%d requests to the origin for %d callers, want 2", got, callers)
	}
	if served.Load() < callers*9/10 {
		t.Errorf("%d of %d callers were served", served.Load(), callers)
	}
}

func TestChecks(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(data []byte) []byte {
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := r.WriteSigned(t.Context(), &out, signer); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	a, b := o.source("from.mar", from), o.source("to.mar", to)
	signedA, signedB := o.source("signed-from.mar", signed(from)), o.source("signed-to.mar", signed(to))
	keys := []crypto.PublicKey{&key.PublicKey}
	other := o.source("other.mar", release(t, "Thunderbird", "140.2", "de"))
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))

	tests := []struct {
		name    string
		request Request
		check   Check // must fail, and pass when it is skipped
		want    error
	}{
		{"unsigned", Request{From: a, To: b, Keys: keys}, CheckSignatures, mar.ErrSignature},
		{"half signed", Request{From: signedA, To: b, Keys: keys}, CheckSignatures, mar.ErrUnsigned},
		{"channel", Request{From: a, To: b, Channels: []string{"release"}}, CheckChannels, ErrCheck},
		{"product", Request{From: a, To: other}, CheckProduct, toolchain.ErrProduct},
		{"downgrade", Request{From: b, To: a}, CheckDowngrade, toolchain.ErrDowngrade},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := g.Generate(t.Context(), tt.request, nil)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			var failed *CheckError
			if !errors.As(err, &failed) || failed.Check != tt.check || !errors.Is(err, ErrCheck) {
				t.Errorf("got %v, want a CheckError that names %s", err, tt.check)
			}
			tt.request.Skip = []Check{tt.check}
			res, err := g.Generate(t.Context(), tt.request, nil)
			if err != nil {
				t.Fatalf("with the check skipped: %v", err)
			}
			defer res.Close()
			if !slices.Equal(res.Provenance.Skipped, tt.request.Skip) || slices.Contains(res.Provenance.Checked, tt.check) {
				t.Errorf("provenance: checked %v, skipped %v: the skipped check must show", res.Provenance.Checked, res.Provenance.Skipped)
			}
		})
	}
	res, err := g.Generate(t.Context(), Request{From: signedA, To: signedB, Keys: keys, Channels: []string{"test", "other"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if res.Provenance.From.SignedBy == "" || !slices.Contains(res.Provenance.Checked, CheckSignatures) {
		t.Errorf("provenance %+v does not say by whom FROM is signed", res.Provenance.From)
	}
}

func TestGenerateSigned(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"), func(o *Options) { o.Signers = []mar.Signer{signer} })
	res, err := g.Generate(t.Context(), Request{From: o.source("a", from), To: o.source("b", to)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	content(t, res, from, to)
	entry := res.Open()
	defer entry.Close()
	r, err := mar.NewReader(entry, entry.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), &key.PublicKey); err != nil {
		t.Error(err)
	}
}

// channelSigner signs for one channel alone; other is a key that it must not come up with.
type channelSigner struct {
	mar.Signer
	channel string
	other   mar.Signer
}

var errChannel = errors.New("not for this channel")

func (c channelSigner) ForProduct(_ context.Context, product *mar.Product) (mar.Signer, error) {
	switch {
	case product == nil || product.Channel != c.channel:
		return nil, errChannel
	case c.other != nil:
		return c.other, nil
	}
	return c.Signer, nil
}

func TestSignerIsToldTheProduct(t *testing.T) {
	var signers [2]mar.Signer
	for i := range signers {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if signers[i], err = mar.CryptoSigner(key, mar.RSAPKCS1SHA384); err != nil {
			t.Fatal(err)
		}
	}
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	request := Request{From: o.source("a", from), To: o.source("b", to), Channel: "release"}
	generate := func(s channelSigner) (*Result, error) {
		g := newGenerator(t, filepath.Join(t.TempDir(), "cache"), func(o *Options) { o.Signers, o.Require = []mar.Signer{s}, []Requirement{} })
		return g.Generate(t.Context(), request, nil)
	}
	res, err := generate(channelSigner{signers[0], "release", nil})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Provenance.Output.SignedBy) != 1 {
		t.Errorf("signed by %v", res.Provenance.Output.SignedBy)
	}
	res.Close()
	if _, err := generate(channelSigner{signers[0], "nightly", nil}); !errors.Is(err, errChannel) {
		t.Errorf("for another channel: got %v, want errChannel", err)
	}
	if _, err := generate(channelSigner{signers[0], "release", signers[1]}); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("with another key than it said: got %v", err)
	}
}

// A rotatingSigner signs with one of its keys.
type rotatingSigner struct {
	keys []mar.Signer
	now  *int
}

func (r rotatingSigner) Info() mar.SignerInfo { return r.keys[*r.now].Info() }

func (r rotatingSigner) Sign(context.Context, []byte) ([]byte, error) { return nil, errChannel }

func (r rotatingSigner) ForProduct(context.Context, *mar.Product) (mar.Signer, error) {
	return r.keys[*r.now], nil
}

func (r rotatingSigner) Keys() (infos []mar.SignerInfo) {
	for _, k := range r.keys {
		infos = append(infos, k.Info())
	}
	return infos
}

// While both keys are configured, what either signed is handed out, and the provenance says who signed; when the list
// changes the update is made again.
func TestRotation(t *testing.T) {
	var keys [3]mar.Signer
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = mar.CryptoSigner(key, mar.RSAPKCS1SHA384); err != nil {
			t.Fatal(err)
		}
	}
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	dir := filepath.Join(t.TempDir(), "cache")
	signedBy := func(locale string, now int, list ...mar.Signer) mar.Signer {
		t.Helper()
		g := newGenerator(t, dir, func(o *Options) { o.Signers, o.Require = []mar.Signer{rotatingSigner{list, &now}}, []Requirement{} })
		defer g.Close()
		res, err := g.Generate(t.Context(), Request{From: o.source("a", from), To: o.source("b", to), Channel: "release", Locale: locale}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		for _, k := range keys {
			if slices.Equal(res.Provenance.Output.SignedBy, []string{fingerprint(k.Info().PublicKey)}) {
				return k
			}
		}
		t.Fatalf("signed by %v", res.Provenance.Output.SignedBy)
		return nil
	}
	for _, tt := range []struct {
		why    string
		locale string
		now    int
		list   []mar.Signer
		want   mar.Signer
	}{
		{"the first key", "de", 0, keys[:2], keys[0]},
		{"stored by a key that is still configured", "de", 1, keys[:2], keys[0]},
		{"another update, by the second", "fr", 1, keys[:2], keys[1]},
		{"the first key is no longer configured", "de", 0, keys[1:], keys[1]},
		{"nor the order", "de", 0, []mar.Signer{keys[2], keys[1]}, keys[2]},
	} {
		if got := signedBy(tt.locale, tt.now, tt.list...); got != tt.want {
			t.Errorf("%s: signed by another key", tt.why)
		}
	}
}

// brokenSigner promises a signature and gives a wrong one.
type brokenSigner struct{ mar.Signer }

func (b brokenSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	sig, err := b.Signer.Sign(ctx, digest)
	if err == nil {
		sig[0] ^= 1
	}
	return sig, err
}

func TestBadSignatureIsNeverStored(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := mar.CryptoSigner(key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t)
	request := Request{
		From: o.source("a", release(t, "Firefox", "140.1", "de")), To: o.source("b", release(t, "Firefox", "140.2", "de")),
	}
	var store *cache.Layered
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"), func(o *Options) {
		o.Signers, store = []mar.Signer{brokenSigner{signer}}, o.Cache
	})
	if _, err := g.Generate(t.Context(), request, nil); !errors.Is(err, mar.ErrSigner) {
		t.Fatalf("got %v, want mar.ErrSigner", err)
	}
	order, err := g.Order(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), order.Key()); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get of the update: %v, want a miss", err)
	}
}

func TestBadRequests(t *testing.T) {
	g := newGenerator(t, "")
	url := Source{URLs: []string{"https://example.org/a.mar"}}
	hashed := Source{URLs: url.URLs, Hashes: []fetch.Hash{{Algorithm: fetch.SHA512, Sum: make([]byte, 64)}}}
	for field, r := range map[string]Request{
		"From":           {To: hashed},
		"To.Hashes":      {From: hashed, To: url},
		"To":             {From: hashed, To: Source{URLs: url.URLs, File: "x"}},
		"Skip":           {From: hashed, To: hashed, Skip: []Check{"nosuch"}},
		"Channel":        {From: hashed, To: hashed, Channel: strings.Repeat("x", 64)},
		"ProductVersion": {From: hashed, To: hashed, ProductVersion: strings.Repeat("1", 32)},
	} {
		_, err := g.Generate(t.Context(), r, nil)
		var bad *RequestError
		if !errors.As(err, &bad) || bad.Field != field || !errors.Is(err, ErrRequest) {
			t.Errorf("%s: got %v, want a RequestError of that field", field, err)
		}
	}
}

func TestWrongHashIsNotUsed(t *testing.T) {
	o := newOrigin(t)
	request := Request{
		From: o.source("a", release(t, "Firefox", "140.1", "de")), To: o.source("b", release(t, "Firefox", "140.2", "de")),
	}
	o.files.Store("b", release(t, "Firefox", "140.3", "de"))
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	_, err := g.Generate(t.Context(), request, nil)
	var failed *fetch.Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want *fetch.Error", err)
	}
	var input *InputError
	if !errors.As(err, &input) || input.Input != "TO" || !strings.HasPrefix(err.Error(), "TO: fetch http") {
		t.Errorf("got %v, want the error to say that it is TO", err)
	}
}

// What a request says beside its recipe holds with a recipe, too, and is part of the update's name.
func TestRecipeOfRequest(t *testing.T) {
	o := newOrigin(t)
	from, to := o.source("from.mar", release(t, "Firefox", "140.1", "de")), o.source("to.mar", release(t, "Firefox", "140.2", "de"))
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	recipe := partial.DefaultRecipe()
	recipe.Force = []string{"libxul.so"}
	named := recipe
	named.Product = &mar.Product{Channel: "named", Version: "150"}
	keys := map[cache.Key]string{}
	for _, tt := range []struct {
		name    string
		request Request
		want    mar.Product
		whole   []string // what must be in the update whole
	}{
		{"recipe alone", Request{Recipe: &recipe}, mar.Product{Channel: "test", Version: "140.2"}, nil},
		{"channel", Request{Recipe: &recipe, Channel: "beta"}, mar.Product{Channel: "beta", Version: "140.2"}, nil},
		{"version", Request{Recipe: &recipe, ProductVersion: "141"}, mar.Product{Channel: "test", Version: "141"}, nil},
		{"product of the recipe", Request{Recipe: &named}, *named.Product, nil},
		{"and a version", Request{Recipe: &named, ProductVersion: "151"}, mar.Product{Channel: "named", Version: "151"}, nil},
		{"force", Request{Recipe: &recipe, Force: []string{"update-settings.ini"}}, mar.Product{Channel: "test", Version: "140.2"}, []string{"libxul.so", "update-settings.ini"}},
	} {
		tt.request.From, tt.request.To = from, to
		res, err := g.Generate(t.Context(), tt.request, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		defer res.Close()
		if other, ok := keys[res.Key]; ok {
			t.Errorf("%s: has the key of %s", tt.name, other)
		}
		keys[res.Key] = tt.name
		update := res.Open()
		defer update.Close()
		r, err := mar.NewReader(update, update.Size(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := r.Product(); got != tt.want {
			t.Errorf("%s: product block is %+v, want %+v", tt.name, got, tt.want)
		}
		if out := res.Provenance.Output; out.Channel != tt.want.Channel || out.Version != tt.want.Version {
			t.Errorf("%s: provenance says %q %q, want %+v", tt.name, out.Channel, out.Version, tt.want)
		}
		for _, name := range tt.whole {
			if r.Lookup(name) == nil {
				t.Errorf("%s: %s is not in the update", tt.name, name)
			}
		}
	}
	if recipe.Product != nil || len(recipe.Force) != 1 || named.Product.Version != "150" {
		t.Errorf("the caller's recipe was changed: %+v, %+v", recipe, named.Product)
	}
}

// An update that is there already is not the answer to a request that says something else about its inputs.
func TestMadeUpdateOfOtherInputs(t *testing.T) {
	o := newOrigin(t)
	request := Request{
		From: o.source("from.mar", release(t, "Firefox", "140.1", "de")), To: o.source("to.mar", release(t, "Firefox", "140.2", "de")),
	}
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	made, err := g.Generate(t.Context(), request, nil)
	if err != nil {
		t.Fatal(err)
	}
	made.Close()
	for _, tt := range []struct {
		name   string
		change func(from, to *Source)
		input  string
		want   any
	}{
		{"size of FROM", func(from, _ *Source) { from.Size = 5 }, "FROM", new(*fetch.SizeError)},
		{"size of TO", func(_, to *Source) { to.Size = 5 }, "TO", new(*fetch.SizeError)},
		{"a second SHA-512", func(_, to *Source) {
			to.Hashes = append(slices.Clone(to.Hashes), fetch.Hash{Algorithm: fetch.SHA512, Sum: make([]byte, 64)})
		}, "TO", new(*fetch.DigestError)},
	} {
		other := request
		tt.change(&other.From, &other.To)
		_, err := g.Generate(t.Context(), other, nil)
		var input *InputError
		if !errors.As(err, &input) || input.Input != tt.input || !errors.As(err, tt.want) {
			t.Errorf("%s: got %v, want a %T of %s", tt.name, err, tt.want, tt.input)
		}
	}
}

// Errors of local files say which of the two it is, too.
func TestMissingFile(t *testing.T) {
	g := newGenerator(t, "")
	to := filepath.Join(t.TempDir(), "to.mar")
	_, err := g.Generate(t.Context(), Request{From: Source{File: "generator_test.go"}, To: Source{File: to}}, nil)
	var input *InputError
	var path *fs.PathError
	if !errors.As(err, &input) || input.Input != "TO" || !errors.As(err, &path) || path.Path != to {
		t.Errorf("got %v, want an error about TO that names %s", err, to)
	}
}

// All hashes of a request are compared, also with completes that another request brought into the cache; the provenance
// has the SHA-512 in any case, and of the others what was asked for.
func TestHashesOfCachedCompletes(t *testing.T) {
	o := newOrigin(t)
	from, to := release(t, "Firefox", "140.1", "de"), release(t, "Firefox", "140.2", "de")
	sums := func(data []byte, algs ...fetch.Algorithm) []fetch.Hash {
		var hashes []fetch.Hash
		for _, alg := range algs {
			h := alg.New()
			h.Write(data)
			hashes = append(hashes, fetch.Hash{Algorithm: alg, Sum: h.Sum(nil)})
		}
		return hashes
	}
	good := Request{From: o.source("from.mar", from), To: o.source("to.mar", to)}
	for name, g := range map[string]*Generator{"disk": newGenerator(t, filepath.Join(t.TempDir(), "cache")), "nothing": newGenerator(t, "")} {
		for i, algs := range [][]fetch.Algorithm{
			{fetch.SHA512},
			{fetch.SHA512, fetch.SHA256},
			{fetch.SHA384, fetch.SHA512, fetch.SHA1},
			{fetch.SHA256},
			{fetch.SHA256, fetch.SHA1},
			{fetch.SHA1},
		} {
			r := good
			r.Labels = map[string]string{"branch": fmt.Sprint(i)} // another update of the same completes
			r.From.Hashes, r.To.Hashes = sums(from, algs...), sums(to, algs...)
			res, err := g.Generate(t.Context(), r, nil)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, algs, err)
			}
			p := res.Provenance
			res.Close()
			want256 := ""
			if slices.Contains(algs, fetch.SHA256) {
				want256 = fmt.Sprintf("%x", sums(to, fetch.SHA256)[0].Sum)
			}
			if p.To.SHA512 != fmt.Sprintf("%x", sha512.Sum512(to)) || p.To.SHA256 != want256 || p.From.SHA512 != fmt.Sprintf("%x", sha512.Sum512(from)) {
				t.Errorf("%s, %v: the provenance has SHA-512 %s and SHA-256 %s of TO", name, algs, p.To.SHA512, p.To.SHA256)
			}
			for wrong := range algs {
				r.Labels = map[string]string{"branch": fmt.Sprint(i, " with a wrong ", algs[wrong])}
				r.To.Hashes = sums(to, algs...)
				r.To.Hashes[wrong].Sum[3] ^= 1
				_, err := g.Generate(t.Context(), r, nil)
				var digest *fetch.DigestError
				if !errors.As(err, &digest) || digest.Algorithm != algs[wrong] {
					t.Errorf("%s, %v: with a wrong %s: %v", name, algs, algs[wrong], err)
				}
			}
		}
		r := good
		r.Labels = map[string]string{"branch": "unknown"}
		r.To.Hashes = append(sums(to, fetch.SHA512), fetch.Hash{Algorithm: "md5", Sum: make([]byte, 16)})
		if _, err := g.Generate(t.Context(), r, nil); err == nil {
			t.Errorf("%s: with an algorithm that is not known: no error", name)
		}
	}
}

func TestClosed(t *testing.T) {
	g := newGenerator(t, "")
	g.Close()
	if _, err := g.Generate(t.Context(), Request{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// An update of another locale takes the patch of the first one.
func TestPatchesServeAllLocales(t *testing.T) {
	o := newOrigin(t)
	g := newGenerator(t, filepath.Join(t.TempDir(), "cache"))
	for i, locale := range []string{"de", "fr", "sv"} {
		from, to := release(t, "Firefox", "140.1", locale), release(t, "Firefox", "140.2", locale)
		res, err := g.Generate(t.Context(), Request{From: o.source("a"+locale, from), To: o.source("b"+locale, to)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		content(t, res, from, to)
		if got := res.Report.Cache.Hits > 0; got != (i > 0) {
			t.Errorf("locale %d: %+v, want hits from the second locale on", i, res.Report.Cache)
		}
		res.Close()
	}
}

func TestRedacted(t *testing.T) {
	for raw, want := range map[string]string{
		"https://user:secret@host/a.mar?token=secret#secret": "https://host/a.mar",
		"/srv/a.mar":               "/srv/a.mar",
		"%zz?token=secret":         "%zz",
		"s3://bucket/key?x=secret": "s3://bucket/key",
	} {
		if got := redacted(raw); got != want {
			t.Errorf("redacted(%q) = %q, want %q", raw, got, want)
		}
	}
}

// A complete whose file in the cache is damaged between the comparison with its hash and its use is not blamed on who gave
// it: the error is the cache's, and the next try fetches it again.
func TestDamagedWhileUsed(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		dir := t.TempDir()
		o := newOrigin(t)
		g := newGenerator(t, dir)
		r := Request{From: o.source("from", release(t, "Firefox", "140.1", "x")), To: o.source("to", release(t, "Firefox", "140.2", "x"))}
		_, err := g.Generate(t.Context(), r, func(e Event) {
			if e.Step != StepUnpacking || e.From == nil {
				return
			}
			files, err := filepath.Glob(filepath.Join(dir, "*", string(cache.Completes), "*", "*"))
			if err != nil || len(files) != 2 {
				t.Errorf("%d completes in the cache, %v", len(files), err)
			}
			for _, name := range files {
				if err := spoil(name, cut); err != nil {
					t.Error(err)
				}
			}
		})
		var in *InputError
		if !errors.Is(err, cache.ErrCorrupt) || !errors.As(err, &in) {
			t.Errorf("cut %v: %v, want an error of an input that matches cache.ErrCorrupt", cut, err)
		}
		res, err := g.Generate(t.Context(), r, nil)
		if err != nil {
			t.Fatalf("cut %v, the next try: %v", cut, err)
		}
		res.Close()
		if n := o.requests.Load(); n != 4 {
			t.Errorf("cut %v: %d requests, want both completes twice", cut, n)
		}
	}
}

// spoil changes a file in place: its second half, or its length.
func spoil(name string, cut bool) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if cut {
		return f.Truncate(info.Size() / 3)
	}
	_, err = f.WriteAt(make([]byte, info.Size()/2), info.Size()/3)
	return err
}

// Which of several addresses gave a complete is known also after a restart, without its password.
func TestOriginIsRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := newOrigin(t)
	from := o.source("from", release(t, "Firefox", "140.1", "x"))
	good := from.URLs[0]
	from.URLs = []string{o.URL + "/nothing", strings.Replace(good, "http://", "http://user:secret@", 1)}
	for _, version := range []string{"140.2", "140.3"} {
		res, err := newGenerator(t, dir).Generate(t.Context(), Request{From: from, To: o.source(version, release(t, "Firefox", version, "x"))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Provenance.From.URL; got != good {
			t.Errorf("to %s: FROM came from %s, want %s", version, got, good)
		}
		res.Close()
	}
	if n := o.requests.Load(); n != 4 { // what is not there, FROM, two of TO
		t.Errorf("%d requests, want 4", n)
	}
	other := from
	other.URLs = []string{o.URL + "/nothing", o.URL + "/elsewhere"} // one who has other addresses learns nothing
	res, err := newGenerator(t, dir).Generate(t.Context(), Request{From: other, To: o.source("140.4", release(t, "Firefox", "140.4", "x"))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if got := res.Provenance.From.URL; got != other.URLs[0] {
		t.Errorf("FROM came from %s for one who does not know that address", got)
	}
}

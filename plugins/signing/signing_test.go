package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/conformance"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

// keyEnv makes the test binary a signing plugin; its value is the file with the key.
const keyEnv = "SENBON_TEST_KEY"

func TestMain(m *testing.M) {
	switch os.Getenv("SENBON_TEST_START") {
	case "fails":
		for i := range 20 {
			fmt.Fprintf(os.Stderr, "reason %d\n", i)
		}
		os.Exit(1)
	case "hangs":
		if os.Getenv(plugins.CookieVariable) != "" {
			fmt.Fprintln(os.Stderr, "looking for the token")
			testkit.Hang()
		}
	}
	if file := os.Getenv(keyEnv); file != "" {
		signing.Serve(func(context.Context) (signing.Backend, error) {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			key, err := rsaFromDER(b)
			if err != nil {
				return nil, err
			}
			ring, err := keyring(key)
			if err != nil || os.Getenv("SENBON_TEST_SICK") == "" {
				return ring, err
			}
			return signingtest.Sick(ring), nil
		})
	}
	goleak.VerifyTestMain(m)
}

func keyring(key *rsa.PrivateKey) (*signing.Keyring, error) {
	return signing.NewKeyring(signing.Info{Name: "test", Version: "1"},
		signing.HeldKey{Key: signing.Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384}, Signer: key})
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// local serves a keyring with the test key in this process.
func local(t *testing.T) *signing.Client {
	t.Helper()
	ring, err := keyring(testKey())
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, ring)
}

func serve(t *testing.T, b signing.Backend) *signing.Client {
	t.Helper()
	c, err := signing.Local(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// binary returns the configuration of a plugin process with the test key.
func binary(tb testing.TB, env ...string) plugins.Config {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := plugins.Sum(path)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "key")
	if err := os.WriteFile(file, derFromRSA(tb, testKey()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return plugins.Config{
		Path: path, SHA256: sum, Env: append(env, testkit.FastExit, keyEnv+"="+file), StartTimeout: 20 * time.Second,
		Restart: plugins.RestartPolicy{Max: 10000, MinPause: time.Millisecond, MaxPause: time.Millisecond},
	}
}

func archive() *mar.Archive {
	return &mar.Archive{
		Product: &mar.Product{Channel: "firefox-mozilla-release", Version: "150.0"},
		Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("type \"complete\"\n"))},
	}
}

func releasePolicy(t *testing.T) signing.Policy {
	t.Helper()
	p, err := signing.ParsePolicy([]byte(`{"rules": [{"key": "release", "channels": ["firefox-mozilla-release", "firefox-mozilla-beta*"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func authority(t *testing.T, c *signing.Client, opts *signing.AuthorityOptions) *signing.Authority {
	t.Helper()
	a, err := signing.NewAuthority(t.Context(), []signing.Place{{{Client: c, ID: "release", PublicKey: testKey().Public()}}}, releasePolicy(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func verified(t *testing.T, b []byte, keys ...crypto.PublicKey) {
	t.Helper()
	r, err := mar.NewReader(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), keys...); err != nil {
		t.Error(err)
	}
}

func TestConformanceInProcess(t *testing.T) {
	ring, err := keyring(testKey())
	if err != nil {
		t.Fatal(err)
	}
	signingtest.Run(t, ring, nil)
}

func TestConformanceOfBinary(t *testing.T) {
	t.Parallel()
	r := signingtest.CheckBinary(t.Context(), binary(t), &signingtest.Options{Key: "release", PublicKey: testKey().Public()})
	r.Apply(t)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	if want := 22; len(r.Results) < want {
		t.Errorf("got %d rules, want at least %d", len(r.Results), want)
	}
}

// TestKitStops has a plugin fail or hang: what is behind that is not tried, and the first lines of what it said are shown.
func TestKitStops(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, env, rule, detail, notTried string }{
		{"does not start", "SENBON_TEST_START=fails", "P2", "it said: reason 0 / reason 1", "did not start in P2"},
		{"hangs at the start", "SENBON_TEST_START=hangs", "P2", "it said: looking for the token", "did not start in P2"},
		{"hangs in a call", "SENBON_TEST_SICK=1", "S5", "did not answer in time", "did not answer in time in S5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := binary(t, tt.env)
			cfg.CallTimeout = 2 * time.Second
			if strings.Contains(tt.env, "hangs") {
				cfg.StartTimeout = 3 * time.Second
			}
			r := signingtest.CheckBinary(t.Context(), cfg, &signingtest.Options{Key: "release!" + string(signingtest.Hang)})
			seen, notTried := false, 0
			for _, res := range r.Results {
				switch {
				case res.Rule == tt.rule:
					seen = true
					if res.Status != conformance.Failed || !strings.Contains(res.Detail, tt.detail) {
						t.Errorf("%s: %s: %s", res.Rule, res.Status, res.Detail)
					}
				case res.Rule == "S0" || !seen:
					if res.Status == conformance.NotTried {
						t.Errorf("%s: %s: %s", res.Rule, res.Status, res.Detail)
					}
				default:
					notTried++
					if res.Status != conformance.NotTried || !strings.Contains(res.Detail, tt.notTried) {
						t.Errorf("%s: %s: %s", res.Rule, res.Status, res.Detail)
					}
				}
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), fmt.Sprintf(", %d not tried\n", notTried)) || notTried == 0 {
				t.Errorf("%v:\n%s", err, text.String())
			}
		})
	}
}

// TestKitFindsFaults makes sure that the kit sees what is wrong: each rule is broken by some backend.
func TestKitFindsFaults(t *testing.T) {
	ring, err := keyring(testKey())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, rule string
		backend    signing.Backend
	}{
		{"no name", "S2", &faulty{Backend: ring, info: func() (signing.Info, error) { return signing.Info{}, nil }}},
		{"no keys", "S3", &faulty{Backend: ring, keys: func() ([]signing.Key, error) { return nil, nil }}},
		{"wrong size", "S3", &faulty{Backend: ring, keys: func() ([]signing.Key, error) {
			return []signing.Key{{ID: "release", Algorithm: mar.RSAPKCS1SHA384, PublicKey: testKey().Public(), SignatureSize: 512}}, nil
		}}},
		{"no signature", "S5", &faulty{Backend: ring, sign: func(context.Context, signing.Request) ([]byte, error) { return make([]byte, 256), nil }}},
		{"random", "S6", &faulty{Backend: ring, sign: func(context.Context, signing.Request) ([]byte, error) {
			b := make([]byte, 256)
			_, err := rand.Read(b)
			return b, err
		}}},
		{"any algorithm", "S8", &faulty{Backend: ring, sign: func(_ context.Context, r signing.Request) ([]byte, error) {
			return testKey().Sign(rand.Reader, r.Digest, r.Algorithm.Hash())
		}}},
		{"one at a time", "S9", &faulty{Backend: ring, sign: oneAtATime(ring)}},
		{"any key", "S10", &faulty{Backend: ring, sign: func(ctx context.Context, r signing.Request) ([]byte, error) {
			r.KeyID = "release"
			return ring.Sign(ctx, r)
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := signingtest.Check(t.Context(), serve(t, tt.backend), nil)
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), tt.rule+" (PROTOCOL.md ") {
				t.Errorf("got %v, want a broken %s", err, tt.rule)
			}
		})
	}
}

// oneAtATime breaks when two calls meet.
func oneAtATime(b signing.Backend) func(context.Context, signing.Request) ([]byte, error) {
	var mu sync.Mutex
	return func(ctx context.Context, r signing.Request) ([]byte, error) {
		if !mu.TryLock() {
			return nil, errors.New("busy")
		}
		defer mu.Unlock()
		return b.Sign(ctx, r)
	}
}

type faulty struct {
	signing.Backend
	info func() (signing.Info, error)
	keys func() ([]signing.Key, error)
	sign func(context.Context, signing.Request) ([]byte, error)
}

func (f *faulty) Info(ctx context.Context) (signing.Info, error) {
	if f.info != nil {
		return f.info()
	}
	return f.Backend.Info(ctx)
}

func (f *faulty) Keys(ctx context.Context) ([]signing.Key, error) {
	if f.keys != nil {
		return f.keys()
	}
	return f.Backend.Keys(ctx)
}

func (f *faulty) Sign(ctx context.Context, r signing.Request) ([]byte, error) {
	if f.sign != nil {
		return f.sign(ctx, r)
	}
	return f.Backend.Sign(ctx, r)
}

func TestAuthoritySigns(t *testing.T) {
	var journal records
	a := authority(t, local(t), &signing.AuthorityOptions{Journal: &journal})
	var b bytes.Buffer
	if n, err := a.WriteSigned(t.Context(), &b, archive()); err != nil || n != int64(b.Len()) {
		t.Fatalf("got %d, %v", n, err)
	}
	verified(t, b.Bytes(), testKey().Public())
	if got := journal.outcomes(); got != "asked signed" {
		t.Errorf("journal has %q, want asked signed", got)
	}
	last := journal.list[1]
	fingerprint, err := mar.Fingerprint(testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	if last.Fingerprint != fingerprint || last.Channel != "firefox-mozilla-release" || last.Version != "150.0" ||
		len(last.Digest) != 96 || len(last.Signature) != 64 || last.Key != "release" || last.Request != journal.list[0].Request {
		t.Errorf("record is %+v", last)
	}
}

func TestPolicy(t *testing.T) {
	var journal records
	a := authority(t, local(t), &signing.AuthorityOptions{Journal: &journal})
	tests := []struct {
		name    string
		product *mar.Product
		ok      bool
	}{
		{"listed", &mar.Product{Channel: "firefox-mozilla-release", Version: "1"}, true},
		{"pattern", &mar.Product{Channel: "firefox-mozilla-beta-cck", Version: "1"}, true},
		{"other", &mar.Product{Channel: "firefox-mozilla-central", Version: "1"}, false},
		{"two, both listed", &mar.Product{Channel: "firefox-mozilla-release,firefox-mozilla-beta", Version: "1"}, true},
		{"two, one not listed", &mar.Product{Channel: "firefox-mozilla-beta,firefox-mozilla-central", Version: "1"}, false},
		{"two, one empty", &mar.Product{Channel: "firefox-mozilla-beta,", Version: "1"}, false},
		{"longer", &mar.Product{Channel: "firefox-mozilla-release2", Version: "1"}, false},
		{"empty", &mar.Product{Version: "1"}, false},
		{"none", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := a.Signers(t.Context(), tt.product)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, signing.ErrPolicy) {
				t.Errorf("got %v, want allowed: %v", err, tt.ok)
			}
		})
	}
	if got := journal.outcomes(); got != "refused refused refused refused refused refused" {
		t.Errorf("journal has %q, want six refusals", got)
	}
	if err := (signing.Policy{}).Allow("release", &mar.Product{Channel: "x"}); !errors.Is(err, signing.ErrPolicy) {
		t.Errorf("zero policy: got %v, want ErrPolicy", err)
	}
}

func TestPolicyVersions(t *testing.T) {
	p, err := signing.ParsePolicy([]byte(`{"rules": [
		{"key": "esr", "channels": ["esr"], "min_version": "140.2", "max_version": "140.99"},
		{"key": "esr", "channels": ["esr"], "min_version": "153.0"},
		{"key": "old", "channels": ["esr"], "max_version": "115.0"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key, version string
		ok           bool
	}{
		{"esr", "140.1", false},
		{"esr", "140.2", true},
		{"esr", "140.10.1", true},
		{"esr", "140.99", true},
		{"esr", "141.0", false},
		{"esr", "153.0", true},
		{"esr", "153.0b9", false},
		{"esr", "999.0", true},
		{"esr", "", false},
		{"old", "115.0", true},
		{"old", "115.0.1", false},
		{"old", "", false},
	} {
		err := p.Allow(tt.key, &mar.Product{Channel: "esr", Version: tt.version})
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, signing.ErrPolicy) {
			t.Errorf("%s, version %q: got %v, want allowed: %v", tt.key, tt.version, err, tt.ok)
		}
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{"rules": [{"key": "k"}]}`, `{"rules": [{"channels": ["x"]}]}`, `{"rules": [{"key": "k", "channels": ["["]}]}`,
		`{"rules": [{"key": "k", "channels": ["x"], "min_version": "2", "max_version": "1"}]}`,
		`{"rules": [{"key": "k", "channels": [""]}]}`, `{"rules": [], "unknown": 1}`, `{"rules": []} x`,
	} {
		if _, err := signing.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

// TestRemoteKey has a service sign, which learns when nobody waits any more.
func TestRemoteKey(t *testing.T) {
	ended := make(chan struct{})
	held := signing.HeldKey{
		Key: signing.Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384, PublicKey: testKey().Public()},
		Remote: func(ctx context.Context, digest []byte) ([]byte, error) {
			if digest[0] == 0 {
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}
			return testKey().Sign(nil, digest, crypto.SHA384)
		},
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "test", Version: "1"}, held)
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, ring)
	s, err := c.Signer(t.Context(), "release", testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := bytes.Repeat([]byte{1}, 48)
	if _, err := s.Sign(t.Context(), digest); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Sign(ctx, make([]byte, 48)); !errors.Is(err, plugins.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	<-ended
	held.Signer = testKey()
	for _, bad := range []signing.HeldKey{held, {Key: held.Key}} {
		if _, err := signing.NewKeyring(signing.Info{}, bad); err == nil || !strings.Contains(err.Error(), "no signer, or two") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := signing.NewKeyring(signing.Info{}, signing.HeldKey{Key: signing.Key{ID: "x"}, Remote: held.Remote}); err == nil || !strings.Contains(err.Error(), "want RSA") {
		t.Errorf("no public key: got %v", err)
	}
}

// TestPluginNarrowsPolicy has a plugin say that its key is for another channel.
func TestPluginNarrowsPolicy(t *testing.T) {
	ring, err := signing.NewKeyring(signing.Info{Name: "test", Version: "1"}, signing.HeldKey{
		Key:    signing.Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384, Channels: []string{"firefox-mozilla-beta*"}},
		Signer: testKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	a := authority(t, serve(t, ring), nil)
	if _, err := a.WriteSigned(t.Context(), io.Discard, archive()); !errors.Is(err, signing.ErrPolicy) {
		t.Errorf("got %v, want ErrPolicy", err)
	}
}

func TestQuorum(t *testing.T) {
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring(second)
	if err != nil {
		t.Fatal(err)
	}
	var refuse bool
	other := serve(t, &faulty{Backend: ring, sign: func(ctx context.Context, r signing.Request) ([]byte, error) {
		if refuse {
			return nil, plugins.ErrDenied
		}
		return ring.Sign(ctx, r)
	}})
	places := []signing.Place{
		{{Client: local(t), ID: "release", PublicKey: testKey().Public()}},
		{{Client: other, ID: "release", PublicKey: second.Public()}},
	}
	a, err := signing.NewAuthority(t.Context(), places, releasePolicy(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := a.WriteSigned(t.Context(), &b, archive()); err != nil {
		t.Fatal(err)
	}
	verified(t, b.Bytes(), testKey().Public(), second.Public())
	refuse = true
	b.Reset()
	if _, err := a.WriteSigned(t.Context(), &b, archive()); !errors.Is(err, plugins.ErrDenied) || b.Len() != 0 {
		t.Errorf("one of two refuses: got %v and %d bytes, want ErrDenied and none", err, b.Len())
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"": {}, "2026-11-30": time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), "2026-11-30T12:00:00Z": time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
	} {
		if got, err := signing.ParseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"tomorrow", "2026-13-01", "2026-11-30 12:00"} {
		if got, err := signing.ParseTime(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestRotation(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	next, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "test", Version: "1"},
		signing.HeldKey{Key: signing.Key{ID: "old", Algorithm: mar.RSAPKCS1SHA384}, Signer: testKey()},
		signing.HeldKey{Key: signing.Key{ID: "new", Algorithm: mar.RSAPKCS1SHA384, NotAfter: day(28)}, Signer: next})
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, ring)
	policy, err := signing.ParsePolicy([]byte(`{"rules": [{"key": "old", "channels": ["*"], "no_product": true}, {"key": "new", "channels": ["*"], "no_product": true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var now time.Time
	a, err := signing.NewAuthority(t.Context(), []signing.Place{{
		{Client: c, ID: "old", PublicKey: testKey().Public(), NotBefore: day(2), NotAfter: day(20)},
		{Client: c, ID: "new", PublicKey: next.Public(), NotBefore: day(10)},
	}}, policy, &signing.AuthorityOptions{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		now  time.Time
		want crypto.PublicKey
	}{
		{day(1), nil},
		{day(2), testKey().Public()},
		{day(10).Add(-time.Second), testKey().Public()},
		{day(10), next.Public()}, // both are valid: the newer one signs
		{day(20), next.Public()},
		{day(28), nil}, // the plugin says so
	}
	place := a.Places()[0]
	if keys := place.Keys(); len(keys) != 2 || !testKey().PublicKey.Equal(keys[0].PublicKey) || !next.PublicKey.Equal(keys[1].PublicKey) {
		t.Errorf("got keys %v, want both in order", keys)
	}
	if _, err := place.Sign(t.Context(), make([]byte, 48)); !errors.Is(err, signing.ErrPolicy) {
		t.Errorf("signing of who knows what: got %v, want ErrPolicy", err)
	}
	for _, tt := range tests {
		now = tt.now
		if tt.want != nil {
			chosen, err := place.ForProduct(t.Context(), nil)
			if err != nil || place.Info().PublicKey != tt.want || chosen.Info().PublicKey != tt.want {
				t.Errorf("%v: the place has %v and %v, %v", tt.now, place.Info(), chosen, err)
			}
		}
		var b bytes.Buffer
		_, err := a.WriteSigned(t.Context(), &b, archive())
		if tt.want == nil {
			if !errors.Is(err, signing.ErrPolicy) {
				t.Errorf("%v: got %v, want ErrPolicy", tt.now, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tt.now, err)
			continue
		}
		verified(t, b.Bytes(), tt.want)
	}
}

// TestJournalFails makes sure that nothing is signed off the record.
func TestJournalFails(t *testing.T) {
	ring, err := keyring(testKey())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	c := serve(t, &faulty{Backend: ring, sign: func(ctx context.Context, r signing.Request) ([]byte, error) {
		asked++
		return ring.Sign(ctx, r)
	}})
	for fail := 1; fail <= 2; fail++ {
		asked = 0
		var b bytes.Buffer
		a := authority(t, c, &signing.AuthorityOptions{Journal: &records{failAt: fail}})
		if _, err := a.WriteSigned(t.Context(), &b, archive()); !errors.Is(err, errJournal) || b.Len() != 0 {
			t.Errorf("record %d fails: got %v and %d bytes, want its error and none", fail, err, b.Len())
		}
		if want := fail - 1; asked != want {
			t.Errorf("record %d fails: the plugin was asked %d times, want %d", fail, asked, want)
		}
	}
}

func TestFileJournal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	for i := range 2 {
		j, err := signing.OpenJournal(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Record(t.Context(), signing.Record{Request: strconv.Itoa(i), Outcome: signing.Asked}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Close(), j.Close()); err != nil {
			t.Fatal(err)
		}
		if err := j.Record(t.Context(), signing.Record{}); err == nil {
			t.Error("a closed journal takes records")
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var r signing.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Request != strconv.Itoa(i) {
			t.Errorf("line %d: %v, %s", i, err, line)
		}
	}
}

var errJournal = errors.New("journal is full")

// records is a journal in memory that fails at one record.
type records struct {
	failAt int
	list   []signing.Record
}

func (j *records) Record(_ context.Context, r signing.Record) error {
	j.list = append(j.list, r)
	if len(j.list) == j.failAt {
		return errJournal
	}
	return nil
}

func (j *records) outcomes() string {
	var out []string
	for _, r := range j.list {
		out = append(out, string(r.Outcome))
	}
	return strings.Join(out, " ")
}

func TestRetry(t *testing.T) {
	t.Parallel()
	ring, err := keyring(testKey())
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	var failures, asked int
	ids := map[string]bool{}
	c := serve(t, &faulty{Backend: ring, sign: func(ctx context.Context, r signing.Request) ([]byte, error) {
		asked++
		ids[r.ID] = true
		if asked <= failures {
			return nil, failure
		}
		return ring.Sign(ctx, r)
	}})
	s, err := c.Signer(t.Context(), "release", testKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		failure  error
		failures int
		asked    int
		ok       bool
	}{
		{plugins.ErrThrottled, 2, 3, true},
		{plugins.ErrUnavailable, 2, 3, true},
		{plugins.ErrUnavailable, 9, 3, false},
		{plugins.ErrTimeout, 1, 2, true},
		{plugins.ErrDenied, 1, 1, false},
		{plugins.ErrInvalid, 1, 1, false},
		{errors.New("anything else"), 1, 1, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v %d", tt.failure, tt.failures), func(t *testing.T) {
			failure, failures, asked = tt.failure, tt.failures, 0
			clear(ids)
			_, err := s.Sign(t.Context(), make([]byte, 48))
			if (err == nil) != tt.ok || asked != tt.asked || len(ids) != 1 {
				t.Errorf("got %v after %d requests with %d IDs, want ok=%v after %d with one", err, asked, len(ids), tt.ok, tt.asked)
			}
		})
	}
	failure, failures, asked = &plugins.Error{Reason: plugins.ReasonThrottled, RetryAfter: time.Hour}, 1, 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Sign(ctx, make([]byte, 48)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, plugins.ErrThrottled) {
		t.Errorf("throttled for longer than there is time: got %v", err)
	}
}

func TestConfiguredKeyDecides(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := local(t)
	if _, err := c.Signer(t.Context(), "release", other.Public()); !errors.Is(err, plugins.ErrAnswer) {
		t.Errorf("other key: got %v, want ErrAnswer", err)
	}
	if _, err := c.Signer(t.Context(), "release", nil); err == nil {
		t.Error("no configured key: accepted")
	}
	if _, err := c.Signer(t.Context(), "absent", other.Public()); !errors.Is(err, plugins.ErrNotFound) {
		t.Errorf("absent key: got %v, want ErrNotFound", err)
	}
	// A plugin that claims the configured key but signs with its own.
	ring, err := keyring(other)
	if err != nil {
		t.Fatal(err)
	}
	liar := serve(t, &faulty{Backend: ring, keys: func() ([]signing.Key, error) {
		return []signing.Key{{ID: "release", Algorithm: mar.RSAPKCS1SHA384, PublicKey: testKey().Public()}}, nil
	}})
	var b bytes.Buffer
	if _, err := authority(t, liar, nil).WriteSigned(t.Context(), &b, archive()); !errors.Is(err, plugins.ErrAnswer) || b.Len() != 0 {
		t.Errorf("got %v and %d bytes, want ErrAnswer and none", err, b.Len())
	}
}

// TestSickPlugin is the promise about plugins that sign: whatever one does, nothing is published that is not
// signed right, errors come in time, the host lives, and the next archive is signed.
func TestSickPlugin(t *testing.T) {
	const deadline = 500 * time.Millisecond
	rounds, slack := testkit.Rounds()
	if rounds == 1 {
		t.Parallel()
	}
	c, err := signing.Start(t.Context(), binary(t, "SENBON_TEST_SICK=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, mode := range append(signingtest.BadSignatures(), signingtest.Faults()...) {
		t.Run(string(mode), func(t *testing.T) {
			id := "release!" + string(mode)
			policy := signing.Policy{Rules: []signing.Rule{{Key: id, Channels: []string{"*"}}}}
			a, err := signing.NewAuthority(t.Context(), []signing.Place{{{Client: c, ID: id, PublicKey: testKey().Public()}}}, policy, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				var b bytes.Buffer
				begin := time.Now()
				_, err := a.WriteSigned(ctx, &b, archive())
				took := time.Since(begin)
				cancel()
				if took > deadline+slack {
					t.Errorf("took %v, deadline is %v", took, deadline)
				}
				switch mode {
				case signingtest.Flood, signingtest.LogBomb, signingtest.Print, signingtest.CrashAfter: // may succeed
					if err == nil {
						verified(t, b.Bytes(), testKey().Public())
					}
				case signingtest.Late: // its clock may be a little faster
					if err == nil {
						verified(t, b.Bytes(), testKey().Public())
					}
				default:
					if err == nil {
						t.Error("no error")
					}
				}
				if err != nil && b.Len() != 0 {
					t.Errorf("%d bytes were written and then: %v", b.Len(), err)
				}
				b.Reset()
				if _, err := authority(t, c, nil).WriteSigned(t.Context(), &b, archive()); err != nil {
					t.Fatalf("next archive: %v", err)
				}
				verified(t, b.Bytes(), testKey().Public())
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	c, err := signing.Start(b.Context(), binary(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.Signer(b.Context(), "release", testKey().Public())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sign(b.Context(), make([]byte, 48)); err != nil {
			b.Fatal(err)
		}
	}
}

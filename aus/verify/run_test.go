package verify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
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
	"time"

	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
)

// release is a made-up release on a server of its own: an update server, completes of FROM and TO, and MARs, for every
// release, locale and platform.
type release struct {
	server    *httptest.Server
	releases  []string
	locales   []string
	platforms []string
	key       *rsa.PrivateKey
	from, to  *mar.Reader
	partials  map[string]*mar.Reader // by their kind
	local     string                 // the file that is another in every locale
	same      bool                   // and the same in FROM and TO

	mu    sync.Mutex
	files map[string][]byte // by path, made when they are asked for
	made  map[string]marOf
	asked map[string]int
	// fault changes what is offered.
	fault func(release, locale, platform, patchType string) string
}

// marOf is what update.xml says of a MAR.
type marOf struct {
	size int
	hash string
}

const toBuild = "20261123143936"

func newRelease(tb testing.TB, from, to string, partials map[string]string, local string, releases, locales, platforms int) *release {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	open := func(name string) *mar.Reader {
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			tb.Fatal(err)
		}
		return r
	}
	r := &release{
		key: key, from: open(from), to: open(to), partials: map[string]*mar.Reader{}, local: local,
		releases: numbered("153.5.%d", releases), locales: numbered("l%02d", locales), platforms: numbered("Linux_%d-gcc3", platforms),
		files: map[string][]byte{}, made: map[string]marOf{}, asked: map[string]int{},
		fault: func(_, _, _, _ string) string { return "" },
	}
	for kind, name := range partials {
		r.partials[kind] = open(name)
	}
	r.server = httptest.NewServer(r)
	tb.Cleanup(r.server.Close)
	return r
}

func smallRelease(tb testing.TB, releases, locales, platforms int) *release {
	tb.Helper()
	dir := testkit.Shared(tb, "testdata", "client-checks")
	in := func(name string) string { return filepath.Join(dir, name) }
	return newRelease(tb, in("from.mar"), in("to.mar"), map[string]string{"": in("good.partial.mar"), "wrong-tree": in("wrongtree.partial.mar")},
		"browser/locale.ini", releases, locales, platforms)
}

// config is the plan.
func (r *release) config() []Line {
	var lines []Line
	for i, rel := range r.releases {
		for _, platform := range r.platforms {
			lines = append(lines, Line{
				Release: rel, Product: "Firefox", Platform: platform, BuildID: buildID(i), Locales: r.locales, Channel: "esr-localtest",
				PatchTypes: []string{"complete", "partial"}, From: fmt.Sprintf("/from/%s/%s/%%locale%%.mar", platform, rel),
				To: fmt.Sprintf("/to/%s/%%locale%%.mar", platform), AUSServer: r.server.URL, FTPServerFrom: r.server.URL, FTPServerTo: r.server.URL,
				ToBuildID: toBuild, ToAppVersion: "153.6.0", ToDisplayVersion: "153.6.0esr",
			})
		}
	}
	return lines
}

func (r *release) options(tb testing.TB) *RunOptions {
	tb.Helper()
	client, err := fetch.New(&fetch.Options{
		Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Dir: tb.TempDir(),
		Attempts: 2, Backoff: time.Millisecond, PerHost: 8,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &RunOptions{Fetch: client, AllowHTTP: true, Keys: []crypto.PublicKey{&r.key.PublicKey}, Workers: 4}
}

// write makes a MAR with the locale's own file.
func (r *release) write(base *mar.Reader, content, product string, mode uint32, signed bool) []byte {
	a := base.Archive()
	var compressed bytes.Buffer
	w, err := xz.NewWriter(&compressed, &xz.WriterOptions{})
	if err == nil {
		_, err = w.Write([]byte(content))
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		panic(err)
	}
	for i := range a.Entries {
		if a.Entries[i].Name == r.local {
			m := a.Entries[i].Mode
			if mode != 0 {
				m = 0o755
			}
			a.Entries[i] = mar.BytesEntry(r.local, m, compressed.Bytes())
		}
	}
	if product != "" {
		channel, version, _ := strings.Cut(product, " ")
		p := *a.Product
		if channel != "" {
			p.Channel = channel
		}
		if version != "" {
			p.Version = version
		}
		a.Product = &p
	}
	var out bytes.Buffer
	if !signed {
		_, err = a.WriteTo(&out)
	} else {
		var signer mar.Signer
		if signer, err = mar.CryptoSigner(r.key, mar.RSAPKCS1SHA384); err == nil {
			_, err = a.WriteSigned(context.Background(), &out, signer)
		}
	}
	if err != nil {
		panic(err)
	}
	return out.Bytes()
}

// file makes the file with a path: /from/PLATFORM/RELEASE/LOCALE.mar, /to/PLATFORM/LOCALE.mar,
// /partial/PLATFORM/RELEASE/LOCALE.mar.
func (r *release) file(path string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data, ok := r.files[path]; ok {
		return data
	}
	parts := strings.Split(strings.TrimSuffix(strings.Trim(path, "/"), ".mar"), "/")
	locale := parts[len(parts)-1]
	var data []byte
	switch {
	case parts[0] == "from" && len(parts) == 4:
		content := "from " + parts[1] + parts[2] + locale
		if r.same {
			content = "to " + parts[1] + locale
		}
		data = r.write(r.from, content, "", 0, true)
	case parts[0] == "to" && len(parts) == 3:
		data = r.write(r.to, "to "+parts[1]+locale, "", 0, true)
	case parts[0] == "partial" && len(parts) == 4:
		fault := r.fault(parts[2], locale, parts[1], "partial")
		base, product, mode, signed := r.partials[""], "", uint32(0), true
		switch fault {
		case "404":
			r.files[path] = nil
			return nil
		case "wrong-tree":
			base = r.partials[fault]
		case "wrong-mode":
			mode = 0o755
		case "wrong-channel":
			product = "other-channel"
		case "downgrade":
			product = " 152.0"
		case "unsigned":
			signed = false
		}
		data = r.write(base, "to "+parts[1]+locale, product, mode, signed)
		if fault == "truncated" {
			data = data[:len(data)/2]
		}
	}
	r.files[path] = data
	return data
}

func (r *release) about(path string) marOf {
	data := r.file(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.made[path]
	if !ok {
		sum := sha512.Sum512(data)
		m = marOf{len(data), fmt.Sprintf("%x", sum)}
		r.made[path] = m
	}
	return m
}

func (r *release) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked[req.URL.Path]++
	r.mu.Unlock()
	if id, ok := requestIdentity(req.URL.Path); ok {
		r.answer(w, id)
		return
	}
	data := r.file(req.URL.Path)
	if data == nil {
		http.NotFound(w, req)
		return
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

func (r *release) answer(w http.ResponseWriter, id Identity) {
	fmt.Fprint(w, "<?xml version=\"1.0\"?>\n<updates>\n")
	if r.fault(id.Release, id.Locale, id.Platform, "") != "not-offered" {
		fmt.Fprintf(w, `<update appVersion="153.6.0" buildID="%s" displayVersion="153.6.0esr" type="minor">`, toBuild)
		for _, patchType := range []string{"complete", "partial"} {
			fault := r.fault(id.Release, id.Locale, id.Platform, patchType)
			if fault == "no-patch" {
				continue
			}
			path := fmt.Sprintf("/to/%s/%s.mar", id.Platform, id.Locale)
			if patchType == "partial" {
				path = fmt.Sprintf("/partial/%s/%s/%s.mar", id.Platform, id.Release, id.Locale)
			}
			m := r.about(path)
			if m.size == 0 {
				m.size = 38000
			}
			if fault == "wrong-hash" {
				m.hash = strings.Repeat("ab", 64)
			}
			fmt.Fprintf(w, `<patch type="%s" URL="%s%s" hashFunction="sha512" hashValue="%s" size="%d"/>`, patchType, r.server.URL, path, m.hash, m.size)
		}
		fmt.Fprint(w, "</update>\n")
	}
	fmt.Fprint(w, "</updates>\n")
}

// planted are ten faults, each in one place, and what must be found of them.
var planted = []struct {
	release, locale int
	patchType       string
	fault           string
	code            Code
}{
	{0, 3, "complete", "wrong-hash", WrongHash},
	{0, 4, "partial", "404", MARMissing},
	{0, 5, "partial", "wrong-tree", TreeDiffers},
	{0, 6, "partial", "wrong-mode", ExecutableBit},
	{1, 7, "partial", "wrong-channel", ChannelMismatch},
	{1, 8, "partial", "downgrade", VersionDowngrade},
	{1, 9, "partial", "unsigned", SignatureMissing},
	{2, 10, "", "not-offered", NoUpdateOffered},
	{2, 11, "partial", "truncated", DamagedMAR},
	{2, 12, "partial", "no-patch", PatchTypeMissing},
}

func (r *release) plant() (want map[Identity]Code) {
	want = map[Identity]Code{}
	faults := map[[4]string]string{}
	for _, p := range planted {
		release, locale, platform := r.releases[p.release], r.locales[p.locale], r.platforms[0]
		faults[[4]string{release, locale, platform, p.patchType}] = p.fault
		types := []string{p.patchType}
		if p.patchType == "" {
			types = []string{"complete", "partial"}
		}
		for _, patchType := range types {
			want[Identity{"Firefox", release, buildID(p.release), platform, locale, "esr-localtest", patchType}] = p.code
		}
	}
	r.fault = func(release, locale, platform, patchType string) string {
		return faults[[4]string{release, locale, platform, patchType}]
	}
	return want
}

// Ten planted faults are found, each by its name, and nothing else; each MAR is fetched once.
func TestPlanted(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 3, 14, 2)
	want := r.plant()
	report, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, report, want)
	for path, n := range r.asked {
		if n > 1 && !strings.Contains(path, "l03.mar") { // offered with two hashes: fetched for each
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
}

func checkPlanted(t *testing.T, report *Report, want map[Identity]Code) {
	t.Helper()
	for i := range report.Tests {
		test := &report.Tests[i]
		code, bad := want[test.Identity]
		switch {
		case !bad && test.Result == Pass:
		case bad && test.Result == Fail && len(test.Reasons) == 1 && test.Reasons[0].Code == code:
		default:
			t.Errorf("%v: %s %+v, want %q", test.Identity, test.Result, test.Reasons, code)
		}
	}
	if totals := report.Totals(); totals.Fail != len(want) {
		t.Errorf("%+v, want %d failures", totals, len(want))
	}
}

// A run that is killed goes on where it was, and gives the same report.
func TestResumed(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 3, 14, 1)
	want := r.plant()
	whole, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	o := r.options(t)
	o.Work = t.TempDir()
	ctx, kill := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.Done >= 20 {
			kill()
		}
	}
	if _, err := Run(ctx, r.config(), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("killed: %v", err)
	}
	results := filepath.Join(o.Work, "results.jsonl")
	text, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(results, text[:len(text)-17], 0o600); err != nil { // in the middle of a line
		t.Fatal(err)
	}
	var again atomic.Int32
	o.Progress = func(Progress) { again.Add(1) }
	resumed, err := Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, resumed, want)
	if n := int(again.Load()); n == 0 || n > len(whole.Tests)-15 {
		t.Errorf("%d of %d tests were run again", n, len(whole.Tests))
	}
	if a, b := found(whole), found(resumed); !slices.Equal(a, b) {
		t.Errorf("the reports differ:\n%s", difference(b, a))
	}
	var a, b bytes.Buffer
	if err := errors.Join(whole.WriteText(&a, nil), resumed.WriteText(&b, nil)); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("the reports differ: %s\n%s", a.String(), b.String())
	}
	again.Store(0)
	o.Again = AgainFailed
	if _, err := Run(t.Context(), r.config(), o); err != nil || int(again.Load()) != len(want) {
		t.Errorf("what failed is run again: %d tests, want %d, %v", again.Load(), len(want), err)
	}
	again.Store(0)
	o.Again = ""
	o.Keys = nil // another question has other answers
	if _, err := Run(t.Context(), r.config(), o); err != nil || int(again.Load()) != len(whole.Tests) {
		t.Errorf("without keys: %d tests, want %d, %v", again.Load(), len(whole.Tests), err)
	}
}

// What locales share is worked out once: more locales unpack their own file and nothing else, and apply no patch.
func TestSharing(t *testing.T) {
	t.Parallel()
	run := func(locales int) (unpacked, patched int) {
		r := smallRelease(t, 2, locales, 1)
		o := r.options(t)
		o.work = func(u, p int) { unpacked, patched = u, p }
		report, err := Run(t.Context(), r.config(), o)
		if err != nil || !report.Passed(false) {
			t.Fatalf("%v: %+v", err, report.Groups)
		}
		return unpacked, patched
	}
	oneUnpacked, onePatched := run(1)
	unpacked, patched := run(6)
	// The file of a locale: in FROM of each release, and in TO, which the partial has as it is.
	if own := 5 * (2 + 1); unpacked != oneUnpacked+own || patched != onePatched || onePatched < 10 {
		t.Errorf("six locales unpack %d members and apply %d patches; one %d and %d, and each further one should unpack %d", unpacked, patched, oneUnpacked, onePatched, own/5)
	}
}

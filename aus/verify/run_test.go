package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
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
	"github.com/senbonzakura/senbonzakura/partial/updater"
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
	partial   *mar.Reader
	local     string // the file that is another in every locale
	same      bool   // and the same in FROM and TO
	added     string // a file that the partial adds
	gone      string // the path of a file that is offered and not there
	// base, where it is not nil, gives from ("from"), to ("to") and partial ("partial") of one release and platform.
	base func(kind, platform, release string) *mar.Reader

	mu    sync.Mutex
	files map[string][]byte  // by path, made when they are asked for
	wrote map[written][]byte // likewise, by what is in them
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

// testKey signs all releases: a key of the size that updaters accept takes long to make.
var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	text, err := os.ReadFile("testdata/rsa4096.pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PrivateKey), nil
})

func newRelease(tb testing.TB, from, to, partial, local, added string, releases, locales, platforms int) *release {
	tb.Helper()
	key, err := testKey()
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
		key: key, from: open(from), to: open(to), partial: open(partial), local: local, added: added,
		releases: numbered("153.5.%d", releases), locales: numbered("l%02d", locales), platforms: numbered("Linux_%d-gcc3", platforms),
		files: map[string][]byte{}, wrote: map[written][]byte{}, made: map[string]marOf{}, asked: map[string]int{},
		fault: func(_, _, _, _ string) string { return "" },
	}
	r.server = httptest.NewServer(r)
	tb.Cleanup(r.server.Close)
	return r
}

func smallRelease(tb testing.TB, releases, locales, platforms int) *release {
	tb.Helper()
	dir := testkit.Shared(tb, "testdata", "client-checks")
	in := func(name string) string { return filepath.Join(dir, name) }
	r := newRelease(tb, in("from.mar"), in("to.mar"), in("good.partial.mar"), "browser/locale.ini", "browser/locale.ini", releases, locales, platforms)
	for _, base := range []**mar.Reader{&r.from, &r.to, &r.partial} {
		*base = without(tb, *base, "pingsender", "libmozavutil.so", "firefox", "libmozsandbox.so", "updater")
	}
	return r
}

// without leaves out files of an update, so that what is left is quickly done.
func without(tb testing.TB, r *mar.Reader, names ...string) *mar.Reader {
	tb.Helper()
	a := r.Archive()
	a.Entries = slices.DeleteFunc(a.Entries, func(e mar.Entry) bool { return slices.Contains(names, strings.TrimSuffix(e.Name, ".patch")) })
	for i, e := range a.Entries {
		if !updater.IsManifestName(e.Name) && e.Name != "precomplete" {
			continue
		}
		text, err := updater.MemberOf(r.Lookup(e.Name)).Content(tb.Context(), limits)
		if err != nil {
			tb.Fatal(err)
		}
		var left []byte
		for line := range bytes.Lines(text) {
			if !slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(line, []byte(`"`+name+`"`)) }) {
				left = append(left, line...)
			}
		}
		a.Entries[i] = mar.BytesEntry(e.Name, e.Mode, packed(left))
	}
	var out bytes.Buffer
	if _, err := a.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return openBytes(tb, out.Bytes())
}

// packed compresses what is small.
func packed(content []byte) []byte {
	return packedAs(content, &xz.WriterOptions{DictSize: 1 << 16, Level: xz.Fast})
}

func packedAs(content []byte, o *xz.WriterOptions) []byte {
	var compressed bytes.Buffer
	zw, err := xz.NewWriter(&compressed, o)
	if err == nil {
		_, err = zw.Write(content)
		err = errors.Join(err, zw.Close())
	}
	if err != nil {
		panic(err)
	}
	return compressed.Bytes()
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
	return runOptions(tb, tb.TempDir(), &r.key.PublicKey)
}

func runOptions(tb testing.TB, dir string, key *rsa.PublicKey) *RunOptions {
	tb.Helper()
	client, err := fetch.New(&fetch.Options{
		Insecure: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Dir: dir,
		Attempts: 2, Backoff: time.Millisecond, PerHost: 8,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &RunOptions{Fetch: client, AllowHTTP: true, Keys: []crypto.PublicKey{key}, Workers: 4}
}

// written is what makes a MAR another than the one that it is made of.
type written struct {
	base            *mar.Reader
	local           string // content of the locale's own file
	channel         string // where it is another
	version         string // likewise
	spoiled         string // content of the added file, where it is another
	executable      bool   // the added file is
	more            string // the name of a member that no manifest names
	plain           bool   // which is not compressed
	unsigned, short bool
}

// write makes a MAR, once.
func (r *release) write(w written) []byte {
	if data := r.wrote[w]; data != nil {
		return data
	}
	a := w.base.Archive()
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Name == r.local {
			*e = mar.BytesEntry(e.Name, e.Mode, packed([]byte(w.local)))
		}
		if e.Name == r.added && w.spoiled != "" {
			*e = mar.BytesEntry(e.Name, e.Mode, packed([]byte(w.spoiled)))
		}
		if e.Name == r.added && w.executable {
			e.Mode = 0o755
		}
	}
	if w.more != "" {
		data := []byte("this is no member of an update")
		if !w.plain {
			data = packed(data)
		}
		a.Entries = append(a.Entries, mar.BytesEntry(w.more, 0o644, data))
	}
	p := *a.Product
	p.Channel, p.Version = cmp.Or(w.channel, p.Channel), cmp.Or(w.version, p.Version)
	a.Product = &p
	var out bytes.Buffer
	var err error
	if w.unsigned {
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
	data := out.Bytes()
	if w.short {
		data = data[:len(data)/2]
	}
	r.wrote[w] = data
	return data
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
		data = r.write(written{base: r.based(r.from, "from", parts[1], parts[2]), local: content})
	case parts[0] == "to" && len(parts) == 3:
		data = r.write(written{base: r.based(r.to, "to", parts[1], ""), local: "to " + parts[1] + locale})
	case parts[0] == "partial" && len(parts) == 4:
		w := written{base: r.based(r.partial, "partial", parts[1], parts[2]), local: "to " + parts[1] + locale}
		switch r.fault(parts[2], locale, parts[1], "partial") {
		case "404":
			r.files[path] = nil
			return nil
		case "wrong-tree":
			w.spoiled = "wrong"
		case "wrong-mode":
			w.executable = true
		case "wrong-channel":
			w.channel = "other-channel"
		case "downgrade":
			w.version = "152.0"
		case "unsigned":
			w.unsigned = true
		case "truncated":
			w.short = true
		case "not-packed":
			w.more, w.plain = "left/behind", true
		case "twice-on-windows":
			w.more = strings.ToUpper(r.added)
		}
		data = r.write(w)
	}
	r.files[path] = data
	return data
}

// based is what the MARs of one release and platform are made of.
func (r *release) based(all *mar.Reader, kind, platform, release string) *mar.Reader {
	if r.base == nil {
		return all
	}
	return r.base(kind, platform, release)
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
	if data == nil || req.URL.Path == r.gone {
		http.NotFound(w, req)
		return
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

func (r *release) answer(w http.ResponseWriter, id Identity) {
	fmt.Fprint(w, "<?xml version=\"1.0\"?>\n<updates>\n")
	if r.fault(id.Release, id.Locale, id.Platform, "") == "" {
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

// everyRelease plants a fault in all of them.
const everyRelease = -1

// planted are ten faults and a partial that is not offered, each in one place, and what must be found of them.
var planted = []struct {
	release, locale int
	patchType       string
	fault           string
	code            Code
}{
	{0, 0, "complete", "wrong-hash", WrongHash},
	{0, 1, "partial", "404", MARMissing},
	{0, 2, "partial", "wrong-tree", TreeDiffers},
	{0, 3, "partial", "wrong-mode", ExecutableBit},
	{1, 0, "partial", "wrong-channel", ChannelMismatch},
	{1, 1, "partial", "downgrade", VersionDowngrade},
	{1, 2, "partial", "unsigned", SignatureMissing},
	{2, 0, "", "not-offered", NoUpdateOffered},
	{everyRelease, 4, "", "no-locale", NoUpdateOffered},
	{2, 1, "partial", "truncated", DamagedMAR},
	{2, 2, "partial", "no-patch", PatchTypeMissing},
}

func (r *release) plant() (want map[Identity]Code) {
	want = map[Identity]Code{}
	faults := map[[4]string]string{}
	for _, p := range planted {
		locale, platform := r.locales[p.locale], r.platforms[0]
		types := []string{p.patchType}
		if p.patchType == "" {
			types = []string{"complete", "partial"}
		}
		for i, release := range r.releases {
			if i != p.release && p.release != everyRelease {
				continue
			}
			faults[[4]string{release, locale, platform, p.patchType}] = p.fault
			for _, patchType := range types {
				want[Identity{"Firefox", release, buildID(i), platform, locale, "esr-localtest", patchType}] = p.code
			}
		}
	}
	r.fault = func(release, locale, platform, patchType string) string {
		return faults[[4]string{release, locale, platform, patchType}]
	}
	return want
}

// The planted faults are found, each by its name, and nothing else; each MAR is fetched once.
func TestPlanted(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 3, 5, 2)
	want := r.plant()
	report, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	checkPlanted(t, report, want)
	for path, n := range r.asked {
		if n > 1 && !strings.Contains(path, "l00.mar") { // offered with two hashes: fetched for each
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

// What nobody meets while the update is applied is found by looking at the MAR, and named: what updaters stumble over is a
// failure, what others do is a warning.
func TestMARFinding(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 3, 1)
	faults := map[string]string{r.locales[0]: "not-packed", r.locales[1]: "twice-on-windows"}
	r.fault = func(_, locale, _, patchType string) string {
		if patchType != "partial" {
			return ""
		}
		return faults[locale]
	}
	report, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Result{"not-packed": Fail, "twice-on-windows": Warn}
	at := map[string]string{"not-packed": "left/behind", "twice-on-windows": r.added}
	for i := range report.Tests {
		test := &report.Tests[i]
		fault := r.fault("", test.Locale, "", test.PatchType)
		if fault == "" {
			if test.Result != Pass {
				t.Errorf("%v: %s %+v", test.Identity, test.Result, test.Reasons)
			}
			continue
		}
		if test.Result != want[fault] || len(test.Reasons) != 1 || test.Reasons[0].Code != MARFinding || test.Reasons[0].At != at[fault] {
			t.Errorf("%v, %s: %s %+v, want %s at %q", test.Identity, fault, test.Result, test.Reasons, want[fault], at[fault])
		}
	}
	var text strings.Builder
	if err := report.WriteText(&text, nil); err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"a check of the MAR found something", "left/behind", strings.ToUpper(r.added), "marctl lint "} {
		if !strings.Contains(text.String(), said) {
			t.Errorf("the report does not say %q:\n%s", said, text.String())
		}
	}
}

// A MAR whose bytes are at another address as well must be at its own: what is missing there is missing for users.
func TestEqualElsewhere(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 2, 1, 1)
	path := func(i int) string {
		return fmt.Sprintf("/partial/%s/%s/%s.mar", r.platforms[0], r.releases[i], r.locales[0])
	}
	if r.about(path(0)) != r.about(path(1)) {
		t.Fatal("the partials of the two releases are not the same bytes")
	}
	r.gone = path(1)
	o := r.options(t)
	o.Workers = 1 // the one that is there comes first
	report, err := Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	gone := Identity{"Firefox", r.releases[1], buildID(1), r.platforms[0], r.locales[0], "esr-localtest", "partial"}
	checkPlanted(t, report, map[Identity]Code{gone: MARMissing})
}

// A run that is killed goes on where it was, and gives the same report.
func TestResumed(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 3, 5, 1)
	want := r.plant()
	whole, err := Run(t.Context(), r.config(), r.options(t))
	if err != nil {
		t.Fatal(err)
	}
	o := r.options(t)
	o.Work = t.TempDir()
	ctx, kill := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.Done >= 10 {
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
	if n := int(again.Load()); n == 0 || n > len(whole.Tests)-8 {
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

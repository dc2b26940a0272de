package verify

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/internal/bzip2"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// tarOf packs what a complete update installs as an installer for Linux.
func tarOf(t *testing.T, complete []byte, change func(name string, data []byte, mode int64) ([]byte, int64)) []byte {
	t.Helper()
	r, err := mar.NewReader(bytes.NewReader(complete), int64(len(complete)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range r.Files() {
		if updater.IsManifestName(f.Name) {
			continue
		}
		data, err := updater.MemberOf(f).Content(t.Context(), limits)
		if err != nil {
			t.Fatal(err)
		}
		mode := int64(f.Mode.Perm())
		if change != nil {
			if data, mode = change(f.Name, data, mode); data == nil {
				continue
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: "firefox/" + f.Name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Installers are unpacked here: tar with each compression, and others by 7-Zip, without which that is no failure of an
// update.
func TestInstallers(t *testing.T) {
	r := smallRelease(t, 1, 1, 1)
	platform, locale := r.platforms[0], r.locales[0]
	from, to := tarOf(t, r.file("/from/"+platform+"/"+r.releases[0]+"/"+locale+".mar"), nil), tarOf(t, r.file("/to/"+platform+"/"+locale+".mar"), nil)
	pack := map[string]func(io.Writer) (io.WriteCloser, error){
		".tar.gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".tar.bz2": func(w io.Writer) (io.WriteCloser, error) { return bzip2.NewWriter(w) },
		".tar.xz": func(w io.Writer) (io.WriteCloser, error) {
			return xz.NewWriter(w, &xz.WriterOptions{})
		},
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for ending, wrap := range pack {
		for name, data := range map[string][]byte{"from": from, "to": to} {
			if name == "to" && ending != ".tar.gz" {
				continue // packing is slow
			}
			var out bytes.Buffer
			w, err := wrap(&out)
			if err == nil {
				_, err = w.Write(data)
				err = errors.Join(err, w.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			write(name+ending, out.Bytes())
		}
	}
	run := func(from, to string) *Report {
		lines := r.config()
		lines[0].From, lines[0].To, lines[0].FTPServerFrom, lines[0].FTPServerTo = from, to, dir, dir
		report, err := Run(t.Context(), lines, r.options(t))
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	for ending := range pack {
		if report := run("from"+ending, "to.tar.gz"); !report.Passed(true) {
			t.Errorf("%s: %+v", ending, report.Groups)
		}
	}
	write("from.exe", []byte("7z\xbc\xaf\x27\x1c"))
	write("odd.tar", from[:100])
	t.Setenv("PATH", t.TempDir())
	for from, want := range map[string]Code{"from.exe": SetupTrouble, "odd.tar": UnpackFailed, "none.tar.xz": InstallerMissing} {
		report := run(from, "to.tar.gz")
		for _, test := range report.Tests {
			result := Fail
			if want == SetupTrouble {
				result = Error
			}
			if test.Result != result || test.Reasons[0].Code != want {
				t.Errorf("%s: %s %+v, want %s", from, test.Result, test.Reasons, want)
			}
		}
	}
	bin := t.TempDir() // a program that plays 7-Zip
	script := fmt.Sprintf("#!/bin/sh\nfor a; do case \"$a\" in -o*) d=${a#-o};; esac; done\nmkdir -p \"$d/core\"\nexec /bin/tar -xf %s/inner.tar -C \"$d/core\" --strip-components=1\n", dir)
	write("inner.tar", from)
	if err := os.WriteFile(filepath.Join(bin, "7z"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	if report := run("from.exe", "to.tar.gz"); !report.Passed(true) {
		t.Errorf("by 7-Zip: %+v", report.Groups)
	}
}

// Expected differences are explained by rules, counted, and expire; what is not expected is a finding with its place.
func TestRules(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 1, 1)
	platform, locale := r.platforms[0], r.locales[0]
	dir := t.TempDir()
	to := tarOf(t, r.file("/to/"+platform+"/"+locale+".mar"), func(name string, data []byte, mode int64) ([]byte, int64) {
		switch name {
		case "defaults/pref/channel-prefs.js":
			data = append([]byte("// a comment that came later\n"), data...)
		case "platform.ini":
			data = append(bytes.Clone(data), '#')
		case "glxtest":
			mode = 0o644
		case "dependentlibs.list":
			return nil, 0
		}
		return data, mode
	})
	if err := os.WriteFile(filepath.Join(dir, "to.tar.gz"), gzipped(t, to), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := r.config()
	lines[0].To, lines[0].FTPServerTo = "to.tar.gz", dir
	run := func(rules ...Rule) *Report {
		o := r.options(t)
		o.Rules = rules
		report, err := Run(t.Context(), lines, o)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	report := run()
	for _, test := range report.Tests {
		var got []string
		for _, f := range test.Reasons[0].Files {
			said := f.Path + " " + f.Kind
			if f.Offset != nil {
				said += fmt.Sprint(" ", *f.Offset)
			}
			got = append(got, said)
		}
		if len(got) != 3 || got[0] != "dependentlibs.list extra" || got[1] != "glxtest mode" || !strings.HasPrefix(got[2], "platform.ini content ") {
			t.Errorf("%s: %q", test.PatchType, got)
		}
		if test.Explained["channel-prefs-comment"]+test.Explained[keptRule] != 1 {
			t.Errorf("%s: explained %v", test.PatchType, test.Explained)
		}
	}
	later := time.Now().AddDate(0, 0, 7)
	rules := []Rule{
		{Name: "libs", Reason: "bug 1", Path: "dependentlibs.list", KeepExtra: true, Expires: later},
		{Name: "ini", Reason: "bug 2", Path: "platform.*", Replace: [2]string{"#", ""}, Side: "to", Expires: later},
	}
	for _, test := range run(rules...).Tests {
		if test.Result != Fail || test.Reasons[0].Code != ExecutableBit || len(test.Reasons[0].Files) != 1 {
			t.Errorf("with rules: %s %+v", test.Result, test.Reasons)
		}
	}
	rules[0].Expires = time.Now().Add(-time.Hour)
	report = run(rules...)
	if len(report.Tests[0].Reasons[0].Files) != 2 {
		t.Errorf("a rule that has expired: %+v", report.Tests[0].Reasons)
	}
	var b bytes.Buffer
	if err := report.WriteText(&b, nil); err != nil || !strings.Contains(b.String(), `rule "libs" has expired`) || !strings.Contains(b.String(), "explained by rules") {
		t.Errorf("%v: %s", err, b.String())
	}
	for _, bad := range []Rule{
		{Name: "a", Reason: "b", Path: "c", Ignore: true},
		{Name: "a", Reason: "b", Path: "c", Expires: later},
		{Name: "a", Path: "c", Ignore: true, Expires: later},
		{Name: "a", Reason: "b", Path: "[", Ignore: true, Expires: later},
		{Name: "a", Reason: "b", Path: "c", Drop: "x", Expires: later},
		{Name: "a", Reason: "b", Path: "c", Drop: "x", Ignore: true, Side: "to", Expires: later},
	} {
		if _, err := Run(t.Context(), nil, &RunOptions{Rules: []Rule{bad}}); !errors.Is(err, ErrRule) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Trouble of the network is no failure of an update, and servers that come back are asked again.
func TestNetwork(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 1, 1)
	down := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if down++; down <= 2 {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		r.ServeHTTP(w, req)
	}))
	defer server.Close()
	o := r.options(t)
	o.AUSServer, o.patience = server.URL, 5*time.Second
	report, err := Run(t.Context(), r.config(), o)
	if err != nil || !report.Passed(false) {
		t.Errorf("a server that comes back: %v, %+v", err, report)
	}
	server.Close()
	report, err = Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range report.Tests {
		if test.Result != Error || test.Reasons[0].Code != NetworkTrouble {
			t.Errorf("no server: %s %+v", test.Result, test.Reasons)
		}
	}
	if report.Passed(false) {
		t.Error("what could not be tested passes")
	}
}

// What the update server says about MARs is checked before anything is fetched.
func TestOffers(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 1, 1)
	hash := strings.Repeat("00", 64)
	tests := []struct {
		name, xml string
		change    func(*RunOptions)
		code      Code
	}{
		{"no XML", "hello", nil, UpdateXMLUnavailable},
		{"another document", "<html></html>", nil, UpdateXMLUnavailable},
		{"empty on one line", "<updates></updates>", nil, NoUpdateOffered},
		{"another build", `<updates><update buildID="1" displayVersion="153.6.0esr" appVersion="153.6.0"/></updates>`, nil, WrongMetadata},
		{"http", `<updates><update buildID="` + toBuild + `" displayVersion="153.6.0esr" appVersion="153.6.0"><patch type="complete" URL="http://127.0.0.1/x.mar" hashFunction="sha512" hashValue="` + hash + `" size="1"/></update></updates>`, func(o *RunOptions) { o.AllowHTTP = false }, URLNotHTTPS},
		{"another host", `<updates><update buildID="` + toBuild + `" displayVersion="153.6.0esr" appVersion="153.6.0"><patch type="complete" URL="https://evil.example/x.mar" hashFunction="sha512" hashValue="` + hash + `" size="1"/></update></updates>`, func(o *RunOptions) { o.Hosts = []string{"good.example"} }, HostNotAllowed},
		{"no hash", `<updates><update buildID="` + toBuild + `" displayVersion="153.6.0esr" appVersion="153.6.0"><patch type="complete" URL="http://127.0.0.1/x.mar" size="1"/></update></updates>`, nil, WrongMetadata},
		{"no size", `<updates><update buildID="` + toBuild + `" displayVersion="153.6.0esr" appVersion="153.6.0"><patch type="complete" URL="http://127.0.0.1/x.mar" hashFunction="sha512" hashValue="` + hash + `"/></update></updates>`, nil, WrongMetadata},
		{"a shell's words", `<updates><update buildID="$(rm -rf x)"/></updates>`, nil, WrongMetadata},
		{"too long", "<updates>" + strings.Repeat(" ", maxAnswer) + "</updates>", nil, UpdateXMLUnavailable},
	}
	for _, tt := range tests {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tt.xml) }))
		lines := r.config()
		lines[0].PatchTypes = []string{"complete"}
		o := r.options(t)
		o.AUSServer = server.URL
		if tt.change != nil {
			tt.change(o)
		}
		report, err := Run(t.Context(), lines, o)
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		if test := report.Tests[0]; test.Result != Fail || test.Reasons[0].Code != tt.code {
			t.Errorf("%s: %s %+v, want %s", tt.name, test.Result, test.Reasons, tt.code)
		}
	}
}

func TestRequestURL(t *testing.T) {
	t.Parallel()
	test := &Test{Identity: Identity{"Firefox", "153.0", "1", "Linux_x86_64-gcc3", "de", "beta cdntest", "partial"}}
	for form, want := range map[string]string{
		"": "https://h/update/3/Firefox/153.0/1/Linux_x86_64-gcc3/de/beta%20cdntest/default/default/default/update.xml?force=1",
		"/update/6/%PRODUCT%/%VERSION%/%BUILD_ID%/%BUILD_TARGET%/%LOCALE%/%CHANNEL%/%OS_VERSION%/%SYSTEM_CAPABILITIES%/%DISTRIBUTION%/%DISTRIBUTION_VERSION%/update.xml": "https://h/update/6/Firefox/153.0/1/Linux_x86_64-gcc3/de/beta%20cdntest/default/default/default/default/update.xml?force=1",
		"/json/%LOCALE%?mig64=1": "https://h/json/de?mig64=1",
	} {
		if got := requestURL("https://h/", form, test); got != want {
			t.Errorf("%s: got %s, want %s", form, got, want)
		}
	}
}

func TestTreeAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ locale, name, server, want string }{
		{"de", "/a/%locale%/x.tar.xz", "https://h/pub/", "https://h/pub/a/de/x.tar.xz"},
		{"de", "a/%locale%/Firefox Setup 1.exe", "https://h", "https://h/a/de/Firefox%20Setup%201.exe"},
		{"de", "a b.mar", "/some where", "/some where/a b.mar"},
		{"ja-JP-mac", "/%locale%/Firefox 1.dmg", "https://h", "https://h/ja-JP-mac/Firefox%201.dmg"},
		{"ja-JP-mac", "/%locale%/firefox-1.tar.xz", "https://h", "https://h/ja/firefox-1.tar.xz"},
		{"ja-JP-mac", "/%locale%/Firefox Setup 1.exe", "https://h", "https://h/ja/Firefox%20Setup%201.exe"},
		{"ja-JP-mac", "/%locale%/1.complete.mar", "https://h", "https://h/ja-JP-mac/1.complete.mar"},
	} {
		if got := treeAddress(tt.locale, tt.name, tt.server); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

// Redirects end after five, and never lead from https to http.
func TestRedirects(t *testing.T) {
	t.Parallel()
	follow := newGetter(nil).client.CheckRedirect
	ask := func(address string) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	safe, plain := ask("https://h/"), ask("http://h/")
	for _, tt := range []struct {
		from, to *http.Request
		before   int
		ok       bool
	}{{safe, safe, 1, true}, {safe, safe, 5, true}, {safe, safe, 6, false}, {safe, plain, 1, false}, {plain, plain, 1, true}, {plain, safe, 1, true}} {
		via := slices.Repeat([]*http.Request{tt.from}, tt.before)
		if err := follow(tt.to, via); (err == nil) != tt.ok {
			t.Errorf("from %s to %s after %d: %v", tt.from.URL, tt.to.URL, tt.before, err)
		}
	}
}

// Files keep their names, with a dot in front as well, whatever directory the installation is.
func TestEachFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{".hidden", "core/.hidden", "core/core/a"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for top, want := range map[string][]string{".": {".hidden", "core/.hidden", "core/core/a"}, "core": {".hidden", "core/a"}} {
		var got []string
		err := eachFile(root, top, func(inside string, _ fs.FileInfo, content io.Reader) error {
			text, err := io.ReadAll(content)
			if string(text) != path.Join(top, inside) {
				t.Errorf("%s: %s holds %q", top, inside, text)
			}
			got = append(got, inside)
			return err
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", top, got, err, want)
		}
	}
}

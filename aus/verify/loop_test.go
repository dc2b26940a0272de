package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// From two completes to an update that clients get and survive: the partial is made, offered by our own update server, and
// verified through its answers.
func TestLoop(t *testing.T) {
	t.Parallel()
	r := smallRelease(t, 1, 1, 1)
	platform, locale, release := r.platforms[0], r.locales[0], r.releases[0]
	from, to := r.file("/from/"+platform+"/"+release+"/"+locale+".mar"), r.file("/to/"+platform+"/"+locale+".mar")
	archive, _, err := partial.Build(t.Context(), openBytes(t, from), openBytes(t, to), partial.DefaultRecipe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	product, _ := openBytes(t, to).Product()
	archive.Product = &product
	signer, err := mar.CryptoSigner(r.key, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if _, err := archive.WriteSigned(t.Context(), &made, signer); err != nil {
		t.Fatal(err)
	}
	partialPath := fmt.Sprintf("/partial/%s/%s/%s.mar", platform, release, locale)
	r.files[partialPath] = made.Bytes()

	offer := func(from, path string, data []byte) map[string]any {
		return map[string]any{"from": from, "filesize": len(data), "hashValue": fmt.Sprintf("%x", sha512.Sum512(data)), "fileUrl": r.server.URL + path}
	}
	blob := func(name, app, display, build string, completes, partials []any) *aus.Release {
		files := map[string]any{"buildID": build}
		if completes != nil {
			files["completes"], files["partials"] = completes, partials
		}
		document, err := json.Marshal(map[string]any{
			"name": name, "schema_version": 9, "hashFunction": "sha512", "appVersion": app, "displayVersion": display,
			"platforms": map[string]any{platform: map[string]any{"locales": map[string]any{locale: files}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		release, err := aus.NewRelease(name, "Firefox", document, nil)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	host, err := url.Parse(r.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	firefox, channel, mapping, minor, n := "Firefox", "esr-localtest", "Firefox-153.6.0", "minor", int64(100)
	snapshot, problems := aus.Compile(aus.Config{
		Rules: []aus.Rule{{ID: 1, Priority: &n, BackgroundRate: &n, UpdateType: &minor, Product: &firefox, Channel: &channel, Mapping: &mapping, DataVersion: 1}},
		Releases: []*aus.Release{
			blob("Firefox-153.6.0", "153.6.0", "153.6.0esr", toBuild,
				[]any{offer("*", "/to/"+platform+"/"+locale+".mar", to)}, []any{offer("Firefox-153.5.0", partialPath, made.Bytes())}),
			blob("Firefox-153.5.0", "153.5.0", "153.5.0esr", buildID(0), nil, nil),
		},
		AllowList: aus.AllowList{{Host: host.Hostname(), Products: []string{"Firefox"}}, {Host: host.Host, Products: []string{"Firefox"}}},
	})
	if aus.Errors(problems) > 0 {
		t.Fatal(problems)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer := snapshot.Respond(aus.Request{Method: req.Method, URL: req.URL.RequestURI(), Base: "http://" + req.Host, Header: req.Header}, aus.Env{Now: time.Now()})
		for key, values := range answer.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Status)
		_, _ = w.Write(answer.Body)
	}))
	defer server.Close()
	o := r.options(t)
	o.AUSServer = server.URL
	o.Request = "/update/6/%PRODUCT%/%VERSION%/%BUILD_ID%/%BUILD_TARGET%/%LOCALE%/%CHANNEL%/%OS_VERSION%/%SYSTEM_CAPABILITIES%/%DISTRIBUTION%/%DISTRIBUTION_VERSION%/update.xml"
	report, err := Run(t.Context(), r.config(), o)
	if err != nil {
		t.Fatal(err)
	}
	if totals := report.Totals(); totals.Pass != 2 || !report.Passed(true) {
		t.Errorf("%+v: %+v", totals, report.Groups)
	}
	lines := r.config() // who is not in the release's data gets nothing, and that is seen
	lines[0].Locales = []string{"none"}
	if report, err = Run(t.Context(), lines, o); err != nil || report.Totals().Fail != 2 || report.Tests[0].Reasons[0].Code != NoUpdateOffered {
		t.Errorf("%v: %+v", err, report)
	}
}

func openBytes(tb testing.TB, data []byte) *mar.Reader {
	tb.Helper()
	r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

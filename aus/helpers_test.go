package aus_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/aus"
)

const (
	target = "WINNT_x86_64-msvc-x64"
	sum    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func release(tb testing.TB, name, document string) *aus.Release {
	tb.Helper()
	r, err := aus.NewRelease(name, "Fox", []byte(document), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// build is a release of one platform and one locale; more is put before the platforms.
func build(tb testing.TB, version, buildID, more string) *aus.Release {
	tb.Helper()
	return release(tb, "Fox-"+version, fmt.Sprintf(`{"name": "Fox-%[1]s", "schema_version": 9, "hashFunction": "sha512", "appVersion": "%[1]s", "displayVersion": "%[1]s", %[3]s
		"platforms": {"%[4]s": {"OS_FTP": "win", "OS_BOUNCER": "win", "locales": {"de": {"buildID": %[2]s,
			"completes": [{"from": "*", "filesize": 1000, "hashValue": "%[5]s", "fileUrl": "https://dl.example/%[1]s.mar"}]}}}}}`,
		version, buildID, more, target, sum))
}

// rules reads rules as JSON; priority, rate, type and ID have defaults.
func rules(tb testing.TB, texts ...string) []aus.Rule {
	tb.Helper()
	var list []aus.Rule
	for i, s := range texts {
		priority, rate, minor := int64(100), int64(100), "minor"
		r := aus.Rule{ID: int64(i + 1), Priority: &priority, BackgroundRate: &rate, UpdateType: &minor, DataVersion: 1}
		if err := json.Unmarshal([]byte(s), &r); err != nil {
			tb.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func allow() aus.AllowList { return aus.AllowList{{Host: "dl.example", Products: []string{"Fox"}}} }

// path is the address of a client.
func path(version, buildID, locale, channel, rest string) string {
	return "/update/6/Fox/" + version + "/" + buildID + "/" + target + "/" + locale + "/" + channel + "/Windows_NT%2010.0/ISET:SSE4_2,MEM:8192/default/default/update.xml" + rest
}

func query(tb testing.TB, url string) aus.Query {
	tb.Helper()
	q, ok := aus.ParseURL(url, nil)
	if !ok {
		tb.Fatalf("%s is no address of a client", url)
	}
	return q
}

func ask(s interface {
	Respond(aus.Request, aus.Env) aus.Response
}, url string,
) aus.Response {
	return s.Respond(aus.Request{Method: "GET", URL: url, Base: "https://aus.example"}, aus.Env{Dice: func() int { return 50 }})
}

// offers says which version a body offers, or "".
func offers(body []byte) string {
	_, rest, ok := strings.Cut(string(body), `appVersion="`)
	if !ok {
		return ""
	}
	version, _, _ := strings.Cut(rest, `"`)
	return version
}

package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/state"
	"github.com/senbonzakura/senbonzakura/examples/internal/openapitest"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// Completes are added; partials are made by themselves, and for who asks; signed products need a key.
func TestPartials(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	versions := []string{"90.0", "91.0", "92.0"}
	for i, v := range versions {
		a := s.add(complete(t, v, fmt.Sprintf("2024010%d000000", i+1), nil), Addition{})
		if a.Build.Channel != "beta" || a.Build.Locale != "de" || a.Build.Target != "Linux_x86_64-gcc3" || len(a.Build.Defaults) != 0 || a.Rule != 1 {
			t.Errorf("%s is %+v", v, a)
		}
	}
	url := func(i int) string {
		return fmt.Sprintf("/update/3/Fox/%s/2024010%d000000/Linux_x86_64-gcc3/de/beta/Linux/default/default/update.xml", versions[i], i+1)
	}
	var body string
	for i := range 2 {
		eventually(t, "a partial from "+versions[i], func() bool {
			s.call("GET", url(i), nil, &body)
			if !strings.Contains(body, `appVersion="92.0"`) {
				t.Fatalf("it gets %s", body)
			}
			return strings.Contains(body, `type="partial"`)
		})
	}
	if s.offered(url(2)) != "" {
		t.Error("the newest is offered an update")
	}
	// It is the file that is offered: whole, in parts, under its size and hash.
	_, rest, _ := strings.Cut(body, `type="partial" URL="`)
	address, _, _ := strings.Cut(rest, `"`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=0-3")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if part, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusPartialContent || string(part) != "MAR1" {
		t.Errorf("a range: %d %q, %v", res.StatusCode, part, err)
	}
	// A locale that nobody ordered is made when a client asks.
	var demand []demandBody
	eventually(t, "noted as made", func() bool {
		demand = nil
		return s.call("GET", "/admin/v1/demand", nil, &demand) == http.StatusOK && len(demand) > 1 && demand[0].State == book.Made
	})
	// The pages say what was made, what it saves, and which versions ask.
	for path, want := range map[string]string{
		"/ui/demand":   `less than the complete update`,
		"/ui/releases": ` partial updates are offered. Together they are `,
		"/ui/adoption": `<h2>Fox, beta</h2>`,
	} {
		if status := s.call("GET", path, nil, &body); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	s.call("GET", "/ui/adoption", nil, &body)
	if newest, oldest := strings.Index(body, "<td>92.0</td>"), strings.Index(body, "<td>90.0</td>"); newest < 0 || oldest < newest {
		t.Errorf("adoption: %s", body)
	}
	// The same file again changes nothing; an older one does not move the rule.
	before := s.current.Load().head.Seq
	if a := s.add(complete(t, "92.0", "20240103000000", nil), Addition{}); a.Snapshot.Seq != before {
		t.Errorf("added again: %+v", a)
	}
	if a := s.add(complete(t, "89.0", "20231201000000", nil), Addition{}); a.Rule != 0 || s.offered(url(1)) != "92.0" {
		t.Errorf("an older one: %+v", a)
	}
	for _, tt := range []struct {
		name string
		data []byte
	}{{"x.mar", []byte("not a MAR file")}, {"..%2Fx.mar", []byte("x")}, {"x.mar", nil}} {
		var said string
		if status := s.call("PUT", "/admin/v1/files/"+tt.name, bytes.NewReader(tt.data), &said); status < 400 || status >= 500 {
			t.Errorf("upload of %q as %s: %d %s", tt.data, tt.name, status, said)
		}
	}
	var counts countsBody
	if s.call("GET", "/admin/v1/counts", nil, &counts); counts.Outcomes["update"] == 0 || counts.Partials < 2 || len(counts.Versions) != 3 || counts.Outcomes["not-newer"] != 1 {
		t.Errorf("counts: %+v", counts)
	}
}

// By themselves partials come from the last builds of the channel, not from those of another one.
func TestPartialsOfChannel(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Builds = 1 })
	s.add(complete(t, "90.0", "20240101000000", nil), Addition{Channel: "release"})
	s.add(complete(t, "90.1", "20240102000000", nil), Addition{Channel: "nightly"})
	s.add(complete(t, "91.0", "20240103000000", nil), Addition{Channel: "release"})
	s.add(complete(t, "91.1", "20240104000000", nil), Addition{Channel: "nightly"})
	var demand []demandBody
	eventually(t, "two partials made", func() bool {
		s.call("GET", "/admin/v1/demand", nil, &demand)
		return len(demand) >= 2 && demand[0].State == book.Made && demand[1].State == book.Made
	})
	pairs := map[string]bool{}
	for _, d := range demand {
		pairs[d.From.Version+" "+d.To.Version] = true
	}
	if len(pairs) != 2 || !pairs["90.0 91.0"] || !pairs["90.1 91.1"] {
		t.Errorf("%v", pairs)
	}
}

func TestSignedPartials(t *testing.T) {
	t.Parallel()
	k := key(t)
	signer, err := mar.CryptoSigner(k, mar.RSAPKCS1SHA384)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		complete crypto.Signer // of the complete updates
		signers  []mar.Signer
		state    string
		reason   string
		signed   int // signatures of the partial
	}{
		{"without a key", k, nil, book.Withheld, "there is no key to sign the partial with", 0},
		{"with a key", k, []mar.Signer{signer}, book.Made, "", 1},
		{"with a key, of completes without signatures", nil, []mar.Signer{signer}, book.Made, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, t.TempDir(), func(o *Options) {
				o.Generator = senbonzakura.Options{Signers: tt.signers, Require: []senbonzakura.Requirement{}}
			})
			s.add(complete(t, "90.0", "20240101000000", tt.complete), Addition{})
			s.add(complete(t, "91.0", "20240102000000", tt.complete), Addition{})
			var demand []demandBody
			eventually(t, tt.state, func() bool {
				s.call("GET", "/admin/v1/demand", nil, &demand)
				return len(demand) == 1 && demand[0].State != book.Wanted && demand[0].State != book.Working
			})
			if demand[0].State != tt.state || !strings.Contains(demand[0].Reason, tt.reason) {
				t.Errorf("%+v", demand[0])
			}
			for _, o := range s.State().List(state.Made) {
				r, err := mar.OpenFile(s.filePath(fileName(o.Made().Hash)), nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := len(r.Signatures()); got != tt.signed {
					t.Errorf("the partial has %d signatures, want %d", got, tt.signed)
				}
				r.Close()
			}
		})
	}
}

// A partial that was made elsewhere is offered to those whom it was made for, which its patches tell.
func TestAddPartial(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Builds = -1 })
	versions := []struct{ version, buildID string }{{"90.0", "20240101000000"}, {"91.0", "20240102000000"}, {"92.0", "20240103000000"}}
	completes := map[string]*mar.Reader{}
	for _, v := range versions {
		data := complete(t, v.version, v.buildID, nil)
		s.add(data, Addition{})
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		completes[v.version] = r
	}
	send := func(from, to string) (int, string) {
		t.Helper()
		update, _, err := partial.Build(t.Context(), completes[from], completes[to], partial.DefaultRecipe(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := update.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		var up uploadedBody
		if status := s.call("PUT", "/admin/v1/files/x.partial.mar", &b, &up); status != http.StatusOK || !up.Build.Partial {
			t.Fatalf("upload: status %d: %+v", status, up)
		}
		return s.as("", "POST", "/admin/v1/partials", map[string]string{"sha512": up.SHA512})
	}
	status, text := send("91.0", "92.0")
	var added AddedPartial
	if err := json.Unmarshal([]byte(text), &added); err != nil || status != http.StatusOK || added.From.Version != "91.0" || added.To.Version != "92.0" {
		t.Fatalf("status %d: %s", status, text)
	}
	var answer string
	s.call("GET", "/update/3/Fox/91.0/20240102000000/Linux_x86_64-gcc3/de/beta/Linux/default/default/update.xml", nil, &answer)
	if !strings.Contains(answer, `type="partial" URL="`+added.URL) {
		t.Errorf("a client of 91.0 gets %s", answer)
	}
	// From and to what is not here.
	for _, v := range []struct{ version, buildID string }{{"89.0", "20230101000000"}, {"93.0", "20240104000000"}} {
		data := complete(t, v.version, v.buildID, nil)
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		completes[v.version] = r
	}
	for _, pair := range [][2]string{{"91.0", "93.0"}, {"89.0", "92.0"}} {
		if status, text := send(pair[0], pair[1]); status != http.StatusUnprocessableEntity || !strings.Contains(text, "leads from none of the 3 complete updates") {
			t.Errorf("%v: status %d: %s", pair, status, text)
		}
	}
	if n := s.State().Len(state.Made); n != 1 {
		t.Errorf("%d partials are offered, want 1", n)
	}
}

// With review made partials are drafts, until somebody publishes them.
func TestReview(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) { o.Review = true })
	s.add(complete(t, "90.0", "20240101000000", nil), Addition{})
	s.add(complete(t, "91.0", "20240102000000", nil), Addition{})
	const url = "/update/3/Fox/90.0/20240101000000/Linux_x86_64-gcc3/de/beta/Linux/default/default/update.xml"
	var drafts []book.Draft
	eventually(t, "a draft", func() bool {
		s.call("GET", "/admin/v1/drafts", nil, &drafts)
		return len(drafts) == 1
	})
	var body string
	if s.call("GET", url, nil, &body); strings.Contains(body, `type="partial"`) || drafts[0].Author != "ausd" {
		t.Errorf("before it is published: %s, draft %+v", body, drafts[0])
	}
	if status := s.call("POST", fmt.Sprintf("/admin/v1/drafts/%d/publish", drafts[0].ID), nil, nil); status != 200 {
		t.Fatalf("publish: %d", status)
	}
	if s.call("GET", url, nil, &body); !strings.Contains(body, `type="partial"`) {
		t.Errorf("after it is published: %s", body)
	}
}

// Who may do what, from where.
func TestWho(t *testing.T) {
	t.Parallel()
	sum := func(token string) string {
		h := sha256.Sum256([]byte(token))
		return hex.EncodeToString(h[:])
	}
	s := start(t, t.TempDir(), func(o *Options) {
		o.Tokens = []Token{
			{Name: "reader", SHA256: sum("r"), Roles: []Role{RoleRead}},
			{Name: "editor", SHA256: sum("e"), Roles: []Role{RoleEdit}},
			{Name: "guard", SHA256: sum("g"), Roles: []Role{RoleShutoff}},
			{Name: "boss", SHA256: sum("b"), Roles: []Role{RolePublish}},
		}
	})
	s.seed()
	ask := func(method, path, body string, change func(*http.Request)) int {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.RemoteAddr, r.Host = "127.0.0.1:5000", "localhost:8090"
		r.Header.Set("Content-Type", "application/json")
		change(r)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code
	}
	token := func(t string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr, r.Host = "203.0.113.9:5000", "aus.example"
			r.Header.Set("Authorization", "Bearer "+t)
		}
	}
	header := func(name, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(name, v) } }
	n := 0
	publish := func() string {
		n++
		return fmt.Sprintf(`{"comment": "c", "operations": [{"kind": "host", "key": "h%d.example", "body": {"products": ["Fox"]}}]}`, n)
	}
	draft := func() string { return strings.Replace(publish(), `"comment"`, `"draft": true, "comment"`, 1) }
	const shut, status, page = `{"product": "None", "comment": "c"}`, "/admin/v1/status", "/"
	for _, tt := range []struct {
		name         string
		method, path string
		body         string
		from         func(*http.Request)
		want         int
	}{
		{"local", "GET", status, "", func(*http.Request) {}, 200},
		{"local publishes", "POST", "/admin/v1/changes", publish(), func(*http.Request) {}, 200},
		{"local by IPv6", "GET", status, "", func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:5000", "[::1]:8090" }, 200},
		{"from elsewhere", "GET", status, "", func(r *http.Request) { r.RemoteAddr = "203.0.113.9:5000" }, 401},
		{"through a proxy", "GET", status, "", header("X-Forwarded-For", "203.0.113.9"), 401},
		{"a name that was bent to this machine", "GET", status, "", func(r *http.Request) { r.Host = "evil.example" }, 401},
		{"a form of another page", "POST", "/admin/v1/changes", publish(), header("Sec-Fetch-Site", "cross-site"), 403},
		{"a form of another origin", "POST", "/ui/shutoffs", "comment=x", header("Origin", "https://evil.example"), 403},
		{"a token that is none", "GET", status, "", token("x"), 401},
		{"a wrong token on this machine", "GET", status, "", header("Authorization", "Bearer x"), 401},
		{"reader reads", "GET", status, "", token("r"), 200},
		{"reader drafts", "POST", "/admin/v1/changes", draft(), token("r"), 403},
		{"editor drafts", "POST", "/admin/v1/changes", draft(), token("e"), 200},
		{"editor schedules", "POST", "/admin/v1/changes", strings.Replace(draft(), `"comment"`, `"scheduled": "2099-01-01T00:00:00Z", "comment"`, 1), token("e"), 403},
		{"editor publishes", "POST", "/admin/v1/changes", publish(), token("e"), 403},
		{"editor shuts off", "POST", "/admin/v1/shutoffs", shut, token("e"), 403},
		{"editor reverts", "POST", "/admin/v1/revert", `{"to": 1}`, token("e"), 403},
		{"guard shuts off", "POST", "/admin/v1/shutoffs", shut, token("g"), 200},
		{"guard publishes", "POST", "/admin/v1/changes", publish(), token("g"), 403},
		{"boss publishes", "POST", "/admin/v1/changes", publish(), token("b"), 200},
		{"boss drafts", "POST", "/admin/v1/changes", draft(), token("b"), 200},
		{"the page from elsewhere", "GET", page, "", func(r *http.Request) { r.RemoteAddr = "203.0.113.9:5000" }, 403},
		{"the page", "GET", page, "", func(*http.Request) {}, 200},
		{"a client from elsewhere", "GET", client, "", func(r *http.Request) { r.RemoteAddr = "203.0.113.9:5000" }, 200},
	} {
		if got := ask(tt.method, tt.path, tt.body, tt.from); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.want)
		}
	}
	list, err := s.book.History(t.Context(), 0, 10)
	if err != nil || list[0].Author != "boss" {
		t.Errorf("the last author is %q, %v", list[0].Author, err)
	}
}

// Whatever is asked, the public side answers, and not with a 5xx.
func TestPublicNever500(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	s.seed()
	host := strings.TrimPrefix(s.url, "http://")
	for _, line := range []string{
		"GET " + client + "?_=1&force=1&pin=x HTTP/1.1", "GET //update/3//x HTTP/1.1", "GET /update/../files/../update HTTP/1.1", "HEAD " + client + " HTTP/1.1",
		"POST " + client + " HTTP/1.1", "OPTIONS " + client + " HTTP/1.1", "DELETE / HTTP/1.1", "GET /files/x/y HTTP/1.1", "GET /files/" + strings.Repeat("a", 32) + "/..%2f..%2fausd.db HTTP/1.1",
		"GET /api/v1/rules HTTP/1.1", "GET /api/v1/releases/Fox-91.0?pretty=1 HTTP/1.1", "GET /admin/v1/nothing HTTP/1.1", "GET /%00%ff HTTP/1.1", "GET /ui/nothing HTTP/1.1",
		"GET /update/3/" + strings.Repeat("%2F", 2000) + " HTTP/1.1", "GET /__lbheartbeat__ HTTP/1.1", "PUT /files/a/b HTTP/1.1",
	} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // a connection that was just made
		if _, err := fmt.Fprintf(c, "%s\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", line, host); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		c.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) || answer[9] == '5' || answer[9] == '1' {
			t.Errorf("%.80s: %.200q, %v", line, answer, err)
		}
	}
}

// Clients behind one address share an answer; a parameter tells them apart; the network is all that counts.
func TestClientOf(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), func(o *Options) {
		o.ClientParameter = "id"
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	of := func(addr, forwarded, query string) string {
		r := httptest.NewRequest(http.MethodGet, client+query, nil)
		r.RemoteAddr = addr
		if forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		return s.clientOf(r)
	}
	base := of("203.0.113.9:1", "", "")
	for _, tt := range []struct {
		name, addr, forwarded, query string
		same                         bool
	}{
		{"another port", "203.0.113.9:2", "", "", true},
		{"a neighbour", "203.0.113.77:1", "", "", true},
		{"another network", "203.0.114.9:1", "", "", false},
		{"through a trusted proxy", "10.1.1.1:1", "203.0.113.9", "", true},
		{"through two", "10.1.1.1:1", "203.0.113.9, 10.2.2.2", "", true},
		{"who claims to be another", "203.0.113.9:1", "198.51.100.1", "", true},
		{"who claims so through a proxy", "10.1.1.1:1", "198.51.100.1, 203.0.113.9", "", true},
		{"with a parameter", "203.0.113.9:1", "", "?id=7", false},
	} {
		if got := of(tt.addr, tt.forwarded, tt.query); (got == base) != tt.same {
			t.Errorf("%s: the same client %v, want %v", tt.name, got == base, tt.same)
		}
	}
	if of("203.0.113.9:1", "", "?id=7") != of("198.51.100.1:1", "", "?id=7") {
		t.Error("a parameter does not outweigh the address")
	}
	if strings.Contains(base, "203") {
		t.Error("the address shows")
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	get := func(path string) string {
		t.Helper()
		var body string
		if status := s.call("GET", path, nil, &body); status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, status, body)
		}
		return body
	}
	if !strings.Contains(get("/"), "Nothing is published yet") {
		t.Error("a new server does not say what to do")
	}
	s.seed()
	for path, want := range map[string]string{
		"/?product=Fox&version=89.0&build_id=20230101000000&target=Linux&locale=de&channel=release&os=Linux": "Fox-91.0, as a complete update alone",
		"/?product=Fox&version=%3Cscript%3E&build_id=1&target=x&locale=de&channel=y&os=z":                    "&lt;script&gt;",
		"/ui/rules":    "Clients of Fox get Fox-91.0 (priority 100)",
		"/ui/releases": "Fox-90.0",
		"/ui/demand":   "Nothing was wanted yet",
		"/ui/shutoffs": "None.",
		"/ui/history":  "begin",
	} {
		if body := get(path); !strings.Contains(body, want) || strings.Contains(body, "<script>") {
			t.Errorf("%s: no %q in %s", path, want, body)
		}
	}
	form := func(path string, values ...string) (int, string) {
		t.Helper()
		var b strings.Builder
		for i := 0; i < len(values); i += 2 {
			fmt.Fprintf(&b, "%s=%s&", values[i], values[i+1])
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if status, body := form("/ui/shutoffs", "product", "Fox", "os", "Linux", "comment", "it+crashes", "hours", "2"); status != 200 || !strings.Contains(body, "it crashes") || s.offered(client) != "" {
		t.Errorf("shutting off: %d %s", status, body)
	}
	if status, body := form("/ui/shutoffs", "product", "Fox"); status != 422 || !strings.Contains(body, "say why") {
		t.Errorf("without a reason: %d %s", status, body)
	}
	if status, _ := form("/ui/shutoffs/1/lift"); status != 200 || s.offered(client) != "91.0" {
		t.Errorf("lifting: %d", status)
	}
	if status, _ := form("/ui/shutoffs/9/lift"); status != 404 {
		t.Errorf("lifting nothing: %d", status)
	}
	if status, body := form("/ui/history/2/revert"); status != 200 || s.offered(client) != "" || !strings.Contains(body, "revert to snapshot 2") {
		t.Errorf("going back: %d %s", status, body)
	}
}

// The document of the API names every route, and is one that says 3.1.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	var document struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	var text string
	if status := s.call("GET", "/admin/v1/openapi.json", nil, &text); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil || !strings.HasPrefix(document.OpenAPI, "3.1") || len(document.Paths) < 15 {
		t.Errorf("%v: %s with %d paths", err, document.OpenAPI, len(document.Paths))
	}
	openapitest.Valid(t, []byte(text))
}

// The purge is called behind each publication.
func TestPurge(t *testing.T) {
	t.Parallel()
	called := make(chan int64, 4)
	s := start(t, t.TempDir(), func(o *Options) { o.Purge = func(_ context.Context, head book.Snapshot) { called <- head.Seq } })
	s.seed()
	select {
	case seq := <-called:
		if seq != 1 {
			t.Errorf("called for snapshot %d", seq)
		}
	case <-time.After(time.Minute):
		t.Error("not called")
	}
}

// What nothing leads to is removed, what a snapshot of the last days names is not.
func TestCollect(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	s := start(t, t.TempDir(), func(o *Options) {
		o.Builds = -1
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	first := s.add(complete(t, "90.0", "20240101000000", nil), Addition{})
	second := s.add(complete(t, "91.0", "20240102000000", nil), Addition{})
	collect := func(days, newest int, dry bool) Garbage {
		t.Helper()
		var g Garbage
		if status := s.call("POST", "/admin/v1/gc", map[string]any{"days": days, "newest": newest, "dry_run": dry}, &g); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return g
	}
	if g := collect(0, 0, false); len(g.Files) != 0 || g.Kept != 2 {
		t.Errorf("while both are offered: %+v", g)
	}
	if status := s.call("POST", "/admin/v1/changes", change("remove", operation("release", first.Release, nil)), nil); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	later.Store(int64(time.Second)) // days are counted from now on
	for _, tt := range []struct {
		days, newest int
		dry          bool
		removed      int
	}{{30, 0, false, 0}, {0, 2, false, 0}, {0, 1, true, 1}, {0, 0, false, 1}, {0, 0, false, 0}} {
		if g := collect(tt.days, tt.newest, tt.dry); len(g.Files) != tt.removed || g.Removed == tt.dry {
			t.Errorf("%+v: %+v", tt, g)
		}
	}
	for url, want := range map[string]int{first.URL: http.StatusNotFound, second.URL: http.StatusOK} {
		if status := s.call("HEAD", strings.TrimPrefix(url, s.url), nil, nil); status != want {
			t.Errorf("%s: status %d, want %d", url, status, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	s.seed()
	s.offered(client)
	var body string
	if status := s.call("GET", "/metrics", nil, &body); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{`ausd_answers_total{outcome="update"} 1`, "ausd_snapshot 1", `ausd_objects{kind="release"} 2`, `ausd_problems{severity="error"} 0`} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("there is no %s in %s", want, body)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
		t.Errorf("from elsewhere: status %d", w.Code)
	}
}

// Who tries tokens is kept out from all but what clients ask, and so is nobody on this machine.
func TestBans(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("right"))
	s := start(t, t.TempDir(), func(o *Options) {
		o.Failures, o.Ban = 3, time.Hour
		o.Tokens = []Token{{Name: "reader", SHA256: hex.EncodeToString(sum[:]), Roles: []Role{RoleRead}}}
	})
	s.seed()
	handler := s.Handler()
	ask := func(from, path, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr, r.Host = from+":5000", "aus.example"
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const status = "/admin/v1/status"
	for i := range 3 {
		if got := ask("203.0.113.9", status, "wrong").Code; got != http.StatusUnauthorized {
			t.Errorf("%d: %d", i, got)
		}
		ask("127.0.0.1", status, "wrong")
	}
	if w := ask("203.0.113.9", status, "wrong"); w.Code != http.StatusForbidden || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "banned until") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for _, tt := range []struct {
		from, path, token string
		want              int
	}{
		{"203.0.113.9", status, "", http.StatusForbidden},
		{"203.0.113.9", status, "right", http.StatusOK},
		{"203.0.113.9", client, "", http.StatusOK},
		{"203.0.113.9", "/files/" + strings.Repeat("a", 32) + "/x.mar", "", http.StatusNotFound},
		{"203.0.113.8", status, "right", http.StatusOK},
		{"127.0.0.1", status, "wrong", http.StatusUnauthorized},
	} {
		if w := ask(tt.from, tt.path, tt.token); w.Code != tt.want {
			t.Errorf("%s asks %s with %q: %d %s, want %d", tt.from, tt.path, tt.token, w.Code, w.Body, tt.want)
		}
	}
	if w := ask("203.0.113.8", "/metrics", "right"); !strings.Contains(w.Body.String(), `ausd_http_request_duration_seconds_count{code="403",method="GET",route="GET /admin/v1/status"} 2`) {
		t.Errorf("%s", w.Body)
	}
}

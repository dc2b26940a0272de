package web_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

const (
	readToken    = "read-read-read-read-read"
	submitToken  = "submit-submit-submit-submit"
	operateToken = "operate-operate-operate-operate"
)

func guarded() web.Options {
	return web.Options{Tokens: []web.Token{
		{Name: "reader", Secret: readToken, Roles: []web.Role{web.RoleRead}},
		{Name: "submitter", SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(submitToken))), Roles: []web.Role{web.RoleSubmit}, Quota: web.Limit{Count: 4, Window: time.Hour}},
		{Name: "operator", Secret: operateToken, Roles: []web.Role{web.RoleRead, web.RoleSubmit, web.RoleOperate}},
	}}
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// TestRoles asks for every route as everybody.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := open(t, guarded())
	id := s.do("POST", "/api/v1/partials", spec(hashA, hashB), bearer(operateToken)...).want(202).job().ID
	routes := []struct {
		method, path, body string
		role               web.Role
	}{
		{"GET", "/api/v1/jobs/" + id, "", web.RoleRead},
		{"GET", "/api/v1/jobs/" + nobody + "/events", "", web.RoleRead},
		{"GET", "/api/v1/jobs/" + id + "/log", "", web.RoleRead},
		{"GET", "/api/v1/partials/" + id, "", web.RoleRead},
		{"HEAD", "/api/v1/partials/" + id, "", web.RoleRead},
		{"GET", "/api/v1/partials/" + id + "/report", "", web.RoleRead},
		{"GET", "/api/v1/partials/" + id + "/provenance", "", web.RoleRead},
		{"GET", "/api/v1/batches/" + nobody, "", web.RoleRead},
		{"GET", "/api/v1/history", "", web.RoleRead},
		{"GET", "/api/v1/queue", "", web.RoleRead},
		{"GET", "/metrics", "", web.RoleRead},
		{"POST", "/api/v1/partials:check", spec(hashA, hashB), web.RoleRead},
		{"POST", "/api/v1/partials", spec(hashA, hashC), web.RoleSubmit},
		{"POST", "/api/v1/batches", `{"specs":[` + spec(hashA, hashB) + `]}`, web.RoleSubmit},
		{"POST", "/api/v1/uploads", "x", web.RoleSubmit},
		{"POST", "/api/v1/jobs/" + nobody + "/retry", "", web.RoleSubmit},
		{"DELETE", "/api/v1/jobs/" + nobody, "", web.RoleSubmit},
		{"DELETE", "/api/v1/partials/" + nobody, "", web.RoleOperate},
		{"POST", "/api/v1/purge", `{"before":"2020-01-01T00:00:00Z"}`, web.RoleOperate},
		{"GET", "/api/v1/actions", "", web.RoleOperate},
		{"GET", "/api/v1/bans", "", web.RoleOperate},
		{"POST", "/api/v1/bans", `{"address":"192.0.2.1","seconds":1}`, web.RoleOperate},
		{"DELETE", "/api/v1/bans/192.0.2.1", "", web.RoleOperate},
		{"POST", "/partial", "", web.RoleSubmit},
		{"GET", "/partial/" + hashA + "-" + hashB, "", web.RoleRead},
		{"GET", "/", "", web.RoleRead},
		{"GET", "/jobs/" + id, "", web.RoleRead},
		{"GET", "/history", "", web.RoleRead},
		{"GET", "/queue", "", web.RoleRead},
		{"GET", "/batches/new", "", web.RoleSubmit},
		{"POST", "/jobs", "", web.RoleSubmit},
		{"POST", "/batches", "", web.RoleSubmit},
		{"POST", "/jobs/" + nobody + "/cancel", "", web.RoleSubmit},
		{"POST", "/jobs/" + nobody + "/retry", "", web.RoleSubmit},
		{"POST", "/jobs/" + nobody + "/again", "", web.RoleSubmit},
		{"POST", "/jobs/" + nobody + "/purge", "", web.RoleOperate},
		{"POST", "/bans", "", web.RoleOperate},
		{"POST", "/bans/lift", "", web.RoleOperate},
	}
	may := map[string]map[web.Role]bool{
		"":           {},
		readToken:    {web.RoleRead: true},
		submitToken:  {web.RoleRead: true, web.RoleSubmit: true},
		operateToken: {web.RoleRead: true, web.RoleSubmit: true, web.RoleOperate: true},
	}
	for token, roles := range may {
		for _, r := range routes {
			var header []string
			if token != "" {
				header = bearer(token)
			}
			got := s.do(r.method, r.path, r.body, header...)
			refused := got.StatusCode == http.StatusUnauthorized || got.StatusCode == http.StatusForbidden || got.Header.Get("Location") == "/login?next="+strings.ReplaceAll(r.path, "/", "%2F")
			if refused == roles[r.role] {
				t.Errorf("%s %s as %q: %s", r.method, r.path, token, got.Status)
			}
			if token == "" && strings.HasPrefix(r.path, "/api/") && (got.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Bearer")) {
				t.Errorf("%s %s without a token: %s %v", r.method, r.path, got.Status, got.Header)
			}
			if token != "" && refused && got.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s as %q: %s, want 403", r.method, r.path, token, got.Status)
			}
		}
	}
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/openapi-3.0.json", "/login", "/problems", "/api", "/__version__", "/__heartbeat__", "/__lbheartbeat__"} {
		s.do("GET", path, "").want(200)
	}
	for _, wrong := range []string{"Bearer x", "Bearer ", "Basic eDp5", "Bearer " + readToken + "x", "bearer"} {
		s.do("GET", "/api/v1/queue", "", "Authorization", wrong).problem(401, "unauthorized")
	}
	s.do("GET", "/api/v1/queue", "", "Authorization", "bearer "+readToken).want(200)
}

func TestAnonymousRoles(t *testing.T) {
	t.Parallel()
	o := guarded()
	o.Anonymous = []web.Role{web.RoleRead}
	s := open(t, o)
	s.do("GET", "/api/v1/queue", "").want(200)
	s.do("POST", "/api/v1/partials", spec(hashA, hashB)).problem(401, "unauthorized")
	if got := s.do("GET", "/", "").want(200).body; !strings.Contains(got, `href="/login"`) || strings.Contains(got, "from_file") {
		t.Error("the page offers a form to who may only read")
	}
	closed := open(t, web.Options{})
	closed.do("GET", "/api/v1/queue", "").problem(401, "unauthorized")
}

func TestQuota(t *testing.T) {
	t.Parallel()
	s := open(t, guarded())
	auth := bearer(submitToken)
	for i := range 2 {
		s.do("POST", "/api/v1/partials", spec(hashA, fmt.Sprintf("%0128d", i)), auth...).want(202)
	}
	s.do("POST", "/api/v1/batches", `{"specs":[`+spec(hashA, hashB)+`,`+spec(hashA, hashC)+`]}`, auth...).want(202)
	p := s.do("POST", "/api/v1/partials", spec(hashB, hashC), auth...).problem(429, job.CodeQuota)
	if p.RetryAfter < 3000 || !strings.Contains(p.Detail, "submitter") {
		t.Errorf("got %+v", p)
	}
	s.do("POST", "/partial", funsizeForm(hashB, hashC), append(auth, "Content-Type", "application/x-www-form-urlencoded")...).want(429)
	s.do("POST", "/api/v1/partials", spec(hashB, hashC), bearer(operateToken)...).want(202)

	// Without a token each address has its own.
	anon := open(t, web.Options{
		Anonymous: web.Roles(), AnonymousQuota: web.Limit{Count: 1, Window: time.Hour}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	})
	for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		anon.do("POST", "/api/v1/partials", spec(hashA, hashB), "X-Forwarded-For", addr).want(202)
		anon.do("POST", "/api/v1/partials", spec(hashA, hashB), "X-Forwarded-For", addr).problem(429, job.CodeQuota)
	}
}

func TestRateAndBan(t *testing.T) {
	t.Parallel()
	o := guarded()
	o.Anonymous = []web.Role{web.RoleRead}
	o.Rate = web.Limit{Count: 10, Window: time.Hour}
	o.BanAfter = web.Limit{Count: 3, Window: time.Hour}
	o.BanFor = time.Minute
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	s := open(t, o)
	from := func(addr string, header ...string) []string { return append(header, "X-Forwarded-For", addr) }
	for range 10 {
		s.do("GET", "/api/v1/queue", "", from("192.0.2.1")...).want(200)
	}
	for range 30 { // which is never more than that
		if p := s.do("GET", "/api/v1/queue", "", from("192.0.2.1")...).problem(429, "rate-limited"); p.RetryAfter < 3000 {
			t.Errorf("got %+v", p)
		}
	}
	s.do("GET", "/api/v1/queue", "", from("192.0.2.2")...).want(200)
	s.do("GET", "/__lbheartbeat__", "", from("192.0.2.1")...).want(200)
	// Who has a token is counted by it, at whatever address: of ten and ten requests from one address none is too many.
	for range 10 {
		s.do("GET", "/api/v1/queue", "", from("192.0.2.1", bearer(readToken)...)...).want(200)
		s.do("GET", "/api/v1/queue", "", from("192.0.2.1", bearer(submitToken)...)...).want(200)
	}
	s.do("GET", "/api/v1/queue", "", from("192.0.2.9", bearer(readToken)...)...).problem(429, "rate-limited")
	// Wrong tokens are what is banned for.
	for range 4 {
		s.do("GET", "/api/v1/queue", "", from("192.0.2.3", bearer("wrong-wrong-wrong-wrong")...)...).problem(401, "unauthorized")
	}
	p := s.do("GET", "/api/v1/queue", "", from("192.0.2.3")...).problem(403, "banned")
	if p.RetryAfter < 50 || p.RetryAfter > 60 || p.Retryable {
		t.Errorf("got %+v", p)
	}
	s.do("GET", "/nothing", "", from("192.0.2.3")...).problem(403, "banned")
	s.do("GET", "/api/v1/queue", "", from("192.0.2.3", bearer(operateToken)...)...).want(200)
	s.do("POST", "/api/v1/partials", spec(hashA, hashB), from("192.0.2.3", bearer(operateToken)...)...).want(202)
	bans, err := s.svc.Bans(t.Context())
	if err != nil || len(bans) != 1 || bans[0].By != "partiald" {
		t.Errorf("got %+v, %v", bans, err)
	}
	// The proxy itself is never banned.
	for range 8 {
		s.do("GET", "/api/v1/queue", "", bearer("wrong-wrong-wrong-wrong")...).problem(401, "unauthorized")
	}
	if got := metric(t, s, `partiald_http_refused_total{code="banned"}`); got != 2 {
		t.Errorf("metric says %v", got)
	}
}

// TestOwnBan: where everybody may operate nobody locks themselves out.
func TestOwnBan(t *testing.T) {
	s := open(t, everything)
	s.do("POST", "/api/v1/bans", `{"address":"127.0.0.1","seconds":3600}`).want(200)
	s.do("DELETE", "/api/v1/bans/127.0.0.1", "").want(204)
	o := guarded()
	o.Anonymous = []web.Role{web.RoleSubmit}
	s = open(t, o)
	s.do("POST", "/api/v1/bans", `{"address":"127.0.0.1","seconds":3600}`, bearer(operateToken)...).want(200)
	s.do("GET", "/api/v1/queue", "").problem(403, "banned")
}

// TestBannedOnce: an address is not banned again and again.
func TestBannedOnce(t *testing.T) {
	o := guarded()
	o.BanAfter, o.BanFor = web.Limit{Count: 2, Window: time.Hour}, time.Hour
	o.Anonymous = web.Roles()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	s := open(t, o)
	for range 20 {
		s.do("GET", "/api/v1/queue", "", append(bearer("wrong-wrong-wrong-wrong"), "X-Forwarded-For", "192.0.2.1")...)
	}
	// One who has no token is kept out, also where everybody may operate.
	s.do("GET", "/api/v1/queue", "", "X-Forwarded-For", "192.0.2.1").problem(403, "banned")
	actions, err := s.svc.Actions(t.Context(), job.Filter{Text: "ban"})
	if err != nil || len(actions) != 1 {
		t.Errorf("banned %d times: %v", len(actions), err)
	}
}

// TestRateIsCheap: one question to the service for many requests.
func TestRateIsCheap(t *testing.T) {
	t.Parallel()
	o := everything
	o.Rate = web.Limit{Count: 5000, Window: time.Minute}
	s := open(t, o)
	for range 200 {
		s.do("GET", "/api/v1/queue", "").want(200)
	}
	if got := s.svc.Calls("Take"); got != 2 {
		t.Errorf("asked %d times for 200 requests, want 2", got)
	}
	// A service that does not answer does not keep everybody out.
	s.svc.Break(job.Errorf(job.CodeUnavailable, "away"))
	for range 200 {
		s.do("GET", "/__version__", "").want(200)
		s.do("GET", "/api", "").want(200)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := open(t, guarded())
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"}
	if got := s.do("GET", "/history?q=a", "", "Accept", "text/html").want(303).Header.Get("Location"); got != "/login?next=%2Fhistory%3Fq%3Da" {
		t.Errorf("sent to %q", got)
	}
	if got := s.do("GET", "/login?next=%2Fhistory%3Fq%3Da", "").want(200).body; !strings.Contains(got, `value="/history?q=a"`) {
		t.Error("the form forgot where to go")
	}
	if got := s.do("POST", "/login", "token=wrong&next=/history", form...).want(401); len(got.Cookies()) > 0 || !strings.Contains(got.body, "not known") {
		t.Errorf("got %v %s", got.Cookies(), got.body)
	}
	r := s.do("POST", "/login", "token="+submitToken+"&next=%2Fhistory", form...).want(303)
	if r.Header.Get("Location") != "/history" || len(r.Cookies()) != 1 {
		t.Fatalf("got %v", r.Header)
	}
	c := r.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.MaxAge != 12*3600 {
		t.Errorf("got %+v", c)
	}
	cookie := []string{"Cookie", c.Name + "=" + c.Value}
	if got := s.do("GET", "/", "", cookie...).want(200).body; !strings.Contains(got, "submitter") || !strings.Contains(got, "Log out") {
		t.Error("the page does not say who is logged in")
	}
	s.do("POST", "/api/v1/partials", spec(hashA, hashB), cookie...).want(202)
	s.do("GET", "/api/v1/bans", "", cookie...).problem(403, "forbidden")
	// Elsewhere is nowhere.
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)", "", "%0d%0aX: y"} {
		if got := s.do("POST", "/login", "token="+readToken+"&next="+next, form...).want(303).Header.Get("Location"); got != "/" {
			t.Errorf("%q leads to %q", next, got)
		}
	}
	// A cookie that stopped being one goes away, without an error for the page.
	gone := s.do("GET", "/login", "", "Cookie", c.Name+"=old-token-old-token").want(200)
	if len(gone.Cookies()) != 2 || gone.Cookies()[0].MaxAge >= 0 {
		t.Errorf("got %v", gone.Cookies())
	}
	if out := s.do("POST", "/logout", "", cookie...).want(303); len(out.Cookies()) != 2 {
		t.Errorf("got %v", out.Cookies())
	}
	// Behind TLS browsers send it over TLS only.
	o := guarded()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	secure := open(t, o).do("POST", "/login", "token="+readToken, append(form, "X-Forwarded-Proto", "https")...).want(303)
	if c := secure.Cookies()[0]; !c.Secure || c.Name != "__Host-partiald" || secure.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("got %+v, %v", c, secure.Header)
	}
	// Over TLS the other one is not believed: whoever has a name in the same domain can set it.
	https := open(t, o)
	https.do("GET", "/api/v1/queue", "", "X-Forwarded-Proto", "https", "Cookie", "__Host-partiald="+readToken).want(200)
	https.do("GET", "/api/v1/queue", "", "X-Forwarded-Proto", "https", "Cookie", "partiald="+readToken).problem(401, "unauthorized")
	https.do("GET", "/api/v1/queue", "", "Cookie", "partiald="+readToken).want(200)
}

// TestOtherSites: what another site makes a browser send changes nothing.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		s.do("POST", "/api/v1/partials", spec(hashA, hashC), header...).problem(403, "cross-origin")
		s.do("DELETE", "/api/v1/jobs/"+st.ID, "", header...).problem(403, "cross-origin")
		s.do("POST", "/jobs/"+st.ID+"/cancel", "", header...).want(403)
		s.do("POST", "/partial", "", header...).want(403)
		s.do("GET", "/api/v1/jobs/"+st.ID, "", header...).want(200)
	}
	s.do("POST", "/jobs/"+st.ID+"/cancel", "", "Sec-Fetch-Site", "same-origin", "Origin", s.srv.URL).want(303)
	// Nor does a name of theirs that leads here.
	o := everything
	o.Hosts = []string{"localhost", "127.0.0.1", "[::1]"}
	hosts := open(t, o)
	hosts.do("GET", "/api/v1/queue", "").want(200)
	hosts.do("GET", "/api/v1/queue", "", "Host", "localhost:80").want(200)
	hosts.do("GET", "/api/v1/queue", "", "Host", "[::1]:80").want(200)
	hosts.do("GET", "/api/v1/queue", "", "Host", "evil.example").problem(421, "misdirected")
	hosts.do("GET", "/__lbheartbeat__", "", "Host", "10.0.0.7").want(200)
}

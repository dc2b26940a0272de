package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

// TestHostile: whatever is sent, the answer is a problem of 4xx, and the service goes on.
func TestHostile(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	st := s.submit(hashA, hashB)
	s.logs.Reset()
	pad := func(n int) string { // a good request of exactly n bytes
		body := spec(hashA, hashB, `,"labels":{"x":""}`)
		return strings.Replace(body, `{"x":""}`, `{"x":"`+strings.Repeat("y", n-len(body))+`"}`, 1)
	}
	const post = "/api/v1/partials"
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     job.Code
		field                    string
	}{
		{"64 KiB + 1", "POST", post, pad(64<<10 + 1), nil, 413, job.CodeTooLarge, ""},
		{"huge", "POST", post, strings.Repeat("[", 5<<20), nil, 413, job.CodeTooLarge, ""},
		{"batch of 4 MiB + 1", "POST", "/api/v1/batches", strings.Repeat(" ", 4<<20+1), nil, 413, job.CodeTooLarge, ""},
		{"deep arrays", "POST", post, strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000), nil, 400, "bad-syntax", "body"},
		{"deep objects", "POST", post, strings.Repeat(`{"from":`, 7000) + "1" + strings.Repeat("}", 7000), nil, 422, job.CodeRequest, ""},
		{"deep batch", "POST", "/api/v1/batches", `{"specs":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}", nil, 400, "bad-syntax", "body"},
		{"not UTF-8", "POST", post, strings.Replace(spec(hashA, hashB), "from.mar", "from\xff.mar", 1), nil, 400, "bad-syntax", ""},
		{"half a surrogate", "POST", post, spec(hashA, hashB, `,"locale":"\ud800"`, `,"product":1`), nil, 422, job.CodeRequest, "product"},
		{"no body", "POST", post, "", nil, 400, "bad-syntax", ""},
		{"null", "POST", post, "null", nil, 422, job.CodeRequest, "body"},
		{"an array", "POST", post, "[]", nil, 422, job.CodeRequest, "body"},
		{"not JSON", "POST", post, "{", nil, 400, "bad-syntax", "body"},
		{"two values", "POST", post, spec(hashA, hashB) + "{}", nil, 400, "bad-syntax", "body"},
		{"unknown field", "POST", post, spec(hashA, hashB, `,"frm":1`), nil, 422, job.CodeRequest, "frm"},
		{"missing field", "POST", post, `{"to":{}}`, nil, 422, job.CodeRequest, "from"},
		{"short hash", "POST", post, spec("abc", hashB), nil, 422, job.CodeRequest, "from.sha512"},
		{"wrong type", "POST", post, spec(hashA, hashB, `,"priority":"1"`), nil, 422, job.CodeRequest, "priority"},
		{"out of range", "POST", post, spec(hashA, hashB, `,"priority":10`), nil, 422, job.CodeRequest, "priority"},
		{"beyond int64", "POST", post, spec(hashA, hashB, `,"priority":1e400`), nil, 400, "bad-syntax", "body"},
		{"unknown recipe", "POST", post, spec(hashA, hashB, `,"recipe":"x"`), nil, 422, job.CodeRequest, "recipe"},
		{"too many paths", "POST", post, spec(hashA, hashB, `,"force":[`+strings.Repeat(`"a",`, 1000)+`"a"]`), nil, 422, job.CodeRequest, "force"},
		{"another scheme", "POST", post, strings.Replace(spec(hashA, hashB), "https://example.org/from", "file:///etc/passwd", 1), nil, 422, job.CodeRequest, "from.urls[0]"},
		{"form content", "POST", post, "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-media-type", ""},
		{"no content type", "POST", post, spec(hashA, hashB), []string{"Content-Type", ""}, 415, "unsupported-media-type", ""},
		{"other charset", "POST", post, spec(hashA, hashB), []string{"Content-Type", "application/json; charset=utf-16"}, 415, "unsupported-media-type", ""},
		{"broken content type", "POST", post, spec(hashA, hashB), []string{"Content-Type", "application/json;;;="}, 415, "unsupported-media-type", ""},
		{"long idempotency key", "POST", post, spec(hashA, hashB), []string{"Idempotency-Key", strings.Repeat("k", 256)}, 422, job.CodeRequest, "Idempotency-Key"},
		{"negative wait", "POST", post, spec(hashA, hashB), []string{"Prefer", "wait=-1"}, 422, job.CodeRequest, "Prefer"},
		{"only XML", "GET", "/api/v1/queue", "", []string{"Accept", "application/xml"}, 406, "not-acceptable", ""},
		{"refused JSON", "GET", "/api/v1/queue", "", []string{"Accept", "application/json;q=0"}, 406, "not-acceptable", ""},
		{"no event stream", "GET", "/api/v1/jobs/" + st.ID + "/events", "", []string{"Accept", "application/json"}, 406, "not-acceptable", ""},
		{"put", "PUT", post, "{}", nil, 405, "method-not-allowed", ""},
		{"made-up method", "BREW", "/api/v1/jobs/" + st.ID, "", nil, 405, "method-not-allowed", ""},
		{"short id", "GET", "/api/v1/jobs/x", "", nil, 404, job.CodeNotFound, ""},
		{"upper case id", "GET", "/api/v1/jobs/" + strings.ToUpper(strings.Repeat("ab", 32)), "", nil, 404, job.CodeNotFound, ""},
		{"unknown id", "GET", "/api/v1/jobs/" + nobody, "", nil, 404, job.CodeNotFound, ""},
		{"long id", "GET", "/api/v1/jobs/" + strings.Repeat("a", 20_000), "", nil, 422, job.CodeRequest, "id"},
		{"id that is a path", "GET", "/api/v1/partials/..%2f..%2fetc%2fpasswd", "", nil, 404, job.CodeNotFound, ""},
		{"id with NUL", "GET", "/api/v1/partials/%00", "", nil, 404, job.CodeNotFound, ""},
		{"id not UTF-8", "GET", "/api/v1/jobs/%ff%fe", "", nil, 404, job.CodeNotFound, ""},
		{"unknown events", "GET", "/api/v1/jobs/" + nobody + "/events", "", nil, 404, job.CodeNotFound, ""},
		{"events of nonsense", "GET", "/api/v1/jobs/x/events", "", nil, 404, job.CodeNotFound, ""},
		{"log of nonsense", "GET", "/api/v1/jobs/x/log", "", nil, 404, job.CodeNotFound, ""},
		{"unknown log", "GET", "/api/v1/jobs/" + nobody + "/log", "", nil, 404, job.CodeNotFound, ""},
		{"report of nonsense", "GET", "/api/v1/partials/x/report", "", nil, 404, job.CodeNotFound, ""},
		{"unknown path", "GET", "/api/v1/nothing", "", nil, 404, job.CodeNotFound, ""},
		{"unknown API version", "GET", "/api/v9/jobs", "", nil, 404, job.CodeNotFound, ""},
		{"query not UTF-8", "GET", "/api/v1/history?state=%ff", "", nil, 422, job.CodeRequest, "state"},
		{"long query", "GET", "/api/v1/history?q=" + strings.Repeat("a", 20_000), "", nil, 422, job.CodeRequest, "q"},
		{"101 fields", "GET", "/api/v1/queue", "", many(101), 431, "headers-too-large", ""},
		{"empty ban", "POST", "/api/v1/bans", "{}", nil, 422, job.CodeRequest, ""},
		{"ban of nonsense", "POST", "/api/v1/bans", `{"address":"everybody","seconds":5}`, nil, 422, job.CodeRequest, "address"},
		{"unban of nonsense", "DELETE", "/api/v1/bans/..%2f..", "", nil, 422, job.CodeRequest, "address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			p := s.do(tt.method, tt.path, tt.body, tt.header...).problem(tt.status, tt.code)
			if tt.field != "" && p.Field != tt.field {
				t.Errorf("field %q, want %q: %+v", p.Field, tt.field, p)
			}
			if text, err := json.Marshal(p); err != nil || len(text) > 16<<10 || !utf8.Valid(text) {
				t.Errorf("a problem of %d bytes, %v", len(text), err)
			}
			if tt.status == 405 && p.Status == 405 && s.do(tt.method, tt.path, tt.body).Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	s.t = t
	s.do("POST", post, pad(64<<10)).want(202) // exactly 64 KiB is fine
	s.do("GET", "/api/v1/jobs/"+st.ID, "", many(80)...).want(200)
	if strings.Contains(s.logs.String(), `"level":"ERROR"`) {
		t.Errorf("errors of ours in the log:\n%s", s.logs)
	}
}

func many(n int) []string {
	var h []string
	for i := range n - 2 { // the client adds two of its own
		h = append(h, fmt.Sprintf("X-Field-%d", i), "v")
	}
	return h
}

// TestRawHostile sends what no client library would.
func TestRawHostile(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	addr := s.srv.Listener.Addr().String()
	fields := &strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(fields, "X-%d: v\r\n", i)
	}
	const head = "POST /api/v1/partials HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for name, request := range map[string]string{
		"10k fields":           "GET /api/v1/queue HTTP/1.1\r\nHost: x\r\n" + fields.String() + "\r\n",
		"one long field":       "GET /api/v1/queue HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 100_000) + "\r\n\r\n",
		"long request line":    "GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"bad chunks":           head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"half a body":          head + "Content-Length: 100\r\n\r\n{",
		"two lengths":          head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"length and chunks":    head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz",
		"negative length":      head + "Content-Length: -1\r\n\r\n",
		"no host":              "GET / HTTP/1.1\r\n\r\n",
		"NUL in a field":       "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
		"garbage":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"bad escape":           "GET /api/v1/jobs/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"bad multipart":        "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 9\r\n\r\n--b\r\nx\r\n",
		"half a multipart":     "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 55\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nxxxxx",
		"no multipart":         "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 2\r\n\r\nxx",
		"no boundary":          "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\nxx",
		"funsize bad form":     "POST /partial HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\n%zz",
		"unread upload":        "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000000\r\n\r\nx",
		"bad chunks to upload": "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			go func() {
				_, _ = io.WriteString(conn, request) // may be cut short by the server
				if c, ok := conn.(*net.TCPConn); ok {
					_ = c.CloseWrite()
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // hung up: as good an answer
			}
			defer resp.Body.Close()
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				body, _ := io.ReadAll(resp.Body)
				t.Errorf("got %s\n%s", resp.Status, body)
			}
		})
	}
	s.do("GET", "/api/v1/queue", "").want(200)
	if strings.Contains(s.logs.String(), `"level":"ERROR"`) {
		t.Errorf("errors of ours in the log:\n%s", s.logs)
	}
}

// FuzzCreate: whatever is sent as a request is answered, and never with 5xx.
func FuzzCreate(f *testing.F) {
	f.Add(spec(hashA, hashB), "application/json", "wait=0", "*/*")
	f.Add(`{"specs":[{}]}`, "application/json; charset=utf-8", "wait=x, a;b=c", "application/json;q=0.1")
	f.Add("\xff", ";", ",,,=", "a/b;q=x")
	h := inMemory(f, web.Options{Anonymous: web.Roles(), MaxWait: time.Nanosecond})
	f.Fuzz(func(t *testing.T, body, contentType, prefer, accept string) {
		for _, path := range []string{"/api/v1/partials", "/api/v1/batches", "/api/v1/partials:check", "/partial", "/jobs", "/batches", "/bans", "/api/v1/purge"} {
			status, answer := serve(t, h, "POST", path, body, "Content-Type", contentType, "Prefer", prefer, "Accept", accept)
			if status >= 500 || !utf8.ValidString(answer) {
				t.Errorf("%s: %d %q", path, status, answer)
			}
		}
	})
}

package web_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
)

// What a client says of the hash of its upload is compared.
func TestUploadDigests(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	const data = "a complete update"
	sum512, sum256 := sha512.Sum512([]byte(data)), sha256.Sum256([]byte(data))
	other := sha512.Sum512([]byte("x"))
	b64 := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		name, query, header, value string
		status                     int
		code                       job.Code
		field                      string
	}{
		{"nothing said", "", "", "", 201, "", ""},
		{"right", "", "Repr-Digest", "sha-512=:" + b64(sum512[:]) + ":, sha-256=:" + b64(sum256[:]) + ":", 201, "", ""},
		{"right, of the content", "", "Content-Digest", "sha-256=:" + b64(sum256[:]) + ":", 201, "", ""},
		{"right, in the query", "?sha512=" + hex.EncodeToString(sum512[:]) + "&sha256=" + hex.EncodeToString(sum256[:]), "", "", 201, "", ""},
		{"unknown algorithm", "", "Repr-Digest", "md5=:" + b64([]byte("0123456789abcdef")) + ":", 201, "", ""},
		{"wrong", "", "Repr-Digest", "sha-512=:" + b64(other[:]) + ":", 409, job.CodeDigest, "Repr-Digest"},
		{"one of two wrong", "", "Content-Digest", "sha-256=:" + b64(sum256[:]) + ":, sha-512=:" + b64(other[:]) + ":", 409, job.CodeDigest, "Content-Digest"},
		{"wrong, in the query", "?sha512=" + hex.EncodeToString(other[:]), "", "", 409, job.CodeDigest, "sha512"},
		{"no digest", "", "Repr-Digest", "sha-512", 422, job.CodeRequest, "Repr-Digest"},
		{"too short", "", "Repr-Digest", "sha-512=:" + b64(sum256[:]) + ":", 422, job.CodeRequest, "Repr-Digest"},
		{"no base64", "", "Repr-Digest", "sha-512=:*:", 422, job.CodeRequest, "Repr-Digest"},
		{"no hexadecimal", "?sha256=xyz", "", "", 422, job.CodeRequest, "sha256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Content-Type", "application/octet-stream"}
			if tt.header != "" {
				header = append(header, tt.header, tt.value)
			}
			r := s.do("POST", "/api/v1/uploads"+tt.query, data, header...)
			if tt.status == 201 {
				r.want(201)
				return
			}
			if p := r.problem(tt.status, tt.code); p.Field != tt.field || p.Fault != job.FaultCaller {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// dribble sends an upload byte by byte and returns the answer.
func dribble(t *testing.T, s *site, every time.Duration, header string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\n", header)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-time.After(every):
			case <-stop:
				return
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// An upload that never stalls and never ends is not waited for.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	s := open(t, web.Options{Anonymous: web.Roles(), Stall: 500 * time.Millisecond, UploadRate: 1000})
	begin := time.Now()
	res := dribble(t, s, 20*time.Millisecond, "")
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(body), "too slowly") || time.Since(begin) > 10*time.Second {
		t.Errorf("%s after %v: %s", res.Status, time.Since(begin), body)
	}
}

// Uploads at a time are bounded for one caller and in all; who has another token is another caller, at whatever address.
func TestUploadsAtATime(t *testing.T) {
	t.Parallel()
	o := guarded()
	o.Anonymous, o.Uploads, o.UploadsEach, o.UploadRate = web.Roles(), 3, 2, -1
	s := open(t, o)
	hold := func(header string) {
		conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\nx", header)
	}
	octets := []string{"Content-Type", "application/octet-stream"}
	until := func(status int, header ...string) reply {
		t.Helper()
		var r reply
		for range 200 {
			if r = s.do("POST", "/api/v1/uploads", "data", append(header, octets...)...); r.StatusCode == status {
				return r
			}
			time.Sleep(10 * time.Millisecond)
		}
		return r
	}
	hold("")
	hold("")
	until(429).problem(429, "rate-limited")
	s.do("POST", "/api/v1/uploads", "data", append(bearer(operateToken), octets...)...).want(201)
	hold("Authorization: Bearer " + submitToken + "\r\n")
	p := until(429, bearer(operateToken)...).problem(429, "rate-limited")
	if !strings.Contains(p.Detail, "3 uploads") || p.RetryAfter == 0 {
		t.Errorf("got %+v", p)
	}
	body, ct := form(t, "from_file", "old", "to_url", "https://example.org/b.mar", "to_hash", hashB)
	s.do("POST", "/jobs", body, "Content-Type", ct, "Accept", "text/html").want(429)
}

// A name with characters that turn the direction of reading is shown as what it is.
func TestTurnedNames(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	const name = "partial\u202Eram.exe\u2069\u061C…"
	st := s.do("POST", "/api/v1/partials", fmt.Sprintf(`{"from":{"urls":["https://example.org/a"],"sha512":"%s"},"to":{"sha512":"%s"},"labels":{"mar":%q},"locale":%q}`,
		hashA, hashB, name, name)).want(202).job()
	for _, path := range []string{"/jobs/" + st.ID, "/history", "/history?q=" + url.QueryEscape(name), "/"} {
		body := s.do("GET", path, "").want(200).body
		if strings.ContainsAny(body, "\u202E\u2069\u061C") {
			t.Errorf("%s has such characters as they are", path)
		}
		if strings.HasPrefix(path, "/jobs/") && !strings.Contains(body, "partial⟦U+202E⟧ram.exe⟦U+2069⟧⟦U+061C⟧…") {
			t.Errorf("%s does not show the name", path)
		}
	}
}

// Names that are read from the right move nothing beside them, on pages and in tables for programs, which have nothing that
// turns the direction.
func TestNamesFromTheRight(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	const name, arabic = "שלום", "عربي\uFDD0\uFDD1"
	st := s.do("POST", "/api/v1/partials", fmt.Sprintf(`{"from":{"urls":["https://example.org/a/%s.complete.mar"],"sha512":"%s"},"to":{"urls":["https://example.org/b.mar"],"sha512":"%s"},`+
		`"labels":{"a":%q,"b":"x\u202ey"},"locale":%q,"platform":"linux"}`, name, hashA, hashB, arabic, name)).want(202).job()
	s.svc.Move(st.ID, job.Diffing, job.Progress{File: name + "/1.2", Done: 1, Total: 2})
	own := "\u2068" + name + "\u2069"
	s.do("GET", "/jobs/"+st.ID, "").want(200).has("<h1>"+own+" → b, "+own+", linux</h1>", "\u2068"+name+"/1.2\u2069")
	s.do("GET", "/history", "").want(200).has(own+" → b, ", "\u2068a: عربي[U&#43;FDD0][U&#43;FDD1]\u2069, b: x[U&#43;202E]y")
	body := s.do("GET", "/api/v1/history?format=csv", "").want(200).body
	if strings.ContainsAny(body, "\u2068\u2069\u202e\uFDD0\uFDD1") || !strings.Contains(body, name+" → b, "+name+", linux") || !strings.Contains(body, "b=x[U+202E]y") {
		t.Errorf("the table has characters that turn the direction, or not the names:\n%s", body)
	}
}

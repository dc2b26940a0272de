package web_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job/jobtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/web"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
)

// TestSlowBodies: who sends nothing more is answered, and not waited for.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := open(t, web.Options{Anonymous: web.Roles(), BodyTime: 300 * time.Millisecond, Stall: time.Second})
	for name, request := range map[string]string{
		"JSON":            "POST /api/v1/partials HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"large JSON":      "POST /api/v1/batches HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
		"upload":          "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\nx",
		"form":            "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nx",
		"form with files": "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"from_file\"; filename=\"a\"\r\n\r\nx",
		"refused":         "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nx",
		"no such page":    "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
		"funsize":         "POST /partial HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := raw(t, s, request)
			if want := map[string]int{"refused": 415, "no such page": 404}[name]; want != 0 {
				if status != want {
					t.Errorf("got %d\n%s", status, body)
				}
				return
			}
			if status != http.StatusRequestTimeout || !strings.Contains(body, "did not arrive in time") {
				t.Errorf("got %d\n%s", status, body)
			}
		})
	}
	// The connection of one that came in time serves on, however long that takes.
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	for _, wait := range []string{"wait=0", "wait=1", "wait=0"} {
		body := spec(hashA, hashB)
		fmt.Fprintf(conn, "POST /api/v1/partials HTTP/1.1\r\nHost: x\r\nPrefer: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", wait, len(body), body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Errorf("got %s", resp.Status)
		}
	}
}

// raw sends a request as it is and reads the answer.
func raw(t *testing.T, s *site, request string) (status int, answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestSlowReader: a download that nobody reads is given up, one that is read slowly is not.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	watch, closed := ends()
	s := openWith(t, jobtest.New(), web.Options{Anonymous: web.Roles(), Stall: 100 * time.Millisecond, BodyTime: 100 * time.Millisecond}, watch)
	const size = 64 << 20 // more than the buffers of the system
	st := s.submit(hashA, hashB)
	s.svc.Finish(st.ID, jobtest.Output{Partial: make([]byte, size)})
	conn, err := net.Dial("tcp", s.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "GET /api/v1/partials/%s HTTP/1.1\r\nHost: x\r\n\r\n", st.ID)
	for timeout, gone := time.After(20*time.Second), false; !gone; {
		select {
		case client := <-closed:
			gone = client == conn.LocalAddr().String()
		case <-timeout:
			t.Fatal("the server still waits for a client that reads nothing")
		}
	}
	n, err := io.Copy(io.Discard, conn)
	if n >= size || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes of a download that was given up, %v", n, err)
	}
	// Everybody else gets all of it, also on a machine as busy as this one may be.
	if resp := openWith(t, s.svc, everything).do("GET", "/api/v1/partials/"+st.ID, "").want(200); len(resp.body) != size {
		t.Errorf("read %d bytes", len(resp.body))
	}
}

// TestStrangers: any number of wrong IDs and addresses leaves nothing behind.
func TestStrangers(t *testing.T) {
	h := inMemory(t, web.Options{
		Anonymous: web.Roles(), Rate: web.Limit{Count: 1000, Window: time.Hour}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	ask := func(i int) {
		status, _ := serve(t, h, "GET", fmt.Sprintf("/api/v1/jobs/%064x", i), "", "X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), "X-Request-ID", fmt.Sprintf("stranger-%d", i))
		if status != 404 {
			t.Fatalf("%d: got %d", i, status)
		}
	}
	n := testkit.Count(25_000, 1_000_000, 1_000_000)
	for i := range 1000 {
		ask(i)
	}
	before := memory()
	for i := range n {
		ask(i)
	}
	if grown := memory() - before; grown > 8<<20 {
		t.Errorf("%d strangers left %d bytes behind", n, grown)
	}
	runtime.KeepAlive(h)
}

// TestLargeBatches: few large bodies are in memory at the same time, and all are answered.
func TestLargeBatches(t *testing.T) {
	t.Parallel()
	s := open(t, everything)
	body := `{"specs":[` + spec(hashA, hashB, `,"labels":{"x":"`+strings.Repeat("x", 200_000)+`"}`) + `]}`
	codes := make(chan int)
	for range 12 {
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.srv.URL+"/api/v1/batches", strings.NewReader(body))
			if err != nil {
				codes <- 0
				return
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := s.srv.Client().Do(req)
			if err != nil {
				codes <- 0
				return
			}
			resp.Body.Close()
			codes <- resp.StatusCode
		}()
	}
	for range 12 {
		if code := <-codes; code != http.StatusAccepted {
			t.Errorf("got %d", code)
		}
	}
	if page, err := s.svc.History(t.Context(), job.Filter{}); err != nil || len(page.Jobs) != 1 {
		t.Errorf("%d jobs, %v", len(page.Jobs), err)
	}
}

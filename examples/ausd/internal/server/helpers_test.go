package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// complete is a small complete update, signed where signer is not nil.
func complete(tb testing.TB, version, buildID string, signer crypto.Signer) []byte {
	tb.Helper()
	large := make([]byte, 60_000)
	for i := range large { // not compressible
		large[i] = byte(i*i>>3 ^ i>>5)
	}
	copy(large, "\x7fELF\x02\x01\x01")
	large[18], large[19] = 0x3e, 0
	copy(large[len(large)/2:], "but for this: version "+version)
	archive, _, err := partial.Pack(tb.Context(), fstest.MapFS{
		"application.ini":                {Data: []byte("[App]\nName=Fox\nVersion=" + version + "\nBuildID=" + buildID + "\n")},
		"libxul.so":                      {Data: large, Mode: 0o755},
		"update.locale":                  {Data: []byte("de\n")},
		"defaults/pref/channel-prefs.js": {Data: []byte("//\npref(\"app.update.channel\", \"beta\");\n")},
	}, partial.PackOptions{Product: &mar.Product{Channel: "test", Version: version}, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}}})
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	if signer == nil {
		_, err = archive.WriteTo(&b)
	} else {
		var s mar.Signer
		if s, err = mar.CryptoSigner(signer, mar.RSAPKCS1SHA384); err == nil {
			_, err = archive.WriteSigned(tb.Context(), &b, s)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func key(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// add uploads and offers a complete update.
func (s *testServer) add(data []byte, o Addition) Added {
	s.tb.Helper()
	var up uploadedBody
	if status := s.call("PUT", "/admin/v1/files/x.complete.mar", bytes.NewReader(data), &up); status != http.StatusOK {
		s.tb.Fatalf("upload: status %d", status)
	}
	o.SHA512 = up.SHA512
	var added Added
	if status := s.call("POST", "/admin/v1/builds", o, &added); status != http.StatusOK {
		s.tb.Fatalf("add: status %d", status)
	}
	return added
}

// release is the body of a release of one build.
func releaseBody(version, buildID string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"product": "Fox", "read_only": false, "data_version": 1, "blob": {"name": "Fox-%[1]s", "schema_version": 9, "hashFunction": "sha512",
		"appVersion": "%[1]s", "displayVersion": "%[1]s", "platforms": {"Linux": {"locales": {"de": {"buildID": "%[2]s", "completes": [
		{"from": "*", "filesize": 1000, "hashValue": "%[3]s", "fileUrl": "https://dl.example/%[1]s.mar"}]}}}}}}`, version, buildID, strings.Repeat(buildID[:2], 64)))
}

func ruleBody(id int, more string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"rule_id": %d, "priority": 100, "backgroundRate": 100, "update_type": "minor", "product": "Fox"%s}`, id, more))
}

func change(comment string, operations ...operationBody) changeBody {
	return changeBody{Comment: comment, Operations: operations}
}

func operation(kind, key string, body json.RawMessage) operationBody {
	return operationBody{Kind: kind, Key: key, Body: body}
}

// seed publishes two releases, a rule and an allowed host.
func (s *testServer) seed() {
	s.tb.Helper()
	var done changedBody
	if status := s.call("POST", "/admin/v1/changes", change("begin",
		operation("release", "Fox-90.0", releaseBody("90.0", "20240301000000")),
		operation("release", "Fox-91.0", releaseBody("91.0", "20250401000000")),
		operation("host", "dl.example", json.RawMessage(`{"products": ["Fox"]}`)),
		operation("rule", "1", ruleBody(1, `, "mapping": "Fox-91.0"`)),
	), &done); status != http.StatusOK || done.Snapshot.Seq != 1 {
		s.tb.Fatalf("seed: status %d: %+v", status, done)
	}
}

const client = "/update/3/Fox/89.0/20230101000000/Linux/de/release/Linux%206.1/default/default/update.xml"

// offered returns the version that a client is offered, or "".
func (s *testServer) offered(url string) string {
	s.tb.Helper()
	var body string
	if status := s.call("GET", url, nil, &body); status != http.StatusOK {
		s.tb.Fatalf("%s: status %d: %s", url, status, body)
	}
	_, rest, _ := strings.Cut(body, `appVersion="`)
	version, _, _ := strings.Cut(rest, `"`)
	return version
}

// events tells tests that some server has written to its log, which it does behind all that it does by itself.
var events happened

// happened wakes everybody who waits for something.
type happened struct {
	mu   sync.Mutex
	next chan struct{} // closed when something happens
}

func (h *happened) wait() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil {
		h.next = make(chan struct{})
	}
	return h.next
}

func (h *happened) now() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next != nil {
		close(h.next)
		h.next = nil
	}
}

// Enabled, Handle, WithAttrs and WithGroup make it the log of a server.
func (h *happened) Enabled(context.Context, slog.Level) bool { return true }

func (h *happened) Handle(context.Context, slog.Record) error {
	h.now()
	return nil
}

func (h *happened) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *happened) WithGroup(string) slog.Handler { return h }

// eventually waits until something holds; it looks whenever a server has done something.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		next := events.wait()
		if holds() {
			return
		}
		select {
		case <-next:
		case <-end.C:
			tb.Fatalf("after a minute: not %s", what)
		}
	}
}

package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hawk signs HTTP requests with Hawk, the scheme of version 1 of the header: a MAC over what the request is and
// a hash of its body, made with a key that both sides know.
type hawk struct {
	id  string
	key []byte
}

// authorize sets the Authorization header of a request with this body.
func (h *hawk) authorize(r *http.Request, body []byte) {
	h.sign(r, body, time.Now().Unix(), rand.Text(), "")
}

func (h *hawk) sign(r *http.Request, body []byte, ts int64, nonce, ext string) {
	port := r.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[r.URL.Scheme]
	}
	hash := ""
	if body != nil {
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
		sum := sha256.Sum256([]byte("hawk.1.payload\n" + kind + "\n" + string(body) + "\n"))
		hash = base64.StdEncoding.EncodeToString(sum[:])
	}
	m := hmac.New(sha256.New, h.key)
	_, _ = fmt.Fprintf(m, "hawk.1.header\n%d\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n",
		ts, nonce, r.Method, r.URL.RequestURI(), strings.ToLower(r.URL.Hostname()), port, hash, ext)
	fields := []string{`Hawk id="` + h.id + `"`, `ts="` + strconv.FormatInt(ts, 10) + `"`, `nonce="` + nonce + `"`}
	if hash != "" {
		fields = append(fields, `hash="`+hash+`"`)
	}
	if ext != "" {
		fields = append(fields, `ext="`+ext+`"`)
	}
	fields = append(fields, `mac="`+base64.StdEncoding.EncodeToString(m.Sum(nil))+`"`)
	r.Header.Set("Authorization", strings.Join(fields, ", "))
}

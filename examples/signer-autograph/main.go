// Command signer-autograph is a signing plugin that asks Autograph, Mozilla's signing service, or anything that
// speaks like it.
//
//	signer-autograph URL USER ID=PUBLIC...
//
// URL is the service's address, for example https://autograph.example.com; plain http is taken for the loopback
// only. USER is the Hawk user, whose key is read from the file descriptor whose number the environment variable
// HAWK_KEY_FD holds: the host fills it with plugins.Config.Secrets. ID is the service's key ID, and PUBLIC a file
// with the key's certificate or public key. Only digests are sent, to /sign/hash.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

type backend struct {
	address string
	hawk    *hawk
	keys    []signing.Key
	client  *http.Client
}

func main() { signing.Serve(open) }

func open(context.Context) (signing.Backend, error) {
	if len(os.Args) < 4 {
		return nil, errors.New("usage: signer-autograph URL USER ID=PUBLIC …")
	}
	u, err := url.Parse(os.Args[1])
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address %s is neither https nor http on the loopback", u.Redacted())
	}
	secret, err := plugins.ReadSecret("HAWK_KEY_FD")
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 || os.Args[2] == "" || strings.ContainsAny(os.Args[2], "\"\\\r\n") {
		return nil, errors.New("no Hawk user, or no key in HAWK_KEY_FD")
	}
	b := &backend{
		address: u.JoinPath("sign", "hash").String(), hawk: &hawk{id: os.Args[2], key: secret},
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	for _, arg := range os.Args[3:] {
		id, file, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=PUBLIC", arg)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := mar.ParsePublicKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		b.keys = append(b.keys, signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384, PublicKey: key})
	}
	return b, nil
}

func (b *backend) Info(context.Context) (signing.Info, error) {
	return signing.Info{Name: "signer-autograph", Version: "1.0"}, nil
}

func (b *backend) Keys(context.Context) ([]signing.Key, error) { return b.keys, nil }

// The messages of Autograph's /sign/hash.
type (
	signRequest struct {
		Input   string         `json:"input"` // the digest in base64
		KeyID   string         `json:"keyid"`
		Options map[string]int `json:"options"`
	}
	signResponse struct {
		Ref       string `json:"ref"`
		Signature string `json:"signature"` // in base64
	}
)

func (b *backend) Sign(ctx context.Context, r signing.Request) ([]byte, error) {
	if _, err := signing.FindKey(b.keys, r); err != nil {
		return nil, err
	}
	body, err := json.Marshal([]signRequest{{
		Input: base64.StdEncoding.EncodeToString(r.Digest), KeyID: r.KeyID, Options: map[string]int{"sigalg": int(r.Algorithm)},
	}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	b.hawk.authorize(req, body)
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the service: %w: %w", plugins.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read the service's answer: %w: %w", plugins.ErrUnavailable, err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, answer)
	}
	var signed []signResponse
	if err := json.Unmarshal(answer, &signed); err != nil || len(signed) != 1 {
		return nil, fmt.Errorf("the service's answer has %d signatures: %w", len(signed), errors.Join(plugins.ErrInternal, err))
	}
	return base64.StdEncoding.DecodeString(signed[0].Signature)
}

// refusal says what a status means.
func refusal(resp *http.Response, answer []byte) error {
	reason := plugins.ReasonInternal
	switch s := resp.StatusCode; {
	case s == http.StatusBadRequest:
		reason = plugins.ReasonInvalid
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		reason = plugins.ReasonDenied
	case s == http.StatusNotFound:
		reason = plugins.ReasonNotFound
	case s == http.StatusTooManyRequests:
		reason = plugins.ReasonThrottled
	case s >= 500:
		reason = plugins.ReasonUnavailable
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 where there is none
	return &plugins.Error{
		Reason: reason, RetryAfter: time.Duration(seconds) * time.Second,
		Message: fmt.Sprintf("the service answers %s: %.300s", resp.Status, answer),
	}
}

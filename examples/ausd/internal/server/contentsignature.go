package server

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// ContentSignature says how answers are signed, in the header Content-Signature that Mozilla's clients check:
//
//	Content-Signature: x5u=https://…/chain.pem; p384ecdsa=BASE64URL
//
// What is signed is "Content-Signature:", a zero byte and the body, by ECDSA on P-384 with SHA-384; the signature is r and s, one after
// the other.
type ContentSignature struct {
	// Signer signs digests of SHA-384; it verifies what it signs.
	Signer interface {
		// Sign returns r and s, 48 bytes each. It must return soon after ctx ends. It may be called from several goroutines.
		Sign(ctx context.Context, digest []byte) ([]byte, error)
	}
	// X5U is where clients find the chain of its certificates.
	X5U string
	// Products are those whose answers in XML are signed. Those in JSON always are, where there is an update.
	Products []string
}

// Bounds of signing answers.
const (
	signPrefix    = "Content-Signature:\x00"
	maxSignatures = 10_000          // that are remembered
	signTime      = 5 * time.Second // for one
	signRest      = time.Second     // in which nobody is asked after a failure
)

// contentSigner signs answers, and remembers what it signed. It is safe for concurrent use.
type contentSigner struct {
	opts     *ContentSignature
	log      *slog.Logger
	failed   atomic.Int64 // answers that went out without
	together singleflight.Group

	mu     sync.Mutex
	known  map[[sha512.Size384]byte]string
	resume time.Time // nobody is asked before
	reason error     // of the last failure
}

// wants says whether an answer is to be signed.
func (s *contentSigner) wants(a *said) bool {
	return s.opts != nil && a.Answer != nil && a.Status == http.StatusOK && (a.Query.Form.JSON() || slices.Contains(s.opts.Products, a.Query.Product))
}

// sign returns the header for a body.
func (s *contentSigner) sign(ctx context.Context, body []byte) (string, error) {
	h := sha512.New384()
	h.Write([]byte(signPrefix))
	h.Write(body)
	digest := [sha512.Size384]byte(h.Sum(nil))
	s.mu.Lock()
	header, ok := s.known[digest]
	reason, resting := s.reason, time.Now().Before(s.resume)
	s.mu.Unlock()
	if ok {
		return header, nil
	}
	if resting {
		return "", reason
	}
	signed, err, _ := s.together.Do(string(digest[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTime) // others may wait for it
		defer cancel()
		sig, err := s.opts.Signer.Sign(ctx, digest[:])
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.log.ErrorContext(ctx, "sign an answer", "error", err)
			s.reason, s.resume = err, time.Now().Add(signRest)
			return "", err
		}
		header := "x5u=" + s.opts.X5U + "; p384ecdsa=" + base64.URLEncoding.EncodeToString(sig)
		if s.known == nil || len(s.known) >= maxSignatures {
			s.known = map[[sha512.Size384]byte]string{}
		}
		s.known[digest] = header
		return header, nil
	})
	if err != nil {
		return "", err
	}
	return signed.(string), nil
}

// signAnswer puts the signature into an answer that is to have one. Without one it is not kept by anybody: clients that insist on it do not
// take it, and ask again.
func (s *Server) signAnswer(ctx context.Context, a *said) {
	if !s.signs.wants(a) {
		return
	}
	header, err := s.signs.sign(ctx, a.Answer.Body)
	if err != nil {
		s.signs.failed.Add(1)
		a.unsigned = true
		return
	}
	a.Header.Set("Content-Signature", header)
}

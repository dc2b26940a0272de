package server

import (
	"hash/maphash"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/senbonzakura/senbonzakura/aus"
)

// What is remembered of a snapshot's answers.
const (
	maxSaid     = 8 << 10 // answers; a power of two
	maxSaidSize = 4 << 10 // bytes of one, with its address
)

// saidAnswers remembers the answers of one snapshot that neither the clock nor a die decides: clients' addresses differ in
// little, and reading one and matching rules costs more than sending the answer. Of two answers for one place the later
// stays. It is safe for concurrent use.
type saidAnswers struct {
	seed   maphash.Seed
	places [maxSaid]atomic.Pointer[said]
}

// said is an answer that is remembered. Nothing in it is changed.
type said struct {
	key      saidKey
	unsigned bool // though it ought to be
	aus.Response
}

// saidKey is all of a request that an answer depends on.
type saidKey struct {
	url string
	ppc bool // the one thing that a User-Agent tells
}

// keyOf returns what the answer to a request depends on; ok is false where it is not remembered.
func keyOf(r *http.Request, url string) (k saidKey, ok bool) {
	return saidKey{url, strings.Contains(r.UserAgent(), "PPC")}, r.Method == http.MethodGet && len(url) < maxSaidSize
}

func (s *saidAnswers) place(k saidKey) *atomic.Pointer[said] {
	return &s.places[maphash.String(s.seed, k.url)%maxSaid]
}

// get returns what was answered; nil where that is not known.
func (s *saidAnswers) get(k saidKey) *said {
	if a := s.place(k).Load(); a != nil && a.key == k {
		return a
	}
	return nil
}

// put remembers an answer, if the same request gets it as long as the snapshot holds.
func (s *saidAnswers) put(k saidKey, a *said) {
	if a.Answer == nil || a.unsigned || a.Answer.Random || !a.Answer.Until.IsZero() || a.Status != http.StatusOK || len(k.url)+len(a.Body) > maxSaidSize {
		return
	}
	k.url = strings.Clone(k.url)
	a.key = k
	s.place(k).Store(a)
}

// answer answers a request from what was said before, or from a snapshot.
func (s *Server) answer(now *published, r *http.Request, env aus.Env) *said {
	url := r.RequestURI
	if url == "" {
		url = r.URL.RequestURI()
	}
	k, remembered := keyOf(r, url)
	if remembered {
		if a := now.said.get(k); a != nil {
			return a
		}
	}
	a := &said{Response: now.snapshot.Respond(aus.Request{Method: r.Method, URL: url, Base: s.base, Header: r.Header}, env)}
	s.signAnswer(r.Context(), a)
	if remembered {
		now.said.put(k, a)
	}
	return a
}

// writeTo sends the answer, with the headers that are not the same each time over its own.
func (a *said) writeTo(w http.ResponseWriter, cacheControl string) {
	h := w.Header()
	maps.Copy(h, a.Header)
	if cacheControl != "" {
		h.Set("Cache-Control", cacheControl)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a client that has gone away
}

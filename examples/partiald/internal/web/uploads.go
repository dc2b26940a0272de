package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

// uploading bounds how many uploads are under way: each has a file that grows.
type uploading struct {
	mu      sync.Mutex
	callers map[string]int
	all     int
}

// begin takes a place for an upload; end gives it back.
func (s *server) begin(ctx context.Context) (end func(), err error) {
	in := infoFrom(ctx)
	who := "token:" + in.caller.name
	if !in.caller.token {
		who = in.Addr
	}
	u := &s.uploading
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.callers[who] >= s.opts.UploadsEach:
		return nil, problem(codeRate, "%d uploads at a time are enough for one caller", s.opts.UploadsEach).after(10 * time.Second)
	case u.all >= s.opts.Uploads:
		return nil, problem(codeRate, "%d uploads are under way, and no more are taken at a time", u.all).after(10 * time.Second)
	}
	if u.callers == nil {
		u.callers = map[string]int{}
	}
	u.callers[who]++
	u.all++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.all--
		if u.callers[who]--; u.callers[who] == 0 {
			delete(u.callers, who)
		}
	}, nil
}

// promised are the hashes that a client says its upload has. Each is made once, however often it is said.
type promised struct {
	r      io.Reader
	hashes map[string]hash.Hash // by algorithm
	sums   []promise
	wrong  error // how it ended, but for a good end
}

type promise struct {
	field, algorithm string
	want             []byte
}

// add notes a digest; false says that it has another length than its algorithm's.
func (p *promised) add(field, algorithm string, h hash.Hash, want []byte) bool {
	if p.hashes[algorithm] == nil {
		p.hashes[algorithm] = h
	}
	p.sums = append(p.sums, promise{field, algorithm, want})
	return len(want) == h.Size()
}

// promises reads Repr-Digest and Content-Digest (RFC 9530) and the query. Algorithms that are not known are left alone, as
// the RFC has it; what cannot be read is an error.
func promises(r *http.Request) (*promised, error) {
	p := &promised{hashes: map[string]hash.Hash{}}
	algorithms := []struct {
		name, query string
		make        func() hash.Hash
	}{{"sha-512", "sha512", sha512.New}, {"sha-256", "sha256", sha256.New}}
	bad := func(field, format string, args ...any) error {
		return problem(job.CodeRequest, format, args...).in(field)
	}
	for _, header := range []string{"Repr-Digest", "Content-Digest"} {
		for entry := range strings.SplitSeq(strings.Join(r.Header.Values(header), ","), ",") {
			name, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
			if !ok {
				if entry = strings.TrimSpace(entry); entry != "" {
					return nil, bad(header, "%.60q is not an algorithm and a digest, such as sha-512=:…:", entry)
				}
				continue
			}
			for _, a := range algorithms {
				if !strings.EqualFold(strings.TrimSpace(name), a.name) {
					continue
				}
				value, _, _ = strings.Cut(value, ";") // parameters
				inner, ok := strings.CutPrefix(strings.TrimSpace(value), ":")
				inner, ok2 := strings.CutSuffix(inner, ":")
				sum, err := base64.StdEncoding.DecodeString(inner)
				if !ok || !ok2 || err != nil || !p.add(header, a.name, a.make(), sum) {
					return nil, bad(header, "the digest for %s is not :base64: of %d bytes", a.name, a.make().Size())
				}
			}
		}
	}
	query := r.URL.Query()
	for _, a := range algorithms {
		for _, text := range query[a.query] {
			sum, err := hex.DecodeString(text)
			if err != nil || !p.add(a.query, a.name, a.make(), sum) {
				return nil, bad(a.query, "want %d hexadecimal digits", 2*a.make().Size())
			}
		}
	}
	return p, nil
}

// Read reads the body. At its end, in place of io.EOF, it says what is not as it was promised.
func (p *promised) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	for _, h := range p.hashes {
		h.Write(b[:n])
	}
	if !errors.Is(err, io.EOF) {
		p.wrong = err
		return n, err
	}
	for _, s := range p.sums {
		if got := p.hashes[s.algorithm].Sum(nil); p.wrong == nil && !bytes.Equal(got, s.want) {
			p.wrong = &job.Error{
				Code: job.CodeDigest, Field: s.field, Fault: job.FaultCaller,
				Message: fmt.Sprintf("the upload has the hash %x, not %x as was said", got, s.want),
			}
		}
	}
	if p.wrong != nil {
		return n, p.wrong
	}
	return n, err
}

package fetch

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// Algorithm is a hash function that a download is compared by.
type Algorithm string

// The algorithms, by their usual names in lower case. SHA-1 is accepted because old releases publish nothing else;
// it is weak: whoever can make two files with one SHA-1 chooses which of them is fetched.
const (
	SHA512 Algorithm = "sha512"
	SHA384 Algorithm = "sha384"
	SHA256 Algorithm = "sha256"
	SHA1   Algorithm = "sha1"
)

// New returns a hash function of the algorithm, or nil for one that is not known.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA512:
		return sha512.New()
	case SHA384:
		return sha512.New384()
	case SHA256:
		return sha256.New()
	case SHA1:
		return sha1.New()
	}
	return nil
}

// Weak says whether files with equal hashes can be made on purpose.
func (a Algorithm) Weak() bool { return a == SHA1 }

func allWeak(list []Algorithm) bool {
	return !slices.ContainsFunc(list, func(a Algorithm) bool { return !a.Weak() })
}

// Hash is what the bytes of a download must hash to.
type Hash struct {
	Algorithm Algorithm // which hash function
	Sum       []byte    // what it must give, as bytes
}

// ParseHash parses "algorithm:hex", such as "sha256:9f86…", or a hexadecimal sum alone, whose length then says
// which algorithm it is (128 digits for sha512).
func ParseHash(s string) (Hash, error) {
	name, digits, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok {
		name, digits = "", name
	}
	sum, err := hex.DecodeString(digits)
	if err != nil {
		return Hash{}, fmt.Errorf("parse hash %.200q: not hexadecimal", s)
	}
	a := Algorithm(strings.ReplaceAll(strings.ToLower(name), "-", ""))
	for _, candidate := range []Algorithm{SHA512, SHA384, SHA256, SHA1} {
		if !ok && len(sum) == candidate.New().Size() {
			a = candidate
		}
	}
	h := Hash{a, sum}
	if err := h.check(); err != nil {
		return Hash{}, fmt.Errorf("parse hash %.200q: %w", s, err)
	}
	return h, nil
}

// String returns "algorithm:hex".
func (h Hash) String() string { return string(h.Algorithm) + ":" + hex.EncodeToString(h.Sum) }

func (h Hash) check() error {
	n := h.Algorithm.New()
	if n == nil {
		return fmt.Errorf("unknown algorithm %q, want sha512, sha384, sha256 or sha1", string(h.Algorithm))
	}
	if len(h.Sum) != n.Size() {
		return fmt.Errorf("%s has %d bytes, not %d", h.Algorithm, n.Size(), len(h.Sum))
	}
	return nil
}

// digester computes several hashes of one stream. SHA-512 is always among them.
type digester struct {
	names []Algorithm
	sums  []hash.Hash
}

func newDigester(want []Hash) *digester {
	d := &digester{names: []Algorithm{SHA512}, sums: []hash.Hash{SHA512.New()}}
	for _, h := range want {
		if d.of(h.Algorithm) == nil {
			d.names = append(d.names, h.Algorithm)
			d.sums = append(d.sums, h.Algorithm.New())
		}
	}
	return d
}

func (d *digester) of(a Algorithm) hash.Hash {
	for i, n := range d.names {
		if n == a {
			return d.sums[i]
		}
	}
	return nil
}

func (d *digester) add(p []byte) {
	for _, s := range d.sums {
		s.Write(p)
	}
}

func (d *digester) reset() {
	for _, s := range d.sums {
		s.Reset()
	}
}

// compare returns a *DigestError for the first hash that differs.
func (d *digester) compare(want []Hash) error {
	for _, h := range want {
		if got := d.of(h.Algorithm).Sum(nil); !bytes.Equal(got, h.Sum) {
			return &DigestError{Algorithm: h.Algorithm, Want: bytes.Clone(h.Sum), Got: got}
		}
	}
	return nil
}

var errNoHash = errors.New("no hash is given: what is fetched must be verified")

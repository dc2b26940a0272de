package mar

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// maxKeyFile is the size in bytes up to which Mozilla's tools read a certificate file.
const maxKeyFile = 16 << 10

// ParsePublicKey reads an RSA public key: a certificate in DER or PEM, or a public key in PEM or DER. As in
// Mozilla's tools nothing but the key is taken from a certificate: not its dates, issuer or usage. Of a PEM
// file the first block counts. The error matches [ErrKey].
func ParsePublicKey(data []byte) (crypto.PublicKey, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w: key file has %d bytes, limit is %d", ErrKey, len(data), maxKeyFile)
	}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%w: broken PEM", ErrKey)
		}
		if strings.Contains(block.Type, "PRIVATE") {
			return nil, fmt.Errorf("%w: file holds a private key, not a public one", ErrKey)
		}
		data = block.Bytes
	}
	var key crypto.PublicKey
	if cert, err := x509.ParseCertificate(data); err == nil {
		key = cert.PublicKey
	} else if k, err := x509.ParsePKIXPublicKey(data); err == nil {
		key = k
	} else if k, err := x509.ParsePKCS1PublicKey(data); err == nil {
		key = k
	} else {
		return nil, fmt.Errorf("%w: neither a certificate nor a public key in DER or PEM", ErrKey)
	}
	return rsaKey(key)
}

// Mozilla's public keys, as DER SubjectPublicKeyInfo.
//
//go:embed keys/*.der
var builtin embed.FS

// BuiltinKeys returns the names that [BuiltinKey] knows, sorted. Each pair of a primary and a secondary key is
// what updaters of that channel accept:
//
//   - release-primary, release-secondary: Firefox and Thunderbird beta, release and ESR
//   - nightly-primary, nightly-secondary: nightly and what is built from mozilla-central
//   - dep-primary, dep-secondary: builds that are not shipped, such as those of try pushes
//   - sha1-release-primary, sha1-release-secondary, sha1-dep-primary, sha1-dep-secondary: RSA-2048, for
//     updates signed with SHA-1 until 2016
//   - autograph-stage: the staging signing service
func BuiltinKeys() []string {
	entries, err := builtin.ReadDir("keys")
	if err != nil {
		return nil // cannot happen: the directory is part of the program
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".der")
	}
	slices.Sort(names)
	return names
}

// BuiltinKey returns a public key of Mozilla by name, as an *rsa.PublicKey. The error for an unknown name
// matches [ErrKey] and lists the names.
func BuiltinKey(name string) (crypto.PublicKey, error) {
	names := BuiltinKeys()
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("%w: no built-in key %q, there are %s", ErrKey, name, strings.Join(names, ", "))
	}
	data, err := builtin.ReadFile("keys/" + name + ".der")
	if err != nil {
		return nil, fmt.Errorf("mar: built-in key %q: %w", name, err)
	}
	return ParsePublicKey(data)
}

// Fingerprint returns the SHA-256 of a public key's PKIX encoding in hexadecimal, to tell keys apart in journals,
// configurations and provenance.
func Fingerprint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

package signing

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"

	"github.com/senbonzakura/senbonzakura/mar"
)

// Bounds for encrypted keys: what OpenSSL and others write is far below, and a file must not keep us busy.
const (
	maxIterations = 10_000_000
	maxSalt       = 1 << 10
)

// Object identifiers of RFC 8018 (PKCS #5) and NIST.
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidHMACSHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}
	oidHMACSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}
	oidAES128CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// ParsePrivateKey reads an RSA private key from PEM, as [ParseKey] does.
func ParsePrivateKey(data, passphrase []byte) (*rsa.PrivateKey, error) {
	key, err := ParseKey(data, passphrase)
	if err != nil {
		return nil, err
	}
	r, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is %T, want RSA", key)
	}
	return r, nil
}

// AlgorithmOf returns the algorithm that keys of a kind sign with: RSA with SHA-384, for archives, and P-384 with SHA-384, for
// what update servers answer.
func AlgorithmOf(public crypto.PublicKey) (mar.Algorithm, error) {
	if _, err := signatureSize(ECDSAP384SHA384, public); err == nil {
		return ECDSAP384SHA384, nil
	}
	if _, ok := public.(*rsa.PublicKey); ok {
		return mar.RSAPKCS1SHA384, nil
	}
	return 0, fmt.Errorf("the key is %T, want RSA, or ECDSA on P-384", public)
}

// ParseKey reads an RSA or ECDSA private key from PEM: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE KEY"), SEC 1 ("EC
// PRIVATE KEY"), or PKCS #8 encrypted with a passphrase ("ENCRYPTED PRIVATE KEY") by PBKDF2 and AES-CBC, which is what
// "openssl pkcs8 -topk8" and "openssl genpkey" write. The older encryption inside of "RSA PRIVATE KEY" is not
// supported, as it protects badly. The passphrase is not used where the key is not encrypted.
func ParseKey(data, passphrase []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" { // which "openssl ecparam -genkey" writes before the key
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("private key: no PEM found")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("private key: old PEM encryption; convert the key with \"openssl pkcs8 -topk8\"")
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("private key: old PEM encryption; convert the key with \"openssl pkcs8 -topk8\"")
		}
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		if len(passphrase) == 0 {
			return nil, errors.New("private key is encrypted, and there is no passphrase")
		}
		var plain []byte
		if plain, err = decryptPKCS8(block.Bytes, passphrase); err == nil {
			if key, err = x509.ParsePKCS8PrivateKey(plain); err != nil {
				err = errPassphrase
			}
		}
	default:
		return nil, fmt.Errorf("private key: PEM holds %q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("private key is %T, want RSA or ECDSA", key)
}

// errPassphrase is all that can be said when what was decrypted is no key.
var errPassphrase = errors.New("wrong passphrase, or damaged")

// The structures of RFC 5958 and RFC 8018.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params struct {
		KDF, Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

func decryptPKCS8(der, passphrase []byte) ([]byte, error) {
	var info encryptedKey
	if err := unmarshal(der, &info); err != nil {
		return nil, err
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("encryption %v is not supported, only PBES2", info.Algorithm.Algorithm)
	}
	var scheme pbes2Params
	if err := unmarshal(info.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, err
	}
	if !scheme.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("key derivation %v is not supported, only PBKDF2", scheme.KDF.Algorithm)
	}
	var kdf pbkdf2Params
	if err := unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations || len(kdf.Salt) > maxSalt {
		return nil, fmt.Errorf("key derivation with %d iterations and %d bytes of salt is out of bounds", kdf.Iterations, len(kdf.Salt))
	}
	var size int
	switch c := scheme.Cipher.Algorithm; {
	case c.Equal(oidAES128CBC):
		size = 16
	case c.Equal(oidAES192CBC):
		size = 24
	case c.Equal(oidAES256CBC):
		size = 32
	default:
		return nil, fmt.Errorf("cipher %v is not supported, only AES-CBC", c)
	}
	var prf func() hash.Hash
	switch p := kdf.PRF.Algorithm; {
	case len(p) == 0, p.Equal(oidHMACSHA1): // the default of RFC 8018
		prf = sha1.New
	case p.Equal(oidHMACSHA256):
		prf = sha256.New
	case p.Equal(oidHMACSHA384):
		prf = sha512.New384
	case p.Equal(oidHMACSHA512):
		prf = sha512.New
	default:
		return nil, fmt.Errorf("pseudo-random function %v is not supported", p)
	}
	var iv []byte
	if err := unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, errPassphrase
	}
	key, err := pbkdf2.Key(prf, string(passphrase), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errPassphrase
	}
	return plain[:len(plain)-pad], nil
}

// unmarshal reads DER that must be used up.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("data after the end")
	}
	return nil
}

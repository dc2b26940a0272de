package signing_test

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"testing"
)

func rsaFromDER(der []byte) (*rsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	r, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is %T", key)
	}
	return r, nil
}

func derFromRSA(tb testing.TB, key *rsa.PrivateKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

package signingtest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
	"github.com/senbonzakura/senbonzakura/plugins/signing/signingtest"
)

// Check tries the rules of PROTOCOL.md on a plugin that runs and says which are broken.
func ExampleCheck() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "example"}, // the version is missing
		signing.HeldKey{Key: signing.Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384}, Signer: key})
	if err != nil {
		panic(err)
	}
	client, err := signing.Local(ring)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	fmt.Println(signingtest.Check(context.Background(), client, nil).Err())
	// Output:
	// S2 (PROTOCOL.md 5.1): it has a name and a version: name "example", version ""
}

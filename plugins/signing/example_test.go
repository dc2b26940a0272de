package signing_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// An authority signs what its policy allows, with keys that a plugin holds. Here the plugin runs in the same
// process; signing.Start runs one of its own.
func Example() {
	ctx := context.Background()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "example", Version: "1"},
		signing.HeldKey{Key: signing.Key{ID: "release", Algorithm: mar.RSAPKCS1SHA384}, Signer: key})
	if err != nil {
		panic(err)
	}
	client, err := signing.Local(ring)
	if err != nil {
		panic(err)
	}
	defer client.Close()

	policy, err := signing.ParsePolicy([]byte(`{"rules": [{"key": "release", "channels": ["firefox-mozilla-release"]}]}`))
	if err != nil {
		panic(err)
	}
	places := []signing.Place{{{Client: client, ID: "release", PublicKey: key.Public()}}}
	authority, err := signing.NewAuthority(ctx, places, policy, nil)
	if err != nil {
		panic(err)
	}
	for _, channel := range []string{"firefox-mozilla-release", "firefox-mozilla-beta"} {
		archive := &mar.Archive{
			Product: &mar.Product{Channel: channel, Version: "150.0"},
			Entries: []mar.Entry{mar.BytesEntry("updatev3.manifest", 0o644, []byte("type \"complete\"\n"))},
		}
		var signed bytes.Buffer
		_, err := authority.WriteSigned(ctx, &signed, archive)
		fmt.Println(channel, signed.Len() > 0, errors.Is(err, signing.ErrPolicy))
	}
	// Output:
	// firefox-mozilla-release true false
	// firefox-mozilla-beta false true
}

//go:build cgo

// Command signer-pkcs11 is a signing plugin for RSA keys in a PKCS #11 token: an HSM, a smart card, a cloud's
// key service with a PKCS #11 library, SoftHSM.
//
//	signer-pkcs11 MODULE TOKEN ID[=LABEL]...
//
// MODULE is the token's library, TOKEN its label, and LABEL that of a key pair, which is the ID where it is not
// given. The user PIN is read from the file descriptor whose number the environment variable PIN_FD holds: the
// host fills it with plugins.Config.Secrets. Keys sign with SHA-384, as today's updaters want it.
//
// Libraries for PKCS #11 are C, so the command needs cgo; built without it, it says so and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// token is a keyring that logs out at the end.
type token struct {
	*signing.Keyring
	*crypto11.Context
}

func main() { signing.Serve(open) }

func open(context.Context) (signing.Backend, error) {
	if len(os.Args) < 4 {
		return nil, errors.New("usage: signer-pkcs11 MODULE TOKEN ID[=LABEL] …")
	}
	pin, err := plugins.ReadSecret("PIN_FD")
	if err != nil {
		return nil, err
	}
	session, err := crypto11.Configure(&crypto11.Config{
		Path: os.Args[1], TokenLabel: os.Args[2], Pin: string(pin), PoolWaitTimeout: 10 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open token %q: %w", os.Args[2], err)
	}
	var keys []signing.HeldKey
	for _, arg := range os.Args[3:] {
		id, label, ok := strings.Cut(arg, "=")
		if !ok {
			label = id
		}
		key, err := session.FindKeyPair(nil, []byte(label))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("find key %q: %w", label, err), session.Close())
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384}, Signer: key})
	}
	ring, err := signing.NewKeyring(signing.Info{Name: "signer-pkcs11", Version: "1.0"}, keys...)
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return &token{ring, session}, nil
}

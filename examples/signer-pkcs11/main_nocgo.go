//go:build !cgo

// Command signer-pkcs11 was built without cgo and cannot run: libraries for PKCS #11 tokens are written in C.
package main

import (
	"context"
	"errors"

	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() {
	signing.Serve(func(context.Context) (signing.Backend, error) {
		return nil, errors.New("signer-pkcs11 was built without cgo: build it with CGO_ENABLED=1 and a C compiler")
	})
}

// Command signer-pem is a signing plugin that holds keys in PEM files.
//
//	signer-pem ID=FILE...
//
// Each file is a private key in PKCS #8, PKCS #1 or SEC 1, encrypted or not. The passphrase, one for all keys, is read
// from the file descriptor whose number the environment variable PASSPHRASE_FD holds: the host fills it with
// plugins.Config.Secrets. RSA keys sign updates with SHA-384, as today's updaters want it; keys on the curve P-384 sign
// what an update server answers (Content-Signature).
//
// It is meant for tests, for releases of your own and as a model: who can read the process's memory or the
// files has the keys.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() { signing.Serve(open) }

func open(context.Context) (signing.Backend, error) {
	passphrase, err := plugins.ReadSecret("PASSPHRASE_FD")
	if err != nil {
		return nil, err
	}
	var keys []signing.HeldKey
	for _, arg := range os.Args[1:] {
		id, file, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=FILE", arg)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := signing.ParseKey(data, passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		algorithm, err := signing.AlgorithmOf(key.Public())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: algorithm}, Signer: key})
	}
	return signing.NewKeyring(signing.Info{Name: "signer-pem", Version: "1.0"}, keys...)
}

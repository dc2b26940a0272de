// Command signer-exec is a signing plugin that runs a command for each signature, so that anything with a
// command line can sign: openssl, pkcs11-tool, a cloud's tool, a script.
//
//	signer-exec [-digestinfo] ID=PUBLIC... -- COMMAND ARGUMENT...
//
// PUBLIC is a file with the key's certificate or public key. The command gets the SHA-384 digest, 48 bytes, on
// standard input and prints the raw signature. "{key}" in an argument stands for the key's ID. With -digestinfo
// the command gets the DER DigestInfo instead, for tools that only put PKCS #1 padding around their input. There
// is no shell in between. For example:
//
//	signer-exec release=release.pem -- openssl pkeyutl -sign -inkey /keys/{key}.key -pkeyopt digest:sha384
//	signer-exec -digestinfo hsm=hsm.pem -- pkcs11-tool --module /usr/lib/opensc-pkcs11.so --sign -m RSA-PKCS --label {key}
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// sha384Info is the DER of a DigestInfo for SHA-384 without the digest (RFC 8017, section 9.2).
const sha384Info = "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"

type backend struct {
	keys    []signing.Key
	command []string
	prefix  string
}

func main() { signing.Serve(open) }

func open(context.Context) (signing.Backend, error) {
	args := os.Args[1:]
	b := &backend{}
	if len(args) > 0 && args[0] == "-digestinfo" {
		b.prefix, args = sha384Info, args[1:]
	}
	i := slices.Index(args, "--")
	if i < 1 || i == len(args)-1 {
		return nil, errors.New("usage: signer-exec [-digestinfo] ID=PUBLIC... -- COMMAND ARGUMENT")
	}
	b.command = args[i+1:]
	for _, arg := range args[:i] {
		id, file, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=PUBLIC", arg)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := mar.ParsePublicKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		b.keys = append(b.keys, signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384, PublicKey: key})
	}
	return b, nil
}

func (b *backend) Info(context.Context) (signing.Info, error) {
	return signing.Info{Name: "signer-exec", Version: "1.0"}, nil
}

func (b *backend) Keys(context.Context) ([]signing.Key, error) { return b.keys, nil }

func (b *backend) Sign(ctx context.Context, r signing.Request) ([]byte, error) {
	if _, err := signing.FindKey(b.keys, r); err != nil {
		return nil, err
	}
	args := slices.Clone(b.command)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{key}", r.KeyID)
	}
	return plugins.Run(ctx, append([]byte(b.prefix), r.Digest...), 64<<10, args[0], args[1:]...)
}

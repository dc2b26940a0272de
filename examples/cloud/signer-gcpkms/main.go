// Command signer-gcpkms is a signing plugin for RSA keys in Google Cloud KMS.
//
//	signer-gcpkms [-endpoint URL] ID=projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V...
//
// Google's PKCS #1 keys sign SHA-256 and SHA-512, and updates want SHA-384: the key has to be of the algorithm
// RSA_SIGN_RAW_PKCS1_4096, with which the plugin says itself which hash it is. Credentials come from where Google's tools look
// for them: give the plugin GOOGLE_APPLICATION_CREDENTIALS with --plugin-env, or run it where there is a service account. Its
// rights: roles/cloudkms.signerVerifier. With -endpoint it asks an emulator, without credentials.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"strings"

	"google.golang.org/api/cloudkms/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

// sha384Info is what stands before a SHA-384 digest in a PKCS #1 v1.5 signature (RFC 8017, section 9.2).
const sha384Info = "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"

func main() { signing.Serve(open) }

func open(ctx context.Context) (signing.Backend, error) {
	endpoint := flag.String("endpoint", "", "address of an emulator")
	flag.Parse()
	var options []option.ClientOption
	if *endpoint != "" {
		options = append(options, option.WithEndpoint(*endpoint), option.WithoutAuthentication())
	}
	service, err := cloudkms.NewService(ctx, options...)
	if err != nil {
		return nil, err
	}
	versions := service.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions
	var keys []signing.HeldKey
	for _, arg := range flag.Args() {
		id, name, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=KEY", arg)
		}
		out, err := versions.GetPublicKey(name).Context(ctx).Do()
		if err != nil {
			return nil, explain(err)
		}
		if out.Algorithm != "RSA_SIGN_RAW_PKCS1_4096" {
			return nil, fmt.Errorf("key %s is of the algorithm %s, want RSA_SIGN_RAW_PKCS1_4096", name, out.Algorithm)
		}
		public, err := mar.ParsePublicKey([]byte(out.Pem))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		sign := func(ctx context.Context, digest []byte) ([]byte, error) {
			data := base64.StdEncoding.EncodeToString(append([]byte(sha384Info), digest...))
			out, err := versions.AsymmetricSign(name, &cloudkms.AsymmetricSignRequest{Data: data}).Context(ctx).Do()
			if err != nil {
				return nil, explain(err)
			}
			return base64.StdEncoding.DecodeString(out.Signature)
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384, PublicKey: public}, Remote: sign})
	}
	return signing.NewKeyring(signing.Info{Name: "signer-gcpkms", Version: "1.0"}, keys...)
}

// explain says in the plugin protocol's words why KMS did not do it.
func explain(err error) error {
	var refused *googleapi.Error
	status := 0
	if errors.As(err, &refused) {
		status = refused.Code
	}
	return plugins.FromStatus(status, err)
}

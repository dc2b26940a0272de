// Command signer-azurekv is a signing plugin for RSA keys in Azure Key Vault or a Managed HSM.
//
//	signer-azurekv [-emulator] ID=https://VAULT.vault.azure.net/keys/NAME[/VERSION]...
//
// Without a version the latest one at the plugin's start signs. Credentials come from where Azure's tools look for them: give
// the plugin AZURE_TENANT_ID, AZURE_CLIENT_ID and the like with --plugin-env, or run it where there is a managed identity. Its
// rights: keys/get and keys/sign. With -emulator the vault may be on any host.
package main

import (
	"context"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() { signing.Serve(open) }

func open(ctx context.Context) (signing.Backend, error) {
	emulator := flag.Bool("emulator", false, "the vault is not one of Microsoft's")
	flag.Parse()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	options := &azkeys.ClientOptions{DisableChallengeResourceVerification: *emulator}
	options.Retry = policy.RetryOptions{MaxRetries: -1} // the host asks again
	var keys []signing.HeldKey
	for _, arg := range flag.Args() {
		id, address, ok := strings.Cut(arg, "=")
		at, err := url.Parse(address)
		parts := strings.Split(strings.TrimPrefix(address, "https://"), "/")
		if !ok || err != nil || at.Scheme != "https" || len(parts) < 3 || parts[1] != "keys" {
			return nil, fmt.Errorf("argument %q is not ID=https://VAULT/keys/NAME", arg)
		}
		client, err := azkeys.NewClient("https://"+at.Host, credential, options)
		if err != nil {
			return nil, err
		}
		found, err := client.GetKey(ctx, parts[2], strings.Join(parts[3:], "/"), nil)
		if err != nil {
			return nil, explain(err)
		}
		name, version := found.Key.KID.Name(), found.Key.KID.Version()
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(found.Key.N), E: int(new(big.Int).SetBytes(found.Key.E).Int64())}
		sign := func(ctx context.Context, digest []byte) ([]byte, error) {
			algorithm := azkeys.SignatureAlgorithmRS384
			out, err := client.Sign(ctx, name, version, azkeys.SignParameters{Algorithm: &algorithm, Value: digest}, nil)
			if err != nil {
				return nil, explain(err)
			}
			return out.Result, nil
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384, PublicKey: public}, Remote: sign})
	}
	return signing.NewKeyring(signing.Info{Name: "signer-azurekv", Version: "1.0"}, keys...)
}

// explain says in the plugin protocol's words why the vault did not do it.
func explain(err error) error {
	var refused *azcore.ResponseError
	status := 0
	if errors.As(err, &refused) {
		status = refused.StatusCode
	}
	return plugins.FromStatus(status, err)
}

// Command signer-vault is a signing plugin for RSA keys in the transit engine of HashiCorp Vault, or of OpenBao.
//
//	signer-vault [-mount PATH] ID=KEY...
//
// KEY is the name of a transit key of type rsa-4096; its latest version at the plugin's start signs. The address comes from
// VAULT_ADDR (and VAULT_NAMESPACE, VAULT_CACERT and the like), the token from the file descriptor whose number
// VAULT_TOKEN_FD holds: the host fills it with plugins.Config.Secrets. Its policy: read of PATH/keys/KEY, update of
// PATH/sign/KEY.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"path"
	"strings"

	vault "github.com/hashicorp/vault/api"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() { signing.Serve(open) }

func open(ctx context.Context) (signing.Backend, error) {
	mount := flag.String("mount", "transit", "where the transit engine is mounted")
	flag.Parse()
	client, err := vault.NewClient(vault.DefaultConfig())
	if err != nil {
		return nil, err
	}
	client.SetMaxRetries(0) // the host asks again
	token, err := plugins.ReadSecret("VAULT_TOKEN_FD")
	if err != nil {
		return nil, err
	}
	client.SetToken(string(token))
	var keys []signing.HeldKey
	for _, arg := range flag.Args() {
		id, name, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=KEY", arg)
		}
		key, version, err := read(ctx, client, path.Join(*mount, "keys", name))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		key.ID = id
		sign := func(ctx context.Context, digest []byte) ([]byte, error) {
			return sign(ctx, client, path.Join(*mount, "sign", name, "sha2-384"), version, digest)
		}
		keys = append(keys, signing.HeldKey{Key: key, Remote: sign})
	}
	return signing.NewKeyring(signing.Info{Name: "signer-vault", Version: "1.0"}, keys...)
}

// read asks for the public key of the latest version.
func read(ctx context.Context, client *vault.Client, where string) (signing.Key, string, error) {
	answer, err := client.Logical().ReadWithContext(ctx, where)
	if err != nil {
		return signing.Key{}, "", explain(err)
	}
	if answer == nil {
		return signing.Key{}, "", errors.New("there is no such key")
	}
	version := fmt.Sprint(answer.Data["latest_version"])
	versions, _ := answer.Data["keys"].(map[string]any)
	latest, _ := versions[version].(map[string]any)
	pem, _ := latest["public_key"].(string)
	public, err := mar.ParsePublicKey([]byte(pem))
	if err != nil {
		return signing.Key{}, "", fmt.Errorf("version %s: %w", version, err)
	}
	return signing.Key{Algorithm: mar.RSAPKCS1SHA384, PublicKey: public}, version, nil
}

// sign has the engine sign a digest with PKCS #1 v1.5.
func sign(ctx context.Context, client *vault.Client, where, version string, digest []byte) ([]byte, error) {
	answer, err := client.Logical().WriteWithContext(ctx, where, map[string]any{
		"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true, "signature_algorithm": "pkcs1v15", "key_version": version,
	})
	if err != nil {
		return nil, explain(err)
	}
	text, _ := answer.Data["signature"].(string) // vault:v1:BASE64
	return base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, ':')+1:])
}

// explain says in the plugin protocol's words why Vault did not do it.
func explain(err error) error {
	var refused *vault.ResponseError
	status := 0
	if errors.As(err, &refused) {
		status = refused.StatusCode
	}
	return plugins.FromStatus(status, err)
}

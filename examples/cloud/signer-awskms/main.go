// Command signer-awskms is a signing plugin for RSA keys in AWS KMS.
//
//	signer-awskms ID=KEY...
//
// KEY is what KMS calls a key: its number, its ARN or an alias (alias/release). Region and credentials come from where AWS's
// tools look for them: give the plugin AWS_REGION and the like with --plugin-env, or run it where an instance has a role. Its
// rights: kms:GetPublicKey and kms:Sign.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/plugins"
	"github.com/senbonzakura/senbonzakura/plugins/signing"
)

func main() { signing.Serve(open) }

func open(ctx context.Context) (signing.Backend, error) {
	settings, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1)) // the host asks again
	if err != nil {
		return nil, err
	}
	client := kms.NewFromConfig(settings)
	var keys []signing.HeldKey
	for _, arg := range os.Args[1:] {
		id, name, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not ID=KEY", arg)
		}
		out, err := client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &name})
		if err != nil {
			return nil, explain(err)
		}
		public, err := x509.ParsePKIXPublicKey(out.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		sign := func(ctx context.Context, digest []byte) ([]byte, error) {
			out, err := client.Sign(ctx, &kms.SignInput{
				KeyId: &name, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecRsassaPkcs1V15Sha384,
			})
			if err != nil {
				return nil, explain(err)
			}
			return out.Signature, nil
		}
		keys = append(keys, signing.HeldKey{Key: signing.Key{ID: id, Algorithm: mar.RSAPKCS1SHA384, PublicKey: public}, Remote: sign})
	}
	return signing.NewKeyring(signing.Info{Name: "signer-awskms", Version: "1.0"}, keys...)
}

// explain says in the plugin protocol's words why KMS did not do it; its statuses say little.
func explain(err error) error {
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return plugins.FromStatus(0, err)
	}
	switch refused.ErrorCode() {
	case "ThrottlingException", "LimitExceededException":
		return fmt.Errorf("%w: %w", plugins.ErrThrottled, err)
	case "AccessDeniedException", "DisabledException", "KMSInvalidStateException":
		return fmt.Errorf("%w: %w", plugins.ErrDenied, err)
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException":
		return fmt.Errorf("%w: %w", plugins.ErrUnavailable, err)
	}
	return err
}
